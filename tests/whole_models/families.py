"""Proof of one architecture: extracted on meta, weights of a real model's state dict alone, whole on the CPU device.

``python -m tests.whole_models.families`` prints the table of every family of timm and the types of transformers.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import time
import warnings
from dataclasses import dataclass
from typing import Any

import npu_compiler
import torch
import torch_ir
from npu_runtime import Device, Executor, load_weights
from torch import Tensor, nn
from torch_ir import IR, extract_ir
from torch_ir.inputs import InputBinder

from tests.models.zoo.harness import ZooEntry
from tests.support import numbers
from tests.support.calls import arguments, call, call_exactly
from tests.support.weights import build_seeded
from tests.testing.runner import to_meta

LIMIT = 1e-4
"""Of the relative Frobenius norm, against float64."""
CLOSE = 1e-5
"""What lies between the two must be explained by PyTorch's own error."""


@dataclass
class Outcome:
    """``reason`` is None where the model ran whole on the device, within the limit; ``own`` is PyTorch's error, None
    where the model cannot run in float64 and its float32 results are what is compared with."""

    name: str
    way: str = ""
    nodes: int = 0
    error: float = 0.0
    own: float | None = 0.0
    seconds: float = 0.0
    reason: str | None = None


def prove(entry: ZooEntry) -> Outcome:
    """Never raises for what the model or the compiler cannot do: the outcome says it."""
    outcome = Outcome(entry.name)
    started = time.perf_counter()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # models warn about their own code
            _prove(entry, outcome)
    except Exception as error:
        outcome.reason = f"{type(error).__name__}: {error}"
    outcome.seconds = time.perf_counter() - started
    return outcome


def _prove(entry: ZooEntry, outcome: Outcome) -> None:
    ir = _extract(entry, outcome)
    outcome.nodes = len(ir.nodes)
    program = npu_compiler.compile(ir)
    model = build_seeded(entry.build).requires_grad_(False)
    inputs = entry.example(torch.float32, seed=1)
    executor = Executor(program, Device("cpu"))
    weights = load_weights(model.state_dict(), program)
    given = InputBinder(ir, strict=True).bind(*arguments(copy.deepcopy(inputs)))
    got = executor.run(dict(zip([t.name for t in ir.graph_inputs], given, strict=True)), weights)
    exact = _exact(model, inputs, outcome)  # first: some models keep what they made, in its dtype
    own = call(model, inputs)
    exact = own if exact is None else exact
    assert len(ir.graph_outputs) == len(own) == len(exact) > 0
    for meta, mine, reference in zip(ir.graph_outputs, own, exact, strict=True):
        _compare(outcome, meta.name, got[meta.name], mine, reference)


def _extract(entry: ZooEntry, outcome: Outcome) -> IR:
    """From meta wholly; where the constructor needs values or a buffer stays unknown, with real buffers."""
    example = to_meta(entry.example(torch.float32, seed=0))
    args = arguments(example)
    outcome.way = "meta"
    try:
        with torch.device("meta"):
            model: nn.Module | None = entry.build().eval()
    except Exception:  # whatever a constructor raises that looks at values
        model = None
    if model is not None:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            ir = extract_ir(model, *args, model_name=entry.name)
        if not any("Skipping" in str(w.message) for w in caught):
            return ir
    outcome.way = "meta_weights"
    with torch_ir.meta_weights():
        model = entry.build().eval()
    assert all(p.is_meta for p in model.parameters())
    return extract_ir(model, *args, model_name=entry.name)


def _exact(model: nn.Module, inputs: Any, outcome: Outcome) -> list[Tensor] | None:
    try:
        return call_exactly(copy.deepcopy(model), inputs)
    except (RuntimeError, TypeError):  # what it makes in float32 meets float64
        outcome.own = None
        return None


def _compare(outcome: Outcome, name: str, got: Any, own: Tensor, exact: Tensor) -> None:
    if not own.is_floating_point():
        assert torch.equal(torch.as_tensor(got.to_numpy()), own), f"{name}: integers differ"
        return
    spread = float(exact[torch.isfinite(exact)].std()) if exact.numel() > 8 else 1.0
    assert spread > 0, f"{name} is the same value throughout, so it proves nothing"
    error, torchs = numbers.error(got, exact), numbers.error(own, exact)
    outcome.error = max(outcome.error, error)
    if outcome.own is not None:
        outcome.own = max(outcome.own, torchs)
    limit = min(LIMIT, max(CLOSE, 3 * torchs))
    assert error <= limit, f"{name}: error {error:.3g}, PyTorch's own is {torchs:.3g}, allowed {limit:.3g}"


_ROW = "{:<34} {:<36} {:<13} {:>5} {:>8} {:>8} {:>6}  {}"
HEADING = _ROW.format("family", "model", "extracted on", "nodes", "error", "PyTorch", "s", "")


def row(family: str, o: Outcome, reason: str | None = None) -> str:
    """A line of the table; ``reason`` says in short what ``o.reason`` shows."""
    own = "-" if o.own is None else f"{o.own:.1e}"
    why = (reason or o.reason or "").replace("\n", " ")[:200]
    error = f"{o.error:.1e}" if o.reason is None else "-"
    return _ROW.format(family, o.name, o.way, o.nodes, error, own, f"{o.seconds:.1f}", why).rstrip()


def main(argv: list[str] | None = None) -> int:
    from tests.models.zoo import timm_models, transformers_types

    parser = argparse.ArgumentParser(prog="python -m tests.whole_models.families")
    parser.add_argument("names", nargs="*", help="only families whose name contains one of these")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    entries = {f"timm {name}": entry for name, entry in timm_models.ENTRIES.items()}
    entries |= {f"transformers {name}": entry for name, entry in transformers_types.entries().items()}
    wanted = {n: e for n, e in entries.items() if not args.names or any(part in n for part in args.names)}
    unable = {**timm_models.UNABLE, **transformers_types.UNABLE}
    print(HEADING)
    passed = 0
    for name, entry in wanted.items():
        outcome = prove(entry)
        passed += outcome.reason is None
        known = unable.get(name.partition(" ")[2])
        print(row(name, outcome, known and known[1]), flush=True)
    print(f"\n{passed} of {len(wanted)} whole on the device")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""PyTorch's samples of its operators through ``torch.compile(backend="npu")``.

``python -m tests.ops.compiled_samples --only NAME`` shows single operators.
"""

from __future__ import annotations

import argparse
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from npu.dynamo.notices import HostWarning
from torch import Tensor

from tests.support.devices import chosen_device

from .operator_samples import DTYPES, Call, Outcome, compare, evaluate, full_name, operators, samples

BY_LAYOUT = ("linalg.cond",)
"""LAPACK rounds otherwise in tensors of another layout, and these divide by the smallest of its results."""


def outcomes(op: Any, dtype: torch.dtype, limit: int) -> Iterator[Outcome]:
    """Of at most ``limit`` samples. ``kind`` is same, host (same, but not whole on the device), wrong, or torch."""
    if dtype not in op.dtypes:
        return
    for count, (call, inputs) in enumerate(samples(op, dtype)):
        if count == limit:
            return
        torch.compiler.reset()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            outcome = _judge(call, inputs)
        is_known = outcome.kind == "wrong" and op.name in BY_LAYOUT
        yield Outcome("torch", outcome.reason) if is_known else outcome


def _judge(call: Call, inputs: tuple[Tensor, ...]) -> Outcome:
    try:
        torch.manual_seed(1)
        own = evaluate(call, inputs)
        torch.compile(call, backend="eager")(*(x.clone() for x in inputs))
    except Exception as error:  # whatever PyTorch raises
        return Outcome("torch", f"{type(error).__name__}: {str(error)[:80]}")
    if any(x.layout != torch.strided for x in (*inputs, *own)):
        return Outcome("torch", "its tensors are sparse")
    torch.compiler.reset()
    compiled = torch.compile(call, backend="npu", options={"device": chosen_device()})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            torch.manual_seed(1)
            got = evaluate(compiled, inputs)
        except Exception as error:  # the same: PyTorch ran it
            return Outcome("wrong", f"{type(error).__name__}: {str(error)[:300]}")
    if any(g.stride() != o.stride() for g, o in zip(got, own, strict=True)):
        return Outcome("wrong", f"strides {[g.stride() for g in got]}, expected {[o.stride() for o in own]}")
    outcome = compare(call, inputs, own, got)
    on_host = any(issubclass(w.category, HostWarning) for w in caught)
    return Outcome("host") if outcome.kind == "same" and on_host else outcome


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", help="an operator's name")
    parser.add_argument("--dtype", action="append", help="a dtype, such as float32")
    parser.add_argument("--samples", type=int, default=2)
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    for dtype in DTYPES:
        if options.dtype and str(dtype).removeprefix("torch.") not in options.dtype:
            continue
        for op in operators():
            if options.only and op.name not in options.only:
                continue
            for outcome in outcomes(op, dtype, options.samples):
                counts[outcome.kind] += 1
                if outcome.kind == "wrong" or options.only:
                    print(outcome.kind, dtype, full_name(op), outcome.reason, flush=True)
    print(dict(counts))


if __name__ == "__main__":
    main()

"""Small IRs, and programs in a form that is short enough to write down."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
import torch
from npu_compiler import PASSES, CompiledProgram, compile
from npu_compiler.passes import REQUIRED
from npu_compiler.reference import run
from torch import Tensor, nn
from torch_ir import extract_ir, serialize_ir

OPTIONAL = frozenset(name for name, _ in PASSES) - REQUIRED


def formula(steps: list[list[Any]]) -> str:
    """The expression in one line; steps that are used often are named."""
    uses: dict[int, int] = {}
    for name, *args in steps:
        for a in _arguments(name, args):
            uses[a] = uses.get(a, 0) + 1
    texts: list[str] = []
    named: list[str] = []
    for i, (name, *args) in enumerate(steps):
        if name == "in":
            text = f"${args[0]}"
        elif name == "const":
            text = str(args[0])
        elif name == "cast":
            text = f"{args[1]}({texts[args[0]]})"
        else:
            text = f"{name}({', '.join(texts[a] for a in args)})"
        if uses.get(i, 0) > 1 and name not in ("in", "const"):
            named.append(f"t{len(named)}={text}")
            text = f"t{len(named) - 1}"
        texts.append(text)
    return "{" + "; ".join([*named, texts[-1]]) + "}"


def _arguments(name: str, args: list[Any]) -> list[int]:
    return [] if name in ("in", "const") else args[:1] if name == "cast" else args


class Calls(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def module_of(model: nn.Module | Callable[..., Any]) -> nn.Module:
    """In eval mode, its batch norm statistics as of a trained net: untrained ones would hide what a norm does."""
    torch.manual_seed(0)
    built = model if isinstance(model, nn.Module) else Calls(model)
    for name, buffer in built.named_buffers():
        if "running" in name:
            buffer.copy_(torch.rand(buffer.shape) + 0.5)
    for parameter in built.parameters():
        if parameter.ndim == 1:
            parameter.data = torch.randn(parameter.shape) * 0.5 + 0.7
    return built.eval()


def ir_of(model: nn.Module | Callable[..., Any], *inputs: Tensor, name: str = "") -> dict[str, Any]:
    ir: dict[str, Any] = json.loads(serialize_ir(extract_ir(module_of(model), inputs, model_name=name or "small")))
    return ir


def only(ir: Any, *names: str, **options: Any) -> CompiledProgram:
    """Compiled with these passes alone."""
    assert set(names) <= OPTIONAL, names
    return compile(ir, disable=OPTIONAL - set(names), **options)


def ops(program: CompiledProgram) -> str:
    """The ops by name, maps and epilogues with their formulas; those of ``prepare`` before a bar."""
    parts = [" ".join(_op(op) for op in program.data[section]) for section in ("prepare", "main")]
    return f"{parts[0]} | {parts[1]}" if parts[0] else parts[1]


def _op(op: Mapping[str, Any]) -> str:
    steps = op["attrs"].get("expr") or op["attrs"].get("epilogue")
    return op["op"] + (formula(steps).replace(" ", "") if steps else "")


def as_numpy(x: Tensor) -> np.ndarray[Any, Any]:
    x = x.detach().contiguous()
    return x.view(torch.int16).numpy().view(ml_dtypes.bfloat16) if x.dtype == torch.bfloat16 else x.numpy()


def results(
    program: CompiledProgram, model: nn.Module, inputs: tuple[Tensor, ...], stored: Mapping[str, Tensor] = {}
) -> list[np.ndarray[Any, Any]]:
    """The outputs by the interpreter; inputs in the order of the program's. ``stored`` replaces weights."""
    names = [e["name"] for e in program.data["inputs"]]
    weights = {k: as_numpy(v) for k, v in {**model.state_dict(), **stored}.items()}
    given = dict(zip(names, map(as_numpy, inputs), strict=False)) | {n: weights[n] for n in names if n in weights}
    return list(run(program, given, weights).values())


def assert_same(a: list[np.ndarray[Any, Any]], b: list[np.ndarray[Any, Any]], tolerance: float = 1e-5) -> None:
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert x.dtype == y.dtype
        np.testing.assert_allclose(x.astype(np.float64), y.astype(np.float64), rtol=tolerance, atol=tolerance)

"""What padding does to models, checked against runs with padding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from npu.padding import prove
from torch import Tensor, nn
from torch.export import Dim
from torch_ir import extract_ir

LEAST, MOST = 2, 12


class Calls(nn.Module):
    """A module of a function."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Any:
        return self.function(*inputs)


def made(specs: Sequence[tuple[str, Sequence[Any]]], s: int, seed: int = 0) -> list[Tensor]:
    """Tensors of some kinds, with shapes in which "s" is the open size."""
    torch.manual_seed(seed)
    tensors = []
    for kind, shape in specs:
        sizes = [s if n == "s" else n for n in shape]
        if kind == "float":
            tensors.append(torch.randn(sizes))
        elif kind == "ids":
            tensors.append(torch.randint(0, 9, sizes))
        elif kind == "tokens":  # 0 is none
            tensors.append(torch.randint(1, 9, sizes))
        else:
            mask = torch.rand(sizes) > 0.3
            mask[..., 0] = True
            added = torch.zeros(sizes).masked_fill(~mask, -torch.inf)
            tensors.append(
                {"added": added, "bool": mask, "mask": mask.long(), "weight": mask.float(), "hidden": ~mask}[kind]
            )
    return tensors


def padded(tensors: Sequence[Tensor], specs: Sequence[tuple[str, Sequence[Any]]], n: int, fills: Sequence[Any]) -> Any:
    result = []
    for tensor, (_, shape), fill in zip(tensors, specs, fills, strict=True):
        larger = tensor.new_full([n if k == "s" else k for k in shape], fill)
        larger[tuple(slice(k) for k in tensor.shape)] = tensor
        result.append(larger)
    return result


def traced(function: Callable[..., Any], specs: Sequence[tuple[str, Sequence[Any]]]) -> Any:
    """The IR of a function, with the size open."""
    s = Dim("s", min=LEAST, max=MOST)
    dims = (tuple({i: s for i, n in enumerate(shape) if n == "s"} or None for _, shape in specs),)
    return extract_ir(Calls(function).eval(), tuple(made(specs, 5)), dynamic_shapes=dims)


def proof(
    ir: Any, specs: Sequence[tuple[str, Sequence[Any]]], fills: Sequence[Any], **options: Any
) -> Mapping[str, Any]:
    """What ``prove`` says of the open size; raises what it raises."""
    by_name = {
        meta.name: fill for meta, fill, (kind, _) in zip(ir.graph_inputs, fills, specs, strict=True) if kind != "float"
    }
    by_name |= {m.name: f for m, f in zip(ir.graph_inputs, fills, strict=True) if f and m.name not in by_name}
    return prove(ir, "s", least=LEAST, most=MOST, fills=by_name, **options)


def check_runs(function: Callable[..., Any], specs: Sequence[tuple[str, Sequence[Any]]], fills: Sequence[Any]) -> None:
    """Padded runs give what runs without padding do."""
    for n, larger in ((LEAST, MOST), (5, 8), (7, MOST)):
        tensors = made(specs, n, seed=n)
        results = leaves(function(*tensors))
        for want, got in zip(results, leaves(function(*padded(tensors, specs, larger, fills))), strict=True):
            torch.testing.assert_close(got[tuple(slice(k) for k in want.shape)], want, equal_nan=True)


def leaves(results: Any) -> list[Tensor]:
    return list(results) if isinstance(results, (tuple, list)) else [results]

"""The cases of ``tests/ops`` at other sizes, and the families of ops that models use most."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.ops.cases import CASES, Case
from tests.ops.making import b, f, i

SLOWEST = 0.25
"""Seconds of an eager call beyond which a case grows no further: some ops take cubic time."""


@dataclasses.dataclass(frozen=True)
class Sized:
    """An op to time. ``flops`` and ``bytes`` are what it must do and move at least, where that is known."""

    name: str
    model: nn.Module
    inputs: tuple[Tensor, ...]
    flops: float = 0.0
    bytes: float = 0.0


def nbytes(tensors: Any) -> int:
    return sum(x.nbytes for x in pytree.tree_leaves(tensors) if isinstance(x, Tensor))


def evaluate(model: nn.Module, inputs: tuple[Tensor, ...]) -> Any:
    with torch.no_grad():
        return model(*inputs)


def _resized(x: Tensor, shape: list[int], g: torch.Generator) -> Tensor:
    """Elements drawn from those of ``x``, so that their range stays; floats are spread to have few equal ones."""
    if x.numel() == 0 or list(x.shape) == shape:
        return x
    chosen = x.flatten()[torch.randint(x.numel(), shape, generator=g)]
    return chosen * (1 - 0.1 * torch.rand(shape, generator=g)) if chosen.is_floating_point() else chosen


def _grown(inputs: tuple[Tensor, ...], factors: dict[int, int]) -> tuple[Tensor, ...]:
    g = torch.Generator().manual_seed(0)
    return tuple(_resized(x, [n * factors.get(n, 1) for n in x.shape], g) for x in inputs)


def _extents(inputs: tuple[Tensor, ...]) -> list[list[int]]:
    """Which extents may grow: those of the last two dimensions, and if none of them can, the others."""
    late = {n for x in inputs for n in x.shape[-2:] if n > 1}
    early = {n for x in inputs for n in x.shape[:-2] if n > 1}
    return [sorted(late), sorted(early - late)]


def _works(model: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[int, float] | None:
    """Bytes of inputs and results, and seconds; None if eager PyTorch refuses these shapes."""
    start = time.perf_counter()
    try:
        result = evaluate(model, inputs)
    except (RuntimeError, IndexError, ValueError, TypeError, AssertionError):
        return None
    return nbytes((inputs, result)), time.perf_counter() - start


def scaled(case: Case, target: int) -> Sized | None:
    """The case with about ``target`` bytes of inputs and results, or None if it cannot be so large.

    Dimensions of one extent grow together, in every input, by powers of two; the smallest grow first.
    """
    model, base = case.build(), case.make()
    for extents in _extents(base):
        factors, free, best, least = dict.fromkeys(extents, 1), list(extents), base, 0
        while free:
            n = min(free, key=lambda n: n * factors[n])
            trial = {**factors, n: factors[n] * 2}
            inputs = _grown(base, trial)
            work = _works(model, inputs)
            if work is None or work[0] <= least:  # refused, or it grows nothing, as beside an extent of 0
                free.remove(n)
                continue
            if work[0] > 1.5 * target:
                break
            factors, best, least = trial, inputs, work[0]
            if work[1] > SLOWEST:
                break
        size = _works(model, best)
        if size is not None and (size[0] > target / 4 or size[1] > SLOWEST / 2):
            return Sized(case.name, model, best)
    return None


def in_dtype(case: Sized, dtype: torch.dtype) -> Sized | None:
    """With every floating-point input in another dtype; None where eager PyTorch has no such op."""
    if not any(x.is_floating_point() for x in case.inputs):
        return case if any(x.dtype == dtype for x in case.inputs) else None
    if dtype == torch.float32:
        return case
    if dtype.is_floating_point:
        inputs, model = tuple(x.to(dtype) if x.is_floating_point() else x for x in case.inputs), case.model
        model = copy.deepcopy(model).to(dtype)
    else:
        if any(True for _ in case.model.parameters()):
            return None
        inputs = tuple((x * 8).nan_to_num(0, 100, 50).to(dtype) if x.is_floating_point() else x for x in case.inputs)
        model = case.model
    if _works(model, inputs) is None:
        return None
    return Sized(case.name, model, inputs, case.flops, case.bytes)


class _Calls(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args)


def _side(elements: int, power: float = 0.5, multiple: int = 1) -> int:
    return max(1, round(elements**power / multiple)) * multiple


def _family(name: str, n: int) -> tuple[Any, list[Any], float]:
    """The op, makers of its inputs, and its floating-point operations, for about ``n`` elements in all."""
    width = min(768, _side(n, 0.5, 16))
    rows = max(1, n // 2 // width)
    k = _side(n // 3, 0.5, 8)
    pixels = max(3, _side(n // 2 // 64))
    images, side = f(1, 64, pixels, pixels), _side(n // 2)
    return {
        "add": (torch.add, [f(n // 3), f(n // 3)], n / 3),
        "mul": (torch.mul, [f(n // 3), f(n // 3)], n / 3),
        "relu": (F.relu, [f(n // 2)], n / 2),
        "gelu": (F.gelu, [f(n // 2)], 20 * n / 2),
        "softmax": (lambda x: F.softmax(x, -1), [f(rows, width)], 20 * n / 2),
        "layer_norm": (nn.LayerNorm(width), [f(rows, width)], 8 * n / 2),
        "matmul": (torch.matmul, [f(k, k), f(k, k)], 2.0 * k**3),
        "conv2d": (nn.Conv2d(64, 64, 3, padding=1), [images], 2.0 * 9 * 64 * 64 * pixels**2),
        "sum": (lambda x: x.sum(-1), [f(rows * 2, width)], n),
        "transpose copy": (lambda x: x.t().contiguous(), [f(side, side)], 0),
        "embedding": (lambda w, i: F.embedding(i, w), [f(max(2, rows), width), i(rows, low=0, high=max(2, rows))], 0),
        # Not among the most used, but with one or few channels, far from where tuned kernels look.
        "conv1d 1->1 101 taps": (nn.Conv1d(1, 1, 101), [f(1, 1, n // 2 + 100)], 101 * n),
        "conv2d 1->1 11x11": (nn.Conv2d(1, 1, 11, padding=5), [f(1, 1, side, side)], 121 * n),
        "conv_transpose1d 1->1": (nn.ConvTranspose1d(1, 1, 101), [f(1, 1, n // 2)], 101 * n),
        "conv2d 1->4 5x5": (nn.Conv2d(1, 4, 5), [f(1, 1, side // 2 + 4, side // 2 + 4)], 0),
        "conv2d 3->3 3x3": (nn.Conv2d(3, 3, 3, padding=1), [f(1, 3, _side(n // 6), _side(n // 6))], 0),
        "grid_sample 8 channels": (lambda x, g: F.grid_sample(x, g, align_corners=False),
                                   [f(1, 8, _side(n // 18), _side(n // 18)),
                                    f(1, _side(n // 18), _side(n // 18), 2, scale=0.4)], 0),
        "cumsum of long rows": (lambda x: x.cumsum(-1), [f(4, n // 8)], 0),
        "masked mean": (lambda x, m: x.masked_fill(m, 0).mean(-1), [f(rows, width), b(rows, width)], 0),
    }[name]  # fmt: skip


MOST_USED = ("add", "mul", "relu", "gelu", "softmax", "layer_norm", "matmul", "conv2d", "sum", "transpose copy",
             "embedding")  # fmt: skip
FEW_CHANNELS = ("conv1d 1->1 101 taps", "conv2d 1->1 11x11", "conv_transpose1d 1->1", "conv2d 1->4 5x5",
                "conv2d 3->3 3x3", "grid_sample 8 channels", "cumsum of long rows", "masked mean")  # fmt: skip


def family(name: str, target: int) -> Sized:
    torch.manual_seed(0)
    g = torch.Generator().manual_seed(0)
    op, makers, flops = _family(name, target // 4)
    model = (op if isinstance(op, nn.Module) else _Calls(op)).eval().requires_grad_(False)
    inputs = tuple(make(g) for make in makers)
    moved = nbytes((inputs, list(model.parameters()), evaluate(model, inputs)))
    if name == "embedding":
        moved = 2 * nbytes(evaluate(model, inputs))
    return Sized(f"family {name}", model, inputs, flops, moved)


def names() -> list[str]:
    return [f"family {name}" for name in (*MOST_USED, *FEW_CHANNELS)] + [c.name for c in CASES if not c.refused]


def every_case(target: int, wanted: Callable[[str], bool]) -> Iterator[tuple[str, Sized | None]]:
    for name in (*MOST_USED, *FEW_CHANNELS):
        if wanted(f"family {name}"):
            yield f"family {name}", family(name, target)
    for case in CASES:
        if not case.refused and wanted(case.name):
            yield case.name, scaled(case, target)

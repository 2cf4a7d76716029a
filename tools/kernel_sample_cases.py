"""What the sample of ``npu doctor --kernels`` is chosen from: the op table, larger shapes, and small models."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from npu.generation.int8_cache import dequantized_rows, quantized_rows
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.models import list_models
from tests.models.zoo.decoding import DecodeStep, Prefill, empty_caches, prompt_inputs, step_inputs, tiny_qwen2
from tests.ops.making import Case
from tests.ops.test_execution import HALF, RUNNABLE, cast

HALVES = (torch.bfloat16, torch.float16)
DTYPES = (torch.float32, *HALVES)
# Models that are always in the sample, whatever else reaches their kernels.
MODELS = ("DeepResNet", "TransformerBlock", "BiLSTM", "UNet", "BFloat16Decoder", "decoder", "prompt")


@dataclass(frozen=True)
class Candidate:
    """``build`` gives a model and its inputs."""

    name: str
    dtype: torch.dtype
    build: Callable[[], tuple[nn.Module, tuple[Any, ...]]]
    wanted: bool = False
    case: Case | None = None
    """Of the op table: it says which weights are quantised."""


class _Function(nn.Module):
    """A function of its inputs and then of weights."""

    def __init__(self, function: Callable[..., Any], weights: list[Tensor]) -> None:
        super().__init__()
        self.function = function
        self.weights = nn.ParameterList(weights)

    def forward(self, *args: Tensor) -> Any:
        return self.function(*args, *self.weights)


def _of_case(case: Case, dtype: torch.dtype) -> Candidate:
    def build() -> tuple[nn.Module, tuple[Any, ...]]:
        return case.build().to(dtype), tuple(cast(x, dtype) for x in case.make())

    return Candidate(case.name, dtype, build, case=case)


def _attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, is_causal=q.shape[2] > 1)


def _int8_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """With keys and values that are rounded as those of a cache are."""
    keys, values = (dequantized_rows(*quantized_rows(x), q.dtype) for x in (k, v))
    return F.scaled_dot_product_attention(q, keys, values, is_causal=q.shape[2] > 1)


def _rope(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat([-high, low], -1) * sin


def _between(function: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    """Between convolutions, whose tensors are channels-last."""
    return lambda x, first, last: F.conv2d(function(F.conv2d(x, first, padding=1)), last)


Shapes = list[tuple[int, ...]]

# Beyond the op table, whose tensors are small: kernels for many rows, wide heads and long axes. A function, the shapes
# of its inputs, and those of its weights.
LARGE: dict[str, tuple[Callable[..., Any], Shapes, Shapes]] = {
    **{
        f"product of {m} x {k} x {n}": (lambda x, w: x @ w, [(m, k)], [(k, n)])
        for m, k, n in ((130, 70, 66), (40, 3000, 40), (1000, 32, 1100), (1, 64, 1100), (2, 64, 4200), (4, 64, 4200))
        + ((1, 64, 4200), (8, 64, 4200))
    },
    **{
        f"linear of {m} rows, {k} to {n}": (lambda x, w, b: F.relu(F.linear(x, w, b)), [(m, k)], [(n, k), (n,)])
        for m, k, n in ((1, 1024, 64), (1, 512, 300), (1, 9000, 140), (3, 256, 96), (16, 256, 96), (1000, 32, 1100))
        + tuple((m, 64, 17000) for m in (1, 2, 4, 8))
    },
    **{
        f"gated product of {m} rows to {n}": (
            lambda x, w, v: F.silu(x @ w.t()) * (x @ v.t()), [(m, 64)], [(n, 64), (n, 64)]
        )
        for m, n in ((1, 96), (2, 96), (4, 96), (8, 96), (40, 96))
    },
    **{
        f"rms norm and product of {m} rows to {n}": (
            lambda x, g, w: F.linear(F.rms_norm(x, (64,), g), w), [(m, 64)], [(64,), (n, 64)]
        )
        for m in (1, 2, 4, 8) for n in (96, 17000)
    },
    "rms norm and product of a long row": (
        lambda x, g, w: F.linear(F.rms_norm(x, (512,), g), w), [(1, 512)], [(512,), (300, 512)]
    ),
    **{
        f"rms norm and gated product of {m} rows": (
            lambda x, g, w, v: F.silu(F.rms_norm(x, (64,), g) @ w.t()) * (F.rms_norm(x, (64,), g) @ v.t()),
            [(m, 64)], [(64,), (96, 64), (96, 64)],
        )
        for m in (1, 2, 4, 8)
    },
    **{
        f"layer norm and product of {m} rows to {n} columns": (
            lambda x, w: F.layer_norm(x, (64,)) @ w, [(m, 64)], [(64, n)]
        )
        for m in (1, 2, 4, 8) for n in (96, 4200)
    },
    **{
        f"attention of {rows} rows, {columns} columns, heads of {width}": (
            _attention, [(1, 2, rows, width), (1, 2, columns, width), (1, 2, columns, width)], []
        )
        for width in (32, 64, 96, 128, 256, 288)
        for rows, columns in ((1, 200), (2, 1100), (4, 200), (8, 200), (40, 40))
    },
    **{
        f"attention of {rows} rows, {columns} int8 columns, heads of {width}": (
            _int8_attention, [(1, 2, rows, width), (1, 2, columns, width), (1, 2, columns, width)], []
        )
        for rows, columns, width in ((1, 200, 64), (2, 1100, 288), (40, 40, 64))
    },
    **{
        f"convolution {into} to {out}, kernel {kernel}, {side} x {side}": (
            lambda x, w, p=kernel // 2: F.relu(F.conv2d(x, w, padding=p)),
            [(1, into, side, side)], [(out, into, kernel, kernel)],
        )
        for into, out, kernel, side in ((3, 16, 3, 20), (16, 24, 3, 20), (32, 64, 3, 9), (30, 64, 3, 9))
        + ((16, 130, 1, 90), (15, 130, 1, 90), (3, 32, 7, 48))
    },
    "depthwise convolution": (lambda x, w: F.conv2d(x, w, padding=1, groups=32), [(1, 32, 30, 30)], [(32, 1, 3, 3)]),
    **{
        f"{name} between convolutions": (_between(function), [(1, 4, side, side)], [(16, 4, 3, 3), (4, 16, 1, 1)])
        for name, side, function in (
            ("pool", 12, lambda x: F.max_pool2d(x, 2)),
            ("mean pool", 12, lambda x: F.avg_pool2d(x, 3, 2)),
            ("resize", 12, lambda x: F.interpolate(x, scale_factor=2.0, mode="bilinear")),
            ("group norm", 70, lambda x: F.group_norm(x, 4)),
        )
    },
    "softmax of long rows": (lambda x: F.softmax(x, -1), [(3, 5000)], []),
    "softmax of longer rows": (lambda x: F.softmax(x, -1), [(1, 40000)], []),
    "softmax of columns": (lambda x: F.softmax(x, 0), [(300, 40)], []),
    "layer norm of long rows": (lambda x, w, b: F.layer_norm(x, (3000,), w, b), [(4, 3000)], [(3000,), (3000,)]),
    "group norm": (lambda x: F.group_norm(x, 4), [(2, 16, 20, 20)], []),
    "sum of all": (lambda x: x.sum(), [(70, 900)], []),
    "variance of all": (lambda x: x.var(), [(70, 900)], []),
    "variance of long rows": (lambda x: x.var(-1), [(70, 2000)], []),
    "mean of columns": (lambda x: x.mean(0), [(900, 70)], []),
    "largest of long rows": (lambda x: x.amax(-1), [(4, 6000)], []),
    "position of the largest in rows": (lambda x: x.argmax(-1), [(40, 600)], []),
    "position of the largest in long rows": (lambda x: x.argmax(-1), [(4, 6000)], []),
    "cumulative sum of a long axis": (lambda x: x.cumsum(-1), [(3, 20000)], []),
    "cumulative sum of integers": (lambda x: (x * 9).to(torch.int32).cumsum(-1), [(3, 20000)], []),
    "sort of a long axis": (lambda x: x.sort(-1).values, [(2, 3000)], []),
    "sort of integers": (lambda x: (x * 9).to(torch.int32).sort(-1).values, [(2, 3000)], []),
    "sum of integers": (lambda x: (x * 9).to(torch.int32).sum(), [(70, 900)], []),
    "topk of a long axis": (lambda x: x.topk(50, -1).values, [(2, 5000)], []),
    "rotary embedding": (_rope, [(1, 4, 6, 32), (6, 32), (6, 32)], []),
}  # fmt: skip


def _of_large(name: str, dtype: torch.dtype) -> Candidate:
    function, inputs, weights = LARGE[name]

    def build() -> tuple[nn.Module, tuple[Any, ...]]:
        g = torch.Generator().manual_seed(0)
        makers = [[torch.randn(shape, generator=g).to(dtype) for shape in shapes] for shapes in (inputs, weights)]
        return _Function(function, makers[1]), tuple(makers[0])

    return Candidate(name, dtype, build, wanted="int8" in name)  # by kernels of the same names as others


def _decoder(rows: str) -> tuple[nn.Module, tuple[Any, ...]]:
    torch.manual_seed(0)
    model = tiny_qwen2()
    if rows == "prompt":
        return Prefill(model), prompt_inputs(torch.arange(24)[None] * 7 % 211)
    return DecodeStep(model), step_inputs(model, 5, 9, empty_caches(model, 16))


def _models() -> Iterator[Candidate]:
    for spec in list_models():

        def build(spec: Any = spec) -> tuple[nn.Module, tuple[Any, ...]]:
            torch.manual_seed(0)
            inputs = spec.inputs()
            if isinstance(inputs, dict):
                raise RuntimeError("keyword arguments")
            return spec.build(), inputs

        yield Candidate(spec.name, spec.dtype, build, spec.name in MODELS)
    for rows in ("decoder", "prompt"):
        yield Candidate(rows, torch.float32, lambda rows=rows: _decoder(rows), True)


def candidates() -> list[Candidate]:
    return [
        *(_of_case(case, torch.float32) for case in RUNNABLE),
        *(_of_case(case, dtype) for dtype in HALVES for case in HALF),
        *(_of_large(name, dtype) for name in LARGE for dtype in DTYPES),
        *_models(),
    ]


def tensors_of(inputs: tuple[Any, ...]) -> list[Tensor]:
    return [x for x in pytree.tree_leaves(inputs) if isinstance(x, Tensor)]

"""What the passes for transformers must find, and what only looks like it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

QKV = ((2, 4, 5, 8), (2, 4, 7, 8), (2, 4, 7, 8))
GROUPED = ((2, 4, 5, 8), (2, 2, 7, 8), (2, 2, 7, 8))
LOW = torch.finfo(torch.float32).min


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    return F.softmax(scores if mask is None else scores + mask, -1) @ v


def repeat(x: Tensor, times: int) -> Tensor:
    n, heads, t, d = x.shape
    return x[:, :, None].expand(n, heads, times, t, d).reshape(n, heads * times, t, d)


def _in_rank_3(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """As BART writes it: batch and heads are one dimension, but for the mask."""
    flat = [x.reshape(8, -1, 8) for x in (q, k, v)]
    scores = torch.bmm(flat[0], flat[1].transpose(1, 2)).view(2, 4, 5, 7) + mask
    return torch.bmm(F.softmax(scores.view(8, 5, 7), -1), flat[2]).view(2, 4, 5, 8)


def _half_inside(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    q, k, v = q.half(), k.half(), v.half()
    return (F.softmax((q @ k.transpose(2, 3)) * 0.5, -1, dtype=torch.float32).half() @ v).float()


ATTENTION: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "plain": (attend, QKV),
    "rank 3": (attend, ((3, 5, 8), (3, 7, 8), (3, 7, 8))),
    "addend": (attend, (*QKV, (2, 1, 5, 7))),
    "addend in front": (lambda q, k, v, m: F.softmax(m + q @ k.transpose(2, 3), -1) @ v, (*QKV, (5, 7))),
    "addend that is never": (attend, (*QKV, torch.tensor([0.0, -math.inf] * 3 + [0.0]))),
    "scaled queries": (lambda q, k, v: F.softmax((q * 0.3) @ k.transpose(2, 3), -1) @ v, QKV),
    "scaled keys": (lambda q, k, v: F.softmax(q @ (k / 3).transpose(2, 3), -1) @ v, QKV),
    "filled": (
        lambda q, k, v: (
            F.softmax((q @ k.transpose(2, 3)).masked_fill(torch.ones(5, 7).triu(2).bool(), -math.inf), -1) @ v
        ),
        QKV,
    ),
    "chosen": (
        lambda q, k, v, m: F.softmax(torch.where(m, q @ k.transpose(2, 3), LOW), -1) @ v,
        (*QKV, torch.tensor([True] * 6 + [False]).expand(2, 1, 1, 7).clone()),
    ),
    "repeated heads": (lambda q, k, v: attend(q, repeat(k, 2), repeat(v, 2)), GROUPED),
    "repeated heads and a mask": (lambda q, k, v, m: attend(q, repeat(k, 2), repeat(v, 2), m), (*GROUPED, (5, 7))),
    "batch and heads as one": (_in_rank_3, (*QKV, (2, 1, 5, 7))),
    "half precision": (_half_inside, QKV),
    "heads side by side after it": (lambda q, k, v: attend(q, k, v).transpose(1, 2).reshape(2, 5, 32).sin(), QKV),
    "read twice": (lambda q, k, v: (lambda x: x.sin() + x.transpose(1, 2).flatten(2).sum())(attend(q, k, v)), QKV),
}
NO_ATTENTION: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "the weights are an output": (
        lambda q, k, v: (lambda w: (w @ v, w))(F.softmax(q @ k.transpose(2, 3), -1)), QKV),
    "the scores are read": (
        lambda q, k, v: (lambda s: (F.softmax(s, -1) @ v, s.sum()))(q @ k.transpose(2, 3)), QKV),
    "over the rows": (lambda q, k, v: F.softmax(q @ k.transpose(2, 3), -2) @ v, QKV),
    "the logarithm": (lambda q, k, v: F.log_softmax(q @ k.transpose(2, 3), -1) @ v, QKV),
    "scaled after the mask": (lambda q, k, v, m: F.softmax((q @ k.transpose(2, 3) + m) * 0.5, -1) @ v, (*QKV, (5, 7))),
    "two masks": (lambda q, k, v, m: F.softmax(q @ k.transpose(2, 3) + m + m.sin(), -1) @ v, (*QKV, (5, 7))),
    "filled with a number that scores may reach": (
        lambda q, k, v: F.softmax((q @ k.transpose(2, 3)).masked_fill(torch.ones(5, 7).triu(2).bool(), -2.0), -1) @ v,
        QKV,
    ),
    "squashed": (lambda q, k, v: F.softmax(torch.tanh(q @ k.transpose(2, 3)), -1) @ v, QKV),
    "the weights on the right": (lambda q, k, v: v.transpose(2, 3) @ F.softmax(q @ k.transpose(2, 3), -1).mT, QKV),
}  # fmt: skip


def halves(x: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def neighbours(x: Tensor) -> Tensor:
    return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, turned: Callable[[Tensor], Tensor] = halves) -> Tensor:
    return x * cos + turned(x) * sin


def partly(x: Tensor, cos: Tensor, sin: Tensor, turned: Callable[[Tensor], Tensor] = halves) -> Tensor:
    n = cos.shape[-1]
    return torch.cat((rotate(x[..., :n], cos, sin, turned), x[..., n:]), -1)


TABLE, SHORT = (2, 1, 5, 8), (2, 1, 5, 4)
TURNED = ((2, 4, 5, 8), TABLE, TABLE)
ROPE: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "halves": (rotate, TURNED),
    "one table for the batch": (rotate, ((2, 4, 5, 8), (1, 1, 5, 8), (1, 1, 5, 8))),
    "the other way round": (lambda x, c, s: s * halves(x) + c * x, TURNED),
    "neighbours": (lambda x, c, s: rotate(x, c, s, neighbours), TURNED),
    "positions before heads": (
        lambda x, c, s: rotate(x, c, s, neighbours).permute(0, 2, 1, 3).sin(),
        ((2, 5, 4, 8), (2, 5, 1, 8), (2, 5, 1, 8))),
    "of a projection": (lambda x, c, s: rotate(x.view(2, 5, 4, 8).transpose(1, 2), c, s), ((2, 5, 32), TABLE, TABLE)),
    "the first elements": (partly, ((2, 4, 5, 8), SHORT, SHORT)),
    "the first elements of neighbours": (lambda x, c, s: partly(x, c, s, neighbours), ((2, 4, 5, 8), SHORT, SHORT)),
    "the first elements, positions before heads": (
        lambda x, c, s: partly(x, c, s, neighbours).permute(0, 2, 1, 3) * 2,
        ((2, 5, 4, 8), (2, 5, 1, 4), (2, 5, 1, 4))),
    "rounded tables": (
        lambda x, c, s: rotate(x.half(), c.cos().half(), s.sin().half()).float(), TURNED),
    "one position": (rotate, ((2, 4, 1, 8), (2, 1, 1, 8), (2, 1, 1, 8))),
}  # fmt: skip
NO_ROPE: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "the other sign": (lambda x, c, s: x * c + torch.cat((x[..., 4:], -x[..., :4]), -1) * s, TURNED),
    "both negated": (lambda x, c, s: x * c + torch.cat((-x[..., 4:], -x[..., :4]), -1) * s, TURNED),
    "halves in their places": (
        lambda x, c, s: x * c + torch.cat((-x[..., :4], x[..., 4:]), -1) * s, TURNED),
    "unequal parts": (lambda x, c, s: x * c + torch.cat((-x[..., 5:], x[..., :5]), -1) * s, TURNED),
    "of another tensor": (lambda x, y, c, s: x * c + halves(y) * s, ((2, 4, 5, 8), (2, 4, 5, 8), TABLE, TABLE)),
    "a table for each head": (rotate, ((2, 4, 5, 8), (2, 4, 5, 8), (2, 4, 5, 8))),
    "subtracted": (lambda x, c, s: x * c - halves(x) * s, TURNED),
}  # fmt: skip


def step(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, at: Tensor
) -> tuple[Tensor, ...]:
    keys = keys.index_copy(2, at, rotate(k, cos, sin))
    values = values.index_copy(2, at, v)
    return attend(rotate(q, cos, sin), repeat(keys, 2), repeat(values, 2)), keys, values


CACHES = ((1, 2, 9, 8), (1, 2, 9, 8), torch.tensor([4, 2, 7]))
STEP = ((1, 4, 3, 8), (1, 2, 3, 8), (1, 2, 3, 8), (1, 1, 3, 8), (1, 1, 3, 8), *CACHES)


def other_rows(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, at: Tensor,
               others: Tensor) -> tuple[Tensor, ...]:  # fmt: skip
    keys = keys.index_copy(2, at, rotate(k, cos, sin))
    values = values.index_copy(2, others, v)
    return attend(rotate(q, cos, sin), repeat(keys, 2), repeat(values, 2)), keys, values


def int8_rows(x: Tensor) -> tuple[Tensor, Tensor]:
    scales = x.abs().amax(-1) / 127
    return (x / scales[..., None]).round().to(torch.int8), scales


def numbers(integers: Tensor, scales: Tensor) -> Tensor:
    return integers.float() * scales[..., None]


def int8_step(
    q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor, at: Tensor, *caches: Tensor
) -> tuple[Tensor, ...]:
    """Keys, values, and the scales of both."""
    q, k = rotate(q, cos, sin), rotate(k, cos, sin)
    new = (*zip(int8_rows(k), int8_rows(v), strict=True),)
    keys, values, *scales = (c.index_copy(2, at, x) for c, x in zip(caches, (*new[0], *new[1]), strict=True))
    rows = numbers(keys, scales[0]), numbers(values, scales[1])
    return attend(q, *(repeat(x, 2) for x in rows)), keys, values, *scales


INT8_CACHE = torch.arange(-72, 72, dtype=torch.int8).reshape(1, 2, 9, 8)
SCALES = torch.linspace(0.002, 0.02, 56).reshape(2, 4, 7)
INT8_STEP = (*STEP[:5], CACHES[2], INT8_CACHE, INT8_CACHE, *[SCALES[0, :2, :1].expand(2, 9)[None].clone()] * 2)
_WRITTEN = ["map", "reduce", "map", "map"]
INT8_QKV = ((2, 4, 5, 8), *[torch.arange(448, dtype=torch.int16).reshape(2, 4, 7, 8).to(torch.int8)] * 2)
INT8: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "scales of rows": (
        lambda q, k, v, s, t: attend(q, numbers(k, s), numbers(v, t)), (*INT8_QKV, SCALES, SCALES)),
    "scales in front": (
        lambda q, k, v, s: attend(q, s[..., None] * k.float(), s[..., None] * v.float()), (*INT8_QKV, SCALES)),
    "scales of heads": (
        lambda q, k, v, s: attend(q, k.float() * s, v.float() * s), (*INT8_QKV, SCALES[0, :, :1, None])),
    "rounded": (
        lambda q, k, v, s: attend(q.half(), numbers(k, s).half(), numbers(v, s).half()).float(),
        (*INT8_QKV, SCALES)),
}  # fmt: skip
NO_INT8: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "scales of columns": (
        lambda q, k, v, s: attend(q, k.float() * s, v.float() * s), (*INT8_QKV, SCALES[0].flatten()[:8])),
    "scales of half precision": (
        lambda q, k, v, s: attend(
            q.half(), k.half() * s.half()[..., None], v.half() * s.half()[..., None]).float(),
        (*INT8_QKV, SCALES)),
    "keys alone": (lambda q, k, v, s: attend(q, numbers(k, s), v.float() * 0.1), (*INT8_QKV, SCALES)),
    "other integers": (
        lambda q, k, v, s: attend(q, numbers(k, s), numbers(v, s)),
        (QKV[0], INT8_QKV[1].short(), INT8_QKV[2].short(), SCALES)),
}  # fmt: skip


JOINED: dict[str, tuple[Any, tuple[Any, ...], list[str]]] = {
    "queries and keys": (
        lambda q, k, v, c, s: attend(rotate(q, c, s), repeat(rotate(k, c, s), 2), repeat(v, 2)), STEP[:5],
        ["rope", "attention"]),
    "queries, keys and caches": (step, STEP, ["rope", "attention"]),
    "caches of int8": (
        int8_step, INT8_STEP, ["rope", *_WRITTEN, *_WRITTEN, *["scatter"] * 4, "attention"]),
    "values in other rows": (other_rows, (*STEP, torch.tensor([1, 2, 3])), ["scatter", "rope", "attention"]),
    "keys with other tables": (
        lambda q, k, v, c, s: attend(rotate(q, c, s), repeat(rotate(k, c, s.cos()), 2), repeat(v, 2)), STEP[:5],
        ["rope", "map", "rope", "attention"]),
    "the keys are read before": (
        lambda q, k, v, c, s: (lambda r: attend(rotate(q + r.sum(), c, s), repeat(r, 2), repeat(v, 2)))(
            rotate(k, c, s)),
        STEP[:5], ["rope", "reduce", "map", "rope", "attention"]),
}  # fmt: skip


class Projections(nn.Module):
    """Linear layers, and what becomes of their results."""

    def __init__(self, layers: list[nn.Linear], then: Callable[..., Any]) -> None:
        super().__init__()
        self.layers, self.then = nn.ModuleList(layers), then

    def forward(self, x: Tensor) -> Any:
        return self.then(x, *(layer(x) for layer in self.layers))


def _linear(*columns: int, bias: bool = True) -> list[nn.Linear]:
    return [nn.Linear(6, n, bias=bias) for n in columns]


class Read(Projections):
    """Also gives one of its weights."""

    def forward(self, x: Tensor) -> Any:
        return (*super().forward(x), self.layers[0].weight * 2)


SUMS: Callable[..., Any] = lambda x, *y: tuple(z.amax(0) for z in y)  # noqa: E731
PRODUCTS: dict[str, tuple[Callable[[], nn.Module], list[str]]] = {
    "three with biases": (lambda: Projections(_linear(4, 5, 3), SUMS), ["matmul", *["reduce"] * 3]),
    "two without": (lambda: Projections(_linear(4, 5, bias=False), SUMS), ["matmul", "reduce", "reduce"]),
    "biases on some": (
        lambda: Projections([*_linear(4, 5), *_linear(3, 2, bias=False)], SUMS), ["matmul", "matmul", *["reduce"] * 4]),
    "one result is an output": (
        lambda: Projections(_linear(4, 5, 3), lambda x, a, b, c: (a, b.amax(0), c.amax(0))),
        ["matmul", "matmul", "reduce", "reduce"]),
    "a weight that others read": (lambda: Read(_linear(4, 5), SUMS), ["matmul", "matmul", "map", "reduce", "reduce"]),
    "each with an epilogue": (
        lambda: Projections(_linear(4, 5), lambda x, a, b: (a.sin(), b.cos() * 2)), ["matmul", "matmul"]),
    "a gate and what it lets through": (
        lambda: Projections(_linear(5, 5, bias=False), lambda x, a, b: F.silu(a) * b), ["matmul"]),
    "the gate second": (lambda: Projections(_linear(5, 5), lambda x, a, b: a * F.gelu(b)), ["matmul"]),
    "a gate and an addend": (lambda: Projections(_linear(6, 6), lambda x, a, b: x + torch.sigmoid(a) * b), ["matmul"]),
    "halves of one product": (
        lambda: Projections(_linear(10), lambda x, a: a.chunk(2, -1)[1] * a.chunk(2, -1)[0].tanh()), ["matmul"]),
    "a part of one half": (
        lambda: Projections(_linear(10), lambda x, a: a[..., 1:5] * a[..., 6:]), ["matmul", "map"]),
    "a half that is read again": (
        lambda: Projections(_linear(5, 5), lambda x, a, b: (a * b, a.sum())), ["matmul", "map", "reduce"]),
}  # fmt: skip

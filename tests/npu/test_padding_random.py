"""Random graphs: whatever is proven to be right under padding gives the same results with any padding."""

import random

import npu
import pytest
import torch

from tests.npu.padding_cases import check_runs, proof, traced

F = torch.nn.functional
LOW = torch.finfo(torch.float32).min
WEIGHT = torch.randn(4, 4)
SPECS = [("float", (2, "s", 4)), ("float", (2, "s", 4)), ("bool", (2, "s")), ("mask", (2, "s")), ("weight", (2, "s"))]


def _row(x):
    return torch.arange(x.shape[1])[:, None]


UNARY = [
    lambda x: x * 0.5 + 1, lambda x: -x, lambda x: x.relu(), lambda x: x.tanh(), lambda x: x.sigmoid(),
    lambda x: x.abs().sqrt(), lambda x: (x * x + 1).rsqrt(), lambda x: 1 / (x.abs() + 0.5),
    lambda x: x.clamp(-1, 1).exp(), F.gelu, lambda x: F.linear(x, WEIGHT), lambda x: F.linear(x, WEIGHT, WEIGHT[0]),
    lambda x: F.layer_norm(x, (4,)), lambda x: x.softmax(-1), lambda x: x.cumsum(1) / (1 + _row(x)),
    lambda x: x.flip(-1),
    lambda x: x * x.sum(1, keepdim=True).tanh(), lambda x: x - x.amax(1, keepdim=True), lambda x: x + x[:, :1],
    lambda x: x + x[:, 1:2].mean(1, keepdim=True), lambda x: x.softmax(1), lambda x: x - x[:, -1:],
    lambda x: x.flip(1),
    lambda x: x - x.mean(1, keepdim=True), lambda x: x.reshape(-1, 2).reshape(x.shape),
    lambda x: (x @ x.transpose(1, 2)).softmax(-1) @ x, lambda x: x.log(),
    lambda x: x / (x.abs().sum(1, keepdim=True) + 1),
    lambda x: x * _row(x).cos(), lambda x: torch.where(_row(x) > 1, x, 0.0), lambda x: x.sort(1).values,
]  # fmt: skip
MASKED = [
    lambda x, m: x.masked_fill(~m[..., None], 0.0), lambda x, m: x.masked_fill(~m[..., None], LOW),
    lambda x, m: x.masked_fill(~m[..., None], -torch.inf), lambda x, m: torch.where(m[..., None], x, 1.0),
    lambda x, m: x.masked_fill(~m[..., None], LOW).softmax(1),
    lambda x, m: (x @ x.transpose(1, 2)).masked_fill(~m[:, None], LOW).softmax(-1) @ x,
    lambda x, m: (x @ x.transpose(1, 2)).masked_fill(~m[:, None], -torch.inf).softmax(-1) @ x,
    lambda x, m: F.scaled_dot_product_attention(x, x, x, m[:, None]),
    lambda x, m: F.scaled_dot_product_attention(x, x, x, m[:, :, None] & m[:, None]),
    lambda x, m: x + (x * m[..., None]).sum(1, keepdim=True).tanh(),
    lambda x, m: x * (x * m[..., None]).sum(1, keepdim=True) / m.sum(1)[:, None, None].clamp(min=1),
    lambda x, m: x - x.masked_fill(~m[..., None], -torch.inf).amax(1, keepdim=True),
    lambda x, m: x + m.cumsum(1)[..., None],
]  # fmt: skip
FLOAT_MASKED = [
    lambda x, w: x * w[..., None], lambda x, w: ((1 - w) * LOW)[..., None] + x,
    lambda x, w: (x + ((1 - w) * LOW)[..., None]).softmax(1),
    lambda x, w: F.scaled_dot_product_attention(x, x, x, ((1 - w) * LOW)[:, None]),
    lambda x, w: (w[:, None] @ x) * x,
]  # fmt: skip
BINARY = [lambda x, y: x + y, lambda x, y: x * y, lambda x, y: x - y, torch.maximum,
          lambda x, y: torch.cat([x, y], 2)[..., 2:6], lambda x, y: x.transpose(1, 2) @ y @ WEIGHT,
          lambda x, y: F.scaled_dot_product_attention(x, y, y, is_causal=True)]  # fmt: skip
ENDS = [lambda x, m: x, lambda x, m: x.sum(1), lambda x, m: (x * m[..., None]).sum(1), lambda x, m: x[:, 0],
        lambda x, m: x.masked_fill(~m[..., None], LOW).amax(1), lambda x, m: x.amax(-1), lambda x, m: x[:, 1:],
        lambda x, m: x.reshape(2, -1)]  # fmt: skip


def graph(seed):
    """A function of the inputs of ``SPECS``, always the same one for a seed."""
    draw = random.Random(seed)
    steps = [
        (draw.choice([UNARY, UNARY, MASKED, FLOAT_MASKED, BINARY]), draw.random()) for _ in range(draw.randint(1, 5))
    ]
    picks = [draw.random() for _ in range(2 * len(steps))]
    end = draw.choice(ENDS)

    def run(x, y, bools, ints, floats):
        values = [x, y]
        for i, (kind, which) in enumerate(steps):
            op = kind[int(which * len(kind))]
            a = values[-1]
            if kind is UNARY:
                values.append(op(a))
            elif kind is BINARY:
                b = values[int(picks[i] * len(values))]
                if a.shape != b.shape:
                    continue
                values.append(op(a, b))
            else:
                mask = floats if kind is FLOAT_MASKED else (bools if picks[-1 - i] < 0.5 else ints == 1)
                values.append(op(a, mask))
            if values[-1].shape[1:] != x.shape[1:]:
                values.pop()
        return end(values[-1], bools)

    return run


def check(seed):
    """Whether the graph of a seed was proven."""
    try:
        ir = traced(graph(seed), SPECS)
    except npu.NPUError:  # it is another graph for some size
        return False
    proven = False
    for fill in (0.0, -3.5):
        fills = [fill, fill, False, 0, 0.0]
        try:
            needs = proof(ir, SPECS, fills)
        except npu.NPUError:
            continue
        proven = True
        if all(name.endswith(("2", "3", "4")) for name in needs):  # masks, which the runs fulfil
            check_runs(graph(seed), SPECS, fills)
    return proven


@pytest.mark.parametrize("part", range(4))
def test_random_graphs(part):
    assert sum(check(seed) for seed in range(part * 10, part * 10 + 10)) >= 2


@pytest.mark.slow
def test_many_random_graphs():
    assert sum(check(seed) for seed in range(1000, 1600)) >= 80

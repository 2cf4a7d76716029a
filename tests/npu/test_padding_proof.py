"""One case for each rule: what is proven holds in padded runs, and what padding would change is refused."""

import math

import npu
import pytest
import torch
from npu.padding.rules import RULES
from torch import nn

from tests.npu.padding_cases import check_runs, proof, traced

F = nn.functional
INF = math.inf
LOW = torch.finfo(torch.float32).min
X = ("float", (2, "s", 4))
ROWS = ("float", ("s", 6))
ADDED = ("added", (2, "s", "s"))
MASK, BOOL, HIDDEN, WEIGHT, IDS, TOKENS = (
    (kind, (2, "s")) for kind in ("mask", "bool", "hidden", "weight", "ids", "tokens")
)
CONV = torch.randn(2, 4, 2)
IMAGES = ("float", ("s", 3, 6, 6))
TABLE, SQUARE, KERNEL = torch.randn(9, 4), torch.randn(4, 4), torch.randn(5, 3, 3, 3)


def heads(x):
    return x.unflatten(-1, (2, 2)).transpose(1, 2)


def mixed(x):
    return F.linear(x, SQUARE, TABLE[0])


def spread(x):
    """With real numbers in all of its padding."""
    return mixed(x + x[:, :1])


def halves(x):
    return torch.arange(x.shape[1]).half()


def causal(n):
    return torch.arange(n)[None, :] <= torch.arange(n)[:, None]


def attended(x, mask=None, **options):
    h = heads(x)
    return F.scaled_dot_product_attention(h, h, h, mask, **options).transpose(1, 2).flatten(2)


def scores(x):
    return x @ x.transpose(1, 2)


RIGHT = {
    # arithmetic, masks and casts
    "add": (lambda x: x + 1 - x * 2 / 3, [X]),
    "rsub": (lambda x: 1 - x, [X]),
    "unary": (lambda x: x.tanh() + x.sin() + x.abs().sqrt() + x.neg().sigmoid() + F.gelu(x) + F.silu(x), [X]),
    "clamp": (lambda x: x.clamp(min=0.1).log() + x.clamp(-1, 1) + x.clamp_min(2).rsqrt(), [X]),
    "where": (lambda x, m: torch.where(m[..., None], x, 3.0).sum(1) - 3 * (~m).sum(1, keepdim=True), [X, BOOL]),
    "masked_fill": (lambda x, m: x.masked_fill(~m[..., None], 0.0).sum(1), [X, BOOL]),
    "parts of numbers": (lambda x, m: m[:, None] @ mixed(0.5 * spread(x) * (1 + spread(x).tanh())), [X, WEIGHT]),
    "pow": (lambda x: x**2 + x.square() + (x**2 + 1) ** -0.5, [X]),
    "casts": (lambda x, m: (x.double() * m[..., None].to(torch.float64)).sum(1), [X, MASK]),
    "logic": (lambda m: (m & (m | True)).sum(1) + (m.logical_and(~~m)).sum(1), [BOOL]),
    "mean by mask": (lambda x, m: (x * m[..., None]).sum(1) / m.sum(1, keepdim=True).clamp(min=1e-9), [X, MASK]),
    "one less mask": (lambda x, m: ((1.0 - m) * LOW + x[..., 0]).softmax(-1), [X, WEIGHT]),
    "dropout": (lambda x: F.dropout(x, 0.5, training=False), [X]),
    "likes": (lambda x: x * torch.ones_like(x) + torch.zeros_like(x) + torch.full_like(x, 2), [X]),
    # layout
    "views": (lambda x: x.reshape(x.shape[0], -1, 2, 2).flatten(2).unsqueeze(0).squeeze(0), [X]),
    "merged": (lambda x: (x.reshape(-1, 4) @ SQUARE).view(2, -1, 4), [X]),
    "permuted": (lambda x: x.permute(2, 1, 0).transpose(0, 1).movedim(0, 2), [X]),
    "turned": (lambda x: x.t(), [ROWS]),
    "expanded": (lambda x, m: m[:, None, :].expand(2, 3, m.shape[1]) + x[..., 0][:, None], [X, MASK]),
    "repeated": (lambda x: x.repeat(1, 1, 2) + x.repeat_interleave(2, -1), [X]),
    "repeated rows": (lambda x: x.repeat_interleave(3, 1), [X]),
    "slices": (lambda x: x[:, 1:] * 2 + x[:, :1], [X]),
    "without the last": (lambda x: x[:, 1:] - x[:, :-1] + x[:, : x.shape[1] - 1].sum(-1, keepdim=True), [X]),
    "shifted": (lambda x: torch.cat([x.new_zeros(2, 1, 4), x], 1)[:, : x.shape[1]] + x, [X]),
    "first": (lambda x: x[:, 0] + x[:, 1] + x[:, :2].sum(1), [X]),
    "features": (lambda x: torch.cat([x[..., 2:].neg(), x[..., :2]], -1), [X]),
    "token in front": (lambda x: torch.cat([x.new_ones(2, 1, 4), x], 1) + 1, [X]),
    "split": (lambda x: x.chunk(2, -1)[0] * x.split(2, -1)[1] + torch.stack([x, x], 2).unbind(2)[0][..., :2], [X]),
    "arange": (lambda x: x + torch.arange(x.shape[1])[:, None], [X]),
    "fills": (lambda x: x + torch.zeros(x.shape[1], 4) + torch.full((x.shape[1], 1), 2.0) + x.new_ones(4), [X]),
    "triangle": (lambda x: x.transpose(1, 2) @ torch.ones(x.shape[1], x.shape[1]).triu(), [X]),
    "lower triangle": (lambda x: (scores(x) + torch.full((x.shape[1],) * 2, -INF).triu(1)).softmax(-1) @ x, [X]),
    # products
    "linear": (lambda x: F.linear(x, SQUARE, TABLE[0]), [X]),
    "pooled": (lambda x, m: m.float()[:, None] @ x, [X, MASK]),
    "bmm": (lambda x, m: torch.bmm(m.float()[:, None], x), [X, MASK]),
    "einsum": (lambda x, m: torch.einsum("bs,bsd->bd", m.float(), x), [X, MASK]),
    "mm": (lambda x: torch.addmm(torch.ones(4), x @ torch.ones(6, 4), SQUARE), [ROWS]),
    # reductions
    "sums": (lambda x, m: (x * m[..., None]).sum((1, 2)) + (m == 1).sum() + m.sum(1), [X, MASK]),
    "over features": (lambda x: x.mean(-1) + x.amax(-1) + x.var(-1) + x.norm(dim=-1) + x.softmax(-1)[..., 0], [X]),
    "masked max": (lambda x, m: x.masked_fill(~m[..., None], -INF).amax(1), [X, BOOL]),
    "any and all": (lambda m: m.any(1) & (~m).logical_not().any(), [BOOL]),
    "argmax": (lambda x, m: x[..., 0].masked_fill(~m, LOW).argmax(1), [X, BOOL]),
    "logsumexp": (lambda x, m: x.masked_fill(~m[..., None], -INF).logsumexp(1), [X, BOOL]),
    "cumsum": (lambda x: x.cumsum(1), [X]),
    "cumulative": (lambda x: x.cumprod(1) + x.cummax(1).values + x.logcumsumexp(1), [X]),
    # softmax and attention
    "masked softmax": (lambda x, m: x[..., 0].masked_fill(~m, LOW).softmax(-1), [X, BOOL]),
    "mask of ids": (lambda x, i: scores(x).masked_fill((i == 0)[:, None], LOW).softmax(-1) @ x, [X, TOKENS]),
    "infinite mask": (lambda x, m: scores(x).masked_fill(~m[:, None], -INF).softmax(-1) @ x, [X, BOOL]),
    "large mask": (lambda x, m: scores(x).masked_fill(~m[:, None], -1e9).softmax(-1) @ x, [X, BOOL]),
    "log softmax": (lambda x, m: x[..., 0].masked_fill(~m, -INF).log_softmax(-1), [X, BOOL]),
    "attention": (lambda x, m: attended(x, m[:, None, None]), [X, BOOL]),
    "causal": (lambda x: attended(x, is_causal=True), [X]),
    "causal by positions": (lambda x: attended(x, causal(x.shape[1])), [X]),
    "causal by numbers": (lambda x: scores(x).masked_fill(~causal(x.shape[1]), LOW).softmax(-1) @ x, [X]),
    "powers of positions": (
        lambda x, m: m[:, None] @ (mixed(x) * (torch.arange(x.shape[1])[:, None] * 100.0 ** -TABLE[0].abs()).cos()),
        [X, WEIGHT],
    ),
    "causal by distance": (
        lambda x: attended(x, (torch.arange(x.shape[1])[:, None] - torch.arange(x.shape[1]) >= 0)), [X],
    ),
    "window": (lambda x: attended(x, causal(x.shape[1]) & causal(x.shape[1]).roll(0).triu(-2)), [X]),
    "added mask": (lambda x, m: attended(x, m[:, None]), [X, ADDED]),
    "float mask": (lambda x, m: attended(x, (1.0 - m[:, None, None]) * LOW), [X, WEIGHT]),
    # rows
    "convolution along it": (lambda x: F.conv1d(x.mT, CONV), [X]),
    "masked convolution": (
        lambda x, m: F.conv1d((mixed(x) * m[..., None]).mT, CONV, TABLE[0, :2], padding=1).relu(), [X, WEIGHT]
    ),
    "strided convolution": (
        lambda x, m: F.conv1d((mixed(x) * m[..., None]).mT, CONV, stride=2, padding=1), [X, WEIGHT]
    ),
    "causal convolution": (lambda x: F.conv1d(F.pad(mixed(x).mT, (1, 0), value=2.0), CONV), [X]),
    "zeros at both ends": (lambda x: F.conv1d(F.pad(x, (0, 0, 1, 2)).mT, CONV), [X]),
    "shown in front": (
        lambda x, m: F.scaled_dot_product_attention(
            x, F.pad(x, (0, 0, 1, 0)), F.pad(x, (0, 0, 1, 0)), F.pad(1.0 - m, (1, 0))[:, None] * LOW
        ),
        [X, WEIGHT],
    ),
    "norms": (lambda x: F.layer_norm(x, (4,)) + F.rms_norm(x, (4,)), [X]),
    "batch": (lambda x: F.conv2d(x, KERNEL, padding=1).relu(), [IMAGES]),
    "image": (
        lambda x: F.adaptive_avg_pool2d(F.max_pool2d(F.batch_norm(x, torch.zeros(3), torch.ones(3)), 2), 1),
        [IMAGES],
    ),
    "group norm": (lambda x: F.group_norm(x, 3) + F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0), [IMAGES]),
    "sorted": (lambda x: x.sort(-1).values + x.flip(-1) + x.topk(4, -1).values + F.glu(x.repeat(1, 1, 2)), [X]),
    "instance norm": (F.instance_norm, [("float", ("s", 3, 8))]),
    # indexing
    "embedding": (lambda i: F.embedding(i, TABLE), [IDS]),
    "positions": (lambda i: TABLE[i.cumsum(1).clamp(0, 8)], [IDS]),
    "positions of a table": (lambda x: x + torch.arange(20)[: x.shape[1], None], [X]),
    "gather": (lambda i: TABLE.T.expand(2, 4, 9)[:, 0].gather(1, i), [IDS]),
    "index by positions": (lambda m: m[torch.arange(2)[:, None], torch.arange(m.shape[1])[None]], [MASK]),
    "index_select": (lambda x: x.index_select(2, torch.tensor([3, 0])), [X]),
}  # fmt: skip
NOT_PROVEN = {"where", "window"}
"""Right in some runs, but not by these rules."""

WRONG = {
    "mean": (lambda x: x.mean(1), [X], "divide by the bucket's size"),
    "sum": (lambda x: (x + 1).sum(1), [X], "sums over padded 's'"),
    "mean of nothing": (lambda x, m: (x * m[..., None]).mean(1), [X, MASK], "averages over 's'"),
    "last": (lambda x: x[:, -1], [X], "from its end"),
    "last part": (lambda x: x[:, -2:], [X], "counts from the end"),
    "every second": (lambda x: x[:, ::2], [X], "with a step"),
    "sum without the last": (lambda x, m: (x * m[..., None])[:, :-1].sum(1), [X, MASK], "sums over padded"),
    "what is left": (lambda x: x.new_ones(20 - x.shape[1]), [X], "not known to grow"),
    "flip": (lambda x: x.flip(1), [X], "works over the padded dimension"),
    "roll": (lambda x: x.roll(1, 1), [X], "works over the padded dimension"),
    "sort": (lambda x: x.sort(1).values, [X], "works over the padded dimension"),
    "topk": (lambda x: x.topk(2, 1).values, [X], "works over the padded dimension"),
    "softmax": (lambda x: x.softmax(1), [X], "softmax over padded 's'"),
    "batch softmax": (lambda x: x.softmax(0), [ROWS], "softmax over padded 's'"),
    "amax": (lambda x: x.amax(1), [X], "takes the extreme"),
    "argmax": (lambda x: x.argmax(1), [X], "takes the extreme"),
    "attention": (attended, [X], "has no mask"),
    "rows that see nothing": (lambda x, m: attended(attended(x, m[:, None]), m[:, None]), [X, ADDED], "not known"),
    "infinite values": (
        lambda x, m: F.scaled_dot_product_attention(x, x, 1 / mixed(x), m[:, None]), [X, BOOL], "infinite or NaN",
    ),
    "rounded positions": (
        lambda x: scores(x).masked_fill(~(halves(x)[None] <= halves(x)[:, None]), -INF).softmax(-1), [X], "softmax",
    ),
    "attention with another mask": (
        lambda x: attended(x, ~causal(x.shape[1])), [X], "not known to hide",
    ),
    "convolution": (lambda x: F.conv1d(x.mT, torch.ones(2, 4, 3), padding=1), [X], "0 as beyond the end"),
    "same convolution": (lambda x: F.conv1d(x.mT, torch.ones(2, 4, 3), padding="same"), [X], "as beyond the end"),
    "transposed": (lambda x: F.conv_transpose1d(x.mT, torch.ones(4, 2, 3)), [X], "works over the padded dimension"),
    "pooling": (lambda x: F.avg_pool1d(x.mT, 2), [X], "works over the padded|does not support this range"),
    "instance norm": (lambda x: F.instance_norm(x.transpose(1, 2)), [X], "works over|statistics over"),
    "batch statistics": (lambda x: F.batch_norm(x, None, None, training=True), [ROWS], "statistics over padded"),
    "product of rows": (lambda x: x.transpose(1, 2) @ x, [X], "not known to be 0"),
    "size as a number": (lambda x: x * x.shape[1], [X], "depends on 's'"),
    "divided by the size": (lambda x, m: (x * m[..., None]).sum(1) / x.shape[1], [X, MASK], "depends on 's'"),
    "repeated by the size": (lambda x: x.repeat(1, x.shape[1], 1).sum(1), [X], "merges two padded"),
    "infinite weights of a norm": (
        lambda x, m: m[:, None] @ F.batch_norm(mixed(x).mT, TABLE[0], TABLE[1] ** 2, TABLE[2] / 0).mT,
        [X, WEIGHT], "infinite or NaN",
    ),
    "ones behind": (lambda x: F.pad(x, (0, 0, 0, 1), value=1.0), [X], "behind the padding"),
    "mirrored": (lambda x: F.pad(x.mT, (1, 0), "reflect"), [X], "repeats numbers"),
    "more behind": (lambda x: torch.cat([x, x.new_ones(2, 1, 4)], 1), [X], "behind the padding"),
    "counted down": (lambda x: x + torch.arange(x.shape[1] - 1, -1, -1)[:, None], [X], "start|counts|depends"),
    "infinite weights": (lambda x, m: (m[:, None] @ (mixed(x) / mixed(x))), [X, WEIGHT], "infinite or NaN"),
    "exponents": (lambda x, m: (m[..., None] * mixed(x).exp()).sum(1), [X, WEIGHT], "sums over"),
    "small mask": (lambda x, m: ((1 - m) * -10000.0 + mixed(x)[..., 0]).softmax(-1), [X, WEIGHT], "softmax over"),
    "inside of another size": (lambda x: x.reshape(-1, 4), [X], "inside of another size"),
    "standard deviation": (lambda x: x.std(1), [X], "measures"),
    "two merged": (lambda x: scores(x).reshape(2, -1), [X], "merges two"),
    "table": (lambda i: F.embedding(i + torch.arange(i.shape[1]), TABLE), [IDS], "out of range"),
    "unknown": (lambda x: torch.cdist(x, x), [X], "is not known"),
    "second half": (lambda x: x[:, x.shape[1] // 2 :], [X], "depends on 's'|Dynamic shape detected"),
    "product": (lambda x: x.prod(1), [X], "multiplies over"),
    "vanishing": (
        lambda x, m: m[:, None] @ (mixed(x) / torch.exp(-20.0 * torch.arange(x.shape[1])[:, None])), [X, WEIGHT],
        "infinite or NaN",
    ),
    "overflowing": (
        lambda x, m: m[:, None] @ (mixed(x) * (torch.arange(x.shape[1])[:, None].half() * 10000)), [X, WEIGHT],
        "infinite or NaN",
    ),
    "overflowing numbers": (
        lambda x, m: m[:, None] @ (mixed(x) * (torch.arange(x.shape[1], dtype=torch.half)[:, None] * 10000)),
        [X, WEIGHT], "infinite or NaN",
    ),
}  # fmt: skip


def fills_of(specs, number=0):
    return [{"hidden": True, "added": -INF, "float": number}.get(kind, 0) for kind, _ in specs]


@pytest.mark.parametrize("name", [name for name in RIGHT if name not in NOT_PROVEN])
def test_what_is_proven_holds(name):
    function, specs = RIGHT[name][:2]
    ir = traced(function, specs)
    needs = proof(ir, specs, fills_of(specs))
    assert set(needs.values()) <= {1, ">"}
    check_runs(function, specs, fills_of(specs))
    try:
        proof(ir, specs, fills_of(specs, 7.5))
    except npu.NPUError:
        return
    check_runs(function, specs, fills_of(specs, 7.5))


@pytest.mark.parametrize("name", sorted(NOT_PROVEN))
def test_what_is_right_for_other_reasons_is_refused(name):
    function, specs = RIGHT[name][:2]
    with pytest.raises(npu.NPUError, match="not proven"):
        proof(traced(function, specs), specs, fills_of(specs))


@pytest.mark.parametrize("name", WRONG)
def test_what_padding_would_change_is_refused(name):
    function, specs, words = WRONG[name]
    with pytest.raises(npu.NPUError, match=words) as error:
        proof(traced(function, specs), specs, fills_of(specs, 7.5))
    if "padding 's'" in str(error.value):
        assert "node '" in str(error.value) or "result '" in str(error.value)


def test_the_rules_are_of_operators_that_there_are():
    missing = [name for name in RULES if not hasattr(torch.ops.aten, name)]
    assert missing == []


def test_an_added_mask_may_hide_what_another_one_shows():
    specs = [X, ADDED, BOOL]
    ir = traced(lambda x, a, b: (scores(x) + a).masked_fill(~b[:, None], LOW).softmax(-1) @ x, specs)
    assert list(proof(ir, specs, [0, -INF, False]).values()) == [0, 1]


def test_numbers_that_the_compute_dtype_has_not():
    specs = [X, WEIGHT]
    pooled = traced(lambda x, m: attended(x / (m.abs() + 1e-9)[..., None], m[:, None, None] > 0), specs)
    assert proof(pooled, specs, [0, 0.0], compute_dtype="bfloat16") == {}
    with pytest.raises(npu.NPUError, match="infinite or NaN|not known to hide"):
        proof(pooled, specs, [0, 0.0], compute_dtype="float16")

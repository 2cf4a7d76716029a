"""Rows that nobody reads are not computed: where they move, where they must not, and what they become."""

from __future__ import annotations

import math
import random
from typing import Any

import npu
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from npu_compiler import CompiledProgram, compile
from npu_compiler.graph import Value, View, dense_strides
from npu_compiler.passes.rows import _cover, _moved, _walk
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.support import numbers
from tests.support.devices import device_of

from .helpers import as_numpy, assert_same, ir_of, module_of, only, results
from .pass_cases import Net

ROWS = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0))
ONE = torch.tensor([1])


def head(function: Any, *parts: nn.Module) -> nn.Module:
    """``function`` of the scores that a norm and a product make of every row."""
    return Net(lambda norm, linear, *rest: function(linear(norm(rest[-2].exp())), *rest[:-2], rest[-1]),
               nn.LayerNorm(8), nn.Linear(8, 11), *parts)  # fmt: skip


def shapes(program: CompiledProgram) -> str:
    """The ops with the shapes that they make."""
    entries = program.data["main"]
    first = [op["out"][0] for op in entries]
    made = [program.data["values"][v if isinstance(v, int) else v[0]]["shape"] for v in first]
    return " ".join(f"{op['op']}{shape}".replace(" ", "") for op, shape in zip(entries, made, strict=True))


FIRES: dict[str, tuple[Any, str]] = {
    "the last": (lambda y, i: y[:, -1], "map[2,1,8] norm[2,1,8] matmul[2,11] copy[2,11]"),
    "one of one": (lambda y, i: y[0, 3], "map[1,1,8] norm[1,1,8] matmul[1,11] copy[11]"),
    "every other": (lambda y, i: y[0, ::2], "map[1,3,8] norm[1,3,8] matmul[3,11] copy[3,11]"),
    "some that lie together": (lambda y, i: y.flatten(0, 1)[4:7], "map[2,5,8] norm[2,5,8] matmul[3,11] copy[3,11]"),
    "then columns": (lambda y, i: y[:, -1, 2:5], "map[2,1,8] norm[2,1,8] matmul[2,11] copy[2,3]"),
    "behind work on rows": (
        lambda y, i: (y.relu() * 2).softmax(-1)[:, -1],
        "map[2,1,8] norm[2,1,8] matmul[2,11] map[2,1,11] map[2,1,11] softmax[2,1,11] copy[2,11]",
    ),
    "of the likeliest": (
        lambda y, i: y.argmax(-1)[:, 1], "map[2,1,8] norm[2,1,8] matmul[2,11] reduce[2,1,1] copy[2]",
    ),
    "of sums so far": (
        lambda y, i: y.cumsum(-1)[:, 1], "map[2,1,8] norm[2,1,8] matmul[2,11] scan[2,1,11] copy[2,11]",
    ),
    "two readers of one row": (
        lambda y, i: (y[:, -1] + 1, y[:, -1].exp()), "map[2,1,8] norm[2,1,8] matmul[2,11] map[2,11] map[2,11]",
    ),
    "two readers of neighbours": (
        lambda y, i: (y[0, 1], y[0, 2]), "map[1,2,8] norm[1,2,8] matmul[2,11] copy[11] copy[11]",
    ),
    "an index": (lambda y, i: y[:, i], "gather[2,1,8] map[2,1,8] norm[2,1,8] matmul[2,1,11]"),
    "index_select": (lambda y, i: y.index_select(1, i), "gather[2,1,8] map[2,1,8] norm[2,1,8] matmul[2,1,11]"),
    "an index of all rows": (lambda y, i: y.flatten(0, 1)[i], "gather[1,8] map[1,8] norm[1,8] matmul[1,11]"),
    "an index of every column": (
        lambda y, i: y.gather(1, i.expand(2, 1, 11)), "gather[2,1,8] map[2,1,8] norm[2,1,8] matmul[2,1,11]",
    ),
    "two indices": (lambda y, i: y[i, i], "gather[1,8] map[1,8] norm[1,8] matmul[1,11]"),
}  # fmt: skip

ALL = "map[2,5,8] norm[2,5,8] matmul[10,11]"
STAYS: dict[str, tuple[Any, str]] = {
    "all rows as well": (lambda y, i: (y, y[:, -1]), "map[2,5,8] norm[2,5,8] matmul[2,5,11] copy[2,11]"),
    "a sum of all rows": (lambda y, i: y[:, -1] + y.sum(1), f"{ALL} reduce[2,1,11] map[2,11]"),
    "columns": (lambda y, i: y[..., :3], f"{ALL} copy[2,5,3]"),
    "one column": (lambda y, i: y[..., 3], f"{ALL} copy[2,5]"),
    "the first and the last": (lambda y, i: (y[0, 0], y[1, -1] + y[0, 3] + y[1, 2]), f"{ALL} map[11] map[11] copy[11]"),
    "several rows of each batch": (lambda y, i: y[:, -3:], f"{ALL} copy[2,3,11]"),
    "rows that cross batches": (lambda y, i: y.reshape(2, 11, 5)[:, 2], f"{ALL} copy[2,5]"),
    "rows behind each other backwards": (lambda y, i: y.flip(1)[:, 0:3].sum(), f"{ALL} reduce[]"),
    "diagonals": (lambda y, i: y.diagonal(0, 1, 2), f"{ALL} copy[2,5]"),
    "an index of columns": (lambda y, i: y[..., i], f"{ALL} gather[2,5,1]"),
    "an index for each column": (
        lambda y, i: y.gather(1, (torch.arange(11) * i % 5).expand(2, 1, 11)),
        f"{ALL} iota[11] map[11] map[11] gather[2,1,11]",
    ),
    "an index that is made later": (lambda y, i: y[:, i + 1], f"{ALL} map[1] gather[2,1,11]"),
    "as many as there are": (lambda y, i: y[:, torch.arange(5)], f"{ALL} iota[5] gather[2,5,11]"),
    "an index that the rows make": (lambda y, i: y[:, y.argmax(1)[0, :1]], f"{ALL} reduce[1,1,1] gather[2,1,11]"),
    "a softmax over rows": (lambda y, i: y.softmax(1)[:, -1], f"{ALL} softmax[2,5,11] copy[2,11]"),
    "sums over rows": (lambda y, i: y.cumsum(1)[:, -1], f"{ALL} scan[2,5,11] copy[2,11]"),
    "sorted rows": (lambda y, i: y.sort(1)[0][:, -1], f"{ALL} sort[2,5,11] copy[2,11]"),
}


def _check(name: str, function: Any, want: str) -> None:
    model, inputs = module_of(head(function)), (ROWS, ONE)
    ir = ir_of(model, *inputs)
    narrow = only(ir, "needed_rows", "dead_code")
    assert shapes(narrow) == want
    wanted = [as_numpy(x) for x in pytree.tree_leaves(model(*inputs))]
    for program in (only(ir), narrow, compile(ir)):
        assert_same(results(program, model, inputs), wanted)


@pytest.mark.parametrize("name", FIRES)
def test_rows_move(name: str) -> None:
    _check(name, *FIRES[name])


@pytest.mark.parametrize("name", STAYS)
def test_what_only_looks_like_it(name: str) -> None:
    _check(name, *STAYS[name])


def test_norms_of_groups_and_products_with_other_matrices() -> None:
    cases: list[tuple[Any, tuple[Tensor, ...], str]] = [
        (lambda x: F.group_norm(x.exp(), 2)[:, 1], (torch.randn(3, 4, 5),), "map[3,4,5] norm[3,4,5] copy[3,5]"),
        (lambda x: F.layer_norm(x.exp(), (4, 5))[:, 1], (torch.randn(3, 4, 5),), "map[3,4,5] norm[3,4,5] copy[3,5]"),
        (lambda x: F.layer_norm(x.exp(), (4, 5))[1], (torch.randn(3, 4, 5),), "map[1,4,5] norm[1,4,5] copy[4,5]"),
        (lambda a, b: (a.exp() @ b.exp())[1:, 2], (torch.randn(3, 4, 5), torch.randn(3, 5, 6)),
         "map[2,1,5] map[2,5,6] matmul[2,1,6] copy[2,6]"),
        (lambda a, b, i: (a.exp() @ b)[:, i], (torch.randn(3, 4, 5), torch.randn(3, 5, 6), ONE),
         "map[3,4,5] matmul[3,4,6] gather[3,1,6]"),
        (lambda a, i: (a.exp() + a)[:, i], (torch.randn(3, 4, 5), ONE), "map[3,4,5] map[3,4,5] gather[3,1,5]"),
        (lambda a, b, i: (a.exp() * b)[:, i], (torch.randn(3, 4, 5), torch.randn(5), ONE),
         "gather[3,1,5] map[3,1,5] map[3,1,5]"),
    ]  # fmt: skip
    for function, inputs, want in cases:
        model = module_of(function)
        program = only(ir_of(model, *inputs), "needed_rows", "dead_code")
        assert shapes(program) == want
        assert_same(results(program, model, inputs), [as_numpy(model(*inputs))])


def test_what_nobody_reads() -> None:
    model = module_of(lambda x: (x.exp().sin(), x + 1)[1])
    assert shapes(only(ir_of(model, torch.randn(2, 3)), "needed_rows")) == "map[2,3] map[2,3] map[2,3]"


@pytest.mark.parametrize("causal", [False, True])
def test_attention(causal: bool) -> None:
    """The last query alone needs the other keys, but not the other queries; causal ones know which row they are."""
    qkv = tuple(torch.randn(2, 4, 6, 8, generator=torch.Generator().manual_seed(i)) for i in range(3))
    mask = torch.randn(2, 1, 6, 6)

    def function(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        rule: dict[str, Any] = {"is_causal": True} if causal else {"attn_mask": mask}
        return F.scaled_dot_product_attention(q.exp(), k, v, **rule)[:1, :, -1]

    model = module_of(function)
    program = compile(ir_of(model, *qkv, mask))
    assert shapes(program) == (
        "map[1,4,6,8] attention[1,6,4,8] copy[1,4,8]" if causal else "map[1,4,1,8] attention[1,4,8]"
    )
    assert_same(results(program, model, (*qkv, mask)), [as_numpy(model(*qkv, mask))], 1e-4)


@pytest.mark.parametrize("kind", ["chosen", "metal"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["the last", "an index", "every other", "behind work on rows"])
def test_on_devices(name: str, dtype: torch.dtype, kind: str) -> None:
    model = module_of(head(FIRES[name][0])).to(dtype)
    x = ROWS.to(dtype)
    with torch.no_grad():
        own, exact = model(x, ONE), model.double()(x.double(), ONE)
    found = npu.compile(model.to(dtype), (x, ONE), device=device_of(kind))(x, ONE)
    numbers.check(as_numpy(found), exact, own, name)


def test_a_language_model() -> None:
    """All rows are traced; of the head, and of all that the last layer does after its attention, one is computed."""
    from tests.models.zoo.language_models import VOCABULARY, causal

    model, ids = causal("qwen2"), torch.arange(12)[None]

    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, ids: Tensor) -> Tensor:
            return self.model(ids, use_cache=False).logits[:, -1]

    program = npu.compile(Last().eval(), ids)
    made = shapes(program.program).split()
    products = [entry for entry in made if entry.startswith("matmul")]
    assert products[-1] == f"matmul[1,{VOCABULARY}]"
    assert [entry[7] for entry in products[-3:]] == ["1"] * 3 and "12" in products[0]
    with torch.no_grad():
        torch.testing.assert_close(program(ids), model(ids).logits[:, -1], rtol=1e-3, atol=1e-4)


def test_views_of_what_is_kept() -> None:
    """Random views of random values: through the smaller value they read the same elements."""
    rng, seen = random.Random(0), 0
    for _ in range(3000):
        shape = tuple(rng.randint(1, 5) for _ in range(rng.randint(1, 4)))
        total, dense = math.prod(shape), dense_strides(shape)
        view = _view(rng, shape, dense)
        if view is None or (walk := _walk(view, shape)) is None:
            continue
        free = {d for d in range(len(shape)) if rng.random() < 0.7}
        other = tuple(range(lo, lo + 1) for lo in (rng.randrange(n) for n in shape))
        kept = [_cover([walk.ranges[d], other[d]]) if d in free else range(n) for d, n in enumerate(shape)]
        whole_value = np.arange(total).reshape(shape)
        smaller = whole_value[np.ix_(*[list(r) for r in kept])]
        made = Value("made", "float32", smaller.shape)
        moved = _moved(view, walk, kept, made)
        np.testing.assert_array_equal(_read(moved, smaller.ravel()), _read(view, whole_value.ravel()))
        seen += 1
    assert seen > 500


def _view(rng: random.Random, shape: tuple[int, ...], dense: tuple[int, ...]) -> View | None:
    value = Value("x", "float32", shape)
    rank = rng.randint(0, 4)
    extents = tuple(rng.randint(1, 6) for _ in range(rank))
    strides = tuple(rng.choice((*dense, 0)) * rng.choice((1, 1, 2)) for _ in range(rank))
    offset = rng.randrange(math.prod(shape))
    last = offset + sum(s * (n - 1) for n, s in zip(extents, strides, strict=True))
    return View(value, extents, strides, offset) if last < math.prod(shape) else None


def _read(view: View, flat: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    steps = np.array(view.strides, np.int64).reshape(-1, *[1] * view.rank) * np.indices(view.shape)
    return flat[view.offset + steps.sum(0)] if view.rank else flat[view.offset]

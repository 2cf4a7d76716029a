"""The matcher of patterns, without any pass: what it looks through, what must agree, and what it must not take."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from npu_base.errors import InvalidTypeError, InvalidValueError
from npu_compiler.compiler import Translation
from npu_compiler.graph import Graph, Op
from npu_compiler.passes.fuse import fuse_maps
from npu_compiler.passes.simplify import dead_code
from npu_compiler.patterns import Match, Pattern, Rule, rewrite
from npu_compiler.reader import read_ir

from .helpers import ir_of

X, ROW, COLUMN = (3, 4), (4,), (3, 1)
HALF = torch.linspace(-2, 2, 12, dtype=torch.float16).reshape(3, 4)


def graph_of(function: Callable[..., Any], *shapes: Any) -> Graph:
    inputs = [torch.randn(s) if isinstance(s, tuple) else s for s in shapes]
    graph = Translation(read_ir(ir_of(function, *inputs))).graph_of_all()
    dead_code(graph)
    return graph


def matches(text: str, graph: Graph, numbers: str = "") -> list[Match]:
    """At the last op."""
    return list(Pattern(text, numbers.split()).match(graph, next(reversed(graph.main))))


def fits(text: str, function: Callable[..., Any], *shapes: Any, numbers: str = "") -> bool:
    return bool(matches(text, graph_of(function, *shapes), numbers))


def test_steps_of_many_maps_or_of_one() -> None:
    graph = graph_of(lambda x, y: torch.exp(x) * y + x, X, X)
    (many,) = matches("exp(x) * y + x", graph)
    assert [op.attrs["expr"][-1][0] for op in many.ops] == ["add", "mul", "exp"]
    assert many.nodes == ("exp", "mul", "add")
    fuse_maps(graph)
    assert len(graph.main) == 1
    (one,) = matches("exp(x) * y + x", graph)
    assert [(one[hole].value, one[hole].shape) for hole in "xy"] == [(v, X) for v in graph.inputs]
    assert one.nodes == ("exp", "mul", "add")


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x.exp() + y * 2,
        lambda x, y: y * 2 + x.exp(),
        lambda x, y: x.exp() + 2 * y,
    ],
)
def test_either_order(function: Any) -> None:
    assert fits("exp(x) + y * two", function, X, X, numbers="two")
    assert fits("y * two + exp(x)", function, X, X, numbers="two")


def test_subtraction_and_division_have_one_order() -> None:
    assert fits("exp(x) - y", lambda x, y: x.exp() - y, X, X)
    assert not fits("exp(x) - y", lambda x, y: y - x.exp(), X, X)
    assert fits("exp(x) / y", lambda x, y: x.exp() / y, X, X)
    assert not fits("exp(x) / y", lambda x, y: y / x.exp(), X, X)


def test_all_ways_are_offered() -> None:
    graph = graph_of(lambda x, y: x * y, X, X)
    holes = {(m["a"].value.name, m["b"].value.name) for m in matches("a * b", graph)}
    assert holes == {("args_0", "args_1"), ("args_1", "args_0")}
    replaced = rewrite(graph, [Rule(Pattern("a * b"), lambda m: None)])
    assert not replaced and len(graph.main) == 1


def test_one_name_is_one_tensor() -> None:
    assert fits("x * exp(x)", lambda x: x * x.exp(), X)
    assert not fits("x * exp(x)", lambda x, y: y * x.exp(), X, X)
    assert not fits("x * exp(x)", lambda x: x[:, :2] * x[:, 2:].exp(), X)
    assert not fits("x * exp(x)", lambda x: x * x.t().exp(), (4, 4))


def test_one_name_in_another_shape_or_dtype_is_the_same_tensor() -> None:
    assert fits("x * exp(x)", lambda x: x.reshape(2, 6) * x.exp().reshape(2, 6), X)
    (m,) = matches("exp(x) * x", graph_of(lambda h: h.float().exp() * h, HALF))
    assert [view.dtype for view in m.seen("x")] == ["float32", "float16"]
    assert not fits("exp(x) * x", lambda x: x.exp() * x.half().float(), X)  # rounded is another tensor


@pytest.mark.parametrize(
    "function",
    [
        lambda x, y: x.exp().t() * y,
        lambda x, y: x.exp()[:, :, None].expand(4, 4, 4)[:, :, 1].t() * y,
        lambda x, y: x.exp().reshape(2, 8).reshape(4, 4).t() * y,
        lambda x, y: x.t().exp() * y,
    ],
)
def test_views_are_looked_through(function: Any) -> None:
    (m,) = matches("exp(x) * y", graph_of(function, (4, 4), (4, 4)))
    assert (m["x"].value.name, m["x"].strides, m["y"].strides) == ("args_0", (1, 4), (4, 1))


def test_a_view_without_strides_is_not() -> None:
    assert not fits("exp(x) * y", lambda x, y: x.t().exp().reshape(2, 6)[:, 1:5] * y, X, (2, 4))


def test_widening_is_looked_through() -> None:
    assert fits("exp(x) + y", lambda h, y: h.exp().float() + y, HALF, X)
    assert fits("exp(x) + y", lambda h, y: h.exp() + y, HALF, X)


def test_rounding_only_where_the_pattern_says_so() -> None:
    def narrowed(x: Any, h: Any) -> Any:
        return x.exp().half() * h

    assert not fits("exp(x) * h", narrowed, X, HALF)
    assert fits("rounded(exp(x)) * h", narrowed, X, HALF)
    assert fits("rounded(exp(x)) * h", lambda x, h: x.exp().bfloat16().float().half() * h, X, HALF)
    assert fits("rounded(exp(x)) * y", lambda x, y: x.exp() * y, X, X)
    assert not fits("rounded(exp(x)) * n", lambda x, n: x.exp().int() * n, X, torch.ones(X, dtype=torch.int32))


def test_optional_parts() -> None:
    text = "exp(x) * w? + b?"
    both, product, plain = (
        matches(text, graph_of(f, X, X, X))[0]
        for f in (lambda x, w, b: b + x.exp() * w, lambda x, w, b: w * x.exp(), lambda x, w, b: x.exp())
    )
    assert [[m.get(hole) is not None for hole in "xwb"] for m in (both, product, plain)] == [
        [True, True, True], [True, True, False], [True, False, False]
    ]  # fmt: skip
    (alone,) = matches(text, graph_of(lambda x, w, b: x.exp() + b, X, X, X))
    assert alone.get("w") is None and alone["b"].value.name == "args_2"


def test_an_optional_part_leaves_what_others_read() -> None:
    graph = graph_of(lambda x, w: (lambda e: (e.sum(), e * w))(x.exp()), X, X)
    assert not matches("exp(x) * w?", graph)
    assert matches("exp(x) * w", graph)
    graph = graph_of(lambda x, w: (lambda e: (e, e * w))(x.exp()), X, X)  # an output
    assert not matches("exp(x) * w?", graph)


def test_alone() -> None:
    def read_again(x: Any, y: Any) -> Any:
        e = x.exp().half()
        return e.sum(), e * y

    assert fits("rounded(exp(x)) * y", read_again, X, HALF)
    assert not fits("alone(rounded(exp(x))) * y", read_again, X, HALF)
    assert not fits("alone(rounded(exp(x))) * y", lambda x, y: (lambda e: (e.sum(), e.half() * y))(x.exp()), X, HALF)
    assert fits("alone(rounded(exp(x))) * y", lambda x, y: x.exp().half() * y, X, HALF)


@pytest.mark.parametrize(
    ("function", "want"),
    [(lambda x: x.exp() * 3, 3.0), (lambda x: x.exp() / 4, 0.25), (lambda x: x.exp() * torch.full((), 5.0), 5.0)],
)
def test_numbers(function: Any, want: float) -> None:
    (m,) = matches("exp(x) * c", graph_of(function, X), numbers="c")
    assert m.numbers == {"c": want}


def test_what_is_no_number() -> None:
    assert not fits("exp(x) * c", lambda x, c: x.exp() * c, X, torch.tensor(2.0), numbers="c")
    assert not fits("exp(x) * c", lambda x: x.exp() / 0, X, numbers="c")
    assert fits("exp(x + c) * c", lambda x: (x + 2).exp() * 2, X, numbers="c")
    assert not fits("exp(x + c) * c", lambda x: (x + 2).exp() * 3, X, numbers="c")


def test_reductions() -> None:
    (m,) = matches("x - mean(x)", graph_of(lambda x: x - x.mean(1, keepdim=True), X))
    assert m.axes == (1,)
    (m,) = matches("x - mean(x)", graph_of(lambda x: x - x.mean(0), X))
    assert m.axes == (0,)
    assert fits("x - mean(exp(x))", lambda x: x - x.exp().mean((1, 2), True), (2, 3, 4))
    assert not fits("x - mean(x)", lambda x: x - x.sum(1, keepdim=True), X)
    assert not fits("x - mean(x)", lambda x: x - x.mean(1), (4, 4))  # spread over the wrong axis
    assert not fits("mean(x) * x - mean(x)", lambda x: x.mean(0) * x - x.mean(1, True), X)
    assert fits("x / var(x)", lambda x: x / x.var(1, False, True), X)
    assert not fits("x / var(x)", lambda x: x / x.var(1, True, True), X)


def test_ops_and_their_operands() -> None:
    (m,) = matches("matmul(a, b, bias?)", graph_of(lambda x, y: x @ y, X, (4, 5)))
    assert m.get("bias") is None and (m["a"].shape, m["b"].shape) == ((3, 4), (4, 5))
    assert fits("softmax(matmul(a, b))", lambda x, y: (x @ y).softmax(-1), X, (4, 5))
    assert not fits("softmax(matmul(a, b))", lambda x, y: (x @ y)[:, 1:].softmax(-1), X, (4, 5))


def test_choices() -> None:
    def hide(x: Any, m: Any) -> Any:
        return torch.where(m, x.exp(), -2.0)

    mask = torch.ones(X, dtype=torch.bool)
    assert fits("exp(x) if m else c", hide, X, mask, numbers="c")
    assert not fits("c if m else exp(x)", hide, X, mask, numbers="c")


def test_rewriting_takes_the_longest_form() -> None:
    def product(m: Match) -> Op:
        return Op("map", m.root.name, (m["x"],), (m.root.out,), {"expr": [["in", 0], ["sin", 0]]}, m.nodes)

    graph = graph_of(lambda x, w: (x.exp() * w).sum(), X, X)
    (new,) = rewrite(graph, [Rule(Pattern("exp(x) * w?"), product)])
    assert [op.kind for op in graph.main] == ["map", "reduce"]
    assert new.nodes == ("exp", "mul")


@pytest.mark.parametrize("text", ["x", "rounded(x)", "exp(alone(x))", "x * w?", "exp(x * w?)"])
def test_patterns_that_any_tensor_fits_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="any tensor fits"):
        Pattern(text)


@pytest.mark.parametrize(("text", "why"), [("nothing(x)", "'nothing' is unknown"), ("x ** 2", "is not a pattern"),
                                           ("exp(2)", "is not a pattern"), ("x +", "be a pattern: "),
                                           ("", "be a pattern: "), ("rounded()", "be a pattern: ")])  # fmt: skip
def test_other_text_is_refused(text: str, why: str) -> None:
    with pytest.raises(InvalidValueError, match=f"(?s){why}"):
        Pattern(text)


def test_what_is_not_text_is_refused() -> None:
    with pytest.raises(InvalidTypeError, match="a pattern is text; got NoneType"):
        Pattern(None)  # type: ignore[arg-type]

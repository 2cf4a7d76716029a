"""What is said when something that a user registered fails: whose it is, where it failed, and what it did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import npu_compiler
import pytest
import torch
from npu_compiler import (
    PASSES,
    CompileError,
    ExtensionError,
    InternalCompileError,
    compile,
    explain_ir,
    explain_support,
    register_pass,
)
from npu_compiler.errors import Unsupported, VerifyError
from npu_compiler.graph import Graph, Op, Output, Value, View, whole
from npu_compiler.lowering import LOWERINGS, Builder, Tensor, lowering

from .helpers import ir_of
from .test_extensions import untouched  # noqa: F401  (a fixture)

HERE = "tests.npu_compiler.test_extension_errors"


def exps() -> dict[str, Any]:
    return ir_of(lambda x: x.exp() * 2, torch.ones(3), name="Exps")


def own_error(b: Builder, self: Tensor) -> None:
    raise KeyError("table")


LOWERED: dict[str, tuple[Callable[[Builder, Any], Any], str, type[Exception] | None]] = {
    "it raises": (own_error, r"failed \(KeyError: 'table'\)", KeyError),
    "an unknown name": (
        lambda b, x: b.map("x * q", x.dtype, x=x, alpha=2),
        r"failed \(the formula 'x \* q' contains the unknown name 'q'; expected one of alpha, x\)", ValueError),
    "a name that stands for nothing": (
        lambda b, x: b.map("x * y", x.dtype, x=x, y=None), "contains 'y', which is None; expected", ValueError),
    "a name that stands for a tensor of PyTorch": (
        lambda b, x: b.map("x * y", x.dtype, x=x, y=torch.ones(2)), r"contains 'y', which is tensor\(\[1", ValueError),
    "an unknown function": (
        lambda b, x: b.map("sigmid(x)", x.dtype, x=x),
        "contains the unknown function 'sigmid'; expected .* such as 'sigmoid'", ValueError),
    "too many arguments": (
        lambda b, x: b.map("exp(x, x)", x.dtype, x=x), "contains 'exp' with 2 arguments; expected 1", ValueError),
    "an unknown operator": (
        lambda b, x: b.map("x ** 2", x.dtype, x=x), r"contains 'x \*\* 2'; expected .* pow\(x, y\)", ValueError),
    "two comparisons": (
        lambda b, x: b.map("0 < x < 1", "bool", x=x), "contains '0 < x < 1'; expected .* one comparison", ValueError),
    "an attribute": (lambda b, x: b.map("x.T", x.dtype, x=x), r"contains 'x\.T'; expected names", ValueError),
    "no formula": (lambda b, x: b.map("x *", x.dtype, x=x), r"the formula 'x \*' is not an expression", ValueError),
    "an unknown op": (
        lambda b, x: b.new("softmx", [x], x.shape, x.dtype), "the op set has no op 'softmx'; .* try 'softmax'",
        ValueError),
    "a tensor of PyTorch": (lambda b, x: torch.ones(3), r"returned torch\.Tensor; expected a Tensor", None),
    "a number": (lambda b, x: 3, "returned int; expected a Tensor of the builder, or a tuple", None),
    "nothing": (lambda b, x: None, "returned None; expected a Tensor", None),
    "a list of others": (lambda b, x: [x, "y"], r"returned \[Tensor, str\]; expected", None),
    "operands that do not fit": (
        lambda b, x: b.new("softmax", [x], (4,), x.dtype, axis=0),
        r"an invalid softmax: .*\(float32\[3\]\) -> \(float32\[4\]\); expected 'x' and 'out' of one shape", ValueError),
    "a view beyond its value": (
        lambda b, x: b.new("copy", [View(x.value, (4,), (1,))], (4,), x.dtype),
        "an invalid copy: a view reaches elements 0 to 3 of 'args_0', which has 3", ValueError),
    "too many results": (lambda b, x: (x, x), "gives 2 results; expected 1, as the IR declares", None),
    "another shape": (lambda b, x: x.unsqueeze(0), r"gives float32\[1, 3\]; expected float32\[3\], as the IR", None),
    "another dtype": (lambda b, x: b.cast(x, "int64"), r"gives int64\[3\]; expected float32\[3\], as the IR", None),
}  # fmt: skip


def registered(function: Callable[[Builder, Any], Any]) -> None:
    def mine(b: Builder, self: Tensor) -> Any:
        return function(b, self)

    lowering("aten.exp.default", replace=True)(mine)


@pytest.mark.parametrize("case", LOWERED)
def test_a_lowering_that_fails(case: str) -> None:
    function, message, cause = LOWERED[case]
    registered(function)
    said = f"your lowering {HERE}.mine of aten.exp.default .*{message}"
    with pytest.raises(ExtensionError, match=rf"\[compiler\] node 'exp' \(.*\) of 'Exps' .*: {said}") as caught:
        compile(exps())
    assert "report" not in str(caught.value) and not isinstance(caught.value, InternalCompileError)
    if cause is None:
        assert caught.value.__cause__ is None
    else:
        assert isinstance(caught.value.__cause__, cause)
        assert caught.value.__cause__.__traceback__ is not None
    reasons = [reason for _, reason in explain_ir(exps())]
    assert reasons[0] is not None and re.match(said, reasons[0]) and reasons[1] is None
    assert reasons[0] == explain_support(exps()["nodes"][0])


def test_a_lowering_may_refuse() -> None:
    def refuses(b: Builder, x: Tensor) -> Tensor:
        raise Unsupported("three elements")

    registered(refuses)
    with pytest.raises(CompileError, match=r"1 of 2 nodes .*\n.*aten.exp.default, 1 times: three elements") as caught:
        compile(exps())
    assert type(caught.value) is CompileError


def test_a_lowering_of_ours_that_fails_is_to_be_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    def ours(b: Builder, self: Tensor) -> Tensor:
        raise KeyError("table")

    ours.__module__ = "npu_compiler.ops.map"
    lowering("aten.exp.default", replace=True)(ours)
    said = r"internal error at node 'exp' \(.*\) of 'Exps', .*its lowering failed \(KeyError: 'table'\).*please report"
    with pytest.raises(InternalCompileError, match=said) as caught:
        compile(exps())
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.__cause__.__traceback__ is not None


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "two parts": (
        lambda: lowering("my.double"), ValueError,
        r"'my.double' is not the full name of an operator; expected .*overload; try 'my.double.default'"),
    "no overload": (
        lambda: lowering("aten.exp"), ValueError, r"'aten.exp' is not the full name .*; try 'aten.exp.default'"),
    "an empty part": (lambda: lowering("aten..default"), ValueError, "is not the full name"),
    "misspelt": (
        lambda: lowering("aten.sigmod.default"), ValueError,
        r"PyTorch has no operator 'aten.sigmod.default'; .* try 'aten.sigmoid.default'"),
    "another overload": (
        lambda: lowering("aten.add.Tensors"), ValueError, r"no operator 'aten.add.Tensors'; .* try 'aten.add.Tensor'"),
    "nothing to replace": (
        lambda: lowering("test.new.default", replace=True), ValueError,
        "'test.new.default' has no lowering to replace; .* leave out replace=True"),
    "nothing to replace of that name": (
        lambda: lowering("aten.relu6_.default", replace=True), ValueError,
        "has no lowering to replace; .* try 'aten.relu6.default'"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_names_of_operators(case: str) -> None:
    decorate, error, message = WRONG[case]
    known = dict(LOWERINGS)
    with pytest.raises(error, match=message):
        decorate()(lambda b: None)
    assert known == LOWERINGS


@pytest.mark.parametrize("op_type", ["test.new.default", "aten.linalg_solve.default", "mylib.op.default"])
def test_operators_that_may_be_added(op_type: str) -> None:
    lowering(op_type)(lambda b: None)
    assert op_type in npu_compiler.get_supported_ops()


def test_a_lowering_is_a_function() -> None:
    with pytest.raises(TypeError, match=r"lowering\('test.new.default', ...\) decorates a function; got int"):
        lowering("test.new.default")(3)  # type: ignore[arg-type]


def remove_first(graph: Graph) -> None:
    graph.remove(next(iter(graph.main)))


def change_last(**fields: Any) -> Callable[[Graph], None]:
    return lambda graph: graph.change(list(graph.main)[-1], **fields) and None


def change_result(name: str, make: Callable[[View], View]) -> Callable[[Graph], None]:
    """Changes a view of the last op."""

    def change(graph: Graph) -> None:
        op = list(graph.main)[-1]
        graph.change(op, **{name: tuple(make(view) for view in getattr(op, name) if view is not None)})

    return change


def other_value(**fields: Any) -> Callable[[View], View]:
    def other(view: View) -> View:
        value = view.value
        return whole(Value(**{"name": "other", "dtype": value.dtype, "shape": value.shape, **fields}))

    return other


def write_in_parts(*parts: tuple[int, int]) -> Callable[[Graph], None]:
    """Copies write parts of the output, by first element and count."""

    def write(graph: Graph) -> None:
        op = list(graph.main)[-1]
        result = op.out
        graph.change(op, outputs=[whole(graph.temp("whole", result.dtype, result.shape))])
        source = whole(list(graph.main)[-1].out.value)
        for i, (start, count) in enumerate(parts):
            views = [view.slice(0, start, count) for view in (source, result)]
            graph.append(Op("copy", f"part{i}", (views[0],), (views[1],)))

    return write


def new_output(graph: Graph) -> None:
    output = graph.outputs[0]
    output.value = whole(graph.temp("half", "float16", output.value.shape)).value
    graph.append(Op("map", "half", (whole(list(graph.main)[-1].out.value),), (whole(output.value),), {"expr": CAST}))


CAST = [["in", 0], ["cast", 0, "float16"]]
BROKEN: dict[str, tuple[Callable[[Graph], Any], str]] = {
    "an op is gone": (remove_first, r"op 'mul' \(map\): 'exp' is read before it is written"),
    "the last op is gone": (lambda g: g.remove(list(g.main)[-1]), "nothing in main writes the output 'mul'"),
    "an output is gone": (lambda g: g.outputs.clear(), r"inputs or outputs changed: lost output 'mul' float32\[3\]"),
    "an input is gone": (lambda g: g.inputs.clear(), "'args_0' is read before it is written"),
    "an output is twice": (lambda g: g.outputs.append(Output("y", g.outputs[0].value)), "'y' has the value of another"),
    "an output of another dtype": (new_output, r"lost output 'mul' float32\[3\]; new output 'mul' float16\[3\]"),
    "an alias of nothing": (
        lambda g: setattr(g.outputs[0], "alias", Value("y", "float32", (3,))),
        "'mul' updates 'y', which is not an input"),
    "an unknown op": (change_last(kind="mapp"), r"op 'mul' \(mapp\): the op set has no such op"),
    "an attribute missing": (change_last(attrs={}), "the attribute 'expr' is missing"),
    "an attribute unknown": (change_last(attrs={"expr": [["in", 0]], "axis": 1}), "the attribute 'axis' is unknown"),
    "an attribute of another type": (change_last(attrs={"expr": "x"}), "expr='x'"),
    "attributes that are none": (change_last(attrs=None), "NoneType"),
    "a step that is none": (change_last(attrs={"expr": [["in", 0], 3]}), "step 1 of its expression is 3"),
    "an empty step": (change_last(attrs={"expr": [[]]}), r"step 0 of its expression is \[\]"),
    "a step unknown": (
        change_last(attrs={"expr": [["in", 0], ["exq", 0]]}), r"step 1 of its expression is \['exq', 0\]"),
    "a later step": (change_last(attrs={"expr": [["exp", 1], ["in", 0]]}), "step 0 of its expression"),
    "an operand too many": (change_last(attrs={"expr": [["in", 7]]}), "step 0 of its expression loads operand 7 of 1"),
    "no inputs": (change_last(inputs=()), "step 0 of its expression loads operand 0 of 0"),
    "an absent input": (change_last(inputs=(None,)), r"one of the inputs 'operands\*' is absent"),
    "no outputs": (change_last(outputs=()), r"0 outputs, expected out"),
    "an absent output": (change_last(outputs=(None,)), "a result that is not optional is absent"),
    "an operand that is no view": (change_last(inputs=("x",)), "str"),
    "two ops of a name": (change_last(name="exp"), "two ops of main are called 'exp'"),
    "another shape": (change_result("inputs", lambda v: v.unsqueeze(0)), r"an operand of shape \[1, 3\]; .* \[3\]"),
    "a view beyond its value": (
        change_result("inputs", lambda v: View(v.value, (3,), (2,))),
        "a view reaches elements 0 to 4 of 'exp', which has 3"),
    "a view before its value": (
        change_result("inputs", lambda v: View(v.value, (3,), (1,), -1)), "reaches elements -1 to 1 of 'exp'"),
    "strides missing": (change_result("inputs", lambda v: View(v.value, (3,), ())), "1 extents and 0 strides"),
    "a negative extent": (change_result("inputs", lambda v: View(v.value, (-3,), (1,))), r"with the shape \[-3\]"),
    "an extent of text": (change_result("inputs", lambda v: View(v.value, ("n",), (1,))), r"with the shape \['n'\]"),
    "a dtype unknown": (change_result("outputs", other_value(dtype="float99")), "'other' has the dtype float99"),
    "a dtype of another class": (change_result("outputs", other_value(dtype="int32")), "does not fit the dtype int32"),
    "too high a rank": (change_result("outputs", other_value(shape=(1,) * 9)), "'other' has rank 9, above 8"),
    "a value of a name in use": (change_result("outputs", other_value(name="exp")), "two values are called 'exp'"),
    "all elements in one": (
        change_result("outputs", lambda v: View(v.value, (3,), (0,))), "it writes elements of 'mul' more than once"),
    "an element never written": (write_in_parts((0, 1), (1, 1)), "1 elements of 'mul' are never written"),
    "an element written twice": (
        write_in_parts((0, 2), (1, 1)), "element 1 of 'mul' is written more than once, by 'part0', 'part1'"),
    "all written twice": (write_in_parts((0, 3), (0, 3)), "'mul' is written twice"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN)
def test_a_pass_that_breaks_a_graph(case: str) -> None:
    break_it, message = BROKEN[case]

    def mine(graph: Graph) -> None:
        break_it(graph)

    register_pass("mine", mine, before="fuse_maps")
    said = rf"your pass 'mine' \({HERE}.mine\) (left an invalid graph|failed): .*{message}"
    with pytest.raises((VerifyError, ExtensionError), match=said) as caught:  # the graph itself refuses some
        compile(exps())
    assert "report" not in str(caught.value)
    assert isinstance(caught.value, VerifyError) == (message not in ("str", "NoneType"))


def test_a_graph_that_is_written_in_parts_is_right() -> None:
    register_pass("mine", write_in_parts((0, 1), (1, 2)), before="fuse_maps")
    assert [op["op"] for op in compile(exps()).data["main"]] == ["map", "copy", "copy"]


def test_a_pass_that_raises() -> None:
    def mine(graph: Graph) -> None:
        raise KeyError("table")

    register_pass("mine", mine)
    with pytest.raises(ExtensionError, match=rf"your pass 'mine' \({HERE}.mine\) failed: KeyError: 'table'$") as caught:
        compile(exps())
    assert isinstance(caught.value.__cause__, KeyError) and caught.value.__cause__.__traceback__ is not None


@pytest.mark.parametrize("broken", [False, True])
def test_a_pass_of_ours_is_to_be_reported(broken: bool) -> None:
    def cse(graph: Graph) -> None:
        if not broken:
            raise KeyError("table")
        remove_first(graph)

    PASSES[[name for name, _ in PASSES].index("cse")] = ("cse", cse)
    said = r"the pass 'cse' (failed|left an invalid graph): .*try compile\(disable='cse'\), and please report this"
    with pytest.raises(InternalCompileError, match=said) as caught:
        compile(exps())
    assert isinstance(caught.value, VerifyError) is broken


def test_a_refusal_without_a_reason_is_one(untouched: None) -> None:  # noqa: F811
    def refuse(b: Builder, self: Tensor) -> Tensor:
        raise Unsupported()

    lowering("aten.exp.default", replace=True)(refuse)
    reason = "the lowering refused it without a reason"
    assert reason in explain_support(exps()["nodes"][0])
    with pytest.raises(CompileError, match=reason):
        compile(exps())

"""What is said when something that a user registered fails: whose it is, where it failed, and what it did."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import npu_compiler
import pytest
import torch
from npu_compiler import CompileError, ExtensionError, InternalCompileError, compile, explain_ir, explain_support
from npu_compiler.errors import Unsupported
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

"""What users add to the compiler: passes and lowerings, and what is said when they do it wrongly."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import npu_compiler
import pytest
import torch
from npu_compiler import PASSES, compile, is_extended, register_pass, unregister_pass
from npu_compiler.graph import Graph
from npu_compiler.lowering import LOWERINGS, Builder, Tensor, lowering

from .helpers import ir_of


@pytest.fixture(autouse=True)
def untouched() -> Iterator[None]:
    passes, inexact, lowerings = list(PASSES), set(npu_compiler.passes.INEXACT), dict(LOWERINGS)
    yield
    PASSES[:] = passes
    npu_compiler.passes.INEXACT.clear()
    npu_compiler.passes.INEXACT.update(inexact)
    LOWERINGS.clear()
    LOWERINGS.update(lowerings)
    assert not is_extended()


def sines(graph: Graph) -> None:
    """Every exponential becomes a sine."""
    for op in graph.main:
        if op.kind == "map" and op.attrs["expr"][-1][0] == "exp":
            graph.change(op, attrs={"expr": [*op.attrs["expr"][:-1], ["sin", *op.attrs["expr"][-1][1:]]]})


def names() -> list[str]:
    return [name for name, _ in PASSES]


def text(**options: Any) -> str:
    return compile(ir_of(lambda x: x.exp() * 2, torch.ones(3)), **options).text()


def test_a_registered_pass_runs() -> None:
    register_pass("sines", sines, before="fuse_maps")
    assert names().index("sines") == names().index("fuse_maps") - 1
    assert "sin(e0) * 2.0" in text()
    assert "exp(e0) * 2.0" in text(disable="sines")
    assert is_extended()
    unregister_pass("sines")
    assert "exp(e0) * 2.0" in text() and "sines" not in names()


def test_without_a_place_it_runs_after_all_others_but_alias() -> None:
    register_pass("sines", sines)
    assert names()[-2:] == ["sines", "alias"]
    assert "exp" in text()  # it is inside of a map by then


def test_an_exact_program_has_it_only_where_it_is_exact() -> None:
    register_pass("sines", sines, before="fuse_maps")
    assert "exp" in text(exact=True)
    register_pass("sines", sines, before="fuse_maps", exact=True, replace=True)
    assert names().count("sines") == 1
    assert "sin" in text(exact=True)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("sines", sines), ValueError, r"there is a pass 'sines' already; .*try another name, or replace=True"),
        (
            ("cse", sines),
            ValueError,
            r"there is a pass 'cse' already; .*try another name, and compile\(disable='cse'\)",
        ),
        (("other", 3), TypeError, r"the pass 'other' must be callable; got int"),
        (("", sines), TypeError, r"a pass needs a name; got ''"),
        (("other", sines, {}), TypeError, r"before must be the name of a pass; got dict; expected text, or None"),
        (("other", sines, ""), ValueError, r"there is no pass '' to run 'other' before"),
        (
            ("other", sines, "nothing"),
            ValueError,
            r"there is no pass 'nothing' to run 'other' before; expected one of .*'cse'",
        ),
    ],
)
def test_wrong_registrations(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    register_pass("sines", sines)
    known = list(PASSES)
    name, function, *before = arguments
    with pytest.raises(error, match=message):
        register_pass(name, function, **({"before": before[0]} if before else {}))
    assert known == PASSES


def test_only_what_was_registered_is_taken_away() -> None:
    with pytest.raises(ValueError, match=r"no pass 'cse' was registered; expected a registered pass, and there is"):
        unregister_pass("cse")
    register_pass("sines", sines)
    with pytest.raises(ValueError, match=r"no pass 'cse' was registered; expected one of \['sines'\]"):
        unregister_pass("cse")
    with pytest.raises(TypeError, match=r"unregister_pass\(name\) takes one name; got list"):
        unregister_pass(["sines"])  # type: ignore[arg-type]


def twice(b: Builder, self: Tensor) -> Tensor:
    return b.map("x + x", self.dtype, x=self)


def own_exp(b: Builder, self: Tensor) -> Tensor:
    return b.map("exp(x)", self.dtype, x=self)


def test_a_module_that_runs_again_registers_its_lowerings_again() -> None:
    lowering("aten.exp.default", replace=True)(twice)
    source = """
@lowering("aten.exp.default")
def twice(b: Builder, self: Tensor) -> Tensor:
    return b.map("x + 3", self.dtype, x=self)
"""
    exec(source, {"__name__": __name__, "lowering": lowering, "Builder": Builder, "Tensor": Tensor})
    assert "(e0 + 3.0) * 2.0" in text()
    with pytest.raises(ValueError, match="already has a lowering"):
        lowering("aten.exp.default")(own_exp)
    with pytest.raises(ValueError, match="already has a lowering"):
        exec(source, {"__name__": "elsewhere", "lowering": lowering, "Builder": Builder, "Tensor": Tensor})


@pytest.mark.parametrize("number", ["40", "200"])
def test_an_interrupted_import_can_be_repeated(number: str) -> None:
    """Ctrl-C in the first compilation, while the lowerings of a family are being registered."""
    code = """
import sys
calls = 0
def interrupt(frame, event, arg):
    global calls
    code = frame.f_code
    if event == "call" and code.co_name == "add" and code.co_filename.endswith("registry.py"):
        calls += 1
        if calls == int(sys.argv[1]):
            sys.setprofile(None)
            raise KeyboardInterrupt
sys.setprofile(interrupt)
try:
    import npu_compiler
except KeyboardInterrupt:
    import npu_compiler
    print(calls, len(npu_compiler.get_supported_ops()) > 100)
"""
    done = subprocess.run([sys.executable, "-c", code, number], capture_output=True, text=True, check=False)
    assert done.stdout.split() == [number, "True"], done.stderr


def test_a_lowering_replaces_another_when_it_says_so() -> None:
    with pytest.raises(ValueError, match=r"'aten.exp.default' already has a lowering.*try lowering\(.*replace=True\)"):
        lowering("aten.exp.default")(twice)
    assert "exp" in text() and not is_extended()
    lowering("aten.exp.default", replace=True)(twice)
    assert "(e0 + e0) * 2.0" in text()
    assert is_extended()


def test_of_several_operators_none_is_registered_where_one_is_known() -> None:
    with pytest.raises(ValueError, match="aten.exp.default"):
        lowering("test.new.default", "aten.exp.default")(twice)
    assert "test.new.default" not in LOWERINGS


def plain(b, x, y):  # type: ignore[no-untyped-def]
    return x


def unquoted(annotation: Any) -> Any:
    def function(b: Builder, x: Any) -> Any:
        return x

    function.__annotations__["x"] = annotation
    return function


@pytest.mark.parametrize(
    ("function", "got"),
    [
        (plain, "nothing"),
        (unquoted(Tensor), "View.* without quotes"),
        (unquoted(torch.Tensor), "torch.Tensor.* without quotes"),
        (unquoted(Tensor | None), "View.* without quotes"),
        (unquoted(list[Tensor]), "View.* without quotes"),
        (unquoted("Optional[Tensor]"), r"Optional\[Tensor\]"),
        (unquoted("torch.Tensor"), r"torch\.Tensor"),
        (unquoted("tensor"), "tensor"),
        (unquoted("list[tensor]"), r"list\[tensor\]"),
    ],
)
def test_a_tensor_is_never_taken_for_an_attribute(function: Any, got: str) -> None:
    with pytest.raises(
        TypeError, match=rf"its parameter 'x' is; got .*{got}; expected .*\"Tensor \| None\".*try quotes"
    ):
        lowering("test.new.default")(function)
    assert "test.new.default" not in LOWERINGS


def test_types_of_attributes_need_no_quotes() -> None:
    def shifted(b: Builder, x: Tensor, by: float = 0.0) -> Tensor:
        return x

    shifted.__annotations__ = {"b": Builder, "x": "Tensor", "by": float, "return": "Tensor"}
    lowering("test.new.default")(shifted)
    assert [(p.name, p.kind) for p in LOWERINGS["test.new.default"].parameters] == [("x", "tensor"), ("by", "attr")]


def test_a_lowering_needs_an_operator() -> None:
    with pytest.raises(TypeError, match="needs names of operators; got function; expected names such as"):
        lowering(twice)  # type: ignore[arg-type]  # @lowering without brackets
    with pytest.raises(TypeError, match="got nothing"):
        lowering()

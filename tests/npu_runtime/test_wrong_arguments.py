"""Calls whose arguments fit no signature of the compiled core: errors of the family, which name what was wrong."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
import torch_ir
from npu_runtime import (
    Device,
    Executor,
    InvalidTypeError,
    NPUBuffer,
    NPUError,
    Profiler,
    Program,
    Session,
    Weights,
    _core,
    load_weights,
    profile,
)


@pytest.fixture(scope="module")
def given() -> SimpleNamespace:
    model = torch.nn.Linear(4, 2).eval()
    program = npu_compiler.compile(torch_ir.extract_ir(model, torch.ones(3, 4), input_names=["x"]))
    device = Device("cpu")
    executor = Executor(program, device)
    weights = load_weights(model, program)
    return SimpleNamespace(program=program, device=device, executor=executor, weights=weights,
                           session=executor.session(), array=np.ones((3, 4), np.float32))  # fmt: skip


Call = Callable[[SimpleNamespace], Any]
WRONG: dict[str, tuple[Call, str]] = {
    "text for a number": (
        lambda g: Executor(g.program, g.device, threads="2"),  # type: ignore[arg-type]
        r"\[executor\] Executor: 'threads' has the wrong type; got '2'; expected an integer",
    ),
    "fraction for a number": (
        lambda g: Executor(g.program, g.device, threads=2.5),  # type: ignore[arg-type]
        r"'threads' has the wrong type; got 2\.5; expected an integer",
    ),
    "too large": (
        lambda g: Executor(g.program, g.device, threads=10**30),
        r"'threads' is out of range; got 10+; expected Executor\(program, device, \*, threads=0\)",
    ),
    "negative": (lambda g: Weights.random(g.program, -1), r"'seed' is out of range; got -1"),
    "no device": (
        lambda g: Executor(g.program),  # type: ignore[call-arg]
        r"missing a required argument: 'device'; expected Executor\(program, device, .*; try Device\(\)",
    ),
    "surplus": (
        lambda g: Executor(g.program, g.device, 2),  # type: ignore[call-arg]
        r"too many positional arguments; expected Executor\(",
    ),
    "unknown name": (
        lambda g: Executor(g.program, g.device, thread=2),  # type: ignore[call-arg]
        r"unexpected keyword argument 'thread'; expected Executor\(",
    ),
    "no inputs": (
        lambda g: g.executor.run(),
        r"\[executor\] Executor\.run: missing .*'inputs'; expected Executor\.run\(inputs, weights=None, donate=None\)",
    ),
    "name of a device": (
        lambda g: NPUBuffer.from_numpy(g.array, "cpu"),  # type: ignore[arg-type]
        r"\[buffer\] NPUBuffer\.from_numpy: 'device' has the wrong type; got 'cpu'; .*; try Device\('cpu'\)",
    ),
    "shape": (
        lambda g: NPUBuffer.zeros(3, g.device),  # type: ignore[arg-type]
        r"'shape' has the wrong type; got 3; expected a list of integers",
    ),
    "extent": (lambda g: NPUBuffer.zeros([2, 10**20], g.device), r"'shape' is out of range; got 10+;"),
    "dtype": (
        lambda g: NPUBuffer.zeros([2], g.device, None),  # type: ignore[arg-type]
        r"'dtype' has the wrong type; got None; expected a dtype",
    ),
    "dtype of NumPy": (
        lambda g: NPUBuffer.zeros([2], g.device).to_numpy("float7"),
        r"\[buffer\] not a dtype; got 'float7'",
    ),
    "yes": (
        lambda g: g.session.run({"x": g.array}, g.weights, profile="yes"),
        r"\[session\] Session\.run: 'profile' has the wrong type; got 'yes'; expected True or False",
    ),
    "other session": (lambda g: g.session.share_state(g.executor), r"got Executor; expected a Session"),
    "name of a weight": (lambda g: g.weights[3], r"\[weights\] .*'name' has the wrong type; got 3; expected a string"),
    "bytes": (lambda g: Program.parse("x"), r"\[program\] Program\.parse: .*; expected bytes"),  # type: ignore[arg-type]
    "buffer": (
        lambda g: NPUBuffer(g.array),  # type: ignore[call-arg]
        r"NPUBuffer cannot be created by calling it; try NPUBuffer\.from_numpy\(array, device\)",
    ),
    "program": (lambda g: Program(), r"try Program\.load\(path\)"),
    "session": (lambda g: Session(), r"try executor\.session\(\)"),
    "random weights": (lambda g: Weights.random(None), r"not a program; got NoneType"),  # type: ignore[arg-type]
    "path of weights": (lambda g: Weights.load(3), r"not a path; got int; expected a string"),  # type: ignore[arg-type]
    "progress": (lambda g: g.executor.prepare(g.weights, progress=3), r"progress is not callable; got 3"),
    "profiler": (lambda g: Profiler(g.program), r"executor has the wrong type; got CompiledProgram; .*; try Executor"),
    "profile": (lambda g: profile(g.program, g.array), r"executor has the wrong type; got CompiledProgram"),
    "iterations": (
        lambda g: profile(g.executor, {"x": g.array}, g.weights, iterations="3"),  # type: ignore[arg-type]
        r"warmup and iterations must be integers; got 3 and '3'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_arguments(kind: str, given: SimpleNamespace) -> None:
    call, words = WRONG[kind]
    with pytest.raises(InvalidTypeError, match=words) as caught:
        call(given)
    assert isinstance(caught.value, TypeError) and isinstance(caught.value, NPUError)
    assert "nanobind" not in str(caught.value) and "_core" not in str(caught.value)


def test_wrong_values(given: SimpleNamespace) -> None:
    wrong: list[tuple[Call, str]] = [
        (lambda g: g.executor.run({"x": g.array}, 3), "weights must come from load_weights; got int"),
        (lambda g: g.executor.run({"x": g.array}, g.weights, donate=3), "donate must be a set of input names; got 3"),
        (lambda g: Device(3), "kind of a device must be a string or a torch.device; got 3; expected 'cpu'"),  # type: ignore[arg-type]
        (lambda g: g.executor.run(g.array, g.weights, donate=["x"]), "passed by name; got ndarray"),
        (lambda g: g.executor.run([g.array], g.weights), "must be a dict of names to tensors; got list"),
    ]
    for call, words in wrong:
        with pytest.raises(NPUError, match=words):
            call(given)


def test_a_single_input_needs_no_name(given: SimpleNamespace) -> None:
    want = given.executor.run({"x": given.array}, given.weights)
    for one in (given.array, torch.from_numpy(given.array), NPUBuffer.from_numpy(given.array, given.device)):
        got = given.executor.run(one, given.weights)
        assert all(np.array_equal(got[name], want[name]) for name in want)


def test_what_fits_is_as_before(given: SimpleNamespace) -> None:
    assert 3 not in given.weights and "weight" in given.weights
    assert given.weights.get("none", 5) == 5
    assert len(Weights.random(given.program, 2**40)) == 2  # the compiler's program, and a seed of 64 bits
    with pytest.raises(TypeError, match="len") as caught:  # from inside of a call: not about its arguments
        len(NPUBuffer.zeros([], given.device))
    assert not isinstance(caught.value, NPUError)


def test_every_function_of_the_core_is_covered() -> None:
    """A call with an argument that nothing has."""
    owners = [_core, *(value for value in vars(_core).values() if inspect.isclass(value))]
    functions = [f for owner in owners for f in vars(owner).values() if hasattr(f, "__nb_signature__")]
    assert len(functions) > 60
    for function in functions:
        if "**kwargs" not in function.__nb_signature__[0][0]:
            with pytest.raises(InvalidTypeError, match="expected") as caught:
                function(no_such_argument=1)
            assert "incompatible" not in str(caught.value)

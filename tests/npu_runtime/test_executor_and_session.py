"""Executor and Session: inputs of every kind, mistakes named, results that stay."""

import subprocess
import sys
import threading

import ml_dtypes
import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import (
    Device,
    Executor,
    InvalidValueError,
    MissingWeightError,
    NPUBuffer,
    Program,
    Session,
    Weights,
    load_weights,
)
from torch import nn
from torch_ir import extract_ir

from tests.support.devices import chosen_device
from tests.support.programs import Add, mlp, ready

A = np.arange(12, dtype=np.float32).reshape(3, 4)
B = np.full((3, 4), 0.5, np.float32)


@pytest.fixture(scope="module")
def add():
    return ready(Add(), torch.ones(3, 4), torch.ones(3, 4))


FORMS = {
    "buffer": lambda x: NPUBuffer.from_numpy(x, chosen_device()),
    "NumPy": lambda x: x,
    "torch": lambda x: torch.from_numpy(x.copy()),
    "torch with gradients": lambda x: torch.from_numpy(x.copy()).requires_grad_(),
    "memoryview": memoryview,
    "columns first": np.asfortranarray,
    "backwards": lambda x: np.ascontiguousarray(x[::-1])[::-1],
    "offset": lambda x: np.pad(x, 2)[2:-2, 2:-2],
    "every second": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "torch, transposed": lambda x: torch.from_numpy(x.T.copy()).t(),
    "torch, offset": lambda x: torch.from_numpy(np.pad(x, 2))[2:-2, 2:-2],
    "read only": lambda x: np.frombuffer(x.tobytes(), np.float32).reshape(x.shape),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_any_form_of_input(add, form):
    np.testing.assert_array_equal(add.array(form(A), form(B)), A + B)
    np.testing.assert_array_equal(add.array(form(A), B), A + B)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8"])
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (7,), (1, 3, 1, 5)], ids=str)
def test_dtypes_and_shapes(dtype, shape):
    example = torch.ones(shape, dtype=getattr(torch, dtype))
    made = ready(Add(), example, example)
    numpy_dtype = ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype
    array = np.random.default_rng(0).integers(0, 50, shape).astype(numpy_dtype)
    got = made.array(array, array)
    assert got.dtype == np.dtype(numpy_dtype)
    np.testing.assert_array_equal(got, array + array)


MISTAKES = {
    "nothing": ({}, ["'a'", "nothing"]),
    "one missing": ({"a": A}, ["b", "nothing"]),
    "one too many": ({"a": A, "b": B, "c": A}, ["'c'"]),
    "another name": ({"a": A, "x": B}, ["b"]),
    "shape": ({"a": A, "b": B[:2]}, ["b", "float32[2, 4]", "float32[3, 4]"]),
    "rank": ({"a": A, "b": B[0]}, ["b", "float32[4]", "float32[3, 4]"]),
    "dtype": ({"a": A.astype(np.float64), "b": B}, ["a", "float64"]),
    "integers": ({"a": A.astype(np.int64), "b": B}, ["a", "int64[3, 4]", "float32[3, 4]"]),
    "None": ({"a": None, "b": B}, ["a", "None"]),
    "a list": ({"a": A.tolist(), "b": B}, ["a", "list"]),
    "meta": ({"a": torch.empty(3, 4, device="meta"), "b": B}, ["a", "meta"]),
    "sparse": ({"a": torch.ones(3, 4).to_sparse(), "b": B}, ["a"]),
    "complex": ({"a": A.astype(np.complex64), "b": B}, ["a", "complex"]),
    "no UTF-8": ({"a": A, "b": B, "\ud800": A}, ["ud800"]),
    "no text": ({3: A, "b": B}, ["3"]),
    "no dict": ([A, B], ["dict"]),
    "one array": (A, ["dict"]),
    "none at all": (None, ["dict"]),
}


@pytest.mark.parametrize(("inputs", "words"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_named(add, inputs, words):
    names = dict(zip(("a", "b"), add.inputs, strict=True))
    given = {names.get(k, k): v for k, v in inputs.items()} if isinstance(inputs, dict) else inputs
    with pytest.raises(InvalidValueError) as caught:
        add.executor.run(given)
    assert str(caught.value).startswith("[")
    for word in words:
        assert names.get(word.strip("'"), word.strip("'")) in str(caught.value), caught.value
    np.testing.assert_array_equal(add.array(A, B), A + B)


def test_results_stay_when_others_are_made(add):
    kept = [add.run(A + i, B) for i in range(20)]
    for i, outputs in enumerate(kept):
        np.testing.assert_array_equal(outputs[add.outputs[0]].to_numpy(), A + i + B)
    array = add.array(A, B)
    for i in range(20):
        add.run(A + i, B)
    np.testing.assert_array_equal(array, A + B)


def test_results_go_back_in(add):
    value = NPUBuffer.from_numpy(A, chosen_device())
    for _ in range(10):
        value = add.run(value, B)[add.outputs[0]]
    np.testing.assert_array_equal(value.to_numpy(), A + 5)
    np.testing.assert_array_equal(add.array(value, value), 2 * (A + 5))


def test_outputs_that_are_inputs_or_constants():
    class Through(nn.Module):
        def forward(self, x, y):
            return x, y + 1, torch.ones(2), x

    made = ready(Through(), torch.ones(3), torch.ones(2))
    x = np.array([1, 2, 3], np.float32)
    outputs = [value.to_numpy() for value in made.run(x, np.zeros(2, np.float32)).values()]
    for got, wanted in zip(outputs, ([1, 2, 3], [1, 1], [1, 1]), strict=False):
        np.testing.assert_array_equal(got, wanted)
    x[0] = 99  # the result is not the caller's array
    np.testing.assert_array_equal(outputs[0], [1, 2, 3])


def test_outputs_answer_to_further_names():
    class Named(nn.Module):
        def forward(self, x):
            return {"left": x * 2, "right": x + 1}

    module, x = Named(), torch.arange(3.0)
    program = npu_compiler.compile(extract_ir(module, x, output_names=["left", "right"]))
    outputs = Executor(program, Device()).run({program.input_specs[0].name: x})
    np.testing.assert_array_equal(outputs["left"].to_numpy(), [0, 2, 4])
    np.testing.assert_array_equal(outputs["right"].to_numpy(), [1, 2, 3])
    assert len(outputs) == 2
    with pytest.raises(KeyError, match="there is no output 'middle'"):
        outputs["middle"]


def test_64_threads_share_an_executor():
    model = mlp().eval()
    made = ready(model, torch.ones(5, 12))
    inputs = [torch.randn(5, 12, generator=torch.Generator().manual_seed(i)) for i in range(64)]
    wanted = [model(x).detach().numpy() for x in inputs]
    wrong = []

    def work(i):
        fine = [np.allclose(made.array(inputs[i]), wanted[i], rtol=1e-4, atol=1e-5) for _ in range(20)]
        if not all(fine):
            wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total += x
        return self.total * 2


@pytest.mark.parametrize("runner", ["executor", "session"])
def test_state_begins_as_the_weights_have_it(runner):
    made = ready(Counter(), torch.ones(3))
    x = {made.inputs[0]: np.ones(3, np.float32)}
    for start in (0, 5):
        weights = load_weights({"total": np.full(3, start, np.float32)}, made.program)
        target = made.executor if runner == "executor" else made.executor.session()
        for i in range(1, 4):
            np.testing.assert_array_equal(target.run(x, weights)["mul"].to_numpy(), np.full(3, 2 * (start + i)))
        assert weights["total"].to_numpy().tolist() == [start] * 3
    with pytest.raises(InvalidValueError, match=r"total.*float32\[2\]"):
        made.executor.run(x, load_weights({"total": np.zeros(2, np.float32)}, made.program))


def test_sessions_keep_state_apart():
    made = ready(Counter(), torch.ones(3))
    x = {made.inputs[0]: np.ones(3, np.float32)}
    state = next(s.name for s in made.executor.program.inputs if s.state)
    first, second = made.executor.session(), made.executor.session()
    assert isinstance(first, Session)
    for i in range(1, 4):
        got = first.run({made.inputs[0]: x[made.inputs[0]]}, made.weights)[made.outputs[0]].to_numpy()
        np.testing.assert_array_equal(got, np.full(3, 2 * i))
    assert second.state(state) is None
    second.set_state(state, np.full(3, 10, np.float32))
    np.testing.assert_array_equal(second.run(x, made.weights)[made.outputs[0]].to_numpy(), np.full(3, 22))
    first.reset()
    np.testing.assert_array_equal(first.run(x, made.weights)[made.outputs[0]].to_numpy(), np.full(3, 2))
    with pytest.raises(InvalidValueError, match=r"float32\[2\]"):
        second.set_state(state, np.zeros(2, np.float32))
    for wrong in ("nothing", made.inputs[0]):
        with pytest.raises(InvalidValueError, match=f"got .{wrong}.; expected .{state}"):
            second.state(wrong)


def test_preparing_weights_tells_how_far_it_is():
    made = ready(mlp(), torch.ones(2, 12))
    told = []
    made.executor.prepare(made.weights, lambda done, total: told.append((done, total)))
    assert told[-1][0] == told[-1][1] > 0
    assert told == sorted(told)
    executor = Executor(made.program, Device())
    with pytest.raises(ZeroDivisionError):
        executor.prepare(Weights.random(executor.program), lambda done, total: 1 / 0)
    executor.prepare(made.weights)
    assert executor.run({made.inputs[0]: torch.ones(2, 12)}, made.weights)
    with pytest.raises(MissingWeightError, match="not found in state dict"):
        executor.prepare()


def test_donation_mistakes(add):
    a, b = (NPUBuffer.from_numpy(x, chosen_device()) for x in (A, B))
    names = dict(zip(add.inputs, (a, b), strict=True))
    with pytest.raises(InvalidValueError, match="nothing"):
        add.executor.run(names, donate={"nothing"})
    with pytest.raises(InvalidValueError, match="set of input names"):
        add.executor.run(names, donate=add.inputs[0])
    with pytest.raises(InvalidValueError, match="NPUBuffer"):
        add.executor.run({add.inputs[0]: A, add.inputs[1]: b}, donate={add.inputs[0]})
    with pytest.raises(InvalidValueError, match="is donated, but its memory is also that of"):
        add.executor.run(dict.fromkeys(add.inputs, a), donate=add.inputs)
    assert not a.donated
    np.testing.assert_array_equal(a.to_numpy(), A)


def test_what_an_executor_says(add):
    kind = chosen_device().kind
    assert repr(add.executor).startswith(f"Executor('Add', device='{kind}', threads=2")
    assert add.executor.threads == 2
    assert add.executor.device.kind == kind
    assert add.executor.summary.kernels == 1
    assert "map" in add.executor.plan()
    assert "Add" in repr(add.executor.program)


def test_programs_from_files_and_their_mistakes(add, tmp_path):
    path = tmp_path / "add.npubin"
    add.program.save(path)
    for source in (path, str(path), add.program, Program.load(path)):
        outputs = Executor(source, Device()).run(dict(zip(add.inputs, (A, B), strict=True)))
        np.testing.assert_array_equal(outputs[add.outputs[0]].to_numpy(), A + B)
    data = bytearray(path.read_bytes())
    newer = bytes(data[:8]) + (99).to_bytes(4, "little") + bytes(data[12:])
    for name, content, word in (
        ("newer", newer, "version"),
        ("cut", data[:-3], "cut.npubin"),
        ("empty", b"", "empty.npubin"),
        ("other", b"PK" + bytes(data[2:]), "other.npubin"),
    ):
        broken = tmp_path / f"{name}.npubin"
        broken.write_bytes(content)
        with pytest.raises(InvalidValueError, match=word):
            Executor(broken, Device())
    with pytest.raises(InvalidValueError, match="gone"):
        Executor(tmp_path / "gone.npubin", Device())
    for wrong in (None, 3, {"format": "npubin"}):
        with pytest.raises((InvalidValueError, TypeError), match="program"):
            Executor(wrong, Device())


def test_running_needs_no_torch(add, tmp_path):
    path = tmp_path / "add.npubin"
    add.program.save(path)
    code = f"""
import sys
sys.modules["torch"] = None
import numpy as np
from npu_runtime import Device, Executor, NPUBuffer, Profiler, load_weights
executor = Executor({str(path)!r}, Device())
x = np.ones((3, 4), np.float32)
outputs = executor.run(dict.fromkeys({add.inputs!r}, x), load_weights({{}}))
print(float(outputs[{add.outputs[0]!r}].to_numpy().sum()))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.split() == ["24.0"], result.stderr

"""Commands of ``npu`` on models in Python: MODULE:ATTRIBUTE with --input."""

from __future__ import annotations

import json
from pathlib import Path

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from safetensors.torch import save_file

from tests.support.commands import Run, npu_in

MODELS = """
import torch
from torch import nn

print("building models")

class Net(nn.Module):
    def __init__(self, classes=4):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, classes)

    def forward(self, image, scale=None):
        scores = self.head(torch.relu(self.conv(image)).mean((2, 3)))
        return {"scores": scores if scale is None else scores * scale, "best": scores.argmax(1)}

class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(10, 4)

    def forward(self, ids, weight):
        return self.table(ids).sum(1) * weight

class Solve(nn.Module):
    def forward(self, a, b):
        return {"solution": torch.linalg.solve(a, b), "twice": b * 2}

class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(self.first(x))

class Count(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("calls", torch.full((1,), 4.0))

    def forward(self, x):
        self.calls += 1
        return {"product": x * self.calls, "nested": [x, {"x": x + 1}]}

class Branches(nn.Module):
    def forward(self, x):
        return x if x.sum() > 0 else -x

class Refuses(nn.Module):
    def forward(self, x):
        raise ValueError("two\\nlines")

def seven():
    return Net(7)

def half():
    return Net().half()

def empty():
    with torch.device("meta"):
        return Net()

def breaks():
    return {}["nothing"]

def needs(size):
    return Net(size)

class Models:
    net = Net()

number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    (folder / "command_models.py").write_text(MODELS)
    (folder / "raises_at_import.py").write_text("a = 1\nb = a / 0\n")
    (folder / "no_syntax.py").write_text("def f(:\n")
    (folder / "exits.py").write_text("import sys\nsys.exit('no arguments')\n")
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A command in the folder; its standard output, or the one line of its error."""
    printed_by = npu_in(folder, monkeypatch, capsys)

    def call(*arguments: object, code: int = 0) -> str:
        text = printed_by(*arguments, code=code)
        if code == 0:
            return text
        lines = [line for line in text.splitlines() if not line.startswith(("Warning: ", "building models"))]
        assert len(lines) == 1 and lines[0].startswith("Error: "), text
        return lines[0]

    return call


def results(folder: Path) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path) for path in folder.iterdir()}


def test_compile_and_run(folder: Path, run: Run, tmp_path: Path) -> None:
    """The names and the order of results are the model's, whatever the source is, and so are the values."""
    text = run("compile", "command_models:Models.net", "--input", "2,3,8,8", "--device", "cpu")
    assert text.startswith("net.npu: CompiledModule(") and (folder / "net.npu").is_file()
    image = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype("float32")
    np.save(tmp_path / "image.npy", image)
    import command_models  # type: ignore[import-not-found]

    wanted = command_models.Models.net(torch.from_numpy(image))
    for name, *options in (
        ("net.npu", "--input", tmp_path / "image.npy"),
        ("net.npu", "--input", f"image={tmp_path / 'image.npy'}"),
        ("command_models:Models.net", "--input", tmp_path / "image.npy"),
    ):
        text = run("run", name, *options, "--device", "cpu", "-o", tmp_path / "out")
        assert [line.partition(":")[0] for line in text.splitlines()] == ["scores", "best"]
        arrays = results(tmp_path / "out")
        np.testing.assert_allclose(arrays["scores"], wanted["scores"].detach(), rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(arrays["best"], wanted["best"])


def test_programs_and_irs_have_the_names_too(run: Run, tmp_path: Path) -> None:
    source, inputs = "command_models:seven", ["--input", "image=1,3,8,8"]
    for file in ("seven.json", "seven.npubin"):
        assert str(tmp_path / file) in run("compile", source, *inputs, "-o", tmp_path / file)
        lines = run("run", tmp_path / file, "--input", "1,3,8,8", "--device", "cpu").splitlines()
        assert [line.split()[:2] for line in lines] == [["scores:", "float32[1,"], ["best:", "int64[1]"]]
    assert run("run", tmp_path / "seven.json", "--device", "cpu") == run(
        "run", tmp_path / "seven.npubin", "--device", "cpu"
    )
    assert "Net: " in run("explain", tmp_path / "seven.json")


def test_several_inputs_and_dtypes(run: Run, tmp_path: Path) -> None:
    out = ["-o", tmp_path / "bag.npu", "--device", "cpu"]
    run("compile", "command_models:Bag", "--input", "2,5:int64", "--input", "weight=4", *out)
    inputs = npu.load(tmp_path / "bag.npu", "cpu").signature.inputs
    assert [(entry.name, entry.shape, entry.dtype) for entry in inputs] == [
        ("ids", (2, 5), "int64"), ("weight", (4,), "float32"),
    ]  # fmt: skip
    run("compile", "command_models:Net", "--input", "1,3,8,8", "--input", "scale=scalar", *out)
    assert npu.load(tmp_path / "bag.npu", "cpu").signature.inputs[1].shape == ()
    run("compile", "command_models:half", "--input", "1,3,8,8", *out)  # the dtype of its weights
    assert npu.load(tmp_path / "bag.npu", "cpu").signature.inputs[0].dtype == "float16"
    run("compile", "command_models:Net", "--input", "1,3,8,8", "--compute-dtype", "bfloat16", *out)
    assert "bfloat16" in run("plan", tmp_path / "bag.npu", "--text")


def test_state_begins_with_its_own_values(run: Run, tmp_path: Path) -> None:
    """A buffer that the model writes is no input to fill at random, and no result."""
    np.save(tmp_path / "x.npy", np.ones(3, "float32"))
    source, x = "command_models:Count", ["--input", tmp_path / "x.npy", "--device", "cpu"]
    run("compile", source, "--input", "3", "-o", tmp_path / "count.npu")
    for name in (source, tmp_path / "count.npu"):
        text = run("run", name, *x, "-o", tmp_path / "out")
        assert [line.partition(":")[0] for line in text.splitlines()] == ["product", "nested.0", "nested.1.x"]
        arrays = results(tmp_path / "out")
        assert arrays.keys() == {"product", "nested.0", "nested.1.x"} and arrays["product"].tolist() == [5, 5, 5]
    run("run", tmp_path / "count.npu", *x, "-o", tmp_path / "out", "--input", "calls=1:float32", "--seed", "3")
    assert results(tmp_path / "out")["product"].tolist() != [5, 5, 5]
    run("compile", source, "--input", "3", "-o", tmp_path / "count.npubin")
    assert "calls" not in run("run", tmp_path / "count.npubin", *x)
    assert json.loads(run("bench", tmp_path / "count.npu", "--runs", "2", "--json", "--device", "cpu"))["runs"] == 2


def test_weights(run: Run, tmp_path: Path) -> None:
    import command_models

    net = command_models.Net()
    save_file(net.state_dict(), tmp_path / "net.safetensors")
    torch.save(net.state_dict(), tmp_path / "net.pt")
    image = torch.ones(1, 3, 8, 8)
    out = ["--input", "1,3,8,8", "-o", tmp_path / "net.npu", "--device", "cpu"]
    for source in ("command_models:Net", "command_models:empty"):
        for file in ("net.safetensors", "net.pt"):
            run("compile", source, "--weights", tmp_path / file, *out)
            result = npu.load(tmp_path / "net.npu", "cpu")(image)
            torch.testing.assert_close(result["scores"], net(image)["scores"], rtol=1e-4, atol=1e-5)
    error = run("compile", "command_models:empty", *out, code=1)
    assert "'command_models:empty' has no weights; got 4 tensors on the meta device, 'conv.weight' first" in error
    run("compile", "command_models:empty", "--random-weights", "--seed", 3, *out)
    first = npu.load(tmp_path / "net.npu", "cpu")(image)["scores"]
    run("compile", "command_models:empty", "--random-weights", "--seed", 3, *out)
    assert torch.equal(npu.load(tmp_path / "net.npu", "cpu")(image)["scores"], first) and first.isfinite().all()
    error = run("compile", "command_models:Net", "--weights", tmp_path / "gone.safetensors", *out, code=1)
    assert "gone.safetensors" in error
    error = run("compile", "command_models:Bag", "--weights", tmp_path / "net.pt", "--input", "1,2:int64",
                "--input", "4", code=1)  # fmt: skip
    assert "does not contain all weights of the model; missing: table.weight" in error
    error = run("compile", "command_models:seven", "--weights", tmp_path / "net.pt", *out, code=1)
    assert "net.pt does not fit the model" in error and "size mismatch for head.weight" in error


def test_tied_weights_are_in_a_file_once(run: Run, tmp_path: Path) -> None:
    import command_models

    tied = command_models.Tied()
    state = {name: value for name, value in tied.state_dict().items() if name != "second.weight"}
    save_file(state, tmp_path / "tied.safetensors")
    out = ["--input", "2,4", "-o", tmp_path / "tied.npu", "--device", "cpu"]
    run("compile", "command_models:Tied", "--weights", tmp_path / "tied.safetensors", *out)
    x = torch.ones(2, 4)
    torch.testing.assert_close(npu.load(tmp_path / "tied.npu", "cpu")(x), tied(x), rtol=1e-5, atol=1e-6)


def test_other_commands(run: Run) -> None:
    net = ["command_models:Net", "--input", "1,3,8,8"]
    figures = json.loads(run("bench", *net, "--runs", 2, "--json", "--device", "cpu", "--profile"))
    assert figures["program"] == "Net" and figures["runs"] == 2 and figures["profile"]
    assert run("plan", "command_models:empty", *net[1:], "--text").startswith("program Net")
    assert "on paper" in run("plan", *net, "--device", "cuda:h200")
    assert "5 of 5 nodes run on the device" in run("explain", *net)
    assert "0 on the host" in run("partition", *net)
    report = json.loads(run("compare", *net, "--with", "pytorch", "--json", "--device", "cpu"))
    assert "conv2d" in json.dumps(report)


def test_parts_on_the_host(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    solve = ["command_models:Solve", "--input", "3,3", "--input", "3,1", "--device", "cpu"]
    a, b = np.eye(3, dtype="float32") * 2, np.ones((3, 1), "float32")
    np.save(tmp_path / "a.npy", a)
    np.save(tmp_path / "b.npy", b)
    files = ["--input", tmp_path / "a.npy", "--input", tmp_path / "b.npy", "--device", "cpu"]
    text = run("run", solve[0], *files, "-o", tmp_path / "out")
    assert [line.partition(":")[0] for line in text.splitlines()] == ["solution", "twice"]
    np.testing.assert_allclose(results(tmp_path / "out")["solution"], b / 2)
    np.testing.assert_allclose(results(tmp_path / "out")["twice"], b * 2)
    figures = json.loads(run("bench", *solve, "--runs", 2, "--json"))
    assert figures["runs"] == 2 and figures["program"] == "Solve"
    assert main([str(a) for a in ("run", *solve, "--fallback", "error")]) == 1
    assert "1 of 2 nodes of 'Solve' cannot be compiled" in capsys.readouterr().err
    assert main(["explain", *solve[:5]]) == 1
    assert "aten.linalg_solve.default" in capsys.readouterr().out


NET = ["compile", "command_models:Net", "--input"]
MISTAKES = {
    "no input": (["run", "command_models:Net"], "Net needs example inputs to be traced; got no --input (missing a"),
    "too many": ([*NET, "1,3,8,8", "--input", "4", "--input", "5"], "--input 4 --input 5 (too many positional"),
    "unknown": ([*NET, "1,3,8,8", "--input", "mask=3"], "an unexpected keyword argument 'mask'); expected an input"),
    "twice": ([*NET, "image=1,3,8,8", "--input", "image=1"], "an input is given twice; got image"),
    "both ways": ([*NET, "1,3,8,8", "--input", "image=1"], "multiple values for argument 'image'"),
    "order": ([*NET, "scale=3", "--input", "1,3,8,8"], "an --input without a name follows one with a name"),
    "form": ([*NET, "1x3x8x8"], "--input has no valid form; got '1x3x8x8'; expected [NAME=]SIZES[:DTYPE]"),
    "negative": ([*NET, "-2,4"], "--input has no valid form; got '-2,4'; expected [NAME=]SIZES[:DTYPE]"),
    "no name": ([*NET, "=1,3"], "--input has no valid form; got '=1,3'"),
    "dtype": ([*NET, "1,3,8,8:int65"], "--input has no valid dtype; got '1,3,8,8:int65'; expected one of float32"),
    "enormous": ([*NET, "1000000,1000000,1000000"], "--input is too large"),
    "channels": ([*NET, "1,5,8,8"], "got image float32[1, 5, 8, 8]; try an --input with other sizes, or a dtype"),
    "floats": (["run", "command_models:Bag", "--input", "2,5", "--input", "4"], "Expected tensor for argument #1"),
    "contents": (["run", "command_models:Branches", "--input", "2"], "decides by a tensor's contents; use torch.where"),
    "its own error": (["run", "command_models:Refuses", "--input", "2"], "ValueError: two lines (at File "),
    "its place": (["run", "command_models:Refuses", "--input", "2"], "in forward, raise ValueError("),
    "its inputs": (["run", "command_models:Refuses", "--input", "2"], "); got x float32[2]"),
    "other weights": ([*NET, "1,3,8,8", "--weights", "command_models.py"], "Unknown weight file format: .py Supported"),
    "no file": ([*NET, "gone.npy"], "cannot read 'gone.npy'"),
    "no module": (["plan", "no_such:Net", "--input", "1"], "cannot import 'no_such': ModuleNotFoundError"),
    "no attribute": (["plan", "command_models:Nett", "--input", "1"], "which defines Net, Bag, Solve,"),
    "a number": (["plan", "command_models:number"], "'command_models:number' is of type int; expected a class or"),
    "raises": (["plan", "command_models:breaks"], "failed: KeyError: 'nothing' ("),
    "where": (["plan", "command_models:breaks"], "command_models.py, line 65)"),
    "arguments": (["plan", "command_models:needs"], "missing 1 required positional argument: 'size'; write a function"),
    "import": (["plan", "raises_at_import:x"], "'raises_at_import': ZeroDivisionError: division by zero ("),
    "syntax": (["plan", "no_syntax:x"], "no_syntax.py, line 1)"),
    "exit": (["plan", "exits:x"], "cannot import 'exits': SystemExit: no arguments"),
    "a file in another folder": (["plan", "more-nets/net.py"], "try net:ATTRIBUTE in the file's folder"),
    "a file": (["plan", "command_models.py"], "a Python file; expected a program (.npubin), a saved file"),
    "file and name": (["plan", "command_models.py:Net"], "the name of a module, as in import; try command_models:Net"),
    "a path": (["plan", "./command_models:Net"], "which has a path; expected the name of a module, as in import; try"),
    "a module alone": (["plan", "command_models"], "try command_models:ATTRIBUTE, because there is command_models.py"),
    "half a name": (["plan", ":Net"], "expected MODULE:ATTRIBUTE"),
    "nowhere": ([*NET, "1,3,8,8", "-o", "no/such.npu"], "there is no folder 'no'"),
    "a folder": ([*NET, "1,3,8,8", "-o", "."], "it is a folder"),
    "device": ([*NET, "1,3,8,8", "--device", "tpu"], "no such kind of device"),
    "both weights": ([*NET, "1,3,8,8", "--weights", "x.pt", "--random-weights"], "one of the two"),
    "weights of an IR": (
        ["compile", "net.json", "--weights", "x.pt", "-o", "x.npubin"],
        "--weights has no effect on a program, which has no weights; got --output x.npubin; expected a saved file",
    ),
    "weights of a program": ([*NET, "1", "-o", "x.npubin", "--weights", "x.pt"], "--weights has no effect"),
    "another format": (
        [*NET, "1,3,8,8", "-o", "x.onnx"],
        "`npu compile` does not write .onnx files; got --output x.onnx; expected a name that ends with .npu (a saved",
    ),
    "another format of an IR": (["compile", "net.json", "-o", "x.PT"], "does not write .PT files"),
    "host of a program": (["run", "x.npubin", "--fallback", "error"], "--fallback has no effect on a program"),
    "input of an IR": (["explain", "net.json", "--input", "1"], "--input has no effect on an IR"),
    "inputs of a model": (["compare", *NET[1:], "1,3,8,8", "--with", "cpu", "--inputs", "f"], "--inputs has no effect"),
    "weights alone": (["run", "weights.safetensors"], "got 'weights.safetensors', which has weights alone"),
    "nothing": (["run", "./nothing/at all"], "there is no such file or folder; got './nothing/at all'"),
    "null": (["run", "a\0b"], "no such file or folder"),
}  # fmt: skip


USAGE = (
    "twice", "order", "form", "negative", "no name", "dtype", "enormous", "both weights", "weights of an IR",
    "weights of a program", "host of a program", "input of an IR", "another format", "another format of an IR",
)  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes(folder: Path, run: Run, name: str) -> None:
    arguments, message = MISTAKES[name]
    (folder / "net.json").write_text("{}")
    (folder / "more-nets").mkdir(exist_ok=True)
    (folder / "more-nets" / "net.py").write_text("Net = None")
    save_file({"x": torch.ones(1)}, folder / "weights.safetensors")
    assert message in run(*arguments, code=2 if arguments[0] == "compare" or name in USAGE else 1)


def test_what_a_model_prints_is_not_in_the_output(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would break what reads --json."""
    import sys

    monkeypatch.delitem(sys.modules, "command_models", raising=False)
    assert json.loads(run("explain", "command_models:Net", "--input", "1,3,8,8", "--json"))["unsupported"] == []


def test_outputs_of_similar_names_are_different_files(tmp_path: Path, run: Run) -> None:
    from torch import nn

    class Same(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x + 1, x + 2

    ir = npu.extract(Same(), torch.zeros(2), output_names=["a/b", "a_b"])
    ir.save(tmp_path / "same.json")
    run("run", tmp_path / "same.json", "-o", tmp_path / "out", "--device", "cpu")
    arrays = results(tmp_path / "out")
    assert arrays.keys() == {"a_b", "a_b_1"}
    np.testing.assert_allclose(arrays["a_b_1"] - arrays["a_b"], 1, rtol=1e-6)

"""Commands on models that no single program is all of: parts run on the host, or sizes are open."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_ir import extract_ir

Run = Callable[..., str]


class Part(nn.Module):
    """Device, host, device; a float64 weight, and a buffer that it writes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(8, 8), nn.Linear(8, 4)
        self.shift = nn.Parameter(torch.randn(8, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        self.count.add_(1)
        hidden = torch.sinh(self.a(x).relu()).double() + self.shift
        return {"y": self.b(hidden.float()).softmax(-1), "count": self.count + 0}


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        scores = self.linear(x)
        return {"scores": scores, "best": scores.argmax(1)}


X = torch.arange(24.0).view(3, 8) / 24


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("partial")
    np.save(folder / "x.npy", X.numpy())
    for name, model in (("part", Part()), ("whole", Whole())):
        extract_ir(model.eval(), X, model_name=name).save(folder / f"{name}_ir.json")
        save_file(model.state_dict(), folder / f"{name}.safetensors")
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(folder)

    def call(*arguments: object, code: int = 0, notice: bool = False) -> str:
        assert main([str(argument) for argument in arguments]) == code
        printed = capsys.readouterr()
        assert ("nodes of part_ir.json run on the host: to.dtype x2, add.Tensor" in printed.err) == notice, printed.err
        return printed.out if code == 0 else printed.err

    return call


def check_results(folder: Path, model: nn.Module) -> None:
    wanted = model.eval()(X)
    for name, tensor in wanted.items():
        np.testing.assert_allclose(np.load(folder / f"{name}.npy"), tensor.detach().numpy(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("name", "model"), [("part", Part), ("whole", Whole)])
def test_an_ir_with_weights(name: str, model: type[nn.Module], run: Run, tmp_path: Path) -> None:
    """Run as it is, and as the saved file that it is compiled into."""
    inputs, ir, notice = ["--input", "x=x.npy", "--device", "cpu"], f"{name}_ir.json", name == "part"
    run("run", ir, *inputs, "--weights", f"{name}.safetensors", "-o", tmp_path / "1", notice=notice)
    check_results(tmp_path / "1", model())
    text = run("compile", ir, "--weights", f"{name}.safetensors", "--device", "cpu", notice=notice)
    assert text.startswith(f"{name}_ir.npu: CompiledModule('{name}'")
    run("run", f"{name}_ir.npu", *inputs, "-o", tmp_path / "2")
    check_results(tmp_path / "2", model())
    loaded, wanted = npu.load(f"{name}_ir.npu", "cpu"), model().eval().requires_grad_(False)(X)
    torch.testing.assert_close(loaded(x=X), wanted)
    assert loaded.ir.model_name == name


def test_random_weights_are_the_same_for_a_seed(run: Run) -> None:
    for ir, notice in (("part_ir.json", True), ("whole_ir.json", False)):
        first, second, other = (run("run", ir, "--seed", seed, notice=notice) for seed in (1, 1, 2))
        assert first == second != other
    run("compile", "whole_ir.json", "--random-weights", "-o", "random.npu")
    assert run("run", "random.npu").startswith("scores: float32[3, 4]")


def test_what_an_ir_is_compiled_into_is_said(run: Run) -> None:
    assert "expected --weights FILE, or --random-weights" in run("compile", "whole_ir.json", "-o", "x.npu", code=2)
    options = ["--weights", "whole.safetensors"]
    assert "--weights has no effect" in run("compile", "whole_ir.json", *options, "-o", "x.npubin", code=2)
    assert ".npubin or .npu" in run("compile", "whole_ir.json", "-o", "x.json", code=2)
    assert 'missing weights: "linear.weight"' in run(
        "compile", "whole_ir.json", "--weights", "part.safetensors", "-o", "x.npu", code=1
    )
    assert "missing weights" in run(
        "compile", "part_ir.json", "--weights", "whole.safetensors", "-o", "x.npu", code=1, notice=True
    )
    assert not Path("x.npu").exists()


def test_the_host_can_be_forbidden(run: Run) -> None:
    for command in ("run", "bench", "compile"):
        weights = ["--weights", "part.safetensors"] if command == "compile" else []
        error = run(command, "part_ir.json", *weights, "--fallback", "error", code=1)
        assert "3 of 10 nodes of 'part' cannot be compiled" in error and "aten.to.dtype, 2 times" in error
    into_a_program = run("compile", "part_ir.json", code=1)
    assert "3 of 10 nodes of 'part' cannot be compiled" in into_a_program
    assert "`npu compile part_ir.json --weights FILE -o NAME.npu` writes one" in into_a_program


@pytest.fixture(scope="module")
def files(folder: Path) -> Path:
    """Saved files: part.npu, open.npu with batches of 3 and 1, open_part.npu with a batch of 3."""
    dims = ({0: torch.export.Dim("batch", min=1, max=8)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npu.compile(Part().eval(), X, device="cpu").save(folder / "part.npu")
        npu.compile(Part().eval(), X, device="cpu", dynamic_shapes=dims).save(folder / "open_part.npu")
    compiled = npu.compile(Whole().eval(), X, device="cpu", dynamic_shapes=dims)
    compiled.warm_up([{"batch": 1}])
    compiled.save(folder / "open.npu")
    return folder


def test_bench_profiles_as_many_runs_as_it_is_told_to(files: Path, run: Run, tmp_path: Path) -> None:
    sources = {"part.npu": [], "open.npu": ["--input", "5,8"], "open_part.npu": ["--input", "5,8"], "part_ir.json": []}
    for source, options in sources.items():
        profile = ["--runs", 6, "--profile", "--json", "--trace", tmp_path / "trace.json"]
        text = run("bench", source, "--device", "cpu", *profile, *options, notice=source == "part_ir.json")
        calls = {row["name"]: row["calls"] for row in json.loads(text)["profile"]}
        assert calls and set(calls.values()) == {6}, source
        assert ("host: to.dtype x2, add.Tensor" in calls) == ("part" in source)
        assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]


def test_plans_of_parts(files: Path, run: Run) -> None:
    for source in ("part.npu", "part_ir.json"):
        lines = run("plan", source, "--device", "cpu", "--threads", 1).splitlines()
        assert [line for line in lines if line.startswith("part ")] == [
            "part 0, device, 5 nodes",
            "part 1, host, 3 nodes: to.dtype x2, add.Tensor",
            "part 2, device, 2 nodes",
        ]
        assert sum(line.startswith("plan of ") and line.endswith("1 thread") for line in lines) == 2
        assert any("softmax" in line and "output:softmax" in line for line in lines)
    text = run("plan", "part.npu", "--text")
    assert text.count("program ") == 2 and "sinh(relu(acc))" in text
    assert "Apple M4 Pro (on paper)" in run("plan", "part.npu", "--device", "metal:m4pro")


def test_plans_of_open_sizes(files: Path, run: Run) -> None:
    text = run("plan", "open.npu", "--device", "cpu")
    assert [line for line in text.splitlines() if line.startswith("batch")] == ["batch=3:", "batch=1:"]
    assert "float32[3, 4]" in text and "float32[1, 4]" in text
    text = run("plan", "open.npu", "--input", "x=5,8", "--text")  # not in the file
    assert text.startswith("batch=5:\nprogram ") and "float32[5,4]" in text and "float32[3," not in text
    for options in (["--input", "3,8"], ["--input", "2,8"], []):
        lines = run("plan", "open_part.npu", "--device", "cpu", *options).splitlines()
        assert lines[0] == f"batch={options[1][0] if options else 3}:" and lines[1] == "part 0, device, 5 nodes"
        assert "part 1, host, 3 nodes: to.dtype x2, add.Tensor" in lines
    assert "is 9, expected 1 to 8" in run("plan", "open.npu", "--input", "9,8", code=1)
    assert "unknown inputs ['y']" in run("plan", "open.npu", "--input", "y=3,8", code=1)
    assert "more --input than inputs" in run("plan", "open.npu", "--input", "3,8", "--input", "3,8", code=1)
    assert "--input has no effect on a saved file" in run("plan", "part.npu", "--input", "3,8", code=2)


def test_runs_of_open_sizes_with_parts_on_the_host(files: Path, run: Run) -> None:
    assert run("run", "open_part.npu", "--device", "cpu").startswith("y: float32[3, 4]")
    assert run("run", "open_part.npu", "--device", "cpu", "--input", "6,8").startswith("y: float32[6, 4]")
    assert "is 9, expected 1 to 8" in run("run", "open_part.npu", "--input", "9,8", code=1)
    assert "3 of 10 nodes" not in run("bench", "open_part.npu", "--runs", 2)
    assert "on the host" in run("partition", "open_part.npu")

"""``npu compare``: what it prints, and its exit status."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu.cli import main
from npu.comparison.api import compare
from npu.comparison.saved import SavedStep
from npu.comparison.table import print_table
from npu.comparison.walk import Walk
from rich.console import Console
from safetensors.numpy import save_file
from torch import nn
from torch_ir import extract_ir

from .test_npu_command import npu


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """net.json, net.npubin, net.safetensors, inputs.safetensors, pick.json, and step.safetensors of a wrong device."""
    folder = tmp_path_factory.mktemp("compare")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(216, 4)).eval()
    ir = extract_ir(net, torch.zeros(1, 3, 8, 8), model_name="net")
    ir.save(folder / "net.json")
    npu_compiler.compile(ir).save(folder / "net.npubin")
    save_file({name: tensor.numpy() for name, tensor in net.state_dict().items()}, folder / "net.safetensors")
    save_file({"input": np.ones((1, 3, 8, 8), np.float32)}, folder / "inputs.safetensors")
    save_file({"input": np.ones((1, 3, 8), np.float32)}, folder / "small.safetensors")
    save_file({"input": np.ones((1, 3, 8, 8))}, folder / "float64.safetensors")
    save_file({"inputs": np.ones(3, np.uint32)}, folder / "uint32.safetensors")
    (folder / "damaged.safetensors").write_bytes((folder / "inputs.safetensors").read_bytes()[:-100])
    (folder / "text.safetensors").write_text("no tensors")

    class Pick(nn.Module):
        def forward(self, x: Any, index: Any) -> Any:
            return x.index_select(0, index)

    extract_ir(Pick(), (torch.ones(3, 2), torch.tensor([1])), model_name="pick").save(folder / "pick.json")
    save_file({"index": np.array([7])}, folder / "index.safetensors")
    return folder


Run = Callable[..., str]


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """The command in this process: what it prints, after its exit status was checked."""
    monkeypatch.chdir(folder)

    def call(*arguments: object, code: int = 0) -> str:
        try:
            status: Any = main(["compare", *map(str, arguments)])
        except SystemExit as error:
            status = error.code
        text = capsys.readouterr()
        assert status == code, text
        return text.out + text.err

    return call


def test_devices_that_agree(folder: Path, run: Run) -> None:
    text = npu("compare", "net.npubin", "--device", "cpu", "--with", "cpu", cwd=folder)
    assert "conv2d" in text and "Kernel on cpu" in text and "SNR" in text
    assert "net: 2 steps on cpu and cpu (the same device twice), none beyond the rule for numbers" in text
    assert "Line" not in text  # a program does not know its lines
    text = run("net.npubin", "--with", "cpu", "--ir", "net.json", "--spread", "--top", 1)
    assert "Line" in text and "conv.py:" in text and "Spread" in text
    assert "The step with the largest difference; --all shows every step." in text
    assert "largest differences" not in run("net.npubin", "--with", "cpu", "--all")


def test_a_narrow_terminal_cuts_nothing(folder: Path) -> None:
    report = compare(folder / "net.json", "cpu", "pytorch", spread=True)
    wide, narrow = io.StringIO(), io.StringIO()
    print_table(report, Console(file=wide, width=180, markup=False))
    print_table(report, Console(file=narrow, width=80, markup=False))
    (conv, linear) = report
    assert f"{conv.step}" in wide.getvalue() and "Kernel on cpu" in wide.getvalue()
    text = narrow.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    for words in (f"cpu: {conv.kernels[0].split('[')[0]}", "pytorch: linear", "module: 0", f"{linear.absolute:.2g}"):
        assert words in text


def test_pytorch_from_an_ir(folder: Path, run: Run) -> None:
    files = ["--inputs", "inputs.safetensors", "--weights", "net.safetensors"]
    text = run("net.json", "--with", "pytorch", *files)
    assert "conv2d ; relu" in text and "none beyond the rule" in text
    text = run("net.npubin", "--with", "pytorch", "--ir", "net.json", *files, "--json")
    report = json.loads(text)
    assert report["agrees"] and report["first"] is None and report["sides"] == ["cpu", "pytorch"]
    assert [step["nodes"] for step in report["steps"]] == [["conv2d", "relu"], ["linear"]]
    assert all(step["compared"] and step["relative"] < 1e-6 for step in report["steps"])


def test_a_saved_step(folder: Path, run: Run) -> None:
    text = run("net.npubin", "--with", "cpu", "--save", "s.safetensors", "--step", "linear")
    assert "to run this step again: npu compare s.safetensors" in text
    assert "net: 1 step on cpu and cpu" in run("s.safetensors")
    step = SavedStep.load(folder / "s.safetensors")
    step.operands = {v: array + 1 for v, array in step.operands.items()}
    step.save(folder / "other.safetensors")
    text = run("other.safetensors", "--device", "cpu", "--with", "cpu")
    assert "linear" in text

    text = run("net.npubin", "--with", "cpu", "--save", "none.safetensors")
    assert "Saved" not in text and not (folder / "none.safetensors").exists()


def test_a_wrong_name_of_a_step_is_said_before_anything_runs(
    folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Walk, "run", lambda *_: pytest.fail("it runs"))
    text = run("net.npubin", "--with", "cpu", "--save", "s.safetensors", "--step", "nosuch", code=2)
    assert "the program has no such step; got 'nosuch'; expected conv2d, linear" in text


def test_steps_beyond_the_rule_are_exit_status_1(folder: Path, run: Run) -> None:
    """Seen without a broken device: PyTorch runs another IR than the one that the program comes from."""
    changed = (folder / "net.json").read_text().replace("aten.relu.default", "aten.sigmoid.default")
    (folder / "changed.json").write_text(changed)
    arguments = ["net.npubin", "--with", "pytorch", "--ir", "changed.json", "--save", "first.safetensors"]
    text = run(*arguments, code=1)
    assert "1 beyond the rule, the first is 0, conv2d" in text and "<- first beyond" in text
    assert "error against float64: cpu" in text and "npu compare first.safetensors" in text
    assert "<- first beyond" in run("first.safetensors", code=1)


def test_an_index_out_of_range_is_exit_status_2(folder: Path, run: Run) -> None:
    text = run("pick.json", "--with", "pytorch", "--inputs", "index.safetensors", code=2)
    assert "Stopped: both sides refuse 'index_select'" in text and "got 7; expected from 0 to 2" in text


WRONG: dict[str, tuple[list[str], str]] = {
    "no second device": (["net.npubin"], "--with is missing; expected a second device, or pytorch"),
    "no file": (["nowhere.npubin", "--with", "cpu"], "file not found: nowhere.npubin"),
    "no saved step": (["nowhere.safetensors"], "file not found: nowhere.safetensors"),
    "other tensors": (["net.safetensors"], "net.safetensors is not a saved step; got a safetensors file of something"),
    "a truncated step": (["cut.safetensors"], "cut.safetensors is"),
    "a short file": (["short.safetensors"], "short.safetensors is not a safetensors file: it has 4 bytes"),
    "a folder": ([".", "--with", "cpu"], "a folder without config.json"),
    "no IR": (["net.npubin", "--with", "pytorch"], "needs the IR, and the program does not contain it"),
    "a device that is not here": (["net.npubin", "--with", "tpu"], "there is no such kind of device"),
    "a step without a file": (["net.npubin", "--with", "cpu", "--step", "linear"], "try --save FILE too"),
    "a saved step with inputs": (["s.safetensors", "--inputs", "inputs.safetensors"], "got --inputs too"),
    "an input of another shape": (
        ["net.npubin", "--with", "cpu", "--inputs", "small.safetensors"], "got float32[1, 3, 8]; expected"
    ),
    "inputs in float64, which Weights leave out": (
        ["net.npubin", "--with", "cpu", "--inputs", "float64.safetensors"],
        "input 'input' does not fit the model; got float64[1, 3, 8, 8]; expected float32[1, 3, 8, 8]",
    ),
    "a name that no input has, in a dtype that no program has": (
        ["net.npubin", "--with", "cpu", "--inputs", "uint32.safetensors"], "no such input; got inputs; expected input"
    ),
    "damaged inputs": (
        ["net.npubin", "--with", "cpu", "--inputs", "damaged.safetensors"],
        "[compare] the inputs in damaged.safetensors cannot be read: ",
    ),
    "inputs that are no safetensors file": (
        ["net.npubin", "--with", "cpu", "--inputs", "text.safetensors"], "[compare] text.safetensors is not a safetens"
    ),
    "no inputs": (["net.npubin", "--with", "cpu", "--inputs", "nowhere.safetensors"], "[compare] file not found: now"),
    "a step in a file of another name": (
        ["net.npubin", "--with", "cpu", "--save", "q.npubin", "--step", "linear"],
        "got q.npubin; expected a name that ends with .safetensors",
    ),
    "a folder that is not there": (["net.npubin", "--with", "cpu", "--save", "no/s.safetensors"], "no folder 'no'"),
    "weights of another model": (["net.npubin", "--with", "cpu", "--weights", "inputs.safetensors"], "missing weights"),
    "no row": (["net.npubin", "--with", "cpu", "--top", "0"], "0 is not between 1 and"),
    "a negative seed": (["net.npubin", "--with", "cpu", "--seed", "-1"], "argument --seed: -1 is not between 0 and"),
    "threads": (["net.npubin", "--with", "cpu", "--threads", "-1"], "argument --threads: -1 is not between 0 and 1024"),
    "both": (["net.npubin", "--with", "cpu", "--top", "3", "--all"], "not allowed with"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments_are_exit_status_2(case: str, folder: Path, run: Run) -> None:
    if not (folder / "cut.safetensors").exists():
        run("net.npubin", "--with", "cpu", "--save", "s.safetensors", "--step", "linear")
        whole = (folder / "s.safetensors").read_bytes()
        (folder / "cut.safetensors").write_bytes(whole[:-100])
        (folder / "short.safetensors").write_bytes(whole[:4])
    arguments, message = WRONG[case]
    assert message in run(*arguments, code=2)

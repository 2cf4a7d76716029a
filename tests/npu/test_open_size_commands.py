"""``npu compile`` of models whose sizes are left open by names in --input."""

from __future__ import annotations

import re
from pathlib import Path

import npu
import pytest
import torch
from npu.commands.inputs import parse_inputs
from npu.commands.open_inputs import read_open_inputs
from npu.saving.model import read_model
from torch_ir import load_ir

from tests.support.commands import Run, npu_in

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

    def forward(self, image, scale=None):
        scores = self.head(self.conv(image).relu().mean((2, 3)))
        return scores if scale is None else scores * scale

class One(nn.Module):
    def forward(self, x):
        return x if x.shape[0] == 1 else x * 2

class Lstm(nn.LSTM):
    def __init__(self):
        super().__init__(8, 4, batch_first=True)

    def forward(self, x):
        return super().forward(x)[0]

class Sum(nn.Module):
    def forward(self, x, y):
        return x + y

class Halves(nn.Module):
    def forward(self, x):
        return x.view(x.shape[0] // 2, 2, -1)

class Rest(nn.Module):
    def forward(self, *xs):
        return xs[0] * 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("open")
    (folder / "open_models.py").write_text(MODELS)
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return npu_in(folder, monkeypatch, capsys)


def test_a_name_leaves_a_size_open(run: Run) -> None:
    ranges = ["--size", "batch=1-8", "--size", "side=5-64"]
    text = run("compile", "open_models:Net", "--input", "batch,3,side,side", *ranges, "-o", "net.npu")
    assert "sizes batch: 1 to 8, side: 5 to 64; compiled for batch=4 x side=5" in text
    from open_models import Net  # type: ignore[import-not-found]

    loaded = npu.load("net.npu", "cpu")
    for shape in ((2, 3, 9, 9), (1, 3, 64, 64), (8, 3, 5, 5)):
        x = torch.randn(shape)
        torch.testing.assert_close(loaded(x), Net().eval()(x).detach(), rtol=1e-4, atol=1e-5)
    assert run("run", "net.npu", "--input", "3,3,7,7").startswith("output: float32[3, 2]")
    assert "is 9, expected 1 to 8" in run("run", "net.npu", "--input", "9,3,7,7", code=1)
    assert "dimension 3 is 8, expected 7 (side)" in run("run", "net.npu", "--input", "1,3,7,8", code=1)
    refused = run("run", "net.npu", "--input", "1,4,8,8", code=1)
    assert "dimension 1 is 4, expected 3, because this dimension is not open" in refused


def test_sizes_that_derive_from_others_and_named_inputs(run: Run) -> None:
    inputs = ["--input", "image=n,3,4*k+1,4*k+1", "--input", "scale=n,2:float32"]
    run("compile", "open_models:Net", *inputs, "--size", "k=1-9", "-o", "derived.npu")
    loaded = npu.load("derived.npu", "cpu")
    assert [str(entry.shape[2]) for entry in loaded.signature.inputs[:1]] == ["(1 + (4 * k))"]
    for n, k in ((1, 1), (3, 9)):
        x, scale = torch.randn(n, 3, 4 * k + 1, 4 * k + 1), torch.randn(n, 2)
        assert loaded(x, scale).shape == (n, 2)
    with pytest.raises(ValueError, match="dimension 2 is 8"):
        loaded(torch.zeros(1, 3, 8, 8), torch.zeros(1, 2))


def test_the_file_has_the_sizes_of_warm_up(run: Run) -> None:
    warm = ["--warm-up", "batch=1", "--warm-up", "batch=6"]
    run("compile", "open_models:Net", "--input", "batch,3,8,8", *warm, "-o", "warm.npu")
    model, _ = read_model("warm.npu")
    assert model.open is not None and [dict(size.sizes) for size in model.open.saved] == [{"batch": 1}, {"batch": 6}]
    assert [line for line in run("plan", "warm.npu").splitlines() if "batch" in line] == ["batch=1:", "batch=6:"]
    many = [option for n in range(1, 20) for option in ("--warm-up", f"batch={n}")]
    assert run("compile", "open_models:Net", "--input", "batch,3,8,8", *many, "-o", "many.npu").count("batch=") == 19


def test_an_ir_keeps_open_sizes(run: Run) -> None:
    run("compile", "open_models:Net", "--input", "batch,3,8,8", "--size", "batch=2-", "-o", "net.json")
    ir = load_ir("net.json")
    assert [str(size) for size in ir.sizes] == ["batch: from 2"]
    assert ir.specialize(batch=5).graph_inputs[0].shape == (5, 3, 8, 8)


NET = ["compile", "open_models:Net", "--input"]
MISTAKES = {
    "a size that nothing has": ([*NET, "batch,3,8,8", "--size", "bach=1-8"], "got 'bach=1-8'; expected one of batch"),
    "a range without an end": ([*NET, "batch,3,8,8", "--size", "batch=8"], "expected NAME=MIN-MAX, or NAME=MIN-"),
    "an empty range": ([*NET, "batch,3,8,8", "--size", "batch=8-2"], "range of a size is empty; .*such as batch=2-8"),
    "two ranges": ([*NET, "batch,3,8,8", "--size", "batch=1-2", "--size", "batch=1-3"], "given twice"),
    "warm-up of another size": ([*NET, "batch,3,8,8", "--warm-up", "side=8"], "got 'side=8'; expected batch=8"),
    "warm-up of one of two": ([*NET, "n,3,m,8", "--warm-up", "n=8"], "expected n=8,m=8"),
    "warm-up out of range": (
        [*NET, "n,3,8,8", "--size", "n=2-4", "--warm-up", "n=1"], "out of the range of a size; got 'n=1'; .*n: 2 to 4"
    ),
    "warm-up without a size": ([*NET, "1,3,8,8", "--warm-up", "n=1"], "expected sizes that --input leaves open"),
    "a program": ([*NET, "batch,3,8,8", "-o", "x.npubin"], r"a program has fixed sizes; .*batch; .*\.npu"),
    "warm-up of an IR": ([*NET, "n,3,8,8", "--warm-up", "n=8", "-o", "x.json"], "--warm-up has no effect"),
    "another command": (["run", "open_models:Net", "--input", "n,3,8,8"], "`npu compile` takes names of sizes too"),
    "inputs without names": (["compile", "open_models:Rest", "--input", "n,8"], r"not one of \*args or \*\*kwargs"),
    "a range that the model does not have": (
        [*NET, "1,3,side,8"],
        r"has 3 <= side, which the model's code depends on; got image float32\[1, 3, 4, 8\]; try --size side=3-$",
    ),
    "two ranges that the model does not have": ([*NET, "1,3,h,w"], r"; try --size h=3-, --size w=3-$"),
    "size one": (
        ["compile", "open_models:One", "--input", "n,8"],
        r"'n' \(dimension 0 of 'x'\) may be 1.*; try --size n=2-, a file of its own for size 1$",
    ),
    "one size": (["compile", "open_models:Lstm", "--input", "2,n,8"], "'n' can only be 4 .*; try 4 for n in --input$"),
    "sizes that are one": (
        ["compile", "open_models:Sum", "--input", "n,8", "--input", "3,8"], "try one name in --input for sizes that are"
    ),
    "a multiple": (["compile", "open_models:Halves", "--input", "n,8"], r"try --size _n=1-, 2\*_n for n in --input$"),
    "an expression": ([*NET, "n*2,3,8,8"], "--input has no valid form; got 'n.2,3,8,8'"),
}  # fmt: skip


OF_MODELS = ("a range that the model does not have", "two ranges that the model does not have", "size one", "one size",
             "sizes that are one", "a multiple")  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, run: Run) -> None:
    arguments, words = MISTAKES[case]
    error = run(*arguments, code=1 if case in OF_MODELS else 2)
    assert re.search(words, error), error


def test_examples_of_open_sizes_differ_and_are_in_their_ranges() -> None:
    given = parse_inputs(["a=n,m,3", "b=2*n+1,k-1:int64"], with_open_sizes=True)
    inputs = read_open_inputs(given, ["m=10-20", "k=1-3"], [])
    assert [one.shape for one in inputs.given] == [(4, 10, 3), (9, 2)] and inputs.given[1].dtype == "int64"
    shapes = inputs.dynamic_shapes(["a", "b"], ["a", "b"])
    assert shapes is not None and str(shapes["b"][0].__name__) == "2*n + 1" and shapes["a"][1].max == 20
    assert read_open_inputs(parse_inputs(["3,4"]), [], []).dynamic_shapes(["x"], ["x"]) is None

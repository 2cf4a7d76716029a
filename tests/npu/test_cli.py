"""The ``npu`` command, through the installed script."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_ir import extract_ir

SCRIPT = Path(sys.executable).with_name("npu")
COMMANDS = ["compile", "run", "plan", "explain", "bench", "doctor"]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, image):
        return self.head(torch.relu(self.conv(image)).mean((2, 3)))


class Solve(nn.Module):
    def forward(self, a, b):
        return torch.linalg.solve(a, b).relu()


def npu(*arguments, code=0, cwd=None):
    environment = {k: v for k, v in os.environ.items() if k != "NPU_NUM_THREADS"} | {"COLUMNS": "160"}
    result = subprocess.run(
        [SCRIPT, *map(str, arguments)], capture_output=True, text=True, env=environment, cwd=cwd, timeout=300
    )
    assert result.returncode == code, f"{arguments}\n{result.stdout}\n{result.stderr}"
    assert "Traceback" not in result.stderr
    return result.stdout if code == 0 else result.stdout + result.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """net.json, net.npubin, net.safetensors, image.npy and solve.json."""
    folder = tmp_path_factory.mktemp("cli")
    net = Net().eval()
    image = torch.randn(2, 3, 8, 8)
    extract_ir(net, image).save(folder / "net.json")
    save_file(net.state_dict(), folder / "net.safetensors")
    np.save(folder / "image.npy", image.numpy())
    np.save(folder / "wanted.npy", net(image).detach().numpy())
    extract_ir(Solve(), (torch.eye(3), torch.ones(3, 1))).save(folder / "solve.json")
    assert "net.npubin" in npu("compile", folder / "net.json")
    return folder


def test_help():
    shown = npu("--help")
    for command in COMMANDS:
        assert command in shown
        text = npu(command, "--help")
        assert text.startswith(f"usage: npu {command}")
        assert len(text.splitlines()) > 4
    assert "usage" in npu(code=2)
    assert npu("--version").startswith("npu 0.")


def test_compile_options(folder, tmp_path):
    half = tmp_path / "half.npubin"
    assert str(half) in npu("compile", folder / "net.json", "-o", half, "--compute-dtype", "bfloat16")
    assert "bfloat16" in npu("plan", half, "--text")
    npu("compile", folder / "net.json", "-o", tmp_path / "plain.npubin", "--disable", "fuse_epilogues")
    assert "fuse_epilogues" in npu("compile", folder / "net.json", "--disable", "fuse_epilog", code=1)


def test_run_gives_what_the_model_gives(folder, tmp_path):
    name = next(t["name"] for t in json.loads((folder / "net.json").read_text())["graph_inputs"])
    options = ["--weights", folder / "net.safetensors", "--input", f"{name}={folder / 'image.npy'}", "-o", tmp_path]
    shown = npu("run", folder / "net.npubin", *options, "--device", "cpu", "--threads", 1)
    assert "float32[2, 4]" in shown
    (output,) = tmp_path.glob("*.npy")
    np.testing.assert_allclose(np.load(output), np.load(folder / "wanted.npy"), rtol=1e-4, atol=1e-5)
    assert npu("run", folder / "net.npubin", "--seed", 3) == npu("run", folder / "net.npubin", "--seed", 3)


def test_plan_and_text(folder):
    assert "arena" in npu("plan", folder / "net.npubin")
    assert "conv(" in npu("plan", folder / "net.npubin", "--text")


def test_explain(folder):
    assert "all" in npu("explain", folder / "net.json") or "of" in npu("explain", folder / "net.json")
    report = json.loads(npu("explain", folder / "net.json", "--json"))
    assert report["unsupported"] == []
    assert sum(report["supported"].values()) == report["nodes"]
    shown = npu("explain", folder / "solve.json", code=1)
    assert "linalg_solve" in shown
    assert "DAGExecutor" in shown


def test_bench(folder, tmp_path):
    trace = tmp_path / "trace.json"
    shown = npu("bench", folder / "net.npubin", "--runs", 3, "--warmup", 0, "--profile", "--trace", trace)
    assert "median" in shown
    assert "conv[" in shown
    assert json.loads(trace.read_text())["traceEvents"]
    figures = json.loads(npu("bench", folder / "net.npubin", "--runs", 3, "--json", "--threads", 1))
    assert 0 < figures["min_ms"] <= figures["median_ms"] <= figures["max_ms"]
    assert figures["threads"] == 1


def test_doctor():
    assert "cpu" in npu("doctor")
    found = json.loads(npu("doctor", "--json"))
    assert any("cpu" in json.dumps(value) for value in found.values())


MISTAKES = {
    "no such command": (["frobnicate"], 2, "frobnicate"),
    "no file given": (["compile"], 2, "ir"),
    "compile nothing": (["compile", "gone.json"], 1, "gone.json"),
    "compile a program": (["compile", "net.npubin"], 1, "net.npubin"),
    "compile what does not": (["compile", "solve.json"], 1, "linalg_solve"),
    "compile to nowhere": (["compile", "net.json", "-o", "no/such/folder/x.npubin"], 1, "no/such/folder"),
    "another dtype": (["compile", "net.json", "--compute-dtype", "int4"], 2, "int4"),
    "run nothing": (["run", "gone.npubin"], 1, "gone.npubin"),
    "run an IR": (["run", "net.json"], 1, "net.json"),
    "weights of another kind": (["run", "net.npubin", "--weights", "image.npy"], 1, "image.npy"),
    "no such weights": (["run", "net.npubin", "--weights", "gone.safetensors"], 1, "gone.safetensors"),
    "no such input": (["run", "net.npubin", "--input", "x=image.npy"], 1, "unknown inputs; got x"),
    "input without file": (["run", "net.npubin", "--input", "image"], 1, "NAME=FILE.npy"),
    "input of no file": (["run", "net.npubin", "--input", "image=gone.npy"], 1, "gone.npy"),
    "wrong shape": (["run", "net.npubin", "--input", "{input}=wanted.npy"], 1, "float32[2, 4]"),
    "no device": (["run", "net.npubin", "--device", "tpu"], 1, "tpu"),
    "metal here": (["plan", "net.npubin", "--device", "metal"], None, "metal"),
    "threads": (["bench", "net.npubin", "--threads", "-1"], 1, "threads"),
    "runs": (["bench", "net.npubin", "--runs", "0"], 1, "--runs"),
    "explain nothing": (["explain", "gone.json"], 1, "gone.json"),
    "explain a program": (["explain", "net.npubin"], 1, "net.npubin"),
    "explain other JSON": (["explain", "list.json"], 1, "list.json"),
}


@pytest.mark.parametrize(("arguments", "code", "word"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(folder, arguments, code, word):
    (folder / "list.json").write_text("[1, 2]")
    if code is None:
        if sys.platform == "darwin":
            pytest.skip("Metal may be there")
        code = 1
    name = next(t["name"] for t in json.loads((folder / "net.json").read_text())["graph_inputs"])
    shown = npu(*[a.format(input=name) for a in arguments], code=code, cwd=folder)
    assert word in shown
    if code == 1:
        assert len(shown.strip().splitlines()) <= 3, shown

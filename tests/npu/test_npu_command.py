"""The ``npu`` command, through the installed script."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import npu_compiler
import numpy as np
import pytest
import torch
from npu import doctor
from npu_compiler import CompiledProgram
from safetensors.torch import save_file
from torch import nn
from torch_ir import extract_ir

from tests.support.commands import script

SCRIPT = script("npu")
COMMANDS = [
    "compile",
    "run",
    "plan",
    "explain",
    "partition",
    "compare",
    "view",
    "profile",
    "bench",
    "generate",
    "chat",
    "doctor",
]


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
        assert text.startswith("example") and f"\nusage: npu {command} " in text
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


class Pair(nn.Module):
    def forward(self, x):
        return x + 1, x + 2, x + 3


def test_outputs_whose_names_no_folder_keeps_apart(tmp_path):
    ir = extract_ir(Pair(), torch.zeros(2), output_names=["a/b", "A/B", "€" * 300])
    npu_compiler.compile(ir).save(tmp_path / "pair.npubin")
    npu("run", tmp_path / "pair.npubin", "-o", tmp_path / "out", "--device", "cpu")
    files = [path.name for path in (tmp_path / "out").iterdir()]
    assert len({file.casefold() for file in files}) == 3 and "a_b.npy" in files and "A_B_1.npy" in files


class Several(nn.Module):
    """Outputs of other dtypes, one of them with a name that is a path, one of them empty."""

    def forward(self, ids, x):
        return x * 2, ids > 1, ids[:0]


def test_inputs_and_outputs_of_every_dtype(folder, tmp_path):
    example = torch.zeros(3, dtype=torch.long), torch.zeros(2, 2, dtype=torch.bfloat16)
    ir = extract_ir(Several(), example, output_names=["../up/twice", "flag", "none"])
    ir.save(tmp_path / "several.json")
    npu("compile", tmp_path / "several.json")
    ids, x = (t["name"] for t in ir.to_dict()["graph_inputs"])
    np.save(tmp_path / "ids.npy", np.array([0, 1, 2]))
    values = np.array([[1, -2], [0.5, 3]], np.float32)
    (tmp_path / "out").mkdir()
    for file, array in (("named", values), ("bits", values.astype(ml_dtypes.bfloat16))):
        np.save(tmp_path / f"{file}.npy", array)
        inputs = [f"--input={ids}={tmp_path / 'ids.npy'}", f"--input={x}={tmp_path / file}.npy"]
        shown = npu("run", tmp_path / "several.npubin", *inputs, "-o", tmp_path / "out" / file)
        assert "bfloat16[2, 2] min -4, mean 1.25, max 6" in shown
        assert "int64[0] empty" in shown
        found = {path.name: np.load(path) for path in (tmp_path / "out" / file).iterdir()}
        assert sorted(array.dtype.name for array in found.values()) == ["bool", "float32", "int64"]
        by_type = {array.dtype.name: array for array in found.values()}
        np.testing.assert_array_equal(by_type["float32"], values * 2)
        np.testing.assert_array_equal(by_type["bool"], [False, False, True])
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["out"]


@pytest.mark.parametrize(
    ("chip", "product", "cores"),
    [("cuda:h200", "an NVIDIA H200", 132), ("cuda:l4", "an NVIDIA L4", 58), ("metal:m4pro", "an Apple M4 Pro", 20)],
)
def test_plan_for_a_chip_that_is_not_here(folder, chip, product, cores):
    shown = npu("plan", folder / "net.npubin", "--device", chip)
    assert f"for {product.removeprefix('an ')} (on paper)" in shown
    assert f"on {product} with {cores} cores: about" in shown
    assert "'cuda:h200'" in npu("plan", folder / "net.npubin", "--device", f"{chip}x", code=1)


def test_plan_and_text(folder):
    assert "arena" in npu("plan", folder / "net.npubin")
    assert ", 1 thread\n" in npu("plan", folder / "net.npubin", "--threads", 1)
    text = npu("plan", folder / "net.npubin", "--text")
    assert "conv(" in text and text == CompiledProgram.load(folder / "net.npubin").text()
    for option in (("--device", "gpu"), ("--device", "cpu"), ("--threads", 1)):
        shown = npu("plan", folder / "net.npubin", "--text", *option, code=2)
        assert f"got {option[0]} too" in shown and "try without --text" in shown


@pytest.mark.parametrize("command", ["explain", "partition", "compile"])
def test_a_program_where_an_ir_belongs(folder, command):
    shown = npu(command, folder / "net.npubin", code=1)
    assert f"`npu {command}` does not take a program (.npubin); got {folder / 'net.npubin'}; expected " in shown
    assert "an IR (.json), MODULE:ATTRIBUTE" in shown and "`npu run`" in shown and "`npu plan`" in shown


def test_explain(folder):
    report = json.loads(npu("explain", folder / "net.json", "--json"))
    assert report["unsupported"] == []
    assert sum(report["supported"].values()) == report["nodes"]
    assert f"{report['nodes']} of {report['nodes']} nodes run on the device" in npu("explain", folder / "net.json")
    shown = npu("explain", folder / "solve.json", code=1)
    assert "linalg_solve" in shown
    assert "npu.compile runs the rest on the host" in shown
    report = json.loads(npu("explain", folder / "solve.json", "--json", code=1))
    ops = [(entry["op"], entry["count"]) for entry in report["unsupported"]]
    assert ("aten.linalg_solve.default", 1) in ops or ("aten._linalg_solve_ex.default", 1) in ops
    assert all(entry["reason"] and entry["node"] for entry in report["unsupported"])


WITHOUT_TORCH = {
    "compile": ["compile", "net.json"],
    "run": ["run", "net.npubin", "--weights", "net.safetensors"],
    "plan": ["plan", "net.npubin"],
    "explain": ["explain", "net.json"],
    "partition": ["partition", "net.json"],
    "bench": ["bench", "net.npubin", "--runs", "1", "--profile"],
    "view": ["view", "net.json", "-o", "viewed.json", "--runs", "1", "--with", "cpu"],
    "profile": ["profile", "net.json", "--runs", "1", "--html", "net.html"],
    "doctor": ["doctor"],
}


@pytest.mark.parametrize("arguments", WITHOUT_TORCH.values(), ids=WITHOUT_TORCH.keys())
def test_no_command_needs_torch(folder, arguments):
    code = f"import sys; sys.modules['torch'] = None; from npu.cli import main; sys.exit(main({arguments!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout


def test_pickled_weights_without_torch(folder):
    """The command says which package to install, and which file needs none."""
    (folder / "junk.pt").write_bytes(b"")
    arguments = ["run", "net.npubin", "--weights", "junk.pt"]
    code = f"import sys; sys.modules['torch'] = None; from npu.cli import main; sys.exit(main({arguments!r}))"
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert result.returncode == 1
    assert result.stderr.startswith("Error: [weights] reading junk.pt needs PyTorch, which is not installed; try ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("arguments", ["plan net.npubin --text", "doctor --json", "explain net.json", "--help"])
def test_into_a_closed_pipe(folder, arguments):
    command = f"'{SCRIPT}' {arguments} | true"
    result = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
    assert result.stderr == ""


@pytest.mark.parametrize("arguments", ["doctor", "compare net.npubin --with cpu", "plan net.npubin", "run none.npubin"])
@pytest.mark.parametrize("closed", [">&-", ">&- 2>&-"])
def test_into_a_closed_stream(folder, arguments, closed):
    result = subprocess.run(
        ["sh", "-c", f"'{SCRIPT}' {arguments} {closed}"], cwd=folder, capture_output=True, text=True
    )
    assert result.returncode == ("none" in arguments)
    assert "Traceback" not in result.stderr


def test_bench(folder, tmp_path):
    trace = tmp_path / "trace.json"
    shown = npu("bench", folder / "net.npubin", "--runs", 3, "--warmup", 0, "--profile", "--trace", trace)
    assert "median" in shown
    assert "conv[" in shown
    assert json.loads(trace.read_text())["traceEvents"]
    figures = json.loads(npu("bench", folder / "net.npubin", "--runs", 3, "--json", "--threads", 1))
    assert 0 < figures["min_ms"] <= figures["median_ms"] <= figures["max_ms"]
    assert figures["threads"] == 1
    assert figures["runs"] == 3
    assert "profile" not in figures
    figures = json.loads(npu("bench", folder / "net.npubin", "--runs", 2, "--json", "--profile"))
    assert {row["calls"] for row in figures["profile"]} == {2}
    assert sum(row["share"] for row in figures["profile"]) == pytest.approx(1)


def test_doctor():
    found = json.loads(npu("doctor", "--json"))
    assert found["default_device"]["kind"] in [d["kind"] for d in found["devices"] if d["available"]]
    assert all(bool(d["reason"]) != d["available"] for d in found["devices"])
    assert torch.__version__.startswith(found["packages"]["torch"])  # which may have a suffix: 2.13.0+cpu
    assert found["build"]["version"] == found["packages"]["npu-simulation"]
    shown = npu("doctor")
    for word in ("cpu", "metal", found["cpu"]["brand"], found["packages"]["numpy"]):
        assert word in shown


GPU = {
    "kind": "cuda", "available": True, "name": "NVIDIA T", "reason": "", "features": ["sm_90"],
    "memory_bytes": 80 << 30, "driver": "CUDA 13",
}  # fmt: skip
MISSING = {**GPU, "kind": "cuda:1", "available": False, "reason": "no NVRTC; try pip install 'npu-simulation[cuda]'"}


def test_doctor_shows_what_is_known_of_gpus(monkeypatch, capsys):
    found = doctor.report()
    assert all(d["memory_bytes"] > 0 and d["features"] for d in found["devices"] if d["available"])
    found |= {"devices": [GPU, MISSING], "nvrtc": {"version": "13.0", "path": "/lib/libnvrtc.so.13"}}
    found["packages"] |= {"nvidia-cuda-nvrtc": "13.0.1", "nvidia-cuda-nvrtc-cu12": None}
    doctor.print_report(found)
    shown = capsys.readouterr().out
    for words in ("NVIDIA T, sm_90, 80.0 GiB, driver CUDA 13", "pip install 'npu-simulation[cuda]'",
                  "NVRTC 13.0: /lib/libnvrtc.so.13", "nvidia-cuda-nvrtc "):  # fmt: skip
        assert words in shown
    assert "cu12" not in shown


def test_doctor_finds_the_compiler_that_is_loaded():
    code = """
import ctypes, sys
from pathlib import Path
from npu.doctor import report
library = next(p for s in sys.path for p in sorted(Path(s, "nvidia").glob("*/lib/libnvrtc.so*")))
before = report()["nvrtc"]
ctypes.CDLL(str(library))
print(before, report()["nvrtc"]["path"] == str(library), report()["nvrtc"]["version"])
"""
    pytest.importorskip("nvidia.cu13", reason="the wheel of NVRTC is not installed")
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert re.search(r"True 1\d\.\d+$", run.stdout.strip()), run.stdout + run.stderr


@pytest.mark.parametrize(("count", "words"), [(1, "1 thread used"), (2, "2 threads used")])
def test_doctor_counts_threads(count, words):
    environment = {**os.environ, "NPU_NUM_THREADS": str(count), "COLUMNS": "200"}
    result = subprocess.run([SCRIPT, "doctor"], capture_output=True, text=True, env=environment)
    assert words in result.stdout, result.stderr


@pytest.fixture(scope="module")
def mistaken(folder):
    (folder / "list.json").write_text("[1, 2]")
    for name in ("net.npubin", "net.json", "net.safetensors"):
        data = (folder / name).read_bytes()
        (folder / f"half{Path(name).suffix}").write_bytes(data[: len(data) // 2])
    (folder / "empty.npy").write_bytes(b"")
    np.savez(folder / "two.npz", a=np.ones(1), b=np.ones(2))
    np.save(folder / "objects.npy", np.array([{}]), allow_pickle=True)
    save_file({"other": torch.ones(1)}, folder / "other.safetensors")
    return folder


MISTAKES = {
    "no such command": (["frobnicate"], 2, "frobnicate"),
    "no file given": (["compile"], 2, "SOURCE"),
    "compile nothing": (["compile", "gone.json"], 1, "gone.json"),
    "compile a program": (["compile", "net.npubin"], 1, "net.npubin"),
    "compile what does not": (["compile", "solve.json"], 1, "linalg_solve"),
    "compile to nowhere": (["compile", "net.json", "-o", "no/such/folder/x.npubin"], 1, "no/such/folder"),
    "another dtype": (["compile", "net.json", "--compute-dtype", "int4"], 2, "int4"),
    "run nothing": (["run", "gone.npubin"], 1, "gone.npubin"),
    "run what does not compile": (["run", "solve.json", "--fallback", "error"], 1, "linalg_solve"),
    "weights of another kind": (["run", "net.npubin", "--weights", "image.npy"], 1, "image.npy"),
    "no such weights": (["run", "net.npubin", "--weights", "gone.safetensors"], 1, "gone.safetensors"),
    "no such input": (["run", "net.npubin", "--input", "x=image.npy"], 1, "the program has no such input; got x"),
    "input without file": (
        ["run", "net.npubin", "--input", "image"],
        2,
        "got 'image'; expected [NAME=]SIZES[:DTYPE] or [NAME=]FILE.npy",
    ),
    "input of no file": (["run", "net.npubin", "--input", "image=gone.npy"], 1, "gone.npy"),
    "wrong shape": (["run", "net.npubin", "--input", "{input}=wanted.npy"], 1, "float32[2, 4]"),
    "no device": (["run", "net.npubin", "--device", "tpu"], 1, "tpu"),
    "metal here": (["plan", "net.npubin", "--device", "metal"], None, "metal"),
    "threads": (["bench", "net.npubin", "--threads", "-1"], 2, "--threads: -1 is not between 0 and 1024"),
    "too many threads": (["run", "net.npubin", "--threads", "99999999999"], 2, "--threads"),
    "runs": (["bench", "net.npubin", "--runs", "0"], 2, "--runs: 0 is not between 1"),
    "no number": (["bench", "net.npubin", "--runs", "x"], 2, "invalid integer value: 'x'"),
    "seed": (["run", "net.npubin", "--seed", "-1"], 2, "--seed"),
    "trace to nowhere": (["bench", "net.npubin", "--trace", "no/such.json", "--runs", "1"], 1, "no/such.json"),
    "no folder for outputs": (["run", "net.npubin", "-o", "no/such/folder"], 1, "no/such/folder"),
    "output is a file": (["run", "net.npubin", "-o", "image.npy"], 1, "image.npy"),
    "a folder": (["run", "."], 1, "a folder without config.json"),
    "half a program": (["plan", "half.npubin"], 1, "half.npubin"),
    "half an IR": (["compile", "half.json"], 1, "half.json"),
    "empty array": (["run", "net.npubin", "--input", "{input}=empty.npy"], 1, "empty.npy is not a valid .npy file"),
    "several arrays": (["run", "net.npubin", "--input", "{input}=two.npz"], 1, "two.npz contains several arrays"),
    "pickled array": (["run", "net.npubin", "--input", "{input}=objects.npy"], 1, "objects.npy is not a valid .npy"),
    "broken weights": (["run", "net.npubin", "--weights", "half.safetensors"], 1, "half.safetensors"),
    "other weights": (["run", "net.npubin", "--weights", "other.safetensors"], 1, "missing weights"),
    "explain nothing": (["explain", "gone.json"], 1, "gone.json"),
    "explain a program": (["explain", "net.npubin"], 1, "net.npubin"),
    "explain other JSON": (["explain", "list.json"], 1, "list.json"),
}


@pytest.mark.parametrize(("arguments", "code", "word"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_one_line(mistaken, arguments, code, word):
    folder = mistaken
    if code is None:
        if sys.platform == "darwin":
            pytest.skip("Metal may be there")
        code = 1
    name = next(t["name"] for t in json.loads((folder / "net.json").read_text())["graph_inputs"])
    shown = npu(*[a.format(input=name) for a in arguments], code=code, cwd=folder)
    assert word in shown
    if code == 1:
        assert len(shown.strip().splitlines()) <= 3, shown


def test_partition(tmp_path):
    extract_ir(Solve().eval(), (torch.eye(3), torch.ones(3, 2)), model_name="Solve").save(tmp_path / "solve.json")
    shown = npu("partition", tmp_path / "solve.json")
    assert shown.startswith("Solve: 1 nodes on the device, 1 on the host; 2 parts, 1 border, 24 bytes cross")
    assert "aten.linalg_solve.default, 1 time, 'linalg_solve': no lowering for this operator" in shown
    found = json.loads(npu("partition", tmp_path / "solve.json", "--strategy", "cost", "--json"))
    assert [part["target"] for part in found["parts"]] == ["cpu", "npu"] and found["strategy"] == "cost"
    refused = npu("partition", tmp_path / "solve.json", "--strict", code=1)
    assert "1 of 2 nodes of 'Solve' are not supported" in refused

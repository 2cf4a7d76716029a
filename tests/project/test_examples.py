"""The examples and the benchmarks run, and say what they should."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, str(ROOT / script), *arguments], capture_output=True, text=True, timeout=1200, check=False
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


def test_demo(tmp_path):
    out = run("examples/demo.py", "--output", str(tmp_path))
    assert "Verification PASSED" in out
    assert "compared nodes agree; 0 of them not bit for bit" in out
    lines = [line.split(":")[1] for line in out.splitlines() if "top 5 from" in line]
    assert len(lines) == 2 and lines[0].strip() == lines[1].strip()
    assert {p.name for p in tmp_path.iterdir()} == {"resnet18_ir.json", "qwen2.5-1.5b_ir.json"}
    assert "1.54 billion parameters" in out.replace("\n", " ")


def test_resnet(tmp_path):
    out = run("examples/resnet.py", "--images", "3", "--size", "96", "--output", str(tmp_path))
    assert "the same top 5 as PyTorch on 3 of 3 images" in out
    assert {p.name for p in tmp_path.iterdir()} == {"resnet18.npubin", "resnet18.safetensors"}


def test_decoder():
    out = run("examples/decoder.py", "--tokens", "12", "--length", "64")
    assert out.count("the same tokens") == 3


def test_host_part():
    out = run("examples/host_part.py")
    assert "2 programs, 2 nodes on the host" in out
    assert "linalg_cholesky.default, 1 times: no lowering for this operator" in out


def test_profiling(tmp_path):
    out = run("examples/profiling.py", "--runs", "2", "--trace", str(tmp_path / "trace.json"))
    assert "GFLOP/s on the whole" in out
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert f"{len(events)} kernels of the last run" in out


def test_every_example_is_listed():
    listed = (ROOT / "examples" / "README.md").read_text()
    scripts = [path.name for path in (ROOT / "examples").glob("*.py")]
    assert all(f"({name})" in listed for name in scripts)


def test_ops_are_compared_with_eager_pytorch(tmp_path):
    narrow = ("--only", "softmax -1", "--sizes", "L1", "--dtypes", "float32", "bfloat16", "--threads", "1")
    out = run("benchmarks/bench_ops.py", *narrow, "--repeats", "1", "--json", str(tmp_path / "out.json"))
    cases = json.loads((tmp_path / "out.json").read_text())["results"]["cases"]
    assert [c["dtype"] for c in cases] == ["float32", "bfloat16"]
    for case in cases:
        assert case["name"] == "softmax -1" and case["size"] == "L1" and case["threads"] == 1
        assert case["ours"] > 0 and case["theirs"] > 0 and case["ratio"] > 0
        assert 1_000 < torch.tensor(case["shapes"][0]).prod() < 9_000  # about 16 KB of inputs and results
    assert "above 1.0 times eager PyTorch" in out


def test_a_case_of_the_benchmark_must_exist():
    with pytest.raises(AssertionError, match="no case has a name like sofmax"):
        run("benchmarks/bench_ops.py", "--only", "sofmax", "--sizes", "L1")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "keys"),
    [
        ("benchmarks/bench_extraction.py", {"extract", "save", "load", "file_bytes", "llama_70b"}),
        ("benchmarks/bench_execution.py", {"resnet50", "bert_base"}),
    ],
)
def test_benchmarks_give_their_figures(script, keys, tmp_path):
    out = run(script, "--repeats", "2", "--json", str(tmp_path / "out.json"))
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures["results"]) == keys
    assert {"cpu", "cores", "threads", "load", "torch"} <= set(figures["machine"])
    assert "at most" in out

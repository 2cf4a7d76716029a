"""The C++ page: its commands are run, its programs are built against an installed copy of the library and run."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cpp.md").read_text(encoding="utf-8")
ENVIRONMENT = {**os.environ, "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def run(command: str, cwd: Path, path: Path | None = None) -> str:
    environment = {**ENVIRONMENT, "PATH": f"{path}{os.pathsep}{ENVIRONMENT['PATH']}"} if path else ENVIRONMENT
    shell = ["bash", "-euo", "pipefail", "-c", command]
    done = subprocess.run(shell, cwd=cwd, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, f"{command}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


class Step(torch.nn.Module):
    def forward(self, x, position, cache):
        cache = cache.index_copy(0, position, x)
        return cache.sum(0), cache


def programs(folder: Path) -> None:
    import npu_compiler
    from safetensors.torch import save_file
    from torch_ir import extract_ir

    torch.manual_seed(0)
    nn = torch.nn
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)).eval()
    npu_compiler.compile(extract_ir(net, torch.zeros(1, 3, 16, 16))).save(folder / "resnet18.npubin")
    save_file(net.state_dict(), folder / "resnet18.safetensors")
    example = (torch.ones(1, 3), torch.tensor([0]), torch.zeros(4, 3))
    npu_compiler.compile(extract_ir(Step().eval(), example)).save(folder / "step.npubin")
    with torch.no_grad():
        (folder / "best").write_text(str(net(torch.zeros(1, 3, 16, 16)).argmax().item()))


@pytest.mark.slow
def test_the_page_builds_and_runs(tmp_path: Path) -> None:
    build, example, help_command, bench = blocks("bash")
    build = build.replace("-S .", f"-S {ROOT} -G Ninja").replace("build/cpp", str(tmp_path / "library"))
    run(build, tmp_path)
    folder = tmp_path / "example"
    folder.mkdir()
    (folder / "CMakeLists.txt").write_text(blocks("cmake")[0])
    for source in blocks("cpp"):
        name = re.match(r"// (\w+\.cpp):", source)
        assert name
        (folder / name[1]).write_text(source)
    run(example.replace("cmake -S", "cmake -G Ninja -S"), tmp_path)

    programs(tmp_path)
    best = (tmp_path / "best").read_text()
    printed = run("example/build/classify resnet18.npubin resnet18.safetensors", tmp_path)
    assert printed.strip().endswith(f"[1, 5]: {best}")
    run("example/build/classify resnet18.npubin", tmp_path)
    printed = run("example/build/decode step.npubin", tmp_path)
    assert "3 calls" in printed and "is in the memory of cache" in printed

    binaries = tmp_path / "npu" / "bin"
    assert run(help_command, tmp_path, binaries).strip() == blocks("text")[0].strip()
    assert "median ms" in run(bench, tmp_path, binaries)
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert len(figures["runs_ms"]) == 20 and figures["profile"]

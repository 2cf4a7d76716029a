"""Runs every code block of the README and the docs, page by page, in a folder of its own.

Python blocks of a page share their names; bash blocks run one after another. A block that another test runs, because it
installs or builds, carries a comment that names where. A block of text is part of what the block before it printed,
unless a comment says that it differs from machine to machine.
"""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "examples" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
KOREAN = ROOT / "README.ko.md"
_BLOCK = re.compile(
    r"(?:<!-- (?:run: elsewhere, (?P<where>[^ ]+)|(?P<varies>output: [^>]+)) -->\n)?"
    r"^```(?P<language>\w*)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_NOT_CODE = {"", "text", "json", "mermaid"}


@dataclass
class Block:
    language: str
    code: str
    where: str | None
    varies: bool
    line: int


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(m["language"], m["code"], m["where"], bool(m["varies"]), text.count("\n", 0, m.start("code")) + 1)
        for m in _BLOCK.finditer(text)
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_page(page: Path, tmp_path: Path):
    blocks = blocks_of(page)
    unknown = {b.language for b in blocks if not b.where} - _NOT_CODE - {"python", "bash"}
    assert not unknown, f"blocks of {unknown} would not be run"
    for block in blocks:
        if block.where:
            assert (ROOT / block.where).exists(), f"{page.name}:{block.line} says that {block.where} runs it"
    script = "\n".join(_as_python(block) for block in blocks if not block.where)
    if page.name == "cli-torch-ir.md":
        _prepare(tmp_path)
    runner = tmp_path / "_page.py"
    runner.write_text(_PRELUDE + script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(runner)],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    _check_outputs(page, blocks, done.stdout)


def _check_outputs(page: Path, blocks: list[Block], printed: str) -> None:
    parts = re.split(r"^-- line (\d+)\n", printed, flags=re.MULTILINE)
    outputs = {int(line): _trimmed(text) for line, text in zip(parts[1::2], parts[2::2], strict=True)}
    last = 0
    for block in blocks:
        if block.line in outputs:
            last = block.line
        if block.language == "text" and last and not block.varies:
            shown = _trimmed(block.code)
            assert _has_lines(outputs[last], shown), (
                f"{page.name}:{block.line} shows\n{shown}\nbut line {last} prints\n{outputs[last]}"
            )


def _has_lines(printed: str, shown: str) -> bool:
    """Whether these lines are printed one after the other. What a page leaves out of a line's end is an ellipsis."""
    lines = [
        re.escape(line.removesuffix("...")) + (".*" if line.endswith("...") else "$") for line in shown.splitlines()
    ]
    return re.search("^" + "\n".join(lines), printed, re.MULTILINE) is not None


def _trimmed(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip("\n").splitlines())


def _as_python(block: Block) -> str:
    """Python as it is; bash as a call that must succeed."""
    if block.language == "python":
        return f"print('\\n-- line {block.line}')\n{block.code}"
    if block.language == "bash":
        return f"_bash({block.code!r}, {block.line})\n"
    return ""


_PRELUDE = """
import tests.models.zoo  # makes torchvision importable, which transformers imports

def _bash(code, line):
    import subprocess
    command = ["bash", "-euo", "pipefail", "-c", code]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(f"\\n-- line {line}", done.stdout, sep="\\n")
    assert done.returncode == 0, (line, done.stdout)

"""


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    python_path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PATH": path, "PYTHONPATH": python_path, "NPU_SOURCE": str(ROOT), "COLUMNS": "120"}


def _prepare(folder: Path) -> None:
    """The files that the page starts from; that of the other command makes them."""
    from torch_ir import extract_ir

    from tests.models import MODEL_REGISTRY

    for name, file in (("DeepResNet", "model_ir.json"), ("TransformerBlock", "transformer_ir.json")):
        spec = MODEL_REGISTRY[name]
        import torch

        model = spec.model_class().eval()
        extract_ir(model, tuple(torch.zeros(1, *s) for s in spec.input_shapes), model_name=name).save(folder / file)


@pytest.mark.parametrize("package", ["torch_ir", "npu_compiler", "npu_runtime", "npu"])
def test_every_public_name_is_in_the_reference(package: str):
    reference = (ROOT / "docs" / "api" / "index.md").read_text(encoding="utf-8")
    section = reference.split(f"\n## {package}\n")[1].split("\n## ")[0]
    names = [name for name in importlib.import_module(package).__all__ if not name.startswith("__")]
    missing = [name for name in names if not re.search(rf"`[^`\n]*\b{name}\b", section)]
    assert not missing, f"docs/api says nothing of {missing}"


def _prose(page: Path) -> str:
    return re.sub(r"^( *)```.*?^\1```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def _anchors(page: Path) -> set[str]:
    """As viewers of repositories make them from headings."""
    headings = re.findall(r"^#+ (.+)$", _prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [*PAGES, KOREAN], ids=lambda p: str(p.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)\s]+)\)", _prose(page)):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        to = page.parent / path if path else page
        assert to.exists(), f"{page.relative_to(ROOT)} links to {target}"
        assert not anchor or anchor in _anchors(to), f"{page.relative_to(ROOT)}: no part {target}"


def test_readme_in_korean_has_the_same_blocks():
    assert [b.code for b in blocks_of(KOREAN)] == [b.code for b in blocks_of(ROOT / "README.md")]
    assert [b.where for b in blocks_of(KOREAN)] == [b.where for b in blocks_of(ROOT / "README.md")]


def test_readme_in_korean_has_the_same_figures():
    """And the same pictures: what a table says in numbers does not depend on a language."""
    english, korean = (re.findall(r"\d+(?:\.\d+)?", _table(page)) for page in (ROOT / "README.md", KOREAN))
    assert english == korean and len(english) > 20


def _table(page: Path) -> str:
    (table,) = re.findall(r"^\|[^\n]*OpenVINO.*?\n\n", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return str(table)

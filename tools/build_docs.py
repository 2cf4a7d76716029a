#!/usr/bin/env python3
"""Build the site of the documentation in build/docs/site: `make docs`.

The pages keep their places in the repository, so a link works in the site, in a checkout and in a viewer of the
repository. Files that pages link to, such as examples, are copied along. A link or an anchor that leads nowhere fails
the build. Nothing is downloaded once the packages in docs/requirements.txt are installed.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OUT = ROOT / "build" / "docs"
REQUIREMENTS = ROOT / "docs" / "requirements.txt"
PACKAGES = ("zensical", "mkdocstrings_handlers")
OUTSIDE_DOCS = (
    "README.md", "README.ko.md", "CONTRIBUTING.md", "examples/README.md", "benchmarks/README.md", "cpp/cuda/README.md",
    "cpp/softmetal/README.md",
)  # fmt: skip
_FENCE = re.compile(r"^( *)```.*?^\1```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)#\s]+)")
_COMMENT = re.compile(r"^<!--.*-->\n", re.MULTILINE)  # notes to tests, and to generators of tables
_DIAGRAM = re.compile(r"^```mermaid\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def pages() -> list[Path]:
    """The pages of the site, by their paths in the repository."""
    return [*(ROOT / name for name in OUTSIDE_DOCS), *sorted((ROOT / "docs").rglob("*.md"))]


def linked_files(page: Path, text: str) -> set[Path]:
    """What a page links to and is no page: pictures and sources."""
    targets = {target for target in _LINK.findall(_FENCE.sub("", text)) if "://" not in target}
    files = {(page.parent / target).resolve() for target in targets}
    return {path for path in files if path.is_file() and path.suffix != ".md"}


def lay_out(folder: Path) -> None:
    """Copy pages and what they link to, with their paths, to an empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    for page in pages():
        text = page.read_text(encoding="utf-8")
        target = folder / page.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(_with_diagrams(_COMMENT.sub("", text), target), encoding="utf-8")
        for path in (ROOT / "docs" / "site.css", *linked_files(page, text)):
            copy = folder / path.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def _with_diagrams(text: str, page: Path) -> str:
    """Diagrams as pictures beside the page, so that a reader's browser needs no script from elsewhere."""

    def picture(match: re.Match[str]) -> str:
        from torch_ir.visualize.rendering import render_image

        file = page.with_name(f"{page.stem}-{match.start()}.svg")
        file.write_bytes(render_image(match[1], ".svg"))
        return f"![diagram]({file.name})"

    return _DIAGRAM.sub(picture, text)


def install() -> None:
    if all(importlib.util.find_spec(name) for name in PACKAGES):
        return
    print("==> installing docs/requirements.txt", flush=True)
    command = [sys.executable, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "-r", REQUIREMENTS]
    subprocess.run(command, check=True)


def build() -> subprocess.CompletedProcess[str]:
    """Run the generator on the pages; fails on a warning."""
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "mkdocs.yml"]
    return subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def main() -> int:
    install()
    lay_out(OUT / "pages")
    done = build()
    if done.returncode:
        print(done.stdout, file=sys.stderr)
        return done.returncode
    print(f"==> {(OUT / 'site' / 'index.html').relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Every page of --help starts with examples, and they are commands that the page describes."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import npu.cli
import npu_runtime.__main__
import pytest
import torch_ir.cli

ROOT = Path(__file__).parents[2]
PARSERS = {
    "npu": npu.cli.create_parser(),
    "torch-ir": torch_ir.cli.create_parser(),
    "python -m npu_runtime": npu_runtime.__main__.create_parser(),
}


def pages(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in dict.fromkeys(action.choices.values()):
                yield from pages(command)


PAGES = [(name, page) for name, parser in PARSERS.items() for page in pages(parser)]
IDS = [page.prog for _, page in PAGES]


@pytest.mark.parametrize(("name", "page"), PAGES, ids=IDS)
def test_help_starts_with_examples(name: str, page: argparse.ArgumentParser) -> None:
    title, *lines = page.format_help().splitlines()
    examples = lines[: lines.index("")]
    assert title == ("example:" if len(examples) == 1 else "examples:") and examples
    assert lines[len(examples) + 1].startswith(f"usage: {page.prog} ")
    for line in examples:
        assert len(line) <= 110 and line.startswith(f"  {page.prog}"), line
        arguments = shlex.split(line, comments=True)[len(name.split()) :]
        parsed = PARSERS[name].parse_args(arguments)  # exits if it is wrong
        assert page is PARSERS[name] or page.prog == f"{name} {parsed.command}"


@pytest.mark.parametrize(("name", "page"), PAGES, ids=IDS)
def test_every_argument_says_what_it_is(name: str, page: argparse.ArgumentParser) -> None:
    for action in page._actions:
        assert action.help or isinstance(action, argparse._SubParsersAction), f"{page.prog}: {action}"


def test_every_command_of_the_project_is_here() -> None:
    """A script or a module that can be run is a page of its own."""
    scripts = re.search(r"\[project.scripts\]\n((?:\S+ = .*\n)+)", (ROOT / "pyproject.toml").read_text())
    assert scripts is not None
    targets = set(re.findall(r'"(.+?)"', scripts[1]))
    assert targets == {"npu.cli:main", "torch_ir.cli:main"}
    runnable = {path.parent.name for path in (ROOT / "python").glob("*/__main__.py")}
    assert runnable == {"npu", "torch_ir", "npu_runtime"}

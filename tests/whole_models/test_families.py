"""Every family of timm and every architecture of transformers: proven, or listed with its reason."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator

import pytest

from tests.models.zoo import timm_models, tiny_transformers, transformers_types
from tests.models.zoo.harness import ZooEntry
from tests.whole_models.families import HEADING, Outcome, prove, row

TIMM = timm_models.ENTRIES
TRANSFORMERS = transformers_types.entries()
UNABLE = {**timm_models.UNABLE, **transformers_types.UNABLE}
QUICK = {
    "timm": ("deit", "swin_transformer_v2_cr", "levit", "regnet"),
    "transformers": ("llama", "qwen3_moe", "vit", "patchtst"),
}


NEEDS_TIMM = pytest.mark.skipif(
    importlib.util.find_spec("timm") is None, reason="timm is not installed; make setup installs it"
)


def marks(library: str, quick: bool) -> list[pytest.MarkDecorator]:
    return [*([] if quick else [pytest.mark.slow]), *([NEEDS_TIMM] if library == "timm" else [])]


def cases(quick: bool) -> list[object]:
    tables = {"timm": TIMM, "transformers": TRANSFORMERS}
    return [
        pytest.param(library, name, entry, id=f"{library}-{name}", marks=marks(library, quick))
        for library, entries in tables.items()
        for name, entry in entries.items()
        if (name in QUICK[library]) == quick
    ]


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[list[str]]:
    """Rows that are printed when all are there."""
    rows: list[str] = []
    yield rows
    if len(rows) > len(QUICK["timm"]) + len(QUICK["transformers"]):
        whole = sum(not line.startswith("unable") for line in rows)
        lines = ("", HEADING, *(line.removeprefix("unable ") for line in rows))
        with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(*lines, f"{whole} of {len(rows)} whole on the device", sep="\n")


def check(library: str, name: str, entry: ZooEntry, table: list[str]) -> None:
    outcome: Outcome = prove(entry)
    pattern, reason = UNABLE.get(name, (None, None))
    mark = "" if outcome.reason is None else "unable "
    table.append(mark + row(f"{library} {name}", outcome, reason))
    if pattern is None:
        assert outcome.reason is None, outcome.reason
    else:
        assert outcome.reason is not None, f"{name} works now: take it out of UNABLE"
        assert re.search(pattern, outcome.reason), outcome.reason


@pytest.mark.parametrize(("library", "name", "entry"), cases(quick=True))
def test_quick(library: str, name: str, entry: ZooEntry, table: list[str]) -> None:
    check(library, name, entry, table)


@pytest.mark.parametrize(("library", "name", "entry"), cases(quick=False))
def test_family(library: str, name: str, entry: ZooEntry, table: list[str]) -> None:
    check(library, name, entry, table)


@NEEDS_TIMM
def test_every_family_of_timm_is_tried() -> None:
    assert set(TIMM) == timm_models.families()
    assert len(TIMM) == 90


def test_every_type_of_transformers_is_tried_or_has_its_reason() -> None:
    left_out = transformers_types.left_out()
    known = {*TRANSFORMERS, *left_out}
    types = set(tiny_transformers.all_types())
    assert types - known == set(), "neither tried nor listed with a reason"
    assert set(left_out) - types == set(), "transformers does not have these any more"
    assert set(TRANSFORMERS) & set(left_out) == set()
    assert all(left_out.values())


def test_enough_is_proven() -> None:
    assert len(TRANSFORMERS.keys() - UNABLE.keys()) >= 150
    assert len(UNABLE) <= 0.05 * (len(TIMM) + len(TRANSFORMERS)), "95% run whole on the device"
    assert UNABLE.keys() <= TIMM.keys() | TRANSFORMERS.keys()
    assert all(reason for _, reason in UNABLE.values())

"""Hugging Face architectures, extracted, saved, loaded, executed and verified."""

from __future__ import annotations

import importlib.util
import re

import pytest
import torch

from tests.models.zoo.harness import ZooEntry, check
from tests.models.zoo.huggingface_models import (
    AUDIO,
    DECODERS,
    ENCODER_DECODERS,
    ENCODERS,
    ENTRIES,
    EXPERT_MIXTURES,
    FULL_SIZE,
    VISION_MODELS,
)
from tests.models.zoo.unexportable import UNEXPORTABLE, Unexportable

_CASES = [pytest.param(e, d, id=f"{e.name}-{str(d)[6:]}") for e in ENTRIES for d in e.dtypes]


def test_transformers_is_installed() -> None:
    assert importlib.util.find_spec("transformers"), (
        "transformers is part of the development environment; without it nothing here is proven"
    )


def test_every_kind_of_architecture_is_covered() -> None:
    assert len({e.name.split(",")[0] for e in ENTRIES}) >= 24
    assert len({e.name for e in ENTRIES}) == len(ENTRIES)
    for kind in (DECODERS, EXPERT_MIXTURES, ENCODERS, ENCODER_DECODERS, VISION_MODELS, AUDIO):
        assert len(kind) >= 2


def test_an_entry_without_a_dtype_says_why() -> None:
    explained = {(u.entry.name, d) for u in UNEXPORTABLE for d in u.dtypes}
    left_out = {(e.name, d) for e in ENTRIES for d in (torch.float32, torch.bfloat16) if d not in e.dtypes}
    assert left_out <= explained


@pytest.mark.parametrize(("entry", "dtype"), _CASES)
def test_tiny(entry: ZooEntry, dtype: torch.dtype) -> None:
    result = check(entry, dtype)
    assert result.reason is None, result.reason


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("entry", FULL_SIZE, ids=lambda e: e.name)
def test_full_size(entry: ZooEntry, dtype: torch.dtype) -> None:
    result = check(entry, dtype)
    assert result.reason is None, result.reason


@pytest.mark.parametrize("case", UNEXPORTABLE, ids=lambda u: u.entry.name)
def test_what_cannot_be_extracted_still_cannot(case: Unexportable) -> None:
    for dtype in case.dtypes:
        result = check(case.entry, dtype)
        assert result.reason is not None, f"{case.entry.name} works now in {dtype}: move it to its table"
        assert re.search(case.message, result.reason), result.reason
        assert case.reason

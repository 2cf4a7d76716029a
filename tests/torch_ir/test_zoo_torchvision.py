"""torchvision's classifiers, extracted, saved, loaded, executed and verified."""

from __future__ import annotations

import pytest
import torch

from tests.models.zoo.harness import ZooEntry, check
from tests.models.zoo.torchvision_compat import has_torchvision
from tests.models.zoo.torchvision_models import ENTRIES, FULL_SIZE


def test_torchvision_is_installed() -> None:
    assert has_torchvision(), "torchvision is part of the development environment; without it nothing here is proven"


def test_enough_families_are_covered() -> None:
    assert len(ENTRIES) >= 18
    assert len({e.name for e in [*ENTRIES, *FULL_SIZE]}) == len(ENTRIES) + len(FULL_SIZE)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_float32(entry: ZooEntry) -> None:
    result = check(entry, torch.float32)
    assert result.reason is None, result.reason


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda e: e.name)
def test_bfloat16(entry: ZooEntry) -> None:
    result = check(entry, torch.bfloat16)
    assert result.reason is None, result.reason


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("entry", FULL_SIZE, ids=lambda e: e.name)
def test_full_size(entry: ZooEntry, dtype: torch.dtype) -> None:
    result = check(entry, dtype)
    assert result.reason is None, result.reason

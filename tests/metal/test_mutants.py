"""Mutants of kernels: what is listed as unnoticeable still exists, and a change is one change."""

from __future__ import annotations

import kernel_mutants
import pytest

FILES = sorted({path.name for path in kernel_mutants.KERNELS.iterdir()} - kernel_mutants.SHARED)


def test_mutants_are_the_same_each_time():
    mutants = kernel_mutants.mutants_of("softmax.metal")
    some = kernel_mutants.sample(mutants, 20, seed=3)
    assert some == kernel_mutants.sample(mutants, 20, seed=3)
    assert len({mutant.operator for mutant in some}) >= 8


@pytest.mark.parametrize("file", FILES)
def test_a_mutant_changes_what_it_says(file):
    text = (kernel_mutants.KERNELS / file).read_text()
    for mutant in kernel_mutants.mutants_of(file):
        changed = mutant.apply(text)
        assert changed[: mutant.start] == text[: mutant.start]
        assert changed.endswith(text[mutant.end :])
        assert changed != text


def test_what_cannot_be_noticed_is_still_there():
    mutants = {(m.file, m.before, m.after) for file in FILES for m in kernel_mutants.mutants_of(file)}
    assert set(kernel_mutants.equivalents()) <= mutants


def test_files_know_their_libraries():
    assert kernel_mutants.libraries_with("rows.h") == ["norm", "softmax"]
    assert kernel_mutants.libraries_with("scan.metal") == ["scan"]
    assert kernel_mutants.GENERATED in kernel_mutants.libraries_with("expression.h")

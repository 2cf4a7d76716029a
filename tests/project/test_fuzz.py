"""A short form of `make fuzz`."""

import subprocess
import sys
from pathlib import Path

import fuzz
import pytest

from tests.support.fuzz_ir import fuzz_ir
from tests.support.fuzz_quantized import fuzz_quantized
from tests.support.fuzz_saved import fuzz_saved

ROOT = Path(__file__).resolve().parents[2]


def test_damaged_ir():
    accepted, refused = fuzz_ir(300, start=5)
    assert accepted > 5 and refused > 200


def test_damaged_saved_files():
    accepted, refused = fuzz_saved(800, start=5)
    assert accepted > 10 and refused > 600


def test_damaged_quantised_files():
    accepted, refused = fuzz_quantized(800, start=5)
    assert accepted > 80 and refused > 400


@pytest.mark.slow
def test_make_fuzz():
    if fuzz.compiler_with_libfuzzer() is None:
        pytest.skip("needs a clang with libFuzzer")
    command = [sys.executable, ROOT / "tools" / "fuzz.py", "--runs", "200000", "--seed", "3"]
    command += ["--ir-runs", "3000", "--saved-runs", "3000", "--quantized-runs", "3000"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for reader in ("program: 160,000 files", "safetensors: 40,000 files", "IR: ", "saved files: ", "quantised files: "):
        assert reader in result.stdout
    assert result.stdout.count("nothing found") == 5

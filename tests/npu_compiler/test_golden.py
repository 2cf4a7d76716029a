"""Listings of small programs, the generated header, and that equal IRs give equal bytes."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from npu_compiler import compile

from . import golden

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", golden.MODELS)
def test_listing(name: str) -> None:
    """After a change that is meant: ``python -m tests.npu_compiler.golden`` and look at the difference."""
    assert golden.program(name).text() == (golden.FOLDER / f"{name}.txt").read_text()


def test_generated_files_are_up_to_date() -> None:
    command = [sys.executable, ROOT / "tools/generate_opset.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_check_notices_another_op_set(tmp_path: Path) -> None:
    generated = ("cpp/core/program/opset.gen.h", "cpp/core/program/op_rules.gen.h", "docs/program-format.md")
    for name in ("tools/generate_opset.py", "python/npu_compiler/opset.py", *generated):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text((ROOT / name).read_text())
    table = tmp_path / "python/npu_compiler/opset.py"
    table.write_text(table.read_text().replace('"copy",', '"duplicate",'))
    command = [sys.executable, tmp_path / "tools/generate_opset.py"]
    refused = subprocess.run([*command, "--check"], capture_output=True, text=True, check=False)
    assert refused.returncode == 1 and all(name in refused.stderr for name in generated)
    subprocess.run(command, check=True)
    assert subprocess.run([*command, "--check"], check=False).returncode == 0


def test_compiling_leaves_the_ir_as_it_was() -> None:
    ir = golden.ir("residual")
    before = json.dumps(ir)
    assert compile(ir).to_bytes() == compile(ir).to_bytes()
    assert json.dumps(ir) == before


def test_other_processes_make_the_same_bytes(tmp_path: Path) -> None:
    """Nothing hangs on the order of a set, nor on addresses."""
    code = "import sys, npu_compiler as n; [sys.stdout.buffer.write(n.compile(p).to_bytes()) for p in sys.argv[1:]]"
    files, want = [], b""
    for name in golden.MODELS:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(golden.ir(name)))
        files.append(str(path))
        want += compile(path).to_bytes()
    for seed in ("0", "1", "77"):
        command = [sys.executable, "-c", code, *files]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        done = subprocess.run(command, env=environment, capture_output=True, check=True)
        assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(want).digest(), seed

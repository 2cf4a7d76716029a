"""examples/ray_data.py: a data set on several processes, one of which is lost."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_every_row_once_although_a_worker_is_lost() -> None:
    pytest.importorskip("ray.data", reason="tests/requirements-slow.txt")
    command = [sys.executable, str(ROOT / "examples" / "ray_data.py"), "--rows", "700", "--lose-a-worker"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    found = re.search(r"(\d+) workers wrote (\d+) rows, (\d+) of them different", done.stdout)
    assert found and int(found[1]) >= 2 and found[2] == found[3] == "700", done.stdout
    assert "one worker was lost" in done.stdout and "the same results" in done.stdout

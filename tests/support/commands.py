"""The commands of the project, also where it is not installed: `make test-cuda` uses an interpreter as it is."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def script(name: str) -> Path:
    """Of the folder in NPU_TEST_SCRIPTS, else of this interpreter's environment."""
    folder = os.environ.get("NPU_TEST_SCRIPTS")
    return Path(folder) / name if folder else Path(sys.executable).with_name(name)

"""What ``npu doctor --kernels`` found, kept for this user by GPU, driver and version of this package."""

from __future__ import annotations

import json
import os
import platform
import re
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from npu_base.errors import NPUWarning
from npu_base.files import write_file

from npu_runtime._core import Device, build_info, devices
from npu_runtime.errors import FileError

__all__ = ["Verdict", "folder", "keep_verdict", "mention", "read_verdicts"]

_MOST = 16  # verdicts of one GPU: of its latest drivers and versions
_mentioned = False


@dataclass(frozen=True)
class Verdict:
    chip: str
    driver: str
    version: str
    deviations: int
    programs: int

    @classmethod
    def of(cls, device: Device, *, deviations: int, programs: int) -> Verdict:
        return cls(device.name, driver_of(device.kind), _version(), deviations, programs)

    @property
    def about(self) -> tuple[str, str, str]:
        return self.chip, self.driver, self.version


def folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(cache) / "npu-simulation" / "kernels"


def _version() -> str:
    build = build_info()
    return f"{build.version} ({build.git_describe})" if build.git_describe else build.version


def driver_of(kind: str) -> str:
    """NVIDIA's driver; on a Mac, the driver is part of the system."""
    for info in devices():
        if info.kind == kind and info.driver:
            return info.driver
    return f"macOS {platform.mac_ver()[0]}" if platform.system() == "Darwin" else platform.system()


def _file(chip: str) -> Path:
    return folder() / (re.sub(r"[^A-Za-z0-9]+", "-", chip).strip("-")[:100] + ".json")


def read_verdicts(chip: str) -> list[Verdict]:
    """The latest first. A file that is damaged is as good as none."""
    try:
        rows = json.loads(_file(chip).read_bytes())
        verdicts = [Verdict(**row) for row in rows]
    except (OSError, ValueError, TypeError, RuntimeError):
        return []
    kinds: dict[str, type] = dict.fromkeys(("chip", "driver", "version"), str) | dict.fromkeys(
        ("deviations", "programs"), int
    )
    fit = all(isinstance(getattr(v, name), kind) for v in verdicts for name, kind in kinds.items())
    return [v for v in verdicts if v.chip == chip] if fit else []


def keep_verdict(verdict: Verdict) -> tuple[str | None, str]:
    """The file that has it now; or None, and why it could not be written."""
    others = [v for v in read_verdicts(verdict.chip) if v.about != verdict.about]
    rows: list[dict[str, Any]] = [asdict(v) for v in [verdict, *others][:_MOST]]
    try:
        path = _file(verdict.chip)
        write_file(path, json.dumps(rows, indent=2) + "\n", parents=True)
    except (FileError, RuntimeError) as error:  # RuntimeError: there is no home folder
        return None, str(error)
    return str(path), ""


def mention(kind: str, chip: str) -> None:
    """Warn, once in a process, if the kernels of this GPU were found to deviate. ``Device()`` calls it."""
    global _mentioned
    if _mentioned:
        return
    bad = [v for v in read_verdicts(chip) if v.version == _version()]
    if not any(v.deviations for v in bad):
        return
    driver = driver_of(kind)
    for verdict in bad:
        if verdict.driver == driver and verdict.deviations:
            _mentioned = True
            warnings.warn(
                f"kernels of this GPU gave wrong results when they were checked: {verdict.deviations} deviations in "
                f"{verdict.programs} programs on {chip}; try `npu doctor --kernels --device {kind}`, which lists them, "
                'or Device("cpu"), which is not affected',
                NPUWarning,
                stacklevel=2,
            )
            return

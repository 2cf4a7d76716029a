"""Describes this installation and the machine, as data and as tables."""

from __future__ import annotations

import platform
from typing import Any

from rich.console import Console
from rich.table import Table

from npu_runtime import _core
from npu_runtime.errors import InvalidValueError
from npu_runtime.threads import get_num_threads

__all__ = ["collect", "print_tables"]

_BUILD_FIELDS = (
    "version",
    "git_describe",
    "compiler",
    "flags",
    "build_type",
    "system",
    "architecture",
    "metal",
)
_CPU_FIELDS = (
    "brand",
    "architecture",
    "features",
    "logical_cores",
    "physical_cores",
    "affinity_logical_cores",
    "affinity_physical_cores",
    "cpu_quota",
    "usable_cores",
    "memory_bytes",
    "memory_limit_bytes",
)
_DEVICE_FIELDS = ("kind", "available", "name", "reason", "driver", "cores", "memory_bytes", "features")


def _fields(source: object, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(source, name) for name in names}


def collect() -> dict[str, Any]:
    """Everything that the tables show, as JSON types."""
    threads: dict[str, Any] = {"count": None, "error": None, "max": _core.MAX_THREADS}
    try:
        threads["count"] = get_num_threads()
    except InvalidValueError as error:
        # A wrong NPU_NUM_THREADS must not hide the rest, which helps to find the cause.
        threads["error"] = str(error)
    return {
        "build": _fields(_core.build_info(), _BUILD_FIELDS),
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "cpu": _fields(_core.cpu_info(), _CPU_FIELDS),
        "threads": threads,
        "devices": [_fields(device, _DEVICE_FIELDS) for device in _core.devices()],
    }


def _gibibytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"


def _cores(cpu: dict[str, Any]) -> str:
    text = f"{cpu['physical_cores']} physical, {cpu['logical_cores']} logical; usable {cpu['usable_cores']}"
    limits = []
    if cpu["affinity_logical_cores"] < cpu["logical_cores"]:
        limits.append(f"affinity {cpu['affinity_logical_cores']} logical")
    if cpu["cpu_quota"]:
        limits.append(f"quota {cpu['cpu_quota']:g}")
    return f"{text} ({', '.join(limits)})" if limits else text


def _memory(cpu: dict[str, Any]) -> str:
    text, limit = _gibibytes(cpu["memory_bytes"]), cpu["memory_limit_bytes"]
    return f"{text}, limited to {_gibibytes(limit)}" if limit else text


def _two_columns(title: str, rows: list[tuple[str, str]]) -> Table:
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _build_table(info: dict[str, Any]) -> Table:
    build, python = info["build"], info["python"]
    rows = [
        ("version", build["version"] + (f" ({build['git_describe']})" if build["git_describe"] else "")),
        ("system", f"{build['system']} {build['architecture']}"),
        ("python", f"{python['implementation']} {python['version']}"),
        ("compiler", build["compiler"]),
        ("build type", build["build_type"]),
        ("flags", build["flags"] or "none"),
        ("Metal driver", "built in" if build["metal"] else "not built"),
    ]
    return _two_columns("Build", rows)


def _cpu_table(info: dict[str, Any]) -> Table:
    cpu, threads = info["cpu"], info["threads"]
    present = [name for name, available in cpu["features"].items() if available]
    absent = [name for name, available in cpu["features"].items() if not available]
    rows = [
        ("processor", cpu["brand"]),
        ("cores", _cores(cpu)),
        ("memory", _memory(cpu)),
        ("features", " ".join(present) or "none"),
        ("not available", " ".join(absent) or "none"),
        ("threads", threads["error"] or str(threads["count"])),
    ]
    return _two_columns("CPU", rows)


def _device_table(info: dict[str, Any]) -> Table:
    table = Table(title="Devices", title_justify="left")
    for heading in ("device", "available", "description"):
        table.add_column(heading, overflow="fold")
    for device in info["devices"]:
        if device["available"]:
            text = f"{device['name']}, {device['cores']} cores, {_gibibytes(device['memory_bytes'])}"
        else:
            text = device["reason"]
        table.add_row(device["kind"], "yes" if device["available"] else "no", text)
    return table


def print_tables(info: dict[str, Any], console: Console | None = None) -> None:
    """Print the result of `collect`."""
    out = console or Console(markup=False, highlight=False)
    for table in (_build_table(info), _cpu_table(info), _device_table(info)):
        out.print(table)

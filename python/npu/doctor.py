"""The command ``npu doctor``: what is installed, and which devices are available."""

from __future__ import annotations

import platform
from importlib import metadata
from typing import Any

import npu_runtime

_PACKAGES = ("npu-simulation", "torch", "numpy", "ml_dtypes", "safetensors", "torchvision", "transformers", "mermaidx")


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def report() -> dict[str, Any]:
    build, cpu = npu_runtime.build_info(), npu_runtime.cpu_info()
    best = npu_runtime.Device()
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "build": {
            "version": build.version,
            "commit": build.git_describe,
            "compiler": build.compiler,
            "type": build.build_type,
        },
        "cpu": {
            "brand": cpu.brand,
            "usable_cores": cpu.usable_cores,
            "threads": npu_runtime.get_num_threads(),
            "features": [name for name, there in cpu.features.items() if there],
        },
        "devices": [
            {"kind": d.kind, "available": d.available, "name": d.name, "reason": d.reason}
            for d in npu_runtime.devices()
        ],
        "default_device": {"kind": best.kind, "name": best.name},
    }


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_report(results: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    console.print(f"Python {results['python']} on {results['system']}")
    table = Table("Package", "Version")
    for name, version in results["packages"].items():
        table.add_row(name, version or "not installed")
    console.print(table)
    cpu = results["cpu"]
    cores, threads = _count(cpu["usable_cores"], "usable core"), _count(cpu["threads"], "thread")
    console.print(f"CPU: {cpu['brand']}, {cores}, {threads} used")
    table = Table("Device", "Available", "Name or reason")
    for device in results["devices"]:
        table.add_row(device["kind"], "yes" if device["available"] else "no", device["name"] or device["reason"])
    console.print(table)
    default = results["default_device"]
    console.print(f"Device() is {default['kind']}: {default['name']}")

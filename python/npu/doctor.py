"""The command ``npu doctor``: what is installed, which devices are available, and whether their kernels are right."""

from __future__ import annotations

import ctypes
import json
import platform
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import npu_runtime

from npu.consoles import output_console

if TYPE_CHECKING:
    from rich.table import Table

    from npu.kernels import KernelReport

_PACKAGES = (
    "npu-simulation", "torch", "numpy", "ml_dtypes", "safetensors", "torchvision", "transformers", "mermaidx",
    "nvidia-cuda-nvrtc", "nvidia-cuda-nvrtc-cu12",
)  # fmt: skip
_ALTERNATIVES = ("nvidia-cuda-nvrtc-cu12",)  # not worth a row where it is not installed


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
            {
                "kind": d.kind,
                "available": d.available,
                "name": d.name,
                "reason": d.reason,
                "features": d.features,
                "memory_bytes": d.memory_bytes,
                "driver": d.driver,
            }
            for d in npu_runtime.devices()
        ],
        "nvrtc": _nvrtc(),
        "default_device": {"kind": best.kind, "name": best.name},
    }


def _nvrtc() -> dict[str, str] | None:
    """NVIDIA's compiler that this process has loaded, which it does where there is an NVIDIA driver."""
    try:
        maps = Path("/proc/self/maps").read_text()
    except OSError:
        return None
    match = re.search(r"\S*/libnvrtc\.so\S*", maps)
    if match is None:
        return None
    major, minor = ctypes.c_int(), ctypes.c_int()
    ctypes.CDLL(match[0]).nvrtcVersion(ctypes.byref(major), ctypes.byref(minor))
    return {"version": f"{major.value}.{minor.value}", "path": match[0]}


def _description(device: dict[str, Any]) -> str:
    if not device["available"]:
        return str(device["reason"])
    if device["kind"] == "cpu":  # its features are many, and --json has them
        return f"{device['name']}, {device['memory_bytes'] / 2**30:.1f} GiB"
    facts = [device["name"], *device["features"], f"{device['memory_bytes'] / 2**30:.1f} GiB"]
    return ", ".join(facts + ([f"driver {device['driver']}"] if device["driver"] else []))


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def print_report(results: dict[str, Any]) -> None:
    from rich.table import Column, Table

    console = output_console()
    console.print(f"Python {results['python']} on {results['system']}")
    table = Table("Package", "Version")
    for name, version in results["packages"].items():
        if version or name not in _ALTERNATIVES:
            table.add_row(name, version or "not installed")
    console.print(table)
    cpu = results["cpu"]
    cores, threads = _count(cpu["usable_cores"], "usable core"), _count(cpu["threads"], "thread")
    console.print(f"CPU: {cpu['brand']}, {cores}, {threads} used")
    table = Table("Device", "Available", Column("Name or reason", overflow="fold"))
    for device in results["devices"]:
        table.add_row(device["kind"], "yes" if device["available"] else "no", _description(device))
    console.print(table)
    if results["nvrtc"] is not None:
        console.print(f"NVRTC {results['nvrtc']['version']}: {results['nvrtc']['path']}", soft_wrap=True)
    default = results["default_device"]
    console.print(f"Device() is {default['kind']}: {default['name']}")


def run_kernels(device: str | None, as_json: bool) -> int:
    """``npu doctor --kernels``: the exit status is 1 if something deviates."""
    from npu.kernels import check_kernels, gpu_to_check

    gpu = gpu_to_check(device)
    if not as_json:
        emulated = (
            " Metal is emulated on this machine: this checks our kernels, not a GPU." if _is_emulated(gpu) else ""
        )
        print(f"Comparing kernels on {gpu.name} ({gpu.kind}) with the CPU.{emulated}", flush=True)
    with _KernelProgress(sys.stderr.isatty()) as progress:
        results = check_kernels(gpu, progress)
    print(json.dumps(results.as_dict(), indent=2)) if as_json else _print_kernels(results)
    return 0 if results.good else 1


def _is_emulated(device: npu_runtime.Device) -> bool:
    return device.kind == "metal" and platform.system() != "Darwin"


def _deviations(results: KernelReport) -> Table:
    """Texts are below each other, so that no terminal is too narrow for the figures."""
    from rich.table import Column, Table

    figures = (Column(name, justify="right", no_wrap=True) for name in ("Error", "Allowed", "Largest"))
    table = Table(Column("Program", overflow="fold"), "Dtype", Column("Output", overflow="fold"), *figures)
    for d in results.deviations:
        numbers = ("", "", "") if d.reason else (f"{d.error:.2g}", f"{d.tolerance:.2g}", f"{d.largest:.2g}")
        ops = f"ops: {d.ops}" if d.ops != d.case else ""
        table.add_row("\n".join(filter(None, (d.case, ops, d.reason))), d.dtype, d.output, *numbers)
    return table


def _print_kernels(results: KernelReport) -> None:
    console = output_console()
    if results.deviations:
        console.print(_deviations(results))
        console.print(
            "Error: of a whole tensor, relative to its norm. Largest: of one element, relative to its own size."
        )
    if results.stopped:
        console.print(f"{results.stopped}\n{_count(results.not_run, 'program')} not run", soft_wrap=True)
    elif results.not_run:
        console.print(f"Stopped after errors in a row: {_count(results.not_run, 'program')} not run")
    verdict = "none deviates" if not results.deviations else _count(len(results.deviations), "deviation")
    console.print(f"{_count(results.programs, 'program')} in {results.seconds:.0f} s: {verdict}")
    if results.kept_in is None:
        console.print(f"The verdict was not kept: {results.not_kept}", soft_wrap=True)
        return
    driver = f"{results.device}, driver {results.driver}, npu-simulation {results.version}"
    console.print(f"Kept in {results.kept_in}\nIt holds for {driver}", soft_wrap=True)


class _KernelProgress:
    """A progress bar, if stderr is a terminal."""

    def __init__(self, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            columns = (
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.description}", markup=False),
            )
            self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task("")

    def __enter__(self) -> _KernelProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, done: int, total: int, name: str) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=total, description=name)

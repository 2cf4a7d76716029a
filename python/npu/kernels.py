"""Whether the kernels of a GPU compute what the CPU device computes: ``npu doctor --kernels``."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_base.errors import InvalidValueError, format_error
from npu_runtime import Device, Executor, NPUBuffer, NPUError, Program, UnavailableError, Weights, devices
from npu_runtime.device import AnyDevice
from npu_runtime.verdicts import Verdict, keep_verdict

from npu.kernel_sample import Entry, read_sample

__all__ = ["Deviation", "KernelReport", "best_gpu", "check_kernels"]

Progress = Callable[[int, int, str], None]
_ELEMENT = 8  # times the tolerance of a whole tensor: how far one element may be off, relative to its size
_MOST_ERRORS = 5  # one after another: then the device is lost, or can compile nothing


@dataclass(frozen=True)
class Deviation:
    """An output that differs by more than its tolerance, or a program that did not run."""

    case: str
    dtype: str
    ops: str
    output: str = ""
    error: float = 0.0  # of the whole tensor, relative
    largest: float = 0.0  # of one element, relative to its size
    tolerance: float = 0.0  # of the whole tensor
    reason: str = ""


@dataclass(frozen=True)
class KernelReport:
    kind: str
    device: str
    driver: str
    version: str
    programs: int
    seconds: float
    deviations: list[Deviation]
    not_run: int = 0
    kept_in: str | None = None  # the file with the verdict; None if it was not kept
    not_kept: str = field(default="")  # why
    stopped: str = ""  # why the GPU could not run the rest, which says nothing about its kernels

    @property
    def good(self) -> bool:
        return not self.deviations and not self.stopped

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "good": self.good}


def best_gpu() -> Device:
    """The GPU that Device() means, else emulated Metal."""
    best = Device()
    if best.kind != "cpu":
        return best
    try:
        return Device("metal:emulated")
    except UnavailableError:
        reasons = "; ".join(f"{d.kind}: {d.reason}" for d in devices() if d.kind != "cpu")
        raise UnavailableError(
            format_error("npu", "there is no GPU whose kernels could be checked", got=reasons)
        ) from None


def check_kernels(
    device: AnyDevice | None = None, progress: Progress | None = None, *, entries: Iterable[Entry] | None = None
) -> KernelReport:
    """Run the packaged sample on a GPU and on the CPU, compare, and keep the verdict for this user.

    Nothing is kept if the GPU is lost or out of memory before the end, or if its kernels are not those of this version.
    ``progress`` is called before each program, with how many are done, how many there are, and a name.

    Raises:
        UnavailableError: there is no such device, or it is lost or out of memory before the end.
    """
    gpu = gpu_to_check(device)
    host = Device("cpu")
    sample = list(read_sample() if entries is None else entries)
    begin, deviations, errors, done, stopped = time.perf_counter(), [], 0, 0, ""
    for entry in sample:
        if progress is not None:
            progress(done, len(sample), entry.name)
        try:
            deviations += _compare(entry, gpu, host)
            errors = 0
        except (NPUError, MemoryError) as error:
            if _is_unavailable(gpu, error):
                stopped = f"{entry.name} could not be run: {error}"
                break
            errors += 1
            deviations.append(Deviation(entry.name, entry.dtype, entry.ops, reason=str(error)))
        done += 1
        if errors == _MOST_ERRORS:
            break
    if progress is not None:
        progress(done, len(sample), "")
    seconds = time.perf_counter() - begin
    verdict = Verdict.of(gpu, deviations=len(deviations), programs=done)
    why = _not_a_verdict(entries is None, stopped)
    path, why = (None, why) if why else keep_verdict(verdict)
    return KernelReport(
        gpu.kind, gpu.name, verdict.driver, verdict.version, done, round(seconds, 1), deviations,
        len(sample) - done, path, why, stopped,
    )  # fmt: skip


def _is_unavailable(gpu: Device, error: Exception) -> bool:
    """Whether the GPU, and not a kernel, is the trouble: it is lost, or there is no memory."""
    if isinstance(error, UnavailableError | MemoryError):
        return True
    try:
        NPUBuffer.zeros([1], gpu)
    except NPUError:
        return True
    return False


def _not_a_verdict(is_packaged: bool, stopped: str) -> str:
    """Why the result says nothing about the kernels of this version; empty if it does."""
    if not is_packaged:
        return "not the packaged sample"
    if os.environ.get("NPU_KERNEL_FOLDER"):
        return "NPU_KERNEL_FOLDER replaces the kernels of this version"
    return "the check did not reach its end" if stopped else ""


def gpu_to_check(device: AnyDevice | None) -> Device:
    """Raises if it is the CPU, or not a device of this machine."""
    gpu = _chosen_gpu(device)
    NPUBuffer.zeros([1], gpu)  # raises if it is only described, not here
    return gpu


def _chosen_gpu(device: AnyDevice | None) -> Device:
    if device is None:
        return best_gpu()
    gpu = device if isinstance(device, Device) else Device(device)
    if gpu.kind == "cpu":
        raise InvalidValueError(
            format_error(
                "npu",
                "the CPU is what kernels are compared with",
                got="cpu",
                expected="a GPU: metal, cuda, metal:emulated",
            )
        )
    return gpu


def _compare(entry: Entry, gpu: Device, host: Device) -> list[Deviation]:
    program = Program.parse(entry.program)
    inputs = entry.make(entry.inputs)
    results = []
    for device in (host, gpu):
        weights = Weights()
        for name, array in entry.make(entry.weights).items():
            weights[name] = array
        outputs = Executor(program, device).run(inputs, weights)
        results.append({name: buffer.to_numpy().copy() for name, buffer in outputs.items()})
    found = []
    for (name, right), tolerance in zip(results[0].items(), entry.tolerances, strict=True):
        error, largest = difference(results[1][name], right)
        if not np.isfinite(error):
            reason = _unlike(results[1][name], right)
            found.append(Deviation(entry.name, entry.dtype, entry.ops, name, reason=reason))
        elif deviates(error, largest, tolerance):
            found.append(Deviation(entry.name, entry.dtype, entry.ops, name, error, largest, 2 * tolerance))
    return found


def deviates(error: float, largest: float, tolerance: float) -> bool:
    """Both devices may be off by the tolerance, in opposite directions."""
    return error > 2 * tolerance or largest > 2 * _ELEMENT * tolerance


def _unlike(got: npt.NDArray[Any], right: npt.NDArray[Any]) -> str:
    """Where no error can be computed."""
    if got.shape != right.shape or got.dtype != right.dtype:
        return f"{got.dtype}{list(got.shape)} instead of {right.dtype}{list(right.shape)}"
    a, b = got.astype(np.float64), right.astype(np.float64)
    exact = right.dtype.kind in "iu"
    apart = got != right if exact else ~((np.isfinite(a) & np.isfinite(b)) | (a == b) | (np.isnan(a) & np.isnan(b)))
    count = int(np.count_nonzero(apart))
    return f"{count} of {right.size} {'integers differ' if exact else 'elements are infinite or NaN on one side only'}"


def difference(got: npt.NDArray[Any], right: npt.NDArray[Any]) -> tuple[float, float]:
    """Of the whole tensor, by the Frobenius norm, and of one element, each relative; infinity where kinds differ.

    An element is measured by its own size, or by the mean size of all where it is smaller.
    """
    if got.shape != right.shape or got.dtype != right.dtype:
        return np.inf, np.inf
    a, b = got.astype(np.float64).ravel(), right.astype(np.float64).ravel()
    if right.dtype.kind in "iu":
        return (np.inf, np.inf) if not np.array_equal(got, right) else (0.0, 0.0)
    finite = np.isfinite(b)
    if not np.array_equal(finite, np.isfinite(a)) or not np.array_equal(a[~finite], b[~finite], equal_nan=True):
        return np.inf, np.inf
    a, b = a[finite], b[finite]
    if not a.size:
        return 0.0, 0.0
    apart = np.abs(a - b)
    norm = float(np.linalg.norm(b))
    if norm == 0:
        return float(np.linalg.norm(apart)), float(apart.max())
    sizes = np.maximum(np.abs(b), norm / np.sqrt(b.size))
    return float(np.linalg.norm(apart)) / norm, float((apart / sizes).max())

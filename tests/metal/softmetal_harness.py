"""Run one Metal kernel on arrays, by the software shader machine (see cpp/softmetal/README.md).

    library = Library("metal/softmax.metal", include_dirs=["metal"])
    library.run("softmax_float", [x, y, Params(...)], threadgroups=(rows, 1, 1), threads=(256, 1, 1))

Arrays are bound as they lie in memory, so what the kernel writes is seen in them afterwards.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
LIBRARY = "libsoftmetal_machine.so"


class KernelError(RuntimeError):
    """A source that does not compile, a launch that Metal refuses, or a fault that checked mode found."""


class _Buffer(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t), ("initialised", ctypes.c_int)]


class _Constant(ctypes.Structure):
    _fields_ = [
        ("index", ctypes.c_uint),
        ("name", ctypes.c_char_p),
        ("data", ctypes.c_char_p),
        ("bytes", ctypes.c_size_t),
    ]


class _Launch(ctypes.Structure):
    _fields_ = [
        ("kernel", ctypes.c_char_p),
        ("checked", ctypes.c_int),
        ("buffers", ctypes.POINTER(_Buffer)),
        ("buffer_count", ctypes.c_size_t),
        ("constants", ctypes.POINTER(_Constant)),
        ("constant_count", ctypes.c_size_t),
        ("threadgroup_bytes", ctypes.POINTER(ctypes.c_size_t)),
        ("threadgroup_count", ctypes.c_size_t),
        ("grid", ctypes.c_uint * 3),
        ("threads", ctypes.c_uint * 3),
    ]


class Empty:
    """Fresh memory that nobody has written: to be filled by the kernel, and found in `.array` afterwards."""

    def __init__(self, shape: Any, dtype: Any) -> None:
        self.array = np.empty(shape, dtype)
        self.array.view(np.uint8)[...] = 0xFB


def machine_path() -> Path:
    """The shared library of the machine: $SOFTMETAL_MACHINE, or what was built under build/."""
    if os.environ.get("SOFTMETAL_MACHINE"):
        return Path(os.environ["SOFTMETAL_MACHINE"])
    found = list(ROOT.glob("build/**/" + LIBRARY))
    if not found:
        raise FileNotFoundError(
            f"{LIBRARY} is not built; try: cmake -S cpp/softmetal -B build/softmetal && cmake --build build/softmetal"
        )
    return max(found, key=lambda p: p.stat().st_mtime)


_machine: ctypes.CDLL | None = None


def machine() -> ctypes.CDLL:
    global _machine
    if _machine is None:
        _machine = ctypes.CDLL(str(machine_path()))
        _machine.softmetal_open.restype = ctypes.c_void_p
        _machine.softmetal_close.argtypes = [ctypes.c_void_p]
        for name in ("error", "lowered", "functions", "run"):
            getattr(_machine, f"softmetal_{name}").restype = ctypes.c_char_p
        _machine.softmetal_functions.argtypes = [ctypes.c_void_p, ctypes.c_int]
        _machine.softmetal_run.argtypes = [ctypes.c_void_p, ctypes.POINTER(_Launch)]
    return _machine


def _bytes_of(value: Any) -> tuple[int | None, int, int, Any]:
    """Address, size, whether it counts as written, and what must stay alive meanwhile."""
    if value is None:
        return None, 0, 0, None
    if isinstance(value, Empty):
        return value.array.ctypes.data, value.array.nbytes, 0, value
    if isinstance(value, np.ndarray):
        if not value.flags.c_contiguous:
            raise ValueError("a buffer must be a contiguous array")
        return value.ctypes.data, value.nbytes, 1, value
    if isinstance(value, ctypes.Structure):
        return ctypes.addressof(value), ctypes.sizeof(value), 1, value
    if isinstance(value, np.generic):
        value = value.tobytes()
    if isinstance(value, (bytes, bytearray, memoryview)):
        copy = ctypes.create_string_buffer(bytes(value), len(value))
        return ctypes.addressof(copy), len(value), 1, copy
    raise TypeError(f"cannot bind a {type(value).__name__}; give an array, bytes or a ctypes.Structure")


def _constant_bytes(value: Any) -> bytes:
    if isinstance(value, bool):
        return bytes([value])
    if isinstance(value, int):
        return int(value).to_bytes(4, "little", signed=value < 0)
    if isinstance(value, float):
        return np.float32(value).tobytes()
    return value if isinstance(value, bytes) else np.asarray(value).tobytes()


def _three(extent: Sequence[int] | int | None) -> list[int]:
    if extent is None:
        return [1, 1, 1]
    extent = [extent] if isinstance(extent, int) else list(extent)
    return extent + [1] * (3 - len(extent))


class Library:
    """The kernels of one source: a text, or the path of a .metal file."""

    def __init__(
        self,
        source: str | Path,
        include_dirs: Sequence[str | Path] = (),
        macros: Mapping[str, Any] | None = None,
    ) -> None:
        is_text = isinstance(source, str) and "\n" in source
        name = "program_source" if is_text else str(source)
        text = str(source) if is_text else Path(source).read_text()
        folders = [str(folder) for folder in include_dirs]
        if not is_text:
            folders.insert(0, str(Path(source).resolve().parent))
        self._arguments = [
            part.encode()
            for part in (text, name, "\n".join(folders), "\n".join(f"{k}={v}" for k, v in (macros or {}).items()))
        ]
        self._handle = machine().softmetal_open(*self._arguments)
        if not self._handle:
            raise KernelError(machine().softmetal_error().decode())

    def __del__(self) -> None:
        if getattr(self, "_handle", None) and _machine is not None:
            _machine.softmetal_close(self._handle)

    def lowered(self) -> str:
        """The C++ that the source becomes, for a look at what went wrong."""
        text = machine().softmetal_lowered(*self._arguments)
        if text is None:
            raise KernelError(machine().softmetal_error().decode())
        return text.decode()

    def functions(self, checked: bool = True) -> list[str]:
        text = machine().softmetal_functions(self._handle, int(checked))
        if text is None:
            raise KernelError(machine().softmetal_error().decode())
        return text.decode().split()

    def run(
        self,
        kernel: str,
        buffers: Sequence[Any] | Mapping[int, Any],
        *,
        threads: Sequence[int] | int,
        threadgroups: Sequence[int] | int | None = None,
        grid: Sequence[int] | int | None = None,
        constants: Mapping[int | str, Any] | None = None,
        threadgroup_memory: Sequence[int] | Mapping[int, int] = (),
        checked: bool = True,
    ) -> None:
        """Run `kernel` over `threadgroups`, or over a `grid` of threads whose edge groups may be smaller.

        A constant is a bool, an int (32 bits), a float or a NumPy scalar, by index or by name.
        """
        bound = dict(buffers) if isinstance(buffers, Mapping) else dict(enumerate(buffers))
        sizes = threadgroup_memory
        sizes = dict(sizes) if isinstance(sizes, Mapping) else dict(enumerate(sizes))
        group = _three(threads)
        if (threadgroups is None) == (grid is None):
            raise ValueError("give either threadgroups or grid")
        extent = _three(grid) if grid is not None else [a * b for a, b in zip(_three(threadgroups), group, strict=True)]

        memory = (_Buffer * (max(bound, default=-1) + 1))()
        alive = []
        for index, value in bound.items():
            address, size, initialised, keep = _bytes_of(value)
            memory[index] = _Buffer(address, size, initialised)
            alive.append(keep)
        values = (_Constant * len(constants or {}))()
        for at, (key, value) in enumerate((constants or {}).items()):
            data = _constant_bytes(value)
            index, name = (0, key.encode()) if isinstance(key, str) else (key, None)
            values[at] = _Constant(index, name, data, len(data))
        lengths = (ctypes.c_size_t * (max(sizes, default=-1) + 1))()
        for index, size in sizes.items():
            lengths[index] = size
        launch = _Launch(
            kernel.encode(), int(checked), memory, len(memory), values, len(values), lengths, len(lengths),
            (ctypes.c_uint * 3)(*extent), (ctypes.c_uint * 3)(*group),
        )  # fmt: skip
        error = machine().softmetal_run(self._handle, ctypes.byref(launch))
        if error is not None:
            raise KernelError(error.decode())


def main(arguments: Sequence[str]) -> int:
    """Compile sources in both modes and list their kernels: softmetal_harness.py [--lowered] FILE..."""
    for path in arguments:
        if path.startswith("-"):
            continue
        try:
            library = Library(path)
            if "--lowered" in arguments:
                print(library.lowered())
            library.functions(checked=False)
            print(f"{path}: {' '.join(library.functions(checked=True))}")
        except KernelError as error:
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

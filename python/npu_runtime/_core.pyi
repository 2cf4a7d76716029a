"""The compiled core of NPU Simulation."""

from collections.abc import Callable, Iterable, Iterator, Sequence
import os
from typing import Any, TypeVar

import npu_base.argument_types
import npu_base.specs
import numpy
import numpy.typing
import torch


class BuildInfo:
    """How the extension was built."""

    @property
    def version(self) -> str: ...

    @property
    def git_describe(self) -> str:
        """Empty when not built from a git checkout."""

    @property
    def compiler(self) -> str: ...

    @property
    def flags(self) -> str: ...

    @property
    def build_type(self) -> str: ...

    @property
    def system(self) -> str: ...

    @property
    def architecture(self) -> str: ...

    @property
    def metal(self) -> bool:
        """Whether the Metal driver is part of this build."""

    def __repr__(self) -> str: ...

def build_info() -> BuildInfo:
    """How this extension was built."""

class CpuInfo:
    """What the processor can do, and how much of it this process may use."""

    @property
    def brand(self) -> str: ...

    @property
    def architecture(self) -> str: ...

    @property
    def features(self) -> dict[str, bool]:
        """Every known instruction set extension and whether it can be used."""

    @property
    def logical_cores(self) -> int:
        """Of the machine."""

    @property
    def physical_cores(self) -> int:
        """Of the machine."""

    @property
    def affinity_logical_cores(self) -> int:
        """Those this process may be scheduled on."""

    @property
    def affinity_physical_cores(self) -> int:
        """Those this process may be scheduled on."""

    @property
    def cpu_quota(self) -> float:
        """Cores' worth of time from the cgroup; 0 when unlimited."""

    @property
    def usable_cores(self) -> int:
        """Physical cores within affinity and quota, at least 1."""

    @property
    def memory_bytes(self) -> int:
        """Of the machine."""

    @property
    def memory_limit_bytes(self) -> int:
        """From the cgroup; 0 when unlimited."""

    def __repr__(self) -> str: ...

def cpu_info() -> CpuInfo:
    """Measured at the time of the call."""

class DeviceInfo:
    """One kind of device, present or not."""

    @property
    def kind(self) -> str:
        """'cpu', 'metal', 'cuda', 'cuda:1', ..."""

    @property
    def available(self) -> bool: ...

    @property
    def name(self) -> str:
        """The product's name; empty when not available."""

    @property
    def reason(self) -> str:
        """Why it is not available; empty when it is."""

    @property
    def driver(self) -> str:
        """Its version; empty where it is part of the system."""

    @property
    def cores(self) -> int:
        """Those that may be used."""

    @property
    def memory_bytes(self) -> int: ...

    @property
    def features(self) -> list[str]: ...

    def __repr__(self) -> str: ...

def set_library_folders(folders: Sequence[str]) -> None:
    """
    Where libraries of devices may be beside the system's own folders, as pip installs them.
    """

def devices() -> list[DeviceInfo]:
    """One entry per kind of device; one that is missing says why."""

class MachineLimits:
    """What this machine can do at most."""

    @property
    def threads(self) -> int: ...

    @property
    def fma_gflops(self) -> float:
        """float32 multiply-adds in registers."""

    @property
    def read_gbytes(self) -> float:
        """Per second, from memory that no cache holds."""

def measure_fma_gflops(threads: int = 0) -> float:
    """The first figure alone, in a few milliseconds."""

def measure_limits(threads: int = 0) -> MachineLimits:
    """Measures them now, in about half a second."""

class File:
    """
    A file that is mapped into memory, or a part of one. Read-only. Speaks the buffer protocol.
    """

    def __init__(self) -> None: ...

    @staticmethod
    def open(path: str | os.PathLike[str]) -> File: ...

    @staticmethod
    def copy_of(data: bytes, name: str) -> File:
        """Bytes that are the contents of a file."""

    def part(self, name: str, offset: int, size: int) -> File: ...

    @property
    def name(self) -> str: ...

    def __len__(self) -> int: ...

    def __bytes__(self) -> bytes: ...

    def release(self, part: numpy.typing.NDArray[Any] | memoryview) -> None:
        """
        Give back the pages of an array that lies in it. They are read again when they are touched.
        """

    def checksum(self) -> int:
        """Of all its bytes, as .npubin files have it."""

    def __repr__(self) -> str: ...

def checksum(data: bytes | bytearray | memoryview) -> int:
    """Of bytes, as .npubin files have it."""

class TensorSpec:
    """Name, shape and dtype of a tensor of a program."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> list[int]: ...

    @property
    def dtype(self) -> str: ...

    @property
    def names(self) -> list[str]: ...

    @property
    def required(self) -> bool: ...

    @property
    def state(self) -> bool: ...

    @property
    def alias(self) -> int:
        """Of an output: the index of the input that it updates in place, or -1."""

    def __repr__(self) -> str: ...

class Program:
    """A program as the core reads it."""

    def __init__(self) -> None: ...

    @staticmethod
    def load(path: Program | npu_base.argument_types.HasBytes | str | os.PathLike[str] | File) -> Program: ...

    @staticmethod
    def parse(data: bytes) -> Program: ...

    @property
    def model_name(self) -> str: ...

    @property
    def inputs(self) -> list[TensorSpec]: ...

    @property
    def outputs(self) -> list[TensorSpec]: ...

    @property
    def weights(self) -> list[TensorSpec]: ...

    @property
    def constants(self) -> dict[str, NPUBuffer]:
        """What it holds itself, such as buffers that no checkpoint has, by name."""

    def text(self) -> str: ...

    def __repr__(self) -> str: ...

T = TypeVar("T")

class Weights:
    """Tensors by name, and what executors made of them. A mapping."""

    def __init__(self) -> None: ...

    @staticmethod
    def load(path: str | os.PathLike[str] | File) -> Weights: ...

    @staticmethod
    def random(program: Program | npu_base.argument_types.HasBytes | str | os.PathLike[str], seed: int = 0, *, only: str = '') -> Weights:
        """
        Seeded random values for all weights of a program, or the same values for one of them.
        """

    def check(self, program: Program | npu_base.argument_types.HasBytes | str | os.PathLike[str]) -> None:
        """Raise when `program` could not run with these."""

    def __getitem__(self, name: str) -> NPUBuffer: ...

    def get(self, name: str, default: T | None = None) -> NPUBuffer | T | None: ...

    def __setitem__(self, name: str, tensor: npu_base.argument_types.AnyTensor) -> None:
        """
        Replaces a tensor with a copy of another one; what was prepared from it is made anew.
        """

    def share(self, name: str, tensor: npu_base.argument_types.AnyTensor, file: File | None = None) -> None:
        """
        The same without a copy where the memory allows it. The tensor must not be changed from then on. Pages of the mapped `file` that it lies in are released where only its prepared form is needed.
        """

    def defer(self, name: str, dtype: npu_base.argument_types.AnyDType, shape: Sequence[int], make: Callable[[], npu_base.argument_types.AnyTensor]) -> None:
        """
        A tensor that `make` returns when it is read, with the same values each time. It stays in memory only where programs read it as it is, not where they read something prepared from it. `make` must not use these weights.
        """

    def __contains__(self, name: object) -> bool: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[str]: ...

    def keys(self) -> list[str]: ...

    def values(self) -> list[NPUBuffer]: ...

    def items(self) -> list[tuple[str, NPUBuffer]]: ...

    @property
    def prepared_bytes(self) -> int:
        """
        Of what executors made of them and hold in memory; what several share counts once.
        """

    def __repr__(self) -> str: ...

class PlannedStep:
    """What one kernel of a plan does."""

    @property
    def kernel(self) -> str: ...

    @property
    def ops(self) -> list[str]:
        """Of the program; none for a copy to another layout."""

    @property
    def reads(self) -> list[int]:
        """Values, numbered as in the program, then those of the plan alone."""

    @property
    def writes(self) -> list[int]: ...

class Steps:
    """
    Runs single steps of a plan on tensors of the caller. For one thread at a time.
    """

    def __init__(self) -> None: ...

    @property
    def prepare(self) -> list[PlannedStep]:
        """The steps that compute values from weights alone."""

    @property
    def main(self) -> list[PlannedStep]: ...

    def run(self, steps: Sequence[int], given: dict[int, npu_base.argument_types.AnyTensor], wanted: Sequence[int], *, prepare: bool = False) -> list[NPUBuffer]:
        """
        Run steps of `main` one after another, with every tensor in memory of its own. `given` has the tensors that they read from elsewhere, by value, also weights. Returns those of `wanted`. With `prepare`, steps of `prepare`, which run on the host.
        """

class Device:
    """A device that programs run on."""

    def __init__(self, kind: str | torch.device | None = None) -> None:
        """
        'cpu', 'metal', 'cuda', 'cuda:1', a torch.device, or nothing for the best device present.
        """

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...

    def __repr__(self) -> str: ...

def device_name(kind: str | torch.device | None) -> str:
    """The name of what Device() takes; empty for None."""

class KernelTime:
    """What one kernel took, over the profiled runs."""

    @property
    def op(self) -> str: ...

    @property
    def kernel(self) -> str: ...

    @property
    def calls(self) -> int: ...

    @property
    def nanoseconds(self) -> int: ...

    @property
    def last_start(self) -> int: ...

    @property
    def last_nanoseconds(self) -> int: ...

    @property
    def flops(self) -> float: ...

    @property
    def bytes(self) -> float: ...

class PlanSummary:
    """Sizes of a plan."""

    @property
    def arena_bytes(self) -> int: ...

    @property
    def scratch_bytes(self) -> int: ...

    @property
    def largest_live_bytes(self) -> int: ...

    @property
    def kernels(self) -> int: ...

    @property
    def dispatches(self) -> int: ...

    @property
    def barriers(self) -> int: ...

    @property
    def bytes(self) -> float: ...

    @property
    def least_bytes(self) -> float: ...

    @property
    def seconds(self) -> float: ...

class Session:
    """
    One run's state: intermediates, and the tensors a program keeps between runs. For one thread at a time.
    """

    def __init__(self) -> None: ...

    def run(self, inputs: npu_base.argument_types.RunInputs, weights: Weights | None = None, donate: Iterable[str] | None = None, profile: bool = False) -> dict[str, NPUBuffer]: ...

    def times(self) -> list[KernelTime]:
        """Of the runs with profile=True."""

    def settle(self) -> None:
        """
        Some devices go on making a program quicker while it runs, on the side; wait until that is done.
        """

    def clear_times(self) -> None: ...

    def state(self, name: str) -> NPUBuffer | None:
        """What it holds for a state input; None before the first run."""

    def set_state(self, name: str, value: npu_base.argument_types.AnyTensor) -> None: ...

    def share_state(self, other: Session) -> None:
        """
        Hold, from now on, the same tensors as another session of a program with state inputs of these names, such as one for prompts and one for single tokens. What neither has begun starts as zeros.
        """

    def reset(self) -> None:
        """Forget all state."""

class Executor:
    """A program laid out for a device. May be used from many threads."""

    def __init__(self, program: Program | npu_base.argument_types.HasBytes | str | os.PathLike[str], device: Device, *, threads: int = 0) -> None: ...

    def run(self, inputs: npu_base.argument_types.RunInputs, weights: Weights | None = None, donate: Iterable[str] | None = None) -> dict[str, NPUBuffer]:
        """
        Run with tensors by name (NPUBuffer, NumPy or torch); returns NPUBuffers by name. Inputs named in `donate` give their memory to the outputs that update them.
        """

    def session(self) -> Session:
        """A state to keep between runs."""

    def steps(self) -> Steps:
        """The plan's steps, to run them one by one."""

    def prepare(self, weights: Weights | None = None, progress: Callable[[int, int], object] | None = None) -> None:
        """
        Fold, cast and pack weights now instead of at the first run; progress(done, total) is called on the way.
        """

    def plan(self) -> str:
        """Kernels, layouts and offsets in memory, as text."""

    @property
    def summary(self) -> PlanSummary: ...

    @property
    def program(self) -> Program: ...

    @property
    def device(self) -> Device: ...

    @property
    def threads(self) -> int: ...

    def __repr__(self) -> str: ...

def fetch(buffers: Sequence[NPUBuffer]) -> list[NPUBuffer]:
    """
    The same tensors where the host reaches them: copies of those that are elsewhere, fetched together.
    """

class NPUBuffer:
    """
    A dense tensor that a device reads and writes. Speaks the buffer protocol and DLPack.
    """

    def __init__(self) -> None: ...

    @staticmethod
    def from_numpy(data: npu_base.argument_types.AnyTensor, device: Device, alloc_shape: Sequence[int] | None = None, spec: TensorSpec | npu_base.specs.TensorSpec | None = None) -> NPUBuffer:
        """
        A copy of an array. `spec` is checked against its shape and dtype; nothing is cast. `alloc_shape` is ignored.
        """

    @staticmethod
    def from_dlpack(tensor: npu_base.argument_types.AnyTensor | memoryview) -> NPUBuffer:
        """
        Share the memory of a tensor that speaks DLPack or the buffer protocol, on the CPU or a GPU of NVIDIA.
        """

    @staticmethod
    def zeros(shape: Sequence[int], device: Device, dtype: npu_base.argument_types.AnyDType = 'float32', alloc_shape: Sequence[int] | None = None) -> NPUBuffer: ...

    def to_numpy(self, dtype: npu_base.argument_types.AnyDType | None = None, spec: TensorSpec | npu_base.specs.TensorSpec | None = None, *, copy: bool = False) -> numpy.typing.NDArray[Any]:
        """
        An array that shares this buffer's memory, or a copy where the host does not reach it; with `dtype`, a converted copy. `spec` is checked.
        """

    def write_from_numpy(self, data: npu_base.argument_types.AnyTensor, spec: TensorSpec | npu_base.specs.TensorSpec | None = None) -> None: ...

    def read_only(self) -> NPUBuffer:
        """The same memory, which cannot be written or donated through this."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def alloc_shape(self) -> tuple[int, ...]: ...

    @property
    def dtype(self) -> numpy.dtype[Any]:
        """A NumPy dtype."""

    @property
    def size_bytes(self) -> int: ...

    @property
    def native_handle(self) -> int:
        """The address."""

    @property
    def donated(self) -> bool:
        """Whether a run took its memory over."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any) -> Any: ...

    def __array__(self, dtype: npu_base.argument_types.AnyDType | None = None, copy: bool | None = None) -> numpy.typing.NDArray[Any]: ...

    def __dlpack__(self, **kwargs: Any) -> Any: ...

    def __dlpack_device__(self) -> tuple[int, int]: ...

    def __repr__(self) -> str: ...

class TensorCall:
    """
    Runs a program with tensors of one type, through DLPack's C exchange interface.
    """

    def __init__(self, runner: Executor | Session, inputs: Sequence[str], outputs: Sequence[str], type: type, subtype: type | None = None) -> None:
        """
        `inputs` and `outputs` name what calls take and return, in this order. `subtype` is one of the type's that calls take too.
        """

    def run(self, tensors: tuple[Any, ...], weights: Weights | None = None) -> tuple[Any, ...] | None:
        """
        Results as tensors of the host. None, before anything has run, unless all inputs are such tensors of exactly these types, and of the program's shapes and dtypes.
        """

class Graph:
    """
    Parts that pass values on by name: programs, and Python functions for the rest. May be used from many threads once its parts are added.
    """

    def __init__(self, names: Sequence[str], results: Sequence[str]) -> None:
        """All values that there are, and those that runs return."""

    def add_program(self, executor: Executor) -> None:
        """The next part: its inputs and outputs are the values of their names."""

    def add_host(self, run: Callable[[list[Any]], Sequence[Any]], inputs: Sequence[str], outputs: Sequence[str], updates: dict[str, str] = {}, device: Device | None = None) -> None:
        """
        The next part: a function from a list of inputs to a list of outputs. `updates` names outputs that are inputs which it writes; where others need the old contents, it gets copies on `device`.
        """

    def run(self, values: dict[str, Any], weights: Sequence[Weights | None], donate: Iterable[str] | None = None, copied: dict[str, int] | None = None) -> dict[str, Any]:
        """
        Values by name, and weights by part; returns results by name. What was given is passed to functions as it is, what programs make as NPUBuffers. Buffers that are named in `donate` give their memory to what updates them. `copied` gets bytes that were copied, by name.
        """

    def __len__(self) -> int: ...

MAX_THREADS: int = 1024

def get_num_threads() -> int:
    """How many threads the library uses."""

def set_num_threads(count: int) -> None:
    """Set how many threads the library uses."""

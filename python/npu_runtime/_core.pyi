"""The compiled core of NPU Simulation."""



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
        """'cpu' or 'metal'."""

    @property
    def available(self) -> bool: ...

    @property
    def name(self) -> str:
        """The product's name; empty when not available."""

    @property
    def reason(self) -> str:
        """Why it is not available; empty when it is."""

    @property
    def cores(self) -> int:
        """Those that may be used."""

    @property
    def memory_bytes(self) -> int: ...

    @property
    def features(self) -> list[str]: ...

    def __repr__(self) -> str: ...

def devices() -> list[DeviceInfo]:
    """One entry per kind of device; one that is missing says why."""

MAX_THREADS: int = 1024

def get_num_threads() -> int:
    """How many threads the library uses."""

def set_num_threads(count: int) -> None:
    """Set how many threads the library uses."""

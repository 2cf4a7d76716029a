"""The errors that torch_ir raises deliberately. Errors about arguments are also ValueErrors or TypeErrors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from npu_base.errors import InvalidTypeError, InvalidValueError, NPUError, NPUWarning


class TorchIRError(NPUError):
    """The base class of this package's errors."""


class ExportError(TorchIRError):
    """The model could not be traced."""


class InvalidModelError(ExportError, InvalidTypeError):
    """The model argument is not a model that can be traced."""


class InvalidExampleError(ExportError, InvalidValueError):
    """The example inputs do not fit the model."""


@dataclass(frozen=True)
class SizeFix:
    """What the model's code needs of an open size: a range, one value, or an expression of another size."""

    name: str
    least: int | None = None
    most: int | None = None
    value: int | None = None
    expression: str = ""

    def __str__(self) -> str:
        if self.expression:
            return f"{self.name} = {self.expression}"
        limits = {"min": self.least, "max": self.most}
        given = "".join(f", {key}={limit}" for key, limit in limits.items() if limit is not None)
        return f"{self.name} = Dim('{self.name}'{given})"


class SizesError(ExportError):
    """The model does not support all sizes that are left open. ``needs`` says why; commands give advice of their own
    from ``fixes``."""

    def __init__(self, needs: str, advice: str, fixes: Sequence[SizeFix] = ()) -> None:
        super().__init__(f"{needs}{advice}")
        self.needs, self.fixes = needs, tuple(fixes)


class SizeWarning(NPUWarning):
    """A size that was to be open is fixed."""


class StateWarning(NPUWarning):
    """The model changes an attribute of Python, whose value is that of the trace in every call."""


class SizeOneError(SizesError):
    """The trace of larger sizes is not known to hold for a size of 1."""

    @property
    def names(self) -> frozenset[str]:
        """The dimensions."""
        return frozenset(fix.name for fix in self.fixes)


class ConversionError(TorchIRError):
    """The traced graph could not be converted to IR."""


class InvalidNameError(ConversionError, InvalidValueError):
    """The name for the model, an input or an output is invalid."""


class SerializationError(TorchIRError, ValueError):
    """IR could not be written, read or validated."""


class ExecutionError(TorchIRError):
    """IR could not be run."""


class InvalidInputError(ExecutionError, InvalidValueError):
    """The inputs or weights of a run do not fit the graph."""


class InvalidIRError(InvalidInputError, InvalidTypeError):
    """The IR argument is not an IR."""


class WeightLoadError(TorchIRError, ValueError):
    """Weights could not be read or do not fit the IR."""

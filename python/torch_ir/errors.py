"""The errors that torch_ir raises deliberately. Errors about arguments are also ValueErrors or TypeErrors."""

from __future__ import annotations

from npu_base.errors import InvalidTypeError, InvalidValueError, NPUError


class TorchIRError(NPUError):
    """The base class of this package's errors."""


class ExportError(TorchIRError):
    """The model could not be traced."""


class InvalidModelError(ExportError, InvalidTypeError):
    """The model argument is not a model that can be traced."""


class InvalidExampleError(ExportError, InvalidValueError):
    """The example inputs do not fit the model."""


class SizeOneError(ExportError):
    """The trace of larger sizes is not known to hold for a size of 1; ``names`` are the dimensions."""

    def __init__(self, message: str, names: frozenset[str]) -> None:
        super().__init__(message)
        self.names = names


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

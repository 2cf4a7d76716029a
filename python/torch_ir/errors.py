"""Every error that torch_ir raises on purpose. Those of wrong arguments are ValueErrors or TypeErrors too."""

from __future__ import annotations

from npu_base.errors import InvalidTypeError, InvalidValueError, NPUError


class TorchIRError(NPUError):
    """Root of this package's errors."""


class ExportError(TorchIRError):
    """The model could not be traced."""


class InvalidModelError(ExportError, InvalidTypeError):
    """What was given as a model is not one that can be traced."""


class InvalidExampleError(ExportError, InvalidValueError):
    """The example inputs do not suit the model."""


class ConversionError(TorchIRError):
    """The traced graph could not be turned into IR."""


class InvalidNameError(ConversionError, InvalidValueError):
    """A name for the model, its inputs or its outputs cannot be given to them."""


class SerializationError(TorchIRError, ValueError):
    """IR could not be written, read or validated."""


class ExecutionError(TorchIRError):
    """IR could not be run."""


class InvalidInputError(ExecutionError, InvalidValueError):
    """What was given to a run does not fit the graph."""


class InvalidIRError(InvalidInputError, InvalidTypeError):
    """What was given as an IR is not one."""


class WeightLoadError(TorchIRError, ValueError):
    """Weights could not be read or do not fit the IR."""

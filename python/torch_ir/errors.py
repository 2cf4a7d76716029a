"""Every error that torch_ir raises on purpose."""

from __future__ import annotations


class TorchIRError(Exception):
    """Root of this package's errors."""


class ExportError(TorchIRError):
    """The model could not be traced."""


class ConversionError(TorchIRError):
    """The traced graph could not be turned into IR."""


class SerializationError(TorchIRError):
    """IR could not be written, read or validated."""


class ExecutionError(TorchIRError):
    """IR could not be run."""


class WeightLoadError(TorchIRError):
    """Weights could not be read or do not fit the IR."""

"""Values of buffers that a model on meta does not hold and no checkpoint has."""

from .finder import recover_buffers

__all__ = ["recover_buffers"]

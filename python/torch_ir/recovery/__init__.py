"""Computes non-persistent buffers of models on the meta device."""

from .finder import recover_buffers

__all__ = ["recover_buffers"]

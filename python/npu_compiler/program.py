"""The compiled program, under the shorter name of its module."""

from .compiled_program import FORMAT_VERSION, CompiledProgram, TensorSpec

__all__ = ["FORMAT_VERSION", "CompiledProgram", "TensorSpec"]

"""Compiles IR to device-independent programs. Knows IR JSON, not torch."""

from .compiled_program import CompiledProgram, TensorSpec
from .compiler import compile, compile_ir
from .errors import CompileError, IRError, ProgramError

__all__ = ["CompileError", "CompiledProgram", "IRError", "ProgramError", "TensorSpec", "compile", "compile_ir"]

"""What the compiler raises."""

from __future__ import annotations

from npu_base.errors import NPUError

__all__ = ["MISFIT", "CompileError", "IRError", "ProgramError", "Refused", "Unsupported", "VerifyError"]


class CompileError(NPUError, ValueError):
    """The IR cannot become a program."""


class IRError(CompileError):
    """The IR itself is malformed."""


class VerifyError(CompileError):
    """A pass left a graph that breaks the rules of docs/program-format.md: a mistake of ours."""


class ProgramError(NPUError, ValueError):
    """A .npubin file cannot be read or written."""


class Unsupported(Exception):
    """One node has no lowering, for the reason given. Never leaves the package."""


class Refused(Unsupported):
    """It has none whatever its inputs: its attributes ask for what cannot be done."""


MISFIT = (LookupError, TypeError, ValueError, AssertionError, ArithmeticError, AttributeError, RuntimeError,
          StopIteration)  # fmt: skip
"""What a lowering raises by itself when its arguments are not those of the operator: lists too short, wrong types."""

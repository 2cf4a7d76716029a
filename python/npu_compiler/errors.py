"""What the compiler raises."""

from __future__ import annotations

from npu_base.errors import InternalError, NPUError

__all__ = [
    "MISFIT", "CompileError", "Defect", "IRError", "InternalCompileError", "ProgramError", "Refused", "Unsupported",
    "VerifyError",
]  # fmt: skip


class CompileError(NPUError, ValueError):
    """The IR cannot become a program."""


class IRError(CompileError):
    """The IR itself is malformed."""


class InternalCompileError(CompileError, InternalError):
    """The compiler failed where it should have compiled or refused; please report it."""


class VerifyError(InternalCompileError):
    """A pass left a graph that breaks the rules of docs/program-format.md: a mistake of ours."""


class ProgramError(NPUError, ValueError):
    """A .npubin file cannot be read or written."""


class Unsupported(Exception):
    """One node has no lowering, for the reason given. Never leaves the package."""


class Refused(Unsupported):
    """It has none whatever its inputs: its attributes ask for what cannot be done."""


class Defect(Unsupported):
    """Its lowering failed, or made something else than the IR declares: a mistake of ours, if the IR is PyTorch's."""


MISFIT = (LookupError, TypeError, ValueError, AssertionError, ArithmeticError, AttributeError, RuntimeError,
          StopIteration, SyntaxError)  # fmt: skip
"""What a lowering raises by itself: it has a mistake, or the arguments are none that the operator can have."""

"""What the compiler raises."""

from __future__ import annotations

from npu_base.errors import InternalError, NPUError

__all__ = [
    "MISFIT", "CompileError", "Defect", "ExtensionError", "IRError", "InternalCompileError", "Malformed",
    "ProgramError", "Refused", "Unsupported", "UpdateError", "VerifyError", "described",
]  # fmt: skip


class CompileError(NPUError, ValueError):
    """The IR cannot become a program."""


class IRError(CompileError):
    """The IR itself is malformed."""


class UpdateError(CompileError):
    """The model writes a weight that is not a buffer, which neither the device nor the host would keep."""


class InternalCompileError(CompileError, InternalError):
    """The compiler failed where it should have compiled or refused; please report it."""


class ExtensionError(CompileError):
    """A lowering, a pass or a predicate of the user's failed. ``__cause__`` is what it raised."""


class VerifyError(InternalCompileError):
    """A pass left a graph that breaks the rules of docs/program-format.md. The message names the pass, and says whether
    it was registered by the user."""


class ProgramError(NPUError, ValueError):
    """A .npubin file cannot be read or written."""


class Unsupported(Exception):
    """A node cannot be compiled, for the reason given. Lowerings raise it; the compiler collects the reasons."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason or "the lowering refused it without a reason")


class Refused(Unsupported):
    """The node's attributes cannot be compiled, whatever its inputs are."""


class Malformed(Refused):
    """An argument of the node has a value that PyTorch itself does not take."""


class Defect(Unsupported):
    """A lowering failed, or its results are not those that the IR declares. It is ours, or the user's."""

    def __init__(self, reason: str, ours: bool = True) -> None:
        super().__init__(reason)
        self.ours = ours


MISFIT = (LookupError, TypeError, ValueError, AssertionError, ArithmeticError, AttributeError, RuntimeError,
          StopIteration, SyntaxError)  # fmt: skip
"""What code raises by itself when its arguments are not those that it was written for."""


def described(error: BaseException) -> str:
    """An exception within a message: its type, unless its text is a message of ours, and its text."""
    text = str(error)
    return text if isinstance(error, NPUError) and text else f"{type(error).__name__}: {text}" if text else repr(error)

"""The errors that the runtime raises. Messages read

[area] what happened; got <value>; expected <rule>; try <action>
"""

from __future__ import annotations

__all__ = ["InternalError", "InvalidValueError", "MissingWeightError", "NPUError", "UnavailableError", "format_error"]


class NPUError(RuntimeError):
    """The root of all errors of NPU Simulation's runtime."""


class InvalidValueError(NPUError, ValueError):
    """An argument, an environment variable or a file has a wrong value."""


class MissingWeightError(InvalidValueError, KeyError):
    """Weights that a program reads were not found."""

    __str__ = Exception.__str__  # KeyError's own shows the message in quotes


class UnavailableError(NPUError):
    """The machine, or this build, has not got what was asked for."""


class InternalError(NPUError):
    """A defect in the library itself; please report it."""


def format_error(
    area: str, what: str, *, got: object = None, expected: str | None = None, action: str | None = None
) -> str:
    """The message of an error, in the form all of them have; parts that are None are left out."""
    parts = [f"[{area}] {what}"]
    if got is not None:
        parts.append(f"got {got}")
    if expected is not None:
        parts.append(f"expected {expected}")
    if action is not None:
        parts.append(f"try {action}")
    return "; ".join(parts)

"""The outputs of a run: a dict that also accepts their further names."""

from __future__ import annotations

from typing import Any

from npu_runtime.errors import MissingOutputError, format_error

__all__ = ["Outputs", "outputs_type"]


class Outputs(dict[str, Any]):
    """Outputs by graph name, and by the names that the model gives them, such as ``outputs["logits"]``.

    If there is only one output, any name works.
    """

    further: dict[str, str] = {}  # noqa: RUF012 - set once per program, below

    def __missing__(self, name: str) -> Any:
        if name in self.further:
            return self[self.further[name]]
        if len(self) == 1 and isinstance(name, str):
            return next(iter(self.values()))
        known = ", ".join(map(repr, [*self, *self.further]))
        raise MissingOutputError(format_error("run", f"there is no output {name!r}", expected=f"one of {known}"))


def outputs_type(further: dict[str, str]) -> type[Outputs]:
    """A type for each program, so that creating its outputs costs no more than creating a dict."""
    return type("Outputs", (Outputs,), {"further": dict(further)})

"""The options of ``torch.compile(model, backend="npu", options={...})``."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import torch
from npu_base.errors import InvalidTypeError, InvalidValueError, format_error
from npu_base.sizes import as_int
from npu_runtime import Device
from npu_runtime.device import AnyDevice

from npu.host_parts import FALLBACKS

__all__ = ["Options"]


@dataclass(frozen=True)
class Options:
    device: AnyDevice | None = None
    """By default the GPU of NVIDIA that the tensors are on, else the best device of the machine."""
    fallback: str = "host"
    """Where operators run that the device does not support: on the host, or nowhere, which is an error."""
    explain: bool = False
    """Whether to print what runs where, once for each compiled graph."""
    threads: int = 0
    """Of the CPU device; 0 for as many as there are cores."""

    @classmethod
    def read(cls, given: Any) -> Options:
        """Checks a dict of options. Raises an error that names those that there are."""
        if given is None:
            return cls()
        if not isinstance(given, Mapping):
            raise InvalidTypeError(
                format_error(
                    "torch.compile", "options must be a dict", got=type(given).__name__, expected='{"device": "cpu"}'
                )
            )
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                close = difflib.get_close_matches(str(name), known, 1)
                raise InvalidValueError(
                    format_error(
                        "torch.compile",
                        "unknown option of backend 'npu'",
                        got=repr(name),
                        expected=f"one of {', '.join(known)}",
                        action=repr(close[0]) if close else None,
                    )
                )
        options = cls(**{name: as_int(value) if name == "threads" else value for name, value in given.items()})
        options._check()
        return options

    def _check(self) -> None:
        if not isinstance(self.fallback, str) or self.fallback not in FALLBACKS:
            self._refuse("fallback", "'host' or 'error'")
        if not isinstance(self.explain, bool):
            self._refuse("explain", "True or False")
        if type(self.threads) is not int or self.threads < 0:
            self._refuse("threads", "the number of threads, or 0 for one per core")
        if self.device is not None and not isinstance(self.device, Device | str | torch.device):
            self._refuse("device", "a Device, or its name such as 'cpu'")

    def _refuse(self, name: str, expected: str) -> None:
        what = f"option '{name}' of backend 'npu' has a wrong value"
        got = f"{getattr(self, name)!r:.60}"
        raise InvalidValueError(format_error("torch.compile", what, got=got, expected=expected))

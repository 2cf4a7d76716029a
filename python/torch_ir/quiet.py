"""Hides what PyTorch prints and logs about a failing export, because our error says what to do."""

from __future__ import annotations

import importlib
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["quiet_export"]

_PRINTING = ("torch.export._trace", "torch.fx.graph_module")


@contextmanager
def quiet_export() -> Iterator[None]:
    """For this thread, which has the lock for tracing. TORCH_LOGS shows everything."""
    if os.environ.get("TORCH_LOGS"):
        yield
        return
    own = threading.get_ident()

    def is_other(record: logging.LogRecord) -> bool:
        return record.thread != own or not record.name.startswith("torch")

    handlers = [handler for logger in _torch_loggers() for handler in logger.handlers]
    modules = [importlib.import_module(name) for name in _PRINTING]
    for handler in handlers:
        handler.addFilter(is_other)
    for module in modules:
        vars(module)["print"] = _nothing  # they print graphs; a name of the module hides the builtin
    try:
        yield
    finally:
        for module in modules:
            vars(module).pop("print", None)
        for handler in handlers:
            handler.removeFilter(is_other)


def _torch_loggers() -> list[logging.Logger]:
    known = logging.root.manager.loggerDict.items()
    return [x for name, x in known if name.split(".")[0] == "torch" and isinstance(x, logging.Logger)]


def _nothing(*_: Any, **__: Any) -> None:
    pass

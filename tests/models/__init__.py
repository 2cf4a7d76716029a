"""Models of tests and benchmarks.

Real architectures are in ``zoo``. Those that the test system runs are registered, and found in three ways:

* Every module in this folder is imported.
* ``--import path/to/file.py`` or ``--import some.module`` (repeatable; for ``python -m tests`` and for pytest)
  imports a user's own file or module, whose ``register_model`` classes then count as any other.
* ``load_models("path/to/file.py")`` does the same from Python.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

# In the order in which reports list them; files added later follow by name.
from . import attention, multi_io, shared_weights, skip_connections
from .base import MODEL_REGISTRY, TestModelSpec, get_model, list_categories, list_models, register_model

__all__ = [
    "MODEL_REGISTRY",
    "TestModelSpec",
    "attention",
    "get_model",
    "list_categories",
    "list_models",
    "load_models",
    "multi_io",
    "register_model",
    "shared_weights",
    "skip_connections",
]


class ModelImportError(ImportError):
    """A user's module of models could not be imported."""


def load_models(where: str) -> list[str]:
    """Import a Python file or module and return the names of the models that it registered."""
    before = set(MODEL_REGISTRY)
    try:
        module = _import_file(Path(where)) if _is_file(where) else _import_module(where)
    except FileNotFoundError as e:
        raise ModelImportError(f"No such file: {where}") from e
    except Exception as e:
        raise ModelImportError(f"Cannot import models from '{where}': {type(e).__name__}: {e}") from e
    added = [n for n in MODEL_REGISTRY if n not in before]
    own = [n for n, s in MODEL_REGISTRY.items() if s.model_class.__module__ == module.__name__]
    if not added and not own:
        raise ModelImportError(f"'{where}' registers no model; decorate a class with @register_model")
    return added or own


def _is_file(where: str) -> bool:
    return where.endswith(".py") or "/" in where or "\\" in where


def _import_file(path: Path) -> ModuleType:
    path = path.resolve(strict=True)
    # A name of its own, the same for the same file: two users' models.py must not be taken for one.
    name = f"user_models_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError("not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _import_module(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path:  # as `python -m` does, and pytest does not
        sys.path.insert(0, here)
    return importlib.import_module(name)


for _module in sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.ispkg):
    importlib.import_module(f"{__name__}.{_module}")

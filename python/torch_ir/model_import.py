"""Models that a command names as MODULE:ATTRIBUTE, and their weights."""

from __future__ import annotations

import contextlib
import importlib
import sys
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import Tensor, nn

from .errors import InvalidModelError, WeightLoadError

__all__ = ["import_model", "load_into"]


def import_model(target: str) -> nn.Module:
    """The model that ``target``, MODULE:ATTRIBUTE, names, in evaluation mode.

    The module is imported from the current folder or from installed packages. The attribute is an ``nn.Module``, or a
    class or a function that makes one without arguments.
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path:
        raise InvalidModelError(f"got '{target}'; expected MODULE:ATTRIBUTE, such as my_models:MyModel")
    if module_name.endswith(".py"):
        dotted = ".".join(Path(module_name).with_suffix("").parts)
        raise InvalidModelError(
            f"got '{target}', which names a file; expected the name of a module, as in import; try {dotted}:{path}"
        )
    if "/" in module_name or module_name.startswith("."):
        parts = Path(module_name).parts
        here = all(map(str.isidentifier, parts))
        action = f"{'.'.join(parts)}:{path}" if here else f"{parts[-1]}:{path} in its folder"
        raise InvalidModelError(
            f"got '{target}', which has a path; expected the name of a module, as in import; try {action}"
        )
    if "" not in sys.path and str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    module = _call(lambda: importlib.import_module(module_name), f"cannot import '{module_name}'")
    model: Any = module
    for part in path.split("."):
        if not hasattr(model, part):
            raise InvalidModelError(f"'{module_name}' has no attribute '{path}'{_contents(module)}")
        model = getattr(model, part)
    if not isinstance(model, nn.Module):
        if not callable(model):
            raise InvalidModelError(f"'{target}' is of type {type(model).__name__}; expected a class or a function")
        advice = "write a function that returns the model, and pass its name"
        model = _call(model, f"calling '{target}' without arguments failed", advice)
    if not isinstance(model, nn.Module):
        raise InvalidModelError(f"'{target}' returned a {type(model).__name__}; expected an nn.Module")
    return model.eval()


def _contents(module: ModuleType) -> str:
    """What a module defines that may be a model. Its file, because it may be another module of the same name."""
    names = [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (isinstance(value, nn.Module) or (callable(value) and getattr(value, "__module__", "") == module.__name__))
    ]
    more = f" and {len(names) - 8} more" if len(names) > 8 else ""
    defined = f", which defines {', '.join(names[:8])}{more}" if names else ""
    return f" (it is {getattr(module, '__file__', None) or 'built in'}{defined})"


def _call(work: Callable[[], Any], failure: str, advice: str | None = None) -> Any:
    """Run the user's code. What it prints must not mix with a command's output, and it may even call ``exit``."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            return work()
    except (Exception, SystemExit) as error:
        lines = traceback.format_exception_only(error)
        end = f"; {advice}" if advice else ""
        raise InvalidModelError(f"{failure}: {lines[-1].strip()}{_where(error)}{end}") from error


def _where(error: BaseException) -> str:
    """The last line of the user's own code, if the error came from there."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}, line {error.lineno})"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    own = [frame for frame in frames if frame.filename != __file__ and "importlib" not in frame.filename]
    return f" ({own[-1].filename}, line {own[-1].lineno})" if own else ""


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], file: str) -> None:
    """Give the model the values in ``tensors``, which must have all of its own; others are ignored."""
    wanted = model.state_dict()
    named = {name: tensor for name, tensor in tensors.items() if name in wanted}
    for names in _tied(model):
        value = next((named[name] for name in names if name in named), None)
        if value is not None:
            named |= {name: value for name in names if name in wanted and name not in named}
    missing = sorted(set(wanted) - set(named))
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise WeightLoadError(
            f"{file} does not contain all weights of the model; missing: {', '.join(missing[:5])}{more}"
        )
    try:
        model.load_state_dict(named, assign=any(p.is_meta for p in model.parameters()))
    except RuntimeError as e:
        raise WeightLoadError(f"{file} does not fit the model: {' '.join(str(e).split())}") from e


def _tied(model: nn.Module) -> list[list[str]]:
    """Names of one parameter, which files have only once."""
    names: dict[int, list[str]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        names.setdefault(id(parameter), []).append(name)
    return [group for group in names.values() if len(group) > 1]

"""Values of non-persistent buffers of a model on meta: no checkpoint holds them, so they are computed anew.

A buffer such as RoPE's ``inv_freq`` is rebuilt by running constructors again. That is done only where the call can be
known: each argument is the module's own config, or is stored by the constructor's code under its own name and
unaltered. The outermost module for which that holds is built, so that what modules do to the buffers of those inside
them is done again too. It must then equal the old one in modules, tensors and plain attributes, the value must not
depend on randomness, and nothing may have been written into the buffer since.
"""

from __future__ import annotations

import ast
import copy
import inspect
import textwrap
import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

_PLAIN = (bool, int, float, complex, str, type(None), torch.dtype, torch.Size)
_PLACEMENT = ("device", "dtype")


def recover_buffers(model: nn.Module, names: list[str]) -> dict[str, torch.Tensor]:
    """The values that could be computed, by buffer name; the others are left out."""
    by_owner: dict[str, list[str]] = {}
    for name in names:
        owner, _, _ = name.rpartition(".")
        by_owner.setdefault(owner, []).append(name)
    found: dict[str, torch.Tensor] = {}
    for owner, owned in by_owner.items():
        pair = _rebuild_within(model, owner)
        if pair is None:
            continue
        original = model.get_submodule(owner)
        for name in owned:
            value = _agreed_value(name.rpartition(".")[2], original, pair)
            if value is not None:
                found[name] = value
    return found


def _rebuild_within(model: nn.Module, owner: str) -> tuple[nn.Module, nn.Module] | None:
    """The owner built anew, as part of the outermost module whose arguments are known."""
    parts = owner.split(".") if owner else []
    for depth in range(len(parts) + 1):
        pair = _rebuild_twice(model, ".".join(parts[:depth]))
        if pair is not None:
            inside = ".".join(parts[depth:])
            return pair[0].get_submodule(inside), pair[1].get_submodule(inside)
    return None


def _agreed_value(attr: str, original: nn.Module, pair: tuple[nn.Module, nn.Module]) -> torch.Tensor | None:
    want = getattr(original, attr, None)
    first, second = (getattr(m, attr, None) for m in pair)
    if not all(isinstance(t, torch.Tensor) for t in (want, first, second)):
        return None
    assert isinstance(want, torch.Tensor) and isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    if want._version > first._version:  # written to after it was made
        return None
    if first.is_meta or first.shape != want.shape or not torch.equal(first, second):
        return None
    # The model may have been cast after it was built; casting the value does the same.
    return first.detach().to(want.dtype)


def _rebuild_twice(model: nn.Module, owner: str) -> tuple[nn.Module, nn.Module] | None:
    module = model.get_submodule(owner)
    arguments = _constructor_arguments(module)
    if arguments is None:
        return None
    built = []
    for seed in (0, 1):
        new = _construct(type(module), arguments, seed)
        if new is None or not _alike(module, new):
            return None
        built.append(new)
    return built[0], built[1]


def _constructor_arguments(module: nn.Module) -> dict[str, Any] | None:
    arguments: dict[str, Any] = {}
    parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            return None
        if parameter.name in _PLACEMENT and parameter.default is not parameter.empty:
            continue
        value = vars(module).get(parameter.name, _Missing)
        if parameter.name == "config":
            if value is _Missing or value is None:
                return None
            value = copy.deepcopy(value)  # constructors may write into it
        elif not _is_plain(value) or not _stored_as_given(type(module), parameter.name):
            return None
        arguments[parameter.name] = value
    return arguments


def _stored_as_given(cls: type[nn.Module], name: str) -> bool:
    """Whether the constructor's code says ``self.name = name`` and gives neither of the two another value."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(cls.__init__)))
    except (OSError, TypeError, SyntaxError):
        return False
    stored = False
    for target, value in _assignments(tree):
        for leaf in ast.walk(target):
            if isinstance(leaf, ast.Name) and leaf.id == name and isinstance(leaf.ctx, ast.Store):
                return False
            if isinstance(leaf, ast.Attribute) and leaf.attr == name and isinstance(leaf.ctx, ast.Store):
                if leaf is not target or not (isinstance(value, ast.Name) and value.id == name):
                    return False
                stored = True
    return stored


def _assignments(tree: ast.AST) -> Iterator[tuple[ast.expr, ast.expr | None]]:
    """Every target of an assignment with what it gets, None where that is not a plain ``target = value``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                names = target.elts if isinstance(target, ast.Tuple) else [target]
                values = node.value.elts if isinstance(node.value, ast.Tuple) else [node.value]
                if len(names) == len(values):
                    yield from zip(names, values, strict=True)
                else:
                    yield target, None
        elif isinstance(node, ast.AnnAssign):
            yield node.target, node.value
        elif isinstance(node, (ast.AugAssign, ast.NamedExpr, ast.For)):
            yield node.target, None


class _Missing:
    """Marks an attribute that the module does not have."""


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    return isinstance(value, _PLAIN)


class _NoUninitializedMemory(TorchFunctionMode):
    """Parameters are born as ``torch.empty``; on meta they cost nothing, however large."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.empty:
            kwargs["device"] = "meta"
        return func(*args, **kwargs)


def _construct(cls: type[nn.Module], arguments: dict[str, Any], seed: int) -> nn.Module | None:
    try:
        with (
            torch.random.fork_rng(devices=[]),
            torch.device("cpu"),
            _NoUninitializedMemory(),
            warnings.catch_warnings(),
        ):
            warnings.simplefilter("ignore")
            torch.manual_seed(seed)
            return cls(**arguments)
    except Exception:
        return None


def _alike(old: nn.Module, new: nn.Module) -> bool:
    """Same modules, same tensors by name and shape, same plain attributes: the constructor's call was the same."""
    if [n for n, _ in old.named_modules()] != [n for n, _ in new.named_modules()]:
        return False
    for (_, a), (_, b) in zip(old.named_modules(), new.named_modules(), strict=True):
        if type(a) is not type(b) or _plain_attributes(a) != _plain_attributes(b):
            return False
        for table in ("_parameters", "_buffers"):
            if _shapes(getattr(a, table)) != _shapes(getattr(b, table)):
                return False
    return True


def _shapes(tensors: dict[str, torch.Tensor | None]) -> dict[str, Any]:
    return {k: None if v is None else tuple(v.shape) for k, v in tensors.items()}


def _plain_attributes(module: nn.Module) -> dict[str, Any]:
    return {k: v for k, v in vars(module).items() if k != "training" and not k.startswith("_") and _is_plain(v)}

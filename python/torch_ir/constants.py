"""Values of non-persistent buffers of a model on meta: no checkpoint holds them, so they are computed anew.

A buffer such as RoPE's ``inv_freq`` is rebuilt by running its module's constructor again. That is done only where
it is provably the same call: every argument is found on the module under its own name (or is the model's config),
the new module has the same attributes and tensors as the old one, and the result does not depend on randomness.
"""

from __future__ import annotations

import copy
import inspect
import warnings
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
    """The owner built anew, by itself or as part of the smallest module around it whose arguments are known."""
    inside = ""
    while True:
        pair = _rebuild_twice(model, owner)
        if pair is not None:
            return pair[0].get_submodule(inside), pair[1].get_submodule(inside)
        if not owner:
            return None
        owner, _, last = owner.rpartition(".")
        inside = f"{last}.{inside}" if inside else last


def _agreed_value(attr: str, original: nn.Module, pair: tuple[nn.Module, nn.Module]) -> torch.Tensor | None:
    want = getattr(original, attr, None)
    first, second = (getattr(m, attr, None) for m in pair)
    if not all(isinstance(t, torch.Tensor) for t in (want, first, second)):
        return None
    assert isinstance(want, torch.Tensor) and isinstance(first, torch.Tensor) and isinstance(second, torch.Tensor)
    if first.is_meta or first.shape != want.shape or not torch.equal(first, second):
        return None
    # The model may have been cast after it was built; casting the value does the same.
    return first.detach().to(want.dtype)


def _rebuild_twice(model: nn.Module, owner: str) -> tuple[nn.Module, nn.Module] | None:
    module = model.get_submodule(owner)
    arguments = _constructor_arguments(model, owner, module)
    if arguments is None:
        return None
    built = []
    for seed in (0, 1):
        new = _construct(type(module), arguments, seed)
        if new is None or not _alike(module, new):
            return None
        built.append(new)
    return built[0], built[1]


def _constructor_arguments(model: nn.Module, owner: str, module: nn.Module) -> dict[str, Any] | None:
    arguments: dict[str, Any] = {}
    parameters = list(inspect.signature(type(module).__init__).parameters.values())[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
            return None
        if parameter.name in _PLACEMENT and parameter.default is not parameter.empty:
            continue
        if parameter.name == "config":
            value = _nearest_config(model, owner)
        else:
            value = vars(module).get(parameter.name, _Missing)
            if not _is_plain(value):
                return None
        if value is None and parameter.name == "config":
            return None
        arguments[parameter.name] = value
    return arguments


class _Missing:
    """Marks an attribute that the module does not have."""


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(_is_plain(v) for v in value.values())
    return isinstance(value, _PLAIN)


def _nearest_config(model: nn.Module, owner: str) -> Any:
    parts = owner.split(".") if owner else []
    for depth in range(len(parts), -1, -1):
        config = vars(model.get_submodule(".".join(parts[:depth]))).get("config")
        if config is not None:
            return copy.deepcopy(config)  # constructors may write into it
    return None


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

"""Weights from files or dicts."""

from __future__ import annotations

import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_base.arguments import masked_elements
from npu_base.errors import NPUWarning, is_program
from npu_base.files import file_error
from npu_base.tensors import plain_tensors

from npu_runtime._core import Device, Program, Weights
from npu_runtime.argument_types import AnyProgram, WeightSource
from npu_runtime.errors import InvalidTypeError, InvalidValueError, MissingWeightError, UnavailableError, format_error
from npu_runtime.host import masked, torch_to_numpy

if TYPE_CHECKING:  # programs run without PyTorch
    import numpy.typing as npt

__all__ = ["Weights", "load_weights", "load_weights_from_safetensors"]

_PICKLED = (".pt", ".pth", ".bin")
_INDEX = ".safetensors.index.json"


def load_weights(
    source: WeightSource,
    program: AnyProgram | None = None,
    device: Device | None = None,
) -> Weights:
    """Load weights from a .safetensors file, the index of a sharded checkpoint or its folder, a .pt file (without
    running code from it), a dict of NumPy arrays or torch tensors, or an ``nn.Module``, including its non-persistent
    buffers.

    Safetensors are mapped, not read. With a program, names, shapes and dtypes are checked now; folding and packing
    happen at the first run, or with ``executor.prepare(weights)``.

    Raises:
        MissingWeightError: ``program`` reads weights that are not there.
        InvalidValueError: a file cannot be read, or a weight has another shape or dtype than ``program`` reads.
    """
    if device is not None and not isinstance(device, Device):
        raise InvalidTypeError(
            format_error(
                "weights", "device has the wrong type", got=type(device).__name__, expected="npu_runtime.Device()"
            )
        )
    names = set(getattr(program, "weight_name_mapping", {}).values())
    program = None if program is None else program if isinstance(program, Program) else Program.load(program)
    if isinstance(source, Weights):
        weights = source
    elif isinstance(source, Mapping):
        weights = _from_mapping(plain_tensors(source), program)
    elif isinstance(source, str | os.PathLike):
        weights = _from_path(Path(source), program)
    elif _is_module(source):
        weights = _from_mapping(_tensors_of(source, program), program)
        if program is not None:
            _check_constants(source, program, names)
    else:
        expected = "a path, a dict or an nn.Module"
        hint = "load_weights(source, program)" if is_program(source) else None
        what, got = "weights cannot be loaded from this", type(source).__name__
        raise InvalidTypeError(format_error("weights", what, got=got, expected=expected, action=hint))
    if program is not None:
        weights.check(program)
        _warn_of_constants(weights, program)
    return weights


def load_weights_from_safetensors(path: str | os.PathLike[str], program: AnyProgram, device: Device) -> Weights:
    """``load_weights`` from a file of this format, checked against ``program``; it raises the same errors.

    Raises:
        InvalidValueError: the file cannot be read, is no safetensors file, or does not fit ``program``.
    """
    return load_weights(path, program, device)


def resolve_names(wanted: Mapping[str, list[str]], given: Any) -> dict[str, str]:
    """The name of each weight in ``given``, by the rule of the core: its own name or one that it is tied to. If some of
    them do not match, the prefix ``model.`` is added or removed."""

    def same(name: str) -> str:
        return name

    changes = (same, lambda name: f"model.{name}", lambda name: name[6:] if name.startswith("model.") else "")
    for change in changes:
        sources = {
            name: source
            for name, ties in wanted.items()
            if (source := next((s for s in map(change, (name, *ties)) if s in given), None)) is not None
        }
        if len(sources) == len(wanted):
            return sources
    missing = [name for name, ties in wanted.items() if not any(n in given for n in (name, *ties))]
    named = ", ".join(f'"{name}"' for name in missing[:5])
    named += f" and {len(missing) - 5} more" if len(missing) > 5 else ""
    raise MissingWeightError(
        format_error("weights", f"missing weights: {named} not found in state dict", got=f"{len(given)} tensors")
    )


def _is_module(source: Any) -> bool:
    torch = sys.modules.get("torch")  # not imported here: programs run without PyTorch
    return torch is not None and isinstance(source, torch.nn.Module)


def _tensors_of(module: Any, program: Any) -> dict[str, Any]:
    """Parameters and buffers under all their names, and other tensors that the program reads."""
    tensors = dict(module.named_buffers(remove_duplicate=False))
    tensors |= module.state_dict()
    read = [] if program is None else [spec.name for spec in program.weights]
    for name in read:
        tensor = _tensor_at(module, name)
        if tensor is not None:  # otherwise the check of names reports it
            tensors.setdefault(name, tensor)
    tensors = plain_tensors(tensors)
    on_meta = [name for name, tensor in tensors.items() if tensor.is_meta]
    wanted = on_meta if program is None else [name for name in on_meta if name in read]
    if wanted:
        what = f'{len(wanted)} tensors of the module are on the meta device, "{wanted[0]}" first'
        action = "a module built on the CPU, or its checkpoint"
        raise InvalidValueError(format_error("weights", what, expected="tensors with values", action=action))
    return {name: tensor.detach() for name, tensor in tensors.items() if not tensor.is_meta}


def _tensor_at(module: Any, name: str) -> Any:
    """The tensor at a dotted name in a module tree, registered or not."""
    owner, _, attribute = name.rpartition(".")
    try:
        value = getattr(module.get_submodule(owner), attribute)
    except AttributeError:
        return None
    return value if hasattr(value, "is_meta") else None


def _check_constants(module: Any, program: Program, names: set[str]) -> None:
    """Refuse a module whose values differ from the program's constants, because it would compute something else.

    Constants include buffers that no checkpoint contains. ``names`` are the known names of the model's own tensors.
    """
    for name, constant in program.constants.items():
        value = _tensor_at(module, name)
        if value is None or value.is_meta:
            continue
        given, kept = torch_to_numpy(value), constant.to_numpy()
        if name not in names and given.shape != kept.shape:
            continue  # a constant of the compiler that happens to have the name of a module's tensor
        if not _same_values(given.astype(kept.dtype), kept):
            what = f"the module's '{name}' differs from the constant in the program"
            got, expected = f"{given.dtype}{list(given.shape)} with other values", "the values of the extracted model"
            action = "extracting and compiling this module"
            raise InvalidValueError(format_error("weights", what, got=got, expected=expected, action=action))


def _warn_of_constants(weights: Weights, program: Program) -> None:
    """Warn of values in the checkpoint that differ from a constant of the program, because they are not used."""
    for name, constant in program.constants.items():
        value = weights.get(name)
        if value is None or value.shape != constant.shape:
            continue
        given = value.to_numpy()
        if not _same_values(given, constant.to_numpy().astype(given.dtype)):
            what = f"'{name}' is not used: the program contains it as a constant with other values"
            action = "extracting and compiling the model that has these values"
            warnings.warn(format_error("weights", what, action=action), NPUWarning, stacklevel=3)


def _same_values(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> bool:
    """NaN is equal to itself."""
    return a.shape == b.shape and bool(((a == b) | ((a != a) & (b != b))).all())


def _from_mapping(tensors: Mapping[str, Any], program: Any) -> Weights:
    weights = Weights()
    refused: dict[str, InvalidValueError] = {}
    for name, tensor in tensors.items():
        if not isinstance(name, str):
            raise InvalidValueError(format_error("weights", "the name of a weight must be a str", got=repr(name)))
        try:
            if masked_elements(tensor):
                raise masked("weights", f"'{name}'", tensor)
            weights[name] = tensor
        except InvalidValueError as error:
            refused[name] = error
    if refused:
        _raise_if_read(refused, weights, program)
    return weights


def _raise_if_read(refused: Mapping[str, InvalidValueError], weights: Weights, program: Any) -> None:
    """Raise for entries that are not tensors or have an unsupported dtype, if the program reads them."""
    first = next(iter(refused.values()))
    if program is None:
        raise first
    try:
        weights.check(program)
    except MissingWeightError as missing:
        read = (error for name, error in refused.items() if f'"{name.removeprefix("model.")}"' in str(missing))
        raise next(read, first) from None
    except InvalidValueError:
        pass  # load_weights checks everything again


def _from_path(path: Path, program: Any) -> Weights:
    if path.is_dir():
        return _from_path(_in_folder(path), program)
    if not path.exists():
        raise InvalidValueError(format_error("weights", "the file does not exist", got=repr(str(path))))
    if path.suffix == ".safetensors" or path.name.endswith(_INDEX):
        return Weights.load(str(path))
    if path.suffix in _PICKLED:
        return _from_pickled(path, program)
    if path.suffix == ".npubin":
        what, action = f"{path} is a compiled program, not weights", "load_weights(weights, program)"
        raise InvalidValueError(format_error("weights", what, action=action))
    if path.suffix == ".npu":
        what, action = (
            f"{path} is a saved model, not weights",
            "the path as the model: npu.load(path), or the SOURCE of a command",
        )
        raise InvalidValueError(format_error("weights", what, action=action))
    raise InvalidValueError(
        format_error(
            "weights",
            f"{path} has an unknown format",
            got=repr(path.suffix),
            expected=".safetensors, .safetensors.index.json, .pt, .pth or .bin",
        )
    )


def _from_pickled(path: Path, program: Any) -> Weights:
    """Read a .pt file without running code from it."""
    try:
        import torch
    except ImportError as error:
        what = f"reading {path} needs PyTorch, which is not installed"
        action = "installing torch (`pip install torch`), or a .safetensors file, which needs no other package"
        raise UnavailableError(format_error("weights", what, action=action)) from error
    try:
        # Only the newer of PyTorch's two formats, a zip archive, can be mapped.
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        # PyTorch's own message suggests running the code after all.
        what = f"cannot read {path}: it is damaged, or contains objects other than tensors, which are not loaded"
        raise InvalidValueError(format_error("weights", what, expected="a state dict of tensors")) from error
    except PermissionError as error:
        raise file_error("read", path, error, "a file that you have permission to read") from error
    except Exception as error:  # a damaged file makes the reader fail with almost any exception
        what = f"cannot read {path}: it is damaged, or not a file that torch.save wrote"
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        expected = "a state dict of tensors"
        raise InvalidValueError(format_error("weights", what, got=reason, expected=expected)) from error
    if not isinstance(loaded, Mapping):
        what = f"{path} does not contain a state dict"
        raise InvalidValueError(format_error("weights", what, got=type(loaded).__name__, expected="a dict of tensors"))
    tensors = {k: v for k, v in loaded.items() if isinstance(v, torch.Tensor)}
    inner = [k for k, v in loaded.items() if isinstance(v, Mapping)]
    if inner and not tensors:
        what = f"{path} contains dicts instead of tensors"
        action = "load_weights(torch.load(path, weights_only=True)[key], ...)"
        raise InvalidValueError(format_error("weights", what, got=f"the keys {inner}", action=action))
    return _from_mapping(tensors, program)


def _in_folder(folder: Path) -> Path:
    indices = sorted(folder.glob(f"*{_INDEX}"))
    files = sorted(folder.glob("*.safetensors"))
    candidates = indices or files
    if len(candidates) != 1:
        raise InvalidValueError(
            format_error(
                "weights",
                f"the folder {folder} does not contain exactly one checkpoint",
                got=", ".join(p.name for p in candidates) or "no files of weights",
                expected="one .safetensors file or one .safetensors.index.json",
            )
        )
    return candidates[0]

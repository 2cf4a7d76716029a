"""Loads weights from files without running code from them, and checks that they fit an IR."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ._encoding import dtype_to_str
from .errors import WeightLoadError
from .ir import IR

_PT_SUFFIXES = (".pt", ".pth", ".bin")
_FORMATS = "Supported formats: .pt, .pth, .bin, .safetensors"
_PREFIX = "model."


def load_weights(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Weights by name from .safetensors, a sharded ``*.safetensors.index.json`` or its folder, or .pt/.pth/.bin.

    Raises:
        WeightLoadError: the file cannot be read, or has no weights.
    """
    file = _existing(path)
    if file.is_dir():
        return _load_folder(file)
    if file.name.endswith(".index.json"):  # of .safetensors or .bin shards
        return _load_sharded(file)
    if file.suffix == ".safetensors":
        return load_weights_safetensors(file)
    if file.suffix in _PT_SUFFIXES:
        return load_weights_pt(file)
    try:
        return load_weights_pt(file)
    except WeightLoadError as e:
        raise WeightLoadError(f"Unknown weight file format: {file.suffix}\n{_FORMATS}") from e


def load_weights_pt(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Load a state dict that ``torch.save`` wrote. Files that would run code are refused.

    Raises:
        WeightLoadError: the file cannot be read, has no weights, or would run code.
    """
    file = _existing(path)
    try:
        try:
            loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        except (RuntimeError, ValueError):  # the older format, which is not a zip file, cannot be mapped
            loaded = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as e:
        raise WeightLoadError(f"Failed to load weights from {file}: {e}") from e
    except Exception as e:  # a damaged file makes the reader fail with almost any exception
        raise WeightLoadError(
            f"Failed to load weights from {file}: {type(e).__name__}: {e}; "
            "the file is damaged, or was not written by torch.save"
        ) from e
    return _only_tensors(loaded, file)


def _only_tensors(loaded: Any, file: Path) -> dict[str, torch.Tensor]:
    if isinstance(loaded, Mapping) and isinstance(loaded.get("state_dict"), Mapping):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, Mapping):
        raise WeightLoadError(
            f"Failed to load weights from {file}: expected a dict of tensors, got {type(loaded).__name__}"
        )
    others = [f"{k!r} ({type(v).__name__})" for k, v in loaded.items() if not isinstance(v, torch.Tensor)]
    if others:
        raise WeightLoadError(
            f"Failed to load weights from {file}: these entries are not tensors: {', '.join(others[:5])}"
            + (f" and {len(others) - 5} more" if len(others) > 5 else "")
            + "; save model.state_dict()"
        )
    return {str(k): v.detach() for k, v in loaded.items()}


def load_weights_safetensors(path: str | os.PathLike[str]) -> dict[str, torch.Tensor]:
    """Map the tensors of a file. Their pages are read when they are used.

    Raises:
        WeightLoadError: the file cannot be read.
    """
    file = _existing(path)
    from safetensors import safe_open

    try:
        with safe_open(str(file), framework="pt", device="cpu") as reader:
            return {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a dict)
    except Exception as e:
        raise WeightLoadError(f"Failed to load weights from {file}: {e}") from e


def _existing(path: str | os.PathLike[str]) -> Path:
    if not isinstance(path, (str, os.PathLike)):
        raise WeightLoadError(f"Expected the path of a weight file, got {type(path).__name__}")
    file = Path(path)
    if not file.exists():
        raise WeightLoadError(f"Weight file not found: {file}")
    return file


def _load_folder(folder: Path) -> dict[str, torch.Tensor]:
    indexes = sorted(folder.glob("*.safetensors.index.json"))
    singles = sorted(folder.glob("*.safetensors"))
    if len(indexes) == 1:
        return _load_sharded(indexes[0])
    if not indexes and len(singles) == 1:
        return load_weights_safetensors(singles[0])
    names = [p.name for p in (*indexes, *singles)]
    raise WeightLoadError(
        f"Failed to load weights from folder {folder}: expected one .safetensors file or one index, found {names}"
    )


def _load_sharded(index: Path) -> dict[str, torch.Tensor]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(weight_map.values()))
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise WeightLoadError(f"Failed to load weights from {index}: not an index of shards: {e!r}") from e
    weights: dict[str, torch.Tensor] = {}
    for shard in shards:
        if not isinstance(shard, str) or Path(shard).name != shard or shard in (".", ".."):
            raise WeightLoadError(f"Failed to load weights from {index}: shard {shard!r} is not a plain file name")
        tensors = load_weights(index.parent / shard)
        for name in (n for n, s in weight_map.items() if s == shard):
            if name not in tensors:
                raise WeightLoadError(f"Failed to load weights from {index}: {shard} has no tensor '{name}'")
            weights[name] = tensors[name]
    return weights


def resolve_weights(weights: Mapping[str, torch.Tensor], ir: IR) -> dict[str, torch.Tensor]:
    """The weights by the IR's names: the same name, a tied name, or with the prefix ``model.`` added or removed.

    Names that are not found are left out. Tied names with different values are an error.
    """
    rename = _prefix_rule(weights, ir)
    aliases: dict[str, list[str]] = {}
    for alias, name in ir.ties.items():
        aliases.setdefault(name, []).append(alias)
    resolved: dict[str, torch.Tensor] = {}
    for meta in ir.weights:
        names = [n for n in (meta.name, *aliases.get(meta.name, ())) if rename(n) in weights]
        if not names:
            continue
        value = weights[rename(names[0])]
        for other in names[1:]:
            if not _same_tensor(value, weights[rename(other)]):
                raise WeightLoadError(
                    f"Weights '{names[0]}' and '{other}' are one tensor in the model, but differ in the checkpoint; "
                    f"remove one of them, or extract the model with untied weights"
                )
        resolved[meta.name] = value
    return resolved


def _prefix_rule(weights: Mapping[str, torch.Tensor], ir: IR) -> Any:
    def same(name: str) -> str:
        return name

    def added(name: str) -> str:
        return _PREFIX + name

    def removed(name: str) -> str:
        return name.removeprefix(_PREFIX)

    needed = sorted(ir.weights_read() - set(ir.constants))

    def matches(rule: Any) -> bool:
        return all(rule(n) in weights or any(rule(a) in weights for a, t in ir.ties.items() if t == n) for n in needed)

    if not needed or matches(same):
        return same
    fitting = [rule for rule in (added, removed) if matches(rule)]
    if len(fitting) == 2:
        raise WeightLoadError(
            f"Weight names are ambiguous: they fit both with '{_PREFIX}' added and with it removed; rename them"
        )
    return fitting[0] if fitting else same


def _same_tensor(a: torch.Tensor, b: torch.Tensor) -> bool:
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.data_ptr() == b.data_ptr() and a.stride() == b.stride():
        return True
    raw_a, raw_b = (t.detach().contiguous().view(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(raw_a, raw_b)  # compares bytes, so that NaN equals NaN


def validate_weights_against_ir(weights: Mapping[str, Any], ir: IR) -> list[str]:
    """All mismatches between the weights and the IR, as text. The list is empty if they fit."""
    errors: list[str] = []
    resolved = resolve_weights(weights, ir)
    missing = [m.name for m in ir.weights if m.name not in resolved and m.name not in ir.constants]
    if missing:
        errors.append(f"Missing weights: {{{', '.join(map(repr, sorted(missing)))}}}")
    for meta in ir.weights:
        if meta.name in resolved:
            errors.extend(mismatches(resolved[meta.name], meta.name, tuple(meta.shape), meta.dtype))
    return errors


def mismatches(tensor: Any, name: str, shape: tuple[int, ...], dtype: str) -> list[str]:
    if not isinstance(tensor, torch.Tensor):
        return [f"Type mismatch for '{name}': expected a tensor, got {type(tensor).__name__}"]
    errors = []
    if tuple(tensor.shape) != shape:
        errors.append(f"Shape mismatch for '{name}': expected {shape}, got {tuple(tensor.shape)}")
    if dtype_to_str(tensor.dtype) != dtype:
        errors.append(f"Dtype mismatch for '{name}': expected torch.{dtype}, got {tensor.dtype}")
    return errors


def misfit_message(errors: list[str]) -> str:
    """All mismatches, one per line, and advice for those of dtypes."""
    lines = ["Weights do not fit the IR:", *(f"  - {e}" for e in errors)]
    wanted = {e.split("expected ")[1].split(",")[0] for e in errors if e.startswith("Dtype mismatch")}
    if wanted:
        lines.append(f"Convert them: tensor.to({' or '.join(sorted(wanted))}), or the model before its state_dict()")
    return "\n".join(lines)


class WeightLoader:
    """Loads weights and, if an IR is passed, checks that they fit it."""

    def __init__(self, validate: bool = True) -> None:
        self.validate = validate

    def load(self, path: str | os.PathLike[str], ir: IR | None = None) -> dict[str, torch.Tensor]:
        return self.load_from_state_dict(load_weights(path), ir)

    def load_from_state_dict(self, state_dict: Mapping[str, torch.Tensor], ir: IR | None = None) -> dict[str, Any]:
        weights = dict(state_dict)
        errors = validate_weights_against_ir(weights, ir) if ir is not None and self.validate else []
        if errors:
            raise WeightLoadError(misfit_message(errors))
        return weights

"""Folders of compressed-tensors: weights alone in integers, ``pack-quantized`` (words of 32 bits, with 2^(bits - 1)
added) or ``int-quantized`` (int8)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_base.quantization import Scheme

from npu.quantized.checkpoint import Checkpoint, Entry, is_count, plain_entry, take_config
from npu.quantized.errors import refuse
from npu.quantized.packing import Bytes, Floats, unpack_rows, without_tail
from npu.quantized.stored import StoredTensor, StoredTensors
from npu.quantized.tensors import QuantizedTensor, check_scheme

__all__ = ["open_compressed"]

_FORMATS = ("pack-quantized", "int-quantized", "dense")
_PARTS = ("weight_scale", "weight_zero_point", "weight_shape", "weight_g_idx")
_POINTS = "float16"  # has all integers of 8 bits


@dataclass(frozen=True)
class _Group:
    """What the configuration says about some of the layers. ``size`` is 0 for whole rows, None for whole tensors."""

    name: str
    bits: int
    size: int | None


@dataclass(frozen=True, eq=False)
class _Layer:
    """A quantised layer. ``packed`` is its integers: words of 32 bits, or int8."""

    stored: StoredTensors
    name: str
    packed: StoredTensor
    shape: tuple[int, ...]

    @property
    def where(self) -> str:
        return self.packed.where

    def part(self, name: str) -> StoredTensor | None:
        return self.stored.get(f"{self.name}.{name}")

    @property
    def scale(self) -> StoredTensor:
        return self.stored[f"{self.name}.weight_scale"]

    def refuse_order(self, group: int) -> None:
        """Refuse columns in another order than groups have."""
        order = self.part("weight_g_idx")
        if order is None:
            return
        depth = self.shape[-1]
        if order.shape != (depth,) or not np.array_equal(order.array, np.arange(depth) // max(group or depth, 1)):
            what = "its columns are in the order of their activations (actorder), which is not supported"
            refuse(self.where, what, action="a checkpoint that was quantised without actorder='group'")


def open_compressed(stored: StoredTensors, config: dict[str, Any]) -> Checkpoint:
    where = stored.path / "config.json"
    config, said = take_config(config, where, "quantization_config", "compression_config")
    groups = _groups(said, where)
    entries = {}
    for name, tensor in stored.items():
        layer, _, part = name.rpartition(".")
        if part == "weight_packed":
            entries[f"{layer}.weight"] = _packed(_layer(stored, layer, tensor), groups)
        elif part == "weight" and f"{layer}.weight_scale" in stored:
            entries[name] = _integers(_Layer(stored, layer, tensor, tensor.shape), groups)
        elif part not in _PARTS:
            entries[name] = plain_entry(tensor)
    return Checkpoint(stored.path, "compressed-tensors", config, entries)


def _groups(said: dict[str, Any], where: object) -> list[_Group]:
    """What the configuration allows: weights in integers, and nothing else."""
    sparsity = said.get("sparsity_config") or {}
    formats = {"format": said.get("format"), "sparsity": sparsity.get("format") if isinstance(sparsity, dict) else "?"}
    for key, value in formats.items():
        if value is not None and value not in _FORMATS:
            expected = f"one of {', '.join(_FORMATS)}"
            refuse(where, f"unsupported {key} of compressed-tensors", got=f"{value!r:.60}", expected=expected)
    if said.get("kv_cache_scheme") is not None:
        refuse(where, "quantised caches are not supported", got="a kv_cache_scheme", expected="none")
    groups = said.get("config_groups")
    if not isinstance(groups, dict) or not groups:
        refuse(where, "has no groups of layers", expected="an object 'config_groups'")
    return [_group(group, name, where) for name, group in groups.items()]


def _group(group: Any, name: str, where: object) -> _Group:
    weights = group.get("weights") if isinstance(group, dict) else None
    if not isinstance(weights, dict):
        refuse(where, f"'{name}' does not say how its weights are quantised")
    for key in ("input_activations", "output_activations"):
        if group.get(key) is not None:
            refuse(where, f"'{name}' also quantises activations", got=key, expected="quantised weights alone")
    bits: Any = weights.get("num_bits")
    size: Any = weights.get("group_size")
    strategy: Any = weights.get("strategy")
    strategy = strategy or ("channel" if size in (None, -1) else "group")
    allowed = {
        "type": (weights.get("type", "int"), ("int",)), "number of bits": (bits, (4, 8)),
        "strategy": (strategy, ("group", "channel", "tensor")),
    }  # fmt: skip
    for what, (value, values) in allowed.items():
        if value not in values:
            expected = " or ".join(map(str, values))
            refuse(where, f"'{name}' has an unsupported {what}", got=f"{value!r:.60}", expected=expected)
    if strategy == "group" and not is_count(size):
        refuse(where, f"'{name}' has no valid group size", got=f"{size!r:.60}")
    return _Group(name, bits, {"group": size, "channel": 0, "tensor": None}[strategy])


def _layer(stored: StoredTensors, name: str, packed: StoredTensor) -> _Layer:
    """Of packed integers, whose shape is a tensor of its own."""
    for part in ("weight_shape", "weight_scale"):
        if f"{name}.{part}" not in stored:
            refuse(packed.where, "has packed integers alone", expected=f"a tensor '{name}.{part}'")
    tensor = stored[f"{name}.weight_shape"]
    shape = tuple(int(n) for n in tensor.array.reshape(-1)[:8]) if tensor.code in ("I64", "I32") else ()
    if packed.code != "I32" or len(shape) < 2 or shape[:-1] != packed.shape[:-1] or shape[-1] < 0:
        got = f"{packed.code} {list(packed.shape)} for {list(shape)}"
        refuse(packed.where, "its integers are not packed as expected", got=got, expected="int32, a row for each row")
    return _Layer(stored, name, packed, shape)


def _packed(layer: _Layer, groups: list[_Group]) -> Entry:
    depth, words = layer.shape[-1], layer.packed.shape[-1]
    group = _matching([group for group in groups if -(-depth * group.bits // 32) == words], layer)
    scheme = _scheme(layer, group, group.bits, signed=False, offset="point")
    data = layer.packed.bytes.reshape(*layer.shape[:-1], words * 4)[..., : scheme.row_bytes(depth)]
    points = layer.part("weight_zero_point")
    if points is not None:
        rows = -(-layer.shape[-2] * scheme.bits // 32)
        _expect(points, "I32", (*layer.shape[:-2], rows, scheme.groups(depth)))

    def read() -> QuantizedTensor:
        scales = _scales(layer, scheme)
        if points is None:
            offsets: Floats = np.full(scales.shape, 1 << (scheme.bits - 1), _POINTS)
        else:  # packed along the rows of the weight
            along = np.ascontiguousarray(points.array.swapaxes(-1, -2)).view(np.uint8)
            offsets = unpack_rows(along, scheme.bits, layer.shape[-2]).swapaxes(-1, -2).astype(_POINTS)
        return QuantizedTensor(scheme, layer.shape, without_tail(data, scheme.bits, depth), scales, offsets)

    return Entry(layer.where, layer.shape, scheme.scale_dtype, scheme, read)


def _integers(layer: _Layer, groups: list[_Group]) -> Entry:
    if layer.packed.code != "I8" or len(layer.shape) < 2:
        got = f"{layer.packed.code} {list(layer.shape)}"
        refuse(layer.where, "its integers are not stored as expected", got=got, expected="int8, in two dimensions")
    points = layer.part("weight_zero_point")
    scheme = _scheme(layer, _matching(groups, layer), 8, signed=True, offset="none" if points is None else "point")
    if points is not None:
        _expect(points, "I8", layer.scale.shape)
    data: Bytes = layer.packed.bytes.reshape(layer.shape)

    def read() -> QuantizedTensor:
        shape = (*layer.shape[:-1], scheme.groups(layer.shape[-1]))
        offsets = None if points is None else _spread(points.array.astype(_POINTS), shape)
        return QuantizedTensor(scheme, layer.shape, data, _scales(layer, scheme), offsets)

    return Entry(layer.where, layer.shape, scheme.scale_dtype, scheme, read)


def _matching(groups: Sequence[_Group], layer: _Layer) -> _Group:
    """The group of layers that has scales of this shape: which targets it names matters to those who quantise."""
    rows, depth = layer.shape[:-1], layer.shape[-1]
    for group in groups:
        columns = 1 if not group.size else -(-depth // group.size)
        if layer.scale.shape == (*rows, columns) or (group.size is None and layer.scale.shape in ((), (1,))):
            return group
    got = f"weight {list(layer.shape)}, stored {list(layer.packed.shape)}, scales {list(layer.scale.shape)}"
    return refuse(layer.where, "no group of layers of the configuration has this form", got=got)


def _scheme(layer: _Layer, group: _Group, bits: int, *, signed: bool, offset: str) -> Scheme:
    size = group.size or 0
    if size and layer.shape[-1] % size:
        refuse(layer.where, "the group size does not divide its rows", got=f"{size}, rows of {layer.shape[-1]}")
    scheme = Scheme(bits, size, offset, signed, layer.scale.array.dtype.name, _POINTS)
    check_scheme(scheme, layer.where)
    layer.refuse_order(size)
    return scheme


def _scales(layer: _Layer, scheme: Scheme) -> Floats:
    return _spread(layer.scale.array, (*layer.shape[:-1], scheme.groups(layer.shape[-1])))


def _spread(array: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """One number for a whole tensor becomes one for each row."""
    return array if array.shape == shape else np.full(shape, array.reshape(-1)[0])


def _expect(tensor: StoredTensor, code: str, shape: tuple[int, ...]) -> None:
    if tensor.code != code or tensor.shape != shape:
        got = f"{tensor.code} {list(tensor.shape)}"
        refuse(tensor.where, "has another dtype or shape", got=got, expected=f"{code} {list(shape)}")

"""Folders as MLX writes them: ``quantization`` in config.json, and for each quantised layer ``weight``, ``scales`` and
``biases``. Their integers lie in the order that ``npu_base.quantization`` defines, as words of 32 bits."""

from __future__ import annotations

from typing import Any

from npu_base.quantization import Scheme

from npu.quantized.checkpoint import Checkpoint, Entry, is_count, plain_entry, take_config
from npu.quantized.errors import refuse
from npu.quantized.stored import StoredTensor, StoredTensors
from npu.quantized.tensors import BITS, QuantizedTensor, check_scheme

__all__ = ["GROUPS", "open_mlx"]

GROUPS = (32, 64, 128)
"""The group sizes that MLX has kernels for."""

_SUFFIX = ".weight"


def open_mlx(stored: StoredTensors, config: dict[str, Any]) -> Checkpoint:
    where = stored.path / "config.json"
    config, said = take_config(config, where, "quantization", "quantization_config")
    entries = {}
    for name, tensor in stored.items():
        layer = name.removesuffix(_SUFFIX)
        if name != layer and f"{layer}.scales" in stored:
            bits, group = _settings(said, layer, where)
            entries[name] = _quantized(tensor, stored, layer, bits, group)
        elif not (name.endswith((".scales", ".biases")) and f"{name.rpartition('.')[0]}{_SUFFIX}" in stored):
            if tensor.code == "U32":
                refuse(tensor.where, "has packed integers, but no scales", expected=f"a tensor '{layer}.scales'")
            entries[name] = plain_entry(tensor)
    return Checkpoint(stored.path, "mlx", config, entries)


def _settings(said: dict[str, Any], layer: str, where: object) -> tuple[int, int]:
    """Bits and group size of a layer; one of its own replaces what holds for all."""
    own = said.get(layer, {})
    if own is False:
        refuse(where, f"layer '{layer}' is not quantised by the configuration, but has scales")
    if not isinstance(own, dict):
        own = {}
    found: dict[str, Any] = {key: own.get(key, said.get(key)) for key in ("bits", "group_size", "mode")}
    if found["mode"] not in (None, "affine"):
        refuse(where, f"layer '{layer}': unknown mode", got=f"{found['mode']!r:.60}", expected="affine")
    for key in ("bits", "group_size"):
        if not is_count(found[key]):
            refuse(where, f"layer '{layer}': '{key}' is not a count", got=f"{found[key]!r:.60}")
    return found["bits"], found["group_size"]


def _quantized(tensor: StoredTensor, stored: StoredTensors, layer: str, bits: int, group: int) -> Entry:
    where = tensor.where
    if bits not in BITS:
        refuse(where, "unsupported number of bits", got=bits, expected=f"one of {', '.join(map(str, BITS))}")
    if f"{layer}.biases" not in stored:
        refuse(where, "has scales, but no biases", expected=f"a tensor '{layer}.biases'")
    scales, biases = stored[f"{layer}.scales"], stored[f"{layer}.biases"]
    if tensor.code != "U32":
        refuse(where, "its integers are not packed as expected", got=tensor.code, expected="U32")
    if len(tensor.shape) < 2 or len(scales.shape) != len(tensor.shape):
        refuse(where, "weight and scales do not fit", got=f"{list(tensor.shape)} and {list(scales.shape)}")
    words, depth = tensor.shape[-1], scales.shape[-1] * group
    if words * 32 != depth * bits:
        got = f"{words} words of 32 bits, and scales for {scales.shape[-1]} groups"
        refuse(where, f"does not have {bits} bits in groups of {group}", got=got, expected=f"{depth * bits} bits")
    scheme = Scheme(bits, group, "bias", False, scales.array.dtype.name, biases.array.dtype.name)
    check_scheme(scheme, where)
    data = tensor.bytes.reshape(*tensor.shape[:-1], words * 4)
    shape = (*tensor.shape[:-1], depth)
    quantized = QuantizedTensor(scheme, shape, data, scales.array, biases.array)
    quantized.check_layout(where)
    return Entry(where, shape, scheme.scale_dtype, scheme, lambda: quantized)

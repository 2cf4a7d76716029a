"""Folders of quantised weights, written number by number as the documents of their formats say.

Each writer also returns the numbers that the weights stand for, by the format's own formula in float64.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

__all__ = ["AWQ_ORDER", "FORMATS", "Format", "gptq_layer", "words", "write_folder"]

Array = np.ndarray[Any, Any]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_CODES = {
    "float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32",
    "int8": "I8", "uint8": "U8", "uint32": "U32",
}  # fmt: skip
_ROWS = 24


def write_folder(folder: Path, tensors: Mapping[str, Array], config: Mapping[str, Any]) -> None:
    folder.mkdir(exist_ok=True)
    header, data = {}, b""
    for name, array in tensors.items():
        raw = np.ascontiguousarray(array).tobytes()
        header[name] = {
            "dtype": _CODES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [len(data), len(data) + len(raw)],
        }
        data += raw
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", **config}))


def words(values: Iterable[int], bits: int) -> list[int]:
    """Words of 32 bits, filled from the lowest bit on; integers may go on in the next word."""
    string = sum(int(value) << (bits * i) for i, value in enumerate(values))
    count = -(-bits * len(list(values)) // 32)
    return [(string >> (32 * i)) & 0xFFFFFFFF for i in range(count)]


def _rows_of_words(values: Array, bits: int) -> Array:
    return np.array([words(row, bits) for row in values.tolist()], np.uint32)


@dataclass(frozen=True)
class Format:
    """``write`` makes tensors, the configuration and the expected numbers of a weight ``layer.weight``."""

    name: str
    write: Callable[[np.random.Generator], tuple[dict[str, Array], dict[str, Any], Array]]


def _drawn(rng: np.random.Generator, bits: int, groups: int, depth: int, dtype: Any) -> tuple[Array, Array]:
    """Integers from 0 on, and scales."""
    integers = rng.integers(0, 1 << bits, (_ROWS, depth))
    integers[0], integers[1] = 0, (1 << bits) - 1
    return integers, rng.uniform(0.001, 0.1, (_ROWS, groups)).astype(dtype)


def _spread(values: Array, depth: int) -> Array:
    """Of each group, for each of its columns, in float64."""
    return np.repeat(values.astype(np.float64), depth // values.shape[1], 1)


def _mlx(bits: int, group: int, dtype: Any) -> Format:
    def write(rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Any], Array]:
        depth = group * 3
        integers, scales = _drawn(rng, bits, 3, depth, dtype)
        biases = rng.standard_normal(scales.shape).astype(dtype)
        tensors = {"layer.weight": _rows_of_words(integers, bits), "layer.scales": scales, "layer.biases": biases}
        config = {"quantization": {"group_size": group, "bits": bits}}
        return tensors, config, _spread(scales, depth) * integers + _spread(biases, depth)

    return Format(f"mlx-{bits}bit-{group}-{np.dtype(dtype).name}", write)


def _compressed(bits: int, group: int, dtype: Any, *, packed: bool = True, zeros: bool = False) -> Format:
    def write(rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Any], Array]:
        depth, groups, half = 96, 96 // group if group else 1, 1 << (bits - 1)
        integers, scales = _drawn(rng, bits, groups, depth, dtype)
        integers -= half
        points = rng.integers(-half, half, scales.shape) if zeros else np.zeros(scales.shape, np.int64)
        tensors = {"layer.weight_scale": scales}
        if packed:
            tensors["layer.weight_packed"] = _rows_of_words(integers + half, bits).view(np.int32)
            tensors["layer.weight_shape"] = np.array([_ROWS, depth])
        else:
            tensors["layer.weight"] = integers.astype(np.int8)
        if zeros:
            along = np.ascontiguousarray(_rows_of_words((points + half).T, bits).T).view(np.int32)
            tensors["layer.weight_zero_point"] = along if packed else points.astype(np.int8)
        weights = {
            "num_bits": bits, "type": "int", "symmetric": not zeros, "strategy": "group" if group else "channel",
            "group_size": group or None,
        }  # fmt: skip
        config = {
            "quant_method": "compressed-tensors", "format": "pack-quantized" if packed else "int-quantized",
            "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights, "input_activations": None}},
        }  # fmt: skip
        numbers = (integers - _spread(points, depth)) * _spread(scales, depth)
        return tensors, {"quantization_config": config}, numbers

    kind = "pack" if packed else "int"
    return Format(f"compressed-{kind}-{bits}bit-{group or 'row'}-{np.dtype(dtype).name}{'-zeros' * zeros}", write)


def gptq_layer(
    name: str, integers: Array, scales: Array, points: Array, bits: int, group_of: Array | None
) -> dict[str, Array]:
    """The tensors of a layer: integers and zero points less what the format adds, a group for each column."""
    tensors = {
        f"{name}.qweight": np.ascontiguousarray(_rows_of_words(integers, bits).T).view(np.int32),
        f"{name}.qzeros": _rows_of_words(points.T, bits).view(np.int32),
        f"{name}.scales": np.ascontiguousarray(scales.T),
    }
    return tensors if group_of is None else {**tensors, f"{name}.g_idx": group_of.astype(np.int32)}


def _gptq(bits: int, group: int, form: str, order: str = "trivial") -> Format:
    """``order`` is that of columns: "trivial", "none" (no ``g_idx``) or "moved" (act-order)."""

    def write(rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Any], Array]:
        depth, added = 96, 1 if form == "gptq" else 0
        groups = depth // group if group else 1
        integers, scales = _drawn(rng, bits, groups, depth, np.float16)
        stored = rng.integers(0, 1 << bits, scales.shape)
        group_of = np.arange(depth) // (group or depth)
        if order == "moved":
            group_of = rng.permutation(group_of)
        tensors = gptq_layer("layer", integers, scales, stored, bits, None if order == "none" else group_of)
        config = {
            "quant_method": "gptq", "bits": bits, "group_size": group or -1, "desc_act": order == "moved",
            "checkpoint_format": form,
        }  # fmt: skip
        numbers = scales.astype(np.float64)[:, group_of] * (integers - (stored[:, group_of] + added))
        return tensors, {"quantization_config": config}, numbers

    return Format(f"{form}-{bits}bit-{group or 'row'}{'' if order == 'trivial' else f'-{order}-order'}", write)


def _awq(group: int) -> Format:
    def columns(values: Array) -> Array:
        """Words of eight columns each."""
        parts = values.reshape(values.shape[0], -1, 8)[:, :, AWQ_ORDER].tolist()
        return np.array([[words(part, 4)[0] for part in row] for row in parts], np.uint32).view(np.int32)

    def write(rng: np.random.Generator) -> tuple[dict[str, Array], dict[str, Any], Array]:
        depth = 128
        integers, scales = _drawn(rng, 4, depth // group, depth, np.float16)
        points = rng.integers(0, 16, scales.shape)
        tensors = {
            "layer.qweight": columns(integers.T), "layer.qzeros": columns(points.T),
            "layer.scales": np.ascontiguousarray(scales.T),
        }  # fmt: skip
        config = {"quant_method": "awq", "bits": 4, "group_size": group, "version": "gemm", "zero_point": True}
        numbers = (integers - _spread(points, depth)) * _spread(scales, depth)
        return tensors, {"quantization_config": config}, numbers

    return Format(f"awq-{group}", write)


_BFLOAT16 = ml_dtypes.bfloat16
FORMATS = [
    *(_mlx(bits, group, np.float16) for bits in (2, 3, 4, 6, 8) for group in (32, 64, 128)),
    _mlx(4, 64, _BFLOAT16), _mlx(8, 64, np.float32),
    _compressed(4, 32, _BFLOAT16), _compressed(4, 0, np.float16), _compressed(8, 32, np.float32),
    _compressed(4, 32, np.float16, zeros=True), _compressed(8, 48, _BFLOAT16, zeros=True),
    _compressed(4, 0, _BFLOAT16, zeros=True), _compressed(8, 0, np.float32, packed=False),
    _compressed(8, 32, np.float16, packed=False, zeros=True), _compressed(4, 32, np.float16, packed=False),
    *(_gptq(bits, 32, "gptq") for bits in (2, 3, 4, 8)), _gptq(4, 32, "gptq_v2"), _gptq(8, 0, "gptq_v2"),
    _gptq(4, 0, "gptq", "none"), _gptq(4, 32, "gptq", "none"),
    *(_gptq(bits, 32, "gptq", "moved") for bits in (2, 3, 4, 8)), _gptq(4, 32, "gptq_v2", "moved"),
    _awq(32), _awq(128),
]  # fmt: skip

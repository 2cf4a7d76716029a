"""Random quantised weights, packed here bit by bit, and what they are as numbers."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from npu_base.quantization import Scheme
from torch import Tensor

__all__ = ["Quantized", "numbers_of", "pack", "quantized"]


@dataclass(frozen=True)
class Quantized:
    """A weight of a program, and its numbers in float64."""

    parts: dict[str, Tensor]
    """By what follows the name of the weight: nothing, ".scales", ".offsets" and ".units"."""
    numbers: Tensor
    order: Tensor | None = None
    """Of the columns as they are stored, if the scheme names one."""

    def stored(self, name: str, scheme: Scheme) -> dict[str, Tensor]:
        """The weights that a program takes for ``name``."""
        order = {} if self.order is None else {scheme.order: self.order}
        return {name + suffix: part for suffix, part in self.parts.items()} | order


def quantized(name: str, shape: Sequence[int], scheme: Scheme) -> Quantized:
    """Another one for each name. Schemes with the same order share it."""
    if scheme.order:
        weight = quantized(name, shape, replace(scheme, order=""))
        order = torch.randperm(shape[-1], generator=torch.Generator().manual_seed(zlib.crc32(scheme.order.encode())))
        numbers = torch.empty_like(weight.numbers)
        numbers[..., order] = weight.numbers
        return Quantized(weight.parts, numbers, order)
    g = torch.Generator().manual_seed(zlib.crc32(name.encode()))
    depth, bits = shape[-1], scheme.bits
    low = -(1 << (bits - 1)) if scheme.signed else 0
    integers = torch.randint(low, low + (1 << bits), tuple(shape), generator=g)
    groups = (*shape[:-1], scheme.groups(depth))
    scales = (torch.rand(groups, generator=g) + 0.2) / (1 << bits)
    scales = scales.to(getattr(torch, "float32" if scheme.unit else scheme.scale_dtype))
    middle = low + (1 << bits) / 2
    spread = torch.rand(groups, generator=g) - 0.5
    offsets = middle + (spread * 3).round() if scheme.offset == "point" else -scales.double() * (middle + 3 * spread)
    parts = {"": pack(integers, bits)}
    if scheme.unit:
        return _with_units(parts, groups, scheme, depth, g)
    offsets = offsets.to(getattr(torch, scheme.offset_dtype))
    parts[".scales"] = scales
    if scheme.offset != "none":
        parts[".offsets"] = offsets
    return Quantized(parts, numbers_of(parts, scheme, depth))


def _with_units(
    parts: dict[str, Tensor], groups: tuple[int, ...], scheme: Scheme, depth: int, g: torch.Generator
) -> Quantized:
    """Multiples of units: scales of both signs, and offsets that move numbers near zero, as with others."""
    multiples = torch.randint(-127, 128, groups, generator=g)
    units = (torch.rand((*groups[:-1], scheme.units(depth)), generator=g) + 0.5) / (128 << scheme.bits)
    if scheme.offset != "none":
        middle = 0 if scheme.signed else 1 << (scheme.bits - 1)
        of_point = scheme.offset == "point"
        units[..., 1::2] = (units[..., 1::2] * 128 if of_point else units[..., 0::2]) * (1 << scheme.bits)
        scale, shift = (
            units[..., i::2].repeat_interleave(scheme.unit // scheme.group, -1)[..., : groups[-1]] for i in (0, 1)
        )
        if not depth:  # a group, but no unit
            scale = shift = torch.ones(groups)
        wanted = middle / shift if of_point else -multiples * scale * middle / shift
        parts[".offsets"] = (wanted.round() + torch.randint(-3, 4, groups, generator=g)).clamp(-128, 127).to(torch.int8)
    parts[".scales"] = multiples.to(torch.int8)
    parts[".units"] = units.to(getattr(torch, scheme.unit_dtype))
    parts = {name: parts[name] for name in ("", ".scales", ".offsets", ".units") if name in parts}
    return Quantized(parts, numbers_of(parts, scheme, depth))


def numbers_of(parts: Mapping[str, Tensor], scheme: Scheme, depth: int) -> Tensor:
    """The numbers in float64 that integers, scales, offsets and units stand for."""
    stream = (parts[""].unsqueeze(-1).long() >> torch.arange(8)) & 1
    stream = stream.flatten(-2)[..., : depth * scheme.bits]
    digits = stream.reshape(*stream.shape[:-1], depth, scheme.bits)
    integers = (digits << torch.arange(scheme.bits)).sum(-1)
    if scheme.signed:
        integers = integers - (digits[..., -1] << scheme.bits)
    each = scheme.group or max(depth, 1)
    scale = parts[".scales"].double().repeat_interleave(each, -1)[..., :depth]
    units = [torch.ones((), dtype=torch.float64)] * 2
    if scheme.unit:
        step = 1 if scheme.offset == "none" else 2
        of_row = parts[".units"].double()
        units = [of_row[..., i::step].repeat_interleave(scheme.unit, -1)[..., :depth] for i in (0, step - 1)]
    scale = scale * units[0]
    if scheme.offset == "none":
        return scale * integers
    offset = parts[".offsets"].double().repeat_interleave(each, -1)[..., :depth] * units[1]
    return scale * (integers - offset) if scheme.offset == "point" else scale * integers + offset


def pack(integers: Tensor, bits: int) -> Tensor:
    """Rows of bits, the lowest of the first integer first, up to a whole byte."""
    depth = integers.shape[-1]
    stream = (integers.unsqueeze(-1) >> torch.arange(bits)) & 1
    stream = stream.reshape(*integers.shape[:-1], depth * bits)
    stream = torch.nn.functional.pad(stream, (0, -depth * bits % 8))
    octets = stream.reshape(*integers.shape[:-1], -(-depth * bits // 8), 8)
    return (octets << torch.arange(8)).sum(-1).to(torch.uint8)

"""Small integers in bytes, and the numbers that they stand for: each by the words of their definition."""

from __future__ import annotations

import numpy as np
import pytest
from npu.quantized.packing import pack_rows, unpack_rows, with_flipped_signs, without_tail
from npu.quantized.tensors import BITS, QuantizedTensor
from npu_base.errors import InvalidValueError
from npu_base.quantization import OFFSETS, Scheme

DEPTHS = (0, 1, 2, 3, 7, 8, 9, 31, 32, 33)


def integers(bits: int, depth: int) -> np.ndarray:
    return np.random.default_rng(bits).integers(0, 1 << bits, (3, depth)).astype(np.uint8)


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("depth", DEPTHS)
def test_packing(bits: int, depth: int) -> None:
    """Element k in the bits from k * bits, lowest first; zeros up to a whole byte."""
    values = integers(bits, depth)
    packed = pack_rows(values, bits)
    wanted = [
        sum(int(v) << (bits * k) for k, v in enumerate(row)).to_bytes(-(-depth * bits // 8), "little") for row in values
    ]
    assert [row.tobytes() for row in packed] == wanted
    np.testing.assert_array_equal(unpack_rows(packed, bits, depth), values)
    flipped = unpack_rows(with_flipped_signs(packed, bits, depth), bits, depth)
    np.testing.assert_array_equal(flipped, values ^ (1 << (bits - 1)))
    dirty = packed.copy()
    if depth * bits % 8:
        dirty[:, -1] |= np.uint8((0xFF << depth * bits % 8) & 0xFF)
    np.testing.assert_array_equal(without_tail(dirty, bits, depth), packed)


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "group"), [(2, 4), (3, 0), (4, 4), (4, 32), (6, 16), (8, 0), (8, 7)])
def test_numbers(bits: int, group: int, signed: bool, offset: str) -> None:
    """Also of a last group that is shorter."""
    depth, rng = 23, np.random.default_rng(0)
    scheme = Scheme(bits, group, offset, signed, "float32", "float16")
    values, groups = integers(bits, depth), scheme.groups(depth)
    scales = rng.standard_normal((3, groups)).astype(np.float32)
    offsets = rng.standard_normal((3, groups)).astype(np.float16)
    given = None if offset == "none" else offsets
    tensor = QuantizedTensor(scheme, (3, depth), pack_rows(values, bits), scales, given).check("here")
    wanted = np.empty((3, depth))
    for n in range(3):
        for k in range(depth):
            q = int(values[n, k])
            q -= (1 << bits) if signed and q >= 1 << (bits - 1) else 0
            scale, shift = (float(a[n, k // group if group else 0]) for a in (scales, offsets))
            wanted[n, k] = {"none": scale * q, "point": scale * (q - shift), "bias": scale * q + shift}[offset]
    np.testing.assert_array_equal(tensor.dequantize(np.float64), wanted)
    order = np.array([2, 0])
    np.testing.assert_array_equal(tensor.rows(order).dequantize(np.float64), wanted[order])
    assert [name for name, _ in tensor.parts("w")] == ["w", "w.scales", "w.offsets"][: 2 if given is None else 3]


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(("group", "unit"), [(4, 8), (5, 15), (16, 16), (4, 64)])
def test_numbers_of_units(group: int, unit: int, offset: str) -> None:
    depth, rng = 23, np.random.default_rng(0)
    scheme = Scheme(4, group, offset, True, "int8", "int8", unit)
    groups, each = scheme.groups(depth), 1 if offset == "none" else 2
    scales, offsets = (rng.integers(-128, 128, (3, groups)).astype(np.int8) for _ in range(2))
    units = rng.standard_normal((3, -(-depth // unit) * each)).astype(np.float16)
    values, given = integers(4, depth), None if offset == "none" else offsets
    tensor = QuantizedTensor(scheme, (3, depth), pack_rows(values, 4), scales, given, units).check("here")
    wanted = np.empty((3, depth))
    for n in range(3):
        for k in range(depth):
            q, place = int(values[n, k]), k // unit * each
            q -= 16 if q >= 8 else 0
            scale = int(scales[n, k // group]) * float(units[n, place])
            shift = int(offsets[n, k // group]) * float(units[n, place + each - 1])
            wanted[n, k] = {"none": scale * q, "point": scale * (q - shift), "bias": scale * q + shift}[offset]
    np.testing.assert_array_equal(tensor.dequantize(np.float64), wanted)
    order = np.array([2, 0])
    np.testing.assert_array_equal(tensor.rows(order).dequantize(np.float64), wanted[order])
    assert [name for name, _ in tensor.parts("w")][-1] == "w.units"
    assert tensor.nbytes == sum(part.nbytes for _, part in tensor.parts("w"))


SCHEME = Scheme(4, 4, "bias", False, "float16", "float16")
GOOD = {
    "data": np.zeros((2, 4), np.uint8),
    "scales": np.ones((2, 2), np.float16),
    "offsets": np.ones((2, 2), np.float16),
}
NAN = np.array([[1, 1], [np.nan, 1]], np.float16)
UNITS = {
    "scheme": Scheme(4, 4, "bias", False, "int8", "int8", 8),
    "scales": np.ones((2, 2), np.int8),
    "offsets": np.ones((2, 2), np.int8),
    "units": np.ones((2, 2), np.float16),
}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": np.zeros((2, 5), np.uint8)}, r"integers have another shape; got \[2, 5\]; expected \[2, 4\]"),
        ({"data": np.zeros((2, 4), np.int8)}, "integers have another dtype; got int8; expected uint8"),
        ({"scales": np.ones((2, 1), np.float16)}, r"scales have another shape; got \[2, 1\]"),
        ({"scales": np.ones((2, 2), np.float32)}, "scales have another dtype; got float32; expected float16"),
        ({"scales": NAN}, "the scales are not finite; got nan at index 2 of 4"),
        ({"offsets": NAN * np.float16(np.inf)}, "the offsets are not finite; got inf at index 0"),
        ({"offsets": None}, "offsets do not fit the scheme"),
        ({"scheme": Scheme(5, 4)}, "unsupported number of bits; got 5; expected one of 2, 3, 4, 6, 8"),
        ({"scheme": Scheme(4, -1)}, "the group size is negative"),
        ({"scheme": Scheme(4, 4, "zero")}, "unknown kind of offset; got 'zero'"),
        ({"scheme": Scheme(4, 4, scale_dtype="float64")}, "unsupported dtype; got float64"),
        ({"scheme": Scheme(4, 4, scale_dtype="int8")}, "unsupported dtype; got int8"),
        ({"units": np.ones((2, 2), np.float16)}, "units do not fit the scheme"),
        ({"scheme": Scheme(4, 4, unit=8)}, "units do not fit the groups; got .*scale float16"),
        ({"scheme": Scheme(4, 4, "none", False, "int8", unit=6)}, "units do not fit the groups"),
        ({**UNITS, "units": None}, "units do not fit the scheme"),
        ({**UNITS, "units": np.ones((2, 1), np.float16)}, r"units have another shape; got \[2, 1\]"),
        ({**UNITS, "units": np.ones((2, 2), np.float32)}, "units have another dtype; got float32"),
        ({**UNITS, "units": NAN}, "the units are not finite; got nan at index 2 of 4"),
    ],
)  # fmt: skip
def test_parts_that_do_not_fit(change: dict[str, object], message: str) -> None:
    tensor = QuantizedTensor(**{"scheme": SCHEME, "shape": (2, 8), **GOOD, **change})  # type: ignore[arg-type]
    with pytest.raises(InvalidValueError, match=f"^\\[quantized\\] here: .*{message}"):
        tensor.check("here")

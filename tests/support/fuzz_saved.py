"""Damaged saved files: their manifests are edited, with checksums that fit again, and their bytes are."""

from __future__ import annotations

import json
import random
import struct
from functools import cache
from typing import Any, NamedTuple

import npu
import numpy as np
import torch
from npu.saving.container import Container
from npu.saving.model import open_model
from npu.saving.structure import Arguments, Classes, decode
from npu_base.errors import NPUError
from npu_base.nesting import rebuild
from npu_runtime._core import checksum
from torch import Tensor, nn

VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 63, 64, 16384, 2**31, 2**62, 2**63, 2**64, 10**400, 1.5, float("nan"), "", "x",
    "weights", "program/0", "program", "ir", "float32", "bfloat16", "0" * 16, "\x00\ud800", "subprocess.Popen",
    "named tuple", "dataclass", [], [None], [[]], [-1], [2**40, 2**40], {}, {"tensor": 0}, {"tensor": 9},
    {"value": {"$dtype": "x"}}, {"kind": "dict"}, {"kind": "tuple", "items": []},
]  # fmt: skip
_FIXED = 64


class Pair(NamedTuple):
    first: Tensor
    second: Tensor


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor, rest: dict[str, Tensor], *, scale: float = 2.0) -> dict[str, Any]:
        y = self.linear(x) * scale
        return {"pair": Pair(y, y + rest["a"]), "three": [3, None]}


@cache
def seed_file() -> bytes:
    inputs = torch.ones(2, 3), {"a": torch.ones(4)}
    compiled = npu.compile(Small().eval(), inputs, {"scale": 3.0}, device="cpu")
    data = compiled.__reduce__()[1][0]
    assert isinstance(data, bytes)
    return data


def parts(data: bytes) -> tuple[bytes, Any]:
    """The sections, and the manifest."""
    offset, length = struct.unpack_from("<QQ", data, 16)
    return data[_FIXED:offset], json.loads(data[offset : offset + length])


def joined(sections: bytes, manifest: bytes) -> bytes:
    offset = _FIXED + len(sections)
    header = (b"\x89NPUSAV\n", 1, 0, offset, len(manifest), checksum(manifest), offset + len(manifest), b"")
    return struct.pack("<8sIIQQQQ16s", *header) + sections + manifest


def paths(at: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = at if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ()
    return [path_of for key in keys for path_of in ((*path, key), *paths(at[key], (*path, key)))]


def edit(manifest: Any, rng: random.Random) -> None:
    path = rng.choice(paths(manifest))
    parent = manifest
    for key in path[:-1]:
        parent = parent[key]
    key, what = path[-1], rng.randrange(len(VALUES) + 12)
    if what < len(VALUES):
        parent[key] = json.loads(json.dumps(VALUES[what]))
    elif what < len(VALUES) + 3:
        del parent[key]
    elif what < len(VALUES) + 6 and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif type(parent[key]) is int:
        parent[key] += rng.choice([-64, -8, -1, 1, 8, 64, 16384])
    else:
        source = manifest
        for step in rng.choice(paths(manifest)):
            source = source[step]
        parent[key] = json.loads(json.dumps(source))


def damaged(rng: random.Random) -> bytes:
    sections, manifest = parts(seed_file())
    for _ in range(rng.randrange(1, 4)):
        if paths(manifest):
            edit(manifest, rng)
    text = bytearray(json.dumps(manifest).encode())
    if rng.random() < 0.2:
        at = rng.randrange(len(text))
        text[at : at + rng.randrange(20)] = rng.choice([b"", b"[" * 5000, b'"', b"\xff", b"{", b"1e999", b"9" * 5000])
    data = bytearray(joined(sections, bytes(text)))
    choice = rng.random()
    if choice < 0.1:
        del data[rng.randrange(len(data)) :]
    elif choice < 0.3:
        data[rng.randrange(len(data) if choice < 0.2 else _FIXED)] ^= 1 << rng.randrange(8)
    return bytes(data)


def read(data: bytes) -> bool:
    """Whether it is accepted; nothing but our own errors may come out, and what is accepted can be used."""
    try:
        model, program = open_model(Container.from_bytes(data, "damaged.npu"), verify=True)
        classes = Classes((), model.signature.output_structure)
    except NPUError as error:
        if "damaged.npu" in str(error):
            return False
        raise
    assert len(program.text()) > 0 and model.program()
    tensors = [np.zeros(entry.shape, "float32") for entry in model.signature.outputs]
    try:
        if model.signature.output_structure is not None:
            rebuild(model.signature.output_structure, tensors, decode, classes.make)
        Arguments(model.signature).bind(tensors, {})
    except NPUError:
        pass
    return True


def fuzz_saved(count: int, start: int = 1) -> tuple[int, int]:
    """How many were accepted, and how many were refused."""
    assert read(seed_file())
    tally = [0, 0]
    for i in range(count):
        data = damaged(random.Random(f"{start} {i}"))
        try:
            tally[0 if read(data) else 1] += 1
        except BaseException as error:
            raise AssertionError(f"file {i} of seed {start}") from error
    return tally[0], tally[1]

"""Damaged saved files: their manifests are edited, with checksums that fit again, and their bytes are."""

from __future__ import annotations

import json
import random
import struct
import warnings
from contextlib import suppress
from functools import cache
from typing import Any, NamedTuple

import npu
import numpy as np
import torch
from npu.compiled_module import unpickled
from npu.saving.container import Container
from npu.saving.model import Model, read_model
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


class Partly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: Tensor) -> dict[str, Any]:
        self.count.add_(1)
        y = torch.linalg.pinv(self.linear(x))
        return {"pair": Pair(torch.relu(y), y @ y + self.count)}


@cache
def seed_file() -> bytes:
    inputs = torch.ones(2, 3), {"a": torch.ones(4)}
    return _bytes_of(npu.compile(Small().eval(), inputs, {"scale": 3.0}, device="cpu"))


@cache
def part_seed_file() -> bytes:
    """Of a model that runs partly on the host."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _bytes_of(npu.compile(Partly().eval(), torch.eye(3), device="cpu"))


class Sized(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x[: x.shape[0] // 2 + 1]).softmax(-1) + torch.arange(4)


@cache
def open_seed_file() -> bytes:
    """Of a model whose sizes are open."""
    dims = ({0: torch.export.Dim("batch", min=1, max=16)},)
    compiled = npu.compile(Sized().eval(), torch.ones(4, 3), dynamic_shapes=dims, device="cpu")
    compiled.warm_up([{"batch": 1}])
    return _bytes_of(compiled)


class Masked(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return (x + (1 - mask) * torch.finfo(x.dtype).min).softmax(0)


@cache
def padded_seed_file() -> bytes:
    """Of a model whose calls are padded to buckets, if the mask allows it."""
    batch = torch.export.Dim("batch", min=1, max=16)
    options: dict[str, Any] = {"dynamic_shapes": ({0: batch}, {0: batch}), "buckets": {"batch": [4, 8]}}
    inputs = torch.ones(4, 3), torch.ones(4, 3)
    return _bytes_of(npu.compile(Masked(), inputs, pad={"mask": 0}, device="cpu", **options))


class SizedPartly(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)
        self.shift = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.count.add_(1)
        return torch.relu((self.linear(x).double() + self.shift).float()) + self.count


@cache
def open_part_seed_file() -> bytes:
    """Of a model whose sizes are open, and that runs partly on the host."""
    dims = ({0: torch.export.Dim("batch", min=1, max=16)},)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = npu.compile(SizedPartly().eval(), torch.ones(4, 3), dynamic_shapes=dims, device="cpu")
    compiled.warm_up([{"batch": 2}])
    return _bytes_of(compiled)


SEEDS = (seed_file, part_seed_file, open_seed_file, open_part_seed_file, padded_seed_file)


def _bytes_of(compiled: npu.CompiledModule) -> bytes:
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
    sections, manifest = parts(rng.choice(SEEDS)())
    for _ in range(rng.randrange(1, 4)):
        if ("partition" in manifest or "sizes" in manifest) and rng.random() < 0.6:
            sections = _with_edited_section(sections, manifest, rng)
        elif paths(manifest):
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


def _with_edited_section(sections: bytes, manifest: Any, rng: random.Random) -> bytes:
    """With another plan or IR, in the room of the old one."""
    table = manifest.get("sections")
    table = [e for e in table if isinstance(e, dict)] if isinstance(table, list) else []
    kind = rng.choice(["partition", "ir"]) if any(e.get("kind") == "partition" for e in table) else "ir"
    entries = [e for e in table if e.get("kind") == kind]
    if not entries or not all(type(entries[0].get(key)) is int for key in ("offset", "size")):
        return sections
    start, size = entries[0]["offset"] - _FIXED, entries[0]["size"]
    try:
        data = json.loads(sections[start : start + size])
    except ValueError:
        return sections
    if not paths(data):
        return sections
    edit(data, rng)
    text = json.dumps(data, separators=(",", ":")).encode()
    if not 0 <= start <= start + len(text) <= start + size <= len(sections):
        return sections
    text += b" " * (size - len(text))
    entries[0]["checksum"] = f"{checksum(text):016x}"
    return sections[:start] + text + sections[start + size :]


def read(data: bytes) -> bool:
    """Whether it is accepted; nothing but our own errors may come out, and what is accepted can be used."""
    try:
        model, program = read_model(Container.from_bytes(data, "damaged.npu"), verify=True)
        classes = Classes((), model.signature.output_structure)
    except NPUError as error:
        if "damaged.npu" in str(error):
            return False
        raise
    assert all(model.programs()) and (program is None) == (model.parts is not None or model.open is not None)
    if model.open is not None:
        _run_another_size(data, model)
        return True
    if program is None:
        _load_parts(data)
    tensors = [np.zeros(entry.shape, "float32") for entry in model.signature.outputs]
    try:
        if model.signature.output_structure is not None:
            rebuild(model.signature.output_structure, tensors, decode, classes.make)
        Arguments(model.signature).bind(tensors, {})
    except NPUError:
        pass
    return True


def _load_parts(data: bytes) -> None:
    with suppress(NPUError):
        unpickled(data, "cpu", 1)


def _run_another_size(data: bytes, model: Model) -> None:
    with suppress(NPUError):
        loaded = unpickled(data, "cpu", 1)
        loaded.run_flat([np.zeros((7, 3), "float32")] * len(model.signature.inputs))


def fuzz_saved(count: int, start: int = 1) -> tuple[int, int]:
    """How many were accepted, and how many were refused."""
    assert all(read(seed()) for seed in SEEDS)
    tally = [0, 0]
    for i in range(count):
        data = damaged(random.Random(f"{start} {i}"))
        try:
            tally[0 if read(data) else 1] += 1
        except BaseException as error:
            raise AssertionError(f"file {i} of seed {start}") from error
    return tally[0], tally[1]

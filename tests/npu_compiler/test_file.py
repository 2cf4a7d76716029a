"""The .npubin file: what is written is read back, a failed save costs nothing, a bad file is refused in words."""

from __future__ import annotations

import copy
import json
import os
import random
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from npu_compiler import CompiledProgram, ProgramError, compile
from npu_compiler.compiled_program import FORMAT_VERSION, checksum

from . import golden
from .helpers import ir_of


@pytest.fixture(scope="module")
def program() -> CompiledProgram:
    scale = torch.arange(5.0)
    return compile(ir_of(lambda x: (x * scale).relu() @ torch.ones(5, 3), torch.ones(2, 5), name="constants"))


def test_what_is_saved_is_loaded(program: CompiledProgram, tmp_path: Path) -> None:
    for path in (tmp_path / "a.npubin", str(tmp_path / "b.npubin")):
        program.save(path)
        loaded = CompiledProgram.load(path)
        assert loaded.data == program.data and loaded.constants == program.constants
        assert loaded.text() == program.text() and loaded.to_bytes() == program.to_bytes()
        assert [s.name for s in loaded.input_specs] == ["args_0"]
        assert loaded.input_specs[0].shape == [2, 5] and loaded.input_specs[0].dtype == "float32"
        assert "constants" in repr(loaded)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.npubin", "b.npubin"]
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "a.npubin").stat().st_mode == plain.stat().st_mode


def test_layout_of_the_file(program: CompiledProgram) -> None:
    """As docs/program-format.md has it."""
    data = program.to_bytes()
    magic, version, zero, length, offset, size, found = struct.unpack_from("<8sIIQQQQ", data)
    assert (magic, version, zero) == (b"\x89NPUBIN\n", FORMAT_VERSION, 0) and not any(data[48:64])
    assert json.loads(data[64 : 64 + length]) == program.data
    assert offset % 64 == 0 and 0 <= offset - 64 - length < 64 and offset + size == len(data)
    assert all(entry["offset"] % 64 == 0 for entry in program.data["constants"])
    h = 0xCBF29CE484222325
    body = data[64:] + bytes(-len(data) % 8)
    for at in range(0, len(body), 8):
        h = ((h ^ int.from_bytes(body[at : at + 8], "little")) * 0x100000001B3) % 2**64
        h ^= h >> 32
    assert h == found


@pytest.mark.parametrize("step", ["fsync", "replace", "chmod"])
def test_a_failed_save_leaves_the_old_file(
    program: CompiledProgram, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = tmp_path / "model.npubin"
    program.save(target)
    old = target.read_bytes()

    def fail(*args: Any) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, step, fail)
    with pytest.raises(OSError, match="no space left"):
        golden.program("residual").save(target)
    assert target.read_bytes() == old
    assert [p.name for p in tmp_path.iterdir()] == ["model.npubin"]


def test_a_program_that_json_cannot_hold_is_not_saved(program: CompiledProgram, tmp_path: Path) -> None:
    target = tmp_path / "model.npubin"
    target.write_bytes(b"old")
    data = copy.deepcopy(program.data)
    data["main"][0]["attrs"]["value"] = float("nan")
    with pytest.raises(ValueError):
        CompiledProgram(data, program.constants).save(target)
    assert target.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["model.npubin"]


def test_missing_files_and_folders(program: CompiledProgram, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"program not found: .*nowhere\.npubin"):
        CompiledProgram.load(tmp_path / "nowhere.npubin")
    with pytest.raises(FileNotFoundError):
        program.save(tmp_path / "nowhere" / "model.npubin")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: b"", "does not start like"),
        (lambda d: b"PK\3\4" + d[4:], "does not start like"),
        (lambda d: b'{"graph_inputs": []}' + bytes(64), "does not start like"),
        (lambda d: d[:30], "ends after 30 bytes"),
        (lambda d: d[:-1], "do not add up"),
        (lambda d: d + b"\0", "do not add up"),
        (lambda d: d[:8] + struct.pack("<I", FORMAT_VERSION + 1) + d[12:], r"; this compiler reads up to \d+; "),
        (lambda d: d[:8] + struct.pack("<I", FORMAT_VERSION - 1) + d[12:], r", of an older version .* compile the"),
        (lambda d: d[:8] + bytes(4) + d[12:], "header is invalid"),
        (lambda d: d[:16] + struct.pack("<Q", 2**63) + d[24:], "do not add up"),
        (lambda d: d[:100] + b"!" + d[101:], "checksum"),
        (lambda d: d[:-1] + b"!", "checksum"),
    ],
)
def test_bad_files(program: CompiledProgram, tmp_path: Path, change: Callable[[bytes], bytes], message: str) -> None:
    path = tmp_path / "bad.npubin"
    path.write_bytes(change(program.to_bytes()))
    with pytest.raises(ProgramError, match=rf"bad\.npubin .*{message}"):
        CompiledProgram.load(path)


def test_every_changed_or_missing_byte_is_noticed(program: CompiledProgram) -> None:
    data = program.to_bytes()
    positions = [*range(64), *random.Random(0).sample(range(64, len(data)), 400)]
    for at in positions:
        with pytest.raises(ProgramError):
            CompiledProgram.from_bytes(data[:at] + bytes([data[at] ^ 0x41]) + data[at + 1 :])
        with pytest.raises(ProgramError):
            CompiledProgram.from_bytes(data[:at])


def with_json(text: bytes, constants: bytes) -> bytes:
    """A file whose checksum fits."""
    offset = -(-(64 + len(text)) // 64) * 64
    body = text + bytes(offset - 64 - len(text)) + constants
    head = struct.pack(
        "<8sIIQQQQ16x", b"\x89NPUBIN\n", FORMAT_VERSION, 0, len(text), offset, len(constants), checksum(body)
    )
    return head + body


@pytest.mark.parametrize(
    "text", [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"model_name": "x"}', b'{"model_name": 1}']
)
def test_wrong_json(text: bytes) -> None:
    with pytest.raises(ProgramError, match="is damaged: "):
        CompiledProgram.from_bytes(with_json(text, b""))


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("values", 0, "dtype"), "float64", "has the dtype 'float64'"),
        (("values", 0, "shape", 0), -1, "the shape of 'args_0'"),
        (("inputs", 0, "value"), 99, "'args_0' of 'inputs' does not refer to a value"),
        (("outputs", 0, "alias"), 5, "is not an input"),
        (("constants", 0, "offset"), 2**40, "outside the file"),
        (("main", 0, "op"), "system", "which is not in the op set"),
        (("main", 0, "in", 0), 99, "'in' of op"),
        (("main", 0, "attrs", "expr", 0), ["in", 0, 0], "step 0 of 'expr'"),
        (("main", 0, "attrs", "expr", 2), ["add", 2, 2], "step 2 of 'expr'"),
    ],
)
def test_what_is_wrong_is_named(program: CompiledProgram, path: tuple[Any, ...], value: Any, message: str) -> None:
    data = copy.deepcopy(program.data)
    at = data
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    with pytest.raises(ProgramError, match=message):
        CompiledProgram.from_bytes(with_json(json.dumps(data).encode(), program.constants))


ODD = (None, True, -1, 10**30, 1.5, "x", [], {}, [[]], {"sym": 0})


def mutated(data: Any, rng: random.Random) -> Any:
    """One part replaced or taken out."""
    data = copy.deepcopy(data)
    at, parent, key = data, None, None
    while isinstance(at, dict | list) and at and (parent is None or rng.random() < 0.85):
        key = rng.choice(list(at) if isinstance(at, dict) else range(len(at)))
        parent, at = at, at[key]
    assert parent is not None
    if rng.random() < 0.3:
        del parent[key]
    else:
        parent[key] = copy.deepcopy(rng.choice(ODD))
    return data


@pytest.mark.parametrize("name", golden.MODELS)
def test_mutated_programs_are_refused_or_can_be_described(name: str) -> None:
    program, rng = golden.program(name), random.Random(name)
    refused = 0
    for _ in range(400):
        data = with_json(json.dumps(mutated(program.data, rng)).encode(), program.constants)
        try:
            loaded = CompiledProgram.from_bytes(data)
        except ProgramError:
            refused += 1
            continue
        assert loaded.text() and repr(loaded)
        assert loaded.input_specs or loaded.output_specs or loaded.weight_specs or loaded.weight_name_mapping
    assert 200 < refused < 400

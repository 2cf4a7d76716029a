"""Damaged IR for both of its readers: hypothesis chooses what is changed, and shrinks what fails."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import torch
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from npu_compiler.errors import IRError
from npu_compiler.reader import read_ir
from npu_compiler.support import check_outline
from torch import Tensor, nn
from torch_ir import IR, SerializationError, deserialize_ir, extract_ir, serialize_ir, validate_ir

DEEP: Any = json.loads("[" * 400 + "]" * 400)
VALUES: list[Any] = [
    None, True, False, 0, 1, -1, 2**31, 2**63, 10**400, 1.5, float("nan"), float("inf"), "", "x", "torch.float32",
    "float32", "bfloat16", "complex64", "aten.relu.default", "zlib+base64", "\x00\ud800", [], [None], [[]], [-1],
    [2**40, 2**40], {}, {"$dtype": 1}, {"$tensor": {}}, {"$complex": [1]}, {"$device": "tpu"}, {"name": 1}, DEEP,
]  # fmt: skip


class Stateful(nn.Module):
    """Weights, ties, a constant, a buffer that is written, several outputs, a region."""

    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(4, 6), nn.Linear(4, 6)
        self.down.weight = self.up.weight
        self.register_buffer("calls", torch.zeros(1))
        self.register_buffer("table", torch.arange(300.0), persistent=False)

    def forward(self, x: Tensor, ids: Tensor) -> dict[str, Any]:
        self.calls.add_(1)
        values, places = (self.up(x) + self.down(x)).topk(2, dim=1)
        with torch.no_grad():
            values = values * self.table[ids][:, None].to(torch.float16)
        return {"values": values, "places": places, "count": self.calls, "three": 3}


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda y: y.relu(), lambda y: y.sin(), (x,))


@cache
def texts() -> list[str]:
    models: list[tuple[nn.Module, Any]] = [
        (Stateful(), (torch.ones(3, 4), torch.zeros(3, dtype=torch.long))),
        (Branch(), torch.ones(3)),
        (nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 2)), torch.ones(1, 3, 8, 8)),
        (nn.LSTM(3, 4), torch.ones(2, 1, 3)),
    ]
    return [serialize_ir(extract_ir(model.eval(), inputs)) for model, inputs in models]


@cache
def paths(which: int) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []

    def walk(at: Any, path: tuple[Any, ...]) -> None:
        for key in at if isinstance(at, dict) else range(len(at)) if isinstance(at, list) else ():
            found.append((*path, key))
            walk(at[key], (*path, key))

    walk(json.loads(texts()[which]), ())
    return found


Edit = tuple[int, int, int]  # where, what (a value, or beyond them: delete, repeat, take from elsewhere), from where


def edited(which: int, edits: list[Edit]) -> Any:
    data = json.loads(texts()[which])
    places = paths(which)
    for where, what, source in edits:
        parent = _at(data, places[where % len(places)][:-1])
        key = places[where % len(places)][-1]
        if not _has(parent, key):
            continue  # an earlier edit took it away
        if what < len(VALUES):
            parent[key] = _copy(VALUES[what])
        elif what == len(VALUES):
            del parent[key]
        elif what == len(VALUES) + 1 and isinstance(parent, list):
            parent.insert(key, parent[key])
        else:
            parent[key] = _copy(_at(data, places[source % len(places)]))
    return data


def _copy(value: Any) -> Any:
    return json.loads(json.dumps(value))


def _has(at: Any, key: Any) -> bool:
    return (isinstance(at, dict) and key in at) or (isinstance(at, list) and isinstance(key, int) and key < len(at))


def _at(data: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        if not _has(data, key):
            return None
        data = data[key]
    return data


def read(text: str) -> bool:
    """Whether both readers accept it; nothing but their own errors may come out."""
    accepted = 0
    try:
        data = json.loads(text)
    except ValueError:
        data = None
    try:
        ir: IR = deserialize_ir(text)
        validate_ir(ir)
        assert serialize_ir(deserialize_ir(serialize_ir(ir))) == serialize_ir(ir)
        accepted += 1
    except SerializationError:
        pass
    try:
        if isinstance(data, dict):
            check_outline(data)
            read_ir(data)
            accepted += 1
    except IRError:
        pass
    return accepted == 2


def fuzz_ir(count: int, start: int = 1) -> tuple[int, int]:
    """How many were accepted by both readers, and how many were refused."""
    tally = [0, 0]
    edit = st.tuples(st.integers(0, 5000), st.integers(0, len(VALUES) + 2), st.integers(0, 5000))
    cut = st.none() | st.tuples(st.integers(0, 20000), st.integers(0, 20), st.text(max_size=3))

    @seed(start)
    @settings(
        max_examples=count, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.integers(0, len(texts()) - 1), st.lists(edit, min_size=1, max_size=4), cut)
    def run(which: int, edits: list[Edit], change: tuple[int, int, str] | None) -> None:
        text = json.dumps(edited(which, edits))
        if change is not None:  # the text itself is damaged
            at = change[0] % len(text)
            text = text[:at] + change[2] + text[at + change[1] :]
        tally[0 if read(text) else 1] += 1

    run()
    return tally[0], tally[1]

"""A program that grows op by op, with what the reference interpreter makes of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from npu.comparison.rule import EPSILON
from npu_compiler import CompiledProgram, reference
from npu_compiler.opset import OPS as TABLE
from npu_compiler.reference import dtype_of

from .values import (
    DTYPES,
    FLOATS,
    Array,
    Choose,
    Unsuitable,
    Value,
    View,
    a_view,
    dense,
    numbers,
    view_of_shape,
    whole,
)  # fmt: skip

_GIVEN = ("weight", "constant", "prepare")


@dataclass(frozen=True)
class Made:
    """A program, its inputs and weights by name, which inputs it updates, and its outputs with their tolerances."""

    program: CompiledProgram
    inputs: dict[str, Array]
    weights: dict[str, Array]
    updated: dict[str, str]  # output: input
    outputs: dict[str, tuple[Array, float]]


class Making:
    def __init__(self, c: Choose) -> None:
        self.c = c
        self.most = 4000 if c.one_in(12) else 300  # elements of what is given; results may have twice as many
        self.values: list[Value] = []
        self.ops: dict[str, list[dict[str, Any]]] = {"prepare": [], "main": []}
        self.alias: dict[int, int] = {}  # value of an output: of the input
        self.frozen: set[int] = set()  # inputs that are updated

    # --- operands ---

    def given(self, dtype: str, shape: Sequence[int], array: Array | None = None) -> Value:
        """A new input, weight or constant."""
        source = self.c.pick(("input", "input", "weight", "constant"))
        array = numbers(self.c, dtype, shape) if array is None else array.astype(dtype_of(dtype)).reshape(shape)
        return self._value(dtype, np.ascontiguousarray(array).reshape(tuple(shape)), source)

    def _value(self, dtype: str, array: Array, source: str, tolerance: float = 0.0) -> Value:
        value = Value(len(self.values), dtype, array, source, tolerance)
        self.values.append(value)
        return value

    def shape(self, rank: int | None = None, low: int = 0) -> tuple[int, ...]:
        c = self.c
        rank = c.int(low, 4) if rank is None else rank
        extents = (2, 1, 3, 4, 5, 8, 17, *([33, 64, 130] if self.most > 300 else []))
        shape = [c.pick(extents) for _ in range(rank)]
        while math.prod(shape) > self.most:
            shape[shape.index(max(shape))] = 2
        if rank and c.one_in(25):
            shape[c.int(0, rank - 1)] = 0
        return tuple(shape)

    def readable(self, dtypes: Sequence[str], exact: bool) -> list[Value]:
        found = [v for v in self.values if v.dtype in dtypes and v.id not in self.frozen]
        return [v for v in reversed(found) if not (exact and v.tolerance)]

    def view(self, dtypes: Sequence[str] = DTYPES, rank: int | None = None, exact: bool = True, low: int = 0) -> View:
        """Of something that is there, or of something new."""
        c = self.c
        ranks = range(low, 9) if rank is None else (rank,)
        candidates = self.readable(dtypes, exact)
        if candidates and not c.one_in(5):
            view = a_view(c, candidates[c.int(0, min(len(candidates), 6) - 1)])
            if len(view.shape) in ranks:
                return view
            if rank is not None and (found := view_of_shape(c, view.value, self.shape(rank))):
                return found
        return whole(self.given(c.pick(dtypes), self.shape(rank, low)))

    def view_of(self, dtypes: Sequence[str], shape: Sequence[int], exact: bool = True, values: Any = None) -> View:
        """A view of that shape; ``values`` says which numbers will do."""
        c = self.c
        candidates = self.readable(dtypes, exact)
        for _ in range(2):
            if candidates and not c.one_in(4):
                value = candidates[c.int(0, min(len(candidates), 6) - 1)]
                found = view_of_shape(c, value, shape)
                if found is not None and (values is None or values(found.array)):
                    return found
        value = self.given(c.pick(dtypes), shape)
        return whole(value)

    def indices(self, shape: Sequence[int], extent: int, wrap: bool, distinct: bool = False) -> View:
        """Positions along a dimension of that extent."""
        low = -extent if wrap else 0
        fits = lambda x: not x.size or (int(x.min()) >= low and int(x.max()) < extent)  # noqa: E731
        if math.prod(shape) and not extent:
            raise Unsuitable
        dtypes = ("int64", "int32", "int16", "uint8", "int8")
        for value in self.readable(dtypes, True)[:4]:
            if distinct or self.c.one_in(2):
                continue
            found = view_of_shape(self.c, value, shape)
            if found is not None and fits(found.array):
                return found
        rng, count = self.c.rng(), math.prod(shape)
        if distinct:
            if count > extent:
                raise Unsuitable
            return whole(self.given("int64", shape, rng.permutation(extent)[:count]))
        dtype = self.c.pick(dtypes if extent < 100 else dtypes[:2])
        low = 0 if dtype == "uint8" else low
        return whole(self.given(dtype, shape, rng.integers(low, max(extent, 1), count)))

    # --- ops ---

    def add(
        self,
        kind: str,
        inputs: Sequence[View | None],
        outputs: Sequence[tuple[str, Sequence[int]] | None],
        attrs: dict[str, Any],
        exact: bool = True,
        onto: dict[int, Value] | None = None,
        terms: float = 0.0,
    ) -> list[Value | None]:
        """Adds an op. ``exact`` says whether its floats are; ``onto`` names the input that a result updates; ``terms``
        is the size of what is added up, which may cancel."""
        arrays = [None if v is None else v.array for v in inputs]
        rooms = [None if o is None else np.zeros(o[1], dtype_of(o[0])) for o in outputs]
        if any(room is not None and room.size > 2 * self.most for room in rooms):
            raise Unsuitable
        with np.errstate(all="ignore"):
            results = reference.OPS[kind](arrays, rooms, attrs)
        results = results if isinstance(results, tuple) else (results,)
        read = {v.value for v in inputs if v is not None}
        prepares = bool(read) and not onto and all(v.source in _GIVEN for v in read) and self.c.one_in(2)
        function = "prepare" if prepares else "main"
        made: list[Value | None] = []
        targets: list[Any] = []
        for k, (room, result) in enumerate(zip(rooms, results, strict=False)):
            if room is None:
                made.append(None)
                targets.append(None)
                continue
            with np.errstate(all="ignore"):
                array = np.broadcast_to(reference.store(result, room.dtype), room.shape)
            tolerance = 0.0 if exact else self._tolerance(outputs[k], array, terms)
            tolerance += max((v.tolerance for v in read), default=0.0)
            value, view = self._place(str(outputs[k][0]), array, tolerance, function, whole_only=bool(onto))  # type: ignore[index]
            made.append(value)
            targets.append(view.json)
        for value in read:
            value.read = True
        self._append(function, kind, [None if v is None else v.json for v in inputs], targets, attrs)
        for k, given in (onto or {}).items():
            self.alias[made[k].id] = given.id  # type: ignore[union-attr]
            self.frozen.add(given.id)
        return made

    def _append(self, function: str, kind: str, inputs: list[Any], outputs: list[Any], attrs: dict[str, Any]) -> None:
        count = len(self.ops["prepare"]) + len(self.ops["main"])
        while inputs and inputs[-1] is None:
            inputs.pop()
        op = {"op": kind, "name": f"{kind}{count}", "in": inputs, "out": outputs, "attrs": attrs}
        self.ops[function].append(op)

    @staticmethod
    def _tolerance(output: Any, array: Array, terms: float) -> float:
        if output[0] not in FLOATS:
            return 0.0
        x = array.astype(np.float64)
        return 4 * EPSILON[output[0]] * max(float(np.linalg.norm(x[np.isfinite(x)])), terms, 2.0**-14)

    def _place(self, dtype: str, array: Array, tolerance: float, function: str, whole_only: bool) -> tuple[Value, View]:
        """Where a result goes: a value of its own, one that lies otherwise, or a part of a larger one."""
        c, rank = self.c, array.ndim
        kind = 0 if whole_only else c.int(0, 5)
        if kind == 4 and rank > 1:  # transposed
            order = c.order(rank)
            back = [order.index(d) for d in range(rank)]
            value = self._value(dtype, np.ascontiguousarray(array.transpose(order)), function, tolerance)
            steps = dense(value.shape)
            return value, View(value, array.shape, tuple(steps[d] for d in back))
        if kind == 3 and array.size > 1:  # backwards
            d = int(np.argmax(array.shape))
            value = self._value(dtype, np.ascontiguousarray(np.flip(array, d)), function, tolerance)
            steps = dense(value.shape)
            turned = tuple(-s if k == d else s for k, s in enumerate(steps))
            return value, View(value, array.shape, turned, (array.shape[d] - 1) * steps[d])
        if kind == 5 and rank and array.size and array.size < self.most:
            return self._part(dtype, array, tolerance, function)
        value = self._value(dtype, np.ascontiguousarray(array).reshape(array.shape), function, tolerance)
        return value, whole(value)

    def _part(self, dtype: str, array: Array, tolerance: float, function: str) -> tuple[Value, View]:
        c = self.c
        d, more = c.int(0, array.ndim - 1), c.int(1, 3)
        shape = list(array.shape)
        shape[d] = more
        number = 1 if dtype != "bool" else True
        kind = "f" if dtype in FLOATS else "b" if dtype == "bool" else "i"
        filler = np.full(shape, number).astype(array.dtype)
        first = c.one_in(2)
        parts = [filler, array] if first else [array, filler]
        value = self._value(dtype, np.concatenate(parts, d), function, tolerance)
        steps = dense(value.shape)
        near = View(value, tuple(shape), steps, 0 if first else array.shape[d] * steps[d])
        mine = View(value, array.shape, steps, more * steps[d] if first else 0)
        self._append(function, "map", [], [near.json], {"expr": [["const", number, kind]]})
        return value, mine

    # --- the whole ---

    def finish(self) -> Made:
        c = self.c
        main = [v for v in self.values if v.source == "main"]
        if not main:  # an output is nothing that `prepare` makes
            self.add("iota", [], [("int64", (2,))], {"start": 0.0, "step": 1.0})
            main = [self.values[-1]]
        for v in list(main):  # outputs lie by themselves: most results are read by something else
            if (
                not v.read and v.id not in self.alias and v.array.size <= 2 * self.most and not c.one_in(3)
            ):  # outputs lie by themselves
                main.append(self.add("copy", [whole(v)], [(v.dtype, v.shape)], {})[0] or v)
        chosen = [v for v in main if v.id in self.alias or not v.read or c.one_in(6)] or [main[-1]]
        named = {v.id: f"{v.source}{v.id}" for v in self.values}
        data: dict[str, Any] = {"model_name": "random", "producer": "tests", "symbols": []}
        data["values"] = [{"name": named[v.id], "dtype": v.dtype, "shape": list(v.shape)} for v in self.values]
        inputs = [v for v in self.values if v.source == "input"]
        data["inputs"] = [
            {"name": named[v.id], "value": v.id, "required": True, "state": v.id in self.frozen} for v in inputs
        ]
        weights = [v for v in self.values if v.source == "weight"]
        data["weights"] = [{"name": named[v.id], "value": v.id, "ties": []} for v in weights]
        data["constants"], constants = [], b""
        for v in self.values:
            if v.source != "constant":
                continue
            constants += b"\0" * (-len(constants) % 64)
            data["constants"].append({"name": named[v.id], "value": v.id, "offset": len(constants)})
            constants += v.array.tobytes()
        places = {v.id: i for i, v in enumerate(inputs)}
        alias = {v.id: places[self.alias[v.id]] for v in chosen if v.id in self.alias}
        data["outputs"] = [{"name": named[v.id], "value": v.id, "names": [], "alias": alias.get(v.id)} for v in chosen]
        data |= self.ops
        return Made(
            CompiledProgram(data, constants),
            {named[v.id]: v.array for v in inputs},
            {named[v.id]: v.array for v in weights},
            {named[out]: named[given] for out, given in self.alias.items()},
            {named[v.id]: (v.array, v.tolerance) for v in chosen},
        )


def a_program(c: Choose) -> Made:
    from .ops import MAKERS, update

    making, kinds = Making(c), sorted(MAKERS)
    assert set(kinds) == set(TABLE)
    for _ in range(c.int(1, 12)):
        try:
            MAKERS[c.pick(("map", "scatter", *kinds))](making)
        except Unsuitable:
            continue
    while c.one_in(3):
        try:
            update(making)
        except Unsuitable:
            break
    return making.finish()

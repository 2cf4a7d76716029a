"""Which tensors of an IR the values of a program hold, and how they lie there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from npu_compiler import CompiledProgram
from npu_compiler.reference import Interpreter, dtype_of

from npu.comparison.groups import Group, operand_value

__all__ = ["IRTensors", "Key", "ValueTensors"]

Key = tuple[str, int]
"""A node and the number of its result; of inputs and weights, their name and -1."""


class IRTensors:
    """The tensors of an IR, by key. Names alone are not unique: a node may be called like another one's result."""

    def __init__(self, ir: Mapping[str, Any]) -> None:
        self.nodes: dict[str, Any] = {node["name"]: node for node in ir["nodes"]}
        self.order = {name: n for n, name in enumerate(self.nodes)}
        self.metas: dict[Key, Any] = {(t["name"], -1): t for t in ir["graph_inputs"]}
        self.weights: dict[str, Key] = {}  # by their names in the state dict
        self.outputs: dict[str, Any] = {t["name"]: t for t in ir["graph_outputs"]}
        self.updates: dict[str | None, Any] = {m["target"]: m["value"] for m in ir.get("mutations") or []}
        self._by_name: dict[str, Key] = {}
        for node in ir["nodes"]:
            for index, t in enumerate(node["outputs"]):
                self.metas[node["name"], index] = t
                self._by_name[t["name"]] = (node["name"], index)
        mapping = ir.get("weight_name_mapping") or {}
        for t in (t for node in ir["nodes"] for t in node["inputs"]):
            key = self.key(t)
            if key not in self.metas and key[1] < 0:
                self.metas[key] = t
                self.weights[mapping.get(key[0], key[0])] = key

    def key(self, t: Mapping[str, Any]) -> Key:
        """Of what a node reads."""
        producer = t.get("producer_node")
        if producer in self.nodes:
            return producer, t.get("producer_output_idx", 0)
        return self._by_name.get(t["name"], (t["name"], -1)) if producer is None else (t["name"], -1)

    def nodes_for(self, keys: Iterable[Key], known: Iterable[Key]) -> list[Any]:
        """The nodes between the tensors that are known and these."""
        stops, waiting, wanted = set(known), list(keys), set()
        while waiting:
            key = waiting.pop()
            if key in stops or key[0] not in self.nodes or key[1] < 0 or key[0] in wanted:
                continue
            wanted.add(key[0])
            waiting += [self.key(t) for t in self.nodes[key[0]]["inputs"]]
        return [self.nodes[name] for name in sorted(wanted, key=self.order.__getitem__)]

    def entering(self, nodes: Sequence[Any]) -> dict[Key, Any]:
        """What these nodes read and do not compute."""
        own = {node["name"] for node in nodes}
        read = {self.key(t): t for node in nodes for t in node["inputs"]}
        return {key: t for key, t in read.items() if key[0] not in own or key[1] < 0}


class ValueTensors:
    """A value that has the name of a node holds its result. What a pass has made, such as the selected rows of a
    result, has no counterpart; products that were merged lie side by side."""

    def __init__(self, program: CompiledProgram, tensors: IRTensors) -> None:
        self._program, self._tensors = program, tensors
        self._writers: dict[int, list[Any]] = {}
        self._last: dict[str, str] = {}  # by node: the op that completes it
        makers: dict[int, tuple[Any, int]] = {}
        for op in program.data["main"]:
            self._last |= dict.fromkeys(op.get("nodes", []), op["name"])
            for position, operand in enumerate(op["out"]):
                if operand is not None:
                    self._writers.setdefault(operand_value(operand), []).append(operand)
                    makers[operand_value(operand)] = (op, position)
        inputs = {e["value"]: e["name"] for e in program.data["inputs"]}  # a buffer that the model writes is one too
        self._keys: dict[int, list[Key]] = {v: [tensors.weights.get(name, (name, -1))] for v, name in inputs.items()}
        for value, (op, position) in makers.items():
            self._keys[value] = self._keys_of(value, op, position)
        outputs = {}
        for o in program.data["outputs"]:
            updated = None if o.get("alias") is None else program.data["inputs"][o["alias"]]["name"]
            t = tensors.outputs.get(o["name"]) or tensors.updates.get(updated)
            if t is not None:
                outputs[o["value"]] = t
        self._whole = set(outputs)  # these lie as the tensor does
        self._keys |= {value: [tensors.key(t)] for value, t in outputs.items()}
        for value, keys in self._keys.items():
            self._keys[value] = keys if self._fits(value, keys) else []

    def keys(self, value: int) -> list[Key]:
        """The tensors that a value holds, side by side in its columns; none if it has no counterpart."""
        return self._keys.get(value, [])

    def known(self, value: int) -> set[Key]:
        """The tensors that can be had from it: also those that were concatenated in it."""
        return {*self.keys(value), *(key for key, *_ in self._joined(value))}

    def written(self, group: Group) -> list[tuple[int, Any, list[Key]]]:
        """What a group writes: values, operands and the tensors that they hold. The operand is None where these are the
        whole value's, although the group may write a part of it."""
        results: list[tuple[int, Any, list[Key]]] = []
        for i in group.ops:
            for operand in self._program.data["main"][i]["out"]:
                value = -1 if operand is None else operand_value(operand)
                if value not in group.results:
                    continue
                part = self._joined_at(value, operand)
                keys = self.keys(value) if part is None else [part]
                if keys:
                    results.append((value, None if part is None else operand, keys))
        return results

    def split(self, value: int, array: Any) -> dict[Key, Any]:
        """Those tensors, from the value."""
        keys = self.keys(value)
        shapes = [self._tensors.metas[key]["shape"] for key in keys]
        view = self._view(value, array)
        if len(keys) == 1:
            whole = np.ascontiguousarray(view).reshape(shapes[0])
            joined = self._joined(value)
            return {keys[0]: whole, **{k: whole.take(range(at, at + n), dim) for k, dim, at, n in joined}}
        widths = [math.prod(shape) // max(math.prod(view.shape[:-1]), 1) for shape in shapes]
        parts = np.split(view, np.cumsum(widths)[:-1], -1) if keys else []
        return {k: np.ascontiguousarray(p).reshape(s) for k, p, s in zip(keys, parts, shapes, strict=True)}

    def join(self, value: int, operand: Any, parts: Sequence[Any], array: Any = None) -> Any:
        """The value, from tensors; with an operand, only that part of it. float64 stays so."""
        if array is None:
            meta = self._program.data["values"][value]
            array = np.zeros(meta["shape"], np.float64 if parts[0].dtype == np.float64 else dtype_of(meta["dtype"]))
        view = self._view(value, array) if operand is None else self._operand(value, operand, array)
        rows = view.shape[:-1]
        view[...] = (
            parts[0].reshape(view.shape)
            if len(parts) == 1
            else np.concatenate([part.reshape(*rows, -1) for part in parts], -1)
        )
        return array

    def _joined(self, value: int) -> list[tuple[Key, int, int, int]]:
        """Of a concatenation: each tensor, the dimension, and where it begins and how far it reaches there."""
        keys = self.keys(value)
        node = self._tensors.nodes.get(keys[0][0]) if len(keys) == 1 and keys[0][1] == 0 else None
        if node is None or node["op_type"] != "aten.cat.default":
            return []
        dim, at, parts = int(node["attrs"].get("dim", 0)), 0, []
        for t in node["inputs"]:
            extent = t["shape"][dim] if len(t["shape"]) == len(node["outputs"][0]["shape"]) else 0
            parts.append((self._tensors.key(t), dim, at, extent))
            at += extent
        return [part for part in parts if part[3]]

    def _joined_at(self, value: int, operand: Any) -> Key | None:
        """The tensor of a concatenation that this operand is."""
        if not isinstance(operand, list) or len(self._writers.get(value, [])) < 2:
            return None
        shape = self._program.data["values"][value]["shape"]
        for key, dim, at, extent in self._joined(value):
            wanted = [extent if d == dim % len(shape) else n for d, n in enumerate(shape)]
            is_result = key[1] >= 0
            if is_result and operand[3] == at * math.prod(shape[dim % len(shape) + 1 :]) and list(operand[1]) == wanted:
                return key
        return None

    def _operand(self, value: int, operand: Any, array: Any) -> Any:
        views = Interpreter(self._program)
        views.values = {value: np.ascontiguousarray(array).reshape(-1)}
        return views.view(operand)

    def _keys_of(self, value: int, op: Any, position: int) -> list[Key]:
        """``op`` is the last one that writes the value; only what completes a node has its result."""
        name = self._program.data["values"][value]["name"]
        nodes = {node for node in op.get("nodes", []) if node in self._tensors.nodes}
        nodes = {node for node in nodes if self._last[node] == op["name"]}
        several = {node for node in nodes if len(self._tensors.nodes[node]["outputs"]) > 1}
        stem, _, number = name.rpartition(".")  # a name that was taken gets a number
        stem = stem if number.isdigit() else name
        is_view = name in self._tensors.nodes and name not in self._last  # no op computes it
        if name in nodes - several or is_view:
            return [(name, 0)]
        if "+" in name and nodes.issuperset(name.split("+")):
            return [(part, 0) for part in name.split("+")]
        if stem in several and len(op["out"]) == len(self._tensors.nodes[stem]["outputs"]):
            return [(stem, position)]
        if stem in nodes - several:
            wanted = self._tensors.metas[stem, 0]["shape"]
            return [(stem, 0)] if _extents(self._written(value)) == _extents(wanted) else []
        return []

    def _written(self, value: int) -> Any:
        """The shape in which it is written, by the op that writes all of it, or by several in parts."""
        writers = self._writers[value]
        return self._shape(writers[0] if len(writers) == 1 else value)

    def _shape(self, operand: Any) -> Any:
        return operand[1] if isinstance(operand, list) else self._program.data["values"][operand]["shape"]

    def _fits(self, value: int, keys: Sequence[Key]) -> bool:
        meta = self._program.data["values"][value]
        metas = [self._tensors.metas.get(key) for key in keys]
        if not metas or any(m is None or m["dtype"] != meta["dtype"] for m in metas):
            return False
        return sum(math.prod(m["shape"]) for m in metas if m is not None) == math.prod(meta["shape"])

    def _view(self, value: int, array: Any) -> Any:
        """As the op that writes it sees it, if that is what the tensor looks like; else as it lies."""
        writers = self._writers.get(value, [])
        if len(writers) != 1 or value in self._whole:
            return array
        keys = self.keys(value)
        if len(keys) == 1 and _extents(self._shape(writers[0])) != _extents(self._tensors.metas[keys[0]]["shape"]):
            return array
        return self._operand(value, writers[0], array)


def _extents(shape: Iterable[int]) -> list[int]:
    return [n for n in shape if n != 1]

"""PyTorch as the second side: it computes each step from the nodes of the IR."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from npu_compiler import CompiledProgram
from npu_compiler.reference import Interpreter, dtype_of
from npu_runtime.errors import InvalidValueError, UnavailableError, format_error
from npu_runtime.host import decode_constants, numpy_to_torch, torch_to_numpy

from npu.comparison.groups import Group, operand_value
from npu.comparison.prepared import WeightSource

__all__ = ["TorchProgram", "TorchSide"]

_FLOATS = ("float16", "bfloat16", "float32")


class TorchSide:
    """``ir`` is that of the program, as a dict."""

    name = "pytorch"

    def __init__(self, ir: Mapping[str, Any]) -> None:
        self.ir = ir
        try:
            import torch_ir  # noqa: F401
        except ModuleNotFoundError as error:
            what, action = "comparing with PyTorch needs it, and it is not installed", "`pip install torch`"
            raise UnavailableError(format_error("compare", what, action=action)) from error

    def open(self, program: CompiledProgram, source: WeightSource) -> TorchProgram:
        return TorchProgram(self.ir, program, source)


class TorchProgram:
    """A value of the program that has the name of a tensor of the IR is that tensor, as its writer sees it. What a pass
    has made, such as merged products, is taken apart, or has no counterpart."""

    fused: list[list[int]] = []  # noqa: RUF012

    def __init__(self, ir: Mapping[str, Any], program: CompiledProgram, source: WeightSource) -> None:
        self.ir, self._program, self._source = ir, program, source
        self._nodes = {t["name"]: n for n, node in enumerate(ir["nodes"]) for t in node["outputs"]}
        self._metas = {t["name"]: t for node in ir["nodes"] for t in node["outputs"]}
        self._metas |= {t["name"]: t for t in ir["graph_inputs"]}
        self._weights: Mapping[str, str] = ir.get("weight_name_mapping") or {}
        self._constants = decode_constants(ir)
        self._layouts = _Layouts(program, self._metas)

    def kernels(self, group: Group) -> list[str]:
        ops = [self._program.data["main"][i] for i in group.ops]
        kinds = {node["name"]: node["op_type"] for node in self.ir["nodes"]}
        return [kinds[n].split(".")[1] for op in ops for n in op.get("nodes", []) if n in kinds]

    def run(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        return self._results(group, given, exact=False)

    def exact(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        """In float64."""
        return self._results(group, given, exact=True)

    def prepare(self, steps: Sequence[int], given: Mapping[int, Any], wanted: Sequence[int]) -> list[Any]:
        raise NotImplementedError("only the first side prepares weights, and PyTorch is the second one")

    def weights_of(self, group: Group, given: Mapping[int, Any]) -> dict[str, Any]:
        """Those that PyTorch reads for a step, by name."""
        names = {self._weights.get(name, name) for name in self._read(group, given) - set(self._known(group, given))}
        return {name: self._source.get(name) for name in sorted(names - set(self._constants))}

    def operands_of(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        """Those that either side reads."""
        read = self._read(group, given)
        return {v: a for v, a in given.items() if v in group.reads or read & set(self._layouts.tensors(v))}

    def _read(self, group: Group, given: Mapping[int, Any]) -> set[str]:
        names = [t for v in group.results for t in self._layouts.tensors(v)]
        return set(_entering([self.ir["nodes"][n] for n in self._nodes_for(names, self._known(group, given))]))

    def _known(self, group: Group, given: Mapping[int, Any]) -> dict[str, Any]:
        known: dict[str, Any] = {}
        for value, array in given.items():
            if value not in group.writes:
                known |= self._layouts.split(value, array)
        return known

    def _results(self, group: Group, given: Mapping[int, Any], exact: bool) -> dict[int, Any]:
        wanted = {v: names for v in group.results if (names := self._layouts.tensors(v))}
        if not wanted:
            return {}
        names = list(dict.fromkeys(name for names in wanted.values() for name in names))
        computed = self._compute(names, self._known(group, given), exact)
        return {v: self._layouts.join(v, [computed[name] for name in names]) for v, names in wanted.items()}

    def _nodes_for(self, names: Iterable[str], known: Mapping[str, Any]) -> list[int]:
        """The nodes between what is known and the tensors of these names."""
        waiting, nodes = list(names), set()
        while waiting:
            name = waiting.pop()
            number = self._nodes.get(name)
            if name in known or number is None or number in nodes:
                continue
            nodes.add(number)
            waiting += [t["name"] for t in self.ir["nodes"][number]["inputs"]]
        return sorted(nodes)

    def _compute(self, names: list[str], known: Mapping[str, Any], exact: bool) -> dict[str, Any]:
        from torch_ir import IR, IRExecutor
        from torch_ir.errors import ExecutionError

        nodes = [self.ir["nodes"][n] for n in self._nodes_for(names, known)]
        entering = _entering(nodes)
        tensors = {name: self._tensor(name, known) for name in entering}
        ir = {
            "model_name": "step",
            "pytorch_version": "",
            "graph_inputs": [_meta(t) for t in entering.values()],
            "graph_outputs": [_produced(self._metas[name], nodes) for name in names],
            "weights": [],
            "nodes": [_reading(node, entering) for node in nodes],
        }
        if exact:
            ir, tensors = _in_float64(ir), {n: t.double() if t.is_floating_point() else t for n, t in tensors.items()}
        try:
            results = IRExecutor(IR.from_dict(ir), weights={}).execute(tuple(tensors.values()))
        except ExecutionError as error:
            raise InvalidValueError(format_error("run", str(error))) from error
        return {name: torch_to_numpy(tensor) for name, tensor in zip(names, results, strict=True)}

    def _tensor(self, name: str, known: Mapping[str, Any]) -> Any:
        if name in known:
            return numpy_to_torch(known[name])
        fqn = self._weights.get(name, name)
        if fqn in self._constants:
            return self._constants[fqn]
        return numpy_to_torch(self._source.get(fqn))


class _Layouts:
    """How tensors of the IR lie in values of the program."""

    def __init__(self, program: CompiledProgram, metas: Mapping[str, Any]) -> None:
        self._program, self._metas = program, metas
        self._names = {e["value"]: e["name"] for e in program.data["inputs"]}
        self._writers: dict[int, list[Any]] = {}
        for op in program.data["main"]:
            for operand in op["out"]:
                if operand is not None:
                    self._writers.setdefault(operand_value(operand), []).append(operand)

    def tensors(self, value: int) -> list[str]:
        """The tensors that a value consists of, side by side in its columns; none if it has no counterpart."""
        meta = self._program.data["values"][value]
        if value not in self._writers and value not in self._names:
            return []
        names = self._names.get(value, meta["name"])
        parts = [names] if names in self._metas else names.split("+")
        if any(name not in self._metas or self._metas[name]["dtype"] != meta["dtype"] for name in parts):
            return []
        sizes = [math.prod(self._metas[name]["shape"]) for name in parts]
        return parts if sum(sizes) == math.prod(meta["shape"]) else []

    def _view(self, value: int, array: Any) -> Any:
        """As the op that writes it sees it, if one op writes all of it."""
        writers = self._writers.get(value, [])
        if len(writers) != 1:
            return array
        views = Interpreter(self._program)
        views.values = {value: array.reshape(-1)}
        return views.view(writers[0])

    def split(self, value: int, array: Any) -> dict[str, Any]:
        names = self.tensors(value)
        shapes = [self._metas[name]["shape"] for name in names]
        view = self._view(value, np.ascontiguousarray(array)) if names else array
        if len(names) == 1:
            return {names[0]: np.ascontiguousarray(view).reshape(shapes[0])}
        widths = [math.prod(shape) // max(math.prod(view.shape[:-1]), 1) for shape in shapes]
        parts = np.split(view, np.cumsum(widths)[:-1], -1) if names else []
        return {n: np.ascontiguousarray(p).reshape(s) for n, p, s in zip(names, parts, shapes, strict=True)}

    def join(self, value: int, parts: Sequence[Any]) -> Any:
        meta = self._program.data["values"][value]
        dtype = np.dtype(np.float64) if parts[0].dtype == np.float64 else dtype_of(meta["dtype"])
        array = np.zeros(meta["shape"], dtype)
        view = self._view(value, array)
        if len(parts) == 1:
            view[...] = parts[0].reshape(view.shape)
        else:
            rows = view.shape[:-1]
            view[...] = np.concatenate([p.reshape(*rows, -1) for p in parts], -1)
        return array


def _meta(t: Mapping[str, Any]) -> dict[str, Any]:
    return {key: t[key] for key in ("name", "shape", "dtype")}


def _entering(nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The tensors that nodes read and do not compute, by name."""
    made = {t["name"] for node in nodes for t in node["outputs"]}
    return {t["name"]: t for node in nodes for t in node["inputs"] if t["name"] not in made}


def _reading(node: Mapping[str, Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
    """The node, where those tensors are inputs of the graph."""
    read = [
        {**_meta(t), "producer_node": t["name"], "producer_output_idx": 0} if t["name"] in inputs else t
        for t in node["inputs"]
    ]
    return {**node, "inputs": read}


def _produced(t: Mapping[str, Any], nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    for node in nodes:
        for index, result in enumerate(node["outputs"]):
            if result["name"] == t["name"]:
                return {**_meta(t), "producer_node": node["name"], "producer_output_idx": index}
    return _meta(t)


def _in_float64(ir: Any) -> Any:
    """The same graph with float64 for every floating-point dtype, also where the model names one."""
    if isinstance(ir, list | tuple):
        return [_in_float64(x) for x in ir]
    if not isinstance(ir, Mapping):
        return ir
    return {k: "float64" if k in ("dtype", "$dtype") and v in _FLOATS else _in_float64(v) for k, v in ir.items()}

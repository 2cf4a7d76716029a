"""PyTorch as the second side: it computes each step from the nodes of the IR."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from npu_compiler import CompiledProgram
from npu_runtime.errors import InvalidValueError, UnavailableError, format_error
from npu_runtime.host import decode_constants, numpy_to_torch, torch_to_numpy

from npu.comparison.groups import Group
from npu.comparison.ir_tensors import IRTensors, Key, ValueTensors
from npu.comparison.sides import WeightSource

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
    """It starts from the values that are known, and computes the nodes between them and a step's results."""

    fused: list[list[int]] = []  # noqa: RUF012

    def __init__(self, ir: Mapping[str, Any], program: CompiledProgram, source: WeightSource) -> None:
        self.ir, self._program, self._source = ir, program, source
        self._tensors = IRTensors(ir)
        self._values = ValueTensors(program, self._tensors)
        self._weights: Mapping[str, str] = ir.get("weight_name_mapping") or {}
        self._constants = decode_constants(ir)

    def kernels(self, group: Group) -> list[str]:
        ops = [self._program.data["main"][i] for i in group.ops]
        nodes = self._tensors.nodes
        kinds = [nodes[n]["op_type"] for op in ops for n in op.get("nodes", []) if n in nodes]
        return [kind.split(".")[1] if kind.startswith("aten.") else kind for kind in kinds]

    def run(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        return self._results(group, given, exact=False)

    def exact(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        """In float64."""
        return self._results(group, given, exact=True)

    def prepare(self, steps: Sequence[int], given: Mapping[int, Any], wanted: Sequence[int]) -> list[Any]:
        raise NotImplementedError("the first side prepares weights, and PyTorch is the second one")

    def weights_of(self, group: Group, given: Mapping[int, Any]) -> dict[str, Any]:
        """Those that PyTorch reads for a step, by name."""
        names = {self._weights.get(key[0], key[0]) for key in self._read(group, given) - self._known(group, given)}
        return {name: self._source.get(name) for name in sorted(names - set(self._constants))}

    def operands_of(self, group: Group, given: Mapping[int, Any]) -> dict[int, Any]:
        """Those that either side reads."""
        read = self._read(group, given)
        return {v: a for v, a in given.items() if v in group.reads or read & self._values.known(v)}

    def _read(self, group: Group, given: Mapping[int, Any]) -> set[Key]:
        wanted = [key for _, _, keys in self._values.written(group) for key in keys]
        return set(self._tensors.entering(self._tensors.nodes_for(wanted, self._known(group, given))))

    def _known(self, group: Group, given: Mapping[int, Any]) -> set[Key]:
        return {key for v in given if v not in group.writes for key in self._values.known(v)}

    def _results(self, group: Group, given: Mapping[int, Any], exact: bool) -> dict[int, Any]:
        written = self._values.written(group)
        keys = list(dict.fromkeys(key for _, _, own in written for key in own))
        known = self._known(group, given)
        nodes = self._tensors.nodes_for(keys, known)
        computed = self._compute([k for k in keys if k not in known], nodes, self._operands(group, given, nodes), exact)
        for key, array in self._tensors_of(group, given, known & set(keys)).items():
            computed[key] = array.astype(np.float64) if exact and array.dtype.name in _FLOATS else array
        results: dict[int, Any] = {}
        for value, operand, own in written:
            parts = [computed[key] for key in own]
            results[value] = self._values.join(value, operand, parts, results.get(value))
        return results

    def _tensors_of(self, group: Group, given: Mapping[int, Any], wanted: Collection[Key]) -> dict[Key, Any]:
        """Arrays of tensors that are known."""
        tensors: dict[Key, Any] = {}
        for value, array in given.items():
            if value not in group.writes and not self._values.known(value).isdisjoint(wanted):
                tensors |= {k: a for k, a in self._values.split(value, array).items() if k in wanted}
        return tensors

    def _operands(self, group: Group, given: Mapping[int, Any], nodes: Sequence[Any]) -> dict[Key, Any]:
        entering = self._tensors.entering(nodes)
        tensors = self._tensors_of(group, given, entering)
        return {key: numpy_to_torch(tensors[key]) if key in tensors else self._weight(key[0]) for key in entering}

    def _weight(self, name: str) -> Any:
        name = self._weights.get(name, name)
        return self._constants[name] if name in self._constants else numpy_to_torch(self._source.get(name))

    def _compute(
        self, keys: Sequence[Key], nodes: Sequence[Any], operands: Mapping[Key, Any], exact: bool
    ) -> dict[Key, Any]:
        from torch_ir import IR, IRExecutor
        from torch_ir.errors import ExecutionError

        if not keys:
            return {}
        inputs = {key: f"operand.{n}" for n, key in enumerate(operands)}
        entering = self._tensors.entering(nodes)
        ir = {
            "model_name": "step",
            "pytorch_version": "",
            "graph_inputs": [{**_meta(entering[key]), "name": name} for key, name in inputs.items()],
            "graph_outputs": [_produced(self._tensors.metas[key], *key) for key in keys],
            "weights": [],
            "nodes": [{**n, "inputs": [self._reading(t, inputs) for t in n["inputs"]]} for n in nodes],
        }
        tensors = tuple(operands.values())
        if exact:
            ir = _in_float64(ir)
            tensors = tuple(t.double() if t.is_floating_point() else t for t in tensors)
        try:
            results = IRExecutor(IR.from_dict(ir), weights={}).execute(tensors)
        except ExecutionError as error:
            raise InvalidValueError(format_error("run", str(error))) from error
        return {key: torch_to_numpy(tensor) for key, tensor in zip(keys, results, strict=True)}

    def _reading(self, t: Mapping[str, Any], inputs: Mapping[Key, str]) -> dict[str, Any]:
        key = self._tensors.key(t)
        return _produced({**t, "name": inputs[key]}, inputs[key], 0) if key in inputs else _produced(t, *key)


def _meta(t: Mapping[str, Any]) -> dict[str, Any]:
    return {key: t[key] for key in ("name", "shape", "dtype")}


def _produced(t: Mapping[str, Any], node: str, index: int) -> dict[str, Any]:
    return {**_meta(t), "producer_node": node, "producer_output_idx": index}


def _in_float64(ir: Any) -> Any:
    """The same graph with float64 for every floating-point dtype, also where the model names one."""
    if isinstance(ir, list | tuple):
        return [_in_float64(x) for x in ir]
    if not isinstance(ir, Mapping):
        return ir
    return {k: "float64" if k in ("dtype", "$dtype") and v in _FLOATS else _in_float64(v) for k, v in ir.items()}

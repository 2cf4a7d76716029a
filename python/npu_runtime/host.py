"""Nodes that the device does not run: PyTorch runs them on the host."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from npu_base.arguments import masked_elements

from npu_runtime._core import NPUBuffer, Weights, fetch
from npu_runtime.errors import InvalidTypeError, InvalidValueError, format_error
from npu_runtime.ir_checks import check_nodes

__all__ = [
    "HostPart",
    "as_numpy",
    "decode_constants",
    "execute_cpu_partition",
    "masked",
    "numpy_to_torch",
    "torch_to_numpy",
]


def numpy_to_torch(array: Any) -> Any:
    """A tensor on the CPU, which shares memory if possible, and keeps bfloat16."""
    import torch
    import torch.utils.dlpack

    if isinstance(array, torch.Tensor):
        return array.cpu()
    if isinstance(array, NPUBuffer):
        (array,) = fetch([array])
        return torch.utils.dlpack.from_dlpack(array)
    array = np.asarray(array)
    if array.dtype.name in _OF_ML_DTYPES:
        bits = np.asarray(array, order="C").view(
            f"uint{8 * array.itemsize}"
        )  # ascontiguousarray would make a scalar 1-d
        return torch.from_numpy(bits if bits.flags.writeable else bits.copy()).view(getattr(torch, array.dtype.name))
    if not array.flags.writeable or not array.dtype.isnative:
        array = array.copy()
    return torch.from_numpy(array)


def torch_to_numpy(tensor: Any) -> npt.NDArray[Any]:
    import ml_dtypes
    import torch

    tensor = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    name = str(tensor.dtype).removeprefix("torch.")
    if name in _OF_ML_DTYPES:
        bits: npt.NDArray[Any] = tensor.view(getattr(torch, f"uint{8 * tensor.itemsize}")).numpy()
        return bits.view(getattr(ml_dtypes, name))
    try:
        array: npt.NDArray[Any] = tensor.numpy()
    except TypeError:
        what, action = "NumPy has no such dtype", "converting it in the model"
        raise InvalidValueError(format_error("host", what, got=str(tensor.dtype), action=action)) from None
    return array


_FLOAT8 = ("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu")
_OF_ML_DTYPES = frozenset(("bfloat16", *_FLOAT8))
"""The dtypes that NumPy has from ml_dtypes."""


def as_numpy(value: Any) -> npt.NDArray[Any]:
    """Of a buffer, a tensor or an array, sharing memory if possible."""
    if isinstance(value, NPUBuffer):
        return value.to_numpy()
    return torch_to_numpy(value) if hasattr(value, "detach") else np.asarray(value)


def decode_constants(ir: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors whose values the IR contains."""
    if not ir.get("constants"):
        return {}
    from torch_ir import IR

    return dict(IR.from_dict({**ir, "nodes": [], "graph_outputs": [], "mutations": []}).constants)


IN_PLACE = {
    "aten.index_copy.default": "aten.index_copy_.default",
    "aten.index_put.default": "aten.index_put_.default",
    "aten.index_add.default": "aten.index_add_.default",
    "aten.scatter.src": "aten.scatter_.src",
    "aten.scatter.value": "aten.scatter_.value",
}
"""Operators that update part of their first input, and their in-place forms."""

NOT_ON_DEVICES = ("float64", "complex32", "complex64", "complex128", "uint16", "uint32", "uint64", *_FLOAT8)


def update_in_place(ir: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The IR with updates in place where nothing else reads the input, and the input that each such result updates."""
    inputs = {t["name"]: t for t in ir["graph_inputs"] if t["dtype"] not in NOT_ON_DEVICES}
    returned = {t["name"] for t in ir["graph_outputs"]}
    reads = Counter(t["name"] for node in ir["nodes"] for t in node["inputs"])
    updates: dict[str, str] = {}
    nodes = []
    for node in ir["nodes"]:
        source = node["inputs"][0]["name"] if node["inputs"] else ""
        result = node["outputs"][0]["name"] if len(node["outputs"]) == 1 else ""
        free = source in inputs and source not in returned and reads[source] == 1
        if node["op_type"] in IN_PLACE and free and result in returned:
            updates[result] = source
            node = {**node, "op_type": IN_PLACE[node["op_type"]]}
        nodes.append(node)
    return {**ir, "nodes": nodes}, updates


class Copies(threading.local):
    """Bytes copied by the parts that this thread runs, by tensor."""

    def __init__(self) -> None:
        self.by_name: dict[str, int] = {}

    def add(self, name: str, size: int) -> None:
        self.by_name[name] = self.by_name.get(name, 0) + size


def _torch_dtype(name: Any) -> Any:
    """None for a name that no dtype has, which the checks of results refuse."""
    import torch

    dtype = getattr(torch, name, None) if isinstance(name, str) else None
    return dtype if isinstance(dtype, torch.dtype) else None


class HostPart:
    """A part's IR, executed by ``torch_ir``.

    ``leaving`` names results that the caller keeps, which must not share memory with anything else. ``updates`` maps
    results to the inputs in whose memory they are written.
    """

    def __init__(self, ir: dict[str, Any], leaving: Collection[str] = (), *, in_place: bool = False) -> None:
        from torch_ir import IR, IRExecutor
        from torch_ir.errors import ExecutionError

        self.updates: dict[str, str] = {}
        if in_place:
            ir, self.updates = update_in_place(ir)
        self.ir = ir
        self.copies = Copies()
        self.input_names = [t["name"] for t in ir["graph_inputs"]]
        self.output_names = [t["name"] for t in ir["graph_outputs"]]
        self._dtypes = [_torch_dtype(t["dtype"]) for t in ir["graph_outputs"]]
        self._leaving = set(leaving) - set(self.updates)
        self._executor = IRExecutor(IR.from_dict(ir), weights={})
        self._failures = ExecutionError
        self._own_memory: set[int] = set()

    def own_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Copies of the weights that the part reads, so that the caller may modify the tensors."""
        metas = {w["name"]: w for w in self.ir["weights"]}
        ties = {tie: name for tie, name in self.ir.get("ties", {}).items() if name in metas}
        for name in metas.keys() & weights.keys():
            check_tensor("weight", metas[name], weights[name])
        return {n: numpy_to_torch(weights[n]).clone() for n in [*metas, *ties] if n in weights}

    def use(self, own_weights: Mapping[str, Any]) -> None:
        self._executor.load_weights_from_state_dict(dict(own_weights))
        tensors = [*own_weights.values(), *self._executor.constants.values()]
        self._own_memory = {t.untyped_storage().data_ptr() for t in tensors}

    @property
    def weights(self) -> dict[str, Any]:
        return dict(self._executor.weights or {})

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        self.use(self.own_weights(weights))

    def call(self, inputs: list[Any]) -> list[Any]:
        """Takes tensors in the order of ``input_names`` and returns them in the order of ``output_names``."""
        tensors = [numpy_to_torch(value) for value in inputs]
        for name, value, tensor in zip(self.input_names, inputs, tensors, strict=True):
            if isinstance(value, np.ndarray) and value.size and tensor.data_ptr() != value.ctypes.data:
                self.copies.add(name, value.nbytes)
            if getattr(value, "is_cuda", False):
                self.copies.add(name, value.nbytes)
        try:
            results = list(self._executor.execute(tuple(tensors)))
        except self._failures as error:
            raise InvalidValueError(format_error("host", str(error))) from error
        # PyTorch's kernels do not always have the dtype that it traces: statistics of batches of halves are halves.
        results = [r if dtype is None else r.to(dtype) for r, dtype in zip(results, self._dtypes, strict=True)]
        return self._without_sharing(tensors, results) if self._leaving else results

    def _without_sharing(self, inputs: list[Any], results: list[Any]) -> list[Any]:
        """Copies results that are views of an input, a weight or another result."""
        taken = self._own_memory | {t.untyped_storage().data_ptr() for t in inputs}
        for i, name in enumerate(self.output_names):
            if name not in self._leaving or not results[i].numel():
                continue
            if results[i].untyped_storage().data_ptr() in taken:
                results[i] = results[i].clone().contiguous()
                self.copies.add(name, results[i].nbytes)
            taken.add(results[i].untyped_storage().data_ptr())
        return results

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(self.output_names, self.call([inputs[name] for name in self.input_names]), strict=True))


def check_tensor(what: str, meta: Mapping[str, Any], value: Any) -> None:
    """Raises unless the value is a tensor with the shape and dtype that the graph expects."""
    expected = f"{meta['dtype']}{list(meta['shape'])}"
    if not hasattr(value, "shape") or not hasattr(value, "dtype"):
        got, expected = type(value).__name__, f"an NPUBuffer, a NumPy array or a tensor, {expected}"
    else:
        got = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    if got != expected:
        name = f"{what} '{meta['name']}' does not match the graph"
        raise InvalidValueError(format_error("dag", name, got=got, expected=expected))
    if masked_elements(value):
        raise masked("dag", f"{what} '{meta['name']}'", value)


def masked(area: str, name: str, value: Any) -> InvalidValueError:
    """The error for a masked array of NumPy, whose mask nothing that computes with it would see."""
    got, action = f"{masked_elements(value)} of {value.size}", "giving values to them with .filled(...)"
    return InvalidValueError(format_error(area, f"{name} has masked elements", got=got, action=action))


def execute_cpu_partition(
    partition_nodes: list[dict[str, Any]],
    tensor_pool: Mapping[str, Any],
    weights: Mapping[str, Any],
    weight_name_mapping: Mapping[str, str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Every tensor that these nodes produce, by name.

    Raises:
        InvalidValueError: a tensor or weight is missing, or PyTorch refuses a node.
    """
    check_nodes(partition_nodes)
    mapping = {} if weight_name_mapping is None else weight_name_mapping
    for what, given in (("tensor_pool", tensor_pool), ("weights", weights), ("weight_name_mapping", mapping)):
        if not isinstance(given, Mapping | Weights):
            text, got = f"{what} must be a mapping", type(given).__name__
            raise InvalidTypeError(format_error("dag", text, got=got, expected="a dict by name"))
    produced = {t["name"]: t for node in partition_nodes for t in node["outputs"]}
    read = {t["name"]: t for node in partition_nodes for t in node["inputs"] if t["name"] not in produced}
    entering = {n: t for n, t in read.items() if n in tensor_pool}
    weight_metas = {n: t for n, t in read.items() if n not in entering}
    ir = {
        "model_name": "host",
        "pytorch_version": "",
        "graph_inputs": [{k: t[k] for k in ("name", "shape", "dtype")} for t in entering.values()],
        "graph_outputs": [{k: t[k] for k in ("name", "shape", "dtype")} for t in produced.values()],
        "weights": [
            {"name": mapping.get(n, n), "shape": t["shape"], "dtype": t["dtype"]} for n, t in weight_metas.items()
        ],
        "weight_name_mapping": {n: mapping.get(n, n) for n in weight_metas},
        "nodes": [
            {
                **node,
                "inputs": [
                    {**t, "producer_node": t["name"], "producer_output_idx": 0} if t["name"] in entering else t
                    for t in node["inputs"]
                ],
            }
            for node in partition_nodes
        ],
    }
    part = HostPart(ir)
    part.load_weights(weights)
    return {name: torch_to_numpy(value) for name, value in part.run(tensor_pool).items()}

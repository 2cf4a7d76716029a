"""Nodes that the device does not run: PyTorch runs them on the host."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from npu_runtime._core import NPUBuffer

__all__ = ["HostPart", "decode_constants", "execute_cpu_partition", "numpy_to_torch", "torch_to_numpy"]


def numpy_to_torch(array: Any) -> Any:
    """Shares memory where it can; bfloat16 passes as such."""
    import torch
    import torch.utils.dlpack

    if isinstance(array, torch.Tensor):
        return array
    if isinstance(array, NPUBuffer):
        return torch.utils.dlpack.from_dlpack(array)
    array = np.asarray(array)
    if array.dtype.name == "bfloat16":
        return torch.from_numpy(np.ascontiguousarray(array).view(np.uint16)).view(torch.bfloat16)
    if not array.flags.writeable or not array.dtype.isnative:
        array = array.copy()
    return torch.from_numpy(array)


def torch_to_numpy(tensor: Any) -> npt.NDArray[Any]:
    import ml_dtypes
    import torch

    tensor = tensor.detach().cpu().contiguous()
    if tensor.dtype == torch.bfloat16:
        bits: npt.NDArray[Any] = tensor.view(torch.uint16).numpy()
        return bits.view(ml_dtypes.bfloat16)
    array: npt.NDArray[Any] = tensor.numpy()
    return array


def decode_constants(ir: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors that an IR holds itself."""
    if not ir.get("constants"):
        return {}
    from torch_ir import IR

    return dict(IR.from_dict({**ir, "nodes": [], "graph_outputs": [], "mutations": []}).constants)


class HostPart:
    """A part's IR, executed by ``torch_ir``."""

    def __init__(self, ir: dict[str, Any]) -> None:
        from torch_ir import IR, IRExecutor

        self.ir = ir
        self.input_names = [t["name"] for t in ir["graph_inputs"]]
        self.output_names = [t["name"] for t in ir["graph_outputs"]]
        self._executor = IRExecutor(IR.from_dict(ir), weights={})

    def own_weights(self, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Copies of what the part reads, so that the caller's tensors may change."""
        names = {w["name"] for w in self.ir["weights"]}
        ties = {tie: name for tie, name in self.ir.get("ties", {}).items() if name in names}
        return {n: numpy_to_torch(weights[n]).clone() for n in [*names, *ties] if n in weights}

    def use(self, own_weights: Mapping[str, Any]) -> None:
        self._executor.load_weights_from_state_dict(dict(own_weights))

    def load_weights(self, weights: Mapping[str, Any]) -> None:
        self.use(self.own_weights(weights))

    def call(self, inputs: list[Any]) -> list[Any]:
        """Tensors in the order of ``input_names``; returns those of ``output_names``."""
        return list(self._executor.execute(tuple(map(numpy_to_torch, inputs))))

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(self.output_names, self.call([inputs[name] for name in self.input_names]), strict=True))


def execute_cpu_partition(
    partition_nodes: list[dict[str, Any]],
    tensor_pool: Mapping[str, Any],
    weights: Mapping[str, Any],
    weight_name_mapping: Mapping[str, str] | None = None,
) -> dict[str, npt.NDArray[Any]]:
    """Every tensor that these nodes produce, by name."""
    mapping = dict(weight_name_mapping or {})
    produced = {t["name"]: t for node in partition_nodes for t in node["outputs"]}
    read = {t["name"]: t for node in partition_nodes for t in node["inputs"] if t["name"] not in produced}
    entering = {n: t for n, t in read.items() if n in tensor_pool}
    held = {n: t for n, t in read.items() if n not in entering}
    ir = {
        "model_name": "host",
        "pytorch_version": "",
        "graph_inputs": [{k: t[k] for k in ("name", "shape", "dtype")} for t in entering.values()],
        "graph_outputs": [{k: t[k] for k in ("name", "shape", "dtype")} for t in produced.values()],
        "weights": [{**{k: t[k] for k in ("shape", "dtype")}, "name": mapping.get(n, n)} for n, t in held.items()],
        "weight_name_mapping": {n: mapping.get(n, n) for n in held},
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

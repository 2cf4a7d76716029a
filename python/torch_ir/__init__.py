"""torch_ir: extract a PyTorch model's graph of ATen calls without weights, run it, and verify it against the model."""

from __future__ import annotations

import importlib
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

try:
    __version__ = version("npu-simulation")
except PackageNotFoundError:
    __version__ = "0.0.0"

# Imported at first use, so that `torch-ir --help` does not wait for PyTorch.
_HOME = {
    "IR": "ir",
    "Mutation": "ir",
    "OpNode": "ir",
    "TensorMeta": "ir",
    "ConversionError": "errors",
    "ExecutionError": "errors",
    "ExportError": "errors",
    "SerializationError": "errors",
    "TorchIRError": "errors",
    "WeightLoadError": "errors",
    "GraphAnalyzer": "analyzer",
    "NodeInfo": "analyzer",
    "IRConverter": "converter",
    "convert_exported_program": "converter",
    "IRExecutor": "executor",
    "execute_ir": "executor",
    "export_model": "exporter",
    "get_model_name": "exporter",
    "extract_ir": "extract",
    "meta_weights": "meta",
    "IRSerializer": "serializer",
    "deserialize_ir": "serializer",
    "dict_to_ir": "serializer",
    "ir_to_dict": "serializer",
    "load_ir": "serializer",
    "save_ir": "serializer",
    "serialize_ir": "serializer",
    "validate_ir": "validation",
    "IRVerifier": "verifier",
    "VerificationReport": "verifier",
    "verify_ir": "verifier",
    "verify_ir_with_state_dict": "verifier",
    "generate_op_distribution_pie": "visualize",
    "ir_to_mermaid": "visualize",
    "WeightLoader": "weight_loader",
    "load_weights": "weight_loader",
    "load_weights_pt": "weight_loader",
    "load_weights_safetensors": "weight_loader",
    "aten_impl": "ops",
    "aten_ops": "ops",
    "list_registered_ops": "ops",
    "register_executor": "ops",
    "register_op": "ops",
}

if TYPE_CHECKING:
    from .analyzer import GraphAnalyzer, NodeInfo
    from .converter import IRConverter, convert_exported_program
    from .errors import (
        ConversionError,
        ExecutionError,
        ExportError,
        SerializationError,
        TorchIRError,
        WeightLoadError,
    )
    from .executor import IRExecutor, execute_ir
    from .exporter import export_model, get_model_name
    from .extract import extract_ir
    from .ir import IR, Mutation, OpNode, TensorMeta
    from .meta import meta_weights
    from .ops import aten_impl, aten_ops, list_registered_ops, register_executor, register_op
    from .serializer import (
        IRSerializer,
        deserialize_ir,
        dict_to_ir,
        ir_to_dict,
        load_ir,
        save_ir,
        serialize_ir,
    )
    from .validation import validate_ir
    from .verifier import IRVerifier, VerificationReport, verify_ir, verify_ir_with_state_dict
    from .visualize import generate_op_distribution_pie, ir_to_mermaid
    from .weight_loader import WeightLoader, load_weights, load_weights_pt, load_weights_safetensors

__all__ = [
    "IR",
    "ConversionError",
    "ExecutionError",
    "ExportError",
    "GraphAnalyzer",
    "IRConverter",
    "IRExecutor",
    "IRSerializer",
    "IRVerifier",
    "Mutation",
    "NodeInfo",
    "OpNode",
    "SerializationError",
    "TensorMeta",
    "TorchIRError",
    "VerificationReport",
    "WeightLoadError",
    "WeightLoader",
    "__version__",
    "aten_impl",
    "aten_ops",
    "convert_exported_program",
    "deserialize_ir",
    "dict_to_ir",
    "execute_ir",
    "export_model",
    "extract_ir",
    "generate_op_distribution_pie",
    "get_model_name",
    "ir_to_dict",
    "ir_to_mermaid",
    "list_registered_ops",
    "load_ir",
    "load_weights",
    "load_weights_pt",
    "load_weights_safetensors",
    "meta_weights",
    "register_executor",
    "register_op",
    "save_ir",
    "serialize_ir",
    "validate_ir",
    "verify_ir",
    "verify_ir_with_state_dict",
]


def __getattr__(name: str) -> Any:
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'torch_ir' has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{home}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})

"""Compiles IR to device-independent programs. Knows IR JSON, not torch."""

from .compiled_program import CompiledProgram, TensorSpec
from .compiler import compile, compile_ir
from .errors import CompileError, ExtensionError, InternalCompileError, IRError, ProgramError
from .extensions import is_extended
from .partition_report import PlanReport
from .partitioner import Partition, PartitionPlan, TransferOp, partition, partition_ir
from .passes import PASSES, register_pass, unregister_pass
from .support import explain_ir, explain_support, get_supported_ops, is_op_supported

__all__ = [
    "PASSES",
    "CompileError",
    "CompiledProgram",
    "ExtensionError",
    "IRError",
    "InternalCompileError",
    "Partition",
    "PartitionPlan",
    "PlanReport",
    "ProgramError",
    "TensorSpec",
    "TransferOp",
    "compile",
    "compile_ir",
    "explain_ir",
    "explain_support",
    "get_supported_ops",
    "is_extended",
    "is_op_supported",
    "partition",
    "partition_ir",
    "register_pass",
    "unregister_pass",
]

"""The callable for an IR alone, without the module that it was extracted from. PyTorch runs parts on the host only."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import npu_compiler
from npu_base.specs import TensorSpec
from npu_runtime import Device, Executor, Weights, load_weights

from npu.compiled_module import CompiledModule
from npu.host_parts import make_parts, whole_program
from npu.random_tensors import random_weights
from npu.runners import ProgramRunner, Runner
from npu.saving.model import Model
from npu.saving.signature import Signature, make_signature, read_signature
from npu.saving.structure import Classes

__all__ = ["compile_ir", "host_if_there", "signature_of"]


def compile_ir(
    ir: Mapping[str, Any],
    file: Path,
    *,
    device: Device,
    threads: int = 0,
    weights: Path | None = None,
    seed: int = 0,
    fallback: str = "host",
    notice: Callable[[Any], None],
    **options: Any,
) -> CompiledModule:
    """``weights`` is a file of weights; without one, they are random. ``notice`` is called with the plan of a model
    that runs partly on the host. ``options`` are those of the compiler, ``file`` is named in errors."""
    compile_one = partial(npu_compiler.compile, **options)
    program = whole_program(ir, compile_one, host_if_there(fallback))
    name = str(ir.get("model_name") or "")

    def text() -> bytes:
        return json.dumps(ir).encode()

    if program is not None:
        executor = Executor(program, device, threads=threads)
        signature = signature_of(ir, file)
        own = Weights.random(program, seed) if weights is None else load_weights(weights, program, device)
        runner: Runner = ProgramRunner(executor, own, signature, program)
        model = Model(signature, lambda: [program.to_bytes()], own, text, name)
    else:
        from npu.partitioned import PartitionRunner

        parts, program_of = make_parts(dict(ir), compile_one)
        notice(parts.plan)
        signature = signature_of(ir, file)
        tensors = _tensors(ir, weights, seed)
        runner = PartitionRunner(parts.plan, tensors, signature, device, threads, program_of)
        codes = [part.to_bytes() for part in parts.programs.values()]
        model = Model(signature, lambda: codes, None, text, name, parts)
    make = Classes((), signature.output_structure).make
    return CompiledModule(model, runner, make, threads=threads)


def host_if_there(fallback: str) -> str:
    """Without PyTorch, an error lists what the device lacks."""
    return fallback if importlib.util.find_spec("torch") is not None else "error"


def signature_of(ir: Mapping[str, Any], file: Path) -> Signature:
    """Of the dict of an IR with fixed sizes."""

    def specs(metas: Iterable[Mapping[str, Any]]) -> list[TensorSpec]:
        return [TensorSpec(str(meta["name"]), tuple(meta["shape"]), meta["dtype"]) for meta in metas]

    made = SimpleNamespace(
        graph_inputs=specs(ir["graph_inputs"]),
        graph_outputs=specs(ir["graph_outputs"]),
        output_names=ir.get("output_names") or [],
        input_structure=ir.get("input_structure"),
        output_structure=ir.get("output_structure"),
    )
    return read_signature(make_signature(made).to_dict(), str(file))


def _tensors(ir: Mapping[str, Any], file: Path | None, seed: int) -> Mapping[str, Any]:
    """All weights, also those of dtypes that no device has."""
    if file is None:
        constants = ir.get("constants") or {}
        return random_weights([meta for meta in ir["weights"] if meta["name"] not in constants], seed)
    from torch_ir.weight_loader import load_weights

    tensors: Mapping[str, Any] = load_weights(file)
    return tensors

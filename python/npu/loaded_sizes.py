"""The runner of a saved model whose sizes are open."""

from __future__ import annotations

from functools import partial
from typing import Any

import npu_compiler
from npu_base.errors import InvalidValueError, NPUError, format_error
from npu_base.size_rules import fixed_ir
from npu_compiler.errors import InternalCompileError
from npu_runtime import Device, Executor, Program
from npu_runtime.shared_weights import SharedWeights

from npu.bucket_runner import open_runner
from npu.host_parts import Compile, make_parts, whole_program
from npu.open_sizes import OpenRunner, SizedRunner
from npu.partitioned import PartitionRunner
from npu.runners import ProgramRunner
from npu.saving.container import refuse
from npu.saving.model import Model, check_program, read_ir
from npu.saving.sizes import SavedSize

__all__ = ["loaded_runner", "saved_size"]


def loaded_runner(model: Model, device: Device, threads: int) -> OpenRunner:
    """What is in the file is planned at the first call of its size; other sizes are compiled then, from its IR."""
    assert model.open is not None

    def make(sizes: dict[str, int], weights: SharedWeights) -> SizedRunner:
        size, program_of = saved_size(model, sizes)
        if size.parts is not None:
            program_of = program_of or size.parts.program_of
            parted = PartitionRunner(size.parts.plan, weights, model.signature, device, threads, program_of)
            return parted, lambda: size
        program = Program.parse(size.code)
        check_program(model, program, sizes, model.name)
        weights.on_device.check(program)
        runner = ProgramRunner(Executor(program, device, threads=threads), weights.on_device, model.signature)
        return runner, lambda: size

    opened = model.open
    weights = model.weights if isinstance(model.weights, SharedWeights) else SharedWeights(model.weights, {})
    first = opened.saved[-1].sizes
    dtype = opened.options.get("compute_dtype")
    buckets, rules, most = opened.buckets, opened.rules, opened.most
    return open_runner(buckets, model.signature, rules, make, weights, first, most, dtype, opened.saved)


def saved_size(model: Model, sizes: dict[str, int]) -> tuple[SavedSize, Compile | None]:
    """What is in the file for a size, or is compiled now, and then what gives the programs of its parts.

    Only a model that runs partly on the host at a size in the file may do that at others.
    """
    assert model.open is not None
    in_file = next((size for size in model.open.saved if dict(size.sizes) == sizes), None)
    if in_file is not None:
        return in_file, None
    compile_ir = partial(npu_compiler.compile, **model.open.options)
    fixed = _ir_of_size(model, sizes)
    fallback = "host" if model.open.run_on_host_too else "error"
    try:
        program = whole_program(fixed, compile_ir, fallback)
    except InternalCompileError as error:
        what = "the IR does not agree with itself: it is damaged, or the compiler has a bug at this size"
        got = str(error).partition("; expected a program")[0]
        refuse(model.name, what, section="ir", got=got, action="saving the model again")
    if program is not None:
        return SavedSize(sizes, program.to_bytes()), None
    parts, program_of = make_parts(fixed, compile_ir)
    return SavedSize(sizes, parts=parts), program_of


def _ir_of_size(model: Model, sizes: dict[str, int]) -> dict[str, Any]:
    ir = read_ir(model, model.name)
    try:
        fixed, least = fixed_ir(ir, sizes)
        return fixed if least >= 2 else _checked_by_pytorch(model, ir, sizes)
    except NPUError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        refuse(model.name, "the IR is not valid", section="ir", got=f"{type(error).__name__}: {error}")


def _checked_by_pytorch(model: Model, ir: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    """Where something has an extent below 2, only PyTorch can tell whether its operators do the same."""
    try:
        from torch_ir import IR
    except ImportError:
        sizes_in_file = ", ".join(map(str, model.open.saved))  # type: ignore[union-attr]
        raise InvalidValueError(
            format_error(
                "npu",
                "a size at which some tensor has an extent of 0 or 1 is not in the file, and making it takes PyTorch",
                got=", ".join(f"{name}={value}" for name, value in sizes.items()),
                expected=f"larger sizes, or those in the file: {sizes_in_file}",
                action="compiled.warm_up with this size before compiled.save",
            )
        ) from None
    fixed: dict[str, Any] = IR.from_dict(ir).specialize(**sizes).to_dict()
    return fixed

"""The runner of a saved model whose sizes are open."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import npu_compiler
from npu_base.errors import InvalidValueError, NPUError, format_error
from npu_base.size_rules import fixed_ir
from npu_runtime import Device, Executor, Program, Weights

from npu.bucket_runner import open_runner
from npu.open_sizes import OpenRunner, SizedRunner
from npu.runners import ProgramRunner
from npu.saving.container import refuse
from npu.saving.model import Model, check_program, read_ir

__all__ = ["loaded_runner"]


def loaded_runner(model: Model, device: Device, threads: int) -> OpenRunner:
    """Programs in the file are planned at the first call of their size; others are compiled then, from its IR."""
    assert model.open is not None
    in_file = model.open.programs
    codes = {_key(sizes): code for sizes, code in zip(in_file, model.programs(), strict=True)}

    def make(sizes: dict[str, int], weights: Weights) -> SizedRunner:
        code = codes.get(_key(sizes)) or _compiled(model, sizes)
        program = Program.parse(code)
        check_program(model, program, sizes, model.name)
        weights.check(program)
        return ProgramRunner(Executor(program, device, threads=threads), weights, model.signature), lambda: code

    opened = model.open
    return open_runner(opened.buckets, model.signature, opened.rules, make, model.weights, in_file[-1], opened.most)


def _key(sizes: Mapping[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(sizes.items()))


def _compiled(model: Model, sizes: dict[str, int]) -> bytes:
    assert model.open is not None
    ir = read_ir(model, model.name)
    try:
        fixed, least = fixed_ir(ir, sizes)
        if least < 2:
            fixed = _checked_by_pytorch(model, ir, sizes)
    except NPUError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        refuse(model.name, "the IR is not valid", section="ir", got=f"{type(error).__name__}: {error}")
    return npu_compiler.compile(fixed, **model.open.options).to_bytes()


def _checked_by_pytorch(model: Model, ir: dict[str, Any], sizes: dict[str, int]) -> dict[str, Any]:
    """Where something has an extent below 2, only PyTorch can tell whether its operators do the same."""
    try:
        from torch_ir import IR
    except ImportError:
        sizes_in_file = ", ".join(" x ".join(f"{n}={v}" for n, v in one.items()) for one in model.open.programs)  # type: ignore[union-attr]
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

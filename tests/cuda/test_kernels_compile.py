"""All kernels compile for NVIDIA GPUs, and none but those listed here needs memory beside its registers."""

from __future__ import annotations

from pathlib import Path

import npu_compiler
import pytest
import torch
from torch_ir import ConversionError, ExportError, extract_ir

from tests.models.zoo.image_models import build
from tests.ops.cases import CASES, Case
from tests.ops.test_execution import HALF, cast
from tests.whole_models.test_plans_of_decoding import decode_program

from .compiling import ROOT, Compiled, compile_kernels, save_programs

ARCHITECTURES = ("sm_80", "sm_90", "sm_100")
FOLDERS = (ROOT / "metal", ROOT / "cpp" / "cuda" / "kernels")
LIBRARIES = sorted(path.stem for folder in FOLDERS for path in folder.glob("*.metal"))

# Bytes of stack of a thread that kernels need today, by architecture; all others need none.
STACKS = {
    "attention_32_float": {"sm_80": 8, "sm_90": 8},
    "attention_256_float": {"sm_80": 784, "sm_90": 1088, "sm_100": 936},
    "attention_any_float": {"sm_100": 8},
    "attention_rows_2x1_bfloat": {"sm_90": 8},
    "attention_rows_8x1_bfloat": {"sm_90": 16},
    "attention_rows_8x1_half": {"sm_90": 8, "sm_100": 16},
    "conv_depthwise_half": {"sm_100": 16},
    "conv_direct_bfloat": {"sm_90": 8, "sm_100": 24},
    "conv_direct_float": {"sm_90": 8, "sm_100": 24},
    "conv_direct_half": {"sm_90": 8, "sm_100": 24},
    "conv_large_fours_bfloat": {"sm_100": 152},
    "conv_large_fours_half": {"sm_100": 152},
    "conv_tensor_64x64_bfloat": {"sm_90": 8},
    "conv_tensor_64x64_float": {"sm_90": 16},
    "map": {"sm_80": 8, "sm_90": 8},
    "matmul_large_k_major_float": {"sm_90": 8},
    "matmul_quantized_4_1x1_bfloat": {"sm_90": 8},
    "matmul_quantized_8_4x1_float": {"sm_90": 8},
    "matmul_quantized_8_8x1_float": {"sm_90": 8},
    "matmul_rows_k_major_1x1_float": {"sm_90": 48},
    "matmul_rows_norm_k_major_1x4_bfloat": {"sm_90": 8},
    "matmul_rows_norm_k_major_2x2_bfloat": {"sm_80": 8},
    "matmul_rows_norm_k_major_2x2_half": {"sm_80": 8},
    "matmul_rows_norm_k_major_4x4_half": {"sm_80": 8},
    "matmul_rows_norm_k_major_8x2_float": {"sm_90": 24},
    "matmul_rows_norm_k_major_8x2_half": {"sm_80": 8},
    "pool_bfloat": {"sm_80": 24, "sm_90": 16, "sm_100": 16},
    "pool_float": {"sm_80": 56, "sm_90": 32, "sm_100": 32},
    "pool_four_float": {"sm_100": 24},
    "pool_half": {"sm_80": 24, "sm_90": 24, "sm_100": 16},
}


def check(kernels: list[Compiled]) -> None:
    """A stack holds arrays that are indexed at run time, and registers that were spilled."""
    over = [k for k in kernels if k.stack > STACKS.get(k.kernel, {}).get(k.architecture, 0)]
    assert not over, "\n".join(map(str, over))
    spilled = [k for k in kernels if k.spills and not k.stack]
    assert not spilled, "\n".join(map(str, spilled))


def case_program(case: Case, dtype: torch.dtype) -> npu_compiler.CompiledProgram | None:
    inputs = tuple(cast(x, dtype) for x in case.make())
    model = case.build()
    try:
        return npu_compiler.compile(extract_ir(model.to(dtype), inputs), quantized=case.schemes(model))
    except (RuntimeError, ConversionError, ExportError, npu_compiler.CompileError):
        return None  # not in this dtype: other tests say which


def op_table(step: int) -> list[npu_compiler.CompiledProgram]:
    """Every `step`-th case, in all dtypes that it has."""
    runnable = [(case, torch.float32) for case in CASES if not case.refused]
    half = [(case, dtype) for case in HALF for dtype in (torch.bfloat16, torch.float16)]
    programs = [case_program(case, dtype) for case, dtype in (runnable + half)[::step]]
    return [program for program in programs if program is not None]


def test_one_kernel_of_each_template() -> None:
    kernels = compile_kernels("--library", "all", "--sample")
    assert sorted({k.source for k in kernels}) == LIBRARIES
    assert len(kernels) > 100
    check(kernels)


def test_grids_that_are_launched_as_lines() -> None:
    check(compile_kernels("--library", "copy", "--library", "softmax", "--library", "pad", "--sample", "--line"))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_resnet50(dtype: torch.dtype, tmp_path: Path) -> None:
    model = build("resnet50").to(dtype)
    program = npu_compiler.compile(extract_ir(model, torch.randn(1, 3, 224, 224, dtype=dtype)))
    kernels = compile_kernels(save_programs([program], tmp_path))
    assert {"conv"} <= {k.kernel.split("_")[0] for k in kernels}
    check(kernels)


def test_qwen_decoding(tmp_path: Path) -> None:
    program = save_programs([decode_program(2, None)], tmp_path)
    kernels = compile_kernels(program)
    names = {k.kernel for k in kernels}
    assert {"matmul_stream_bfloat", "matmul_stream_norm_bfloat"} <= names, names
    check(kernels)
    constant = compile_kernels(program, "--constant")  # a launch's arguments and threads are part of its code
    check(constant)
    assert min(k.registers for k in constant) < min(k.registers for k in kernels)


def test_caches_of_int8(tmp_path: Path) -> None:
    cases = [case for case in CASES if case.name.startswith("attention int8")]
    programs = [case_program(case, dtype) for case in cases for dtype in (torch.float32, torch.bfloat16)]
    kernels = compile_kernels(save_programs([p for p in programs if p is not None], tmp_path))
    names = {k.kernel.split("_")[1] for k in kernels if k.kernel.startswith("attention_")}
    assert {"rows", "any"} < names
    check(kernels)


def test_a_sample_of_the_op_table(tmp_path: Path) -> None:
    kernels = compile_kernels(save_programs(op_table(60), tmp_path))
    assert sum(k.source.startswith("generated") for k in kernels) >= 10
    check(kernels)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_built_in_kernel(architecture: str) -> None:
    kernels = compile_kernels("--library", "all", architectures=[architecture])
    assert len(kernels) >= 412
    check(kernels)


@pytest.mark.slow
def test_the_whole_op_table(tmp_path: Path) -> None:
    check(compile_kernels(save_programs(op_table(1), tmp_path), architectures=ARCHITECTURES))

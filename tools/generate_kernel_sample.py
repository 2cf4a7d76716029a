#!/usr/bin/env python3
"""Write python/npu/kernel_sample.bin, the programs of ``npu doctor --kernels``: few that reach every kernel.

Candidates (kernel_sample_cases.py) are compiled and planned for chips of several sizes, which choose different kernels;
a program is taken if it reaches kernels that no program before it reaches. The file is the same each time, unless
the compiler or the choice of kernels has changed. Takes about three minutes.
"""

from __future__ import annotations

import copy
import logging
import re
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

import npu_compiler  # noqa: E402
import numpy as np  # noqa: E402
import torch  # noqa: E402
from kernel_sample_cases import Candidate, candidates, tensors_of  # noqa: E402
from npu.kernel_sample import SAMPLE_FILE, Entry, Recipe, pack  # noqa: E402
from npu_base.files import write_file  # noqa: E402
from npu_base.quantization import Scheme  # noqa: E402
from npu_runtime import Device, Executor  # noqa: E402
from npu_runtime.host import numpy_to_torch, torch_to_numpy  # noqa: E402
from torch import Tensor, nn  # noqa: E402
from torch.utils import _pytree as pytree  # noqa: E402
from torch_ir import ConversionError, ExportError, extract_ir  # noqa: E402

from tests.support import numbers  # noqa: E402
from tests.support.quantized import numbers_of  # noqa: E402

CHIPS = ("metal:m1", "metal:m4pro", "metal:m3ultra", "cuda:l4", "cuda:h200")
SHARDS = 4
LAUNCH = re.compile(r"^  \d+  (\S+) of ", re.MULTILINE)  # in the text of a plan
FEW = 64  # elements whose values are kept as they are


class Reached(NamedTuple):
    index: int
    wanted: bool
    size: int
    kernels: frozenset[str]


def quiet() -> None:
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    torch.set_num_threads(1)


def compiled(candidate: Candidate) -> tuple[Any, tuple[Any, ...], npu_compiler.CompiledProgram]:
    model, inputs = candidate.build()
    model = model.eval()
    return model, inputs, npu_compiler.compile(extract_ir(model, inputs), quantized=schemes_of(candidate, model))


def schemes_of(candidate: Candidate, model: nn.Module) -> dict[str, Scheme]:
    return candidate.case.schemes(model) if candidate.case else {}


def reach(shard: int) -> list[Reached]:
    quiet()
    chips = [Device(kind) for kind in CHIPS]
    rows = []
    for index, candidate in list(enumerate(candidates()))[shard::SHARDS]:
        try:
            program = compiled(candidate)[2]
        except (RuntimeError, ConversionError, ExportError, npu_compiler.CompileError):
            continue  # not in this dtype, or not at all: tests say which
        kernels = {name for chip in chips for name in LAUNCH.findall(Executor(program, chip).plan())}
        rows.append(Reached(index, candidate.wanted, len(program.to_bytes()), frozenset(kernels)))
    return rows


def choose(rows: list[Reached]) -> list[int]:
    """Those that are wanted, then always the one that reaches most of what is left for its size."""
    chosen = [row for row in rows if row.wanted]
    left = frozenset().union(*(row.kernels for row in rows)).difference(*(row.kernels for row in chosen))
    while left:
        best = max(rows, key=lambda row: (len(row.kernels & left) / (row.size + 300), -row.index))
        chosen.append(best)
        left -= best.kernels
    return sorted(row.index for row in chosen)


def recipe_of(name: str, x: Tensor) -> Recipe:
    """Drawn anew where that makes no difference: floats that are many and finite."""
    array = torch_to_numpy(x)
    if x.dtype == torch.uint8 and array.size > FEW:  # integers of quantised weights, of which any will do
        return Recipe(name, "uint8", tuple(array.shape), "uniform", 0, 256)
    dtype, shape = str(array.dtype), tuple(array.shape)
    exact = array.astype(np.float64)
    whole = x.is_floating_point() and bool((exact == np.round(exact)).all())
    if not x.is_floating_point() or array.size <= FEW or whole or not np.isfinite(exact).all():
        return Recipe(name, dtype, shape, values=array.tobytes())
    low, high = float(exact.min()), float(exact.max())
    if low >= 0 or (low > -1 and high < 1):
        return Recipe(name, dtype, shape, "uniform", round(low, 4), round(high, 4))
    return Recipe(name, dtype, shape, "normal", round(float(exact.mean()), 4), round(float(exact.std()), 4))


def entry_of(candidate: Candidate) -> Entry:
    model, inputs, program = compiled(candidate)
    flat = tensors_of(inputs)
    dtype = str(candidate.dtype).removeprefix("torch.")
    ops = ", ".join(dict.fromkeys(op["op"] for op in program.data["main"]))
    schemes, state = schemes_of(candidate, model), model.state_dict(keep_vars=True)
    stored = candidate.case.stored(model) if candidate.case else state
    ins = tuple(recipe_of(spec.name, x) for spec, x in zip(program.input_specs, flat, strict=True))
    weights = tuple(recipe_of(spec.name, stored[spec.name].detach()) for spec in program.weight_specs)
    entry = Entry(candidate.name, dtype, ops, program.to_bytes(), ins, weights, ())
    made = {name: numpy_to_torch(array) for name, array in entry.make(weights).items()}
    precise_model = copy.deepcopy(model).double()
    with torch.no_grad():
        for name, x in made.items():
            if name in state and name not in schemes:
                state[name].copy_(x)
                precise_model.state_dict()[name].copy_(x)
        for name, scheme in schemes.items():
            parts = {part: made[name + part] for part in ("", ".scales", ".offsets", ".units") if name + part in made}
            numbers_in_double = numbers_of(parts, scheme, state[name].shape[-1])
            state[name].copy_(numbers_in_double)
            precise_model.get_parameter(name).copy_(numbers_in_double)
        for x, array in zip(flat, entry.make(ins).values(), strict=True):
            x.copy_(numpy_to_torch(array))
        precise = pytree.tree_map(
            lambda x: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x, inputs
        )
        exact = tensors_of((precise_model(*copy.deepcopy(precise)),))
        own = tensors_of((model(*copy.deepcopy(inputs)),))
    tolerances = [
        numbers.allowed(numbers.error(mine, best), mine.dtype) if mine.is_floating_point() else 0.0
        for mine, best in zip(own, exact, strict=True)
    ]
    count = len(program.output_specs)  # more than what the model returns, if it keeps state
    tolerances += [max(tolerances)] * (count - len(tolerances))
    return Entry(candidate.name, dtype, ops, entry.program, ins, weights, tuple(float(f"{t:.2g}") for t in tolerances))


def main() -> int:
    quiet()
    with ProcessPoolExecutor(2) as pool:
        rows = sorted(row for shard in pool.map(reach, range(SHARDS)) for row in shard)
    every = candidates()
    entries = [entry_of(every[index]) for index in choose(rows)]
    data = pack(entries)
    write_file(SAMPLE_FILE, data)
    kernels = frozenset().union(*(row.kernels for row in rows))
    print(f"{SAMPLE_FILE}: {len(entries)} programs, {len(kernels)} kernels, {len(data):,} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""How long the compiler takes for the IRs of image models, and a compiled model for a size that it has not met."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common
from benchmarks.workloads import Workload, workload

CASES = ("resnet18", "resnet50", "mobilenet_v3_small", "densenet121", "convnext_tiny")
SIZED = ("resnet50", "bert_base")  # whose batch is left open


def compiled_once(case: str, repeats: int) -> dict[str, Any]:
    import npu_compiler
    from torch_ir import extract_ir

    loaded = workload(case, 1)
    ir = extract_ir(loaded.model, tensors(loaded))
    npu_compiler.compile(ir)
    times = [common.seconds(lambda: npu_compiler.compile(ir)) for _ in range(repeats)]
    ops = len(npu_compiler.compile(ir).data["main"])
    return {"compile_s": statistics.median(times), "nodes": len(ir.nodes), "ops": ops}


def new_sizes(case: str, repeats: int) -> dict[str, Any]:
    """What a batch costs at its first call beyond a call: weights are prepared already, by another one."""
    import npu
    import torch

    loaded = workload(case, 3)
    names = list(loaded.inputs)
    open_batch = {name: {0: torch.export.Dim("batch", min=1, max=64)} for name in names}
    with torch.no_grad():
        sized = npu.compile(loaded.model, tensors(loaded), dynamic_shapes=open_batch, max_sizes=64)
        extra = []
        for batch in range(3, 4 + repeats):
            inputs = tensors(loaded, batch)
            first = common.seconds(lambda inputs=inputs: sized(*inputs))
            extra.append(first - common.seconds(lambda inputs=inputs: sized(*inputs)))
        inputs = tensors(loaded, 1)  # whose products may join weights
        first = common.seconds(lambda: sized(*inputs))
        one = first - common.seconds(lambda: sized(*inputs))
    return {"new_size_s": statistics.median(extra[1:]), "new_size_s_batch_1": one}


def tensors(loaded: Workload, batch: int | None = None) -> tuple[Any, ...]:
    import torch

    values = [torch.from_numpy(value) for value in loaded.inputs.values()]
    return tuple(value if batch is None else value[:1].repeat(batch, *[1] * (value.ndim - 1)) for value in values)


def main() -> int:
    args = common.parser(__doc__ or "").parse_args()
    figures: dict[str, Any] = {}
    rows = []
    for case in CASES:
        found = figures[case] = compiled_once(case, args.repeats)
        rows.append([case, str(found["nodes"]), str(found["ops"]), f"{found['compile_s'] * 1e3:.0f}"])
    for case in SIZED:
        found = new_sizes(case, args.repeats)
        figures[f"{case}, new sizes"] = found
        rows.append([f"{case}, a new batch", "", "", f"{found['new_size_s'] * 1e3:.0f}"])
        rows.append([f"{case}, batch 1", "", "", f"{found['new_size_s_batch_1'] * 1e3:.0f}"])
    common.report("compile", ["Model", "IR nodes", "ops of main", "ms"], rows, figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

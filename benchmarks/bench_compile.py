"""How long the compiler takes for the IRs of image models, and how large their programs are."""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common
from benchmarks.bench_models import image, model

CASES = ("resnet18", "resnet50", "mobilenet_v3_small", "densenet121", "convnext_tiny")


def main() -> int:
    args = common.parser(__doc__ or "").parse_args()
    import npu_compiler
    import torch
    from torch_ir import extract_ir

    figures, rows = {}, []
    for case in CASES:
        ir = extract_ir(model(case), torch.from_numpy(image()))
        times = [common.seconds(lambda ir=ir: npu_compiler.compile(ir)) for _ in range(args.repeats + 1)][1:]
        program = npu_compiler.compile(ir)
        nodes, ops, median = len(ir.nodes), len(program.data["main"]), statistics.median(times)
        figures[case] = {"compile_s": median, "nodes": nodes, "ops": ops}
        rows.append([case, str(nodes), str(ops), f"{median * 1e3:.0f}"])
    common.report("compile", ["Model", "IR nodes", "ops of main", "ms"], rows, figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

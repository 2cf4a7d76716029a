"""Running models from IR beside eager PyTorch: time in pairs in one process, peak memory in processes of their own.

python benchmarks/bench_execution.py [--json FILE]
"""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
from torch_ir import IRExecutor, extract_ir

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import in_child, paired, parser, peak_during, ratio_text, report
from tests.models.zoo.image_models import build
from tests.models.zoo.language_models import bert

MODELS = {
    "resnet50": lambda: (build("resnet50"), (torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0)),)),
    "bert_base": lambda: (bert(), (torch.randint(0, 30000, (1, 128)),)),
}


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    warnings.filterwarnings("ignore")
    if args.child:
        print(json.dumps(peak(*args.child.split(":"))))
        return
    results: dict[str, Any] = {}
    rows = []
    for name in MODELS:
        timing = time_pairs(name, args.repeats)
        memory = {who: in_child(__file__, "--child", f"{name}:{who}") for who in ("ir", "eager")}
        results[name] = {"time": timing, "peak": memory}
        share = memory["ir"] / memory["eager"]
        ours, eager = timing["ours"] * 1e3, timing["theirs"] * 1e3
        rows.append([f"{name}: time", f"{ours:.1f} ms", f"{eager:.1f} ms", ratio_text(timing), "1.05"])
        rows.append(
            [
                f"{name}: peak memory",
                f"{memory['ir'] / 1e6:.1f} MB",
                f"{memory['eager'] / 1e6:.1f} MB",
                f"{share:.3f}",
                "1",
            ]
        )
    report(
        "Execution, float32, batch 1",
        ["what", "IR", "eager", "ratio (range)", "at most"],
        rows,
        results,
        args.json,
    )


def runners(name: str) -> dict[str, Any]:
    model, inputs = MODELS[name]()
    executor = IRExecutor(extract_ir(model, inputs), model.state_dict())

    def eager() -> Any:
        with torch.no_grad():
            return model(*inputs)

    return {"ir": lambda: executor.execute(inputs), "eager": eager}


def time_pairs(name: str, repeats: int, inner: int = 10) -> dict[str, Any]:
    run = runners(name)

    def many(fn: Any) -> Any:
        return lambda: [fn() for _ in range(inner)]

    result = paired(many(run["ir"]), many(run["eager"]), repeats)
    return {**result, "ours": result["ours"] / inner, "theirs": result["theirs"] / inner}


def peak(name: str, who: str) -> int:
    """The smallest of several, each after a run that has warmed the allocator."""
    run = runners(name)[who]
    run()
    return min(peak_during(run) for _ in range(5))


if __name__ == "__main__":
    main()

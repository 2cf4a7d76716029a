"""How long extraction takes beside torch.export alone, saving and loading, and the memory a 70B model needs.

python benchmarks/bench_extraction.py [--json FILE]
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.common import in_child, paired, parser, peak_during, ratio_text, report, seconds
from tests.models.zoo.language_models import llama_70b_on_meta, qwen2_5_1_5b_on_meta

LIMITS = {"extract": 1.2, "save": 0.1, "load": 0.1, "llama_70b_peak": 0.5e9}


def main() -> None:
    args = parser(__doc__ or "").parse_args()
    warnings.filterwarnings("ignore")
    if args.child == "llama":
        print(json.dumps(llama_peak()))
        return
    results = {**qwen(args.repeats), "llama_70b": in_child(__file__, "--child", "llama")}
    extract, llama = results["extract"], results["llama_70b"]
    rows = [
        [
            "Qwen2.5-1.5B: extract_ir",
            f"{extract['ours']:.2f} s",
            f"{extract['theirs']:.2f} s",
            ratio_text(extract),
            "1.2",
        ],
        ["Qwen2.5-1.5B: save IR", f"{results['save'] * 1e3:.0f} ms", "", "", "100 ms"],
        ["Qwen2.5-1.5B: load IR", f"{results['load'] * 1e3:.0f} ms", "", "", "100 ms"],
        [f"Llama 70B: extract_ir, {llama['nodes']} nodes", f"{llama['seconds']:.1f} s", "", "", ""],
        ["Llama 70B: peak memory over imports", f"{llama['peak'] / 1e6:.0f} MB", "", "", "500 MB"],
    ]
    report(
        "Extraction on meta",
        ["what", "torch_ir", "torch.export", "ratio (range)", "at most"],
        rows,
        results,
        args.json,
    )


def prompt() -> tuple[Any]:
    import torch

    return (torch.zeros(1, 128, dtype=torch.int64, device="meta"),)


def qwen(repeats: int) -> dict[str, Any]:
    import torch
    from torch_ir import IR, extract_ir

    model, inputs = qwen2_5_1_5b_on_meta(), prompt()
    kwargs = {"use_cache": False}
    result: dict[str, Any] = {
        "extract": paired(
            lambda: extract_ir(model, inputs, kwargs),
            lambda: torch.export.export(model, inputs, kwargs, strict=False),
            repeats,
        )
    }
    ir = extract_ir(model, inputs, kwargs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ir.json"
        result["save"] = sorted(seconds(lambda: ir.save(path)) for _ in range(repeats))[repeats // 2]
        result["load"] = sorted(seconds(lambda: IR.load(path)) for _ in range(repeats))[repeats // 2]
        result["file_bytes"] = path.stat().st_size
    return result


def llama_peak() -> dict[str, Any]:
    from torch_ir import extract_ir

    # Classes are imported and the first export has been made: what imports take is not counted.
    extract_ir(llama_70b_on_meta(layers=1), prompt(), {"use_cache": False})
    found: dict[str, Any] = {}

    def run() -> None:
        model = llama_70b_on_meta()
        found["seconds"] = seconds(lambda: found.update(ir=extract_ir(model, prompt(), {"use_cache": False})))

    peak = peak_during(run)
    return {"peak": peak, "nodes": len(found["ir"].nodes), "seconds": found["seconds"]}


if __name__ == "__main__":
    main()

"""Image models and encoders of text on an NVIDIA GPU, beside PyTorch compiled to CUDA graphs: inputs on the GPU, to
results on the GPU. Each side is a process of its own."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common, peers, workloads

PEERS = ("npu", "torch", "torch-graphs")
CASES = (
    "resnet50:float32:1", "resnet50:float16:1", "resnet50:float16:8", "vit_b_16:float16:1", "vit_b_16:float16:8",
    "bert_base:float16:1", "bert_base:float32:1", "relu:float32:1",
)  # fmt: skip
ONE_OP = "relu"  # what a call costs


def prepared(case: str) -> tuple[Any, tuple[Any, ...]]:
    """The module, and its inputs, on the GPU."""
    import torch

    name, dtype, batch = case.split(":")
    if name == ONE_OP:
        return torch.nn.ReLU(), (torch.randn(4096, device="cuda", dtype=getattr(torch, dtype)),)
    work = workloads.workload(name, int(batch))
    model = work.model.to(device="cuda", dtype=getattr(torch, dtype))
    tensors = [torch.from_numpy(array).to("cuda") for array in work.inputs.values()]
    return model, tuple(x.to(getattr(torch, dtype)) if x.is_floating_point() else x for x in tensors)


def prepare_npu(case: str) -> Any:
    import npu_compiler
    from npu_runtime import Device, Executor, NPUBuffer, load_weights
    from torch_ir import extract_ir

    model, tensors = prepared(case)
    device = Device("cuda")
    program = npu_compiler.compile(extract_ir(model, tensors))
    weights = load_weights(dict(model.state_dict()), program, device)
    names = [spec.name for spec in program.input_specs]
    inputs = {name: NPUBuffer.from_dlpack(tensor) for name, tensor in zip(names, tensors, strict=True)}
    session = Executor(program, device).session()
    session.run(inputs, weights)
    session.settle()
    name = program.output_specs[0].name
    return (
        lambda: session.run(inputs, weights),
        lambda: session.run(inputs, weights)[name].to_numpy(copy=True).astype("float64"),
    )


def prepare_torch(case: str, kind: str) -> Any:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    model, tensors = prepared(case)
    if kind == "torch-graphs":
        model = torch.compile(model, mode="reduce-overhead", dynamic=False)

    def run() -> Any:
        with torch.no_grad():
            result = model(*tensors)
        torch.cuda.synchronize()
        return result

    for _ in range(4):
        run()
    return run, lambda: run().double().cpu().numpy()


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--worker", help="of the driver, which starts one for each peer")
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, of: " + ", ".join(PEERS))
    parser.add_argument("--cases", default=",".join(CASES), help="comma-separated, MODEL:DTYPE:BATCH each")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=50)
    args = parser.parse_args()
    if args.worker:
        peers.serve(lambda case: prepare_npu(case) if args.worker == "npu" else prepare_torch(case, args.worker))
        return 0
    from npu_runtime import devices

    if not any(found.available for found in devices() if found.kind == "cuda"):
        print("not run: there is no NVIDIA GPU here, or `npu doctor` says what it lacks")
        return 0
    running = [peers.Peer(name, __file__, 4) for name in args.peers.split(",") if name in PEERS]
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = peers.drive(running, args.cases.split(","), "torch", args.rounds, args.runs, lambda: 1.0, folder)
    finally:
        for peer in running:
            peer.close()
    shown = []
    for case, by_peer in found.items():
        graphs = by_peer.get("torch-graphs", {}).get("median_ms")
        for name, row in sorted(by_peer.items(), key=lambda item: item[1].get("median_ms", 1e9)):
            median = row.get("median_ms")
            times = [f"{row[key]:.3f}" if key in row else row.get("error", "") for key in ("median_ms", "min_ms")]
            ratio = f"{median / graphs:.2f}" if median and graphs else ""
            shown.append([case, name, *times, ratio, f"{row.get('difference', 0):.1e}"])
    columns = ["Case", "Peer", "median ms", "min ms", "x torch-graphs", "difference"]
    common.report("cuda", columns, shown, {"models": found}, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

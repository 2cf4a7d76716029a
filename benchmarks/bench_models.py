"""Image models and encoders of text beside their peers: torch eager and compiled, ONNX Runtime and OpenVINO where
they are installed."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common, peers, workloads

PEERS = ("npu", "torch", "torch-compile", "torch-frozen", "onnxruntime", "openvino")
CASES = (
    "resnet18", "resnet50", "vgg16_bn", "densenet121", "inception_v3", "convnext_tiny", "vit_b_16", "swin_t",
    "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0", "mnasnet1_0", "shufflenet_v2_x1_0", "resnext50_32x4d",
    "regnet_y_400mf",
)  # fmt: skip
THREADS = int(os.environ.get("NPU_NUM_THREADS", "2"))
BATCH = int(os.environ.get("NPU_BENCH_BATCH", "1"))  # which workers inherit


def workload(case: str) -> workloads.Workload:
    import torch

    torch.set_num_threads(THREADS)
    return workloads.workload(case, BATCH)


def tensors(work: workloads.Workload) -> tuple[Any, ...]:
    import torch

    return tuple(torch.from_numpy(array) for array in work.inputs.values())


def prepare_npu(case: str) -> Any:
    import npu_compiler
    from npu_runtime import Device, Executor, NPUBuffer, load_weights
    from torch_ir import extract_ir

    work = workload(case)
    program = npu_compiler.compile(extract_ir(work.model, tensors(work)))
    device = Device("cpu")
    executor = Executor(program, device, threads=THREADS)
    weights = load_weights(work.model.state_dict(), program, device)
    inputs = {name: NPUBuffer.from_numpy(array, device) for name, array in work.inputs.items()}
    name = program.output_specs[0].name

    def result() -> Any:
        return executor.run(inputs, weights)[name].to_numpy()

    return lambda: executor.run(inputs, weights), result


def prepare_torch(case: str, kind: str) -> Any:
    import torch

    work = workload(case)
    net, inputs = work.model, tensors(work)
    if kind == "torch-frozen":
        import torch._inductor.config

        torch._inductor.config.freezing = True
    if kind != "torch":
        net = torch.compile(net)

    def run() -> Any:
        with torch.no_grad():
            return net(*inputs)

    for _ in range(3):
        run()
    return run, lambda: run().numpy()


def onnx_file(case: str) -> str:
    import torch

    name = f"npu-bench-{os.getppid()}-{case.replace('/', '-')}.onnx"
    path = os.path.join(tempfile.gettempdir(), name)
    if not os.path.exists(path):
        work = workload(case)
        torch.onnx.export(
            work.model, tensors(work), path, dynamo=True, external_data=False, input_names=list(work.inputs)
        )
    return path


def prepare_onnxruntime(case: str) -> Any:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = THREADS, 1
    session = ort.InferenceSession(onnx_file(case), options, providers=["CPUExecutionProvider"])
    given = {value.name for value in session.get_inputs()}  # a mask of ones may be folded away
    feed = {name: array for name, array in workload(case).inputs.items() if name in given}
    return lambda: session.run(None, feed), lambda: session.run(None, feed)[0]


def prepare_openvino(case: str) -> Any:
    import openvino

    core = openvino.Core()
    net = core.read_model(onnx_file(case))
    feed = workload(case).inputs
    given = [value.get_any_name() for value in net.inputs]
    net.reshape({name: list(feed[name].shape) for name in given})
    options = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS}
    request = core.compile_model(net, "CPU", {**options, "NUM_STREAMS": 1}).create_infer_request()
    for name in given:
        request.set_tensor(name, openvino.Tensor(feed[name], shared_memory=True))

    def run() -> Any:
        return request.infer(), feed  # which the request only borrows

    def result() -> Any:
        run()
        return request.get_output_tensor().data.copy()

    return run, result


def worker(name: str) -> None:
    makers = {"npu": prepare_npu, "onnxruntime": prepare_onnxruntime, "openvino": prepare_openvino}
    peers.serve(makers.get(name) or (lambda case: prepare_torch(case, name)))


def installed(name: str) -> bool:
    needs = {
        "npu": ["npu_compiler"],
        "onnxruntime": ["onnxruntime", "onnxscript"],
        "openvino": ["openvino", "onnxscript"],
    }
    return all(importlib.util.find_spec(module) for module in needs.get(name, ["torch"]))


def table(case: str, by_peer: dict[str, Any], limit_ms: float) -> list[list[str]]:
    """Fastest first. "steady" leaves out blocks during which the machine's speed changed, and scales the others to the
    machine at its best."""
    rows = []
    frozen = by_peer.get("torch-frozen", {}).get("median_ms")
    for name, row in sorted(by_peer.items(), key=lambda item: item[1].get("median_ms", 1e9)):
        if "median_ms" not in row:
            rows.append([case, name, row.get("error", ""), "", "", "", ""])
            continue
        ratio = f"{row['median_ms'] / frozen:.2f}" if frozen else ""
        steady = f"{row['times_probe'] * limit_ms:.2f}" if "times_probe" in row else ""
        difference = f"{row['difference']:.1e}" if "difference" in row else ""
        rows.append([case, name, f"{row['median_ms']:.2f}", f"{row['min_ms']:.2f}", ratio, steady, difference])
    return rows


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, of: " + ", ".join(PEERS))
    parser.add_argument(
        "--cases",
        default=",".join(CASES),
        help="comma-separated: models of torchvision, timm/NAME, " + ", ".join(workloads.ENCODERS),
    )
    parser.add_argument(
        "--processor-time",
        action="store_true",
        help="count the processor's time; with NPU_NUM_THREADS=1, on a busy machine",
    )
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=10)
    args = parser.parse_args()
    if args.worker:
        worker(args.worker)
        return 0
    if args.processor_time:
        if THREADS != 1:
            parser.error("--processor-time needs NPU_NUM_THREADS=1: several threads count the time they wait, too")
        os.environ[peers.PROCESSOR_TIME] = "1"
    os.environ["NPU_BENCH_BATCH"] = str(args.batch)
    from npu_runtime import _core

    def probe() -> float:
        return 1e3 / _core.measure_fma_gflops(THREADS)

    limits = _core.measure_limits(THREADS)
    names = [n for n in args.peers.split(",") if n in PEERS]
    missing = [n for n in names if not installed(n)]
    running = [peers.Peer(n, __file__, THREADS) for n in names if n not in missing]
    try:
        with tempfile.TemporaryDirectory() as folder:
            found = peers.drive(running, args.cases.split(","), "torch", args.rounds, args.runs, probe, folder)
    finally:
        for peer in running:
            peer.close()
    blocks = [b for by_peer in found.values() for row in by_peer.values() for b in row.get("blocks", [])]
    best = min((ms for b in blocks for ms in b["probe_ms"]), default=1e3 / limits.fma_gflops)
    rows = [row for case, by_peer in found.items() for row in table(case, by_peer, best)]
    figures = {"limits": {"fma_gflops": 1e3 / best, "read_gbytes": limits.read_gbytes}, "models": found}
    title = f"{THREADS} threads; FMA limit {1e3 / best:.0f} GFLOP/s, reading {limits.read_gbytes:.0f} GB/s"
    if missing:
        title += f"; not installed: {', '.join(missing)}"
    columns = ["Model", "Peer", "median ms", "min ms", "x frozen", "steady ms", "difference"]
    common.report(title, columns, rows, figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

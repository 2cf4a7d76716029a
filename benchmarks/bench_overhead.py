"""What one call costs beside the work: adding two vectors of 16 float32, from Python to the result."""

from __future__ import annotations

import importlib.util
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common

CALLS = 5000


BACKENDS = ("eager", "inductor", "npu")


def compiled() -> dict[str, Callable[[], Any]]:
    """The same addition through ``torch.compile``, each backend with a copy of the function."""
    import torch

    a, b = torch.arange(16.0), torch.ones(16)

    def caller(backend: str) -> Callable[[], Any]:
        def add(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return x + y

        options = {"options": {"device": "cpu", "fallback": "error"}} if backend == "npu" else {}
        call = torch.compile(add, backend=backend, **options)

        def run() -> torch.Tensor:
            with torch.no_grad():
                return call(a, b)

        return run

    has_compiler = any(map(shutil.which, ("g++", "clang++")))  # which inductor needs
    torch.compiler.reset()
    return {f"torch.compile, {b}": caller(b) for b in BACKENDS if b != "inductor" or has_compiler}


def ours() -> dict[str, Callable[[], Any]]:
    import npu
    import npu_compiler
    import numpy as np
    import torch
    from npu_runtime import Device, Executor, NPUBuffer
    from torch_ir import extract_ir

    class Add(torch.nn.Module):
        def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a + b

    arrays = np.arange(16, dtype=np.float32), np.ones(16, np.float32)
    tensors = tuple(torch.from_numpy(a) for a in arrays)
    program = npu_compiler.compile(extract_ir(Add(), tensors))
    device = Device("cpu")
    executor = Executor(program, device)
    names = [spec.name for spec in program.input_specs]
    run = executor.run
    given = {
        "npu, buffers": {n: NPUBuffer.from_numpy(a, device) for n, a in zip(names, arrays, strict=True)},
        "npu, NumPy": dict(zip(names, arrays, strict=True)),
        "npu, torch": dict(zip(names, tensors, strict=True)),
    }
    compiled = npu.compile(Add(), tensors, device=device)
    calls = {label: lambda inputs=inputs: run(inputs) for label, inputs in given.items()}
    return {**calls, "npu.compile": lambda: compiled(*tensors), "npu.compile, NumPy": lambda: compiled(*arrays)}


def peers() -> dict[str, Callable[[], Any]]:
    import numpy as np
    import torch

    a, b = np.arange(16, dtype=np.float32), np.ones(16, np.float32)
    ta, tb = torch.from_numpy(a), torch.from_numpy(b)
    found: dict[str, Callable[[], Any]] = {"NumPy": lambda: np.add(a, b), "torch eager": lambda: torch.add(ta, tb)}
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnx"):
        import onnxruntime
        from onnx import TensorProto, helper

        infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [16]) for n in "abc"]
        graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "add", infos[:2], infos[2:])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        feed = {"a": a, "b": b}
        found["ONNX Runtime"] = lambda: session.run(None, feed)
    return found


def microseconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - start) / CALLS * 1e6


def main() -> int:
    args = common.parser(__doc__ or "").parse_args()
    calls = {**ours(), **peers(), **compiled()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(args.repeats + 1):
        for name, call in calls.items():
            times[name].append(microseconds(call))
    figures = {name: {"median_us": statistics.median(t[1:]), "min_us": min(t[1:])} for name, t in times.items()}
    rows = [[name, f"{f['median_us']:.2f}", f"{f['min_us']:.2f}"] for name, f in figures.items()]
    common.report("one call, microseconds", ["Caller", "median", "min"], rows, figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

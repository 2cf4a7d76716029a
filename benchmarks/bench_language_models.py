"""Qwen2.5-1.5B in bfloat16 (random weights): tokens with a filled cache, and a prompt of 128, beside PyTorch, and
beside llama.cpp and OpenVINO where they are installed.

Every case computes the scores of the last position only. Decoding is held against reading all weights once from memory,
the prompt against its multiplications at the speed of the hardware's bfloat16 products. With ``--device cuda`` both are
measured on the GPU, by PyTorch, which then takes part eagerly and compiled to CUDA graphs.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common, language_peers, peers

PEERS = {"cpu": ("npu", "torch", "torch-frozen", "llama.cpp", "openvino"), "cuda": ("npu", "torch", "torch-graphs")}
CASES = ("decode128", "decode1024", "prefill128")
THREADS = int(os.environ.get("NPU_NUM_THREADS", "2"))
CAPACITY = int(os.environ.get("NPU_BENCH_CAPACITY", "2048"))
WEIGHTS = "NPU_BENCH_WEIGHTS"
LAYERS = "NPU_BENCH_LAYERS"  # fewer of them, to try the benchmark itself
NEEDS = {"llama.cpp": ("llama_cpp", "gguf"), "openvino": ("openvino",)}


def device() -> str:
    return os.environ.get("NPU_BENCH_DEVICE", "cpu")


def config() -> Any:
    from tests.models.zoo.language_models import qwen2_5_1_5b_config

    return qwen2_5_1_5b_config(dtype="bfloat16", **fewer_layers())


def fewer_layers() -> dict[str, int]:
    return {"num_hidden_layers": int(os.environ[LAYERS])} if os.environ.get(LAYERS) else {}


def architecture() -> Any:
    """On the meta device, but for what no checkpoint holds."""
    import torch

    from tests.models.zoo.language_models import qwen2_5_1_5b_on_meta

    torch.set_num_threads(THREADS)
    model = qwen2_5_1_5b_on_meta(dtype="bfloat16", **fewer_layers())
    model.model.rotary_emb = type(model.model.rotary_emb)(config())
    return model


def write_weights(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, parameter in architecture().named_parameters():
        values = torch.randn(parameter.shape, generator=generator) * 0.02
        tensors[name] = (1 + 5 * values if "norm" in name else values).bfloat16()
    save_file(tensors, path)


def tokens(count: int) -> Any:
    import numpy as np

    return np.random.default_rng(7).integers(0, config().vocab_size, 1025)[:count]


def past(case: str) -> int:
    """Positions that are filled before the step."""
    return int(case.removeprefix("decode")) if case.startswith("decode") else 0


def rows(case: str) -> int:
    return 1 if case.startswith("decode") else int(case.removeprefix("prefill"))


def prepare_npu(case: str) -> Any:
    import npu
    import numpy as np
    from npu_runtime import Device, load_weights

    generator = npu.Generator.from_model(
        architecture(), weights=load_weights(os.environ[WEIGHTS]), capacity=CAPACITY, buckets=(1, 128),
        device=Device(device()), threads=THREADS, stop_tokens=(),
    )  # fmt: skip
    filled, count = past(case), rows(case)
    if filled:
        generator.logits([int(t) for t in tokens(filled)])
    session, weights = generator._program(1, count).session, generator.weights
    inputs: dict[str, Any] = {
        "input_ids": tokens(filled + count)[None, -count:],
        "position": np.arange(filled, filled + count),
    }
    if count > 1:
        inputs["last"] = np.array([count - 1])
    session.run(inputs, weights)
    session.settle()
    return lambda: session.run(inputs, weights), lambda: session.run(inputs, weights)["logits"].to_numpy(copy=True)[0]


def prepare_torch(case: str, kind: str) -> Any:
    import torch
    from safetensors.torch import load_file
    from transformers import StaticCache

    model = architecture()
    model.load_state_dict(load_file(os.environ[WEIGHTS]), strict=False, assign=True)
    model.tie_weights()
    model.to(device())
    step: Callable[..., Any] = model
    if kind == "torch-frozen":
        import torch._inductor.config

        torch._inductor.config.freezing = True
        step = torch.compile(model, dynamic=False)
    if kind == "torch-graphs":
        step = torch.compile(model, mode="reduce-overhead", dynamic=False)
    filled, count = past(case), rows(case)
    cache = StaticCache(config=config(), max_cache_len=filled + count + 64)
    every = torch.from_numpy(tokens(filled + count))[None].to(device())

    def run(of: Callable[..., Any] = step, first: int = filled) -> Any:
        positions = torch.arange(first, filled + (count if first == filled else 0), device=device())[None]
        for layer in cache.layers:
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length.fill_(first)
        with torch.no_grad():
            ids = every[:, first : first + positions.shape[1]]
            result = of(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)
        if device() == "cuda":
            torch.cuda.synchronize()
        return result

    if filled:
        run(model, 0)
    for _ in range(4 if kind == "torch-graphs" else 2):
        run()
    return run, lambda: run().logits[0, -1].float().cpu().numpy()


def prepare_other(case: str, kind: str) -> Any:
    prepare = language_peers.prepare_llama if kind == "llama.cpp" else language_peers.prepare_openvino
    ids = tokens(past(case) + rows(case))
    return prepare(Path(os.environ[WEIGHTS]), config(), ids, rows(case), THREADS)


def prepare(case: str, name: str) -> Any:
    if name == "npu":
        return prepare_npu(case)
    return prepare_other(case, name) if name in NEEDS else prepare_torch(case, name)


def installed(name: str) -> bool:
    return all(importlib.util.find_spec(module) for module in NEEDS.get(name, ()))


@functools.cache
def parameter_count() -> int:
    return sum(p.numel() for p in architecture().parameters())


def read_gbytes() -> float:
    """A second, of memory."""
    if device() == "cuda":
        return gpu_limits()[0]
    from npu_runtime import _core

    return _core.measure_limits(THREADS).read_gbytes


def bfloat16_gflops() -> float:
    if device() == "cuda":
        return gpu_limits()[1]
    from npu_runtime import _core

    return 2 * _core.measure_fma_gflops(THREADS)  # in pairs: twice the rate of float32


@functools.cache
def gpu_limits() -> tuple[float, float]:
    """Gigabytes a second while summing a gigabyte, and gigaflops of a large product."""
    import torch

    def seconds(run: Callable[[], Any]) -> float:
        best = float("inf")
        for _ in range(10):
            torch.cuda.synchronize()
            began = time.perf_counter()
            run()
            torch.cuda.synchronize()
            best = min(best, time.perf_counter() - began)
        return best

    large = torch.ones(2**29, dtype=torch.bfloat16, device=device())
    square = torch.ones(8192, 8192, dtype=torch.bfloat16, device=device())
    return large.nbytes / seconds(large.sum) / 1e9, 2 * 8192**3 / seconds(lambda: square @ square) / 1e9


def limit_ms(case: str) -> float:
    """Now: reading all weights, or multiplying with them."""
    head = config().vocab_size * config().hidden_size
    parameters = parameter_count()
    if case.startswith("decode"):
        return parameters * 2 / read_gbytes() / 1e6
    return (2 * (parameters - head) * rows(case) + 2 * head) / bfloat16_gflops() / 1e6


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=tuple(PEERS), default="cpu", help="(default: %(default)s)")
    every = "; ".join(f"{where}: {', '.join(names)}" for where, names in PEERS.items())
    parser.add_argument("--peers", help="comma-separated, of: " + every)
    parser.add_argument("--cases", default=",".join(CASES), help="decode and prefill, each with a number")
    parser.add_argument("--weights", type=Path, help="where the 3 GB of weights are, or are to be written")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.worker:
        peers.serve(functools.partial(prepare, name=args.worker))
        return 0
    os.environ["NPU_BENCH_DEVICE"] = args.device
    with tempfile.TemporaryDirectory() as folder:
        path = args.weights or Path(folder) / "qwen.safetensors"
        if not path.exists():
            began = time.perf_counter()
            write_weights(path)
            print(f"wrote {path.stat().st_size / 1e9:.2f} GB of weights in {time.perf_counter() - began:.0f} s")
        os.environ[WEIGHTS] = str(path)
        _compare(args, folder)
    return 0


def _compare(args: argparse.Namespace, folder: str) -> None:
    shown: list[list[str]] = []
    found = {}
    names = args.peers.split(",") if args.peers else PEERS[device()]
    for name in names:
        if not installed(name):
            print(f"without {name}, which needs: pip install llama-cpp-python gguf openvino")
    names = [name for name in names if installed(name)]
    for case in args.cases.split(","):  # one at a time: each peer holds the weights, frozen ones a packed copy too
        running = [peers.Peer(name, __file__, THREADS) for name in names if name in PEERS[device()]]
        try:
            result = peers.drive(
                running, [case], "torch", args.rounds, args.runs, functools.partial(limit_ms, case), folder
            )[case]
        finally:
            for peer in running:
                peer.close()
        for name, row in sorted(result.items(), key=lambda item: item[1].get("median_ms", 1e9)):
            times = [f"{row[key]:.1f}" if key in row else row.get("error", "") for key in ("median_ms", "min_ms")]
            ratio = f"{row['times_probe']:.2f}" if "times_probe" in row else ""
            shown.append([case, name, *times, ratio, f"{row.get('difference', 0):.1e}"])
        found[case] = result
    columns = ["Case", "Peer", "median ms", "min ms", "x limit", "difference"]
    common.report(f"{device()}, {THREADS} threads, capacity {CAPACITY}", columns, shown, {"models": found}, args.json)


if __name__ == "__main__":
    sys.exit(main())

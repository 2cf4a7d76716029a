"""Qwen2.5-1.5B in bfloat16 (random weights): tokens with a filled cache, and a prompt of 128, beside PyTorch.

Every case computes the scores of the last position only. Decoding is held against reading all weights once from memory,
the prompt against its multiplications at the speed of the hardware's bfloat16 products.
"""

from __future__ import annotations

import argparse
import functools
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common, peers

PEERS = ("npu", "torch", "torch-frozen")
CASES = ("decode128", "decode1024", "prefill128")
THREADS = int(os.environ.get("NPU_NUM_THREADS", "2"))
CAPACITY = int(os.environ.get("NPU_BENCH_CAPACITY", "2048"))
WEIGHTS = "NPU_BENCH_WEIGHTS"


def config() -> Any:
    from tests.models.zoo.language_models import qwen2_5_1_5b_config

    return qwen2_5_1_5b_config(dtype="bfloat16")


def architecture() -> Any:
    """On the meta device, but for what no checkpoint holds."""
    import torch

    from tests.models.zoo.language_models import qwen2_5_1_5b_on_meta

    torch.set_num_threads(THREADS)
    model = qwen2_5_1_5b_on_meta(dtype="bfloat16")
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
        device=Device("cpu"), threads=THREADS, stop_tokens=(),
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
    return lambda: session.run(inputs, weights), lambda: session.run(inputs, weights)["logits"].to_numpy(copy=True)[0]


def prepare_torch(case: str, kind: str) -> Any:
    import torch
    from safetensors.torch import load_file
    from transformers import StaticCache

    model = architecture()
    model.load_state_dict(load_file(os.environ[WEIGHTS]), strict=False, assign=True)
    model.tie_weights()
    step: Callable[..., Any] = model
    if kind == "torch-frozen":
        import torch._inductor.config

        torch._inductor.config.freezing = True
        step = torch.compile(model, dynamic=False)
    filled, count = past(case), rows(case)
    cache = StaticCache(config=config(), max_cache_len=filled + count + 64)
    every = torch.from_numpy(tokens(filled + count))[None]

    def run(of: Callable[..., Any] = step, first: int = filled) -> Any:
        positions = torch.arange(first, filled + (count if first == filled else 0))[None]
        for layer in cache.layers:
            if hasattr(layer, "cumulative_length"):
                layer.cumulative_length.fill_(first)
        with torch.no_grad():
            ids = every[:, first : first + positions.shape[1]]
            return of(input_ids=ids, position_ids=positions, past_key_values=cache, use_cache=True, logits_to_keep=1)

    if filled:
        run(model, 0)
    for _ in range(2):
        run()
    return run, lambda: run().logits[0, -1].float().numpy()


@functools.cache
def parameter_count() -> int:
    return sum(p.numel() for p in architecture().parameters())


def limit_ms(case: str) -> float:
    """Now: reading all weights, or multiplying with them in pairs of bfloat16 (twice the rate of float32)."""
    from npu_runtime import _core

    head = config().vocab_size * config().hidden_size
    parameters = parameter_count()
    if case.startswith("decode"):
        return parameters * 2 / _core.measure_limits(THREADS).read_gbytes / 1e6
    return (2 * (parameters - head) * rows(case) + 2 * head) / (2 * _core.measure_fma_gflops(THREADS)) / 1e6


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--peers", default=",".join(PEERS), help="comma-separated, of: " + ", ".join(PEERS))
    parser.add_argument("--cases", default=",".join(CASES), help="decode and prefill, each with a number")
    parser.add_argument("--weights", type=Path, help="where the 3 GB of weights are, or are to be written")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.worker:
        peers.serve(lambda case: prepare_npu(case) if args.worker == "npu" else prepare_torch(case, args.worker))
        return 0
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
    for case in args.cases.split(","):  # one at a time: each peer holds the weights, frozen ones a packed copy too
        running = [peers.Peer(name, __file__, THREADS) for name in args.peers.split(",") if name in PEERS]
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
    common.report(f"{THREADS} threads, capacity {CAPACITY}", columns, shown, {"models": found}, args.json)


if __name__ == "__main__":
    sys.exit(main())

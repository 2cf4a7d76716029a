"""Qwen2.5-1.5B in bfloat16 (random weights): tokens with a filled cache, and a prompt of 128, beside PyTorch, and
beside llama.cpp and OpenVINO where they are installed.

Every case computes the scores of the last position only. Decoding is held against reading all weights once from memory,
the prompt against its multiplications at the speed of the hardware's bfloat16 products. With ``--device cuda`` both are
measured on the GPU, by PyTorch, which then takes part eagerly and compiled to CUDA graphs.

``--forms q8_0,q4_0,q4_k`` compares quantised weights instead, on the CPU: ours and llama.cpp read the same GGUF file,
and OpenVINO has INT8 or INT4 weights; beside them ours in bfloat16. The limit is then the time to read that file. The
case start128 is the time from the start of a process to the first token after a prompt, when files and programs are
cached. Tables also have the most memory that a process takes.
"""

from __future__ import annotations

import argparse
import functools
import importlib.util
import os
import subprocess
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
DTYPE = "NPU_BENCH_DTYPE"  # of our activations beside quantised weights
LAYERS = "NPU_BENCH_LAYERS"  # fewer of them, to try the benchmark itself
NEEDS = {"llama.cpp": ("llama_cpp", "gguf"), "openvino": ("openvino",)}
FORMS = ("q8_0", "q4_0", "q4_k")
VOCABULARY = 151936  # without importing transformers, which takes longer than a first token


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

    return np.random.default_rng(7).integers(0, VOCABULARY, 1025)[:count]


def past(case: str) -> int:
    """Positions that are filled before the step."""
    return int(case.removeprefix("decode")) if case.startswith("decode") else 0


def rows(case: str) -> int:
    return 1 if case.startswith("decode") else int(case.removeprefix("prefill"))


def our_generator(form: str) -> Any:
    import npu
    from npu_runtime import Device, load_weights

    options: dict[str, Any] = {
        "capacity": CAPACITY, "buckets": (1, 128), "device": Device(device()), "threads": THREADS, "stop_tokens": (),
    }  # fmt: skip
    weights = Path(os.environ[WEIGHTS])
    if not form:
        return npu.Generator.from_model(architecture(), weights=load_weights(weights), **options)
    file = language_peers.file_of(f"npu:{form}", weights)
    dtype = os.environ.get(DTYPE, "bfloat16")
    return npu.Generator.from_pretrained(
        file, dtype=dtype, cache=weights.with_suffix(".programs"), tokenizer=None, **options
    )


def prepare_npu(case: str, form: str) -> Any:
    import numpy as np

    generator = our_generator(form)
    filled, count = past(case), rows(case)
    if filled:
        generator.logits([int(t) for t in tokens(filled)])
    session = generator._program(1, count).session
    weights = generator.weights
    inputs: dict[str, Any] = {
        "input_ids": tokens(filled + count)[None, -count:],
        "position": np.arange(filled, filled + count),
    }
    if count > 1:
        inputs["last"] = np.array([count - 1])
    if device() == "cuda":
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


def prepare(case: str, name: str) -> Any:
    base, _, form = name.partition(":")
    if base == "npu":
        return prepare_npu(case, form)
    if base not in NEEDS:
        return prepare_torch(case, name)
    file, ids = language_peers.file_of(name, Path(os.environ[WEIGHTS])), tokens(past(case) + rows(case))
    if base == "llama.cpp":
        return language_peers.prepare_llama(file, VOCABULARY, ids, rows(case), THREADS)
    return language_peers.prepare_openvino(file, ids, rows(case), THREADS)


def missing(name: str) -> str:
    """The packages that a peer needs and that are not installed, as pip calls them."""
    base, _, form = name.partition(":")
    modules = {*NEEDS.get(base, ()), *(NEEDS["llama.cpp"] if form and base == "npu" else ())}
    if form and base == "openvino":
        modules.add("nncf")
    absent = sorted(module for module in modules if importlib.util.find_spec(module) is None)
    return " ".join(absent).replace("llama_cpp", "llama-cpp-python")


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


def limit_ms(case: str, form: str = "") -> float:
    """Now: reading all weights, or multiplying with them."""
    if case.startswith("decode"):
        file = language_peers.file_of(f"npu:{form}", Path(os.environ[WEIGHTS]))
        return (file.stat().st_size if form else parameter_count() * 2) / read_gbytes() / 1e6
    head, parameters = VOCABULARY * config().hidden_size, parameter_count()
    return (2 * (parameters - head) * rows(case) + 2 * head) / bfloat16_gflops() / 1e6


def measure_starts(names: list[str], prompt: str, folder: str) -> dict[str, Any]:
    """From the start of a process to the token after a prompt, twice: the first time files are read."""
    found: dict[str, Any] = {name: {} for name in names}
    for name in names * 2:
        began = time.perf_counter()
        peer = peers.Peer(name, __file__, THREADS)
        try:
            if peer.ask(do="check", case=f"prefill{prompt}", file=os.path.join(folder, "first.npy")) is None:
                found[name] = {"error": peer.trouble}
            else:
                found[name] = {"median_ms": (time.perf_counter() - began) * 1e3}
                found[name] |= peer.ask(do="memory", case=prompt) or {}
        finally:
            peer.close()
    return found


def main() -> int:
    parser = common.parser(__doc__ or "")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--write", help=argparse.SUPPRESS)
    parser.add_argument("--device", choices=tuple(PEERS), default="cpu", help="(default: %(default)s)")
    every = "; ".join(f"{where}: {', '.join(names)}" for where, names in PEERS.items())
    parser.add_argument("--peers", help="comma-separated, of: " + every)
    parser.add_argument("--forms", help="quantised weights, of: " + ", ".join(FORMS))
    parser.add_argument("--cases", help="decode and prefill, and with --forms start, each with a number")
    parser.add_argument("--weights", type=Path, help="where the 3 GB of weights are, or are to be written")
    parser.add_argument("--processor-time", action="store_true", help="of one thread, on a busy machine")
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--runs", type=int, default=5)
    args = parser.parse_args()
    if args.worker:
        peers.serve(functools.partial(prepare, name=args.worker))
        return 0
    if args.write:
        name, _, form = args.write.partition(":")
        language_peers.write_file(args.write, args.weights, config)
        if name == "npu" and form:
            import tests.models.zoo  # noqa: F401 - before transformers

            our_generator(form).prepare()  # whose programs are cached
        return 0
    if args.processor_time:
        if THREADS != 1:
            parser.error("--processor-time counts one thread: NPU_NUM_THREADS=1")
        os.environ[peers.PROCESSOR_TIME] = "1"
    forms = args.forms.split(",") if args.forms else [""]
    if args.forms and (args.device != "cpu" or not {*forms} <= {*FORMS}):
        parser.error(f"--forms takes some of {', '.join(FORMS)}, and needs --device cpu")
    os.environ["NPU_BENCH_DEVICE"] = args.device
    with tempfile.TemporaryDirectory() as folder:
        path = args.weights or Path(folder) / "qwen.safetensors"
        if not path.exists():
            began = time.perf_counter()
            write_weights(path)
            print(f"wrote {path.stat().st_size / 1e9:.2f} GB of weights in {time.perf_counter() - began:.0f} s")
        os.environ[WEIGHTS] = str(path)
        found: dict[str, Any] = {}
        for form in forms:
            _compare(args, form, folder, found)
    return 0


def _peers(chosen: str | None, form: str) -> list[str]:
    """Those that take part, whose files are then written."""
    names = PEERS[device()]
    if form:
        names = ("npu", f"npu:{form}", f"llama.cpp:{form}")
        names += (f"openvino:{form}",) if form in language_peers.OPENVINO_MODES else ()
    if chosen:
        names = tuple(name for name in names if {name, name.partition(":")[0]} & {*chosen.split(",")})
    absent = {name: missing(name) for name in names}
    for name, packages in absent.items():
        if packages:
            print(f"without {name}, which needs: pip install {packages}")
    names = tuple(name for name in names if not absent[name])
    for name in names:  # in a process of its own, whose memory is given back
        command = [sys.executable, __file__, "--write", name, "--weights", os.environ[WEIGHTS]]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"the weights for {name} cannot be written:\n{done.stderr[-2000:]}")
    return [*names]


def _compare(args: argparse.Namespace, form: str, folder: str, found: dict[str, Any]) -> None:
    """Adds to what was found, and reports after each case: all of them take long."""
    names = _peers(args.peers, form)
    cases = args.cases.split(",") if args.cases else [*CASES, *(["start128"] if form else [])]
    for case in cases:
        result = _measure(args, case, form, names, folder)
        rows = []
        for name, row in sorted(result.items(), key=lambda item: item[1].get("median_ms", 1e9)):
            if "error" in row:
                print(f"{case}: {name} failed: {row['error']}")
            rows.append(_row(case, name, row))
        found.setdefault(form or "bfloat16", {})[case] = result
        columns = ["Case", "Peer", "median ms", "min ms", "x limit", "difference", "memory GB"]
        title = f"{device()}, {THREADS} threads, capacity {CAPACITY}" + (f", {form}" if form else "")
        common.report(title, columns, rows, {"models": found}, args.json)


def _measure(args: argparse.Namespace, case: str, form: str, names: list[str], folder: str) -> dict[str, Any]:
    """One case at a time: each peer holds the weights, frozen ones a packed copy too."""
    if case.startswith("start"):
        return measure_starts([name for name in names if ":" in name], case.removeprefix("start"), folder)
    running = [peers.Peer(name, __file__, THREADS) for name in names]
    reference = f"npu:{form}" if form else "torch"
    try:
        limit = functools.partial(limit_ms, case, form)
        result: dict[str, Any] = peers.drive(running, [case], reference, args.rounds, args.runs, limit, folder)[case]
        return result
    finally:
        for peer in running:
            peer.close()


def _row(case: str, name: str, row: dict[str, Any]) -> list[str]:
    times = [f"{row[key]:.1f}" if key in row else "failed" if "error" in row else "" for key in ("median_ms", "min_ms")]
    ratio = f"{row['times_probe']:.2f}" if "times_probe" in row else ""
    memory = f"{row['peak_bytes'] / 1e9:.2f}" if row.get("peak_bytes") else ""
    difference = f"{row['difference']:.1e}" if "difference" in row else ""
    return [case, name, *times, ratio, difference, memory]


if __name__ == "__main__":
    sys.exit(main())

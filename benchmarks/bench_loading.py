"""Loading weights beside reading the same file from the disk cache, and the memory that loading and preparing take."""

from __future__ import annotations

import json
import mmap
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import common

LAYERS, WIDTH, ROWS = 16, 4096, 64
BLOCK = 8 << 20


def make_model() -> Any:
    import torch

    layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
    return torch.nn.Sequential(*layers).requires_grad_(False)


def write_files(folder: Path) -> None:
    """A gigabyte of float32 weights, and the program that multiplies by all of them."""
    import npu_compiler
    import torch
    from safetensors.torch import save_file
    from torch_ir import extract_ir

    with torch.device("meta"):
        model = make_model()
    npu_compiler.compile(extract_ir(model, torch.empty(ROWS, WIDTH, device="meta"))).save(folder / "model.npubin")
    generator = torch.Generator().manual_seed(0)
    weights = {name: torch.randn(w.shape, generator=generator) * 0.01 for name, w in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors")


def read_file(path: Path) -> None:
    """Through one small buffer: the disk cache at its fastest."""
    block = bytearray(BLOCK)
    with path.open("rb", buffering=0) as file:
        while file.readinto(block):
            pass


def read_into_memory(path: Path) -> None:
    """Into fresh memory, which the system has to find and clear first; as packing has to."""
    memory = mmap.mmap(-1, path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        file.readinto(memory)
    memory.close()


def load_and_prepare(folder: Path) -> dict[str, Any]:
    """In a process of its own: seconds for each, and by how much memory grew."""
    from npu_runtime import Device, Executor, load_weights

    path, program = folder / "model.safetensors", folder / "model.npubin"
    executor = Executor(str(program), Device("cpu"))
    read_file(path)  # now it is in the disk cache
    size = path.stat().st_size
    kept: list[Any] = []

    def load() -> None:
        kept.append(load_weights(path, str(program), executor.device))

    read = statistics.median(common.seconds(lambda: read_file(path)) for _ in range(3))
    into = statistics.median(common.seconds(lambda: read_into_memory(path)) for _ in range(3))
    figures: dict[str, Any] = {"bytes": size, "read_s": read, "read_into_s": into, "load_s": common.seconds(load)}
    figures["peak"] = common.peak_during(
        lambda: figures.update(prepare_s=common.seconds(lambda: executor.prepare(kept[0])))
    )
    return figures


def main() -> int:
    args = common.parser(__doc__ or "").parse_args()
    if args.child:
        print(json.dumps(load_and_prepare(Path(args.child))))
        return 0
    with tempfile.TemporaryDirectory(dir=os.environ.get("NPU_BENCH_DIR")) as folder:
        write_files(Path(folder))
        found = common.in_child(__file__, "--child", folder)
    size = found["bytes"]
    both = found["load_s"] + found["prepare_s"]
    figures = {**found, "read_gbytes": size / found["read_s"] / 1e9, "load_gbytes": size / both / 1e9}
    rows = [
        ["file", f"{size / 1e9:.2f} GB", ""],
        ["read from the disk cache", f"{found['read_s'] * 1e3:.0f} ms", f"{figures['read_gbytes']:.1f} GB/s"],
        [
            "read into fresh memory",
            f"{found['read_into_s'] * 1e3:.0f} ms",
            f"{size / found['read_into_s'] / 1e9:.1f} GB/s",
        ],
        ["load_weights", f"{found['load_s'] * 1e3:.1f} ms", ""],
        ["prepare (pack)", f"{found['prepare_s'] * 1e3:.0f} ms", ""],
        ["both", f"{both * 1e3:.0f} ms", f"{figures['load_gbytes']:.1f} GB/s"],
        ["memory on top of the mapped file", f"{found['peak'] / 1e9:.2f} GB", f"{found['peak'] / size:.2f} x file"],
    ]
    common.report("loading weights", ["What", "figure", "speed"], rows, figures, args.json)
    return 0


if __name__ == "__main__":
    sys.exit(main())

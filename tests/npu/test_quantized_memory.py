"""What a process that generates from a quantised model has in memory: little more than the file and the caches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest

from tests.models.zoo.language_models import causal
from tests.support.gguf_files import Tensor, write_gguf
from tests.support.gguf_models import to_gguf
from tests.support.quantized_files import write_folder

SIZES = {
    "hidden_size": 512, "num_hidden_layers": 6, "num_attention_heads": 8, "num_key_value_heads": 4, "vocab_size": 512,
}  # fmt: skip
INTERMEDIATE = (512, 4608)
CHILD = """
import json, sys
import npu

def resident(key):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))

generator = npu.Generator.from_pretrained(sys.argv[1], cache=sys.argv[2], tokenizer=None, capacity=64, buckets=(1, 16))
generator.generate(list(range(19)), 3)
print(json.dumps([resident("VmRSS"), resident("VmHWM"), "torch" in sys.modules]))
"""


def of_gguf(model: Any, path: Path, kind: str) -> Path:
    def encode(name: str, values: np.ndarray) -> Tensor | None:
        if values.ndim != 2:
            return None
        blocks = values.reshape(-1, 32)
        scales = (np.abs(blocks).max(1, keepdims=True) / 127).astype(np.float16)
        integers = np.rint(blocks / scales).astype(np.int8)
        if kind == "Q4_0":
            integers = integers[:, :16]
        data = np.concatenate([scales.view(np.uint8), integers.view(np.uint8)], 1).tobytes()
        return Tensor(8 if kind == "Q8_0" else 2, values.shape, data)

    write_gguf(path / "m.gguf", *to_gguf(model, "qwen2", encode))
    return path / "m.gguf"


def of_mlx(model: Any, path: Path, bits: int) -> Path:
    npu.quantize(model, bits=bits, group=64).save(path / "out", model.config.to_dict())
    return path / "out"


def of_gptq(model: Any, path: Path) -> Path:
    rng, tensors = np.random.default_rng(0), {}
    for name, parameter in model.state_dict().items():
        if parameter.ndim != 2 or "layers" not in name:
            tensors[name] = parameter.numpy()
            continue
        (rows, depth), layer = parameter.shape, name.removesuffix(".weight")
        tensors[f"{layer}.qweight"] = rng.integers(-(1 << 31), 1 << 31, (depth // 8, rows)).astype(np.int32)
        tensors[f"{layer}.qzeros"] = np.full((depth // 64, rows // 8), 0x77777777, np.int32)
        tensors[f"{layer}.scales"] = np.full((depth // 64, rows), 0.01, np.float16)
    said = {"quant_method": "gptq", "bits": 4, "group_size": 64}
    write_folder(path / "out", tensors, {**model.config.to_dict(), "quantization_config": said})
    return path / "out"


FORMATS = {
    "gguf-Q8_0": lambda model, path: of_gguf(model, path, "Q8_0"),
    "gguf-Q4_0": lambda model, path: of_gguf(model, path, "Q4_0"),
    "mlx-8": lambda model, path: of_mlx(model, path, 8),
    "mlx-4": lambda model, path: of_mlx(model, path, 4),
    "gptq-4": of_gptq,
}


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the memory of a process")
@pytest.mark.skipif(os.environ.get("NPU_TEST_DEVICE", "cpu") != "cpu", reason="other devices have memory of their own")
@pytest.mark.parametrize("form", FORMATS)
def test_the_weights_are_there_once(form: str, tmp_path: Path) -> None:
    """Of two models that differ in the size of their weights alone, so do the processes."""
    sizes, resident, most = [], [], []
    for intermediate in INTERMEDIATE:
        folder = tmp_path / str(intermediate)
        folder.mkdir()
        path = FORMATS[form](causal("qwen2", **SIZES, intermediate_size=intermediate), folder)
        programs = tmp_path / "programs"
        options: dict[str, Any] = {"tokenizer": None, "capacity": 64, "buckets": (1, 16)}
        npu.Generator.from_pretrained(path, cache=programs, **options).generate(list(range(19)), 3)  # compiles them
        command = [sys.executable, "-c", CHILD, str(path), str(programs)]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        bytes_now, bytes_most, uses_torch = json.loads(output)
        assert not uses_torch
        files = [path] if path.is_file() else list(path.glob("*.safetensors"))
        sizes.append(files[0].stat().st_size)
        resident.append(bytes_now)
        most.append(bytes_most)
    size, now, peak = (large - small for small, large in (sizes, resident, most))
    print(f"{form}: {size / 1e6:.1f} MB of weights take {now / size:.3f} times as much, at most {peak / size:.3f}")
    assert now <= 1.1 * size
    assert peak <= 1.25 * size

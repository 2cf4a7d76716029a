"""Damaged files of quantised models: GGUF, and folders of the other formats."""

from __future__ import annotations

import json
import random
import shutil
import struct
import tempfile
import tracemalloc
from functools import cache
from pathlib import Path

import numpy as np
from npu.quantized import QuantizedTensor, open_checkpoint
from npu_base.errors import NPUError

from tests.support.fuzz_saved import edit, paths
from tests.support.gguf_files import KINDS, Tensor, gguf_bytes
from tests.support.quantized_files import FORMATS, write_folder

__all__ = ["fuzz_quantized"]

_MOST_MEMORY = 32 << 20  # the files have a few thousand bytes, and may say anything
_HEAD = 2000  # bytes of the GGUF file, about, before its numbers
_SIZES = [0, 1, 2, 7, 31, 32, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**40, 2**63 - 1, 2**63, 2**64 - 1]
_FOLDERS = ("mlx-4bit-32-float16", "compressed-pack-4bit-32-float16-zeros", "compressed-int-8bit-row-float32",
            "gptq-4bit-32", "gptq-4bit-32-moved-order", "awq-32")  # fmt: skip


@cache
def gguf_seed() -> bytes:
    """One small layer of each type of numbers, and a tokenizer."""
    rng = np.random.default_rng(0)
    kinds = {kind.name: kind for kind in KINDS}

    def tensor(kind: str, rows: int) -> Tensor:
        return kinds[kind].tensor(rng, rows, 256 // kinds[kind].elements)[0]

    sizes = {
        "context_length": 64, "embedding_length": 256, "block_count": 1, "feed_forward_length": 256,
        "attention.head_count": 1, "attention.head_count_kv": 1, "attention.key_length": 4,
        "attention.layer_norm_rms_epsilon": 1e-5, "rope.scaling.type": "linear", "rope.scaling.factor": 2.0,
    }  # fmt: skip
    tokens = ["<unk>", "<s>", "a", "b", "ab"]
    metadata = {
        "general.architecture": "llama", "general.alignment": 32, **{f"llama.{k}": v for k, v in sizes.items()},
        "tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.unknown_token_id": 0,
        "tokenizer.ggml.scores": [0.0, 0.0, -1.0, -2.0, -3.0], "tokenizer.ggml.token_type": [2, 3, 1, 1, 1],
        "tokenizer.ggml.bos_token_id": 1, "tokenizer.ggml.add_bos_token": True, "tokenizer.chat_template": "{{ x }}",
    }  # fmt: skip
    tensors = {
        "token_embd.weight": tensor("F16", 5), "blk.0.attn_q.weight": tensor("Q4_0", 4),
        "blk.0.attn_k.weight": tensor("Q8_0", 4), "blk.0.ffn_gate.weight": tensor("Q4_K", 3),
        "blk.0.ffn_up.weight": tensor("Q6_K", 3), "blk.0.attn_norm.weight": Tensor(0, (256,), bytes(1024)),
        "rope_freqs.weight": Tensor(0, (2,), struct.pack("<2f", 1.0, 1.0)),
    }  # fmt: skip
    return gguf_bytes(metadata, tensors)


@cache
def _folder_seed(name: str) -> Path:
    """A folder, which stays until the process ends."""
    form = next(form for form in FORMATS if form.name == name)
    folder = Path(tempfile.mkdtemp(prefix="fuzz-quantized-"))
    tensors, config, _ = form.write(np.random.default_rng(0))
    write_folder(folder, {**tensors, "norm.weight": np.ones(4, np.float32)}, config)
    return folder


def _damaged_gguf(rng: random.Random) -> bytes:
    data = bytearray(gguf_seed())
    for _ in range(rng.randrange(1, 4)):
        at = rng.randrange(min(_HEAD, len(data)) if rng.random() < 0.9 else len(data))
        choice = rng.random()
        if choice < 0.35:
            data[at] ^= 1 << rng.randrange(8)
        elif choice < 0.55:
            data[at : at + 8] = struct.pack("<Q", rng.choice(_SIZES))
        elif choice < 0.75:
            data[at : at + 4] = struct.pack("<I", rng.choice(_SIZES) & 0xFFFFFFFF)
        elif choice < 0.85:
            del data[at : at + rng.randrange(1, 40)]
        elif choice < 0.95:
            data[at:at] = data[at : at + rng.randrange(1, 60)]
        elif at > 8:
            del data[at:]
    return bytes(data)


def _damage_folder(folder: Path, rng: random.Random) -> None:
    config, weights = folder / "config.json", folder / "model.safetensors"
    if rng.random() < 0.5:
        said = json.loads(config.read_text())
        for _ in range(rng.randrange(1, 3)):
            if paths(said):
                edit(said, rng)
        config.write_text(json.dumps(said))
    else:
        data = bytearray(weights.read_bytes())
        length = int.from_bytes(data[:8], "little")
        header = json.loads(data[8 : 8 + length])
        if rng.random() < 0.7:
            edit(header, rng)
            text = json.dumps(header).encode()
            data[: 8 + length] = len(text).to_bytes(8, "little") + text
        else:
            at = rng.randrange(len(data))
            data[at] ^= 1 << rng.randrange(8)
            if rng.random() < 0.3:
                del data[at:]
        weights.write_bytes(data)


def read(path: Path) -> bool:
    """Whether it is accepted; nothing but our own errors may come out, and little memory is used for it."""
    tracemalloc.start()
    try:
        checkpoint = open_checkpoint(path)
        for entry in checkpoint.values():
            tensor = entry.load()
            assert tensor.shape == entry.shape
            assert (entry.scheme is None) == (not isinstance(tensor, QuantizedTensor))
        if checkpoint.tokenizer_of is not None:
            checkpoint.tokenizer_of()
    except NPUError as error:
        if str(path) in str(error):
            return False
        raise
    finally:
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert most < _MOST_MEMORY, most
    return True


def fuzz_quantized(count: int, start: int = 1) -> tuple[int, int]:
    """How many were accepted, and how many were refused."""
    tally = [0, 0]
    with tempfile.TemporaryDirectory() as temporary:
        gguf, folder = Path(temporary) / "damaged.gguf", Path(temporary) / "damaged"
        gguf.write_bytes(gguf_seed())
        assert read(gguf) and all(read(_folder_seed(name)) for name in _FOLDERS)
        for i in range(count):
            rng = random.Random(f"{start} {i}")
            try:
                if rng.random() < 0.5:
                    gguf.write_bytes(_damaged_gguf(rng))
                    tally[0 if read(gguf) else 1] += 1
                else:
                    shutil.rmtree(folder, ignore_errors=True)
                    shutil.copytree(_folder_seed(rng.choice(_FOLDERS)), folder)
                    _damage_folder(folder, rng)
                    tally[0 if read(folder) else 1] += 1
            except BaseException as error:
                raise AssertionError(f"file {i} of seed {start}") from error
    return tally[0], tally[1]

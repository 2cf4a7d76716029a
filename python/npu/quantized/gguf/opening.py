"""A GGUF file as a checkpoint."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from npu.quantized.checkpoint import Checkpoint, Entry
from npu.quantized.errors import refuse
from npu.quantized.gguf.architectures import Architecture, architecture_of, config_of, hugging_face_name
from npu.quantized.gguf.blocks import BLOCKS
from npu.quantized.gguf.file import GGUFFile, GGUFTensor
from npu.quantized.gguf.metadata import Metadata
from npu.quantized.gguf.rope import FREQUENCIES
from npu.quantized.gguf.tokenizer import tokenizer_of
from npu.quantized.tensors import QuantizedTensor

__all__ = ["open_gguf"]


def open_gguf(path: Path) -> Checkpoint:
    file = GGUFFile(path)
    metadata = Metadata(file)
    if "split.count" in metadata and metadata.count("split.count", least=0) > 1:
        refuse(path, "the model is split into several files", action="joining them with llama-gguf-split --merge")
    architecture = architecture_of(metadata)
    config = config_of(architecture, metadata, file)
    entries = {}
    for name, tensor in file.tensors.items():
        if name == FREQUENCIES:
            continue  # the configuration has them
        known = hugging_face_name(architecture, name)
        if known is None:
            refuse(tensor.where, f"is not known of {metadata.architecture}")
        entries[known] = _entry(known, tensor, architecture, config)
    has_tokenizer = "tokenizer.ggml.model" in metadata
    make = partial(tokenizer_of, metadata, config["vocab_size"]) if has_tokenizer else None
    return Checkpoint(path, "gguf", config, entries, make)


def _entry(name: str, tensor: GGUFTensor, architecture: Architecture, config: dict[str, Any]) -> Entry:
    block = BLOCKS[tensor.kind]
    heads = 0
    if architecture.permuted and ".self_attn.q_proj." in name:
        heads = config["num_attention_heads"]
    elif architecture.permuted and ".self_attn.k_proj." in name:
        heads = config["num_key_value_heads"]
    if heads and tensor.shape[0] % (2 * heads):
        refuse(tensor.where, "has rows that are no pairs of heads", got=tensor.shape[0], expected=f"{heads} heads")
    less_one = architecture.norms_plus_one and name.endswith("norm.weight")
    if block.scheme is not None and (less_one or len(tensor.shape) < 2):
        refuse(tensor.where, "is quantised, which is not expected of it", got=block.name)

    def read() -> npt.NDArray[Any] | QuantizedTensor:
        values = block.tensor(tensor.bytes, tensor.shape)
        if heads:
            values = _in_halves(values, heads)
        if less_one:
            assert not isinstance(values, QuantizedTensor)
            values = values.astype(np.float32) - np.float32(1)
        return values

    if block.scheme is not None:
        return Entry(tensor.where, tensor.shape, block.scheme.dtype, block.scheme, read, (tensor.bytes,), is_made=True)
    dtype = "float32" if less_one else np.dtype(block.dtype).name
    return Entry(tensor.where, tensor.shape, dtype, None, read, (tensor.bytes,), is_made=bool(heads) or less_one)


def _in_halves(tensor: npt.NDArray[Any] | QuantizedTensor, heads: int) -> npt.NDArray[Any] | QuantizedTensor:
    """Rows of heads whose pairs to rotate are neighbours, in the order of halves."""
    rows = tensor.shape[0]
    order = np.arange(rows).reshape(heads, rows // heads // 2, 2).swapaxes(1, 2).reshape(-1)
    if isinstance(tensor, QuantizedTensor):
        return tensor.rows(order)
    return tensor[order]

"""GGUF files: their numbers, and their models, which are those of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
import torch
from npu.quantized import QuantizedTensor, is_quantized
from npu.quantized.gguf.architectures import ARCHITECTURES
from npu.quantized.gguf.blocks import BLOCKS

from tests.models.zoo.language_models import causal, tokens
from tests.support.gguf_files import KINDS, Kind, Tensor, write_gguf
from tests.support.gguf_models import FAMILIES, to_gguf

LLAMA = {
    "general.architecture": "llama", "llama.context_length": 128, "llama.embedding_length": 512,
    "llama.block_count": 1, "llama.feed_forward_length": 256, "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2, "llama.attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip
NAMES = {
    "blk.0.ffn_gate.weight": "mlp.gate_proj",
    "blk.0.attn_q.weight": "self_attn.q_proj",
    "blk.0.attn_k.weight": "self_attn.k_proj",
}
ROWS = {"blk.0.ffn_gate.weight": 6, "blk.0.attn_q.weight": 512, "blk.0.attn_k.weight": 256}

CHANGES: dict[str, dict[str, Any]] = {
    "gemma2": {"query_pre_attn_scalar": 16}, "gemma3": {"query_pre_attn_scalar": 16, "num_hidden_layers": 7},
}  # fmt: skip
"""What files do not say: queries are scaled by the size of heads, but for the largest models."""


def as_llama(rng: np.random.Generator, **tensors: Tensor) -> dict[str, Tensor]:
    table = rng.standard_normal((9, 512)).astype(np.float32)
    return {"token_embd.weight": Tensor(0, table.shape, table.tobytes()), **tensors}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.split(".")[2])
def test_numbers_are_those_of_the_format(kind: Kind, name: str, tmp_path: Path) -> None:
    """Of queries and keys with their rows in another order."""
    rng = np.random.default_rng(7)
    tensor, numbers = kind.tensor(rng, ROWS[name] if kind.elements > 1 or "ffn" in name else 256, 512 // kind.elements)
    if tensor.shape[0] != ROWS[name]:  # numbers of one element each are slow to draw
        tensor = Tensor(tensor.kind, (512, 512), tensor.data * 2)
        numbers = np.concatenate([numbers, numbers])
    write_gguf(tmp_path / "m.gguf", LLAMA, as_llama(rng, **{name: tensor}))
    assert is_quantized(tmp_path / "m.gguf") and is_quantized(tmp_path)
    checkpoint = npu.open_checkpoint(tmp_path)
    entry = checkpoint[f"model.layers.0.{NAMES[name]}.weight"]
    if "attn" in name:
        heads = 4 if "attn_q" in name else 2
        numbers = numbers.reshape(heads, -1, 2, 512).swapaxes(1, 2).reshape(numbers.shape)
    np.testing.assert_array_equal(entry.dequantized(np.float64), numbers)
    block = BLOCKS[kind.number]
    if block.scheme is not None:
        loaded = entry.load()
        assert isinstance(loaded, QuantizedTensor)
        assert loaded.nbytes <= 1.03 * len(tensor.data)
    assert block.name == kind.name and entry.scheme == block.scheme
    assert isinstance(entry.load(), QuantizedTensor) == (block.scheme is not None)


@pytest.mark.parametrize("family", FAMILIES)
def test_models_are_those_of_transformers(family: str, tmp_path: Path) -> None:
    """Names, orders of rows and configuration: the model of the file computes the same, to the bit."""
    import transformers

    original = causal(family, **CHANGES.get(family, {}))
    write_gguf(tmp_path / "m.gguf", *to_gguf(original, FAMILIES[family]))
    checkpoint = npu.open_checkpoint(tmp_path / "m.gguf")
    assert checkpoint.dtype == "float32"
    config = transformers.AutoConfig.for_model(**checkpoint.config)
    model = getattr(transformers, checkpoint.config["architectures"][0])(config).eval()
    state = {name: torch.from_numpy(entry.dequantized()) for name, entry in checkpoint.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert (
        not unexpected
        and set(missing) <= {"lm_head.weight"}
        and ("lm_head.weight" in missing) == config.tie_word_embeddings
    )
    model.tie_weights()
    ids = torch.tensor([tokens(29)])
    with torch.no_grad():
        torch.testing.assert_close(model(ids).logits, original(ids).logits, rtol=0, atol=0)


def test_all_architectures_are_tested() -> None:
    assert set(FAMILIES.values()) == set(ARCHITECTURES)

"""Quantised models generate what the same models with dequantised weights generate, from every kind of file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from npu.generation.quantized import QuantizedSource

from tests.models.zoo.language_models import VOCABULARY, causal, continued, tokens
from tests.support.gguf_files import Tensor, write_gguf
from tests.support.gguf_models import FAMILIES, to_gguf
from tests.support.quantized_files import gptq_layer, write_folder
from tests.support.word_tokenizers import save_word_tokenizer

KIND = os.environ.get("NPU_TEST_DEVICE", "cpu")
OF_MLX = (
    "qwen2",
    "qwen3",
    "llama3",
    "mistral",
    "gemma",
    "gemma2",
    "gemma3",
    "phi",
    "phi3",
    "olmo",
    "olmo2",
    "gpt_neox",
)


def with_numbers_of(checkpoint: Any, model: Any) -> Any:
    """The model with the checkpoint's weights, dequantised to float32."""
    state = {name: torch.from_numpy(entry.dequantized()) for name, entry in checkpoint.items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}
    model.tie_weights()
    return model


def continuation(path: Path, count: int = 6) -> list[int]:
    generator = npu.Generator.from_pretrained(path, capacity=64, buckets=(1, 16), device=KIND, tokenizer=None)
    continued_tokens = generator.generate(tokens(19), count).tokens
    assert any(name.endswith(".scales") for name in generator.weights)  # integers, not the numbers that they stand for
    return continued_tokens


@pytest.mark.parametrize("family", OF_MLX)
def test_mlx(family: str, tmp_path: Path) -> None:
    model = causal(family)
    quantized = npu.quantize(model, bits=8 if family in OF_MLX[::2] else 4, group=32)
    quantized.save(tmp_path / "out", model.config.to_dict())
    checkpoint = npu.open_checkpoint(tmp_path / "out")
    assert len(checkpoint.schemes) >= 9
    assert continuation(tmp_path / "out") == continued(with_numbers_of(checkpoint, model), tokens(19), 6)


def of_gptq(model: Any, bits: int, path: Path) -> None:
    """Columns in the order of activations: those of queries, keys and values of the first layer in one, all others in
    their own, but for one layer that is as groups are."""
    rng, tensors, group = np.random.default_rng(0), {}, 32
    for name, parameter in model.state_dict().items():
        if parameter.ndim != 2 or "layers" not in name:
            tensors[name] = parameter.numpy()
            continue
        rows, depth = parameter.shape
        integers = np.clip(rng.normal(1 << (bits - 1), 1 << (bits - 3), (rows, depth)), 0, (1 << bits) - 1).astype(
            np.int64
        )
        scales = rng.uniform(0.3, 0.6, (rows, depth // group)) / (1 << bits)
        points = np.full(scales.shape, (1 << (bits - 1)) - 1) + rng.integers(-1, 2, scales.shape)
        shared = (
            np.random.default_rng(1) if "layers.0.self_attn" in name and depth == 64 and "o_proj" not in name else rng
        )
        groups = np.arange(depth) // group
        if name != "model.layers.1.mlp.up_proj.weight":
            groups = shared.permutation(groups)
        tensors |= gptq_layer(name.removesuffix(".weight"), integers, scales.astype(np.float16), points, bits, groups)
    said = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": True}
    write_folder(path, tensors, {**model.config.to_dict(), "quantization_config": said})


@pytest.mark.parametrize("bits", [4, 8])
def test_columns_of_gptq_in_another_order(bits: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a model with biases."""
    model = causal("qwen2")
    of_gptq(model, bits, tmp_path / "out")
    checkpoint = npu.open_checkpoint(tmp_path / "out")
    assert len(checkpoint.schemes) == 14 and len(checkpoint.orders) == 14 - 2 - 1
    expected = continued(with_numbers_of(checkpoint, model), tokens(19), 6)
    assert continuation(tmp_path / "out") == expected
    prompt = ",".join(map(str, tokens(19)))
    arguments = ["generate", str(tmp_path / "out"), "--ids", prompt, "--tokens", "6", "--device", KIND, "--no-cache"]
    assert main([*arguments, "--capacity", "64"]) == 0
    assert capsys.readouterr().out.strip() == ", ".join(map(str, expected))


def encoded(name: str, values: np.ndarray) -> Tensor | None:
    """Matrices in blocks of 32: those of attention as Q8_0, others as Q4_0."""
    if values.ndim != 2:
        return None
    kind = "Q8_0" if "attn" in name else "Q4_0"
    blocks = values.reshape(-1, 32)
    scales = (np.abs(blocks).max(1, keepdims=True) / (127 if kind == "Q8_0" else 7)).astype(np.float16)
    integers = np.rint(blocks / scales).astype(np.int8)
    if kind == "Q4_0":
        low, high = ((part + 8).astype(np.uint8) for part in (integers[:, :16], integers[:, 16:]))
        integers = low | high << 4
    data = np.concatenate([scales.view(np.uint8), integers.view(np.uint8)], 1).tobytes()
    return Tensor(8 if kind == "Q8_0" else 2, values.shape, data)


@pytest.mark.parametrize("family", FAMILIES)
def test_gguf(family: str, tmp_path: Path) -> None:
    changes = {"query_pre_attn_scalar": 16} if family in ("gemma2", "gemma3") else {}
    model = causal(family, **changes)
    write_gguf(tmp_path / "m.gguf", *to_gguf(model, FAMILIES[family], encoded))
    checkpoint = npu.open_checkpoint(tmp_path / "m.gguf")
    assert len(checkpoint.schemes) >= 9
    assert continuation(tmp_path / "m.gguf") == continued(with_numbers_of(checkpoint, model), tokens(19), 6)


def test_text_from_one_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tokenizer lies in the GGUF file; programs are cached by what it says."""
    model = causal("llama3")
    pieces = ["<unk>", "<s>", "</s>", "\u2581", "w", *"0123456789", "\u2581w", *(f"\u2581w{i}" for i in range(100))]
    pieces += [f"<{i}>" for i in range(VOCABULARY - len(pieces))]
    scores = [-float(i) for i in range(len(pieces))]
    tokenizer = {
        "model": "llama", "tokens": pieces, "scores": scores, "token_type": [2, 3, 3, *[1] * (len(pieces) - 3)],
        "bos_token_id": 1, "eos_token_id": 2, "unknown_token_id": 0, "add_bos_token": False,
    }  # fmt: skip
    metadata, tensors = to_gguf(model, "llama")
    write_gguf(tmp_path / "m.gguf", metadata | {f"tokenizer.ggml.{k}": v for k, v in tokenizer.items()}, tensors)
    generator = npu.Generator.from_pretrained(tmp_path / "m.gguf", capacity=32, buckets=(1,), device=KIND)
    ids = generator.encode("w1 w25")
    assert [pieces[i] for i in ids] == ["\u2581w1", "\u2581w25"]
    assert generator.generate("w1 w25", 4, stop_tokens=[]).tokens == continued(model, ids, 4)
    arguments = ["generate", str(tmp_path / "m.gguf"), "--ids", "5,6,7", "--tokens", "4", "--device", KIND]
    arguments += ["--capacity", "32", "--cache", str(tmp_path / "cache")]
    assert main(arguments) == 0
    monkeypatch.setattr(QuantizedSource, "_built", None)  # not needed the second time
    assert main(arguments) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first == second


def test_the_tokenizer_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = causal("olmo")
    source = tmp_path / "plain"
    model.save_pretrained(source)
    save_word_tokenizer(source, VOCABULARY)
    assert main(["quantize", str(source), "-o", str(tmp_path / "out"), "--group", "32"]) == 0
    capsys.readouterr()
    prompt = " ".join(f"w{i}" for i in tokens(9))
    arguments = ["generate", str(tmp_path / "out"), "--prompt", prompt, "--device", KIND, "--capacity", "32"]
    assert main([*arguments, "--tokens", "4", "--no-cache"]) == 0
    reference = with_numbers_of(npu.open_checkpoint(tmp_path / "out"), model)
    assert capsys.readouterr().out.split() == [f"w{i}" for i in continued(reference, tokens(9), 4)]

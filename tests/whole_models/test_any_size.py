"""Whole models whose sizes are open give, at each size, what PyTorch gives."""

import npu
import pytest
import torch
import transformers
from torch.export import Dim

import tests.models.zoo  # noqa: F401  (makes torchvision importable)

pytestmark = pytest.mark.slow

BATCH, LENGTH = Dim("batch", min=1, max=16), Dim("length", min=1, max=64)
SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
GPT2 = {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100}


def tokens(batch, length):
    ids = torch.randint(0, 90, (batch, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


def check(model, example, dims, others):
    model = model.eval().requires_grad_(False)
    compiled = npu.compile(model, example, dynamic_shapes=dims, fallback="error")
    for inputs in (example, *others):
        got, expected = compiled(**inputs), model(**inputs)
        torch.testing.assert_close(got[0], expected[0], rtol=1e-4, atol=1e-4)


TEXTS = {
    "bert": lambda: transformers.BertModel(transformers.BertConfig(**SMALL, vocab_size=100)),
    "llama": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**SMALL, vocab_size=100, num_key_value_heads=2, use_cache=False)
    ),
}


@pytest.mark.parametrize("name", TEXTS)
def test_texts(name):
    torch.manual_seed(0)
    dims = {key: {0: BATCH, 1: LENGTH} for key in ("input_ids", "attention_mask")}
    sizes = [(2, 9), (1, 5), (3, 1), (1, 1), (16, 64)]
    check(TEXTS[name](), tokens(2, 7), dims, [tokens(*size) for size in sizes])


class Cached(torch.nn.Module):
    """GPT-2 with its cache among the arguments and results."""

    def __init__(self):
        super().__init__()
        self.model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**GPT2))

    def forward(self, input_ids, k0, v0, k1, v1):
        cache = transformers.DynamicCache()
        cache.update(k0, v0, 0)
        cache.update(k1, v1, 1)
        output = self.model(input_ids, past_key_values=cache, use_cache=True)
        return output.logits, *(t for layer in output.past_key_values.layers for t in (layer.keys, layer.values))


def test_a_decoder_with_its_cache():
    torch.manual_seed(0)
    names = ("k0", "v0", "k1", "v1")

    def inputs(batch, length, past):
        caches = {name: torch.randn(batch, 4, past, 8) for name in names}
        return {"input_ids": tokens(batch, length)["input_ids"], **caches}

    dims = {"input_ids": {0: BATCH, 1: LENGTH}, **{key: {0: BATCH, 2: Dim("past", min=1, max=64)} for key in names}}
    sizes = [(1, 1, 4), (2, 1, 9), (1, 4, 1), (3, 2, 7)]
    check(Cached(), inputs(2, 3, 5), dims, [inputs(*size) for size in sizes])


def test_images_of_any_size():
    import torchvision

    torch.manual_seed(0)
    dims = ({0: BATCH, 2: Dim("height", min=32, max=256), 3: Dim("width", min=32, max=256)},)
    model = torchvision.models.resnet18().eval().requires_grad_(False)
    compiled = npu.compile(model, torch.randn(2, 3, 64, 64), dynamic_shapes=dims, fallback="error")
    for shape in ((1, 3, 64, 64), (3, 3, 97, 45), (2, 3, 32, 33)):
        x = torch.randn(shape)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-3, atol=1e-3)

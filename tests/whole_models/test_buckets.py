"""Whole models that are padded to buckets give what PyTorch gives without padding, or are refused."""

import npu
import pytest
import torch
import transformers
from torch.export import Dim

import tests.models.zoo  # noqa: F401  (makes torchvision importable)

pytestmark = pytest.mark.slow

BATCH, LENGTH = Dim("batch", min=1, max=8), Dim("length", min=2, max=64)
SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "vocab_size": 100,
}
CAUSAL = {**SMALL, "num_key_value_heads": 2, "use_cache": False}
BUCKETS = {"length": [16, 32], "batch": [4, 8]}
T = transformers
TEXTS = {
    "bert": lambda kind: T.BertModel(T.BertConfig(**SMALL, **kind)),
    "roberta": lambda kind: T.RobertaModel(T.RobertaConfig(**SMALL, **kind, max_position_embeddings=80)),
    "distilbert": lambda kind: T.DistilBertModel(
        T.DistilBertConfig(vocab_size=100, dim=32, n_layers=2, n_heads=4, hidden_dim=64, **kind)
    ),
    "bert classifier": lambda kind: T.BertForSequenceClassification(T.BertConfig(**SMALL, **kind)),
    "modernbert": lambda kind: T.ModernBertModel(T.ModernBertConfig(**SMALL, **kind, pad_token_id=0)),
    "llama": lambda kind: T.LlamaForCausalLM(T.LlamaConfig(**CAUSAL, **kind)),
    "qwen2": lambda kind: T.Qwen2ForCausalLM(T.Qwen2Config(**CAUSAL, **kind)),
    "t5": lambda kind: T.T5EncoderModel(
        T.T5Config(vocab_size=100, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4)
    ),
    "mpnet": lambda kind: T.MPNetModel(T.MPNetConfig(**SMALL, max_position_embeddings=80)),
    "gpt2": lambda kind: T.GPT2LMHeadModel(T.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, **kind)),
}


def tokens(batch, length, lengths=(), left=False):
    torch.manual_seed(length)
    ids = torch.randint(2, 90, (batch, length))
    mask = torch.ones_like(ids)
    for row, n in zip(mask, lengths, strict=False):
        row[slice(None, length - n) if left else slice(n, None)] = 0
    return {"input_ids": ids, "attention_mask": mask}


def made(name, kind):
    torch.manual_seed(0)
    return TEXTS[name]({"attn_implementation": kind}).eval().requires_grad_(False)


def compiled_text(model, example, **options):
    dims = {key: {0: BATCH, 1: LENGTH} for key in example}
    options = {"buckets": BUCKETS, **options}
    return npu.compile(model, (), example, dynamic_shapes=dims, fallback="error", **options)


def check(model, compiled, inputs):
    got, expected = compiled(**inputs), model(**inputs)
    for name, want in expected.items():
        if isinstance(want, torch.Tensor):
            torch.testing.assert_close(got[name], want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["eager", "sdpa"])
@pytest.mark.parametrize("name", TEXTS)
def test_texts(name, kind):
    model = made(name, kind)
    compiled = compiled_text(model, tokens(2, 7))
    for batch, length, lengths in ((2, 7, ()), (3, 16, (5, 16, 1)), (1, 2, ()), (8, 21, (3, 4, 21, 20)), (2, 40, (9,))):
        check(model, compiled, tokens(batch, length, lengths))
    assert {tuple(s.values()) for s in compiled.sizes} == {(4, 16), (8, 32), (4, 40)}
    check(model, compiled, tokens(3, 9, (2, 9, 5), left=True))


def test_a_text_model_without_its_mask():
    for kind in ("eager", "sdpa"):
        with pytest.raises(ValueError, match=r"'length'.*node '\w+' \(.*module 'encoder.layer.0.attention.self'"):
            compiled_text(made("bert", kind), {"input_ids": tokens(2, 7)["input_ids"]})
        compiled_text(made("bert", kind), {"input_ids": tokens(2, 7)["input_ids"]}, buckets={"batch": [4]})


class Last(torch.nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.model, self.options = made("llama", "sdpa"), options

    def forward(self, input_ids, attention_mask):
        return self.model(input_ids, attention_mask=attention_mask, **self.options).logits[:, -1]


def test_the_last_position_is_refused():
    for module in (Last(), Last(logits_to_keep=1)):
        with pytest.raises(ValueError, match=r"the end of the padded dimension|from its end"):
            compiled_text(module, tokens(2, 7))


def test_a_bucket_that_has_no_positions_is_refused():
    model = T.GPT2LMHeadModel(T.GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=30)).eval()
    compiled_text(model, tokens(2, 7), buckets={"length": [16, 30]})
    with pytest.raises(ValueError, match="'transformer.wpe'.*index of a padded position .* 31, where there are 30"):
        compiled_text(model, tokens(2, 7))


class Sentences(torch.nn.Module):
    """The mean of the tokens that are no padding, of length 1."""

    def __init__(self):
        super().__init__()
        self.model = made("bert", "sdpa")

    def forward(self, input_ids, attention_mask):
        states = self.model(input_ids, attention_mask=attention_mask).last_hidden_state
        shown = attention_mask[..., None].to(states.dtype)
        pooled = (states * shown).sum(1) / shown.sum(1).clamp(min=1e-9)
        return {"embedding": torch.nn.functional.normalize(pooled)}


def test_sentence_embeddings():
    model = Sentences().eval()
    compiled = compiled_text(model, tokens(2, 7))
    for batch, length, lengths in ((2, 7, (3, 7)), (5, 12, (2, 9, 12)), (1, 30, ())):
        check(model, compiled, tokens(batch, length, lengths))


def images():
    import torchvision

    yield torchvision.models.resnet18(), 64
    yield torchvision.models.VisionTransformer(32, 8, 2, 4, 32, 64), 32
    yield torchvision.models.mobilenet_v3_small(), 64


@pytest.mark.parametrize("i", range(3))
def test_batches_of_images(i):
    torch.manual_seed(0)
    model, size = list(images())[i]
    model = model.eval().requires_grad_(False)
    dims = ({0: BATCH},)
    compiled = npu.compile(
        model, torch.randn(2, 3, size, size), dynamic_shapes=dims, buckets={"batch": [4, 8]}, fallback="error"
    )
    for batch in (1, 3, 4, 7):
        x = torch.randn(batch, 3, size, size)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-4)
    assert compiled.sizes == [{"batch": 4}, {"batch": 8}]

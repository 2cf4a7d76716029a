"""Tokenizers of GGUF files: those that they were written from."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
import transformers
from npu_base.errors import InvalidValueError
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from tests.support.gguf_files import Tensor, write_gguf

CORPUS = [
    "The quick brown fox jumps over the lazy dog. It's 12345 o'clock, isn't it?\n\n  Indented text;\ttabs.\r\n",
    "Grüße aus Köln: naïve café, 東京都, привет мир! def f(x): return x**2 + 3.14159  # comment\n" * 3,
    "the theme of then and there, they're we'll I'm you'd " * 20,
]
TEXTS = [
    *CORPUS, "", " ", "   leading", "trailing   ", "it's 1234 567", "CamelCase/path\\to", "emoji \U0001f600",
    "\u00e9 e\u0301", "a\n\n\nb", "<|end|>after", "x<|end|> <think>y", "\u3000wide\u00a0space",
]  # fmt: skip
LLAMA = {
    "general.architecture": "llama", "llama.context_length": 128, "llama.embedding_length": 8, "llama.block_count": 1,
    "llama.feed_forward_length": 8, "llama.attention.head_count": 1, "llama.attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip
CONTROL, USER_DEFINED = 3, 4
TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}{% endfor %}"


def opened(folder: Path, tokenizer: dict[str, Any], architecture: str = "llama") -> Any:
    metadata = {key.replace("llama.", f"{architecture}."): value for key, value in LLAMA.items()}
    metadata["general.architecture"] = architecture
    count = len(tokenizer["tokens"])
    table, layer = np.zeros((count, 8), np.float32), np.zeros((8, 8), np.float32)
    tensors = {
        "token_embd.weight": Tensor(0, table.shape, table.tobytes()),
        "blk.0.ffn_down.weight": Tensor(0, layer.shape, layer.tobytes()),
    }
    metadata |= {f"tokenizer.ggml.{key}": value for key, value in tokenizer.items()}
    write_gguf(folder / "m.gguf", {**metadata, "tokenizer.chat_template": TEMPLATE}, tensors)
    make = npu.open_checkpoint(folder / "m.gguf").tokenizer_of
    assert make is not None
    return make()


def byte_level() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """A vocabulary with merges, trained on the corpus."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=500, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def metadata_of(vocabulary: dict[str, int], merges: list[tuple[str, str]], **more: Any) -> dict[str, Any]:
    tokens = [*sorted(vocabulary, key=lambda token: vocabulary[token]), "<|end|>", "<think>"]
    kinds = [1] * len(vocabulary) + [CONTROL, USER_DEFINED]
    return {
        "model": "gpt2", "tokens": tokens, "token_type": kinds, "merges": [" ".join(merge) for merge in merges],
        "eos_token_id": len(vocabulary), **more,
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["gpt-2", "qwen2"])
def test_byte_level(kind: str, tmp_path: Path) -> None:
    vocabulary, merges = byte_level()
    ours = opened(tmp_path, metadata_of(vocabulary, merges, pre=kind), "qwen2")
    cls = transformers.Qwen2Tokenizer if kind == "qwen2" else transformers.GPT2Tokenizer
    theirs = cls(
        vocab=dict(vocabulary), merges=list(merges), unk_token=None, bos_token=None, eos_token=None, pad_token=None
    )
    theirs.add_tokens(["<|end|>"], special_tokens=True)
    theirs.add_tokens(["<think>"])
    for text in TEXTS:
        expected = theirs(text)["input_ids"]
        assert ours(text)["input_ids"] == expected, text
        assert ours.decode(expected) == theirs.decode(expected)
    assert ours.eos_token == "<|end|>" and ours.bos_token is None
    assert ours.decode(ours("x<|end|>")["input_ids"], skip_special_tokens=True) == "x"
    conversation = [{"role": "user", "content": "it's"}]
    assert ours.apply_chat_template(conversation, tokenize=False) == "user: it's"


def test_tokens_as_a_whole_come_first(tmp_path: Path) -> None:
    """Llama 3 takes a piece that is a token, even if no merges lead to it; and begins with a token."""
    vocabulary, merges = byte_level()
    extra = {**vocabulary, "xyzzy": len(vocabulary)}
    given = metadata_of(extra, merges, bos_token_id=len(extra), add_bos_token=True)
    whole = opened(tmp_path, {**given, "pre": "llama-bpe"})("xyzzy 12345")["input_ids"]
    assert whole[:2] == [len(extra), vocabulary["xyzzy"] if "xyzzy" in vocabulary else extra["xyzzy"]]
    pieces = opened(tmp_path, {**given, "pre": "default"})("xyzzy")["input_ids"]
    assert pieces[0] == len(extra) and len(pieces) > 2


def sentence_pieces() -> tuple[list[str], list[float], list[int]]:
    """Tokens, scores and kinds as sentencepiece has them: bytes, then pairs by rank, then characters."""
    pairs = ["\u2581t", "he", "\u2581the", "in", "er", "\u2581a", "th", "the", "\u2581\u2581", "\u2581\u2581\u2581"]
    characters = sorted({*"".join(CORPUS[2:]), *"\u2581theinra"} - {" "})
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{i:02X}>" for i in range(256)), *pairs, *characters]
    scores = [0.0] * 259 + [-float(i) for i in range(len(pairs))] + [-1000.0 - i for i in range(len(characters))]
    kinds = [2, CONTROL, CONTROL, *[6] * 256, *[1] * (len(pairs) + len(characters))]
    return tokens, scores, kinds


def merged(text: str, tokens: list[str], scores: list[float]) -> list[int]:
    """What sentencepiece does: the pair with the best score, again and again; what is left is spelled in bytes."""
    numbers = {token: i for i, token in enumerate(tokens)}
    pieces = list(text)
    while True:
        joined = enumerate(a + b for a, b in pairwise(pieces))
        pairs = [(scores[numbers[piece]], -i) for i, piece in joined if piece in numbers]
        if not pairs:
            break
        at = -max(pairs)[1]
        pieces[at : at + 2] = [pieces[at] + pieces[at + 1]]
    return [
        number
        for piece in pieces
        for number in ([numbers[piece]] if piece in numbers else [3 + byte for byte in piece.encode()])
    ]


@pytest.mark.parametrize("prefixed", [True, False])
def test_sentence_pieces(prefixed: bool, tmp_path: Path) -> None:
    tokens, scores, kinds = sentence_pieces()
    given = {"model": "llama", "tokens": tokens, "scores": scores, "token_type": kinds, "bos_token_id": 1,
             "eos_token_id": 2, "unknown_token_id": 0, "add_space_prefix": prefixed}  # fmt: skip
    ours = opened(tmp_path, given)
    for text in ("the theme", "in there  then", " a", "the \u6771 end", "earth\nthe"):
        spelled = ("\u2581" if prefixed else "") + text.replace(" ", "\u2581")
        assert ours(text)["input_ids"] == [1, *merged(spelled, tokens, scores)], text
        assert ours.decode(ours(text)["input_ids"], skip_special_tokens=True) == text


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"tokens": ["a", "a"]}, "tokens': has a token twice"),
    ({"tokens": [1]}, "tokens': is not a list of texts"),
    ({"model": "bert"}, "model': is not a supported kind of tokenizer; got 'bert'; expected gpt2 or llama"),
    (
        {"pre": "unheard-of"},
        "pre': is not a supported way to cut text; got 'unheard-of'; expected one of default",
    ),
    ({"merges": ["zz qq"]}, "tokens': is not the vocabulary of the merges"),
    ({"merges": ["one"]}, "tokens': is not the vocabulary of the merges"),
    ({"eos_token_id": 10**6}, "eos_token_id': is not a token; got 1000000; expected less than"),
    ({"token_type": [1, 2]}, "token_type': is not an array of"),
]


@pytest.mark.parametrize(
    ("change", "message"), CHANGES, ids=[f"{i}-{next(iter(c))}" for i, (c, _) in enumerate(CHANGES)]
)
def test_tokenizers_that_are_refused(change: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidValueError, match=re.escape(message)):
        opened(tmp_path, {**metadata_of(*byte_level(), pre="qwen2"), **change})

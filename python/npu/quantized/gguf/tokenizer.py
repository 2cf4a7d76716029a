"""The tokenizer of a GGUF file, as the library ``tokenizers`` has it."""

from __future__ import annotations

from typing import Any

import numpy as np

from npu.quantized.gguf.metadata import Metadata

__all__ = ["tokenizer_of"]

_SPACE = "\u2581"
_CONTROL, _USER_DEFINED = 3, 4
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
_TEKKEN = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_SPLITS = {
    "default": _GPT2, "gpt-2": _GPT2, "phi-2": _GPT2, "olmo": _GPT2, "dolma": _GPT2, "llama3": _LLAMA3,
    "llama-v3": _LLAMA3, "llama-bpe": _LLAMA3, "smaug-bpe": _LLAMA3, "dbrx": _LLAMA3, "tekken": _TEKKEN,
    "qwen2": _QWEN2, "deepseek-r1-qwen": _QWEN2,
}  # fmt: skip
"""How text is cut before its bytes are merged, by ``tokenizer.ggml.pre``."""
_WHOLE_FIRST = ("llama3", "llama-v3", "llama-bpe", "tekken")
"""Those that take a piece that is a token as it is, whatever the merges."""
_COMPOSED = ("qwen2", "deepseek-r1-qwen")


def tokenizer_of(metadata: Metadata, vocabulary: int) -> Any:
    """A fast tokenizer of transformers, with the chat template of the file."""
    from transformers import PreTrainedTokenizerFast

    kind = metadata.text("tokenizer.ggml.model")
    tokens = metadata.texts("tokenizer.ggml.tokens")
    if not 0 < len(tokens) <= vocabulary:
        metadata.refuse(
            "tokenizer.ggml.tokens", "does not fit the embeddings", len(tokens), f"1 to {vocabulary} tokens"
        )
    if len(set(tokens)) != len(tokens):
        metadata.refuse("tokenizer.ggml.tokens", "has a token twice", len(tokens))
    special = {
        name: tokens[number]
        for name, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding"))
        if (number := _token(metadata, key, len(tokens))) is not None
    }
    if kind == "gpt2":
        tokenizer = _byte_level(metadata, tokens)
    elif kind == "llama":
        tokenizer = _sentence_pieces(metadata, tokens, special.get("unk"))
    else:
        metadata.refuse("tokenizer.ggml.model", "is not a supported kind of tokenizer", kind, "gpt2 or llama")
    _add_whole_tokens(metadata, tokenizer, tokens)
    begins = metadata.truth("tokenizer.ggml.add_bos_token", kind == "llama") and "bos" in special
    ends = metadata.truth("tokenizer.ggml.add_eos_token", False) and "eos" in special
    _add_ends(tokenizer, special["bos"] if begins else None, special["eos"] if ends else None)
    template = metadata.text("tokenizer.chat_template", "") or None
    named = {f"{name}_token": token for name, token in special.items()}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=template, **named)


def _token(metadata: Metadata, name: str, count: int) -> int | None:
    key = f"tokenizer.ggml.{name}_token_id"
    if key not in metadata:
        return None
    number = metadata.count(key, least=0)
    if number >= count:
        metadata.refuse(key, "is not a token", number, f"less than {count}")
    return number


def _byte_level(metadata: Metadata, tokens: list[str]) -> Any:
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

    pre = metadata.text("tokenizer.ggml.pre", "default")
    if pre not in _SPLITS:
        expected = f"one of {', '.join(_SPLITS)}"
        metadata.refuse("tokenizer.ggml.pre", "is not a supported way to cut text", pre, expected)
    pairs = [tuple(merge.split(" ")) for merge in metadata.texts("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(_model(metadata, models.BPE, tokens, pairs, ignore_merges=pre in _WHOLE_FIRST))
    if pre in _COMPOSED:
        tokenizer.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(_SPLITS[pre]), behavior="isolated")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _sentence_pieces(metadata: Metadata, tokens: list[str], unknown: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers

    is_gemma = metadata.architecture.startswith("gemma")
    if is_gemma:  # its file has runs of spaces as they are
        tokens = [_SPACE * len(token) if token and not token.strip(" ") else token for token in tokens]
        ranks = -np.arange(len(tokens), dtype=np.float64)  # its scores do not follow the merges, but the order does
    else:
        ranks = metadata.array("tokenizer.ggml.scores", len(tokens)).astype(np.float64)
    options = {"unk_token": unknown, "fuse_unk": True, "byte_fallback": True}
    tokenizer = Tokenizer(_model(metadata, models.BPE, tokens, _merges(tokens, ranks), **options))
    prefixed = metadata.truth("tokenizer.ggml.add_space_prefix", not is_gemma)
    replace = normalizers.Replace(" ", _SPACE)
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(_SPACE), replace]) if prefixed else replace
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if prefixed else steps)
    return tokenizer


def _model(metadata: Metadata, cls: Any, tokens: list[str], merges: list[Any], **options: Any) -> Any:
    try:
        return cls(vocab={token: i for i, token in enumerate(tokens)}, merges=merges, **options)
    except Exception as error:  # the library raises its own for merges that are no tokens
        cause = " ".join(str(error).split())
        return metadata.refuse("tokenizer.ggml.tokens", "is not the vocabulary of the merges", cause)


def _merges(tokens: list[str], ranks: Any) -> list[tuple[str, str]]:
    """The pairs that make up each token, those of the best tokens first."""
    numbers = {token: i for i, token in enumerate(tokens)}
    found: list[tuple[Any, ...]] = []
    for number, token in enumerate(tokens):
        pairs = [
            (numbers[token[:at]], numbers[token[at:]], token[:at], token[at:])
            for at in range(1, len(token))
            if token[:at] in numbers and token[at:] in numbers
        ]
        found.extend((-ranks[number], number, *pair) for pair in sorted(pairs))
    found.sort(key=lambda merge: merge[0])
    return [(left, right) for *_, left, right in found]


def _add_whole_tokens(metadata: Metadata, tokenizer: Any, tokens: list[str]) -> None:
    """Tokens that are never cut nor made of others."""
    from tokenizers import AddedToken

    if "tokenizer.ggml.token_type" not in metadata:
        return
    kinds = metadata.array("tokenizer.ggml.token_type", len(tokens))
    known = tokenizer.get_vocab()
    for kind, is_special in ((_CONTROL, True), (_USER_DEFINED, False)):
        whole = [tokens[i] for i in np.flatnonzero(kinds == kind)]
        added = [AddedToken(token, normalized=False, special=is_special) for token in whole if token in known]
        (tokenizer.add_special_tokens if is_special else tokenizer.add_tokens)(added)


def _add_ends(tokenizer: Any, begin: str | None, end: str | None) -> None:
    from tokenizers import processors

    if begin is None and end is None:
        return
    around = ([f"{begin}:0"] if begin else [], [f"{end}:0"] if end else [])
    ids = [(token, tokenizer.token_to_id(token)) for token in (begin, end) if token]
    pair = [*around[0], "$A:0", *around[1], *(part.replace(":0", ":1") for part in (*around[0], "$B:0", *around[1]))]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=[*around[0], "$A:0", *around[1]], pair=pair, special_tokens=ids
    )

"""Tokenizers whose tokens are words: w0, w1 and so on."""

from __future__ import annotations

import json
from pathlib import Path

__all__ = ["save_word_tokenizer"]


def save_word_tokenizer(folder: Path, vocabulary: int, template: str | None = None) -> None:
    """Write the files of a tokenizer, with a chat template if there is one."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    tokenizer = Tokenizer(models.WordLevel({f"w{i}": i for i in range(vocabulary)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "PreTrainedTokenizerFast"}
    if template is not None:
        settings["chat_template"] = template
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))

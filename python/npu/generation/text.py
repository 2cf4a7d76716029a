"""Decodes a stream of tokens into text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

__all__ = ["TextPieces"]


class TextPieces:
    """Returns text as soon as it is final. A character may take several tokens, and text that could be the beginning of
    a stop string is held back."""

    def __init__(self, tokenizer: Any, stop_strings: Sequence[str]) -> None:
        self.text, self.stopped = "", False
        self._tokenizer, self._stops = tokenizer, tuple(stop_strings)
        self._tokens: list[int] = []
        self._from = self._read = self._returned = 0

    def add(self, token: int) -> str:
        self._tokens.append(token)
        before = self._decode(self._tokens[self._from : self._read])
        now = self._decode(self._tokens[self._from :])
        if len(now) <= len(before) or now.endswith("\ufffd"):
            return ""
        self._from, self._read = self._read, len(self._tokens)
        self.text += now[len(before) :]
        return self._settled()

    def end(self) -> str:
        """The text that was held back, after the last token."""
        if not self.stopped:
            before = self._decode(self._tokens[self._from : self._read])
            self.text += self._decode(self._tokens[self._from :])[len(before) :]
            self._from = self._read = len(self._tokens)
            self._cut()
        return self._give(len(self.text))

    def _settled(self) -> str:
        if self._cut():
            return self._give(len(self.text))
        withheld = 0
        for stop in self._stops:
            for length in range(min(len(stop) - 1, len(self.text)), withheld, -1):
                if self.text.endswith(stop[:length]):
                    withheld = length
                    break
        return self._give(len(self.text) - withheld)

    def _cut(self) -> bool:
        positions = [at for at in (self.text.find(stop) for stop in self._stops) if at >= 0]
        if positions:
            self.text, self.stopped = self.text[: min(positions)], True
        return self.stopped

    def _give(self, until: int) -> str:
        piece = self.text[self._returned : until]
        self._returned = max(self._returned, until)
        return piece

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True)
        return text

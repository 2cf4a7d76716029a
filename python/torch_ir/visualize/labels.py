"""Escapes text and ids for Mermaid."""

from __future__ import annotations

import re
from collections.abc import Iterable

# Mermaid interprets these as markup even in quotes; `#NN;` is its escape for a character.
_SPECIAL = str.maketrans(
    {
        '"': "'",
        "#": "#35;",
        "<": "#lt;",
        ">": "#gt;",
        "&": "#amp;",
        "`": "#96;",
        "\\": "#92;",
        "\n": " ",
        "\r": " ",
        "\t": " ",
    }
)
_UNSAFE_IN_ID = re.compile(r"[^A-Za-z0-9_]")


def _sanitize_label(text: str) -> str:
    return text.translate(_SPECIAL)


def _format_shape(shape: Iterable[int]) -> str:
    return "x".join(map(str, shape))


def _get_short_op_name(op_type: str) -> str:
    return op_type.removeprefix("aten.").removesuffix(".default")


def short_count(n: int) -> str:
    """1234567 as 1.2M."""
    for size, suffix in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "K")):
        if n >= size:
            return f"{n / size:.1f}{suffix}"
    return str(n)


class IdTable:
    """A unique id for each name: the name itself if it is valid in Mermaid, or else an escaped form."""

    def __init__(self) -> None:
        self._ids: dict[tuple[str, str], str] = {}
        self._taken: set[str] = set()

    def get(self, prefix: str, name: str) -> str:
        known = self._ids.get((prefix, name))
        if known is not None:
            return known
        plain = prefix + _UNSAFE_IN_ID.sub("_", name)
        unique, n = plain, 1
        while unique in self._taken:
            n += 1
            unique = f"{plain}__{n}"
        self._taken.add(unique)
        self._ids[prefix, name] = unique
        return unique

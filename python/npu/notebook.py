"""What a notebook shows of a compiled model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from npu.saving.signature import TensorEntry

__all__ = ["as_html", "readable_size"]

_MOST = 12
"""Inputs or outputs in the table; the rest is counted."""


def as_html(name: str, inputs: Iterable[TensorEntry], outputs: Iterable[TensorEntry], facts: Mapping[str, Any]) -> str:
    rows = {"Inputs": _tensors(inputs), "Outputs": _tensors(outputs)}
    rows |= {what: [str(fact)] for what, fact in facts.items()}
    body = "".join(
        f'<tr><th style="text-align:left">{escape(what)}</th>'
        f'<td style="text-align:left">{"<br>".join(map(escape, lines)) or "none"}</td></tr>'
        for what, lines in rows.items()
    )
    return f"<table><caption>CompiledModule {escape(name)}</caption><tbody>{body}</tbody></table>"


def _tensors(entries: Iterable[TensorEntry]) -> list[str]:
    lines = [f"{entry.user_name} {entry.dtype}{list(entry.shape)}" for entry in entries]
    return [*lines[:_MOST], f"and {len(lines) - _MOST} more"] if len(lines) > _MOST else lines


def readable_size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count} bytes"

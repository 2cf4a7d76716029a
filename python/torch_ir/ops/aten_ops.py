"""Names of operators in the IR."""

from __future__ import annotations

from typing import Any


def get_op_type(target: Any) -> str:
    """``aten.<op>.<overload>`` for an overload, ``<built-in function getitem>`` for tuple indexing, else ``str``."""
    return str(target)

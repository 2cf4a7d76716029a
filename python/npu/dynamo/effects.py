"""Operators that a graph calls for their effects, such as the check of a factorization, as calls like all others."""

from __future__ import annotations

import operator

import torch
from torch import fx

__all__ = ["has_effects_alone", "plain_effects"]

_HIGHER_ORDER = torch.ops.higher_order


def plain_effects(graph: fx.Graph) -> None:
    """Replaces ``with_effects(token, op, ...)`` by ``op(...)``, and the tokens by that of the graph's argument.

    Tokens keep such calls in order. Here the order of the graph does that. Nothing may drop unread calls afterwards.
    """
    for node in graph.find_nodes(op="call_function", target=_HIGHER_ORDER.with_effects):
        token, target, *args = node.args
        if target is _HIGHER_ORDER.invoke_subgraph:
            continue  # its body takes and returns tokens
        results = tuple(node.meta["val"][1:])
        is_single = isinstance(target, torch._ops.OpOverload) and len(target._schema.returns) < 2
        with graph.inserting_before(node):
            name = getattr(target, "_opname", None)
            call = graph.create_node("call_function", target, tuple(args), dict(node.kwargs), name=name)
        call.meta = {**node.meta, "val": results[0] if is_single else results}
        for user in list(node.users):
            if user.target is not operator.getitem:
                continue
            if user.args[1] == 0:
                user.replace_all_uses_with(token)
            elif is_single:
                user.replace_all_uses_with(call)
            else:
                user.args = (call, user.args[1] - 1)
                continue
            graph.erase_node(user)
        graph.erase_node(node)


def has_effects_alone(graph: fx.Graph) -> bool:
    """Whether the graph calls something that computes nothing."""
    return any(node.op == "call_function" and node.meta.get("val") is None for node in graph.nodes)

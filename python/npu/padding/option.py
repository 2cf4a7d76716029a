"""The options ``buckets`` and ``pad`` of ``npu.compile``, with the proof that they keep a model's results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from npu_base.size_rules import SizeRules
from npu_base.tensors import plain_tensors
from torch import Tensor, nn

from npu.buckets import Buckets, checked_buckets, is_ordinary
from npu.padding.proof import prove

__all__ = ["proven_buckets"]


def proven_buckets(
    ir: Any, inputs: Sequence[Any], buckets: Any, pad: Any, compute_dtype: str | None, module: nn.Module
) -> Buckets | None:
    """``inputs`` are those of the signature. None without buckets."""
    if buckets is None and pad is None:
        return None
    rules = SizeRules(ir.model_name, inputs, ir.sizes, ir.conditions)
    sizes, fills = checked_buckets(buckets, pad, rules)
    least = {size.name: size.least for size in ir.sizes}
    state: dict[str, Tensor] = dict(module.named_parameters(remove_duplicate=False))
    state |= dict(module.named_buffers(remove_duplicate=False))
    state = plain_tensors(state)
    masks = {name: tensor.detach() for name, tensor in state.items() if not is_ordinary(tensor.detach(), compute_dtype)}
    needs = {
        name: prove(ir, name, least=least[name], most=values[-1], fills=fills, compute_dtype=compute_dtype, masks=masks)
        for name, values in sizes.items()
    }
    return replace(Buckets(sizes, fills), needs={name: need for name, need in needs.items() if need})

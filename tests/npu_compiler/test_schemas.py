"""The signatures of lowerings are those of ATen: names, order of tensors, defaults."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.ao.quantization.fx._decomposed  # registers quantized_decomposed
from npu_compiler.lowering import IGNORED, LOWERINGS

import tests.support.torchao_ops  # noqa: F401 - registers torchao

OTHER_DEFAULTS = [("padding", "valid"), ("ord", 2), ("p", 2), ("dtype", 4), ("output_dtype", 6)]  # int64, float32
"""Said otherwise by the lowering, which serves several operators."""


def schema_of(op_type: str) -> Any:
    namespace, name, overload = op_type.split(".")
    return getattr(getattr(getattr(torch.ops, namespace), name), overload)._schema


@pytest.mark.parametrize("op_type", sorted(LOWERINGS))
def test_signature(op_type: str) -> None:
    schema, rule = schema_of(op_type), LOWERINGS[op_type]
    args = {a.name: a for a in schema.arguments}
    parameters = {p.name: p for p in rule.parameters}
    missing = [
        n for n, a in args.items() if n not in parameters and n not in IGNORED and "Generator" not in str(a.type)
    ]
    tensors = [n for n, a in args.items() if "Tensor" in str(a.type)]
    ours = [
        p.name for p in rule.parameters if p.kind != "attr" and p.name in args and "Tensor" in str(args[p.name].type)
    ]
    assert ours == tensors, "tensors in another order"
    assert not [n for n in missing if n in tensors]
    assert not [p.name for p in rule.parameters if p.required and p.name not in args], "needs what ATen never gives"
    for name, argument in args.items():
        if name in parameters and argument.has_default_value() and name not in tensors:
            ours_default, theirs = parameters[name].default, argument.default_value
            if isinstance(theirs, list):
                theirs = theirs[0] if len(set(theirs)) == 1 and not isinstance(ours_default, tuple) else tuple(theirs)
            same = theirs == ours_default or (not theirs and not ours_default) or (name, theirs) in OTHER_DEFAULTS
            assert same or parameters[name].required, (name, ours_default, theirs)


def test_no_argument_is_lost_without_a_word() -> None:
    """Arguments that lowerings do not know make a node unsupported; here are all that this concerns."""
    unknown = set()
    for op_type, rule in LOWERINGS.items():
        names = {p.name for p in rule.parameters} | IGNORED
        unknown |= {f"{op_type}:{a.name}" for a in schema_of(op_type).arguments if a.name not in names}
    assert {entry.rsplit(":", 1)[1] for entry in unknown} <= {"generator", "max_norm", "out_int32", "dtype", "eps"}, (
        sorted(unknown)
    )

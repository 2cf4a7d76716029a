"""A module's IR proven equal to the module."""

from __future__ import annotations

import torch
from torch import nn
from torch_ir import deserialize_ir, extract_ir, serialize_ir, validate_ir
from torch_ir.verifier import verify_ir_with_state_dict


def prove(factory, *inputs, ops: set[str] | None = None, exact: bool = True):
    """Extract on meta, through JSON, and compare with the real model; returns the IR."""
    with torch.device("meta"):
        model = factory().eval()
        args = tuple(torch.empty_like(x, device="meta") for x in inputs)
    ir = deserialize_ir(serialize_ir(extract_ir(model, args)))
    validate_ir(ir)
    torch.manual_seed(0)
    real = factory().eval()
    tolerance = 0.0 if exact else None
    ok, report = verify_ir_with_state_dict(ir, real.state_dict(), real, inputs, tolerance, tolerance)
    assert ok, f"{report}\n{report.output_details}"
    if ops is not None:
        assert {n.op_type for n in ir.nodes} == ops
    return ir


class Fn(nn.Module):
    """A module around a function."""

    def __init__(self, fn) -> None:
        super().__init__()
        self.fn = fn

    def forward(self, *args):
        return self.fn(*args)

"""What a saved model has for the size that it was used with last: its program or plan, and its IR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from npu_compiler import CompiledProgram, PartitionPlan

from npu.saving.model import Model, fixed

__all__ = ["Contents"]


@dataclass(frozen=True)
class Contents:
    program: CompiledProgram | PartitionPlan
    ir: dict[str, Any] | None
    weights: Any

    @staticmethod
    def of(model: Model, file: str) -> Contents:
        last = None if model.open is None else model.open.saved[-1]
        parts = model.parts if last is None else last.parts
        if parts is not None:
            return Contents(parts.plan, parts.plan.original_ir, model.weights)
        ir = None if model.ir is None else fixed(model, file)
        (code,) = model.programs() if last is None else [last.code]
        return Contents(CompiledProgram.from_bytes(code, file), ir, model.weights)

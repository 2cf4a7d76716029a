"""Which nodes of a model run on the device, and why others do not."""

from __future__ import annotations

import io
import os
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import IO, TYPE_CHECKING, Any

from npu_base.argument_types import ExampleInputs, IRSource
from npu_compiler.refusals import Refusal

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Explanation", "explain"]


@dataclass(frozen=True)
class Explanation:
    """What ``npu.explain`` found. Counts are by operator, the most frequent first."""

    model: str
    nodes: int
    arithmetic: float | None  # the share of the model's arithmetic that the device does; None if it has none
    supported: dict[str, int]
    unsupported: list[Refusal]
    padding: str = ""  # what calls are padded to, of a saved model with buckets

    @property
    def whole(self) -> bool:
        """Whether the device runs all of it."""
        return not self.unsupported

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        text = io.StringIO()
        self.print(text)
        return text.getvalue().rstrip("\n")

    def __repr__(self) -> str:
        return f"Explanation({self._summary()})"

    def _summary(self) -> str:
        share = "" if self.arithmetic is None else f", {self.arithmetic:.1%} of the arithmetic"
        padding = f"; calls are padded: {self.padding}" if self.padding else ""
        return f"{self.model}: {sum(self.supported.values())} of {self.nodes} nodes run on the device{share}{padding}"

    def print(self, file: IO[str] | None = None) -> None:
        from rich.table import Column, Table

        from npu.consoles import output_console

        console = output_console(file)
        console.print(self._summary())
        if self.whole:
            return
        folded = (Column(name, overflow="fold") for name in ("Reason", "First node", "Module"))
        table = Table("Operator", "Count", *folded)
        for refusal in self.unsupported:
            table.add_row(refusal.op, str(refusal.count), refusal.reason, refusal.node, refusal.module or "")
        console.print(table)
        console.print("npu.compile runs the rest on the host; npu.partition shows how.")


def explain(
    source: IRSource | nn.Module,
    example_inputs: ExampleInputs | None = None,
    example_kwargs: dict[str, Any] | None = None,
) -> Explanation:
    """Which nodes run on the device, and why others do not, as the compiler decides.

    ``source`` is an IR, its dict, the path of one or of a saved file, or a module with example inputs as
    ``npu.compile`` takes them.

    Raises:
        CompileError: the IR is malformed.
        TorchIRError: PyTorch cannot trace the module, or there are no example inputs.
        FileError: a file cannot be read.
    """
    from npu_compiler import explain_ir
    from npu_compiler.flops import flops_of
    from npu_compiler.reader import load_ir
    from npu_compiler.refusals import refusals

    from npu.saving.model import ir_at, padding_at

    ir = load_ir(ir_at(_ir_of(source, example_inputs, example_kwargs)))
    explained = explain_ir(ir)
    arithmetic = {True: 0.0, False: 0.0}
    for node, reason in explained:
        arithmetic[reason is None] += flops_of(node)
    supported = Counter(node["op_type"] for node, reason in explained if reason is None)
    return Explanation(
        model=ir.get("model_name", ""),
        nodes=len(explained),
        arithmetic=arithmetic[True] / max(sum(arithmetic.values()), 1.0) if any(arithmetic.values()) else None,
        supported=dict(supported.most_common()),
        unsupported=sorted(refusals(explained), key=lambda one: -one.count),
        padding=padding_at(source),
    )


def _ir_of(source: Any, example_inputs: Any, example_kwargs: dict[str, Any] | None) -> Any:
    from npu_base.errors import InvalidValueError

    torch = sys.modules.get("torch")
    if torch is not None and isinstance(source, torch.nn.Module):
        from torch_ir import extract_ir

        return extract_ir(source, () if example_inputs is None else example_inputs, example_kwargs)
    if example_inputs is not None or example_kwargs is not None:
        kind = type(source).__name__
        raise InvalidValueError(
            f"[npu] example inputs go with a module; got them with {kind}; expected the IR alone, or a module"
        )
    if isinstance(source, (str, os.PathLike, Mapping)) or hasattr(source, "to_dict"):
        return source
    raise InvalidValueError(
        f"[npu] this cannot be explained; got {type(source).__name__}; expected a module with example inputs, "
        "an IR, or the path of one"
    )

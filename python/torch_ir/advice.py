"""Alternatives to operations that cannot be traced, or whose result has no fixed size."""

from __future__ import annotations

import os
import sysconfig
import traceback
from types import TracebackType
from typing import Any

import torch

__all__ = ["fixed_size_form", "of_failed_export", "of_inputs", "of_numbers", "place_of"]

_MASK = "keep the size and mask instead: torch.where(mask, x, 0)"
_INDICES = "take a fixed number of indices, mask.int().topk(n).indices, or keep the mask: torch.where(mask, x, 0)"
_INSTEAD = {
    "nonzero": _INDICES,
    "argwhere": _INDICES,
    "where": f"give torch.where all three arguments, or {_INDICES}",
    "index": _MASK,
    "masked_select": _MASK,
    "_unique2": "sort, and mark where a new value begins: torch.sort(x).values.diff() != 0",
    "unique_dim": "keep all rows, and mark those that are repeated",
    "unique_consecutive": "keep all values, and mark where a new one begins: x.diff() != 0",
    "bincount": "count with a fixed number of bins: (x[:, None] == torch.arange(bins)).sum(0)",
    "repeat_interleave": "repeat by a number, or index with a fixed number of indices: x[indices]",
    "item": "keep it a tensor, x[0] instead of x[0].item(); for n rows from a row that a tensor tells, write "
    "x.index_select(0, i + torch.arange(n)) instead of x[i : i + n]",
}
_PACKED = (
    "a packed sequence has as many rows as its longest sequences need, which no graph of fixed shapes can hold; give "
    "the padded tensor to the module, and take each row's last step by out[torch.arange(n), lengths - 1], or use a mask"
)
_CTC = (
    "the CTC loss takes as many steps as its targets have, which no graph of fixed shapes can hold; keep losses out of "
    "forward, and extract the module that computes the log-probabilities"
)

_PACKED_WEIGHTS = (
    "the model has weights that PyTorch packed for one kind of processor when it quantised them; extract the model "
    "before it is quantised"
)
_DIMENSIONS = (
    "dynamic_shapes has a bool for a size; expected torch.export.Dim(...), Dim.AUTO, the size itself as an int, or None"
)
_MEANINGS = {
    "ctc_loss": _CTC,
    "Node copy__default of type call_function is missing nn_module_stack": (
        "forward sets a buffer to a tensor that there is already, such as an input or another buffer; assign a copy: "
        "self.NAME = x.clone()"
    ),
    "expected FakeTensor, got <class 'NoneType'>": "forward sets a buffer to None; a graph needs it to stay a tensor",
    "elem.device.type must be 'meta'": "forward copies a tensor with the module copy; use x.clone()",
    ".numpy() is not supported for tensor subclasses": "forward takes a tensor to NumPy, where no graph can follow; "
    "compute with torch",
    "PackedParamsBase": _PACKED_WEIGHTS,
    "Static shape constraint of True": _DIMENSIONS,
    "Static shape constraint of False": _DIMENSIONS,
}
"""What failures of torch.export mean, by a part of their messages."""


def fixed_size_form(op: str) -> str:
    """The alternative to an operator such as ``aten.nonzero.default``, or a general rule for an unknown one."""
    name = op.split(".")[1] if op.count(".") >= 1 else op
    return _INSTEAD.get(name, "use an operation whose result has a fixed size, such as a mask")


def of_failed_export(error: BaseException) -> str | None:
    """An explanation for failures whose own message does not name the cause."""
    advice = next((words for part, words in _MEANINGS.items() if part in str(error)), None)
    if advice is not None:
        return advice
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if _is_packing(error.__traceback__):
            return _PACKED
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return None


def of_inputs(leaves: list[Any]) -> str | None:
    """The same for inputs of the model."""
    from torch.nn.utils.rnn import PackedSequence

    return _PACKED if any(isinstance(x, PackedSequence) for x in leaves) else None


def of_numbers(error: Exception, leaves: list[Any]) -> str:
    """Advice for a failed call whose example inputs are all numbers."""
    if not isinstance(error, TypeError) or not leaves or not all(isinstance(x, int | float) for x in leaves):
        return ""
    return "; the example inputs hold numbers and no tensor, make one of them: torch.tensor(...)"


def place_of(error: BaseException) -> str | None:
    """The line of the model's code that failed, as a traceback shows it.

    It is the innermost one that is neither PyTorch's nor ours; if an installed package has the model's own code call
    it, that of the model.
    """
    frames = [f for f in traceback.extract_tb(error.__traceback__) if _is_of_models(f.filename)]
    own = [frame for frame in frames if not frame.filename.startswith(_INSTALLED)]
    if not frames:
        return None
    frame = (own or frames)[-1]
    line = f", {frame.line}" if frame.line else ""
    return f'File "{frame.filename}", line {frame.lineno}, in {frame.name}{line}'


_INSTALLED = tuple({sysconfig.get_path(name) + os.sep for name in ("purelib", "platlib", "stdlib", "platstdlib")})
_NOT_OF_MODELS = tuple(os.path.dirname(file) + os.sep for file in (torch.__file__, __file__))


def _is_of_models(file: str) -> bool:
    return file == "<stdin>" or (os.path.isabs(file) and not file.startswith(_NOT_OF_MODELS))


def _is_packing(trace: TracebackType | None) -> bool:
    """Whether the call failed while packing a sequence, or in a recurrent layer with a packed input."""
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.endswith("utils/rnn.py") and "pack" in code.co_name:
            return True
        if code.co_filename.endswith("modules/rnn.py") and trace.tb_frame.f_locals.get("batch_sizes") is not None:
            return True
        trace = trace.tb_next
    return False

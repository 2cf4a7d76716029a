"""Types of arguments that functions of several packages take."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

if TYPE_CHECKING:  # programs run without PyTorch
    import numpy as np
    import numpy.typing as npt
    import torch

__all__ = ["AnyDType", "AnyTensor", "DynamicShapes", "ExampleInputs", "HasBytes", "HasDict", "IRSource", "RunInputs"]


class HasDict(Protocol):
    """What an IR, a node or another record of them is here: it knows its form as a dict."""

    def to_dict(self) -> dict[str, Any]: ...


class HasBytes(Protocol):
    """What a CompiledProgram is here: it knows its form as a file."""

    def to_bytes(self) -> bytes: ...


class SpeaksDLPack(Protocol):
    """A tensor of any library that speaks DLPack, ours among them."""

    def __dlpack__(self, **kwargs: Any) -> Any: ...


AnyTensor: TypeAlias = "npt.NDArray[Any] | torch.Tensor | SpeaksDLPack"
AnyDType: TypeAlias = "str | np.dtype[Any] | torch.dtype | type[Any]"
ExampleInputs: TypeAlias = "torch.Tensor | Sequence[Any] | Mapping[str, Any]"
"""One tensor, positional arguments, or keyword arguments. Arguments may be nested."""

DynamicShapes: TypeAlias = "dict[str, Any] | tuple[Any, ...] | list[Any] | None"
"""What ``torch.export.export`` takes."""

IRSource: TypeAlias = "str | os.PathLike[str] | Mapping[str, Any] | HasDict"
"""An IR, its dict, or the path of its file."""

RunInputs: TypeAlias = "Mapping[str, AnyTensor] | AnyTensor"
"""Tensors by name, or the only one."""

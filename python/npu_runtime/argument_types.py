"""Types of arguments that several classes and functions here take."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeAlias

from npu_base.argument_types import AnyTensor, HasBytes

from npu_runtime._core import Program, Weights

if TYPE_CHECKING:  # programs run without PyTorch
    from torch import nn

__all__ = ["AnyProgram", "WeightSource"]


AnyProgram: TypeAlias = "Program | HasBytes | str | os.PathLike[str]"
"""A program, one that the compiler has made, or the path of a file."""

WeightSource: TypeAlias = "str | os.PathLike[str] | Mapping[str, AnyTensor] | Weights | nn.Module"
"""A file or folder of weights, tensors by name, or a module that has them."""

"""Conversions between dtypes, and operators that return their input unchanged."""

from __future__ import annotations

from ..errors import Refused
from ..lowering import Builder, DType, Tensor, lowering


@lowering("aten.to.dtype", "aten.to.dtype_layout", "aten._to_copy.default", "aten.to.device", "aten.to.prim_Device")
def to(b: Builder, self: Tensor, dtype: DType | None = None, copy: bool = False) -> Tensor:
    return self if dtype is None else b.cast(self, dtype)


@lowering("aten.to.other", "aten.type_as.default")
def type_as(b: Builder, self: Tensor, other: Tensor, copy: bool = False) -> Tensor:
    return b.cast(self, other.dtype)


@lowering(
    "aten.alias.default", "aten.clone.default", "aten.contiguous.default", "aten.detach.default",
    "aten.detach_copy.default", "aten.lift_fresh.default", "aten.lift_fresh_copy.default", "aten.alias_copy.default",
)  # fmt: skip
def identity(b: Builder, self: Tensor) -> Tensor:
    return self


@lowering("aten.copy.default")
def copy(b: Builder, self: Tensor, src: Tensor) -> Tensor:
    return b.cast(src, self.dtype).expand(self.shape)


@lowering("aten.dropout.default", "aten.feature_dropout.default", "aten.alpha_dropout.default",
          "aten.feature_alpha_dropout.default")  # fmt: skip
def dropout(b: Builder, input: Tensor, p: float = 0.5, train: bool = False) -> Tensor:
    if train and p > 0:
        raise Refused("active dropout; call eval() before extraction")
    return input


@lowering("aten.native_dropout.default")
def native_dropout(b: Builder, input: Tensor, p: float = 0.5, train: bool | None = None) -> tuple[Tensor, None]:
    return dropout(b, input, p, bool(train)), None

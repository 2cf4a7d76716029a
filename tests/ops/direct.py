"""Overloads that PyTorch's own functions no longer give, and older or decomposed IRs do: called by name."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .making import b, case, f, i, positive, special, strided

aten: Any = torch.ops.aten


def _layers() -> None:
    x, w, bias = f(2, 4, 6, 5), f(6, 2, 3, 3), f(6)
    case("aten convolution", lambda x, w, s: aten.convolution(x, w, s, [2, 1], [1, 0], [1, 1], False, [0, 0], 2),
         x, w, bias)  # fmt: skip
    case("aten convolution transposed", lambda x, w, s: aten.convolution(x, w, s, [2, 1], [1, 0], [1, 1], True, [1, 0],
         2), x, f(4, 3, 3, 3), bias)  # fmt: skip
    case("aten _convolution", lambda x, w, s: aten._convolution(x, w, s, [1, 1], [0, 0], [1, 1], False, [0, 0], 2,
         False, False, False, False), x, w, bias)  # fmt: skip
    four = (f(4), f(4), f(4), positive(4))
    case("aten native_batch_norm", lambda x, *p: aten.native_batch_norm(x, *p, False, 0.1, 1e-5)[0], x, *four)
    case("aten batch norm not training",
         lambda x, *p: aten._native_batch_norm_legit_no_training(x, *p, 0.1, 1e-5)[0], x, *four)  # fmt: skip
    case("aten native_group_norm", lambda x, w, s: aten.native_group_norm(x, w, s, 2, 4, 30, 2, 1e-5)[0], x, f(4), f(4))
    case("aten native_layer_norm", lambda x, w: aten.native_layer_norm(x, [6, 5], w, None, 1e-5)[0], x, f(6, 5))
    case("aten _fused_rms_norm", lambda x, w: aten._fused_rms_norm(x, [5], w, 1e-5)[0], x, f(5))
    case("aten _softmax", lambda x: (aten._softmax(x, 1, False), aten._log_softmax(x, -1, False)), f(3, 4))
    case("aten _weight_norm", lambda v, g: (aten._weight_norm(v, g, 0), aten._weight_norm(v, g[:1, :, :1], 0) * 0 + v),
         f(3, 4, 2), positive(3, 1, 1))  # fmt: skip
    case("aten native_dropout", lambda x: aten.native_dropout(x, 0.5, False)[0], f(3, 4))
    case("aten rnn_relu_cell", aten.rnn_relu_cell, f(2, 3), f(2, 4), f(4, 3), f(4, 4))


def _spatial() -> None:
    shapes = {1: ((2, 3, 5), [7]), 2: ((2, 3, 5, 4), [3, 6]), 3: ((1, 2, 3, 4, 2), [2, 6, 3])}
    for n, (shape, size) in shapes.items():
        case(f"aten nearest {n}d", lambda x, n=n, s=size: getattr(aten, f"upsample_nearest{n}d")(x, s), f(*shape))
        case(f"aten nearest exact {n}d", lambda x, n=n, s=size: getattr(aten, f"_upsample_nearest_exact{n}d")(x, s),
             f(*shape))  # fmt: skip
        name = ("linear1d", "bilinear2d", "trilinear3d")[n - 1]
        case(f"aten {name}", lambda x, n=name, s=size: getattr(aten, f"upsample_{n}")(x, s, True), f(*shape))
        pad = [1, 1] * n
        for kind in ("reflection", "replication"):
            case(f"aten {kind} {n}d", lambda x, k=kind, n=n, p=pad: getattr(aten, f"{k}_pad{n}d")(x, p), f(*shape))
        factors = [2.0, 1.5, 0.5][:n]
        for kind in ("upsample_nearest", "_upsample_nearest_exact"):
            case(f"aten {kind} {n}d by factors",
                 lambda x, k=kind, n=n, s=factors: getattr(aten, f"{k}{n}d").vec(x, None, s), f(*shape))  # fmt: skip
    case("aten bicubic2d", lambda x: aten.upsample_bicubic2d(x, [7, 3], False), f(1, 2, 4, 5))
    case("aten constant_pad_nd", lambda x: aten.constant_pad_nd(x, [1, -1, 0, 2], 3.5), f(2, 3, 4))


def _elementwise() -> None:
    table: dict[str, Any] = {
        "aminmax": lambda x: aten.aminmax(x, dim=1, keepdim=True),
        "clamp_max": lambda x: (aten.clamp_max(x, 0.5), aten.clamp_max(x, x * 0.5), aten.clamp_min(x, x * 0.5)),
        "deg2rad": aten.deg2rad,
        "fix": aten.fix,
        "max.other": lambda x: (aten.max.other(x, x * -1), aten.min.other(x, x * 0.5)),
        "msort": aten.msort,
        "positive": lambda x: aten.positive(x) + 1,
        "ravel": lambda x: (aten.ravel(x), aten.reshape_as(x, x.t()), aten.view_as(x, x)),
        "rrelu": aten.rrelu,
        "std_mean": lambda x: (*aten.std_mean.correction(x, [1]), *aten.std_mean(x, False), *aten.std_mean.dim(x, [0])),
        "fill": lambda x: aten.fill.Tensor(x, x[0, 0]) + aten.zero(x),
        "clone and copies": lambda x: aten.copy(x, x[:1]) + aten.transpose_copy(x.clone(), 0, 1).t(),
    }
    for name, function in table.items():
        case(f"aten {name}", function, f(3, 4))
    case("aten is infinite", lambda x: (aten.isposinf(x), aten.isneginf(x)), special(3, 5))
    case("aten bitwise shifts", lambda x, y: (aten.bitwise_left_shift(x, y), aten.bitwise_right_shift(x, y),
         aten.bitwise_left_shift.Tensor_Scalar(x, 2), aten.bitwise_right_shift.Tensor_Scalar(x, 1)), i(9, low=0),
         i(9, low=0, high=5))  # fmt: skip
    case("aten split arrays", lambda x: (*aten.vsplit.array(x, [1]), *aten.dsplit.array(x, [1, 2])), strided(2, 3, 4))
    case("aten bools", lambda x: (aten.sum(x, [0]), aten.amax(x, [1]), aten.cumsum(x, 0)), b(3, 4))
    case("aten as_strided", lambda x: aten.as_strided_copy(x, [2, 2], [1, 2]), f(4), refused="layout of memory")
    case("aten getitem of a pool", _second, f(1, 2, 4, 4))


def _second(x: Tensor) -> Tensor:
    return aten.max_pool2d_with_indices(x, [2, 2])[1] + 1  # type: ignore[no-any-return]


for _family in (_layers, _spatial, _elementwise):
    _family()

"""For every pass small models with the ops before and after it, alone; no ``after`` where it must not fire."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from npu_base.quantization import Scheme
from torch import Tensor, nn

from tests.support.quantized import quantized


@dataclass(frozen=True)
class PassCase:
    passes: str
    name: str
    model: Callable[[], nn.Module] | Callable[..., Any]
    shapes: tuple[Any, ...]
    before: str
    after: str | None = None
    module: bool = False
    scheme: Scheme | None = None

    def quantized_weights(self, model: nn.Module) -> list[str]:
        return [name for name, p in model.named_parameters() if self.scheme and p.ndim > 1]

    def quantize(self, model: nn.Module) -> dict[str, Tensor]:
        """Gives its matrices numbers that are stored so; returns what is stored."""
        stored = {}
        for name in self.quantized_weights(model):
            assert self.scheme
            weight = quantized(name, model.get_parameter(name).shape, self.scheme)
            model.get_parameter(name).data = weight.numbers.float()
            stored.update({name + suffix: part for suffix, part in weight.parts.items()})
        return stored

    def build(self) -> Any:
        return self.model() if self.module else self.model

    def inputs(self) -> tuple[Tensor, ...]:
        """A shape stands for floats, a tensor for itself."""
        g = torch.Generator().manual_seed(1)
        return tuple(s if isinstance(s, Tensor) else torch.randn(s, generator=g) for s in self.shapes)


class Net(nn.Module):
    """``function(parts..., inputs...)``."""

    def __init__(self, function: Callable[..., Any], *parts: nn.Module) -> None:
        super().__init__()
        self.function, self.parts = function, nn.ModuleList(parts)

    def forward(self, *x: Tensor) -> Any:
        return self.function(*self.parts, *x)


CASES: list[PassCase] = []


def fires(
    passes: str, name: str, model: Any, shapes: Any, before: str, after: str, module: bool = False, **more: Any
) -> None:
    CASES.append(PassCase(passes, name, model, shapes, before, after, module, **more))


def stays(passes: str, name: str, model: Any, shapes: Any, before: str, module: bool = False, **more: Any) -> None:
    CASES.append(PassCase(passes, name, model, shapes, before, None, module, **more))


IMAGE = ((2, 4, 5, 6),)
MATRIX, TWO = ((3, 4),), ((3, 4), (3, 4))
SCALE, SHIFT, APPLY = "map{div($1,sqrt(add($0,1e-05)))}", "map{sub($2,mul($0,$1))}", "map{add(mul($0,$1),$2)}"
BN = f"{SCALE} {SHIFT} {APPLY}"
FOLDED, FOLDED_BIAS = f"{SCALE} {SHIFT} map{{mul($0,$1)}} conv", f"{SCALE} {SHIFT} map{{mul($0,$1)}} {APPLY} conv"


def conv() -> nn.Module:
    return nn.Conv2d(4, 6, 3)


def norm() -> nn.Module:
    return nn.BatchNorm2d(6)


BY_HAND = "conv map{mul($0,$1)} map{add($0,$1)}"


def _batch_norms() -> None:
    def firing(name: str, model: Any, before: str, after: str, shapes: Any = IMAGE) -> None:
        fires("fold_batch_norm", name, model, shapes, before, after, module=True)

    firing("bias", lambda: nn.Sequential(conv(), norm()), f"conv {BN}", FOLDED_BIAS)
    firing("no bias", lambda: nn.Sequential(nn.Conv2d(4, 6, 3, bias=False), norm()), f"conv {BN}", FOLDED)
    firing("groups", lambda: nn.Sequential(nn.Conv2d(4, 6, 3, groups=2), norm()), f"conv {BN}", FOLDED_BIAS)
    firing(
        "transposed",
        lambda: nn.Sequential(nn.ConvTranspose2d(4, 6, 3, 2, groups=2), norm()),
        f"copy conv {BN}",
        f"copy {FOLDED_BIAS}",
    )
    firing(
        "one dimension",
        lambda: nn.Sequential(nn.Conv1d(4, 6, 3), nn.BatchNorm1d(6)),
        f"conv {BN}",
        FOLDED_BIAS,
        ((2, 4, 7),),
    )
    firing("first of two norms", lambda: nn.Sequential(conv(), norm(), norm()), f"conv {BN} {BN}",
           f"{FOLDED_BIAS} {BN}")  # fmt: skip
    firing(
        "two pairs",
        lambda: nn.Sequential(conv(), norm(), nn.Conv2d(6, 4, 1, bias=False), nn.BatchNorm2d(4)),
        f"conv {BN} conv {BN}",
        f"{FOLDED_BIAS} {FOLDED}",
    )
    firing(  # the weights are read twice, each fold has its own copy
        "one convolution called twice, with two norms",
        lambda: Net(lambda c, m, n, x: (m(c(x)), n(c(x * 2))), conv(), norm(), norm()),
        f"conv {BN} map{{mul($0,2.0)}} conv {BN}",
        f"{FOLDED_BIAS} map{{mul($0,2.0)}} {FOLDED_BIAS}",
    )
    firing("a scale and a shift by hand", lambda: Net(
           lambda c, n, x: n.bias.view(-1, 1, 1) + c(x) * n.weight.view(-1, 1, 1), conv(), norm()),
           BY_HAND, f"map{{mul($0,$1)}} {APPLY} conv")  # fmt: skip


def branch(kernel: Any, padding: Any = 0, **more: Any) -> nn.Module:
    return nn.Conv2d(4, 4, kernel, padding=padding, **more)


def total(*parts: nn.Module) -> nn.Module:
    """The sum of what the parts make of one tensor."""

    def add_up(*parts_and_x: Any) -> Tensor:
        first, *others = (part(parts_and_x[-1]) for part in parts_and_x[:-1])
        return sum(others, first)

    return Net(add_up, *parts)


def _sums_of_convolutions() -> None:
    def firing(name: str, model: Any, before: str, after: str) -> None:
        fires("sum_convolutions", name, model, IMAGE, before, after, module=True)

    def staying(name: str, model: Any, before: str) -> None:
        stays("sum_convolutions", name, model, IMAGE, before, module=True)

    add = "map{add($0,$1)}"
    two, joined = f"conv conv {add}", f"pad {add} {add} conv"
    firing("two alike", lambda: total(branch(3, 1), branch(3, 1)), two, f"{add} {add} conv")
    firing("a smaller kernel", lambda: total(branch(1), branch(3, 1)), two, joined)
    firing("no bias", lambda: total(branch(3, 1, bias=False), branch(1, bias=False)), two, f"pad {add} conv")
    firing("three", lambda: total(branch(3, 1), branch(1), branch(3, 1, bias=False)), f"conv {two} {add}",
           f"{add} {joined}")  # fmt: skip
    firing("dilated, and one tap", lambda: total(branch(3, 2, dilation=2), branch(1)), two, joined)
    firing("dilated both", lambda: total(branch((3, 5), (2, 4), dilation=2), branch(3, 2, dilation=2)), two, joined)
    firing("wider on one side", lambda: total(branch((3, 5), (1, 2)), branch(3, 1)), two, joined)
    firing("beside a residual", lambda: Net(lambda a, b, x: (a(x) + x) + b(x), branch(3, 1), branch(1)),
           f"conv {add} conv {add}", f"{joined} {add}")  # fmt: skip
    firing("after a zero", lambda: Net(lambda a, b, x: 0 + a(x) + b(x), branch(3, 1), branch(1)),
           f"conv map{{add($0,0.0)}} conv {add}", joined)  # fmt: skip
    diagonal = f"{SCALE} {SHIFT} iota map{{where(eq($1,$2),$0,0.0)}}"
    for groups, start in ((1, diagonal), (2, diagonal), (4, f"{SCALE} {SHIFT}")):
        firing(f"a norm beside {groups} groups", lambda groups=groups: total(branch(3, 1, groups=groups),
               nn.BatchNorm2d(4)), f"conv {BN} {add}", f"{start} {joined}")  # fmt: skip
    staying("a result that is read twice", lambda: Net(lambda a, b, x: (lambda y: y + b(x) + y.sum())(a(x)),
            branch(3, 1), branch(1)), f"conv {two[5:]} reduce {add}")  # fmt: skip
    staying("a result twice", lambda: Net(lambda a, x: (lambda y: y + y)(a(x)), branch(1)), "conv map{add($0,$0)}")
    staying("neither kernel in the other", lambda: total(branch((3, 1), (1, 0)), branch((1, 3), (0, 1))), two)
    staying("taps between taps", lambda: total(branch(5, 2), branch(3, 2, dilation=2)), two)
    staying("other groups", lambda: total(branch(3, 1, groups=2), branch(3, 1)), two)
    staying("of other tensors", lambda: Net(lambda a, b, x: a(x) + b(x * 2), branch(3, 1), branch(1)),
            f"conv map{{mul($0,2.0)}} conv {add}")  # fmt: skip
    staying("a norm of another size", lambda: Net(lambda a, n, x: a(F.pad(x, (1, 1, 1, 1))) + n(x), branch(3),
            nn.BatchNorm2d(4)), f"pad conv {BN} {add}")  # fmt: skip


def _short_sums() -> None:
    def firing(name: str, model: Any, before: str, after: str, shapes: Any = ((2, 3, 4, 5),)) -> None:
        fires("unroll_short_sums", name, model, shapes, before, after)

    three = "map{add(add($0,$1),$2)}"
    firing("three rows", lambda x: x.sum(1), "reduce", three)
    firing("kept, and read", lambda x: x.sum(1, keepdim=True).sin(), "reduce map{sin($0)}", f"{three} map{{sin($0)}}")
    firing("of the first axis", lambda x: x.sum(0) * 2, "reduce map{mul($0,2.0)}", "map{add($0,$1)} map{mul($0,2.0)}")
    firing("of a view", lambda x: x.transpose(1, 2).sum(2), "reduce", three)
    for name, model, before in (
        ("the last axis", lambda x: x[..., :2].sum(-1), "reduce"),
        ("five rows", lambda x: x.transpose(1, 3).sum(1), "reduce"),
        ("a maximum", lambda x: x.amax(1), "reduce"),
        ("two axes", lambda x: x.sum((0, 1)), "reduce"),
    ):
        stays("unroll_short_sums", name, model, ((2, 3, 4, 5),), before)
    stays("unroll_short_sums", "integers", lambda x: x.sum(0), (torch.arange(6).view(2, 3),), "reduce")


def _other_norms() -> None:
    def staying(name: str, model: Any, before: str, shapes: Any = IMAGE) -> None:
        stays("fold_batch_norm", name, model, shapes, before, module=True)

    staying("a scale for each row", lambda: Net(lambda c, n, x: c(x) * n.weight[:3, None] + n.bias.view(-1, 1, 1),
            conv(), norm()), BY_HAND)  # fmt: skip
    staying("a scale that is an input", lambda: Net(lambda c, n, x, s: c(x) * s + n.bias.view(-1, 1, 1),
            conv(), norm()), BY_HAND, (*IMAGE, (6, 1, 1)))  # fmt: skip
    staying("result shared", lambda: Net(lambda c, n, x: (lambda y: n(y) + y)(c(x)), conv(), norm()),
            f"conv {BN} map{{add($0,$1)}}")  # fmt: skip
    staying("result is an output", lambda: Net(lambda c, n, x: (lambda y: (n(y), y))(c(x)), conv(), norm()),
            f"conv {BN}")  # fmt: skip
    staying("statistics of the batch", lambda: nn.Sequential(conv(), nn.BatchNorm2d(6, track_running_stats=False)),
            f"conv reduce reduce {BN}")  # fmt: skip
    staying("relu between", lambda: nn.Sequential(conv(), nn.ReLU(), norm()), f"conv map{{relu($0)}} {BN}")
    staying("norm first", lambda: nn.Sequential(nn.BatchNorm2d(4), conv()), f"{BN} conv")
    staying("weight is an input", lambda: Net(lambda n, x, w: n(F.conv2d(x, w)), norm()), f"conv {BN}",
            (*IMAGE, (6, 4, 3, 3)))  # fmt: skip
    staying("reshaped between", lambda: Net(lambda c, n, x: n(c(x).flatten(2)), conv(), nn.BatchNorm1d(6)),
            f"conv {BN}")  # fmt: skip
    staying("another channel", lambda: Net(lambda c, n, x: n(c(x).transpose(1, 2)), nn.Conv2d(4, 6, 3),
                                           nn.BatchNorm2d(3)), f"conv {BN}")  # fmt: skip
    staying("linear", lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)), f"matmul {BN}", ((3, 4),))


def _epilogues() -> None:
    def with_linear(function: Callable[..., Any]) -> Callable[[], nn.Module]:
        return lambda: Net(function, nn.Linear(4, 4))

    def firing(name: str, model: Any, before: str, after: str, shapes: Any = MATRIX) -> None:
        fires("fuse_epilogues", name, model, shapes, before, after, module=True)

    def staying(name: str, function: Callable[..., Any], before: str, shapes: Any = MATRIX) -> None:
        stays("fuse_epilogues", name, with_linear(function), shapes, before, module=True)

    firing("activation", lambda: nn.Sequential(nn.Conv2d(4, 6, 3), nn.ReLU()), "conv map{relu($0)}", "conv{relu($0)}",
           IMAGE)  # fmt: skip
    firing("chain", with_linear(lambda n, x: F.gelu(n(x)) * 0.5 + 1), "matmul map{gelu($0)} map{mul($0,0.5)} "
           "map{add($0,1.0)}", "matmul{add(mul(gelu($0),0.5),1.0)}")  # fmt: skip
    firing("residual", with_linear(lambda n, x: x + n(x)), "matmul map{add($0,$1)}", "matmul{add($1,$0)}")
    firing("operand broadcast to the result", with_linear(lambda n, x, s: n(x) * s), "matmul map{mul($0,$1)}",
           "matmul{mul($0,$1)}", ((3, 4), (3, 1)))  # fmt: skip
    firing("gate of two products", lambda: Net(lambda a, b, x: F.silu(a(x)) * b(x), nn.Linear(4, 6), nn.Linear(4, 6)),
           "matmul map{silu($0)} matmul map{mul($0,$1)}", "matmul{silu($0)} matmul{mul($1,$0)}")  # fmt: skip
    firing("reshaped", lambda: Net(lambda c, x: c(x).flatten(1).relu(), nn.Conv2d(4, 6, 3)), "conv map{relu($0)}",
           "conv{relu($0)}", IMAGE)  # fmt: skip
    firing("mask", with_linear(lambda n, x, m: torch.where(m > 0, n(x), 0.0)),
           "map{gt($0,0.0)} matmul map{0.0} map{where($0,$1,$2)}",
           "map{gt($0,0.0)} map{0.0} matmul{where($1,$0,$2)}", TWO)  # fmt: skip
    staying("two readers", lambda n, x: (lambda y: (y.relu(), y.exp()))(n(x)), "matmul map{relu($0)} map{exp($0)}")
    staying("result is an output", lambda n, x: (lambda y: (y, y.exp()))(n(x)), "matmul map{exp($0)}")
    staying("transposed", lambda n, x: n(x).t() + x, "matmul map{add($0,$1)}", ((4, 4),))
    staying("broadcast itself", lambda n, x, y: n(x) + y, "matmul map{add($0,$1)}", ((1, 4), (3, 4)))
    staying("broadcast to a higher rank", lambda n, x, y: n(x) + y, "matmul map{add($0,$1)}", ((3, 4), (2, 3, 4)))
    staying("another dtype", lambda n, x: n(x) > 0, "matmul map{gt($0,0.0)}")
    staying("a part", lambda n, x: n(x)[:, 1:].relu(), "matmul map{relu($0)}")
    staying("no map", lambda n, x: n(x).softmax(-1), "matmul softmax")
    CASES.append(PassCase(
        "fuse_maps fuse_epilogues", "more operands than an epilogue may have",
        with_linear(lambda n, x, *t: n(x) + t[0] * t[1] * t[2] * t[3] * t[4]), ((3, 4),) * 6,
        "matmul" + " map{mul($0,$1)}" * 4 + " map{add($0,$1)}",
        "matmul map{add($0,mul(mul(mul(mul($1,$2),$3),$4),$5))}", module=True))  # fmt: skip


def _maps() -> None:
    def firing(name: str, function: Any, before: str, after: str, shapes: Any = MATRIX) -> None:
        fires("fuse_maps", name, function, shapes, before, after)

    def staying(name: str, function: Any, before: str, shapes: Any = MATRIX) -> None:
        stays("fuse_maps", name, function, shapes, before)

    firing("chain", lambda x: (x * 2 + 1).relu().exp(), "map{mul($0,2.0)} map{add($0,1.0)} map{relu($0)} map{exp($0)}",
           "map{exp(relu(add(mul($0,2.0),1.0)))}")  # fmt: skip
    firing("tree", lambda x, y: (x.exp() + y.sin()) * x, "map{exp($0)} map{sin($0)} map{add($0,$1)} map{mul($0,$1)}",
           "map{mul(add(exp($0),sin($1)),$0)}", TWO)  # fmt: skip
    firing("transposed", lambda x, y: x.exp().t() + y.t(), "map{exp($0)} map{add($0,$1)}", "map{add(exp($0),$1)}", TWO)
    firing("a part", lambda x: x.exp()[:, 1:] * 2, "map{exp($0)} map{mul($0,2.0)}", "map{mul(exp($0),2.0)}")
    firing("a number for all its readers", lambda x: (lambda k: (x + k, x * k))(torch.full((3, 4), 2.5)),
           "map{2.5} map{add($0,$1)} map{mul($0,$1)}", "map{add($0,2.5)} map{mul($0,2.5)}")  # fmt: skip
    firing("narrow integers wrap", lambda x: (x * 7 + 100).to(torch.int32) + 1,
           "map{mul($0,7)} map{add($0,100)} map{int32($0)} map{add($0,1)}",
           "map{add(int32(int8(add(int8(mul($0,7)),100))),1)}", (torch.arange(9, dtype=torch.int8) * 10,))  # fmt: skip
    firing("cheap and broadcast", lambda x, y: (x + 1) * y, "map{add($0,1.0)} map{mul($0,$1)}",
           "map{mul(add($0,1.0),$1)}", ((4,), (3, 4)))  # fmt: skip
    firing("read in two ways", lambda x: (lambda e: e * e.flip(0))(x.exp()), "map{exp($0)} map{mul($0,$1)}",
           "map{mul(exp($0),exp($1))}")  # fmt: skip
    firing("up to twelve operands", lambda *t: sum(t[1:], t[0]), " ".join(["map{add($0,$1)}"] * 12),
           "map{" + "add(" * 11 + "$0," + "),".join(f"${i}" for i in range(1, 12)) + ")} map{add($0,$1)}",
           ((2,),) * 13)  # fmt: skip
    staying("dear and broadcast", lambda x, y: x.exp() * y, "map{exp($0)} map{mul($0,$1)}", ((4,), (3, 4)))
    staying("two readers", lambda x: (lambda e: (e + 1, e * 2))(x.exp()), "map{exp($0)} map{add($0,1.0)} "
            "map{mul($0,2.0)}")  # fmt: skip
    staying("result is an output", lambda x: (lambda e: (e, e * 2))(x.exp()), "map{exp($0)} map{mul($0,2.0)}")
    staying("no map", lambda x: x.exp().sum(1), "map{exp($0)} reduce")
    staying("no strides express it", lambda x: x.t().exp().reshape(2, 6)[:, 1:5] * 2, "map{exp($0)} map{mul($0,2.0)}")
    half = (torch.linspace(-2, 2, 12, dtype=torch.float16).reshape(3, 4),)
    fires("fuse_casts", "into every reader", lambda h: (lambda w: (w + 1, w * 2))(h.float()), half,
          "map{float32($0)} map{add($0,1.0)} map{mul($0,2.0)}",
          "map{add(float32($0),1.0)} map{mul(float32($0),2.0)}")  # fmt: skip
    fires("fuse_casts", "kept for others", lambda h: (lambda w: (w.sum(), w * 2))(h.float()), half,
          "map{float32($0)} reduce map{mul($0,2.0)}", "map{float32($0)} reduce map{mul(float32($0),2.0)}")  # fmt: skip
    stays("fuse_casts", "work is not repeated", lambda x: (lambda w: (w + 1, w * 2))(x.exp()), MATRIX,
          "map{exp($0)} map{add($0,1.0)} map{mul($0,2.0)}")  # fmt: skip


def _cats() -> None:
    def firing(name: str, function: Any, before: str, after: str, shapes: Any = TWO) -> None:
        fires("place_cat", name, function, shapes, before, after)

    def staying(name: str, function: Any, before: str, shapes: Any = TWO) -> None:
        stays("place_cat", name, function, shapes, before)

    made = "map{exp($0)} map{sin($0)}"
    firing("maps", lambda x, y: torch.cat([x.exp(), y.sin()], 1), f"{made} copy copy", made)
    firing("cat in a cat", lambda x, y: torch.cat([torch.cat([x.exp(), y.sin()], 1), x.relu()], 1),
           f"{made} copy copy map{{relu($0)}} copy copy", f"{made} map{{relu($0)}}")  # fmt: skip
    firing("stack", lambda x, y: torch.stack([x.exp(), y.sin()], 1), f"{made} copy copy", made)
    firing("results of one op", lambda x: torch.cat([x.topk(2, 1)[0], x.topk(2, 1)[1].float()], 1),
           "topk topk map{float32($0)} copy copy", "topk topk map{float32($0)}", MATRIX)  # fmt: skip
    firing("part read afterwards", lambda x, y: (lambda e: (torch.cat([e, y.sin()], 1), e * 2))(x.exp()),
           f"{made} copy copy map{{mul($0,2.0)}}", f"{made} map{{mul($0,2.0)}}")  # fmt: skip
    firing("a part that is an output is copied", lambda x, y: (lambda e: (torch.cat([e, y.sin()], 1), e))(x.exp()),
           f"{made} copy copy", f"{made} copy")  # fmt: skip
    firing("a part read before the rest is made", lambda x: (lambda e: torch.cat([e, e.sum(1, True).sin()], 1))(
           x.exp()), "map{exp($0)} reduce map{sin($0)} copy copy", "map{exp($0)} reduce map{sin($0)} copy",
           MATRIX)  # fmt: skip
    firing("a slice is copied", lambda x: torch.cat([x.exp()[:, 1:], x.sin()], 1), f"{made} copy copy", f"{made} copy",
           MATRIX)  # fmt: skip
    staying("inputs", lambda x, y: torch.cat([x, y], 1), "copy copy")
    staying("one value twice", lambda x: (lambda e: torch.cat([e, e], 1))(x.exp()), "map{exp($0)} copy copy", MATRIX)
    staying("turned", lambda x, y: torch.cat([x.exp().t(), y.sin().t()], 1), f"{made} copy copy")
    staying("rows that no strides reach", lambda x, y: torch.cat([x.exp().view(2, 6), y.sin().view(2, 6)], 1),
            f"{made} copy copy")  # fmt: skip


HALF = torch.linspace(-2, 2, 48, dtype=torch.float16).reshape(2, 3, 8)


def rms(x: Tensor, w: Tensor | float, dim: Any = -1, eps: Any = 1e-5) -> Tensor:
    return w * (x * torch.rsqrt(x.pow(2).mean(dim, keepdim=True) + eps))


def _rms_norms() -> None:
    def firing(name: str, function: Any, before: str, after: str, shapes: Any = ((2, 3, 8), (8,))) -> None:
        fires("fuse_rms_norm", name, function, shapes, before, after)

    def staying(name: str, function: Any, before: str, shapes: Any = ((2, 3, 8), (8,))) -> None:
        stays("fuse_rms_norm", name, function, shapes, before)

    head = "map{mul($0,$0)} reduce map{add($0,1e-05)} map{rsqrt($0)}"
    product = "map{mul($0,$1)}"
    both = f"{head} {product} {product}"
    firing("with a weight", rms, both, "norm")
    firing("over two axes", lambda x, w: rms(x, w, (1, 2)), both, "norm", ((2, 3, 8), (3, 8)))
    firing("without a weight", lambda x: x * torch.rsqrt((x * x).mean(-1, keepdim=True) + 1e-5), f"{head} {product}",
           "norm", ((2, 3, 8),))  # fmt: skip
    firing("weight of another shape", rms, both, f"norm {product}", ((2, 3, 8), (3, 8)))
    firing("weight per row", rms, both, f"norm {product}", ((2, 3, 8), (3, 1)))
    firing("unweighted result is an output", lambda x, w: (lambda q: (w * q, q))(rms(x, 1.0)), both,
           f"norm {product}")  # fmt: skip
    firing("root used elsewhere", lambda x, w: (lambda q: (w * (x * q), q))(
           torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)), both, f"{head} norm")  # fmt: skip
    firing("squared as float32, multiplied as a half", lambda x, w: w * (x * torch.rsqrt(
           x.float().pow(2).mean(-1, keepdim=True) + 1e-5)).half(),
           "map{float32($0)} map{mul($0,$0)} reduce map{add($0,1e-05)} map{rsqrt($0)} map{mul(float32($0),$1)} "
           f"map{{float16($0)}} {product}", "norm", (HALF, 2 ** torch.arange(-4, 4).half()))  # fmt: skip
    staying("over the first axis", lambda x, w: rms(x, w, 0), both)
    staying("of something else", lambda x, w, y: w * (y * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5)), both,
            ((2, 3, 8), (8,), (2, 3, 8)))  # fmt: skip
    staying("eps is a tensor", lambda x, w, e: rms(x, w, -1, e), both.replace("1e-05", "$1"),
            ((2, 3, 8), (8,), torch.tensor(0.1)))  # fmt: skip
    staying("sum instead of mean", lambda x, w: w * (x * torch.rsqrt(x.pow(2).sum(-1, keepdim=True) + 1e-5)), both)
    staying("a mean that is rounded", lambda x, w: w * (x * torch.rsqrt(
            x.pow(2).mean(-1, keepdim=True).half().float() + 1e-5)),
            both.replace("reduce", "reduce map{float16($0)} map{float32($0)}"))  # fmt: skip
    staying("another power", lambda x, w: w * (x * torch.rsqrt(x.pow(4).mean(-1, keepdim=True) + 1e-5)),
            both.replace("mul($0,$0)", "pow($0,4.0)"))  # fmt: skip


def layer(x: Tensor, dim: Any = -1, eps: Any = 1e-5, kept: bool = True) -> Tensor:
    c = x - x.mean(dim, keepdim=kept)
    return c * torch.rsqrt((c * c).mean(dim, keepdim=True) + eps)


def _layer_norms() -> None:
    def firing(name: str, function: Any, before: str, after: str, shapes: Any = ((2, 3, 8), (8,), (8,))) -> None:
        fires("fuse_layer_norm", name, function, shapes, before, after)

    def staying(name: str, function: Any, before: str, shapes: Any = ((2, 3, 8), (8,), (8,))) -> None:
        stays("fuse_layer_norm", name, function, shapes, before)

    head = "reduce map{sub($0,$1)} map{mul($0,$0)} reduce map{add($0,1e-05)} map{rsqrt($0)} map{mul($0,$1)}"
    by_root = "reduce map{sub($0,$1)} reduce map{add($0,1e-05)} map{sqrt($0)} map{div($0,$1)}"
    product, addition = "map{mul($0,$1)}", "map{add($0,$1)}"
    firing("weight and bias", lambda x, w, b: w * layer(x) + b, f"{head} {product} {addition}", "norm")
    firing("over a root", lambda x, w, b: (x - x.mean(-1, True)) / torch.sqrt(x.var(-1, False, True) + 1e-5) * w + b,
           f"{by_root} {product} {addition}", "norm")  # fmt: skip
    firing("over two axes, no weight", lambda x: layer(x, (-2, -1)), head, "norm", ((2, 3, 8),))
    firing("a bias alone", lambda x, w, b: layer(x) + b, f"{head} {addition}", "norm")
    firing("weight of another shape", lambda x, w: layer(x) * w, f"{head} {product}", f"norm {product}",
           ((2, 3, 8), (3, 8)))  # fmt: skip
    firing("what is normalised is an output", lambda x, w, b: (lambda y: (y, y * w))(layer(x)), f"{head} {product}",
           f"norm {product}")  # fmt: skip
    firing("a part of what is in memory", lambda x: layer(x[:, 1:, 2:]), head, "norm", ((2, 3, 8),))
    staying("over the first axis", lambda x, w, b: layer(x, 0), head)
    staying("the unbiased variance", lambda x, w, b: (x - x.mean(-1, True)) / torch.sqrt(x.var(-1, True, True) + 1e-5),
            by_root)  # fmt: skip
    staying("the mean of another axis", lambda x: layer(x, 1, 1e-5, False), head, ((8, 8),))
    staying("the variance of something else", lambda x, y, b: (x - x.mean(-1, True)) /
            torch.sqrt(y.var(-1, False, True) + 1e-5), by_root, ((2, 3, 8), (2, 3, 8), (8,)))  # fmt: skip
    staying("centred the other way", lambda x, w, b: (x.mean(-1, True) - x) /
            torch.sqrt(x.var(-1, False, True) + 1e-5), by_root)  # fmt: skip


def _simplifications() -> None:
    exp, add = "map{exp($0)}", "map{add($0,$1)}"
    fires("cse", "chains", lambda x: (x.exp() + 1) * (x.exp() - 1 + 2), MATRIX,
          f"{exp} map{{add($0,1.0)}} {exp} map{{sub($0,1.0)}} map{{add($0,2.0)}} map{{mul($0,$1)}}",
          f"{exp} map{{add($0,1.0)}} map{{sub($0,1.0)}} map{{add($0,2.0)}} map{{mul($0,$1)}}")  # fmt: skip
    fires("cse", "two results", lambda x: (x.topk(2)[0] + 1, x.topk(2)[1] + 1), MATRIX,
          "topk map{add($0,1.0)} topk map{add($0,1)}", "topk map{add($0,1.0)} map{add($0,1)}")  # fmt: skip
    stays("cse", "other attributes", lambda x: x.sum(1) + x.sum(0), ((4, 4),), f"reduce reduce {add}")
    stays("cse", "other numbers", lambda x: x * 2 + x * 2.5, MATRIX, f"map{{mul($0,2.0)}} map{{mul($0,2.5)}} {add}")
    stays("cse", "other order", lambda x, y: (x - y) * (y - x), TWO, "map{sub($0,$1)} map{sub($0,$1)} map{mul($0,$1)}")
    stays("cse", "outputs are values of their own", lambda x: (x.exp(), x.exp()), MATRIX, f"{exp} {exp}")
    stays("cse", "other dtypes", lambda x: x.half().float() + x.bfloat16().float(), MATRIX,
          f"map{{float16($0)}} map{{float32($0)}} map{{bfloat16($0)}} map{{float32($0)}} {add}")  # fmt: skip
    fires("dead_code", "unused", lambda x: (x.exp(), x.sin().cos())[0], MATRIX, f"{exp} map{{sin($0)}} map{{cos($0)}}",
          exp)  # fmt: skip
    stays("dead_code", "all used", lambda x: (x.exp(), x.sin()), MATRIX, f"{exp} map{{sin($0)}}")
    fires("hoist", "weights", lambda: Net(lambda n, x: x + n.weight.exp().t(), nn.Linear(4, 4)), ((4, 4),),
          f"{exp} {add}", f"{exp} | {add}", module=True)  # fmt: skip
    fires("hoist", "constants", lambda x: x + torch.arange(4), MATRIX, "iota map{add($0,float32($1))}",
          "iota | map{add($0,float32($1))}")  # fmt: skip
    fires("hoist", "weights laid together", lambda: Net(lambda m, n, x: x @ torch.cat([m.weight, n.weight]).t(),
          nn.Linear(4, 4), nn.Linear(4, 4)), MATRIX, "copy copy matmul", "copy copy | matmul", module=True)  # fmt: skip
    stays("hoist", "an output", lambda: Net(lambda n, x: (x * 2, n.weight.exp()), nn.Linear(4, 4)), MATRIX,
          f"map{{mul($0,2.0)}} {exp}", module=True)  # fmt: skip
    fires("hoist", "a value written in parts stays whole", lambda: Net(
          lambda n, x: torch.cat([n.weight.exp(), x]).sin(), nn.Linear(4, 4)), MATRIX,
          f"{exp} copy copy map{{sin($0)}}", f"{exp} | copy copy map{{sin($0)}}", module=True)  # fmt: skip


def _transformers() -> None:
    """One of each; transformer_cases.py has all."""
    fires("fuse_attention", "plain", lambda q, k, v: F.softmax(q @ k.mT, -1) @ v, ((2, 3, 8), (2, 4, 8), (2, 4, 5)),
          "matmul softmax matmul", "attention")  # fmt: skip
    fires("fuse_rope", "halves", lambda x, c, s: x * c + torch.cat((-x[..., 4:], x[..., :4]), -1) * s,
          ((1, 2, 3, 8), (1, 1, 3, 8), (1, 1, 3, 8)), "map{mul($0,$1)} map{neg($0)} copy copy map{mul($0,$1)} "
          "map{add($0,$1)}", "rope")  # fmt: skip
    fires("needed_rows", "an index", lambda: Net(lambda m, x, i: m(x)[i], nn.Linear(4, 3)), ((3, 4), torch.tensor([1])),
          "matmul gather", "gather matmul", module=True)  # fmt: skip
    stays("needed_rows", "all rows", lambda: Net(lambda m, x, i: (lambda y: (y[i], y.sum()))(m(x)), nn.Linear(4, 3)),
          ((3, 4), torch.tensor([1])), "matmul gather reduce", module=True)  # fmt: skip
    fires("merge_products", "two", lambda: Net(lambda m, n, x: (m(x).sum(0), n(x).sum(0)), nn.Linear(4, 3),
          nn.Linear(4, 2)), MATRIX, "matmul reduce matmul reduce", "copy copy copy copy | matmul reduce reduce",
          module=True)  # fmt: skip


def _quantized() -> None:
    four, three = Scheme(4, 32), Scheme(3, 32)

    def product() -> nn.Module:
        return Net(lambda m, x: m(x), nn.Linear(64, 3))

    def firing(name: str, model: Any, shapes: Any, before: str, after: str, passes: str = "") -> None:
        fires(f"quantized_products {passes}".strip(), name, model, shapes, before, after, module=True, scheme=four)

    rows, ids = ((3, 64),), (torch.tensor([[1, 0, 2]]),)
    firing("a product", product, rows, "dequantize matmul", "matmul")
    firing("an embedding", lambda: Net(lambda m, i: m(i), nn.Embedding(3, 64)), ids, "dequantize gather",
           "gather gather gather dequantize")  # fmt: skip
    firing("a table that is a weight too", lambda: Net(lambda m, i: m(i) @ m.weight.t(), nn.Embedding(3, 64)), ids,
           "dequantize gather matmul", "gather gather gather dequantize matmul")  # fmt: skip
    firing("one of two readers", lambda: Net(lambda m, x: m(x) + m.weight.sum(), nn.Linear(64, 3)), rows,
           "dequantize matmul reduce map{add($0,$1)}", "dequantize reduce | matmul map{add($0,$1)}",
           "hoist")  # fmt: skip
    firing("merged products", lambda: Net(lambda m, n, x: (m(x).sum(0), n(x).sum(0)), nn.Linear(64, 3),
           nn.Linear(64, 2)), rows, "dequantize matmul reduce dequantize matmul reduce",
           " ".join(["copy"] * 8) + " | matmul reduce reduce", "merge_products")  # fmt: skip
    firing("rows that are needed", lambda: Net(lambda m, x, i: m(x)[i], nn.Linear(64, 3)),
           ((3, 64), torch.tensor([1])), "dequantize matmul gather", "gather matmul", "needed_rows")  # fmt: skip

    def staying(name: str, model: Any, shapes: Any, before: str, scheme: Scheme = four) -> None:
        stays("quantized_products", name, model, shapes, before, module=True, scheme=scheme)

    staying("other bits", product, rows, "dequantize matmul", three)
    staying("not transposed", lambda: Net(lambda m, x: x @ m.weight, nn.Linear(64, 3)), MATRIX[:0] + ((2, 3),),
            "dequantize matmul")  # fmt: skip
    staying("on the left", lambda: Net(lambda m, x: m.weight @ x, nn.Linear(64, 3)), ((64, 2),), "dequantize matmul")
    staying("some rows", lambda: Net(lambda m, x: x @ m.weight[:2].t(), nn.Linear(64, 3)), rows, "dequantize matmul")


for _family in (_quantized, _batch_norms, _sums_of_convolutions, _short_sums, _other_norms, _epilogues, _maps, _cats,
                _rms_norms, _layer_norms, _simplifications, _transformers):  # fmt: skip
    _family()

"""Recurrent layers, unrolled over their time steps, whose number is known."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import Refused, Unsupported
from ..graph import View
from ..lowering import Builder, Tensor, lowering
from .cat import concatenate
from .matmul import linear

MAX_STEPS = 1024
"""The longest sequence; longer ones would make programs too large."""

Step = Callable[[Builder, View, list[View], View, View | None], list[View]]
"""Computes the new states from the input's contribution to the gates, the states, and the hidden weights and bias."""


def _gates(x: View, count: int) -> list[View]:
    size = x.shape[-1] // count
    return [x.slice(x.rank - 1, i * size, size) for i in range(count)]


def _lstm_step(b: Builder, given: View, states: list[View], w: View, bias: View | None) -> list[View]:
    h, c = states
    total = b.map("x + h", h.dtype, x=given, h=linear(b, h, w, bias))
    i, f, g, o = _gates(total, 4)
    c = b.map("sigmoid(f) * c + sigmoid(i) * tanh(g)", h.dtype, i=i, f=f, g=g, c=c)
    return [b.map("sigmoid(o) * tanh(c)", h.dtype, o=o, c=c), c]


def _gru_step(b: Builder, given: View, states: list[View], w: View, bias: View | None) -> list[View]:
    (h,) = states
    (r, z, n), (hr, hz, hn) = _gates(given, 3), _gates(linear(b, h, w, bias), 3)
    reset = b.map("sigmoid(x + h)", h.dtype, x=r, h=hr)
    update = b.map("sigmoid(x + h)", h.dtype, x=z, h=hz)
    new = b.map("tanh(x + h * r)", h.dtype, x=n, h=hn, r=reset)
    return [b.map("(h - n) * z + n", h.dtype, h=h, n=new, z=update)]


def _plain_step(name: str) -> Step:
    def step(b: Builder, given: View, states: list[View], w: View, bias: View | None) -> list[View]:
        (h,) = states
        total = b.map("x + h", h.dtype, x=given, h=linear(b, h, w, bias))
        return [b.map(f"{name}(x)", h.dtype, x=total)]

    return step


STEPS: dict[str, Step] = {
    "lstm": _lstm_step,
    "gru": _gru_step,
    "rnn_tanh": _plain_step("tanh"),
    "rnn_relu": _plain_step("relu"),
}


def _direction(
    b: Builder, step: Step, x: View, states: list[View], params: list[View | None], backward: bool
) -> tuple[View, list[View]]:
    """``x`` is [time, batch, features]. One product computes its contribution to the gates of all time steps."""
    w_in, w_hidden, b_in, b_hidden = params
    assert w_in is not None and w_hidden is not None
    given = linear(b, x, w_in, b_in)
    outs: list[View] = []
    for t in range(x.shape[0]):
        at = x.shape[0] - 1 - t if backward else t
        states = step(b, given.slice(0, at, 1).drop(0), states, w_hidden, b_hidden)
        outs.append(states[0].unsqueeze(0))
    return concatenate(b, outs[::-1] if backward else outs, 0), states


def _run(
    b: Builder, kind: str, input: View, hx: list[View], params: list[View], has_biases: bool, num_layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> list[View]:  # fmt: skip
    if train and dropout:
        raise Refused("active dropout; call eval() before extraction")
    lone = input.rank == 2
    x = input.unsqueeze(1) if lone else input.transpose(0, 1) if batch_first else input
    states = [h.unsqueeze(1) if lone else h for h in hx]
    directions, each = 2 if bidirectional else 1, 4 if has_biases else 2
    if len(params) != num_layers * directions * each:
        raise Unsupported(f"{len(params)} weights for {num_layers} layers; projections have no lowering")
    if not 0 < x.shape[0] <= MAX_STEPS:
        raise Unsupported(f"a sequence of {x.shape[0]} steps; at most {MAX_STEPS} are unrolled")
    ends: list[list[View]] = [[] for _ in states]
    for layer in range(num_layers):
        outs = []
        for d in range(directions):
            at = layer * directions + d
            own: list[View | None] = [*params[at * each : at * each + each], *[None] * (4 - each)]
            first = [s.slice(0, at, 1).drop(0) for s in states]
            out, last = _direction(b, STEPS[kind], x, first, own, bool(d))
            outs.append(out)
            for known, state in zip(ends, last, strict=True):
                known.append(state.unsqueeze(0))
        x = concatenate(b, outs, 2)
    finals = [concatenate(b, parts, 0) for parts in ends]
    if lone:
        results = [x.drop(1), *(s.drop(1) for s in finals)]
    else:
        results = [x.transpose(0, 1) if batch_first else x, *finals]
    declared = [len(meta.shape) for meta in b.node.outputs] if b.node else []
    if len(declared) == len(results) and any(n > y.rank for n, y in zip(declared, results, strict=True)):
        raise Unsupported("states that PyTorch before 2.12 exports with a wrong shape; use a newer PyTorch")
    return results


@lowering("aten.lstm.input")
def lstm(
    b: Builder, input: Tensor, hx: list[Tensor], params: list[Tensor], has_biases: bool, num_layers: int,
    dropout: float, train: bool, bidirectional: bool, batch_first: bool,
) -> list[Tensor]:  # fmt: skip
    return _run(b, "lstm", input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first)


@lowering("aten.lstm_cell.default")
def lstm_cell(
    b: Builder, input: Tensor, hx: list[Tensor], w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
    b_hh: Tensor | None = None,
) -> list[Tensor]:  # fmt: skip
    return _lstm_step(b, linear(b, input, w_ih, b_ih), hx, w_hh, b_hh)


def _register(kind: str) -> None:
    @lowering(f"aten.{kind}.input")
    def layer(
        b: Builder, input: Tensor, hx: Tensor, params: list[Tensor], has_biases: bool, num_layers: int,
        dropout: float, train: bool, bidirectional: bool, batch_first: bool,
    ) -> list[Tensor]:  # fmt: skip
        return _run(b, kind, input, [hx], params, has_biases, num_layers, dropout, train, bidirectional, batch_first)

    @lowering(f"aten.{kind}_cell.default")
    def cell(
        b: Builder, input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None,
        b_hh: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        return STEPS[kind](b, linear(b, input, w_ih, b_ih), [hx], w_hh, b_hh)[0]


for _kind in ("gru", "rnn_tanh", "rnn_relu"):
    _register(_kind)

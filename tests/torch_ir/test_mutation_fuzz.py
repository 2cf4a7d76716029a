"""Random programs of views and in-place writes: the IR gives what eager PyTorch gives, or is refused."""

from __future__ import annotations

import random
from collections import Counter

import pytest
import torch
from torch import Tensor, nn
from torch_ir import ConversionError, ExportError, IRExecutor, deserialize_ir, extract_ir, serialize_ir

VIEWS = {
    "select": lambda t, r: t.select(d := r.randrange(t.dim()), r.randrange(t.shape[d])) if t.dim() > 1 else t,
    "slice": lambda t, r: t.narrow(d := r.randrange(t.dim()), 0, max(1, t.shape[d] // 2)),
    "step": lambda t, r: t[::2],
    "transpose": lambda t, r: t.transpose(0, -1),
    "view": lambda t, r: t.view(-1) if t.is_contiguous() else t,
    "reshape": lambda t, r: t.reshape(-1),
    "unsqueeze": lambda t, r: t.unsqueeze(r.randrange(t.dim() + 1)) if t.dim() < 4 else t,
    "chunk": lambda t, r: r.choice(t.chunk(2, r.randrange(t.dim()))),
    "unbind": lambda t, r: r.choice(t.unbind(0)) if t.dim() > 1 else t,
    "flatten": lambda t, r: t.flatten(),
    "contiguous": lambda t, r: t.contiguous(),
    "detach": lambda t, r: t.detach(),
    "to": lambda t, r: t.to(torch.float32),
    "dropout": lambda t, r: torch.dropout(t, 0.5, False),
    "alias": lambda t, r: t[...],
}
WRITES = {
    "add_": lambda t, o, r: t.add_(1.5),
    "mul_": lambda t, o, r: t.mul_(-0.5),
    "add_tensor_": lambda t, o, r: t.add_(o) if o.shape == t.shape else t.add_(o.sum()),
    "relu_": lambda t, o, r: t.relu_(),
    "clamp_": lambda t, o, r: t.clamp_(-1, 1),
    "copy_": lambda t, o, r: t.copy_(o if o.shape == t.shape else o.mean()),
    "fill_": lambda t, o, r: t.fill_(r.randrange(5)),
    "masked_fill_": lambda t, o, r: t.masked_fill_(t > 0, 0.25),
    "zero_": lambda t, o, r: t.zero_(),
    "setitem": lambda t, o, r: _set(t, r),
    "index_copy_": lambda t, o, r: t.index_copy_(0, torch.tensor([0]), t[-1:].clone() + 1),
    "dropout_": lambda t, o, r: torch.dropout_(t, 0.5, False),
    "sub_": lambda t, o, r: t.sub_(0.125),
}
FRESH = {
    "mul": lambda t, o, r: t * 2,
    "add": lambda t, o, r: t + (o if o.shape == t.shape else o.sum()),
    "clone": lambda t, o, r: t.clone(),
    "cat": lambda t, o, r: torch.cat([t, t]),
}


def _set(t: Tensor, r: random.Random) -> Tensor:
    t[r.randrange(t.shape[0])] = 3.0
    return t


class Program(nn.Module):
    """Decides what to do from its seed and from shapes, so that each run does the same."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed
        self.register_buffer("state", torch.linspace(-2, 2, 24).reshape(2, 3, 4))

    def forward(self, x: Tensor) -> list[Tensor]:
        r = random.Random(self.seed)
        values = [x, self.state, x * 1.0]
        for _ in range(r.randrange(3, 10)):
            t, o = r.choice(values), r.choice(values)
            kind = r.random()
            if kind < 0.45:
                values.append(VIEWS[r.choice(list(VIEWS))](t, r))
            elif kind < 0.8:
                values.append(WRITES[r.choice(list(WRITES))](t, o, r))
            else:
                values.append(FRESH[r.choice(list(FRESH))](t, o, r))
        return r.sample(values, k=r.randrange(1, 4))


def outcome(seed: int) -> str:
    model, x = Program(seed).eval(), torch.linspace(-3, 3, 24).reshape(2, 3, 4)
    try:
        Program(seed)(x.clone())
    except RuntimeError:
        return "eager fails"
    with torch.device("meta"):
        architecture = Program(seed).eval()
    try:
        ir = deserialize_ir(serialize_ir(extract_ir(architecture, torch.empty(2, 3, 4))))
    except (ConversionError, ExportError):
        return "refused"
    executor = IRExecutor(ir, {"state": model.state.clone()})
    for _ in range(2):
        theirs, ours = x.clone(), x.clone()
        want, got = model(theirs), executor(ours)
        assert torch.equal(ours, x), "the caller's input was written"
        for i, (a, b) in enumerate(zip(got, want, strict=True)):
            assert torch.equal(a, b), f"output {i} of program {seed} differs"
        written = next((executor.mutations[m.target] for m in ir.mutations if m.kind == "input"), ours)
        assert torch.equal(written, theirs), f"input of program {seed} differs"
        assert torch.equal(executor.state.get("state", torch.linspace(-2, 2, 24).reshape(2, 3, 4)), model.state)
    return "equal"


def run(seeds: range) -> Counter[str]:
    return Counter(outcome(seed) for seed in seeds)


def test_some_programs():
    counts = run(range(150))
    assert counts["equal"] >= 100, counts


@pytest.mark.slow
def test_many_programs():
    counts = run(range(1000, 6000))
    assert counts["equal"] >= 3500, counts

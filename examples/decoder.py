"""Decode with a small language model whose cache is passed along, donated, or held by a session.

python examples/decoder.py [--tokens 48] [--length 1024]

The model has what today's decoders have: RMS norms, rotary positions, grouped key and value heads, a gated MLP. Its
weights are random but seeded. All three ways must give PyTorch's tokens.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import npu_compiler
import numpy as np
import torch
from npu_runtime import Device, Executor, NPUBuffer, Weights, load_weights
from torch import Tensor, nn
from torch_ir import extract_ir

VOCABULARY, WIDTH, HEADS, KV_HEADS, LAYERS = 1000, 256, 8, 2, 2
HEAD = WIDTH // HEADS


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * self.weight


def rotate(x: Tensor, position: Tensor) -> Tensor:
    half = HEAD // 2
    frequencies = 10000.0 ** (-torch.arange(half) / half)
    angle = position.float() * frequencies
    low, high = x[..., :half], x[..., half:]
    return torch.cat([low * angle.cos() - high * angle.sin(), high * angle.cos() + low * angle.sin()], -1)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm1, self.norm2 = RMSNorm(), RMSNorm()
        self.q = nn.Linear(WIDTH, HEADS * HEAD)
        self.k, self.v = nn.Linear(WIDTH, KV_HEADS * HEAD), nn.Linear(WIDTH, KV_HEADS * HEAD)
        self.out = nn.Linear(HEADS * HEAD, WIDTH, bias=False)
        self.gate, self.up = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.down = nn.Linear(3 * WIDTH, WIDTH, bias=False)

    def forward(self, x: Tensor, position: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        y = self.norm1(x)
        q = rotate(self.q(y).view(KV_HEADS, HEADS // KV_HEADS, HEAD), position)
        k = rotate(self.k(y).view(KV_HEADS, 1, HEAD), position)
        keys = keys.index_copy(1, position, k)
        values = values.index_copy(1, position, self.v(y).view(KV_HEADS, 1, HEAD))
        scores = q @ keys.mT / HEAD**0.5
        scores = scores.masked_fill(torch.arange(keys.shape[1]) > position, float("-inf"))
        x = x + self.out((scores.softmax(-1) @ values).view(1, HEADS * HEAD))
        y = self.norm2(x)
        return x + self.down(nn.functional.silu(self.gate(y)) * self.up(y)), keys, values


class DecodeStep(nn.Module):
    """One token in, the scores of the next one out, and all caches with one more row written."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.norm, self.head = RMSNorm(), nn.Linear(WIDTH, VOCABULARY, bias=False)

    def forward(self, token: Tensor, position: Tensor, caches: list[Tensor]) -> tuple[Tensor, ...]:
        x, updated = self.embed(token), []
        for i, layer in enumerate(self.layers):
            x, keys, values = layer(x, position, caches[2 * i], caches[2 * i + 1])
            updated += [keys, values]
        return (self.head(self.norm(x)), *updated)


def greedy(step: Callable[[int, int], np.ndarray], count: int) -> tuple[list[int], float]:
    """The tokens that follow token 1, and the milliseconds for each."""
    tokens = [1]
    start = time.perf_counter()
    for position in range(count):
        tokens.append(int(step(tokens[-1], position).argmax()))
    return tokens, (time.perf_counter() - start) * 1e3 / count


class Compiled:
    """The compiled step; each way of keeping caches is a function of token and position."""

    def __init__(self, model: DecodeStep, length: int) -> None:
        self.shape = [KV_HEADS, length, HEAD]
        names = ["logits", *(f"{kind}_{i}" for i in range(LAYERS) for kind in ("keys", "values"))]
        example = (torch.tensor([0]), torch.tensor([0]), [torch.zeros(self.shape) for _ in names[1:]])
        ir = extract_ir(model, example, model_name="decoder", output_names=names)
        program = npu_compiler.compile(ir)
        self.device = Device()
        self.executor = Executor(program, self.device)
        self.weights: Weights = load_weights(model.state_dict(), program, self.device)
        self.executor.prepare(self.weights)
        inputs = self.executor.program.inputs
        self.cache_names = [spec.name for spec in inputs if spec.state]
        self.update_of = dict(zip(self.cache_names, names[1:], strict=True))
        megabytes = len(self.cache_names) * 4e-6 * np.prod(self.shape)
        print(f"{self.executor}; {len(self.cache_names)} caches of {self.shape}, {megabytes:.1f} MB together")

    def _inputs(self, token: int, position: int) -> dict[str, np.ndarray]:
        return {"token": np.array([token]), "position": np.array([position])}

    def fresh(self) -> dict[str, NPUBuffer]:
        return {name: NPUBuffer.zeros(self.shape, self.device) for name in self.cache_names}

    def passed(self, donate: bool) -> Callable[[int, int], np.ndarray]:
        """The caches go in and come out; donated ones are updated where they are."""
        caches = self.fresh()

        def step(token: int, position: int) -> np.ndarray:
            given = {**self._inputs(token, position), **caches}
            outputs = self.executor.run(given, self.weights, donate=self.cache_names if donate else None)
            caches.update({name: outputs[update] for name, update in self.update_of.items()})
            return outputs["logits"].to_numpy()

        return step

    def held(self) -> Callable[[int, int], np.ndarray]:
        """The session has the caches; they start as zeros."""
        session = self.executor.session()
        return lambda token, position: session.run(self._inputs(token, position), self.weights)["logits"].to_numpy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=48)
    parser.add_argument("--length", type=int, default=1024, help="of the caches")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = DecodeStep().eval().requires_grad_(False)
    compiled = Compiled(model, args.length)

    caches = [torch.zeros(compiled.shape) for _ in range(2 * LAYERS)]

    def eager(token: int, position: int) -> np.ndarray:
        logits, *updated = model(torch.tensor([token]), torch.tensor([position]), caches)
        caches[:] = updated
        return logits.numpy()

    expected, ms = greedy(eager, args.tokens)
    print(f"{'PyTorch, eager':28} {ms:6.3f} ms a token   {expected[:8]} ...")
    agree = True
    for name, step in (
        ("caches passed along", compiled.passed(donate=False)),
        ("caches donated", compiled.passed(donate=True)),
        ("caches held by a session", compiled.held()),
    ):
        tokens, ms = greedy(step, args.tokens)
        print(f"{name:28} {ms:6.3f} ms a token   {'the same tokens' if tokens == expected else tokens}")
        agree &= tokens == expected
    return 0 if agree else 1


if __name__ == "__main__":
    sys.exit(main())

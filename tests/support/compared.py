"""What the tests of ``npu.compare`` share: models, and a device that is wrong."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from npu.comparison.sides import DeviceSide, WeightSource
from npu_compiler import CompiledProgram
from torch import Tensor, nn
from torch_ir import extract_ir


class Block(nn.Module):
    """A transformer block: its norms are fused with products on GPUs, and its products of one input are merged."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.norm2 = nn.LayerNorm(32), nn.LayerNorm(32)
        self.q, self.k, self.v, self.out = (nn.Linear(32, 32) for _ in range(4))
        self.up, self.down = nn.Linear(32, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        q, k, v = (layer(h).view(1, 8, 4, 8).transpose(1, 2) for layer in (self.q, self.k, self.v))
        x = x + self.out(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(1, 8, 32))
        return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))


def conv_net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, padding=1, stride=2),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10), nn.Softmax(-1),
    ).eval()  # fmt: skip


class Branches(nn.Module):
    """Parts of one tensor are written by several steps."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.relu(), x.sigmoid() * 2, x[:, :3]], 1).sum(1, keepdim=True) + x


MODELS = {
    "block": (Block, (1, 8, 32)),
    "conv": (conv_net, (1, 3, 16, 16)),
    "branches": (Branches, (2, 5)),
}


def ir_of(name: str, dtype: torch.dtype = torch.float32) -> Any:
    make, shape = MODELS[name]
    return extract_ir(make().to(dtype).eval(), torch.zeros(shape, dtype=dtype), model_name=name)


class Wrong(DeviceSide):
    """A device whose results of one op are off."""

    def __init__(self, op: str, change: Any, device: str = "cpu") -> None:
        super().__init__(device)
        self.op, self.change = op, change

    def open(self, program: CompiledProgram, source: WeightSource) -> Any:
        opened = super().open(program, source)
        run, names = opened.run, [op["name"] for op in program.data["main"]]

        def changed(group: Any, given: Any) -> dict[int, Any]:
            results = run(group, given)
            if self.op not in (names[i] for i in group.ops):
                return results
            return {v: self.change(array.copy()) for v, array in results.items()}

        opened.run = changed  # type: ignore[method-assign]
        return opened


def slightly(array: Any) -> Any:
    array.reshape(-1)[np.abs(array).argmax()] *= 1.001
    return array

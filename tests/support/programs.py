"""Small modules, compiled and ready to run on the CPU device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import npu_compiler
import numpy as np
import torch
from npu_runtime import Executor, Weights, load_weights
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.support.devices import chosen_device


@dataclass
class Ready:
    program: npu_compiler.CompiledProgram
    executor: Executor
    weights: Weights
    inputs: list[str]
    outputs: list[str]

    def run(self, *values: Any, donate: Any = None) -> Any:
        return self.executor.run(dict(zip(self.inputs, values, strict=True)), self.weights, donate)

    def array(self, *values: Any) -> np.ndarray[Any, Any]:
        """The first output."""
        found: np.ndarray[Any, Any] = self.run(*values)[self.outputs[0]].to_numpy()
        return found


def ready(module: nn.Module, *example: Tensor, threads: int = 2, **options: Any) -> Ready:
    module = module.eval().requires_grad_(False)
    program = npu_compiler.compile(extract_ir(module, example, **options))
    device = chosen_device()
    state = {**dict(module.named_buffers()), **module.state_dict()}
    weights = load_weights({k: v for k, v in state.items() if k in {s.name for s in program.weight_specs}}, program)
    names = [s.name for s in program.input_specs], [s.name for s in program.output_specs]
    return Ready(program, Executor(program, device, threads=threads), weights, *names)


class Add(nn.Module):
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return a + b


def mlp(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(12, 33), nn.GELU(), nn.Linear(33, 7))

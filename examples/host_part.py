"""Run a model of which the device cannot run everything: programs for what it can, PyTorch for the rest.

python examples/host_part.py
"""

from __future__ import annotations

import sys

import npu_compiler
import torch
from npu_compiler import Partition, explain_ir, is_op_supported, partition
from npu_runtime import CPUBackend, DAGExecutor
from torch import Tensor, nn
from torch_ir import extract_ir


class Whitening(nn.Module):
    """A classifier that whitens its features with a Cholesky factor, for which there is no kernel."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(2))
        self.head = nn.Sequential(nn.Linear(256, 64), nn.GELU(), nn.Linear(64, 10))

    def forward(self, x: Tensor) -> Tensor:
        y = self.features(x)
        y = y - y.mean(-1, keepdim=True)
        factor = torch.linalg.cholesky(y @ y.mT / y.shape[-1] + 0.01 * torch.eye(y.shape[1]))
        y = torch.linalg.solve_triangular(factor, y, upper=False)
        return self.head(y.flatten(1)).softmax(-1)


def main() -> int:
    torch.manual_seed(0)
    model = Whitening().eval().requires_grad_(False)
    images = torch.randn(4, 3, 32, 32)
    ir = extract_ir(model, images, model_name="Whitening").to_dict()

    print("What the compiler says:")
    try:
        npu_compiler.compile(ir)
    except npu_compiler.CompileError as error:
        print(f"  {error}".replace("\n", "\n  "))
    refused = [node["name"] for node, reason in explain_ir(ir) if reason]

    print("\nSo the graph is cut:")
    plan = partition(ir, is_op_supported)
    for step in plan.steps:
        if isinstance(step, Partition):
            where = "device" if step.target == "npu" else "host"
            print(f"  {where:6} {len(step.nodes):2} nodes: {', '.join(node['name'] for node in step.nodes)}")
        else:
            print(f"  {step.direction}: {', '.join(step.tensor_names)}")

    dag = DAGExecutor(plan, CPUBackend())
    dag.load_weights(model.state_dict())
    (ours,) = dag.execute({"x": images}).values()
    difference = (torch.from_numpy(ours) - model(images)).abs().max().item()
    print(f"\n{len(dag.npu_programs)} programs, {len(refused)} nodes on the host")
    print(f"the result differs from PyTorch's by {difference:.1e}")
    return 0 if difference < 1e-5 else 1


if __name__ == "__main__":
    sys.exit(main())

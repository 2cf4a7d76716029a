"""Compile ResNet-18 to a program, run it, and compare it with PyTorch.

python examples/resnet.py [--size 224] [--images 10] [--threads 0] [--output FOLDER]

The network is written out here, so torchvision is not needed. Its weights are random but seeded, and its batch-norm
statistics are as after training, so that folding them is real work.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import npu_compiler
import torch
from npu_runtime import Device, Executor, NPUBuffer, load_weights
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_ir import extract_ir


class Block(nn.Module):
    def __init__(self, channels: int, out: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, out, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out)
        self.shortcut = nn.Sequential()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn1(self.conv1(x)).relu()
        return (self.bn2(self.conv2(y)) + self.shortcut(x)).relu()


class ResNet18(nn.Module):
    def __init__(self, classes: int = 1000) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)
        )
        widths = [64, 64, 128, 256, 512]
        stages = [nn.Sequential(Block(a, b, 1 if a == b else 2), Block(b, b, 1)) for a, b in pairwise(widths)]
        self.stages = nn.Sequential(*stages)
        self.head = nn.Linear(512, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.stages(self.stem(x)).mean((2, 3)))


def trained_looking(seed: int = 0) -> ResNet18:
    torch.manual_seed(seed)
    model = ResNet18().eval().requires_grad_(False)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            module.weight.uniform_(0.8, 1.2)
            module.bias.normal_(0, 0.1)
    return model


def milliseconds(run, times: int) -> float:
    """The least of several runs."""
    run()
    best = float("inf")
    for _ in range(times):
        start = time.perf_counter()
        run()
        best = min(best, time.perf_counter() - start)
    return best * 1e3


def compile_to(folder: Path, model: nn.Module, image: Tensor) -> Path:
    """The compiler's side: an IR, a program and weights, all as files."""
    start = time.perf_counter()
    ir = extract_ir(model, image, model_name="ResNet18")
    extracted = time.perf_counter()
    program = npu_compiler.compile(ir)
    compiled = time.perf_counter()
    program.save(folder / "resnet18.npubin")
    save_file(model.state_dict(), folder / "resnet18.safetensors")
    print(f"extracted in {(extracted - start) * 1e3:.0f} ms: {ir}")
    print(f"compiled in {(compiled - extracted) * 1e3:.0f} ms: {program}")
    return folder / "resnet18.npubin"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=224, help="side of the images")
    parser.add_argument("--images", type=int, default=10, help="how many to compare")
    parser.add_argument("--threads", type=int, default=0, help="default: one per usable core")
    parser.add_argument("--output", type=Path, help="keep the files in this folder")
    args = parser.parse_args()
    model = trained_looking()
    images = torch.randn(args.images, 1, 3, args.size, args.size)

    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        path = compile_to(folder, model, images[0])

        # The user's side. Nothing here needs PyTorch.
        device = Device()
        executor = Executor(path, device, threads=args.threads)
        weights = load_weights(folder / "resnet18.safetensors", executor.program, device)
        start = time.perf_counter()
        executor.prepare(weights)
        print(f"planned for {device.name}, weights prepared in {(time.perf_counter() - start) * 1e3:.0f} ms")
        sizes = executor.summary
        print(f"{sizes.kernels} kernels; intermediates take {sizes.arena_bytes / 1e6:.1f} MB, "
              f"at least {sizes.largest_live_bytes / 1e6:.1f} MB")  # fmt: skip

        same, worst = 0, 0.0
        for image in images:
            ours = torch.from_numpy(executor.run({"x": image}, weights)["output"].to_numpy())
            theirs = model(image)
            same += bool((ours.topk(5).indices == theirs.topk(5).indices).all())
            worst = max(worst, ((ours - theirs).norm() / theirs.norm()).item())
        print(f"the same top 5 as PyTorch on {same} of {len(images)} images; largest relative difference {worst:.1e}")

        buffer = NPUBuffer.from_numpy(images[0], device)
        torch.set_num_threads(executor.threads)
        ours_ms = milliseconds(lambda: executor.run({"x": buffer}, weights), 5)
        theirs_ms = milliseconds(lambda: model(images[0]), 5)
        print(f"a run takes {ours_ms:.1f} ms here, {theirs_ms:.1f} ms in PyTorch, with {executor.threads} threads")
    return 0 if same == len(images) and worst < 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main())

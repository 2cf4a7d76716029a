"""Extract real models without their weights, run one from its IR, and prove it equal to PyTorch.

python examples/demo.py [--output FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import warnings
from pathlib import Path

import torch
from rich.console import Console
from torch import nn
from torch_ir import IRExecutor, extract_ir, load_ir, verify_ir_with_state_dict

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from tests.models.zoo.image_models import build
from tests.models.zoo.language_models import qwen2_5_1_5b_on_meta

console = Console(highlight=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="keep the IR files in this folder")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        proven = resnet(folder)
        qwen(folder)
    return 0 if proven else 1


def resnet(folder: Path) -> bool:
    console.print("[bold]1. ResNet-18, extracted without weights[/]")
    from torchvision.models import resnet18

    with torch.device("meta"):
        blueprint, image = resnet18().eval(), torch.empty(1, 3, 224, 224)
    path = folder / "resnet18_ir.json"
    start = time.perf_counter()
    ir = extract_ir(blueprint, image, model_name="ResNet18")
    ir.save(path)
    console.print(f"   {ir}")
    console.print(f"   {time.perf_counter() - start:.2f} s, {path.stat().st_size / 1e3:.0f} kB of JSON\n")

    console.print("[bold]2. Run from that file, with weights that it never saw[/]")
    torch.manual_seed(0)
    model = build("resnet18")
    picture = torch.randn(1, 3, 224, 224)
    (logits,) = IRExecutor(load_ir(path), model.state_dict()).execute((picture,))
    with torch.no_grad():
        eager = model(picture)
    console.print(f"   top 5 from IR:      {logits.topk(5).indices[0].tolist()}")
    console.print(f"   top 5 from PyTorch: {eager.topk(5).indices[0].tolist()}\n")

    console.print("[bold]3. Proven equal, node by node[/]")
    proven, report = verify_ir_with_state_dict(load_ir(path), model.state_dict(), model, (picture,), per_layer=True)
    console.print(f"{report}\n")
    return proven


def qwen(folder: Path) -> None:
    console.print("[bold]4. A language model of 1.5 billion parameters, still without weights[/]")
    model, inputs = qwen2_5_1_5b_on_meta(), torch.zeros(1, 128, dtype=torch.int64, device="meta")
    start = time.perf_counter()
    ir = extract_ir(model, inputs, {"use_cache": False}, model_name="Qwen2.5-1.5B")
    path = folder / "qwen2.5-1.5b_ir.json"
    ir.save(path)
    count = sum(parameter_count(model, name) for name in ir.weights_read())
    console.print(f"   {ir}")
    console.print(
        f"   {time.perf_counter() - start:.2f} s, {path.stat().st_size / 1e3:.0f} kB of JSON for {count / 1e9:.2f} "
        f"billion parameters; tied: {ir.ties}"
    )


def parameter_count(model: nn.Module, name: str) -> int:
    owner, _, attribute = name.rpartition(".")
    tensor = getattr(model.get_submodule(owner), attribute)
    return int(tensor.numel()) if isinstance(tensor, nn.Parameter) else 0


if __name__ == "__main__":
    sys.exit(main())

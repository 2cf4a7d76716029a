"""Tiny models of many families: whole on the device where the op set allows, else in parts, against PyTorch.

``python -m tests.whole_models.test_huggingface_models`` prints how much of each the device runs.
"""

from __future__ import annotations

import copy
import warnings
from typing import Any

import npu_compiler
import pytest
import torch
from npu_compiler.flops import flops_of
from npu_runtime import Backend, CPUBackend, DAGExecutor, Device, Executor, MetalBackend, load_weights
from torch import Tensor
from torch_ir import IR, extract_ir
from torch_ir.inputs import InputBinder

from tests.models.zoo.harness import ZooEntry
from tests.models.zoo.huggingface_models import ENTRIES
from tests.support import numbers
from tests.support.calls import arguments, call, in_float64
from tests.support.devices import metal_device
from tests.support.weights import build_seeded

ZOO = {entry.name: entry for entry in ENTRIES if not entry.slow}
IN_PARTS = {
    **dict.fromkeys(("Mixtral", "Qwen2Moe", "Qwen3Moe", "Olmoe", "Phimoe", "GptOss", "DeepseekV3", "Jamba"), "histc"),
    "Llama4": "complex",
    "FNet": "fft",
}
"""Those with operators that no program has, and one of these."""
ON_METAL = (
    "Qwen2", "Qwen3", "Llama, static cache", "Mistral", "Gemma", "Phi", "GPT-2", "GPTNeoX", "Olmo", "Qwen3Moe", "Bert",
    "DistilBert", "Roberta", "ViT", "DeiT", "Swin", "CLIP", "T5", "Whisper", "Wav2Vec2",
)  # fmt: skip


class Case:
    """A model, its IR, and what PyTorch makes of the same inputs in the model's dtype and in float64."""

    def __init__(self, entry: ZooEntry, dtype: torch.dtype) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # models warn about their own code
            self.model = build_seeded(lambda: entry.build().to(dtype)).requires_grad_(False)
            inputs = entry.example(dtype, seed=1)
            self.ir: IR = extract_ir(self.model, *arguments(copy.deepcopy(inputs)), model_name=entry.name)
            self.own = call(self.model, inputs)
            self.exact = self._in_float64(inputs)
        given = InputBinder(self.ir, strict=True).bind(*arguments(inputs))
        self.inputs = dict(zip([t.name for t in self.ir.graph_inputs], given, strict=True))
        self.state = {**dict(self.model.named_buffers()), **self.model.state_dict()}

    def _in_float64(self, inputs: Any) -> list[Tensor]:
        try:
            return call(copy.deepcopy(self.model).double(), in_float64(inputs))
        except RuntimeError:  # PyTorch's grouped products have no float64
            self.only_close = True
            return self.own

    only_close = False

    def check(self, outputs: Any, dtype: torch.dtype) -> None:
        names = [t.name for t in self.ir.graph_outputs]
        assert len(names) == len(self.own) > 0
        for name, exact, own in zip(names, self.exact, self.own, strict=True):
            got = outputs[name]
            if own.is_floating_point():
                inside = dtype if own.dtype == torch.float32 else own.dtype
                error, limit = numbers.error(got, exact), numbers.allowed(numbers.error(own, exact), inside)
                # Where PyTorch's own error is small by luck, another processor's order of sums may exceed four last
                # bits: SigLIP's embeddings are at 4.2 with AVX2, below with AVX-512 and on the portable path.
                limit = max(limit, 6 * torch.finfo(inside).eps)
                if self.only_close:
                    limit = 20 * torch.finfo(inside).eps
                assert error <= limit, f"{name}: error {error:.3g}, allowed {limit:.3g}"
            else:
                assert torch.equal(torch.as_tensor(getattr(got, "to_numpy", lambda got=got: got)()), own)


def run(case: Case, name: str, backend: Backend) -> Any:
    """On the device: as one program, or in parts as the list says."""
    if name in IN_PARTS:
        with pytest.raises(npu_compiler.CompileError, match=IN_PARTS[name]):
            npu_compiler.compile(case.ir)
        dag = DAGExecutor(npu_compiler.partition(case.ir.to_dict()), backend)
        return dag.execute(case.inputs, case.state)
    program = npu_compiler.compile(case.ir)
    read = {spec.name for spec in program.weight_specs}
    weights = load_weights({n: t for n, t in case.state.items() if n in read}, program, backend.device)
    return Executor(program, backend.device).run(case.inputs, weights)


def cases(names: Any, fast: bool) -> list[Any]:
    """Each in the dtypes that it has; bfloat16 among the slow ones."""
    return [
        pytest.param(
            name, dtype, id=f"{name}-{dtype}", marks=() if fast and dtype == torch.float32 else pytest.mark.slow
        )
        for name in names
        for dtype in ZOO[name].dtypes
    ]


@pytest.mark.parametrize(("name", "dtype"), cases(ZOO, fast=True))
def test_model_on_the_cpu(name: str, dtype: torch.dtype) -> None:
    case = Case(ZOO[name], dtype)
    case.check(run(case, name, CPUBackend()), dtype)


@pytest.mark.parametrize(("name", "dtype"), cases(ON_METAL, fast=False))
def test_model_on_metal(name: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    if metal_device().name != Device().name:
        monkeypatch.setenv("NPU_EMULATE_METAL", "1")
    case = Case(ZOO[name], dtype)
    case.check(run(case, name, MetalBackend()), dtype)


def shares(entry: ZooEntry) -> tuple[float, float]:
    """Of nodes and of arithmetic that the device runs."""
    case = Case(entry, torch.float32)
    plan = npu_compiler.partition(case.ir.to_dict())
    parts = [step for step in plan.steps if hasattr(step, "target")]
    nodes = {t: [n for p in parts if p.target == t for n in p.nodes] for t in ("npu", "cpu")}
    flops = {t: sum(map(flops_of, nodes[t])) for t in nodes}
    return len(nodes["npu"]) / sum(map(len, nodes.values())), flops["npu"] / max(sum(flops.values()), 1.0)


def main() -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("Model", "Nodes", "Arithmetic")
    for name, entry in ZOO.items():
        table.add_row(name, *(f"{share:.1%}" for share in shares(entry)))
    Console().print(table)


if __name__ == "__main__":
    main()

"""Which operators the host runs changes nothing, however the graph is cut."""

from __future__ import annotations

import copy
from typing import Any

import npu_compiler
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from npu_runtime import CPUBackend, DAGExecutor
from npu_runtime.host import numpy_to_torch
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, empty_caches, step_inputs, tiny_qwen2
from tests.models.zoo.language_models import bert
from tests.support import numbers
from tests.support.devices import backend_of


class Branches(nn.Module):
    """A small network whose branches meet again, with several results of one operator."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.left, self.right = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3, padding=1)
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = torch.relu(self.norm(self.conv(x)))
        h = torch.cat([torch.tanh(self.left(h)), nn.functional.gelu(self.right(h))], 1)
        first, second = h.chunk(2, 1)
        h = torch.cat([first * torch.sigmoid(second), second - first.exp()], 1)
        return self.head(h.mean((2, 3))), h.amax((2, 3)).softmax(-1)


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm, self.out = nn.LayerNorm(16), nn.Linear(16, 16)
        self.qkv, self.mlp = nn.Linear(16, 48), nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 16))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(self.norm(x)).split(16, -1))
        scores = (q @ k.mT / 8**0.5).masked_fill(torch.ones(6, 6).triu(1).bool(), -1e4)
        x = x + self.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
        return x + self.mlp(x.square().cumsum(1).clamp(max=9).sqrt())


class Writes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(6, 6)
        self.register_buffer("mean", torch.full((6,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.linear(x))
        self.mean.mul_(0.9).add_(y.mean(0) * 0.1)
        return (y - self.mean).abs()


MODELS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "branches": (Branches, (2, 3, 6, 6)), "attention": (Attention, (2, 6, 16)), "writes": (Writes, (4, 6)),
}  # fmt: skip


class Prepared:
    def __init__(self, name: str) -> None:
        kind, shape = MODELS[name]
        torch.manual_seed(0)
        self.model = kind().eval().requires_grad_(False)
        self.x = torch.randn(shape)
        self.ir = extract_ir(copy.deepcopy(self.model), self.x).to_dict()
        self.ops = sorted({node["op_type"] for node in self.ir["nodes"]})
        self.own = self._runs(copy.deepcopy(self.model), self.x)
        self.exact = self._runs(copy.deepcopy(self.model).double(), self.x.double())

    @staticmethod
    def _runs(model: nn.Module, x: Tensor) -> list[tuple[Tensor, ...]]:
        """Two, as the second may depend on the first."""
        results = [model(x * factor) for factor in (1, 0.5)]
        return [r if isinstance(r, tuple) else (r,) for r in results]

    def check(self, host: Any, strategy: str) -> None:
        def supported(op: str, attrs: dict[str, Any] | None) -> bool:
            return op not in host and npu_compiler.is_op_supported(op, attrs)

        dag = DAGExecutor(npu_compiler.partition(self.ir, supported, strategy), CPUBackend())
        dag.load_weights(dict(self.model.state_dict()))
        (name,) = [t["name"] for t in self.ir["graph_inputs"]]
        for factor, exact, own in zip((1, 0.5), self.exact, self.own, strict=True):
            found = dag.execute({name: self.x * factor})
            for key, wide, narrow in zip(found, exact, own, strict=True):
                numbers.check(found[key], wide, narrow, f"{key} with {sorted(host)} on the host")


GETITEM = "<built-in function getitem>"
APART = [
    {"aten.split.Tensor"},
    {GETITEM},
    {"aten.mT.default", "aten.layer_norm.default"},
    {"aten.split.Tensor", GETITEM},
]


@pytest.mark.parametrize("strategy", ["sequential", "cost"])
@pytest.mark.parametrize("host", APART, ids=lambda ops: "+".join(sorted(ops)))
def test_results_of_one_operator_may_be_taken_on_the_other_side(host: set[str], strategy: str) -> None:
    prepared = PREPARED.get("attention") or PREPARED.setdefault("attention", Prepared("attention"))
    assert {"aten.split.Tensor", GETITEM} <= set(prepared.ops)
    prepared.check(host, strategy)


PREPARED: dict[str, Prepared] = {}


@pytest.mark.parametrize("strategy", ["sequential", "cost"])
@pytest.mark.parametrize("name", MODELS)
@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_any_operators_may_be_the_hosts(name: str, strategy: str, data: st.DataObject) -> None:
    prepared = PREPARED.get(name) or PREPARED.setdefault(name, Prepared(name))
    prepared.check(data.draw(st.sets(st.sampled_from(prepared.ops))), strategy)


class Decoding:
    """Steps of a Qwen2 whose caches the DAGExecutor holds, or gets back with each step."""

    names = ("input_ids", "attention_mask", "position_ids", "cache_position")
    tokens = (7, 99, 150)

    def __init__(self, dtype: torch.dtype) -> None:
        self.model = tiny_qwen2(dtype)
        past = empty_caches(self.model, 16)
        self.ir = extract_ir(DecodeStep(self.model), step_inputs(self.model, 0, 0, past)).to_dict()
        self.state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        self.own, self.exact = self._logits(self.model), self._logits(copy.deepcopy(self.model).double())

    def _logits(self, model: Any) -> Tensor:
        past, rows = empty_caches(model, 16), []
        for position, token in enumerate(self.tokens):
            with torch.no_grad():
                logits, *past = DecodeStep(model)(*step_inputs(model, token, position, past))
            rows.append(logits)
        return torch.cat(rows)

    def run(self, dag: DAGExecutor, held: bool) -> Tensor:
        past = [dag.backend.allocate_buffer(cache) for cache in empty_caches(self.model, 16)]
        caches = [t["name"] for t in self.ir["graph_inputs"] if t["name"].startswith("past")]
        rows = []
        for position, token in enumerate(self.tokens):
            values = step_inputs(self.model, token, position, empty_caches(self.model, 16))
            inputs = dict(zip(self.names, values, strict=False))
            given = {} if held else dict(zip(caches, past, strict=True))
            logits, *past = dag.execute({**inputs, **given}, donate=given).values()
            rows.append(numpy_to_torch(logits))
        return torch.cat(rows)


class Encoding:
    """A BERT, with a mask."""

    def __init__(self, dtype: torch.dtype) -> None:
        model = bert(
            add_pooling_layer=False, vocab_size=97, hidden_size=32, num_hidden_layers=2, num_attention_heads=4,
            intermediate_size=48, max_position_embeddings=32, attn_implementation="eager",
        ).to(dtype)  # fmt: skip
        mask = torch.ones(2, 9, dtype=torch.int64)
        mask[1, 6:] = 0
        ids = torch.randint(0, 97, (2, 9), generator=torch.Generator().manual_seed(1))
        self.inputs = {"input_ids": ids, "attention_mask": mask}
        self.ir = extract_ir(model, (), example_kwargs=self.inputs).to_dict()
        self.state = dict(model.state_dict())
        self.own = model(**self.inputs).last_hidden_state
        self.exact = copy.deepcopy(model).double()(**self.inputs).last_hidden_state

    def run(self, dag: DAGExecutor, held: bool) -> Tensor:
        return numpy_to_torch(next(iter(dag.execute(self.inputs).values())))


TRANSFORMERS: dict[tuple[Any, torch.dtype], Any] = {}


def check_transformer(kind: Any, dtype: torch.dtype, device: str, data: st.DataObject) -> None:
    prepared = TRANSFORMERS.get((kind, dtype)) or TRANSFORMERS.setdefault((kind, dtype), kind(dtype))
    ops = sorted({node["op_type"] for node in prepared.ir["nodes"]})
    host = data.draw(st.sets(st.sampled_from(ops)))
    strategy = data.draw(st.sampled_from(["sequential", "cost"]))

    def supported(op: str, attrs: dict[str, Any] | None) -> bool:
        return op not in host and npu_compiler.is_op_supported(op, attrs)

    dag = DAGExecutor(npu_compiler.partition(prepared.ir, supported, strategy), backend_of(device))
    dag.load_weights(prepared.state)
    found = prepared.run(dag, held=data.draw(st.booleans()))
    numbers.check(found, prepared.exact, prepared.own, f"{strategy} with {sorted(host)} on the host")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [Decoding, Encoding])
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_operators_of_a_transformer_may_be_the_hosts(kind: Any, dtype: torch.dtype, data: st.DataObject) -> None:
    check_transformer(kind, dtype, "chosen", data)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("kind", [Decoding, Encoding])
@settings(max_examples=4, deadline=None, derandomize=True)
@given(data=st.data())
def test_any_operators_of_a_transformer_on_metal(kind: Any, dtype: torch.dtype, data: st.DataObject) -> None:
    check_transformer(kind, dtype, "metal", data)

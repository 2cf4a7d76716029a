"""A two-layer Qwen2 decodes 16 tokens: caches passed along, donated, held by a session, and held with the weights."""

from __future__ import annotations

import copy
from typing import Any

import npu_compiler
import pytest
import torch
from npu_runtime import Executor, InvalidValueError, NPUBuffer, load_weights
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, empty_caches, step_inputs, tiny_qwen2
from tests.support import numbers
from tests.support.devices import device_of

LENGTH, TOKENS = 32, 16
OUTPUTS = ["logits", "key_0", "value_0", "key_1", "value_1"]


class Decoder:
    """The compiled step, and PyTorch's logits in the model's dtype and in float64 for the same tokens."""

    def __init__(self, dtype: torch.dtype, kind: str) -> None:
        self.model = tiny_qwen2(dtype)
        caches = empty_caches(self.model, LENGTH)
        ir = extract_ir(DecodeStep(self.model), step_inputs(self.model, 0, 0, caches), output_names=OUTPUTS)
        self.program = npu_compiler.compile(ir)
        self.device = device_of(kind)
        self.executor = Executor(self.program, self.device)
        state = {f"model.{k}": v for k, v in self.model.state_dict().items()}
        self.weights = load_weights(state, self.program, self.device)
        self.caches = [s.name for s in self.program.input_specs if s.name.startswith("past")]
        self.tokens = torch.randint(0, 211, (TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
        self.own = self._logits(self.model)
        self.exact = self._logits(copy.deepcopy(self.model).double())

    def _logits(self, model: Any) -> list[torch.Tensor]:
        past, rows = empty_caches(model, LENGTH), []
        with torch.no_grad():
            for position, token in enumerate(self.tokens):
                logits, *past = DecodeStep(model)(*step_inputs(model, token, position, past))
                rows.append(logits)
        return rows

    def inputs(self, position: int) -> dict[str, Any]:
        past = empty_caches(self.model, LENGTH)
        values = step_inputs(self.model, self.tokens[position], position, past)
        names = ("input_ids", "attention_mask", "position_ids", "cache_position")
        return dict(zip(names, values[:4], strict=True))

    def check(self, logits: list[Any]) -> None:
        """All tokens at once: the rounding of one token's 211 logits is a matter of luck."""
        got = torch.cat([torch.from_numpy(row.to_numpy("float32", copy=True)) for row in logits])
        assert got.isfinite().all()
        numbers.check(got, torch.cat(self.exact), torch.cat(self.own), f"{len(logits)} tokens")


CASES = [(dtype, kind) for dtype in (torch.float32, torch.bfloat16) for kind in ("chosen", "metal")]


@pytest.fixture(scope="module", params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(*request.param)


def zeros(decoder: Decoder) -> dict[str, NPUBuffer]:
    dtype = str(decoder.model.dtype)
    shape = list(empty_caches(decoder.model, LENGTH)[0].shape)
    return {name: NPUBuffer.zeros(shape, decoder.device, dtype) for name in decoder.caches}


def next_caches(decoder: Decoder, outputs: Any) -> dict[str, NPUBuffer]:
    names = [s.name for s in decoder.program.output_specs][1:]
    return {cache: outputs[name] for cache, name in zip(decoder.caches, names, strict=True)}


def test_caches_are_passed_along(decoder: Decoder) -> None:
    caches, logits = zeros(decoder), []
    for position in range(TOKENS):
        before = {name: cache.to_numpy(copy=True) for name, cache in caches.items()}
        outputs = decoder.executor.run({**decoder.inputs(position), **caches}, decoder.weights)
        logits.append(outputs["logits"])
        for name, cache in caches.items():  # what was passed is as it was
            assert (cache.to_numpy() == before[name]).all()
        caches = next_caches(decoder, outputs)
    decoder.check(logits)


def test_donated_caches_are_updated_in_place(decoder: Decoder) -> None:
    caches, logits = zeros(decoder), []
    for position in range(TOKENS):
        addresses = {name: cache.native_handle for name, cache in caches.items()}
        outputs = decoder.executor.run(
            {**decoder.inputs(position), **caches}, decoder.weights, donate=set(decoder.caches)
        )
        logits.append(outputs["logits"])
        used, caches = caches, next_caches(decoder, outputs)
        assert {name: cache.native_handle for name, cache in caches.items()} == addresses
        with pytest.raises(InvalidValueError, match="donated"):
            next(iter(used.values())).to_numpy()
    decoder.check(logits)
    with pytest.raises(InvalidValueError, match="donated"):
        decoder.executor.run({**decoder.inputs(0), **used}, decoder.weights)


def test_a_session_holds_the_caches(decoder: Decoder) -> None:
    session = decoder.executor.session()
    for _ in range(2):
        decoder.check([session.run(decoder.inputs(p), decoder.weights)["logits"] for p in range(TOKENS)])
        session.reset()


def test_caches_that_nobody_holds_live_with_the_weights(decoder: Decoder) -> None:
    decoder.check([decoder.executor.run(decoder.inputs(p), decoder.weights)["logits"] for p in range(TOKENS)])

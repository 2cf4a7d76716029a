"""Caches of partitioned decoders: updated in place, never copied, never stale, wherever the parts are."""

from __future__ import annotations

import copy
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import CPUBackend, DAGExecutor, InvalidValueError, NPUBuffer
from npu_runtime.host import numpy_to_torch
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, empty_caches, step_inputs, tiny_qwen2
from tests.support import numbers
from tests.support.devices import backend_of, of_shared_memory, shares_memory

LENGTH, TOKENS = 64, 5
STEP = ("input_ids", "attention_mask", "position_ids", "cache_position")
OUTPUTS = ["logits", "key_0", "value_0", "key_1", "value_1"]
HOST = [("silu",), ("softmax",), ("index_copy",), ("matmul", "softmax"), ("index_copy", "silu"), ()]


def plain(value: Any) -> Any:
    """A copy, in float32."""
    return numpy_to_torch(value).float().numpy().copy()


class Decoder:
    """The step's IR, and what PyTorch makes of the same tokens."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.model = tiny_qwen2(dtype)
        past = empty_caches(self.model, LENGTH)
        ir = extract_ir(DecodeStep(self.model), step_inputs(self.model, 0, 0, past), output_names=OUTPUTS)
        self.ir = ir.to_dict()
        self.caches = [t["name"] for t in self.ir["graph_inputs"] if t["name"].startswith("past")]
        self.shape, self.cache_bytes = list(past[0].shape), past[0].nbytes
        self.state = {f"model.{name}": tensor for name, tensor in self.model.state_dict().items()}
        self.tokens = torch.randint(0, 211, (TOKENS,), generator=torch.Generator().manual_seed(3)).tolist()
        self.own, self.own_caches = self._logits(self.model)
        self.exact, self.exact_caches = self._logits(copy.deepcopy(self.model).double())

    def _logits(self, model: Any) -> tuple[Tensor, list[Tensor]]:
        past, rows = empty_caches(model, LENGTH), []
        with torch.no_grad():
            for position, token in enumerate(self.tokens):
                logits, *past = DecodeStep(model)(*step_inputs(model, token, position, past))
                rows.append(logits)
        return torch.cat(rows), past

    def inputs(self, position: int) -> dict[str, Any]:
        values = step_inputs(self.model, self.tokens[position], position, empty_caches(self.model, LENGTH))
        return dict(zip(STEP, values[:4], strict=True))

    def dag(self, host: tuple[str, ...], kind: str, strategy: str = "sequential") -> DAGExecutor:
        def supported(op: str, attrs: Any) -> bool:
            return not any(name in op for name in host) and npu_compiler.is_op_supported(op, attrs)

        plan = npu_compiler.partition(self.ir, supported, strategy)
        on_host = [part for part in plan.steps if getattr(part, "target", "") == "cpu"]
        assert len(on_host) >= (2 if host else 0)  # in every layer
        dag = DAGExecutor(plan, backend_of(kind))
        dag.load_weights(self.state)
        return dag

    def zeros(self, dag: DAGExecutor) -> dict[str, Any]:
        dtype = str(self.model.dtype)
        return {name: dag.backend.allocate_zeros(self.shape, dtype) for name in self.caches}

    def caches_of(self, outputs: dict[str, Any]) -> dict[str, Any]:
        return dict(zip(self.caches, list(outputs.values())[1:], strict=True))

    def check(self, logits: list[Any], caches: dict[str, Any]) -> None:
        got = torch.cat([numpy_to_torch(row) for row in logits])
        numbers.check(got.float(), self.exact, self.own, "logits")
        for cache, wide, narrow in zip(caches.values(), self.exact_caches, self.own_caches, strict=True):
            numbers.check(numpy_to_torch(np.asarray(cache)).float(), wide, narrow, "a cache")

    def copied(self, dag: DAGExecutor) -> dict[str, int]:
        """Of caches: what enters, and what is made of it."""
        return {name: size for name, size in dag.copied.items() if name.startswith(("past", "index_copy"))}


@pytest.fixture(scope="module", params=[torch.float32, torch.bfloat16], ids=str)
def decoder(request: pytest.FixtureRequest) -> Decoder:
    return Decoder(request.param)


@pytest.fixture(params=["chosen", "metal"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("host", HOST, ids="+".join)
def test_donated_caches_are_never_copied(decoder: Decoder, kind: str, host: tuple[str, ...]) -> None:
    dag = decoder.dag(host, kind)
    caches, logits = decoder.zeros(dag), []
    places = {name: cache.native_handle for name, cache in caches.items()}
    for position in range(TOKENS):
        outputs = dag.execute({**decoder.inputs(position), **caches}, donate=decoder.caches)
        used, caches = caches, decoder.caches_of(outputs)
        logits.append(outputs["logits"])
        assert all(cache.donated for cache in used.values())
        if shares_memory(dag.backend.device):
            assert {name: cache.native_handle for name, cache in caches.items()} == places
            assert decoder.copied(dag) == {}
            assert max(dag.copied.values(), default=0) < decoder.cache_bytes
    decoder.check(logits, caches)
    with pytest.raises(InvalidValueError, match="donated"):
        dag.execute({**decoder.inputs(0), **used})


@pytest.mark.parametrize("host", HOST, ids="+".join)
def test_caches_that_are_left_out_are_held(decoder: Decoder, kind: str, host: tuple[str, ...]) -> None:
    dag = decoder.dag(host, kind, "cost")
    for _ in range(2):
        logits = []
        for position in range(TOKENS):
            outputs = dag.execute(decoder.inputs(position))
            logits.append(outputs["logits"])
            assert decoder.copied(dag) == {} or not shares_memory(dag.backend.device)
        decoder.check(logits, decoder.caches_of(outputs))
        decoder.check(logits, {name: dag.state(name) for name in decoder.caches})
        dag.reset()
        assert dag.state(decoder.caches[0]) is None


@pytest.mark.parametrize("host", HOST, ids="+".join)
def test_caches_that_are_not_donated_stay_as_they_are(decoder: Decoder, kind: str, host: tuple[str, ...]) -> None:
    """One copy of each, whatever form it has, and wherever it is read."""
    dag = decoder.dag(host, kind)
    for form in ("buffer", "array", "tensor"):
        caches: dict[str, Any] = decoder.zeros(dag)
        if form == "array":
            caches = {name: cache.to_numpy() + 0 for name, cache in caches.items()}
        if form == "tensor":
            caches = dict(zip(caches, empty_caches(decoder.model, LENGTH), strict=True))
        logits = []
        for position in range(TOKENS):
            before = {name: plain(c) for name, c in caches.items()}
            outputs = dag.execute({**decoder.inputs(position), **caches})
            for name, cache in caches.items():
                np.testing.assert_array_equal(plain(cache), before[name])
            if shares_memory(dag.backend.device):
                assert sum(decoder.copied(dag).values()) == len(caches) * decoder.cache_bytes
            logits.append(outputs["logits"])
            caches = decoder.caches_of(outputs)
            assert all(isinstance(cache, NPUBuffer) == (form == "buffer") for cache in caches.values())
        decoder.check(logits, caches)


@pytest.mark.parametrize("host", [("silu",), ("index_copy",)], ids="+".join)
def test_what_was_returned_stays(decoder: Decoder, kind: str, host: tuple[str, ...]) -> None:
    """Logits of earlier steps; caches of a step whose successor got them without donation; views show updates."""
    dag = decoder.dag(host, kind)
    caches, held, copies = decoder.zeros(dag), [], []
    for position in range(TOKENS):
        outputs = dag.execute({**decoder.inputs(position), **caches})
        held.append((outputs["logits"], *decoder.caches_of(outputs).values()))
        copies.append([plain(value) for value in held[-1]])
        caches = decoder.caches_of(outputs)
    for values, wanted in zip(held, copies, strict=True):
        for value, same in zip(values, wanted, strict=True):
            np.testing.assert_array_equal(plain(value), same)
    dag.reset()
    first = decoder.caches_of(dag.execute(decoder.inputs(0)))[decoder.caches[0]]
    before = first.to_numpy(copy=True)
    dag.execute(decoder.inputs(1))
    changed = np.nonzero((first.to_numpy() != before).any((0, 1, 3)))[0]
    assert changed.tolist() == [1]
    with pytest.raises(InvalidValueError, match="read-only"):
        dag.execute({**decoder.inputs(2), decoder.caches[0]: first}, donate={decoder.caches[0]})
    if shares_memory(dag.backend.device):
        with pytest.raises((ValueError, RuntimeError)):
            first.to_numpy()[:] = 0


def test_weights_replaced_between_steps(decoder: Decoder, kind: str) -> None:
    dag = decoder.dag(("silu",), kind)
    wanted = dag.execute(decoder.inputs(0))["logits"].copy()
    zeros = {name: torch.zeros_like(tensor) for name, tensor in decoder.state.items()}
    dag.load_weights(zeros)
    assert dag.state(decoder.caches[0]) is None  # begun anew
    assert not dag.execute(decoder.inputs(0))["logits"].any()
    assert not dag.execute(decoder.inputs(1), zeros)["logits"].any()
    assert not dag.state(decoder.caches[0]).to_numpy().any()
    np.testing.assert_array_equal(dag.execute(decoder.inputs(0), decoder.state)["logits"], wanted)


def test_weights_that_are_passed_with_each_step(decoder: Decoder) -> None:
    """What is held of caches goes on."""
    dag = decoder.dag(("softmax",), "chosen")
    logits = [dag.execute(decoder.inputs(p), decoder.state)["logits"] for p in range(TOKENS)]
    decoder.check(logits, {name: dag.state(name) for name in decoder.caches})


def test_a_prompt_and_then_held_caches(decoder: Decoder, kind: str) -> None:
    dag = decoder.dag(("softmax",), kind)
    caches = decoder.zeros(dag)
    for position in range(3):
        outputs = dag.execute({**decoder.inputs(position), **caches}, donate=decoder.caches)
        caches = decoder.caches_of(outputs)
    for name, cache in caches.items():
        dag.set_state(name, cache)
    outputs = dag.execute(decoder.inputs(3))
    got = numpy_to_torch(outputs["logits"])
    numbers.check(got.float(), decoder.exact[3:4], decoder.own[3:4], "the fourth token")
    with pytest.raises(InvalidValueError, match="the model has no state of this name; got 'other'"):
        dag.set_state("other", caches[decoder.caches[0]])
    with pytest.raises(InvalidValueError, match="state '.*' does not match the graph"):
        dag.set_state(decoder.caches[0], np.zeros((1, 2), np.float32))


def test_caches_in_memory_of_another_device(decoder: Decoder) -> None:
    """They come from a program on the CPU: copied once where the GPU reaches them, and in place from then on."""
    dag, other = decoder.dag(("softmax",), "metal"), decoder.dag(("softmax",), "chosen")
    caches, logits = decoder.zeros(other), []
    for position in range(TOKENS):
        runs = other if position < 2 else dag
        outputs = runs.execute({**decoder.inputs(position), **caches}, donate=decoder.caches)
        caches = decoder.caches_of(outputs)
        logits.append(outputs["logits"])
        moved = position == 2 and dag.backend.device.kind != other.backend.device.kind
        assert sum(decoder.copied(runs).values()) == moved * len(caches) * decoder.cache_bytes
    decoder.check(logits, caches)


BAD = {
    "shape": lambda d: np.zeros([1, 2, LENGTH + 1, 16], np.float32),
    "dtype": lambda d: np.zeros(d.shape, np.float16),
    "a list": lambda d: [[0.0]],
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD.keys())
def test_caches_that_do_not_fit(decoder: Decoder, bad: Any) -> None:
    dag = decoder.dag(("softmax",), "chosen")
    with pytest.raises(InvalidValueError, match=f"input '{decoder.caches[1]}' does not match the graph"):
        dag.execute({**decoder.inputs(0), decoder.caches[1]: bad(decoder)})


@pytest.mark.parametrize("host", HOST, ids="+".join)
@pytest.mark.parametrize("position", [LENGTH, -LENGTH - 1, 2**40])
def test_positions_out_of_range(decoder: Decoder, kind: str, host: tuple[str, ...], position: int) -> None:
    """An error; what was donated is given back, and the held caches are still there."""
    dag = decoder.dag(host, kind)
    caches = decoder.zeros(dag)
    wrong = {**decoder.inputs(0), "cache_position": torch.tensor([position])}
    for donate in ((), decoder.caches):
        with pytest.raises(InvalidValueError, match="out of (range|bounds)"):
            dag.execute({**wrong, **caches}, donate=donate)
    assert not any(cache.donated or cache.to_numpy().any() for cache in caches.values())
    with pytest.raises(InvalidValueError, match="out of (range|bounds)"):
        dag.execute(wrong)
    logits = [dag.execute(decoder.inputs(p))["logits"] for p in range(TOKENS)]
    decoder.check(logits, {name: dag.state(name) for name in decoder.caches})


@pytest.mark.parametrize("host", [("softmax",), ("embedding", "softmax")], ids="+".join)
@pytest.mark.parametrize("token", [211, -1, 2**33])
def test_ids_beyond_the_vocabulary(decoder: Decoder, kind: str, host: tuple[str, ...], token: int) -> None:
    dag = decoder.dag(host, kind)
    with pytest.raises(InvalidValueError, match="out of (range|bounds)"):
        dag.execute({**decoder.inputs(0), "input_ids": torch.tensor([[token]])})


@of_shared_memory
def test_donations_that_are_none(decoder: Decoder) -> None:
    dag = decoder.dag(("softmax",), "chosen")
    caches, name, other = decoder.zeros(dag), decoder.caches[0], decoder.caches[1]
    inputs = {**decoder.inputs(0), **caches}
    twice = {**inputs, other: caches[name]}
    view = {**inputs, other: caches[name].to_numpy()}
    for given, donate, words in (
        (inputs, name, "donate must be a set of input names"),
        (inputs, 5, "donate must be a set of input names"),
        (inputs, {"other"}, "only an NPUBuffer can be donated as 'other'; got nothing"),
        (inputs, {"input_ids"}, "only an NPUBuffer can be donated as 'input_ids'; got Tensor"),
        (twice, {name}, f"input '{name}' is donated, but its memory is also that of '{other}'"),
        (view, {name}, f"input '{name}' is donated, but its memory is also that of '{other}'"),
    ):
        with pytest.raises(InvalidValueError, match=words):
            dag.execute(given, donate=donate)
    assert not any(cache.donated for cache in caches.values())


class Twice(nn.Module):
    """A cache that is written twice in a step, read in between, and read as it was by a part of the host."""

    def forward(self, x: Tensor, at: Tensor, cache: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        old = torch.sinh(cache).sum()
        first = cache.index_copy(0, at, x)
        middle = torch.sinh(first).sum()
        second = first.index_copy(0, at + 1, torch.sinh(x))
        return old, middle, second


class OldView(nn.Module):
    """The host makes a view of the old cache, which is read after the update."""

    def forward(self, x: Tensor, at: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        view = cache.mT
        new = cache.index_copy(0, at, x)
        return torch.sinh(view) + torch.cosh(new).mT, new


class Writes(nn.Module):
    """The module writes into its argument; the host has what comes in between."""

    def forward(self, x: Tensor, at: Tensor, cache: Tensor) -> Tensor:
        y = torch.sinh(x)
        cache.index_copy_(0, at, y)
        return torch.cosh(cache).sum(0)


class Keeps(nn.Module):
    """Two buffers that a step writes, one of which it returns too."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("cache", torch.full((6, 3), 0.25))
        self.register_buffer("seen", torch.zeros(6, 3))

    def forward(self, x: Tensor, at: Tensor) -> tuple[Tensor, Tensor]:
        self.cache.index_copy_(0, at, torch.sinh(x))
        self.seen.index_copy_(0, at, x)
        return torch.cosh(self.cache).sum(0), self.seen


SPLITS = [("sinh",), ("index_copy",), ("sinh", "cosh"), ("mT", "sinh"), ("mT",), ("sinh", "index_copy"), ()]


def small(module: type[nn.Module], example: tuple[Any, ...], host: tuple[str, ...], kind: str) -> DAGExecutor:
    ir = extract_ir(module().eval(), example).to_dict()

    def supported(op: str, attrs: Any) -> bool:
        return not any(name in op for name in host) and npu_compiler.is_op_supported(op, attrs)

    dag = DAGExecutor(npu_compiler.partition(ir, supported), backend_of(kind))
    dag.load_weights(dict(module().state_dict()))
    return dag


@pytest.mark.parametrize("host", SPLITS, ids="+".join)
@pytest.mark.parametrize("module", [Twice, OldView])
def test_old_contents_are_seen_by_who_reads_them(module: Any, kind: str, host: tuple[str, ...]) -> None:
    x, cache = torch.tensor([[0.1, 0.2, 0.3]]), torch.linspace(-1, 1, 18).reshape(6, 3)
    dag = small(module, (x, torch.tensor([0]), cache), host, kind)
    held = dag.backend.allocate_buffer(cache)
    for position in (2, 0, 4):
        inputs = {"x": x * position, "at": torch.tensor([position]), "cache": held}
        wanted = module()(inputs["x"], inputs["at"], cache)
        kept = dag.execute(inputs)
        outputs = dag.execute(inputs, donate={"cache"})
        for got, same, want in zip(outputs.values(), kept.values(), wanted, strict=True):
            np.testing.assert_allclose(np.asarray(got), want, rtol=1e-5, atol=1e-6)
            np.testing.assert_array_equal(np.asarray(got), np.asarray(same))
        held, cache = list(outputs.values())[-1], wanted[-1]


@pytest.mark.parametrize("host", SPLITS, ids="+".join)
def test_inputs_that_the_model_writes(kind: str, host: tuple[str, ...]) -> None:
    x, cache = torch.tensor([[0.1, 0.2, 0.3]]), torch.zeros(6, 3)
    dag = small(Writes, (x, torch.tensor([0]), cache.clone()), host, kind)
    held = dag.backend.allocate_buffer(cache)
    place = held.native_handle
    for position in range(6):
        inputs = {"x": x + position, "at": torch.tensor([position])}
        wanted = Writes()(inputs["x"], inputs["at"], cache)
        passed = dag.execute({**inputs, "cache": held}, donate={"cache"})
        assert not dag.copied.keys() & {"cache", "index_copy"} or not shares_memory(dag.backend.device)
        left_out = dag.execute(inputs)
        for outputs in (passed, left_out):
            (result, held) = outputs.values()
            np.testing.assert_allclose(result, wanted, rtol=1e-5)
            np.testing.assert_allclose(outputs["cache"].to_numpy(), cache, rtol=1e-6)
        held = passed["cache"]
        assert held.native_handle == place or not shares_memory(dag.backend.device)


@pytest.mark.parametrize("host", SPLITS, ids="+".join)
def test_buffers_of_the_model(kind: str, host: tuple[str, ...]) -> None:
    module, x = Keeps(), torch.tensor([[0.1, 0.2, 0.3]])
    dag = small(Keeps, (x, torch.tensor([0])), host, kind)
    kept = []
    for position in range(6):
        inputs = {"x": x + position, "at": torch.tensor([position])}
        wanted = [t.clone() for t in module(**inputs)]
        kept.append((list(dag.execute(inputs).values()), wanted))
        copied = [name for name in dag.copied if name == "cache" or "b_cache" in name]
        assert not copied or not shares_memory(dag.backend.device)
        np.testing.assert_allclose(np.asarray(dag.state("cache")), module.cache, rtol=1e-6)
    for got, wanted in kept:
        for value, want in zip(got, wanted, strict=True):
            np.testing.assert_allclose(value, want, rtol=1e-5)
    dag.reset()
    assert dag.state("cache") is None
    dag.execute({"x": x, "at": torch.tensor([0])})
    assert np.asarray(dag.state("cache"))[1:].tolist() == [[0.25] * 3] * 5


class Counts(torch.nn.Module):
    n: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("n", torch.zeros(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.n.add_(1)
        return x + self.n


@pytest.mark.parametrize("on_device", [True, False])
def test_buffers_where_weights_are_passed_with_each_step(on_device: bool) -> None:
    """They go on, as with an executor, until weights come that begin elsewhere. A refused run changes nothing."""
    x = torch.ones(1, 3)
    plan = npu_compiler.partition(extract_ir(Counts().eval(), x).to_dict(), lambda op, attrs: on_device)
    dag, fifty, ten = DAGExecutor(plan, CPUBackend()), {"n": torch.full((3,), 50.0)}, {"n": torch.full((3,), 10.0)}
    found = [float(next(iter(dag.execute({"x": x}, w).values()))[0, 0]) for w in (fifty, fifty, ten, dict(ten))]
    assert found == [52, 53, 12, 13]
    with pytest.raises(InvalidValueError):
        dag.execute({"x": x[:, :2]}, fifty)
    state = dag.state("n")
    assert state.to_numpy().tolist() == [12] * 3
    with pytest.raises(InvalidValueError, match="read-only"):
        state.write_from_numpy(np.zeros(3, np.float32))
    assert next(iter(dag.execute({"x": x}).values()))[0, 0] == 14

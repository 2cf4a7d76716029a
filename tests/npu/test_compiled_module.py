"""``npu.compile``: a callable with the module's own signature."""

import copy
import pickle
import threading

import npu
import numpy as np
import pytest
import torch
from npu_runtime import Device, InvalidValueError
from torch import nn
from torch.nn import functional as F
from torch_ir import ConversionError, IRExecutor


class Signature(nn.Module):
    """Positional and keyword arguments, nested inputs and outputs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x, pair, *, scale=2.0, mask=None):
        a, b = pair["a"], pair["b"]
        y = self.linear(x) * scale + a
        if mask is not None:
            y = y.masked_fill(mask, 0)
        return {"y": y, "list": [b + 1, (y.sum(),)]}


def example(seed=0):
    generator = torch.Generator().manual_seed(seed)
    x, a, b = (torch.randn(2, n, generator=generator) for n in (4, 3, 3))
    return (x, {"a": a, "b": b}), {"scale": 3.0, "mask": torch.rand(2, 3, generator=generator) < 0.3}


def close(got, wanted, tolerance=1e-5):
    assert torch.utils._pytree.tree_structure(got) == torch.utils._pytree.tree_structure(wanted)
    for g, w in zip(*map(torch.utils._pytree.tree_leaves, (got, wanted)), strict=True):
        torch.testing.assert_close(g, w.detach(), rtol=tolerance, atol=tolerance)


def test_signature_and_structure_are_the_modules():
    module = Signature().eval()
    args, kwargs = example()
    compiled = npu.compile(module, args, kwargs)
    for seed in range(3):
        args, kwargs = example(seed)
        close(compiled(*args, **kwargs), module(*args, **kwargs))


class Slow:
    """What a PyTorch without DLPack's C interface leads to."""

    def run(self, tensors, weights):
        return None


@pytest.mark.parametrize("interface", [True, False], ids=["C interface", "capsules"])
def test_every_way_of_calling(interface, monkeypatch):
    module = Signature().eval()
    args, kwargs = example()
    compiled, memory = npu.compile(module, args, kwargs), npu.compile(Memory(), torch.ones(2))
    if not interface:
        monkeypatch.setattr(compiled.runner, "_call", Slow())
        monkeypatch.setattr(memory.runner, "_call", Slow())
    close(compiled(*args, **kwargs), module(*args, **kwargs))
    flat = args[0], args[1]["a"], args[1]["b"], kwargs["mask"]
    close(compiled(*flat), module(*args, **kwargs))
    close(compiled(*(x.clone().requires_grad_(x.is_floating_point()) for x in flat)), module(*args, **kwargs))
    close(compiled(nn.Parameter(flat[0]), *flat[1:]), module(*args, **kwargs))
    close(compiled(flat[0].t().contiguous().t(), *flat[1:]), module(*args, **kwargs))
    for n in range(1, 4):
        assert memory(torch.ones(2)).tolist() == [2 - 0.5 ** (n - 1)] * 2
    with pytest.raises(InvalidValueError, match="shape"):
        memory(torch.ones(3))
    with pytest.raises(InvalidValueError, match="meta"):
        memory(torch.ones(2, device="meta"))
    with pytest.raises(InvalidValueError, match="got object, traced with a tensor"):
        memory(object())
    memory.reset()
    assert isinstance(memory(np.ones(2, np.float32)), np.ndarray)
    memory.reset()
    assert memory(x=torch.ones(2)).tolist() == [1, 1]


def test_results_may_be_none_of_the_inputs_memory():
    class Pass(nn.Module):
        def forward(self, x):
            return x, x

    x = torch.ones(3)
    first, second = npu.compile(Pass(), x)(x)
    x.add_(1)
    assert first.tolist() == second.tolist() == [1, 1, 1]


def test_calls_without_inputs():
    class Constant(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("value", torch.arange(3.0))

        def forward(self):
            return self.value * 2

    compiled = npu.compile(Constant(), ())
    assert compiled().tolist() == [0, 2, 4]
    for call in (lambda: compiled(torch.ones(3)), lambda: compiled(x=torch.ones(3))):
        with pytest.raises(InvalidValueError):
            call()


def test_keywords_in_any_order():
    class Subtract(nn.Module):
        def forward(self, a, b):
            return a - b

    a, b = torch.ones(3), torch.full((3,), 5.0)
    compiled = npu.compile(Subtract(), (), {"a": a, "b": b})
    for result in (compiled(a=a, b=b), compiled(b=b, a=a), compiled(a, b)):
        assert result.tolist() == [-4, -4, -4]
    for wrong in ({"a": a}, {"a": a, "c": b}, {"a": a, "b": b, "c": b}, {"a": a, "b": 3.0}):
        with pytest.raises(InvalidValueError):
            compiled(**wrong)


class Nested(nn.Module):
    def forward(self, x, options):
        pair, *rest = options["pairs"]
        return x + pair["a"] - 2 * pair["b"] + rest[0] * options["scale"]


def test_keys_of_nested_dicts_in_any_order():
    x, a, b, c = (torch.full((2,), float(n)) for n in (1, 10, 3, 7))
    module = Nested()
    inputs = x, {"pairs": [{"a": a, "b": b}, c], "scale": 2.0}
    other_order = x, {"scale": 2.0, "pairs": [{"b": b, "a": a}, c]}
    compiled, ir = npu.compile(module, inputs), npu.extract(module, inputs)
    by_keyword = npu.compile(module, (x,), {"options": inputs[1]})
    executor = IRExecutor(ir)
    executor.load_weights_from_state_dict({})
    wanted = module(*inputs)
    assert torch.equal(module(*other_order), wanted)
    for given in (inputs, other_order):
        assert torch.equal(compiled(*given), wanted)
        assert torch.equal(executor.execute(given)[0], wanted)
        assert torch.equal(by_keyword(given[0], options=given[1]), wanted)
    wrong = {
        r"contents of 0 in the contents of 'pairs'.*missing \['b'\], unknown \['c'\]": [{"a": a, "c": b}, c],
        r"missing \['b'\], unknown \[\]": [{"a": a}, c],
        r"contents of 'pairs'.*got a list of 1, traced with a list of 2": [{"a": a, "b": b}],
        r"got a dict of 2, traced with a tensor": [{"a": a, "b": b}, {"d": c, "e": c}],
    }
    for words, pairs in wrong.items():
        for call in (lambda given: compiled(*given), executor.execute):
            with pytest.raises(InvalidValueError, match=words):
                call((x, {"pairs": pairs, "scale": 2.0}))


def test_results_are_not_overwritten_by_later_calls():
    compiled = npu.compile(nn.ReLU(), torch.ones(3))
    first = compiled(torch.tensor([1.0, -1, 2]))
    for i in range(20):
        compiled(torch.full((3,), float(i)))
    assert first.tolist() == [1, 0, 2]


class Memory(nn.Module):
    def __init__(self, start=0.0):
        super().__init__()
        self.register_buffer("seen", torch.full((2,), start))

    def forward(self, x):
        self.seen.mul_(0.5).add_(x)
        return self.seen.clone()


@pytest.mark.parametrize("dtype", [None, torch.bfloat16], ids=str)
@pytest.mark.parametrize("start", [0.0, 5.0])
def test_buffers_that_the_module_writes_are_kept_and_reset(start, dtype):
    module = Memory(start)
    compiled = npu.compile(copy.deepcopy(module), torch.ones(2), compute_dtype=dtype)
    reference = copy.deepcopy(module)
    tolerance = {} if dtype is None else {"rtol": 0.02, "atol": 0.02}
    for i in range(5):
        x = torch.tensor([float(i), 1.0])
        torch.testing.assert_close(compiled(x), reference(x), **tolerance)
    compiled.reset()
    reference = copy.deepcopy(module)
    torch.testing.assert_close(compiled(torch.ones(2)), reference(torch.ones(2)), **tolerance)
    assert module.seen.tolist() == [start, start]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_inside(dtype):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 8)).eval()
    x = torch.randn(5, 32)
    compiled = npu.compile(module, x, compute_dtype=dtype)
    got, wanted = compiled(x), module(x).detach()
    assert got.dtype == torch.float32
    error = ((got - wanted).norm() / wanted.norm()).item()
    own = ((module.to(dtype)(x.to(dtype)).float().detach() - wanted).norm() / wanted.norm()).item()
    assert 0 < error <= 2 * own


def test_passes_can_be_left_out():
    module = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), nn.ReLU()).eval()
    x = torch.randn(1, 3, 6, 6)
    whole, without = npu.compile(module, x), npu.compile(module, x, disable=["fold_batch_norm"])
    assert len(without.program.data["prepare"]) < len(whole.program.data["prepare"])
    close(without(x), whole(x))


def test_models_in_training_mode_are_refused_or_exact():
    module = nn.Sequential(nn.Linear(3, 3), nn.Dropout(0.0))
    compiled = npu.compile(module, torch.ones(2, 3))
    close(compiled(torch.ones(2, 3)), module(torch.ones(2, 3)))
    with pytest.raises(ConversionError, match="dropout with p=0.5 is active"):
        npu.compile(nn.Dropout(0.5).train(), torch.ones(4))


MISTAKES = {
    "no argument": (lambda c, x: c(), "Expected 1 inputs, got 0"),
    "too many": (lambda c, x: c(x, x), "Expected 1 inputs, got 2"),
    "unknown keyword": (lambda c, x: c(x, other=1), "other"),
    "shape": (lambda c, x: c(x[:1]), r"\[1, 4\].*\[2, 4\]|\[2, 4\].*\[1, 4\]"),
    "dtype": (lambda c, x: c(x.double()), "float64"),
    "no tensor": (lambda c, x: c("text"), "str"),
    "NaN is fine": (lambda c, x: c(x * torch.nan), None),
}


@pytest.mark.parametrize(("call", "word"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(call, word):
    compiled, x = npu.compile(nn.Linear(4, 2), torch.ones(2, 4)), torch.ones(2, 4)
    if word is None:
        assert call(compiled, x).isnan().all()
        return
    with pytest.raises(InvalidValueError, match=word):
        call(compiled, x)
    assert compiled(x).shape == (2, 2)


def test_what_cannot_compile_is_named():
    class Solve(nn.Module):
        def forward(self, a, b):
            return torch.linalg.solve(a, b)

    with pytest.raises(ValueError, match=r"linalg_solve"):
        npu.compile(Solve(), (torch.eye(3), torch.ones(3, 1)), fallback="error")
    with torch.device("meta"):
        module = nn.Linear(2, 2)
    with pytest.raises(ValueError, match="no weights"):
        npu.compile(module, torch.ones(1, 2))


def test_device_threads_and_repr():
    compiled = npu.compile(nn.Linear(4, 2), torch.ones(2, 4), device="cpu", threads=1)
    assert compiled.executor.threads == 1
    assert "Linear" in repr(compiled)
    compiled = npu.compile(nn.Linear(4, 2), torch.ones(2, 4), device=Device())
    assert compiled.executor.device.kind == Device().kind
    with pytest.raises(InvalidValueError, match="tpu"):
        npu.compile(nn.Linear(4, 2), torch.ones(2, 4), device="tpu")


def test_a_device_of_pytorch(tmp_path):
    cpu, x = torch.device("cpu"), torch.ones(2, 4)
    linear = nn.Linear(4, 2)
    compiled = npu.compile(linear, x, device=cpu)
    compiled.save(tmp_path / "linear.npu")
    backend = torch.compile(linear, backend="npu", options={"device": cpu})
    predictor = pickle.loads(pickle.dumps(npu.Predictor(tmp_path / "linear.npu", device=cpu)))
    with torch.no_grad():
        for result in (compiled(x), npu.load(tmp_path / "linear.npu", cpu)(x), backend(x)):
            assert torch.allclose(result, linear(x), atol=1e-6)
    assert predictor({"input": x.numpy()})["output"].shape == (2, 2) and "'cpu'" in repr(predictor)
    assert npu.compare(compiled.program, cpu, cpu).rows


@pytest.mark.parametrize("module", [nn.Linear(64, 64), Memory()], ids=["stateless", "stateful"])
def test_threads_share_a_compiled_module(module):
    x = torch.ones(2, 64) if isinstance(module, nn.Linear) else torch.zeros(2)
    compiled, wanted, wrong = npu.compile(module, x), module(x).detach(), []

    def work():
        if not all(torch.allclose(compiled(x), wanted, rtol=1e-4, atol=1e-5) for _ in range(50)):
            wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_attention_block_against_float64():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.qkv, self.out, self.norm = nn.Linear(16, 48), nn.Linear(16, 16), nn.LayerNorm(16)

        def forward(self, x):
            q, k, v = (t.unflatten(-1, (4, 4)).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
            return x + self.out(y.transpose(1, 2).flatten(2))

    module, x = Block().eval(), torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(4))
    got = npu.compile(module, x)(x)
    exact = copy.deepcopy(module).double()(x.double())
    assert ((got.double() - exact).norm() / exact.norm()).item() < 1e-6
    assert np.isfinite(got.numpy()).all()


def test_buffers_take_the_short_way():
    class Adding(nn.Module):
        def forward(self, x):
            return x + 1, x.sum()

    x, device = np.arange(3, dtype=np.float32), npu.Device("cpu")
    compiled, buffer = npu.compile(Adding(), torch.ones(3), device="cpu"), npu.Buffer.from_numpy(x, device)
    assert compiled.runner.try_tensors((buffer,)) is not None
    results = compiled(buffer)
    assert [type(r) for r in results] == [np.ndarray] * 2
    assert np.array_equal(results[0], x + 1) and results[1] == 3
    for other in (np.zeros(4, np.float32), np.zeros(3, np.int32)):
        assert compiled.runner.try_tensors((npu.Buffer.from_numpy(other, device),)) is None
        with pytest.raises(InvalidValueError, match="Input 'x'"):
            compiled(npu.Buffer.from_numpy(other, device))

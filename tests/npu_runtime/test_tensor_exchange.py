"""Tensors through DLPack's C exchange interface: the same results and refusals as without it, and nothing leaks."""

import ctypes
import gc
import os
import sys
import threading
import weakref
from pathlib import Path

import npu
import numpy as np
import pytest
import torch
from npu_runtime import DAGExecutor, InvalidTypeError, InvalidValueError, NPUBuffer
from npu_runtime._core import TensorCall
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from tests.support.devices import OnDevice, chosen_device, of_shared_memory
from tests.support.dlpack import DLDataType, DLDevice
from tests.support.lender import Lender, lender
from tests.support.programs import Add, ready

needs_exchange = pytest.mark.skipif(
    not hasattr(torch.Tensor, "__dlpack_c_exchange_api__"), reason="this PyTorch does not offer the interface"
)


@pytest.fixture(scope="module")
def add():
    return ready(Add(), torch.ones(3, 4), torch.ones(3, 4))


def numbers(seed=0):
    return torch.randn(3, 4, generator=torch.Generator().manual_seed(seed))


def call_of(model, type=torch.Tensor):
    return TensorCall(model.executor, model.inputs, model.outputs, type)


class Plain(torch.Tensor):
    pass


class Watching(torch.Tensor):
    """Sees what is called with its instances."""

    seen: list[str] = []  # noqa: RUF012 - one for all

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        cls.seen.append(function.__name__)
        return super().__torch_function__(function, types, args, kwargs or {})


FORMS = {
    "plain": lambda x: x,
    "transposed": lambda x: x.t().contiguous().t(),
    "offset": lambda x: torch.cat([x, x])[3:].copy_(x),
    "every second": lambda x: x.repeat_interleave(2, 1)[:, ::2],
    "negated": torch._neg_view,
    "negated, part of a complex one": lambda x: torch.complex(x, x).conj().imag,
    "requires gradients": lambda x: x.clone().requires_grad_(),
    "result of a gradient": lambda x: x.clone().requires_grad_() * 1,
    "parameter": nn.Parameter,
    "subclass": lambda x: x.as_subclass(Plain),
    "subclass that watches": lambda x: x.as_subclass(Watching),
    "lazy clone": torch._lazy_clone,
    "of inference mode": lambda x: torch.inference_mode()(x.clone)(),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_form_of_tensor(add, form):
    given = form(numbers())
    expected = (given + given).detach()
    np.testing.assert_array_equal(add.array(given, given), expected)
    (result,) = call_of(add).run((numbers(), numbers())) or (numbers() * 2,)
    assert torch.equal(result, numbers() * 2)
    by_call = call_of(add).run((given, given))
    assert by_call is None or torch.equal(by_call[0], expected)


@needs_exchange
def test_plain_tensors_need_no_capsule(add, monkeypatch):
    def capsule(*_, **__):
        raise AssertionError("a capsule was made")

    x, compiled = numbers(), npu.compile(Add(), (numbers(), numbers()), device=chosen_device())
    monkeypatch.setattr(torch.Tensor, "__dlpack__", capsule)
    monkeypatch.setattr(NPUBuffer, "__dlpack__", capsule)
    np.testing.assert_array_equal(add.array(x, x.t().contiguous().t()), x * 2)
    np.testing.assert_array_equal(add.executor.session().run({"a": x, "b": x})[add.outputs[0]].to_numpy(), x * 2)
    for result in (compiled(x, x), compiled(a=x, b=x), *call_of(add).run((x, x))):
        assert torch.equal(result, x * 2)


def test_subclasses_are_asked_for_their_dlpack(add):
    Watching.seen.clear()
    add.array(numbers().as_subclass(Watching), numbers())
    assert "__dlpack__" in Watching.seen
    assert call_of(add, Watching).run((numbers().as_subclass(Watching),) * 2) is None


DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8]


@needs_exchange
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (5,), (1, 3, 1)], ids=str)
def test_dtypes_and_shapes(dtype, shape):
    tensor = torch.arange(float(np.prod(shape))).reshape(shape).to(dtype)
    model = ready(Add(), tensor, tensor)
    assert torch.equal(torch.from_dlpack(model.run(tensor, tensor)[model.outputs[0]]).cpu(), tensor + tensor)
    (result,) = call_of(model).run((tensor, tensor))
    assert (result.dtype, result.shape, result.stride()) == (dtype, tensor.shape, tensor.stride())
    assert torch.equal(result, tensor + tensor)


class Not(nn.Module):
    def forward(self, mask: torch.Tensor) -> torch.Tensor:
        return ~mask


@needs_exchange
def test_bool():
    mask = torch.tensor([True, False, True])
    (result,) = call_of(ready(Not(), mask)).run((mask,))
    assert result.tolist() == [False, True, False]


WITHOUT_DATA = {
    "fake": lambda: FakeTensorMode().from_tensor(torch.ones(3, 4)),
    "lazy zeros": lambda: torch._efficientzerotensor((3, 4)),
    "of a transform": lambda: torch._to_functional_tensor(torch.ones(3, 4)),
    "two in one": lambda: TwoTensor(torch.ones(3, 4), torch.ones(3, 4)),
}
REFUSED = {
    "sparse": (lambda: torch.ones(3, 4).to_sparse(), "torch.sparse_coo"),
    "of oneDNN": (lambda: torch.ones(3, 4).to_mkldnn(), "torch._mkldnn"),
    "quantised": (lambda: torch.quantize_per_tensor(torch.ones(3, 4), 0.1, 0, torch.quint8), "torch.quint8"),
    "meta": (lambda: torch.empty(3, 4, device="meta"), "on meta"),
    "complex": (lambda: torch.ones(3, 4, dtype=torch.complex64).conj(), "torch.complex64"),
    "double": (lambda: torch.ones(3, 4).double(), r"try \.float\(\)"),
    "eight bits": (lambda: torch.ones(3, 4).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
    "another dtype": (lambda: torch.ones(3, 4).int(), r'input "a" does not fit .*got int32\[3, 4\]'),
    "another shape": (lambda: torch.ones(4), r'input "a" does not fit .*got float32\[4\]'),
    **{name: (form, "'a' has no values in memory; got .*float32") for name, form in WITHOUT_DATA.items()},
}


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("form", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(add, form, words):
    given = form()
    with pytest.raises(InvalidValueError, match=words):
        add.run(given, numbers())
    assert call_of(add).run((given, numbers())) is None
    assert call_of(add).run((numbers(), given)) is None


def test_inside_a_transform(add):
    def run(x):
        assert call_of(add).run((x, x)) is None
        with pytest.raises(InvalidValueError, match="cannot use the tensor 'a'"):
            add.run(x, x)
        return x

    torch.vmap(run)(torch.ones(2, 3, 4))
    torch.func.grad(lambda x: run(x).sum())(torch.ones(3, 4))


@needs_exchange
def test_modes_see_no_results(add):
    x = numbers()
    with torch.device("meta"):
        (result,) = call_of(add).run((x, x))
    assert torch.equal(result, x * 2)


def test_calls_that_do_not_fit_run_nothing(add):
    x = numbers()
    for given in ((), (x,), (x, x, x), (x, 1.0), (x, None), (x, x.numpy())):
        assert call_of(add).run(given) is None
    with pytest.raises(TypeError):
        call_of(add).run([x, x])
    with pytest.raises(InvalidValueError, match="weights must come from load_weights; got int"):
        call_of(add).run((x, x), 3)


def test_names_of_calls_are_checked(add):
    with pytest.raises(InvalidValueError, match='no such input; got "c"; expected "a", "b"'):
        TensorCall(add.executor, ["a", "c"], add.outputs, torch.Tensor)
    with pytest.raises(InvalidValueError, match='no such output; got "c"'):
        TensorCall(add.executor, add.inputs, ["c"], torch.Tensor)
    with pytest.raises(InvalidTypeError, match="cannot run a program; got dict"):
        TensorCall({}, add.inputs, add.outputs, torch.Tensor)
    with pytest.raises(TypeError):
        TensorCall(add.executor, add.inputs, add.outputs, 3)


@needs_exchange
def test_order_of_names(add):
    a, b = numbers(1), torch.full((3, 4), 0.5)
    subtract = ready(Subtract(), a, b)
    call = TensorCall(subtract.executor, subtract.inputs[::-1], subtract.outputs * 2, torch.Tensor)
    first, second = call.run((b, a))
    assert torch.equal(first, a - b)
    assert torch.equal(second, a - b)


class Subtract(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a - b


class Sum(nn.Module):
    """Of more inputs than a run has room for without allocating."""

    def forward(self, *xs: torch.Tensor) -> torch.Tensor:
        return sum(xs[1:], xs[0])


@needs_exchange
def test_many_inputs():
    xs = tuple(numbers(i) for i in range(12))
    model = ready(Sum(), *xs)
    (result,) = call_of(model).run(xs)
    torch.testing.assert_close(result, torch.stack(xs).sum(0))
    torch.testing.assert_close(torch.from_numpy(model.array(*xs)), torch.stack(xs).sum(0))


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.count.add_(x)
        return self.count * 2


@needs_exchange
def test_sessions_keep_their_state():
    model = ready(Counter(), torch.ones(2))
    session = model.executor.session()
    session.set_state("count", np.zeros(2, np.float32))
    call = TensorCall(session, ["x"], model.outputs[:1], torch.Tensor)
    for i in range(1, 4):
        (result,) = call.run((torch.ones(2),))
        assert result.tolist() == [2 * i, 2 * i]
        assert call.run((torch.ones(3),)) is None, "which did not run"
    del session
    gc.collect()
    assert call.run((torch.ones(2),))[0].tolist() == [8, 8]


@needs_exchange
def test_results_stay():
    model = ready(Add(), torch.ones(1 << 14), torch.ones(1 << 14))
    call = call_of(model)
    results = [call.run((torch.full((1 << 14,), float(i)),) * 2)[0] for i in range(20)]
    del model, call
    gc.collect()
    for i, result in enumerate(results):
        assert (result == 2 * i).all()
        result.add_(1)
        assert (result == 2 * i + 1).all()


class Same(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x.view(-1)


@needs_exchange
def test_results_do_not_share_memory_with_inputs():
    x = numbers()
    for result in call_of(ready(Same(), x)).run((x,)):
        kept = result.clone()
        x.add_(1)
        assert torch.equal(result, kept)


@of_shared_memory
def test_a_buffer_keeps_a_tensor_that_requires_gradients():
    tensor = torch.full((1 << 16,), 3.0, requires_grad=True)
    buffer = NPUBuffer.from_dlpack(tensor)
    tensor.data = torch.zeros(1)
    junk = [torch.zeros(1 << 16) for _ in range(8)]
    assert (buffer.to_numpy() == 3).all()
    assert len(junk) == 8


def test_tensors_are_let_go(add):
    call = call_of(add)
    for run in (lambda x: add.run(x, x), lambda x: call.run((x, x)), lambda x: add.executor.run({"a": x, "b": x[1:]})):
        x = numbers()
        before, watched = sys.getrefcount(x), weakref.ref(x)
        for _ in range(100):
            try:
                run(x)
            except InvalidValueError:
                continue
        assert sys.getrefcount(x) == before
        del x
        assert watched() is None


@needs_exchange
def test_results_are_let_go(add):
    call, x = call_of(add), numbers()
    call.run((x, x))
    gc.collect()
    blocks = sys.getallocatedblocks()
    for _ in range(2000):
        call.run((x, x))
        add.run(x, x)
    gc.collect()
    assert sys.getallocatedblocks() - blocks < 200


@needs_exchange
@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of the process from Linux")
def test_memory_does_not_grow():
    def size():
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    small, large = (torch.ones(n) for n in (16, 1 << 18))
    for x, runs in ((small, 20_000), (large, 200)):
        model = ready(Add(), x, x)
        call = call_of(model)
        strided = x.repeat_interleave(2)[::2]
        for _ in range(20):
            call.run((x, strided))
        before = size()
        for _ in range(runs):
            call.run((x, strided))
            model.run(strided, x)
        assert size() - before < 8 << 20


@needs_exchange
def test_types_of_many_calls_are_not_kept(add):
    watched = []
    for i in range(40):
        kind = type(f"Tensor{i}", (torch.Tensor,), {})
        np.testing.assert_array_equal(add.array(numbers().as_subclass(kind), numbers()), numbers() * 2)
        watched.append(weakref.ref(kind))
        del kind
    gc.collect()
    assert sum(ref() is not None for ref in watched) <= 8


def test_threads(add):
    call, wrong = call_of(add), []

    def work(seed):
        x = numbers(seed)
        for _ in range(200):
            results = call.run((x, x)) or (x * 2,)
            if not (torch.equal(results[0], x * 2) and np.array_equal(add.array(x, x), x * 2)):
                wrong.append(seed)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_inputs_that_are_dropped_during_a_run_stay_until_it_ends():
    """Another thread empties the dict, which had the only reference."""
    big = ready(Add(), torch.ones(1 << 16), torch.ones(1 << 16))
    inputs, done, wrong = {}, threading.Event(), []

    def drop():
        while not done.is_set():
            inputs.clear()

    thread = threading.Thread(target=drop)
    thread.start()
    try:
        for i in range(12):
            inputs.update(a=torch.full((1 << 16,), float(i)), b=torch.full((1 << 16,), float(i)))
            try:
                result = big.executor.run(inputs)[big.outputs[0]].to_numpy()
            except InvalidValueError:  # it was quicker
                continue
            wrong += [i] * (not (result == 2 * i).all())
    finally:
        done.set()
        thread.join()
    assert not wrong


def test_partitioned_models_take_them():
    import npu_compiler
    from torch_ir import extract_ir

    class Mixed(nn.Module):
        def forward(self, x):
            return torch.linalg.eigvalsh(x + x.t()) * 2

    x = torch.randn(4, 4, generator=torch.Generator().manual_seed(0))
    dag = DAGExecutor(npu_compiler.partition(extract_ir(Mixed(), (x,))), OnDevice(chosen_device()))
    dag.load_weights({})
    for given in (x, x.t().contiguous().t(), x.clone().requires_grad_(), torch._neg_view(-x)):
        (result,) = dag.execute({"x": given}).values()
        torch.testing.assert_close(torch.as_tensor(np.asarray(result)), Mixed()(x))


def test_interfaces_of_other_libraries(add):
    older = lender()
    newer = lender(major=2, previous=ctypes.pointer(older.kept[0]))
    for kind in (older, newer):
        given = kind(numbers().numpy())
        np.testing.assert_array_equal(add.array(given, given), numbers() * 2)
        assert given.asked == 0


def spoiled(field, value):
    return lambda tensor: setattr(tensor, field, value)


BROKEN = {
    "no capsule": lambda: type("Own", (Lender,), {"__dlpack_c_exchange_api__": 3}),
    "another capsule": lambda: lender(capsule=b"something"),
    "another version": lambda: lender(major=2),
    "version 0": lambda: lender(major=0),
    "no function": lambda: lender(without="view"),
    "no way back": lambda: lender(without="take"),
    "it fails": lambda: lender(view=-1),
    "a GPU": lambda: lender(spoil=spoiled("device", DLDevice(2, 0))),
    "no shape": lambda: lender(spoil=spoiled("shape", None)),
    "no data": lambda: lender(spoil=spoiled("data", None)),
    "negative rank": lambda: lender(spoil=spoiled("ndim", -1)),
    "huge rank": lambda: lender(spoil=spoiled("ndim", 1 << 30)),
    "unknown dtype": lambda: lender(spoil=spoiled("dtype", DLDataType(9, 32, 1))),
    "vectors": lambda: lender(spoil=spoiled("dtype", DLDataType(2, 32, 4))),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
def test_broken_interfaces_are_gone_around(add, broken):
    kind = broken()
    given = kind(numbers().numpy())
    np.testing.assert_array_equal(add.array(given, given), numbers() * 2)
    assert given.asked == 2
    assert call_of(add, kind).run((given, given)) is None


def test_inherited_interfaces_are_not_used(add):
    given = type("Further", (lender(),), {})(numbers().numpy())
    np.testing.assert_array_equal(add.array(given, given), numbers() * 2)
    assert given.asked == 2


def test_a_library_that_cannot_take_a_result(add):
    kind = lender()
    given = kind(numbers().numpy())
    with pytest.raises(BufferError, match="cannot take over a result"):
        call_of(add, kind).run((given, given))

"""Whose memory it is: views, donation, weights and sessions share memory without anyone reading what is gone."""

import gc
import threading

import ml_dtypes
import numpy as np
import pytest
import torch
from npu_runtime import InvalidValueError, NPUBuffer, Weights, load_weights
from npu_runtime._core import File
from safetensors.torch import save_file
from torch import nn

from tests.support.devices import chosen_device, of_shared_memory
from tests.support.programs import mlp, ready

DEVICE = chosen_device()
ROWS = 1 << 20  # large enough that freed memory goes back to the system


class Update(nn.Module):
    """A cache as decoders have it, and something else that is read."""

    def forward(self, cache, other, position, row):
        return cache.index_copy(0, position, row), other * 2


def updater(rows=4, dtype=torch.float32):
    example = torch.zeros(rows, dtype=dtype), torch.zeros(rows, dtype=dtype)
    return ready(Update(), *example, torch.tensor([1]), torch.ones(1, dtype=dtype))


def update(made, cache, other, value, donate=("cache",)):
    row = np.full(1, value, ml_dtypes.bfloat16 if made.program.input_specs[0].dtype == "bfloat16" else np.float32)
    return made.run(cache, other, np.array([1]), row, donate=set(donate))


def ones(made):
    spec = made.program.input_specs[0]
    return NPUBuffer.from_numpy(torch.ones(spec.shape, dtype=getattr(torch, spec.dtype)), DEVICE)


VIEWS = {
    "to_numpy": lambda b: b.to_numpy(),
    "asarray": np.asarray,
    "torch": torch.from_dlpack,
    "numpy DLPack": np.from_dlpack,
    "slice": lambda b: b[:3],
}


@of_shared_memory
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_views_outlive_donation(view, dtype):
    if view is VIEWS["numpy DLPack"] and dtype == torch.bfloat16:
        with pytest.raises((BufferError, RuntimeError)):  # NumPy's reader knows no bfloat16
            view(NPUBuffer.zeros([1], DEVICE, dtype))
        return
    made = updater(ROWS, dtype)
    cache = ones(made)
    seen = view(cache)
    update(made, cache, ones(made), 7)
    gc.collect()
    assert cache.donated
    assert [float(x) for x in seen[:3]] == [1, 7, 1]  # the memory is now the output's, and was not freed


USES = {
    "to_numpy": lambda b, made: b.to_numpy(),
    "to_numpy as another dtype": lambda b, made: b.to_numpy("float16"),
    "write": lambda b, made: b.write_from_numpy(np.zeros(4, np.float32)),
    "item": lambda b, made: b[0],
    "asarray": lambda b, made: np.asarray(b),
    "memoryview": lambda b, made: memoryview(b),
    "torch": lambda b, made: torch.from_dlpack(b),
    "address": lambda b, made: b.native_handle,
    "copy": lambda b, made: NPUBuffer.from_numpy(b, DEVICE),
    "run": lambda b, made: update(made, b, ones(made), 1, donate=()),
    "donate again": lambda b, made: update(made, b, ones(made), 1),
    "as weight": lambda b, made: load_weights({"w": b}),
}


@pytest.mark.parametrize("use", USES.values(), ids=USES.keys())
def test_donated_buffers_refuse_use(use):
    made = updater()
    cache = ones(made)
    update(made, cache, ones(made), 7)
    with pytest.raises((InvalidValueError, BufferError), match="donated"):
        use(cache, made)
    assert repr(cache) == "NPUBuffer(shape=[4], dtype=float32, donated)"
    assert cache.shape == (4,)


@of_shared_memory
def test_donated_memory_is_reused_and_read_nowhere_else():
    made = updater()
    cache, address = ones(made), None
    for i in range(5):
        address = cache.native_handle
        cache = update(made, cache, ones(made), i)[made.outputs[0]]
        assert cache.native_handle == address
    shared = ones(made)
    for other in (shared, shared.to_numpy(), torch.from_dlpack(shared)[:], shared.to_numpy()[:]):
        with pytest.raises(InvalidValueError, match="'?.cache.'? is donated, but its memory is also that of .other."):
            update(made, shared, other, 7)
        assert not shared.donated
        assert (shared.to_numpy() == 1).all()


def test_a_failed_run_gives_donations_back():
    made = updater()
    cache = ones(made)
    with pytest.raises(InvalidValueError, match="row"):
        made.run(cache, ones(made), np.array([1]), np.ones(2, np.float32), donate={"cache"})
    assert not cache.donated
    outputs = update(made, cache, ones(made), 7)
    np.testing.assert_array_equal(outputs[made.outputs[0]].to_numpy(), [1, 7, 1, 1])


def test_one_of_many_threads_gets_the_donation():
    made, failures = updater(ROWS), []
    for _ in range(5):
        cache, results = ones(made), []
        start = threading.Barrier(8)

        def work(i, cache=cache, results=results, start=start):
            other = NPUBuffer.zeros([ROWS], DEVICE)
            start.wait()
            try:
                results.append((i, update(made, cache, other, i)[made.outputs[0]]))
            except InvalidValueError as error:
                failures.append("donated" in str(error))

        threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ((i, output),) = results
        assert output.to_numpy()[1] == i
    assert len(failures) == 35
    assert all(failures)


@pytest.fixture
def stored(tmp_path):
    """Weights mapped from a file that cannot be written to."""
    tensors = {"w": torch.arange(4.0), "h": torch.arange(4.0).bfloat16(), "e": torch.zeros(0, 2)}
    save_file(tensors, tmp_path / "w.safetensors")
    return load_weights(tmp_path / "w.safetensors")


def test_mapped_weights_are_read_only(stored):
    made = updater()
    for name in ("w", "h"):
        buffer = stored[name]
        assert not buffer.to_numpy().flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            buffer.to_numpy()[0] = 1
        with pytest.raises(InvalidValueError, match="read-only"):
            buffer.write_from_numpy(buffer.to_numpy(copy=True))
        tensor = torch.from_dlpack(buffer)
        tensor[0] = 5  # torch has no read-only tensors: this is a copy
        assert [float(x) for x in stored[name].to_numpy()] == [0, 1, 2, 3]
        assert buffer.to_numpy(copy=True).flags.writeable
    assert memoryview(stored["w"]).readonly
    assert stored["e"].to_numpy().shape == (0, 2)
    with pytest.raises(InvalidValueError, match="read-only"):
        update(made, stored["w"], ones(made), 7)
    outputs = update(made, stored["w"], stored["w"], 7, donate=())
    np.testing.assert_array_equal(outputs[made.outputs[0]].to_numpy(), [0, 7, 2, 3])


def test_weights_are_a_mapping(stored):
    assert sorted(stored) == sorted(stored.keys()) == ["e", "h", "w"]
    assert {name: buffer.shape for name, buffer in stored.items()} == {"w": (4,), "h": (4,), "e": (0, 2)}
    assert sorted(b.size_bytes for b in stored.values()) == [0, 8, 16]
    assert stored.get("w").shape == (4,)
    assert stored.get("nothing") is None
    assert stored.get("nothing", 3) == 3
    again = load_weights(dict(stored.items()))
    np.testing.assert_array_equal(again["w"].to_numpy(), np.arange(4))


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, ml_dtypes.bfloat16, np.float32])
@pytest.mark.parametrize("named", [True, False])
def test_weights_share_the_memory_of_arrays(dtype, named, tmp_path):
    """For as long as they need it, also that of a mapped file, named or not; what is not dense is copied."""
    values = np.arange(256).reshape(16, 16).astype(dtype)
    (tmp_path / "values").write_bytes(b"12345678" + values.tobytes())
    file = File.open(tmp_path / "values")
    mapped = np.frombuffer(file, np.uint8)[8:].view(dtype).reshape(16, 16)
    assert not mapped.flags.writeable and bytes(memoryview(file)[:8]) == b"12345678"
    weights, within = Weights(), file if named else None
    weights.share("mapped", mapped, within)
    weights.share("part", mapped[:, ::2], within)
    weights.share("other", values, within)
    weights.share("tensor", torch.ones(3))
    assert weights["mapped"].native_handle == mapped.ctypes.data != weights["part"].native_handle
    assert weights["other"].native_handle == values.ctypes.data
    del mapped, file, within
    gc.collect()
    np.testing.assert_array_equal(weights["mapped"].to_numpy(), values)
    np.testing.assert_array_equal(weights["part"].to_numpy(), values[:, ::2])
    assert weights["tensor"].to_numpy().tolist() == [1, 1, 1]
    with pytest.raises(InvalidValueError, match="cannot use the tensor 'double'"):
        weights.share("double", np.ones(3))


def test_released_pages_are_read_again(tmp_path):
    values = np.arange(1 << 16)
    (tmp_path / "values").write_bytes(values.tobytes())
    file = File.open(tmp_path / "values")
    mapped = np.frombuffer(file, values.dtype)
    for part in (mapped, mapped[1000:50000], mapped[:0], b"elsewhere", np.ones(9)):
        assert mapped.sum() == values.sum()
        file.release(part)
    np.testing.assert_array_equal(mapped, values)
    with pytest.raises(ValueError, match="not C-contiguous"):
        file.release(mapped[::2])


def test_buffers_of_weights_and_results_outlive_them(tmp_path):
    save_file({"w": torch.ones(ROWS)}, tmp_path / "w.safetensors")
    array = load_weights(tmp_path / "w.safetensors")["w"].to_numpy()
    made = updater(ROWS)
    result = update(made, ones(made), ones(made), 3)[made.outputs[0]].to_numpy()
    del made
    gc.collect()
    assert array.sum() == ROWS
    assert result.sum() == ROWS + 2


@pytest.mark.parametrize("runner", ["executor", "session", "profiled session"])
def test_other_weights_at_the_same_address_are_other_weights(runner):
    x = torch.ones(2, 12)
    made = ready(mlp(), x)
    target = made.executor if runner == "executor" else made.executor.session()
    options = {"profile": True} if runner == "profiled session" else {}
    for seed in range(30):
        model = mlp(seed)
        weights = load_weights(model.state_dict(), made.program)
        got = target.run({made.inputs[0]: x}, weights, **options)[made.outputs[0]].to_numpy()
        np.testing.assert_allclose(got, model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
        del weights


class Running(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x):
        self.total += x
        return self.total * 1


def test_the_state_of_a_session_is_seen_but_not_taken():
    made = ready(Running(), torch.ones(3))
    name = next(s.name for s in made.executor.program.inputs if s.state)
    session, x = made.executor.session(), {made.inputs[0]: np.ones(3, np.float32)}
    kept = [session.run(x, made.weights)[made.outputs[0]] for _ in range(3)]
    assert [b.to_numpy().tolist() for b in kept] == [[1] * 3, [2] * 3, [3] * 3]
    state = session.state(name)
    np.testing.assert_array_equal(state.to_numpy(), [3, 3, 3])
    with pytest.raises(InvalidValueError, match="read-only"):
        state.write_from_numpy(np.zeros(3, np.float32))
    value = np.full(3, 10, np.float32)
    session.set_state(name, value)
    value[:] = 0
    assert session.run(x, made.weights)[made.outputs[0]].to_numpy().tolist() == [11] * 3


def test_a_session_serves_one_thread_at_a_time():
    model = nn.Sequential(*(nn.Linear(256, 256) for _ in range(8)))
    x = torch.randn(64, 256)
    made = ready(model, x)
    wanted, session, errors, wrong = model(x).numpy(), made.executor.session(), [], []

    def work():
        for _ in range(20):
            try:
                got = session.run({made.inputs[0]: x}, made.weights)[made.outputs[0]].to_numpy()
            except InvalidValueError as error:
                errors.append(str(error))
            else:
                if not np.allclose(got, wanted, rtol=1e-3, atol=1e-4):
                    wrong.append(got)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert all("the session is running in another thread" in e for e in errors)
    work()
    assert wrong == []


def test_an_empty_dict_is_no_weights():
    made = updater()
    outputs = made.executor.run(
        dict(zip(made.inputs, (ones(made), ones(made), np.array([1]), np.ones(1, np.float32)), strict=True)), {}
    )
    assert len(outputs) == 2
    assert len(Weights()) == 0

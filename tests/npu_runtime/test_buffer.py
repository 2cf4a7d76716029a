"""NPUBuffer: what goes in comes out, whatever its dtype, shape and strides."""

import gc

import ml_dtypes
import numpy as np
import pytest
import torch
from npu_runtime import DeviceBuffer, InvalidValueError, NPUBuffer, TensorSpec, UnavailableError
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.support.devices import chosen_device, of_shared_memory, shares_memory
from tests.support.programs import Add, ready

DEVICE = chosen_device()
DTYPES = ["float32", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"]
SHAPES = [(), (1,), (0,), (3, 0, 2), (5,), (2, 3, 4), (1, 2, 1, 2, 1, 2, 1, 2)]


def numbers(shape, dtype):
    generator = np.random.default_rng(0)
    if dtype == "bool":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.startswith("float") or dtype == "bfloat16":
        return generator.standard_normal(shape).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    return generator.integers(0, 100, shape).astype(dtype)


@pytest.mark.parametrize("dtype", [*DTYPES, "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip(shape, dtype):
    array = numbers(shape, dtype)
    buffer = NPUBuffer.from_numpy(array, DEVICE)
    assert buffer.shape == shape == buffer.alloc_shape
    assert buffer.dtype == array.dtype
    assert buffer.size_bytes == array.nbytes
    back = buffer.to_numpy()
    assert back.dtype == array.dtype
    assert back.shape == shape
    np.testing.assert_array_equal(back, array)


VIEWS = {
    "transposed": lambda x: x.T,
    "steps": lambda x: x[::2, 1::3],
    "backwards": lambda x: x[::-1, ::-1],
    "offset": lambda x: x[3:, 4:],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape),
    "columns": np.asfortranarray,
    "read only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool"])
def test_views_are_copied_as_they_look(view, dtype):
    array = view(numbers((7, 9), dtype))
    np.testing.assert_array_equal(NPUBuffer.from_numpy(array, DEVICE).to_numpy(), array)


def test_unaligned_memory_is_copied():
    for shape in ((3, 4), ()):
        count = int(np.prod(shape))
        whole = np.zeros(4 * count + 1, np.uint8)
        array = whole[1:].view(np.float32).reshape(shape) if count > 1 else np.frombuffer(whole, "f4", 1, 1)[0:1]
        array[...] = np.arange(count).reshape(array.shape) + 3
        assert not array.flags.aligned
        np.testing.assert_array_equal(NPUBuffer.from_numpy(array, DEVICE).to_numpy(), array)
        made = ready(Add(), torch.ones(array.shape), torch.ones(array.shape))
        np.testing.assert_array_equal(made.array(array, array), array * 2)


def test_lazily_negated_tensors():
    tensor = torch.complex(torch.zeros(3), torch.arange(3.0)).conj().imag
    assert tensor.is_neg()
    np.testing.assert_array_equal(NPUBuffer.from_numpy(tensor, DEVICE).to_numpy(), [0, -1, -2])


class Exporter:
    """Knows DLPack and nothing else."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __dlpack__(self, **options):
        return self.tensor.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.tensor.__dlpack_device__()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.bool], ids=str)
def test_dlpack_of_others(dtype):
    tensor = torch.arange(12).reshape(3, 4).to(dtype)
    for given in (tensor, tensor.t(), tensor[1:, ::2], tensor[:0], tensor[2, 3]):
        buffer = NPUBuffer.from_numpy(Exporter(given), DEVICE)
        assert torch.equal(torch.from_dlpack(buffer).cpu(), given)


@of_shared_memory
def test_dlpack_options():
    buffer = NPUBuffer.from_numpy(np.arange(4, dtype=np.float32), DEVICE)
    assert buffer.__dlpack_device__() == (1, 0)
    shared, own = np.from_dlpack(buffer), np.from_dlpack(buffer, copy=True)
    assert np.shares_memory(shared, buffer.to_numpy())
    assert not np.shares_memory(own, buffer.to_numpy())
    torch.from_dlpack(buffer)[1] = 7
    assert (shared.tolist(), own.tolist()) == ([0, 7, 2, 3], [0, 1, 2, 3])
    with pytest.raises(BufferError, match="CPU"):
        buffer.__dlpack__(dl_device=(2, 0))


@of_shared_memory
def test_it_is_a_copy_and_to_numpy_is_not():
    array = np.arange(4, dtype=np.float32)
    buffer = NPUBuffer.from_numpy(array, DEVICE)
    array[0] = 9
    shared = buffer.to_numpy()
    assert shared[0] == 0
    shared[1] = 7
    assert buffer.to_numpy()[1] == 7
    own = buffer.to_numpy(copy=True)
    own[2] = 5
    assert buffer.to_numpy()[2] == 2
    for dtype in ("float16", np.float64, np.dtype("int8"), torch.float16, torch.bfloat16, "bfloat16"):
        converted = buffer.to_numpy(dtype)
        assert str(converted.dtype) == str(dtype).removeprefix("torch.") or converted.dtype == np.dtype(dtype)
        np.testing.assert_array_equal(converted.astype(np.float32), [0, 7, 2, 3])


def test_memory_outlives_its_buffer():
    shared = NPUBuffer.from_numpy(np.full(1 << 16, 3, np.int32), DEVICE).to_numpy()
    tensor = torch.from_dlpack(NPUBuffer.from_numpy(np.full(1 << 16, 4, np.int32), DEVICE))
    gc.collect()
    junk = [np.zeros(1 << 16, np.int32) for _ in range(20)]
    assert (shared == 3).all()
    assert (tensor == 4).all()
    assert len(junk) == 20


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool])
@pytest.mark.parametrize("shape", [(), (0, 3), (4, 5)], ids=str)
def test_torch_both_ways(dtype, shape):
    tensor = torch.randint(0, 2, shape).to(dtype)
    buffer = NPUBuffer.from_numpy(tensor, DEVICE)
    back = torch.from_dlpack(buffer)
    assert back.dtype == dtype
    assert torch.equal(back.cpu(), tensor)
    if back.numel():
        assert (back.data_ptr() == buffer.native_handle) == (shares_memory(DEVICE) or back.is_cuda)


@of_shared_memory
def test_buffer_protocol_and_array():
    array = numbers((3, 4), "float32")
    buffer = NPUBuffer.from_numpy(array, DEVICE)
    view = memoryview(buffer)
    assert view.shape == (3, 4)
    assert view.format == "f"
    np.testing.assert_array_equal(np.asarray(buffer), array)
    assert np.shares_memory(np.asarray(buffer), buffer.to_numpy())
    np.testing.assert_array_equal(np.asarray(buffer, dtype=np.float64), array.astype(np.float64))
    np.testing.assert_array_equal(buffer[1, ::2], array[1, ::2])
    assert len(buffer) == 3
    with pytest.raises(TypeError, match="len"):
        len(NPUBuffer.zeros([], DEVICE))


def test_zeros_and_writing():
    buffer = NPUBuffer.zeros((2, 3), DEVICE, "int16")
    assert not buffer.to_numpy().any()
    buffer.write_from_numpy(np.arange(12, dtype=np.int16).reshape(3, 4).T[:2])
    np.testing.assert_array_equal(buffer.to_numpy(), [[0, 4, 8], [1, 5, 9]])
    with pytest.raises(InvalidValueError, match=r"got int16\[3, 2\]; expected int16\[2, 3\]"):
        buffer.write_from_numpy(np.zeros((3, 2), np.int16))
    with pytest.raises(InvalidValueError, match="float32"):
        buffer.write_from_numpy(np.zeros((2, 3), np.float32))
    np.testing.assert_array_equal(buffer.to_numpy()[0], [0, 4, 8])
    for dtype in (np.float16, torch.bfloat16, "bool"):
        assert NPUBuffer.zeros([1], DEVICE, dtype).size_bytes in (1, 2)


def test_specs_are_checked():
    made = ready(Add(), torch.ones(2, 3), torch.ones(2, 3))
    spec = made.program.input_specs[0]
    array = numbers((2, 3), "float32")
    np.testing.assert_array_equal(NPUBuffer.from_numpy(array, DEVICE, spec=spec).to_numpy(spec=spec), array)
    with pytest.raises(InvalidValueError, match=r"float32\[3, 2\].*float32\[2, 3\]"):
        NPUBuffer.from_numpy(array.T, DEVICE, spec=spec)
    with pytest.raises(InvalidValueError, match="float64"):
        NPUBuffer.from_numpy(array.astype(np.float64), DEVICE, spec=spec)
    assert isinstance(made.executor.program.inputs[0], TensorSpec)
    assert NPUBuffer.from_numpy(array.T, DEVICE, spec=...).shape == (3, 2)  # its own
    for method in (NPUBuffer.from_numpy(array, DEVICE).to_numpy, NPUBuffer.zeros([1], DEVICE).to_numpy):
        with pytest.raises(InvalidValueError, match="not a spec; got 3"):
            method(spec=3)
    with pytest.raises(InvalidValueError, match=r"float32\[1\]"):
        NPUBuffer.zeros([1], DEVICE).to_numpy(spec=spec)


WRONG = {
    "complex": (np.zeros(2, np.complex64), "complex"),
    "text": (np.array(["a"]), "U1"),
    "objects": (np.array([object()]), "object"),
    "none": (None, "NoneType"),
    "a number": (3, "int"),
    "a list": ([1.0, 2.0], "list"),
    "another byte order": (np.zeros(2, ">f4"), ">f4"),
    "a meta tensor": (torch.empty(2, device="meta"), "meta"),
    "a fake tensor": (FakeTensorMode().from_tensor(torch.ones(100)), "has no values in memory"),
    "lazy zeros": (torch._efficientzerotensor((100,)), "has no values in memory"),
}


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("value", "word"), WRONG.values(), ids=WRONG.keys())
def test_what_is_no_tensor_is_refused(value, word):
    with pytest.raises(InvalidValueError) as caught:
        NPUBuffer.from_numpy(value, DEVICE)
    assert str(caught.value).startswith("[buffer] ")
    assert word in str(caught.value)
    assert len(str(caught.value)) < 400


def test_impossible_shapes():
    with pytest.raises(InvalidValueError, match="-1"):
        NPUBuffer.zeros([2, -1], DEVICE)
    with pytest.raises(UnavailableError, match=r"not enough memory.*float32\[1099511627776, 1099511627776\]"):
        NPUBuffer.zeros([1 << 40, 1 << 40], DEVICE)
    with pytest.raises(InvalidValueError, match="float99"):
        NPUBuffer.zeros([1], DEVICE, "float99")


def test_repr_and_abc():
    buffer = NPUBuffer.zeros([1, 3], DEVICE, torch.bfloat16)
    assert repr(buffer) == "NPUBuffer(shape=[1, 3], dtype=bfloat16)"
    assert isinstance(buffer, DeviceBuffer)


def test_gradients_are_left_behind():
    tensor = torch.ones(3, requires_grad=True)
    np.testing.assert_array_equal(NPUBuffer.from_numpy(tensor, DEVICE).to_numpy(), np.ones(3))

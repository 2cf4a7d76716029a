"""``compiled.save``, ``npu.load``, pickles: the same results from one file, without PyTorch, on other devices."""

import collections
import copy
import dataclasses
import pickle
import subprocess
import sys
from typing import NamedTuple

import ml_dtypes
import npu
import numpy as np
import pytest
import torch
from npu.saving.container import Container
from npu_base.errors import FileError, InvalidTypeError, InvalidValueError
from npu_runtime import MissingWeightError
from safetensors.numpy import load as load_safetensors
from torch import nn

from tests.support.devices import metal_device


class Tied(nn.Module):
    """Tied weights, nested results, a constant, an odd-sized weight."""

    def __init__(self, dtype=torch.float32):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(8, 5, dtype=dtype), nn.Linear(8, 5, dtype=dtype)
        self.b.weight = self.a.weight
        self.shift = nn.Parameter(torch.randn(3, dtype=dtype))

    def forward(self, x, *, scale=1.0):
        y = self.a(x) * scale + self.b(x)
        return {"y": y, "rest": (y[:, :3] + self.shift, [3, None])}


class Counter(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.count.add_(x)
        return self.count * 2


class Point(NamedTuple):
    near: torch.Tensor
    far: torch.Tensor


@dataclasses.dataclass
class Answer:
    logits: torch.Tensor
    point: Point


class Structured(nn.Module):
    def forward(self, x):
        return Answer(x + 1, Point(x * 2, x * 3))


@pytest.fixture(scope="module")
def tied(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "tied.npu"
    compiled = npu.compile(Tied().eval(), torch.ones(2, 8), {"scale": 2.0}, device="cpu")
    compiled.save(path)
    return compiled, path


def same(got, wanted):
    got, wanted = (torch.utils._pytree.tree_flatten(tree) for tree in (got, wanted))
    assert got[1] == wanted[1]
    for g, w in zip(got[0], wanted[0], strict=True):
        if isinstance(w, torch.Tensor):
            torch.testing.assert_close(torch.as_tensor(np.asarray(g)), w, rtol=1e-5, atol=1e-5)
        else:
            assert g == w


def test_arrays_and_tensors(tied):
    compiled, path = tied
    x = torch.randn(2, 8)
    wanted = compiled(x, scale=2.0)
    loaded = npu.load(path, "cpu", verify=True)
    results = loaded(x, scale=2.0)
    assert isinstance(results["y"], torch.Tensor) and torch.equal(results["y"], wanted["y"])
    arrays = loaded(x.numpy(), scale=2.0)
    assert isinstance(arrays["y"], np.ndarray) and isinstance(arrays["rest"][0], np.ndarray)
    same(arrays, wanted)
    same(loaded(x=x.numpy()), wanted)  # all tensors by name
    same(loaded(x.t().contiguous().t(), scale=2.0), wanted)
    assert loaded.profile(x.numpy(), scale=2.0).to_dict()["kernels"]


def test_no_torch(tied):
    compiled, path = tied
    code = f"""
import sys, npu, numpy as np
loaded = npu.load({str(path)!r}, device="cpu", verify=True)
x = np.arange(16, dtype="float32").reshape(2, 8)
print(loaded(x, scale=2.0)["y"].tolist())
print(npu.Predictor({str(path)!r}, device="cpu")({{"x": x}})["y"].shape)
assert not {{"torch", "torch_ir", "npu_compiler"}} & set(sys.modules), "imported PyTorch or the compiler"
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    wanted = compiled(torch.arange(16.0).reshape(2, 8), scale=2.0)["y"]
    np.testing.assert_allclose(eval(lines[0]), wanted, rtol=1e-5, atol=1e-5)
    assert lines[1] == "(2, 5)"


def test_another_device(tied):
    compiled, path = tied
    x = torch.randn(2, 8)
    loaded = npu.load(path, metal_device())
    assert loaded.executor.device.kind.startswith("metal")
    same(loaded(x.numpy(), scale=2.0), compiled(x, scale=2.0))


def test_bfloat16(tmp_path):
    compiled = npu.compile(Tied(torch.bfloat16).eval(), torch.ones(2, 8, dtype=torch.bfloat16), device="cpu")
    compiled.save(tmp_path / "half.npu")
    x = np.linspace(-1, 1, 16).reshape(2, 8).astype(ml_dtypes.bfloat16)
    loaded = npu.load(tmp_path / "half.npu", "cpu")
    y = loaded(x)["y"]
    assert y.dtype == ml_dtypes.bfloat16
    wanted = compiled(torch.tensor(x.astype(np.float32)).bfloat16())["y"]
    assert np.array_equal(y.astype(np.float32), wanted.float().numpy())


def test_state_starts_from_the_saved_values(tmp_path):
    module = Counter()
    module.count.fill_(10)
    compiled = npu.compile(module, torch.ones(2), device="cpu")
    compiled(torch.ones(2))  # is not saved: files have the values of compilation
    compiled.save(tmp_path / "counter.npu")
    loaded = npu.load(tmp_path / "counter.npu", "cpu")
    first = loaded(np.ones(2, "float32"))
    assert [first.tolist(), loaded(torch.ones(2)).tolist()] == [[22, 22], [24, 24]]
    loaded.reset()
    assert loaded(np.ones(2, "float32")).tolist() == [22, 22]
    assert first.tolist() == [22, 22]
    twin = copy.deepcopy(loaded)
    assert twin(np.ones(2, "float32")).tolist() == [22, 22]  # a state of its own
    with pytest.raises(InvalidValueError, match="keeps state"):
        npu.Predictor(tmp_path / "counter.npu", device="cpu")({"x": np.ones(2, "float32")})


def test_classes(tmp_path):
    path = tmp_path / "structured.npu"
    x = np.ones(2, "float32")
    npu.compile(Structured(), torch.ones(2), device="cpu").save(path)
    answer = npu.load(path, "cpu")(x)
    assert type(answer) is Answer and type(answer.point) is Point and answer.point.far.tolist() == [3, 3]
    code = f"""
import sys, npu, numpy as np
answer = npu.load({str(path)!r}, device="cpu")(np.ones(2, "float32"))
assert {__name__!r} not in sys.modules
print(type(answer).__name__, sorted(answer), type(answer["point"]).__name__, answer["point"].near.tolist())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.split("\n")[0] == "dict ['logits', 'point'] Point [2.0, 2.0]", result.stderr
    wrong = dataclasses.make_dataclass("Answer", ["scores"])
    wrong.__module__, wrong.__qualname__ = Answer.__module__, Answer.__qualname__
    with pytest.raises(InvalidValueError, match="Answer does not have the fields"):
        npu.load(path, "cpu", classes=[wrong])
    for not_classes in (["Answer"], 5):
        with pytest.raises(InvalidTypeError, match="classes must be types"):
            npu.load(path, "cpu", classes=not_classes)


class OfPyTorch(nn.Module):
    def forward(self, x):
        return {"best": x.max(1), "ordered": collections.OrderedDict(b=x + 1, a=x + 2), "shape": x.shape}


def test_classes_of_pytorch_and_of_python(tmp_path):
    path = tmp_path / "classes.npu"
    x = torch.tensor([[1.0, 3.0], [5.0, 4.0]])
    compiled = npu.compile(OfPyTorch(), x, device="cpu")
    compiled.save(path)
    assert compiled.output_names == ["best.values", "best.indices", "ordered.b", "ordered.a"]
    given = npu.load(path, "cpu", classes=[torch.return_types.max])
    for one in (compiled, npu.load(path, "cpu"), given, pickle.loads(pickle.dumps(compiled))):
        got = one(x)
        assert type(got["best"]) is torch.return_types.max and got["best"].indices.tolist() == [1, 0]
        assert type(got["ordered"]) is collections.OrderedDict and list(got["ordered"]) == ["b", "a"]
        assert type(got["shape"]) is torch.Size and got["shape"] == x.shape
    code = f"""
import sys, npu, numpy as np
got = npu.load({str(path)!r}, device="cpu")(np.array([[1, 3], [5, 4]], "float32"))
assert "torch" not in sys.modules
print(got["best"], type(got["ordered"]).__name__, got["shape"])
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.startswith("max(values=array([3., 5.]"), result.stderr
    assert result.stdout.strip().endswith("OrderedDict (2, 2)")


def test_only_data_classes_are_called(tmp_path):
    """A forged file names a class that is imported everywhere."""
    path = tmp_path / "forged.npu"
    compiled = npu.compile(Structured(), torch.ones(2), device="cpu")
    structure = compiled.signature.output_structure
    structure["type"], structure["keys"] = "subprocess.Popen", ["args", "shell"]
    compiled.save(path)
    assert type(npu.load(path, "cpu")(np.ones(2, "float32"))) is dict


@pytest.mark.parametrize(
    "value",
    [{"$dtype": "os"}, {"$complex": "x"}, {"$device": 7}, {"$nope": 1}, {"$dtype": "float32", "a": 1}, [{"a": 1}], {}],
    ids=str,
)
def test_forged_values_of_pytorch(tmp_path, value):
    class Two(nn.Module):
        def forward(self, x, scale=2.0):
            return {"y": x * scale, "n": 5}

    compiled = npu.compile(Two(), torch.ones(2), device="cpu")
    leaf = compiled.signature.output_structure["items"][1]
    leaf["value"] = value
    compiled.save(tmp_path / "forged.npu")
    with pytest.raises(InvalidValueError, match=r"forged\.npu: .*'output_structure' has a value that is not valid"):
        npu.load(tmp_path / "forged.npu", "cpu")
    leaf["value"] = 5
    compiled.signature.defaults["scale"] = value
    compiled.save(tmp_path / "forged.npu")
    with pytest.raises(InvalidValueError, match=r"forged\.npu: .*'defaults' (has a value|is not valid).*"):
        npu.load(tmp_path / "forged.npu", "cpu")


class PartlyUnread(nn.Module):
    """The host runs one operator; of two layers nobody reads the result."""

    def __init__(self):
        super().__init__()
        self.used, self.unread, self.words = nn.Linear(4, 4), nn.Linear(4, 4), nn.Embedding(3, 4)

    def forward(self, x):
        self.unread(x), self.words(torch.zeros(2, dtype=torch.int64))
        return torch.digamma(self.used(x).abs() + 1)


@pytest.mark.filterwarnings("ignore::npu.host_parts.HostWarning")
def test_weights_that_nobody_reads_beside_parts_of_the_host(tmp_path):
    model, x = PartlyUnread().eval(), torch.randn(2, 4)
    compiled = npu.compile(model, x, device="cpu")
    compiled.save(tmp_path / "parts.npu")
    for one in (npu.load(tmp_path / "parts.npu", "cpu"), pickle.loads(pickle.dumps(compiled)), copy.deepcopy(compiled)):
        torch.testing.assert_close(one(x), model(x))
    other = PartlyUnread().eval()
    compiled.update_weights(other.state_dict())
    torch.testing.assert_close(compiled(x), other(x))


def test_pickles(tied):
    compiled, path = tied
    x = torch.randn(2, 8)
    wanted = compiled(x, scale=2.0)
    for module in (compiled, npu.load(path, "cpu")):
        twin = pickle.loads(pickle.dumps(module))
        assert twin.executor.device.kind == "cpu"
        assert torch.equal(twin(x, scale=2.0)["y"], wanted["y"])
        assert torch.equal(copy.deepcopy(module)(x, scale=2.0)["y"], wanted["y"])
    function, (data, _, threads, _) = compiled.__reduce__()
    with pytest.raises(npu.NPUError, match=r"cuda|GPU 77"):
        function(data, "cuda:77", threads)
    with pytest.raises(InvalidValueError, match=r"pickled module: .*cut off"):
        function(data[:-9], "cpu", threads)


def test_a_pickle_names_an_emulated_device(tied):
    device = metal_device()
    twin = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(npu.load(tied[1], device)))))
    assert (twin.executor.device.kind, twin.executor.device.name) == (device.kind, device.name)


WRONG_OPTIONS = {
    "verify": ({"verify": "yes"}, r"verify has the wrong type; got 'yes'; expected True or False"),
    "threads as a bool": ({"threads": True}, "threads is not an integer; got True; expected 1 to 1024, or 0"),
    "a fraction of a thread": ({"threads": 1.5}, "threads is not an integer; got 1.5"),
    "too many threads": ({"threads": 2**70}, r"threads is out of range; got \d+; expected 1 to 1024"),
    "an empty device": ({"device": ""}, "the kind of a device must be a string or a torch.device; got ''"),
}


@pytest.mark.parametrize(("options", "message"), WRONG_OPTIONS.values(), ids=list(WRONG_OPTIONS))
def test_wrong_options(tied, options, message):
    for make in (npu.load, npu.Predictor):
        if make is npu.load or "device" not in options:
            with pytest.raises(InvalidValueError, match=message):
                make(tied[1], **options)
    if "verify" not in options:
        with pytest.raises(InvalidValueError, match=message):
            npu.compile(nn.Linear(2, 2), torch.ones(1, 2), **options)


def test_the_device_is_found_wrong_before_the_model_is_traced():
    class Untraceable(nn.Module):
        def forward(self, x):
            raise AssertionError("traced")

    with pytest.raises(InvalidValueError, match="no such kind of device"):
        npu.compile(Untraceable(), torch.ones(1), device="tpu")
    with pytest.raises(InvalidValueError, match=r"fallback has a wrong value; got array\(\[1, 2\]\)"):
        npu.compile(Untraceable(), torch.ones(1), fallback=np.array([1, 2]))


def test_the_only_cpu_has_pytorchs_name_too(tied):
    assert npu.load(tied[1], "cpu:0").executor.device.kind == "cpu"
    assert npu.compile(nn.Linear(2, 2), torch.ones(1, 2), device="cpu:0").executor.device.kind == "cpu"


def test_a_path_that_ends_in_a_slash_is_no_file(tied, tmp_path):
    with pytest.raises(FileError, match="a path that ends in a slash is a folder; try the name of a file"):
        tied[0].save(f"{tmp_path}/name/")
    assert not list(tmp_path.iterdir())


def test_an_empty_path_is_no_folder():
    for make in (npu.load, npu.Predictor):
        with pytest.raises(InvalidValueError, match="the path of a saved file is empty; got ''"):
            make("")


def test_the_file(tied, tmp_path):
    compiled, path = tied
    container = Container.open(path)
    weights = container.section("weights", "weights")
    assert weights.offset % 16384 == 0
    tensors = load_safetensors(bytes(container.part(weights)))  # by the library that defines the format
    assert sorted(tensors) == ["a.bias", "a.weight", "b.bias", "shift"]  # tied weights once
    loaded = npu.load(path, "cpu")
    assert loaded.weights["a.weight"].native_handle % 64 == 0
    loaded.save(tmp_path / "again.npu")
    assert (tmp_path / "again.npu").read_bytes() == path.read_bytes()
    with pytest.raises(InvalidTypeError, match="compiled.save wrote"):
        npu.load(compiled)


def test_metal_reads_weights_in_the_file(tmp_path):
    model, x = nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 64)).eval(), torch.ones(4, 64)
    compiled = npu.compile(model, x, device=metal_device())
    assert compiled.weights.prepared_bytes > 0  # copies, in memory that Metal reaches
    compiled.save(tmp_path / "linear.npu")
    loaded = npu.load(tmp_path / "linear.npu", metal_device())
    same(loaded(x.numpy()), model(x).detach())
    assert loaded.weights.prepared_bytes == 0


def test_a_file_is_replaced_only_when_complete(tied, tmp_path, monkeypatch):
    compiled, path = tied
    target = tmp_path / "model.npu"
    target.write_bytes(path.read_bytes())
    loaded = npu.load(target, "cpu")

    def fail(file, tensors):
        file.write(b"some of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("npu.saving.model.write_tensors", fail)
    with pytest.raises(FileError, match="freeing space"):
        compiled.save(target)
    monkeypatch.undo()
    assert target.read_bytes() == path.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["model.npu"]
    loaded.save(target)  # its own file
    assert torch.equal(loaded(torch.ones(2, 8), scale=2.0)["y"], compiled(torch.ones(2, 8), scale=2.0)["y"])


CALLS = [
    ((), {}, r"Expected 1 inputs, got 0 \(the graph takes: x\)"),
    ((np.ones((2, 8), "float32"), 3), {}, "Input 1 is 3, which the example inputs did not have there"),
    (([[1.0] * 8] * 2,), {}, "Expected 1 inputs, got 0.*lists .* no tensors: pass a NumPy array"),
    (([[1.0] * 8] * 2,), {"scale": 2.0}, "Expected 1 inputs, got 0.*lists .* no tensors: pass a NumPy array"),
    ((np.ones((3, 8), "float32"),), {"scale": 2.0}, r"Input 'x': got shape \[3, 8\], expected \[2, 8\]"),
    ((np.ones((2, 8)),), {}, r"'x': got dtype float64, expected float32; .*\.astype\(\"float32\"\)"),
    ((torch.ones(2, 8, dtype=torch.int64),), {}, r"got dtype int64, expected float32; .*\.to\(torch.float32\)"),
    ((np.ones((2, 8), "float32"),), {"scale": 3.0}, "Input 1 is 3.0, but the graph was traced with 2.0"),
    ((np.ones((2, 8), "float32"),), {"size": 2.0}, r"missing \[\], unknown \['size'\], expected .*'scale'"),
    ((np.ones((2, 8), "float32"),), {"x": np.ones((2, 8), "float32")}, r"Inputs \['x'\] come twice"),
]


@pytest.mark.parametrize(("args", "kwargs", "message"), CALLS)
def test_wrong_calls(tied, args, kwargs, message):
    with pytest.raises(InvalidValueError, match=message):
        npu.load(tied[1], "cpu")(*args, **kwargs)


def test_weights_of_another_model(tied, tmp_path):
    _, path = tied
    with pytest.raises(MissingWeightError, match="missing weights"):
        npu.load_weights({"other": np.ones(2, "float32")}, npu.load(path, "cpu").program)
    other = {name: np.ones((1, 1), "float32") for name in ("a.weight", "a.bias", "b.bias", "shift")}
    with pytest.raises(InvalidValueError, match="does not fit the program"):
        npu.load_weights(other, npu.load(path, "cpu").program)

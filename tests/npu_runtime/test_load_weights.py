"""Weights from files and dicts: found under any of their names, checked before anything runs."""

import json
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from npu_runtime import (
    Device,
    Executor,
    InvalidValueError,
    MissingWeightError,
    Weights,
    load_weights,
    load_weights_from_safetensors,
)
from npu_runtime.shared_weights import SharedWeights
from safetensors.torch import save_file
from torch import nn

from tests.support.programs import mlp, ready

X = torch.randn(4, 12, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def model():
    return mlp()


@pytest.fixture(scope="module")
def made(model):
    return ready(model, X)


def exact(model, x=X):
    import copy

    return copy.deepcopy(model).double()(x.double()).detach().numpy()


def agrees(made, weights, wanted):
    got = made.executor.run({made.inputs[0]: X}, weights)[made.outputs[0]].to_numpy()
    np.testing.assert_allclose(got, wanted, rtol=2e-5, atol=2e-6)


def shard(folder, state):
    names, mapping = sorted(state), {}
    for i in range(2):
        part = {name: state[name] for name in names[i::2]}
        save_file(part, folder / f"part-{i}.safetensors")
        mapping |= dict.fromkeys(part, f"part-{i}.safetensors")
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": mapping}))


def file(state, folder):
    save_file(state, folder / "w.safetensors")
    return folder / "w.safetensors"


SOURCES = {
    "dict of torch": lambda state, folder: dict(state),
    "dict of NumPy": lambda state, folder: {k: v.numpy() for k, v in state.items()},
    "dict with more than needed": lambda state, folder: {**state, "other": torch.ones(3)},
    "with a prefix": lambda state, folder: {f"model.{k}": v for k, v in state.items()},
    "safetensors, text": lambda state, folder: str(file(state, folder)),
    "safetensors, Path": file,
    "folder": lambda state, folder: file(state, folder).parent,
    "index": lambda state, folder: (shard(folder, state), folder / "model.safetensors.index.json")[1],
    "folder with an index": lambda state, folder: (shard(folder, state), folder)[1],
    "dict with what no program can read": lambda state, folder: {
        **state,
        "wide": torch.ones(2).double(),
        "complex": torch.ones(2, dtype=torch.complex64),
        "epoch": 3,
    },
    "parameters": lambda state, folder: {k: nn.Parameter(v) for k, v in state.items()},
    "file with what no program can read": lambda state, folder: file({**state, "x": torch.ones(2).double()}, folder),
    "legacy pt": lambda state, folder: (
        torch.save(state, folder / "w.pth", _use_new_zipfile_serialization=False),
        folder / "w.pth",
    )[1],
    "pt with more than tensors": lambda state, folder: (
        torch.save({**state, "epoch": 3}, folder / "w.pt"),
        folder / "w.pt",
    )[1],
    "pt": lambda state, folder: (torch.save(state, folder / "w.pt"), folder / "w.pt")[1],
    "bin": lambda state, folder: (torch.save(state, folder / "w.bin"), folder / "w.bin")[1],
    "strided": lambda state, folder: {k: v.t().contiguous().t() if v.dim() == 2 else v for k, v in state.items()},
}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES.keys())
def test_every_source_gives_the_same(model, made, source, tmp_path):
    weights = load_weights(source(model.state_dict(), tmp_path), made.program, made.executor.device)
    agrees(made, weights, exact(model))


def test_mapping(model, made, tmp_path):
    weights = load_weights_from_safetensors(file(model.state_dict(), tmp_path), made.program, made.executor.device)
    assert isinstance(weights, Weights)
    assert set(weights) == set(weights.keys()) == set(model.state_dict())
    assert len(weights) == 4
    assert "0.weight" in weights
    assert "nothing" not in weights
    np.testing.assert_array_equal(weights["0.bias"].to_numpy(), model.state_dict()["0.bias"].numpy())
    with pytest.raises(KeyError, match="nothing"):
        weights["nothing"]
    assert repr(weights) == "Weights(4 tensors)"


def test_a_replaced_weight_is_used_from_the_next_run_on(model, made):
    weights = load_weights(dict(model.state_dict()), made.program)
    agrees(made, weights, exact(model))
    other = mlp(seed=5).eval()
    for name, tensor in other.state_dict().items():
        weights[name] = tensor
    agrees(made, weights, exact(other))


def test_files_may_be_replaced_while_mapped(model, made, tmp_path):
    path = file(model.state_dict(), tmp_path)
    weights = load_weights(path, made.program)
    path.unlink()
    agrees(made, weights, exact(model))


def test_tied_weights_need_one_name():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.head = nn.Embedding(11, 8), nn.Linear(8, 11, bias=False)
            self.head.weight = self.embed.weight

        def forward(self, x):
            return self.head(self.embed(x))

    model, x = Tied().eval(), torch.tensor([[1, 2, 10]])
    made = ready(model, x)
    wanted = model(x).detach().numpy()
    for name in ("embed.weight", "head.weight"):
        weights = load_weights({name: model.embed.weight.detach()}, made.program)
        got = made.executor.run({made.inputs[0]: x}, weights)[made.outputs[0]].to_numpy()
        np.testing.assert_allclose(got, wanted, rtol=1e-5, atol=1e-6)


WRONG = {
    "missing": (lambda s: {k: v for k, v in s.items() if k != "2.weight"}, ["missing", "2.weight"]),
    "shape": (lambda s: {**s, "0.weight": s["0.weight"].t()}, ["0.weight", "float32[12, 33]", "float32[33, 12]"]),
    "dtype": (lambda s: {**s, "0.bias": s["0.bias"].double()}, ["0.bias", "float64"]),
    "half": (lambda s: {**s, "0.bias": s["0.bias"].half()}, ["0.bias", "float16[33]", "float32[33]"]),
    "not a tensor": (lambda s: {**s, "0.bias": [1.0]}, ["0.bias", "list"]),
    "not a tensor, prefixed": (
        lambda s: {f"model.{k}": [1.0] if k == "0.bias" else v for k, v in s.items()},
        ["model.0.bias", "list"],
    ),
    "not a name": (lambda s: {**s, 3: s["0.bias"]}, ["name", "3"]),
    "meta": (lambda s: {**s, "0.bias": torch.empty(33, device="meta")}, ["0.bias", "meta"]),
}


@pytest.mark.parametrize(("change", "words"), WRONG.values(), ids=WRONG.keys())
def test_wrong_weights_are_named(model, made, change, words):
    with pytest.raises(InvalidValueError) as caught:
        load_weights(change(dict(model.state_dict())), made.program)
    for word in words:
        assert word in str(caught.value)


def test_missing_weights_are_key_errors_too(model, made, tmp_path):
    state = {k: v for k, v in model.state_dict().items() if k != "2.bias"}
    with pytest.raises(KeyError) as caught:
        load_weights(state, made.program)
    assert isinstance(caught.value, MissingWeightError)
    assert isinstance(caught.value, ValueError)
    assert str(caught.value) == (
        '[weights] missing weights: "2.bias" not found in state dict; got 3 tensors, available: "0.bias", "0.weight", '
        '"2.weight"; expected all 4 weights of "Sequential"'
    )
    path = file({**state, "2.bias": torch.ones(7).double()}, tmp_path)
    with pytest.raises(MissingWeightError, match='"2.bias" .which the file has as "F64"'):
        load_weights(path, made.program)
    half = {f"model.{k}" if k == "0.bias" else k: v for k, v in model.state_dict().items()}
    with pytest.raises(MissingWeightError, match='missing weights: "0.bias" not found'):
        load_weights(half, made.program)  # one prefix for all, or none


def test_checkpoints_with_dicts_inside_are_explained(model, made, tmp_path):
    torch.save({"state_dict": model.state_dict(), "epoch": 3}, tmp_path / "w.pt")
    with pytest.raises(InvalidValueError, match=r"contains dicts instead of tensors; got the keys \['state_dict'\]"):
        load_weights(tmp_path / "w.pt", made.program)


def test_running_without_weights_names_them(made):
    with pytest.raises(InvalidValueError, match=r"missing weights: .*0\.weight"):
        made.executor.run({made.inputs[0]: X})
    with pytest.raises(InvalidValueError, match="load_weights"):
        made.executor.run({made.inputs[0]: X}, {"0.weight": X})


class Evil:
    """Unpickling it opens, and so makes, a file."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (open, (str(self.trace), "w"))


def test_pickles_are_not_executed(made, tmp_path):
    path, trace = tmp_path / "evil.pt", tmp_path / "was-here"
    evil = {"0.weight": Evil(trace)}
    for write in (
        lambda: path.write_bytes(pickle.dumps(evil, 2)),
        lambda: torch.save(evil, path),
        lambda: torch.save(evil, path, _use_new_zipfile_serialization=False),
    ):
        write()
        with pytest.raises(InvalidValueError, match=r"evil\.pt: .* contains objects other than tensors"):
            load_weights(path, made.program)
        assert not trace.exists()
    torch.load(path, weights_only=False)["0.weight"].close()
    assert trace.exists()  # it would have been


def broken_files(state, folder):
    path = file(state, folder)
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    yield "empty", b""
    yield "seven bytes", data[:7]
    yield "half a header", data[: 8 + length // 2]
    yield "data cut", data[:-5]
    yield "huge header", struct.pack("<Q", 1 << 60) + data[8:]
    yield "no JSON", data[:8] + b"x" * length + data[8 + length :]
    yield "offsets beyond", data.replace(b'"data_offsets":[0,', b'"data_offsets":[9,')
    yield "unknown dtype", data.replace(b'"F32"', b'"F99"')


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_cut_pickles_are_named(model, made, tmp_path, zipped):
    path = tmp_path / "cut.pt"
    torch.save(model.state_dict(), path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    for length in (0, 1, 2, 7, 100, len(data) // 2, len(data) - 30, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InvalidValueError, match=r"\[weights\] cannot read .*cut\.pt") as caught:
            load_weights(path, made.program)
        assert "weights_only" not in str(caught.value)  # nobody is told to run what the file holds


def test_junk_and_missing_torch_are_named(tmp_path):
    path = tmp_path / "junk.pt"
    path.write_bytes(b"junk" * 10)
    words = r"cannot read .*junk\.pt: it is damaged, or not a file that torch\.save wrote; got KeyError: .*; expected a"
    with pytest.raises(InvalidValueError, match=words):
        load_weights(path)
    code = f"""
import sys
sys.modules["torch"] = None
from npu_runtime import UnavailableError, load_weights
try:
    load_weights({str(path)!r})
except UnavailableError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "junk.pt needs PyTorch, which is not installed; try installing torch (`pip install torch`), or a .safe" in (
        result.stdout
    ), result.stderr


SHARDS = {
    "outside the folder": ("../w.safetensors", "not a plain name"),
    "anywhere": ("/etc/passwd", "not a plain name"),
    "not there": ("gone.safetensors", "gone.safetensors"),
    "not in it": ("part.safetensors", "where the index puts it"),
    "no name": (None, "expected a string"),
}


@pytest.mark.parametrize(("shard", "words"), SHARDS.values(), ids=SHARDS.keys())
def test_an_index_names_files_beside_it(model, made, tmp_path, shard, words):
    state, folder = model.state_dict(), tmp_path / "sub"
    folder.mkdir()
    file(state, tmp_path)
    save_file({"other": torch.ones(1)}, folder / "part.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": dict.fromkeys(state, shard)}))
    with pytest.raises(InvalidValueError, match=words):
        load_weights(index, made.program)


def test_broken_files_are_named(model, made, tmp_path):
    for what, data in list(broken_files(model.state_dict(), tmp_path)):
        path = tmp_path / f"{what}.safetensors"
        path.write_bytes(data)
        with pytest.raises(InvalidValueError) as caught:
            load_weights(path, made.program)
        assert path.name in str(caught.value), what


def test_wrong_paths_are_named(made, tmp_path):
    (tmp_path / "w.txt").write_text("")
    (tmp_path / "empty").mkdir()
    (tmp_path / "list.pt").write_bytes(b"")
    torch.save([1, 2], tmp_path / "numbers.pt")
    (tmp_path / "x.safetensors.index.json").write_text(json.dumps({"weight_map": {"0.weight": "../gone.safetensors"}}))
    for name in ("w.txt", "empty", "list.pt", "numbers.pt", "nowhere.safetensors", "x.safetensors.index.json"):
        with pytest.raises(InvalidValueError) as caught:
            load_weights(tmp_path / name, made.program)
        assert name in str(caught.value), caught.value


def test_masked_arrays_are_refused(model, made):
    """Their masks would be lost. Those that the program does not read may be anything."""
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    first = next(iter(state))
    hidden = np.ma.masked_array(state[first], np.eye(*state[first].shape, dtype=bool))
    with pytest.raises(InvalidValueError, match=rf"'{first}' has masked elements; got 12 of \d+; try .*filled"):
        load_weights({**state, first: hidden}, made.program)
    with pytest.raises(InvalidValueError, match="'wide' has masked elements"):
        SharedWeights.of({**state, "wide": np.ma.masked_array(np.ones(2), [True, False])})
    agrees(made, load_weights({**state, "other": hidden}, made.program), exact(model))
    agrees(made, load_weights({**state, first: np.ma.masked_array(state[first])}, made.program), exact(model))


def test_the_device_is_checked(model, made):
    with pytest.raises(InvalidValueError, match="str"):
        load_weights(dict(model.state_dict()), made.program, "cpu")
    with pytest.raises(InvalidValueError, match="metall"):
        Device("metall")
    with pytest.raises(InvalidValueError, match="threads"):
        Executor(made.program, Device("cpu"), threads=-2)

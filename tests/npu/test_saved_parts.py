"""Saved files and pickles of models that run partly on the host."""

import copy
import json
import pickle
import subprocess
import sys
import warnings

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from npu.saving.container import Container
from npu.saving.model import read_model
from npu_base.errors import InvalidValueError
from npu_runtime._core import checksum
from torch import nn

from tests.support.devices import metal_device
from tests.support.fuzz_saved import joined, part_seed_file, parts


class Mixed(nn.Module):
    """Device, host, device; a float64 weight of the host, tied weights, a constant, a buffer that it writes."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.b.weight = self.a.weight
        self.shift = nn.Parameter(torch.randn(3, 3, dtype=torch.float64))
        self.register_buffer("count", torch.ones(3, 3))
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0]), persistent=False)

    def forward(self, x, *, bias=None):
        self.count.mul_(2).add_(1)
        y = torch.linalg.pinv(torch.relu(self.a(x)) + torch.eye(3))
        z = (y.double() + self.shift).float()
        return {"z": self.b(z) * self.scale + self.count, "pair": (y, z)}


X = torch.arange(9.0).view(3, 3) / 9


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = npu.compile(Mixed().eval(), X, device="cpu")
    path = tmp_path_factory.mktemp("parts") / "mixed.npu"
    compiled.save(path)
    return compiled, path


def same(got, wanted):
    got, wanted = (torch.utils._pytree.tree_leaves(tree) for tree in (got, wanted))
    for g, w in zip(got, wanted, strict=True):
        torch.testing.assert_close(torch.as_tensor(g), w.detach(), rtol=1e-4, atol=1e-4)


def test_saving_and_loading(saved, tmp_path):
    _, path = saved
    loaded, reference = npu.load(path, "cpu", verify=True), Mixed().eval()
    wanted = [reference(X) for _ in range(3)]
    same(loaded(X), wanted[0])
    arrays = loaded(X.numpy())
    assert isinstance(arrays["z"], np.ndarray) and isinstance(arrays["pair"][1], np.ndarray)
    same(arrays, wanted[1])
    loaded.save(tmp_path / "again.npu")
    assert (tmp_path / "again.npu").read_bytes() == path.read_bytes()
    same(loaded(x=X), wanted[2])
    loaded.reset()
    same(loaded(X), wanted[0])
    assert "on the host" in repr(loaded) and loaded.plan.explain().parts
    assert loaded.output_names == ["z", "pair.0", "pair.1"]


def test_pickles_and_copies(saved):
    for module in (saved[0], npu.load(saved[1], "cpu")):
        for twin in (pickle.loads(pickle.dumps(module)), copy.deepcopy(module)):
            same(twin(X), Mixed().eval()(X))


def test_another_device(saved):
    same(npu.load(saved[1], metal_device())(X), Mixed().eval()(X))


def test_updated_weights_are_saved(saved, tmp_path):
    loaded, other = npu.load(saved[1], "cpu"), Mixed().eval()
    with torch.no_grad():
        for tensor in (other.a.weight, other.shift, other.count):
            tensor.mul_(3)
    loaded.update_weights(other.state_dict())
    loaded.save(tmp_path / "other.npu")
    wanted = copy.deepcopy(other)(X)
    same(loaded(X), wanted)
    same(npu.load(tmp_path / "other.npu", "cpu")(X), wanted)


def test_programs_read_the_weights_in_the_file(saved):
    loaded = npu.load(saved[1], "cpu")
    read = list(loaded.runner._dag._loaded_weights.values())
    assert len(read) > 1 and all(weights is loaded.model.weights.on_device for weights in read)


def test_in_a_process_that_does_not_know_the_module(saved):
    code = f"""
import sys, npu, numpy as np
x = np.arange(9, dtype="float32").reshape(3, 3) / 9
print(npu.load({str(saved[1])!r}, device="cpu")(x)["z"].tolist())
assert not any(name.startswith("tests") for name in sys.modules)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(eval(result.stdout), Mixed().eval()(X)["z"].detach(), rtol=1e-4, atol=1e-4)


def test_commands(saved, capsys):
    path = str(saved[1])
    assert main(["explain", path, "--json"]) == 1  # some nodes are not the device's
    assert "linalg_pinv" in capsys.readouterr().out
    assert main(["partition", path]) == 0
    assert "linalg_pinv" in capsys.readouterr().out
    for command in ("run", "bench"):
        assert main([command, path, "--device", "cpu"]) == 0
        assert ("pair.1: float32[3, 3]" if command == "run" else "median") in capsys.readouterr().out
    assert main(["plan", path]) == 0
    assert "host, " in capsys.readouterr().out


def test_a_predictor_runs_it(tmp_path):
    class Solve(nn.Module):
        def forward(self, a, b):
            return torch.linalg.solve(a, b) + 1

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        npu.compile(Solve(), (torch.eye(3), X), device="cpu").save(tmp_path / "solve.npu")
    result = npu.Predictor(tmp_path / "solve.npu", device="cpu")({"a": np.eye(3, dtype="float32"), "b": X.numpy()})
    same(result["output"], X + 1)


FORGED = [
    (lambda m: m["parts"][0]["nodes"].pop(), "do not have each node once"),
    (lambda m: m["parts"].reverse(), "a part reads '.*' before it is computed"),
    (lambda m: m["parts"][0].pop("program"), "a part has a wrong program"),
    (lambda m: (m["reasons"].clear(), m["parts"][1].update(program="program/0")), "a part has a wrong program"),
    (lambda m: m["parts"][0].update(program="program/9"), "a part has a wrong program"),
    (lambda m: m["parts"][0].update(target="tpu"), "a part is not valid"),
    (lambda m: m["parts"][0].update(program="program/1"), "do not have each program once"),
    (lambda m: m.pop("reasons"), "'strategy' or 'reasons' is not valid"),
    (lambda m: m.pop("parts"), "a list of parts"),
]


def forged(section, change):
    """The seed file with another JSON section, which fits all the same in place: it is padded."""
    body, manifest = parts(part_seed_file())
    entry = next(s for s in manifest["sections"] if s["kind"] == section)
    start = entry["offset"] - 64
    data = json.loads(body[start : start + entry["size"]])
    change(data)
    text = json.dumps(data, separators=(",", ":")).encode()
    assert len(text) <= entry["size"]
    text += b" " * (entry["size"] - len(text))
    entry["checksum"] = f"{checksum(text):016x}"
    return joined(body[:start] + text + body[start + entry["size"] :], json.dumps(manifest).encode())


@pytest.mark.parametrize(("change", "message"), FORGED)
def test_forged_plans(change, message):
    with pytest.raises(InvalidValueError, match=f"forged.npu.*{message}"):
        read_model(Container.from_bytes(forged("partition", change), "forged.npu"))


def test_operators_that_open_files_are_refused():
    def change(ir):
        node = next(node for node in ir["nodes"] if "pinv" in node["op_type"])
        node["op_type"] = "aten.from_file.default"
        ir["pytorch_version"] = ""

    with pytest.raises(InvalidValueError, match=r"forged.npu.*reads or writes files; got aten.from_file"):
        read_model(Container.from_bytes(forged("ir", change), "forged.npu"))


def test_comparing_devices(saved):
    compiled, path = saved
    for subject in (compiled, npu.load(path, "cpu"), path):
        report = npu.compare(subject, "cpu", "pytorch", inputs={"x": X.numpy()})
        assert report.agrees and len(report) > 2
        same(report.outputs[next(iter(report.outputs))], Mixed().eval()(X)["z"])  # with its own weights

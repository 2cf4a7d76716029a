"""Commands of ``npu`` on a saved file."""

import json

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from safetensors.numpy import save_file
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x):
        return self.linear(x).relu()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands")
    x = torch.ones(2, 4)
    npu.compile(Net().eval(), x, device="cpu").save(folder / "net.npu")
    np.save(folder / "x.npy", x.numpy())
    np.save(folder / "wanted.npy", Net()(x).detach().numpy())
    return folder


def run(capsys, *arguments, code=0):
    assert main([str(argument) for argument in arguments]) == code
    printed = capsys.readouterr()
    return printed.out if code == 0 else printed.err


def result(folder):
    (file,) = (folder / "out").glob("*.npy")
    return np.load(file)


def test_run_uses_the_files_weights(folder, capsys):
    model, x = folder / "net.npu", f"x={folder / 'x.npy'}"
    run(capsys, "run", model, "--device", "cpu", "--input", x, "-o", folder / "out")
    np.testing.assert_allclose(result(folder), np.load(folder / "wanted.npy"), rtol=1e-5, atol=1e-6)
    ones = {"linear.weight": np.ones((3, 4), "float32"), "linear.bias": np.ones(3, "float32")}
    save_file(ones, folder / "ones.safetensors")
    options = ["--input", x, "-o", folder / "out", "--weights", folder / "ones.safetensors"]
    run(capsys, "run", model, "--device", "cpu", *options)
    assert result(folder).tolist() == [[5, 5, 5]] * 2
    save_file({"linear.weight": np.ones((4, 4), "float32")}, folder / "other.safetensors")
    error = run(capsys, "run", model, "--weights", folder / "other.safetensors", code=1)
    assert 'missing weights: "linear.bias" not found' in error
    save_file({**ones, "linear.weight": np.ones((4, 4), "float32")}, folder / "other.safetensors")
    error = run(capsys, "run", model, "--weights", folder / "other.safetensors", code=1)
    assert 'weight "linear.weight" does not fit the program; got float32[4, 4]; expected float32[3, 4]' in error
    assert "or the SOURCE of a command" in run(capsys, "run", model, "--weights", model, code=1)


def test_other_commands(folder, capsys):
    model = folder / "net.npu"
    figures = json.loads(run(capsys, "bench", model, "--device", "cpu", "--runs", 2, "--json"))
    assert figures["program"] == "Net" and figures["runs"] == 2
    assert "plan of Net" in run(capsys, "plan", model, "--device", "cpu")
    assert run(capsys, "plan", model, "--text").startswith("program Net")
    assert "2 of 2 nodes run on the device" in run(capsys, "explain", model)
    assert "0 on the host" in run(capsys, "partition", model)
    report = json.loads(run(capsys, "compare", model, "--with", "pytorch", "--json"))
    assert "Net" in json.dumps(report)
    assert npu.compare(npu.load(model, "cpu"), "cpu", "cpu").agrees


def test_damaged_and_misplaced_files(folder, capsys):
    model = folder / "net.npu"
    cut = folder / "cut.npu"
    cut.write_bytes(model.read_bytes()[:-1])
    for command in ("run", "bench", "plan", "explain", "partition"):
        assert f"{cut}: the file is cut off" in run(capsys, command, cut, code=1)
    assert f"{cut}: the file is cut off" in run(capsys, "compare", cut, "--with", "cpu", code=2)
    assert "`npu compile` does not take a saved file (.npu)" in run(capsys, "compile", model, code=1)
    with pytest.raises(npu.NPUError, match=r"got a saved model; .*try npu.load"):
        npu.Executor(model, npu.Device("cpu"))


@pytest.mark.parametrize("command", ["run", "bench", "plan", "explain", "partition"])
def test_any_damage_is_one_line(command, folder, tmp_path, capsys):
    """Cut at any byte, or with any byte changed. Weights alone are not verified."""
    whole = (folder / "net.npu").read_bytes()
    start = whole.index(b'{"producer"')
    random = np.random.default_rng(0)
    changed = [*random.integers(0, 64, 5), *random.integers(start, len(whole), 15)]
    damaged = [whole[:n] for n in random.integers(0, len(whole), 15)]
    damaged += [whole[:at] + bytes([whole[at] ^ 0x41]) + whole[at + 1 :] for at in changed]
    options = ["--device", "cpu"] if command in ("run", "bench", "plan") else []
    for i, data in enumerate(damaged):
        (tmp_path / "net.npu").write_bytes(data)
        assert main([command, str(tmp_path / "net.npu"), *options]) == 1, i
        printed = capsys.readouterr()
        assert printed.err.startswith("Error: ") and len(printed.err.splitlines()) == 1, printed.err


def test_files_of_open_sizes_run_at_any_size(folder, capsys):
    batch = torch.export.Dim("batch", max=8)
    compiled = npu.compile(Net().eval(), torch.ones(2, 4), device="cpu", dynamic_shapes={"x": {0: batch}})
    path = folder / "open.npu"
    compiled.save(path)
    assert "float32[2, 3]" in run(capsys, "run", path, "--device", "cpu")
    assert "float32[5, 3]" in run(capsys, "run", path, "--device", "cpu", "--input", "5,4")
    assert "compiled for batch=2, batch=6" in run(capsys, "bench", path, "--device", "cpu", "--input", "x=6,4")
    error = run(capsys, "run", path, "--input", "9,4", code=1)
    assert "Size 'batch' (dimension 0 of 'x') is 9, expected" in error
    assert run(capsys, "explain", path).startswith("Net: 2 of 2 nodes run on the device")
    assert run(capsys, "partition", path).startswith("Net: 2 nodes on the device, 0 on the host")

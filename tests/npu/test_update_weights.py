"""``compiled.update_weights``: other values, all of them or none."""

import threading
import warnings

import npu
import numpy as np
import pytest
import torch
from npu_base.errors import InvalidTypeError, InvalidValueError
from safetensors.torch import save_file
from torch import nn

X = torch.eye(4)[:2]


class Net(nn.Module):
    """Tied weights, a buffer that it writes, one that no checkpoint has, and a parameter that it does not use."""

    def __init__(self, seed=0, host=False):
        super().__init__()
        torch.manual_seed(seed)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)
        self.b.weight = self.a.weight
        self.norm = nn.BatchNorm1d(4)
        self.norm.running_mean.normal_()
        self.unused = nn.Parameter(torch.randn(2))
        self.register_buffer("count", torch.full((4,), float(seed)))
        self.register_buffer("scale", torch.tensor([1.0, 2.0, 3.0, 4.0]), persistent=False)
        self.host = host

    def forward(self, x):
        self.count.add_(1)
        y = self.norm(self.b(torch.tanh(self.a(x)))) * self.scale + self.count
        return torch.linalg.pinv(y) if self.host else y


def compiled_of(host, seed=0):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return npu.compile(Net(seed, host).eval(), X, device="cpu")


def same(compiled, module):
    torch.testing.assert_close(compiled(X), module.eval()(X).detach(), rtol=1e-4, atol=1e-5)


@pytest.fixture(params=["whole", "partly on the host", "loaded"])
def compiled(request, tmp_path):
    compiled = compiled_of(request.param == "partly on the host")
    if request.param == "loaded":
        compiled.save(tmp_path / "net.npu")
        compiled = npu.load(tmp_path / "net.npu", "cpu")
    compiled.host = request.param == "partly on the host"
    return compiled


@pytest.mark.parametrize("form", ["state dict", "module", "arrays", "file", "prefix"])
def test_other_weights(compiled, form, tmp_path):
    other = Net(1, compiled.host).eval()
    state = other.state_dict()
    save_file({n: t.clone() for n, t in state.items()}, tmp_path / "other.safetensors")
    given = {
        "state dict": state,
        "module": other,
        "arrays": {n: t.numpy() for n, t in state.items()},
        "file": tmp_path / "other.safetensors",
        "prefix": {f"model.{n}": t for n, t in state.items()},
    }[form]
    same(compiled, Net(0, compiled.host))
    compiled.update_weights(given)
    reference = Net(1, compiled.host)
    for _ in range(2):
        same(compiled, reference)
    for tensor in other.state_dict().values():
        tensor.zero_()  # they were copied
    compiled.reset()
    same(compiled, Net(1, compiled.host))


def test_weights_are_updated_as_a_whole(compiled):
    good = Net(1).state_dict()
    tied = {**good, "b.weight": good["b.weight"] + 1}
    wrong = {
        r"no 'a.bias'": {n: t for n, t in good.items() if n != "a.bias"},
        r"no 'a.bias', 'a.weight', 'b.bias', 'count' and \d more": {},
        r"unknown 'c.weight', 1": {**good, "c.weight": good["a.weight"], 1: good["a.bias"]},
        r"'a.bias' as float32\[3\], not float32\[4\]": {**good, "a.bias": torch.ones(3)},
        r"'unused' as float16\[2\], not float32\[2\], 'a.bias' as float64\[4\]": {
            **good, "a.bias": torch.ones(4).double(), "unused": torch.ones(2).half(),
        },
        r"no 'b.bias'; unknown 'bias'": {("bias" if n == "b.bias" else n): t for n, t in good.items()},
        r"'a.bias' as list, not a tensor": {**good, "a.bias": [1.0] * 4},
        r"'a.bias' on meta": {**good, "a.bias": torch.ones(4, device="meta")},
        r"tied weights with different values '[ab].weight' and '[ab].weight'": tied,
        r"other values of constants, which need npu.compile, 'scale'": {**good, "scale": torch.ones(4)},
    }  # fmt: skip
    for words, given in wrong.items():
        with pytest.raises(InvalidValueError, match=f"nothing was changed; got .*{words}.*; try its state_dict"):
            compiled.update_weights(given)
    with pytest.raises(InvalidTypeError, match="cannot be updated from this; got int"):
        compiled.update_weights(3)
    with pytest.raises(npu.NPUError, match="nothing.safetensors"):
        compiled.update_weights("nothing.safetensors")
    same(compiled, Net(0, compiled.host))
    compiled.update_weights({**good, "scale": torch.tensor([1.0, 2.0, 3.0, 4.0])})
    same(compiled, Net(1, compiled.host))


def test_updated_weights_are_saved(tmp_path):
    compiled = compiled_of(False)
    compiled.update_weights(Net(1))
    compiled(X)
    compiled.save(tmp_path / "net.npu")
    same(npu.load(tmp_path / "net.npu", "cpu"), Net(1))


class Sum(nn.Module):
    def __init__(self, value, host):
        super().__init__()
        self.first, self.second = nn.Parameter(torch.full((3, 3), value)), nn.Parameter(torch.full((3, 3), value))
        self.host = host

    def forward(self, x):
        x = x * self.first
        return (torch.linalg.pinv(x) * 0 if self.host else x * 0) + self.first - self.second


@pytest.mark.parametrize("host", [False, True])
def test_a_call_sees_old_or_new_weights(host):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = npu.compile(Sum(0.0, host), torch.eye(3), device="cpu")
    mixed, done = [], threading.Event()

    def call():
        while not done.is_set():
            if compiled(torch.eye(3)).count_nonzero():
                mixed.append(1)

    threads = [threading.Thread(target=call) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for i in range(30 if host else 200):
            compiled.update_weights(Sum(float(i), host).state_dict())
    finally:
        done.set()
    for thread in threads:
        thread.join()
    assert not mixed


@pytest.mark.parametrize("host", [False, True])
def test_no_memory_is_shared_with_the_module(host):
    module = Net(0, host).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = npu.compile(module, X, device="cpu")
    if not host:
        own = {buffer.native_handle for buffer in compiled.weights.values()}
        assert not own & {tensor.data_ptr() for tensor in module.state_dict().values()}
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.zero_()
    same(compiled, Net(0, host))


def test_half_precision_and_numpy_without_pytorch(tmp_path):
    linear = nn.Linear(4, 3)
    compiled = npu.compile(linear, X, device="cpu", compute_dtype="bfloat16")
    other = nn.Linear(4, 3)
    compiled.update_weights(other.state_dict())
    torch.testing.assert_close(compiled(X), other(X).detach(), rtol=0.02, atol=0.02)
    with pytest.raises(InvalidValueError, match="'bias' as bfloat16"):
        compiled.update_weights(other.bfloat16())
    assert np.isfinite(compiled(X.numpy())).all()

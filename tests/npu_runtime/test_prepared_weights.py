"""What is prepared from weights is made once for all programs that make the same of them."""

import sys

import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import Executor, Weights, load_weights
from safetensors.torch import save_file
from torch import nn
from torch_ir import extract_ir

from tests.support.devices import chosen_device

WIDTH = 64


class Merged(nn.Module):
    """Two weights become one that both a product and an elementwise op read."""

    def __init__(self, factor=2.0, read=True):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Parameter(torch.randn(WIDTH, WIDTH)), nn.Parameter(torch.randn(WIDTH, WIDTH))
        self.factor, self.read = factor, read

    def forward(self, x):
        made = self.a * self.factor + torch.cat([self.b, self.b]).sum(0) + torch.arange(WIDTH) / WIDTH
        y = x @ made
        return y + made[0] if self.read else y


def executor(model, rows):
    model = model.eval().requires_grad_(False)
    program = npu_compiler.compile(extract_ir(model, torch.zeros(rows, WIDTH)))
    return Executor(program, chosen_device())


def run(made, weights, x):
    (result,) = made.run(x, weights).values()
    return result.to_numpy()


def exact(model, x):
    return model.double()(x.double()).numpy()


def rows(count):
    return torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(count))


def test_programs_share_one_copy():
    model = Merged()
    weights = load_weights({n: p.detach() for n, p in model.named_parameters()})
    short, long = executor(model, 1), executor(model, 1)
    assert weights.prepared_bytes == 0
    short.prepare(weights)
    one = weights.prepared_bytes
    assert WIDTH * WIDTH * 4 <= one <= 2 * WIDTH * WIDTH * 4  # a packed form may be beside it
    long.prepare(weights)
    assert weights.prepared_bytes == one


@pytest.mark.parametrize("read", [True, False], ids=["read raw", "packed only"])
def test_packed_forms_of_prepared_values_are_shared(read):
    model = Merged(read=read)
    weights = load_weights({n: p.detach() for n, p in model.named_parameters()})
    sizes = []
    for count in (64, 96, 128):
        executor(model, count).prepare(weights)
        sizes.append(weights.prepared_bytes)
    assert sizes[0] > 0 and len(set(sizes)) == 1


def test_what_differs_is_not_shared():
    model, other = Merged(), Merged(factor=3.0)
    weights = load_weights({n: p.detach() for n, p in model.named_parameters()})
    ours, theirs, x = executor(model, 2), executor(other, 2), rows(2)
    ours.prepare(weights)
    one = weights.prepared_bytes
    theirs.prepare(weights)
    assert weights.prepared_bytes == 2 * one
    for made, wanted in ((ours, model), (theirs, other)):
        np.testing.assert_allclose(run(made, weights, x), exact(wanted, x), rtol=1e-4, atol=1e-4)


def test_both_see_replaced_weights():
    model = Merged()
    weights = load_weights({n: p.detach() for n, p in model.named_parameters()})
    pair = [(executor(model, count), rows(count)) for count in (1, 64)]
    for factor in (1.0, -2.0):
        with torch.no_grad():
            model.float().a.mul_(factor)
        weights["a"] = model.a.detach().clone()
        for made, x in pair:
            np.testing.assert_allclose(run(made, weights, x), exact(model, x), rtol=1e-4, atol=2e-3)
            model.float()
        assert weights.prepared_bytes < 4 * WIDTH * WIDTH * 4


def resident(path):
    """Bytes of this file's mapping that are in memory."""
    total, ours = 0, False
    with open("/proc/self/smaps") as lines:
        for line in lines:
            first = line.split()[0]
            if "-" in first and not first.endswith(":"):
                ours = str(path) in line
            elif ours and first == "Rss:":
                total += int(line.split()[1]) * 1024
    return total


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the pages of a mapping")
def test_pages_of_the_file_that_nobody_reads_any_more_are_left(tmp_path):
    size = 1024

    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            torch.manual_seed(0)
            self.w, self.raw = nn.Parameter(torch.randn(size, size)), nn.Parameter(torch.randn(size, size))

        def forward(self, x):
            return x * (self.w * 2) + self.raw

    model, path = Scaled().eval().requires_grad_(False), tmp_path / "model.safetensors"
    save_file(dict(model.state_dict()), path)
    x = torch.ones(size, size)
    made = Executor(npu_compiler.compile(extract_ir(model, x)), chosen_device())
    weights = Weights.load(str(path))
    for _ in range(2):
        np.testing.assert_array_equal(run(made, weights, x), model(x).numpy())
        assert resident(path) < 1.5 * size * size * 4  # `raw` alone
    np.testing.assert_array_equal(weights["w"].to_numpy(), model.w.numpy())  # read from the file again

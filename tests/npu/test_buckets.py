"""Calls that are padded to buckets give what the module gives, by few programs; wrong options are refused."""

import json
import pickle
import subprocess
import sys
import threading

import npu
import numpy as np
import pytest
import torch
from npu.host_parts import HostWarning
from torch import nn
from torch.export import Dim

from tests.support.fuzz_saved import joined, parts

SEQ = Dim("seq", min=1, max=100)
BATCH = Dim("batch", min=1, max=16)
LOW = torch.finfo(torch.float32).min
BUCKETS = {"seq": [8, 16, 32]}


class Pooling(nn.Module):
    """The mean of the positions of a mask, and what each position has."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 4)

    def forward(self, x, mask):
        x = self.linear(x).tanh()
        shown = mask[..., None].to(x.dtype)
        return {"pooled": (x * shown).sum(1) / shown.sum(1).clamp(min=1), "each": x, "length": x.shape[1]}


class Attending(nn.Module):
    """With a mask that adds a large negative number, so that rows without any position depend on the length."""

    def forward(self, x, mask):
        scores = x @ x.transpose(1, 2) + (1.0 - mask[:, None]) * LOW
        return scores.softmax(-1) @ x


def inputs(batch, seq, dtype=torch.int64):
    torch.manual_seed(seq)
    mask = torch.rand(batch, seq) > 0.3
    mask[:, 0] = True
    return torch.randn(batch, seq, 4), mask.to(dtype)


DIMS = {"x": {0: BATCH, 1: SEQ}, "mask": {0: BATCH, 1: SEQ}}


def pooling(**options):
    torch.manual_seed(0)
    model = Pooling().eval().requires_grad_(False)
    options = {"dynamic_shapes": DIMS, "buckets": BUCKETS, "fallback": "error", **options}
    return model, npu.compile(model, inputs(2, 5), **options)


def attending(**options):
    options = {"dynamic_shapes": DIMS, "buckets": BUCKETS, "fallback": "error", **options}
    return npu.compile(Attending(), inputs(2, 5, torch.float32), **options)


def check(model, compiled, tensors):
    want, got = model(*tensors), compiled(*tensors)
    assert got["length"] == want["length"]
    for name in ("pooled", "each"):
        assert got[name].is_contiguous()
        torch.testing.assert_close(got[name], want[name], rtol=1e-4, atol=1e-5)


def test_few_programs_serve_all_sizes():
    model, compiled = pooling()
    assert compiled.sizes == [{"batch": 2, "seq": 8}]
    for seq in (5, 5, 1, 8, 9, 16, 31):
        check(model, compiled, inputs(2, seq))
    assert {tuple(sizes.values()) for sizes in compiled.sizes} == {(2, 8), (2, 16), (2, 32)}
    assert compiled.profile(*inputs(2, 5)).summary()
    check(model, compiled, inputs(2, 50))  # beyond the largest bucket
    assert compiled.sizes[-1] == {"batch": 2, "seq": 50}
    assert "pads seq to 8, 16 or 32" in repr(compiled) and "pads seq to 8, 16 or 32" in compiled._repr_html_()


def test_two_sizes_are_padded_at_once():
    model, compiled = pooling(buckets={"seq": np.arange(8, 33, 8), "batch": (4, 16)}, pad={"mask": np.int64(0)})
    for batch, seq in ((1, 3), (3, 8), (4, 8), (16, 24), (5, 17), (2, 90)):
        check(model, compiled, inputs(batch, seq))
    assert {(s["batch"], s["seq"]) for s in compiled.sizes} == {(4, 8), (16, 24), (4, 90)}


def test_arrays_and_half_precision():
    model, compiled = pooling(compute_dtype="bfloat16")
    x, mask = inputs(2, 7)
    got, want = compiled(x.numpy(), mask.numpy()), model(x, mask)
    assert isinstance(got["each"], np.ndarray) and got["each"].shape == (2, 7, 4)
    np.testing.assert_allclose(got["pooled"], want["pooled"], atol=0.03)
    buffers = [npu.Buffer.from_numpy(t.numpy(), npu.Device("cpu")) for t in (x, mask)]
    assert np.array_equal(compiled(*buffers)["pooled"], got["pooled"])
    halves = npu.compile(Pooling().bfloat16().eval(), (x.bfloat16(), mask), dynamic_shapes=DIMS, buckets=BUCKETS)
    assert halves(x.bfloat16(), mask)["each"].shape == (2, 7, 4)


def test_a_call_that_needs_more_of_its_mask_is_not_padded():
    compiled, model = attending(pad={"mask": 0}), Attending()
    x, mask = inputs(2, 6, torch.float32)
    for first in (1.0, 0.0, 1.0):
        mask[0, 0] = first
        mask[0, 1:] = 0
        torch.testing.assert_close(compiled(x, mask), model(x, mask))
    assert compiled.sizes == [{"batch": 2, "seq": 6}, {"batch": 2, "seq": 8}]
    assert "pads seq to 8, 16 or 32 if 'mask' starts with 1" in repr(compiled)
    got = compiled(x.numpy(), mask.numpy())
    np.testing.assert_allclose(got, model(x, mask), rtol=1e-5)


def test_a_mask_that_hides_where_it_is_true(monkeypatch):
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval().requires_grad_(False)
    hidden = torch.tensor([[False] * 6, [False] * 4 + [True] * 2])
    dims = {"src": {1: SEQ}, "src_key_padding_mask": {1: SEQ}}
    example = {"src": torch.randn(2, 6, 16), "src_key_padding_mask": hidden}
    options = {"dynamic_shapes": dims, "buckets": BUCKETS, "fallback": "error"}
    with pytest.raises(ValueError, match="not proven"):
        npu.compile(model, (), example, **options)
    compiled = npu.compile(model, (), example, pad={"src_key_padding_mask": True}, **options)
    for seq in (3, 6, 8, 20):
        x, hidden = torch.randn(2, seq, 16), torch.rand(2, seq) > 0.6
        hidden[:, 0] = False
        want = model(x, src_key_padding_mask=hidden)
        torch.testing.assert_close(compiled(x, src_key_padding_mask=hidden), want, rtol=1e-4, atol=1e-5)
    assert compiled.sizes == [{"seq": 8}, {"seq": 32}]


_ALONE = """
import sys, numpy, npu
for loaded in (npu.load(sys.argv[1], device="cpu"), npu.Predictor(sys.argv[1], device="cpu")):
    for seq in (2, 7, 7, 12):
        arrays = {"x": numpy.ones((2, seq, 4), "float32"), "mask": numpy.ones((2, seq), "int64")}
        results = loaded(arrays) if isinstance(loaded, npu.Predictor) else loaded(**arrays)
        assert results["each"].shape == (2, seq, 4), results["each"].shape
assert "torch" not in sys.modules
print(npu.load(sys.argv[1], device="cpu").sizes)
"""


def test_saved_files_pad_too(tmp_path):
    model, compiled = pooling()
    compiled.warm_up([{"batch": 2, "seq": 3}, {"batch": 2, "seq": 12}])
    assert compiled.sizes == [{"batch": 2, "seq": 8}, {"batch": 2, "seq": 16}]
    compiled.save(tmp_path / "pooling.npu")
    assert "calls are padded: seq to 8, 16 or 32" in str(npu.explain(tmp_path / "pooling.npu"))
    for loaded in (npu.load(tmp_path / "pooling.npu"), pickle.loads(pickle.dumps(compiled))):
        for seq in (7, 13, 30):
            check(model, loaded, inputs(2, seq))
        assert {8, 16, 32} >= {s["seq"] for s in loaded.sizes} >= {8, 32}
    done = subprocess.run(
        [sys.executable, "-c", _ALONE, tmp_path / "pooling.npu"], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[{'batch': 2, 'seq': 8}, {'batch': 2, 'seq': 16}]\n", done.stderr


def test_saved_needs_hold_for_loaded_models(tmp_path):
    attending(pad={"mask": 0}).save(tmp_path / "attending.npu")
    loaded = npu.load(tmp_path / "attending.npu")
    x, mask = inputs(2, 6, torch.float32)
    mask[0] = 0
    torch.testing.assert_close(loaded(x, mask), Attending()(x, mask))
    assert loaded.sizes[-1] == {"batch": 2, "seq": 6}


def test_other_weights():
    _, compiled = pooling()
    other = Pooling().eval().requires_grad_(False)
    compiled.update_weights(other.state_dict())
    for seq in (5, 12):
        check(other, compiled, inputs(2, seq))


class Doubling(nn.Module):
    def forward(self, x, mask):
        shown = (x * mask[..., None]).double()
        return x.relu(), shown.sum(1).float()


def test_a_model_that_runs_partly_on_the_host(tmp_path):
    with pytest.warns(HostWarning):
        compiled = npu.compile(Doubling(), inputs(2, 5), dynamic_shapes=DIMS, buckets=BUCKETS)
    compiled.save(tmp_path / "doubling.npu")
    for module in (compiled, npu.load(tmp_path / "doubling.npu")):
        for seq in (5, 12, 50):
            tensors = inputs(2, seq)
            for got, want in zip(module(*tensors), Doubling()(*tensors), strict=True):
                torch.testing.assert_close(got, want)
        assert {s["seq"] for s in module.sizes} == {8, 16, 50}


class Counting(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("total", torch.zeros(4))

    def forward(self, x, mask):
        self.total.add_((x * mask[..., None]).sum((0, 1)))
        return x + self.total


def test_state_of_a_padded_model():
    eager, compiled = (
        Counting(),
        npu.compile(
            Counting(), inputs(2, 5), dynamic_shapes=DIMS, buckets={"seq": [8], "batch": [4]}, fallback="error"
        ),
    )
    for batch, seq in ((2, 5), (1, 8), (4, 7), (2, 20)):
        x, mask = inputs(batch, seq)
        torch.testing.assert_close(compiled(x, mask), eager(x, mask), rtol=1e-4, atol=1e-5)


class AcrossRows(nn.Module):
    """Rows that depend on each other, and positions too: both masks add large negative numbers."""

    def forward(self, x, mask, rows):
        x = (x @ x.transpose(1, 2) + (1.0 - mask[:, None]) * LOW).softmax(-1) @ x
        return (x + ((1.0 - rows) * LOW)[:, None, None]).softmax(0)


def test_only_one_size_is_padded_if_several_need_their_masks():
    dims = {**DIMS, "rows": {0: BATCH}}
    compiled = npu.compile(
        AcrossRows(), (*inputs(2, 5, torch.float32), torch.ones(2)), dynamic_shapes=dims,
        buckets={"batch": [4], "seq": [8]}, pad={"mask": 0, "rows": 0}, fallback="error",
    )  # fmt: skip
    assert compiled.runner.buckets.needs == {"batch": {"mask": 1, "rows": 1}, "seq": {"mask": 1}}
    for batch, seq, first in ((2, 5, 1), (3, 7, 1), (3, 7, 0), (3, 5, 1)):
        x, mask = inputs(batch, seq, torch.float32)
        mask[0] = 1
        rows = torch.tensor([first, 0, 1.0])[:batch]
        torch.testing.assert_close(compiled(x, mask, rows), AcrossRows()(x, mask, rows), rtol=1e-4, atol=1e-5)
    assert {(s["batch"], s["seq"]) for s in compiled.sizes} == {(4, 8), (4, 5), (4, 7), (3, 8)}


class Hiding(nn.Module):
    """Adds a buffer, which hides the first position from all others."""

    def __init__(self, number, low=LOW):
        super().__init__()
        hidden = torch.zeros(100, 100)
        hidden[1:, 0] = number
        self.register_buffer("hidden", hidden)
        self.low = low

    def forward(self, x, mask):
        scores = (x @ x.transpose(1, 2)).tanh() + (1.0 - mask[:, None]) * self.low
        return (scores + self.hidden[: x.shape[1], : x.shape[1]]).softmax(-1) @ x


def test_buffers_that_are_masks():
    seq = Dim("seq", min=2, max=100)
    dims = {"x": {1: seq}, "mask": {1: seq}}
    options = {"dynamic_shapes": dims, "buckets": BUCKETS, "pad": {"mask": 0}, "fallback": "error"}
    model, tensors = Hiding(-3.0), inputs(2, 5, torch.float32)
    torch.testing.assert_close(npu.compile(model, tensors, **options)(*tensors), model(*tensors))
    compiled = npu.compile(model, tensors, **options)
    compiled.update_weights(Hiding(5.0))
    torch.testing.assert_close(compiled(*tensors), Hiding(5.0)(*tensors))
    with pytest.raises(ValueError, match="new values of 'hidden' are too large for padding"):
        compiled.update_weights(Hiding(-torch.inf))
    torch.testing.assert_close(compiled(*tensors), Hiding(5.0)(*tensors))
    with pytest.raises(ValueError, match="node 'softmax'.*not known to be beside higher numbers"):
        npu.compile(Hiding(-torch.inf), tensors, **options)


def test_buffers_that_are_masks_in_float16(tmp_path):
    seq = Dim("seq", min=2, max=100)
    options = {"dynamic_shapes": {"x": {1: seq}, "mask": {1: seq}}, "buckets": BUCKETS, "pad": {"mask": 0}}
    tensors = inputs(2, 5, torch.float32)
    compiled = npu.compile(Hiding(-1e4, -65000.0), tensors, **options, compute_dtype="float16")
    compiled.save(tmp_path / "hiding.npu")
    for module in (compiled, npu.load(tmp_path / "hiding.npu")):
        module.update_weights(Hiding(1e4, -65000.0))
        with pytest.raises(ValueError, match="new values of 'hidden' are too large for padding"):
            module.update_weights(Hiding(-1e5, -65000.0))
    with pytest.raises(ValueError, match="node 'softmax'"):
        npu.compile(Hiding(-1e5, -65000.0), tensors, **options, compute_dtype="float16")


def test_sizes_of_other_dimensions():
    rows = Dim("rows", min=1, max=40)
    model = lambda x, y: (x.relu(), y.reshape(-1, 2, 3) * x[:, None])  # noqa: E731
    module = npu.compile(
        _Calls(model), (torch.ones(4, 3), torch.ones(8, 3)), dynamic_shapes=(({0: rows}, {0: 2 * rows}),),
        buckets={"rows": [8, 32]}, fallback="error",
    )  # fmt: skip
    for n in (3, 8, 20):
        x, y = torch.randn(n, 3), torch.randn(2 * n, 3)
        for got, want in zip(module(x, y), model(x, y), strict=True):
            assert torch.equal(got, want)


class _Calls(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, *inputs):
        return self.function(*inputs)


def test_threads():
    model, compiled = pooling()
    cases = [inputs(2, seq) for seq in (3, 9, 12, 20, 5, 33)]
    wanted, wrong = [model(*tensors)["pooled"] for tensors in cases], []

    def call():
        for tensors, want in zip(cases, wanted, strict=True):
            if not torch.allclose(compiled(*tensors)["pooled"], want, atol=1e-5):
                wrong.append(tensors)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


WRONG_OPTIONS = {
    "no mapping": ({"buckets": [8, 16]}, "buckets has the wrong type"),
    "nothing": ({"buckets": {}}, "buckets has the wrong type"),
    "unknown size": ({"buckets": {"length": [8]}}, "unknown size 'length'.*expected open sizes: batch, seq"),
    "no list": ({"buckets": {"seq": 8}}, "buckets of 'seq' has the wrong type"),
    "text": ({"buckets": {"seq": "8"}}, "buckets of 'seq' has the wrong type"),
    "empty": ({"buckets": {"seq": []}}, "buckets of 'seq' is empty"),
    "no numbers": ({"buckets": {"seq": [8, 16.0]}}, "a bucket of 'seq' has the wrong type"),
    "no number": ({"buckets": {"seq": [True]}}, "a bucket of 'seq' has the wrong type"),
    "order": ({"buckets": {"seq": [16, 8]}}, "not in ascending order.*expected \\[8, 16\\]"),
    "twice": ({"buckets": {"seq": [8, 8]}}, "not in ascending order"),
    "out of range": ({"buckets": {"seq": [8, 101]}}, "out of its range; got 101; expected seq: 1 to 100"),
    "pad alone": ({"buckets": None, "pad": {"mask": 0}}, "pad is for padding to buckets.*try buckets="),
    "pad": ({"pad": [0]}, "pad has the wrong type"),
    "pad of nothing": ({"pad": {"y": 0}}, "an input that is not padded; got 'y'; expected one of 'x', 'mask'"),
    "pad of another dtype": ({"pad": {"mask": 0.5}}, "pad of 'mask' is not a number of its dtype; got 0.5"),
    "dtype": ({"compute_dtype": "float8"}, "compute_dtype.*float8"),
    "pad that is none": ({"pad": {"x": float("nan")}}, "pad of 'x'"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG_OPTIONS)
def test_wrong_options(name):
    options, words = WRONG_OPTIONS[name]
    with pytest.raises(ValueError, match=words):
        pooling(**options)


def test_buckets_of_fixed_sizes():
    with pytest.raises(ValueError, match="are for open sizes.*try dynamic_shapes"):
        pooling(dynamic_shapes=None)


def test_buckets_that_the_model_does_not_take():
    class Halving(nn.Module):
        def forward(self, x):
            return x.reshape(-1, 4, 3) + 1

    options = {"dynamic_shapes": {"x": {0: Dim.AUTO}}, "fallback": "error"}
    compiled = npu.compile(Halving(), torch.ones(8, 3), **options)
    name = compiled.ir.sizes[0].name
    with pytest.raises(ValueError, match="a size that the model does not take; got 6"):
        npu.compile(Halving(), torch.ones(8, 3), buckets={name: [6]}, **options)


def test_refusals_name_the_node():
    class Averaging(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 4), nn.AdaptiveAvgPool1d(4))

        def forward(self, x, mask):
            return self.inner(x).mean(1)

    with pytest.raises(
        ValueError, match=r"padding 'seq'.*node 'mean' \(aten.mean.dim.*averages over 'seq'.*try a mask"
    ):
        npu.compile(Averaging(), inputs(2, 5), dynamic_shapes=DIMS, buckets=BUCKETS)
    npu.compile(Averaging(), inputs(2, 5), dynamic_shapes=DIMS, buckets={"batch": [4]}, fallback="error")


EDITS = {
    "type": (lambda b: b.update(sizes=[]), "an object with sizes"),
    "unknown": (lambda b: b["sizes"].update(other=[3]), "unknown size"),
    "order": (lambda b: b["sizes"].update(seq=[9, 8]), "ascending"),
    "fill": (lambda b: b["fills"].update(mask="x"), "pad of 'mask'"),
    "need": (lambda b: b["needs"].update(seq={"mask": [1]}), "a need that is no number"),
    "need of another": (lambda b: b["needs"].update(seq={"y": 1}), "no dimension 'seq'"),
    "need of no size": (lambda b: b["needs"].update(batch=3), "no buckets"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_damaged_files(tmp_path, edit):
    attending(pad={"mask": 0}).save(tmp_path / "attending.npu")
    sections, manifest = parts((tmp_path / "attending.npu").read_bytes())
    change, words = EDITS[edit]
    change(manifest["sizes"]["buckets"])
    (tmp_path / "damaged.npu").write_bytes(joined(sections, json.dumps(manifest).encode()))
    with pytest.raises(npu.NPUError, match=words):
        npu.load(tmp_path / "damaged.npu")

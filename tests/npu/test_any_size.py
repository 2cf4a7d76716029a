"""Compiled models whose sizes are open: each size gives what the module gives."""

import dataclasses
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
from npu.kept import Kept
from npu.open_sizes import check_state
from npu.saving.model import open_model
from npu_base.errors import InvalidValueError
from torch import nn
from torch.export import Dim
from torch_ir import extract_ir

from tests.support.fuzz_saved import joined, parts

BATCH = Dim("batch", min=1, max=64)
LENGTH = Dim("length", min=1, max=32)


class Counting(nn.Module):
    def __init__(self, persistent=True):
        super().__init__()
        self.register_buffer("total", torch.full((3,), 5.0), persistent=persistent)
        self.register_buffer("last", torch.full((3,), 5.0), persistent=persistent)

    def forward(self, x):
        self.total.add_(x.sum(0))
        self.last.copy_(x[0])  # which nothing reads
        return x + self.total


class Structured(nn.Module):
    def forward(self, x, options, *, scale=None):
        return {"a": x * scale, "b": [x + options["shift"], x.shape[0]]}


def linear(**options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    options = {"dynamic_shapes": ({0: BATCH},), "fallback": "error", **options}
    return model, npu.compile(model, torch.zeros(4, 8), **options)


def test_every_size_is_right():
    torch.manual_seed(0)
    model = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True).eval().requires_grad_(False)
    dims = ({0: BATCH, 1: LENGTH},)
    compiled = npu.compile(model, torch.randn(4, 6, 16), dynamic_shapes=dims, fallback="error")
    for shape in ((4, 6), (1, 6), (1, 1), (64, 2), (3, 32), (4, 6)):
        x = torch.randn(*shape, 16)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    assert {"batch": 1, "length": 1} in compiled.sizes
    result = compiled(np.zeros((2, 3, 16), np.float32))
    assert isinstance(result, np.ndarray) and result.shape == (2, 3, 16)


class Masked(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def forward(self, x, hidden):
        x = self.layer(x, src_key_padding_mask=hidden)
        heads = x.unflatten(2, (2, 8)).transpose(1, 2)
        return nn.functional.scaled_dot_product_attention(heads, heads, heads, attn_mask=~hidden[:, None, None])


def test_masks_for_sizes_of_one(monkeypatch):
    monkeypatch.setattr(torch.backends.mha, "_is_fastpath_enabled", False)
    torch.manual_seed(0)
    model = Masked().eval().requires_grad_(False)
    example = (torch.randn(4, 6, 16), torch.zeros(4, 6, dtype=torch.bool))
    dims = ({0: BATCH, 1: LENGTH}, {0: BATCH, 1: LENGTH})
    compiled = npu.compile(model, example, dynamic_shapes=dims, fallback="error")
    for shape in ((4, 6), (1, 6), (5, 1), (1, 1), (2, 9)):
        x, hidden = torch.randn(*shape, 16), torch.rand(shape) > 0.6
        hidden[:, 0] = False
        torch.testing.assert_close(compiled(x, hidden), model(x, hidden), rtol=1e-4, atol=1e-5)


def test_structured_calls():
    example = (torch.zeros(4, 2), {"shift": torch.zeros(4, 1)})
    dims = {"x": {0: BATCH}, "options": {"shift": {0: BATCH}}, "scale": {0: BATCH}}
    compiled = npu.compile(Structured(), example, {"scale": torch.zeros(4, 2)}, dynamic_shapes=dims, fallback="error")
    x, shift, scale = torch.randn(3, 2), torch.randn(3, 1), torch.randn(3, 2)
    got = compiled(x, {"shift": shift}, scale=scale)
    assert torch.equal(got["a"], x * scale) and torch.equal(got["b"][0], x + shift)
    assert got["b"][1] == 3 and type(got["b"][1]) is int
    assert compiled(x.numpy(), {"shift": shift.numpy()}, scale=scale.numpy())["b"][1] == 3


class Measuring(nn.Module):
    def forward(self, x, y):
        return x.shape[0], {"half": y.shape[0] * 0.5, "sum": x.sum()}, x.numel() + 1


def test_results_that_are_sizes(tmp_path):
    rows = Dim("rows", min=2, max=50)
    example = (torch.zeros(4, 4), torch.zeros(8))
    compiled = npu.compile(Measuring(), example, dynamic_shapes=({0: rows}, {0: 2 * rows}), fallback="error")
    compiled.save(tmp_path / "measuring.npu")
    for module in (compiled, npu.load(tmp_path / "measuring.npu")):
        for n in (4, 7):
            got = module(torch.ones(n, 4), torch.ones(2 * n))
            assert got == (n, {"half": float(n), "sum": 4 * n}, 4 * n + 1)
            assert [type(v) for v in (got[0], got[1]["half"], got[2])] == [int, float, int]
    fixed = compiled.ir.specialize(rows=9).output_structure
    assert fixed["items"][0] == {"value": 9} and fixed["items"][2] == {"value": 37}


def test_a_forged_size_among_results(tmp_path):
    _, file = saved(tmp_path)
    sections, manifest = parts(file.read_bytes())
    for text, words in (("other", "an expression of other sizes"), ("batch +", "wrong expression"), (3, "other sizes")):
        structure = {"kind": "tuple", "items": [{"tensor": 0}, {"value": {"$size": text}}]}
        manifest["signature"]["output_structure"] = structure
        file.write_bytes(joined(sections, json.dumps(manifest).encode()))
        with pytest.raises(npu.NPUError, match=words):
            npu.load(file)
    npu.compile(nn.ReLU(), torch.zeros(4)).save(file)
    sections, manifest = parts(file.read_bytes())
    manifest["signature"]["output_structure"] = structure
    file.write_bytes(joined(sections, json.dumps(manifest).encode()))
    with pytest.raises(npu.NPUError, match="no size is open"):
        npu.load(file)


def test_a_size_is_compiled_once_and_the_oldest_goes():
    model, compiled = linear(max_sizes=2)
    assert compiled.sizes == [{"batch": 4}]
    compiled(torch.zeros(2, 8))
    program = compiled.program
    compiled(torch.zeros(4, 8))
    compiled(torch.zeros(2, 8))
    assert compiled.program is program and compiled.sizes == [{"batch": 4}, {"batch": 2}]
    compiled(torch.zeros(7, 8))
    assert compiled.sizes == [{"batch": 2}, {"batch": 7}]
    assert "batch=7" in compiled._repr_html_() and "[batch, 8]" in compiled._repr_html_()
    assert "batch: 1 to 64" in repr(compiled) and "compiled for batch=2, batch=7" in repr(compiled)
    x = torch.randn(4, 8)
    torch.testing.assert_close(compiled(x), model(x))


def test_all_sizes_have_the_same_weights():
    _, compiled = linear(max_sizes=4)
    compiled(torch.zeros(16, 8))
    weights, prepared = compiled.weights, compiled.weights.prepared_bytes
    for batch in (17, 33, 64):
        compiled(torch.zeros(batch, 8))
        assert compiled.weights is weights and compiled.weights.prepared_bytes == prepared


def test_integers_of_numpy():
    _, compiled = linear(max_sizes=np.int64(2))
    compiled.warm_up([{"batch": np.int32(8)}])
    assert compiled.sizes == [{"batch": 4}, {"batch": 8}]


def test_warm_up():
    _, compiled = linear()
    compiled.warm_up([{"batch": 1}, {"batch": 8}])
    assert compiled.sizes == [{"batch": 4}, {"batch": 1}, {"batch": 8}]
    with pytest.raises(ValueError, match="'batch' .*is 65, expected 1 to 64"):
        compiled.warm_up([{"batch": 65}])
    with pytest.raises(ValueError, match=r"missing \['batch'\]"):
        compiled.warm_up([{}])
    for wrong in ([8], 8):
        with pytest.raises(TypeError, match=r"sizes by name; got 8; expected \[\{'batch': 4\}\]"):
            compiled.warm_up(wrong)
    fixed = linear(dynamic_shapes=None)[1]
    assert fixed.sizes == []
    with pytest.raises(ValueError, match="fixed sizes.*dynamic_shapes"):
        fixed.warm_up([{"batch": 8}])


def test_sizes_that_are_refused():
    _, compiled = linear()
    with pytest.raises(ValueError, match=r"'batch' \(dimension 0 of 'input'\) is 65, expected 1 to 64"):
        compiled(torch.zeros(65, 8))
    with pytest.raises(ValueError, match=r"got shape \[4, 9\], expected \[4, 8\]"):
        compiled(torch.zeros(4, 9))
    with pytest.raises(ValueError, match=r"got shape \[4\], expected \[batch, 8\]"):
        compiled(torch.zeros(4))
    with pytest.raises(ValueError, match="float64, expected float32"):
        compiled(torch.zeros(4, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match="max_sizes has a wrong value; got 0"):
        linear(max_sizes=0)
    with pytest.raises(ValueError, match=r"max_sizes has a wrong value; got 2\.5; expected a whole number from 1"):
        linear(max_sizes=2.5)
    with pytest.raises(ValueError, match="max_sizes is for models with open sizes; got 3; try dynamic_shapes="):
        npu.compile(nn.Linear(2, 2), torch.ones(1, 2), device="cpu", max_sizes=3)
    assert compiled.sizes == [{"batch": 4}]


def test_without_dynamic_shapes_another_size_says_how_to_allow_it():
    _, compiled = linear(dynamic_shapes=None)
    words = r"got shape \[2, 8\], expected \[4, 8\].*dynamic_shapes=\{'input': \{0: torch.export.Dim\('batch'\)\}\}"
    with pytest.raises(ValueError, match=words):
        compiled(torch.zeros(2, 8))


@pytest.mark.parametrize("persistent", [True, False])
def test_state_goes_from_size_to_size(persistent):
    eager = Counting(persistent)
    compiled = npu.compile(
        Counting(persistent), torch.zeros(4, 3), dynamic_shapes=({0: BATCH},), fallback="error", max_sizes=2
    )
    for batch in (4, 2, 2, 7, 4, 1):
        x = torch.randn(batch, 3)
        torch.testing.assert_close(compiled(x), eager(x))
    compiled.reset()
    eager = Counting(persistent)
    for batch in (7, 4):
        x = torch.randn(batch, 3)
        torch.testing.assert_close(compiled(x), eager(x))


def test_state_whose_shape_is_open_is_refused():
    ir = extract_ir(Counting(), torch.zeros(4, 3), dynamic_shapes=({0: BATCH},))
    check_state(ir)
    ir.mutations[0].value.shape = (*ir.graph_inputs[0].shape,)
    with pytest.raises(ValueError, match=r"buffer 'total' .* got \[batch, 3\]; expected \[3\]"):
        check_state(ir)


def test_updated_weights_reach_all_sizes():
    compiled = linear()[1]
    compiled.warm_up([{"batch": 2}])
    other = nn.Sequential(nn.Linear(8, 4), nn.ReLU()).eval()
    compiled.update_weights(other.state_dict())
    for batch in (4, 2, 9):
        x = torch.randn(batch, 8)
        torch.testing.assert_close(compiled(x), other(x))


def test_threads_that_ask_for_one_size_compile_it_once(monkeypatch):
    _, compiled = linear()
    makers, original = [], compiled.runner._make

    def counted(*args):
        makers.append(threading.get_ident())
        return original(*args)

    monkeypatch.setattr(compiled.runner, "_make", counted)
    x, results, start = torch.randn(9, 8), [], threading.Barrier(8)

    def call():
        start.wait()
        results.append(compiled(x))

    threads = [threading.Thread(target=call) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(makers) == 1 and len(results) == 8
    assert all(torch.equal(result, results[0]) for result in results)


def test_a_model_that_runs_partly_on_the_host():
    class Sorting(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(8, 4)

        def forward(self, x):
            return torch.linalg.qr(self.linear(x)).Q.abs() + self.linear(x)

    model = Sorting().eval().requires_grad_(False)
    with pytest.warns(HostWarning, match="npu.explain") as warned:
        compiled = npu.compile(model, torch.randn(6, 8), dynamic_shapes=({0: Dim("batch", min=4, max=64)},))
    for batch in (6, 5, 9):
        x = torch.randn(batch, 8)
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)
    assert len(warned) == 1 and warned[0].filename == __file__
    assert compiled.sizes == [{"batch": 6}, {"batch": 5}, {"batch": 9}] and compiled.plan is not None


def saved(tmp_path, **options):
    model, compiled = linear(**options)
    compiled.warm_up([{"batch": 1}, {"batch": 8}])
    compiled.save(tmp_path / "sized.npu")
    return model, tmp_path / "sized.npu"


def test_a_loaded_model_keeps_all_sizes_of_its_file(tmp_path):
    _, file = saved(tmp_path)
    first = npu.load(file)
    wanted = first.sizes
    assert {"batch": 1} in wanted and {"batch": 8} in wanted and len(wanted) == 3
    assert all(f"batch={sizes['batch']}" in repr(first) for sizes in wanted)
    first.save(tmp_path / "again.npu")
    for loaded in (npu.load(tmp_path / "again.npu"), pickle.loads(pickle.dumps(first))):
        assert loaded.sizes == wanted
        before = [size.code for size in first.model.open.saved]
        assert [size.code for size in loaded.model.open.saved] == before
    first(torch.zeros(1, 8))
    assert first.sizes[-1] == {"batch": 1} and len(first.sizes) == 3


def test_saved_files_hold_sizes_and_make_others(tmp_path):
    model, file = saved(tmp_path, exact=True)
    for loaded in (npu.load(file), pickle.loads(pickle.dumps(npu.load(file)))):
        for batch in (8, 1, 4, 5, 64):
            x = torch.randn(batch, 8)
            torch.testing.assert_close(loaded(x), model(x))
        assert {"batch": 5} in loaded.sizes
        with pytest.raises(ValueError, match="'batch' .*is 65, expected 1 to 64"):
            loaded(torch.zeros(65, 8))
    loaded.save(tmp_path / "again.npu")
    again = npu.load(tmp_path / "again.npu")
    assert again.sizes == loaded.sizes and {"batch": 64} in again.sizes
    predictor = npu.Predictor(file)
    for batch in (1, 3):
        x = np.random.default_rng(0).random((batch, 8), np.float32)
        (result,) = predictor({"input": x}).values()
        np.testing.assert_allclose(result, model(torch.from_numpy(x)).detach().numpy(), rtol=1e-5)
    with pytest.raises(ValueError, match=r"\[3, 9\].*expected float32\[batch, 8\]"):
        predictor({"input": np.zeros((3, 9), np.float32)})


_ALONE = """
import sys, numpy, npu
loaded = npu.load(sys.argv[1], device="cpu")
for batch in (8, 1, 5):
    assert loaded(numpy.ones((batch, 8), numpy.float32)).shape == (batch, 4)
assert "torch" not in sys.modules
print(loaded.sizes)
"""


def test_a_loading_process_makes_sizes_without_pytorch(tmp_path):
    _, file = saved(tmp_path)
    done = subprocess.run([sys.executable, "-c", _ALONE, file], capture_output=True, text=True, check=False)
    assert done.stdout == "[{'batch': 4}, {'batch': 8}, {'batch': 1}, {'batch': 5}]\n", done.stderr


def test_sizes_of_one_that_are_not_in_the_file_are_checked(tmp_path):
    class Squeezing(nn.Module):
        def forward(self, x):
            return x.squeeze(0) * 2

    compiled = npu.compile(Squeezing(), torch.zeros(4, 3), dynamic_shapes=({0: BATCH},), fallback="error")
    compiled.save(tmp_path / "squeezing.npu")
    loaded = npu.load(tmp_path / "squeezing.npu")
    assert loaded(torch.ones(2, 3)).shape == (2, 3)
    with pytest.raises(ValueError, match="does not hold for batch=1"):
        loaded(torch.ones(1, 3))


def test_the_size_used_last_is_compared(tmp_path):
    _, file = saved(tmp_path)
    for source in (npu.load(file), file):
        comparison = npu.compare(source, "cpu", "cpu")
        assert comparison.agrees and comparison.rows[-1].shape == [8, 4]
    with pytest.raises(ValueError, match="open sizes, so no single program is all of it; got programs of 3 sizes"):
        open_model(file)


@pytest.mark.parametrize("persistent", [True, False])
def test_saved_state_starts_from_the_values_at_compilation(tmp_path, persistent):
    compiled = npu.compile(Counting(persistent), torch.zeros(4, 3), dynamic_shapes=({0: BATCH},), fallback="error")
    compiled(torch.ones(4, 3))
    compiled.save(tmp_path / "counting.npu")
    loaded, eager = npu.load(tmp_path / "counting.npu"), Counting(persistent)
    for batch in (4, 7, 4):
        x = torch.randn(batch, 3)
        torch.testing.assert_close(loaded(x), eager(x))


EDITS = {
    "no ranges": (lambda m: m["sizes"].pop("ranges"), "an object with ranges and conditions"),
    "a range": (lambda m: m["sizes"]["ranges"][0].update(min=9, max=2), "wrong range"),
    "a name": (lambda m: m["sizes"]["ranges"][0].update(name="min"), "without a name"),
    "another name": (lambda m: m["sizes"]["ranges"][0].update(name="other"), "an expression of other sizes"),
    "a condition": (lambda m: m["sizes"].update(conditions=["batch +"]), "wrong expression"),
    "a false condition": (lambda m: m["sizes"].update(conditions=["batch < 8"]), "not right for a program"),
    "options": (lambda m: m["sizes"]["options"].update(exact=3), "wrong options"),
    "max_sizes": (lambda m: m["sizes"].update(max_sizes=0), "max_sizes"),
    "a program's size": (lambda m: m["programs"][0].update(sizes={"batch": 99}), "not right for a program"),
    "another size": (lambda m: m["programs"][0].update(sizes={"batch": 3}), "has another input"),
    "twice": (lambda m: m["programs"][0].update(sizes={"batch": 8}), "two of one size"),
    "no size": (lambda m: m["programs"][0].pop("sizes"), "not given for a program"),
    "a shape": (lambda m: m["signature"]["inputs"][0].update(shape=["batch +", 8]), "shape' is not valid"),
    "no sizes": (lambda m: m.pop("sizes"), "shape' is not valid"),
}


@pytest.mark.parametrize("edit", EDITS)
def test_damaged_files(tmp_path, edit):
    sections, manifest = parts(saved(tmp_path)[1].read_bytes())
    change, words = EDITS[edit]
    change(manifest)
    (tmp_path / "damaged.npu").write_bytes(joined(sections, json.dumps(manifest).encode()))
    with pytest.raises(npu.NPUError, match=words):
        npu.load(tmp_path / "damaged.npu")


def test_a_forged_ir_is_damage_of_the_file(tmp_path):
    _, compiled = linear()
    ir = json.loads(compiled.model.ir())
    ir["nodes"][0]["outputs"] = []
    compiled.model = dataclasses.replace(compiled.model, ir=lambda: json.dumps(ir).encode())
    compiled.save(tmp_path / "forged.npu")
    with pytest.raises(InvalidValueError, match=r"section 'ir': the IR does not agree .*gives 1 results; expected 0"):
        npu.load(tmp_path / "forged.npu", "cpu")(torch.randn(7, 8))


def test_kept_values():
    kept: Kept[int] = Kept(2)
    calls = []

    def make(value):
        calls.append(value)
        return value

    assert kept.get("a") is None
    for key in "abab":
        assert kept.get_or_make(key, lambda key=key: make(key)) == key
    assert calls == ["a", "b"] and kept.values() == ["a", "b"]
    kept.get_or_make("c", lambda: make("c"))
    assert kept.values() == ["b", "c"] and kept.get("b") == "b" and kept.values() == ["c", "b"]

    def fail():
        raise ValueError("no")

    with pytest.raises(ValueError):
        kept.get_or_make("d", fail)
    assert kept.values() == ["c", "b"] and kept.get_or_make("d", lambda: make("d")) == "d"

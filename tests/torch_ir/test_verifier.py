"""Verification must pass what is equal and fail what is not."""

from __future__ import annotations

import copy
import math
import re

import npu
import pytest
import torch
from torch import nn
from torch_ir import IRVerifier, extract_ir, register_executor, verify_ir, verify_ir_with_state_dict
from torch_ir.compare import TOLERANCES, compare, relative_error
from torch_ir.eager import layers_as_written
from torch_ir.ops import clear_registry
from torch_ir.verifier import VerificationReport, _compare_tensors


@pytest.fixture(autouse=True)
def _clean_registry():
    yield
    clear_registry()


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(8, 16)
        self.act = nn.GELU()
        self.down = nn.Linear(16, 8)

    def forward(self, x):
        return self.down(self.act(self.up(x))) + x


class Two(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(Block(), Block())

    def forward(self, x):
        return self.blocks(x)


@pytest.fixture
def two():
    torch.manual_seed(0)
    model = Two().eval()
    return model, extract_ir(model, torch.randn(2, 8)), (torch.randn(2, 8),)


def test_printed_forms():
    assert str(VerificationReport(True, 0.0, 0.0, 1)) == (
        "Verification PASSED\n  Outputs compared: 1\n  Max difference: 0.00e+00\n  Mean difference: 0.00e+00"
    )
    assert str(VerificationReport(False, 2.0, 2.0, 1, [], "why")) == (
        "Verification FAILED\n  Error: why\n  Max difference: 2.00e+00\n  Mean difference: 2.00e+00"
    )


def test_pass_and_fail(two, tmp_path):
    model, ir, x = two
    ok, report = verify_ir_with_state_dict(ir, model.state_dict(), model, x)
    assert ok and report.is_valid and report.max_diff == 0.0 and report.num_outputs == 1
    assert report.output_details[0] == {
        "index": 0,
        "shape": [2, 8],
        "is_close": True,
        "max_diff": 0.0,
        "mean_diff": 0.0,
    }
    torch.save(model.state_dict(), tmp_path / "w.pt")
    assert verify_ir(ir, tmp_path / "w.pt", model, x)[0]
    assert IRVerifier().verify(ir, tmp_path / "w.pt", model, x)[0]
    assert IRVerifier().verify_with_state_dict(ir, model.state_dict(), model, x)[0]

    wrong = {k: v + 0.01 for k, v in model.state_dict().items()}
    ok, report = verify_ir_with_state_dict(ir, wrong, model, x)
    assert not ok and report.max_diff > 1e-3
    assert report.error_message == "Output tensors do not match within tolerance"


def test_never_raises(two, tmp_path):
    model, ir, x = two
    for ok, report in (
        verify_ir(ir, tmp_path / "missing.pt", model, x),
        verify_ir_with_state_dict(ir, {}, model, x),
        verify_ir_with_state_dict(ir, model.state_dict(), model, (torch.zeros(2, 9),)),
        verify_ir_with_state_dict(ir, model.state_dict(), model, ()),
    ):
        assert not ok
        assert report.error_message.startswith("Verification error: ")


def test_models_of_a_wrong_type(two):
    model, ir, x = two
    for wrong, words in ((3, "Expected a torch.nn.Module, got int"), (nn.Linear, r"make one of the class: Linear\(")):
        passed, report = verify_ir_with_state_dict(ir, model.state_dict(), wrong, x)
        assert not passed and re.search(words, report.error_message)


def test_output_count():
    class Pair(nn.Module):
        def forward(self, x):
            return x + 1, x + 2

    class One(nn.Module):
        def forward(self, x):
            return x + 1

    ir = extract_ir(One().eval(), torch.zeros(2))
    ok, report = verify_ir_with_state_dict(ir, {}, Pair().eval(), (torch.zeros(2),))
    assert not ok and report.error_message == "Output count mismatch: original=2, ir=1"


def test_training_mode_is_named():
    model = nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.9)).eval()
    ir = extract_ir(model, torch.randn(2, 4))
    ok, report = verify_ir_with_state_dict(ir, model.state_dict(), model.train(), (torch.randn(2, 4),))
    assert not ok and "model.eval()" in report.error_message


class Buffers(nn.Module):
    def __init__(self, step: float = 1.0) -> None:
        super().__init__()
        self.step = step
        self.register_buffer("count", torch.zeros(2))

    def forward(self, x):
        self.count.add_(self.step)
        return x * 2


def test_written_buffers_are_compared():
    model = Buffers().eval()
    ir = extract_ir(model, torch.zeros(2))
    sd = copy.deepcopy(model.state_dict())
    ok, report = verify_ir_with_state_dict(ir, sd, model, (torch.zeros(2),))
    assert ok and report.output_details[1]["written"] == "buffer 'count'"
    assert torch.equal(model.count, torch.zeros(2)), "verification must not change the model"
    ok, _ = verify_ir_with_state_dict(ir, sd, Buffers(step=2.0).eval(), (torch.zeros(2),))
    assert not ok

    ir.mutations.clear()
    ok, report = verify_ir_with_state_dict(ir, sd, model, (torch.zeros(2),))
    assert not ok and "writes buffer 'count'" in report.error_message


def test_written_parameters_are_compared_and_put_back():
    class Writes(nn.Module):
        def __init__(self, by: float = 1.0) -> None:
            super().__init__()
            self.by = by
            self.p = nn.Parameter(torch.ones(2), requires_grad=False)

        def forward(self, x):
            self.p.add_(self.by)
            return x * self.p

    model = Writes().eval()
    ir = extract_ir(model, torch.zeros(2))
    assert [(m.target, m.kind) for m in ir.mutations] == [("p", "parameter")]
    ok, report = verify_ir_with_state_dict(ir, model.state_dict(), model, (torch.zeros(2),))
    assert ok and report.output_details[1]["written"].endswith("'p'"), report
    assert torch.equal(model.p, torch.ones(2))
    assert not verify_ir_with_state_dict(ir, model.state_dict(), Writes(2.0).eval(), (torch.zeros(2),))[0]


def test_inputs_are_not_changed():
    class Writes(nn.Module):
        def forward(self, x):
            return x.add_(1)

    ir = extract_ir(Writes().eval(), torch.zeros(2))
    x = torch.zeros(2)
    assert verify_ir_with_state_dict(ir, {}, Writes().eval(), (x,))[0]
    assert torch.equal(x, torch.zeros(2))


def test_random_operators_draw_the_same_numbers():
    class Noise(nn.Module):
        def forward(self, x):
            return x + torch.rand_like(x)

    ir = extract_ir(Noise().eval(), torch.zeros(3))
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    ok, report = verify_ir_with_state_dict(ir, {}, Noise().eval(), (torch.zeros(3),), per_layer=True)
    assert ok and report.max_diff == 0.0 and all(r.is_close for r in report.layers)
    assert torch.equal(torch.rand(1), expected), "the caller's random numbers must not change"


def test_constants_beside_tensors_are_compared():
    class Returns(nn.Module):
        def __init__(self, n):
            super().__init__()
            self.n = n

        def forward(self, x):
            return {"x": x + 1, "n": self.n}

    ir = extract_ir(Returns(3).eval(), torch.zeros(2))
    assert verify_ir_with_state_dict(ir, {}, Returns(3).eval(), (torch.zeros(2),))[0]
    ok, report = verify_ir_with_state_dict(ir, {}, Returns(4).eval(), (torch.zeros(2),))
    assert not ok and "returns 4 where the IR was traced with 3" in report.error_message


class TestPerLayer:
    def test_equal(self, two, capsys):
        model, ir, x = two
        ok, report = verify_ir_with_state_dict(ir, model.state_dict(), model, x, per_layer=True)
        assert ok and report.first_divergence is None
        assert [r.node for r in report.layers] == [n.name for n in ir.nodes]
        assert all(r.is_close for r in report.layers)
        assert "All 8 compared nodes agree" in capsys.readouterr().out

    def test_wrong_operator_is_found(self, two, capsys):
        model, ir, x = two
        calls = []

        @register_executor("aten.gelu.default")
        def gelu(inputs, attrs):
            calls.append(1)
            return [torch.nn.functional.gelu(inputs[0]) + (0.5 if len(calls) % 2 == 0 else 0.0)]

        ok, report = verify_ir_with_state_dict(ir, model.state_dict(), model, x, per_layer=True)
        first = report.first_divergence
        assert not ok and first.node == "gelu_1" and first.module_path == "blocks.1.act"
        assert first.max_diff == pytest.approx(0.5, rel=1e-4) and first.relative_error > 0
        assert first.source.split(":")[0].endswith("test_verifier.py")
        out = capsys.readouterr().out
        assert "First departure: node 'gelu_1' in module 'blocks.1.act'" in out and "DEPARTS" in out

    def test_wrong_weight_is_found(self, two):
        model, ir, x = two
        sd = copy.deepcopy(model.state_dict())
        sd["blocks.1.up.bias"] += 1
        _, report = verify_ir_with_state_dict(ir, sd, model, x, per_layer=True)
        assert report.first_divergence.module_path == "blocks.1.up"

    def test_edited_attribute_is_found(self, two):
        model, ir, x = two
        ir.nodes[1].attrs["approximate"] = "tanh"
        _, report = verify_ir_with_state_dict(ir, model.state_dict(), model, x, per_layer=True)
        assert report.first_divergence.node == "gelu"

    def test_an_ir_of_other_names_is_found_by_modules(self, two):
        model, ir, x = two
        for node in ir.nodes:
            for meta in (*node.inputs, *node.outputs):
                if meta.producer_node not in (None, "x"):
                    meta.producer_node = "n_" + meta.producer_node
            node.name = "n_" + node.name
        assert all(
            r.is_close is None
            for r in verify_ir_with_state_dict(ir, model.state_dict(), model, x, per_layer=True)[1].layers
        )
        sd = copy.deepcopy(model.state_dict())
        sd["blocks.0.down.bias"] += 1
        _, report = verify_ir_with_state_dict(ir, sd, model, x, per_layer=True)
        assert report.first_divergence.module_path == "blocks.0.down"

    def test_regions_and_buffers(self):
        class Region(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(4, 4)
                self.register_buffer("n", torch.zeros(4))

            def forward(self, x):
                with torch.no_grad():
                    y = self.fc(x) * 2
                self.n.add_(1)
                return y + self.n

        model = Region().eval()
        ir = extract_ir(model, torch.randn(2, 4))
        ok, report = verify_ir_with_state_dict(
            ir, copy.deepcopy(model.state_dict()), model, (torch.randn(2, 4),), per_layer=True
        )
        assert ok and all(r.is_close for r in report.layers), report.layers
        assert torch.equal(model.n, torch.zeros(4))


class TestCompare:
    @pytest.mark.parametrize(("dtype", "tolerance"), TOLERANCES.items(), ids=str)
    def test_tolerance_follows_the_dtype(self, dtype, tolerance):
        a = torch.ones(4, dtype=dtype)
        assert compare(a, a).is_close
        assert compare(a * (1 + tolerance[0]), a).is_close
        assert not compare(a * (1 + 8 * tolerance[0]), a).is_close

    def test_integers_are_exact(self):
        a, b = torch.tensor([2**40]), torch.tensor([2**40 + 1])
        result = compare(a, b)
        assert not result.is_close and result.max_diff == 1.0
        extreme = compare(torch.tensor([-(2**63)]), torch.tensor([2**63 - 1]))
        assert not extreme.is_close and extreme.max_diff == pytest.approx(2.0**64)
        assert compare(torch.tensor([255], dtype=torch.uint8), torch.tensor([0], dtype=torch.uint8)).max_diff == 255
        assert not compare(torch.tensor([2**53]), torch.tensor([2**53 + 1])).is_close

    def test_bools(self):
        assert compare(torch.tensor([True, False]), torch.tensor([True, False])).is_close
        assert compare(torch.tensor([True, False]), torch.tensor([True, True])).mean_diff == 0.5

    def test_nan_and_infinity(self):
        nan, inf = math.nan, math.inf
        assert compare(torch.tensor([nan, inf, -inf]), torch.tensor([nan, inf, -inf])).is_close
        for a, b in (([nan], [1.0]), ([1.0], [nan]), ([inf], [1.0]), ([inf], [-inf]), ([3e38], [inf])):
            result = compare(torch.tensor(a), torch.tensor(b))
            assert not result.is_close and result.max_diff == inf, (a, b)

    def test_complex_keeps_its_imaginary_part(self):
        assert not compare(torch.tensor([1 + 1j]), torch.tensor([1 + 2j])).is_close
        assert compare(torch.tensor([1 + 1j]), torch.tensor([1 + 2j])).max_diff == 1.0

    def test_dtypes_are_compared(self):
        result = compare(torch.ones(2), torch.ones(2).double())
        assert not result.is_close and "dtype" in result.reason

    def test_shapes_and_empty(self):
        assert _compare_tensors(torch.ones(2), torch.ones(3), 1e-5, 1e-5) == (False, math.inf, math.inf)
        assert _compare_tensors(torch.ones(0, 3), torch.ones(0, 3), 1e-5, 1e-5) == (True, 0.0, 0.0)
        assert _compare_tensors(torch.ones(2), torch.ones(2) + 1e-3, 0.0, 1e-2)[0]

    def test_relative_error(self):
        assert relative_error(torch.ones(4), torch.ones(4)) == 0.0
        assert relative_error(torch.full((4,), 1.1), torch.ones(4)) == pytest.approx(0.1, rel=1e-3)
        assert relative_error(torch.ones(4), torch.zeros(4)) == math.inf


class Encoder(nn.Module):
    def __init__(self, **options):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, **options), 2)

    def forward(self, x, is_padding):
        return self.layers(x, src_key_padding_mask=is_padding)


class TestFastPath:
    """PyTorch's fused kernel for transformer encoders, which the IR is not compared with."""

    X = torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(1))
    PADDING = torch.tensor([[False, False, False, True, True], [False] * 5])

    def report(self, padding, **options):
        model = Encoder(**options).eval().requires_grad_(False)
        ir = extract_ir(model, (self.X, padding))
        passed, report = verify_ir_with_state_dict(ir, model.state_dict(), model, (self.X, padding))
        assert passed and report.max_diff < 1e-5
        return report

    def test_padded_rows_are_named(self):
        (note,) = self.report(self.PADDING).notes
        assert "without PyTorch's fused kernel" in note and "set_fastpath_enabled(False)" in note
        assert "differs from it: output 0 in 16 of 80 elements" in note
        assert "zeros: rows that a padding mask hides" in note
        assert f"  Note: {note}" in str(self.report(self.PADDING))

    def test_rounding_is_told_from_other_values(self):
        notes = self.report(torch.zeros(2, 5, dtype=torch.bool)).notes
        assert all("rounds differently" in note and "differs from it" not in note for note in notes)

    def test_nothing_is_said_where_nothing_differs(self, two):
        model, ir, x = two
        assert verify_ir_with_state_dict(ir, model.state_dict(), model, x)[1].notes == []
        with layers_as_written():  # as the caller has it, there is no kernel
            assert self.report(self.PADDING).notes == []

    def test_a_kernel_that_fails_does_not_fail_the_verification(self, monkeypatch):
        def fail(*_, **__):
            raise RuntimeError("no kernel")

        monkeypatch.setattr(torch, "_transformer_encoder_layer_fwd", fail)
        (note,) = self.report(self.PADDING).notes
        assert "does not run: RuntimeError: no kernel" in note

    def test_what_a_compiled_module_gives(self):
        model = Encoder().eval().requires_grad_(False)
        compiled = npu.compile(model, (self.X, self.PADDING), device="cpu")
        got, eager = compiled(self.X, self.PADDING), model(self.X, self.PADDING)
        with layers_as_written():
            torch.testing.assert_close(got, model(self.X, self.PADDING))
        torch.testing.assert_close(got[~self.PADDING], eager[~self.PADDING])
        assert not bool(eager[self.PADDING].any()) and bool((got[self.PADDING] != 0).all())

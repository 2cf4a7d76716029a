"""Buffers that no checkpoint holds, where the code does not tell them: three ways to give them."""

from __future__ import annotations

import re
import threading
import warnings

import npu_compiler
import pytest
import torch
from npu_runtime import Device, Executor, InvalidValueError, MissingWeightError, Program, load_weights
from torch import nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm, weight_norm
from torch_ir import ConversionError, ExportError, IRExecutor, extract_ir, meta_weights

THREE_WAYS = (r"torch_ir\.meta_weights\(\)", r"extract_ir\(\.\.\., buffers=model\)", r"load_weights\(model")


class Scaled(nn.Module):
    """``scale`` follows from an argument that nothing keeps."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.norm = nn.BatchNorm1d(4)
        self.register_buffer("scale", torch.full((4,), scale), persistent=False)

    def forward(self, x):
        return self.norm(self.linear(x)) * self.scale


X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


def on_meta(scale: float = 3.0) -> nn.Module:
    with torch.device("meta"):
        return Scaled(scale).eval()


def run(program, weights) -> torch.Tensor:
    outputs = Executor(program, Device("cpu")).run({program.input_specs[0].name: X}, weights)
    return torch.as_tensor(next(iter(outputs.values())).to_numpy())


def extract_without_scale():
    with pytest.warns(UserWarning, match="Skipping") as caught:
        ir = extract_ir(on_meta(), X)
    (warning,) = (str(w.message) for w in caught if "Skipping" in str(w.message))
    return ir, warning


def mentions_three_ways(text: str) -> bool:
    return all(re.search(way, text) for way in THREE_WAYS)


class TestMetaWeights:
    def test_parameters_are_on_meta_and_buffers_are_real(self):
        with meta_weights():
            model = Scaled(3.0).eval()
        assert all(p.is_meta for p in model.parameters())
        assert model.scale.tolist() == [3.0] * 4
        assert not any(b.is_meta for b in model.buffers())
        assert not Scaled(1.0).linear.weight.is_meta  # outside nothing has changed

    def test_such_a_model_is_extracted_with_its_buffers(self):
        with meta_weights():
            model = Scaled(3.0).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ir = extract_ir(model, X)
        real = Scaled(3.0).eval()
        program = npu_compiler.compile(ir)
        assert torch.allclose(run(program, load_weights(real.state_dict(), program)), real(X), atol=1e-6)

    def test_ties_stay_ties(self):
        class Tied(nn.Module):
            def __init__(self):
                super().__init__()
                shared = nn.Parameter(torch.ones(3))
                self.a, self.b = shared, shared
                self.c = self.a

        with meta_weights():
            model = Tied()
        assert model.a is model.b is model.c
        assert model.a.is_meta
        assert isinstance(model.a, nn.Parameter)

    def test_what_is_made_on_the_device_of_a_weight_is_real(self):
        class Mask(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(3, dtype=torch.float64), requires_grad=False)
                self.register_buffer("mask", torch.arange(3, device=self.weight.device), persistent=False)
                self.register_buffer("zeros", torch.zeros_like(self.weight), persistent=False)
                self.register_buffer("twos", self.weight.new_full((2,), 2.0), persistent=False)

        with meta_weights():
            model = Mask()
        assert model.mask.tolist() == [0, 1, 2]
        assert model.zeros.tolist() == [0, 0, 0]
        assert model.twos.tolist() == [2, 2]
        assert model.weight.is_meta
        assert not model.weight.requires_grad
        assert model.weight.dtype == torch.float64

    def test_a_constructor_may_run_its_layers_to_learn_a_shape(self):
        class Measures(nn.Module):
            def __init__(self):
                super().__init__()
                self.conv = nn.Conv2d(3, 5, 3, stride=2)
                self.norm = nn.BatchNorm2d(5).eval()
                self.head = nn.Linear(self.norm(self.conv(torch.zeros(1, 3, 9, 9))).flatten(1).shape[1], 2)

        with meta_weights():
            model = Measures()
        assert model.head.weight.shape == (2, 80)

    def test_a_buffer_made_from_weights_cannot_be_real(self):
        class Derived(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(3))
                self.register_buffer("twice", self.weight.detach() * 2, persistent=False)

            def forward(self, x):
                return x * self.twice

        with meta_weights():
            model = Derived().eval()
        assert model.twice.is_meta
        with pytest.warns(UserWarning, match=r"Skipping 1 .*'twice'"):
            extract_ir(model, torch.ones(3))

    def test_writing_weights_into_a_real_tensor_is_still_an_error(self):
        class Writes(nn.Module):
            def __init__(self):
                super().__init__()
                self.weight = nn.Parameter(torch.ones(3))
                self.register_buffer("kept", torch.zeros(3))
                with torch.no_grad():
                    self.kept.copy_(self.weight)

        with (
            pytest.raises(ExportError, match=r"from the values of a weight, .*at copy_.*build it under"),
            meta_weights(),
        ):
            Writes()

    def test_only_the_thread_that_entered(self):
        built = []
        with meta_weights():
            thread = threading.Thread(target=lambda: built.append(Scaled(1.0)))
            thread.start()
            thread.join()
        assert not built[0].linear.weight.is_meta

    def test_nested_and_left_by_an_error(self):
        with meta_weights(), meta_weights():
            assert Scaled(2.0).linear.weight.is_meta
        with pytest.raises(ZeroDivisionError), meta_weights():
            raise ZeroDivisionError
        assert not Scaled(2.0).linear.weight.is_meta

    def test_one_context_entered_again(self):
        context = meta_weights()
        for _ in range(2):
            with context:
                with context:
                    assert Scaled(2.0).linear.weight.is_meta
                assert Scaled(2.0).linear.weight.is_meta
            assert not Scaled(2.0).linear.weight.is_meta

    @pytest.mark.parametrize("wrap", [spectral_norm, orthogonal])
    def test_parametrizations_that_read_the_weight(self, wrap):
        with pytest.raises(ExportError, match=r"computes something from the values of a weight"), meta_weights():
            wrap(nn.Linear(4, 4))
        assert not nn.Linear(4, 4).weight.is_meta

    def test_parametrizations_that_do_not(self):
        with meta_weights():
            model = weight_norm(nn.Linear(4, 4)).eval()
        real = weight_norm(nn.Linear(4, 4)).eval()
        program = npu_compiler.compile(extract_ir(model, X))
        torch.testing.assert_close(run(program, load_weights(real.state_dict(), program)), real(X))

    def test_what_a_checkpoint_holds_needs_no_values(self):
        """What the error above advises."""
        real = spectral_norm(nn.Linear(4, 4)).eval()
        with torch.device("meta"):
            program = npu_compiler.compile(extract_ir(spectral_norm(nn.Linear(4, 4)).eval(), X))
        torch.testing.assert_close(run(program, load_weights(real.state_dict(), program)), real(X))

    def test_lazy_modules(self):
        with meta_weights():
            model = nn.Sequential(nn.LazyLinear(3), nn.ReLU())
        for given in (model, nn.LazyBatchNorm1d()):
            with pytest.raises(
                ExportError, match=r"has no shape yet.*; call the model once with a real batch"
            ) as caught:
                extract_ir(given.eval(), X)
            assert isinstance(caught.value, TypeError)
        model(X)
        program = npu_compiler.compile(extract_ir(model.eval(), X))
        torch.testing.assert_close(run(program, load_weights(model, program)), model(X))

    def test_inside_of_the_meta_device_it_is_refused(self):
        with pytest.raises(ExportError, match="default device"), torch.device("meta"), meta_weights():
            pass


class TestGivenBuffers:
    @pytest.mark.parametrize("form", [lambda m: m, lambda m: dict(m.named_buffers())], ids=["module", "dict"])
    def test_they_go_into_the_ir(self, form):
        real = Scaled(3.0).eval()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ir = extract_ir(on_meta(), X, buffers=form(real))
        assert list(ir.constants) == ["scale"]
        real.scale.zero_()
        assert ir.constants["scale"].tolist() == [3.0] * 4  # a copy

    def test_they_come_before_what_could_be_computed(self):
        class Plain(nn.Module):
            def __init__(self):
                super().__init__()
                self.register_buffer("table", torch.arange(3.0), persistent=False)

            def forward(self, x):
                return x + self.table

        with torch.device("meta"):
            model = Plain().eval()
        real = Plain()
        real.table.mul_(5)
        assert extract_ir(model, torch.ones(3), buffers=real).constants["table"].tolist() == [0, 5, 10]

    @pytest.mark.parametrize(
        ("buffers", "message"),
        [
            ({"scale": torch.ones(5)}, r"'scale' must be float32 \[4\]; got float32 \[5\]"),
            ({"scale": torch.ones(4).half()}, r"'scale' must be float32 \[4\]; got float16 \[4\]"),
            ({"scale": [1, 1, 1, 1]}, r"'scale' must be float32 \[4\]; got list"),
            ({"scale": torch.ones(4, device="meta")}, r"'scale' has no values, it is on meta"),
            ([torch.ones(4)], "expected a model with values or a dict of tensors by name, got list"),
        ],
    )
    def test_what_does_not_fit_is_an_error(self, buffers, message):
        with pytest.raises(ConversionError, match=message):
            extract_ir(on_meta(), X, buffers=buffers)

    def test_without_the_name_it_is_still_missing(self):
        with pytest.warns(UserWarning, match=r"Skipping 1 .*'scale'"):
            assert extract_ir(on_meta(), X, buffers={}).constants == {}

    def test_a_name_that_the_model_does_not_have(self):
        with pytest.raises(ConversionError, match=r"no buffer 'scalee'; it has .*scale"):
            extract_ir(on_meta(), X, buffers={"scalee": torch.ones(4)})


class TestLoadWeightsOfAModule:
    def test_its_buffers_are_taken(self):
        ir, _ = extract_without_scale()
        program = npu_compiler.compile(ir)
        real = Scaled(3.0).eval()
        assert torch.allclose(run(program, load_weights(real, program)), real(X), atol=1e-6)
        assert "scale" in load_weights(real)

    def test_a_module_on_meta_has_none(self):
        ir, _ = extract_without_scale()
        with pytest.raises(InvalidValueError, match=r"\d+ tensors of the module are on the meta device"):
            load_weights(on_meta(), npu_compiler.compile(ir))

    def test_another_module_lacks_names(self):
        ir, _ = extract_without_scale()
        with pytest.raises(MissingWeightError, match=r'missing weights: "linear.weight", "linear.bias"'):
            load_weights(nn.Linear(4, 4), npu_compiler.compile(ir))


class TestConstants:
    """What the program holds of a model is not what another one has."""

    def test_a_module_with_other_values_is_refused(self):
        program = npu_compiler.compile(extract_ir(Scaled(3.0).eval(), X))
        other = Scaled(2.0).eval()
        for given in (program, Program.parse(program.to_bytes())):
            with pytest.raises(
                InvalidValueError, match=r"'scale' differs from the constant in the program; got float32\[4\].*; try"
            ):
                load_weights(other, given)

    def test_a_module_with_the_same_values_is_taken(self):
        model = Scaled(float("nan")).eval()  # NaN is the value that it was
        program = npu_compiler.compile(extract_ir(model, X))
        assert "linear.weight" in load_weights(Scaled(float("nan")).eval(), program)
        assert "scale" not in load_weights(Scaled(2.0).state_dict(), program)  # a checkpoint has no such buffer

    def test_a_checkpoint_with_other_values_is_warned_of(self, tmp_path):
        program = npu_compiler.compile(extract_ir(Scaled(1.001).eval(), X))
        state = Scaled(1.001).state_dict()
        with pytest.warns(
            UserWarning, match=r"'scale' is not used: the program contains it as a constant with other"
        ) as seen:
            load_weights(state | {"scale": torch.full((4,), 2.0)}, program)
        assert seen[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            load_weights(state | {"scale": torch.full((4,), 1.001)}, program)
            load_weights(state | {"scale": torch.full((4,), 1.001).half()}, program)  # the same, in fewer bits

    def test_another_shape_is_refused_too(self):
        program = npu_compiler.compile(extract_ir(Scaled(3.0).eval(), X))
        other = Scaled(3.0).eval()
        other.scale = torch.full((1,), 3.0)
        with pytest.raises(InvalidValueError, match=r"'scale' differs from .*; got float32\[1\]"):
            load_weights(other, program)

    def test_a_constant_of_the_compiler_is_not_one_of_the_module(self):
        class Position(nn.Module):
            def __init__(self, start: int) -> None:
                super().__init__()
                self.arange = torch.full((4,), start)

            def forward(self, x):
                return x + torch.arange(4)

        program = npu_compiler.compile(extract_ir(Position(0), X))
        load_weights(Position(7), program)

    def test_a_path_is_a_program(self, tmp_path):
        model = Scaled(3.0).eval()
        program = npu_compiler.compile(extract_ir(model, X))
        path = tmp_path / "m.npubin"
        program.save(path)
        assert len(load_weights(model, path, Device("cpu"))) == len(load_weights(model, str(path)))
        with pytest.raises(
            InvalidValueError, match=r"m\.npubin is a compiled program, not weights; try load_weights\("
        ):
            load_weights(path, program)
        with pytest.raises(
            TypeError, match="weights cannot be loaded from this; got CompiledProgram; .*; try load_weights"
        ):
            load_weights(program, program)
        with pytest.raises(TypeError, match=r"not a program; got Device"):
            load_weights(model, Device("cpu"))


class TestMissing:
    def test_every_message_names_the_three_ways(self):
        ir, warning = extract_without_scale()
        assert mentions_three_ways(warning)
        state = Scaled(3.0).state_dict()
        with pytest.raises(Exception, match="'scale' not found in registry") as caught:
            IRExecutor(ir, state)(X)
        assert mentions_three_ways(str(caught.value))
        with pytest.raises(MissingWeightError, match='missing weights: "scale"') as caught:
            load_weights(state, npu_compiler.compile(ir))
        assert mentions_three_ways(str(caught.value))
        with pytest.raises(MissingWeightError, match='missing weights: "scale"') as caught:
            run(npu_compiler.compile(ir), load_weights(state))
        assert mentions_three_ways(str(caught.value))

    def test_a_missing_parameter_does_not_speak_of_buffers(self):
        ir = extract_ir(Scaled(3.0).eval(), X)
        state = {k: v for k, v in Scaled(3.0).state_dict().items() if k != "linear.bias"}
        with pytest.raises(MissingWeightError) as caught:
            load_weights(state, npu_compiler.compile(ir))
        assert "meta_weights" not in str(caught.value)

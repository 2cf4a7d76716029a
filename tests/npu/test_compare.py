"""``npu.compare``: devices agree step by step, for models of all kinds; its rule, and what it refuses."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import ml_dtypes
import npu
import npu_compiler
import numpy as np
import pytest
import torch
from npu.comparison import rule
from npu_compiler import CompiledProgram
from npu_runtime import Device, Executor, InvalidValueError, Weights
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, empty_caches, step_inputs, tiny_qwen2
from tests.support.compared import MODELS, Wrong, conv_net, ir_of, slightly
from tests.support.devices import metal_device


class Solve(nn.Module):
    """Its middle runs on the host."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.a(x))
        return self.b(torch.linalg.solve(torch.eye(4) * 3 + 0 * y, y)).softmax(-1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_devices_agree(name: str, dtype: torch.dtype) -> None:
    ir = ir_of(name, dtype)
    for other in (metal_device(), "pytorch"):
        report = npu.compare(ir, "cpu", other, spread=True)
        assert report.agrees and report.first is None, str(report)
        assert all(row.compared and row.spread is not None for row in report), str(report)
        assert all(row.kernels[0] and row.kernels[1] for row in report)


def test_a_step_runs_the_kernels_of_the_whole_plan() -> None:
    """Layouts and fusion are those of the program, and the first side's results are those of a run."""
    for name in MODELS:
        program = npu_compiler.compile(ir_of(name))
        device = metal_device()
        report = npu.compare(program, device, "cpu")
        plan = Executor(program, device).plan()
        kernels = [k for row in report for k in row.kernels[0].split(" ; ")]
        planned = [line.split("  ")[1] for line in plan.splitlines() if "  # " in line and "# layout of" not in line]
        assert sorted(kernels) == sorted(planned)
        executor = Executor(program, device)
        inputs = {s.name: a for s, a in zip(program.input_specs, random_like(program), strict=True)}
        report = npu.compare(program, device, "cpu", inputs=inputs)
        wanted = executor.run(inputs, Weights.random(program, 0))
        for output, array in report.outputs.items():
            assert np.array_equal(array, wanted[output].to_numpy()), f"{name}: {output}"


def random_like(program: CompiledProgram) -> list[Any]:
    random = np.random.default_rng(5)
    return [random.standard_normal(spec.shape).astype(spec.dtype) for spec in program.input_specs]


def test_fused_steps_are_one_step_with_all_their_ops() -> None:
    report = npu.compare(ir_of("block"), "cpu", metal_device())
    first = report[0]
    assert first.step == "layer_norm + linear" and first.ops == ["norm", "matmul"]
    assert first.nodes == ["layer_norm", "linear", "linear_1", "linear_2"]
    assert first.kernels[0].startswith("norm[layer] ; matmul") and first.kernels[1].startswith("norm[layer] + matmul")
    assert first.modules == ["norm", "q"] and len(first.sources) == 2 and all(":" in line for line in first.sources)


def decode_step(dtype: torch.dtype) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    model = tiny_qwen2(dtype)
    arguments = step_inputs(model, 5, 3, empty_caches(model, 32))
    names = ["logits", "key_0", "value_0", "key_1", "value_1"]
    ir = extract_ir(DecodeStep(model), arguments, output_names=names)
    random = torch.Generator().manual_seed(1)
    inputs = {
        t.name: torch.randn(x.shape, generator=random).to(dtype) if t.name.startswith("past") else x
        for t, x in zip(ir.graph_inputs, pytree.tree_leaves(arguments), strict=True)
    }
    return ir, inputs, {f"model.{name}": tensor for name, tensor in model.state_dict().items()}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_decode_step_of_a_language_model(dtype: torch.dtype) -> None:
    """Caches are inputs, and updated in place by steps that do more than that."""
    ir, inputs, weights = decode_step(dtype)
    for other in (metal_device(), "pytorch"):
        report = npu.compare(ir, "cpu", other, inputs=inputs, weights=weights, spread=True)
        assert report.agrees and not report.empty and all(row.compared for row in report), str(report)
    updates = [row for row in report if any("index_copy" in node for node in row.nodes)]
    assert len(updates) == 2 and all(row.ops == ["rope"] for row in updates)


def test_a_wrong_cache_update_is_found() -> None:
    ir, inputs, weights = decode_step(torch.float32)

    def cache_only(array: Any) -> Any:
        return slightly(array) if array.shape[2] == 32 else array

    report = npu.compare(ir, "cpu", Wrong("add_8", cache_only), inputs=inputs, weights=weights)
    assert [row.step for row in report.beyond] == ["add_8"] and report.beyond[0].tensor.startswith("index_copy")


def test_partitioned_models() -> None:
    """Parts on the host run once; the parts of the device are compared, and their numbers shown."""
    model, x = Solve().eval(), torch.randn(4, 4)
    ir = extract_ir(model, x, model_name="solve")
    inputs = {ir.graph_inputs[0].name: x}
    for subject in (ir, npu_compiler.partition(ir)):
        for other in (metal_device(), "pytorch"):
            report = npu.compare(subject, "cpu", other, inputs=inputs, weights=model.state_dict(), spread=True)
            assert report.agrees and [row.part for row in report] == [0, 0, 2, 2], str(report)
            torch.testing.assert_close(torch.from_numpy(report.outputs["softmax"]), model(x).detach())
    wrong = npu.compare(ir, "cpu", Wrong("softmax", slightly))
    assert wrong.first is not None and wrong.first.part == 2 and wrong.first.step == "softmax"


def test_what_npu_compile_returned_is_compared_with_its_own_weights() -> None:
    model = conv_net()
    x = torch.randn(1, 3, 16, 16)
    report = npu.compare(npu.compile(model, x), "cpu", "pytorch", inputs={"input": x})
    assert report.agrees
    torch.testing.assert_close(torch.from_numpy(next(iter(report.outputs.values()))), model(x).detach())


def test_exact_dtypes_and_special_values() -> None:
    class Special(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return (x * math.nan).exp(), x.to(torch.int32) * 3, x > 0, x[:0] * 2, x / 0

    ir = extract_ir(Special(), torch.randn(4, 3), model_name="special")
    for other in (metal_device(), "pytorch"):
        report = npu.compare(ir, "cpu", other)
        assert report.agrees and len(report.empty) == 2, str(report)
        assert "prove nothing" in str(report)

    def off_by_one(array: Any) -> Any:
        return array + array.dtype.type(1) if array.dtype.kind == "i" else ~array if array.dtype == bool else array

    op = {row.dtype: row.step for row in report}
    for dtype in ("int32", "bool"):
        wrong = npu.compare(ir, "cpu", Wrong(op[dtype], off_by_one))
        assert [row.step for row in wrong.beyond] == [op[dtype]] and "12 of 12 differ" in wrong.beyond[0].reason


class Pick(nn.Module):
    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return x.index_select(0, index) * 2


def test_an_index_out_of_range() -> None:
    ir = extract_ir(Pick(), (torch.randn(4, 3), torch.tensor([0, 1])), model_name="pick")
    for other in (metal_device(), "pytorch"):
        report = npu.compare(ir, "cpu", other, inputs={"index": np.array([0, 9])})
        assert not report.agrees and len(report) == 1 and "got 9; expected from 0 to 3" in report.stopped
        assert "Stopped: both sides refuse 'index_select'" in str(report)

    def refuse(array: Any) -> Any:
        raise InvalidValueError("[run] it cannot")

    report = npu.compare(ir, "cpu", Wrong("index_select", refuse))
    assert report.first is not None and report.first.reason == "cpu: it cannot" and not report.stopped
    assert len(report) == len(npu_compiler.compile(ir).data["main"])  # the others go on with the results there are


class Counter(nn.Module):
    """Writes a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("total", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.total.add_(x)
        return self.total * 2


class Several(nn.Module):
    def forward(self, x: Tensor) -> Any:
        values, indices = x.topk(3)
        left, right = x.split([2, 3], 1)
        return values, indices, left * right[:, :2], *x.max(1), x.sort(1)[0], x.argmax(1)


class Scatter(nn.Module):
    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        return x.index_add(0, index, x[:2]) * 1.5


class Same(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


ODD: dict[str, tuple[Any, tuple[Tensor, ...]]] = {
    "a buffer that is written": (Counter, (torch.ones(3),)),
    "several results": (Several, (torch.randn(4, 5),)),
    "an input returned": (Same, (torch.randn(3),)),
    "a node of many ops": (lambda: nn.LSTM(4, 5), (torch.randn(3, 2, 4),)),
    "no elements": (lambda: nn.Linear(3, 2), (torch.zeros(0, 3),)),
    "a scatter": (Scatter, (torch.randn(4, 3), torch.tensor([0, 0]))),
}


@pytest.mark.parametrize("case", ODD)
def test_odd_models(case: str) -> None:
    make, inputs = ODD[case]
    ir = extract_ir(make().eval(), inputs, model_name="odd")
    for other in (metal_device(), "pytorch"):
        report = npu.compare(ir, "cpu", other, spread=True)
        assert report.agrees and report[len(report) - 1].compared, str(report)
        unseen = [row for row in report if not row.compared]
        assert ("not compared" in report.summary()) == bool(unseen) == (other == "pytorch" and "many" in case)


LAYERS, WIDTH = 24, 1024


def test_memory_is_that_of_the_largest_steps(tmp_path: Path) -> None:
    """Counted, and as the process has it: 96 MiB of weights, 4 MiB each, which are folded into new ones."""

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale, self.linear = nn.Parameter(torch.empty(WIDTH)), nn.Linear(WIDTH, WIDTH)

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.linear(x, self.linear.weight * self.scale, self.linear.bias).relu()

    with torch.device("meta"):
        model = nn.Sequential(*(Layer() for _ in range(LAYERS)))
        ir = extract_ir(model, torch.zeros(1, WIDTH), model_name="deep")
    program = npu_compiler.compile(ir)
    assert len(program.data["prepare"]) >= LAYERS
    program.save(tmp_path / "deep.npubin")
    layer = 4 * WIDTH * WIDTH
    code = f"""
import resource, npu
npu.compare({str(ir_file(tmp_path))!r}, "cpu", "cpu")  # what any comparison takes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
report = npu.compare({str(tmp_path / "deep.npubin")!r}, "cpu", "cpu", threads=1, spread=True)
assert report.agrees, str(report)
print(report.peak_bytes, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    counted, resident = map(int, run.stdout.split())
    resident *= 1 if sys.platform == "darwin" else 1024
    assert layer <= counted <= 3 * layer
    assert resident <= 8 * layer < LAYERS * layer, f"{resident / layer:.1f} layers"


def ir_file(folder: Path) -> Path:
    path = folder / "small.json"
    ir_of("branches").save(path)
    return path


def test_random_weights_are_those_of_bench_whatever_their_order() -> None:
    program = npu_compiler.compile(ir_of("conv"))
    weights = Weights.random(program, 7)
    for spec in program.weight_specs:
        alone = Weights.random(program, 7, only=spec.name)
        assert alone.keys() == [spec.name]
        assert np.array_equal(alone[spec.name].to_numpy(), weights[spec.name].to_numpy())


def test_progress_names_each_step() -> None:
    seen: list[tuple[int, int, str]] = []
    report = npu.compare(ir_of("conv"), "cpu", "cpu", progress=lambda *step: seen.append(step))
    assert seen == [(n, len(report), row.step) for n, row in enumerate(report)]


def test_the_rule() -> None:
    assert rule.allowed(0, "float32") == 4 * 2.0**-23 and rule.allowed(1, "float32") == 1e-4
    assert rule.allowed(0.1, "bfloat16") == pytest.approx(0.15) and rule.allowed(0, "float16") == 2.0**-8
    a = np.array([1, 2, 3, 4], np.float32)
    figures = rule.measure(a + np.float32(0.5), a)
    assert figures.absolute == 0.5 and figures.relative == pytest.approx(1 / math.sqrt(30))
    assert figures.snr == pytest.approx(10 * math.log10(30))
    assert rule.measure(a, a).snr == math.inf
    assert "float64" in rule.measure(a.astype(np.float64), a).reason
    half = np.array([1, math.nan, math.inf], ml_dtypes.bfloat16)
    assert not rule.measure(half, half.copy()).reason
    assert rule.measure(np.array([], np.float32), np.array([], np.float32)) == rule.Figures()


WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a missing file": ({"model": "nowhere.npubin"}, "file not found: nowhere.npubin"),
    "no model": ({"model": 3}, "this cannot be compared; got int"),
    "one device": ({"other": None}, "two devices are needed"),
    "a device that is not here": ({"other": "tpu"}, "there is no such kind of device"),
    "a device on paper": ({"other": "metal:m4pro"}, "nothing runs on it"),
    "pytorch first": ({"device": "pytorch"}, "PyTorch can only be the second side"),
    "pytorch without the IR": ({"other": "pytorch"}, "needs the IR"),
    "another IR": ({"other": "pytorch", "ir": "branches"}, "so nothing was compared"),
    "an unknown input": ({"inputs": {"q": np.zeros(3)}}, "the model has no such input; got q; expected input"),
    "an input of another shape": (
        {"inputs": {"input": np.zeros(3, np.float32)}}, r"got float32\[3\]; expected float32\[1, 3, 16, 16\]"
    ),
    "an input of another dtype": ({"inputs": {"input": torch.zeros(1, 3, 16, 16).double()}}, "got float64"),
    "inputs without names": ({"inputs": [1]}, "inputs have the wrong type; got list"),
    "no file of inputs": ({"inputs": "nowhere.safetensors"}, "nowhere.safetensors"),
    "weights of another model": ({"weights": {"a": torch.zeros(3)}}, "missing weights"),
    "a step that is not there": (
        {"step": "linear_7", "save": "x.safetensors"}, "no such step; got 'linear_7'; expected conv2d"
    ),
    "a folder that is not there": ({"step": "linear", "save": "nowhere/x"}, "cannot write 'nowhere/x'"),
    "a negative seed": ({"seed": -1}, "the seed cannot be used; got -1; expected an integer from 0"),
    "a seed that is no integer": ({"seed": "a"}, "the seed cannot be used; got 'a'"),
    "threads": ({"threads": -1}, "number of threads is out of range"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_arguments(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    changes, message = WRONG[case]
    arguments = {"model": npu_compiler.compile(ir_of("conv")), "device": "cpu", "other": "cpu", **changes}
    if "ir" in arguments:
        arguments["ir"] = ir_of(arguments["ir"])
    with pytest.raises(npu.NPUError, match=message):
        npu.compare(arguments.pop("model"), arguments.pop("device"), arguments.pop("other"), **arguments)


def test_steps_refuse_what_does_not_fit() -> None:
    program = npu_compiler.compile(ir_of("conv"))
    steps = Executor(program, Device("cpu")).steps()
    x = np.zeros((1, 3, 16, 16), np.float32)
    with pytest.raises(InvalidValueError, match="there is no such step; got 99; expected from 0 to"):
        steps.run([99], {}, [])
    with pytest.raises(InvalidValueError, match='a tensor that a step reads is missing; got "input"'):
        steps.run([0], {}, [])
    with pytest.raises(InvalidValueError, match="does not fit; got float32"):
        steps.run([0], {0: x[0]}, [])
    with pytest.raises(InvalidValueError, match="there is no such value; got 999"):
        steps.run([0], {999: x}, [])
    with pytest.raises(InvalidValueError, match="the steps do not write this value; got 7"):
        steps.run([], {}, [7])
    with pytest.raises(TypeError, match="by the number of their value"):
        steps.run([0], {"x": x}, [])

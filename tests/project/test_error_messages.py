"""Everything that users can catch is one family, and the messages name the thing and the way on."""

from __future__ import annotations

import importlib
import inspect
import json
import pkgutil
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import npu
import npu_base.errors
import npu_compiler
import npu_runtime
import pytest
import torch
import torch_ir
from npu_runtime import Device, Executor
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence
from torch_ir.errors import ConversionError, ExportError
from torch_ir.visualize import modules_to_mermaid

from tests.models.zoo.language_models import causal

INTERNAL = {
    "Unsupported",
    "Refused",
    "Unproven",
    "Defect",
    "Malformed",
    "NeedsRetraceError",
    "UnknownError",
    "CommandError",
}  # caught where they are raised
PROMISED = {
    "NPUError": RuntimeError, "InvalidValueError": ValueError, "InvalidTypeError": TypeError,
    "MissingWeightError": KeyError, "MissingOutputError": KeyError, "CompileError": ValueError, "IRError": ValueError,
    "ProgramError": ValueError, "UnsupportedModelError": ValueError, "UnavailableError": RuntimeError,
    "FileError": OSError, "MissingFileError": FileNotFoundError, "FolderError": IsADirectoryError,
    "NotBuiltError": ImportError,
    "SerializationError": ValueError, "WeightLoadError": ValueError, "InvalidModelError": TypeError,
    "InvalidInputError": ValueError, "InvalidNameError": ValueError, "InvalidExampleError": ValueError,
}  # fmt: skip


def exception_classes() -> Iterator[type[BaseException]]:
    seen = set()
    for package in (npu_base, npu, npu_compiler, npu_runtime, torch_ir):
        for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if info.name.endswith("__main__"):
                continue
            for name, value in vars(importlib.import_module(info.name)).items():
                own = inspect.isclass(value) and value.__module__.startswith(("npu", "torch_ir"))
                if not own or not issubclass(value, BaseException) or issubclass(value, Warning):
                    continue
                if name not in INTERNAL and value not in seen:
                    seen.add(value)
                    yield value


def test_every_error_is_of_the_family() -> None:
    found = {kind.__name__: kind for kind in exception_classes()}
    assert len(found) > 20
    assert [name for name, kind in found.items() if not issubclass(kind, npu.NPUError)] == []
    assert {name for name, base in PROMISED.items() if not issubclass(found[name], base)} == set()
    assert npu.NPUError is npu_runtime.NPUError is npu_base.errors.NPUError


def test_the_base_package_needs_nothing() -> None:
    code = (
        "import sys; before = set(sys.modules); import npu_base.errors, npu_base.files; "
        "print([m for m in set(sys.modules) - before if m.split('.')[0] not in {*sys.stdlib_module_names, 'npu_base'}])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"


# -- what goes in ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def linear() -> nn.Module:
    return nn.Linear(8, 4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def compiled(linear: nn.Module) -> npu.CompiledModule:
    return npu.compile(linear, torch.ones(2, 8), device="cpu")


@pytest.fixture(scope="module")
def files(compiled: npu.CompiledModule, linear: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("errors")
    compiled.ir.save(folder / "m.json")
    compiled.program.save(folder / "m.npubin")
    save_file({k: v.double() for k, v in linear.state_dict().items()}, folder / "double.safetensors")
    return folder


INPUTS = {
    "shape": (lambda: torch.ones(3, 8), r"'input': got shape \[3, 8\], expected \[2, 8\]; .* compile or extract again"),
    "list": (lambda: [[1.0] * 8] * 2, r"Expected 1 inputs, got 0 .* input\); numbers .* no tensors: .*torch.tensor"),
    "array": (
        lambda: torch.ones(2, 8, dtype=torch.int32).numpy(),
        r"'input': got dtype int32, .*astype\(\"float32\"\)",
    ),
    "dtype": (lambda: torch.ones(2, 8).double(), r"'input': got dtype float64, expected float32; .*\.to\("),
}


@pytest.mark.parametrize("kind", INPUTS)
def test_inputs_that_do_not_fit(compiled: npu.CompiledModule, kind: str) -> None:
    given, words = INPUTS[kind]
    with pytest.raises(npu.NPUError, match=words) as caught:
        compiled(given())
    assert isinstance(caught.value, ValueError)


def test_a_device_by_its_name(compiled: npu.CompiledModule) -> None:
    with pytest.raises(TypeError, match=r"'device' has the wrong type; got 'cpu'; .*; try Device\('cpu'\)") as caught:
        Executor(compiled.program, "cpu")  # type: ignore[arg-type]
    assert isinstance(caught.value, npu.NPUError)
    with pytest.raises(npu_runtime.InvalidTypeError, match=r"got None; expected a Device; try Device\(\)"):
        Executor(compiled.program, None)  # type: ignore[arg-type]


def test_weights_in_float64(compiled: npu.CompiledModule, linear: nn.Module, files: Path) -> None:
    double = {k: v.double() for k, v in linear.state_dict().items()}
    with pytest.raises(npu.NPUError, match=r"tensor 'weight'; got torch.float64 .*; try \.float\(\)"):
        npu_runtime.load_weights(double, compiled.program)
    with pytest.raises(npu.NPUError, match=r"tensor 'weight'; got float64 .*; try \.astype\('float32'\)"):
        npu_runtime.load_weights({k: v.numpy() for k, v in double.items()}, compiled.program)
    with pytest.raises(npu.NPUError, match=r'"weight" \(which the file has as "F64"\).*; try model\.float\(\)'):
        npu_runtime.load_weights(files / "double.safetensors", compiled.program)
    with pytest.raises(
        npu.NPUError,
        match=r"'weight': expected torch.float32, got torch.float64(?s:.*)Convert them: tensor.to.torch.float32",
    ):
        torch_ir.IRExecutor(compiled.ir, double)(torch.ones(2, 8))
    with pytest.raises(npu.NPUError, match=r"'input' has the dtype float64; .* model\.float\(\)"):
        npu.compile(nn.Linear(8, 4).double(), torch.ones(2, 8).double(), fallback="error")


def test_a_program_where_an_ir_belongs(compiled: npu.CompiledModule, linear: nn.Module, files: Path) -> None:
    takers: list[Callable[[Any], Any]] = [npu_compiler.compile, npu_compiler.partition]
    for take in takers:
        with pytest.raises(npu.NPUError, match=r"got CompiledProgram; .* try npu_runtime.Executor\(program, Device"):
            take(compiled.program)
        with pytest.raises(npu.NPUError, match=r"m\.npubin is not an IR file; got a compiled program; .*Executor"):
            take(files / "m.npubin")
    with pytest.raises(npu.NPUError, match=r"m\.npubin' is a compiled program; run it with .*Executor or `npu run`"):
        torch_ir.load_ir(files / "m.npubin")
    with pytest.raises(npu.NPUError, match=r"got CompiledProgram; it is a compiled program, run it with"):
        torch_ir.IRExecutor(compiled.program, linear.state_dict())  # type: ignore[arg-type]
    passed, report = torch_ir.verify_ir_with_state_dict(
        compiled.program, linear.state_dict(), linear, torch.ones(2, 8)  # type: ignore[arg-type]
    )  # fmt: skip
    assert not passed and "it is a compiled program" in str(report.error_message)


def test_things_of_another_kind_where_an_ir_belongs(compiled: npu.CompiledModule, linear: nn.Module) -> None:
    takers: list[Callable[[Any], Any]] = [
        lambda given: torch_ir.save_ir(given, "never.json"), torch_ir.serialize_ir, torch_ir.ir_to_dict,
        torch_ir.ir_to_mermaid, modules_to_mermaid, torch_ir.generate_op_distribution_pie,
    ]  # fmt: skip
    kinds = {
        "it is a compiled program, run it with": compiled.program,
        "extract its IR first": linear,
        "make an IR of it: IR.from_dict": compiled.ir.to_dict(),
        "read a file with load_ir first": 3,
    }
    for take in takers:
        for words, given in kinds.items():
            with pytest.raises(npu.NPUError, match=f"Expected an IR, got {type(given).__name__}; {words}") as caught:
                take(given)
            assert isinstance(caught.value, TypeError)
    assert not Path("never.json").exists()


def test_what_is_not_a_path(compiled: npu.CompiledModule) -> None:
    program, ir = compiled.program, compiled.ir
    calls: list[Callable[[Any], Any]] = [
        npu_compiler.CompiledProgram.load, program.save, torch_ir.load_ir, ir.save,
        lambda path: torch_ir.save_ir(ir, path),
    ]  # fmt: skip
    for call in calls:
        for given in (None, 3, program):
            got = type(given).__name__
            with pytest.raises(TypeError, match=f"a path has the wrong type; got {got}; expected a string") as caught:
                call(given)
            assert isinstance(caught.value, npu.NPUError)
    with pytest.raises(TypeError, match="not the contents of a program; got str; expected bytes"):
        npu_compiler.CompiledProgram.from_bytes("x")  # type: ignore[arg-type]


def test_options_of_the_compiler(compiled: npu.CompiledModule, linear: nn.Module) -> None:
    for given in (3, None, [3]):
        for call in (
            lambda: npu_compiler.compile(compiled.ir, disable=given),  # noqa: B023
            lambda: npu.compile(linear, torch.ones(2, 8), disable=given),  # type: ignore[arg-type]  # noqa: B023
        ):
            with pytest.raises(npu.NPUError, match=r"disable=.*; expected the names of passes") as caught:
                call()
            assert isinstance(caught.value, TypeError)
    assert npu.compile(linear, torch.ones(2, 8), disable="fuse_maps", device="cpu")(torch.ones(2, 8)).shape == (2, 4)


def test_what_is_not_a_node(compiled: npu.CompiledModule) -> None:
    assert [npu_compiler.explain_support(node) for node in compiled.ir.nodes] == [None]
    for given, words in ((None, "got NoneType"), (3, "got int"), (compiled.ir, r"got IR; .*; try explain_ir")):
        with pytest.raises(TypeError, match=rf"not a node; {words}") as caught:
            npu_compiler.explain_support(given)  # type: ignore[arg-type]
        assert isinstance(caught.value, npu.NPUError)
    for wrong in ((3, None), ("aten.add.Tensor", 3)):
        with pytest.raises(TypeError, match="op_type or attrs has the wrong type; got"):
            npu_compiler.is_op_supported(*wrong)  # type: ignore[arg-type]


EXAMPLES = {
    "array": (torch.ones(2, 8).numpy(), None, r"a NumPy ndarray of float32\[2, 8\]; expected tensors; pass torch.as_t"),
    "nested array": ({"input": torch.ones(2, 8).numpy()}, None, "a NumPy ndarray of float32"),
    "list": ([[1.0] * 8], None, r"must be Tensor, not list; the example inputs hold numbers .*torch.tensor"),
    "number": (3, None, "hold numbers and no tensor"),
    "kwargs": (torch.ones(2, 8), [1], "example_kwargs: expected a dict of keyword arguments, got list"),
    "unknown": (torch.ones(2, 8), {"y": 1}, r"example_kwargs: Linear.forward\(.*\) .*has no 'y'"),
}


@pytest.mark.parametrize("kind", EXAMPLES)
def test_examples_that_are_no_tensors(kind: str, linear: nn.Module) -> None:
    example, kwargs, words = EXAMPLES[kind]
    with pytest.raises(ExportError, match=words) as caught:
        npu.compile(linear, example, kwargs)  # type: ignore[arg-type]
    assert len(str(caught.value)) < 250


def test_tolerances_that_are_none(compiled: npu.CompiledModule, linear: nn.Module) -> None:
    """Nothing would be close, and NaN compares as if nothing could differ."""
    state, x = linear.state_dict(), torch.ones(2, 8)
    for name, value in (("rtol", -1), ("atol", -1e-9), ("rtol", float("nan")), ("atol", "1")):
        passed, report = torch_ir.verify_ir_with_state_dict(compiled.ir, state, linear, x, **{name: value})
        assert not passed and f"{name}: expected a number of 0 or more" in str(report.error_message)
    assert torch_ir.verify_ir_with_state_dict(compiled.ir, state, linear, x, rtol=0, atol=1e-4)[0]


def test_a_power_of_bools() -> None:
    """Traced as int64, computed as bool, or not at all: neither may become the other in silence."""
    for power in (lambda x: x**True, lambda x: x**x):
        with pytest.raises(npu.NPUError, match=r"aten\.pow\..*a power of bools, .*; use x\.long\(\) \*\* y"):
            npu.compile(Call(power), X > 0, fallback="error")
    got = npu.compile(Call(lambda x: x.long() ** True), X > 0, device="cpu")(X > 0)
    assert got.tolist() == [0, 1, 1, 1]


def test_float64_on_the_way() -> None:
    def positions(x: Tensor) -> Tensor:
        return x + torch.arange(4, dtype=torch.float64).float()

    with pytest.raises(
        npu.NPUError, match=r"aten\.arange\.default, 1 times: dtype float64(?s:.*)create such tensors as float32"
    ):
        npu.compile(Call(positions), X, fallback="error")
    with pytest.raises(npu.NPUError) as caught:
        npu.compile(Call(lambda x: x.mode(0)), X, fallback="error")
    assert "float64" not in str(caught.value)


def test_a_dict_that_is_no_ir() -> None:
    for data in ({}, {"nodes": 1}, {"graph_inputs": [{}], "graph_outputs": [], "weights": [], "nodes": []}):
        with pytest.raises(npu.NPUError, match="missing key|must be a list"):
            torch_ir.IR.from_dict(data)


def test_an_ir_where_a_program_belongs(compiled: npu.CompiledModule, files: Path) -> None:
    for ir in (compiled.ir, compiled.ir.to_dict()):
        with pytest.raises(npu.NPUError, match=r"an IR is not a program yet; .*; try npu_compiler\.compile\(ir\)"):
            Executor(ir, Device("cpu"))
    with pytest.raises(npu.NPUError, match=r"m\.json: not a compiled program; got JSON, as in an IR; .*try npu_comp"):
        Executor(files / "m.json", Device("cpu"))
    with pytest.raises(npu.NPUError, match=r"m\.json is not a compiled program: .*; if it is an IR, compile it with"):
        npu_compiler.CompiledProgram.load(files / "m.json")
    for given, words in ((compiled.ir, "it is an IR already"), (nn.Linear, r"make one of the class: Linear\(")):
        with pytest.raises(TypeError, match=words):
            npu.compile(given, torch.ones(2, 8))  # type: ignore[arg-type]


def test_a_damaged_tokenizer(tmp_path: Path) -> None:
    causal("olmo").save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": [')
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    with pytest.raises(
        npu.NPUError, match=r"the tokenizer in .* cannot be loaded; got .*; try .*tokenizer=None"
    ) as found:
        npu.Generator.from_pretrained(tmp_path)
    assert len(str(found.value).splitlines()) == 1


# -- what cannot be traced -------------------------------------------------------------------------------------------


class Call(nn.Module):
    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Any:
        return self.function(*given)


X = torch.tensor([0.0, 3.0, 1.0, 3.0])
# A form without a fixed size, what the error says, and that form, which must compile.
DYNAMIC: dict[str, tuple[Callable[[Tensor], Any], str, Callable[[Tensor], Any]]] = {
    "nonzero": (torch.nonzero, "topk(n).indices", lambda x: (x > 0).int().topk(3).indices),
    "where": (lambda x: torch.where(x > 0)[0], "all three arguments", lambda x: torch.where(x > 0, x, 0)),
    "argwhere": (torch.argwhere, "topk(n).indices", lambda x: (x > 0).int().topk(3).indices),
    "mask": (lambda x: x[x > 0], "torch.where(mask, x, 0)", lambda x: torch.where(x > 0, x, 0)),
    "masked_select": (
        lambda x: torch.masked_select(x, x > 0), "torch.where(mask, x, 0)", lambda x: torch.where(x > 0, x, 0),
    ),
    "unique": (torch.unique, "torch.sort(x).values.diff() != 0", lambda x: torch.sort(x).values.diff() != 0),
    "unique_consecutive": (torch.unique_consecutive, "x.diff() != 0", lambda x: x.diff() != 0),
    "bincount": (
        lambda x: torch.bincount(x.long()), "(x[:, None] == torch.arange(bins)).sum(0)",
        lambda x: (x[:, None] == torch.arange(5)).sum(0),
    ),
    "repeat_interleave": (
        lambda x: x.repeat_interleave(x.long()), "x[indices]", lambda x: x[torch.tensor([1, 1, 1, 2])],
    ),
    "item": (lambda x: x * x[1].item(), "x[0] instead of x[0].item()", lambda x: x * x[1]),
}  # fmt: skip


@pytest.mark.parametrize("name", DYNAMIC)
def test_results_without_a_fixed_size(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    dynamic, advice, fixed = DYNAMIC[name]
    with pytest.raises(ConversionError, match=r"test_error_messages\.py:\d+") as caught:
        npu.compile(Call(dynamic), X)
    assert advice in str(caught.value)
    assert "".join(capfd.readouterr()) == ""
    got = npu.compile(Call(fixed), X, device="cpu")(X)
    assert torch.equal(got, fixed(X)) or torch.equal(got.sort().values, fixed(X).sort().values)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(3, 4)

    def forward(self, x: Any, lengths: Tensor | None = None) -> Tensor:
        packed = x if lengths is None else pack_padded_sequence(x, lengths)
        return self.lstm(packed)[1][0]


def test_packed_sequences(capfd: pytest.CaptureFixture[str]) -> None:
    x, lengths = torch.ones(5, 2, 3), torch.tensor([5, 3])
    inputs = [(x, lengths), pack_padded_sequence(x, lengths), (pack_padded_sequence(x, lengths),)]
    for given in inputs:
        with pytest.raises(ExportError, match=r"a packed sequence has .*; give the padded tensor to the module"):
            npu.compile(Recurrent().eval(), given)
    assert "".join(capfd.readouterr()) == ""


def test_ctc_loss_of_fixed_lengths() -> None:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        return nn.functional.ctc_loss(x.log_softmax(-1), y, (5, 5), (2, 2))  # type: ignore[arg-type]

    with pytest.raises(npu.NPUError, match=r"the module without it|extract the module"):
        npu.compile(Call(loss), (torch.ones(5, 2, 6), torch.ones(2, 2).long()))


def test_ctc_loss(capfd: pytest.CaptureFixture[str]) -> None:
    def loss(x: Tensor, y: Tensor) -> Tensor:
        lengths = torch.tensor([5, 5]), torch.tensor([2, 2])
        return nn.functional.ctc_loss(x.log_softmax(-1), y, *lengths)

    with pytest.raises(ExportError, match=r"the CTC loss takes .*; keep losses out of forward, and extract the module"):
        npu.compile(Call(loss), (torch.ones(5, 2, 6), torch.ones(2, 2).long()))
    assert "".join(capfd.readouterr()) == ""


def test_a_branch_on_contents_says_where(capfd: pytest.CaptureFixture[str]) -> None:
    def branch(x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x

    with pytest.raises(
        ExportError, match=r"use torch.where or torch.cond there. It was at .*test_error_messages\.py"
    ) as caught:
        npu.compile(Call(branch), X)
    assert len(str(caught.value).splitlines()) == 1 and len(str(caught.value)) < 600
    assert "".join(capfd.readouterr()) == ""


def test_generation_calls_transformers_as_it_wants_to_be_called() -> None:
    model = causal("qwen2")
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        npu.Generator.from_model(model, device="cpu", capacity=8, buckets=[1]).generate([1, 2], 1)
    assert [str(w.message) for w in seen if issubclass(w.category, FutureWarning)] == []

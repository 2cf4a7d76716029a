"""What the API reference shows of the public functions and classes: types of parameters, and docstrings."""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import npu
import npu_compiler
import npu_runtime
import pytest
import torch
import torch_ir

PACKAGES = ("npu", "npu_compiler", "npu_runtime", "torch_ir")
SAYS_NOTHING = {"Any", "object", "Any | None", "object | None", "Optional[Any]", inspect.Parameter.empty}


def public_functions() -> Iterator[tuple[str, Callable[..., Any]]]:
    """By name, with the methods of classes. The extension's own are in its stub; see below."""
    for package in PACKAGES:
        module = importlib.import_module(package)
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isfunction(value):
                yield f"{package}.{name}", value
            elif inspect.isclass(value) and value.__module__.partition(".")[0] in PACKAGES:
                for method, function in vars(value).items():
                    function = getattr(function, "__func__", function)
                    is_record = dataclasses.is_dataclass(value) and method == "__init__"
                    shown = not method.startswith("_") or (method == "__init__" and not is_record)
                    if shown and inspect.isfunction(function):
                        yield f"{package}.{name}.{method}", function


FUNCTIONS = dict(public_functions())


def test_there_are_many() -> None:
    assert len(FUNCTIONS) > 80 and {"npu.compile", "torch_ir.IRExecutor.execute"} <= set(FUNCTIONS)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_parameters_have_types(name: str) -> None:
    parameters = list(inspect.signature(FUNCTIONS[name]).parameters.values())
    if name.count(".") > 1 and parameters and parameters[0].name in ("self", "cls"):
        del parameters[0]
    variadic = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    vague = {p.name: p.annotation for p in parameters if p.kind not in variadic and p.annotation in SAYS_NOTHING}
    assert not vague, f"{name} does not say what it takes: {vague}"


def stub_functions() -> Iterator[tuple[str, ast.FunctionDef]]:
    """Of the extension, by name, with the methods of classes."""
    stub = Path(npu_runtime.__file__).with_name("_core.pyi").read_text(encoding="utf-8")
    for part in ast.parse(stub).body:
        if isinstance(part, ast.FunctionDef):
            yield part.name, part
        elif isinstance(part, ast.ClassDef):
            for method in part.body:
                if isinstance(method, ast.FunctionDef) and method.name not in GIVEN_BY_PYTHON:
                    yield f"{part.name}.{method.name}", method


GIVEN_BY_PYTHON = {"__contains__", "__dlpack__", "__getitem__"}  # what protocols of Python and DLPack pass
STUB_FUNCTIONS = dict(stub_functions())


@pytest.mark.parametrize("name", STUB_FUNCTIONS)
def test_parameters_of_the_extension_have_types(name: str) -> None:
    taken = STUB_FUNCTIONS[name].args
    parameters = [p for p in (*taken.posonlyargs, *taken.args, *taken.kwonlyargs) if p.arg != "self"]
    vague = [p.arg for p in parameters if p.annotation is None or ast.unparse(p.annotation) in SAYS_NOTHING]
    assert not vague, f"{name} does not say what it takes: {vague}"


def test_the_stub_has_many() -> None:
    assert len(STUB_FUNCTIONS) > 80 and {"Executor.run", "NPUBuffer.from_numpy"} <= set(STUB_FUNCTIONS)


RAISE_NOTHING = {
    "npu_compiler.get_supported_ops", "npu_compiler.is_extended", "npu_compiler.is_op_supported",
    "npu_runtime.get_num_threads", "torch_ir.get_model_name", "torch_ir.ir_to_mermaid", "torch_ir.list_registered_ops",
    "torch_ir.generate_op_distribution_pie", "torch_ir.meta_weights", "torch_ir.register_executor",
    "torch_ir.register_op", "torch_ir.verify_ir", "torch_ir.verify_ir_with_state_dict",
}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.count(".") == 1])
def test_functions_say_what_they_raise(name: str) -> None:
    text = inspect.getdoc(FUNCTIONS[name])
    assert text, f"{name} has no docstring"
    assert ("Raises:" in text) != (name in RAISE_NOTHING), name


MISTAKES: dict[str, Callable[[], Any]] = {
    "npu.compile CompileError": lambda: npu.compile(Digamma(), torch.ones(2), fallback="error"),
    "npu.compile TorchIRError": lambda: npu.compile(Counting(), torch.ones(2)),
    "npu.compile InvalidValueError": lambda: npu.compile(Digamma(), torch.ones(2), fallback="no"),
    "npu.compile UnavailableError": lambda: npu.compile(torch.nn.ReLU(), torch.ones(2), device="cuda:63"),
    "npu.load FileError": lambda: npu.load("no.npu"),
    "npu.load InvalidValueError": lambda: npu.load(__file__),
    "npu.compare InvalidValueError": lambda: npu.compare(torch_ir.extract_ir(torch.nn.ReLU(), torch.ones(2)), "cpu"),
    "npu.compare FileError": lambda: npu.compare("no.npubin", "cpu", "cpu"),
    "npu.explain FileError": lambda: npu.explain("no.json"),
    "npu.explain CompileError": lambda: npu.explain({"nodes": 3}),
    "npu.explain TorchIRError": lambda: npu.explain(torch.nn.ReLU()),
    "npu.quantize InvalidTypeError": lambda: npu.quantize(3),  # type: ignore[arg-type]
    "npu.quantize InvalidValueError": lambda: npu.quantize(torch.nn.Linear(64, 64), bits=9),
    "npu.open_checkpoint FileError": lambda: npu.open_checkpoint("no-folder"),
    "npu_compiler.compile FileError": lambda: npu_compiler.compile("no.json"),
    "npu_compiler.compile IRError": lambda: npu_compiler.compile({"nodes": 3}),
    "npu_compiler.explain_ir IRError": lambda: npu_compiler.explain_ir({"nodes": 3}),
    "npu_compiler.partition IRError": lambda: npu_compiler.partition({"nodes": 3}),
    "npu_compiler.partition InvalidValueError": lambda: npu_compiler.partition(digamma_ir(), strategy="no"),
    "npu_compiler.partition CompileError": lambda: npu_compiler.partition(digamma_ir(), strict=True),
    "npu_compiler.partition_ir InvalidTypeError": lambda: npu_compiler.partition_ir(3, 4),  # type: ignore[arg-type]
    "npu_compiler.register_pass InvalidValueError": lambda: npu_compiler.register_pass("cse", print),
    "npu_compiler.unregister_pass InvalidValueError": lambda: npu_compiler.unregister_pass("no"),
    "npu_runtime.load_weights InvalidValueError": lambda: npu_runtime.load_weights("no.safetensors"),
    "npu_runtime.set_num_threads InvalidValueError": lambda: npu_runtime.set_num_threads(0),
    "npu_runtime.load_weights MissingWeightError": lambda: npu_runtime.load_weights({}, linear_program()),
    "torch_ir.extract_ir ExportError": lambda: torch_ir.extract_ir(torch.nn.ReLU(), ()),
    "torch_ir.extract_ir ConversionError": lambda: torch_ir.extract_ir(torch.nn.ReLU(), torch.ones(2), model_name=3),  # type: ignore[arg-type]
    "torch_ir.load_ir FileError": lambda: torch_ir.load_ir("no.json"),
    "torch_ir.load_ir SerializationError": lambda: torch_ir.load_ir(__file__),
    "torch_ir.save_ir FileError": lambda: torch_ir.save_ir(digamma_ir(), "/proc/no/ir.json"),
    "torch_ir.deserialize_ir SerializationError": lambda: torch_ir.deserialize_ir("{"),
    "torch_ir.load_weights WeightLoadError": lambda: torch_ir.load_weights("no.pt"),
    "torch_ir.execute_ir ExecutionError": lambda: torch_ir.execute_ir(digamma_ir(), ()),
    "torch_ir.execute_ir WeightLoadError": lambda: torch_ir.execute_ir(
        digamma_ir(), torch.ones(2), weights_path="no.pt"
    ),
}


class Digamma(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.special.digamma(x)


class Counting(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x[x > 0]


def digamma_ir() -> torch_ir.IR:
    return torch_ir.extract_ir(Digamma(), torch.ones(2))


def linear_program() -> Any:
    return npu_compiler.compile(torch_ir.extract_ir(torch.nn.Linear(2, 2).eval(), torch.ones(1, 2)))


@pytest.mark.parametrize("mistake", MISTAKES)
def test_they_raise_what_they_say(mistake: str) -> None:
    name, error = mistake.split()
    assert re.search(rf"^ +{error}: ", inspect.getdoc(FUNCTIONS[name]) or "", re.MULTILINE), mistake
    with pytest.raises(npu.NPUError) as raised:
        MISTAKES[mistake]()
    assert error in {cls.__name__ for cls in type(raised.value).__mro__}, repr(raised.value)

"""Programs, IRs and runs of a command's SOURCE."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, Protocol

from npu_base.specs import TensorSpec

from npu.commands.arguments import refuse_for
from npu.commands.inputs import GivenInput, arrays_of, parse_inputs
from npu.commands.sources import ANY, Kind, Source, find_source

__all__ = ["Runnable", "ir_of", "open_program", "open_runnable"]

_Names = Sequence[tuple[str, str]]
_OF_MODELS = ("fallback", "random-weights")


class Runnable(Protocol):
    """What ``run`` and ``bench`` need of a model: it has its weights and inputs."""

    name: str
    device: Any
    threads: int

    def start(self) -> Callable[[], Any]:
        """A function that runs it once; calls share one session."""

    def results(self) -> list[tuple[str, Any]]:
        """The results of one run as NumPy arrays, by the user's names and in the user's order."""

    def profile(self, runs: int) -> Any:
        """A Profiler after these runs."""


class _OnDevice:
    """A program with its weights and inputs. ``names`` are the program's and the user's for each result."""

    def __init__(self, executor: Any, weights: Any, inputs: Mapping[str, Any], names: _Names) -> None:
        self.name, self.device, self.threads = executor.program.model_name, executor.device, executor.threads
        self._executor, self._weights, self._inputs, self._names = executor, weights, inputs, names

    def start(self) -> Callable[[], Any]:
        session = self._executor.session()
        session.run(self._inputs, self._weights)
        session.settle()
        return lambda: session.run(self._inputs, self._weights)

    def results(self) -> list[tuple[str, Any]]:
        outputs = self._executor.run(self._inputs, self._weights)
        return [(user, outputs[name].to_numpy()) for name, user in self._names]

    def profile(self, runs: int) -> Any:
        from npu_runtime import Profiler

        profiler = Profiler(self._executor)
        for _ in range(runs):
            profiler.run(self._inputs, self._weights)
        return profiler

    def __repr__(self) -> str:
        return repr(self._executor)


class _OfModule:
    """A compiled or loaded module that no single program is all of. ``inputs`` are in the order of its signature."""

    def __init__(self, module: Any, inputs: Sequence[Any], device: Any, threads: int) -> None:
        self.name, self.device, self.threads = module.model.name, device, threads
        self._module, self._inputs = module, tuple(inputs)

    def start(self) -> Callable[[], Any]:
        self._run()
        return self._run

    def _run(self) -> Any:
        return self._module.run_flat(self._inputs)

    def results(self) -> list[tuple[str, Any]]:
        return list(zip(self._module.output_names, self._run(), strict=True))

    def profile(self, runs: int) -> Any:
        return self._module.profile(*self._inputs)

    def __repr__(self) -> str:
        return repr(self._module)


def ir_of(source: Source, args: argparse.Namespace) -> Any:
    """The IR of a source that has one, or that is traced for it. No weights are read."""
    from npu.saving.model import ir_at

    if not source.needs_inputs:
        refuse_for(source, args, ("input",))
        return ir_at(source.file)
    import npu
    from npu.commands.models import open_model

    model = open_model(source, args, with_weights=False)
    with model.example.named_in_errors():
        return npu.extract(model.module, model.example.args, model.example.kwargs)


def open_program(args: argparse.Namespace) -> Any:
    """The program of any source, without weights; compiled now if it is an IR or a model."""
    source = find_source(args.source, ANY, args.command)
    if source.kind not in (Kind.PROGRAM, Kind.SAVED):
        return _compile(ir_of(source, args), args)
    from npu_runtime import Program

    from npu.saving.model import open_model

    refuse_for(source, args, ("input", "compute-dtype"))
    return Program.load(source.file) if source.kind == Kind.PROGRAM else open_model(source.file)[1]


def open_runnable(args: argparse.Namespace) -> Runnable:
    """Any source with weights and inputs, on the device of the arguments."""
    source = find_source(args.source, ANY, args.command)
    if source.needs_inputs:
        return _open_model(source, args)
    refuse_for(source, args, _OF_MODELS if source.kind == Kind.IR else (*_OF_MODELS, "compute-dtype"))
    given = parse_inputs(args.input)
    if source.kind == Kind.SAVED:
        return _open_saved(source, args, given)
    from npu_runtime import Device, Executor, Program, Weights, load_weights

    if source.kind == Kind.IR:
        from npu_compiler.reader import load_ir

        ir = load_ir(source.file)
        program, names = Program.load(_compile(ir, args)), _names_of(ir)
    else:
        program = Program.load(source.file)
        names = _names_in_program(program)
    device = Device(args.device)
    executor = Executor(program, device, threads=args.threads)
    if args.weights is not None:
        weights = load_weights(args.weights, program, device)
    else:
        weights = Weights.random(program, args.seed)
    return _OnDevice(executor, weights, arrays_of(given, program.inputs, args.seed), names)


def _open_saved(source: Source, args: argparse.Namespace, given: Sequence[GivenInput]) -> Runnable:
    from npu_runtime import Device, load_weights

    import npu

    device = Device(args.device)
    loaded: Any = npu.load(source.file, device, args.threads)
    executor = getattr(loaded, "executor", None)
    if executor is None or loaded.sizes:
        if args.weights is not None:
            loaded.update_weights(args.weights)
        # Of open sizes: those of the inputs, else the size that was used last.
        specs = loaded.signature.inputs if executor is None else executor.program.inputs
        arrays = arrays_of(given, [spec for spec in specs if not getattr(spec, "state", False)], args.seed)
        inputs = [arrays[entry.name] for entry in loaded.signature.inputs]
        return _OfModule(loaded, inputs, loaded.runner.device, args.threads)
    weights = loaded.weights
    if args.weights is not None:
        weights = load_weights(args.weights, executor.program, device)
    names = [(entry.name, entry.user_name) for entry in loaded.signature.outputs]
    return _OnDevice(executor, weights, arrays_of(given, executor.program.inputs, args.seed), names)


def _compile(ir: Any, args: argparse.Namespace) -> Any:
    import npu_compiler
    from torch_ir.progress import status

    with status(f"Compiling {args.source}"):
        return npu_compiler.compile(ir, compute_dtype=args.compute_dtype)


def _open_model(source: Source, args: argparse.Namespace) -> Runnable:
    from torch_ir.inputs import InputBinder
    from torch_ir.progress import status

    import npu
    from npu.commands.models import open_model

    device = npu.Device(args.device)
    model = open_model(source, args)
    example = model.example
    with status(f"Compiling {source.text}"), example.named_in_errors():
        compiled = npu.compile(
            model.module, example.args, example.kwargs, device=device, threads=args.threads,
            compute_dtype=args.compute_dtype, fallback=args.fallback or "host",
        )  # fmt: skip
    tensors = InputBinder(compiled.ir, strict=True).bind(example.args, example.kwargs)
    if getattr(compiled, "executor", None) is None:
        return _OfModule(compiled, tensors, device, args.threads)
    inputs = {meta.name: tensor for meta, tensor in zip(compiled.ir.graph_inputs, tensors, strict=True)}
    return _OnDevice(compiled.executor, compiled.weights, inputs, _names_of(compiled.ir))


def _names_of(ir: Any) -> _Names:
    """For each output of an IR, its name in the program and the user's name for it."""
    from npu.saving.signature import make_signature

    if isinstance(ir, Mapping):  # read without PyTorch
        outputs = [TensorSpec(str(meta["name"]), meta["shape"], meta["dtype"]) for meta in ir["graph_outputs"]]
        ir = SimpleNamespace(
            graph_inputs=[], graph_outputs=outputs, output_names=ir.get("output_names") or [],
            input_structure=None, output_structure=None,
        )  # fmt: skip
    return [(entry.name, entry.user_name) for entry in make_signature(ir).outputs]


def _names_in_program(program: Any) -> _Names:
    """Of all outputs but new states, which a session keeps. A name that two of them share is that of the first."""
    states = {i for i, spec in enumerate(program.inputs) if spec.state}
    names: list[tuple[str, str]] = []
    for spec in (spec for spec in program.outputs if spec.alias not in states):
        for user in spec.names or [spec.name]:
            names.append((spec.name, spec.name if any(user == other for _, other in names) else user))
    return names

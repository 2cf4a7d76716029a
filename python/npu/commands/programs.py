"""Programs, IRs and runs of a command's SOURCE."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from npu.commands.arguments import refuse_for
from npu.commands.inputs import arrays_of, parse_inputs
from npu.commands.sources import ANY, Kind, Source, find_source

__all__ = ["Runnable", "compile_ir_of", "ir_of", "open_module", "open_runnable"]

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

    def __init__(self, module: Any, inputs: Sequence[Any], threads: int) -> None:
        self.name, self.device, self.threads = module.model.name, module.runner.device, threads
        self._module, self._inputs = module, tuple(inputs)

    def start(self) -> Callable[[], Any]:
        self._run()
        return self._run

    def _run(self) -> Any:
        return self._module.run_flat(self._inputs)

    def results(self) -> list[tuple[str, Any]]:
        return list(zip(self._module.output_names, self._run(), strict=True))

    def profile(self, runs: int) -> Any:
        return self._module.runner.profile(self._inputs, runs)

    def __repr__(self) -> str:
        return repr(self._module)


def ir_of(source: Source, args: argparse.Namespace, open_inputs: Any = None) -> Any:
    """The IR of a source that has one, or that is traced for it. No weights are read. ``open_inputs`` are the inputs of
    a command that takes open sizes."""
    from npu.saving.model import ir_at

    if not source.needs_inputs:
        refuse_for(source, args, ("input",))
        return ir_at(source.file)
    import npu
    from npu.commands.models import open_model

    model = open_model(source, args, with_weights=False, open_inputs=open_inputs)
    example = model.example
    with example.named_in_errors():
        return npu.extract(model.module, example.args, example.kwargs, dynamic_shapes=model.dynamic_shapes)


def open_module(source: Source, args: argparse.Namespace) -> tuple[Any, list[Any]]:
    """A source with an IR as a compiled or loaded module, and inputs in the order of its signature."""
    if source.needs_inputs:
        return _compile_model(source, args)
    refuse_for(source, args, ("random-weights",) if source.kind == Kind.IR else (*_OF_MODELS, "compute-dtype"))
    given = parse_inputs(args.input)
    module = compile_ir_of(source, args) if source.kind == Kind.IR else _load(source, args)
    if args.weights is not None and source.kind == Kind.SAVED:
        module.update_weights(args.weights)
    arrays = arrays_of(given, _specs_of(module), args.seed)
    return module, [arrays[entry.name] for entry in module.signature.inputs]


def open_runnable(args: argparse.Namespace) -> Runnable:
    """Any source with weights and inputs, on the device of the arguments."""
    source = find_source(args.source, ANY, args.command)
    if source.needs_inputs:
        return _open_model(source, args)
    if source.kind == Kind.PROGRAM:
        return _open_program(source, args)
    refuse_for(source, args, ("random-weights",) if source.kind == Kind.IR else (*_OF_MODELS, "compute-dtype"))
    given = parse_inputs(args.input)
    module = compile_ir_of(source, args) if source.kind == Kind.IR else _load(source, args)
    executor = getattr(module, "executor", None)
    if executor is None or module.sizes:
        arrays = arrays_of(given, _specs_of(module), args.seed)
        return _OfModule(module, [arrays[entry.name] for entry in module.signature.inputs], args.threads)
    weights = module.weights
    if args.weights is not None and source.kind == Kind.SAVED:
        from npu_runtime import load_weights

        weights = load_weights(args.weights, executor.program, executor.device)
    names = [(entry.name, entry.user_name) for entry in module.signature.outputs]
    return _OnDevice(executor, weights, arrays_of(given, executor.program.inputs, args.seed), names)


def _open_program(source: Source, args: argparse.Namespace) -> Runnable:
    from npu_runtime import Device, Executor, Program, Weights, load_weights

    refuse_for(source, args, (*_OF_MODELS, "compute-dtype"))
    program = Program.load(source.file)
    executor = Executor(program, Device(args.device), threads=args.threads)
    if args.weights is not None:
        weights = load_weights(args.weights, program, executor.device)
    else:
        weights = Weights.random(program, args.seed)
    inputs = arrays_of(parse_inputs(args.input), program.inputs, args.seed)
    return _OnDevice(executor, weights, inputs, _names_in_program(program))


def compile_ir_of(source: Source, args: argparse.Namespace, **options: Any) -> Any:
    """The callable for an IR, with weights of a file, or random ones."""
    from npu_compiler.reader import load_ir
    from npu_runtime import Device
    from torch_ir.progress import status

    from npu.compiled_ir import compile_ir
    from npu.host_parts import say_so_on_the_command_line

    ir, device = load_ir(source.file), Device(args.device)
    with status(f"Compiling {args.source}"):
        return compile_ir(
            ir, source.file, device=device, threads=getattr(args, "threads", 0), weights=args.weights, seed=args.seed,
            fallback=args.fallback or "host", notice=lambda plan: say_so_on_the_command_line(plan, source.text),
            compute_dtype=args.compute_dtype, **options,
        )  # fmt: skip


def _load(source: Source, args: argparse.Namespace) -> Any:
    import npu

    loaded: Any = npu.load(source.file, args.device, args.threads)
    if args.weights is not None and (loaded.sizes or getattr(loaded, "executor", None) is None):
        loaded.update_weights(args.weights)
    return loaded


def _specs_of(module: Any) -> list[Any]:
    """The inputs of a module that no single program is all of; of open sizes, for the size that was used last."""
    entries = module.signature.inputs
    if module.model.open is None:
        return list(entries)
    from npu.saving.sizes import entries_of

    return list(entries_of(entries, module.model.open.rules, module.sizes[-1]))


def _compile_model(source: Source, args: argparse.Namespace) -> tuple[Any, list[Any]]:
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
    return compiled, InputBinder(compiled.ir, strict=True).bind(example.args, example.kwargs)


def _open_model(source: Source, args: argparse.Namespace) -> Runnable:
    compiled, tensors = _compile_model(source, args)
    if getattr(compiled, "executor", None) is None:
        return _OfModule(compiled, tensors, args.threads)
    inputs = {meta.name: tensor for meta, tensor in zip(compiled.ir.graph_inputs, tensors, strict=True)}
    names = [(entry.name, entry.user_name) for entry in compiled.signature.outputs]
    return _OnDevice(compiled.executor, compiled.weights, inputs, names)


def _names_in_program(program: Any) -> _Names:
    """Of all outputs but new states, which a session keeps. A name that two of them share is that of the first."""
    states = {i for i, spec in enumerate(program.inputs) if spec.state}
    names: list[tuple[str, str]] = []
    for spec in (spec for spec in program.outputs if spec.alias not in states):
        for user in spec.names or [spec.name]:
            names.append((spec.name, spec.name if any(user == other for _, other in names) else user))
    return names

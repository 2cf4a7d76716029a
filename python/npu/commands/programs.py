"""Programs, IRs and runs of a command's SOURCE."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from npu.commands.arguments import refuse_for
from npu.commands.inputs import arrays_of, parse_inputs
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

    def __init__(
        self, executor: Any, weights: Any, inputs: Mapping[str, Any], names: Sequence[tuple[str, str]]
    ) -> None:
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


class _PartlyOnHost:
    """A compiled module of which the host runs some nodes."""

    def __init__(self, compiled: Any, example: Any, device: Any, threads: int) -> None:
        self.name, self.device, self.threads = compiled.ir.model_name, device, threads
        self._compiled, self._example = compiled, example

    def start(self) -> Callable[[], Any]:
        self._call()
        return self._call

    def _call(self) -> Any:
        return self._compiled(*self._example.args, **self._example.kwargs)

    def results(self) -> list[tuple[str, Any]]:
        from npu_runtime.host import torch_to_numpy
        from torch.utils import _pytree as pytree
        from torch_ir.structure import leaf_entries

        ir = self._compiled.ir
        users = [user for _, user in _names_of(ir.to_dict())]
        entries = leaf_entries(ir.output_structure or {"tensor": 0})
        names = [users[entry["tensor"]] for entry in entries if "tensor" in entry]
        tensors = [leaf for leaf in pytree.tree_leaves(self._call()) if hasattr(leaf, "detach")]
        return [(name, torch_to_numpy(tensor)) for name, tensor in zip(names, tensors, strict=True)]

    def profile(self, runs: int) -> Any:
        return self._compiled.profile(*self._example.args, **self._example.kwargs)

    def __repr__(self) -> str:
        return repr(self._compiled)


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
    if source.kind in (Kind.PROGRAM, Kind.SAVED):
        refuse_for(source, args, ("input", "compute-dtype"))
        return _read_program(source)[0]
    return _compile(ir_of(source, args), args)


def open_runnable(args: argparse.Namespace) -> Runnable:
    """Any source with weights and inputs, on the device of the arguments."""
    source = find_source(args.source, ANY, args.command)
    if source.needs_inputs:
        return _open_model(source, args)
    refuse_for(source, args, _OF_MODELS if source.kind == Kind.IR else (*_OF_MODELS, "compute-dtype"))
    given = parse_inputs(args.input)
    weights, names = None, None
    if source.kind == Kind.IR:
        from npu_compiler.reader import load_ir

        ir = load_ir(source.file)
        program = _compile(ir, args)
        names = _names_of(ir)
    else:
        program, weights, names = _read_program(source)
    from npu_runtime import Device, Executor

    executor = Executor(program, Device(args.device), threads=args.threads)
    weights = _weights_of(args, executor, weights)
    inputs = arrays_of(given, executor.program.inputs, args.seed)
    return _OnDevice(executor, weights, inputs, names or _names_in(executor.program))


def _read_program(source: Source) -> tuple[Any, Any, Any]:
    """A program in a file; of a saved file also its weights, and the names of its outputs."""
    from npu_runtime import Program

    from npu.saving.model import open_model

    if source.kind == Kind.PROGRAM:
        return Program.load(source.file), None, None
    model, program = open_model(source.file)
    return program, model.weights, _distinct((entry.name, entry.user_name) for entry in model.signature.outputs)


def _compile(ir: Any, args: argparse.Namespace) -> Any:
    import npu_compiler
    from torch_ir.progress import status

    with status(f"Compiling {args.source}"):
        return npu_compiler.compile(ir, compute_dtype=args.compute_dtype)


def _weights_of(args: argparse.Namespace, executor: Any, saved: Any) -> Any:
    from npu_runtime import Weights, load_weights

    if args.weights is not None:
        return load_weights(args.weights, executor.program, executor.device)
    return saved if saved is not None else Weights.random(executor.program, args.seed)


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
    executor = getattr(compiled, "executor", None)
    if executor is None:
        return _PartlyOnHost(compiled, example, device, args.threads)
    names = [meta.name for meta in compiled.ir.graph_inputs]
    tensors = InputBinder(compiled.ir, strict=True).bind(example.args, example.kwargs)
    inputs = dict(zip(names, tensors, strict=True))
    return _OnDevice(executor, compiled.weights, inputs, _names_of(compiled.ir.to_dict()))


def _names_of(ir: Mapping[str, Any]) -> _Names:
    """For each output, its name in the program and the user's name for it."""
    names = [str(meta["name"]) for meta in ir["graph_outputs"]]
    users = [*(ir.get("output_names") or ()), *[None] * len(names)]
    return _distinct((name, user or name) for name, user in zip(names, users, strict=False))


def _names_in(program: Any) -> _Names:
    """Of all outputs but new states, which a session keeps."""
    states = {i for i, spec in enumerate(program.inputs) if spec.state}
    results = [spec for spec in program.outputs if spec.alias not in states]
    return _distinct((spec.name, user) for spec in results for user in spec.names or [spec.name])


def _distinct(names: Iterable[tuple[str, str]]) -> _Names:
    """As in a LoadedModule, a user's name that two outputs share is that of the first."""
    result: list[tuple[str, str]] = []
    for name, user in names:
        result.append((name, name if any(user == other for _, other in result) else user))
    return result

"""The callable that ``npu.compile`` returns, and ``npu.load`` from a saved file. PyTorch is used only if the caller has
imported it."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from npu_base.argument_types import AnyTensor
from npu_base.errors import InvalidTypeError, InvalidValueError, format_error
from npu_base.nesting import Make, rebuild, size_text
from npu_runtime import Device, Executor, Program, Weights
from npu_runtime.argument_types import WeightSource
from npu_runtime.device import AnyDevice, opening_name

from npu.notebook import as_html, readable_size
from npu.options import checked_flag, checked_threads, opened
from npu.runners import ProgramRunner, Runner, uses_torch
from npu.saving.container import Container
from npu.saving.model import Model, read_ir, read_model
from npu.saving.signature import Signature, sizes_returned
from npu.saving.structure import Classes, decode
from npu.saving.tensors import bytes_of
from npu.weight_updates import ModelWeights, checked_weights, new_weights

if TYPE_CHECKING:
    from npu_compiler import CompiledProgram, PartitionPlan
    from torch_ir import IR

__all__ = ["CompiledModule", "load", "unpickled"]


class CompiledModule:
    """A callable with the arguments and results of the module's ``forward``.

    Results are torch tensors if an argument is one, on the GPU if one is there, otherwise NumPy arrays. It has copies
    of the module's weights at the time of compilation and shares no memory with the module, which may be changed or
    freed. ``update_weights`` takes other values. Buffers that the module writes are kept in this object; ``reset()``
    restores their values of that time.

    ``signature`` says what it is called with. A model that the device runs as a whole has a ``program``, an
    ``executor`` and ``weights``; one that runs partly on the host has a ``plan``.
    """

    def __init__(
        self,
        model: Model,
        runner: Runner,
        make: Make,
        *,
        ir: IR | None = None,
        threads: int = 0,
        classes: Iterable[type] = (),
        traced: bool = False,
    ) -> None:
        """``make`` builds the containers of results. ``traced``: PyTorch is here, also for calls without tensors."""
        self.model, self.runner = model, runner
        self._ir, self._threads, self._classes, self._traced = ir, threads, tuple(classes), traced
        self._model_weights: ModelWeights | None = None
        self._arguments = runner.arguments(model.signature)
        self._names = [entry.name for entry in model.signature.inputs]
        self._tries_positional = self._arguments.is_positional and (traced or bool(self._names))
        self._is_named_in_order = tuple(self._names) == model.signature.parameters[: len(self._names)]
        self._structure, self._make = model.signature.output_structure, make
        self._returns_sizes = bool(sizes_returned(self._structure))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # Plain tensors and arrays on the host that fit are run at once; all else is checked first, in words.
        results = None
        if self._returns_sizes:
            return self._with_sizes(self._arguments.bind(args, kwargs))
        if not kwargs:
            if self._tries_positional:
                results = self.runner.try_tensors(args)
        elif len(args) + len(kwargs) == len(self._names) and (self._is_named_in_order or not args):
            results = self.runner.try_tensors((*args, *map(kwargs.get, self._names[len(args) :])))
        if results is None:
            results = self._run(self._arguments.bind(args, kwargs))
        return results if self._structure is None else rebuild(self._structure, results, decode, self._make)

    def _run(self, tensors: Sequence[Any]) -> Sequence[Any]:
        as_torch = uses_torch(tensors) if tensors else self._traced
        results = self.runner.try_tensors(tuple(tensors)) if as_torch else None  # of nested arguments
        return self.runner.run(tensors, as_torch) if results is None else results

    def _with_sizes(self, tensors: Sequence[Any]) -> Any:
        """Of a model whose results have numbers that depend on the sizes of its inputs."""
        assert self.model.open is not None
        rules = self.model.open.rules
        sizes = rules.sizes_of([tuple(t.shape) for t in tensors])

        def value(constant: Any) -> Any:
            text = size_text(constant)
            return decode(constant) if text is None else rules.value(text, sizes)

        return rebuild(self._structure, self._run(tensors), value, self._make)

    def run_flat(self, arrays: Sequence[AnyTensor]) -> Sequence[Any]:
        """Run on arrays in the order of the signature; results as NumPy arrays, in the order of the signature."""
        results = None if uses_torch(arrays) else self.runner.try_tensors(tuple(arrays))
        return self.runner.run(arrays, False) if results is None else results

    @property
    def signature(self) -> Signature:
        return self.model.signature

    @property
    def output_names(self) -> list[str]:
        """The user's names of the results, in the order of the signature."""
        return [entry.user_name for entry in self.model.signature.outputs]

    @property
    def has_state(self) -> bool:
        return self.runner.has_state

    @property
    def ir(self) -> IR:
        """The IR that was compiled. Reading it from a saved file imports PyTorch."""
        if self._ir is None:
            from torch_ir import IR

            self._ir = IR.from_dict(read_ir(self.model, self.model.name))
        return self._ir

    @property
    def program(self) -> CompiledProgram | Program:
        return self.runner.program

    @property
    def executor(self) -> Executor:
        return self.runner.executor

    @property
    def weights(self) -> Weights:
        return self.runner.weights

    @property
    def plan(self) -> PartitionPlan:
        """What runs where, of a model that runs partly on the host."""
        return self.runner.plan

    def profile(self, *args: Any, **kwargs: Any) -> Any:
        """Profile one run, on the device and on the host; print the result with ``.print_summary()``."""
        return self.runner.profile(self._arguments.bind(args, kwargs))

    def reset(self) -> None:
        """Give the buffers that the model writes the values that they started with."""
        self.runner.reset()

    def update_weights(self, weights: WeightSource) -> None:
        """Use other values, from a state dict (of torch tensors or NumPy arrays), a module, or a file of weights.

        All of them are used, or none: names, shapes and dtypes must be those of the module that was compiled. A call in
        another thread reads only old or only new ones. Buffers that the model writes start again from the new values.
        The tensors are copied, so the caller may write or free them.
        """
        if self._model_weights is None:
            ir = self._ir if self._ir is not None else read_ir(self.model, self.model.name)
            self._model_weights = ModelWeights.of(ir)
        given = new_weights(weights)
        self.runner.update(checked_weights(given, self.runner.weights_read(), self._model_weights))

    @property
    def sizes(self) -> list[dict[str, int]]:
        """The open sizes that it has programs for, also in the file it was loaded from, in the order of their last use.
        Empty for fixed sizes."""
        return self.runner.sizes

    def warm_up(self, sizes: Iterable[Mapping[str, int]]) -> None:
        """Make the programs of these sizes now: ``warm_up([{"batch": 1}, {"batch": 8}])``."""
        self.runner.warm_up(sizes)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write one file with the program, the weights and the signature, for ``npu.load`` on any device.

        Buffers that the module writes are saved with their values at the time of compilation. If saving fails, an
        existing file is left unchanged.
        """
        self.as_saved().save(path)

    def as_saved(self) -> Model:
        """What ``save`` writes."""
        model = replace(self.model, weights=self.runner.stored())
        if model.open is None:
            return model
        return replace(model, open=replace(model.open, saved=self.runner.saved_sizes()))

    def __reduce__(self) -> tuple[Any, ...]:
        return unpickled, (self.as_saved().to_bytes(), opening_name(self.runner.device), self._threads, self._classes)

    def _repr_html_(self) -> str:
        device = self.runner.device
        size = readable_size(sum(map(bytes_of, self.runner.stored().values())))
        facts = {"Device": f"{device.kind} ({device.name})", "Steps": self.runner.steps(), "Weights": size}
        signature = self.signature
        return as_html(
            self.model.name, signature.inputs, signature.outputs, {**facts, "On the host": self.runner.on_host()}
        )

    def __repr__(self) -> str:
        return f"CompiledModule({self.model.name!r}, {self.runner!r})"


def load(
    path: str | os.PathLike[str],
    device: AnyDevice | None = None,
    threads: int = 0,
    classes: Iterable[type] = (),
    *,
    verify: bool = False,
) -> CompiledModule:
    """Load a model that ``compiled.save`` wrote, for ``device`` (by default the best one available).

    The file is mapped: weights are read when they are used, and devices that can read them in the file make no copy.
    The checksums of all sections but the weights are always verified; ``verify`` also reads and verifies the weights.

    Named tuples and dataclasses among the results are rebuilt if their class is among ``classes`` or imported already.
    Nothing is imported because a file names it; without the class, they are other named tuples, and dicts.

    Raises:
        FileError: the file cannot be read.
        InvalidValueError: it is no saved file, is damaged, or was written by a newer version.
        UnavailableError: ``device`` is not on this machine.
    """
    if not isinstance(path, str | os.PathLike):
        got, expected = type(path).__name__, "the path of a file that compiled.save wrote"
        raise InvalidTypeError(format_error("saved", "a path has the wrong type", got=got, expected=expected))
    if not os.fspath(path):
        what, expected = "the path of a saved file is empty", "the path of a file that compiled.save wrote"
        raise InvalidValueError(format_error("saved", what, got="''", expected=expected))
    threads, verify, target = checked_threads(threads), checked_flag("verify", verify), opened(device)
    return _load(Container.open(path), target, threads, classes, verify)


def _load(container: Container, target: Device, threads: int, classes: Iterable[type], verify: bool) -> CompiledModule:
    model, program = read_model(container, verify=verify)
    known = Classes(classes, model.signature.output_structure)
    if program is not None:
        runner: Runner = ProgramRunner(Executor(program, target, threads=threads), model.weights, model.signature)
    elif model.open is not None:
        from npu.loaded_sizes import loaded_runner

        runner = loaded_runner(model, target, threads)
    else:
        runner = partitioned_runner(model, target, threads)
    return CompiledModule(model, runner, known.make, threads=threads, classes=known.given)


def partitioned_runner(model: Model, device: Device, threads: int) -> Runner:
    from npu.partitioned import PartitionRunner

    assert model.parts is not None
    plan, program_of = model.parts.plan, model.parts.program_of
    return PartitionRunner(plan, model.weights, model.signature, device, threads, program_of)


def unpickled(data: bytes, device: str, threads: int, classes: Iterable[type] = ()) -> CompiledModule:
    """A pickle of a module has the bytes of its file, and names the device that it was on."""
    return _load(Container.from_bytes(data), opened(device), threads, classes, True)

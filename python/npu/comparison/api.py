"""``npu.compare``."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import npu_compiler
from npu_base.argument_types import AnyTensor, IRSource
from npu_base.files import PROGRAM_MAGIC, as_path, read_file
from npu_base.specs import TensorSpec
from npu_compiler import CompiledProgram, CompileError, IRError, PartitionPlan
from npu_compiler.errors import InternalCompileError
from npu_compiler.reader import load_ir
from npu_runtime import Device, Weights, load_weights
from npu_runtime.argument_types import AnyProgram
from npu_runtime.argument_types import WeightSource as AnyWeights
from npu_runtime.device import AnyDevice
from npu_runtime.errors import InvalidTypeError, InvalidValueError, format_error

from npu.comparison.groups import Group
from npu.comparison.inputs import check_inputs, check_seed
from npu.comparison.partitions import compare_parts
from npu.comparison.prepared import LoadedWeights, RandomWeights
from npu.comparison.pytorch import TorchProgram, TorchSide
from npu.comparison.report import Comparison
from npu.comparison.rows import Row
from npu.comparison.saved import SavedStep, check_name, is_saved_step
from npu.comparison.sides import DeviceSide, Side, WeightSource
from npu.comparison.walk import Options, Progress, Results, Walk
from npu.compiled_module import CompiledModule
from npu.random_tensors import random_inputs, random_weights
from npu.saving.container import is_saved
from npu.saving.contents import Contents
from npu.saving.model import read_model

__all__ = ["compare"]

PYTORCH = "pytorch"

Model: TypeAlias = "AnyProgram | IRSource | PartitionPlan | CompiledModule"
"""What can be compared: a model in one of its forms, or the path of one, or of a saved step."""


def compare(
    model: Model,
    device: AnyDevice | Side | None = None,
    other: AnyDevice | Side | None = None,
    *,
    inputs: Mapping[str, AnyTensor] | str | os.PathLike[str] | None = None,
    weights: AnyWeights | None = None,
    ir: IRSource | None = None,
    seed: int = 0,
    threads: int = 0,
    spread: bool = False,
    step: str | None = None,
    save: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
) -> Comparison:
    """Run a model on two devices step by step, each step on the same operands, and report where they part.

    ``model`` is a program, an IR or a partition plan, the path of a program or of an IR, what ``npu.compile`` or
    ``npu.load`` returned, or the path of a saved file or step. An IR that no program can compute alone is partitioned.
    ``other`` may be "pytorch", for which the IR is needed: pass it as ``ir`` beside a program. ``inputs`` are arrays by
    name, or a safetensors file; those that are missing are random, as are weights if there are none. With ``spread``,
    the second device also runs each step on its own earlier results. ``save`` names a file for the first step beyond
    the rule for numbers, or for the step that ``step`` names; comparing that file runs it again. ``progress`` is called
    with the number of steps done, of how many, and the name of the next.

    Raises:
        InvalidValueError: an option, an input or a device does not fit the model.
        FileError: a file cannot be read or written.
        UnavailableError: a device is not on this machine.
    """
    check_seed(seed)
    subject = _read(model)
    if isinstance(subject, SavedStep):
        return _compare_saved(subject, device, other, threads, spread)
    if device is None or other is None:
        what, expected = "two devices are needed", 'such as compare(model, "cpu", "metal")'
        raise InvalidValueError(format_error("compare", what, got=f"{device!r} and {other!r}", expected=expected))
    return _Comparing(subject, device, other, ir, threads, spread, step, save, progress).run(inputs, weights, seed)


def _read(model: Any) -> Any:
    """A CompiledProgram, an IR as a dict, a PartitionPlan, a SavedStep, or what a saved file has."""
    if isinstance(model, CompiledProgram | PartitionPlan):
        return model
    if isinstance(model, CompiledModule):
        return Contents.of(model.as_saved(), "the model")
    if isinstance(model, str | os.PathLike):
        path = as_path(model)
        if is_saved(path):
            return Contents.of(read_model(path)[0], str(path))
        if is_saved_step(path):
            return SavedStep.load(path)
        if read_file(path, "[compare] file not found")[:8] == PROGRAM_MAGIC:
            return CompiledProgram.load(path)
    elif not isinstance(model, Mapping) and not hasattr(model, "to_dict"):
        expected = "a program, an IR, a partition plan, what npu.compile or npu.load returned, or a path"
        raise InvalidTypeError(
            format_error("compare", "this cannot be compared", got=type(model).__name__, expected=expected)
        )
    return dict(load_ir(model))


def _side(device: AnyDevice | Side | None, threads: int) -> Any:
    if device == PYTORCH:
        what, action = "PyTorch can only be the second side", f'the device first, and then "{PYTORCH}"'
        raise InvalidValueError(format_error("compare", what, action=action))
    return device if isinstance(device, Side) else DeviceSide(device, threads)


class _Comparing:
    def __init__(
        self,
        subject: Any,
        device: AnyDevice | Side | None,
        other: AnyDevice | Side | None,
        ir: Any,
        threads: int,
        spread: bool,
        step: str | None,
        save: str | os.PathLike[str] | None,
        progress: Progress | None,
    ) -> None:
        self._weights: Any = None
        if isinstance(subject, Contents):
            ir, self._weights, subject = ir or subject.ir, subject.weights, subject.program
        self._ir = dict(load_ir(ir)) if ir is not None else subject if isinstance(subject, dict) else None
        self._subject = _compiled(subject) if isinstance(subject, dict) else subject
        if isinstance(self._subject, PartitionPlan):
            self._ir = self._subject.original_ir
        self._first = _side(device, threads)
        self._with_pytorch = other == PYTORCH
        self._second = None if self._with_pytorch else _side(other, threads)
        if self._with_pytorch and self._ir is None:
            what = "comparing with PyTorch needs the IR, and the program does not contain it"
            action = "ir= (--ir FILE), the file it was compiled from"
            raise InvalidValueError(format_error("compare", what, action=action))
        names = (self._first.name, PYTORCH if self._second is None else self._second.name)
        self._report = Comparison(_name_of(self._subject), names)
        self._step, self._save, self._saved = step, save, False
        if save is not None:
            check_name(save)  # not only after all the work
        sources = {n["name"]: n.get("source") or "" for n in (self._ir or {}).get("nodes", [])}
        self._options = Options(spread, progress, self._observe, sources)

    def run(self, inputs: Any, weights: Any, seed: int) -> Comparison:
        if isinstance(self._subject, PartitionPlan):
            self._run_parts(self._subject, inputs, self._weights if weights is None else weights, seed)
        else:
            program = self._subject
            specs = [TensorSpec(s.name, list(s.shape), s.dtype) for s in program.input_specs]
            weights = self._weights if weights is None else weights
            source: WeightSource = RandomWeights(program, seed)
            if weights is not None:
                source = LoadedWeights(load_weights(weights, program), program)
            given = random_inputs(specs, seed, check_inputs(specs, inputs))
            walk = self._walk(program, self._ir, None, source)
            self._check_step([group.name for group in walk.groups])
            self._report.outputs = walk.run(given)
        self._check()
        return self._report

    def _run_parts(self, plan: PartitionPlan, inputs: Any, weights: Any, seed: int) -> None:
        ir = plan.original_ir
        specs = [TensorSpec(t["name"], list(t["shape"]), t["dtype"]) for t in ir["graph_inputs"]]
        given = random_inputs(specs, seed, check_inputs(specs, inputs))
        if weights is None:
            weights = random_weights([w for w in ir["weights"] if w["name"] not in (ir.get("constants") or {})], seed)
        device = getattr(self._first, "device", None) or Device("cpu")
        loaded = weights if isinstance(weights, Mapping | Weights) else load_weights(weights)
        compare_parts(plan, device, self._walk, self._report, given, loaded)

    def _walk(
        self, program: CompiledProgram, ir: Mapping[str, Any] | None, part: int | None, source: WeightSource
    ) -> Walk:
        second = self._second if self._second is not None else TorchSide(ir or {})
        options = replace(self._options, part=part)
        return Walk(program, (self._first, second), self._report, options, source)

    def _check_step(self, names: list[str]) -> None:
        if self._step is not None and not any(_is_named(name, self._step) for name in names):
            what, expected = "the program has no such step", ", ".join(names[:8]) or "none"
            expected += f" or one of {len(names) - 8} others" if len(names) > 8 else ""
            raise InvalidValueError(format_error("compare", what, got=repr(self._step), expected=expected))

    def _check(self) -> None:
        report = self._report
        if not report.stopped:  # else the step may be one of those that did not run
            self._check_step([row.step for row in report])
        if self._with_pytorch and len(report) and not any(row.compared for row in report) and not report.stopped:
            what = "no result of a step is a tensor of the IR, so nothing was compared"
            expected = "the IR that the program was compiled from, in its own dtype"
            raise InvalidValueError(format_error("compare", what, expected=expected))

    def _observe(self, walk: Walk, group: Group, row: Row, given: Results, results: list[Results]) -> None:
        wanted = row.beyond if self._step is None else _is_named(row.step, self._step)
        if self._save is None or self._saved or not wanted:
            return
        self._saved = True
        opened = walk.opened[1]
        weights, ir = {}, None
        if isinstance(opened, TorchProgram):
            weights, ir, given = opened.weights_of(group, given), opened.ir, opened.operands_of(group, given)
        sides = self._report.sides
        names = [value["name"] for value in walk.program.data["values"]]
        arrays = {f"{side}/{names[v]}": a for side, r in zip(sides, results, strict=True) for v, a in r.items()}
        SavedStep(walk.program, group.names, sides, given, weights, ir, arrays).save(self._save)
        self._report.saved = Path(self._save)


def _compare_saved(saved: SavedStep, device: Any, other: Any, threads: int, spread: bool) -> Comparison:
    class Source:
        def get(self, name: str) -> Any:
            return saved.weights[name]

    first = _side(saved.sides[0] if device is None else device, threads)
    second = saved.sides[1] if other is None else other
    if second == PYTORCH and saved.ir is None:
        what = "the file has no IR, because this step was saved by a comparison of devices"
        raise InvalidValueError(format_error("compare", what, got=PYTORCH, expected="a device"))
    last = TorchSide(saved.ir or {}) if second == PYTORCH else _side(second, threads)
    report = Comparison(_name_of(saved.program), (first.name, last.name))
    sources = {n["name"]: n.get("source") or "" for n in (saved.ir or {}).get("nodes", [])}
    walk = Walk(
        saved.program, (first, last), report, Options(spread, sources=sources, together=tuple(saved.ops)), Source()
    )
    walk.run_one(saved.ops, saved.operands)
    return report


def _compiled(ir: dict[str, Any]) -> CompiledProgram | PartitionPlan:
    try:
        return npu_compiler.compile(ir)
    except (IRError, InternalCompileError):
        raise
    except CompileError:
        plan = npu_compiler.partition(ir)
        if any(getattr(part, "target", "") == "npu" for part in plan.steps):
            return plan
        raise


def _name_of(subject: Any) -> str:
    if isinstance(subject, PartitionPlan):
        return str(subject.original_ir.get("model_name") or "model")
    return subject.model_name or "model"


def _is_named(name: str, step: str) -> bool:
    return step in (name, *name.split(" + "))

"""What a saved file has: the parts of a compiled model, to files and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from npu_base.errors import NPUError
from npu_base.size_rules import SizeRules, fixed_ir
from npu_base.specs import TensorSpec
from npu_runtime import Program, Weights, __version__

from npu.saving.container import Container, NewSection, is_saved, read_json, refuse, to_bytes, write_container
from npu.saving.signature import Signature, TensorEntry, read_signature
from npu.saving.sizes import OpenSizes, entries_of, read_open_sizes
from npu.saving.tensors import write_tensors

if TYPE_CHECKING:  # most models load without the compiler
    from npu.saving.parts import Parts

__all__ = ["Model", "fixed", "ir_at", "open_model", "padding_at", "read_ir", "read_model"]


@dataclass(frozen=True)
class Model:
    """``programs`` gives the bytes of the programs: one, one for each part of ``parts`` on the device, or one for each
    of the sizes that ``open`` holds. ``ir`` gives the IR, which is for people and tools; only models with parts or open
    sizes need it to run."""

    signature: Signature
    programs: Callable[[], Sequence[bytes]]
    weights: Any
    ir: Callable[[], bytes] | None = None
    name: str = ""
    parts: Parts | None = None
    open: OpenSizes | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        write_container(path, self._sections(), self._manifest())

    def to_bytes(self) -> bytes:
        return to_bytes(self._sections(), self._manifest())

    def _program_names(self) -> list[str]:
        count = 1 if self.parts is None else len(self.parts.programs)
        return [f"program/{i}" for i in range(count if self.open is None else len(self.open.programs))]

    def _sections(self) -> list[NewSection]:
        names = self._program_names()
        sections = [NewSection(name, "program", data) for name, data in zip(names, self.programs(), strict=True)]
        if self.ir is not None:
            sections.append(NewSection("ir", "ir", self.ir(), optional=self.parts is None and self.open is None))
        if self.parts is not None:
            plan = self.parts.to_json(dict(zip(self.parts.programs, names, strict=True)))
            sections.append(NewSection("partition", "partition", plan))
        tensors = dict(self.weights.items())
        return [*sections, NewSection("weights", "weights", partial(write_tensors, tensors=tensors))]

    def _manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = {
            "producer": f"npu-simulation {__version__}",
            "model_name": self.name,
            "signature": self.signature.to_dict(),
            "programs": [{"section": name} for name in self._program_names()],
            "weights": "weights",
        }
        if self.parts is not None:
            manifest["partition"] = "partition"
        if self.open is not None:
            manifest["sizes"] = self.open.to_dict()
            for program, sizes in zip(manifest["programs"], self.open.programs, strict=True):
                program["sizes"] = dict(sizes)
        return manifest


def open_model(source: str | os.PathLike[str] | Container, *, verify: bool = False) -> tuple[Model, Program]:
    """``read_model`` of a model that is one program."""
    model, program = read_model(source, verify=verify)
    if program is None:
        file = source.name if isinstance(source, Container) else os.fspath(source)
        if model.open is not None:
            what, count = "this model has open sizes, so no single program is all of it", len(model.programs())
            refuse(file, what, got=f"programs of {count} sizes", action="npu.load")
        what = "this model runs partly on the host, so no single program is all of it"
        got = f"{len(model.programs())} programs, and parts for the host"
        refuse(file, what, got=got, action="npu.load, npu explain, npu partition, npu compare")
    return model, program


def read_model(source: str | os.PathLike[str] | Container, *, verify: bool = False) -> tuple[Model, Program | None]:
    """Read and check a file: all of it but the contents of the weights, and those too with ``verify``. The program is
    None if there are parts or open sizes."""
    container = source if isinstance(source, Container) else Container.open(source)
    if verify:
        for section in container.sections.values():
            container.part(section)
    file, manifest = container.name, container.manifest
    signature = read_signature(manifest.get("signature"), file, "sizes" in manifest)
    programs = manifest.get("programs")
    if not isinstance(programs, list) or not all(isinstance(p, dict) for p in programs):
        refuse(file, "'programs' is not valid", section="manifest", got=f"{programs!r:.60}", expected="a list")
    sections = [container.section(program.get("section"), "program") for program in programs]
    weights_section = container.section(manifest.get("weights"), "weights")
    weights = Weights.load(container.part(weights_section, verify=False))
    irs = container.of_kind("ir")
    ir = partial(_bytes_of, container, irs[0].name) if irs else None
    name = manifest.get("model_name")
    model = Model(
        signature,
        lambda: [bytes(container.part(section)) for section in sections],
        weights,
        ir,
        name if isinstance(name, str) else "",
    )
    if "partition" in manifest:
        return _with_parts(model, container, [section.name for section in sections], weights_section.name), None
    if "sizes" in manifest:
        return _with_sizes(model, manifest["sizes"], programs, file, weights_section.name), None
    if len(programs) != 1:
        what, expected = "does not have one program, and no plan of parts", "one program"
        refuse(file, what, got=len(programs), expected=expected, action="upgrading npu-simulation")
    program = Program.load(container.part(sections[0]))
    check_specs(file, "input", signature.inputs, program.inputs)
    check_specs(file, "output", signature.outputs, program.outputs)
    _check_required(file, signature, program)
    _check_weights(file, weights, program, weights_section.name)
    return model, program


def _with_parts(model: Model, container: Container, names: list[str], weights_section: str) -> Model:
    from npu_compiler import CompiledProgram

    from npu.saving.parts import read_parts, read_weights

    file = container.name
    section = container.section(container.manifest["partition"], "partition")
    if len(set(names)) != len(names):
        refuse(file, "two programs are the same section", section="manifest", got=f"{names!r:.60}")
    data = read_json(bytes(container.part(section)), file, section.name)
    ir = read_ir(model, file)
    try:
        programs = {
            name: CompiledProgram.from_bytes(code, file) for name, code in zip(names, model.programs(), strict=True)
        }
        for code in model.programs():
            _check_weights(file, model.weights, Program.parse(code), weights_section)
    except NPUError as error:
        refuse(file, f"a program is not valid: {error}")
    parts = read_parts(data, ir, programs, file)
    check_specs(file, "input", model.signature.inputs, [TensorSpec(**_bare(t)) for t in ir["graph_inputs"]])
    check_specs(file, "output", model.signature.outputs, [TensorSpec(**_bare(t)) for t in ir["graph_outputs"]])
    weights = read_weights(parts.plan, model.weights, file, weights_section)
    return replace(model, parts=parts, weights=weights)


def _with_sizes(model: Model, data: Any, programs: list[dict[str, Any]], file: str, weights_section: str) -> Model:
    signature = model.signature
    open_sizes = read_open_sizes(data, programs, signature, file)
    rules = SizeRules(model.name, signature.inputs, open_sizes.rules.sizes, open_sizes.rules.conditions)
    if model.ir is None:
        refuse(file, "has no IR, which a model with open sizes needs")
    sized = replace(model, open=replace(open_sizes, rules=rules))
    for sizes, code in zip(open_sizes.programs, model.programs(), strict=True):
        try:
            program = Program.parse(code)
        except NPUError as error:
            refuse(file, f"a program is not valid: {error}")
        check_program(sized, program, sizes, file)
        _check_weights(file, model.weights, program, weights_section)
    return sized


def check_program(model: Model, program: Program, sizes: Mapping[str, int], file: str) -> None:
    """The program of these sizes is one of the model's."""
    assert model.open is not None
    signature, rules = model.signature, model.open.rules
    try:
        inputs, outputs = (entries_of(entries, rules, sizes) for entries in (signature.inputs, signature.outputs))
    except NPUError as error:
        refuse(file, f"the signature has no shapes for a size: {error}", section="manifest")
    check_specs(file, "input", inputs, program.inputs)
    check_specs(file, "output", outputs, program.outputs)
    _check_required(file, signature, program)


def _bare(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {key: meta[key] for key in ("name", "shape", "dtype")}


def _check_weights(file: str, weights: Weights, program: Program, section: str) -> None:
    try:
        weights.check(program)
    except NPUError as error:
        refuse(file, f"the weights do not fit the program: {error}", section=section)


def _bytes_of(container: Container, name: str) -> bytes:
    return bytes(container.part(container.sections[name]))


def check_specs(file: str, what: str, entries: Iterable[TensorEntry], specs: Iterable[Any]) -> None:
    """The signature and the program come from the same model."""
    known = {spec.name: spec for spec in specs}
    for entry in entries:
        spec = known.get(entry.name)
        if spec is None or tuple(spec.shape) != entry.shape or spec.dtype != entry.dtype:
            got = "no such name" if spec is None else f"{spec.dtype}{list(spec.shape)}"
            expected = f"{entry.dtype}{list(entry.shape)}"
            refuse(file, f"the program has another {what} '{entry.name}'", got=got, expected=expected)


def _check_required(file: str, signature: Signature, program: Program) -> None:
    named = {entry.name for entry in signature.inputs}
    for spec in program.inputs:
        if spec.required and not spec.state and spec.name not in named:
            refuse(file, f"the program needs an input that the signature does not have, '{spec.name}'")


def ir_at(source: Any) -> Any:
    """The IR in a saved file, as a dict, if ``source`` is the path of one; anything else is returned as it is. Of a
    model with open sizes, it is that of the size that was used last."""
    if not isinstance(source, str | os.PathLike) or not is_saved(source):
        return source
    file = os.fspath(source)
    return fixed(read_model(source)[0], file)


def padding_at(source: Any) -> str:
    """What calls of a saved file are padded to, in words; nothing if they are not, or ``source`` is no such file."""
    if not isinstance(source, str | os.PathLike) or not is_saved(source):
        return ""
    opened = read_model(source)[0].open
    return "" if opened is None or opened.buckets is None else str(opened.buckets)


def fixed(model: Model, file: str) -> dict[str, Any]:
    """The IR, of the size that was used last if sizes are open."""
    ir = read_ir(model, file)
    return ir if model.open is None else fixed_ir(ir, model.open.programs[-1])[0]


def read_ir(model: Model, file: str) -> dict[str, Any]:
    if model.ir is None:
        refuse(file, "has no IR", action="the IR file of the model")
    data = read_json(model.ir(), file, "ir")
    if not isinstance(data, dict):
        refuse(file, "is not an object", section="ir", got=type(data).__name__)
    return data

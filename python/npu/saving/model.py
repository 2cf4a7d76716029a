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
from npu_runtime.shared_weights import SharedWeights

from npu.saving.container import Container, NewSection, is_saved, read_json, refuse, to_bytes, write_container
from npu.saving.signature import Signature, TensorEntry, read_signature
from npu.saving.sizes import OpenSizes, SavedSize, entries_of, read_open_sizes
from npu.saving.tensors import write_tensors

if TYPE_CHECKING:  # most models load without the compiler
    from npu.saving.parts import Parts

__all__ = ["Model", "fixed", "ir_at", "open_model", "padding_at", "read_ir", "read_model"]


@dataclass(frozen=True)
class Model:
    """``programs`` gives the bytes of the programs: one, or one for each part of ``parts`` on the device; ``open`` has
    those of open sizes. ``ir`` gives the IR, which is for people and tools; only models with parts or open sizes need
    it to run."""

    signature: Signature
    programs: Callable[[], Sequence[bytes]]
    weights: Any
    ir: Callable[[], bytes] | None = None
    name: str = ""
    parts: Parts | None = None
    open: OpenSizes | None = None

    def save(self, path: str | os.PathLike[str]) -> None:
        write_container(path, *self._contents())

    def to_bytes(self) -> bytes:
        return to_bytes(*self._contents())

    def _programs(self) -> tuple[list[NewSection], list[dict[str, Any]]]:
        """Sections of programs and plans, and what the manifest says of the programs."""
        if self.open is not None:
            return _programs_of_sizes(self.open.saved)
        sections = [NewSection(f"program/{i}", "program", code) for i, code in enumerate(self.programs())]
        entries = [{"section": section.name} for section in sections]
        if self.parts is not None:
            names = [section.name for section in sections]
            plan = self.parts.to_json(dict(zip(self.parts.programs, names, strict=True)))
            sections.append(NewSection("partition", "partition", plan))
        return sections, entries

    def _contents(self) -> tuple[list[NewSection], dict[str, Any]]:
        """The sections and the manifest."""
        sections, programs = self._programs()
        if self.ir is not None:
            sections.append(NewSection("ir", "ir", self.ir(), optional=self.parts is None and self.open is None))
        tensors = dict(self.weights.items())
        sections.append(NewSection("weights", "weights", partial(write_tensors, tensors=tensors)))
        manifest: dict[str, Any] = {
            "producer": f"npu-simulation {__version__}",
            "model_name": self.name,
            "signature": self.signature.to_dict(),
            "programs": programs,
            "weights": "weights",
        }
        if self.parts is not None:
            manifest["partition"] = "partition"
        if self.open is not None:
            manifest["sizes"] = self.open.to_dict()
        return sections, manifest


def _programs_of_sizes(saved: Sequence[SavedSize]) -> tuple[list[NewSection], list[dict[str, Any]]]:
    sections: list[NewSection] = []
    entries: list[dict[str, Any]] = []
    count = 0
    for number, size in enumerate(saved):
        codes = [size.code] if size.parts is None else [p.to_bytes() for p in size.parts.programs.values()]
        names = [f"program/{count + i}" for i in range(len(codes))]
        count += len(codes)
        sections += [NewSection(name, "program", code) for name, code in zip(names, codes, strict=True)]
        if size.parts is None:
            entries.append({"section": names[0], "sizes": dict(size.sizes)})
        else:
            plan = size.parts.to_json(dict(zip(size.parts.programs, names, strict=True)))
            sections.append(NewSection(f"partition/{number}", "partition", plan))
            entries.append({"partition": f"partition/{number}", "sizes": dict(size.sizes)})
    return sections, entries


def open_model(source: str | os.PathLike[str] | Container, *, verify: bool = False) -> tuple[Model, Program]:
    """``read_model`` of a model that is one program."""
    model, program = read_model(source, verify=verify)
    if program is None:
        file = source.name if isinstance(source, Container) else os.fspath(source)
        if model.open is not None:
            what, count = "this model has open sizes, so no single program is all of it", len(model.open.saved)
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
    weights = Weights.load(container.part(container.section(manifest.get("weights"), "weights"), verify=False))
    irs = container.of_kind("ir")
    ir = partial(_bytes_of, container, irs[0].name) if irs else None
    name = manifest.get("model_name")
    model = Model(signature, list, weights, ir, name if isinstance(name, str) else "")
    if "sizes" in manifest:
        return _with_sizes(model, container), None
    sections = [container.section(program.get("section"), "program") for program in programs]
    model = replace(model, programs=lambda: [bytes(container.part(section)) for section in sections])
    if "partition" in manifest:
        return _with_parts(model, container, [section.name for section in sections]), None
    if len(programs) != 1:
        what, expected = "does not have one program, and no plan of parts", "one program"
        refuse(file, what, got=len(programs), expected=expected, action="upgrading npu-simulation")
    program = Program.load(container.part(sections[0]))
    check_specs(file, "input", signature.inputs, program.inputs)
    check_specs(file, "output", signature.outputs, program.outputs)
    _check_required(file, signature, program)
    _check_weights(container, weights, program)
    return model, program


def _with_parts(model: Model, container: Container, names: list[str]) -> Model:
    file = container.name
    if len(set(names)) != len(names):
        refuse(file, "two programs are the same section", section="manifest", got=f"{names!r:.60}")
    ir = read_ir(model, file)
    parts = _read_parts(model, container, container.manifest["partition"], ir, names)
    _check_graph(file, model.signature.inputs, model.signature.outputs, ir)
    return replace(model, parts=parts, weights=_with_host_weights(model, ir, file))


def _read_parts(
    model: Model, container: Container, section_name: Any, ir: dict[str, Any], names: Sequence[str] | None = None
) -> Parts:
    """The plan in a section. ``names`` are the sections of its programs, by default those that it names."""
    from npu_compiler import CompiledProgram

    from npu.saving.parts import check_weights, program_names, read_parts

    file, section = container.name, container.section(section_name, "partition")
    data = read_json(bytes(container.part(section)), file, section.name)
    names = program_names(data) if names is None else names
    codes = {name: bytes(container.part(container.section(name, "program"))) for name in names}
    try:
        programs = {name: CompiledProgram.from_bytes(code, file) for name, code in codes.items()}
        for code in codes.values():
            _check_weights(container, model.weights, Program.parse(code))
    except NPUError as error:
        refuse(file, f"a program is not valid: {error}")
    parts = read_parts(data, ir, programs, file, section.name)
    check_weights(parts.plan, model.weights, file, container.manifest["weights"])
    return parts


def _with_host_weights(model: Model, ir: Mapping[str, Any], file: str) -> SharedWeights:
    from npu.saving.parts import host_weights

    return SharedWeights(model.weights, host_weights(ir, model.weights))


def _check_graph(
    file: str, inputs: Iterable[TensorEntry], outputs: Iterable[TensorEntry], ir: Mapping[str, Any]
) -> None:
    check_specs(file, "input", inputs, [TensorSpec(**_bare(t)) for t in ir["graph_inputs"]])
    check_specs(file, "output", outputs, [TensorSpec(**_bare(t)) for t in ir["graph_outputs"]])


def _with_sizes(model: Model, container: Container) -> Model:
    file, programs = container.name, container.manifest["programs"]
    open_sizes = read_open_sizes(container.manifest["sizes"], programs, model.signature, file)
    rules = SizeRules(model.name, model.signature.inputs, open_sizes.rules.sizes, open_sizes.rules.conditions)
    if model.ir is None:
        refuse(file, "has no IR, which a model with open sizes needs")
    sized = replace(model, open=replace(open_sizes, rules=rules))
    pairs = zip(open_sizes.saved, programs, strict=True)
    saved = [_read_size(sized, size, entry, container) for size, entry in pairs]
    sized = replace(sized, open=replace(open_sizes, rules=rules, saved=saved))
    if sized.open is not None and sized.open.run_on_host_too:
        return replace(sized, weights=_with_host_weights(model, read_ir(model, file), file))
    return sized


def _read_size(model: Model, size: SavedSize, entry: Mapping[str, Any], container: Container) -> SavedSize:
    file = container.name
    if "partition" in entry:
        ir = _ir_of_size(model, size, file)
        parts = _read_parts(model, container, entry["partition"], ir)
        _check_graph(file, *_shapes_of(model, size.sizes, file), ir)
        return replace(size, parts=parts)
    code = bytes(container.part(container.section(entry.get("section"), "program")))
    try:
        program = Program.parse(code)
    except NPUError as error:
        refuse(file, f"a program is not valid: {error}")
    check_program(model, program, size.sizes, file)
    _check_weights(container, model.weights, program)
    return replace(size, code=code)


def _ir_of_size(model: Model, size: SavedSize, file: str) -> dict[str, Any]:
    try:
        return fixed_ir(read_ir(model, file), size.sizes)[0]
    except (KeyError, TypeError, AttributeError, ValueError) as error:  # our own errors are ValueErrors too
        refuse(file, f"is not valid for {size}", section="ir", got=f"{type(error).__name__}: {error}")


def check_program(model: Model, program: Program, sizes: Mapping[str, int], file: str) -> None:
    """The program of these sizes is one of the model's."""
    inputs, outputs = _shapes_of(model, sizes, file)
    check_specs(file, "input", inputs, program.inputs)
    check_specs(file, "output", outputs, program.outputs)
    _check_required(file, model.signature, program)


def _shapes_of(model: Model, sizes: Mapping[str, int], file: str) -> tuple[list[TensorEntry], list[TensorEntry]]:
    """The signature's inputs and outputs for these sizes."""
    assert model.open is not None
    signature, rules = model.signature, model.open.rules
    try:
        return entries_of(signature.inputs, rules, sizes), entries_of(signature.outputs, rules, sizes)
    except NPUError as error:
        refuse(file, f"the signature has no shapes for a size: {error}", section="manifest")


def _bare(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {key: meta[key] for key in ("name", "shape", "dtype")}


def _check_weights(container: Container, weights: Weights, program: Program) -> None:
    try:
        weights.check(program)
    except NPUError as error:
        what = f"the weights do not fit the program: {error}"
        refuse(container.name, what, section=container.manifest["weights"])


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
    return ir if model.open is None else fixed_ir(ir, model.open.saved[-1].sizes)[0]


def read_ir(model: Model, file: str) -> dict[str, Any]:
    if model.ir is None:
        refuse(file, "has no IR", action="the IR file of the model")
    data = read_json(model.ir(), file, "ir")
    if not isinstance(data, dict):
        refuse(file, "is not an object", section="ir", got=type(data).__name__)
    return data

"""What a saved file has: the parts of a compiled model, to files and back."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from npu_base.errors import NPUError
from npu_runtime import Program, Weights, __version__

from npu.saving.container import Container, NewSection, is_saved, read_json, refuse, to_bytes, write_container
from npu.saving.signature import Signature, read_signature
from npu.saving.tensors import write_tensors

__all__ = ["Model", "ir_at", "open_model", "read_ir"]


@dataclass(frozen=True)
class Model:
    """``program`` and ``ir`` give the bytes of these sections. The IR is for people and tools; runs do not read it."""

    signature: Signature
    program: Callable[[], bytes] | None
    weights: Any
    ir: Callable[[], bytes] | None = None
    name: str = ""

    def save(self, path: str | os.PathLike[str]) -> None:
        write_container(path, self._sections(), self._manifest())

    def to_bytes(self) -> bytes:
        return to_bytes(self._sections(), self._manifest())

    def _sections(self) -> list[NewSection]:
        assert self.program is not None
        sections = [NewSection("program/0", "program", self.program())]
        if self.ir is not None:
            sections.append(NewSection("ir", "ir", self.ir(), optional=True))
        tensors = dict(self.weights.items())
        return [*sections, NewSection("weights", "weights", partial(write_tensors, tensors=tensors))]

    def _manifest(self) -> dict[str, Any]:
        return {
            "producer": f"npu-simulation {__version__}",
            "model_name": self.name,
            "signature": self.signature.to_dict(),
            "programs": [{"section": "program/0"}],
            "weights": "weights",
        }


def open_model(source: str | os.PathLike[str] | Container, *, verify: bool = False) -> tuple[Model, Program]:
    """Read and check a file: all of it but the contents of the weights, and those too with ``verify``."""
    container = source if isinstance(source, Container) else Container.open(source)
    if verify:
        for section in container.sections.values():
            container.part(section)
    file, manifest = container.name, container.manifest
    signature = read_signature(manifest.get("signature"), file)
    programs = manifest.get("programs")
    if not isinstance(programs, list) or not all(isinstance(p, dict) for p in programs) or not programs:
        refuse(file, "'programs' is not valid", section="manifest", got=f"{programs!r:.60}", expected="a list")
    if len(programs) > 1:
        what, expected = "has several programs, which this version does not run", "one program"
        refuse(file, what, got=len(programs), expected=expected, action="upgrading npu-simulation")
    part = container.part(container.section(programs[0].get("section"), "program"))
    program = Program.load(part)
    _check_program(file, signature, program)
    weights_section = container.section(manifest.get("weights"), "weights")
    weights = Weights.load(container.part(weights_section, verify=False))
    try:
        weights.check(program)
    except NPUError as error:
        refuse(file, f"the weights do not fit the program: {error}", section=weights_section.name)
    irs = container.of_kind("ir")
    name = manifest.get("model_name")
    return (
        Model(
            signature,
            partial(bytes, part),
            weights,
            partial(_bytes_of, container, irs[0].name) if irs else None,
            name if isinstance(name, str) else "",
        ),
        program,
    )


def _bytes_of(container: Container, name: str) -> bytes:
    return bytes(container.part(container.sections[name]))


def _check_program(file: str, signature: Signature, program: Program) -> None:
    """The signature and the program come from the same model."""
    for what, entries, specs in (
        ("input", signature.inputs, program.inputs), ("output", signature.outputs, program.outputs)
    ):  # fmt: skip
        known = {spec.name: spec for spec in specs}
        for entry in entries:
            spec = known.get(entry.name)
            if spec is None or tuple(spec.shape) != entry.shape or spec.dtype != entry.dtype:
                got = "no such name" if spec is None else f"{spec.dtype}{list(spec.shape)}"
                expected = f"{entry.dtype}{list(entry.shape)}"
                refuse(file, f"the program has another {what} '{entry.name}'", got=got, expected=expected)
    named = {entry.name for entry in signature.inputs}
    for spec in program.inputs:
        if spec.required and not spec.state and spec.name not in named:
            refuse(file, f"the program needs an input that the signature does not have, '{spec.name}'")


def ir_at(source: Any) -> Any:
    """The IR in a saved file, as a dict, if ``source`` is the path of one; anything else is returned as it is."""
    if not isinstance(source, str | os.PathLike) or not is_saved(source):
        return source
    file = os.fspath(source)
    return read_ir(open_model(source)[0], file)


def read_ir(model: Model, file: str) -> dict[str, Any]:
    if model.ir is None:
        refuse(file, "has no IR", action="the IR file of the model")
    data = read_json(model.ir(), file, "ir")
    if not isinstance(data, dict):
        refuse(file, "is not an object", section="ir", got=type(data).__name__)
    return data

"""The sections of a saved file and their checksums, without a view on what they contain."""

from __future__ import annotations

import io
import json
import mmap
import os
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from npu_base.errors import InvalidValueError, NPUError, format_error
from npu_base.files import PROGRAM_MAGIC, SAVED_MAGIC, as_path, file_error, write_file_with
from npu_runtime._core import File, checksum

__all__ = [
    "FORMAT_VERSION",
    "Container",
    "NewSection",
    "Section",
    "is_saved",
    "read_json",
    "refuse",
    "to_bytes",
    "write_container",
]

FORMAT_VERSION = 1
SMALL_ALIGNMENT = 64
PAGE_ALIGNMENT = 16384  # the largest page of the systems we run on, so that weights can be mapped on their own
_HEADER = struct.Struct("<8sIIQQQQ16s")
_MOST_MANIFEST = 64 << 20  # bytes
_MOST_SECTIONS = 10_000
_LONGEST_NAME = 200
_KINDS = ("program", "weights", "ir", "partition")
_AGAIN = "saving the model, or copying the file, again"


@dataclass(frozen=True)
class Section:
    name: str
    kind: str
    offset: int
    size: int
    checksum: int
    optional: bool = False


@dataclass(frozen=True)
class NewSection:
    """``data`` is what the section contains, or a function that writes it. ``optional`` sections may be ignored by
    readers that do not know their kind."""

    name: str
    kind: str
    data: bytes | Callable[[BinaryIO], object]
    optional: bool = False


def refuse(
    file: str, what: str, *, section: str | None = None, got: object = None, expected: str | None = None,
    action: str | None = None,
) -> NoReturn:  # fmt: skip
    where = file if section is None else f"{file}: section '{section}'"
    raise InvalidValueError(format_error("saved", f"{where}: {what}", got=got, expected=expected, action=action))


def is_saved(path: str | os.PathLike[str]) -> bool:
    """Whether this is a saved file, by its first bytes."""
    try:
        with open(path, "rb") as file:
            return file.read(len(SAVED_MAGIC)) == SAVED_MAGIC
    except (OSError, ValueError):
        return False


def write_container(path: str | os.PathLike[str], sections: Iterable[NewSection], manifest: dict[str, Any]) -> None:
    """Write a file atomically; the contents of sections are never in memory together."""
    write_file_with(path, lambda file: _write(file, sections, manifest))


def to_bytes(sections: Iterable[NewSection], manifest: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    _write(file, sections, manifest)
    return file.getvalue()


def _write(file: BinaryIO, sections: Iterable[NewSection], manifest: dict[str, Any]) -> None:
    file.write(bytes(_HEADER.size))
    table = []
    for section in sections:
        offset = _pad(file, PAGE_ALIGNMENT if section.kind == "weights" else SMALL_ALIGNMENT)
        if isinstance(section.data, bytes):
            file.write(section.data)
        else:
            section.data(file)
        size = file.tell() - offset
        entry = {"name": section.name, "kind": section.kind, "offset": offset, "size": size}
        table.append({**entry, "checksum": f"{_checksum(file, offset, size):016x}", "optional": section.optional})
    offset = _pad(file, SMALL_ALIGNMENT)
    text = json.dumps({**manifest, "sections": table}, separators=(",", ":")).encode()
    file.write(text)
    file.seek(0)
    end = offset + len(text)
    file.write(_HEADER.pack(SAVED_MAGIC, FORMAT_VERSION, 0, offset, len(text), checksum(text), end, b""))


def _pad(file: BinaryIO, alignment: int) -> int:
    file.write(bytes(-file.tell() % alignment))
    return file.tell()


def _checksum(file: BinaryIO, offset: int, size: int) -> int:
    """Of what was written. It is read back from the system's cache, not kept in memory."""
    if isinstance(file, io.BytesIO):
        with file.getbuffer() as view:
            return checksum(view[offset : offset + size])
    file.flush()
    with mmap.mmap(file.fileno(), offset + size, access=mmap.ACCESS_READ) as mapped, memoryview(mapped) as view:
        return checksum(view[offset : offset + size])


class Container:
    """A saved file whose table of sections has been checked.

    ``part`` verifies a section. Callers leave that out for weights, because it reads all of them.
    """

    def __init__(self, file: File) -> None:
        self.file = file
        self.name = file.name
        manifest_offset, self.manifest = _read_manifest(file)
        self.sections = _read_table(self.name, self.manifest, manifest_offset)

    @staticmethod
    def open(path: str | os.PathLike[str]) -> Container:
        target = as_path(path)
        try:
            os.stat(target)
        except (OSError, ValueError) as error:
            raise file_error("read", path, error, "the path of a file that compiled.save wrote") from error
        return Container(File.open(target))

    @staticmethod
    def from_bytes(data: bytes, name: str = "pickled module") -> Container:
        return Container(File.copy_of(data, name))

    def of_kind(self, kind: str) -> list[Section]:
        return [section for section in self.sections.values() if section.kind == kind]

    def section(self, name: object, kind: str) -> Section:
        section = self.sections.get(name) if isinstance(name, str) else None
        if section is None or section.kind != kind:
            known = ", ".join(repr(s.name) for s in self.of_kind(kind)) or "none of this kind"
            refuse(self.name, f"the manifest names a {kind} section that is not there", got=repr(name), expected=known)
        return section

    def part(self, section: Section, *, verify: bool = True) -> File:
        part = self.file.part(section.name, section.offset, section.size)
        if verify and part.checksum() != section.checksum:
            what = "its contents are damaged: the checksum does not match"
            refuse(self.name, what, section=section.name, action=_AGAIN)
        return part


def _read_manifest(file: File) -> tuple[int, dict[str, Any]]:
    name, size = file.name, len(file)
    start = bytes(file.part("header", 0, min(size, _HEADER.size)))
    if start[: len(SAVED_MAGIC)] != SAVED_MAGIC:
        _refuse_other_format(name, start)
    if size < _HEADER.size:
        refuse(name, "the file is cut off", got=f"{size} bytes", action=_AGAIN)
    _, version, zero, offset, length, wanted, end, rest = _HEADER.unpack(start)
    if version > FORMAT_VERSION:
        refuse(
            name, "was written by a newer version of npu-simulation", got=f"format {version}",
            expected=f"at most format {FORMAT_VERSION}", action="upgrading npu-simulation",
        )  # fmt: skip
    if version < 1 or zero or any(rest):
        refuse(name, "the header is damaged", action=_AGAIN)
    if end != size:
        what = "the file is cut off" if size < end else "the file has bytes beyond its end"
        refuse(name, what, got=f"{size} bytes", expected=f"{end} bytes", action=_AGAIN)
    if length > _MOST_MANIFEST or offset < _HEADER.size or offset + length != end:
        refuse(name, "the header is damaged", got=f"a manifest of {length} bytes at byte {offset}", action=_AGAIN)
    text = bytes(file.part("manifest", offset, length))
    if checksum(text) != wanted:
        refuse(name, "the checksum does not match", section="manifest", action=_AGAIN)
    manifest = read_json(text, name, "manifest")
    if not isinstance(manifest, dict):
        refuse(name, "is not an object", section="manifest", got=type(manifest).__name__)
    return offset, manifest


def _refuse_other_format(name: str, start: bytes) -> NoReturn:
    if start.startswith(PROGRAM_MAGIC):
        got, action = "a compiled program without weights", "npu.Executor(program, npu.Device())"
    elif start.startswith(b"{"):
        got, action = "JSON, as in an IR", "npu_compiler.compile(ir)"
    elif start.startswith(b"PK"):
        got, action = "a zip archive, as torch.save writes", "npu.compile(model, inputs).save(path)"
    else:
        got, action = "other first bytes" if start else "an empty file", "npu.compile(model, inputs).save(path)"
    refuse(name, "is not a saved model", got=got, expected="a file that compiled.save wrote", action=action)


def read_json(text: bytes, file: str, section: str) -> Any:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        result = dict(pairs)
        if len(result) != len(pairs):
            keys = [key for key, _ in pairs]
            twice = next(key for key in keys if keys.count(key) > 1)
            refuse(file, f"the key {twice!r} comes twice", section=section)
        return result

    try:
        return json.loads(text, object_pairs_hook=unique)
    except NPUError:
        raise
    except (ValueError, RecursionError) as error:
        refuse(file, "is not valid JSON", section=section, got=str(error) or type(error).__name__)


def _read_table(file: str, manifest: dict[str, Any], end: int) -> dict[str, Section]:
    """Sections in the order in which they lie in the file, each at the next multiple of its alignment."""
    table = manifest.get("sections")
    if not isinstance(table, list) or len(table) > _MOST_SECTIONS:
        got = f"{len(table)} sections" if isinstance(table, list) else type(table).__name__
        refuse(file, "has no valid table of sections", got=got, expected=f"a list of at most {_MOST_SECTIONS}")
    sections: dict[str, Section] = {}
    reached = _HEADER.size
    for i, entry in enumerate(table):
        section = _read_entry(file, i, entry)
        if section.name in sections:
            refuse(file, "comes twice", section=section.name)
        if section.kind not in _KINDS and not section.optional:
            refuse(
                file, f"has a kind that this version does not know, {section.kind!r:.60}", section=section.name,
                expected=f"one of {', '.join(_KINDS)}", action="upgrading npu-simulation",
            )  # fmt: skip
        if section.offset + section.size > end:
            got = f"{section.size} bytes from byte {section.offset} on"
            refuse(file, "reaches beyond the sections' end", section=section.name, got=got, expected=f"byte {end}")
        alignment = PAGE_ALIGNMENT if section.kind == "weights" else SMALL_ALIGNMENT
        if section.offset < reached:
            refuse(file, "overlaps what comes before it", section=section.name, got=f"byte {section.offset}")
        if section.offset != reached + -reached % alignment:
            expected = f"byte {reached + -reached % alignment}"
            got = f"byte {section.offset}"
            refuse(file, "does not start where it must", section=section.name, got=got, expected=expected)
        reached = section.offset + section.size
        sections[section.name] = section
    if end != reached + -reached % SMALL_ALIGNMENT:
        refuse(file, "the sections do not make up the file", got=f"{reached} bytes", expected=f"{end} bytes")
    return sections


def _read_entry(file: str, index: int, entry: Any) -> Section:
    where = f"sections[{index}]"
    if not isinstance(entry, dict):
        refuse(file, f"{where} is not an object", section="manifest", got=type(entry).__name__)
    for key in ("name", "kind", "checksum"):
        value = entry.get(key)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_NAME or not value.isprintable():
            refuse(file, f"{where} has no valid '{key}'", section="manifest", got=f"{entry.get(key)!r:.60}")
    for key in ("offset", "size"):
        if type(entry.get(key)) is not int or not 0 <= entry[key] < 1 << 63:
            refuse(file, f"{where} has no valid '{key}'", section="manifest", got=f"{entry.get(key)!r:.60}")
    optional = entry.get("optional", False)
    if not isinstance(optional, bool):
        refuse(file, f"{where} has no valid 'optional'", section="manifest", got=f"{optional!r:.60}")
    digits = entry["checksum"]
    if len(digits) != 16 or any(c not in "0123456789abcdef" for c in digits):
        got, expected = f"{digits!r:.60}", "16 hexadecimal digits"
        refuse(file, f"{where} has no valid 'checksum'", section="manifest", got=got, expected=expected)
    return Section(entry["name"], entry["kind"], entry["offset"], entry["size"], int(digits, 16), optional)

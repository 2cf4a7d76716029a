"""What the SOURCE of a command is: a file, a folder, a model in Python, or one in the Hugging Face cache."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import NoReturn

from npu_base.errors import FileError, InvalidValueError, format_error
from npu_base.files import PROGRAM_MAGIC, SAVED_MAGIC, file_error

from npu.commands.hub import cache_folder, cached_model, is_model_name

__all__ = ["ANY", "WITH_IR", "Kind", "Source", "describe_kinds", "find_source", "model_folder"]


class Kind(Enum):
    PROGRAM = "a program (.npubin)"
    SAVED = "a saved file (.npu)"
    IR = "an IR (.json)"
    MODULE = "MODULE:ATTRIBUTE (a model in Python)"
    FOLDER = "a Hugging Face folder, or the name of a model in the Hugging Face cache"


ANY = tuple(Kind)
WITH_IR = (Kind.SAVED, Kind.IR, Kind.MODULE, Kind.FOLDER)

_SUFFIXES = {".npubin": Kind.PROGRAM, ".npu": Kind.SAVED, ".json": Kind.IR}
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin", ".npz")
_ACTIONS = {
    Kind.PROGRAM: "the IR that it was made from; `npu run`, `npu bench` and `npu plan` take programs",
    Kind.SAVED: "`npu run`, `npu bench` or `npu plan`, because it is compiled already",
}


@dataclass(frozen=True)
class Source:
    """``text`` is what the user wrote; ``path`` is the file or folder, if it is one."""

    kind: Kind
    text: str
    path: Path | None = None

    @property
    def file(self) -> Path:
        assert self.path is not None
        return self.path

    @property
    def needs_inputs(self) -> bool:
        """Whether the model must be traced with example inputs."""
        return self.kind in (Kind.MODULE, Kind.FOLDER)


def describe_kinds(kinds: Collection[Kind]) -> str:
    names = [kind.value for kind in kinds]
    return ", ".join(names[:-1]) + f" or {names[-1]}" if len(names) > 1 else names[0]


def find_source(text: str, takes: Collection[Kind], command: str) -> Source:
    """The source of this name, which must be one of the kinds that the command takes."""
    source = _find(text, takes)
    if source.kind not in takes:
        name = source.kind.value
        raise InvalidValueError(
            format_error(
                "npu", f"`npu {command}` does not take {name}", got=text, expected=describe_kinds(takes),
                action=_ACTIONS.get(source.kind),
            )
        )  # fmt: skip
    return source


def model_folder(text: str) -> Path:
    """The folder of a language model, for commands that take nothing else."""
    path = Path(text)
    if not _exists(path) and is_model_name(text):
        return cached_model(text) or _refuse_name(text, (Kind.FOLDER,))
    return path  # its reader says what is wrong with it


def _find(text: str, takes: Collection[Kind]) -> Source:
    path = Path(text)
    if _exists(path):
        return _folder(text, path, takes) if path.is_dir() else Source(_kind_of_file(text, path, takes), text, path)
    if path.suffix in _SUFFIXES:
        return Source(_SUFFIXES[path.suffix], text, path)  # its reader says that it is not there
    if ":" in text:
        return Source(Kind.MODULE, text)
    if path.suffix in (*_WEIGHTS, ".py") or not is_model_name(text):
        raise FileError(
            format_error("npu", "there is no such file or folder", got=repr(text), expected=describe_kinds(takes)), text
        )
    folder = cached_model(text)
    return Source(Kind.FOLDER, text, folder or _refuse_name(text, takes))


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError) as error:  # for example, the name is too long or has a null byte
        raise file_error("read", path, error) from error


def _folder(text: str, path: Path, takes: Collection[Kind]) -> Source:
    if not (path / "config.json").is_file():
        what, expected = "the folder does not contain a model", f"one with config.json; or {describe_kinds(takes)}"
        raise InvalidValueError(
            format_error("npu", what, got=f"'{text}', a folder without config.json", expected=expected)
        )
    return Source(Kind.FOLDER, text, path)


def _kind_of_file(text: str, path: Path, takes: Collection[Kind]) -> Kind:
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as error:
        raise file_error("read", path, error, "a file that you have permission to read") from error
    if start.startswith(PROGRAM_MAGIC):
        return Kind.PROGRAM
    if start.startswith(SAVED_MAGIC):
        return Kind.SAVED
    if start.lstrip().startswith(b"{"):
        return Kind.IR
    if path.suffix in _SUFFIXES:
        return _SUFFIXES[path.suffix]  # its reader says what is wrong with it
    got, action = f"'{text}'", None
    if path.suffix == ".py":
        parts = path.with_suffix("").parts
        got = f"'{text}', a Python file"
        action = f"{'.'.join(parts)}:ATTRIBUTE" if all(map(str.isidentifier, parts)) else None
        action = action or f"{path.stem}:ATTRIBUTE in the file's folder"
    elif path.suffix in _WEIGHTS:
        got, action = f"'{text}', which has weights alone", "the model as the source, and this file as --weights"
    raise InvalidValueError(
        format_error("npu", "this file is not a model", got=got, expected=describe_kinds(takes), action=action)
    )


def _refuse_name(text: str, takes: Collection[Kind]) -> NoReturn:
    is_module = Kind.MODULE in takes and Path(f"{text}.py").is_file() and "/" not in text
    download = "downloading the model first, because nothing is downloaded here, or its folder"
    raise InvalidValueError(
        format_error(
            "npu",
            "there is no such file or folder, and no model of this name in the Hugging Face cache",
            got=f"'{text}'; looked in the current folder and in {cache_folder()}",
            expected=describe_kinds(takes),
            action=f"{text}:ATTRIBUTE, because there is {text}.py" if is_module else download,
        )
    )

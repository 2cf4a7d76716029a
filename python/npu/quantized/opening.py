"""Finds out which format a checkpoint has, and opens it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from npu_base.errors import InvalidValueError
from npu_base.files import as_path, file_error

from npu.quantized import awq, compressed, gptq, mlx
from npu.quantized.checkpoint import Checkpoint, plain_entry
from npu.quantized.errors import refuse
from npu.quantized.gguf import open_gguf
from npu.quantized.stored import StoredTensors, open_stored, read_json_file

__all__ = ["is_quantized", "open_checkpoint"]

_METHODS: dict[str, Callable[[StoredTensors, dict[str, Any]], Checkpoint]] = {
    "compressed-tensors": compressed.open_compressed, "gptq": gptq.open_gptq, "awq": awq.open_awq,
}  # fmt: skip


def open_checkpoint(path: str | os.PathLike[str]) -> Checkpoint:
    """Open a .gguf file, or a Hugging Face folder: quantised as MLX, compressed-tensors, AutoGPTQ or AutoAWQ write it,
    or not quantised.

    Tensors are mapped and read one at a time, when they are asked for. Nothing in a folder is run.

    Raises:
        FileError: a file cannot be read.
        InvalidValueError: the format or the scheme of its quantisation is not supported, or the file is damaged.
    """
    target = as_path(path)
    try:
        is_folder = target.is_dir()
        if not is_folder:
            os.stat(target)
    except (OSError, ValueError) as error:
        raise file_error("read", path, error, "a .gguf file, or a folder with config.json") from error
    if not is_folder:
        return open_gguf(target)
    if not (target / "config.json").is_file():
        files = sorted(target.glob("*.gguf"))
        if len(files) == 1:
            return open_gguf(files[0])
        names = ", ".join(file.name for file in files[:5])
        got = f"several .gguf files: {names}" if files else "no config.json"
        refuse(target, "the folder does not contain a model", got=got, expected="config.json, or one .gguf file")
    return _open_folder(target)


def is_quantized(path: Path) -> bool:
    """Whether this is a .gguf file, or a folder of which config.json says that it is quantised in a way known here."""
    if not path.is_dir():
        return path.suffix == ".gguf"
    if not (path / "config.json").is_file():
        return len(list(path.glob("*.gguf"))) == 1
    try:
        return _method(read_json_file(path / "config.json"), path) is not None
    except InvalidValueError:
        return False  # whoever reads the configuration says what is wrong with it


def _open_folder(folder: Path) -> Checkpoint:
    config = read_json_file(folder / "config.json")
    method = _method(config, folder / "config.json")
    if method is None:
        stored = open_stored(folder)
        return Checkpoint(folder, "plain", config, {name: plain_entry(stored[name]) for name in stored})
    return method(open_stored(folder), config)


def _method(config: dict[str, Any], where: object) -> Callable[[StoredTensors, dict[str, Any]], Checkpoint] | None:
    if config.get("quantization") is not None:
        return mlx.open_mlx
    key = next((key for key in ("quantization_config", "compression_config") if config.get(key) is not None), None)
    if key is None:
        return None
    said = config[key]
    if not isinstance(said, dict):
        refuse(where, f"'{key}' is not an object", got=type(said).__name__)
    name = said.get("quant_method", "compressed-tensors" if key == "compression_config" else None)
    if name is None and {"group_size", "bits"} <= said.keys():
        return mlx.open_mlx
    method = _METHODS.get(name) if isinstance(name, str) else None
    if method is None:
        expected = f"one of {', '.join(_METHODS)}, or what MLX writes"
        refuse(where, "unknown method of quantisation", got=f"{name!r:.60}", expected=expected)
    return method

"""A quantised model: a .gguf file, or a folder whose configuration says that it is quantised."""

from __future__ import annotations

import json
import os
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from npu_base.quantization import Scheme
from npu_runtime import Device, Weights

from npu.generation.pretrained import FolderSource
from npu.generation.source import program_key
from npu.quantized import is_quantized, open_checkpoint

__all__ = ["QuantizedSource", "source_class"]


def source_class(path: Any) -> type[FolderSource]:
    is_path = isinstance(path, str | os.PathLike)  # else the source says what is wrong
    return QuantizedSource if is_path and is_quantized(Path(path)) else FolderSource


class QuantizedSource(FolderSource):
    """Programs read the integers and scales of the file, or the numbers that these stand for, as they were compiled."""

    def _open(self, rule: str) -> None:
        self._checkpoint = open_checkpoint(self.path)

    def schemes(self, ir: Any) -> dict[str, Scheme]:
        """By the names of the step, which has the model in a module."""
        known = {spec.name for spec in ir.weights} | set(ir.ties)
        found = {f"model.{name}": _of_the_step(scheme) for name, scheme in self._checkpoint.schemes.items()}
        return {name: scheme for name, scheme in found.items() if name in known}

    def weights_for(self, program: Any, device: Device) -> Weights:
        dtype = self._dtype_name or self._checkpoint.dtype  # without building the model
        weights = self._checkpoint.weights(
            dtype, dense=not any(s.name.endswith(".scales") for s in program.weight_specs)
        )
        weights.check(program)
        return weights

    def tokenizer(self) -> Any:
        if self._checkpoint.tokenizer_of is None:
            return super().tokenizer() if self.path.is_dir() else None
        began = time.perf_counter()
        tokenizer = self._checkpoint.tokenizer_of()
        self._timings["tokenizer"] = time.perf_counter() - began
        return tokenizer

    def _make_key(self) -> str:
        schemes = {name: str(scheme) for name, scheme in self._checkpoint.schemes.items()}
        facts = (self._checkpoint.config, self._checkpoint.dtype, schemes)
        generation = self.path / "generation_config.json"
        more = generation.read_bytes() if generation.is_file() else b""
        return program_key(self._dtype_name, json.dumps(facts, sort_keys=True), more)

    @property
    def _config_file(self) -> Path:
        return super()._config_file if self._checkpoint.format != "gguf" else self._checkpoint.path

    def _config(self, configs: Any) -> Any:
        return self._checkpoint.hugging_face_config(configs)


def _of_the_step(scheme: Scheme) -> Scheme:
    return replace(scheme, order=f"model.{scheme.order}") if scheme.order else scheme

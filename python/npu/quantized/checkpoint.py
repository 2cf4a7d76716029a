"""A checkpoint whose weights may be quantised, whatever its format: configuration, and tensors that are read lazily."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from npu_base.quantization import Scheme
from npu_runtime import Weights

from npu.quantized.entry import Entry, plain_entry
from npu.quantized.errors import refuse
from npu.quantized.sharing import add_tensors
from npu.quantized.tensors import FLOATS

__all__ = ["Checkpoint", "Entry", "is_count", "plain_entry", "take_config"]

_MOST = 1 << 31
QUANTIZATION_KEYS = ("quantization", "quantization_config", "compression_config")


@dataclass(eq=False)
class Checkpoint(Mapping[str, Entry]):
    """Tensors by the names that Hugging Face gives them.

    ``config`` is that of the model, without what it says about quantisation. ``tokenizer_of`` makes the tokenizer if
    it lies in the file itself. ``orders`` are those of columns, by the names that schemes give them.
    """

    path: Path
    format: str
    config: dict[str, Any]
    entries: dict[str, Entry]
    tokenizer_of: Callable[[], Any] | None = field(default=None, repr=False)
    orders: Mapping[str, Entry] = field(default_factory=dict, repr=False)

    def __getitem__(self, name: str) -> Entry:
        return self.entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __repr__(self) -> str:
        return f"Checkpoint('{self.path}', {self.format}, {len(self)} tensors, {len(self.schemes)} quantised)"

    @property
    def schemes(self) -> dict[str, Scheme]:
        """Of the quantised tensors: what a compiler must know."""
        return {name: entry.scheme for name, entry in self.entries.items() if entry.scheme is not None}

    @property
    def dtype(self) -> str:
        """The smallest dtype that has all numbers that are not quantised, or else all scales."""
        plain = {entry.dtype for entry in self.entries.values() if entry.scheme is None and entry.dtype in FLOATS}
        found = plain or {scheme.dtype for scheme in self.schemes.values()}
        return next(iter(found)) if len(found) == 1 else "float32"

    def hugging_face_config(self, configs: Any) -> Any:
        """``configs`` is ``transformers.AutoConfig``."""
        said = {key: value for key, value in self.config.items() if key != "torch_dtype"}
        return configs.for_model(**{**said, "dtype": self.dtype})

    def weights(self, dtype: str | None = None, *, dense: bool = False) -> Weights:
        """The tensors as programs read them: quantised ones as ``name``, ``name.scales`` and ``name.offsets``, or if
        ``dense`` as the numbers that they stand for.

        Memory is shared with the mapped files where possible. What is made of them is made when a program is prepared,
        and again if another program needs it after that. ``dtype`` is that of all other floating-point tensors.
        """
        weights = Weights()
        add_tensors(weights, self.entries if dense else {**self.entries, **self.orders}, dtype, dense=dense)
        return weights


def is_count(value: object, least: int = 1) -> bool:
    """Whether this is a number of something, in a file that may say anything."""
    return type(value) is int and least <= value < _MOST


def take_config(config: dict[str, Any], where: object, *keys: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The configuration of the model, and what its first key of these says about quantisation."""
    said = next((config[key] for key in keys if config.get(key) is not None), None)
    if not isinstance(said, dict):
        refuse(where, f"'{keys[0]}' is not an object", got=type(said).__name__)
    return {key: value for key, value in config.items() if key not in QUANTIZATION_KEYS}, said

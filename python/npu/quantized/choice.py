"""Which weights of a model to quantise, and how."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NoReturn

from npu_base.errors import InvalidValueError, format_error
from npu_base.quantization import Scheme

from npu.quantized.errors import refuse
from npu.quantized.mlx import GROUPS
from npu.quantized.tensors import BITS, FLOATS

__all__ = ["LINEAR", "Choice", "Roles", "roles_of_module", "roles_of_names"]

LINEAR, EMBEDDING, HEAD = "linear", "embedding", "head"
Roles = dict[str, str]
"""What each weight that may be quantised is for."""

_SUFFIX = ".weight"
_EMBEDDINGS = re.compile(r"(embed_tokens|wte|word_embeddings|tok_embeddings|embed_in|embeddings?)")
_HEADS = re.compile(r"(lm_head|embed_out|output|head)")
_OTHERS = re.compile(r"(.*norm.*|ln_.*|wpe|.*pos(ition)?_emb.*|.*position.*|token_type_.*)")


@dataclass(frozen=True)
class Choice:
    """``exclude`` are patterns of layers, as shells have them, that stay as they are; ``layers`` gives bits, or bits
    and a group size, to those that match a pattern. ``scale_dtype`` None means that of the weights.
    """

    bits: int = 4
    group: int = 64
    embeddings: bool = True
    head: bool = True
    exclude: Sequence[str] = ()
    layers: Mapping[str, int | tuple[int, int]] = field(default_factory=dict)
    scale_dtype: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.exclude, str):
            _refuse("exclude is a text", repr(self.exclude), "a list of patterns")
        for bits, group in ((self.bits, self.group), *map(self._form, self.layers.values())):
            _check("bits", bits, BITS)
            _check("group", group, GROUPS)
        if self.scale_dtype is not None:
            _check("scale_dtype", self.scale_dtype, tuple(FLOATS))

    def schemes(self, tensors: Mapping[str, tuple[Sequence[int], str]], roles: Roles) -> dict[str, Scheme]:
        """Of the tensors that are to be quantised, of those with these shapes and dtypes."""
        self._check_patterns(roles)
        found = {}
        for name, role in roles.items():
            layer = name.removesuffix(_SUFFIX)
            kept = (role == EMBEDDING and not self.embeddings) or (role == HEAD and not self.head)
            if kept or any(fnmatchcase(layer, pattern) for pattern in self.exclude):
                continue
            own = next((self._form(form) for p, form in self.layers.items() if fnmatchcase(layer, p)), None)
            bits, group = own or (self.bits, self.group)
            shape, dtype = tensors[name]
            if shape[-1] % group:
                got, action = f"{group}, rows of {shape[-1]}", f"another group size, or leaving it: exclude '{layer}'"
                refuse(f"layer '{layer}'", "the group size does not divide its rows", got=got, action=action)
            scales = self.scale_dtype or dtype
            found[name] = Scheme(bits, group, "bias", False, scales, scales)
        return found

    def _check_patterns(self, roles: Roles) -> None:
        layers = [name.removesuffix(_SUFFIX) for name in roles]
        for pattern in (*self.exclude, *self.layers):
            if not any(fnmatchcase(layer, pattern) for layer in layers):
                names = ", ".join(repr(layer) for layer in layers[:3])
                _refuse("a pattern matches no layer that may be quantised", repr(pattern), f"names such as {names}")

    def _form(self, given: int | tuple[int, int]) -> tuple[int, int]:
        return (given, self.group) if isinstance(given, int) else given


def roles_of_module(module: Any) -> Roles:
    """By the classes of its parts: linear layers and embeddings, but for embeddings of positions."""
    from torch import nn

    def called(method: str) -> Any:
        try:
            return getattr(module, method)()
        except (AttributeError, NotImplementedError):
            return None

    table, head = called("get_input_embeddings"), called("get_output_embeddings")
    roles = {}
    for name, part in module.named_modules(remove_duplicate=False):
        key = f"{name}{_SUFFIX}" if name else "weight"
        if part is head:
            roles[key] = HEAD
        elif isinstance(part, nn.Linear):
            roles[key] = LINEAR
        elif isinstance(part, nn.Embedding) and (table is None or part is table):
            roles[key] = EMBEDDING
    return roles


def roles_of_names(shapes: Mapping[str, Sequence[int]]) -> Roles:
    """Of a state dict alone: weights of two dimensions, by the last part of their names."""
    roles = {}
    for name, shape in shapes.items():
        layer = name.removesuffix(_SUFFIX)
        last = layer.rpartition(".")[2]
        if len(shape) != 2 or layer == name or _OTHERS.fullmatch(last):
            continue
        is_embedding, is_head = _EMBEDDINGS.fullmatch(last), _HEADS.fullmatch(layer)
        roles[name] = EMBEDDING if is_embedding else HEAD if is_head else LINEAR
    return roles


def _check(name: str, given: Any, allowed: Iterable[Any]) -> None:
    if isinstance(given, bool) or given not in allowed:
        _refuse(f"{name} is not supported", f"{given!r:.60}", f"one of {', '.join(map(str, allowed))}")


def _refuse(what: str, got: str, expected: str) -> NoReturn:
    raise InvalidValueError(format_error("quantize", what, got=got, expected=expected))

"""One step of a causal language model, traced with the caches of all layers as inputs that it updates."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch_ir import IR, extract_ir
from torch_ir.tracing import ONE_AT_A_TIME

from npu.generation.checks import UnsupportedModelError
from npu.generation.int8_cache import dequantized_rows, quantized_rows

__all__ = ["CacheShape", "Step", "cache_shapes", "extract_step"]

_ATTENTION = "npu_step"


@dataclass(frozen=True)
class CacheShape:
    """Sizes of the keys and values that a layer caches for each token."""

    heads: int
    key_width: int
    value_width: int
    dtype: torch.dtype
    capped: bool = False  # scores of attention are capped


class _Masks:
    """Attention masks. A query sees no keys after its own position, outside the layer's window, or of padding."""

    def __init__(self, position: Tensor, start: Tensor | None, capacity: int) -> None:
        self.calls, self.capped = 0, False
        self.windows: set[int | None] = set()
        self._position, self._start = position, start
        self._keys = torch.arange(capacity, device=position.device)
        self._by_window: dict[int | None, Tensor] = {}

    def of(self, window: int | None) -> Tensor:
        self.calls += 1
        self.windows.add(window)
        if window not in self._by_window:
            self._by_window[window] = self._make(window)
        return self._by_window[window]

    def _make(self, window: int | None) -> Tensor:
        query = self._position[:, None]
        mask = self._keys <= query
        if window is not None:
            mask = mask & (self._keys > query - window)
        if self._start is None:
            return mask[None, None]
        # Padding sees itself: a row that sees nothing is NaN, and the NaN would stay in the caches.
        mask = mask & (self._keys >= self._start[:, None, None]) | (self._keys == query)
        return mask[:, None]


_masks: _Masks | None = None  # those of the step that is being traced


def _attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Called by transformers in every layer: its own attention with the mask of the step."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if _masks is None or attention_mask is not None:
        raise UnsupportedModelError("[generate] the model builds its own attention masks, which is not supported")
    for name in ("s_aux", "position_bias"):
        if options.get(name) is not None:
            raise UnsupportedModelError(f"[generate] the model's attention uses {name}, which is not supported")
    mask = _masks.of(options.pop("sliding_window", None))
    if options.get("softcap") is not None:
        _masks.capped = True
        return _capped(query, key, value, mask, options["softcap"], options.get("scaling")), None
    options.pop("is_causal", None)
    done, _ = sdpa_attention_forward(module, query, key, value, mask, is_causal=False, **options)
    return done, None


def _capped(query: Tensor, key: Tensor, value: Tensor, mask: Tensor, cap: float, scaling: float | None) -> Tensor:
    repeat = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(repeat, 1), value.repeat_interleave(repeat, 1)
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scaling is None else scaling)
    scores = (torch.tanh(scores / cap) * cap).masked_fill(~mask, torch.finfo(scores.dtype).min)
    weights = torch.softmax(scores, -1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous()


@contextmanager
def step_attention(model: Any) -> Iterator[None]:
    """Make the model call ``_attention`` through transformers' interface, inside the block."""
    from transformers import AttentionInterface

    AttentionInterface.register(_ATTENTION, _attention)
    configs = {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values()
    before = [(config, name, getattr(config, name, None)) for config in configs for name in _IMPLEMENTATIONS]
    modes = [(module, module.training) for module in model.modules()]
    try:
        _set_attention(model)
        model.eval()
        yield
    finally:
        for config, name, value in before:
            if getattr(config, name, None) is not value:
                setattr(config, name, value)
        for module, training in modes:
            module.training = training


_IMPLEMENTATIONS = ("_attn_implementation", "_experts_implementation")


def _set_attention(model: Any) -> None:
    try:
        model.set_attn_implementation(_ATTENTION)
    except (AttributeError, ValueError, KeyError, ImportError) as error:
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} does not use the attention interface of transformers: {error}; "
            "expected a causal language model of transformers that does"
        ) from error
    # Products of gathered weights, so that no shape depends on which experts a token uses.
    for config in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
        if getattr(config, "_experts_implementation", None) is not None:
            config._experts_implementation = "batched_mm"


def _cache_argument(model: Any) -> str:
    """The name of forward's cache argument. Newer versions of transformers warn about the old name."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def _cache_class() -> type:
    from transformers.cache_utils import Cache

    class Caches(Cache):
        """Writes plain tensors at the positions of this step. Without tensors, it records what would be written.

        Each layer has keys and values, and with ``int8`` also the scales of keys and of values.
        """

        is_compileable = False

        def __init__(self, flat: list[Tensor], position: Tensor, int8: bool) -> None:
            super().__init__(layers=[])
            self.flat, self.position, self.int8 = list(flat), position, int8
            self.parts = 4 if int8 else 2
            self.seen: dict[int, tuple[Tensor, Tensor]] = {}
            self.asked = False  # whether the model asked for the length, which steps do not know

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            layer = layer_idx
            if layer in self.seen:
                raise UnsupportedModelError("[generate] a layer of the model updates its cache twice in one step")
            self.seen[layer] = key_states, value_states
            if not self.flat:
                return key_states, value_states
            return self._write(layer, 0, key_states), self._write(layer, 1, value_states)

        def _write(self, layer: int, kind: int, new: Tensor) -> Tensor:
            """All rows, with the new ones."""
            first, dtype = self.parts * layer + kind, new.dtype
            scales: Tensor | None = None
            if self.int8:
                new, scales = quantized_rows(new)
            rows = self.flat[first] = self.flat[first].index_copy(2, self.position, new)
            if scales is None:
                return rows
            scales = self.flat[first + 2] = self.flat[first + 2].index_copy(2, self.position, scales)
            return dequantized_rows(rows, scales, dtype)

        def get_seq_length(self, *_: Any, **__: Any) -> int:
            self.asked = True
            return 0

        def __len__(self) -> int:
            return len(self.flat) // self.parts

    return Caches


class Step(nn.Module):
    """Runs tokens at consecutive positions, which all rows share. Returns the next token and the scores after ``last``.

    Shorter rows start later, at ``start``, and do not see anything before it.
    """

    def __init__(self, model: nn.Module, capacity: int, int8: bool = False) -> None:
        super().__init__()
        self.model, self.capacity, self.int8 = model, capacity, int8

    def run(
        self, input_ids: Tensor, position: Tensor, last: Tensor | None, start: Tensor | None, caches: list[Tensor]
    ) -> tuple[Tensor, Any, _Masks]:
        global _masks
        cache = _cache_class()(caches, position, self.int8)
        masks = _masks = _Masks(position, start, self.capacity if caches else input_ids.shape[1])
        ids = position[None] if start is None else (position - start[:, None]).clamp(min=0)
        keep = {} if last is None else {"logits_to_keep": last}
        try:
            named = {_cache_argument(self.model): cache}
            out = self.model(input_ids=input_ids, position_ids=ids, use_cache=True, **named, **keep)
        finally:
            _masks = None
        return out.logits[:, -1], cache, masks

    def forward(
        self,
        input_ids: Tensor,
        position: Tensor,
        last: Tensor | None,
        start: Tensor | None,
        caches: list[Tensor],
    ) -> tuple[Tensor, ...]:
        logits, cache, _ = self.run(input_ids, position, last, start, caches)
        return (logits.argmax(-1), logits, *cache.flat)


def cache_shapes(model: nn.Module) -> list[CacheShape]:
    """The cache of each layer, observed in a run over one token."""
    if "logits_to_keep" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} is not a causal language model: its forward takes no logits_to_keep"
        )
    if not hasattr(getattr(model, "config", None), "model_type"):
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} is not a model of transformers: it has no config"
        )
    _refuse_other_positions(model)
    if "position_ids" not in inspect.signature(model.forward).parameters:
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} counts positions with its own cache: its forward takes no position_ids"
        )
    device = next(model.parameters()).device
    one = torch.zeros(1, 1, dtype=torch.int64, device=device)
    try:
        with ONE_AT_A_TIME, torch.no_grad(), step_attention(model):
            _, cache, masks = Step(model, 1).run(one, one[0], None, None, [])
    except UnsupportedModelError:
        raise
    except (LookupError, AttributeError, TypeError, NotImplementedError, RuntimeError) as error:
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} does not run with key-value caches: {type(error).__name__}: {error}"
        ) from error
    seen = cache.seen
    if cache.asked:
        raise UnsupportedModelError(f"[generate] {type(model).__name__} counts positions with its own cache")
    if not seen or sorted(seen) != list(range(len(seen))) or masks.calls != len(seen):
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} does not keep a key and a value for each token in every layer; got "
            f"{len(seen)} layers with caches and {masks.calls} attentions; expected one of each in every layer"
        )
    _refuse_forgotten_window(model, masks)
    shapes = []
    for layer in range(len(seen)):
        key, value = seen[layer]
        shapes.append(CacheShape(key.shape[1], key.shape[3], value.shape[3], key.dtype, masks.capped))
    return shapes


def _refuse_forgotten_window(model: Any, masks: _Masks) -> None:
    """Refuse a sliding window that only the model's own masks implement."""
    config = model.config
    window: Any = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    wanted = window is not None and getattr(config, "use_sliding_window", True) is not False
    if kinds is not None:
        wanted = wanted and "sliding_attention" in kinds
    if wanted and window < getattr(config, "max_position_embeddings", window + 1) and masks.windows == {None}:
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} does not pass its sliding window to its attention"
        )


def _refuse_other_positions(model: nn.Module) -> None:
    """Refuse positions that do not start at zero, or whose angles depend on their number."""
    for name, module in model.named_modules():
        if hasattr(module, "create_position_ids_from_input_ids"):
            raise UnsupportedModelError(f"[generate] the positions of '{name}' start after its padding token")
        kinds = getattr(module, "rope_type", None)
        for kind in kinds.values() if isinstance(kinds, dict) else [kinds]:
            if kind in ("dynamic", "longrope"):
                raise UnsupportedModelError(
                    f"[generate] the rotary positions of '{name}' ({kind}) depend on the length of the text"
                )


def extract_step(
    model: nn.Module,
    shapes: list[CacheShape],
    batch: int,
    rows: int,
    capacity: int,
    name: str,
    buffers: dict[str, Tensor] | None = None,
    int8: bool = False,
) -> IR:
    """The IR of a step over ``rows`` tokens of ``batch`` sequences, with caches of the model's dtype or of ``int8``.
    ``buffers`` gets the values of the model's own buffers, which are costly to find for a model on the meta device, and
    gives them to the next step."""
    if int8 and any(shape.capped for shape in shapes):
        raise UnsupportedModelError(
            f"[generate] {type(model).__name__} caps the scores of its attention (softcap), which cannot read caches "
            "of int8; got cache_dtype='int8'; expected None"
        )
    device = next(model.parameters()).device

    def index(*shape: int) -> Tensor:
        return torch.zeros(shape, dtype=torch.int64, device=device)

    caches, outputs = [], ["next_token", "logits"]
    for layer, shape in enumerate(shapes):
        rows_of = batch, shape.heads, capacity
        for kind, width in (("key", shape.key_width), ("value", shape.value_width)):
            dtype = torch.int8 if int8 else shape.dtype
            caches.append(torch.zeros(*rows_of, width, dtype=dtype, device=device))
            outputs.append(f"{kind}_{layer}")
        for kind in ("key_scales", "value_scales") if int8 else ():
            caches.append(torch.zeros(rows_of, device=device))
            outputs.append(f"{kind}_{layer}")
    inputs = {
        "input_ids": index(batch, rows),
        "position": torch.arange(rows, device=device),
        "last": index(1) if rows > 1 else None,
        "start": index(batch) if batch > 1 else None,
        "caches": caches,
    }
    name = f"{name}_{rows}" + (f"x{batch}" if batch > 1 else "")
    step = Step(model, capacity, int8).eval()
    with ONE_AT_A_TIME, step_attention(model):
        ir = extract_ir(step, (), inputs, model_name=name, output_names=outputs, buffers=buffers or None)
    if buffers is not None:
        buffers.update({name: ir.constants[name] for name, _ in step.named_buffers() if name in ir.constants})
    return ir

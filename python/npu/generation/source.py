"""The source of a generator's programs and weights: a model, or a folder that contains one."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

from npu_base.quantization import Scheme
from npu_base.tensors import plain_tensors
from npu_runtime import Device, Weights, load_weights

from npu.generation.checks import invalid, short_repr

__all__ = [
    "Facts",
    "ModelSource",
    "Source",
    "facts_of",
    "program_key",
    "stop_tokens_of",
]


@dataclass(frozen=True)
class Facts:
    """Properties of a model that a generator needs besides its programs."""

    kind: str
    vocabulary: int
    positions: int  # 0 means unlimited
    experts: bool
    stop_tokens: tuple[int, ...]

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Facts:
        data = json.loads(text)
        return cls(**{**data, "stop_tokens": tuple(data["stop_tokens"])})


class Source(Protocol):
    @property
    def facts(self) -> Facts: ...

    def extract(self, batch: int, rows: int, capacity: int, int8: bool = False) -> Any:
        """The IR of a step, with caches of the model's dtype or of int8."""

    def schemes(self, ir: Any) -> dict[str, Scheme]:
        """Of the weights of the IR that are quantised."""
        ...

    def weights_for(self, program: Any, device: Device) -> Weights: ...

    def key(self) -> str | None:
        """A key for the model's programs in the cache, or None if they cannot be cached."""


def facts_of(model: Any, generation_config: Any = None) -> Facts:
    config = model.config
    experts = any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts"))
    return Facts(
        str(config.model_type),
        int(model.get_input_embeddings().weight.shape[0]),
        int(getattr(config, "max_position_embeddings", None) or 0),
        experts,
        tuple(sorted(stop_tokens_of(generation_config, config))),
    )


def stop_tokens_of(*configs: Any) -> frozenset[int]:
    """The end-of-text tokens of the first config that names any."""
    for config in configs:
        ends = getattr(config, "eos_token_id", None)
        if ends is not None:
            return frozenset([ends] if isinstance(ends, int) else ends)
    return frozenset()


class ModelSource:
    """A model with its weights, or a model on the meta device and separate weights."""

    def __init__(self, model: Any, weights: Weights | None) -> None:
        import torch

        from npu.generation.steps import cache_shapes

        if not isinstance(model, torch.nn.Module):
            action = "from_pretrained" if isinstance(model, str | os.PathLike) else None
            raise invalid(
                "model has the wrong type", short_repr(model), "a causal language model of transformers", action
            )
        if weights is not None and not isinstance(weights, Weights):
            raise invalid("weights has the wrong type", short_repr(weights), "Weights", "npu_runtime.load_weights(...)")
        self._model, self._weights = model, weights
        self._shapes = cache_shapes(model)
        self.facts = facts_of(model, getattr(model, "generation_config", None))

    def extract(self, batch: int, rows: int, capacity: int, int8: bool = False) -> Any:
        from npu.generation.steps import extract_step

        return extract_step(self._model, self._shapes, batch, rows, capacity, self.facts.kind, int8=int8)

    def schemes(self, ir: Any) -> dict[str, Scheme]:
        return {}

    def weights_for(self, program: Any, device: Device) -> Weights:
        if self._weights is not None:
            return self._weights
        state = plain_tensors({**dict(self._model.named_buffers()), **self._model.state_dict()})
        read = {spec.name for spec in program.weight_specs}
        tensors = {f"model.{name}": t.detach() for name, t in state.items() if f"model.{name}" in read}
        if any(tensor.is_meta for tensor in tensors.values()):
            raise invalid(
                "the model has no weights",
                "parameters on the meta device",
                "a model with values",
                "passing weights=...",
            )
        return load_weights(tensors, program, device)

    def key(self) -> str | None:
        return None


def program_key(*parts: Any) -> str:
    """A hash of these parts and of everything that affects how a model is compiled."""
    digest = hashlib.sha256(json.dumps([*map(str, parts), _tools()]).encode())
    return digest.hexdigest()[:32]


def _tools() -> str:
    """A hash of the versions of libraries and the sources of our own packages."""
    import npu_compiler

    python = Path(npu_compiler.__file__).parents[1]
    sums = hashlib.sha256()
    folders = (Path(npu_compiler.__file__).parent, python / "torch_ir", Path(__file__).parent)
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            sums.update(path.read_bytes())
    for package in ("torch", "transformers"):
        try:
            sums.update(version(package).encode())
        except PackageNotFoundError:
            sums.update(b"none")
    return sums.hexdigest()

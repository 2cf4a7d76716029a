"""A model from a folder: its configuration, its weights where they lie, and its tokenizer if it has one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from npu_runtime import InvalidValueError, Weights, load_weights
from npu_runtime.errors import format_error
from torch import nn

__all__ = ["Pretrained", "load_folder"]

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")


@dataclass
class Pretrained:
    model: nn.Module  # on the meta device
    tokenizer: Any
    stop_tokens: frozenset[int]
    weights_for: Callable[[Any], Weights]


def load_folder(folder: str | os.PathLike[str], dtype: Any, timings: dict[str, float]) -> Pretrained:
    path = Path(folder)
    if not (path / "config.json").is_file():
        raise InvalidValueError(
            format_error("generate", f"{path} holds no model", expected="a folder with config.json and safetensors")
        )
    began = time.perf_counter()
    import transformers

    classes = transformers.AutoConfig, transformers.AutoModelForCausalLM  # which are imported only now
    timings["import"] = time.perf_counter() - began
    began = time.perf_counter()
    config = classes[0].from_pretrained(path, local_files_only=True)
    kind = _dtype(dtype if dtype is not None else getattr(config, "dtype", None))
    with torch.device("meta"):
        model = classes[1].from_config(config, dtype=kind).eval()
    timings["model"] = time.perf_counter() - began

    def weights_for(program: Any) -> Weights:
        return _weights(path, model, kind, program)

    return Pretrained(model, _tokenizer(path), _stop_tokens(path, config), weights_for)


def _dtype(dtype: Any) -> torch.dtype:
    if dtype is None:
        return torch.float32
    found = dtype if isinstance(dtype, torch.dtype) else getattr(torch, str(dtype).removeprefix("torch."), None)
    if found not in (torch.float32, torch.float16, torch.bfloat16):
        raise InvalidValueError(
            format_error("generate", "the dtype is unknown", got=repr(dtype), expected="float32, float16 or bfloat16")
        )
    return found


def _weights(path: Path, model: nn.Module, dtype: torch.dtype, program: Any) -> Weights:
    """The files as they lie, mapped; those that the model stores in another form are read by transformers."""
    if any(path.glob("*.safetensors")):
        mapped = load_weights(path)
        try:
            mapped.check(program)
            return mapped
        except InvalidValueError:
            pass  # other names, another dtype, or experts that are stored one by one
    import transformers

    read = transformers.AutoModelForCausalLM.from_pretrained(path, dtype=dtype, local_files_only=True)
    wanted = {spec.name for spec in program.weight_specs}
    tensors = {f"model.{name}": t.detach() for name, t in {**dict(read.named_buffers()), **read.state_dict()}.items()}
    return load_weights({name: tensor for name, tensor in tensors.items() if name in wanted}, program)


def _tokenizer(path: Path) -> Any:
    if not any((path / name).is_file() for name in _TOKENIZERS):
        return None
    import transformers

    return transformers.AutoTokenizer.from_pretrained(path, local_files_only=True)


def _stop_tokens(path: Path, config: Any) -> frozenset[int]:
    from npu.generation.generator import stop_tokens_of

    generation = None
    if (path / "generation_config.json").is_file():
        import transformers

        generation = transformers.GenerationConfig.from_pretrained(path, local_files_only=True)
    return stop_tokens_of(generation, config)

"""A model in a folder: its configuration, its weights, and its tokenizer if it has one."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from npu_base.quantization import Scheme
from npu_runtime import Device, InvalidValueError, MissingWeightError, Weights, load_weights
from npu_runtime.errors import format_error

from npu.generation.cache import Cache
from npu.generation.checks import invalid, short_repr
from npu.generation.source import Facts, facts_of, program_key

if TYPE_CHECKING:
    import torch

__all__ = ["FolderSource", "tokenizer_of"]

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "tokenizer_config.json", "vocab.json", "spiece.model")
_DTYPES = ("float32", "float16", "bfloat16")


class FolderSource:
    """Builds the model, without weights, only if a program must be compiled. Nothing is downloaded, and code in the
    folder is not run: transformers would ask the user whether to."""

    def __init__(
        self, folder: str | os.PathLike[str], dtype: Any, cache: Cache | None, timings: dict[str, float]
    ) -> None:
        rule = "a folder with config.json and safetensors"
        if not isinstance(folder, str | os.PathLike):
            raise invalid(
                "folder must be a path", short_repr(folder), rule, "from_model" if hasattr(folder, "forward") else None
            )
        self.path, self._cache, self._timings = Path(folder), cache, timings
        self._open(rule)
        self._dtype_name = str(dtype).removeprefix("torch.") if dtype is not None else None
        if self._dtype_name not in (None, *_DTYPES):
            raise invalid("dtype is not supported", short_repr(dtype), f"one of {', '.join(_DTYPES)}")
        self._model: Any = None
        self._shapes: Any = None
        self._buffers: dict[str, Any] = {}
        self._key = self._make_key() if cache is not None else None
        self.facts = self._find_facts()

    def _open(self, rule: str) -> None:
        if not self._config_file.is_file():
            raise invalid(f"{self.path} does not contain a model", "no config.json", rule)

    def key(self) -> str | None:
        return self._key

    def extract(self, batch: int, rows: int, capacity: int, int8: bool = False) -> Any:
        from npu.generation.steps import cache_shapes, extract_step

        model = self._built()
        if self._shapes is None:
            self._shapes = cache_shapes(model)
        return extract_step(model, self._shapes, batch, rows, capacity, self.facts.kind, self._buffers, int8)

    def schemes(self, ir: Any) -> dict[str, Scheme]:
        return {}

    def weights_for(self, program: Any, device: Device) -> Weights:
        """Maps the files if they fit the program. Otherwise transformers reads and converts them."""
        if any(self.path.glob("*.safetensors")):
            mapped = load_weights(self.path)
            try:
                mapped.check(program)
                return mapped
            except InvalidValueError:
                pass  # other names, another dtype, or experts stored separately
        import transformers

        dtype = self._dtype(self._built().dtype)
        loaded: Any = transformers.AutoModelForCausalLM.from_pretrained(
            self.path, dtype=dtype, local_files_only=True, trust_remote_code=False, output_loading_info=True
        )
        read, report = loaded
        missing = sorted({*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])})
        if missing:  # transformers would use random values
            raise MissingWeightError(
                format_error(
                    "generate",
                    f"the checkpoint in {self.path} does not have all weights of the model",
                    got=", ".join(missing[:5]),
                )
            )
        wanted = {spec.name for spec in program.weight_specs}
        state = {**dict(read.named_buffers()), **read.state_dict()}
        tensors = {f"model.{name}": tensor.detach() for name, tensor in state.items()}
        return load_weights({name: tensor for name, tensor in tensors.items() if name in wanted}, program)

    def tokenizer(self) -> Any:
        began = time.perf_counter()
        tokenizer = tokenizer_of(self.path)
        if tokenizer is not None:
            self._timings["tokenizer"] = time.perf_counter() - began
        return tokenizer

    def _make_key(self) -> str:
        files = [self.path / "config.json", self.path / "generation_config.json"]
        return program_key(self._dtype_name, *(f.read_bytes() if f.is_file() else b"" for f in files))

    def _find_facts(self) -> Facts:
        name = f"{self._key}.json"
        cached = self._cache.find(name) if self._cache is not None else None
        if cached is not None:
            try:
                return Facts.from_json(cached.read_text())
            except (OSError, ValueError, TypeError, KeyError):
                pass  # damaged, or written by another version
        facts = facts_of(self._built(), self._generation_config())
        if self._cache is not None:
            self._cache.keep(name, facts.to_json())
        return facts

    def _built(self) -> Any:
        if self._model is not None:
            return self._model
        began = time.perf_counter()
        import torch
        import transformers

        models = transformers.AutoModelForCausalLM  # transformers imports it on first access
        self._timings["import"] = time.perf_counter() - began
        began = time.perf_counter()
        try:
            config = self._config(transformers.AutoConfig)
            with torch.device("meta"):
                dtype = self._dtype(getattr(config, "dtype", None) or torch.float32)
                self._model = models.from_config(config, dtype=dtype).eval()
        except Exception as error:  # a wrong configuration may make transformers raise anything
            cause = f"{type(error).__name__}: {_one_line(error)}"
            raise invalid(f"no model can be built from {self._config_file}", cause, None) from error
        self._timings["model"] = time.perf_counter() - began
        return self._model

    @property
    def _config_file(self) -> Path:
        return self.path / "config.json"

    def _config(self, configs: Any) -> Any:
        return configs.from_pretrained(self.path, local_files_only=True, trust_remote_code=False)

    def _dtype(self, own: torch.dtype) -> torch.dtype:
        import torch

        return getattr(torch, self._dtype_name) if self._dtype_name else own

    def _generation_config(self) -> Any:
        if not (self.path / "generation_config.json").is_file():
            return None
        import transformers

        return transformers.GenerationConfig.from_pretrained(self.path, local_files_only=True)


def tokenizer_of(folder: Path) -> Any:
    """None if the folder has none."""
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        return None
    import transformers

    try:
        return transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # a damaged file may make the libraries raise anything
        cause = f"{type(error).__name__}: {_one_line(error)}"
        action = "copying its files again, or tokenizer=None with tokens instead of texts"
        raise invalid(
            f"the tokenizer in {folder} cannot be loaded", cause, "the files of a tokenizer", action
        ) from error


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]

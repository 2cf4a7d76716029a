"""Models in Hugging Face folders. Needs transformers; nothing is downloaded, and no code of the folder is run."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NoReturn

import torch
from npu_base.errors import InvalidValueError, NotBuiltError, NPUError, format_error
from npu_runtime import MissingWeightError
from npu_runtime.host import numpy_to_torch
from torch import nn

from npu.commands.transformers_import import leave_out_torchvision
from npu.quantized import Checkpoint, is_quantized, open_checkpoint

__all__ = ["build_pretrained"]


def build_pretrained(folder: Path, weights: str) -> nn.Module:
    """The model that the folder's config.json names. ``weights`` says which it gets: its "own", those in the folder;
    "random" ones; or none, on the "meta" device."""
    transformers = _transformers()
    try:
        checkpoint = open_checkpoint(folder) if is_quantized(folder) else None
        if checkpoint is not None:
            config = checkpoint.hugging_face_config(transformers.AutoConfig)
        else:
            config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
        cls = _class_of(transformers, config)
        if hasattr(config, "use_cache"):
            config.use_cache = False  # a cache is no result of one run
        if weights != "own":
            model = _empty(cls, config, weights)
        elif checkpoint is not None:
            model = _dequantized(_empty(cls, config, "random"), checkpoint)
        else:
            model = _loaded(cls, folder, config)
    except (MissingWeightError, NPUError, KeyboardInterrupt):
        raise
    except Exception as error:  # a wrong configuration may make transformers raise anything
        _refuse(folder, error, weights)
    return model.eval()


def _transformers() -> Any:
    leave_out_torchvision()
    try:
        import transformers
    except ImportError as error:
        what, action = f"a Hugging Face folder needs transformers: {error}", "`pip install transformers`"
        raise NotBuiltError(format_error("npu", what, action=action)) from error
    transformers.utils.logging.set_verbosity_error()  # what matters is an error of ours
    transformers.utils.logging.disable_progress_bar()  # it would break ours
    return transformers


def _class_of(transformers: Any, config: Any) -> Any:
    """The class that the checkpoint was made with, which has its head; without one, the model alone."""
    classes = [getattr(transformers, str(name), None) for name in getattr(config, "architectures", None) or ()]
    models = [cls for cls in classes if isinstance(cls, type) and issubclass(cls, transformers.PreTrainedModel)]
    return models[0] if models else transformers.AutoModel


def _loaded(cls: Any, folder: Path, config: Any) -> nn.Module:
    model, report = cls.from_pretrained(
        folder, config=config, dtype="auto", local_files_only=True, output_loading_info=True
    )
    missing = sorted({*report["missing_keys"], *(str(key[0]) for key in report["mismatched_keys"])})
    _refuse_missing(folder, type(model).__name__, missing)
    return model


def _dequantized(model: nn.Module, checkpoint: Checkpoint) -> nn.Module:
    """With the numbers that the weights of a quantised checkpoint stand for, in the dtype of the model."""
    own, prefix = model.state_dict(), f"{model.base_model_prefix}."
    missing = set(own)
    for name, entry in checkpoint.items():
        key = next((key for key in (name, name.removeprefix(prefix), prefix + name) if key in own), None)
        if key is not None:
            own[key].copy_(numpy_to_torch(entry.dequantized()).reshape(own[key].shape))
            missing -= {other for other, tensor in own.items() if tensor.data_ptr() == own[key].data_ptr()}
    _refuse_missing(checkpoint.path, type(model).__name__, sorted(missing))
    return model


def _refuse_missing(folder: Path, name: str, missing: list[str]) -> None:
    """Models would have random values instead."""
    if missing:
        what = f"the checkpoint in {folder} does not have all weights of {name}"
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        got, action = f"{', '.join(missing[:5])}{more} missing", "--weights FILE, or --random-weights for all"
        raise MissingWeightError(format_error("npu", what, got=got, action=action))


def _empty(cls: Any, config: Any, weights: str) -> nn.Module:
    dtype = getattr(config, "dtype", None)
    make = getattr(cls, "from_config", None) or cls._from_config
    with torch.device("meta" if weights == "meta" else "cpu"):
        return make(config, dtype=dtype if isinstance(dtype, torch.dtype) else torch.float32)


def _refuse(folder: Path, error: Exception, weights: str) -> NoReturn:
    cause = f"{type(error).__name__}: {' '.join(str(error).split())[:300].rstrip('.')}"
    files = [path for pattern in ("*.safetensors", "*.bin") for path in folder.glob(pattern)]
    action = None if weights != "own" or files else "--random-weights, or --weights FILE, because it has no weights"
    raise InvalidValueError(
        format_error("npu", f"no model can be built from {folder}", got=cause, action=action)
    ) from error

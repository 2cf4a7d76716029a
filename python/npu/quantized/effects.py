"""What quantisation changes in the layers and the results of a language model, on prompts.

No model is in memory: the weights of a module are read from the files before it runs, and given back after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from npu_base.errors import NPUError
from npu_runtime.host import numpy_to_torch
from torch import Tensor, nn
from torch_ir.recovery import recover_buffers

from npu.quantized.checkpoint import Checkpoint, Entry
from npu.quantized.errors import refuse
from npu.quantized.rounding import as_float32, decibels
from npu.quantized.tensors import FLOATS, QuantizedTensor, dtype_name

__all__ = ["Effects", "measure", "stored_names"]


@dataclass(frozen=True)
class Effects:
    """``layers`` has the ratio of signal to noise of each quantised layer's outputs, in decibels, when its inputs are
    those of the original model; of a weight that two layers read, the lower ratio. ``divergence`` is the mean over all
    tokens of KL(original, quantised) of what may follow, in nats, and ``agreement`` the part of the tokens after which
    the same one is the most likely."""

    tokens: int
    layers: dict[str, float]
    divergence: float
    agreement: float


@torch.no_grad()
def measure(
    model: nn.Module,
    original: Checkpoint,
    quantized: Checkpoint,
    prompts: Sequence[Sequence[int]],
    progress: Callable[[str, int, int], None] | None = None,
) -> Effects:
    """``model`` is on meta, and gets buffers. All is computed in float32."""
    _fill_buffers(model, original)
    model.float()
    names = stored_names(model, original)
    sums: dict[nn.Module, list[float]] = {}
    divergence = agreement = 0.0
    tokens = 0
    for at, prompt in enumerate(prompts):
        ids = torch.tensor([list(prompt)])
        with _weights_of(names, original), _compared(names, quantized, sums):
            wanted = _log_probabilities(model, ids)
        with _weights_of(names, quantized):
            got = _log_probabilities(model, ids)
        agreement += int((wanted.argmax(-1) == got.argmax(-1)).sum())
        got -= wanted
        divergence -= float((got * wanted.exp_()).sum(dtype=torch.float64))
        tokens += len(prompt)
        if progress is not None:
            progress("measuring", at + 1, len(prompts))
    layers: dict[str, float] = {}
    for module, (power, error) in sums.items():
        layer = names[module]["weight"].removesuffix(".weight")
        layers[layer] = min(layers.get(layer, float("inf")), decibels(power, error))
    return Effects(tokens, layers, max(divergence, 0.0) / tokens, agreement / tokens)


def _log_probabilities(model: Any, ids: Tensor) -> Tensor:
    """Of each token of the vocabulary after each token of the prompt."""
    try:
        logits = model(input_ids=ids).logits
    except NPUError:
        raise
    except Exception as error:  # the code of a model may raise anything
        refuse(type(model).__name__, "does not run on the prompts", got=f"{type(error).__name__}: {error}")
    if not logits.isfinite().all():
        refuse(type(model).__name__, "gives logits that are not finite")
    return logits[0].float().log_softmax(-1)


_Names = dict[nn.Module, dict[str, str]]
"""The names in the file of the parameters that modules have themselves."""


def stored_names(model: Any, checkpoint: Checkpoint) -> _Names:
    """Refuses a model whose weights have other names in the file."""
    model.tie_weights()
    prefix = f"{model.base_model_prefix}."
    stored: dict[int, str] = {}  # a tied parameter has the name of whichever the file has
    for name, parameter in model.named_parameters(remove_duplicate=False):
        key = next((key for key in (name, prefix + name, name.removeprefix(prefix)) if key in checkpoint), None)
        if key is not None:
            stored.setdefault(id(parameter), key)
    names: _Names = {}
    for path, module in model.named_modules():
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) not in stored:
                refuse(checkpoint.path, f"has no weight '{path}.{name}' of {type(model).__name__}")
            names.setdefault(module, {})[name] = stored[id(parameter)]
    return names


def _fill_buffers(model: nn.Module, checkpoint: Checkpoint) -> None:
    on_meta = [name for name, buffer in model.named_buffers() if buffer.is_meta]
    values = recover_buffers(model, [name for name in on_meta if name not in checkpoint])
    for name in on_meta:
        owner, _, attribute = name.rpartition(".")
        value = _numbers(checkpoint[name]) if name in checkpoint else values.get(name)
        if value is None:
            refuse(type(model).__name__, "has a buffer whose values are not known", got=f"'{name}'")
        model.get_submodule(owner)._buffers[attribute] = value


def _numbers(entry: Entry) -> Tensor:
    tensor = entry.load()
    if isinstance(tensor, QuantizedTensor):
        numbers = tensor.dequantize()
    else:
        numbers = as_float32(tensor) if dtype_name(tensor) in FLOATS else tensor
    result = numpy_to_torch(numbers)
    entry.release()
    return result


@contextmanager
def _weights_of(names: _Names, checkpoint: Checkpoint) -> Iterator[None]:
    """Modules that run have the checkpoint's weights meanwhile."""
    kept = {module: dict(module._parameters) for module in names}

    def fill(own: dict[str, str], module: nn.Module, _: Any) -> None:
        for name, key in own.items():
            module._parameters[name] = nn.Parameter(_numbers(checkpoint[key]), requires_grad=False)

    def empty(module: nn.Module, *_: Any) -> None:
        module._parameters.update(kept[module])

    handles = [
        handle
        for module, own in names.items()
        for handle in (
            module.register_forward_pre_hook(partial(fill, own)),
            module.register_forward_hook(empty, always_call=True),
        )
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _compared(names: _Names, quantized: Checkpoint, sums: dict[nn.Module, list[float]]) -> Iterator[None]:
    """Adds up the power of what layers return, and of what the quantised weight changes in it."""

    def compare(key: str, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        module._parameters["weight"] = None  # before the other is read: only one is in memory
        module._parameters["weight"] = nn.Parameter(_numbers(quantized[key]), requires_grad=False)
        error = module.forward(*args, **kwargs)  # without hooks
        error -= output
        power = sums.setdefault(module, [0.0, 0.0])
        power[0] += float(output.square().sum(dtype=torch.float64))
        power[1] += float(error.square_().sum(dtype=torch.float64))

    handles = [
        module.register_forward_hook(partial(compare, own["weight"]), with_kwargs=True, prepend=True)
        for module, own in names.items()
        if "weight" in own and quantized[own["weight"]].scheme is not None
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

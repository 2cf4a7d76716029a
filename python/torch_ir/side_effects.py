"""What ``forward`` does to its module that a graph does not have: changed numbers, replaced parameters, ``.data``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from .errors import ExportError

__all__ = ["SideEffects", "watched"]

_NUMBERS = (int, float, bool, str)
_GET_DATA = torch.Tensor.data.__get__  # type: ignore[attr-defined]
_SET_DATA = torch.Tensor.data.__set__  # type: ignore[attr-defined]


class SideEffects:
    """What the traces of a model found. ``numbers`` are the attributes that changed, with their values before and
    after; ``buffers`` those that were replaced."""

    def __init__(self) -> None:
        self.numbers: dict[str, tuple[Any, Any]] = {}
        self.buffers: set[str] = set()
        self.replaced: str | None = None
        """A parameter or module, of which the trace has what it was at first."""
        self._before = _State()

    def check(self) -> None:
        if self.replaced is not None:
            raise ExportError(
                f"Failed to export model: its forward replaces '{self.replaced}', a parameter or module, which a "
                f"graph cannot do; compute with the new one without assigning it, or make it a buffer"
            )

    def begin(self, root: nn.Module) -> None:
        self._before = _State.of(root)

    def end(self, root: nn.Module) -> None:
        before, now = self._before, _State.of(root)
        for name, value in now.numbers.items():
            old = before.numbers.get(name, value)
            if repr(old) != repr(value):  # NaN is no change
                first, _ = self.numbers.get(name, (old, value))
                self.numbers[name] = first, value
        self.buffers |= set(_changed(before.buffers, now.buffers))
        for name in _changed(before.parts, now.parts):
            new = now.parts[name]
            # Weights that are tied in forward are tied from then on.
            if not any(old is new and now.parts.get(other) is new for other, old in before.parts.items()):
                self.replaced = self.replaced or name
        self._before = _State()


@dataclass
class _State:
    """The attributes of all modules by name, at one moment."""

    numbers: dict[str, Any] = field(default_factory=dict)
    buffers: dict[str, Any] = field(default_factory=dict)
    parts: dict[str, Any] = field(default_factory=dict)

    @staticmethod
    def of(root: nn.Module) -> _State:
        state = _State()
        for path, module in root.named_modules():
            dot = f"{path}." if path else ""
            state.numbers |= {dot + name: value for name, value in vars(module).items() if type(value) in _NUMBERS}
            state.buffers |= {dot + name: value for name, value in module._buffers.items()}
            state.parts |= {
                dot + name: value for name, value in (*module._modules.items(), *module._parameters.items())
            }
        return state


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [name for name, value in before.items() if name in now and now[name] is not value]


class _SeenData(TorchFunctionMode):
    """PyTorch's tracer does not see ``.data``. Reading it is ``detach()``. ``x.data = y`` gives a tensor other memory,
    which no graph can say."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func == _SET_DATA:
            raise ExportError(
                "the model assigns to the .data of a tensor, which tracing does not see; use x.copy_(y) on a buffer, "
                "or the new tensor itself"
            )
        if func == _GET_DATA:
            return args[0].detach()
        if func == torch.Tensor.requires_grad_:  # a trace has no gradients, and PyTorch's tensors are no leaves there
            return args[0]
        return func(*args, **(kwargs or {}))


@contextmanager
def watched(root: nn.Module, found: SideEffects) -> Iterator[None]:
    """While ``root`` is traced."""
    with ExitStack() as stack:
        # The module that hooks get may be PyTorch's stand-in, which makes new ones of shared modules at each look.
        before = root.register_forward_pre_hook(lambda *_: found.begin(root))
        after = root.register_forward_hook(lambda *_: found.end(root))
        stack.callback(before.remove)
        stack.callback(after.remove)
        stack.enter_context(_SeenData())
        yield

"""What Dynamo calls for each graph that it captures, and the callable that it gets for one."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from npu_base.collector import collector_paused
from npu_base.errors import InvalidValueError, format_error
from torch import Tensor, fx
from torch._dynamo.convert_frame import compile_lock
from torch_ir.tracing import ONE_AT_A_TIME

from npu.dynamo.options import Options
from npu.dynamo.tracing import Specialized, scalar_arguments, specialize

__all__ = ["CapturedGraph", "compile_graph"]

SIZES_KEPT = 16
"""Forms of one graph that are kept; the one that was used least recently goes first."""


def compile_graph(
    graph_module: fx.GraphModule, example_inputs: Sequence[Any], *, options: Any = None, mode: str | None = None
) -> Callable[..., Any]:
    """The entry point ``npu`` of the group ``torch_dynamo_backends``."""
    return CapturedGraph(graph_module, options, mode)


class CapturedGraph:
    """A graph of Dynamo's. It is compiled at its first call, so that errors reach the caller as they are.

    If Dynamo leaves sizes open, each size is compiled once and kept.
    """

    def __init__(self, graph_module: fx.GraphModule, options: Any = None, mode: str | None = None) -> None:
        self._graph_module = graph_module
        self._given, self._mode = options, mode
        self._open = _open_arguments(graph_module)
        self._scalars = scalar_arguments(graph_module)
        self._writes = False
        """Whether the graph writes arguments. Then it also matters which of them share memory."""
        self._forms: OrderedDict[Any, Specialized] = OrderedDict()
        self._only: Specialized | None = None
        self._lock = threading.Lock()
        self.__name__ = "npu"

    def __call__(self, *args: Any) -> Any:
        only = self._only
        if only is not None:
            return only.run(args)
        return self._form_for(args).run(args)

    def _form_for(self, args: tuple[Any, ...]) -> Specialized:
        with self._lock:
            key = self._key(args)
            form = self._forms.get(key)
            if form is None:
                if self._mode is not None:
                    raise InvalidValueError(
                        format_error("torch.compile", "backend 'npu' has no modes", got=f"mode={self._mode!r}")
                    )
                with ONE_AT_A_TIME, compile_lock, collector_paused():  # Dynamo traces in other threads
                    form = specialize(self._graph_module, args, self._scalars, Options.read(self._given))
                self._writes = self._writes or form.writes
                if not (self._open or self._scalars or self._writes):
                    self._only = form
                self._forms[self._key(args)] = form
                if len(self._forms) > SIZES_KEPT:
                    self._forms.popitem(last=False)
            else:
                self._forms.move_to_end(key)
            return form

    def _key(self, args: tuple[Any, ...]) -> Any:
        sizes = (*(_form_of(args[i]) for i in self._open), *(args[i].item() for i in self._scalars))
        return (sizes, _shared_memory(args)) if self._writes else sizes


def _open_arguments(graph_module: fx.GraphModule) -> list[int]:
    """The positions of arguments whose sizes or values Dynamo does not fix."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    return [i for i, node in enumerate(placeholders) if _is_open(node.meta.get("example_value"))]


def _is_open(value: Any) -> bool:
    if isinstance(value, Tensor):
        if value.layout is not torch.strided:
            return False
        extents = (*value.shape, *value.stride(), value.storage_offset())
        return any(not isinstance(extent, int) for extent in extents)
    return value is None or isinstance(value, (int, float, torch.SymInt, torch.SymFloat, torch.SymBool))


def _form_of(value: Any) -> Any:
    return (value.shape, value.stride()) if isinstance(value, Tensor) else value


def _shared_memory(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Which arguments share memory, and where in it they are. Nothing for those that share it with no other."""
    groups: dict[int, list[int]] = {}
    for i, value in enumerate(args):
        if isinstance(value, Tensor) and value.numel():
            groups.setdefault(value.untyped_storage().data_ptr(), []).append(i)
    return tuple(
        tuple((i, args[i].storage_offset(), args[i].shape, args[i].stride()) for i in group)
        for group in groups.values()
        if len(group) > 1
    )

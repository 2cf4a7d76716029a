"""From a graph of Dynamo's to ATen calls, by AOTAutograd, which also takes care of writes and aliases."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, NoReturn, cast

import torch
from npu_base.errors import InvalidValueError, format_error
from torch import Tensor, fx
from torch._functorch.aot_autograd import aot_module_simplified
from torch._guards import TracingContext, tracing
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorConverter,
    FakeTensorMode,
)
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import _disable_current_modes
from torch_ir.quiet import quiet_export

from npu.dynamo.notices import whole_graph_on_host
from npu.dynamo.options import Options
from npu.dynamo.program import GraphProgram

__all__ = ["Specialized", "scalar_arguments", "specialize"]


# All sizes are those of the arguments. Older versions of PyTorch cannot be told, so they cannot trace loops.
_FIXED_SIZES: dict[str, Any] = (
    {"ignore_shape_env": True} if "ignore_shape_env" in signature(aot_module_simplified).parameters else {}
)


class Specialized:
    """A graph for one form of its arguments."""

    def __init__(self, run: Callable[[Sequence[Any]], Any], writes: bool) -> None:
        self.run, self.writes = run, writes


def scalar_arguments(graph_module: fx.GraphModule) -> list[int]:
    """The positions of Python floats whose values Dynamo leaves open: it passes them as tensors, read by ``item()``."""
    placeholders = graph_module.graph.find_nodes(op="placeholder")
    return [i for i, node in enumerate(placeholders) if any(map(_is_item, node.users))]


def _is_item(node: fx.Node) -> bool:
    return node.op == "call_method" and node.target == "item"


def _with_scalars(graph_module: fx.GraphModule, args: Sequence[Any], scalars: Sequence[int]) -> fx.GraphModule:
    """A copy of the graph with the values of these arguments in place."""
    if not scalars:
        return graph_module
    copied = fx.GraphModule(graph_module, copy.deepcopy(graph_module.graph))
    copied.meta = dict(graph_module.meta)
    originals = graph_module.graph.find_nodes(op="placeholder")
    placeholders = copied.graph.find_nodes(op="placeholder")
    for node, original in zip(placeholders, originals, strict=True):
        vars(node).update({k: v for k, v in vars(original).items() if k.startswith("_dynamo")})
    for i in scalars:
        for user in list(placeholders[i].users):
            if _is_item(user):
                user.replace_all_uses_with(args[i].item())
                copied.graph.erase_node(user)
    copied.recompile()
    return copied


def specialize(
    graph_module: fx.GraphModule, args: Sequence[Any], scalars: Sequence[int], options: Options
) -> Specialized:
    """``scalars`` are the positions of ``scalar_arguments``."""
    graph_module = _with_scalars(graph_module, args, scalars)
    programs: list[GraphProgram] = []
    plain = writes = False

    def compile_inference(graph: fx.GraphModule, fake_args: Sequence[Any]) -> GraphProgram:
        nonlocal plain, writes
        metadata: Any = TracingContext.get().fw_metadata
        writes = any(map(_is_written, metadata.input_info))
        plain = len(fake_args) == len(args) and not writes and _is_plain(metadata)
        with _disable_current_modes():  # the fake tensors of tracing are not for the constants of the program
            program = GraphProgram(graph, _weights_among(metadata, args, len(fake_args)), options)
        programs.append(program)
        return program

    mode = _fake_mode()
    try:
        with tracing(TracingContext(mode)), _compiling(), quiet_export():
            wrapped = aot_module_simplified(
                graph_module,
                list(args),
                fw_compiler=_refuse_training(args),
                inference_compiler=cast(Any, compile_inference),
                decompositions={},
                **_FIXED_SIZES,
            )
    except (DynamicOutputShapeException, DataDependentOutputException) as error:
        operator = str(error).splitlines()[0]
        reason = f"the sizes of its tensors depend on the contents of others ({operator})"
        whole_graph_on_host(options, reason)
        return Specialized(lambda given: graph_module(*given), writes=False)
    finally:
        # PyTorch keeps the mode until its next trace, and weak references to the parameters with it.
        mode.fake_tensor_converter = FakeTensorConverter(copy_data=False)
    if plain:
        return Specialized(programs[0].direct, writes)
    return Specialized(lambda given: wrapped(*given), writes)


def _fake_mode() -> FakeTensorMode:
    """Without sizes that depend on contents, except those within loops."""
    if not _FIXED_SIZES:
        return FakeTensorMode()
    return FakeTensorMode(shape_env=ShapeEnv(allow_scalar_outputs=False, allow_dynamic_output_shape_ops=False))


@contextmanager
def _compiling() -> Iterator[None]:
    """Says that PyTorch compiles. Otherwise it refuses every call of a compiled module in other threads meanwhile."""
    before = torch.compiler._is_compiling_flag
    torch.compiler._is_compiling_flag = True
    try:
        yield
    finally:
        torch.compiler._is_compiling_flag = before


def _weights_among(metadata: Any, args: Sequence[Any], count: int) -> list[int]:
    """The positions of parameters and buffers that the graph only reads."""
    fixed = set(metadata.static_input_indices or ())
    extra = count - len(args)  # tokens, and tensors that Dynamo stored in the graph, come first
    fixed |= {i + extra for i, value in enumerate(args) if isinstance(value, torch.nn.Parameter)}
    written = {i + len(metadata.tokens) for i, info in enumerate(metadata.input_info) if _is_written(info)}
    return sorted(i for i in fixed - written if 0 <= i < count)


def _is_written(info: Any) -> bool:
    return bool(info.mutates_data or info.mutates_metadata)


def _is_plain(metadata: Any) -> bool:
    """Whether the results of the graph are all that a caller sees: no views of arguments, no tokens."""
    fresh = {"non_alias", "unsafe_view_alias", "custom_function_view"}
    return (
        all(info.output_type.name in fresh for info in metadata.output_info)
        and not metadata.num_intermediate_bases
        and not metadata.tokens
        and all(issubclass(info.raw_type, Tensor) for info in metadata.output_info)
    )


def _refuse_training(args: Sequence[Any]) -> Callable[..., NoReturn]:
    def refuse(*_: Any, **__: Any) -> NoReturn:
        count = sum(isinstance(a, Tensor) and a.requires_grad for a in args)
        raise InvalidValueError(
            format_error(
                "torch.compile",
                "backend 'npu' is for inference, and this call would record gradients",
                got=f"{count} tensors that require grad while grad mode is on",
                action="calling the model under torch.no_grad() or torch.inference_mode()",
            )
        )

    return refuse

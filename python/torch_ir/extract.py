"""Extracts IR from a model and example inputs."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from npu_base.argument_types import DynamicShapes, ExampleInputs
from npu_base.sizes import Size, free_names
from npu_base.warn import warn_user
from torch import nn
from torch._subclasses.fake_tensor import FakeTensor
from torch.export import ExportedProgram

from .buffers import MISSING_BUFFER, given_buffers, tensor_of
from .converter import check_text, convert_exported_program, rename_inputs, set_output_names
from .errors import ConversionError, InvalidNameError, SizeWarning, StateWarning
from .exporter import export_model
from .ir import IR
from .open_shapes import check_that_sizes_are_open, fixed_ones, leaf_specs, symbols_of
from .progress import status
from .recovery import recover_buffers
from .side_effects import SideEffects
from .size_one import trace_all_sizes
from .tracing import ONE_AT_A_TIME, get_model_name


def extract_ir(
    model: nn.Module,
    example_inputs: ExampleInputs,
    example_kwargs: dict[str, Any] | None = None,
    *,
    model_name: str | None = None,
    strict: bool = False,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    buffers: nn.Module | Mapping[str, torch.Tensor] | None = None,
    dynamic_shapes: DynamicShapes = None,
) -> IR:
    """Extract the IR of a model in evaluation mode.

    ``example_inputs`` is a tensor, a tuple or list of positional arguments, or a dict of keyword arguments. They may be
    nested, and on any device. Only their shapes, dtypes and non-tensor values matter. On the meta device, nothing is
    allocated. ``strict`` raises if a conversion function fails. ``buffers`` gives the values of non-persistent buffers
    that ``model`` has on meta: a dict by name, or a real model of the same architecture. ``dynamic_shapes`` leaves
    sizes open, as ``torch.export.export`` takes it: ``{"x": {0: torch.export.Dim("batch", min=1, max=64)}}``;
    ``ir.specialize(batch=4)`` then gives the IR of one size.

    Raises:
        ExportError: PyTorch cannot trace the model, it would train, or the inputs do not fit it.
        ConversionError: the traced graph has something that an IR cannot hold, or a name is invalid.
    """
    if model_name is not None and not isinstance(model_name, str):
        raise InvalidNameError(f"model_name: expected a string, got {model_name!r}")
    check_text(model_name or "", "model_name")
    name = model_name if model_name is not None else get_model_name(model)

    effects = SideEffects()

    def trace(inputs: Any, kwargs: Any, shapes: Any) -> tuple[ExportedProgram, IR]:
        exported = export_model(model, inputs, kwargs, strict=False, dynamic_shapes=shapes, found=effects)
        symbols = symbols_of(exported, model, inputs, kwargs, shapes)
        ir = convert_exported_program(exported, model_name=name, strict=strict, symbols=symbols)
        if shapes:
            check_that_sizes_are_open(ir.graph_inputs, leaf_specs(model, inputs, kwargs, shapes))
            extents: list[Any] = [size for t in ir.graph_inputs for size in t.shape]
            used = {n for size in extents if isinstance(size, Size) for n in free_names(size.text)}
            ir.sizes = [size for size in ir.sizes if size.name in used]  # Dim.AUTO may have fixed others
        return exported, ir

    with status(f"Extracting {name}"), ONE_AT_A_TIME:
        if dynamic_shapes:
            exported, ir = trace_all_sizes(trace, model, example_inputs, example_kwargs, dynamic_shapes)
            _say_what_is_fixed(ir, leaf_specs(model, example_inputs, example_kwargs, dynamic_shapes))
        else:
            exported, ir = trace(example_inputs, example_kwargs, None)
        ir.constants = _collect_constants(model, exported, ir, buffers)
    _say_what_is_kept(effects, ir)
    if input_names is not None:
        rename_inputs(ir, input_names)
    if output_names is not None:
        set_output_names(ir, output_names)
    return ir


def _say_what_is_fixed(ir: IR, leaves: Any) -> None:
    fixed = fixed_ones(ir.graph_inputs, leaves)
    if fixed:
        warn_user(
            f"dynamic_shapes: the model's code fixes {', '.join(fixed)}, which Dim.AUTO leaves open only as far as the "
            f"code does; extract or compile other sizes apart",
            SizeWarning,
        )


def _say_what_is_kept(effects: SideEffects, ir: IR) -> None:
    written = {m.target.rpartition(".")[2] for m in ir.mutations}
    changes = [f"'{name}' from {old!r:.40} to {new!r:.40}" for name, (old, new) in effects.numbers.items()]
    changes += [
        f"the buffer '{n}' without assigning it as self.NAME"
        for n in sorted(effects.buffers)
        if n.rpartition(".")[2] not in written
    ]
    if changes:
        warn_user(
            f"the model's forward changes {', '.join(changes)}; what it computes with such an attribute keeps the "
            f"value of the trace in every call; only buffers are state",
            StateWarning,
        )


def _collect_constants(
    model: nn.Module, exported: ExportedProgram, ir: IR, buffers: nn.Module | Mapping[str, torch.Tensor] | None
) -> dict[str, torch.Tensor]:
    constants: dict[str, torch.Tensor] = {}
    without_data: dict[str, torch.Tensor] = {}
    for name, value in exported.constants.items():
        if not isinstance(value, torch.Tensor):
            continue
        if value.numel() == 0:
            constants[name] = torch.empty(value.shape, dtype=value.dtype)
        elif value.is_meta or isinstance(value, FakeTensor):
            without_data[name] = value
        else:
            # A copy, so that the IR does not change with the model's own tensor.
            constants[name] = value.detach().clone().cpu()
    known = {*without_data, *(n for n, _ in model.named_buffers()), *(n for n, _ in model.named_parameters())}
    recovered = {} if buffers is None else given_buffers(buffers, without_data, known)
    recovered |= recover_buffers(model, [n for n in without_data if n not in recovered])
    constants.update(recovered)
    read = {t.name for node in ir.nodes for t in node.inputs} | {t.name for t in ir.graph_outputs}
    needed = {fqn for placeholder, fqn in ir.weight_name_mapping.items() if placeholder in read}
    unknown = [n for n in without_data if n in needed and tensor_of(model, n) is None]
    if unknown:
        raise ConversionError(
            f"The graph reads {unknown}, tensors without data that no module holds under a name; read and write the "
            f"parameter or buffer itself, under torch.no_grad() if need be"
        )
    lost = [n for n in without_data if n not in recovered and n in needed]
    if lost:
        warnings.warn(
            f"Skipping {len(lost)} meta-device constant(s) (shape/dtype already in weights): {lost}. They are "
            f"required weights now; IRExecutor takes them in constants=. {MISSING_BUFFER}",
            stacklevel=3,
        )
    return constants

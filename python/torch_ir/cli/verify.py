"""The ``verify`` command: find the model, its weights and its inputs, and compare."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from torch_ir._encoding import dtype_from_str
from torch_ir.errors import InvalidIRError, InvalidModelError, SerializationError, TorchIRError
from torch_ir.ir import IR, TensorMeta, check_fixed
from torch_ir.model_import import import_model, load_into
from torch_ir.structure import rebuild
from torch_ir.validation import validate_ir
from torch_ir.verifier import verify_ir_with_state_dict
from torch_ir.weight_loader import load_weights, resolve_weights

from .files import CommandError, read_ir


def verify(args: argparse.Namespace) -> dict[str, Any]:
    """The report as a dict. Also prints it as text, unless ``--json`` is used."""
    ir = read_ir(args.ir)
    try:
        validate_ir(ir)
        check_fixed(ir, "verify")
    except SerializationError as e:
        raise CommandError(f"invalid IR file: {e}") from e
    except InvalidIRError as e:
        raise CommandError(str(e)) from e
    torch.manual_seed(args.seed)
    model = _build(args.model)
    if args.weights is not None:
        _load(model, ir, args.weights)
    elif any(p.is_meta for p in model.parameters()):
        raise CommandError(f"the model from '{args.model}' is on the meta device and has no values; give --weights")
    leaves = _read_inputs(ir, args.inputs) if args.inputs is not None else _random_inputs(ir, args.seed)
    positional, keywords = _arguments(ir, leaves)
    # With --json, the rows of this table are in the report.
    table = contextlib.redirect_stdout(io.StringIO()) if args.json else contextlib.nullcontext()
    with table:
        _, report = verify_ir_with_state_dict(
            ir, _state(model), model, positional, args.rtol, args.atol,
            test_kwargs=keywords, per_layer=args.per_layer,
        )  # fmt: skip
    if not report.is_valid and not report.output_details and "Verification error" in (report.error_message or ""):
        raise CommandError(f"nothing could be compared: {report.error_message}", status=2)
    if not args.json:
        print(report)
    return dataclasses.asdict(report)


def _state(model: nn.Module) -> dict[str, Tensor]:
    state: dict[str, Tensor] = dict(model.state_dict())
    # state_dict lacks non-persistent buffers, which a graph may read.
    for name, buffer in model.named_buffers():
        state.setdefault(name, buffer)
    return state


def _build(target: str) -> nn.Module:
    try:
        return import_model(target)
    except InvalidModelError as e:
        raise CommandError(f"--model: {e}") from e


def _load(model: nn.Module, ir: IR, path: str) -> None:
    try:
        weights = load_weights(path)
        load_into(model, {**weights, **resolve_weights(weights, ir)}, path)
    except (TorchIRError, OSError, ImportError) as e:
        raise CommandError(str(e)) from e


def _random_inputs(ir: IR, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [_random(t, generator) for t in ir.graph_inputs]


def _random(t: TensorMeta, generator: torch.Generator) -> Tensor:
    dtype = dtype_from_str(t.dtype)
    if dtype.is_floating_point or dtype.is_complex:
        wide = torch.complex64 if dtype.is_complex else torch.float32
        return torch.randn(t.shape, dtype=wide, generator=generator).to(dtype)
    # Integers are mostly ids or positions, and small ones are valid in any table.
    return torch.randint(0, 2, t.shape, generator=generator).to(dtype)


def _read_inputs(ir: IR, path: str) -> list[Tensor]:
    try:
        loaded = _load_tensors(Path(path))
    except FileNotFoundError as e:
        raise CommandError(f"file not found: {path}") from e
    except Exception as e:
        raise CommandError(f"cannot read inputs from {path}: {type(e).__name__}: {e}") from e
    names = [t.name for t in ir.graph_inputs]
    if isinstance(loaded, dict) and set(loaded) == set(names):
        tensors = [loaded[n] for n in names]
    elif isinstance(loaded, dict) and not all(k.startswith("arr_") for k in loaded):
        raise CommandError(f"{path} contains {', '.join(sorted(loaded)) or 'nothing'}; the IR reads {', '.join(names)}")
    else:
        tensors = list(loaded.values()) if isinstance(loaded, dict) else loaded
    if len(tensors) != len(names):
        raise CommandError(f"{path} contains {len(tensors)} tensors; the IR reads {len(names)}: {', '.join(names)}")
    return tensors


def _load_tensors(path: Path) -> dict[str, Tensor] | list[Tensor]:
    if path.suffix == ".npz":
        import numpy as np

        with np.load(path, allow_pickle=False) as arrays:
            return {k: torch.from_numpy(np.ascontiguousarray(arrays[k]).reshape(arrays[k].shape)) for k in arrays.files}
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return dict(load_file(path))
    if path.suffix not in (".pt", ".pth"):
        raise ValueError(f"unknown format '{path.suffix}'; expected .npz, .safetensors or .pt")
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    items = (
        list(loaded.values()) if isinstance(loaded, dict) else loaded if isinstance(loaded, (list, tuple)) else [loaded]
    )
    if not all(isinstance(x, Tensor) for x in items):
        raise ValueError("expected a tensor, or a list or dict of tensors")
    return {str(k): v for k, v in loaded.items()} if isinstance(loaded, dict) else list(items)


def _arguments(ir: IR, leaves: list[Tensor]) -> tuple[Any, dict[str, Any]]:
    """Positional and keyword arguments in the structure of the trace."""
    if ir.input_structure is None:
        return tuple(leaves), {}
    try:
        positional, keywords = rebuild(ir.input_structure, tuple(leaves))
    except (TypeError, ValueError, KeyError, IndexError) as e:
        raise CommandError(f"the IR's input structure cannot be rebuilt for the model: {e}", status=2) from e
    return tuple(positional), dict(keywords)

"""Open sizes that may be 1, which PyTorch traces apart: proven to have the graph of all other sizes, or refused."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram
from torch.export.dynamic_shapes import Dim
from torch.utils import _pytree as pytree

from .errors import ConversionError, ExportError, InvalidInputError, SizeOneError
from .ir import IR, TensorMeta
from .open_shapes import check_example, extent_of, leaf_specs, root_of, root_of_extent, size_one_error
from .ops.schemas import resolve_op

Trace = Callable[[Any, Any, Any], tuple[ExportedProgram, IR]]
"""From example inputs, example keyword arguments and dynamic shapes."""
_MOST_NAMES = 3
_SAMPLES = 8


def trace_all_sizes(trace: Trace, model: nn.Module, inputs: Any, kwargs: Any, shapes: Any) -> Any:
    """The program and IR of a model whose sizes are open.

    PyTorch asks whether a tensor is contiguous in memory, which depends on whether a size is 1, and then refuses that
    size. Memory does not matter to an IR: if the model, traced with this size fixed at 1, has the same graph as the one
    of larger sizes, then that graph is right for 1 too.
    """
    examples = _Examples(model, inputs, kwargs, shapes)
    dims = examples.dims

    def of_ones(ones: tuple[str, ...], names: Iterable[str]) -> IR:
        fixed = {n: Dim.STATIC if n in ones else _from_two(dims[n]) for n in names}
        return trace(*examples.of_size_one(ones), _renamed(shapes, fixed))[1]

    try:
        exported, ir = trace(*examples.of_larger_sizes(), shapes)
    except SizeOneError as error:
        refused = error
    else:
        asked = {n: _excluding_one(ir, n) for n in examples.can_be_larger if dims[n].min == 1}
        # PyTorch lets a size from which others derive begin at 2 if no input has it as it is.
        from_two = {size.name for size in ir.sizes if size.least == 2}
        asked = {n: conditions for n, conditions in asked.items() if conditions or n in from_two}
        if left := set(asked) - _add_ones(ir, asked, of_ones):
            raise size_one_error({n: examples.where[n] for n in left})
        return exported, ir
    if not refused.names <= examples.can_be_larger:
        raise refused
    exported, ir = trace(*examples.of_larger_sizes(), _renamed(shapes, {n: _from_two(dims[n]) for n in refused.names}))
    if _add_ones(ir, {n: _excluding_one(ir, n) for n in refused.names}, of_ones) != refused.names:
        raise refused
    return exported, ir


def _from_two(dim: Any) -> Any:
    return Dim(dim.__name__, min=2, max=dim.max)


def _excluding_one(ir: IR, name: str) -> list[str]:
    forms = {f"({name} > 1)", f"({name} != 1)", f"(1 != {name})", f"({name} >= 2)", f"(1 < {name})"}
    return [c for c in ir.conditions if c in forms]


def _add_ones(
    ir: IR, excluding: dict[str, list[str]], of_ones: Callable[[tuple[str, ...], Iterable[str]], IR]
) -> set[str]:
    """Add 1 to the sizes of these names where that is right, and return their names."""
    names = sorted(excluding)
    if not names or len(names) > _MOST_NAMES or not set(names) <= {s.name for s in ir.sizes}:
        return set()
    added: set[str] = set()
    further: list[str] = []
    for ones in (ones for count in range(1, len(names) + 1) for ones in combinations(names, count)):
        if len(ones) > 1 and not added >= set(ones):
            continue
        alone = _traced_or_none(of_ones, ones, names)
        left_out = {c for n in ones for c in excluding[n]}
        opened = replace(
            ir,
            sizes=[replace(s, least=1) for s in ir.sizes],
            conditions=[c for c in ir.conditions if c not in left_out],
        )
        if alone is not None and _same_graphs(opened, alone, ones):
            added |= set(ones)
            further += [_unless(ones, c) for c in alone.conditions if c not in ir.conditions]
        elif len(ones) > 1:
            further.append(_not_all_one(ones))
    dropped = {c for n in added for c in excluding[n]}
    ir.conditions = [c for c in ir.conditions if c not in dropped] + further
    ir.sizes = [replace(s, least=1) if s.name in added else s for s in ir.sizes]
    return added


def _traced_or_none(of_ones: Callable[..., IR], ones: tuple[str, ...], names: list[str]) -> IR | None:
    try:
        return of_ones(ones, names)
    except (ExportError, ConversionError):
        return None


def _not_all_one(names: Iterable[str]) -> str:
    return f"any({', '.join(f'({n} != 1)' for n in names)})"


def _unless(ones: Iterable[str], condition: str) -> str:
    return f"any({_not_all_one(ones)}, {condition})"


def _same_graphs(opened: IR, alone: IR, ones: tuple[str, ...]) -> bool:
    """Whether both have the same nodes for some sizes of the rest: expressions agree wherever they are asked."""
    rest = [s for s in opened.sizes if s.name not in ones]
    if [s.name for s in alone.sizes] != [s.name for s in rest]:
        return False
    rng, agreed = random.Random(0), 0
    for _ in range(_SAMPLES if rest else 1):
        sizes = {}
        for s in rest:
            least = max(s.least, 2)
            sizes[s.name] = rng.randint(least, min(s.most or least + 60, least + 60))
        try:
            first = opened.specialize(**sizes, **dict.fromkeys(ones, 1))
            second = alone.specialize(**sizes) if rest else alone
        except InvalidInputError:
            continue
        if _plain(first) != _plain(second) or first.output_structure != second.output_structure:
            return False
        agreed += 1
    return agreed > 0


_LAYOUT_ONLY = ("aten.contiguous.default", "aten.clone.default")
_DROPOUT = "aten.dropout.default"
_RESHAPES = (
    "aten.view.default", "aten._unsafe_view.default", "aten.reshape.default", "aten.unflatten.int",
    "aten.flatten.using_ints", "aten.unsqueeze.default", "aten.squeeze.dim", "aten.squeeze.dims",
    "aten.squeeze.default",
)  # fmt: skip


def _plain(ir: IR) -> Any:
    """What an IR computes, without names and the order of nodes, and without the copies that a layout needs."""
    references: dict[Any, Any] = {t.name: ("input", i) for i, t in enumerate(ir.graph_inputs)}
    references |= {t.name: ("weight", ir.weight_name_mapping.get(t.name, t.name)) for t in ir.weights}
    references |= {name: ("weight", target) for name, target in ir.weight_name_mapping.items()}
    seeded = 0

    def reference(t: TensorMeta) -> Any:
        made_by = (t.producer_node, t.producer_output_idx)
        return references.get(made_by) or references.get(t.name)

    for node in ir.nodes:
        if node.op_type in _LAYOUT_ONLY or (node.op_type == _DROPOUT and node.attrs.get("train") is False):
            results = [reference(node.inputs[0])]
        else:
            specs = [(t.shape, t.dtype) for t in node.outputs]
            op, attrs = node.op_type, repr(sorted(node.attrs.items()))
            if op in _RESHAPES:
                op, attrs = "reshape", ""
            is_seeded = torch.Tag.nondeterministic_seeded in getattr(resolve_op(node.op_type), "tags", ())
            seeded += is_seeded  # random numbers depend on the order in which they are drawn
            inputs = [reference(t) for t in node.inputs]
            what = (op, specs, attrs, node.absent_inputs, inputs, seeded if is_seeded else 0)
            digest = hashlib.sha256(repr(what).encode()).hexdigest()
            results = [("node", digest, i) for i in range(len(node.outputs))]
        for i, (t, result) in enumerate(zip(node.outputs, results, strict=True)):
            references[node.name, i] = references[t.name] = result
    ends = [(t.shape, t.dtype, reference(t)) for t in ir.graph_outputs]
    writes = [(m.target, m.kind, m.value.shape, reference(m.value)) for m in ir.mutations]
    return ends, writes, {name: _plain(body) for name, body in ir.subgraphs.items()}


def _dims(shapes: Any) -> dict[str, Any]:
    """The dimensions by name, also those from which others, such as ``2 * batch``, derive."""
    dims: dict[str, Any] = {}
    for dim in _leaves(shapes):
        if isinstance(dim, Dim):
            root = root_of(dim)
            dims.setdefault(root.__name__, root)
    return dims


def _leaves(shapes: Any) -> list[Any]:
    if isinstance(shapes, Mapping):
        return [leaf for v in shapes.values() for leaf in _leaves(v)]
    if isinstance(shapes, (list, tuple)):
        return [leaf for v in shapes for leaf in _leaves(v)]
    return [shapes]


def _renamed(shapes: Any, dims: Mapping[str, Any]) -> Any:
    if isinstance(shapes, Mapping):
        return type(shapes)({k: _renamed(v, dims) for k, v in shapes.items()})  # type: ignore[call-arg]
    if isinstance(shapes, (list, tuple)):
        return type(shapes)(_renamed(v, dims) for v in shapes)
    if not isinstance(shapes, Dim):
        return shapes
    new = dims.get(root_of(shapes).__name__)
    if new is None:
        return shapes
    is_derived = hasattr(shapes, "root") and isinstance(new, Dim)
    return new._derive(shapes.fn) if is_derived else new  # type: ignore[attr-defined]


def _empty_like(tensor: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """Of another shape, with the dimensions in the same order in memory: the model's code may ask for that order."""
    strides = tensor.stride()
    order = sorted(range(tensor.dim()), key=lambda d: (-strides[d], d))
    return torch.empty_permuted(shape, order, dtype=tensor.dtype, device=tensor.device)


class _Examples:
    """Example inputs with other sizes; only their shapes matter."""

    def __init__(self, model: nn.Module, inputs: Any, kwargs: Any, shapes: Any) -> None:
        leaves = leaf_specs(model, inputs, kwargs, shapes)
        check_example(leaves)
        self.given, self.dims = (inputs, kwargs), _dims(shapes)
        self.can_be_larger = {n for n, dim in self.dims.items() if dim.min < 2 <= dim.max}
        self.axes: dict[int, list[tuple[int, Any]]] = {}
        self.where: dict[str, str] = {}
        derived: dict[str, str] = {}
        for input_name, leaf, spec in leaves:
            if type(leaf) in (torch.Tensor, nn.Parameter):
                named = spec.items() if isinstance(spec, Mapping) else enumerate(spec or ())
                axes = [(axis, dim) for axis, dim in named if isinstance(dim, Dim) and axis < leaf.dim()]
                for axis, dim in axes:
                    where = derived if hasattr(dim, "root") else self.where
                    where.setdefault(root_of(dim).__name__, f"dimension {axis} of '{input_name}'")
                self.axes[id(leaf)] = [(axis, dim) for axis, dim in axes if root_of(dim).__name__ in self.can_be_larger]
        self.where = {**derived, **self.where}

    def of_larger_sizes(self) -> tuple[Any, Any]:
        """PyTorch takes a size that is 1 in the example to be 1 always."""
        return self._resized(())

    def of_size_one(self, ones: tuple[str, ...]) -> tuple[Any, Any]:
        return self._resized(ones)

    def _resized(self, ones: tuple[str, ...]) -> Any:
        def resized(leaf: Any) -> Any:
            shape = list(leaf.shape) if id(leaf) in self.axes else []
            for axis, dim in self.axes.get(id(leaf), ()):
                root = 1 if root_of(dim).__name__ in ones else max(root_of_extent(dim, shape[axis]), 2)
                shape[axis] = extent_of(dim, root)
            if not isinstance(leaf, torch.Tensor) or id(leaf) not in self.axes or shape == list(leaf.shape):
                return leaf
            return _empty_like(leaf, shape)

        return pytree.tree_map(resized, self.given)

"""Exports with sizes that are open: what ``dynamic_shapes`` says, and PyTorch's objections in our words."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from npu_base.sizes import is_name
from torch import nn
from torch.export import ExportedProgram
from torch.export.dynamic_shapes import Dim
from torch.utils import _pytree as pytree

from .errors import ExportError, SizeFix, SizeOneError, SizesError
from .symbols import Symbols
from .tracing import normalize_inputs


def any_size() -> contextlib.AbstractContextManager[Any]:
    """Trace without the assumption that no open size is 0 or 1, so that a model which asks is refused, not wrong."""
    config = torch.fx.experimental._config
    return config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


def leaf_specs(model: nn.Module, example_inputs: Any, example_kwargs: Any, dynamic_shapes: Any) -> list[Any]:
    """The leaves of the example inputs, in the order of the graph's: name, value, and what ``dynamic_shapes`` says."""
    from torch._export.non_strict_utils import _flatten_dynamic_shapes
    from torch.export.dynamic_shapes import _check_dynamic_shapes, _combine_args

    combined: Any = _combine_args(model, *normalize_inputs(model, example_inputs, example_kwargs))
    if not isinstance(dynamic_shapes, (dict, tuple, list)):
        raise _misfit(combined, f"it is a {type(dynamic_shapes).__name__}")
    try:
        _check_dynamic_shapes(combined, dynamic_shapes)
    except torch._dynamo.exc.UserError as error:
        raise _misfit(combined, str(error).partition("For more information")[0].strip()) from error
    leaves = [(_name(path), leaf) for path, leaf in pytree.tree_flatten_with_path(combined)[0]]
    if not isinstance(dynamic_shapes, dict):
        combined = type(dynamic_shapes)(combined.values())
    specs = _flatten_dynamic_shapes(combined, dynamic_shapes)
    return [(name, leaf, spec) for (name, leaf), spec in zip(leaves, specs, strict=False)]


def _name(path: Any) -> str:
    first, *rest = path
    return str(getattr(first, "key", first)) + pytree.keystr(rest)


def _misfit(combined: dict[str, Any], why: str) -> ExportError:
    left = iter(["{0: torch.export.Dim('batch', max=64)}"])
    shapes = pytree.tree_map(lambda x: _Text(next(left, "None") if isinstance(x, torch.Tensor) else "None"), combined)
    return ExportError(
        f"dynamic_shapes does not fit the inputs ({', '.join(combined)}): {why}; expected what torch.export takes, by "
        f"input name or in order: {shapes}"
    )


class _Text(str):
    """Shown as it is."""

    __repr__ = str.__str__


def check_example(leaves: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuse axes that are not there, and example inputs whose sizes are not what their dimensions say."""
    first: dict[str, tuple[int, str]] = {}
    for name, leaf, spec in leaves:
        if not isinstance(leaf, torch.Tensor):
            continue
        for axis, dim in spec.items() if isinstance(spec, Mapping) else enumerate(spec or ()):
            if not -leaf.dim() <= axis < leaf.dim():
                raise ExportError(
                    f"dynamic_shapes: the input '{name}' has no dimension {axis}; its shape is {list(leaf.shape)}"
                )
            if axis < 0 and isinstance(dim, Dim):
                raise ExportError(
                    f"dynamic_shapes: PyTorch loses the name and the range of a dimension that is counted from the "
                    f"end, {axis} of '{name}'; write {axis + leaf.dim()}"
                )
            size, where = leaf.shape[axis], f"dimension {axis} of '{name}'"
            if type(dim) is int and dim != size:
                raise ExportError(
                    f"dynamic_shapes: {where} is {size} in the example inputs, but {dim} in dynamic_shapes, which "
                    f"fixes it; to leave it open, write torch.export.Dim('{_axis_name(name, axis)}', "
                    f"max={max(dim, size)})"
                )
            if isinstance(dim, Dim):
                _check_dim(dim, size, where, first)


def _axis_name(name: str, axis: int) -> str:
    return f"{name}_{axis}" if name.isidentifier() else "size"


def _check_dim(dim: Any, size: int, where: str, first: dict[str, tuple[int, str]]) -> None:
    """``first`` has the value of each dimension so far, and where it was."""
    root, value = root_of(dim), root_of_extent(dim, size)
    if not is_name(root.__name__):
        raise ExportError(
            f"dynamic_shapes: {where} has a Dim whose name cannot be written in an expression, {root.__name__!r}; "
            f"expected letters from a to z, digits and _, and no function such as min"
        )
    if root is not dim:
        where += f", which is {dim.__name__}"
    if extent_of(dim, value) != size:
        raise ExportError(
            f"dynamic_shapes: {where}, is {size} in the example inputs, but no whole '{root.__name__}' gives that; "
            f"give another example"
        )
    if not root.min <= value <= root.max:
        raise ExportError(
            f"dynamic_shapes: {where} is {value} in the example inputs, but Dim('{root.__name__}') goes from "
            f"{root.min} to {root.max}; give an example in the range, or another range"
        )
    other, where_first = first.setdefault(root.__name__, (value, where))
    if other != value:
        raise ExportError(
            f"dynamic_shapes: Dim('{root.__name__}') is {other} in the example inputs ({where_first}) and "
            f"{value} ({where}); give both the same size, or use two Dims"
        )


def root_of(dim: Any) -> Any:
    """The dimension from which one such as ``2 * batch`` derives, or the dimension itself."""
    return getattr(dim, "root", dim)


def extent_of(dim: Any, root: int) -> int:
    """The extent of a dimension for a value of its root."""
    return int(dim.fn(root)) if hasattr(dim, "root") else root


def root_of_extent(dim: Any, extent: int) -> int:
    """PyTorch derives dimensions by products and sums alone."""
    at_zero, at_one = extent_of(dim, 0), extent_of(dim, 1)
    return (extent - at_zero) // (at_one - at_zero)


def fixed_ones(graph_inputs: Sequence[Any], leaves: Iterable[tuple[str, Any, Any]]) -> list[str]:
    """Dimensions that are ``Dim.AUTO`` and that the graph has fixed, in words."""
    tensors = [(name, spec) for name, leaf, spec in leaves if isinstance(leaf, torch.Tensor)]
    return [
        f"dimension {axis} of '{name}' at {meta.shape[axis]}"
        for (name, spec), meta in zip(tensors, graph_inputs, strict=True)
        for axis, dim in (spec.items() if isinstance(spec, Mapping) else enumerate(spec or ()))
        if dim is Dim.AUTO and isinstance(meta.shape[axis], int)
    ]


def check_that_sizes_are_open(graph_inputs: Sequence[Any], leaves: Iterable[tuple[str, Any, Any]]) -> None:
    """Refuse dimensions that the graph has fixed, such as by writing a buffer of one size."""
    tensors = [(name, spec) for name, leaf, spec in leaves if isinstance(leaf, torch.Tensor)]
    for (name, spec), meta in zip(tensors, graph_inputs, strict=True):
        for axis, dim in spec.items() if isinstance(spec, Mapping) else enumerate(spec or ()):
            if isinstance(dim, Dim) and isinstance(meta.shape[axis], int) and dim.min < dim.max:
                raise SizesError(
                    f"Failed to export model: The model does not support this range of sizes: '{dim.__name__}' "
                    f"(dimension {axis} of '{name}') can only be {meta.shape[axis]} in the model's code, such as in a "
                    f"write to a buffer of one size",
                    ". Instead, fix the size: leave it out of dynamic_shapes",
                    [SizeFix(dim.__name__, value=meta.shape[axis])],
                )


def symbols_of(
    exported: ExportedProgram, model: nn.Module, example_inputs: Any, example_kwargs: Any, dynamic_shapes: Any
) -> Symbols:
    if not dynamic_shapes:
        return Symbols()
    return Symbols(exported, [spec for *_, spec in leaf_specs(model, example_inputs, example_kwargs, dynamic_shapes)])


_VIOLATION = re.compile(
    r"Not all values of (\S+) = (.+?) in the specified range (?:.*?)satisfy the generated guard (.+?)\.?$", re.MULTILINE
)
_LOGS = re.compile(r"Specializations unexpectedly required \([^)]*\)! For more information, run with \S+")
"""PyTorch writes it behind a guard, without a space."""
_UNSOLVED = re.compile(r"Expected op to be '==', got \S+ for (.+)")
_OPEN = r"\(?(?:\d+\*)?s\d+\S*"
_MISMATCH = re.compile(
    rf"The size of tensor a \((?:{_OPEN}\) must match|\S+ must match the size of tensor b \({_OPEN})"
    rf"|Sizes of tensors must match .*(?:Expected {_OPEN} in dimension|but got {_OPEN} for)"
)
_SPECIALIZED = re.compile(r"You marked (\S+) as dynamic but your code specialized it to be a constant \((\d+)\)")
_AXIS = re.compile(r"L(?:\['args'\])?\['?(\w+)'?\](\S*?)\.size\(\)\[(\d+)\]")


_SIZE_ONE = re.compile(r"\(?(?:(\d+)\*)?L\[[^*+]*\.size\(\)\[\d+\]\)? != (\d+)")


def refused_range(text: str) -> ExportError | None:
    """What the model needs of its sizes, if that is why the export failed."""
    if match := _UNSOLVED.search(text):
        return SizesError(
            f"Failed to export model: the model's code needs {match[1]}, which PyTorch cannot solve for a range of "
            f"sizes",
            "; use Dim.AUTO for these dimensions, so that each size is checked by itself, or fix the size",
        )
    if _MISMATCH.search(text):
        return SizesError(
            "Failed to export model: the model's code needs two sizes to be equal, and dynamic_shapes leaves one of "
            "them open alone",
            "; give both the same Dim, and examples of one size. A size of 1 that the model expands to another size "
            "cannot be open: leave it out of dynamic_shapes",
        )
    if "Constraints violated" not in text and "conflicts between user-specified ranges" not in text:
        return None
    text = _LOGS.sub("", text)
    violations = _VIOLATION.findall(text)
    needs = [
        f"not every value of '{name}' ({_plain(where)}) has {_plain_guard(guard, where, name)}, which the model's code "
        f"depends on"
        for name, where, guard in violations
    ]
    if violations and all(_excludes_one(guard) for *_, guard in violations):
        return size_one_error({name: _plain(where) for name, where, _ in violations})
    if not needs:
        lines = [line.strip(" -") for line in text.splitlines() if line.strip().startswith("-")]
        needs = [_plain(line).rstrip(".") for line in lines] or [_plain(text.splitlines()[0])]
    _, _, suggested = text.partition("Suggested fixes:\n")
    fixes = [fix for line in suggested.split("\n\n")[0].splitlines() if (fix := _fix(line.strip()))]
    why = f"Failed to export model: The model does not support this range of sizes: {'; '.join(needs)}"
    return SizesError(why, f". Instead, {_advice(fixes)}", fixes)


def _fix(line: str) -> SizeFix | None:
    name, _, right = line.partition(" = ")
    if right.isdigit():
        return SizeFix(name, value=int(right))
    if not right.startswith("Dim("):
        return SizeFix(name, expression=right) if right else None
    limits = {key: int(value) for key, value in re.findall(r"(min|max)=(\d+)", right)}
    return SizeFix(name, limits.get("min"), limits.get("max"))


def _advice(fixes: Sequence[SizeFix]) -> str:
    fixed = [f"'{fix.name}'" for fix in fixes if fix.value is not None]
    parts = []
    if len(fixed) < len(fixes):
        parts.append(f"write {'; '.join(str(fix) for fix in fixes if fix.value is None)}")
    if fixed:
        parts.append(f"leave {', '.join(fixed)} out of dynamic_shapes, and extract or compile each size apart")
    if not fixes:
        parts.append("give the range that it supports, or fix the size")
    # It would fix a size that has one value.
    return " and ".join(parts) if fixed else f"{parts[0]}, or use Dim.AUTO, with which each size is checked by itself"


def size_one_error(where: Mapping[str, str]) -> SizeOneError:
    """By the names of dimensions, where they are."""
    places = ", ".join(f"'{name}' ({at}) may be 1" for name, at in where.items())
    fixes = [SizeFix(name, least=2) for name in sorted(where)]
    dims = ", ".join(str(fix).partition(" = ")[2] for fix in fixes)
    return SizeOneError(
        f"Failed to export model: The model does not support this range of sizes: {places}, and the model's code does "
        f"something else for a size of 1",
        f". Instead, write {dims}, and extract or compile size 1 apart, with example inputs of it",
        fixes,
    )


def _excludes_one(guard: str) -> bool:
    left, _, right = guard.partition(" != ")
    match = _SIZE_ONE.fullmatch(f"{right} != {left}" if left.isdigit() else guard)
    return match is not None and (match[1] or "1") == match[2]


def _plain_guard(guard: str, where: str, name: str) -> str:
    text = _plain(guard.replace(where, name)).replace("torch.sym_min", "min").replace("torch.sym_max", "max")
    return text.replace(f" and {name} <= IntInfinity()", "")


def _plain(text: str) -> str:
    if match := _SPECIALIZED.search(text):
        where = _AXIS.sub(_place, match[1])
        return f"{where if where != match[1] else repr(match[1])} can only be {match[2]} in the model's code"
    return _AXIS.sub(_place, text)


def _place(match: re.Match[str]) -> str:
    return f"dimension {match[3]} of '{match[1]}{match[2]}'"

"""Checks that the operands, results and attributes of an op fit each other, as the core will require."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

from npu_base.quantization import MULTIPLES, Scheme

from .exprs import class_of, classes_of
from .graph import Op, Shape, Value, View
from .opset import DTYPES, OPS, OpDef, misfit
from .validate import is_step

__all__ = ["check_op", "check_operands"]

_LARGEST_STEP = 2**20
_LARGEST_SAMPLED = 2**24
_EXACT = 2.0**53
_INTEGERS = frozenset({int})  # not bool: the core refuses it


def check_op(op: Op) -> None:
    """Raises ValueError with what is wrong."""
    if op.kind not in OPS:
        raise ValueError("the op set has no such op")
    problem = misfit(OPS[op.kind], op.attrs)
    if problem:
        raise ValueError(problem)
    check_operands(op)


def check_operands(op: Op) -> None:
    """The same for an op whose kind and attributes are known to be valid."""
    definition = OPS[op.kind]
    _check_counts(op, definition)
    for view in op.inputs:
        if view is not None:
            _check_view(view)
    for view in op.outputs:
        if view is not None:
            _check_view(view)
            if 0 in view.strides and _repeats(view):
                raise ValueError(f"it writes elements of '{view.value.name}' more than once")
    if op.kind == "map":
        _check_expression(op, [], op.inputs)
        return
    operands = _Operands(op, definition)
    for rule in definition.rules or ():
        operands.check_rule(rule)
    check = _CHECKS.get(op.kind)
    if check is not None:
        check(operands)
    if op.attrs.get("epilogue"):
        sums = 2 if op.attrs.get("halves") else 1
        _check_expression(op, ["f"] * sums, operands.rest)


def _check_counts(op: Op, rule: OpDef) -> None:
    fixed, count = rule.fixed_inputs, len(op.inputs)
    if count < rule.least_inputs:
        raise ValueError(f"{count} inputs, expected {' '.join(rule.inputs)}")
    if count > len(fixed):
        if len(fixed) == len(rule.inputs):
            raise ValueError(f"{count} inputs, expected {' '.join(rule.inputs) or 'none'}")
        if any(view is None for view in op.inputs[len(fixed) :]):
            raise ValueError(f"one of the inputs '{rule.inputs[-1]}' is absent")
    for name, view in zip(fixed, op.inputs, strict=False):
        if view is None and not name.endswith("?"):
            raise ValueError(f"the input '{name}' is absent")
    if not 1 <= len(op.outputs) <= len(rule.outputs):
        raise ValueError(f"{len(op.outputs)} outputs, expected {' '.join(rule.outputs)}")
    for name, view in zip(rule.outputs, op.outputs, strict=False):
        if view is None and not name.endswith("?"):
            raise ValueError("a result that is not optional is absent")
    if all(view is None for view in op.outputs):
        raise ValueError("it has no result")


def _check_view(view: View) -> None:
    if not isinstance(view, View):
        raise ValueError(f"an operand is a {type(view).__name__}; expected a View")
    value, shape, strides, offset = view.value, view.shape, view.strides, view.offset
    if value.dtype not in DTYPES:
        raise ValueError(f"'{value.name}' has the dtype {value.dtype}")
    if len(value.shape) > 8 or len(shape) > 8:
        raise ValueError(f"'{value.name}' has rank {max(len(value.shape), view.rank)}, above 8")
    if len(strides) != len(shape):
        raise ValueError(f"a view of '{value.name}' has {view.rank} extents and {len(strides)} strides")
    _check_extents(value, value.shape)
    if shape is not value.shape:
        _check_extents(value, shape)
    if type(offset) is not int or not _INTEGERS.issuperset(map(type, strides)):
        raise ValueError(f"a view of '{value.name}' has the strides {list(strides)} and offset {offset}")
    low = high = offset
    for n, s in zip(shape, strides, strict=True):
        if not n:
            return
        if s > 0:
            high += s * (n - 1)
        else:
            low += s * (n - 1)
    size = math.prod(value.shape)
    if low < 0 or high >= size:
        raise ValueError(f"a view reaches elements {low} to {high} of '{value.name}', which has {size}")


def _check_extents(value: Value, shape: Shape) -> None:
    if shape and not (_INTEGERS.issuperset(map(type, shape)) and min(shape) >= 0 and max(shape) < 2**40):
        raise ValueError(f"'{value.name}' is read or written with the shape {list(shape)}")


def _repeats(view: View) -> bool:
    return bool(view.elements) and any(n > 1 and s == 0 for n, s in zip(view.shape, view.strides, strict=True))


def _check_expression(op: Op, sums: list[str], operands: Sequence[View | None]) -> None:
    out = op.out
    steps = op.attrs["expr" if op.kind == "map" else "epilogue"]
    for at, step in enumerate(steps):
        if not isinstance(step, list) or not step or not is_step(step, at):
            raise ValueError(f"step {at} of its expression is {step!r:.60}")
        if step[0] == "in" and not 0 <= step[1] < len(sums) + len(operands):
            raise ValueError(f"step {at} of its expression loads operand {step[1]} of {len(sums) + len(operands)}")
    classes = list(sums)
    for view in operands:
        assert view is not None  # counted above
        if view.shape != out.shape:
            raise ValueError(f"an operand of shape {list(view.shape)}; expected that of the result, {list(out.shape)}")
        classes.append(class_of(view.value.dtype))
    if classes_of(steps, classes)[-1] != class_of(out.dtype):
        raise ValueError(f"the result of its expression does not fit the dtype {out.dtype}")


class _Operands:
    """The operands and results of an op by name, with checks that raise ValueError."""

    def __init__(self, op: Op, definition: OpDef) -> None:
        self.op, self.attrs = op, op.attrs
        self.views: dict[str, View | None] = dict.fromkeys(definition.operand_names)
        fixed = definition.fixed_inputs
        for names, views in ((fixed, op.inputs), (definition.outputs, op.outputs)):
            self.views.update(zip([name.rstrip("?") for name in names], views, strict=False))
        self.rest = [view for view in op.inputs[len(fixed) :] if view is not None]
        """The operands that stand for the name with a star."""

    def __getitem__(self, name: str) -> View:
        view = self.views[name]
        assert view is not None
        return view

    def get(self, name: str) -> View | None:
        return self.views[name]

    def need(self, fits: bool, expected: str) -> None:
        if not fits:
            raise ValueError(f"its operands or attributes do not fit: {self}; expected {expected}")

    def __str__(self) -> str:
        inputs, outputs = (
            ", ".join("nothing" if v is None else f"{v.dtype}{list(v.shape)}" for v in views)
            for views in (self.op.inputs, self.op.outputs)
        )
        return f"({inputs}) -> ({outputs})"

    # Texts are made only for what does not fit: they take longer than the checks.

    def need_shape(self, name: str, view: View | None, shape: Sequence[int]) -> None:
        if view is not None and view.shape != tuple(shape):
            self.need(False, f"'{name}' of shape {list(shape)}")

    def need_dtype(self, name: str, view: View | None, *dtypes: str) -> None:
        if view is not None and view.dtype not in dtypes:
            self.need(False, f"'{name}' of {' or '.join(dict.fromkeys(dtypes))}")

    def need_class(self, name: str, view: View | None, cls: str) -> None:
        if view is not None and class_of(view.dtype) != cls:
            self.need(False, f"'{name}' of {'a floating-point' if cls == 'f' else 'an integer'} dtype")

    def need_axes(self, name: str, axes: Iterable[int]) -> None:
        axes = list(axes)
        self.need(all(0 <= axis < self[name].rank for axis in axes), f"axes that '{name}' has")
        self.need(len(set(axes)) == len(axes), "distinct axes")

    def check_rule(self, rule: str) -> None:
        """One of ``OpDef.rules``."""
        kind, x, *words = rule.split()
        view = self.views.get(x)
        if kind in ("float", "integer"):
            self.need_class(x, view, kind[0])
        elif kind == "axis":
            self.need_axes(words[-1], [self.attrs[x]])
        elif kind == "dtype" and words[-1] in DTYPES:
            self.need_dtype(x, view, words[-1])
        elif words[-1].startswith("sum("):
            self.need_dtype(x, view, _sum_dtype(self[words[-1][4:-1]].dtype))
        else:
            y = self.views.get(words[-1])
            if view is None or y is None:
                return
            self.need(kind == "dtype" or view.shape == y.shape, f"'{x}' and '{words[-1]}' of one shape")
            self.need(kind == "shape" or view.dtype == y.dtype, f"'{x}' and '{words[-1]}' of one dtype")

    def need_same(self, name: str, other: str) -> None:
        self.check_rule(f"same {name} {other}")


def _sum_dtype(dtype: str) -> str:
    return dtype if class_of(dtype) == "f" else "int64"


def _need_epilogue(c: _Operands) -> None:
    for view in c.rest:
        c.need_shape("extra", view, c["out"].shape)
    if not c.attrs.get("epilogue"):
        c.need(not c.rest, "no 'extra' operands without an epilogue")
        c.need_dtype("out", c["out"], c.op.inputs[0].dtype if c.op.inputs[0] is not None else "")


def _need_spatial(c: _Operands, channels: bool = True) -> int:
    """How many spatial dimensions there are."""
    x, out = c["x"], c["out"]
    c.need(3 <= x.rank <= 5 and out.rank == x.rank, "'x' and 'out' of one rank, with 1 to 3 spatial dimensions")
    kept = 2 if channels else 1
    if x.shape[:kept] != out.shape[:kept]:
        c.need(False, "'x' and 'out' with the same batch size" + " and channels" * channels)
    c.need_class("x", x, "f")
    return x.rank - 2


def _need_steps(c: _Operands, dims: int, *names: str) -> None:
    for name in names:
        values = c.attrs.get(name) or [1] * dims
        if len(values) != dims:
            c.need(False, f"'{name}' with a number for each spatial dimension")
        if min(values) < 1 or max(values) > _LARGEST_STEP:
            c.need(False, f"'{name}' from 1 to 2^20")


def _conv(c: _Operands) -> None:
    x, weight, out = c["x"], c["weight"], c["out"]
    dims = _need_spatial(c, channels=False)
    groups = c.attrs.get("groups", 1)
    c.need_dtype("weight", weight, x.dtype)
    c.need(groups >= 1 and not x.shape[1] % groups and not out.shape[1] % groups, "groups that divide the channels")
    wanted = (out.shape[1], x.shape[1] // groups)
    if weight.rank != dims + 2 or weight.shape[:2] != wanted:
        c.need(False, f"'weight' of shape {[*wanted]} and the kernel's")
    c.need_shape("bias", c.get("bias"), out.shape[1:2])
    c.need_class("bias", c.get("bias"), "f")
    _need_steps(c, dims, "stride", "dilation", "input_dilation")
    low, high = c.attrs["padding_low"], c.attrs["padding_high"]
    c.need(len(low) == len(high) == dims, "padding with a number for each spatial dimension")
    c.need(0 not in weight.shape[2:], "a kernel that is not empty")
    for d, (extent, kernel, windows) in enumerate(zip(x.shape[2:], weight.shape[2:], out.shape[2:], strict=True)):
        padded = (extent - 1) * c.attrs["input_dilation"][d] + 1 if extent else 0
        reach = (windows - 1) * c.attrs["stride"][d] + c.attrs["dilation"][d] * (kernel - 1) + 1
        c.need(not windows or reach <= padded + low[d] + high[d], "windows that end inside the padded 'x'")
    _need_epilogue(c)


def _matmul(c: _Operands) -> None:
    a, b, bias, out = c["a"], c["b"], c.get("bias"), c["out"]
    quantized = bool(c.attrs.get("bits"))
    c.need(out.rank >= 2 and a.rank == out.rank and (b.rank == out.rank or quantized),
           "operands of the rank of 'out', at least 2")  # fmt: skip
    halves = bool(c.attrs.get("halves"))
    *batch, m, n = out.shape
    columns = 2 * n if halves else n
    c.need_shape("a", a, (*batch, m, a.shape[-1]))
    if quantized:
        _need_quantized(c, "b", (columns, a.shape[-1]))
        c.need_class("a", a, "f")
    else:
        parts = [c.get(part) for part in ("scales", "offsets", "units")]
        c.need(all(part is None for part in parts), "'bits' for scales, offsets and units")
        c.need_shape("b", b, (*batch, a.shape[-1], columns))
        c.need_dtype("b", b, a.dtype)
    c.need(not halves or bool(c.attrs.get("epilogue")), "an epilogue that combines the two halves")
    if class_of(a.dtype) == "i":
        c.need_dtype("out", out, a.dtype)
        c.need(bias is None and not c.attrs.get("epilogue"), "no 'bias' and no epilogue of integers")
        return
    c.need_class("a", a, "f")
    if bias is not None:
        c.need_shape("bias", bias, (*batch, m, columns))
        c.need_class("bias", bias, "f")
        c.need(not any(n > 1 and s for n, s in zip(bias.shape[:-1], bias.strides[:-1], strict=True)),
               "one 'bias' for all rows")  # fmt: skip
    _need_epilogue(c)


def _need_quantized(c: _Operands, name: str, shape: Sequence[int]) -> None:
    """The operands that stand for numbers of this shape."""
    bits, group, offset = c.attrs["bits"], c.attrs.get("group", 0), c.attrs.get("offset", "none")
    c.need(bits in (2, 3, 4, 6, 8), "2, 3, 4, 6 or 8 bits")
    c.need(group >= 0, "a group of at least 0 elements")
    c.need(c.get("scales") is not None, "'scales' of a quantised operand")
    c.need((c.get("offsets") is None) == (offset == "none"), "'offsets' unless 'offset' is none, and only then")
    unit = c.attrs.get("unit", 0)
    scheme = Scheme(bits, group, offset, unit=unit)
    c.need_shape(name, c[name], scheme.stored_shape(shape))
    c.need_dtype(name, c[name], "uint8")
    for each in ("scales", "offsets"):
        c.need_shape(each, c.get(each), (*shape[:-1], scheme.groups(shape[-1])))
        if unit:
            c.need_dtype(each, c.get(each), MULTIPLES)
        else:
            c.need_class(each, c.get(each), "f")
    c.need(unit == 0 or (unit > 0 and group > 0 and unit % group == 0), "a unit of whole groups")
    c.need((c.get("units") is None) == (unit == 0), "'units' unless 'unit' is 0, and only then")
    c.need_shape("units", c.get("units"), (*shape[:-1], scheme.units(shape[-1])))
    c.need_class("units", c.get("units"), "f")


def _dequantize(c: _Operands) -> None:
    c.need(c["out"].rank >= 1, "'out' of at least one dimension")
    c.need_class("out", c["out"], "f")
    _need_quantized(c, "q", c["out"].shape)


def _attention(c: _Operands) -> None:
    q, k, v, mask = c["q"], c["k"], c["v"], c.get("mask")
    c.need_class("q", q, "f")
    c.need(q.rank == k.rank == v.rank == 4, "'q', 'k' and 'v' of rank 4")
    (n, heads, rows, depth), (_, groups, columns, _) = q.shape, k.shape
    c.need(groups > 0 and heads % groups == 0, "heads of 'q' that are a multiple of those of 'k'")
    c.need_shape("k", k, (n, groups, columns, depth))
    c.need_shape("v", v, (n, groups, columns, v.shape[3]))
    c.need_shape("out", c["out"], (n, heads, rows, v.shape[3]))
    scales = c.get("key_scales"), c.get("value_scales")
    c.need((scales[0] is None) == (scales[1] is None), "'key_scales' and 'value_scales', or neither")
    for name in ("key_scales", "value_scales"):
        c.need_shape(name, c.get(name), (n, groups, columns))
        c.need_dtype(name, c.get(name), "float32")
    for name in ("k", "v"):
        c.need_dtype(name, c[name], q.dtype if scales[0] is None else "int8")
    c.need_dtype("out", c["out"], q.dtype)
    c.need(math.isfinite(c.attrs["scale"]), "a finite scale")
    c.need_shape("mask", mask, (n, heads, rows, columns))
    c.need_dtype("mask", mask, "bool", "float32", q.dtype)
    c.need(mask is None or not c.attrs.get("causal"), "a mask or 'causal', not both")


def _rope(c: _Operands) -> None:
    x, cos, key, value = c["x"], c["cos"], c.get("key"), c.get("value")
    keys, values, index = c.get("key_cache"), c.get("value_cache"), c.get("index")
    c.need_class("x", x, "f")
    c.need(x.rank == cos.rank == 4, "'x' and 'cos' of rank 4")
    c.need_same("out", "x")
    c.need(cos.shape[3] % 2 == 0 and cos.shape[3] <= x.shape[3], "an even number of rotated elements of each row")
    for name in ("cos", "sin"):
        c.need_shape(name, c[name], (x.shape[0], 1, x.shape[2], cos.shape[3]))
        c.need_dtype(name, c[name], "float32", x.dtype)
    present = {name for name in ("value", "value_cache", "value_out") if c.get(name) is not None}
    c.need((key is None) == (c.get("key_out") is None), "'key' and 'key_out', or neither")
    c.need(len(present) in (0, 3), "'value', 'value_cache' and 'value_out', or none of them")
    c.need(keys is None or key is not None, "a 'key' for the 'key_cache'")
    c.need(values is None or keys is not None, "a 'key_cache' beside the 'value_cache'")
    c.need((index is None) == (keys is None), "an 'index' for caches, and only for caches")
    for name in ("key", "value", "key_cache", "value_cache", "key_out", "value_out"):
        view = c.get(name)
        c.need(view is None or view.rank == 4, f"'{name}' of rank 4")
        c.need_dtype(name, view, x.dtype)
    if key is None:
        return
    c.need_shape("key", key, (x.shape[0], key.shape[1], x.shape[2], x.shape[3]))
    c.need_shape("key_out", c["key_out"], (key if keys is None else keys).shape)
    if keys is None or index is None:
        return
    c.need_shape("key_cache", keys, (*key.shape[:2], keys.shape[2], key.shape[3]))
    c.need_shape("index", index, x.shape[2:3])
    c.need_dtype("index", index, "int64")
    if value is not None and values is not None:
        c.need_shape("value", value, (*key.shape[:3], value.shape[3]))
        c.need_shape("value_cache", values, (*keys.shape[:3], value.shape[3]))
        c.need_shape("value_out", c["value_out"], values.shape)


def _need_pool_results(c: _Operands) -> None:
    indices = c.get("indices")
    c.need_dtype("out", c["out"], c["x"].dtype)
    c.need(indices is None or c.attrs["kind"] == "max", "indices of a maximum only")
    c.need_shape("indices", indices, c["out"].shape)
    c.need_dtype("indices", indices, "int64")


def _pool(c: _Operands) -> None:
    dims = _need_spatial(c)
    _need_steps(c, dims, "kernel", "stride", "dilation")
    padding, kernel, stride, dilation = (c.attrs[name] for name in ("padding", "kernel", "stride", "dilation"))
    c.need(len(padding) == dims, "'padding' with a number for each spatial dimension")
    c.need(c.attrs.get("divisor", 0) >= 0, "a divisor of at least 0")
    for d, (extent, windows) in enumerate(zip(c["x"].shape[2:], c["out"].shape[2:], strict=True)):
        c.need(0 <= padding[d] <= (kernel[d] - 1) * dilation[d], "padding smaller than the kernel")
        begins_inside = extent >= 1 and (windows - 1) * stride[d] < extent + 2 * padding[d]
        c.need(not c["out"].elements or begins_inside, "windows that begin inside the padded 'x'")
    _need_pool_results(c)


def _adaptive_pool(c: _Operands) -> None:
    _need_spatial(c)
    c.need(not c["out"].elements or bool(math.prod(c["x"].shape[2:])), "an 'x' that is not empty")
    _need_pool_results(c)


def _norm(c: _Operands) -> None:
    x = c["x"]
    c.need_class("x", x, "f")
    c.need_same("out", "x")
    if c.attrs["kind"] == "group":
        groups = c.attrs.get("groups", 1)
        c.need(x.rank >= 2 and groups >= 1 and x.shape[1] % groups == 0, "groups that divide the channels")
        shape = x.shape[1:2]
    else:
        axes = c.attrs.get("axes", 1)
        c.need(1 <= axes <= x.rank, "at least one normalised axis, and no more than 'x' has")
        shape = x.shape[x.rank - axes :]
    for name in ("weight", "bias"):
        c.need_shape(name, c.get(name), shape)
        c.need_dtype(name, c.get(name), x.dtype, "float32")


def _reduce(c: _Operands) -> None:
    x, kind, axes = c["x"], c.attrs["kind"], c.attrs["axes"]
    c.need_axes("x", axes)
    c.need_shape("out", c["out"], [1 if d in axes else n for d, n in enumerate(x.shape)])
    if kind in ("mean", "var", "std"):
        c.need_class("x", x, "f")
    dtypes = {"sum": _sum_dtype(x.dtype), "prod": _sum_dtype(x.dtype), "any": "bool", "all": "bool",
              "argmax": "int64", "argmin": "int64"}  # fmt: skip
    c.need_dtype("out", c["out"], dtypes.get(kind, x.dtype))
    c.need(math.isfinite(c.attrs.get("correction", 0.0)), "a finite correction")
    c.need(not kind.startswith("arg") or len(axes) == 1, "one axis")
    chooses = kind in ("max", "min", "argmax", "argmin")
    c.need(not chooses or bool(x.elements) or not c["out"].elements, "at least one element to choose from")


def _topk(c: _Operands) -> None:
    x, axis = c["x"], c.attrs["axis"]
    c.need_axes("x", [axis])
    shape = c.op.out.shape
    rest = len(shape) == x.rank and all(
        a == b for d, (a, b) in enumerate(zip(shape, x.shape, strict=True)) if d != axis
    )
    c.need(rest and shape[axis] <= x.shape[axis], "results of the shape of 'x', with no more elements along the axis")
    for name, dtype in (("values", x.dtype), ("indices", "int64")):
        c.need_shape(name, c.get(name), shape)
        c.need_dtype(name, c.get(name), dtype)


def _need_indices(c: _Operands, positions: Sequence[int]) -> None:
    x, axes, dims = c["x"], c.attrs["axes"], c.attrs["dims"]
    c.need(bool(axes) and len(axes) == len(c.rest), "an index operand for each of the axes")
    c.need(len(dims) == x.rank, "'dims' with an entry for each dimension of 'x'")
    c.need_axes("x", axes)
    for d, dim in enumerate(dims):
        if d in axes:
            c.need(dim == -1, "-1 in 'dims' for what is in 'axes'")
            continue
        fits = 0 <= dim < len(positions) and positions[dim] <= x.shape[d]
        c.need(fits, "dimensions in 'dims' whose positions lie inside 'x'")
    for view in c.rest:
        c.need_shape("indices", view, positions)
        c.need_class("indices", view, "i")


def _gather(c: _Operands) -> None:
    c.need_dtype("out", c["out"], c["x"].dtype)
    _need_indices(c, c["out"].shape)


def _scatter(c: _Operands) -> None:
    c.need_same("x", "out")
    c.need_dtype("updates", c["updates"], c["x"].dtype)
    c.need(c.attrs["kind"] == "set" or c["x"].dtype != "bool", "numbers, or kind 'set'")
    _need_indices(c, c["updates"].shape)


def _iota(c: _Operands) -> None:
    out, start, step = c["out"], c.attrs["start"], c.attrs["step"]
    c.need(out.rank == 1 and out.dtype != "bool", "numbers in one dimension")
    c.need(math.isfinite(start) and math.isfinite(step), "a finite start and step")
    if class_of(out.dtype) == "i":
        numbers = (start, step, start + step * out.shape[0])
        exact = all(abs(n) <= _EXACT for n in numbers) and start == int(start) and step == int(step)
        c.need(exact, "integers up to 2^53 as start, step and end")


def _resize(c: _Operands) -> None:
    dims = _need_spatial(c)
    c.need_dtype("out", c["out"], c["x"].dtype)
    c.need(c.attrs["kind"] != "cubic" or dims == 2, "2 spatial dimensions for 'cubic'")
    c.need(len(c.attrs["scales"]) == dims, "a scale for each spatial dimension")
    for scale, extent, wanted in zip(c.attrs["scales"], c["x"].shape[2:], c["out"].shape[2:], strict=True):
        c.need(scale >= 0 and math.isfinite(scale), "finite scales of at least 0")
        if not c["out"].elements:
            continue
        c.need(extent >= 1, "an 'x' that is not empty")
        scaled = scale * extent
        near = scaled >= 0.5 and abs(scaled - wanted) <= 1 + 1e-6 * scaled
        c.need(scale == 0 or near, "extents of 'out' that are those of 'x' times the scales")


def _grid_sample(c: _Operands) -> None:
    dims = _need_spatial(c)
    c.need(dims >= 2, "2 or 3 spatial dimensions")
    c.need_dtype("out", c["out"], c["x"].dtype)
    c.need_dtype("grid", c["grid"], "float32", c["x"].dtype)
    c.need_shape("grid", c["grid"], (c["out"].shape[0], *c["out"].shape[2:], dims))
    c.need(c.attrs["kind"] != "cubic" or dims == 2, "2 spatial dimensions for 'cubic'")
    c.need(not c["out"].elements or all(n >= 1 for n in c["x"].shape[2:]), "an 'x' that is not empty")
    c.need(all(n <= _LARGEST_SAMPLED for n in c["x"].shape[2:]), "an 'x' of up to 2^24 elements along each dimension")


def _pad(c: _Operands) -> None:
    x, out, low, high = c["x"], c["out"], c.attrs["low"], c.attrs["high"]
    kind = c.attrs.get("kind", "constant")
    c.need_dtype("out", out, x.dtype)
    c.need(len(low) == len(high) == x.rank, "'low' and 'high' with a number for each dimension")
    sides = list(zip(x.shape, low, high, strict=True))
    c.need(all(min(a, b) >= -n for n, a, b in sides), "negative padding that removes no more than 'x' has")
    c.need_shape("out", out, [n + a + b for n, a, b in sides])
    if kind == "constant" or not out.elements:
        return
    for n, a, b in sides:
        most = {"reflect": n - 1, "circular": n, "replicate": max(a, b)}[kind] if n else 0
        c.need(max(a, b) <= max(most, 0), f"padding that '{kind}' can take from 'x'")


_CHECKS: dict[str, Callable[[_Operands], None]] = {
    "conv": _conv, "matmul": _matmul, "dequantize": _dequantize, "attention": _attention, "rope": _rope, "pool": _pool,
    "adaptive_pool": _adaptive_pool, "norm": _norm, "reduce": _reduce, "topk": _topk, "gather": _gather,
    "scatter": _scatter, "iota": _iota, "resize": _resize, "grid_sample": _grid_sample,
    "pad": _pad,
}  # fmt: skip
"""What ``OpDef.rules`` cannot say; the core has the same in op_check*.cpp."""

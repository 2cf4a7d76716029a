"""From ATen nodes to ops: how arguments are bound to a lowering, and what lowerings build with."""

from __future__ import annotations

import difflib
import inspect
import math
from collections.abc import Collection, Iterable, Sequence
from typing import Any, NamedTuple, get_args, get_origin

import numpy as np
from npu_base.errors import InvalidValueError

from .errors import CompileError, Defect, Malformed, Refused, Unsupported, described
from .exprs import Expression, Ref, Step, as_stored, class_of
from .graph import Graph, Op, Value, View, whole
from .op_check import check_operands
from .opset import DTYPES, OPS, misfit
from .reader import Meta, Node
from .registry import LOWERINGS, Lowering, Parameter, Scalar, full_name, is_ours, lowering

Tensor = View
DType = str

__all__ = [
    "GETITEM",
    "LOWERINGS",
    "Builder",
    "DType",
    "Lowering",
    "Scalar",
    "Tensor",
    "bind",
    "broadcast",
    "lower_node",
    "lowering",
    "reads",
]

GETITEM = "<built-in function getitem>"
IGNORED = frozenset(
    "device layout pin_memory memory_format non_blocking requires_grad".split()
    + ["_tensor_list_sizes", "_tensor_list_none_masks"]
)
"""Arguments about devices and memory, which do not affect values."""


def _is_a(value: Any, hint: Any) -> bool:
    """Whether an attribute fits an annotation of a lowering."""
    if hint is Any or hint is inspect.Parameter.empty:
        return True
    parts = get_args(hint)
    if get_origin(hint) is list:
        return isinstance(value, list | tuple) and all(_is_a(one, parts[0]) for one in value)
    if parts:  # a union
        return any(_is_a(value, part) for part in parts)
    if hint in (int, float):
        return isinstance(value, np.generic | np.ndarray | (int if hint is int else int | float))
    return isinstance(value, hint) or (hint is bool and isinstance(value, int))


def bind(rule: Lowering, node: Node, inputs: Sequence[View | None]) -> dict[str, Any]:
    """The node's arguments by parameter name."""
    attrs = dict(node.attrs)
    queue = list(inputs)
    sizes, masks = list(attrs.get("_tensor_list_sizes") or []), list(attrs.get("_tensor_list_none_masks") or [])
    tensors = [p for p in rule.parameters if p.kind != "attr" and p.name not in attrs]
    if node.absent is None and not any(p.kind == "tensors" for p in tensors):
        optional = [p for p in tensors if not p.required]
        given = len(queue) - (len(tensors) - len(optional))
        if 0 < given < len(optional):
            raise Unsupported("the node does not say which of its optional tensors are given (no 'absent_inputs')")
    arguments: dict[str, Any] = {}
    for p in rule.parameters:
        if p.name in attrs:
            arguments[p.name] = given = attrs.pop(p.name)
            if is_ours(rule.function):
                _check_value(node, p, given)
            if given is not None and not _is_a(given, p.hint):
                raise Unsupported(f"its argument '{p.name}' is {given!r:.60}, which the operator does not take")
            if p.kind in ("tensor", "tensors") and arguments[p.name] is not None:
                raise Unsupported(f"the tensor argument '{p.name}' is given as {arguments[p.name]!r}")
        elif p.kind == "attr" or (node.absent and p.name in node.absent):
            arguments[p.name] = p.default
        elif p.kind == "tensors":
            arguments[p.name] = _take_list(p, queue, sizes, masks)
        elif queue and (p.kind == "tensor" or p.required or p.optional_tensor):
            arguments[p.name] = queue.pop(0)
        else:
            arguments[p.name] = p.default
        if p.required and arguments[p.name] is None:
            raise Unsupported(f"the argument '{p.name}' is missing")
    unknown = [k for k, v in attrs.items() if k not in IGNORED and v is not None]
    if unknown:
        raise Refused(f"the argument '{unknown[0]}' is not supported")
    if queue:
        raise Unsupported(f"{len(queue)} more tensors than expected")
    for name, value in arguments.items():
        if isinstance(value, complex) or (isinstance(value, np.ndarray) and value.ndim):
            raise Refused(f"the argument '{name}' is a {type(value).__name__}")
    return arguments


def _check_value(node: Node, p: Parameter, value: Any) -> None:
    """That PyTorch itself would take the value of an argument; if not, nothing can run the node."""
    least = None if _ANY_STEP & set(node.op_type.split(".")) else _LEAST.get(p.name)
    numbers = value if isinstance(value, list) else [value]
    if value is None and p.kind == "attr" and p.default is not None and not _is_a(None, p.hint):
        expected = "a value; try leaving it out for its default"
    elif value is None and p.required and p.kind == "attr":
        expected = "a value, because it has no default"
    elif least is not None and any(isinstance(n, int) and n < least for n in numbers):
        expected = f"at least {least}"
    else:
        return
    raise Malformed(f"its argument '{p.name}' is {'null' if value is None else repr(value)}; expected {expected}")


_LEAST = dict.fromkeys(
    "chunks sections kernel_size stride dilation groups num_groups group step upscale_factor downscale_factor".split(),
    1,
)
"""The least values of arguments, by name."""
_ANY_STEP = frozenset({"arange", "range"})
"""Operators whose step may be negative."""


def _take_list(p: Parameter, queue: list[Any], sizes: list[int], masks: list[list[bool]]) -> Any:
    if not sizes:
        if p.required:
            raise Unsupported(f"the length of the list '{p.name}' is missing")
        return p.default
    count = sizes.pop(0)
    # Sizes count the tensors that are given; masks have an entry for absent ones too.
    fits = bool(masks) and count in (len(masks[0]), len(masks[0]) - sum(masks[0]))
    mask = masks.pop(0) if fits else [False] * count
    return [None if gap else queue.pop(0) for gap in mask]


def broadcast(*shapes: Sequence[int]) -> tuple[int, ...]:
    rank = max(map(len, shapes), default=0)
    result = [1] * rank
    for shape in shapes:
        for d, n in enumerate(shape, rank - len(shape)):
            if n != 1 and result[d] not in (1, n):
                raise Unsupported(f"shapes {[list(s) for s in shapes]} do not broadcast")
            result[d] = n if n != 1 else result[d]
    return tuple(result)


_ORDER = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def _join(a: str, b: str) -> str:
    if a == b:
        return a
    if {a, b} == {"float16", "bfloat16"}:
        return "float32"
    if {a, b} == {"uint8", "int8"}:
        return "int16"
    return max(a, b, key=_ORDER.index)


def promote(args: Iterable[View | Scalar]) -> str:
    """The dtype that PyTorch promotes to. Within a class, tensors outrank 0-d tensors, and these outrank numbers."""
    ranks: list[str | None] = [None, None, None]
    result: str | None = None
    for arg in args:
        if isinstance(arg, View):
            level, dtype = (0 if arg.rank else 1), arg.dtype
        else:
            level, dtype = 2, "bool" if isinstance(arg, bool) else "int64" if isinstance(arg, int) else "float32"
        known = ranks[level]
        ranks[level] = dtype if known is None else _join(known, dtype)
    for kind in ranks:
        if kind is not None and (result is None or "bif".index(class_of(kind)) > "bif".index(class_of(result))):
            result = kind if not (kind == "float64" and result is not None) else "float32"
    return result or "float32"


class Builder:
    """Adds ops to ``graph.main`` on behalf of lowerings. Results are views."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.node: Node | None = None
        self.copies: dict[Value, View] = {}
        """The sources of the values that ``copy`` returned."""
        self.checked: set[Op] = set()
        """The ops that are known to be valid."""
        self._op_names: set[str] = set()
        self._formulas: dict[tuple[Any, ...], tuple[list[Step], list[int]]] = {}
        """The steps of maps, which models repeat from layer to layer."""

    @property
    def base(self) -> str:
        return self.node.name if self.node else "border"

    def op_name(self, name: str) -> str:
        candidate, n = name, 1
        while candidate in self._op_names:
            candidate, n = f"{name}.{n}", n + 1
        self._op_names.add(candidate)
        return candidate

    def temp(self, shape: Iterable[int], dtype: str) -> View:
        if dtype not in DTYPES:
            raise Unsupported(f"dtype {dtype}")
        shape = tuple(shape)
        if len(shape) > 8:
            raise Unsupported(f"rank {len(shape)}, above 8")
        if not all(0 <= n < 2**40 for n in shape):
            raise Unsupported(f"a result of shape {list(shape)}")
        return whole(self.graph.temp(self.base, dtype, shape))

    def emit(self, op: str, inputs: Sequence[View | None], outputs: Sequence[View | None], /, **attrs: Any) -> Op:
        if op not in OPS:
            close = difflib.get_close_matches(op, OPS, n=1)
            hint = f"; try '{close[0]}'" if close else ""
            raise InvalidValueError(f"the op set has no op '{op}'; expected one of docs/program-format.md{hint}")
        problem = misfit(OPS[op], attrs)
        if problem:
            raise Unsupported(problem)
        nodes, module = ((self.node.name,), self.node.module) if self.node else ((), "")
        new = Op(op, self.op_name(self.base), tuple(inputs), tuple(outputs), attrs, nodes, module)
        try:
            check_operands(new)
        except ValueError as error:
            raise InvalidValueError(f"an invalid {op}: {error}") from None
        self.checked.add(new)
        return self.graph.append(new)

    def new(self, op: str, inputs: Sequence[View | None], shape: Iterable[int], dtype: str, /, **attrs: Any) -> View:
        out = self.temp(shape, dtype)
        self.emit(op, inputs, [out], **attrs)
        return out

    def map(
        self,
        text: str,
        dtype: str,
        /,
        compute: str | None = None,
        shape: Sequence[int] | None = None,
        unrounded: Collection[str] = (),
        **names: Any,
    ) -> View:
        """Computes the formula ``text``, whose ``names`` are numbers or views. Views are broadcast and converted to
        ``compute``; an ``unrounded`` view of a single element becomes float32 even if ``compute`` is narrower."""
        views: list[View] = []
        operands: dict[str, Any] = {}
        for name, value in names.items():
            if not isinstance(value, View):
                operands[name] = value.item() if isinstance(value, np.generic | np.ndarray) else value
                continue
            if value not in views:
                views.append(value)
            wanted = compute or value.dtype
            if name in unrounded and value.elements == 1 and class_of(wanted) == "f":
                wanted = value.dtype if value.dtype == wanted else "float32"
            data = value.value.data
            if data is not None and data.size == 1 and compute is not None:
                operands[name] = _Operand(value.dtype, wanted, number=data.reshape(-1)[0].item())
            else:
                self.check_dtype(value)
                operands[name] = _Operand(value.dtype, wanted, at=views.index(value))
        full = broadcast(*(v.shape for v in views), *([shape] if shape is not None else []))
        key = (text, dtype, compute, repr(operands))
        if key not in self._formulas:
            self._formulas[key] = _formula(text, dtype, compute or dtype, operands)
        return self._put_map(*self._formulas[key], views, full, dtype)

    def _put_map(self, steps: list[Step], used: list[int], views: list[View], shape: Sequence[int], dtype: str) -> View:
        if steps == [["in", 0]] and views[used[0]].dtype == dtype:
            return views[used[0]].expand(shape)
        return self.new("map", [views[k].expand(shape) for k in used], shape, dtype, expr=[[*step] for step in steps])

    def check_dtype(self, view: View) -> None:
        if view.dtype not in DTYPES:
            raise Unsupported(f"dtype {view.dtype}")

    def cast(self, x: View, dtype: str) -> View:
        if x.dtype == dtype:
            return x
        if dtype not in DTYPES:
            raise Refused(f"dtype {dtype}")
        data = x.value.data
        if data is not None and data.size == 1:
            return self.map("x", dtype, compute=x.dtype, shape=x.shape, x=x)
        self.check_dtype(x)
        expr = Expression()
        step = expr.cast(expr.load(0, class_of(x.dtype)), dtype)
        return self._put_map(*_finished(expr, step, dtype), [x], x.shape, dtype)

    def copy(self, x: View) -> View:
        self.check_dtype(x)
        out = self.new("copy", [x], x.shape, x.dtype)
        self.copies[out.value] = x
        return out

    def reshape(self, x: View, shape: Sequence[int]) -> View:
        shape = tuple(shape)
        if math.prod(shape) != x.elements:
            raise Unsupported(f"shape {list(x.shape)} as {list(shape)}")
        reshaped = x.reshape(shape)
        if reshaped is None:
            reshaped = self.copy(x).reshape(shape)
            assert reshaped is not None
        return reshaped

    def full(self, shape: Iterable[int], number: Scalar, dtype: str) -> View:
        return self.map("x", dtype, shape=tuple(shape), x=as_stored(number, dtype))

    def constant(self, data: np.ndarray, dtype: str) -> View:
        value = Value(self.graph.unique(self.base), dtype, data.shape, "constant", np.ascontiguousarray(data, dtype))
        self.graph.constants.append(value)
        return whole(value)

    def iota(self, count: int, start: Scalar = 0, step: Scalar = 1, dtype: str = "int64") -> View:
        return self.new("iota", [], [count], dtype, start=start, step=step)


class _Operand(NamedTuple):
    """A view in a formula: operand ``at`` of the map, or else a constant."""

    dtype: str
    wanted: str
    at: int | None = None
    number: Scalar = 0


def _formula(text: str, dtype: str, compute: str, operands: dict[str, Any]) -> tuple[list[Step], list[int]]:
    """The steps of a map, and which views it reads."""
    expr = Expression()
    env: dict[str, Any] = {}
    for name, operand in operands.items():
        if not isinstance(operand, _Operand):
            env[name] = operand
            continue
        cls = class_of(operand.dtype)
        step = expr.const(operand.number, cls) if operand.at is None else expr.load(operand.at, cls)
        env[name] = Ref(expr.convert(step, operand.dtype, operand.wanted))
    return _finished(expr, expr.to_class(expr.eval(text, env, compute), class_of(dtype)), dtype)


def _finished(expr: Expression, result: int, dtype: str) -> tuple[list[Step], list[int]]:
    if expr.steps[result][0] == "const":  # so that readers can fold the constant
        result = expr.cast(result, dtype)
    steps = expr.finish(result)
    used = sorted({step[1] for step in steps if step[0] == "in"})
    renumbered = {k: i for i, k in enumerate(used)}
    return [["in", renumbered[step[1]]] if step[0] == "in" else step for step in steps], used


_RANDOM = "it draws random numbers"
_RUN_TIME = "the shape of its result is known only at run time"
_CTC = "the CTC loss takes as many steps as its targets have; compile the module without it"
_ANTIALIAS = (
    "antialiased resizing; resize before the model, or compute once what depends on weights alone, or use avg_pool2d "
    "and antialias=False"
)
_MODE = (
    "the most frequent value; of sorted rows s it is s.gather(-1, (s[..., :, None] == s[..., None, :]).sum(-1)"
    ".argmax(-1, keepdim=True))"
)
_REASONS = {
    **dict.fromkeys("_upsample_bicubic2d_aa _upsample_bilinear2d_aa".split(), _ANTIALIAS),
    "nanquantile": "how many values it sorts depends on the NaNs; use quantile on values without NaN, or nanmedian",
    "mode": _MODE,
    **dict.fromkeys("ctc_loss _ctc_loss".split(), _CTC),
    **dict.fromkeys(
        "rand randn randint randperm rand_like randn_like randint_like bernoulli multinomial normal uniform "
        "normal_functional exponential cauchy geometric log_normal random poisson fractional_max_pool2d "
        "fractional_max_pool3d".split(), _RANDOM),
    **dict.fromkeys("nonzero masked_select unique_dim _unique2 unique_consecutive bincount argwhere".split(),
                    _RUN_TIME),
    "repeat_interleave": "how often it repeats is known only at run time",
    "embedding_bag": "where its bags start is known only at run time",
    "_embedding_bag": "where its bags start is known only at run time",
    "as_strided": "it depends on the layout of memory, which a program leaves to the device",
    "as_strided_copy": "it depends on the layout of memory, which a program leaves to the device",
    "item": "it reads a number from a tensor, which is known only at run time",
    "_local_scalar_dense": "it reads a number from a tensor, which is known only at run time",
    **dict.fromkeys("complex polar view_as_real view_as_complex fft_fft fft_ifft fft_rfft fft_irfft fft_fft2 "
                    "fft_ifft2 stft istft angle imag conj".split(), "complex numbers"),
}  # fmt: skip

_QUANTIZES = "it quantises activations while the model runs; quantise weights alone"
_PACKED = "its weight is packed for one kind of processor; quantise to integers in the order of the weight"
_REASONS_OF_QUANTIZERS = {
    **dict.fromkeys("choose_qparams_affine quantize_affine choose_qparams choose_qparams_symmetric quantize_per_tensor "
                    "quantize_per_channel quantize_per_token choose_qparams_per_token "
                    "choose_qparams_per_token_asymmetric _int_mm".split(), _QUANTIZES),
    **dict.fromkeys("_weight_int4pack_mm _weight_int4pack_mm_for_cpu _weight_int4pack_mm_with_scales_and_zeros "
                    "_dyn_quant_matmul_4bit _dyn_quant_pack_4bit_weight".split(), _PACKED),
}  # fmt: skip


def _without_lowering(op_type: str) -> str:
    parts = op_type.split(".")
    name = parts[1] if len(parts) == 3 else ""
    why = _REASONS.get(name) if parts[0] == "aten" else None
    if parts[0] in ("aten", "torchao", "quantized_decomposed"):
        why = why or _REASONS_OF_QUANTIZERS.get(name)
    return why or "no lowering for this operator"


def lower_node(builder: Builder, node: Node, inputs: Sequence[View | None]) -> list[View | None]:
    """The node's results, with ``None`` for those that are not computed. Raises Unsupported."""
    if node.op_type == GETITEM:
        return _getitem(node, inputs)
    rule = LOWERINGS.get(node.op_type)
    if rule is None:
        raise Unsupported(_without_lowering(node.op_type))
    for view in inputs:
        if view is not None and view.rank > 8:
            raise Unsupported(f"rank {view.rank}, above 8")
    builder.node = node
    arguments = bind(rule, node, inputs)
    try:
        result = rule.function(builder, **arguments)
    except (Unsupported, CompileError):
        raise
    except Exception as error:
        raise _defect(node, rule, f"failed ({described(error)})") from error
    results = list(result) if isinstance(result, list | tuple) else [result]
    if not all(isinstance(view, View) or (view is None and len(results) > 1) for view in results):
        got = "[" + ", ".join(_type_name(view) for view in results) + "]"
        got = got if isinstance(result, list | tuple) else _type_name(result)
        raise _defect(node, rule, f"returned {got}; expected a Tensor of the builder, or a tuple of them")
    if node.outputs is not None:
        _check_results(node, results, rule)
    return results


def _defect(node: Node, rule: Lowering | None, what: str) -> Defect:
    """The lowering's own mistake: of this package, or of the user who registered it."""
    if rule is None or is_ours(rule.function):
        return Defect(f"its lowering {what}")
    return Defect(f"your lowering {full_name(rule.function)} of {node.op_type} {what}", ours=False)


def _type_name(value: Any) -> str:
    kind = type(value)
    if value is None or kind.__module__ == "builtins":
        return "None" if value is None else kind.__name__
    return "Tensor" if isinstance(value, View) else f"{kind.__module__}.{kind.__name__}"


def _getitem(node: Node, inputs: Sequence[View | None]) -> list[View | None]:
    at = node.attrs.get("index")
    if not isinstance(at, int) or not -len(inputs) <= at < len(inputs):
        raise Unsupported(f"result {at!r} of {len(inputs)}")
    _check_results(node, [inputs[at]], None)
    return [inputs[at]]


def reads(node: Node) -> list[Meta]:
    """The tensors that the node reads: ``getitem`` lists all results and reads one."""
    if node.op_type != GETITEM:
        return node.inputs
    at = node.attrs.get("index")
    return [node.inputs[at]] if isinstance(at, int) and -len(node.inputs) <= at < len(node.inputs) else []


def _check_results(node: Node, results: list[View | None], rule: Lowering | None) -> None:
    if len(results) != len(node.outputs):
        raise _defect(node, rule, f"gives {len(results)} results; expected {len(node.outputs)}, as the IR declares")
    for view, meta in zip(results, node.outputs, strict=True):
        if view is not None and view.rank > 8:
            raise Unsupported(f"rank {view.rank}, above 8")
        if view is not None and meta.dtype not in DTYPES and view.dtype in DTYPES:
            raise Unsupported(f"dtype {meta.dtype}")
        if view is not None and (view.shape, view.dtype) != (meta.shape, meta.dtype):
            got, want = f"{view.dtype}{list(view.shape)}", f"{meta.dtype}{list(meta.shape)}"
            raise _defect(node, rule, f"gives {got}; expected {want}, as the IR declares")


def dim_of(dim: int, rank: int) -> int:
    if not -max(rank, 1) <= dim < max(rank, 1):
        raise Unsupported(f"dimension {dim} of a tensor of rank {rank}")
    return dim % max(rank, 1)


def dims_of(dims: int | Sequence[int] | None, rank: int) -> list[int]:
    """Sorted dimensions; all of them if none are named."""
    if dims is None or (not isinstance(dims, int) and not len(dims)):
        return list(range(rank))
    listed = [dim_of(d, rank) for d in ([dims] if isinstance(dims, int) else dims)]
    if len(set(listed)) != len(listed):
        raise Malformed(f"a dimension appears twice in {list(dims) if not isinstance(dims, int) else dims}")
    return sorted(listed) if rank else []


def spread(value: int | Sequence[int], count: int) -> list[int]:
    """One number per spatial dimension."""
    values = [value] if isinstance(value, int) else list(value)
    return values * count if len(values) == 1 else values

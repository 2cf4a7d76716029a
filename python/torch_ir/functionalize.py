"""Replaces in-place calls by functional ones, and records writes to inputs and buffers.

This handles only the simple case, in which nothing that is read later shares memory with the written tensor, and
keeps the graph as it was traced. All other cases raise NeedsRetraceError, and torch functionalizes the graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any

import torch

from .errors import ConversionError
from .flatgraph import Call, FlatGraph, NeedsRetraceError, Value, map_values
from .ops.schemas import resolve_op
from .tensor_indices import is_read_by_tensor

Overlapping = Callable[[], Iterable[tuple[Any, Any]]]
"""Finds the pairs of specs of weights that share memory."""

# Composite ops may return their input although their schema does not say so, so they are tested. These need no test.
_FRESH_COMPOSITES = frozenset(
    [
        "adaptive_avg_pool1d",
        "adaptive_avg_pool2d",
        "adaptive_avg_pool3d",
        "adaptive_max_pool1d",
        "avg_pool1d",
        "batch_norm",
        "bilinear",
        "cdist",
        "celu",
        "conv1d",
        "conv2d",
        "conv3d",
        "conv_transpose1d",
        "conv_transpose2d",
        "conv_transpose3d",
        "cosine_similarity",
        "cross_entropy_loss",
        "cumulative_trapezoid",
        "diff",
        "embedding_bag",
        "group_norm",
        "gru",
        "instance_norm",
        "item",
        "layer_norm",
        "linear",
        "log_softmax",
        "logsumexp",
        "lstm",
        "matmul",
        "max_pool1d",
        "max_pool2d",
        "max_pool3d",
        "native_group_norm",
        "one_hot",
        "pad",
        "pairwise_distance",
        "prelu",
        "relu6",
        "rms_norm",
        "rnn_relu",
        "rnn_tanh",
        "scaled_dot_product_attention",
        "selu",
        "softmax",
        "softmin",
        "std",
        "tensordot",
        "upsample_bilinear2d",
        "upsample_nearest2d",
        "var",
    ]
)


def functionalize(graph: FlatGraph, overlapping: Overlapping = tuple) -> list[tuple[Value, Value]]:
    """Rewrites the calls of ``graph``; returns (placeholder, final value) for each written tensor."""
    if not any(_mutates(call.target) for call in graph.calls):
        return []
    return _Functionalizer(graph, overlapping).run()


def _mutates(target: Any) -> bool:
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


class _Functionalizer:
    def __init__(self, graph: FlatGraph, overlapping: Overlapping) -> None:
        self.graph, self.overlapping = graph, overlapping
        self.latest: dict[Value, Value] = {}
        self.memory: dict[Value, int] = {}
        self.members: dict[int, list[Value]] = {}
        self.last_use = _last_uses(graph)
        self.unsaid: set[Value] = set()
        """Results that may alias their input although the operator's schema does not say so."""
        self.observable = set(graph.by_placeholder.values())
        """Current values of inputs and weights, which the caller can see even if the graph does not read them again."""
        self.rebound: dict[Value, Value] = {}
        """Weights that the model replaced, with the new tensor. Reads of the old tensor stay as they are."""
        self.reasons: list[str] = []
        """Why torch must functionalize this graph. All calls are checked, because torch supports only some."""

    @cached_property
    def overlaps(self) -> dict[Value, tuple[str, str]]:
        """Weights that share memory with another one that the graph uses, with the names of both. Only a write asks."""
        overlaps: dict[Value, tuple[str, str]] = {}
        for pair in self.overlapping():
            a, b = (self.graph.by_placeholder[spec.arg.name] for spec in pair)
            if a is not b and a in self.last_use and b in self.last_use:
                overlaps[a], overlaps[b] = (pair[0].target, pair[1].target), (pair[1].target, pair[0].target)
        return overlaps

    def run(self) -> list[tuple[Value, Value]]:
        for value in self.graph.by_placeholder.values():
            self._own_memory(value)
        for position, call in enumerate(self.graph.calls):
            if self._rebinds(call):
                self._rebind(call)
            elif _mutates(call.target):
                self._rewrite(position, call)
            else:
                call.args, call.kwargs = self._now((call.args, call.kwargs))
                self._share_memory(call)
        if self.reasons:
            self._check_rebound()
            raise NeedsRetraceError(self.reasons[0])
        self.graph.calls = [call for call in self.graph.calls if not self._rebinds(call)]
        self.graph.outputs = self._now(self.graph.outputs)
        written = dict.fromkeys(self.graph.by_placeholder.values())
        ends = [(v, self._now(v)) for v in written if v in self.latest and v not in self.rebound]
        return ends + [(v, self._now(value)) for v, value in self.rebound.items()]

    def _rebinds(self, call: Call) -> bool:
        """Whether this is ``self.buffer = value``, which torch.export writes as a copy at the end of the graph."""
        return (
            call.target is torch.ops.aten.copy_.default
            and call.name.startswith("copy__default")  # the model's own calls are named copy_ or copy__1
            and call.args[0] in self.graph.by_placeholder.values()
        )

    def _rebind(self, call: Call) -> None:
        attribute, value = call.args[0], call.args[1]
        if attribute.kind == "input":
            raise ConversionError(
                f"The model assigns '{value.name}' to an attribute that is neither a buffer nor a parameter when it is "
                f"called; register it as a buffer"
            )
        if (attribute.fake.shape, attribute.fake.dtype) != (value.fake.shape, value.fake.dtype):
            raise ConversionError(
                f"The model replaces '{attribute.name}', {attribute.fake.dtype} {list(attribute.fake.shape)}, by "
                f"'{value.name}', {value.fake.dtype} {list(value.fake.shape)}; a graph needs it to keep its "
                f"shape and dtype"
            )
        self.rebound[attribute] = value

    def _check_rebound(self) -> None:
        """torch's functionalization would replace later reads of the old tensor by the new one."""
        returned: list[Value] = []
        map_values(self._now(self.graph.outputs), returned.append)
        for attribute in self.rebound:
            if any(self.memory.get(v) == self.memory[attribute] for v in returned):
                raise ConversionError(
                    f"The model replaces '{attribute.name}' and returns its old value, in a graph that must be made "
                    f"functional ({self.reasons[0]}); return a clone of it"
                )

    def _now(self, tree: Any) -> Any:
        def follow(v: Value) -> Value:
            while v in self.latest:
                v = self.latest[v]
            return v

        return map_values(tree, follow)

    def _rewrite(self, position: int, call: Call) -> None:
        written = call.args[0] if call.args else None
        if not isinstance(written, Value) or len(call.outputs) != 1 or call.outputs[0] is None:
            self._leave(position, call)
            return
        if call.target._opname in _METADATA_CHANGES and self._now(written) in self.observable:
            raise ConversionError(
                f"Node '{call.name}' ({call.source or 'no source known'}) changes the shape or strides of "
                f"'{written.name}' itself, which outlives the run; work on a view of it"
            )
        current: Value = self._now(written)
        new = call.outputs[0]
        untouched = _is_identity(call)
        shared = untouched or self._is_shared(position, call, current)
        call.args, call.kwargs = self._now((call.args, call.kwargs))
        functional = _functional_variant(call)
        if functional is None:
            self.reasons.append(f"node '{call.name}' is {call.target}")
        elif not _same_result(functional, call, current.fake):
            self.reasons.append(f"node '{call.name}' changes dtype, shape or strides when not in place")
        else:
            call.target = functional
        self.latest[current] = new
        # From here on, reads of the old value read the new one.
        self.last_use[new] = max(self.last_use.get(v, -1) for v in (new, written, current))
        if current in self.observable:
            self.observable.remove(current)
            self.observable.add(new)
        self._own_memory(new)
        if shared or self.reasons:
            self._merge(current, new)
        if untouched:
            self.unsaid.add(new)

    def _leave(self, position: int, call: Call) -> None:
        """A call that only torch can make functional. Its operands and results are treated as one memory."""
        self.reasons.append(f"node '{call.name}' is {call.target}")
        call.args, call.kwargs = self._now((call.args, call.kwargs))
        for out in call.outputs:
            if out is not None:
                self._own_memory(out)
        for value in _written_by(call):
            self._is_shared(position, call, value)
            for out in call.outputs:
                if out is not None:
                    self._merge(value, out)

    def _is_shared(self, position: int, call: Call, current: Value) -> bool:
        """Whether a value that is visible later shares the memory that the call writes."""
        sharing = self.members.get(self.memory.get(current, -1), [])
        overlap = next((self.overlaps[v] for v in sharing if v in self.overlaps), None)
        if overlap is not None:
            raise ConversionError(
                f"Node '{call.name}' ({call.source or 'no source known'}) writes '{overlap[0]}', which shares memory "
                f"with '{overlap[1]}', so a graph would lose the write to '{overlap[1]}'; register one of them, and "
                f"take a view of it in forward"
            )
        for other in sharing:
            if other is current or (other not in self.observable and self.last_use.get(other, -1) <= position):
                continue
            # torch's functionalization relies on schemas, so it would lose a write through such a result.
            unsaid = next((v for v in sharing if v in self.unsaid), None)
            if unsaid is not None and unsaid.call is not None:
                raise ConversionError(
                    f"Node '{call.name}' ({call.source or 'no source known'}) writes memory in place that "
                    f"'{other.name}' shares through '{unsaid.name}' ({_how_it_shares(unsaid.call)}), "
                    f"which a graph cannot express; write `x = x + y` instead of `x += y` there"
                )
            self.reasons.append(f"node '{call.name}' writes memory that '{other.name}' shares")
            return True
        return False

    def _own_memory(self, value: Value) -> None:
        key = len(self.memory)
        while key in self.members:
            key += 1
        self.memory[value], self.members[key] = key, [value]

    def _share_memory(self, call: Call) -> None:
        sources = list(_memory_sources(call))
        unsaid = bool(sources) and isinstance(call.target, torch._ops.OpOverload) and not _says_alias(call.target)
        for out in call.outputs:
            if out is None:
                continue
            self._own_memory(out)
            if unsaid:
                self.unsaid.add(out)
            for source in sources:
                self._merge(source, out)

    def _merge(self, a: Value, b: Value) -> None:
        if a not in self.memory:
            self._own_memory(a)
        keep, gone = self.memory[a], self.memory[b]
        if keep != gone:
            for value in self.members.pop(gone):
                self.memory[value] = keep
                self.members[keep].append(value)


def _how_it_shares(call: Call) -> str:
    if is_read_by_tensor(call.target, call.args[1] if len(call.args) > 1 else ()):
        return "an element or row that a tensor without dimensions selects is a view"
    return f"{call.target} returns its input as it is"


def _written_by(call: Call) -> list[Value]:
    written: list[Value] = []
    positional = iter(call.args)
    for argument in call.target._schema.arguments:
        value = None if argument.kwarg_only else next(positional, None)
        if argument.alias_info is not None and argument.alias_info.is_write:
            map_values(call.kwargs.get(argument.name, value), written.append)
    return written


def _last_uses(graph: FlatGraph) -> dict[Value, int]:
    uses: dict[Value, int] = {}
    for position, call in enumerate(graph.calls):
        for value in call.inputs():
            uses[value] = position
    map_values(graph.outputs, lambda v: uses.__setitem__(v, len(graph.calls)))
    return uses


def _memory_sources(call: Call) -> Iterable[Value]:
    """The inputs that outputs may alias."""
    target = call.target
    if not isinstance(target, torch._ops.OpOverload):
        # getitem selects one output of a call; control flow may return its operands.
        chosen = call.args[0][call.args[1]] if len(call.args) == 2 and isinstance(call.args[0], list) else None
        return [chosen] if isinstance(chosen, Value) else call.inputs()
    if _says_alias(target):
        return call.inputs()
    if is_read_by_tensor(target, call.args[1] if len(call.args) > 1 else ()):
        return [call.args[0]]
    composite = torch._C._dispatch_has_kernel_for_dispatch_key(target.name(), "CompositeImplicitAutograd")
    if composite and target._opname not in _FRESH_COMPOSITES:
        return _observed_sources(call)
    return ()


def _observed_sources(call: Call) -> list[Value]:
    """The inputs that the op returns, found by running it on meta. All inputs if it cannot run there."""
    stand_ins: dict[Value, torch.Tensor] = {}

    def on_meta(v: Value) -> torch.Tensor:
        return stand_ins.setdefault(v, _meta_like(v.fake))

    args, kwargs = map_values((call.args, call.kwargs), on_meta)
    try:
        result = call.target(*args, **kwargs)
    except Exception:
        return list(stand_ins)
    results = [r for r in (result if isinstance(result, (list, tuple)) else [result]) if isinstance(r, torch.Tensor)]
    storages = {r.untyped_storage()._cdata for r in results}
    return [v for v, t in stand_ins.items() if t.untyped_storage()._cdata in storages]


def _meta_like(fake: torch.Tensor) -> torch.Tensor:
    return torch.empty_strided(fake.shape, fake.stride(), dtype=fake.dtype, device="meta")


def _of_example(sizes: Sequence[Any]) -> list[int]:
    return [n.node.hint if isinstance(n, torch.SymInt) and n.node.has_hint() else n for n in sizes]


def _says_alias(target: Any) -> bool:
    return any(r.alias_info is not None for r in target._schema.returns)


def _is_identity(call: Call) -> bool:
    """Whether this is an in-place dropout outside of training, which writes nothing."""
    return call.target in _DROPOUTS and len(call.args) == 3 and call.args[2] is False


_DROPOUTS = (
    torch.ops.aten.dropout_.default,
    torch.ops.aten.feature_dropout_.default,
    torch.ops.aten.alpha_dropout_.default,
    torch.ops.aten.feature_alpha_dropout_.default,
)


def _functional_variant(call: Call) -> Any | None:
    """``aten.add.Tensor`` for ``aten.add_.Tensor``, if it has the same arguments and returns one tensor."""
    target = call.target
    name = target._opname
    if target.namespace != "aten" or not name.endswith("_") or name in _METADATA_CHANGES:
        return None
    if name == "detach_":
        return torch.ops.aten.detach.default
    # Of Python's operators, __or__ is what __ior__ is in place.
    functional = f"__{name[3:]}" if name.startswith("__i") else name[:-1]
    variant = resolve_op(_OTHER_OVERLOADS.get(str(target), f"aten.{functional}.{target._overloadname}"))
    if variant is None or (torch.Tag.nondeterministic_seeded in variant.tags and not _is_identity(call)):
        return None
    # The first argument may be called self in one and input in the other.
    same = [a.name for a in variant._schema.arguments][1:] == [a.name for a in target._schema.arguments][1:]
    return variant if same and len(variant._schema.returns) == 1 and not variant._schema.is_mutable else None


_OTHER_OVERLOADS = {
    "aten.pow_.Tensor": "aten.pow.Tensor_Tensor",
    "aten.pow_.Scalar": "aten.pow.Tensor_Scalar",
    "aten.floor_divide_.Tensor": "aten.floor_divide.default",
}

_METADATA_CHANGES = frozenset(
    [
        "squeeze_",
        "unsqueeze_",
        "transpose_",
        "t_",
        "swapaxes_",
        "swapdims_",
        "as_strided_",
        "resize_",
        "resize_as_",
        "set_",
        "swap_",
    ]
)


def _same_result(functional: Any, call: Call, before: torch.Tensor) -> bool:
    """Whether the functional op has the same result as the in-place one, tested on meta."""
    args, kwargs = map_values((call.args, call.kwargs), lambda v: _meta_of_example(v.fake))
    expected = _meta_of_example(before)
    try:
        after = functional(*args, **kwargs)
    except Exception:
        return False
    return bool(after.dtype == expected.dtype and after.shape == expected.shape and after.stride() == expected.stride())


def _meta_of_example(fake: torch.Tensor) -> torch.Tensor:
    """With the example's sizes where sizes are open: meta kernels need numbers for tensors that are not contiguous."""
    return torch.empty_strided(_of_example(fake.shape), _of_example(fake.stride()), dtype=fake.dtype, device="meta")

"""Compiles an IR to a program."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from npu_base.argument_types import AnyDType, IRSource
from npu_base.collector import collector_paused
from npu_base.errors import InvalidTypeError, InvalidValueError
from npu_base.quantization import Scheme

from . import ops as _ops  # noqa: F401  (registers the lowerings)
from .compiled_program import CompiledProgram
from .emit import emit
from .errors import MISFIT, CompileError, Defect, ExtensionError, InternalCompileError, IRError, Malformed, Unsupported
from .graph import Graph, Output, Value, View, whole
from .lowering import GETITEM, Builder, lower_node, reads
from .opset import DTYPES
from .passes import INEXACT, run_passes
from .passes.narrow import narrow
from .quantized import add_quantized, schemes_of
from .reader import Meta, Model, Node, check_updates, numpy_dtype, read_ir
from .refusals import HOST_ADVICE, located, refusals

__all__ = ["compile", "compile_ir"]


@collector_paused()
def compile(
    ir: IRSource,
    *,
    disable: str | Iterable[str] = (),
    compute_dtype: AnyDType | None = None,
    exact: bool = False,
    quantized: Mapping[str, Scheme] | None = None,
) -> CompiledProgram:
    """Compiles an IR, given as its path, its dict or the object. ``disable`` names passes to leave out.
    ``compute_dtype`` (float16 or bfloat16, as text or as a dtype) lets a float32 model compute in half precision.
    ``exact`` rounds after every op, so that arithmetic, comparisons and casts equal eager PyTorch bit by bit.
    ``quantized`` names weights that are stored as small integers; see docs/quantization.md.

    Raises:
        IRError: the IR is malformed.
        CompileError: nodes cannot be compiled exactly; the message lists all of them, each with its reason.
        InvalidValueError: an option is wrong.
        FileError: the file cannot be read.
    """
    inside = str(getattr(compute_dtype, "__name__", compute_dtype)).removeprefix("torch.")
    if compute_dtype is not None and inside not in ("float32", "float16", "bfloat16"):
        raise InvalidValueError(
            f"[compiler] compute_dtype is not supported; got {compute_dtype!r}; expected float32, float16 or bfloat16"
        )
    if not isinstance(exact, bool):
        raise InvalidTypeError(f"[compiler] exact must be a bool; got {exact!r}; expected True or False")
    left_out = _left_out(disable)
    translation = Translation(read_ir(ir), quantized)
    graph = translation.graph_of_all()
    if inside in ("float16", "bfloat16"):
        if exact:
            raise InvalidValueError(
                f"[compiler] exact=True cannot be combined with compute_dtype; got compute_dtype={inside}; expected "
                f"only one of the two, because exact rounds as the model does and compute_dtype rounds differently"
            )
        narrow(graph, inside)
        graph.rounding = "none"
    elif exact:
        left_out |= INEXACT
        graph.rounding = "all"
    run_passes(graph, left_out, translation.builder.checked)
    return emit(graph)


compile_ir = compile


def _left_out(disable: Any) -> set[str]:
    names = {disable} if isinstance(disable, str) else set(disable) if isinstance(disable, Iterable) else None
    if names is None or not all(isinstance(name, str) for name in names):
        raise InvalidTypeError(f"[compiler] disable={disable!r}; expected the names of passes, such as ['fuse_maps']")
    return names


class Translation:
    """Lowers an IR to a graph. Names are resolved as described in docs/ir-format.md."""

    def __init__(self, model: Model, quantized: Mapping[str, Scheme] | None = None) -> None:
        self.model = model
        self.quantized = schemes_of(model, quantized)
        self.graph = Graph(model.name, ties=dict(model.ties), name_mapping=dict(model.mapping))
        self.builder = Builder(self.graph)
        self.results: dict[tuple[str, int], View | None] = {}
        self.by_name: dict[str, View | None] = {}
        self.inputs: dict[str, View] = {}
        self.weights: dict[str, View] = {}
        self.metas = {w.name: w for w in model.weights}
        self.node_names = {node.name for node in model.nodes}
        self.failures: list[tuple[Node, str]] = []
        self.defects: list[tuple[Node, Defect]] = []
        """The failures that are mistakes of a lowering."""
        self.malformed: list[tuple[Node, Malformed]] = []
        """The failures that are mistakes of the IR."""
        self.given = {m.name for m in (*model.outputs, *(value for _, _, value in model.mutations))}
        self.needed = _needed(model, self.given)

    def graph_of_all(self) -> Graph:
        check_updates((target, kind) for target, kind, _ in self.model.mutations)
        for meta in self.model.inputs:
            if meta.dtype not in DTYPES:
                raise CompileError(
                    f"[compiler] input '{meta.name}' has the dtype {meta.dtype}; expected one of {', '.join(DTYPES)}; "
                    "convert the model, for example with model.float()"
                )
        self.lower()
        if self.malformed:
            node, error = self.malformed[0]
            where = located(node.name, node.module, node.source)
            raise IRError(f"[compiler] malformed IR: node {where}, {node.op_type}: {error}")
        if self.defects:
            raise _defect_error(self.model, self.defects) from self.defects[0][1].__cause__
        if self.failures:
            raise CompileError(_explain(self.model, self.failures))
        self._outputs()
        return self.graph

    def lower(self) -> None:
        """Lowers all nodes. Those that cannot be lowered are added to the failures, with the reason."""
        buffers = {target for target, kind, _ in self.model.mutations if kind == "buffer"}
        for meta in self.model.inputs:
            self.inputs[meta.name] = self._input(meta.name, meta)
        for name in sorted(buffers):
            known = self.metas.get(name)
            if known is None:
                raise IRError(f"[compiler] malformed IR: the mutated buffer '{name}' is not among the weights")
            self.weights[name] = self._input(name, known)
            self.graph.buffers.add(self.weights[name].value)
        for node in self.model.nodes:
            self._lower(node)

    def _input(self, label: str, meta: Meta) -> View:
        value = Value(self.graph.unique(meta.name), meta.dtype, meta.shape, "input")
        self.graph.labels[value] = label
        self.graph.inputs.append(value)
        return whole(value)

    def resolve(self, meta: Meta) -> View | None:
        if meta.producer is not None and meta.producer in self.node_names:
            return self.results.get((meta.producer, meta.index))
        if meta.producer is not None and meta.producer in self.inputs:
            return self.inputs[meta.producer]
        if meta.name in self.by_name:
            return self.by_name[meta.name]
        if meta.name in self.inputs:
            return self.inputs[meta.name]
        return self._weight(self.model.mapping.get(meta.name, meta.name), meta)

    def _read(self, meta: Meta, reader: str) -> View | None:
        """The tensor that ``meta`` names. It must have the shape and dtype that the reader declares."""
        view = self.resolve(meta)
        if view is not None and (view.shape, view.dtype) != (meta.shape, meta.dtype):
            raise IRError(
                f"[compiler] malformed IR: {reader} takes '{meta.name}' for {meta.dtype}{list(meta.shape)}; "
                f"it is {view.dtype}{list(view.shape)}"
            )
        return view

    def _weight(self, name: str, meta: Meta) -> View:
        name = self.model.ties.get(name, name)
        if name in self.weights:
            return self.weights[name]
        data = self.model.constants.get(name)
        known = self.metas.get(name)
        if data is None and known is None:
            raise IRError(f"[compiler] malformed IR: '{meta.name}' is not an input, weight, constant or result")
        if data is not None:
            dtype = known.dtype if known else meta.dtype
            value = Value(self.graph.unique(name), dtype, data.shape, "constant", np.asarray(data, numpy_dtype(dtype)))
            self.graph.constants.append(value)
        else:
            assert known is not None
            if name in self.quantized:
                self.weights[name] = add_quantized(self.builder, name, known, self.quantized[name])
                return self.weights[name]
            value = Value(self.graph.unique(name), known.dtype, known.shape, "weight")
            self.graph.weights.append(value)
        self.graph.labels[value] = name
        self.weights[name] = whole(value)
        return self.weights[name]

    def _lower(self, node: Node) -> None:
        try:
            outputs = self._results(node)
        except Unsupported as error:
            outputs = self._failure(node, explained(error))
            if isinstance(error, Defect):
                self.defects.append((node, error))
            elif isinstance(error, Malformed):
                self.malformed.append((node, error))
        except CompileError:
            raise
        except MISFIT as error:
            outputs = self._failure(
                node, f"its arguments do not match the operator's schema ({type(error).__name__}: {error})"
            )
        for index, (meta, view) in enumerate(zip(node.outputs, outputs, strict=True)):
            self.results[node.name, index] = self.by_name[meta.name] = view

    def _results(self, node: Node) -> list[View | None]:
        inputs = [self._read(meta, f"node '{node.name}'") for meta in node.inputs]
        idle = node.op_type == GETITEM and all(m.name not in self.needed for m in node.outputs)
        wanted = set() if idle else {meta.name for meta in reads(node)}
        for meta, view in zip(node.inputs, inputs, strict=True):
            if view is None and meta.name in wanted:
                raise Unsupported(f"it reads '{meta.name}', which the program does not compute")
            if view is not None and view.dtype not in DTYPES and view.value.kind != "constant":
                raise Unsupported(f"dtype {view.dtype}")
        outputs = lower_node(self.builder, node, inputs)
        for i, (meta, view) in enumerate(zip(node.outputs, outputs, strict=True)):
            if view is None and meta.name in self.needed:
                raise Unsupported(f"its lowering does not compute result {i}")
            if view is not None and view.dtype not in DTYPES and (view.elements != 1 or meta.name in self.given):
                raise Unsupported(f"dtype {view.dtype}")
        return outputs

    def _failure(self, node: Node, reason: str) -> list[View | None]:
        self.failures.append((node, reason))
        return [self._stand_in(meta) for meta in node.outputs]

    def _stand_in(self, meta: Meta) -> View:
        """A placeholder, so that later nodes can be checked too. The graph is discarded."""
        return whole(self.graph.temp(meta.name, meta.dtype, meta.shape))

    def _outputs(self) -> None:
        """Updates of inputs claim their values first. If two outputs share a value, the second gets a copy."""
        self.builder.node = None
        updates = [self._mutation(*mutation) for mutation in self.model.mutations]
        # Buffers persist between runs, so a buffer that is also an output is copied.
        pairs = zip(self.model.mutations, updates, strict=True)
        given_back = [update for (_, kind, _), update in pairs if kind == "input"]
        named = list(self.model.output_names) + [None] * len(self.model.outputs)
        own: list[Output] = []
        taken: set[str] = set()
        for meta, alias in zip(self.model.outputs, named, strict=False):
            view = self._read(meta, "the output")
            name, n = meta.name, 1
            while name in taken:
                name, n = f"{meta.name}.{n}", n + 1
            taken.add(name)
            names = [alias] if alias else []
            same = next((u for u in given_back if view is not None and view.value is u.value and view.is_whole), None)
            if same is not None and same in updates:  # the updated input is what the model returns
                updates.remove(same)
                own.append(Output(name, same.value, [*names, same.name], same.alias))
            else:
                own.append(Output(name, self._own(view, name, [*own, *updates]), names))
        for output in updates:
            name, n = output.name, 1
            while output.name in taken:
                output.name, n = f"{name}.{n}", n + 1
            taken.add(output.name)
        given: set[str] = set(taken)
        for output in own:
            output.names = [a for a in output.names if a not in given]
            given.update(output.names)
        self.graph.outputs = [*own, *updates]

    def _mutation(self, target: str, kind: str, meta: Meta) -> Output:
        x = (self.inputs if kind == "input" else self.weights).get(target)
        if x is None:
            raise IRError(f"[compiler] malformed IR: the mutated {kind} '{target}' is not among its {kind}s")
        view = self._read(meta, f"the update of '{target}'")
        if view is not None and (view.shape, view.dtype) != (x.shape, x.dtype):
            raise IRError(
                f"[compiler] malformed IR: '{target}' is updated by '{meta.name}', which has another shape or dtype"
            )
        done: list[Output] = []
        return Output(target, self._own(view, target, done), alias=x.value)

    def _own(self, view: View | None, name: str, others: Sequence[Output]) -> Value:
        """A value that belongs to this output alone."""
        if view is None:
            raise CompileError(f"[compiler] no lowering computes the output '{name}'")
        value = view.value
        free = value.kind == "temp" and all(o.value is not value for o in others)
        if free and view.is_dense:
            value.shape = view.shape  # views count elements, so its shape may change under them
            return value
        if view.dtype not in DTYPES:
            raise CompileError(
                f"[compiler] the output '{name}' has the dtype {view.dtype}; expected one of {', '.join(DTYPES)}"
            )
        return self.builder.copy(view).value


def _needed(model: Model, given: set[str]) -> set[str]:
    """The tensors that are read. A ``getitem`` counts only if it is read itself: traces have one for every result."""
    needed = set(given)
    for node in reversed(model.nodes):
        if node.op_type != GETITEM or any(meta.name in needed for meta in node.outputs):
            needed.update(meta.name for meta in reads(node))
    return needed


def explained(error: Unsupported) -> str:
    """Why a node does not compile."""
    if isinstance(error, Malformed):
        return f"malformed IR: {error}"
    ours = isinstance(error, Defect) and error.ours
    return f"internal error, please report it: {error}" if ours else str(error)


def _defect_error(model: Model, defects: Sequence[tuple[Node, Defect]]) -> CompileError:
    node, defect = defects[0]
    more = f" (and {len(defects) - 1} more nodes)" if len(defects) > 1 else ""
    where = located(node.name, node.module, node.source)
    if defect.ours:
        return InternalCompileError(
            f"[compiler] internal error at node {where} of '{model.name}', {node.op_type}{more}: {defect}; expected a "
            "program, or a refusal with its reason; try partition, which leaves the node to the host; if PyTorch runs "
            "this IR, please report it"
        )
    return ExtensionError(
        f"[compiler] node {where} of '{model.name}' cannot be compiled{more}: {defect}; if these arguments are not "
        "supported, raise npu_compiler.errors.Unsupported with the reason"
    )


def _explain(model: Model, failures: Sequence[tuple[Node, str]]) -> str:
    lines = [f"[compiler] {len(failures)} of {len(model.nodes)} nodes of '{model.name}' cannot be compiled:"]
    lines += [f"  - {refusal}" for refusal in refusals(failures)]
    if any("dtype float64" in reason for _, reason in failures):
        lines.append("Programs have no float64; create such tensors as float32, as in arange(n, dtype=float32)")
    lines.append(HOST_ADVICE)
    return "\n".join(lines)

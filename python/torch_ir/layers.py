"""Node-by-node comparison of an IR with its model.

There are two references. The model itself, run with hooks, gives the result of every module. Its graph, exported
again and interpreted by PyTorch, gives the result of every operator in between. Neither uses the IR.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from .analyzer import GraphAnalyzer
from .compare import compare, relative_error
from .eager import layers_as_written
from .executor import IRExecutor
from .exporter import export_model
from .flatgraph import REGIONS
from .ir import IR, OpNode

Inputs = tuple[tuple[Any, ...], dict[str, Any]]


@dataclass
class LayerRow:
    """A node's result compared with the model's. ``is_close`` is None if the model has no such result."""

    node: str
    op_type: str
    module_path: str | None
    source: str | None
    is_close: bool | None
    max_diff: float = 0.0
    mean_diff: float = 0.0
    relative_error: float = 0.0
    reason: str = ""
    compared_with: str = ""


def compare_layers(
    ir: IR,
    state_dict: Mapping[str, Tensor],
    model: nn.Module,
    inputs: Inputs,
    constants: Mapping[str, Tensor] | None = None,
    rtol: float | None = None,
    atol: float | None = None,
) -> list[LayerRow]:
    """A row for each node, in order."""
    by_node = _interpret(model, inputs)
    by_module = _hooked(model, inputs)
    rows: list[LayerRow] = []
    matched: set[str] = set()

    def observe(node: OpNode, results: list[Tensor]) -> None:
        row = _node_row(node, results, by_node.get(node.name), rtol, atol)
        for result in results:
            # Some node of the module computes its result, so a match at any of them clears the module.
            for path in _enclosing(node.module_path):
                wanted = by_module.get(path)
                if wanted is not None and path not in matched and compare(result, wanted, rtol, atol).is_close:
                    matched.add(path)
        rows.append(row)

    args, kwargs = pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)
    with same_randomness():
        IRExecutor(ir, state_dict, constants).run_observed(args, observe, kwargs)
    _mark_departed_modules(rows, by_module, matched)
    return rows


def _node_row(
    node: OpNode,
    results: list[Tensor],
    reference: list[Tensor] | None,
    rtol: float | None,
    atol: float | None,
) -> LayerRow:
    row = LayerRow(node.name, node.op_type, node.module_path, node.source, None)
    if reference is None or len(reference) != len(results) or not results:
        return row
    checks = [compare(a, b, rtol, atol) for a, b in zip(results, reference, strict=True)]
    row.is_close = all(c.is_close for c in checks)
    row.max_diff = max(c.max_diff for c in checks)
    row.mean_diff = max(c.mean_diff for c in checks)
    row.relative_error = max(relative_error(a, b) for a, b in zip(results, reference, strict=True))
    row.reason = next((c.reason for c in checks if c.reason), "")
    row.compared_with = "operator"
    return row


def _enclosing(path: str | None) -> list[str]:
    """The paths of a module and of the modules around it."""
    if not path:
        return []
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def _mark_departed_modules(rows: list[LayerRow], by_module: dict[str, Tensor], matched: set[str]) -> None:
    """Report a module whose result no node matches, at its last node."""
    last: dict[str, LayerRow] = {}
    for row in rows:
        for path in _enclosing(row.module_path):
            last[path] = row
    for path in by_module:
        ending = last.get(path)
        if ending is not None and path not in matched and ending.is_close is not False:
            inner = [r for r in rows if path in _enclosing(r.module_path)]
            if all(r.is_close is not False for r in inner):
                ending.is_close = False
                ending.reason = f"no result inside module '{path}' is the one that the module returns"
                ending.compared_with = "module"


@contextmanager
def same_randomness() -> Iterator[None]:
    """Use the same random numbers in every run, and leave the caller's generator unchanged."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def _hooked(model: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The result of each module that returns a single tensor other than its input."""
    results: dict[str, Tensor] = {}
    calls: dict[str, int] = {}
    handles = []

    def keep(path: str) -> Any:
        def hook(_module: nn.Module, args: Any, output: Any) -> None:
            n = calls[path] = calls.get(path, -1) + 1
            passed = {x.data_ptr() for x in pytree.tree_leaves(args) if isinstance(x, Tensor)}
            if isinstance(output, Tensor) and output.data_ptr() not in passed:
                results[f"{path}@{n}" if n else path] = output.detach().clone()

        return hook

    buffers = {name: b.detach().clone() for name, b in model.named_buffers()}
    try:
        for path, module in model.named_modules():
            if path:
                handles.append(module.register_forward_hook(keep(path)))
        args, kwargs = pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)
        with torch.no_grad(), layers_as_written(), same_randomness():
            model(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])
    return results


def _interpret(model: nn.Module, inputs: Inputs) -> dict[str, list[Tensor]]:
    """Every operator's result by node name, from the model's own graph."""
    args, kwargs = pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)
    analyzer = GraphAnalyzer(export_model(model, args, kwargs, strict=False))
    recorder = _Recorder(analyzer.graph_module, {})
    values: list[Any] = []
    leaves = iter(pytree.tree_leaves((args, kwargs)))
    exported = analyzer.exported
    for spec in analyzer.graph_signature.input_specs:
        if spec.kind.name == "USER_INPUT":
            values.append(next(leaves))
        else:
            value = exported.state_dict.get(spec.target, exported.constants.get(spec.target))
            values.append(value.detach().clone() if isinstance(value, Tensor) else value)
    with torch.no_grad(), same_randomness():
        recorder.run(*values, enable_io_processing=False)
    return recorder.results


class _Recorder(fx.Interpreter):
    """Runs a graph and copies every tensor result, including those inside inlined regions."""

    def __init__(self, module: fx.GraphModule, results: dict[str, list[Tensor]]) -> None:
        super().__init__(module)
        self.results = results

    def run_node(self, n: fx.Node) -> Any:
        result = super().run_node(n)
        if n.op == "call_function":
            items = result if isinstance(result, (tuple, list)) else [result]
            # A copy, because a later in-place operator may write it.
            self.results.setdefault(n.name, [x.clone() for x in items if isinstance(x, Tensor)])
        return result

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        region = REGIONS.get(str(target)) if isinstance(target, torch._ops.HigherOrderOperator) else None
        enabled_autocast = str(target) == "wrap_with_autocast" and args[2]
        if region is None or enabled_autocast:
            return super().call_function(target, args, kwargs)
        body, operands = region(args)
        return _Recorder(body, self.results).run(*operands, enable_io_processing=False)


def print_layers(rows: list[LayerRow], limit: int = 20) -> None:
    """Print the first node that differs and its neighbours, or the largest differences if all nodes are close."""
    from rich.console import Console

    console = Console(markup=False)
    if not console.is_terminal:
        console = Console(markup=False, width=160)
    first = next((i for i, r in enumerate(rows) if r.is_close is False), None)
    if first is not None:
        console.print(f"First departure: node '{rows[first].node}' in module '{rows[first].module_path}'")
        console.print(_table(rows[max(0, first - 3) : first + limit - 3]))
        return
    compared = [r for r in rows if r.is_close is True]
    differing = sorted((r for r in compared if r.max_diff > 0), key=lambda r: -r.relative_error)
    console.print(
        f"All {len(compared)} compared nodes agree; {len(differing)} of them not bit for bit"
        + (f", {len(rows) - len(compared)} not compared" if len(rows) > len(compared) else "")
    )
    if differing:
        console.print(_table(differing[:limit]))


def _table(rows: list[LayerRow]) -> Any:
    from rich.table import Table

    table = Table()
    for name in ("node", "op", "module", "max diff", "relative", "result"):
        table.add_column(name, justify="right" if name in ("max diff", "relative") else "left", overflow="fold")
    for row in rows:
        table.add_row(*_cells(row))
    return table


def _cells(row: LayerRow) -> tuple[str, ...]:
    verdict = {True: "ok", False: f"DEPARTS: {row.reason}", None: "not compared"}[row.is_close]
    numbers = (f"{row.max_diff:.2e}", f"{row.relative_error:.2e}") if row.is_close is not None else ("", "")
    short = row.op_type.removeprefix("aten.").removesuffix(".default")
    return (row.node, short, row.module_path or "", *numbers, verdict)

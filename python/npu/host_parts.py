"""What ``npu.compile`` and ``torch.compile`` share about models that run partly on the host."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from npu_base.errors import InvalidValueError, NPUWarning, format_error
from npu_base.warn import warn_user

if TYPE_CHECKING:  # most models load without the compiler
    from npu_compiler import CompiledProgram

    from npu.saving.parts import Parts

__all__ = [
    "FALLBACKS",
    "HostWarning",
    "count_of_ops",
    "host_nodes",
    "host_warning",
    "make_parts",
    "runs_on_host",
    "say_so_on_the_command_line",
    "say_what_runs_on_the_host",
    "strategy_of",
    "whole_program",
]

Compile = Callable[[Any], "CompiledProgram"]

FALLBACKS = ("host", "error")


class HostWarning(NPUWarning):
    """Operators of a compiled model or graph run on the host."""


def host_nodes(plan: Any, whole: str) -> str:
    """How many nodes, and of which operators. Those that select a result belong to the node whose it is."""
    from npu_compiler.lowering import GETITEM

    def computing(nodes: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        return [node for node in nodes if node["op_type"] != GETITEM]

    host = computing(node for step in plan.steps if getattr(step, "target", None) == "cpu" for node in step.nodes)
    if not host:
        return f"no node of {whole} runs on the host"
    total = len(computing(plan.original_ir["nodes"]))
    return f"{len(host)} of {total} nodes of {whole} run on the host: {count_of_ops(host)}"


def count_of_ops(nodes: Iterable[Mapping[str, Any]]) -> str:
    from npu_compiler.partition_report import short_name

    ops = Counter(short_name(node["op_type"]) for node in nodes)
    named = ", ".join(f"{op} x{n}" if n > 1 else op for op, n in ops.most_common(4))
    return named + (f" and {len(ops) - 4} more" if len(ops) > 4 else "")


def runs_on_host(plan: Any) -> bool:
    """Not so if the host only passes on what no program holds, such as an input of float64 that is returned."""
    return any(getattr(step, "target", None) == "cpu" for step in plan.steps)


def say_what_runs_on_the_host(plan: Any) -> None:
    if not runs_on_host(plan):
        return
    advice = "npu.explain (or `npu explain`) says why, fallback='error' (or --fallback error) forbids it"
    host_warning(f"npu.compile: {host_nodes(plan, 'the model')}. {advice}")


def say_so_on_the_command_line(plan: Any, source: str) -> None:
    if runs_on_host(plan):
        host_warning(f"{host_nodes(plan, source)}. `npu explain` says why, --fallback error forbids it")


def host_warning(text: str) -> None:
    warn_user(text, HostWarning)


def strategy_of(ir: Mapping[str, Any]) -> str:
    """Operators that draw random numbers, or have other effects, run in the order in which PyTorch would run them."""
    import torch
    from torch_ir.ops.schemas import resolve_op

    def is_bound(node: Mapping[str, Any]) -> bool:
        op = resolve_op(node["op_type"])
        if op is None or not node["outputs"]:  # either strategy keeps the order of those without results
            return False
        return torch.Tag.nondeterministic_seeded in op.tags or _has_effects(op)

    return "sequential" if any(map(is_bound, ir["nodes"])) else "cost"


def _has_effects(op: Any) -> bool:
    from torch._higher_order_ops.effects import has_effects

    try:
        return has_effects(op)
    except TypeError:  # older versions of PyTorch also want the arguments of the call
        return bool(has_effects(op, (), {}))  # type: ignore[call-arg]


def whole_program(ir: Any, compile_ir: Compile, fallback: str) -> CompiledProgram | None:
    """None if the device cannot run all of it, and the host may."""
    from npu_compiler import CompileError, ExtensionError, InternalCompileError, IRError
    from npu_compiler.errors import UpdateError

    try:
        return compile_ir(ir)
    except (InternalCompileError, IRError, ExtensionError, UpdateError):
        raise  # mistakes, which the host must not hide, and writes that it would lose
    except CompileError:
        if fallback == "error":
            raise
        return None


def _refuse_complex32(ir: dict[str, Any], plan: Any) -> None:
    """Parts exchange NumPy arrays, and files have weights as such."""
    crossing = {name for step in plan.steps for name in getattr(step, "output_names", ())}
    results = [t for node in ir["nodes"] for t in node["outputs"] if t["name"] in crossing]
    for tensor in (*results, *ir["weights"]):
        if tensor["dtype"] == "complex32":
            what = f"'{tensor['name']}' has a dtype that NumPy does not have"
            action = "torch.complex64 for weights, and for what leaves a part on the host"
            raise InvalidValueError(format_error("npu", what, got="complex32", action=action))


def make_parts(ir: dict[str, Any], compile_ir: Compile) -> tuple[Parts, Compile]:
    """The plan of a model that runs partly on the host, and what gives the program of a part."""
    import npu_compiler

    from npu.saving.parts import Parts, last_node

    plan = npu_compiler.partition(ir, strategy=strategy_of(ir))
    _refuse_complex32(ir, plan)
    programs: dict[str, CompiledProgram] = {}

    def program_of(part: dict[str, Any]) -> CompiledProgram:
        """Compiled once, not for each set of weights."""
        name = last_node(part["nodes"])
        if name not in programs:
            programs[name] = compile_ir(part)
        return programs[name]

    return Parts(plan, programs), program_of

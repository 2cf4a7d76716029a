"""What ``explain_ir``, ``partition`` and ``is_op_supported`` say is what ``compile`` does, over the table of cases."""

from __future__ import annotations

import copy
import random
from typing import Any

import pytest
from npu_compiler import (
    CompileError,
    Partition,
    compile,
    explain_ir,
    get_supported_ops,
    is_op_supported,
    partition,
    partition_ir,
)
from npu_compiler.lowering import LOWERINGS

from .cases import CASES, Case
from .test_compiles import ir_of_case

IDS = [c.name for c in CASES]
ODD: tuple[Any, ...] = (-1, 0, 2, 7, 10**9, 0.5, True, None, "x", [], [1], [0, 1], [-1, 99], [[1]], "torch.float16")


def refusal(ir: dict[str, Any]) -> str | None:
    try:
        compile(ir)
    except CompileError as error:
        return str(error)
    return None


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_explained_as_compiled(case: Case) -> None:
    ir = ir_of_case(case)
    reasons = [(node, reason) for node, reason in explain_ir(ir) if reason]
    assert bool(reasons) == bool(case.refused)
    message = refusal(ir)
    assert (message is not None) == bool(reasons)
    for node, reason in reasons:
        assert message is not None
        assert reason in message and node["op_type"] in message
    for node, reason in explain_ir(ir):
        if reason is None:
            assert is_op_supported(node["op_type"], node["attrs"]), node["op_type"]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_partitions_compile(case: Case) -> None:
    """Every part for the device compiles alone, and the parts hold every node once, in order."""
    ir = ir_of_case(case)
    plan = partition(ir)
    parts = [step for step in plan.steps if isinstance(step, Partition)]
    assert [n for part in parts for n in part.nodes] == ir["nodes"]
    for part in parts:
        own = partition_ir(plan, part)
        assert (refusal(own) is None) == (part.target == "npu"), refusal(own)


@pytest.mark.parametrize("part", range(8))
def test_changed_attributes(part: int) -> None:
    """Whatever an attribute says, a reason is given exactly when compilation fails."""
    rng = random.Random(part)
    refused = 0
    for case in CASES[part::8]:
        ir = copy.deepcopy(ir_of_case(case))
        nodes = [n for n in ir["nodes"] if n["attrs"]]
        if not nodes:
            continue
        attrs = rng.choice(nodes)["attrs"]
        attrs[rng.choice(sorted(attrs))] = copy.deepcopy(rng.choice(ODD))
        reasons = [reason for _, reason in explain_ir(ir) if reason]
        assert (refusal(ir) is not None) == bool(reasons), (case.name, attrs, reasons)
        refused += bool(reasons)
    assert refused > 10


def test_every_operator_with_a_lowering_has_a_case_or_a_twin() -> None:
    """Overloads and old names may share a lowering with one that the table covers."""
    seen = {n["op_type"] for case in CASES for n in ir_of_case(case)["nodes"]}
    covered = {rule.function for op_type, rule in LOWERINGS.items() if op_type in seen}
    lost = sorted(op_type for op_type, rule in LOWERINGS.items() if rule.function not in covered)
    assert set(lost) <= UNSEEN, sorted(set(lost) - UNSEEN)
    assert get_supported_ops() >= set(LOWERINGS)


UNSEEN = {
    *(f"aten.{name}" for name in ("empty.memory_format", "empty_like.default", "new_empty.default")),  # give anything
    "aten.cudnn_batch_norm.default",  # PyTorch has it on GPUs alone
}

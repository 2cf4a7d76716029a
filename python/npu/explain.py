"""The command ``npu explain``: which nodes of an IR run on the device, and why others do not."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from npu.consoles import output_console

__all__ = ["explain_file", "print_report"]


def explain_file(path: Path) -> dict[str, Any]:
    """Counts by operator. Refused operators have a reason and their first node."""
    import npu_compiler
    from npu_compiler.flops import flops_of
    from npu_compiler.reader import load_ir
    from npu_compiler.refusals import refusals

    ir = load_ir(path)
    explained = npu_compiler.explain_ir(ir)
    arithmetic = {True: 0.0, False: 0.0}
    for node, reason in explained:
        arithmetic[reason is None] += flops_of(node)
    supported = Counter(node["op_type"] for node, reason in explained if reason is None)
    return {
        "model": ir.get("model_name", ""),
        "nodes": len(explained),
        "arithmetic": arithmetic[True] / max(sum(arithmetic.values()), 1.0) if any(arithmetic.values()) else None,
        "supported": dict(supported.most_common()),
        "unsupported": [asdict(one) for one in sorted(refusals(explained), key=lambda one: -one.count)],
    }


def print_report(report: dict[str, Any]) -> None:
    from rich.table import Column, Table

    console = output_console()
    on_device = sum(report["supported"].values())
    share = "" if report["arithmetic"] is None else f", {report['arithmetic']:.1%} of the arithmetic"
    console.print(f"{report['model']}: {on_device} of {report['nodes']} nodes run on the device{share}")
    if not report["unsupported"]:
        return
    table = Table("Operator", "Count", *(Column(name, overflow="fold") for name in ("Reason", "First node", "Module")))
    for entry in report["unsupported"]:
        table.add_row(entry["op"], str(entry["count"]), entry["reason"], entry["node"], entry["module"] or "")
    console.print(table)
    console.print("The rest runs on the host: npu_compiler.partition and npu_runtime.DAGExecutor.")

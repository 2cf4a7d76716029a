"""What the device runs of an IR, and why not the rest."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["explain_file", "print_report"]


def explain_file(path: Path) -> dict[str, Any]:
    """Counts by operator; refused ones with their reason and the first node."""
    import npu_compiler
    from npu_compiler.flops import flops_of
    from npu_compiler.reader import load_ir

    ir = load_ir(path)
    refused: dict[tuple[str, str], dict[str, Any]] = {}
    supported: dict[str, int] = {}
    arithmetic = {True: 0.0, False: 0.0}
    for node, reason in npu_compiler.explain_ir(ir):
        arithmetic[reason is None] += flops_of(node)
        if reason is None:
            supported[node["op_type"]] = supported.get(node["op_type"], 0) + 1
            continue
        entry = refused.setdefault(
            (node["op_type"], reason),
            {
                "op": node["op_type"],
                "count": 0,
                "reason": reason,
                "node": node["name"],
                "module": node.get("module_path"),
                "source": node.get("source"),
            },
        )
        entry["count"] += 1
    return {
        "model": ir.get("model_name", ""),
        "nodes": sum(supported.values()) + sum(e["count"] for e in refused.values()),
        "arithmetic": arithmetic[True] / max(sum(arithmetic.values()), 1.0) if any(arithmetic.values()) else None,
        "supported": dict(sorted(supported.items(), key=lambda item: -item[1])),
        "unsupported": sorted(refused.values(), key=lambda e: -e["count"]),
    }


def print_report(report: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console()
    on_device = sum(report["supported"].values())
    share = "" if report["arithmetic"] is None else f", {report['arithmetic']:.1%} of the arithmetic"
    console.print(f"{report['model']}: {on_device} of {report['nodes']} nodes run on the device{share}")
    if not report["unsupported"]:
        return
    table = Table("Operator", "Count", "Reason", "First node", "Module")
    for entry in report["unsupported"]:
        table.add_row(entry["op"], str(entry["count"]), entry["reason"], entry["node"], entry["module"] or "")
    console.print(table)
    console.print("The rest runs on the host: npu_compiler.partition and npu_runtime.DAGExecutor.")

"""Markdown reports on test results."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from torch_ir import generate_op_distribution_pie, ir_to_mermaid

from tests.models.base import MODEL_REGISTRY

from .files import file_name, write_atomic
from .runner import TestResult
from .statistics import IRStatistics

_MAX_NODES = 30


class ReportGenerator:
    """Writes one report per model, and a summary that links to them."""

    def __init__(self, output_dir: str | Path) -> None:
        self.output_dir = Path(output_dir)

    def generate_model_report(self, result: TestResult) -> str:
        lines = [
            f"# {result.model_name}",
            "",
            f"**Status:** {_status(result.passed, 'PASSED', 'FAILED')}",
            "",
            f"**Generated:** {_now()}",
            "",
            f"**Duration:** {result.duration_seconds:.3f}s",
            "",
        ]
        if not result.passed:
            lines += ["## Error", "", "```", result.error_message or "no message", "```", ""]
        if result.statistics is not None:
            lines += _summary_section(result.statistics)
        lines += _verification_section(result)
        if result.ir is not None:
            mermaid = ir_to_mermaid(result.ir, max_nodes=_MAX_NODES)
            lines += ["## DAG Visualization", "", "```mermaid", mermaid.rstrip("\n"), "```", ""]
            pie = generate_op_distribution_pie(result.ir)
            lines += ["## Operator Distribution", "", "```mermaid", pie.rstrip("\n"), "```", ""]
        if result.statistics is not None:
            lines += _node_section(result.statistics)
            lines += _weight_section(result.statistics)
        return "\n".join(lines)

    def generate_summary_report(self, results: Sequence[TestResult]) -> str:
        passed = sum(r.passed for r in results)
        lines = ["# Test Summary Report", "", f"**Generated:** {_now()}", "", "## Overall Results", ""]
        lines += _table(
            ["Metric", "Value"],
            [
                ["Total Tests", str(len(results))],
                ["Passed", f"{passed} ✅"],
                ["Failed", f"{len(results) - passed} ❌"],
                ["Pass Rate", pass_rate(results)],
            ],
        )
        rows = [_result_row(r) for r in results]
        lines += ["## Test Results", ""]
        lines += _table(["Model", "Status", "Nodes", "Params", "Max Diff", "Duration"], rows)
        lines += ["## Results by Category", ""]
        lines += _table(["Category", "Passed", "Failed", "Total"], _category_rows(results))
        failed = [r for r in results if not r.passed]
        if failed:
            lines += ["## Failed Tests", ""]
            for r in failed:
                lines += [f"### {r.model_name}", "", "```", r.error_message or "no message", "```", ""]
        return "\n".join(lines)

    def save_report(self, result: TestResult) -> Path:
        return self._save(file_name(result.model_name), self.generate_model_report(result))

    def save_summary(self, results: Sequence[TestResult]) -> Path:
        return self._save("SUMMARY", self.generate_summary_report(results))

    def _save(self, stem: str, text: str) -> Path:
        path = self.output_dir / f"{stem}.md"
        write_atomic(path, text)
        return path


def pass_rate(results: Sequence[TestResult]) -> str:
    """The share that passed; there is none of nothing."""
    return f"{100 * sum(r.passed for r in results) / len(results):.1f}%" if results else "n/a"


def _summary_section(stats: IRStatistics) -> list[str]:
    rows = [
        ["Nodes", str(stats.num_nodes)],
        ["Edges", str(stats.num_edges)],
        ["Inputs", str(stats.num_inputs)],
        ["Outputs", str(stats.num_outputs)],
        ["Weights", str(stats.num_weights)],
        ["Total Params", f"{stats.total_weight_params:,}"],
    ]
    return ["## Summary", "", *_table(["Metric", "Value"], rows)]


def _verification_section(result: TestResult) -> list[str]:
    report = result.verification_report
    if report is None:
        return []
    rows = [
        ["Status", _status(report.is_valid, "PASSED", "FAILED")],
        ["Max Difference", f"{report.max_diff:.2e}"],
        ["Mean Difference", f"{report.mean_diff:.2e}"],
        ["Outputs Compared", str(report.num_outputs)],
    ]
    return ["## Numerical Verification", "", *_table(["Metric", "Value"], rows)]


def _node_section(stats: IRStatistics) -> list[str]:
    rows = [
        [f"`{n['name']}`", f"`{n['op_type']}`", _shapes(n["input_shapes"]), _shapes(n["output_shapes"])]
        for n in stats.node_shapes
    ]
    table = _table(["Name", "Op Type", "Input Shapes", "Output Shapes"], rows)
    head = ["## Node Details", "", "<details>", "<summary>Click to expand</summary>", ""]
    return [*head, *table, "</details>", ""]


def _weight_section(stats: IRStatistics) -> list[str]:
    rows = [[f"`{w['name']}`", _shape(w["shape"]), w["dtype"], f"{w['num_params']:,}"] for w in stats.weight_metadata]
    return ["## Weight Metadata", "", *_table(["Name", "Shape", "Dtype", "Parameters"], rows)]


def _result_row(result: TestResult) -> list[str]:
    stats, report = result.statistics, result.verification_report
    return [
        f"[{_cell(result.model_name)}](./{file_name(result.model_name)}.md)",
        _status(result.passed, "PASS", "FAIL"),
        str(stats.num_nodes) if stats else "-",
        f"{stats.total_weight_params:,}" if stats else "-",
        f"{report.max_diff:.2e}" if report else "-",
        f"{result.duration_seconds:.3f}s",
    ]


def _category_rows(results: Sequence[TestResult]) -> list[list[str]]:
    counts: dict[str, list[int]] = {}
    for result in results:
        spec = MODEL_REGISTRY.get(result.model_name)
        for category in spec.categories if spec else ():
            counts.setdefault(category, [0, 0])[not result.passed] += 1
    return [[_cell(c), str(good), str(bad), str(good + bad)] for c, (good, bad) in sorted(counts.items())]


def _table(header: list[str], rows: list[list[str]]) -> list[str]:
    lines = [header, ["-" * max(3, len(h)) for h in header], *rows]
    return [*(f"| {' | '.join(cells)} |" for cells in lines), ""]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _shape(shape: list[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _shapes(shapes: list[list[int]]) -> str:
    return ", ".join(_shape(s) for s in shapes) or "-"


def _status(good: bool, yes: str, no: str) -> str:
    return f"✅ {yes}" if good else f"❌ {no}"


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")

"""The commands. Each function returns the exit status."""

from __future__ import annotations

import argparse
import json
import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .files import CommandError, describe, emit, read_ir, write_file

if TYPE_CHECKING:
    from torch_ir.diff import IRDiff
    from torch_ir.ir import IR

_FIRST_NODES = 30


def run_info(args: argparse.Namespace) -> int:
    from torch_ir.statistics import summarize, summary_text

    ir = read_ir(args.ir)

    def text() -> str:
        return json.dumps(summarize(ir), indent=2) if args.json else summary_text(ir)

    emit(describe(ir, text), args.output)
    return 0


def run_visualize(args: argparse.Namespace) -> int:
    from torch_ir.visualize.rendering import is_image

    if args.output is not None and Path(args.output).suffix.lower() in (".jpg", ".jpeg", ".gif", ".pdf", ".webp"):
        raise CommandError(
            f"cannot draw {args.output}: expected a name that ends in .png or .svg (an image), or in .mmd (text)"
        )
    folded = args.fold or args.depth is not None or bool(args.expand) or args.no_collapse
    ir = read_ir(args.ir)
    text = describe(ir, lambda: _mermaid(ir, args, folded))
    if args.output is None or not is_image(Path(args.output)):
        emit(text, args.output)
    else:
        _render(text, args.output, folded)
    if args.output is not None and sys.stderr.isatty():
        print(f"Wrote {args.output}", file=sys.stderr)
    if not folded and args.max_nodes is None and len(ir.nodes) > _FIRST_NODES and sys.stderr.isatty():
        print(
            f"Shown: {_FIRST_NODES} of {len(ir.nodes)} nodes; --max-nodes 0 for all, --fold by module", file=sys.stderr
        )
    return 0


def _mermaid(ir: IR, args: argparse.Namespace, folded: bool) -> str:
    from torch_ir.visualize import ir_to_mermaid, modules_to_mermaid

    if not folded:
        limit = _FIRST_NODES if args.max_nodes is None else args.max_nodes
        return ir_to_mermaid(ir, max_nodes=limit, include_weights=not args.no_weights)
    try:
        return modules_to_mermaid(ir, args.depth, args.expand, args.max_nodes or 0, not args.no_collapse)
    except ValueError as e:
        raise CommandError(str(e)) from e


def _render(mermaid: str, output: str, folded: bool) -> None:
    from torch_ir.progress import status
    from torch_ir.visualize.rendering import RenderingError, RenderingUnavailableError, render_image

    try:
        with status(f"Drawing {output}"):
            image = render_image(mermaid, Path(output).suffix)
    except RenderingUnavailableError as e:
        raise CommandError(str(e)) from e
    except RenderingError as e:
        fewer = (
            "fold at a smaller --depth, expand less" if folded else "fold it with --fold, draw less with --max-nodes"
        )
        raise CommandError(
            f"cannot draw {output}: {e}; {fewer}, or write Mermaid text to a .mmd file and draw it with another tool"
        ) from e
    write_file(image, output)


def run_verify(args: argparse.Namespace) -> int:
    from .verify import verify

    report = verify(args)
    if args.json:
        print(json.dumps(_finite(report), indent=2, allow_nan=False))
    return 0 if report["is_valid"] else 1


def _finite(value: Any) -> Any:
    """Replace infinities and NaN, which JSON does not have, by strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {k: _finite(v) for k, v in value.items()}
    return [_finite(v) for v in value] if isinstance(value, (list, tuple)) else value


def run_diff(args: argparse.Namespace) -> int:
    from torch_ir.diff import diff_ir
    from torch_ir.progress import status

    left, right = read_ir(args.left), read_ir(args.right)

    def compare() -> IRDiff:
        with status("Comparing"):
            return diff_ir(left, right)

    result = describe(right, lambda: describe(left, compare))
    if args.json:
        print(json.dumps(result.to_dict(), indent=2))
    elif not result.is_same:
        _print_diff(_diff_text(result, args.left, args.right))
    return 0 if result.is_same else 1


_COLOURS = {"-": "red", "+": "green", "~": "yellow"}


def _print_diff(text: str) -> None:
    if not sys.stdout.isatty():
        print(text)
        return
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    for line in text.split("\n"):
        console.print(Text(line, style=_COLOURS.get(line.strip()[:1], "")), soft_wrap=True)


def _diff_text(result: IRDiff, left: str, right: str) -> str:
    lines = [f"--- {left}", f"+++ {right}"]

    def section(title: str, rows: list[str]) -> None:
        if rows:
            lines.extend(["", f"{title}:", *(f"  {row}" for row in rows)])

    section("Metadata", result.metadata)
    section("Inputs", result.inputs)
    section("Outputs", result.outputs)
    weights = [f"- {w}" for w in result.weights_removed] + [f"+ {w}" for w in result.weights_added]
    section("Weights", weights + [f"~ {w}" for w in result.weights_changed])
    nodes = [f"- {n}" for n in result.nodes_removed] + [f"+ {n}" for n in result.nodes_added]
    for change in result.nodes_changed:
        name = change.left if change.left == change.right else f"{change.left} -> {change.right}"
        nodes += [f"~ {name}", *(f"    {c}" for c in change.changes)]
    section("Nodes", nodes)
    section("Other", result.other)
    section("Op distribution", [f"{op}: {a} -> {b} ({b - a:+d})" for op, (a, b) in result.ops.items()])
    if result.renamed:
        lines += ["", f"{result.renamed} nodes differ in nothing but their names."]
    return "\n".join(lines)

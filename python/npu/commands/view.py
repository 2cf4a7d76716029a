"""The command ``npu view``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from npu_base.commands import integer, usage_error
from npu_base.files import check_target, write_file

from npu.commands.arguments import run_arguments
from npu.commands.programs import open_module
from npu.commands.sources import WITH_IR, Kind, find_source

__all__ = ["EXAMPLES", "add_arguments", "run"]

EXAMPLES = (
    "npu view net.npu -o net_graph.json",
    "npu view my_models:Net --input 1,3,224,224 -o net_graph.json --with pytorch",
)


def add_arguments(p: argparse.ArgumentParser) -> None:
    run_arguments(p, WITH_IR)
    p.add_argument(
        "-o", "--output", type=Path, required=True, metavar="FILE",
        help="the graph file (.json) to write; files of node data are written beside it",
    )  # fmt: skip
    p.add_argument(
        "--with", dest="other", metavar="DEVICE",
        help="also show the error of each step against another device, or pytorch",
    )  # fmt: skip
    p.add_argument("--runs", type=integer(1, 10**9), default=10, help="the number of runs to measure (default: 10)")


def run(args: argparse.Namespace) -> int:
    source = find_source(args.source, WITH_IR, args.command)
    files = {what: _beside(args.output, what) for what in ("graph", "device", "time", "bytes", "error")}
    if args.output.suffix != ".json":
        raise usage_error("a graph is a JSON file", f"--output {args.output}", "a name that ends with .json")
    if source.kind in (Kind.IR, Kind.SAVED) and any(f.exists() and f.samefile(source.file) for f in files.values()):
        raise usage_error("the graph would overwrite its source", f"--output {args.output}", "another name")
    check_target(args.output)  # before the work, which may take minutes
    from npu.pictures.graph import graph_json, node_data
    from npu.pictures.measured import measure

    module, inputs = open_module(source, args)
    measured = measure(module, inputs, args.runs)
    data = node_data(measured, None if args.other is None else _errors(module, inputs, args))
    write_file(args.output, graph_json(measured))
    for what, text in data.items():
        write_file(files[what], text)
    print(f"{args.output}: {measured.model}, {len(measured.ir['nodes'])} nodes, {len(measured.steps)} steps")
    shown = ",".join(str(files[what]) for what in data)
    print(f"To open it: model-explorer {args.output} --node_data_paths={shown}")
    return 0


def _beside(graph: Path, what: str) -> Path:
    return graph if what == "graph" else graph.with_name(f"{graph.stem}_{what}.json")


def _errors(module: Any, inputs: Any, args: argparse.Namespace) -> Mapping[str, float]:
    """By the last node of each step that was compared."""
    from npu.comparison.api import compare

    names = [entry.name for entry in module.signature.inputs]
    weights = module.runner.stored()
    report = compare(
        module, module.runner.device, args.other, inputs=dict(zip(names, inputs, strict=True)), weights=weights,
        threads=args.threads,
    )  # fmt: skip
    return {row.nodes[-1]: row.relative for row in report if row.compared and row.nodes}

"""``python -m tests``: run the registered models and write reports.

Models of your own are added with ``--import path/to/file.py`` or ``--import some.module``, as often as needed:
every class there that ``tests.models.base.register_model`` decorates takes part. A file put into
``tests/models/`` is found without it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from tests import models
from tests.models import MODEL_REGISTRY, list_categories, list_models


def create_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests",
        description="Extract, save, load, execute and verify the registered models, and write reports.",
        allow_abbrev=False,
    )
    parser.add_argument("--output", default="reports", metavar="DIR", help="folder for reports (default: reports)")
    parser.add_argument("--category", metavar="C", help="only models of this category")
    parser.add_argument("--model", metavar="M", help="only this model")
    parser.add_argument("--rtol", type=float, default=1e-4, help="relative tolerance (default: 1e-4)")
    parser.add_argument("--atol", type=float, default=1e-4, help="absolute tolerance (default: 1e-4)")
    parser.add_argument("--list-models", action="store_true", help="list the models and stop")
    parser.add_argument("--list-categories", action="store_true", help="list the categories and stop")
    parser.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="FILE_OR_MODULE",
        help="import models of your own; may be repeated",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="print each model's verification")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    args = create_parser().parse_args(argv)
    try:
        for where in args.imports:
            models.load_models(where)
    except models.ModelImportError as e:
        return _error(str(e))
    if args.list_models:
        return _print_models(args.category)
    if args.list_categories:
        for category in list_categories():
            print(f"{category} ({len(list_models(category))})")
        return 0
    if args.model is not None and args.model not in MODEL_REGISTRY:
        return _error(f"Unknown model '{args.model}'", f"Available models: {', '.join(MODEL_REGISTRY)}")
    if args.category is not None and args.category not in list_categories():
        return _unknown_category(args.category)
    if args.category and args.model and args.category not in MODEL_REGISTRY[args.model].categories:
        has = ", ".join(MODEL_REGISTRY[args.model].categories)
        return _error(f"Model '{args.model}' is not in category '{args.category}'", f"Its categories: {has}")
    return _run(args)


def _print_models(category: str | None) -> int:
    if category is not None and category not in list_categories():
        return _unknown_category(category)
    for spec in list_models(category):
        print(f"{spec.name} [{', '.join(spec.categories)}] {spec.description}".rstrip())
    return 0


def _unknown_category(category: str) -> int:
    return _error(f"Unknown category '{category}'", f"Available categories: {', '.join(list_categories())}")


def _error(*lines: str) -> int:
    print(f"Error: {lines[0]}", *lines[1:], sep="\n", file=sys.stderr)
    return 1


def _run(args: argparse.Namespace) -> int:
    from tests.testing.report import pass_rate
    from tests.testing.runner import TestResult, TestRunner

    def show(result: TestResult) -> None:
        mark, word = ("✓", "PASS") if result.passed else ("✗", "FAIL")
        print(f"  [{mark}] {result.model_name}: {word} ({result.duration_seconds:.3f}s)", flush=True)
        if not result.passed:
            print(f"      {result.error_message}")
        if args.verbose and result.verification_report is not None:
            print("\n".join(f"      {line}" for line in str(result.verification_report).splitlines()))

    runner = TestRunner(args.output, args.rtol, args.atol)
    try:
        results, summary = runner.run_and_report(args.category, args.model, show)
    except OSError as e:
        return _error(f"Cannot write reports into '{args.output}': {e}")
    passed = sum(r.passed for r in results)
    print(f"\nTotal: {len(results)} | Passed: {passed} | Failed: {len(results) - passed}")
    print(f"Pass rate: {pass_rate(results)}")
    print(f"Reports saved to: {args.output.rstrip('/')}/")
    print(f"Summary: {summary}")
    return 0 if results and passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())

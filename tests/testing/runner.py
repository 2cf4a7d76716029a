"""Runs registered models through the whole of torch_ir."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch_ir import IR, IRExecutor, VerificationReport, extract_ir, validate_ir, verify_ir_with_state_dict

from tests.models.base import MODEL_REGISTRY, TestModelSpec, list_models
from tests.support.weights import build_seeded

from .statistics import IRStatistics


class TestFailure(Exception):
    """A step of a model's test went wrong; the text says which."""

    __test__ = False


@dataclass
class TestResult:
    """What became of one model."""

    __test__ = False  # not a test case, whatever its name

    model_name: str
    passed: bool
    ir: IR | None = None
    verification_report: VerificationReport | None = None
    statistics: IRStatistics | None = None
    error_message: str | None = None
    duration_seconds: float = 0.0


def to_meta(inputs: Any) -> Any:
    return pytree.tree_map(lambda x: x.to("meta") if isinstance(x, Tensor) else x, inputs)


def extract_and_reload(model: nn.Module, inputs: Any, name: str, kwargs: dict[str, Any] | None = None) -> IR:
    """Extract a model, and return the IR as a file gives it back."""
    ir = extract_ir(model, inputs, kwargs, model_name=name)
    validate_ir(ir)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.json"
        ir.save(path)
        loaded = IR.load(path)
    if loaded != ir:
        raise TestFailure("The IR read back from its file differs from the one written")
    return loaded


def check_outputs_tell(ir: IR, state_dict: dict[str, Tensor], inputs: Any, kwargs: dict[str, Any] | None) -> None:
    """Execute the IR, and refuse outputs that could not show an error: not finite, or one value throughout."""
    args = inputs if isinstance(inputs, tuple) else ()
    named = {**(inputs if isinstance(inputs, dict) else {}), **(kwargs or {})}
    outputs = IRExecutor(ir, state_dict)(*_copied(args), **_copied(named))
    for meta, value in zip(ir.graph_outputs, outputs, strict=True):
        if not value.is_floating_point():
            continue
        if not torch.isfinite(value).all():
            raise TestFailure(f"Output '{meta.name}' holds values that are not finite, so it proves nothing")
        if value.numel() > 8 and float(value.double().std()) == 0.0:
            raise TestFailure(f"Output '{meta.name}' is the same value throughout, so it proves nothing")


def _copied(inputs: Any) -> Any:
    return pytree.tree_map(lambda x: x.clone() if isinstance(x, Tensor) else x, inputs)


class TestRunner:
    """Extracts on meta, saves, loads, executes and verifies; writes reports."""

    __test__ = False

    def __init__(self, output_dir: str | Path = "reports", rtol: float = 1e-4, atol: float = 1e-4) -> None:
        self.output_dir = Path(output_dir)
        self.rtol, self.atol = rtol, atol

    def run_single_test(self, spec: TestModelSpec | str) -> TestResult:
        """Never raises for what a model does wrong: the result says it."""
        if isinstance(spec, str):
            spec = MODEL_REGISTRY[spec]
        result = TestResult(spec.name, passed=False)
        started = time.perf_counter()
        try:
            self._run(spec, result)
        except Exception as e:
            result.error_message = str(e) if isinstance(e, TestFailure) else f"{type(e).__name__}: {e}"
        result.duration_seconds = time.perf_counter() - started
        return result

    def _run(self, spec: TestModelSpec, result: TestResult) -> None:
        model = build_seeded(spec.build)
        state = model.state_dict()
        with torch.device("meta"):
            architecture = spec.build()
        result.ir = extract_and_reload(architecture, to_meta(spec.inputs()), spec.name)
        result.statistics = IRStatistics.from_ir(result.ir)
        inputs = spec.inputs(seed=1)  # other values than the example's: a baked-in value must show
        check_outputs_tell(result.ir, state, inputs, None)
        result.passed, result.verification_report = verify_ir_with_state_dict(
            result.ir, state, model, inputs, self.rtol, self.atol
        )
        if not result.passed:
            result.error_message = result.verification_report.error_message

    def run_all_tests(
        self,
        category_filter: str | None = None,
        model_filter: str | None = None,
        on_result: Callable[[TestResult], None] | None = None,
    ) -> list[TestResult]:
        specs = [s for s in list_models(category_filter) if model_filter in (None, s.name)]
        results = []
        for i, spec in enumerate(specs, 1):
            with _progress(f"[{i}/{len(specs)}] {spec.name} ..."):
                result = self.run_single_test(spec)
            results.append(result)
            if on_result is not None:
                on_result(result)
        return results

    def run_and_report(
        self,
        category_filter: str | None = None,
        model_filter: str | None = None,
        on_result: Callable[[TestResult], None] | None = None,
    ) -> tuple[list[TestResult], Path]:
        from .report import ReportGenerator

        results = self.run_all_tests(category_filter, model_filter, on_result)
        reports = ReportGenerator(self.output_dir)
        for result in results:
            reports.save_report(result)
        return results, reports.save_summary(results)


class _progress:
    """A line on a terminal's stderr while something runs; nothing anywhere else."""

    def __init__(self, text: str) -> None:
        self.text = text if sys.stderr.isatty() else ""

    def __enter__(self) -> None:
        if self.text:
            print(self.text, end="\r", file=sys.stderr, flush=True)

    def __exit__(self, *_: object) -> None:
        if self.text:
            print(" " * len(self.text), end="\r", file=sys.stderr, flush=True)

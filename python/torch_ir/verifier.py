"""Verifies that an IR computes what its model computes."""

from __future__ import annotations

import copy
import os
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from npu_base.argument_types import ExampleInputs
from npu_base.nesting import leaf_entries
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from ._encoding import decode_attr
from .compare import Comparison, check_tolerances, compare
from .containers import register_containers
from .eager import fast_path_note, has_fast_path, layers_as_written
from .executor import IRExecutor
from .exporter import check_model
from .ir import IR, check_ir
from .layers import LayerRow, compare_layers, print_layers, same_randomness
from .progress import status
from .tracing import normalize_inputs
from .weight_loader import load_weights

_NOT_CLOSE = "Output tensors do not match within tolerance"


@dataclass
class VerificationReport:
    """What was compared, and the differences. ``per_layer=True`` fills ``layers``."""

    is_valid: bool
    max_diff: float = 0.0
    mean_diff: float = 0.0
    num_outputs: int = 0
    output_details: list[dict[str, Any]] = field(default_factory=list)
    error_message: str | None = None
    layers: list[LayerRow] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """How the results of calling the model differ from those that were compared."""

    @property
    def first_divergence(self) -> LayerRow | None:
        """The first node whose result differs from the model's."""
        return next((row for row in self.layers if row.is_close is False), None)

    def __str__(self) -> str:
        head = "Verification PASSED" if self.is_valid else "Verification FAILED"
        second = f"  Outputs compared: {self.num_outputs}" if self.is_valid else f"  Error: {self.error_message}"
        lines = [head, second, f"  Max difference: {self.max_diff:.2e}", f"  Mean difference: {self.mean_diff:.2e}"]
        return "\n".join([*lines, *(f"  Note: {note}" for note in self.notes)])


def _compare_tensors(a: Tensor, b: Tensor, rtol: float, atol: float) -> tuple[bool, float, float]:
    result = compare(a, b, rtol, atol)
    return result.is_close, result.max_diff, result.mean_diff


def verify_ir(
    ir: IR,
    weights_path: str | os.PathLike[str],
    original_model: nn.Module,
    test_inputs: ExampleInputs,
    rtol: float | None = None,
    atol: float | None = None,
    constants: Mapping[str, Tensor] | None = None,
    *,
    test_kwargs: dict[str, Any] | None = None,
    per_layer: bool = False,
) -> tuple[bool, VerificationReport]:
    """Like ``verify_ir_with_state_dict``, with weights from a file."""
    try:
        state_dict = load_weights(weights_path)
    except Exception as e:
        return _failed(e)
    return verify_ir_with_state_dict(
        ir, state_dict, original_model, test_inputs, rtol, atol, constants,
        test_kwargs=test_kwargs, per_layer=per_layer,
    )  # fmt: skip


def verify_ir_with_state_dict(
    ir: IR,
    state_dict: Mapping[str, Tensor],
    original_model: nn.Module,
    test_inputs: ExampleInputs,
    rtol: float | None = None,
    atol: float | None = None,
    constants: Mapping[str, Tensor] | None = None,
    *,
    test_kwargs: dict[str, Any] | None = None,
    per_layer: bool = False,
) -> tuple[bool, VerificationReport]:
    """Run the model and the IR on the same inputs, and compare all outputs and all buffers or inputs that they write.

    The default tolerances depend on the dtype of each output (1e-5 for float32); integers and bools must be equal.
    ``per_layer`` also compares node by node, prints a table, and names the first node that differs. This function does
    not raise, and modifies neither the model nor the inputs.

    The model runs as its code is written, without the fused kernel that PyTorch uses for nn.MultiheadAttention and
    nn.TransformerEncoder in evaluation mode, because no trace contains it. If that kernel has other results, such as
    zeros in rows hidden by a padding mask, a note in the report says how they differ.
    """
    try:
        check_ir(ir)
        check_model(original_model)
        check_tolerances(rtol, atol)
        with status(f"Verifying {ir.model_name}"):
            check = _Check(ir, original_model, test_inputs, test_kwargs, rtol, atol)
            report = check.run(state_dict, constants)
            if per_layer:
                report.layers = compare_layers(ir, state_dict, original_model, check.inputs(), constants, rtol, atol)
    except Exception as e:
        return _failed(e)
    if per_layer:
        print_layers(report.layers)
    return report.is_valid, report


def _failed(error: Exception) -> tuple[bool, VerificationReport]:
    return False, VerificationReport(False, error_message=f"Verification error: {error}")


@dataclass
class _Observed:
    """The outputs of a run of the model, and the tensors that it wrote."""

    leaves: list[Any]
    buffers: dict[str, Tensor]
    inputs: list[Tensor]


class _Check:
    def __init__(
        self, ir: IR, model: nn.Module, inputs: Any, kwargs: dict[str, Any] | None,
        rtol: float | None, atol: float | None,
    ) -> None:  # fmt: skip
        self.ir, self.model, self.rtol, self.atol = ir, model, rtol, atol
        self._inputs = normalize_inputs(model, inputs, kwargs)

    def inputs(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Fresh copies, so that a model that writes its inputs does not modify the caller's."""
        copied: tuple[tuple[Any, ...], dict[str, Any]] = pytree.tree_map(
            lambda x: x.detach().clone() if isinstance(x, Tensor) else x, self._inputs
        )
        return copied

    def run(self, state_dict: Mapping[str, Tensor], constants: Mapping[str, Tensor] | None) -> VerificationReport:
        observed = self._run_model()
        executor = IRExecutor(self.ir, state_dict, constants)
        args, kwargs = self.inputs()
        with same_randomness():
            outputs = executor(*args, **kwargs)
        report = self._judge(observed, outputs, executor)
        if has_fast_path(self.model):
            report.notes.extend(self._notes_of_fast_path(observed))
        return report

    def _notes_of_fast_path(self, observed: _Observed) -> list[str]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # PyTorch warns that nested tensors are a prototype
                called = self._run_model(as_called=True)
        except Exception as e:
            return [f"the model as called, with PyTorch's fused kernels, does not run: {type(e).__name__}: {e}"]
        note = fast_path_note(observed.leaves, called.leaves, self.rtol, self.atol)
        return [note] if note else []

    def _run_model(self, as_called: bool = False) -> _Observed:
        """Run the model's code as written, or ``as_called``, with PyTorch's fused kernels."""
        args, kwargs = self.inputs()
        before = {name: t.detach().clone() for name, t in self._writable().items()}
        try:
            with torch.no_grad(), nullcontext() if as_called else layers_as_written(), same_randomness():
                output = self.model(*args, **kwargs)
            register_containers(output)
            leaves = [copy.copy(x) if not isinstance(x, Tensor) else x.clone() for x in pytree.tree_leaves(output)]
            changed = {
                name: t.detach().clone()
                for name, t in self._writable().items()
                if name in before and not compare(t, before[name], 0.0, 0.0).is_close
            }
        finally:
            self._restore(before)
        tensors = [x for x in pytree.tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        return _Observed(leaves, changed, tensors)

    def _writable(self) -> dict[str, Tensor]:
        """The tensors that a call of the model may write: buffers, and parameters that the IR writes.

        Other parameters are not checked, because copies of them would double the memory of a large model.
        """
        written = {m.target for m in self.ir.mutations if m.kind == "parameter"}
        parameters = {n: p for n, p in self.model.named_parameters() if n in written}
        return {**dict(self.model.named_buffers()), **parameters}

    def _restore(self, before: dict[str, Tensor]) -> None:
        with torch.no_grad():
            for name, tensor in self._writable().items():
                if name in before and tensor.shape == before[name].shape:
                    tensor.copy_(before[name])

    def _judge(self, observed: _Observed, outputs: tuple[Tensor, ...], executor: IRExecutor) -> VerificationReport:
        expected = [x for x in observed.leaves if isinstance(x, Tensor)]
        if len(expected) != len(outputs):
            return VerificationReport(
                False, error_message=f"Output count mismatch: original={len(expected)}, ir={len(outputs)}"
            )
        report = VerificationReport(True, num_outputs=len(outputs))
        for i, (got, want) in enumerate(zip(outputs, expected, strict=True)):
            self._add(report, compare(got, want, self.rtol, self.atol), {"index": i, "shape": list(want.shape)})
        self._compare_written(report, observed, executor)
        self._compare_constants(report, observed)
        if not report.is_valid and report.error_message is None:
            report.error_message = self._message(report)
        return report

    def _add(self, report: VerificationReport, result: Comparison, about: dict[str, Any]) -> None:
        detail = {
            **about,
            "is_close": result.is_close,
            "max_diff": result.max_diff,
            "mean_diff": result.mean_diff,
        }
        if result.reason:
            detail["reason"] = result.reason
        report.output_details.append(detail)
        report.max_diff = max(report.max_diff, result.max_diff)
        report.mean_diff = max(report.mean_diff, result.mean_diff)
        report.is_valid = report.is_valid and result.is_close

    def _compare_written(self, report: VerificationReport, observed: _Observed, executor: IRExecutor) -> None:
        """Compare the buffers and inputs that were written."""
        recorded = {m.target for m in self.ir.mutations}
        aliases = {**self.ir.ties}
        current = self._writable()
        for name in sorted(recorded | {aliases.get(n, n) for n in observed.buffers}):
            want = observed.buffers.get(name, current.get(name))
            if want is None:
                continue
            got = executor.mutations.get(name)
            if got is None:
                report.is_valid = False
                report.error_message = f"The model writes buffer '{name}', but the IR does not"
                return
            self._add(
                report,
                compare(got, want, self.rtol, self.atol),
                self._about(report, f"buffer '{name}'", want),
            )
        by_name = {t.name: i for i, t in enumerate(self.ir.graph_inputs)}
        for mutation in self.ir.mutations:
            if mutation.kind == "input" and by_name[mutation.target] < len(observed.inputs):
                want = observed.inputs[by_name[mutation.target]]
                result = compare(executor.mutations[mutation.target], want, self.rtol, self.atol)
                self._add(report, result, self._about(report, f"input '{mutation.target}'", want))

    def _about(self, report: VerificationReport, what: str, tensor: Tensor) -> dict[str, Any]:
        return {"index": len(report.output_details), "shape": list(tensor.shape), "written": what}

    def _compare_constants(self, report: VerificationReport, observed: _Observed) -> None:
        """Compare numbers, strings and None in the output, which are constants of the trace."""
        if self.ir.output_structure is None:
            return
        entries = list(leaf_entries(self.ir.output_structure))
        if len(entries) != len(observed.leaves):
            return
        for entry, leaf in zip(entries, observed.leaves, strict=True):
            if "value" in entry and isinstance(leaf, (bool, int, float, str, type(None))):
                value = decode_attr(entry["value"], "", "")
                if value != leaf:
                    report.is_valid = False
                    report.error_message = f"The model returns {leaf!r} where the IR was traced with {value!r}"

    def _message(self, report: VerificationReport) -> str:
        reasons = []
        for detail in report.output_details:
            reason = detail.get("reason")
            if reason and reason != "values differ":
                reasons.append(f"{detail.get('written', 'output ' + str(detail['index']))}: {reason}")
        message = _NOT_CLOSE + (f" ({'; '.join(reasons[:3])})" if reasons else "")
        if self.model.training:
            message += "; the model is in training mode, call model.eval()"
        return message


class IRVerifier:
    """Verification with fixed tolerances. None means the default for each output's dtype."""

    def __init__(self, rtol: float | None = 1e-5, atol: float | None = 1e-5) -> None:
        self.rtol, self.atol = rtol, atol

    def verify(
        self, ir: IR, weights_path: str | os.PathLike[str], model: nn.Module, inputs: ExampleInputs, **options: Any
    ) -> tuple[bool, VerificationReport]:
        return verify_ir(ir, weights_path, model, inputs, self.rtol, self.atol, **options)

    def verify_with_state_dict(
        self, ir: IR, state_dict: Mapping[str, Tensor], model: nn.Module, inputs: ExampleInputs, **options: Any
    ) -> tuple[bool, VerificationReport]:
        return verify_ir_with_state_dict(ir, state_dict, model, inputs, self.rtol, self.atol, **options)

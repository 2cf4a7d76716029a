"""Runs IR with PyTorch's own operators."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from npu_base.argument_types import ExampleInputs
from npu_base.tensors import plain_tensors
from torch import Tensor

from .buffers import MISSING_BUFFER
from .errors import ExecutionError, InvalidInputError, WeightLoadError
from .inputs import InputBinder
from .ir import IR, check_fixed, check_ir
from .plan import Observer, Plan, run_plan
from .structure import rebuild
from .weight_loader import load_weights, misfit_message, mismatches, resolve_weights


class TensorRegistry:
    """Tensors by name."""

    def __init__(self) -> None:
        self._tensors: dict[str, Tensor] = {}

    def register(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def get(self, name: str) -> Tensor | None:
        return self._tensors.get(name)

    def has(self, name: str) -> bool:
        return name in self._tensors

    def clear(self) -> None:
        self._tensors.clear()

    def __getitem__(self, name: str) -> Tensor:
        return self._tensors[name]

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        self._tensors[name] = tensor

    def __contains__(self, name: object) -> bool:
        return name in self._tensors

    def __len__(self) -> int:
        return len(self._tensors)

    def __repr__(self) -> str:
        return f"TensorRegistry({len(self._tensors)} tensors)"


class IRExecutor:
    """Executes one IR. Arguments are resolved once, and intermediates are freed after their last use.

    Buffers that the model writes are kept between runs in ``state``, as the module would keep them; the loaded weights
    are never written. ``mutations`` contains the tensors written by the last run, including inputs. ``strict`` checks
    all sizes of the inputs; otherwise dimension 0 may differ from the trace if the ops allow it.
    """

    def __init__(
        self,
        ir: IR,
        weights: Mapping[str, Tensor] | None = None,
        constants: Mapping[str, Tensor] | None = None,
        *,
        strict: bool = False,
    ) -> None:
        check_ir(ir)
        check_fixed(ir, "run")
        if constants is not None:
            _check_mapping(constants, "constants")
        self.ir = ir
        self.strict = strict
        self.constants: dict[str, Tensor] = {**ir.constants, **(constants or {})}
        self.weights: dict[str, Tensor] | None = None
        self.registry = TensorRegistry()
        self.state: dict[str, Tensor] = {}
        self.mutations: dict[str, Tensor] = {}
        self._state_lock = threading.Lock()
        self._plan: Plan | None = None
        self._bound: dict[int, Tensor] | None = None
        if weights is not None:
            self.load_weights_from_state_dict(weights)

    def __repr__(self) -> str:
        loaded = "no weights" if self.weights is None else f"{len(self.weights)} weights"
        return f"IRExecutor({self.ir!r}, {loaded})"

    def load_weights(self, path: str | os.PathLike[str]) -> None:
        self.load_weights_from_state_dict(load_weights(path))

    def load_weights_from_state_dict(self, sd: Mapping[str, Tensor]) -> None:
        """Use these weights. An error names all that do not fit; other names are ignored."""
        _check_mapping(sd, "weights")
        sd = plain_tensors(sd)
        try:
            resolved = resolve_weights(sd, self.ir)
        except WeightLoadError as e:
            raise ExecutionError(str(e)) from e
        errors = [
            error
            for meta in self.ir.weights
            if meta.name in resolved
            for error in mismatches(resolved[meta.name], meta.name, tuple(meta.shape), meta.dtype)
        ]
        on_meta = [name for name, tensor in resolved.items() if tensor.is_meta]
        if on_meta:
            errors.append(f"On meta, so without data: {on_meta[:8]}")
        if errors:
            missing = sorted(self.ir.weights_read() - set(resolved) - set(self.constants))
            if missing:
                errors.append(f"Missing weights: {missing[:8]}")
            raise InvalidInputError(misfit_message(errors))
        # Hand-written IR may read names that are not in its list of weights.
        extra = {k: v for k, v in sd.items() if k not in resolved and isinstance(v, Tensor)}
        self.weights = {k: v.detach() for k, v in {**extra, **resolved}.items()}
        self._fill_registry()
        self.reset_state()

    def _fill_registry(self) -> None:
        """Register weights and constants under their state-dict names and the names that nodes use."""
        self.registry.clear()
        tensors = {**self.constants, **(self.weights or {})}
        for name, tensor in tensors.items():
            self.registry.register(name, tensor)
        for placeholder, name in self.ir.weight_name_mapping.items():
            if name in tensors:
                self.registry.register(placeholder, tensors[name])

    def reset_state(self) -> None:
        """Restore the loaded values of buffers that earlier runs wrote."""
        self.state.clear()
        self._bound = None

    def execute(self, inputs: ExampleInputs) -> tuple[Tensor, ...]:
        """Run on the model's inputs; returns the graph's outputs in order.

        ``inputs`` is what the model takes: a tuple (nested as in extraction, or just its tensors), a single tensor,
        or a dict of keyword arguments or graph input names.
        """
        return self.run_observed(inputs, None)

    def __call__(self, *inputs: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        return self.run_observed(inputs, None, kwargs)

    def rebuild_output(self, outputs: Sequence[Tensor]) -> Any:
        """The outputs in the model's structure, as plain tuples, lists and dicts."""
        if self.ir.output_structure is None:
            return tuple(outputs)
        return rebuild(self.ir.output_structure, tuple(outputs))

    def run_observed(
        self, inputs: ExampleInputs, observe: Observer | None, kwargs: dict[str, Any] | None = None
    ) -> tuple[Tensor, ...]:
        """Run, and call ``observe`` with every node's results before any of them is freed."""
        if self.weights is None:
            raise ExecutionError(
                "Weights not loaded. Call load_weights() or load_weights_from_state_dict() first "
                "({} for a model without weights)"
            )
        tensors = InputBinder(self.ir, self.strict).bind(inputs, kwargs or {})
        plan = self._plan_for(_device_of(tensors, self.weights))
        if not plan.mutations:
            return tuple(run_plan(plan, tensors, self._bind_weights(plan), observe)[0])
        with self._state_lock:  # a run reads the state that the last one wrote
            outputs, self.mutations = run_plan(plan, tensors, self._bind_weights(plan), observe)
            self._keep_state(plan, self.mutations)
        return tuple(outputs)

    def _plan_for(self, device: torch.device) -> Plan:
        if self._plan is None or self._plan.device != device:
            try:
                self._plan, self._bound = Plan(self.ir, device), None
            except ExecutionError:
                raise
            except Exception as e:
                raise ExecutionError(f"Cannot prepare the graph for execution: {type(e).__name__}: {e}") from e
        return self._plan

    def _bind_weights(self, plan: Plan) -> dict[int, Tensor]:
        if self._bound is None:
            assert self.weights is not None
            bound: dict[int, Tensor] = {}
            for name, slot in plan.weights.items():
                tensor = self.state.get(name, self.weights.get(name, self.constants.get(name)))
                if tensor is None:
                    raise ExecutionError(self._missing(plan, name))
                tensor = tensor.detach().to(plan.device)
                # Some CPU kernels round differently for tensors that require a gradient, as a module's
                # parameters do even under no_grad.
                bound[slot] = tensor.requires_grad_() if name in plan.parameters else tensor
            self._bound = bound
        return self._bound

    def _missing(self, plan: Plan, name: str) -> str:
        absent = [n for n in plan.weights if n not in (self.weights or {}) and n not in self.constants]
        more = f" {len(absent)} weights are missing: {absent[:8]}." if len(absent) > 1 else ""
        return (
            f"Weight/input '{name}' not found in registry for {plan.first_reader[name]}.{more} Give it in the weights, "
            f"or, when no checkpoint holds it, in constants=. {MISSING_BUFFER}"
        )

    def _keep_state(self, plan: Plan, written: dict[str, Tensor]) -> None:
        for mutation, _ in plan.mutations:
            if mutation.kind != "input":
                self.state[mutation.target] = written[mutation.target]
                self._bound = None


def _check_mapping(given: Any, what: str) -> None:
    if isinstance(given, Mapping):
        return
    hint = ".state_dict()" if isinstance(given, torch.nn.Module) else ""
    advice = f"; pass model{hint}" if hint else "; read a file with load_weights first"
    raise InvalidInputError(f"{what}: expected a dict of tensors by name, got {type(given).__name__}{advice}")


def _device_of(inputs: Sequence[Tensor], weights: Mapping[str, Tensor]) -> torch.device:
    for tensor in (*inputs, *weights.values()):
        return tensor.device
    return torch.device("cpu")


def execute_ir(
    ir: IR,
    inputs: ExampleInputs,
    weights: Mapping[str, Tensor] | None = None,
    weights_path: str | os.PathLike[str] | None = None,
    constants: Mapping[str, Tensor] | None = None,
) -> tuple[Tensor, ...]:
    """Run an IR once.

    Raises:
        ExecutionError: the inputs or weights do not fit the IR, or an operator fails.
        WeightLoadError: the file of weights cannot be read.
    """
    if weights is None and weights_path is None:
        raise InvalidInputError("Either weights or weights_path must be provided")
    executor = IRExecutor(ir, weights, constants)
    if weights is None and weights_path is not None:
        executor.load_weights(weights_path)
    return executor.execute(inputs)

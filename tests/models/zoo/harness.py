"""What every model of the zoo has to go through."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree
from torch_ir import verify_ir_with_state_dict
from torch_ir.containers import register_containers

from tests.support.weights import build_seeded
from tests.testing.runner import check_outputs_tell, extract_and_reload, to_meta

DTYPES = (torch.float32, torch.bfloat16)


@dataclass(frozen=True)
class ZooEntry:
    """One architecture: how to build it, and keyword arguments (or a tuple) to call it with.

    ``exact`` says that float32 results must equal eager PyTorch's to the bit. It is off where eager
    takes a path that tracing cannot take. ``slow`` entries are full-size. ``meta_device`` is off where the
    constructor computes with values of tensors: such a model is built with data and then moved to meta.
    """

    name: str
    build: Callable[[], nn.Module]
    inputs: Callable[[torch.Generator], Any]
    slow: bool = False
    exact: bool = True
    dtypes: tuple[torch.dtype, ...] = DTYPES
    meta_device: bool = True

    def example(self, dtype: torch.dtype, seed: int) -> Any:
        inputs = self.inputs(torch.Generator().manual_seed(seed))
        register_containers(inputs)  # or the tensors of a cache keep their dtype, unless another test came before
        return pytree.tree_map(lambda x: _cast(x, dtype), inputs)


@dataclass
class ZooResult:
    """``reason`` is None when the model passed."""

    name: str
    dtype: torch.dtype
    nodes: int = 0
    extract_seconds: float = 0.0
    max_diff: float = 0.0
    reason: str | None = None


def check(entry: ZooEntry, dtype: torch.dtype) -> ZooResult:
    """Extract from meta, save, load, execute with a real model's weights, verify. Never raises."""
    result = ZooResult(entry.name, dtype)
    try:
        _check(entry, dtype, result)
    except Exception as e:
        result.reason = f"{type(e).__name__}: {e}"
    return result


def _check(entry: ZooEntry, dtype: torch.dtype, result: ZooResult) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # models warn about their own code; not what is tested here
        model = build_seeded(lambda: entry.build().to(dtype))
        architecture = _build_meta(entry, dtype)
    started = time.perf_counter()
    ir = extract_and_reload(architecture, to_meta(entry.example(dtype, seed=0)), entry.name)
    result.extract_seconds = time.perf_counter() - started
    result.nodes = len(ir.nodes)
    state, inputs = model.state_dict(), entry.example(dtype, seed=1)
    passed, report = verify_ir_with_state_dict(ir, state, model, inputs)
    result.max_diff = report.max_diff
    if not passed:
        result.reason = report.error_message
    elif entry.exact and dtype == torch.float32 and report.max_diff != 0.0:
        result.reason = f"float32 results are close to eager PyTorch's but not the same: {report.max_diff:.2e}"
    else:
        check_outputs_tell(ir, state, inputs, None)


def _build_meta(entry: ZooEntry, dtype: torch.dtype) -> nn.Module:
    if not entry.meta_device:
        return entry.build().to(dtype).eval().to("meta")
    with torch.device("meta"):
        return entry.build().to(dtype).eval()


def _cast(x: Any, dtype: torch.dtype) -> Any:
    return x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x

"""The core's graphs: what passes between parts, how long it is held, and who may run meanwhile."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu_runtime import Backend, CPUBackend, DAGExecutor, InvalidValueError, NPUBuffer
from npu_runtime._core import Executor, Graph
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.support.devices import chosen_device, metal_device, shares_memory


class Double(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * 2


def doubling(source: str, result: str, size: int = 4) -> Executor:
    ir = extract_ir(Double().eval(), torch.zeros(size), input_names=[source]).to_dict()
    text = npu_compiler.compile(ir)
    made = Executor(text, chosen_device())
    assert [s.name for s in made.program.inputs] == [source]
    assert result == made.program.outputs[0].name
    return made


def graph_of(*names: str, results: list[str]) -> Graph:
    return Graph(list(names), results)


def test_programs_and_functions_take_turns() -> None:
    graph = graph_of("x", "mul", "y", results=["mul", "y"])
    graph.add_program(doubling("x", "mul"))
    seen: list[Any] = []

    def add_one(values: list[Any]) -> list[Any]:
        seen.extend(values)
        return [np.asarray(values[0]) + 1]

    graph.add_host(add_one, ["mul"], ["y"])
    assert len(graph) == 2
    found = graph.run({"x": np.arange(4, dtype=np.float32)}, [None, None])
    assert isinstance(seen[0], NPUBuffer) and isinstance(found["mul"], NPUBuffer)
    same = found["mul"].native_handle == seen[0].native_handle  # no copy between
    assert same == shares_memory(chosen_device())
    np.testing.assert_array_equal(found["y"], [1, 3, 5, 7])


def test_functions_get_what_functions_made() -> None:
    """As it is, even where no program could read it."""
    graph = graph_of("a", "b", "c", results=["c"])
    one = np.arange(3, dtype=np.complex128)
    graph.add_host(lambda v: [one] if v[0] is one else [None], ["a"], ["b"])
    graph.add_host(lambda v: ["the same" if v[0] is one else "another"], ["b"], ["c"])
    assert graph.run({"a": one}, [None, None]) == {"c": "the same"}


def test_values_are_let_go_after_their_last_use() -> None:
    graph = graph_of("x", "a", "b", "c", results=["c"])
    alive: list[bool] = []
    kept: list[Any] = []

    def make(values: list[Any]) -> list[Any]:
        made = np.ones(4, np.float32)
        kept.append(weakref.ref(made))
        return [made]

    def look(values: list[Any]) -> list[Any]:
        gc.collect()
        alive.append(kept[0]() is not None)
        return [np.ones(1)]

    graph.add_host(make, ["x"], ["a"])
    graph.add_host(lambda values: [values[0].sum()], ["a"], ["b"])
    graph.add_host(look, ["b"], ["c"])
    graph.run({"x": np.zeros(1)}, [None] * 3)
    assert alive == [False] and kept[0]() is None


def test_others_run_while_a_program_runs() -> None:
    """The interpreter is free: a thread counts on during the device's part."""
    size = 1 << 22
    graph = graph_of("x", "mul", results=["mul"])
    graph.add_program(doubling("x", "mul", size))
    x = np.ones(size, np.float32)
    counted = [0]
    stop = threading.Event()

    def count() -> None:
        while not stop.is_set():
            counted[0] += 1
            time.sleep(0)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        for _ in range(5):
            graph.run({"x": x}, [None])
    finally:
        stop.set()
        thread.join()
    assert counted[0] > 0


def test_threads_may_share_a_graph() -> None:
    graph = graph_of("x", "mul", "y", results=["y"])
    graph.add_program(doubling("x", "mul"))
    graph.add_host(lambda values: [np.asarray(values[0]) + 1], ["mul"], ["y"])
    wrong: list[int] = []

    def work(n: int) -> None:
        x = np.full(4, n, np.float32)
        found = [graph.run({"x": x}, [None, None])["y"][0] for _ in range(50)]
        wrong.extend(n for value in found if value != 2 * n + 1)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_mistakes() -> None:
    with pytest.raises(InvalidValueError, match="a result is not a slot"):
        Graph(["a"], ["b"])
    graph = graph_of("x", "mul", "y", results=["mul"])
    with pytest.raises(InvalidValueError, match='names a value that does not exist; got "z"'):
        graph.add_host(lambda values: values, ["z"], ["y"])
    graph.add_program(doubling("x", "mul"))
    with pytest.raises(InvalidValueError, match="cannot use the tensor 'x'; got complex64"):
        graph.run({"x": np.zeros(4, np.complex64)}, [None])
    with pytest.raises(InvalidValueError, match='input "x" does not fit the program; got nothing'):
        graph.run({}, [None])
    with pytest.raises(InvalidValueError, match="the number of values or weights is wrong"):
        graph.run({"x": np.zeros(4, np.float32)}, [])
    for result in ([], None, [1, 2]):
        other = graph_of("x", "y", results=["y"])
        other.add_host(lambda values, result=result: result, ["x"], ["y"])
        with pytest.raises(InvalidValueError, match="returned the wrong number of values; expected a list of 1"):
            other.run({"x": 1}, [None])
    with pytest.raises(InvalidValueError, match='a part reads "x"; got nothing'):
        other.run({}, [None])
    failing = graph_of("x", "y", results=["y"])
    failing.add_host(lambda values: 1 / 0, ["x"], ["y"])
    with pytest.raises(ZeroDivisionError):
        failing.run({"x": 1}, [None])


class Doubles(nn.Module):
    """float64 between nodes of the host, around a part of the device that does not see it."""

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        wide = torch.linalg.inv(x.double())
        return (wide @ torch.linalg.inv((y + 1).double())).float(), y * 3


def test_dtypes_that_only_the_host_has() -> None:
    x, y = torch.eye(3) * 2 + 0.1, torch.eye(3) * 4
    ir = extract_ir(Doubles().eval(), (x, y)).to_dict()
    for strategy in ("sequential", "cost"):
        plan = npu_compiler.partition(ir, strategy=strategy)
        assert {p.target for p in plan.steps if hasattr(p, "target")} == {"npu", "cpu"}
        found = DAGExecutor(plan, CPUBackend()).execute({"x": x, "y": y}, {})
        for got, wanted in zip(found.values(), Doubles()(x, y), strict=True):
            np.testing.assert_allclose(got, wanted.numpy(), rtol=1e-6)


class OnMetal(CPUBackend):
    """What MetalBackend is on a Mac."""

    def __init__(self) -> None:
        super().__init__()
        self._device = metal_device()


@pytest.mark.parametrize("strategy", ["sequential", "cost"])
def test_parts_on_metal(strategy: str) -> None:
    """What lies in the GPU's memory is read by the host where it is, and the other way round."""
    torch.manual_seed(0)
    layers = [layer for _ in range(3) for layer in (nn.Linear(6, 6), nn.Tanh())]
    model, x = nn.Sequential(*layers).eval().requires_grad_(False), torch.randn(3, 6)
    ir = extract_ir(model, x).to_dict()
    dag = DAGExecutor(npu_compiler.partition(ir, lambda op, attrs: "tanh" not in op, strategy), OnMetal())
    for factor in (1, 2):
        (found,) = dag.execute({"input": x * factor}, dict(model.state_dict())).values()
        np.testing.assert_allclose(found, model(x * factor).numpy(), rtol=1e-4, atol=1e-6)


class Recording(CPUBackend):
    """A backend whose executors are its own."""

    def __init__(self) -> None:
        super().__init__()
        self.runs: list[list[str]] = []

    def create_executor(self, program: Any) -> Any:
        executor, runs = super().create_executor(program), self.runs

        class Wrapped:
            def run(self, inputs: Any, weights: Any) -> Any:
                runs.append(sorted(inputs))
                return executor.run(inputs, weights)

        return Wrapped()


def test_executors_of_other_backends() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 2)).eval().requires_grad_(False)
    ir = extract_ir(model, torch.ones(1, 4)).to_dict()
    backend = Recording()
    assert isinstance(backend, Backend)
    dag = DAGExecutor(npu_compiler.partition(ir, lambda op, attrs: "tanh" not in op), backend)
    (found,) = dag.execute({"input": torch.ones(1, 4)}, dict(model.state_dict())).values()
    np.testing.assert_allclose(found, model(torch.ones(1, 4)).numpy(), rtol=1e-5)
    assert backend.runs == [["input"], ["tanh"]]
    gone = weakref.ref(dag)
    del dag
    gc.collect()
    assert gone() is None

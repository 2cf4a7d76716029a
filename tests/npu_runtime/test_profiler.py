"""The profiler: per kernel, per op, as a table, as data and as a trace."""

import itertools
import json

import numpy as np
import pytest
import torch
from npu_runtime import InvalidValueError, Profiler, profile
from npu_runtime.profiler import Profiler as FromModule
from torch import nn

from tests.support.programs import ready


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8 * 36, 5))
    return ready(model, torch.randn(2, 3, 10, 10))


X = np.random.default_rng(0).standard_normal((2, 3, 10, 10)).astype(np.float32)


def profiled(made, runs=3):
    profiler = Profiler(made.executor)
    for _ in range(runs):
        outputs = profiler.run(inputs={made.inputs[0]: X}, weights=made.weights)
    return profiler, outputs


def test_outputs_are_those_of_a_run(made):
    _, outputs = profiled(made)
    np.testing.assert_array_equal(outputs[made.outputs[0]].to_numpy(), made.array(X))
    assert Profiler is FromModule


def test_ops_and_kernels(made):
    profiler, _ = profiled(made)
    ops, kernels = profiler.summary("op"), profiler.summary()
    assert len(ops) == made.executor.summary.kernels
    assert {row.calls for row in ops} == {3}
    assert sum(row.calls for row in kernels) == sum(row.calls for row in ops)
    for rows in (ops, kernels):
        assert sum(row.share for row in rows) == pytest.approx(1)
        assert [row.total_ms for row in rows] == sorted((row.total_ms for row in rows), reverse=True)
        assert all(row.average_us == pytest.approx(row.total_ms * 1e3 / row.calls) for row in rows)
    convs = [row for row in ops if "(conv[" in row.name]
    flops = 2 * 2 * 64 * 8 * 27, 2 * 2 * 36 * 8 * 72
    found = sorted(row.gflops * row.total_ms * 1e6 / row.calls for row in convs)
    np.testing.assert_allclose(found, sorted(flops), rtol=1e-6)
    assert all(row.gbytes > 0 for row in ops)


def test_table_and_data(made, capsys):
    profiler, _ = profiled(made)
    profiler.print_summary()
    shown = capsys.readouterr().out
    for word in ("Kernel", "Calls", "Total (ms)", "Avg (us)", "Share", "GFLOP/s", "GB/s", "total", "100.0 %", "conv["):
        assert word in shown
    data = profiler.to_dict()
    assert data["runs"] == 3
    assert data["threads"] == 2
    assert len(data["kernels"]) == made.executor.summary.kernels
    json.dumps(data)
    profiler.clear()
    assert profiler.summary() == []
    profiler.print_summary()


def test_chrome_trace(made, tmp_path):
    profiler, _ = profiled(made)
    profiler.save_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert len(events) == made.executor.summary.kernels
    for before, after in itertools.pairwise(events):
        assert before["ph"] == "X"
        assert before["ts"] + before["dur"] <= after["ts"] + 1e-3
        assert after["args"]["op"]


def test_profile_of_whole_runs(made):
    result = profile(made.executor, {made.inputs[0]: X}, made.weights, warmup=1, iterations=4)
    assert result.iterations == 4
    assert result.total_ms > 0


def test_mistakes(made):
    with pytest.raises(InvalidValueError, match="executor has the wrong type; got str"):
        Profiler("executor")
    with pytest.raises(InvalidValueError, match="'kernel' or 'op'"):
        Profiler(made.executor).summary("size")
    with pytest.raises(InvalidValueError, match="iterations"):
        profile(made.executor, {made.inputs[0]: X}, made.weights, iterations=0)

"""``npu.compile`` of models that the device cannot run as a whole."""

import copy
import json
import threading
import warnings

import npu
import pytest
import torch
from npu.host_parts import HostWarning
from npu_base.errors import AbsentError
from npu_compiler import CompileError, partition
from npu_runtime import CPUBackend, DAGExecutor, InvalidValueError
from npu_runtime.backend import backend_of
from torch import nn
from torch_ir import extract_ir


class Solve(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(3, 3)

    def forward(self, a, pair):
        return {"y": torch.relu(self.linear(torch.linalg.solve(a, pair["b"]))) + pair["c"]}


class Counted(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("seen", torch.zeros(3, 3))

    def forward(self, x):
        self.seen.mul_(0.5).add_(torch.linalg.pinv(x))
        return self.seen.clone()


A, B, C = torch.eye(3) * 2, torch.arange(9.0).view(3, 3), torch.ones(3, 3)


def partly(module, *args, **options):
    with pytest.warns(HostWarning) as caught:
        compiled = npu.compile(module, args, **options)
    (notice,) = [str(one.message) for one in caught if one.category is HostWarning]
    assert "nodes of the model run on the host" in notice and "npu.explain" in notice
    return compiled


@pytest.mark.parametrize("device", ["cpu", "metal:emulated"])
@pytest.mark.parametrize("options", [{}, {"exact": True}, {"disable": ["fuse_maps"]}, {"threads": 1}], ids=str)
def test_it_runs_and_has_the_modules_signature(device, options):
    if device != "cpu" and options:
        pytest.skip("options of the compiler, not of devices")
    module = Solve().eval()
    try:
        target = npu.Device(device)
    except npu.NPUError as error:
        pytest.skip(str(error))
    compiled = partly(module, A, {"b": B, "c": C}, device=target, **options)
    wanted = module(A, {"b": B, "c": C})["y"].detach()
    for _ in range(2):
        for pair in ({"b": B, "c": C}, {"c": C, "b": B}):
            torch.testing.assert_close(compiled(A, pair)["y"], wanted)
    module.linear.weight.data.zero_()
    torch.testing.assert_close(compiled(A.clone().requires_grad_(), {"b": B, "c": C})["y"], wanted)
    assert compiled.plan.explain() is not None and "on the host" in repr(compiled)
    assert isinstance(compiled, npu.CompiledModule)


def test_each_model_says_it_once():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")  # Python's own filter: once for each line of code and text
        for _ in range(3):
            compiled = npu.compile(Counted(), A)
            compiled(A)
    notices = [one for one in caught if one.category is HostWarning]
    assert len(notices) == 3 and {one.filename for one in notices} == {__file__}
    with warnings.catch_warnings():
        warnings.simplefilter("error", HostWarning)
        with pytest.raises(HostWarning):
            npu.compile(Counted(), A)


def test_half_precision_parts():
    module = Solve().eval()
    compiled = partly(module, A, {"b": B, "c": C}, compute_dtype=torch.bfloat16)
    got, wanted = compiled(A, {"b": B, "c": C})["y"], module(A, {"b": B, "c": C})["y"].detach()
    assert got.dtype == torch.float32
    assert 0 < ((got - wanted).norm() / wanted.norm()).item() < 0.02


def test_random_numbers_are_pytorchs():
    class Noise(nn.Module):
        def forward(self, x):
            return torch.rand_like(x) + x * torch.randn(3)

    compiled = partly(Noise(), C)
    for seed in range(2):
        torch.manual_seed(seed)
        got = compiled(C)
        torch.manual_seed(seed)
        torch.testing.assert_close(got, Noise()(C))


def test_state_is_kept_and_reset():
    module = Counted()
    compiled, reference = partly(module, A), copy.deepcopy(module)
    results = [compiled(A) for _ in range(3)]
    for got, wanted in zip(results, [reference(A) for _ in range(3)], strict=True):
        torch.testing.assert_close(got, wanted)
    compiled.reset()
    torch.testing.assert_close(compiled(A), results[0])
    assert not module.seen.count_nonzero()


def test_threads_share_it():
    module = Solve().eval()
    compiled, wrong = partly(module, A, {"b": B, "c": C}), []
    inputs = [(A, {"b": B + i, "c": C}) for i in range(4)]
    wanted = [module(*given)["y"].detach() for given in inputs]

    def work(i):
        if not all(torch.allclose(compiled(*inputs[i])["y"], wanted[i], 1e-4, 1e-5) for _ in range(20)):
            wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_wrong_inputs():
    compiled = partly(Solve().eval(), A, {"b": B, "c": C})
    wrong = {
        "missing": (A, {"b": B, "d": C}),
        "float64": (A.double(), {"b": B, "c": C}),
        "shape": (A[:2], {"b": B, "c": C}),
        "got object, traced with a tensor": (object(), {"b": B, "c": C}),
    }
    for words, given in wrong.items():
        with pytest.raises(InvalidValueError, match=words):
            compiled(*given)


def test_what_is_refused():
    module, inputs = Solve().eval(), (A, {"b": B, "c": C})
    with pytest.raises(CompileError, match="linalg_solve"):
        npu.compile(module, inputs, fallback="error")
    with pytest.raises(InvalidValueError, match="fallback has a wrong value; got 'gpu'; expected 'host' or 'error'"):
        npu.compile(module, inputs, fallback="gpu")
    compiled = partly(module, *inputs)
    for name in ("program", "executor", "weights"):
        with pytest.raises(AbsentError, match=f"no single {name}.*plan"):
            getattr(compiled, name)


class Written(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3), requires_grad=False)

    def forward(self, a, b):
        self.scale.add_(1)
        return torch.linalg.solve(a, b) + self.scale


class Passing(nn.Module):
    def forward(self, a, wide):
        return a + 1, wide


@pytest.mark.parametrize("options", [{}, {"fallback": "error"}], ids=str)
def test_a_parameter_that_the_model_writes_is_no_case_for_the_host(options):
    with pytest.raises(CompileError, match=r"writes its parameter 'scale' in place; .*registering it as a buffer"):
        npu.compile(Written(), (A, B), **options)
    with pytest.raises(CompileError, match="writes its parameter 'scale'"):
        partition(extract_ir(Written(), (A, B)))


def test_no_notice_if_no_node_runs_on_the_host():
    given = A, torch.ones(2, dtype=torch.float64)  # no program holds float64, but nothing computes with it
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = npu.compile(Passing(), given)
    for got, wanted in zip(compiled(*given), Passing()(*given), strict=True):
        torch.testing.assert_close(got, wanted)


def test_profiles_have_parts_of_the_host(tmp_path, capsys):
    compiled = partly(Solve().eval(), A, {"b": B, "c": C}, device="cpu")
    profiler = compiled.profile(A, {"b": B, "c": C})
    rows = profiler.summary()
    assert sum(row.share for row in rows) == pytest.approx(1) and all(
        row.calls == 1 and row.total_ms > 0 for row in rows
    )
    assert any(row.name.startswith("host: linalg_solve") for row in rows) and len(rows) > 1
    profiler.print_summary("op")
    printed = capsys.readouterr().out
    assert "host: linalg_solve" in printed and "Solve: 1 run(s)" in printed and "linear" in printed
    assert profiler.to_dict()["wall_ms"] > 0 and profiler.to_dict()["runs"] == 1
    profiler.save_chrome_trace(tmp_path / "trace.json")
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert {event["tid"] for event in events} == {0, 1}
    starts = [event["ts"] for event in sorted(events, key=lambda event: event["ts"])]
    assert starts == [event["ts"] for event in events]  # parts run one after another
    profiler.clear()
    assert all(row.total_ms == 0 for row in profiler.summary())


def test_profiles_change_nothing():
    compiled, reference = partly(Counted(), A), Counted()
    for _ in range(2):
        torch.testing.assert_close(compiled(A), reference(A))
        compiled.profile(A)

    class Writes(nn.Module):
        def forward(self, x, y):
            x.index_put_((torch.tensor([0]),), torch.linalg.pinv(y)[0])
            return x

    x = torch.zeros(3, 3)
    partly(Writes(), x, A).profile(x, A)
    assert not x.count_nonzero()


def test_backends_keep_the_device_and_its_threads():
    program = npu.compile(nn.Linear(3, 3), A, device="cpu").program
    device = npu.Device("cpu")
    backend = backend_of(device, threads=1)
    assert backend.device is device
    assert backend.create_executor(program).threads == 1


class Tiny(nn.Module):
    """One number in float64, for a node of the host and one of the device."""

    def forward(self, x, y):
        epsilon = torch.tensor(1e-12, dtype=torch.float64)
        return x + epsilon, y * epsilon


def test_single_numbers_of_a_dtype_of_the_host():
    x, y = torch.ones(3, dtype=torch.float64), torch.ones(3)
    compiled = npu.compile(Tiny(), (x, y))
    for run in (compiled, torch.compile(Tiny(), backend="npu")):
        with torch.no_grad():
            for got, want in zip(run(x, y), Tiny()(x, y), strict=True):
                assert got.dtype == want.dtype and torch.equal(got, want)


class Scaled(nn.Module):
    """One number in float64, for two parts of the device, and for nodes that are cheaper on the host."""

    def forward(self, x):
        scale = torch.tensor(0.3, dtype=torch.float64)
        y = torch.linalg.pinv((x * scale).relu() + torch.eye(3))
        return torch.linalg.pinv(y * scale) * scale + y.relu()


@pytest.mark.parametrize("strategy", ["sequential", "cost"])
def test_single_numbers_that_several_parts_read(strategy):
    x = torch.arange(9.0).view(3, 3) / 9
    ir, wanted = extract_ir(Scaled(), x), Scaled()(x)
    dag = DAGExecutor(partition(ir.to_dict(), strategy=strategy), CPUBackend())
    dag.load_weights({})
    assert [part.target for part in dag.parts].count("npu") > 1
    (got,) = dag.execute({"x": x}).values()
    torch.testing.assert_close(torch.from_numpy(got), wanted)
    specs = [spec for p in dag.npu_programs.values() for spec in (*p.input_specs, *p.output_specs)]
    assert specs and all(spec.dtype == "float32" for spec in specs)


def test_single_numbers_that_several_parts_read_are_saved(tmp_path):
    x = torch.arange(9.0).view(3, 3) / 9
    wanted = Scaled()(x)
    compiled = partly(Scaled(), x, device="cpu")
    torch.testing.assert_close(compiled(x), wanted)
    compiled.save(tmp_path / "scaled.npu")
    torch.testing.assert_close(npu.load(tmp_path / "scaled.npu", "cpu")(x), wanted)
    with torch.no_grad(), pytest.warns(HostWarning):
        torch.testing.assert_close(torch.compile(Scaled(), backend="npu", options={"device": "cpu"})(x), wanted)


def test_a_refusal_says_how_the_host_may_run_the_rest():
    with pytest.raises(CompileError, match=r"\nfallback='host' \(or --fallback host\) runs such nodes on the host"):
        npu.compile(Solve().eval(), (A, {"b": B, "c": C}), fallback="error")

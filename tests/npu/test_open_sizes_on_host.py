"""Models with open sizes that run partly on the host: state, saved files, and sizes that are made from them."""

from __future__ import annotations

import copy
import json
import pickle
import warnings
from pathlib import Path
from typing import Any

import npu
import npu_compiler
import numpy as np
import pytest
import torch
from npu import compiled as npu_compiled
from npu.host_parts import HostWarning
from npu.saving.model import read_model
from npu.saving.parts import parts_of
from torch import Tensor, nn
from torch.export import Dim

from tests.support.devices import metal_device
from tests.support.fuzz_saved import joined, parts

BATCH = Dim("batch", min=1, max=64)
pytestmark = pytest.mark.filterwarnings("ignore::npu.host_parts.HostWarning")


class Mixed(nn.Module):
    """Device, host, device; a float64 weight of the host, and buffers that the device and the host write."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(3, 3), nn.Linear(3, 3)
        self.shift = nn.Parameter(torch.randn(3, dtype=torch.float64))
        self.register_buffer("count", torch.ones(3))
        self.register_buffer("total", torch.zeros(3, dtype=torch.float64))

    def forward(self, x: Tensor) -> dict[str, Any]:
        y = torch.relu(self.a(x))
        self.count.add_(y.sum(0))
        z = torch.sinh(y.double() + self.shift)
        self.total.add_(z.sum(0))
        return {"z": self.b(z.float()) + self.count, "total": self.total + 0, "rows": x.shape[0]}


def compile_mixed(model: nn.Module | None = None, **options: Any) -> Any:
    dims = ({0: BATCH},)
    return npu.compile(model or Mixed().eval(), torch.ones(4, 3), dynamic_shapes=dims, device="cpu", **options)


def check(ours: Any, model: nn.Module, *batches: int) -> None:
    """Also the state, which goes from size to size."""
    for batch in batches:
        x = torch.randn(batch, 3, generator=torch.Generator().manual_seed(batch))
        got, wanted = ours(x), model(x)
        assert got["rows"] == wanted["rows"] == batch
        for name in ("z", "total"):
            torch.testing.assert_close(got[name], wanted[name].detach().clone(), rtol=1e-4, atol=1e-4)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sized") / "mixed.npu"
    compiled = compile_mixed()
    compiled.warm_up([{"batch": 1}])
    compiled.save(path)
    return path


def test_state_goes_from_size_to_size() -> None:
    compiled, model = compile_mixed(max_sizes=2), Mixed().eval()
    check(compiled, model, 4, 2, 1, 7, 4)
    compiled.reset()
    check(compiled, Mixed().eval(), 7, 3, 4)


def test_saved_files_hold_sizes_and_make_others(file: Path, tmp_path: Path) -> None:
    loaded, model = npu.load(file, "cpu", verify=True), Mixed().eval()
    assert loaded.sizes == [{"batch": 4}, {"batch": 1}]
    check(loaded, model, 1, 4, 9, 4)
    twin = pickle.loads(pickle.dumps(loaded))
    assert [dict(s.sizes)["batch"] for s in twin.model.open.saved] == [1, 9, 4]
    check(twin, Mixed().eval(), 9, 2, 1)
    loaded.save(tmp_path / "again.npu")
    check(npu.load(tmp_path / "again.npu", "cpu"), Mixed().eval(), 4, 1, 5)
    check(npu.load(file, metal_device()), Mixed().eval(), 4, 1, 5)
    with pytest.raises(ValueError, match="'batch' .*is 65, expected 1 to 64"):
        loaded(torch.zeros(65, 3))


def test_files_say_what_runs_where_at_each_size(file: Path) -> None:
    model, program = read_model(file)
    assert program is None and model.open is not None
    assert [dict(size.sizes) for size in model.open.saved] == [{"batch": 4}, {"batch": 1}]
    for size in model.open.saved:
        assert size.parts is not None
        assert {part.target for part in parts_of(size.parts.plan)} == {"npu", "cpu"}
        assert size.parts.plan.original_ir["graph_inputs"][0]["shape"] == [size.sizes["batch"], 3]


def test_all_programs_read_the_weights_in_the_file(file: Path) -> None:
    loaded = npu.load(file, "cpu")
    loaded.warm_up([{"batch": n} for n in (4, 1, 9)])
    read = [weights for sized in loaded.runner._kept.values() for weights in sized.runner._dag._loaded_weights.values()]
    assert len(read) >= 3 and all(weights is loaded.model.weights.on_device for weights in read)


def test_updated_weights_reach_all_sizes(file: Path, tmp_path: Path) -> None:
    loaded, other = npu.load(file, "cpu"), Mixed().eval()
    with torch.no_grad():
        for tensor in (other.a.weight, other.shift, other.count):
            tensor.mul_(3)
    loaded.warm_up([{"batch": 4}])
    loaded.update_weights(other.state_dict())
    loaded.save(tmp_path / "other.npu")
    check(loaded, copy.deepcopy(other), 1, 4, 6)
    check(npu.load(tmp_path / "other.npu", "cpu"), other, 1, 4, 6)


class Stateless(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.sinh(x * 2).relu()


def test_predictors_and_comparisons(tmp_path: Path) -> None:
    compile_mixed(Stateless()).save(tmp_path / "stateless.npu")
    predictor = npu.Predictor(tmp_path / "stateless.npu", device="cpu")
    for batch in (4, 3):
        x = np.ones((batch, 3), np.float32)
        np.testing.assert_allclose(predictor({"x": x})["output"], np.sinh(2 * x), rtol=1e-5)
    report = npu.compare(tmp_path / "stateless.npu", "cpu", "pytorch")
    assert report.agrees and report[0].shape == [4, 3], str(report)


def test_sizes_of_which_only_some_need_the_host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("total", torch.zeros(3))

        def forward(self, x: Tensor) -> dict[str, Any]:
            self.total.add_(x.sum(0))
            return {"z": x + self.total, "total": self.total * 1, "rows": x.shape[0]}

    whole, partition = npu_compiled.whole_program, npu_compiler.partition
    monkeypatch.setattr(
        npu_compiled, "whole_program", lambda ir, *rest: None if ir.graph_inputs[0].shape[0] > 4 else whole(ir, *rest)
    )
    monkeypatch.setattr(
        npu_compiler, "partition", lambda ir, **options: partition(ir, lambda op, _: "mul" not in op, **options)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compiled = compile_mixed(Counting())
    with pytest.warns(HostWarning, match=r"of the model run on the host: mul") as warned:
        check(compiled, Counting(), 4, 9, 2, 8, 9, 4)
    assert len(warned) == 1
    compiled.save(tmp_path / "some.npu")
    check(npu.load(tmp_path / "some.npu", "cpu"), Counting(), 9, 2, 8, 4, 3)


EDITS: dict[str, tuple[Any, str]] = {
    "no such plan": (lambda m: m["programs"][0].update(partition="partition/7"), "partition section that is not there"),
    "the plan of another size": (
        lambda m: m["programs"][0].update(partition="partition/1"), "does not fit its part|another name, shape"
    ),
    "another size": (lambda m: m["programs"][0].update(sizes={"batch": 3}), "does not fit its part"),
    "twice": (lambda m: m["programs"][0].update(sizes={"batch": 1}), "two of one size"),
    "no size": (lambda m: m["programs"][0].pop("sizes"), "not given for a program"),
    "a plan that is none": (lambda m: m["programs"][0].update(partition=3), "partition section that is not there"),
    "a program in place of the plan": (
        lambda m: m["programs"].__setitem__(0, {"section": "program/0", "sizes": {"batch": 4}}), "has another output"
    ),
}  # fmt: skip


@pytest.mark.parametrize("edit", EDITS)
def test_damaged_files(edit: str, file: Path, tmp_path: Path) -> None:
    sections, manifest = parts(file.read_bytes())
    change, words = EDITS[edit]
    change(manifest)
    (tmp_path / "damaged.npu").write_bytes(joined(sections, json.dumps(manifest).encode()))
    with pytest.raises(npu.NPUError, match=words):
        npu.load(tmp_path / "damaged.npu")

"""Weight files: every format, mapped, validated, and never able to run code."""

from __future__ import annotations

import json
import os
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch_ir import (
    WeightLoader,
    WeightLoadError,
    extract_ir,
    load_weights,
    load_weights_pt,
    load_weights_safetensors,
)
from torch_ir.weight_loader import resolve_weights, validate_weights_against_ir


@pytest.fixture
def state():
    return {"a.weight": torch.randn(3, 4), "a.bias": torch.randn(3).bfloat16(), "n": torch.tensor(7)}


def same(got, want):
    assert set(got) == set(want)
    return all(torch.equal(got[k], want[k]) and got[k].dtype == want[k].dtype for k in want)


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".bin", ".ckpt"])
def test_pt(tmp_path, state, suffix):
    torch.save(state, tmp_path / f"w{suffix}")
    assert same(load_weights(tmp_path / f"w{suffix}"), state)
    assert same(load_weights_pt(str(tmp_path / f"w{suffix}")), state)


def test_pt_variants(tmp_path, state):
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert same(load_weights(tmp_path / "old.pt"), state)
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "trainer.pt")
    assert same(load_weights(tmp_path / "trainer.pt"), state)
    torch.save({k: nn.Parameter(v) if v.is_floating_point() else v for k, v in state.items()}, tmp_path / "p.pt")
    loaded = load_weights(tmp_path / "p.pt")
    assert same(loaded, state) and not loaded["a.weight"].requires_grad


def test_safetensors(tmp_path, state):
    save_file(state, tmp_path / "w.safetensors")
    assert same(load_weights(tmp_path / "w.safetensors"), state)
    assert same(load_weights_safetensors(tmp_path / "w.safetensors"), state)
    assert same(load_weights(tmp_path), state)


def test_safetensors_are_mapped_not_copied(tmp_path):
    size = 64 * 2**20
    save_file({"big": torch.ones(size // 4)}, tmp_path / "w.safetensors")
    before = _private_memory()
    loaded = load_weights(tmp_path / "w.safetensors")
    assert float(loaded["big"][::4096].sum()) > 0
    assert _private_memory() - before < size / 4


def _private_memory() -> int:
    with open("/proc/self/status") as f:
        return next(int(line.split()[1]) * 1024 for line in f if line.startswith("RssAnon"))


def shard(folder, state):
    names = list(state)
    for i, name in enumerate(names):
        save_file({name: state[name]}, folder / f"model-{i}.safetensors")
    index = {"metadata": {}, "weight_map": {n: f"model-{i}.safetensors" for i, n in enumerate(names)}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder / "model.safetensors.index.json"


def test_sharded(tmp_path, state):
    index = shard(tmp_path, state)
    assert same(load_weights(index), state)
    assert same(load_weights(tmp_path), state)


def test_sharded_pt(tmp_path, state):
    for i, name in enumerate(state):
        torch.save({name: state[name]}, tmp_path / f"pytorch_model-{i}.bin")
    weight_map = {name: f"pytorch_model-{i}.bin" for i, name in enumerate(state)}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": weight_map}))
    assert same(load_weights(tmp_path / "pytorch_model.bin.index.json"), state)


@pytest.mark.parametrize("name", ["../evil.safetensors", "/etc/passwd", "..", 3])
def test_shards_stay_in_their_folder(tmp_path, state, name):
    index = shard(tmp_path, state)
    content = json.loads(index.read_text())
    content["weight_map"]["n"] = name
    index.write_text(json.dumps(content))
    with pytest.raises(WeightLoadError, match=r"not a plain file name|not an index"):
        load_weights(index)


def test_damaged_indexes(tmp_path, state):
    index = shard(tmp_path, state)
    content = json.loads(index.read_text())
    content["weight_map"]["ghost"] = "model-0.safetensors"
    index.write_text(json.dumps(content))
    with pytest.raises(WeightLoadError, match="has no tensor 'ghost'"):
        load_weights(index)
    content["weight_map"] = {"n": "missing.safetensors"}
    index.write_text(json.dumps(content))
    with pytest.raises(WeightLoadError, match="Weight file not found"):
        load_weights(index)
    for text in ("", "[]", "{}", '{"weight_map": 3}'):
        index.write_text(text)
        with pytest.raises(WeightLoadError, match="not an index of shards"):
            load_weights(index)


class Evil:
    def __reduce__(self):
        return os.system, ("exit 1",)


@pytest.mark.parametrize("suffix", [".pt", ".bin"])
def test_code_is_never_run(tmp_path, suffix):
    path = tmp_path / f"evil{suffix}"
    with open(path, "wb") as f:
        pickle.dump({"a": Evil()}, f)
    with pytest.raises(WeightLoadError, match="Failed to load weights"):
        load_weights(path)
    torch.save({"a": Evil()}, path)
    with pytest.raises(WeightLoadError, match="Failed to load weights"):
        load_weights(path)


def test_bad_files(tmp_path, state):
    with pytest.raises(WeightLoadError, match=r"Weight file not found: .*missing\.xyz"):
        load_weights(tmp_path / "missing.xyz")
    (tmp_path / "w.xyz").write_bytes(b"not weights")
    with pytest.raises(WeightLoadError, match=r"Unknown weight file format: \.xyz\nSupported formats: \.pt, \.pth"):
        load_weights(tmp_path / "w.xyz")
    for name in ("w.pt", "w.safetensors"):
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(WeightLoadError, match="Failed to load weights"):
            load_weights(tmp_path / name)
    save_file(state, tmp_path / "cut.safetensors")
    data = (tmp_path / "cut.safetensors").read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-5])
    with pytest.raises(WeightLoadError, match="Failed to load weights"):
        load_weights(tmp_path / "cut.safetensors")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(WeightLoadError, match="expected a dict of tensors, got list"):
        load_weights(tmp_path / "list.pt")
    torch.save({"a": torch.ones(1), "b": 3}, tmp_path / "mixed.pt")
    with pytest.raises(WeightLoadError, match=r"not tensors: 'b' \(int\)"):
        load_weights(tmp_path / "mixed.pt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightLoadError, match="expected one .safetensors file"):
        load_weights(tmp_path / "empty")


@pytest.fixture
def ir():
    return extract_ir(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval(), torch.zeros(2, 4))


def good(ir):
    return {w.name: torch.zeros(w.shape, dtype=getattr(torch, w.dtype)) for w in ir.weights}


def test_validation_lists_every_mismatch(ir):
    assert validate_weights_against_ir(good(ir), ir) == []
    assert validate_weights_against_ir({**good(ir), "extra": torch.ones(1)}, ir) == []
    bad = good(ir)
    del bad["0.bias"], bad["1.bias"]
    bad["0.weight"] = torch.zeros(4, 3)
    bad["1.weight"] = torch.zeros(3).half()
    bad["1.running_var"] = 3
    assert validate_weights_against_ir(bad, ir) == [
        "Missing weights: {'0.bias', '1.bias'}",
        "Shape mismatch for '0.weight': expected (3, 4), got (4, 3)",
        "Dtype mismatch for '1.weight': expected torch.float32, got torch.float16",
        "Type mismatch for '1.running_var': expected a tensor, got int",
    ]


def test_loader_class(ir, tmp_path):
    torch.save(good(ir), tmp_path / "w.pt")
    assert set(WeightLoader().load(tmp_path / "w.pt", ir)) == set(good(ir))
    with pytest.raises(WeightLoadError, match="Weights do not fit the IR:\n  - Missing weights"):
        WeightLoader().load_from_state_dict({}, ir)
    assert WeightLoader(validate=False).load_from_state_dict({}, ir) == {}


class TestNames:
    def test_prefix_is_added_or_removed_as_a_whole(self, ir):
        weights = {f"model.{k}": v for k, v in good(ir).items()}
        assert validate_weights_against_ir(weights, ir) == []
        partly = {k if "0." in k else f"model.{k}": v for k, v in good(ir).items()}
        assert set(resolve_weights(partly, ir)) == {"0.weight", "0.bias"}

    def test_ambiguity(self):
        class Model(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.model = nn.Module()
                self.model.w = nn.Parameter(torch.zeros(2))

            def forward(self, x):
                return x + self.model.w

        ir = extract_ir(Model().eval(), torch.zeros(2))
        assert validate_weights_against_ir({"w": torch.zeros(2)}, ir) == []
        with pytest.raises(WeightLoadError, match="ambiguous"):
            resolve_weights({"w": torch.zeros(2), "model.model.w": torch.zeros(2)}, ir)

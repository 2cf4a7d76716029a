"""``npu.quantize`` and ``npu quantize``: what is quantised, how well, and the folders that are written."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import ml_dtypes
import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from npu.quantized import QuantizedTensor
from npu.quantized.rounding import round_weight
from npu.quantized.tensors import BITS, FLOATS
from npu_base.errors import FileError, InvalidTypeError, InvalidValueError
from npu_base.quantization import Scheme

from tests.models.zoo.language_models import causal
from tests.support.gguf_files import write_gguf
from tests.support.gguf_models import to_gguf
from tests.support.limits import small_files
from tests.support.word_tokenizers import save_word_tokenizer


def between_ends(weight: np.ndarray, bits: int, group: int, dtype: str) -> float:
    """The squared error of the simplest way: the range of each group in equal steps."""
    groups = weight.astype(np.float64).reshape(-1, group)
    low, high, top = groups.min(1, keepdims=True), groups.max(1, keepdims=True), (1 << bits) - 1
    scale, bias = ((part.astype(FLOATS[dtype]).astype(np.float64)) for part in ((high - low) / top, low))
    integers = np.clip(np.rint((groups - bias) / np.where(scale, scale, 1)), 0, top)
    return float(((scale * integers + bias - groups) ** 2).sum())


def squared_error(weight: np.ndarray, rounded: Any, group: int) -> float:
    groups = weight.astype(np.float64).reshape(-1, group)
    scales, biases = (part.reshape(-1, 1).astype(np.float64) for part in (rounded.scales, rounded.biases))
    return float(((scales * rounded.integers.reshape(-1, group) + biases - groups) ** 2).sum())


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("dtype", FLOATS)
def test_the_search_is_better_than_the_range(bits: int, dtype: str) -> None:
    rng = np.random.default_rng(0)
    draws = {"normal": rng.standard_normal((64, 256)), "heavy": rng.standard_t(3, (64, 256)),
             "one-sided": rng.exponential(1.0, (64, 256)) + 3}  # fmt: skip
    for name, drawn in draws.items():
        weight = (drawn * 0.02).astype(FLOATS[dtype])
        rounded = round_weight(weight, bits, 64, dtype)
        error = squared_error(weight, rounded, 64)
        np.testing.assert_allclose(rounded.squared_error, error, rtol=1e-4)
        assert error <= between_ends(weight, bits, 64, dtype) * (0.93 if bits in (3, 4) else 1.0), name
        assert rounded.integers.max() < 1 << bits and rounded.scales.shape == (64, 4)
        threaded = round_weight(np.tile(weight, (9, 1)), bits, 64, dtype, threads=2)
        np.testing.assert_array_equal(threaded.integers, np.tile(rounded.integers, (9, 1)))


@pytest.mark.parametrize("dtype", FLOATS)
def test_unusual_groups(dtype: str) -> None:
    """Of equal numbers, which are exact, also zero; very small; of two values."""
    kind = FLOATS[dtype]
    weight = np.array([[0.0] * 32, [-1.5] * 32, [1e-4, -1e-4] * 16, [7.0] * 31 + [-3.0]]).astype(kind)
    rounded = round_weight(weight, 4, 32, dtype)
    numbers = rounded.scales.astype(np.float64) * rounded.integers + rounded.biases.astype(np.float64)
    np.testing.assert_array_equal(numbers[:2], weight[:2].astype(np.float64))
    np.testing.assert_allclose(numbers, weight.astype(np.float64), rtol=0.03)
    assert round_weight(np.zeros((0, 64), kind), 4, 64, dtype).integers.shape == (0, 64)


class Net(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table = torch.nn.Embedding(50, 64)
        self.first, self.second = torch.nn.Linear(64, 96), torch.nn.Linear(96, 64, bias=False)
        self.norm = torch.nn.LayerNorm(64)
        self.matrix = torch.nn.Parameter(torch.randn(64, 64))


def test_a_module() -> None:
    net = Net()
    quantized = npu.quantize(net, group=32, layers={"second": (8, 32)}, exclude=["fir*"], threads=1)
    assert sorted(quantized.schemes) == ["second.weight", "table.weight"] and len(quantized) == len(net.state_dict())
    assert quantized.schemes["second.weight"] == Scheme(8, 32, "bias", False, "float32", "float32")
    assert quantized["matrix"].data_ptr() == net.matrix.data_ptr()
    weight, report = net.second.weight.detach().numpy(), quantized.report[1]
    error = quantized["second.weight"].dequantize(np.float64) - weight
    assert report.layer == "second" and report.shape == (64, 96) and report.bytes == 64 * 96 + 64 * 3 * 8
    assert report.snr == pytest.approx(10 * math.log10((weight.astype(np.float64) ** 2).sum() / (error**2).sum()), 1e-4)
    assert report.snr > 40
    assert sorted(npu.quantize(net, group=32, embeddings=False).schemes) == ["first.weight", "second.weight"]
    assert npu.quantize(net, group=32, scale_dtype="float16").schemes["first.weight"].scale_dtype == "float16"


def test_a_state_dict() -> None:
    """Layers are told apart by their names."""
    names = ["model.embed_tokens.weight", "model.layers.0.self_attn.q_proj.weight", "lm_head.weight"]
    others = ["model.layers.0.input_layernorm.weight", "transformer.wpe.weight", "layers.0.bias", "table"]
    state = {
        name: np.random.default_rng(0).standard_normal((4, 64)).astype(ml_dtypes.bfloat16) for name in [*names, *others]
    }
    quantized = npu.quantize({**state, "step": 3})
    assert sorted(quantized.schemes) == sorted(names) and "step" not in quantized
    assert quantized.schemes[names[0]].scale_dtype == "bfloat16"
    assert sorted(npu.quantize(state, head=False, embeddings=False).schemes) == names[1:2]


def test_tied_weights(tmp_path: Path) -> None:
    """Are quantised once, and not at all if one of them is to stay as it is."""
    model = causal("qwen2", tie_word_embeddings=True)
    names = {"model.embed_tokens.weight", "lm_head.weight"}
    quantized = npu.quantize(model, group=32)
    assert names <= set(quantized.schemes) and quantized["lm_head.weight"] is quantized["model.embed_tokens.weight"]
    assert sum(layer.layer in ("lm_head", "model.embed_tokens") for layer in quantized.report) == 1
    assert not names & set(npu.quantize(model, group=32, head=False).schemes)
    quantized.save(tmp_path / "out")
    assert len(names & set(npu.open_checkpoint(tmp_path / "out"))) == 1


def test_saved_folders(tmp_path: Path) -> None:
    model = causal("llama3", torch.bfloat16)
    quantized = npu.quantize(model, group=32, layers={"*.q_proj": 8, "*.0.mlp.up_proj": (3, 64), "lm_head": 6})
    quantized.save(tmp_path / "out", model.config.to_dict())
    said = json.loads((tmp_path / "out" / "config.json").read_text())
    settings = said["quantization"]
    assert said["quantization_config"] == settings and said["model_type"] == "llama"
    assert {key: settings[key] for key in ("bits", "group_size", "mode")} == {
        "bits": 4,
        "group_size": 32,
        "mode": "affine",
    }
    assert settings["model.layers.0.mlp.up_proj"] == {"group_size": 64, "bits": 3} and len(settings) == 7
    checkpoint = npu.open_checkpoint(tmp_path / "out")
    assert checkpoint.format == "mlx" and checkpoint.dtype == "bfloat16" and "quantization" not in checkpoint.config
    assert set(checkpoint) == set(quantized) and checkpoint.schemes == quantized.schemes
    for name, tensor in quantized.items():
        if isinstance(tensor, QuantizedTensor):
            np.testing.assert_array_equal(checkpoint[name].dequantized(np.float64), tensor.dequantize(np.float64))
        else:
            np.testing.assert_array_equal(checkpoint[name].load().astype(np.float32), tensor.float().numpy())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "qwen"
    causal("qwen2").save_pretrained(target)
    save_word_tokenizer(target, 211)
    return target


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["quantize", str(folder), "-o", str(out), "--group", "32", "--layer", "*.down_proj=8", "--keep-head"]
    assert main([*arguments, "--exclude", "model.layers.1.*", "--report", "3"]) == 0
    shown = capsys.readouterr().out
    assert f"{out}: 8 layers quantised, from 0.2 to 0.0 MB; all weights 0." in shown
    assert shown.count("model.layers.0.") + shown.count("model.embed_tokens") == 3 and "SNR (dB)" in shown
    checkpoint = npu.open_checkpoint(out)
    original = npu.open_checkpoint(folder)
    assert set(checkpoint) == set(original) and "lm_head.weight" not in checkpoint.schemes
    assert checkpoint.schemes["model.layers.0.mlp.down_proj.weight"].bits == 8
    assert not any(name.startswith("model.layers.1.") for name in checkpoint.schemes)
    in_memory = npu.quantize(
        causal("qwen2"), group=32, layers={"*.down_proj": 8}, head=False, exclude=["model.layers.1.*"]
    )
    assert in_memory.schemes == checkpoint.schemes
    for name, tensor in in_memory.items():
        expected = tensor.dequantize() if isinstance(tensor, QuantizedTensor) else tensor.numpy()
        np.testing.assert_array_equal(checkpoint[name].dequantized(), expected)
    copied = {path.name for path in out.iterdir()}
    assert {"tokenizer.json", "tokenizer_config.json", "generation_config.json"} <= copied
    assert main([*arguments[:2], "-o", str(tmp_path / "j"), "--group", "32", "--bits", "8", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out)["layers"]
    assert len(layers) == 16 and all(layer["bits"] == 8 and layer["snr_db"] > 40 for layer in layers)


def test_nothing_is_written_by_halves(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["quantize", str(folder), "--group", "32", "-o", str(out)]
    with small_files(5000):
        assert main(arguments) == 1
    assert "file too large" in capsys.readouterr().err and not list(tmp_path.iterdir())
    out.mkdir()
    assert main(arguments) == 0 and out.is_dir()
    capsys.readouterr()
    before = sorted(out.iterdir())
    assert main(arguments) == 1 and sorted(out.iterdir()) == before
    assert "the folder is not empty; try the name of a new folder" in capsys.readouterr().err
    assert main([*arguments[:-1], str(tmp_path / "no" / "out")]) == 1
    assert "there is no folder" in capsys.readouterr().err
    assert main(["quantize", str(out), "--group", "32", "-o", str(tmp_path / "again")]) == 1
    assert "the model is quantised already; got mlx" in capsys.readouterr().err
    assert sorted(tmp_path.iterdir()) == [out]


def test_layers_without_an_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Their ratio of signal to noise is no number of JSON."""
    model = causal("qwen2")
    model.lm_head.weight.zero_()
    model.save_pretrained(tmp_path / "zeros")
    assert main(["quantize", str(tmp_path / "zeros"), "-o", str(tmp_path / "out"), "--group", "32", "--json"]) == 0
    layers = json.loads(capsys.readouterr().out, parse_constant=pytest.fail)["layers"]
    assert [layer["snr_db"] for layer in layers if layer["layer"] == "lm_head"] == [None]
    write_gguf(tmp_path / "m.gguf", *to_gguf(model, "qwen2"))
    assert main(["quantize", str(tmp_path / "m.gguf"), "-o", str(tmp_path / "more"), "--group", "32"]) == 1
    assert "m.gguf: only folders can be quantised; got gguf" in capsys.readouterr().err


COMMANDS = [
    (["--bits", "5"], "bits is not supported; got 5; expected one of 2, 3, 4, 6, 8"),
    (["--group", "48"], "group is not supported; got 48; expected one of 32, 64, 128"),
    ([], "layer 'model.layers.0.mlp.down_proj': the group size does not divide its rows; got 64, rows of 96; try"),
    (["--layer", "x=4:32:1"], "--layer is not understood; got 'x=4:32:1'; expected PATTERN=BITS or PATTERN=BITS:GROUP"),
    (["--layer", "*.down_proj"], "--layer is not understood"),
    (["--layer", "*=7"], "bits is not supported; got 7"),
    (
        ["--exclude", "nothing.*"],
        "a pattern matches no layer that may be quantised; got 'nothing.*'; expected names such",
    ),
]


@pytest.mark.parametrize(("arguments", "message"), COMMANDS, ids=[" ".join(c[0]) or "default" for c in COMMANDS])
def test_commands_that_are_refused(
    arguments: list[str], message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["quantize", str(folder), "-o", str(tmp_path / "out"), *arguments]) == 1
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_models_that_are_refused() -> None:
    weight = np.ones((4, 64), np.float32)
    with pytest.raises(InvalidTypeError, match="this cannot be quantised; got int; expected an nn.Module, or a dict"):
        npu.quantize(3)
    with pytest.raises(InvalidValueError, match="the model: has no weights that can be quantised"):
        npu.quantize({"norm.weight": weight, "other.weight": np.ones((2, 64), np.int32)})
    for value in (np.nan, np.inf):
        bad = weight.copy()
        bad[2, 3] = value
        with pytest.raises(InvalidValueError, match="layer 'up': has weights that are not finite"):
            npu.quantize({"up.weight": bad})
    large = weight * np.linspace(-1e6, 1e6, 64, dtype=np.float32)
    with pytest.raises(InvalidValueError, match="layer 'up', quantised: the scales are not finite"):
        npu.quantize({"up.weight": large * 1e2}, scale_dtype="float16")
    with pytest.raises(InvalidValueError, match="exclude is a text; got 'up'; expected a list of patterns"):
        npu.quantize({"up.weight": weight}, exclude="up")
    with pytest.raises(
        InvalidValueError, match="tensor '.*' is on the meta device|tensor 'weight': is on the meta device"
    ):
        npu.quantize(torch.nn.Linear(64, 64, device="meta"))
    with pytest.raises(FileError, match="cannot write"):
        npu.quantize({"up.weight": weight}).save("/nowhere/at/all")

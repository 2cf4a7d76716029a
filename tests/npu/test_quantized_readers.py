"""Folders with quantised weights stand for exactly the numbers that their formats say."""

from __future__ import annotations

import json
import zlib
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
from npu.quantized import QuantizedTensor, is_quantized
from npu.quantized.stored import file_of
from npu_base.errors import InvalidValueError, MissingFileError

from tests.support.quantized_files import FORMATS, Format, write_folder


def drawn(form: Format) -> tuple[dict[str, Any], dict[str, Any], Any]:
    return form.write(np.random.default_rng(zlib.crc32(form.name.encode())))


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
def test_numbers_are_those_of_the_format(form: Format, tmp_path: Path) -> None:
    tensors, config, numbers = drawn(form)
    plain = np.arange(6, dtype=np.float32).reshape(2, 3)
    write_folder(tmp_path, {**tensors, "norm.weight": plain, "layer.bias": plain[0]}, config)
    assert is_quantized(tmp_path)
    checkpoint = npu.open_checkpoint(tmp_path)
    assert sorted(checkpoint) == ["layer.bias", "layer.weight", "norm.weight"]
    assert checkpoint.config == {"model_type": "llama"} and checkpoint.dtype == "float32"
    np.testing.assert_array_equal(checkpoint["norm.weight"].load(), plain)
    entry = checkpoint["layer.weight"]
    tensor = entry.load()
    assert isinstance(tensor, QuantizedTensor) and entry.scheme == tensor.scheme == checkpoint.schemes["layer.weight"]
    assert entry.shape == tensor.shape == numbers.shape and tensor.data.dtype == np.uint8
    np.testing.assert_array_equal(entry.dequantized(np.float64), numbers)


@pytest.mark.parametrize("form", [f for f in FORMATS if f.name.startswith(("mlx", "compressed"))], ids=lambda f: f.name)
def test_integers_are_mapped(form: Format, tmp_path: Path) -> None:
    """What lies in the file as programs read it is not copied."""
    tensors, config, _ = drawn(form)
    write_folder(tmp_path, tensors, config)
    tensor = npu.open_checkpoint(tmp_path)["layer.weight"].load()
    assert isinstance(tensor, QuantizedTensor)
    assert not tensor.data.flags.owndata and not tensor.data.flags.writeable
    assert file_of(tensor.data) is not None and file_of(tensor.data.copy()) is None


def test_weights_of_programs(tmp_path: Path) -> None:
    tensors, config, numbers = drawn(FORMATS[0])
    write_folder(tmp_path, {**tensors, "norm.weight": np.ones(3, np.float16)}, config)
    checkpoint = npu.open_checkpoint(tmp_path)
    weights = checkpoint.weights("float32")
    assert sorted(weights.keys()) == ["layer.weight", "layer.weight.offsets", "layer.weight.scales", "norm.weight"]
    tensor = checkpoint["layer.weight"].load()
    assert isinstance(tensor, QuantizedTensor)
    for name, array in tensor.parts("layer.weight"):
        np.testing.assert_array_equal(weights[name].to_numpy(), array)
    assert weights["layer.weight"].native_handle == tensor.data.ctypes.data  # shared, not copied
    assert weights["norm.weight"].dtype == np.float32
    dense = checkpoint.weights("float16", dense=True)
    assert sorted(dense.keys()) == ["layer.weight", "norm.weight"]
    wanted = numbers.astype(np.float32).astype(np.float16)
    np.testing.assert_array_equal(dense["layer.weight"].to_numpy(), wanted)


def test_layers_of_their_own(tmp_path: Path) -> None:
    """MLX: a layer may have other bits and groups than the rest."""
    four, eight = drawn(FORMATS[6]), drawn(FORMATS[14])  # 4 bits in groups of 32, 8 bits in groups of 128
    tensors = {**four[0], **{name.replace("layer", "other"): array for name, array in eight[0].items()}}
    settings = {"group_size": 32, "bits": 4, "mode": "affine", "other": {"group_size": 128, "bits": 8}, "none": False}
    write_folder(tmp_path, tensors, {"quantization": settings})
    checkpoint = npu.open_checkpoint(tmp_path)
    np.testing.assert_array_equal(checkpoint["layer.weight"].dequantized(np.float64), four[2])
    np.testing.assert_array_equal(checkpoint["other.weight"].dequantized(np.float64), eight[2])


def test_several_files(tmp_path: Path) -> None:
    tensors, config, numbers = drawn(FORMATS[0])
    for i, (name, array) in enumerate(tensors.items()):
        write_folder(tmp_path, {name: array, "not.listed": array}, config)
        (tmp_path / "model.safetensors").rename(tmp_path / f"part-{i}.safetensors")
    listed = {name: f"part-{i}.safetensors" for i, name in enumerate(tensors)}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": listed}))
    checkpoint = npu.open_checkpoint(tmp_path)
    np.testing.assert_array_equal(checkpoint["layer.weight"].dequantized(np.float64), numbers)
    for name, message in (("../x.safetensors", "not a plain name"), ("part-1.safetensors", "is not in 'part-1")):
        index.write_text(json.dumps({"weight_map": {**listed, "layer.weight": name}}))
        with pytest.raises(InvalidValueError, match=message):
            npu.open_checkpoint(tmp_path)


def test_a_folder_that_is_not_quantised(tmp_path: Path) -> None:
    write_folder(tmp_path, {"a.weight": np.ones((2, 2), np.float16)}, {})
    checkpoint = npu.open_checkpoint(tmp_path)
    assert not is_quantized(tmp_path) and checkpoint.format == "plain" and not checkpoint.schemes
    assert checkpoint.dtype == "float16"


def test_layers_share_an_order(tmp_path: Path) -> None:
    """One weight has the order of all layers whose columns have the same groups; others have their own, or none."""
    by_name = {form.name: form for form in FORMATS}
    tensors, config, _ = drawn(by_name["gptq-4bit-32-moved-order"])
    plain, _, _ = drawn(by_name["gptq-4bit-32"])
    layers = {
        "up": tensors,
        "gate": tensors,
        "other": {**tensors, "layer.g_idx": tensors["layer.g_idx"][::-1]},
        "plain": plain,
    }
    for name, parts in layers.items():
        tensors = {**tensors, **{key.replace("layer", name): array for key, array in parts.items()}}
    write_folder(tmp_path, {key: array for key, array in tensors.items() if not key.startswith("layer")}, config)
    checkpoint = npu.open_checkpoint(tmp_path)
    orders = {name: scheme.order for name, scheme in checkpoint.schemes.items()}
    assert orders == {
        "up.weight": "up.order", "gate.weight": "up.order", "other.weight": "other.order", "plain.weight": "",
    }  # fmt: skip
    weights = checkpoint.weights()
    assert sorted(name for name in weights if name.endswith("order")) == ["other.order", "up.order"]
    np.testing.assert_array_equal(np.sort(weights["up.order"].to_numpy()), np.arange(96))
    assert not any("order" in name for name in checkpoint.weights(dense=True))


def test_an_order_of_columns_is_refused(tmp_path: Path) -> None:
    by_name = {form.name: form for form in FORMATS}
    tensors, config, _ = drawn(by_name["compressed-pack-4bit-32-bfloat16"])
    tensors["layer.weight_g_idx"] = np.arange(96, dtype=np.int32)[::-1] // 32
    write_folder(tmp_path, tensors, config)
    with pytest.raises(InvalidValueError, match=r"'layer.weight_packed': its columns .*actorder"):
        npu.open_checkpoint(tmp_path)


def test_files_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"try a .gguf file, or a folder with config.json"):
        npu.open_checkpoint(tmp_path / "missing")
    with pytest.raises(InvalidValueError, match="does not contain a model; got no config.json"):
        npu.open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InvalidValueError, match="the folder has no weights"):
        npu.open_checkpoint(tmp_path)

"""Files that are refused by name, before anything large is read."""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import npu
import numpy as np
import pytest
from npu_base.errors import InvalidValueError

from tests.support.gguf_files import Tensor, gguf_bytes
from tests.support.quantized_files import FORMATS, write_folder

Change = Callable[[dict[str, Any], dict[str, Any]], Any]
BY_NAME = {form.name: form for form in FORMATS}
MLX, PACKED, GPTQ, AWQ = "mlx-4bit-32-float16", "compressed-pack-4bit-32-float16-zeros", "gptq-4bit-32", "awq-32"
INTEGERS = "compressed-int-8bit-row-float32"


def said(config: dict[str, Any]) -> dict[str, Any]:
    return config.get("quantization") or config["quantization_config"]


def weights(config: dict[str, Any]) -> dict[str, Any]:
    return said(config)["config_groups"]["group_0"]["weights"]


def not_finite(name: str, index: int = 3) -> Change:
    def change(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        tensors[name] = tensors[name].copy()
        tensors[name].reshape(-1)[index] = np.inf

    return change


def replace(name: str, of: Callable[[Any], Any]) -> Change:
    return lambda tensors, config: tensors.update({name: of(tensors[name])})


FOLDERS: list[tuple[str, Change, str]] = [
    (MLX, lambda t, c: said(c).update(group_size=48), "'layer.weight': does not have 4 bits in groups of 48"),
    (
        MLX,
        lambda t, c: said(c).update(bits=5),
        "'layer.weight': unsupported number of bits; got 5; expected one of 2, 3",
    ),
    (MLX, lambda t, c: said(c).update(bits="4"), "layer 'layer': 'bits' is not a count; got '4'"),
    (MLX, lambda t, c: said(c).pop("group_size"), "layer 'layer': 'group_size' is not a count; got None"),
    (MLX, lambda t, c: said(c).update(mode="mxfp4"), "layer 'layer': unknown mode; got 'mxfp4'; expected affine"),
    (
        MLX,
        lambda t, c: said(c).update(layer=False),
        "layer 'layer' is not quantised by the configuration, but has scales",
    ),
    (MLX, lambda t, c: t.pop("layer.biases"), "has scales, but no biases; expected a tensor 'layer.biases'"),
    (MLX, lambda t, c: t.pop("layer.scales"), "has packed integers, but no scales"),
    (
        MLX,
        replace("layer.weight", lambda a: a.view(np.int32)),
        "its integers are not packed as expected; got I32; expected U32",
    ),
    (
        MLX,
        replace("layer.scales", lambda a: a[:-1]),
        "'layer.weight': the scales have another shape; got [23, 3]; expected [24, 3]",
    ),
    (MLX, replace("layer.scales", lambda a: a.astype(np.float64)), "unsupported dtype; got float64"),
    (MLX, replace("layer.biases", lambda a: a.reshape(-1)), "'layer.weight': the offsets have another shape"),
    (MLX, not_finite("layer.scales"), "'layer.weight': the scales are not finite; got inf at index 3 of 72"),
    (MLX, not_finite("layer.biases"), "'layer.weight': the offsets are not finite"),
    (
        PACKED,
        lambda t, c: said(c).update(quant_method="exl2"),
        "config.json: unknown method of quantisation; got 'exl2'",
    ),
    (
        PACKED,
        lambda t, c: said(c).update(format="float-quantized"),
        "unsupported format of compressed-tensors; got 'float-quantized'",
    ),
    (PACKED, lambda t, c: said(c).update(sparsity_config={"format": "sparse-24-bitmask"}), "unsupported sparsity"),
    (PACKED, lambda t, c: said(c).update(kv_cache_scheme={}), "quantised caches are not supported"),
    (PACKED, lambda t, c: said(c).update(config_groups={}), "has no groups of layers"),
    (
        PACKED,
        lambda t, c: said(c)["config_groups"]["group_0"].update(input_activations={"num_bits": 8}),
        "'group_0' also quantises activations",
    ),
    (
        PACKED,
        lambda t, c: weights(c).update(num_bits=3),
        "'group_0' has an unsupported number of bits; got 3; expected 4 or 8",
    ),
    (
        PACKED,
        lambda t, c: weights(c).update(type="float"),
        "'group_0' has an unsupported type; got 'float'; expected int",
    ),
    (PACKED, lambda t, c: weights(c).update(strategy="block"), "'group_0' has an unsupported strategy; got 'block'"),
    (PACKED, lambda t, c: weights(c).update(group_size=0), "'group_0' has no valid group size; got 0"),
    (PACKED, lambda t, c: weights(c).update(group_size=64), "no group of layers of the configuration has this form"),
    (
        PACKED,
        lambda t, c: t.pop("layer.weight_shape"),
        "has packed integers alone; expected a tensor 'layer.weight_shape'",
    ),
    (PACKED, replace("layer.weight_shape", lambda a: a + 1), "its integers are not packed as expected"),
    (
        PACKED,
        replace("layer.weight_packed", lambda a: a[:, :-1]),
        "no group of layers of the configuration has this form",
    ),
    (
        PACKED,
        replace("layer.weight_zero_point", lambda a: a[:-1]),
        "'layer.weight_zero_point': has another dtype or shape",
    ),
    (PACKED, not_finite("layer.weight_scale"), "'layer.weight_packed': the scales are not finite"),
    (INTEGERS, replace("layer.weight", lambda a: a.view(np.uint8)), "its integers are not stored as expected; got U8"),
    (
        GPTQ,
        lambda t, c: said(c).update(bits=5),
        "config.json: unsupported number of bits; got 5; expected 2, 3, 4 or 8",
    ),
    (GPTQ, lambda t, c: said(c).update(group_size=7), "the group size does not divide its rows; got 7, rows of 96"),
    (
        GPTQ,
        lambda t, c: said(c).update(checkpoint_format="marlin"),
        "unsupported format of GPTQ; got 'marlin'; expected one of gptq, gptq_v2",
    ),
    (GPTQ, lambda t, c: said(c).update(dynamic={"+:x": {}}), "layers that are quantised differently are not supported"),
    (GPTQ, lambda t, c: t.pop("layer.qzeros"), "has packed integers alone; expected a tensor 'layer.qzeros'"),
    (GPTQ, replace("layer.qzeros", lambda a: a[:, :-1]), "'layer.qzeros': has another dtype or shape; got I32 [3, 2]"),
    (GPTQ, replace("layer.scales", lambda a: a[:-1]), "'layer.scales': has another dtype or shape"),
    (
        GPTQ,
        replace("layer.g_idx", lambda a: a[1:]),
        "'layer.g_idx': has another dtype or shape; got I32 [95]; expected I32 [96]",
    ),
    (GPTQ, replace("layer.g_idx", lambda a: a.astype(np.int64)), "got I64 [96]; expected I32 [96]"),
    (
        GPTQ,
        replace("layer.g_idx", lambda a: np.maximum(a, 1)),
        "'layer.g_idx': does not give each group its columns; got 64 in group 1, 32 in group 2; expected 32 columns in",
    ),
    (GPTQ, replace("layer.g_idx", lambda a: a - 1), "does not give each group its columns; got 32 in group -1, 32 in"),
    (GPTQ, not_finite("layer.scales"), "'layer.qweight': the scales are not finite"),
    (AWQ, lambda t, c: said(c).update(version="gemv"), "unsupported version of AWQ; got 'gemv'; expected gemm"),
    (AWQ, lambda t, c: said(c).update(bits=8), "unsupported number of bits; got 8; expected 4"),
    (AWQ, replace("layer.qweight", lambda a: a[:, :-1]), "'layer.qweight': has another dtype or shape"),
    (
        AWQ,
        replace("layer.qweight", lambda a: a[0]),
        "'layer.qweight': has another shape; got [3]; expected two dimensions",
    ),
]


@pytest.mark.parametrize(
    ("name", "change", "message"), FOLDERS, ids=[f"{i}-{case[0]}" for i, case in enumerate(FOLDERS)]
)
def test_folders(name: str, change: Change, message: str, tmp_path: Path) -> None:
    form = BY_NAME[name]
    tensors, config, _ = form.write(np.random.default_rng(zlib.crc32(name.encode())))
    if name == GPTQ and "divide" in message:
        tensors.pop("layer.g_idx", None)
    change(tensors, config)
    write_folder(tmp_path, tensors, config)
    with pytest.raises(InvalidValueError, match=re.escape(message)) as error:
        npu.open_checkpoint(tmp_path)["layer.weight"].load()
    assert str(error.value).startswith(f"[quantized] {tmp_path}")


def test_files_that_are_cut(tmp_path: Path) -> None:
    tensors, config, _ = BY_NAME[MLX].write(np.random.default_rng(0))
    write_folder(tmp_path, tensors, config)
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    for size, message in (
        (4, "is not a safetensors file"),
        (40, "is cut off"),
        (len(data) - 1, "no valid 'data_offsets'"),
    ):
        path.write_bytes(data[:size])
        with pytest.raises(InvalidValueError, match=message):
            npu.open_checkpoint(tmp_path)
    path.write_bytes(data)
    (tmp_path / "config.json").write_text('{"quantization": 4}')
    with pytest.raises(InvalidValueError, match="'quantization' is not an object; got int"):
        npu.open_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text('{"a": 1, "a": 2}')
    with pytest.raises(InvalidValueError, match="a key comes twice; got 'a'"):
        npu.open_checkpoint(tmp_path)


METADATA: dict[str, Any] = {
    "general.architecture": "llama", "llama.context_length": 128, "llama.embedding_length": 64,
    "llama.block_count": 1, "llama.feed_forward_length": 32, "llama.attention.head_count": 4,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}  # fmt: skip
TENSORS = {
    "token_embd.weight": Tensor(1, (4, 64), bytes(512)), "blk.0.ffn_down.weight": Tensor(8, (64, 32), bytes(64 * 34)),
    "blk.0.attn_q.weight": Tensor(8, (64, 64), bytes(128 * 34)),
}  # fmt: skip
DOWN = "blk.0.ffn_down.weight"


def metadata(**changes: Any) -> bytes:
    values = {**METADATA, **{key.replace("__", "."): value for key, value in changes.items()}}
    return gguf_bytes({key: value for key, value in values.items() if value is not None}, TENSORS)


def tensors(**changes: Tensor) -> bytes:
    return gguf_bytes(METADATA, {**TENSORS, **{key.replace("__", "."): value for key, value in changes.items()}})


def patched(at: int, form: str, value: int) -> bytes:
    data = bytearray(metadata())
    struct.pack_into(form, data, at, value)
    return bytes(data)


def with_bytes(old: bytes, new: bytes) -> bytes:
    data = metadata()
    assert old in data
    return data.replace(old, new)


FILES: list[tuple[bytes, str]] = [
    (b"", "is not a GGUF file; got the first bytes b''"),
    (b"GGML" + bytes(60), "is not a GGUF file; got the first bytes b'GGML'"),
    (b"GGUF\x03", "the header: is cut off"),
    (patched(4, "<I", 1), "has an unsupported version; got version 1; expected 2 or 3"),
    (patched(4, ">I", 3), "got version 3 with its bytes in reverse order"),
    (patched(8, "<Q", 2**62), "the header: has too many tensors; got 4611686018427387904; expected at most"),
    (patched(16, "<Q", 2**40), "the header: has too many keys"),
    (patched(24, "<Q", 2**63), "key 0 of the metadata: has too many bytes in a name"),
    (metadata()[:100], "has too many keys; got 7; expected at most 5"),
    (metadata()[:300], "has too many bytes in a name; got 38; expected at most 33"),
    (metadata()[:-3000], "tensor 'blk.0.attn_q.weight': is cut off; got"),
    (metadata(general__architecture="mamba"), "unsupported architecture; got 'mamba'; expected one of llama, qwen2"),
    (metadata(general__architecture=5), "metadata 'general.architecture': is not a text; got 5"),
    (metadata(general__architecture=None), "the file has no metadata 'general.architecture'"),
    (
        metadata(general__alignment=24),
        "metadata 'general.alignment': is not an alignment; got 24; expected a power of two",
    ),
    (metadata(llama__context_length=None), "the file has no metadata 'llama.context_length'"),
    (metadata(llama__block_count=0), "metadata 'llama.block_count': is not a count; got 0"),
    (
        metadata(llama__block_count=2**31 - 1),
        "layers are missing, or there are too many; got 1 layers; expected tensors of 2147483647",
    ),
    (
        metadata(llama__embedding_length=2**20),
        "'token_embd.weight': has another shape; got [4, 64]; expected [4, 1048576]",
    ),
    (metadata(llama__attention__head_count=64), "has another shape|no pairs of heads"),
    (metadata(llama__attention__head_count="4"), "metadata 'llama.attention.head_count': is not a count; got '4'"),
    (metadata(llama__attention__layer_norm_rms_epsilon=float("nan")), "is not a finite number; got nan"),
    (
        metadata(llama__attention__value_length=8),
        "metadata 'llama.attention.value_length': differs from the size of keys",
    ),
    (metadata(llama__expert_count=8), "models with experts are not supported"),
    (
        metadata(llama__rope__scaling__type="longrope"),
        "rope.scaling.type': is not supported; got 'longrope'; expected none, linear or yarn",
    ),
    (metadata(split__count=3), "the model is split into several files; try joining them"),
    (metadata(tokenizer__ggml__eos_token_id=-4), "metadata 'tokenizer.ggml.eos_token_id': is not a count; got -4"),
    (
        with_bytes(b"llama.block_count\x04", b"llama.block_count\x63"),
        "metadata 'llama.block_count': has an unknown type; got 99",
    ),
    (
        with_bytes(b"llama.block_count\x04\0\0\0\1\0\0\0", b"llama.block_count\x09\0\0\0\x09\0\0\0"),
        "is an array of an unsupported type; got 9",
    ),
    (with_bytes(b"llama.block_count", b"llama.\xff\xff\xff\xff\xff_count"), "has a name that is not UTF-8"),
    (
        metadata(llama__block_counx=1).replace(b"block_counx", b"block_count"),
        "metadata 'llama.block_count': comes twice",
    ),
    (
        tensors(blk__0__ffn_down__weight=Tensor(13, (64, 256), bytes(64 * 176))),
        "'blk.0.ffn_down.weight': has an unsupported type; got Q5_K; expected one of F32, F16",
    ),
    (tensors(blk__0__ffn_down__weight=Tensor(99, (64, 32), bytes(9999))), "has an unsupported type; got type 99"),
    (
        tensors(blk__0__ffn_down__weight=Tensor(8, (64, 31), bytes(9999))),
        "has rows of an unsupported length; got 31; expected a multiple of 32, which Q8_0 packs together",
    ),
    (tensors(blk__0__ffn_down__weight=Tensor(8, (64, 0), b"")), "is empty or too large; got [64, 0]"),
    (tensors(blk__0__ffn_down__weight=Tensor(8, (2**40, 2**40), b"")), "is empty or too large"),
    (
        tensors(blk__0__ffn_down__weight=Tensor(8, (64, 1, 1, 1, 32), bytes(64 * 34))),
        "has an unsupported number of dimensions; got 5; expected 1 to 4",
    ),
    (tensors(blk__0__ssm_a__weight=Tensor(0, (1,), bytes(4))), "tensor 'blk.0.ssm_a.weight': is not known of llama"),
    (
        tensors(rope_freqs__weight=Tensor(0, (8,), struct.pack("<8f", *range(1, 9)))),
        "scales frequencies in an unknown way",
    ),
    (gguf_bytes(METADATA, {DOWN: TENSORS[DOWN]}), "the file has no table of embeddings"),
]


@pytest.mark.parametrize(
    ("data", "message"), FILES, ids=[f"{i}-{message[:30]}" for i, (_, message) in enumerate(FILES)]
)
def test_gguf(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(data)
    with pytest.raises(InvalidValueError, match="|".join(map(re.escape, message.split("|")))) as error:
        npu.open_checkpoint(path)
    assert str(error.value).startswith(f"[quantized] {path}")


def test_gguf_that_is_good(tmp_path: Path) -> None:
    """What the cases above are changes of."""
    path = tmp_path / "m.gguf"
    for version in (2, 3):
        path.write_bytes(gguf_bytes(METADATA, TENSORS, version))
        assert len(npu.open_checkpoint(path)) == 3


def test_overlapping_tensors(tmp_path: Path) -> None:
    data = bytearray(metadata())
    at = data.index(b"blk.0.attn_q.weight") + len("blk.0.attn_q.weight") + 4 + 16 + 4
    struct.pack_into("<Q", data, at, 512)
    path = tmp_path / "m.gguf"
    path.write_bytes(bytes(data))
    with pytest.raises(InvalidValueError, match="overlaps another tensor; got byte 512; expected byte"):
        npu.open_checkpoint(path)
    struct.pack_into("<Q", data, at, 516)
    path.write_bytes(bytes(data))
    with pytest.raises(InvalidValueError, match="does not start at a multiple of the alignment; got byte 516"):
        npu.open_checkpoint(path)

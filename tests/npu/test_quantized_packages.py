"""Files that the packages of the formats themselves write and read: they are installed by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import npu
import npu_compiler
import numpy as np
import pytest
import torch
from torch_ir import extract_ir

from tests.models.zoo.language_models import causal
from tests.support.gguf_files import KINDS, write_gguf
from tests.support.gguf_models import FAMILIES, to_gguf
from tests.support.numbers import check
from tests.support.quantized_files import write_folder

pytestmark = pytest.mark.slow


def package(name: str, install: str) -> Any:
    return pytest.importorskip(name, reason=f"needs `pip install {install}`, which the project does not depend on")


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
@pytest.mark.parametrize("group", [32, 64, 128])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_mlx_writes(bits: int, group: int, dtype: str, tmp_path: Path) -> None:
    mx = package("mlx.core", "'mlx[cpu]'")
    weight = mx.random.normal((40, 3 * group)).astype(getattr(mx, dtype))
    packed, scales, biases = mx.quantize(weight, group_size=group, bits=bits)
    mx.save_safetensors(
        str(tmp_path / "model.safetensors"), {"up.weight": packed, "up.scales": scales, "up.biases": biases}
    )
    (tmp_path / "config.json").write_text(json.dumps({"quantization": {"bits": bits, "group_size": group}}))
    entry = npu.open_checkpoint(tmp_path)["up.weight"]
    exact = mx.dequantize(packed, scales.astype(mx.float32), biases.astype(mx.float32), group_size=group, bits=bits)
    np.testing.assert_array_equal(entry.dequantized(np.float32), np.array(exact))


@pytest.mark.parametrize("bits", [2, 3, 4, 6, 8])
def test_mlx_reads_what_we_write(bits: int, tmp_path: Path) -> None:
    mx = package("mlx.core", "'mlx[cpu]'")
    weight = np.random.default_rng(0).standard_normal((40, 256)).astype(np.float32)
    quantized = npu.quantize({"up.weight": weight}, bits=bits, group=64)
    quantized.save(tmp_path / "out")
    loaded = mx.load(str(tmp_path / "out" / "model.safetensors"))
    said = json.loads((tmp_path / "out" / "config.json").read_text())["quantization"]
    numbers = mx.dequantize(
        loaded["up.weight"], loaded["up.scales"], loaded["up.biases"], group_size=said["group_size"], bits=said["bits"]
    )
    np.testing.assert_array_equal(np.array(numbers), quantized["up.weight"].dequantize())
    theirs = np.array(mx.dequantize(*mx.quantize(mx.array(weight), group_size=64, bits=bits), group_size=64, bits=bits))
    assert np.linalg.norm(np.array(numbers) - weight) < np.linalg.norm(theirs - weight)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_gguf_reads_as_we_do(kind: Any, tmp_path: Path) -> None:
    gguf = package("gguf", "gguf")
    rng = np.random.default_rng(1)
    tensor, numbers = kind.tensor(rng, 8, 512 // kind.elements)
    data = np.frombuffer(tensor.data, np.uint8).reshape(8, -1)
    theirs = gguf.quants.dequantize(data, gguf.GGMLQuantizationType(kind.number))
    np.testing.assert_array_equal(theirs, numbers.astype(np.float32))


def test_gguf_writes(tmp_path: Path) -> None:
    """The package's own writer, with the types that it can quantise."""
    gguf = package("gguf", "gguf")
    path, rng = tmp_path / "m.gguf", np.random.default_rng(2)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(64)
    writer.add_block_count(1)
    writer.add_feed_forward_length(96)
    writer.add_head_count(4)
    writer.add_layer_norm_rms_eps(1e-5)
    kinds = {"token_embd": "F16", "blk.0.ffn_up": "Q8_0", "blk.0.ffn_gate": "Q4_0", "blk.0.attn_norm": "F32"}
    expected = {}
    for name, kind in kinds.items():
        weight = rng.standard_normal((64,) if "norm" in name else (96, 64)).astype(np.float32)
        number = gguf.GGMLQuantizationType[kind]
        data = gguf.quants.quantize(weight, number)
        writer.add_tensor(f"{name}.weight", data, raw_dtype=number)
        expected[name] = gguf.quants.dequantize(data, number)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = npu.open_checkpoint(path)
    names = {
        "token_embd": "model.embed_tokens", "blk.0.ffn_up": "model.layers.0.mlp.up_proj",
        "blk.0.ffn_gate": "model.layers.0.mlp.gate_proj", "blk.0.attn_norm": "model.layers.0.input_layernorm",
    }  # fmt: skip
    for theirs, ours in names.items():
        np.testing.assert_array_equal(checkpoint[f"{ours}.weight"].dequantized(np.float32), expected[theirs])


@pytest.mark.parametrize("family", FAMILIES)
def test_gguf_has_the_same_names(family: str) -> None:
    gguf = package("gguf", "gguf")
    model = causal(family)
    architecture = next(a for a, name in gguf.MODEL_ARCH_NAMES.items() if name == FAMILIES[family])
    names = gguf.get_tensor_name_map(architecture, 2)
    theirs = {names.get_name(name, try_suffixes=(".weight", ".bias")) for name in model.state_dict()}
    ours = set(to_gguf(model, FAMILIES[family])[1]) - {"rope_freqs.weight"}
    assert ours <= theirs and theirs - ours <= {"output.weight", None}  # the head that is the table


@pytest.mark.parametrize("family", ["llama3", "qwen2", "gemma2", "gemma3"])
def test_transformers_reads_the_same_model(family: str, tmp_path: Path) -> None:
    """Its own reader of GGUF files finds the same weights under the same names."""
    package("gguf", "gguf")
    package("accelerate", "accelerate")
    import transformers

    write_gguf(tmp_path / "m.gguf", *to_gguf(causal(family), FAMILIES[family]))
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, gguf_file="m.gguf", dtype=torch.float32)
    state = theirs.state_dict()
    for name, entry in npu.open_checkpoint(tmp_path).items():
        np.testing.assert_array_equal(entry.dequantized(), state[name].numpy(), err_msg=name)


@pytest.mark.parametrize("form", ["pack-quantized", "int-quantized"])
@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize(("bits", "group"), [(4, 32), (8, 32), (4, None), (8, None)])
def test_compressed_tensors_writes(form: str, symmetric: bool, bits: int, group: int | None, tmp_path: Path) -> None:
    package("compressed_tensors", "compressed-tensors")
    from compressed_tensors.compressors import BaseCompressor
    from compressed_tensors.quantization import QuantizationArgs, QuantizationScheme

    strategy = "group" if group else "channel"
    args = QuantizationArgs(num_bits=bits, type="int", symmetric=symmetric, strategy=strategy, group_size=group)
    scheme = QuantizationScheme(targets=["Linear"], weights=args)
    torch.manual_seed(0)
    weight, groups = torch.randn(24, 96), 96 // group if group else 1
    half = 1 << (bits - 1)
    state = {"weight": weight, "weight_scale": torch.rand(24, groups) * 0.1 + 0.01}
    points = torch.zeros(24, groups) if symmetric else torch.randint(-half, half, (24, groups))
    state["weight_zero_point"] = points.to(torch.int8)
    compressor = BaseCompressor.get_value_from_registry(form)
    compressed = compressor.compress(state, scheme)
    numbers = compressor.decompress(compressed, scheme)["weight"]
    config = {
        "quant_method": "compressed-tensors", "format": form,
        "config_groups": {"group_0": scheme.model_dump(mode="json")},
    }  # fmt: skip
    tensors = {f"up.{name}": tensor.numpy() for name, tensor in compressed.items()}
    write_folder(tmp_path, tensors, {"quantization_config": config})
    entry = npu.open_checkpoint(tmp_path)["up.weight"]
    np.testing.assert_array_equal(entry.dequantized(np.float32), numbers.numpy())


def torchao_models() -> dict[str, Any]:
    from torchao import quantization as ao

    def weights(dtype: torch.dtype, granularity: Any, mapping: str = "SYMMETRIC") -> Any:
        kind = ao.MappingType[mapping]
        return ao.IntxWeightOnlyConfig(weight_dtype=dtype, granularity=granularity, mapping_type=kind)

    return {
        "int8": (ao.Int8WeightOnlyConfig(), 8, 0),
        "int8 groups": (weights(torch.int8, ao.PerGroup(32), "ASYMMETRIC"), 8, 32),
        "int4": (weights(torch.int4, ao.PerAxis(0)), 4, 0),
        "int4 groups": (weights(torch.int4, ao.PerGroup(32), "ASYMMETRIC"), 4, 32),
        "int3": (weights(torch.int3, ao.PerGroup(32)), 4, 32),
    }


@pytest.mark.parametrize("form", ["int8", "int8 groups", "int4", "int4 groups", "int3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_torchao_quantises(form: str, dtype: torch.dtype) -> None:
    ao = package("torchao.quantization", "torchao")
    config, bits, group = torchao_models()[form]
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(128, 96), torch.nn.GELU(), torch.nn.Linear(96, 64, bias=False)).eval()
    ao.quantize_(model.to(dtype), config, filter_fn=lambda part, _: isinstance(part, torch.nn.Linear))
    exact = torch.nn.Sequential(torch.nn.Linear(128, 96), torch.nn.GELU(), torch.nn.Linear(96, 64, bias=False))
    with torch.no_grad():
        for part, plain in ((model[0], exact[0]), (model[2], exact[2])):
            plain.double().weight.copy_(part.weight.dequantize())
        exact[0].bias.copy_(model[0].bias)
    ir = extract_ir(model, torch.zeros(3, 128, dtype=dtype))
    products = [op["attrs"] for op in npu_compiler.compile(ir).data["main"] if op["op"] == "matmul"]
    groups = {attrs.get("group", 0) for attrs in products}
    assert [attrs.get("bits") for attrs in products] == [bits, bits] and groups <= {group, 0}
    for rows in (1, 40):
        x = torch.randn(rows, 128, dtype=dtype)
        check(npu.compile(model, x)(x), exact(x.double()), model(x), form)


@pytest.mark.parametrize("dynamic", [False, True])
def test_pt2e_quantises(dynamic: bool) -> None:
    """Activations quantised with known scales run as a program; those that are measured in each run need the host."""
    package("torchao", "torchao")
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
    from torchao.quantization.pt2e.quantizer import x86_inductor_quantizer as x86

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(128, 96), torch.nn.ReLU(), torch.nn.Linear(96, 64)).eval()
    x = torch.randn(3, 128)
    config = x86.get_default_x86_inductor_quantization_config(is_dynamic=dynamic)
    prepared = prepare_pt2e(torch.export.export(model, (x,)).module(), x86.X86InductorQuantizer().set_global(config))
    prepared(x)
    converted = convert_pt2e(prepared)
    ir = extract_ir(converted, x)
    if dynamic:
        with pytest.raises(npu_compiler.CompileError, match="choose_qparams.*it quantises activations"):
            npu_compiler.compile(ir)
        compiled = npu.compile(converted, x, fallback="host")
    else:
        products = [op["attrs"] for op in npu_compiler.compile(ir).data["main"] if op["op"] == "matmul"]
        assert [attrs.get("bits") for attrs in products] == [8, 8]
        compiled = npu.compile(converted, x)
    torch.testing.assert_close(compiled(x), converted(x))


@pytest.mark.parametrize("config", ["Int8DynamicActivationInt8WeightConfig", "Int8DynamicActivationIntxWeightConfig"])
def test_torchao_quantises_activations(config: str) -> None:
    ao = package("torchao.quantization", "torchao")
    model = torch.nn.Sequential(torch.nn.Linear(128, 96)).eval()
    ao.quantize_(model, getattr(ao, config)())
    with pytest.raises(npu_compiler.CompileError, match="it quantises activations while the model runs"):
        npu_compiler.compile(extract_ir(model, torch.zeros(32, 128)))

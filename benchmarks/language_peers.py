"""llama.cpp and OpenVINO as workers of bench_language_models.py, with the same weights and tokens as all others.

They need `pip install llama-cpp-python gguf openvino`, and `nncf` for quantised weights of OpenVINO. Both read a form
of the weights that is written once, beside the file of weights: a GGUF in bfloat16, and OpenVINO's own; or these
quantised.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Prepared = tuple[Callable[[], Any], Callable[[], Any]]
OPENVINO_MODES = {"q8_0": "INT8_ASYM", "q4_0": "INT4_SYM"}  # what is nearest to each form of GGUF
SPARE = 64  # positions beyond those of a case
LLAMA_NAMES = {
    "input_layernorm": "attn_norm", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output", "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def file_of(peer: str, weights: Path) -> Path:
    """What a peer reads. ``peer`` is a name, and the form of quantised weights after a colon."""
    name, _, form = peer.partition(":")
    if name == "openvino":
        return weights.with_suffix(f".{OPENVINO_MODES[form].lower()}.xml" if form else ".xml")
    if form:
        return weights.with_suffix(f".{form}.gguf")
    return weights.with_suffix(".gguf") if name == "llama.cpp" else weights


def write_file(peer: str, weights: Path, config: Callable[[], Any]) -> None:
    """Write what a peer reads, unless it is there. ``config`` gives that of the model."""
    path, form = file_of(peer, weights), peer.partition(":")[2]
    if path.exists():
        return
    if form:
        source = "openvino" if path.suffix == ".xml" else "llama.cpp"
        write_file(source, weights, config)
        quantize = quantize_openvino if path.suffix == ".xml" else quantize_gguf
        quantize(file_of(source, weights), form, path)
    else:
        write = write_openvino if path.suffix == ".xml" else write_gguf
        write(weights, config(), path)


def write_gguf(weights: Path, config: Any, path: Path) -> None:
    """Matrices in bfloat16, and the rest in float32, as is usual in this format."""
    import gguf
    import torch
    from safetensors.torch import load_file

    writer = gguf.GGUFWriter(f"{path}.part", "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    writer.add_tokenizer_model("no_vocab")
    for name, tensor in load_file(weights).items():
        if tensor.ndim == 1:
            writer.add_tensor(_llama_name(name), tensor.float().numpy())
        else:
            data = tensor.contiguous().view(torch.uint8).numpy()
            writer.add_tensor(_llama_name(name), data, raw_dtype=gguf.GGMLQuantizationType.BF16)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    os.replace(f"{path}.part", path)


def quantize_gguf(source: Path, form: str, path: Path) -> None:
    """All matrices in this form, also the embedding, of which llama.cpp would keep more bits."""
    import llama_cpp as llama

    options = llama.llama_model_quantize_default_params()
    file_types = {"q8_0": "Q8_0", "q4_0": "Q4_0", "q4_k": "Q4_K_S"}
    options.ftype = getattr(llama, f"LLAMA_FTYPE_MOSTLY_{file_types[form]}")
    options.pure = True
    options.nthread = os.cpu_count() or 1
    if llama.llama_model_quantize(os.fsencode(source), os.fsencode(f"{path}.part"), options) != 0:
        raise RuntimeError(f"llama.cpp cannot quantise {source} to {form}")
    os.replace(f"{path}.part", path)


def _llama_name(name: str) -> str:
    top = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
    if name in top:
        return top[name]
    _, _, layer, rest = name.split(".", 3)
    part, kind = rest.rsplit(".", 1)
    return f"blk.{layer}.{LLAMA_NAMES[part]}.{kind}"


def prepare_llama(path: Path, vocabulary: int, ids: Any, count: int, threads: int) -> Prepared:
    """``ids`` are all tokens, of which the last ``count`` are computed. Times are llama.cpp's own, of one call."""
    import llama_cpp as llama
    import numpy as np

    llama.llama_backend_init()
    options = llama.llama_model_default_params()
    options.n_gpu_layers = 0
    model = llama.llama_model_load_from_file(os.fsencode(path), options)
    settings = llama.llama_context_default_params()
    settings.n_ctx, settings.n_batch, settings.n_ubatch = len(ids) + SPARE, len(ids) + SPARE, 512
    settings.n_threads = settings.n_threads_batch = threads
    settings.no_perf = False
    settings.flash_attn_type = llama.LLAMA_FLASH_ATTN_TYPE_ENABLED
    context = llama.llama_init_from_model(model, settings)
    memory = llama.llama_get_memory(context)
    past = len(ids) - count

    def decode(tokens: Any) -> Any:
        array = (llama.llama_token * len(tokens))(*map(int, tokens))
        if llama.llama_decode(context, llama.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        return llama.llama_get_logits_ith(context, -1)  # waits for the result

    def step() -> Any:
        llama.llama_memory_seq_rm(memory, 0, past, -1)
        return decode(ids[past:])

    def run() -> float:
        llama.llama_perf_context_reset(context)
        step()
        times = llama.llama_perf_context(context)
        return float(times.t_p_eval_ms if count > 1 else times.t_eval_ms)

    if past:
        decode(ids[:past])
    return run, lambda: np.ctypeslib.as_array(step(), shape=(vocabulary,)).copy()


def _lean(weights: Path, config: Any) -> Any:
    """The network in few lines, whose attention the caller computes, so that it decides how caches are kept."""
    import torch
    import torch.nn.functional as F
    from safetensors.torch import load_file
    from torch import nn

    tensors = load_file(weights)
    width = config.hidden_size // config.num_attention_heads

    def linear(name: str) -> nn.Linear:
        weight, bias = tensors[f"{name}.weight"], tensors.get(f"{name}.bias")
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        layer.weight = nn.Parameter(weight, requires_grad=False)
        if bias is not None:
            layer.bias = nn.Parameter(bias, requires_grad=False)
        return layer

    def norm(x: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        y = x.float()
        return (y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + config.rms_norm_eps)).to(x.dtype) * weight

    class Layer(nn.Module):
        def __init__(self, at: str) -> None:
            super().__init__()
            for name in ("q", "k", "v", "o"):
                setattr(self, name, linear(f"{at}.self_attn.{name}_proj"))
            for name in ("gate", "up", "down"):
                setattr(self, name, linear(f"{at}.mlp.{name}_proj"))
            self.before = nn.Parameter(tensors[f"{at}.input_layernorm.weight"], requires_grad=False)
            self.between = nn.Parameter(tensors[f"{at}.post_attention_layernorm.weight"], requires_grad=False)

    class Lean(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList(Layer(f"model.layers.{i}") for i in range(config.num_hidden_layers))
            self.head = linear("model.embed_tokens")
            self.embedding = nn.Embedding(config.vocab_size, config.hidden_size, device="meta")
            self.embedding.weight = self.head.weight  # tied
            self.last = nn.Parameter(tensors["model.norm.weight"], requires_grad=False)
            # Constants: computed in the graph, OpenVINO rounds positions to bfloat16.
            powers = config.rope_parameters["rope_theta"] ** (-torch.arange(0, width, 2).float() / width)
            angles = torch.arange(config.max_position_embeddings).float()[:, None] * powers
            self.register_buffer("cos", torch.cat((angles, angles), 1).cos().bfloat16())
            self.register_buffer("sin", torch.cat((angles, angles), 1).sin().bfloat16())

        def heads(self, x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(2, (-1, width)).transpose(1, 2)

        def forward(self, ids: torch.Tensor, positions: torch.Tensor, attend: Callable[..., Any]) -> torch.Tensor:
            x = self.embedding(ids)
            cos, sin = self.cos[positions][None, None], self.sin[positions][None, None]

            def turned(x: torch.Tensor) -> torch.Tensor:
                a, b = x.chunk(2, -1)
                return x * cos + torch.cat((-b, a), -1) * sin

            for index, layer in enumerate(self.layers):
                y = norm(x, layer.before)
                q, k, v = self.heads(layer.q(y)), self.heads(layer.k(y)), self.heads(layer.v(y))
                x = x + layer.o(attend(index, turned(q), turned(k), v).transpose(1, 2).flatten(2))
                y = norm(x, layer.between)
                x = x + layer.down(F.silu(layer.gate(y)) * layer.up(y))
            return self.head(norm(x[:, -1:], self.last))[0, -1]

    return Lean().eval()


def write_openvino(weights: Path, config: Any, path: Path) -> None:
    """A stateful model with weights of 16 bits. Each cache is gathered by beam first, without which the plugin does not
    fuse cache and attention."""
    import openvino as ov
    import openvino.opset13 as ops
    import torch
    import torch.nn.functional as F
    from openvino._offline_transformations import apply_make_stateful_transformation
    from openvino.frontend.pytorch.patch_model import __make_16bit_traceable as keep_16_bits

    heads, groups = config.num_attention_heads, config.num_key_value_heads
    width, caches = config.hidden_size // heads, 2 * config.num_hidden_layers

    class Cached(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = _lean(weights, config)

        def forward(self, ids: Any, positions: Any, mask: Any, beam: Any, *past: Any) -> Any:
            kept: list[Any] = []

            def attend(index: int, q: Any, k: Any, v: Any) -> Any:
                k = torch.cat((past[2 * index].index_select(0, beam), k), 2)
                v = torch.cat((past[2 * index + 1].index_select(0, beam), v), 2)
                kept.extend((k, v))
                repeated = (
                    x[:, :, None].expand(-1, -1, heads // groups, -1, -1).reshape(1, heads, -1, width) for x in (k, v)
                )
                return F.scaled_dot_product_attention(q, *repeated, attn_mask=mask)

            return (self.model(ids, positions, attend), *kept)

    module = Cached()
    keep_16_bits(module)
    past = [torch.zeros(1, groups, 4, width) for _ in range(caches)]
    example = (torch.zeros(1, 3, dtype=torch.long), torch.arange(4, 7), torch.zeros(1, 1, 3, 7),
               torch.zeros(1, dtype=torch.int32), *past)  # fmt: skip
    with torch.no_grad():
        model = ov.convert_model(module, example_input=example)
    shapes = {"ids": [1, -1], "positions": [-1], "mask": [1, 1, -1, -1], "beam": [1]}
    shapes |= {f"past.{i}": [1, groups, -1, width] for i in range(caches)}
    for port, name in zip(model.inputs, shapes, strict=True):
        port.get_tensor().set_names({name})
    for port, name in zip(model.outputs, ["scores", *(f"present.{i}" for i in range(caches))], strict=True):
        port.get_tensor().set_names({name})
    model.reshape({name: ov.PartialShape(shape) for name, shape in shapes.items()})
    apply_make_stateful_transformation(model, {f"past.{i}": f"present.{i}" for i in range(caches)})
    for node in model.get_ops():
        if node.get_type_name() == "ReadValue":  # each cache starts empty
            zero = ops.constant(0.0, dtype=node.get_output_element_type(0))
            node.set_arguments([ops.broadcast(zero, ops.constant([1, groups, 0, width])).output(0)])
    model.validate_nodes_and_infer_types()
    ov.save_model(model, path, compress_to_fp16=False)


def quantize_openvino(source: Path, form: str, path: Path) -> None:
    """All matrices, those of 4 bits in groups of 32; without data."""
    import nncf
    import openvino as ov

    mode = nncf.CompressWeightsMode(OPENVINO_MODES[form].lower())
    options: dict[str, Any] = {} if form == "q8_0" else {"group_size": 32, "ratio": 1.0, "all_layers": True}
    model = nncf.compress_weights(ov.Core().read_model(source), mode=mode, **options)
    ov.save_model(model, path, compress_to_fp16=False)


def prepare_openvino(path: Path, ids: Any, count: int, threads: int) -> Prepared:
    """The state grows by one position a step, and starts again after ``SPARE`` of them."""
    import numpy as np
    import openvino as ov

    options = {"INFERENCE_PRECISION_HINT": "bf16", "KV_CACHE_PRECISION": "bf16", "PERFORMANCE_HINT": "LATENCY",
               "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}  # fmt: skip
    request = ov.Core().compile_model(path, "CPU", options).create_infer_request()
    past, steps = len(ids) - count, SPARE

    def infer(tokens: Any, begin: int) -> Any:
        positions = np.arange(begin, begin + len(tokens))
        hidden = np.arange(begin + len(tokens))[None] > positions[:, None]
        mask = np.where(hidden, -np.inf, 0).astype(np.float32)[None, None]
        inputs = {"ids": tokens[None], "positions": positions, "mask": mask, "beam": np.zeros(1, np.int32)}
        return request.infer(inputs, share_inputs=True, share_outputs=True)

    def fill() -> None:
        nonlocal steps
        if not past or steps >= SPARE:
            request.reset_state()
            steps = 0
            if past:
                infer(ids[:past], 0)

    def run() -> float:
        nonlocal steps
        fill()
        began = time.perf_counter()
        infer(ids[past:], past + steps)
        took = (time.perf_counter() - began) * 1e3
        steps += 1 if past else 0
        return took

    def result() -> Any:
        nonlocal steps
        steps = SPARE
        fill()
        steps = SPARE  # what follows starts anew
        return infer(ids[past:], past)[0].copy()

    return run, result

"""Prompt and continuation of a small Qwen2, as a user goes the way: from IR files and a checkpoint to tokens."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import npu_compiler
import numpy as np
import pytest
import torch
from npu_compiler import compile_ir, is_op_supported, partition
from npu_runtime import Backend, CPUBackend, CUDABackend, DAGExecutor, MetalBackend
from npu_runtime.buffer import NPUBuffer
from npu_runtime.device import Device
from npu_runtime.executor import Executor
from npu_runtime.weight_loader import load_weights
from safetensors.torch import save_file
from torch import Tensor, nn
from torch_ir import extract_ir

from tests.models.zoo.decoding import DecodeStep, Prefill, empty_caches, prompt_inputs, step_inputs, tiny_qwen2
from tests.support import numbers
from tests.support.devices import device_of, shares_memory

PROMPT = torch.tensor([[7, 3, 99, 150, 8, 42, 2]])
LENGTH, TOKENS = 24, 12
INPUTS = ("input_ids", "attention_mask", "position_ids", "cache_position")
OUTPUTS = ["logits", "key_0", "value_0", "key_1", "value_1"]


@pytest.fixture(params=["chosen", "metal"])
def device(request: pytest.FixtureRequest) -> Device:
    return device_of(request.param)


@pytest.fixture
def backend(device: Device, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """As users write it: MetalBackend() is the emulated one where the environment says so."""
    if device.kind == "cpu":
        return CPUBackend()
    if device.kind.startswith("cuda"):
        return CUDABackend()
    if device.name != Device().name:
        monkeypatch.setenv("NPU_EMULATE_METAL", "1")
    return MetalBackend()


@pytest.fixture(scope="module")
def qwen() -> Any:
    return tiny_qwen2()


@pytest.fixture(scope="module")
def folder(qwen: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wrappers' IRs, and a checkpoint whose names lack the wrappers' prefix."""
    folder = tmp_path_factory.mktemp("qwen")
    extract_ir(Prefill(qwen), prompt_inputs(PROMPT), output_names=OUTPUTS).save(folder / "prefill.json")
    step = step_inputs(qwen, 0, 0, empty_caches(qwen, LENGTH))
    extract_ir(DecodeStep(qwen), step, output_names=OUTPUTS).save(folder / "decode.json")
    save_file({name: tensor.clone() for name, tensor in qwen.state_dict().items()}, folder / "model.safetensors")
    return folder


@pytest.fixture(scope="module")
def wanted(qwen: Any) -> list[int]:
    """PyTorch's own greedy continuation, without caches."""
    tokens = PROMPT[0].tolist()
    with torch.no_grad():
        for _ in range(TOKENS):
            tokens.append(int(qwen(torch.tensor([tokens])).logits[0, -1].argmax()))
    return tokens[PROMPT.shape[1] :]


def buffers(values: tuple[Tensor, ...], device: Device) -> dict[str, NPUBuffer]:
    return {n: NPUBuffer.from_numpy(v.numpy(), device) for n, v in zip(INPUTS, values, strict=False)}


def check_prefill(qwen: Any, outputs: Any) -> None:
    with torch.no_grad():
        own = Prefill(qwen)(*prompt_inputs(PROMPT))
        ids, mask, *positions = prompt_inputs(PROMPT)
        exact = Prefill(copy.deepcopy(qwen).double())(ids, mask.double(), *positions)
    for name, wide, narrow in zip(OUTPUTS, exact, own, strict=True):
        numbers.check(np.asarray(outputs[name]), wide, narrow, name)


def test_prefill_with_the_inputs_that_matter(qwen: Any, folder: Path, device: Device) -> None:
    """``cache_position`` is read by no node, and may be left out."""
    program = compile_ir(str(folder / "prefill.json"))
    executor = Executor(program, device)
    weights = load_weights(str(folder / "model.safetensors"), program, device)
    inputs = buffers(prompt_inputs(PROMPT), device)
    check_prefill(qwen, executor.run(inputs=inputs, weights=weights))
    del inputs["cache_position"]
    check_prefill(qwen, executor.run(inputs=inputs, weights=weights))


@pytest.mark.parametrize("host", [None, "softmax", "silu", "embedding"])
def test_prefill_in_parts(qwen: Any, folder: Path, host: str | None, backend: Backend) -> None:
    def supported(op: str, attrs: dict[str, Any] | None = None) -> bool:
        return (host is None or host not in op) and is_op_supported(op, attrs)

    ir = json.loads((folder / "prefill.json").read_text())
    dag = DAGExecutor(partition(ir, supported), backend)
    assert (len(dag.npu_programs) > 1) == (host in ("softmax", "silu"))
    dag.load_weights({name: tensor.numpy() for name, tensor in qwen.state_dict().items()})
    result = dag.execute(inputs=dict(zip(INPUTS, (t.numpy() for t in prompt_inputs(PROMPT)), strict=True)))
    check_prefill(qwen, result)
    logits = list(result.values())[0]  # noqa: RUF015 - as users write it
    with torch.no_grad():
        assert logits[0, -1, :].argmax() == int(qwen(PROMPT).logits[0, -1].argmax())


def step_buffers(qwen: Any, token: int, position: int, device: Device) -> dict[str, NPUBuffer]:
    return buffers(step_inputs(qwen, token, position, empty_caches(qwen, LENGTH))[:4], device)


@pytest.mark.parametrize("holder", ["weights", "session"])
def test_tokens_one_by_one(qwen: Any, folder: Path, wanted: list[int], holder: str, device: Device) -> None:
    """Nobody passes a cache; what is held grows by every token."""
    program = compile_ir(folder / "decode.json")
    executor = Executor(program, device)
    weights = load_weights(folder / "model.safetensors", program, device)
    target = executor if holder == "weights" else executor.session()
    tokens, generated = PROMPT[0].tolist(), []
    for position in range(len(tokens) + TOKENS - 1):
        outputs = target.run(step_buffers(qwen, tokens[position], position, device), weights)
        token = int(outputs["logits"].to_numpy(spec=...).argmax())
        if position + 1 >= PROMPT.shape[1]:
            generated.append(token)
            tokens.append(token)
    assert generated == wanted


@pytest.mark.parametrize("host", [("softmax",), ("index_copy", "embedding")], ids="+".join)
def test_tokens_one_by_one_in_parts(
    qwen: Any, folder: Path, wanted: list[int], host: tuple[str, ...], device: Device, backend: Backend
) -> None:
    """The same with a DAGExecutor, after a prompt in parts whose keys and values it gets to hold.

    Caches are copied only where the host updates them in memory that it does not share with the device.
    """

    def supported(op: str, attrs: dict[str, Any] | None = None) -> bool:
        return not any(name in op for name in host) and is_op_supported(op, attrs)

    prefill, decode = (json.loads((folder / name).read_text()) for name in ("prefill.json", "decode.json"))
    state = {name: tensor.numpy() for name, tensor in qwen.state_dict().items()}
    prompt = dict(zip(INPUTS, (t.numpy() for t in prompt_inputs(PROMPT)), strict=True))
    outputs = DAGExecutor(partition(prefill, supported), backend).execute(prompt, state)
    dag = DAGExecutor(partition(decode, supported), backend)
    dag.load_weights(state)
    for cache, name in zip([t for t in decode["graph_inputs"] if t["name"] not in INPUTS], OUTPUTS[1:], strict=True):
        held = np.zeros(cache["shape"], np.float32)
        held[:, :, : PROMPT.shape[1]] = outputs[name]
        dag.set_state(cache["name"], held)
    generated = [int(outputs["logits"][0, -1, :].argmax())]
    for position in range(PROMPT.shape[1], PROMPT.shape[1] + TOKENS - 1):
        values = step_inputs(qwen, generated[-1], position, empty_caches(qwen, LENGTH))[:4]
        result = dag.execute(inputs=dict(zip(INPUTS, (t.numpy() for t in values), strict=True)))
        generated.append(int(list(result.values())[0][0, -1, :].argmax()))  # noqa: RUF015 - as users write it
        copied = any(name.startswith(("past", "index_copy")) for name in dag.copied)
        assert copied == ("index_copy" in host and not shares_memory(device))
    assert generated == wanted


def test_prompt_at_once_then_tokens(qwen: Any, folder: Path, wanted: list[int], device: Device) -> None:
    """The prompt's keys and values become what the decoding session holds."""
    prefill, decode = (npu_compiler.compile(folder / name) for name in ("prefill.json", "decode.json"))
    outputs = Executor(prefill, device).run(
        buffers(prompt_inputs(PROMPT), device), load_weights(folder / "model.safetensors", prefill, device)
    )
    session = Executor(decode, device).session()
    weights = load_weights(folder / "model.safetensors", decode, device)
    caches = [s for s in decode.input_specs if s.name.startswith("past")]
    for cache, name in zip(caches, OUTPUTS[1:], strict=True):
        held = np.zeros(cache.shape, np.float32)
        held[:, :, : PROMPT.shape[1]] = outputs[name].to_numpy()
        session.set_state(cache.name, held)
    generated = [int(outputs["logits"][0, -1].argmax())]
    for position in range(PROMPT.shape[1], PROMPT.shape[1] + TOKENS - 1):
        logits = session.run(step_buffers(qwen, generated[-1], position, device), weights)["logits"]
        generated.append(int(logits.to_numpy(spec=decode.output_specs[0]).argmax()))
    assert generated == wanted


class One(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 3)

    def forward(self, anything: Tensor) -> Tensor:
        return self.linear(anything)


def test_names_of_a_model_with_one_input_and_one_output(tmp_path: Path, device: Device, backend: Backend) -> None:
    """Callers write ``input`` and ``output``, whatever the graph calls them."""
    torch.manual_seed(0)
    model, x = One().eval(), torch.randn(4, 5)
    ir = extract_ir(model, x, model_name="one")  # a bare tensor, a model with its weights
    ir.save(tmp_path / "one.json")
    save_file(model.state_dict(), tmp_path / "one.safetensors")
    npu_compiler.compile(str(tmp_path / "one.json")).save(str(tmp_path / "one.npubin"))
    program = npu_compiler.CompiledProgram.load(str(tmp_path / "one.npubin"))
    weights = load_weights(str(tmp_path / "one.safetensors"), program, device)
    buffer = NPUBuffer.from_numpy(x.numpy(), device, spec=program.input_specs[0])
    outputs = Executor(program, device).run(inputs={"input": buffer}, weights=weights)
    exact = copy.deepcopy(model).double()(x.double())
    numbers.check(outputs["output"].to_numpy(spec=program.output_specs[0]), exact, model(x), "output")
    dag = DAGExecutor(partition(ir.to_dict(), is_op_supported), backend)
    dag.load_weights(dict(model.state_dict()))
    numbers.check(dag.execute(inputs={"x": x.numpy()})["output"], exact, model(x), "output")

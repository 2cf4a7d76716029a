"""``npu quantize --prompt``: what quantisation changes in layers and results, measured without the model in memory."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import npu
import pytest
import torch
from npu.cli import main
from npu.commands.pretrained import build_pretrained
from npu.quantized.effects import measure
from npu_base.errors import InvalidValueError
from torch import Tensor, nn

from tests.models.zoo.language_models import causal, tokens
from tests.support.word_tokenizers import save_word_tokenizer

PROMPTS = [tokens(9), tokens(23)]


Seen = dict[str, list[tuple[Tensor, Tensor]]]


def outputs_of(model: nn.Module, prompts: list[list[int]]) -> tuple[Seen, list[Tensor]]:
    """The inputs and outputs of all linear layers and embeddings, and the logits."""
    seen: Seen = {}
    handles = [
        part.register_forward_hook(lambda _, args, out, name=name: seen.setdefault(name, []).append((args[0], out)))
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear | nn.Embedding)
    ]
    with torch.no_grad():
        logits = [model(input_ids=torch.tensor([prompt]), use_cache=False).logits[0] for prompt in prompts]
    for handle in handles:
        handle.remove()
    return seen, logits


def with_numbers_of(folder: Path, family: str, dtype: Any = None, **options: Any) -> Any:
    model = causal(family, **options)
    state = {name: torch.from_numpy(entry.dequantized()) for name, entry in npu.open_checkpoint(folder).items()}
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model


@pytest.mark.parametrize(
    ("family", "options"),
    [
        ("qwen2", {}), ("qwen2", {"tie_word_embeddings": True}), ("gemma2", {}), ("phi", {}),
        ("llama3", {"dtype": torch.bfloat16}),
    ],
    ids=lambda value: value if isinstance(value, str) else "-".join(map(str, value)) or "plain",
)  # fmt: skip
def test_it_is_what_both_models_say(family: str, options: dict[str, Any], tmp_path: Path) -> None:
    causal(family, **options).save_pretrained(tmp_path / "plain")
    assert main(["quantize", str(tmp_path / "plain"), "-o", str(tmp_path / "out"), "--group", "32"]) == 0
    checkpoints = [npu.open_checkpoint(tmp_path / name) for name in ("plain", "out")]
    effects = measure(build_pretrained(tmp_path / "plain", "meta"), *checkpoints, PROMPTS)

    ours, theirs = (with_numbers_of(tmp_path / name, family, **options) for name in ("plain", "out"))
    seen, logits = outputs_of(ours, PROMPTS)
    _, others = outputs_of(theirs, PROMPTS)
    p, q = (torch.cat(part).double().log_softmax(-1) for part in (logits, others))
    assert effects.tokens == len(p) == 32
    assert effects.divergence == pytest.approx(float((p.exp() * (p - q)).sum(-1).mean()), rel=1e-3)
    assert effects.agreement == pytest.approx(float((p.argmax(-1) == q.argmax(-1)).double().mean()))
    expected: dict[str, float] = {}
    for name, pairs in seen.items():
        power = error = 0.0
        for x, y in pairs:
            changed = theirs.get_submodule(name)(x)
            power, error = (
                power + float(y.double().square().sum()),
                error + float((changed - y).double().square().sum()),
            )
        key = f"{name}.weight" if f"{name}.weight" in checkpoints[1] else "model.embed_tokens.weight"  # the tied head
        if checkpoints[1][key].scheme is not None:
            layer = key.removesuffix(".weight")
            expected[layer] = min(expected.get(layer, math.inf), 10 * math.log10(power / error))
    assert effects.layers == pytest.approx(expected, rel=1e-3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("models") / "llama"
    causal("llama3").save_pretrained(target)
    save_word_tokenizer(target, 211)
    return target


def test_the_command(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = tmp_path / "prompts.txt"
    lines.write_text("w1 w2 w3\n\nw4 w5\n")
    arguments = ["quantize", str(folder), "--group", "32", "--prompts", str(lines)]
    assert main([*arguments, "-o", str(tmp_path / "a"), "--prompt", "w9 w8 w7 w6", "--report", "2"]) == 0
    shown = capsys.readouterr().out
    assert "on 9 tokens: KL divergence 0." in shown and "the same most likely token after " in shown
    assert "Outputs (dB)" in shown and shown.count("model.") == 2
    assert main([*arguments, "-o", str(tmp_path / "b"), "--bits", "8", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["on_prompts"]["tokens"] == 5 and 0 <= said["on_prompts"]["divergence"] < 0.01
    assert len(said["layers"]) == 16 and all(layer["output_snr_db"] > 30 for layer in said["layers"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"\n \n", "has no prompts; expected a text on each line"),
        (b"\xff\xfe", "is not text in UTF-8"),
        (None, "the file of prompts does not exist"),
    ],
)
def test_files_of_prompts_that_are_refused(
    text: bytes | None, message: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, out = tmp_path / "prompts.txt", tmp_path / "out"
    if text is not None:
        lines.write_bytes(text)
    assert main(["quantize", str(folder), "-o", str(out), "--group", "32", "--prompts", str(lines)]) == 1
    assert message in capsys.readouterr().err and not out.exists()


def test_prompts_need_a_tokenizer(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["-o", str(tmp_path / "out"), "--group", "32"]
    assert main(["quantize", str(folder), *arguments, "--prompt", ""]) == 1
    assert "a prompt has no tokens; got ''" in capsys.readouterr().err
    causal("llama3").save_pretrained(tmp_path / "plain")
    assert main(["quantize", str(tmp_path / "plain"), *arguments, "--prompt", "w1"]) == 1
    assert "prompts need a tokenizer, and" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_names_that_are_not_those_of_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Are refused before anything is written."""
    causal("gpt_neox").save_pretrained(tmp_path / "plain")
    save_word_tokenizer(tmp_path / "plain", 211)
    arguments = ["-o", str(tmp_path / "out"), "--group", "32", "--prompt", "w1"]
    assert main(["quantize", str(tmp_path / "plain"), *arguments]) == 1
    assert "has no weight 'lm_head.weight' of GPTNeoX" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_checkpoints_that_do_not_fit(folder: Path, tmp_path: Path) -> None:
    assert main(["quantize", str(folder), "-o", str(tmp_path / "out"), "--group", "32"]) == 0
    original, quantized = npu.open_checkpoint(folder), npu.open_checkpoint(tmp_path / "out")
    del original.entries["model.layers.1.mlp.up_proj.weight"]
    with pytest.raises(InvalidValueError, match=r"has no weight 'model.layers.1.mlp.up_proj.weight' of Llama"):
        measure(build_pretrained(folder, "meta"), original, quantized, PROMPTS)
    with pytest.raises(InvalidValueError, match="does not run on the prompts; got IndexError"):
        measure(build_pretrained(folder, "meta"), npu.open_checkpoint(folder), quantized, [[10**6]])

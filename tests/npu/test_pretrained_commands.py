"""Commands of ``npu`` on Hugging Face folders, and on names in the local Hugging Face cache."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import npu
import numpy as np
import pytest
import torch
from npu.cli import main
from npu.commands.hub import cache_folder, cached_model, is_model_name

from tests.models.zoo.language_models import causal, tokens

Run = Callable[..., str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """bert, a classifier; body, its checkpoint without the head; bare, without weights; vit, in bfloat16; qwen."""
    from transformers import BertConfig, BertForSequenceClassification, ViTConfig, ViTForImageClassification

    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
    bert = BertForSequenceClassification(BertConfig(vocab_size=50, **sizes)).eval()
    bert.save_pretrained(folder / "bert")
    bert.bert.save_pretrained(folder / "body")
    (folder / "bare").mkdir()
    for name in ("bare", "body"):
        shutil.copy(folder / "bert" / "config.json", folder / name)
    vit = ViTForImageClassification(ViTConfig(image_size=16, patch_size=8, **sizes)).to(torch.bfloat16)
    vit.save_pretrained(folder / "vit")
    causal("qwen2").save_pretrained(folder / "qwen")
    (folder / "nothing").mkdir()
    broken = json.loads((folder / "bert" / "config.json").read_text()) | {"num_attention_heads": 5}
    (folder / "broken").mkdir()
    (folder / "broken" / "config.json").write_text(json.dumps(broken))
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hub"))

    def call(*arguments: object, code: int = 0) -> str:
        assert main([str(argument) for argument in arguments]) == code
        printed = capsys.readouterr()
        if code == 0:
            return printed.out
        (line,) = printed.err.splitlines()
        assert line.startswith("Error: ")
        return line

    return call


def test_a_classifier(folder: Path, run: Run) -> None:
    from transformers import BertForSequenceClassification

    text = run("compile", "bert", "--input", "2,7", "--input", "attention_mask=2,7", "--device", "cpu")
    assert text.startswith("bert.npu: ")
    loaded = npu.load(folder / "bert.npu", "cpu")
    assert [(entry.name, entry.dtype) for entry in loaded.signature.inputs] == [
        ("input_ids", "int64"), ("attention_mask", "int64"),
    ]  # fmt: skip
    ids, mask = torch.randint(0, 50, (2, 7)), torch.ones(2, 7, dtype=torch.int64)
    result = loaded(ids, attention_mask=mask)
    logits = result["logits"] if isinstance(result, dict) else result.logits
    wanted = BertForSequenceClassification.from_pretrained(folder / "bert").eval()(ids, mask).logits
    torch.testing.assert_close(logits, wanted.detach(), rtol=1e-4, atol=1e-5)
    assert run("run", "bert.npu", "--device", "cpu").startswith("logits: float32[2, 2] ")
    assert run("run", "bert", "--input", "2,7", "--device", "cpu").startswith("logits: float32[2, 2] ")


def test_other_models_and_commands(run: Run) -> None:
    assert run("run", "vit", "--input", "1,3,16,16", "--device", "cpu").startswith("logits: bfloat16[1, 2] ")
    text = run("run", "qwen", "--input", "1,5", "--device", "cpu")
    assert text.startswith("logits: float32[1, 5, ") and len(text.splitlines()) == 1  # without caches
    assert run("plan", "bare", "--input", "1,5", "--text").startswith("program BertForSequenceClassification")
    assert "nodes run on the device, 100.0% of the arithmetic" in run("explain", "bare", "--input", "1,5")


def test_weights(folder: Path, run: Run) -> None:
    bert = ["--input", "1,5", "--device", "cpu"]
    weights = folder / "bert" / "model.safetensors"
    assert run("run", "bare", *bert, "--weights", weights) == run("run", "bert", *bert)
    assert run("run", "bare", *bert, "--random-weights") == run("run", "bare", *bert, "--random-weights")
    assert run("run", "bare", *bert, "--random-weights", "--seed", 1) != run("run", "bare", *bert, "--random-weights")
    error = run("run", "bare", *bert, code=1)
    assert "no model can be built from bare; " in error and "try --random-weights, or --weights FILE" in error
    error = run("run", "body", *bert, code=1)
    assert "does not have all weights of BertForSequenceClassification; got classifier.bias, classifier.weight" in error


def test_names_in_the_cache(folder: Path, run: Run) -> None:
    cached = folder / "hub" / "models--me--tiny-bert"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123\n")
    shutil.copytree(folder / "bert", cached / "snapshots" / "0123")
    shutil.copytree(folder / "vit", cached / "snapshots" / "4567")  # another revision
    bert = ["--input", "1,5", "--device", "cpu"]
    assert run("run", "me/tiny-bert", *bert) == run("run", "bert", *bert)
    assert run("compile", "me/tiny-bert", *bert, "-o", "x.npu").startswith("x.npu: ")
    assert run("compile", "me/tiny-bert", *bert).startswith("tiny-bert.npu: ")
    error = run("run", "me/large-bert", *bert, code=1)
    assert f"got 'me/large-bert'; looked in the current folder and in {folder / 'hub'}; expected" in error
    assert "nothing is downloaded" in error


def test_the_cache_is_where_the_libraries_have_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "huggingface" / "hub"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "huggingface" / "hub"
    monkeypatch.setenv("HF_HOME", "~/hf")
    assert cache_folder() == tmp_path / "hf" / "hub"
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    only = tmp_path / "own" / "models--gpt2" / "snapshots" / "abc"
    only.mkdir(parents=True)
    assert cached_model("gpt2") is None  # without a config.json, as of an aborted download
    (only / "config.json").write_text("{}")
    assert cached_model("gpt2") == only
    assert is_model_name("gpt2") and is_model_name("Qwen/Qwen2.5-0.5B")
    assert not any(map(is_model_name, ("a/b/c", "../x", ".", "a b", "x/..", "")))


def test_code_in_a_folder_is_not_run(folder: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor is the user asked whether it should be, which would wait for an answer."""
    (folder / "code").mkdir()
    (folder / "code" / "own.py").write_text("raise SystemExit('the code was run')\n")
    names = {"AutoConfig": "own.Config", "AutoModel": "own.Model", "AutoModelForCausalLM": "own.Model"}
    config = {"model_type": "own", "auto_map": names, "architectures": ["Model"]}
    (folder / "code" / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("the user is asked"))
    assert "no model can be built from code" in run("compile", "code", "--input", "1,5", code=1)
    assert "no model can be built from code" in run("generate", "code", "--ids", "1", "--no-cache", code=1)


@pytest.mark.parametrize("name", ["pipeline", "AutoConfig", "BertTokenizer", "Nothing"])
def test_architectures_that_are_no_models(folder: Path, run: Run, tmp_path: Path, name: str) -> None:
    """Then it is the model without a head."""
    shutil.copytree(folder / "bert", tmp_path / "bert")
    config = json.loads((tmp_path / "bert" / "config.json").read_text()) | {"architectures": [name]}
    (tmp_path / "bert" / "config.json").write_text(json.dumps(config))
    assert "program BertModel" in run("plan", tmp_path / "bert", "--input", "1,5", "--text")


BROKEN = {
    "no JSON": ("config.json", b"{", "no model can be built from"),
    "a list": ("config.json", b"[1]", "no model can be built from"),
    "another kind": ("config.json", b'{"model_type": "unheard-of"}', "no model can be built from"),
    "cut weights": ("model.safetensors", None, "no model can be built from"),
    "no weights": ("model.safetensors", b"", "no model can be built from"),
}


@pytest.mark.parametrize(("file", "data", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_folders(folder: Path, run: Run, tmp_path: Path, file: str, data: bytes | None, message: str) -> None:
    shutil.copytree(folder / "bert", tmp_path / "bert")
    path = tmp_path / "bert" / file
    path.write_bytes(path.read_bytes()[:2000] if data is None else data)
    assert message in run("run", tmp_path / "bert", "--input", "1,5", code=1)


MISTAKES = {
    "no input": (["compile", "bert"], "forward takes input_ids, attention_mask, token_type_ids"),
    "what to try": (["compile", "bert"], "try --input input_ids=1,128"),
    "an image": (["compile", "vit"], "try --input pixel_values=1,3,16,16"),
    "sizes": (["compile", "vit", "--input", "1,3,8,8"], "got pixel_values bfloat16[1, 3, 8, 8]"),
    "unknown": (["compile", "vit", "--input", "1,3,16,16", "--input", "mask=1,5"], "(there is no argument 'mask')"),
    "no model": (["compile", "nothing"], "got 'nothing', a folder without config.json"),
    "broken": (["compile", "broken", "--input", "1,5"], "no model can be built from broken"),
}


@pytest.mark.parametrize(("arguments", "message"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes(run: Run, arguments: list[str], message: str) -> None:
    assert message in run(*arguments, code=1)


def test_quantised_folders(run: Run, tmp_path: Path) -> None:
    """Run with the numbers that their weights stand for."""
    model = causal("llama3", tie_word_embeddings=True)
    config = {**model.config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    npu.quantize(model, group=32).save(tmp_path / "small", config)
    entries = npu.open_checkpoint(tmp_path / "small").items()
    model.load_state_dict({name: torch.from_numpy(entry.dequantized()) for name, entry in entries}, strict=False)
    np.save(tmp_path / "ids.npy", np.array([tokens(7)]))
    run("run", tmp_path / "small", "--input", f"input_ids={tmp_path / 'ids.npy'}", "-o", tmp_path / "out")
    with torch.no_grad():
        expected = model(torch.tensor([tokens(7)])).logits
    results = torch.from_numpy(np.load(tmp_path / "out" / "logits.npy"))
    torch.testing.assert_close(results, expected, rtol=1e-4, atol=1e-4)
    (tmp_path / "small" / "model.safetensors").unlink()
    assert "the folder has no weights" in run("run", tmp_path / "small", "--input", "input_ids=1,7", code=1)

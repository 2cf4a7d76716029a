"""``npu generate`` and models in folders."""

from __future__ import annotations

import io
import json
import os
import runpy
from pathlib import Path
from typing import Any

import npu
import pytest
import torch
from npu.cli import main
from npu.generation.pretrained import FolderSource
from npu_runtime import InvalidValueError, MissingWeightError
from safetensors.torch import load_file, save_file

from tests.models.zoo.language_models import VOCABULARY, causal, continued, tokens
from tests.support.devices import chosen_device
from tests.support.word_tokenizers import save_word_tokenizer

KIND = os.environ.get("NPU_TEST_DEVICE", "cpu")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def qwen() -> Any:
    return causal("qwen2")


@pytest.fixture(scope="module")
def folder(qwen: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("qwen")
    qwen.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def olmo() -> Any:
    return causal("olmo")


@pytest.fixture(scope="module")
def with_tokenizer(olmo: Any, folder: Path) -> Path:
    target = folder.parent / "with_tokenizer"
    olmo.save_pretrained(target)
    save_word_tokenizer(target, VOCABULARY)
    return target


def ids(numbers: list[int]) -> str:
    return ",".join(map(str, numbers))


def test_tokens_of_a_folder(qwen: Any, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["generate", str(folder), "--ids", ids(tokens(19)), "--tokens", "6", "--capacity", "64"]
    assert main([*arguments, "--device", KIND, "--stats"]) == 0
    shown = capsys.readouterr()
    assert shown.out == ", ".join(map(str, continued(qwen, tokens(19), 6))) + "\n"
    for stage in ("process start", "import", "extract", "compile", "load and prepare", "prompt", "after the first"):
        assert stage in shown.err
    assert "caches 0.0 MB for 64 tokens" in shown.err


def test_text(olmo: Any, with_tokenizer: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompt = " ".join(f"w{i}" for i in tokens(9))
    arguments = ["generate", str(with_tokenizer), "--prompt", prompt, "--device", KIND, "--capacity", "12"]
    assert main(arguments) == 0
    shown = capsys.readouterr()
    wanted = [f"w{i}" for i in continued(olmo, tokens(9), 4)]
    assert shown.out.split() == wanted
    assert "All 12 tokens of the capacity are used" in shown.err
    assert main([*arguments, "--stop", f" {wanted[2]}"]) == 0
    assert capsys.readouterr().out.split() == wanted[:2]


def test_a_conversation(
    olmo: Any, with_tokenizer: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """examples/chat.py, whose prompts without a template are what was said, a line for each."""
    chat = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "chat.py"))
    arguments = ["chat.py", str(with_tokenizer), "--temperature", "0", "--tokens", "4", "--device", KIND]
    monkeypatch.setattr("sys.argv", [*arguments, "--capacity", "64"])
    monkeypatch.setattr("sys.stdin", io.StringIO("w5 w6 w7\nw9\n\n"))
    assert chat["main"]() == 0
    first = continued(olmo, [5, 6, 7], 4)
    second = continued(olmo, [5, 6, 7, *first, 9], 4)
    assert capsys.readouterr().out.split() == [f"w{i}" for i in [*first, *second]]


def test_programs_are_kept(
    qwen: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The second start builds no model; one with other settings or a damaged file does."""
    arguments = ["generate", str(folder), "--ids", ids(tokens(5)), "--tokens", "4", "--device", KIND]
    built: list[Any] = []
    build = FolderSource._built
    monkeypatch.setattr(FolderSource, "_built", lambda self: (built.append(1), build(self))[1])
    wanted = ", ".join(map(str, continued(qwen, tokens(5), 4))) + "\n"

    def runs(*more: str) -> bool:
        built.clear()
        assert main([*arguments, *more]) == 0
        assert capsys.readouterr().out == wanted
        return bool(built)

    assert runs() and not runs()
    kept = sorted((tmp_path / "cache" / "npu").iterdir())
    assert [path.suffix for path in kept] == [".npubin", ".npubin", ".json"] or len(kept) == 2
    assert runs("--capacity", "40") and not runs("--capacity", "40")
    assert runs("--no-cache") and runs("--cache", str(tmp_path / "other")) and (tmp_path / "other").is_dir()
    for path in kept:
        path.write_bytes(path.read_bytes()[:40])
    assert runs() and not runs()


def test_buffers_are_found_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a model on the meta device come from building it again; further programs take them over."""
    from torch_ir import extract

    asked: list[list[str]] = []
    recover = extract.recover_buffers
    monkeypatch.setattr(
        extract, "recover_buffers", lambda model, names: (asked.append(names), recover(model, names))[1]
    )
    source = FolderSource(folder, None, None, {})
    first, second = source.extract(1, 1, 16), source.extract(1, 4, 16)
    assert len(asked) == 2 and asked[0] and not asked[1]
    name = "model.model.rotary_emb.inv_freq"
    assert torch.equal(first.constants[name], second.constants[name])


def test_samplers_are_kept(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Another temperature is the same program, another top-k is not."""
    from npu.generation import draw

    arguments = ["generate", str(folder), "--ids", "1,2,3", "--tokens", "4", "--capacity", "16", "--device", KIND]
    made: list[Any] = []
    extract = draw.extract_draw
    monkeypatch.setattr(draw, "extract_draw", lambda *rules: (made.append(rules), extract(*rules))[1])
    for options, count in ((["1.0"], 1), (["1.0"], 1), (["0.5", "--seed", "3"], 1), (["1.0", "--top-k", "5"], 2)):
        assert main([*arguments, "--temperature", *options]) == 0
        assert len(made) == count
    first, second, *_ = capsys.readouterr().out.splitlines()
    assert first == second


def test_another_dtype(folder: Path) -> None:
    """The files hold float32: transformers reads and casts them."""
    made = npu.Generator.from_pretrained(folder, dtype="bfloat16", capacity=32, buckets=(1,), device=chosen_device())
    assert made.generate(tokens(3), 2).finish == "length"
    assert made.logits(tokens(3)).dtype.name == "bfloat16"
    with pytest.raises(InvalidValueError, match="dtype is not supported"):
        npu.Generator.from_pretrained(folder, dtype="int8")


@pytest.mark.parametrize(
    ("family", "changes"),
    [("gpt2", {}), ("mixtral", {}), ("gpt_neox", {}), ("qwen2", {"tie_word_embeddings": True})],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_other_names_and_forms_in_files(family: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """Experts in a file are one by one; a tied weight is there once."""
    model = causal(family, **changes)
    model.save_pretrained(tmp_path)
    made = npu.Generator.from_pretrained(tmp_path, capacity=32, buckets=(1,), device=chosen_device())
    assert made.generate(tokens(5), 4).tokens == continued(model, tokens(5), 4)


def test_the_end_of_a_text(folder: Path, qwen: Any, tmp_path: Path) -> None:
    """As the model's files say, unless the caller says otherwise."""
    wanted = continued(qwen, tokens(19), 8)
    stop = next(t for i, t in enumerate(wanted) if i > 0 and t not in wanted[:i])
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = json.loads((folder / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text(json.dumps({**settings, "eos_token_id": [stop, 3]}))
    made = npu.Generator.from_pretrained(tmp_path, capacity=32, buckets=(1,), device=chosen_device())
    assert made.stop_tokens == {stop, 3}
    found = made.generate(tokens(19), 8)
    assert (found.tokens, found.finish) == (wanted[: wanted.index(stop)], "stop")
    assert made.generate(tokens(19), 8, stop_tokens=()).tokens == wanted


MISTAKES = [
    ([], "one prompt is required; got neither; expected either --prompt or --ids"),
    (["--prompt", "a", "--ids", "1"], "one prompt is required; got both; expected either --prompt or --ids"),
    (["--prompt", "a"], "a text prompt needs a tokenizer"),
    (["--ids", "1,x"], "--ids must be numbers separated by commas; got '1,x'"),
    (["--ids", "5,,2"], "--ids must be numbers separated by commas; got '5,,2'"),
    (["--ids", ""], "the prompt is empty"),
    (["--ids", "999"], "not in the vocabulary; got 999"),
    (["--ids", "1 2 3", "--capacity", "2"], "longer than the capacity"),
    (["--ids", "1", "--capacity", "5000"], "the capacity is out of range; got 5000; expected 1 to 256"),
    (["--ids", ",".join(["1"] * 257)], "too long for the model; got 257 tokens; expected at most 256\n"),
    (["--ids", "1", "--top-p", "2", "--capacity", "8"], "top_p is out of range"),
    (["--prompt", "a", "--chat"], "--chat needs a tokenizer with a chat template"),
    (["--ids", "1", "--chat"], "--chat needs a text; got --ids; expected --prompt"),
]


@pytest.mark.parametrize(("arguments", "message"), MISTAKES, ids=[" ".join(a) for a, _ in MISTAKES])
def test_mistakes(folder: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(folder), "--device", KIND, *arguments]) == 1
    shown = capsys.readouterr().err
    assert shown.startswith("Error: ") and message in shown


def test_chats_need_a_template(
    olmo: Any, with_tokenizer: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chat = ["--prompt", "w5", "--chat", "--tokens", "2", "--capacity", "16", "--device", KIND]
    assert main(["generate", str(with_tokenizer), *chat]) == 1
    assert f"{with_tokenizer} has a tokenizer without a chat template" in capsys.readouterr().err
    olmo.save_pretrained(tmp_path)
    template = "{% for message in messages %}w1 {{ message['content'] }} w2{% endfor %}"
    save_word_tokenizer(tmp_path, VOCABULARY, template)
    assert main(["generate", str(tmp_path), *chat]) == 0
    assert capsys.readouterr().out.split() == [f"w{i}" for i in continued(olmo, [1, 5, 2], 2)]
    chat.remove("--chat")
    assert main(["generate", str(tmp_path), *chat]) == 0  # as if --chat was there
    assert capsys.readouterr().out.split() == [f"w{i}" for i in continued(olmo, [1, 5, 2], 2)]
    assert main(["generate", str(tmp_path), *chat, "--raw"]) == 0
    assert capsys.readouterr().out.split() == [f"w{i}" for i in continued(olmo, [5], 2)]
    save_word_tokenizer(tmp_path, VOCABULARY, "{{ raise_exception('no such role') }}")
    assert main(["generate", str(tmp_path), *chat]) == 1
    error = capsys.readouterr().err
    assert "the chat template of" in error and "no such role; try --raw" in error and len(error.splitlines()) == 1
    assert main(["generate", str(tmp_path), *chat, "--raw"]) == 0


def test_the_end_of_the_positions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where the model itself can no more, nothing suggests a larger capacity."""
    causal("qwen2", max_position_embeddings=8).save_pretrained(tmp_path)
    assert main(["generate", str(tmp_path), "--ids", "1,2,3", "--device", KIND]) == 0
    shown = capsys.readouterr().err
    assert "All 8 positions of the model are used." in shown and "--capacity" not in shown


def test_no_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["generate", str(tmp_path), "--ids", "1"]) == 1
    assert "does not contain a model; got no config.json; expected a folder with config.json" in capsys.readouterr().err


def test_weights_that_are_missing(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text((folder / "config.json").read_text())
    made = npu.Generator.from_pretrained(tmp_path, capacity=16, device=chosen_device())
    with pytest.raises((OSError, InvalidValueError)):
        made.generate([1], 1)
    assert torch.get_default_dtype() == torch.float32
    tensors = load_file(folder / "model.safetensors")
    gone = next(name for name in tensors if "down_proj" in name)
    save_file(
        {name: t for name, t in tensors.items() if name != gone}, tmp_path / "model.safetensors", {"format": "pt"}
    )
    with pytest.raises(MissingWeightError, match="down_proj"):
        made.generate([1], 1)


@pytest.mark.parametrize("change", [{"num_attention_heads": 0}, {"dtype": "float7"}, {"model_type": "nothing"}])
def test_a_configuration_that_makes_no_model(
    folder: Path, tmp_path: Path, change: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    assert main(["generate", str(tmp_path), "--ids", "1", "--capacity", "8"]) == 1
    assert capsys.readouterr().err.startswith("Error: ")

"""``npu chat``: its conversation is that of the model, and only what is new of it is computed."""

from __future__ import annotations

import io
import os
import subprocess
from pathlib import Path
from typing import Any

import npu
import pytest
from npu.cli import main
from npu.generation.run import Run

from tests.models.zoo.language_models import VOCABULARY, causal, continued
from tests.support.commands import script
from tests.support.devices import chosen_device
from tests.support.word_tokenizers import save_word_tokenizer

KIND = os.environ.get("NPU_TEST_DEVICE", "cpu")
TEMPLATE = (
    "{% for m in messages %}{{ {'user': 'w1', 'assistant': 'w2', 'system': 'w3'}[m['role']] }} {{ m['content'] }} w4 "
    "{% endfor %}{% if add_generation_prompt %}w2{% endif %}"
)


@pytest.fixture(scope="module")
def model() -> Any:
    return causal("olmo")


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    model.save_pretrained(folder / "model")
    save_word_tokenizer(folder / "model", VOCABULARY, TEMPLATE)
    return folder


class Talk:
    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._monkeypatch, self._capsys = folder, monkeypatch, capsys

    def __call__(self, said: str | io.TextIOBase, *options: object, code: int = 0) -> tuple[list[str], str]:
        """The lines of answers, and the notices."""
        self._monkeypatch.setattr("sys.stdin", io.StringIO(said) if isinstance(said, str) else said)
        arguments = ["chat", self.folder / "model", "--device", KIND, "--cache", self.folder / "programs"]
        arguments += ["--tokens", 4, "--capacity", 64, *options]  # of two, the last one counts
        assert main([str(argument) for argument in arguments]) == code
        printed = self._capsys.readouterr()
        return printed.out.splitlines(), printed.err


@pytest.fixture
def talk(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    return Talk(folder, monkeypatch, capsys)


def words(tokens: list[int]) -> str:
    return " ".join(f"w{i}" for i in tokens)


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The number of tokens of each run of a step."""
    counts: list[int] = []
    step = Run._step

    def counted(self: Run, rows: int, ids: Any, position: int, valid: int) -> Any:
        counts.append(valid)
        return step(self, rows, ids, position, valid)

    monkeypatch.setattr(Run, "_step", counted)
    return counts


def test_a_conversation(model: Any, talk: Talk, computed: list[int]) -> None:
    lines, notes = talk("w5 w6 w7\n\nw9\n/stats\n")
    first = continued(model, [1, 5, 6, 7, 4, 2], 4)
    second = continued(model, [1, 5, 6, 7, 4, 2, *first, 4, 1, 9, 4, 2], 4)
    assert lines == [words(first), words(second)]
    # The message of 6; 3 of the answer, whose last token the caches lack; that one and 5 new ones; 3 again.
    assert sum(computed) == 6 + 3 + 1 + 5 + 3
    assert "prompt: 6 tokens (" in notes and "9 from the caches; answer: 4 tokens (" in notes
    assert "context: 19 of 64 tokens" in notes
    assert "The answer was stopped after 4 tokens; try a larger --tokens." in notes


def test_reset_and_the_system(model: Any, talk: Talk) -> None:
    once = words(continued(model, [3, 8, 4, 1, 5, 4, 2], 4))
    lines, notes = talk("w5\n/reset\n/stats\nw5\n/help\n/frobnicate\n/quit\nw5\n", "--system", "w8")
    assert lines == [once, once]
    assert "Nothing has been said yet." in notes and "There is no command /frobnicate." in notes
    assert notes.count("/reset   start a new conversation") == 2


def test_without_the_template(model: Any, talk: Talk) -> None:
    first = continued(model, [5, 6], 4)
    lines, _ = talk("w5 w6\nw9\n", "--raw")
    assert lines == [words(first), words(continued(model, [5, 6, *first, 9], 4))]


def test_a_message_may_begin_with_a_slash(talk: Talk) -> None:
    lines, notes = talk("/w5 w6 is a path\n")
    assert len(lines) == 1 and "There is no command" not in notes


@pytest.mark.parametrize("said", ['"""w5\nw6\n  w7"""\n', '"""\nw5 w6\nw7\n"""\n', '"""w5 w6 w7"""\n', '"""w5\nw6\nw7'])
def test_messages_of_several_lines(model: Any, talk: Talk, said: str) -> None:
    lines, _ = talk(said)
    assert lines == [words(continued(model, [1, 5, 6, 7, 4, 2], 4))]


def test_sampling_options(talk: Talk) -> None:
    """The same seed gives the same conversation, and its answers differ from one another."""
    options = ["--temperature", 1.5, "--top-k", 40, "--seed", 3]
    first, _ = talk("w5\n/reset\nw5\n", *options)
    again, _ = talk("w5\n/reset\nw5\n", *options)
    other, _ = talk("w5\n/reset\nw5\n", *options[:-1], 7)
    assert first == again and first != other and first[0] != first[1]


def test_the_end_of_the_context(talk: Talk) -> None:
    lines, notes = talk("w5 w6 w7\nw8 w9 w10 w11\n/reset\nw5\n", "--capacity", 8)
    assert len(lines) == 2
    assert "All 8 tokens of the capacity are used; try a larger --capacity. /reset starts a new conversation." in notes
    assert "The conversation has 17 tokens, and the context holds 8; try a larger --capacity. /reset starts" in notes


def test_answers_go_on_to_the_end_of_the_context(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("w5\n/stats\n"))
    assert main(["chat", str(folder / "model"), "--raw", "--capacity", "8", "--device", KIND, "--no-cache"]) == 0
    printed = capsys.readouterr()
    assert len(printed.out.split()) == 8
    assert "All 8 tokens of the capacity are used" in printed.err and "context: 8 of 8 tokens" in printed.err


def interrupted_after(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """As Ctrl-C does once, while the step of this number runs."""
    calls = iter(range(10**6))
    step = Run._step

    def interrupted(self: Run, *arguments: Any) -> Any:
        results = step(self, *arguments)
        if next(calls) == count:
            raise KeyboardInterrupt
        return results

    monkeypatch.setattr(Run, "_step", interrupted)


def test_an_interrupt_stops_the_answer_alone(model: Any, talk: Talk, monkeypatch: pytest.MonkeyPatch) -> None:
    interrupted_after(2, monkeypatch)
    lines, notes = talk("w5\nw9\n")
    part = continued(model, [1, 5, 4, 2], 2)
    assert lines == [words(part), words(continued(model, [1, 5, 4, 2, *part, 4, 1, 9, 4, 2], 4))]
    assert notes.splitlines()[0] == "Stopped."


def test_an_interrupt_before_the_answer_takes_the_message_back(
    model: Any, talk: Talk, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted_after(0, monkeypatch)
    lines, notes = talk("w7 w8 w9\nw5\n")
    assert lines == ["", words(continued(model, [1, 5, 4, 2], 4))]
    assert notes.splitlines()[0] == "Stopped."


def test_caches_can_be_trusted_after_an_interrupt(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was interrupted, reuse gives what a new generator gives: here, the reset of the caches."""
    generator = npu.Generator.from_pretrained(folder / "model", capacity=64, device=chosen_device())
    generator.generate([1, 2, 3, 4], 4)
    begin = type(generator)._begin

    def interrupted(self: Any, *arguments: Any, **options: Any) -> Any:
        begin(self, *arguments, **options)
        raise KeyboardInterrupt

    monkeypatch.setattr(type(generator), "_begin", interrupted)
    with pytest.raises(KeyboardInterrupt):
        generator.generate([9, 2, 3], 4)
    monkeypatch.undo()
    again = generator.generate([1, 2, 3, 4, 5], 4, reuse=True)
    assert again.reused_tokens == 0
    assert again.tokens == generator.generate([1, 2, 3, 4, 5], 4).tokens


@pytest.fixture
def interactive(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is typed: texts, and exceptions as keys raise them."""
    typed: list[Any] = []

    def read(prompt: str) -> str:
        assert prompt == ("... " if typed[0] == 'w6"""' else ">>> ")
        item = typed.pop(0)
        if isinstance(item, str):
            return item
        raise item

    monkeypatch.setattr("builtins.input", read)
    return typed


def test_at_a_terminal(
    folder: Path, interactive: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C at the prompt says how to end; Ctrl-D ends."""
    interactive += ['"""w5', 'w6"""', KeyboardInterrupt(), " /stats ", EOFError()]
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert (
        main(["chat", str(folder / "model"), "--device", KIND, "--tokens", "2", "--no-cache", "--capacity", "32"]) == 0
    )
    printed = capsys.readouterr()
    assert f"{folder / 'model'} on {chosen_device().kind} (" in printed.err
    assert "up to 32 tokens. /help lists commands." in printed.err
    assert "/quit or Ctrl-D ends the conversation." in printed.err and "context: " in printed.err
    assert interactive == []


def test_through_a_pipe(folder: Path) -> None:
    """The installed command: answers on stdout, notices on stderr, nothing to see of a prompt."""
    arguments = ["chat", folder / "model", "--device", "cpu", "--tokens", "3", "--capacity", "32", "--no-cache"]
    done = subprocess.run(
        [script("npu"), *map(str, arguments)], input="w5\n/quit\n", capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) == 3 and ">>>" not in done.stdout
    assert done.stderr == "The answer was stopped after 3 tokens; try a larger --tokens.\n"


def test_bytes_that_are_no_text(talk: Talk) -> None:
    for errors in ("strict", "surrogateescape"):
        (answer,), notices = talk(io.TextIOWrapper(io.BytesIO(b"w5 \xff\n"), encoding="utf-8", errors=errors))
        assert len(answer.split()) == 4 and "Error" not in notices


def test_mistakes(model: Any, talk: Talk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "top_p is out of range" in talk("w5\n", "--top-p", 2, code=1)[1]
    assert "the capacity is out of range" in talk("w5\n", "--capacity", 99999, code=1)[1]
    model.save_pretrained(tmp_path)
    assert main(["chat", str(tmp_path)]) == 1
    assert f"npu chat needs a tokenizer with a chat template; {tmp_path} has no tokenizer" in capsys.readouterr().err
    save_word_tokenizer(tmp_path, VOCABULARY)
    assert main(["chat", str(tmp_path), "--capacity", "16"]) == 1
    error = capsys.readouterr().err
    assert f"{tmp_path} has a tokenizer without a chat template; try --raw" in error and len(error.splitlines()) == 1
    assert main(["chat", str(tmp_path / "nothing")]) == 1
    assert main(["chat", "me/no-such-model"]) == 1
    assert "no model of this name in the Hugging Face cache" in capsys.readouterr().err

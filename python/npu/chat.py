"""The command ``npu chat``: a conversation whose history stays in the caches of the model."""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import sys
from typing import Any

from npu_base.errors import NPUError

from npu.generate import full_context, open_generator, sampling_options, templated

__all__ = ["Chat", "run"]

_HELP = """\
/reset   start a new conversation
/stats   show how fast the last answer was, and how full the context is
/help    show this
/quit    end; so does Ctrl-D. Ctrl-C stops an answer
\"\"\"      begin, or end, a message of several lines"""
_COMMAND = re.compile(r"/\w*")
_PROMPT, _MORE = ">>> ", "... "
_QUOTES = '"""'


def run(args: argparse.Namespace) -> int:
    if sys.stdin is None:  # the shell has closed it
        return 0

    def check(generator: Any) -> None:
        from npu.generation import Sampling

        if generator.tokenizer is None:
            templated(generator, [], "npu chat", args.folder)  # which says what is missing
        chat = Chat(generator, args, is_interactive=False)
        generator.encode(chat.tokens_of([*chat.messages, {"role": "user", "content": "Hello"}]))
        Sampling(**{name: value for name, value in sampling_options(args).items() if name != "stop_strings"})

    generator = open_generator(args, check, buckets=None)
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")  # one wrong byte is not the end of a conversation
    is_interactive = sys.stdin.isatty() and sys.stdout.isatty()
    if is_interactive:
        with contextlib.suppress(ImportError):  # it is not in every Python
            import readline  # noqa: F401 - lines can be edited, and earlier ones come back
        device = f"{generator.device.kind} ({generator.device.name})"
        print(f"{args.folder} on {device}, up to {generator.capacity} tokens. /help lists commands.", file=sys.stderr)
    return Chat(generator, args, is_interactive).run()


class Chat:
    """Reads messages from stdin and answers them on stdout, where notices would mix with answers: they go to stderr."""

    def __init__(self, generator: Any, args: argparse.Namespace, is_interactive: bool) -> None:
        self._generator, self._args, self._is_interactive = generator, args, is_interactive
        self._turn = 0
        self._last: Any = None  # the last answer, as a Generation
        self.messages: list[dict[str, str]] = []
        self._reset()

    def run(self) -> int:
        while True:
            try:
                text = self._read()
            except EOFError:
                if self._is_interactive:
                    print()
                return 0
            except KeyboardInterrupt:
                if not self._is_interactive:
                    raise
                print()
                self._note("/quit or Ctrl-D ends the conversation.")
                continue
            if _COMMAND.fullmatch(text):
                if text == "/quit":
                    return 0
                self._command(text)
            elif text:
                self._answer(text)

    def _read(self) -> str:
        """A line, or the lines between quotes. A message that the input ends in is complete."""
        text = self._line(_PROMPT).strip()
        if not text.startswith(_QUOTES):
            return text
        lines = [text.removeprefix(_QUOTES)]
        with contextlib.suppress(EOFError):
            while not lines[-1].rstrip().endswith(_QUOTES):
                lines.append(self._line(_MORE))
        return "\n".join(lines).rstrip().removesuffix(_QUOTES).strip()

    def _line(self, prompt: str) -> str:
        return input(prompt if self._is_interactive else "")

    def tokens_of(self, messages: list[dict[str, str]]) -> list[int]:
        if not self._args.raw:
            return templated(self._generator, messages, "npu chat", self._args.folder)
        return list(self._generator.tokenizer("\n".join(message["content"] for message in messages))["input_ids"])

    def _command(self, text: str) -> None:
        commands = {"/reset": self._reset, "/stats": self._stats, "/help": lambda: self._note(_HELP)}
        commands.get(text, lambda: self._note(f"There is no command {text}.\n{_HELP}"))()

    def _reset(self) -> None:
        system = self._args.system
        self.messages = [] if system is None else [{"role": "system", "content": system}]
        self._last = None

    def _answer(self, text: str) -> None:
        said: list[str] = []

        def show(piece: Any) -> None:
            said.append(piece.text)
            print(piece.text, end="", flush=True)

        generator, before = self._generator, len(self.messages)
        self.messages.append({"role": "user", "content": text})
        try:
            tokens = self.tokens_of(self.messages)
            if len(tokens) > generator.capacity:
                self._note(f"{_too_long(len(tokens), generator)}. /reset starts a new conversation.")
                del self.messages[before:]
                return
            self._last = generator.generate(
                tokens, self._args.tokens or generator.capacity + 1, on_token=show, reuse=True,
                seed=self._args.seed + self._turn, **sampling_options(self._args),
            )  # fmt: skip
            print()
            self._say_why_it_ended(self._last)
        except KeyboardInterrupt:
            print()
            self._note("Stopped.")
        except NPUError as error:
            if said:
                print()
            self._note(f"Error: {error}")
        self._turn += 1
        answer = "".join(said)
        if answer:
            self.messages.append({"role": "assistant", "content": answer})
        else:
            del self.messages[before:]

    def _say_why_it_ended(self, answer: Any) -> None:
        if answer.finish == "capacity":
            self._note(f"{full_context(self._generator)}. /reset starts a new conversation.")
        elif answer.finish == "length" and self._args.tokens is not None:
            self._note(f"The answer was stopped after {self._args.tokens} tokens; try a larger --tokens.")

    def _stats(self) -> None:
        last = self._last
        if last is None:
            self._note("Nothing has been said yet.")
            return
        prompt = last.prompt_tokens - last.reused_tokens
        text = f"prompt: {prompt} tokens{_speed(prompt, last.prompt_seconds)}, {last.reused_tokens} from the caches; "
        rest = len(last.tokens) - 1
        text += f"answer: {len(last.tokens)} tokens{_speed(rest, last.seconds - last.prompt_seconds)}; "
        used = min(last.prompt_tokens + len(last.tokens), self._generator.capacity)
        self._note(f"{text}context: {used} of {self._generator.capacity} tokens")

    def _note(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)


def _speed(tokens: int, seconds: float) -> str:
    return f" ({tokens / seconds:.1f} a second)" if tokens > 0 and seconds > 0 else ""


def _too_long(tokens: int, generator: Any) -> str:
    action = "" if generator.capacity == generator.positions else "; try a larger --capacity"
    return f"The conversation has {tokens} tokens, and the context holds {generator.capacity}{action}"

"""The main function of commands."""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TextIO

from .errors import InvalidValueError, NPUWarning, format_error
from .files import output_error

__all__ = ["SEED", "THREADS", "CommandParser", "UsageError", "integer", "run_command", "usage_error"]

_INTERRUPTED = 130
_BROKEN_PIPE = 141  # as a shell reports a command that SIGPIPE ended


class UsageError(InvalidValueError):
    """Options that no model or file makes right: of a wrong form, exclusive, or without effect on the source."""

    status = 2  # as of those that argparse finds


def usage_error(what: str, got: object, expected: str, action: str | None = None) -> UsageError:
    return UsageError(format_error("npu", what, got=got, expected=expected, action=action))


def integer(least: int, most: int) -> Callable[[str], int]:
    """A type for argparse, which adds the name of the argument to the error."""

    def read(text: str) -> int:
        value = int(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{value} is not between {least} and {most}")
        return value

    read.__name__ = "integer"
    return read


THREADS = integer(0, 1024)
SEED = integer(0, 2**63)


class CommandParser(argparse.ArgumentParser):
    """Its help starts with examples: lines for a shell, perhaps with a comment. Parsers of subcommands are such too."""

    examples: Sequence[str] = ()

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        # Sizes such as -2,4 are refused in our words, and not taken for options.
        self._negative_number_matcher = re.compile(r"^-\.?\d")

    def format_help(self) -> str:
        title = "example" if len(self.examples) == 1 else "examples"
        lines = "".join(f"  {example}\n" for example in self.examples)
        return f"{title}:\n{lines}\n{super().format_help()}"


def run_command(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None, expected: tuple[type[Exception], ...]
) -> int:
    """Calls ``run`` of the parsed arguments and returns the exit status.

    ``expected`` errors, and errors of files and memory, are one line on stderr without a traceback. The exit status is
    then that of the error, the command's ``trouble``, or 1.
    """
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        _allow_any_text(stream)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        with _warnings_as_lines():
            status: int = args.run(args)
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader, such as `head`, has exited. Python's flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (OSError, MemoryError, ModuleNotFoundError, *expected) as error:  # type: ignore[misc]  # a tuple of unknowns
        if isinstance(error, ModuleNotFoundError) and error.name != "torch" and not isinstance(error, expected):
            raise
        print(f"Error: {_message(error, f'{parser.prog} {args.command}')}", file=sys.stderr)
        return int(getattr(error, "status", 0) or getattr(args, "trouble", 1))
    return status


@contextlib.contextmanager
def _warnings_as_lines() -> Iterator[None]:
    """Print our own warnings without the source line that raised them."""
    with warnings.catch_warnings():
        others = warnings.showwarning

        def show(message: Any, category: type[Warning], *rest: Any, **more: Any) -> None:
            if issubclass(category, NPUWarning):
                print(f"Warning: {message}", file=sys.stderr)
            else:
                others(message, category, *rest, **more)

        warnings.showwarning = show
        warnings.simplefilter("always", NPUWarning)
        yield


def _message(error: Exception, command: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name == "torch":
        return f"`{command}` needs PyTorch, which is not installed; try `pip install torch`"
    return str(output_error(error) or str(error) or type(error).__name__)


def _open_closed_streams() -> None:
    """Python has None for a stream that the shell has closed (`>&-`); what is written to it is lost."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - until the process ends


def _allow_any_text(stream: TextIO) -> None:
    """Escape characters that the terminal's encoding lacks, instead of failing."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")

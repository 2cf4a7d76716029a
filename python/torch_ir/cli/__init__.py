"""The ``torch-ir`` command. Nothing here imports PyTorch before a command needs it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

from npu_base.files import output_error

from .files import CommandError
from .parser import create_parser

__all__ = ["create_parser", "main"]

_BROKEN_PIPE = 141  # what a shell reports for a command that SIGPIPE ended
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status; errors are one line on stderr, never a traceback."""
    for stream in (sys.stdout, sys.stderr):
        _allow_any_text(stream)
    parser = create_parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 2
    try:
        status: int = args.run(args)
        sys.stdout.flush()
    except CommandError as e:
        print(f"Error: {e}", file=sys.stderr)
        return e.status or args.trouble
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:
        # The reader has left, as `head` does. Python would complain once more when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except (OSError, MemoryError) as e:
        print(f"Error: {output_error(e) or str(e) or type(e).__name__}", file=sys.stderr)
        return int(args.trouble)
    return status


def _allow_any_text(stream: TextIO) -> None:
    """A name that the terminal's encoding lacks is shown escaped instead of ending the command."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")

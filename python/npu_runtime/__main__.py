"""`python -m npu_runtime`: print what this installation is and which devices it finds."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence

from npu_base.commands import CommandParser
from npu_base.files import output_error

from npu_runtime.info import collect, print_tables


def create_parser() -> CommandParser:
    parser = CommandParser(
        prog="python -m npu_runtime",
        description="Print how NPU Simulation was built, and which processor and devices it finds.",
    )
    parser.examples = ("python -m npu_runtime", "python -m npu_runtime --json")
    parser.add_argument("--json", action="store_true", help="print the same as JSON")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    arguments = create_parser().parse_args(argv)
    info = collect()
    try:
        if arguments.json:
            print(json.dumps(info, indent=2))
        else:
            print_tables(info)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has exited. Python's flush at exit must not fail either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        print(f"Error: {output_error(error) or error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

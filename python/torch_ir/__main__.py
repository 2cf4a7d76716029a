"""``python -m torch_ir`` is ``torch-ir``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())

"""Makes torchvision importable beside a PyTorch that its compiled operators were not built for.

A wheel of torchvision built for CUDA cannot load its library beside the CPU build of PyTorch, and then even
``import torchvision`` fails, because Python code there registers shapes for operators that nothing declared.
Classifiers need none of these operators, so declaring them is enough. transformers imports torchvision
wherever it is installed. Importing ``tests.models.zoo`` calls ``declare_operators``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)
_declared: list[torch.library.Library] = []  # the declarations last as long as this object


def declare_operators() -> None:
    """Declare what importing torchvision needs, unless its own library loads."""
    folder = _torchvision_folder()
    if folder is None or _declared or _loads_its_library(folder):
        return
    library = torch.library.Library("torchvision", "DEF")
    for schema in _SCHEMAS:
        library.define(schema)
    _declared.append(library)


def has_torchvision() -> bool:
    return _torchvision_folder() is not None


def _torchvision_folder() -> Path | None:
    spec = importlib.util.find_spec("torchvision")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _loads_its_library(folder: Path) -> bool:
    for path in sorted(folder.glob("_C*")):
        if path.suffix not in {".so", ".pyd", ".dylib"}:
            continue
        try:
            torch.ops.load_library(str(path))
        except OSError:
            continue
        return True
    return False

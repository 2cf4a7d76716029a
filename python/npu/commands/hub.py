"""Models in the local Hugging Face cache. Nothing is downloaded, and nothing of Hugging Face is imported."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["cache_folder", "cached_model", "is_model_name"]

_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?")


def is_model_name(text: str) -> bool:
    """Whether a model on the hub can have this name: NAME or OWNER/NAME."""
    return _NAME.fullmatch(text) is not None and not text.startswith(".") and "/." not in text


def cache_folder() -> Path:
    """Where Hugging Face's libraries keep what they downloaded, by the environment variables that they read."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    if os.environ.get("HF_HOME"):
        return Path(os.environ["HF_HOME"]).expanduser() / "hub"
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "huggingface" / "hub"


def cached_model(name: str) -> Path | None:
    """The folder of the model's main revision, or of its only one, if that has a config.json."""
    model = cache_folder() / f"models--{name.replace('/', '--')}"
    try:
        commit = (model / "refs" / "main").read_text(encoding="utf-8").strip()
        folders = [model / "snapshots" / commit]
    except (OSError, ValueError):
        folders = list(model.glob("snapshots/*"))
    folders = [folder for folder in folders if (folder / "config.json").is_file()]
    return folders[0] if len(folders) == 1 else None

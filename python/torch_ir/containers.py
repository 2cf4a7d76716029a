"""Registers container classes with PyTorch, so that their contents count as inputs and outputs."""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from torch.utils import _pytree as pytree


def register_containers(tree: Any) -> None:
    """Register the class of every dataclass and Hugging Face cache in a tree."""
    for leaf in pytree.tree_leaves(tree):
        cls = type(leaf)
        if cls in pytree.SUPPORTED_NODES:
            continue
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            torch.export.register_dataclass(cls)
        elif not _register_cache(cls):
            continue
        register_containers(leaf)


def _register_cache(cls: type) -> bool:
    """transformers has its own function to register its caches."""
    if not cls.__module__.startswith("transformers.") or not cls.__name__.endswith("Cache"):
        return False
    try:
        if cls.__name__ == "DynamicCache":
            from transformers.integrations.executorch import register_dynamic_cache_export_support

            register_dynamic_cache_export_support()
        else:
            from transformers.exporters.exporter_dynamo import register_pytree_node

            register_pytree_node(cls)
    except ImportError:  # in older versions of transformers; torch.export then names the class in its error
        return False
    return cls in pytree.SUPPORTED_NODES

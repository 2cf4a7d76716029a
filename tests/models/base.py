"""The registry of test models.

A model joins it with the ``register_model`` decorator. Files in this folder are found by themselves; models
that live elsewhere are named on the command line, see ``tests.models``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

MakeInputs = Callable[[torch.Generator], "tuple[Any, ...] | dict[str, Any]"]
_Model = TypeVar("_Model", bound=type[nn.Module])


@dataclass(frozen=True)
class TestModelSpec:
    """A model class, and how to build it and its inputs.

    ``input_shapes`` leave out the batch dimension, which is 1. ``make_inputs`` replaces them for models that
    take anything but float tensors: it returns positional arguments as a tuple, or keyword arguments as a dict.
    """

    __test__ = False  # not a test case, whatever its name

    name: str
    model_class: type[nn.Module]
    input_shapes: list[tuple[int, ...]]
    categories: list[str]
    description: str = ""
    make_inputs: MakeInputs | None = None
    dtype: torch.dtype = torch.float32

    def build(self) -> nn.Module:
        """The model in evaluation mode, on the current default device."""
        return self.model_class().to(self.dtype).eval()

    def inputs(self, seed: int = 0) -> tuple[Any, ...] | dict[str, Any]:
        """Example inputs, the same for the same seed."""
        generator = torch.Generator().manual_seed(seed)
        if self.make_inputs is not None:
            return self.make_inputs(generator)
        return tuple(torch.randn(1, *s, generator=generator).to(self.dtype) for s in self.input_shapes)


MODEL_REGISTRY: dict[str, TestModelSpec] = {}


def register_model(
    name: str,
    input_shapes: Sequence[tuple[int, ...]],
    categories: Sequence[str],
    description: str = "",
    *,
    make_inputs: MakeInputs | None = None,
    dtype: torch.dtype = torch.float32,
) -> Callable[[_Model], _Model]:
    """Class decorator: adds a model to the registry."""
    if not name:
        raise ValueError("A registered model needs a name")
    if isinstance(categories, str):
        raise ValueError(f"categories of '{name}' must be a list of names, got the string {categories!r}")
    if not categories:
        raise ValueError(f"Model '{name}' needs at least one category")

    def add(cls: _Model) -> _Model:
        known = MODEL_REGISTRY.get(name)
        # The same class again is a reload and replaces the old one.
        if known is not None and _identity(known.model_class) != _identity(cls):
            raise ValueError(
                f"Two models are registered as '{name}': {_identity(known.model_class)} and {_identity(cls)}"
            )
        shapes = [tuple(s) for s in input_shapes]
        MODEL_REGISTRY[name] = TestModelSpec(name, cls, shapes, list(categories), description, make_inputs, dtype)
        return cls

    return add


def _identity(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


def list_models(category: str | None = None) -> list[TestModelSpec]:
    """The registered models, in order of registration."""
    return [s for s in MODEL_REGISTRY.values() if category is None or category in s.categories]


def list_categories() -> list[str]:
    return sorted({c for s in MODEL_REGISTRY.values() for c in s.categories})


def get_model(name: str) -> TestModelSpec:
    if name not in MODEL_REGISTRY:
        raise KeyError(f"Unknown model '{name}'. Available models: {', '.join(MODEL_REGISTRY)}")
    return MODEL_REGISTRY[name]


def randint(generator: torch.Generator, high: int, *shape: int) -> Tensor:
    return torch.randint(0, high, shape, generator=generator)

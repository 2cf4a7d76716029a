"""Text generation with compiled steps of a causal language model, whose caches are state."""

from __future__ import annotations

from npu.generation.checks import UnsupportedModelError
from npu.generation.generator import Generator
from npu.generation.run import Generation, Piece
from npu.generation.sampling import Sampling, probabilities

__all__ = ["Generation", "Generator", "Piece", "Sampling", "UnsupportedModelError", "probabilities"]

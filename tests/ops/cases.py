"""Every operator with arguments to try it with: the one table behind the tests of compiler and runtime.

A case is a name, a function of tensors (or a maker of a module) and makers of its inputs. Floats are drawn in float32;
who runs a case in another dtype casts them.
"""

from __future__ import annotations

from . import algebra, direct, layers, placing, pointwise, quantized, sampling, shapes  # noqa: F401  (they fill the table)
from .making import CASES, Case

__all__ = ["CASES", "Case"]

"""Proves from a model's IR that padding a size to a larger one keeps the results, or says which node prevents it.

For each value of the graph it follows two facts. The first is that its real part (the indices below the real size) is
what it is without padding. A node that would break this ends the proof. The second is what its cells may hold: a
``Range`` for each kind of cell, from which it follows that masks hide padding, that 0 times padding is 0, and so on.

``extents`` says where the padded size is after reshapes, ``values`` and ``ranges`` what is known, and ``rules`` has a
rule for each operator, by family. An operator without a rule must not touch the padded size.
"""

from npu.padding.proof import Needs, prove
from npu.padding.refusal import Unproven

__all__ = ["Needs", "Unproven", "prove"]

"""Real architectures with seeded random weights, for tests and benchmarks.

``python -m tests.models.zoo`` proves torch_ir on the tables of small ones, and prints the result.
"""

from .torchvision_compat import declare_operators

# Before a module of this package imports torchvision, or transformers, which imports it where it is installed.
declare_operators()

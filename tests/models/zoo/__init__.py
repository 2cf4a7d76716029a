"""Real architectures with seeded random weights, for tests and benchmarks.

``python -m tests.models.zoo`` proves torch_ir on the tables of small ones, and prints the result.
"""

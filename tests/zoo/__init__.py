"""Real architectures that torch_ir is proven on. ``python -m tests.zoo`` prints the table."""

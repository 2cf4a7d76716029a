"""Tests. ``python -m tests`` runs the registered models and writes reports, see ``tests/__main__.py``."""

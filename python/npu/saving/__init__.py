"""Compiled models as one file, as specified in docs/npu-format.md."""

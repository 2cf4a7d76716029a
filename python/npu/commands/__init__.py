"""The commands of ``npu``, one module each: what it takes, and what it does."""

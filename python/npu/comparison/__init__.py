"""Where two devices, or a device and PyTorch, part: ``npu.compare`` and the command ``npu compare``."""

"""The backend of ``torch.compile(model, backend="npu")``, which PyTorch finds by the package's entry point."""

from npu.dynamo.backend import compile_graph

__all__ = ["compile_graph"]

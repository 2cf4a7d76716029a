"""Recognises calls that PyTorch refuses for the dtypes of their tensors when they run, although it traces them."""

from __future__ import annotations

from .parts import OpNode

__all__ = ["refused_dtypes"]

_ALIKE = {
    **dict.fromkeys(("linear", "mm", "mv", "matmul", "addmm", "addmv", "cdist", "complex"), (0, 1, 2)),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), (0, 1, 2)),
    **dict.fromkeys(("index_copy", "index_add"), (0, 2)),
    "index_put": (0, -1),
}
"""Positions of tensors that need one dtype, by the name of the operator."""
_NORMS = frozenset(("batch_norm", "layer_norm", "group_norm", "instance_norm"))
"""They take parameters of float32 with data of fewer bits."""
_FLOATING = frozenset(
    "gelu silu celu mish softplus hardswish hardsigmoid log_sigmoid hardshrink glu prelu softmax log_softmax frac lerp "
    "addcdiv var std adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d".split()
)
"""They have no kernels for whole numbers, unless their results are of another dtype."""


def refused_dtypes(node: OpNode) -> str | None:
    """What the node takes, what is expected, and what to try."""
    parts = node.op_type.split(".")
    if len(parts) != 3 or parts[0] != "aten" or not node.inputs:
        return None
    name = parts[1].rstrip("_")
    count = len(node.inputs)
    positions = range(count) if name in _NORMS else [i for i in _ALIKE.get(name, ()) if i < count]
    dtypes = list(dict.fromkeys(node.inputs[i].dtype for i in positions))
    if len(dtypes) > 1 and (name not in _NORMS or "float64" in dtypes):
        return f"{' and '.join(dtypes)}; expected one dtype; convert the inputs or the model, x.to(torch.{dtypes[-1]})"
    if name in _FLOATING and not any(kind in node.outputs[0].dtype for kind in ("float", "complex")):
        return f"{node.inputs[0].dtype}; expected a floating-point dtype; convert it, x.float()"
    return None

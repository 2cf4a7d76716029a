"""What padding does in each operator: a rule by name, in the module of its family."""

from npu.padding.calls import RULES
from npu.padding.rules import attention, contraction, elementwise, indexing, layout, reduction, rows

__all__ = ["RULES", "attention", "contraction", "elementwise", "indexing", "layout", "reduction", "rows"]

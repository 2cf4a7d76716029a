"""Lowerings by family; importing this package registers them."""

from importlib import import_module

FAMILIES = (
    "map cast views copy cat matmul conv pool norm softmax attention reduce scan sort gather scatter iota resize pad "
    "fold grid_sample search diagonal order distance loss recurrent"
).split()
for _name in FAMILIES:
    import_module(f"{__name__}.{_name}")

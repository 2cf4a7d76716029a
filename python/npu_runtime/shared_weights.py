"""The weights of a model that runs partly on the host, for all of its programs together."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from npu_base.arguments import masked_elements, tensor_dtype

from npu_runtime._core import Weights
from npu_runtime.host import NOT_ON_DEVICES, as_numpy, masked
from npu_runtime.weight_loader import load_weights

__all__ = ["SharedWeights"]


class SharedWeights(Mapping[str, Any]):
    """Tensors by name. Programs read ``on_device`` in place; ``on_host`` has those of dtypes that no device has, and
    hides others of the same names."""

    def __init__(self, on_device: Weights, on_host: Mapping[str, Any]) -> None:
        self.on_device, self.on_host = on_device, on_host

    @staticmethod
    def of(tensors: Mapping[str, Any]) -> SharedWeights:
        """Copies, so that the caller may modify the tensors."""
        on_host = {name: t for name, t in tensors.items() if tensor_dtype(t) in NOT_ON_DEVICES}
        for name, t in on_host.items():
            if masked_elements(t):
                raise masked("weights", f"'{name}'", t)
        on_device = load_weights({name: t for name, t in tensors.items() if name not in on_host})
        return SharedWeights(on_device, {name: as_numpy(t).copy() for name, t in on_host.items()})

    def __getitem__(self, name: str) -> Any:
        return self.on_host[name] if name in self.on_host else self.on_device[name]

    def __iter__(self) -> Iterator[str]:
        return iter({**dict.fromkeys(self.on_device), **dict.fromkeys(self.on_host)})

    def __len__(self) -> int:
        return len(list(iter(self)))

"""PyTorch's threads, for the folders that take it as the reference; their ``conftest.py`` imports the fixture."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(scope="package", autouse=True)
def torch_on_one_thread() -> Iterator[None]:
    """The reference's threads would wait for each other busily, for seconds a call where something else runs too."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)

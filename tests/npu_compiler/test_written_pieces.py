"""Views that are said to be pieces apart write no element twice."""

import random

import numpy as np
import pytest
from npu_compiler.graph import Value, View
from npu_compiler.verify import _are_pieces, _elements


def random_view(rng: random.Random, value: Value) -> View:
    shape = tuple(rng.choice([1, 1, 2, 3]) for _ in range(rng.randint(0, 3)))
    strides, elements = [0] * len(shape), 1
    for axis in rng.sample(range(len(shape)), len(shape)):
        strides[axis] = elements if rng.random() < 0.9 else rng.randint(0, 6)
        elements *= shape[axis]
    return View(value, shape, tuple(strides), rng.randint(0, 12))


def test_random_views() -> None:
    rng, apart = random.Random(0), 0
    value = Value("x", "float32", (200,), "temp")
    for _ in range(4000):
        views = [random_view(rng, value) for _ in range(rng.randint(1, 3))]
        counts = np.zeros(200, int)
        for view in views:
            np.add.at(counts, _elements(view), 1)
        if _are_pieces(views):
            apart += 1
            assert counts.max() <= 1
    assert apart > 1000


@pytest.mark.parametrize(("offset", "expected"), [(6, True), (5, False)])
def test_blocks_side_by_side(offset: int, expected: bool) -> None:
    value = Value("x", "float32", (12,), "temp")
    first, second = View(value, (2, 3), (1, 2)), View(value, (2, 3), (3, 1), offset)
    assert _are_pieces([second, first]) == expected

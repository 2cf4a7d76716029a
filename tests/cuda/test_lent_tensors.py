"""Tensors of a GPU go in and out without a copy, in order with their owner's stream; over the stand-in."""

from __future__ import annotations

import pytest

from tests.cuda.stand_in import run_case


@pytest.mark.parametrize(
    "case",
    [
        "borrows_and_orders",
        "sees_a_lender_that_does_not_order",
        "lends_its_own_memory",
        "takes_what_programs_take",
        "asks_tensors_of_pytorch",
        "names_both_devices",
        "donates_a_tensor",
        "loads_weights",
    ],
)
def test_lent_tensors(case, tmp_path):
    run_case("tensor_cases", case, tmp_path, gpus=2)

"""Tensors of a GPU go in and out without a copy, in order with their owner's stream; over the stand-in."""

from __future__ import annotations

import pytest

from tests.cuda.stand_in import Case, run_cases

FUNCTIONS = (
    "borrows_and_orders",
    "sees_a_lender_that_does_not_order",
    "lends_its_own_memory",
    "takes_what_programs_take",
    "asks_tensors_of_pytorch",
    "says_what_a_lender_says",
    "goes_into_partitioned_models",
    "serves_threads",
    "names_both_devices",
    "donates_a_tensor",
    "answers_the_host_with_its_tensors",
    "loads_weights",
)


@pytest.fixture(scope="module")
def failures(tmp_path_factory):
    cases = {function: Case(function, {"gpus": 2}) for function in FUNCTIONS}
    return run_cases("tensor_cases", cases, tmp_path_factory.mktemp("lent_tensors"))


@pytest.mark.parametrize("function", FUNCTIONS)
def test_lent_tensors(function, failures):
    assert function not in failures, failures[function]

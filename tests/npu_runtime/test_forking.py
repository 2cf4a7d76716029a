"""A child that was forked from a process with threads has none of them, and computes all the same."""

import os
import signal
import threading

import numpy as np
import pytest
import torch
from npu_runtime import NPUBuffer, UnavailableError
from torch import nn
from torch_ir.tracing import ONE_AT_A_TIME

from tests.support.devices import chosen_device, metal_device
from tests.support.programs import ready

X = torch.randn(64, 256, generator=torch.Generator().manual_seed(0))


def in_child(work):
    """0 when ``work`` returned true there, within ten seconds."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            signal.alarm(10)
            status = 0 if work() else 2
        finally:
            os._exit(status)
    return os.waitpid(child, 0)[1]


@pytest.mark.skipif(chosen_device().kind != "cpu", reason="a GPU is not inherited: see the test after this one")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_runs_old_and_new_executors():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 64))
    made = ready(model, X)
    wanted = made.array(X)
    assert in_child(lambda: np.array_equal(made.array(X), wanted)) == 0
    assert in_child(lambda: np.array_equal(ready(model, X).array(X), wanted)) == 0
    assert np.array_equal(made.array(X), wanted)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_extracts_while_a_thread_of_its_parent_does():
    taken, done = threading.Event(), threading.Event()

    def extracting():
        with ONE_AT_A_TIME:
            taken.set()
            done.wait()

    thread = threading.Thread(target=extracting)
    thread.start()
    taken.wait()
    try:
        assert in_child(lambda: ONE_AT_A_TIME.acquire(timeout=5)) == 0
        assert not ONE_AT_A_TIME.acquire(blocking=False)
    finally:
        done.set()
        thread.join()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_is_told_that_it_has_no_gpu():
    buffer = NPUBuffer.zeros([4], metal_device())

    def refused():
        try:
            NPUBuffer.zeros([4], metal_device())
        except UnavailableError as error:
            return "forked" in str(error)
        return False

    assert in_child(refused) == 0
    assert buffer.to_numpy().sum() == 0

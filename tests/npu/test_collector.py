"""Python's collector rests while something is compiled, and is left as it was found."""

import gc
import threading

import npu
import pytest
import torch
from npu_base.collector import collector_paused
from torch.export import Dim


@pytest.fixture(autouse=True)
def collector():
    enabled = gc.isenabled()
    yield
    gc.enable() if enabled else gc.disable()


def test_pauses_nest():
    gc.enable()
    with collector_paused():
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_an_error_ends_a_pause():
    gc.enable()
    with pytest.raises(KeyError), collector_paused():
        raise KeyError
    assert gc.isenabled()


def test_what_the_user_turned_off_stays_off():
    gc.disable()
    with collector_paused():
        pass
    assert not gc.isenabled()


def test_pauses_of_two_threads_overlap():
    gc.enable()
    begun, end = threading.Event(), threading.Event()

    def pause():
        with collector_paused():
            begun.set()
            end.wait(10)

    other = threading.Thread(target=pause)
    with collector_paused():
        other.start()
        assert begun.wait(10)
    assert not gc.isenabled()
    end.set()
    other.join()
    assert gc.isenabled()


def test_hardly_a_collection_falls_into_compiling_a_size():
    collections = []

    def note(phase, info):
        if phase == "start":
            collections.append(info["generation"])

    module = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(100)])
    compiled = npu.compile(module, (torch.ones(2, 8),), dynamic_shapes=({0: Dim("batch", max=64)},))
    threshold = gc.get_threshold()
    gc.enable()
    gc.set_threshold(10, 1, 1)
    gc.callbacks.append(note)
    try:
        compiled.warm_up([{"batch": 4}])
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*threshold)
    assert len(collections) < 50, "hundreds come when nothing pauses them"

"""The thread count: argument, environment variable, default; and the errors' form."""

import os
import subprocess
import sys

import npu_runtime
import pytest
from npu_runtime.errors import InternalError, UnavailableError, format_error


@pytest.fixture(autouse=True)
def _restore_threads():
    before = npu_runtime.get_num_threads()
    yield
    npu_runtime.set_num_threads(before)


def threads_with(value):
    code = "import npu_runtime\ntry: print(npu_runtime.get_num_threads())\n"
    code += "except npu_runtime.NPUError as error: print(type(error).__name__, error)"
    environment = {**os.environ, "NPU_NUM_THREADS": value}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("count", [1, 2, 1024])
def test_set_and_get(count):
    npu_runtime.set_num_threads(count)
    assert npu_runtime.get_num_threads() == count


def test_numpy_integers_are_integers():
    numpy = pytest.importorskip("numpy")
    npu_runtime.set_num_threads(numpy.int64(3))
    assert npu_runtime.get_num_threads() == 3


@pytest.mark.parametrize("count", [0, -1, 1025, 2**31, 2**70, -(2**70)])
def test_out_of_range(count):
    npu_runtime.set_num_threads(2)
    with pytest.raises(npu_runtime.InvalidValueError) as error:
        npu_runtime.set_num_threads(count)
    assert str(error.value) == (
        f"[threads] the number of threads is out of range; got {count}; expected an integer from 1 to 1024; "
        "try npu_runtime.cpu_info().usable_cores"
    )
    assert npu_runtime.get_num_threads() == 2


@pytest.mark.parametrize("count", [True, 2.0, "4", None, [1]])
def test_not_an_integer(count):
    with pytest.raises(npu_runtime.InvalidValueError, match=r"not an integer; got .*; expected an integer"):
        npu_runtime.set_num_threads(count)


def test_environment_variable():
    assert threads_with("5") == "5"
    assert threads_with(" 6 ") == "6"
    assert threads_with("") == str(npu_runtime.cpu_info().usable_cores)


@pytest.mark.parametrize("value", ["0", "-2", "1025", "four", "4.0", "0x4", "99999999999999999999"])
def test_bad_environment_variable(value):
    assert threads_with(value) == (
        "InvalidValueError [threads] the environment variable NPU_NUM_THREADS is not a thread count; "
        f'got "{value}"; expected an integer from 1 to 1024; try unsetting it to use all cores'
    )


def test_errors_raised_in_cpp_are_the_python_classes():
    from npu_runtime import _core

    with pytest.raises(npu_runtime.InvalidValueError, match=r"^\[threads\] .*got 0; expected"):
        _core.set_num_threads(0)


def test_error_hierarchy():
    for error in (npu_runtime.InvalidValueError, UnavailableError, InternalError):
        assert issubclass(error, npu_runtime.NPUError)
    assert issubclass(npu_runtime.InvalidValueError, ValueError)
    assert issubclass(npu_runtime.NPUError, RuntimeError)


def test_error_format():
    assert format_error("a", "b") == "[a] b"
    assert format_error("a", "b", got=0, expected="c", action="d") == "[a] b; got 0; expected c; try d"

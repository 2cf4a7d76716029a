"""``npu doctor --kernels``: the sample reaches every kernel, what deviates is named, and the verdict is kept."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import zlib
from dataclasses import replace
from pathlib import Path

import npu
import numpy as np
import pytest
from npu import doctor, kernels
from npu.kernel_sample import Entry, Recipe, pack, read_sample
from npu.kernels import Deviation, KernelReport, _unlike, check_kernels, deviates, difference
from npu_base.commands import run_command
from npu_base.errors import InvalidValueError
from npu_runtime import Device, Executor, NPUError, Program, UnavailableError, Weights, verdicts

from tests.support.devices import chosen_device, metal_device

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = read_sample()
CHIPS = ("metal:m1", "metal:m4pro", "metal:m3ultra", "cuda:l4", "cuda:h200")
# For GPUs without matrices of simdgroups, of which there are none among those that we support.
UNREACHED = {"matmul_single"}


def a_gpu() -> Device:
    chosen = chosen_device()
    return metal_device() if chosen.kind == "cpu" else chosen


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verdicts, "folder", lambda: tmp_path / "npu-simulation" / "kernels")
    monkeypatch.setattr(verdicts, "_mentioned", False)
    return tmp_path


def test_every_kernel_is_reached() -> None:
    """Kernels as the build lists them, by template; ``map`` is generated for each program."""
    lowered = sorted((ROOT / "build").glob("*/cpp/cuda/lowered_kernels.gen.cpp"), key=lambda path: path.stat().st_mtime)
    assert lowered, "build the extension first: make setup"
    found = re.findall(r'^\s*\{"(\w+)", "([^"<]+)[^"]*", parameters_\d+', lowered[-1].read_text(), re.MULTILINE)
    templates = dict(found)
    assert len(set(templates.values())) > 40
    devices = [Device(chip) for chip in CHIPS]
    launched: set[str] = set()
    for entry in SAMPLE:
        program = Program.parse(entry.program)
        for device in devices:
            launched |= set(re.findall(r"^  \d+  (\S+) of ", Executor(program, device).plan(), re.MULTILINE))
    assert launched - set(templates) == {"map"}
    missing = set(templates.values()) - {templates[name] for name in launched if name in templates}
    assert missing == UNREACHED, "run tools/generate_kernel_sample.py, after adding a case that reaches them"
    for dtype in ("float", "half", "bfloat"):
        assert {"matmul_large_k_major", "attention_128", "conv_small_fours", "softmax_dense"} <= {
            name.removesuffix(f"_{dtype}") for name in launched if name.endswith(f"_{dtype}")
        }


def test_the_sample_has_models_and_all_dtypes_and_is_small() -> None:
    assert {"DeepResNet", "TransformerBlock", "BiLSTM", "UNet", "decoder", "prompt"} <= {e.name for e in SAMPLE}
    assert {e.dtype for e in SAMPLE} == {"float32", "float16", "bfloat16"}
    assert len(zlib.compress(pack(SAMPLE))) < 130_000
    assert read_sample(pack(SAMPLE)) == SAMPLE


def test_tensors_are_drawn_the_same_everywhere() -> None:
    drawn = Recipe("x", "float32", (3,), "normal", 0.0, 1.0).make("case")
    np.testing.assert_array_equal(drawn, Recipe("x", "float32", (3,), "normal", 0.0, 1.0).make("case"))
    np.testing.assert_allclose(drawn, DRAWN, rtol=1e-6)
    assert Recipe("x", "bfloat16", (2,), "uniform", 2.0, 3.0).make("case").astype(float).min() >= 2


DRAWN = [-1.5814841985702515, -1.0242828130722046, -0.8183392882347107]


def some() -> list[Entry]:
    return [e for e in SAMPLE[::8] if sum(np.prod(r.shape) for r in e.weights) < 130_000]


def test_a_gpu_agrees(cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    report = check_kernels(a_gpu(), lambda done, total, name: seen.append((done, total)), entries=some())
    assert report.good, report.deviations
    assert report.programs == len(some()) and report.kind == a_gpu().kind and report.not_run == 0
    assert seen == [(i, len(some())) for i in range(len(some()) + 1)]
    assert report.kept_in is None and not verdicts.folder().exists()  # only the whole sample is a verdict


@pytest.mark.slow
def test_the_whole_sample_agrees_and_is_kept(cache: Path) -> None:
    command = [sys.executable, "-m", "npu", "doctor", "--kernels", "--device", metal_device().kind, "--json"]
    emulated = {**os.environ, "NPU_EMULATE_METAL": "1", "XDG_CACHE_HOME": str(cache)}
    run = subprocess.run(command, text=True, capture_output=True, env=emulated)
    assert run.returncode == 0, run.stderr
    report = json.loads(run.stdout)
    assert report["good"] and report["programs"] == len(SAMPLE) and report["deviations"] == []
    assert Path(report["kept_in"]).is_relative_to(cache)
    (verdict,) = verdicts.read_verdicts(report["device"])
    assert (verdict.deviations, verdict.programs) == (0, len(SAMPLE))


def test_a_wrong_kernel_is_named(cache: Path, tmp_path: Path) -> None:
    metal_device()  # skips here, not in the process below
    folder = tmp_path / "kernels"
    shutil.copytree(ROOT / "metal", folder)
    text = (folder / "softmax.metal").read_text()
    right, wrong = "const float scale = 1.0f / sum,", "const float scale = 1.0001f / sum,"
    assert right in text
    (folder / "softmax.metal").write_text(text.replace(right, wrong))
    code = """
from npu.kernel_sample import read_sample
from npu.kernels import check_kernels
from tests.support.devices import metal_device
chosen = [e for e in read_sample() if e.ops in ("softmax", "sort")]
report = check_kernels(metal_device(), entries=chosen)
print(sorted({d.ops for d in report.deviations}), any(d.error > d.tolerance for d in report.deviations))
"""
    environment = {
        **os.environ,
        "NPU_KERNEL_FOLDER": str(folder),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, env=environment)
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == ["['softmax']", "True"]


def test_torch_is_not_needed() -> None:
    code = """
import sys
sys.modules["torch"] = None
import npu
from npu.kernel_sample import read_sample
from npu_runtime import Device, UnavailableError
for kind in ("metal", "metal:emulated", "cuda"):
    try:
        gpu = Device(kind)
        break
    except UnavailableError:
        pass
else:
    sys.exit("no GPU")
assert npu.check_kernels(gpu, entries=read_sample()[:2]).good
"""
    run = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    if "no GPU" in run.stderr:
        pytest.skip("this build has no GPU, and no emulated one")
    assert run.returncode == 0, run.stderr


def test_programs_that_fail_are_reported_and_end_the_check(cache: Path) -> None:
    bad = [replace(e, program=e.program[: len(e.program) // 2]) for e in SAMPLE[:8]]
    report = check_kernels(a_gpu(), entries=bad)
    assert not report.good and report.programs == 5 and report.not_run == 3
    assert all(d.reason for d in report.deviations) and report.stopped == ""


def lost(*_: object) -> None:
    raise UnavailableError("[cuda] the GPU cannot be used any more in this process")


@pytest.mark.parametrize("first", [UnavailableError("[cuda] no memory"), MemoryError("no memory"), NPUError("a fault")])
def test_a_lost_gpu_is_not_accused(
    first: Exception, cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gpu, compare = a_gpu(), kernels._compare

    def fail_at_the_third(entry: Entry, *devices: Device) -> list[Deviation]:
        if entry.name != SAMPLE[2].name:
            return compare(entry, *devices)
        monkeypatch.setattr(kernels.NPUBuffer, "zeros", lost)
        raise first

    monkeypatch.setattr(kernels, "_compare", fail_at_the_third)
    monkeypatch.setattr(kernels, "NPUBuffer", type("Buffer", (), {"zeros": kernels.NPUBuffer.zeros}))
    monkeypatch.setattr(kernels, "read_sample", lambda: SAMPLE[:8])
    report = check_kernels(gpu)
    assert not report.good and report.deviations == [] and (report.programs, report.not_run) == (2, 6)
    assert report.stopped == f"{SAMPLE[2].name} could not be run: {first}"
    assert report.kept_in is None and not verdicts.folder().exists()
    doctor._print_kernels(report)
    shown = capsys.readouterr().out
    assert "could not be run" in shown and "not kept: the check did not reach its end" in shown
    assert "It holds" not in shown


@pytest.mark.parametrize("device", ["cpu", "cuda:h200"])
def test_a_wrong_device_is_refused_before_anything_is_shown(device: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NPUError, match=r"what kernels are compared with|not a device of this machine"):
        doctor.run_kernels(device, as_json=False)
    assert capsys.readouterr().out == ""


def test_replaced_kernels_are_no_verdict(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = a_gpu()
    monkeypatch.setattr(kernels, "read_sample", lambda: SAMPLE[:1])
    monkeypatch.setenv("NPU_KERNEL_FOLDER", str(ROOT / "metal"))
    report = check_kernels(gpu)
    assert report.kept_in is None and "NPU_KERNEL_FOLDER" in report.not_kept and not verdicts.folder().exists()
    monkeypatch.setenv("NPU_KERNEL_FOLDER", "")
    assert check_kernels(gpu).kept_in is not None


def test_difference() -> None:
    x = np.array([1.0, -2.0, 3.0, np.nan, np.inf], np.float32)
    assert difference(x, x) == (0, 0)
    assert difference(x[::-1], x) == (np.inf, np.inf)
    assert difference(x[:2], x) == difference(x.astype(np.float64), x) == (np.inf, np.inf)
    assert difference(np.array([1, 2]), np.array([1, 3])) == (np.inf, np.inf)
    assert difference(np.zeros(0), np.zeros(0)) == (0, 0)
    many = np.ones(10_000, np.float32)
    one_wrong = many.copy()
    one_wrong[17] = 0
    error, largest = difference(one_wrong, many)
    assert error == pytest.approx(0.01) and largest == 1
    assert difference(np.full(2, 1e-8), np.zeros(2))[1] == 1e-8


def test_what_has_no_error_has_words() -> None:
    numbers = np.array([1, 2, 3])
    assert _unlike(numbers + [0, 1, 1], numbers) == "2 of 3 integers differ"
    floats = np.array([1, np.nan, np.inf, -np.inf], np.float32)
    words = "2 of 4 elements are infinite or NaN on one side only"
    assert _unlike(np.array([5, np.nan, -np.inf, 0], np.float32), floats) == words
    assert _unlike(numbers[:2], numbers) == "int64[2] instead of int64[3]"


@pytest.mark.parametrize("as_json", [False, True])
def test_what_deviates_is_shown(
    as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    wrong = [
        Deviation("softmax of rows", "bfloat16", "softmax", "y", 0.0512, 0.9, 0.03),
        Deviation("sort [2, 3]", "float32", "sort", "z", reason="2 of 3 integers differ"),
    ]
    report = KernelReport("metal", "A GPU", "1.2", "0.1", 200, 31.4, wrong, 28, None, "no space left")
    monkeypatch.setattr(kernels, "best_gpu", a_gpu)
    monkeypatch.setattr(kernels, "check_kernels", lambda *_: report)
    assert doctor.run_kernels(None, as_json) == 1
    shown = capsys.readouterr().out
    assert as_json or max(len(line) for line in shown.splitlines() if line[:1] in "┃│") <= 80
    if as_json:
        figures = json.loads(shown)
        assert figures["good"] is False and figures["deviations"][1]["reason"] == "2 of 3 integers differ"
        return
    for words in ("softmax of rows", "bfloat16", "0.051", "0.03", "sort [2, 3]", "2 of 3 integers differ"):
        assert words in shown
    for words in ("28 programs not run", "200 programs in 31 s: 2 deviations", "not kept: no space left"):
        assert words in shown


def test_one_wrong_element_of_many_is_a_deviation() -> None:
    """In bfloat16 the tolerance of a whole tensor would hide it."""
    entry = next(e for e in SAMPLE if e.dtype == "bfloat16" and e.name.startswith("product of 1000"))
    weights = Weights()
    for name, array in entry.make(entry.weights).items():
        weights[name] = array
    (output,) = Executor(Program.parse(entry.program), Device("cpu")).run(entry.make(entry.inputs), weights).values()
    right, (tolerance,) = output.to_numpy(), entry.tolerances
    assert not deviates(*difference(right, right), tolerance)
    wrong = right.copy()
    wrong[500, 700] += 10
    error, largest = difference(wrong, right)
    assert error < tolerance and deviates(error, largest, tolerance)


def test_what_cannot_be_checked_is_refused(cache: Path) -> None:
    with pytest.raises(InvalidValueError, match=r"the CPU is what kernels are compared with; got cpu; expected a GPU"):
        npu.check_kernels("cpu")
    with pytest.raises(InvalidValueError, match=r"kind of a device must be a string or a torch.device; got 3"):
        npu.check_kernels(3)  # type: ignore[arg-type]
    with pytest.raises(UnavailableError, match=r"Apple M4 Pro \(on paper\) is not a device of this machine"):
        npu.check_kernels("metal:m4pro")
    with pytest.raises(InvalidValueError, match="no such kind"):
        npu.check_kernels("metall")


BAD = verdicts.Verdict("NVIDIA T", "580.1", "", 3, 200)


@pytest.fixture
def bad(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(verdicts, "driver_of", lambda kind: "580.1")
    path, why = verdicts.keep_verdict(replace(BAD, version=verdicts._version()))
    assert path is not None and why == ""
    return Path(path)


def test_a_bad_verdict_is_mentioned_once(bad: Path, recwarn: pytest.WarningsRecorder) -> None:
    for _ in range(2):
        verdicts.mention("cuda", "NVIDIA T")
    (warning,) = recwarn
    assert "3 deviations in 200 programs on NVIDIA T" in str(warning.message)
    assert "npu doctor --kernels --device cuda" in str(warning.message)


def test_a_command_mentions_it_in_a_line(bad: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser(prog="npu")
    parser.set_defaults(command="x", run=lambda args: verdicts.mention("cuda", "NVIDIA T") or 0)
    assert run_command(parser, [], ()) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("Warning: kernels of this GPU gave wrong results")


@pytest.mark.parametrize("change", [{"driver": "581"}, {"version": "0"}, {"deviations": 0}, {"chip": "NVIDIA U"}])
def test_only_of_this_gpu_driver_and_version(
    cache: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.setattr(verdicts, "driver_of", lambda kind: "580.1")
    verdicts.keep_verdict(replace(BAD, **{"version": verdicts._version(), **change}))  # type: ignore[arg-type]
    verdicts.mention("cuda", "NVIDIA T")
    assert not recwarn.list


def test_a_new_verdict_replaces_the_old_one(bad: Path, recwarn: pytest.WarningsRecorder) -> None:
    version = verdicts._version()
    verdicts.keep_verdict(replace(BAD, version=version, deviations=0))
    verdicts.keep_verdict(replace(BAD, version=version, driver="581"))
    assert [(v.driver, v.deviations) for v in verdicts.read_verdicts("NVIDIA T")] == [("581", 3), ("580.1", 0)]
    verdicts.mention("cuda", "NVIDIA T")
    assert not recwarn.list


DAMAGED = ["", "[", "{}", "[1]", '[{"chip": "NVIDIA T"}]', '"text"', "[{}]", "\x00\xff"]


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_file_is_as_good_as_none(text: str, bad: Path, recwarn: pytest.WarningsRecorder) -> None:
    bad.write_bytes(text.encode("latin-1"))
    assert verdicts.read_verdicts("NVIDIA T") == []
    verdicts.mention("cuda", "NVIDIA T")
    assert not recwarn.list
    assert verdicts.keep_verdict(BAD)[0] == str(bad)


def test_wrong_types_in_a_file_count_as_damage(bad: Path) -> None:
    rows = json.loads(bad.read_text())
    rows[0]["deviations"] = "3"
    bad.write_text(json.dumps(rows))
    assert verdicts.read_verdicts("NVIDIA T") == []


def test_a_folder_that_cannot_be_written_is_said(cache: Path) -> None:
    (cache / "npu-simulation").write_text("a file")
    path, why = verdicts.keep_verdict(BAD)
    assert path is None and "npu-simulation" in why


def test_the_command_needs_kernels_for_a_device() -> None:
    run = subprocess.run([sys.executable, "-m", "npu", "doctor", "--device", "cuda"], text=True, capture_output=True)
    assert run.returncode == 1 and "expected --kernels too" in run.stderr

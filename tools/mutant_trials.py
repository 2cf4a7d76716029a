"""Runs tests on a mutated copy of the kernels: cases of the op table first, then the C++ tests."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kernel_mutants import GENERATED, KERNELS, Mutant, libraries_of, users, write_folder
from mutant_cases import Ready, kernels_of, library_of
from npu_runtime import Device

DEVICE = "metal:emulated"
LIMIT = 100.0  # seconds for one case, with the time it takes to compile its kernels
LIMIT_CPP = 150.0  # seconds for one test in C++
MOST_CASES = 60
MOST_LIBRARIES = 5
MOST_GENERATED = 24  # each has a text of its own to compile

CAUGHT, SURVIVED, REFUSED = "caught", "survived", "does not compile"


@dataclass
class Verdict:
    outcome: str
    by: str = ""
    seconds: float = 0.0


@dataclass
class Tests:
    """What can be run: cases of the op table, and the tests in C++ with the kernels that each of them uses."""

    cases: list[Ready]
    binary: Path | None
    cpp: dict[str, set[str]] = field(default_factory=dict)
    sound: dict[str, bool] = field(default_factory=dict)  # results without any mutation


def environment(folder: Path, cache: Path) -> dict[str, str]:
    return {"NPU_KERNEL_FOLDER": str(folder), "SOFTMETAL_CACHE": str(cache), "SOFTMETAL_PREBUILT": ""}


def run_cases(cases: list[Ready], variables: dict[str, str]) -> str:
    """In a child, which alone opens the device: which case failed first, and how; nothing when all pass."""
    incoming, outgoing = os.pipe()
    child = os.fork()
    if child == 0:
        os.setsid()
        os.close(incoming)
        os.environ.update(variables)
        _report(cases, outgoing)
    os.close(outgoing)
    lines = _follow(incoming, LIMIT)
    os.close(incoming)
    _end_group(child)
    os.waitpid(child, 0)
    if not lines or lines[-1] == ".":
        return "" if lines else "\tthe device does not open"
    return lines[-1][2:] if lines[-1].startswith("! ") else f"{lines[-1][2:]}\tno end, or the end of the process"


def _end_group(process: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # with the compilers that it may have started


def _report(cases: list[Ready], outgoing: int) -> None:
    """Does not return. Announces each case before running it, so that a crash can be attributed."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    last = "."
    try:
        device = Device(DEVICE)
        for case in cases:
            os.write(outgoing, f"> {case.name}\n".encode())
            try:
                case.run(device)
            except Exception as error:
                said = " ".join(str(error).split())
                if "has no kernel" not in said:  # it is not among the instances that are kept
                    last = f"! {case.name}\t{said[:1500]}"
                    break
        os.write(outgoing, f"{last}\n".encode())
    finally:
        os._exit(0)


def _follow(incoming: int, limit: float) -> list[str]:
    """Lines until the end, or until a timeout without a line."""
    text = b""
    while select.select([incoming], [], [], limit)[0]:
        more = os.read(incoming, 65536)
        if not more:
            break
        text += more
    return text.decode().splitlines()


def compiles(said: str) -> bool:
    return "not compile" not in said and "cannot compile" not in said


def chosen_cases(mutant: Mutant, cases: list[Ready]) -> list[Ready]:
    """Cases that run what is changed, the most different ones first, some of each library."""
    reached = users(mutant.file, mutant.start)
    if mutant.file == "expression.h":  # programs name the steps as the functions are named
        steps = re.compile(r"\b(?:" + "|".join(re.sub(r"_of$", "", name) for name in reached) + r")\(")
        cases = [c for c in cases if steps.search(c.text)]
    libraries, chosen = libraries_of(mutant), []
    for library in libraries[:MOST_LIBRARIES]:
        entries = set() if library == GENERATED else set(kernels_of(library))
        mine = [c for c in cases if any(library_of(k) == library for k in c.kernels)]
        if entries & reached:
            starts = tuple(entries & reached)
            mine = [c for c in mine if any(k.startswith(starts) for k in c.kernels)]
        most = MOST_GENERATED if library == GENERATED else MOST_CASES // min(len(libraries), MOST_LIBRARIES)
        chosen += [c for c in spread(mine, library)[:most] if c not in chosen]
    return chosen


def spread(cases: list[Ready], library: str) -> list[Ready]:
    """The same cases, so that those that follow each other launch different kernels."""
    groups: dict[tuple[str, ...], list[Ready]] = {}
    for case in cases:
        key = tuple(sorted({k for k in case.kernels if library_of(k) == library}))
        groups.setdefault(key, []).append(case)
    order: list[Ready] = []
    waiting = [sorted(group, key=lambda c: len(c.kernels)) for group in groups.values()]
    while waiting:
        order += [group.pop(0) for group in waiting]
        waiting = [group for group in waiting if group]
    return order


def cpp_tests(binary: Path, scratch: Path, cache: Path) -> dict[str, set[str]]:
    """The tests in C++ and the kernels that each launches: those that it misses where libraries have none.

    A test ends an operation at the first kernel that it misses. What often comes before others is a copy, so it is
    looked at twice, without any kernels and with copies.
    """
    found: dict[str, set[str]] = {}
    for left in ("", "copy"):
        folder = write_folder(scratch, None, thin=False)
        for path in folder.glob("*.metal"):
            if path.stem != left:
                path.write_text("")
        (folder / "map.h").write_text("#error generated kernels are not compiled for this")
        for path in sorted((KERNELS.parent / "tests" / "cpp" / "kernels").glob("test_*.cpp")):
            for group, name in re.findall(r"^TEST\((\w+), (\w+)\)", path.read_text(), re.M):
                result = subprocess.run(
                    [binary, f"{group}.{name}"],
                    env={**os.environ, **environment(folder, cache)},
                    text=True,
                    capture_output=True,
                    timeout=LIMIT_CPP,
                )
                missed = re.findall(r"(?:cpp|h):\d+: (\w+): ", result.stderr)
                generated = {"map"} if "generated kernels are not compiled" in result.stderr else set()
                found.setdefault(f"{group}.{name}", set()).update(missed, generated)
    return found


def run_cpp(test: str, binary: Path, variables: dict[str, str]) -> str:
    """The first message of a C++ test that fails, or nothing if it passes."""
    process = subprocess.Popen(
        [binary, test],
        env={**os.environ, **variables},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stderr
    said, status = b"", None
    while not said.endswith(b"\n"):  # a line may arrive in pieces
        if not select.select([process.stderr], [], [], LIMIT_CPP)[0]:
            said = said or b"no end"
            break
        more = os.read(process.stderr.fileno(), 2000)
        if not more:
            break
        said += more
    if not said:
        status = process.wait()
    _end_group(process.pid)
    process.wait()
    process.stderr.close()
    return " ".join(said.decode(errors="replace").split()) or (f"ended with status {status}" if status else "")


def chosen_tests(mutant: Mutant, tests: Tests) -> list[str]:
    """Tests in C++ that run what is changed; those that launch the fewest other kernels first."""
    libraries, reached = set(libraries_of(mutant)), users(mutant.file, mutant.start)
    mine = {t: {k for k in kernels if library_of(k) in libraries} for t, kernels in tests.cpp.items()}
    fitting = [t for t, kernels in mine.items() if kernels]
    direct = [t for t in fitting if any(k.startswith(tuple(reached)) for k in mine[t])] if reached else []
    order = direct + [t for t in fitting if t not in direct]
    return sorted(order, key=lambda t: (t not in direct, len(tests.cpp[t])))


def try_mutant(mutant: Mutant, tests: Tests, scratch: Path, cache: Path) -> Verdict:
    start = time.monotonic()

    def verdict(outcome: str, by: str = "") -> Verdict:
        return Verdict(outcome, by[:300], round(time.monotonic() - start, 1))

    cases = chosen_cases(mutant, tests.cases)
    variables = environment(write_folder(scratch / "thin", mutant, thin=True), cache)
    while said := run_cases(cases, variables) if cases else "":
        if not compiles(said):
            return verdict(REFUSED, said)
        failed = next(c for c in cases if c.name == said.split("\t")[0])
        if is_sound(failed.name, tests, lambda v, c=failed: run_cases([c], v), scratch, cache):
            return verdict(CAUGHT, said)
        cases = cases[cases.index(failed) + 1 :]
    variables = environment(write_folder(scratch / "whole", mutant, thin=False), cache)
    for test in chosen_tests(mutant, tests) if tests.binary else []:
        said = run_cpp(test, tests.binary, variables)
        if not compiles(said):
            return verdict(REFUSED, said)
        if said and is_sound(test, tests, lambda v, t=test: run_cpp(t, tests.binary, v), scratch, cache):
            return verdict(CAUGHT, f"{test}\t{said}")
    return verdict(SURVIVED)


def is_sound(name: str, tests: Tests, run: Callable[[dict[str, str]], str], scratch: Path, cache: Path) -> bool:
    """Whether a failed test passes with the unmodified kernels."""
    if name not in tests.sound:
        folder = write_folder(scratch / "as it is", None, thin=False)
        tests.sound[name] = not run(environment(folder, cache))
    return tests.sound[name]

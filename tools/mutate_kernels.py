#!/usr/bin/env python3
"""Break the kernels of metal/ in small ways, one at a time, and see whether the tests notice.

Each mutant is a copy of metal/ with one change (kernel_mutants.py has the kinds). First the cases of the op table that
use the changed code run on emulated Metal, then the C++ tests of kernels, until something fails. A mutant that
survives shows that a test is missing, or has no observable effect. The latter are listed, with the reason, in
tests/metal/equivalent_mutants.txt, and do not count. Nor do mutants that do not compile.

The exit status is 1 if fewer than 95 of 100 are caught. Needs a build with NPU_SOFTMETAL and NPU_BUILD_TESTS.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import warnings
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path

from kernel_mutants import KERNELS, ROOT, SHARED, Mutant, equivalents, mutants_of, sample
from mutant_cases import ready_cases
from mutant_trials import CAUGHT, REFUSED, SURVIVED, Tests, Verdict, cpp_tests, try_mutant

WORK = ROOT / "build" / "mutants"
WANTED = 0.95

TESTS = Tests([], None)  # of this process and those forked from it


def attempt(mutant: Mutant) -> tuple[Mutant, Verdict]:
    scratch = WORK / f"worker-{os.getpid()}"
    return mutant, try_mutant(mutant, TESTS, scratch, WORK / "cache")


def key_of(mutant: Mutant) -> str:
    return json.dumps([mutant.file, mutant.start, mutant.before, mutant.after])


def try_all(mutants: list[Mutant], workers: int, log: Path) -> list[tuple[Mutant, Verdict]]:
    """Records each result. Mutants that an earlier run caught are not tried again."""
    known = {}
    if log.exists():
        for line in log.read_text().splitlines():
            kept = json.loads(line)
            if kept["verdict"]["outcome"] != SURVIVED:
                known[kept["key"]] = Verdict(**kept["verdict"])
    done = [(m, known[key_of(m)]) for m in mutants if key_of(m) in known]
    listed = equivalents()  # would take longest: all tests pass
    done += [
        (m, Verdict(SURVIVED)) for m in mutants if (m.file, m.before, m.after) in listed and key_of(m) not in known
    ]
    tried = {key_of(m) for m, _ in done}
    waiting = [m for m in mutants if key_of(m) not in tried]
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(workers, mp_context=context) as pool, log.open("a") as file:
        for future in as_completed([pool.submit(attempt, m) for m in waiting]):
            mutant, verdict = future.result()
            done.append((mutant, verdict))
            file.write(json.dumps({"key": key_of(mutant), "verdict": asdict(verdict)}) + "\n")
            file.flush()
            print(f"{verdict.seconds:6.1f}s {verdict.outcome:16} {mutant}\n      {verdict.by[:160]}", flush=True)
    return done


def table(results: list[tuple[Mutant, Verdict]], reasons: dict[tuple[str, str, str], str]) -> float:
    """Prints the score of each file and the survivors; returns the total score."""
    counts: dict[str, Counter[str]] = {}
    survivors = []
    for mutant, verdict in sorted(results, key=lambda r: (r[0].file, r[0].start)):
        outcome = verdict.outcome
        if outcome == SURVIVED and (mutant.file, mutant.before, mutant.after) in reasons:
            outcome = "equivalent"
        elif outcome == SURVIVED:
            survivors.append(mutant)
        for name in (mutant.file, "all"):
            counts.setdefault(name, Counter())[outcome] += 1
    if survivors:
        print("\nsurvivors:", *survivors, sep="\n")
    print(f"\n{'file':20} {'mutants':>8} {'caught':>7} {'survived':>9} {'equivalent':>11} {'no code':>8} {'score':>7}")
    score = 0.0
    for name in [*sorted(set(counts) - {"all"}), "all"]:
        count = counts.get(name, Counter())
        tried = count[CAUGHT] + count[SURVIVED]
        score = count[CAUGHT] / tried if tried else 1.0
        print(
            f"{name:20} {count.total():8} {count[CAUGHT]:7} {count[SURVIVED]:9} {count['equivalent']:11}"
            f" {count[REFUSED]:8} {score:7.1%}"
        )
    return score


def prepare(binary: Path | None, cache: Path) -> None:
    TESTS.cases = ready_cases(WORK)
    if binary is None or not binary.exists():
        print("without the tests in C++: build the target npu_kernel_tests, and name it with --kernel-tests")
        return
    file = WORK / f"cpp-{binary.stat().st_mtime_ns}.json"
    if not file.exists():
        kernels = cpp_tests(binary, WORK / "without kernels", cache)
        file.write_text(json.dumps({name: sorted(found) for name, found in kernels.items()}))
    TESTS.cpp = {name: set(found) for name, found in json.loads(file.read_text()).items()}
    TESTS.binary = binary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", help="of metal/; all when none is named")
    parser.add_argument("--count", type=int, default=8, help="mutants of each file (8); 0: all")
    parser.add_argument("--seed", type=int, default=0, help="which ones (0)")
    parser.add_argument("--workers", type=int, default=2, help="at the same time (2)")
    parser.add_argument("--kernel-tests", type=Path, help="npu_kernel_tests; else the one of build/dev")
    parser.add_argument("--again", action="store_true", help="forget results of earlier runs")
    parser.add_argument("--list", action="store_true", help="show the mutants and run nothing")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    mutants = []
    for file in arguments.files or sorted(
        (p.name for p in KERNELS.iterdir() if p.name not in SHARED), key=lambda n: (n.endswith(".h"), n)
    ):
        found = mutants_of(Path(file).name)
        mutants += sample(found, arguments.count or len(found), arguments.seed)
    if arguments.list:
        print(*mutants, sep="\n")
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    log = WORK / "results.jsonl"
    if arguments.again:
        log.unlink(missing_ok=True)
    binary = arguments.kernel_tests or ROOT / "build" / "dev" / "tests" / "cpp" / "npu_kernel_tests"
    prepare(binary, WORK / "cache")
    score = table(try_all(mutants, arguments.workers, log), equivalents())
    return 0 if score >= WANTED else 1


if __name__ == "__main__":
    sys.exit(main())

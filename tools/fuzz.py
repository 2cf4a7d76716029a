#!/usr/bin/env python3
"""Feed damaged files to every reader: libFuzzer for the C++ readers of programs and safetensors, our own mutations
for the Python readers of IR, of saved files and of quantised ones. `make fuzz` runs the long form; inputs that fail in
C++ are kept in build/fuzz/found."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from dev_env import CLANG_VERSIONS, can_install

ROOT = Path(__file__).resolve().parent.parent
BUILD = ROOT / "build" / "fuzz"
FORMATS = ("program", "safetensors")
LONGEST = 16384  # bytes of a file


def say(text: str) -> None:
    print(f"==> {text}", flush=True)


def clang() -> str:
    """A clang with libFuzzer. As root on Debian, this installs one if necessary."""
    found = compiler_with_libfuzzer()
    if not found and sys.platform == "linux" and can_install():
        packages = ["clang-19", "libclang-rt-19-dev"]
        say(f"installing with apt-get: {', '.join(packages)}")
        for arguments in (["update", "-q"], ["install", "-q", "-y", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *arguments], stdout=subprocess.DEVNULL, check=False)
        found = compiler_with_libfuzzer()
    if not found:
        raise SystemExit(
            "error: there is no clang with libFuzzer; install clang-19 and libclang-rt-19-dev (Debian names), or name "
            "another clang++ in CXX"
        )
    return found


def compiler_with_libfuzzer() -> str | None:
    names = [os.environ.get("CXX", ""), *(f"clang++-{version}" for version in CLANG_VERSIONS), "clang++"]
    return next((name for name in names if name and shutil.which(name) and _links(name)), None)


def _links(compiler: str) -> bool:
    source = 'extern "C" int LLVMFuzzerTestOneInput(const unsigned char*, unsigned long) { return 0; }'
    with tempfile.TemporaryDirectory() as folder:
        command = [compiler, "-fsanitize=fuzzer,address,undefined", "-x", "c++", "-", "-o", f"{folder}/it"]
        return subprocess.run(command, input=source, text=True, capture_output=True).returncode == 0


def build(compiler: str) -> None:
    say(f"building the readers with {compiler}, libFuzzer and sanitizers")
    tools = str(Path(sys.executable).parent)
    environment = {**os.environ, "PATH": tools + os.pathsep + os.environ.get("PATH", "")}
    options = ["-DNPU_FUZZ=ON", "-DNPU_BUILD_TESTS=ON", "-DNPU_BUILD_PYTHON=OFF", "-DCMAKE_BUILD_TYPE=RelWithDebInfo"]
    options += [f"-DCMAKE_CXX_COMPILER={compiler}", f"-DPython_EXECUTABLE={sys.executable}"]
    targets = [*(f"libfuzzer_{name}" for name in FORMATS), "fuzz_reader"]
    for command in (
        ["cmake", "-G", "Ninja", "-S", ROOT, "-B", BUILD, *options],
        ["cmake", "--build", BUILD, "--target", *targets],
    ):
        result = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
        if result.returncode:
            raise SystemExit(f"error: {' '.join(map(str, command))} failed\n{result.stdout}\n{result.stderr}")


def seeds() -> None:
    """Small programs and weight files of real models, those of the C++ tests, and a dictionary of their words."""
    sys.path.insert(0, str(ROOT))
    from safetensors.numpy import save

    from tests.npu_compiler import golden

    for name in FORMATS:
        (BUILD / "seeds" / name).mkdir(parents=True, exist_ok=True)
    subprocess.run([BUILD / "tests" / "cpp" / "fuzz_reader", "--seeds", BUILD / "seeds"], check=True)
    for model in golden.MODELS:
        program = golden.program(model).to_bytes()
        weights = save({spec.name: _zeros(spec) for spec in golden.program(model).weight_specs[:8]}, {"format": "pt"})
        for name, data in (("program", program), ("safetensors", weights)):
            if len(data) <= LONGEST:
                (BUILD / "seeds" / name / model).write_bytes(data)
    files = [path.read_bytes() for path in (BUILD / "seeds").rglob("*") if path.is_file()]
    words = {word for data in files for word in re.findall(rb'"[\w.]{1,40}"', data)}
    lines = [f'"{word.decode().replace(chr(34), chr(92) + chr(34))}"' for word in sorted(words)]
    (BUILD / "words.dict").write_text("\n".join(lines) + "\n")


def _zeros(spec: object) -> object:
    import numpy as np

    return np.zeros([min(n, 4) for n in spec.shape], "float16")  # type: ignore[attr-defined]


def fuzz(name: str, runs: int, seed: int) -> None:
    corpus, found = BUILD / "corpus" / name, BUILD / "found"
    for folder in (corpus, found):
        folder.mkdir(parents=True, exist_ok=True)
    options = {
        "runs": runs, "seed": seed, "max_len": LONGEST, "timeout": 20, "rss_limit_mb": 2048, "malloc_limit_mb": 256,
        "print_final_stats": 1, "artifact_prefix": f"{found}/{name}-", "dict": BUILD / "words.dict",
    }  # fmt: skip
    command = [BUILD / "tests" / "cpp" / f"libfuzzer_{name}", *(f"-{key}={value}" for key, value in options.items())]
    began = time.perf_counter()
    result = subprocess.run([*command, corpus, BUILD / "seeds" / name], stderr=subprocess.PIPE, text=True)
    seconds = time.perf_counter() - began
    if result.returncode:
        raise SystemExit(f"{result.stderr[-6000:]}\nerror: the reader of {name} files failed; the file is in {found}")
    done = int(re.findall(r"number_of_executed_units: (\d+)", result.stderr)[-1])
    coverage = re.findall(r"cov: (\d+)", result.stderr)[-1]
    say(
        f"{name}: {done:,} files in {seconds:.0f} s, {done / seconds:,.0f} a second; {coverage} branches; nothing found"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000_000, help="files for the C++ readers (default: 10,000,000)")
    parser.add_argument("--ir-runs", type=int, default=100_000, help="files for the readers of IR (default: 100,000)")
    parser.add_argument("--saved-runs", type=int, default=100_000, help="saved files (default: 100,000)")
    parser.add_argument("--quantized-runs", type=int, default=100_000, help="quantised files (default: 100,000)")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.runs > 0:
        build(clang())
        seeds()
        # Programs have far more rules than safetensors.
        for name, share in (("program", 0.8), ("safetensors", 0.2)):
            fuzz(name, max(1, int(arguments.runs * share)), arguments.seed)
    sys.path.insert(0, str(ROOT))
    from tests.support.fuzz_ir import fuzz_ir
    from tests.support.fuzz_quantized import fuzz_quantized
    from tests.support.fuzz_saved import fuzz_saved

    readers = (
        ("IR", fuzz_ir, arguments.ir_runs), ("saved files", fuzz_saved, arguments.saved_runs),
        ("quantised files", fuzz_quantized, arguments.quantized_runs),
    )  # fmt: skip
    for name, run, count in readers:
        if count > 0:
            began = time.perf_counter()
            accepted, refused = run(count, arguments.seed)
            seconds = time.perf_counter() - began
            say(f"{name}: {accepted:,} accepted and {refused:,} refused in {seconds:.0f} s; nothing found")
    return 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
"""Check kernels against rules of the Metal Shading Language that a C++ compiler does not check.

Clang compiles kernels as C++ for OpenCL, which distinguishes address spaces as Apple's compiler does: pointers to
device, constant, threadgroup and thread memory do not convert to each other, an unqualified pointer is to thread
memory, and structs are not copied from constant memory. tools/kernel_rules declares Metal's library.

Found by the compiler: a missing or wrong address space; double; mathematics or simdgroup functions of bfloat, of
64-bit integers or bools; atomics other than those of 32 bits; numbers of buffers and function constants that are not
there or not numbers; exceptions, virtual functions, new and delete, run-time
type information; names that Metal's library lacks. Found in the text: std::, goto, lambdas, headers other than Metal's
and ours, static variables in functions, kernels that return something, buffers without [[buffer(n)]]. Found in the
compiled code: recursion.

Not found: implicit conversions that only MSL forbids (bfloat from float; emulated Metal refuses those), limits of
registers and of threadgroup memory, alignment of vectors, divergent control flow around barriers (checked when kernels
run), and whatever Apple's library does differently.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RULES = ROOT / "tools" / "kernel_rules"
FEATURES = ["+cl_khr_fp16", "+cl_khr_fp64", "+__opencl_c_fp64"] + [
    f"-__opencl_c_{name}" for name in ("program_scope_global_variables", "pipes", "device_enqueue")
]
MOST_BUFFERS, MOST_CONSTANTS = 31, 65536  # of a kernel in Metal
TYPES = "float|half|bfloat|char|short|int|long|uchar|ushort|uint|ulong|bool"

# Refused anywhere in the text, except in comments and strings.
FORBIDDEN = {
    r"\bdouble\b": "Metal has no double",
    r"\bstd\s*::": "the C++ standard library",
    r"\bgoto\b": "goto",
    r"\b(?:new|delete|throw|try|catch|virtual|dynamic_cast|typeid|thread_local|register|asm)\b": "a keyword MSL lacks",
    r"(?<![\w\]\)])\[[&=\w\s,]*\]\s*(?:\([^)]*\)\s*)?\{": "a lambda",
    r"#\s*include\s*<(?!metal_|cstdint)": "a header that is not Metal's",
    r"^\s+static\s+(?!constant|constexpr|inline|void|\w+\s+\w+\s*\()": "a static variable",
    r"(?:\bkernel|\[\[kernel\]\])\s+(?!void\b|decltype)\w+\s+\w+\s*\(": "a kernel that returns something",
}


def without_comments(text: str) -> str:
    """The text with comments replaced by blanks."""
    blank = lambda match: re.sub(r"[^\n]", " ", match.group())  # noqa: E731
    return re.sub(r"//[^\n]*|/\*.*?\*/", blank, text, flags=re.DOTALL)


def text_faults(name: str, text: str) -> list[str]:
    plain = without_comments(text)
    faults = []
    for pattern, what in FORBIDDEN.items():
        for match in re.finditer(pattern, plain, flags=re.MULTILINE):
            line = plain.count("\n", 0, match.start()) + 1
            faults.append(f"{name}:{line}: {what}: {match.group().strip()[:60]}")
    return faults


def as_opencl(text: str) -> str:
    """Replace MSL's syntax by C++'s: vector constructors, threadgroup arrays, function constants, attributes."""
    text = without_comments(text)
    text = re.sub(rf"\b(?:packed_)?({TYPES})([234])\s*\(", r"make_vector<\1, \2>(", text)
    text = re.sub(r"\bvec<\s*(\w+)\s*,\s*(\w+)\s*>\s*\(", r"make_vector<\1, \2>(", text)
    text = re.sub(
        r"^(\s+)threadgroup\s+([\w:<>, ]+?)\s+(\w+)((?:\[[^\]]*\])+)\s*;",
        r"\1threadgroup \2 (&\3)\4 = *(threadgroup \2(*)\4)1;",
        text,
        flags=re.MULTILINE,
    )
    numbers = {f"({number}) < {MOST_BUFFERS}" for number in re.findall(r"\[\[buffer\(([^)]*)\)", text)}
    numbers |= {
        f"({number}) < {MOST_CONSTANTS}" for number in re.findall(r"\[\[function_constant\(([^)]*)\)\]\]\s*;", text)
    }
    text = re.sub(r"(constant\s+\w+\s+\w+)\s*\[\[function_constant\([^)]*\)\]\]\s*;", r"\1 = 1;", text)
    text = re.sub(r"\[\[\s*(?:kernel|host_name\([^)]*\))\s*\]\]", "", text)
    text = re.sub(r"(?<!\[)\bkernel\s+void\b", "void", text)
    # Attributes are dropped, so their numbers, which may be names, are checked here.
    return text + "".join(f'\nstatic_assert({number}, "a number in an attribute");' for number in sorted(numbers))


def find_clang() -> str:
    for version in (19, 20, 21):
        if path := shutil.which(f"clang++-{version}"):
            return path
    raise SystemExit("error: clang++-19 or newer is not installed (Debian: clang-19)")


def recursion(code: str) -> list[str]:
    """Recursive functions in LLVM assembly."""
    calls: dict[str, set[str]] = {}
    current = ""
    for line in code.splitlines():
        if line.startswith("define"):
            current = re.search(r'@("[^"]+"|[\w.$]+)\(', line)[1]  # type: ignore[index]
            calls[current] = set()
        elif current and " call " in line:
            calls[current] |= {match[1] for match in re.finditer(r'@("[^"]+"|[\w.$]+)\(', line)}
    recursive = []
    for start in calls:
        seen, waiting = set(), list(calls[start])
        while waiting:
            name = waiting.pop()
            if name not in seen:
                seen.add(name)
                waiting.extend(calls.get(name, ()))
        if start in seen:
            recursive.append(f"recursion: {start} calls itself")
    return recursive


# A variable whose type has a pointer or reference without an address space: generic here, thread memory in MSL.
UNQUALIFIED = re.compile(r"(?:ParmVarDecl|VarDecl|FieldDecl) .*? (\w+) '([^']*\b__generic\b[^']*[*&][^']*)'")


def unqualified(tree: str) -> list[str]:
    matches = [match for line in tree.splitlines() if "__generic" in line and (match := UNQUALIFIED.search(line))]
    # Parameters of implicit copy constructors have no name.
    named = {(m[1], m[2].replace("__generic ", "")) for m in matches if m[1] not in ("used", "referenced")}
    return [f"{name} ({kind}) does not say which memory it points to" for name, kind in sorted(named)]


def compile_faults(name: str, text: str, headers: Path, clang: str) -> list[str]:
    features = ",".join(FEATURES)
    command = [clang, "-x", "clcpp", "-cl-std=clc++2021", "-target", "spir64", "-Xclang", f"-cl-ext={features}"]
    command += ["-cl-no-stdinc", "-I", str(RULES), "-I", str(headers), "-ferror-limit=20"]
    command += ["-Wno-unknown-attributes", "-Wno-ignored-attributes", "-Wno-null-dereference"]
    source = f'#line 1 "{name}"\n{as_opencl(text)}'

    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*command, *options, "-"], input=source, text=True, capture_output=True)

    result = run("-O0", "-S", "-emit-llvm", "-o", "-")
    if result.returncode:
        return [result.stderr.strip()]
    tree = run("-fsyntax-only", "-Xclang", "-ast-dump").stdout
    return [f"{name}: {fault}" for fault in [*unqualified(tree), *recursion(result.stdout)]]


def check_sources(sources: Iterable[tuple[str, str]], metal: Path = ROOT / "metal") -> list[str]:
    """The faults of these files: pairs of a name and MSL text, which may include the headers in ``metal``."""
    clang = find_clang()
    faults: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted(metal.glob("*.h")):
            faults += text_faults(path.name, path.read_text())
            Path(folder, path.name).write_text(as_opencl(path.read_text()))
        for name, text in sources:
            faults += text_faults(name, text)
            faults += compile_faults(name, text, Path(folder), clang)
    return faults


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="*", type=Path, help="default: every file of metal/")
    arguments = parser.parse_args()
    files = arguments.files or sorted((ROOT / "metal").glob("*.metal"))
    faults = check_sources((path.name, path.read_text()) for path in files)
    for fault in faults:
        print(fault)
    print(f"{len(files)} files, {len(faults)} with faults" if faults else f"{len(files)} files: no fault found")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

"""Mutations of kernels: the changes that are possible in a file of metal/, and copies of the folder with one change."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from check_kernels import without_comments

ROOT = Path(__file__).resolve().parent.parent
KERNELS = ROOT / "metal"
EQUIVALENT = ROOT / "tests" / "metal" / "equivalent_mutants.txt"
SHARED = {"args.h", "constants.h"}  # what they say is said to C++ too

Replacement = str | Callable[[re.Match[str]], str]

# An expression in parentheses, three more inside one another.
NESTED = r"\([^()]*\)"
for _ in range(3):
    NESTED = rf"\((?:[^()]|{NESTED})*\)"

SWAPPED = {
    "<": "<=",
    "<=": "<",
    ">": ">=",
    ">=": ">",
    "==": "!=",
    "!=": "==",
    "&&": "||",
    "||": "&&",
    "min": "max",
    "max": "min",
    "nan_min": "nan_max",
    "nan_max": "nan_min",
    "true": "false",
    "false": "true",
    ".x": ".y",
    ".y": ".x",
    ".z": ".y",
    "plus": "times",
    "times": "plus",
    "[0]": "[1]",
    "[1]": "[0]",
    "++": "--",
    "--": "++",
}


def swap(found: re.Match[str]) -> str:
    return SWAPPED[found.group(1)]


# Patterns and replacements. `precise` is not among them, because in emulation every call is precise.
# Spaces distinguish operators from pointers, references and template brackets.
OPERATORS: dict[str, tuple[str, Replacement]] = {
    "relation": (r"(?<= )(<|<=|>|>=|==|!=)(?= )", swap),
    "logic": (r"(?<= )(&&|\|\|)(?= )", swap),
    "one dropped": (r" [+-] 1\b(?![.\w])", ""),
    "plus to minus": (r"(?<=[\w)\]] )\+(?= )", "-"),
    "minus to plus": (r"(?<=[\w)\]] )-(?= )", "+"),
    "times to plus": (r"(?<=[\w)\]] )\*(?= )", "+"),
    "divided to times": (r"(?<=[\w)\]] )/(?= )", "*"),
    "rest to quotient": (r"(?<= )%(?= )", "/"),
    "not added": (r"(?<= )[+*]=(?= )", "="),
    "taken away": (r"(?<= )\+=(?= )", "-="),
    "count the other way": (r"(?<!\w)(\+\+|--)(?=\w)", swap),
    "barrier": (r"\b(?:threadgroup|simdgroup)_barrier\([^)]*\);", ";"),
    "guard": (rf"\bif {NESTED}\s+(?:return\b[^;{{}}]*|continue|break);", ""),
    "start at one": (r"= 0(?=[;,])", "= 1"),
    "sum from one": (r"(?<=[ (])0\.0f(?=[);,])", "1.0f"),
    "peak from zero": (r"-INFINITY\b", "0.0f"),
    "extreme": (r"\b(min|max|nan_min|nan_max)(?=\()", swap),
    "exact step": (r"(?<!\w)(plus|times)(?=\(\w[\w.]*, )", swap),
    "constant": (r"(?<=[ (])(true|false)\b", swap),
    "position": (r"(?<=\b(?:at|id))(\.[xyz])\b|(?<=\bgroup)(\.[xyz])\b", lambda f: SWAPPED[f.group()]),
    "operand": (r"(?<=\.of)(\[[01]\])", swap),
    "choice": (r"\? (\w[\w.\[\]]*) : (\w[\w.\[\]]*)(?=[;,)])", r"? \2 : \1"),
    "narrow sum": (r"\bfloat (\w+) = 0\.0f;", r"half \1 = 0.0h;"),
    "lanes apart": (r"\bsimd_(?:sum|max|min|product)(?=\()", ""),
    "shift": (r"(?<= )(?:<<|>>)(?= )", lambda f: ">>" if f.group() == "<<" else "<<"),
}

# Lines that only declare something or instantiate templates.
SKIPPED = re.compile(r"\s*(?:#|template\b|static_assert|using\b|typedef\b|NPU_[A-Z_]+\(|constant \w+ \w+ \[\[)")
FLAG = re.compile(r"constant bool (k\w+)\b")
DEFINITION = re.compile(r"^(?:inline\b[^(;=]*?(\w+)\(|\[\[kernel\]\] void (\w+)\(|struct (\w+)\b)", re.M)


@dataclass(frozen=True)
class Mutant:
    """A change: the text of ``file`` from ``start`` to ``end`` becomes ``new``."""

    file: str
    operator: str
    start: int
    end: int
    new: str
    line: int
    before: str
    after: str

    def apply(self, text: str) -> str:
        return text[: self.start] + self.new + text[self.end :]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} [{self.operator}]\n    - {self.before}\n    + {self.after}"


def squeezed(text: str) -> str:
    return " ".join(text.split())


def members() -> dict[str, str]:
    """Each stride of the arguments, and the one declared after it: x_step and y_step, for one."""
    text = without_comments((KERNELS / "args.h").read_text())
    neighbours: dict[str, str] = {}
    for struct in re.findall(r"\bstruct \w+ \{(.*?)\n\};", text, re.S):
        names = re.findall(r"\bint64_t (\w+)(?:\[\w+\])?;", struct)
        for name, other in zip(names, names[1:] + names[-2:-1], strict=False):
            neighbours.setdefault(name, other)
    return neighbours


def dull(text: str) -> list[bool]:
    """For each line (from 1), whether to leave it unchanged."""
    found = [True]
    macro = False
    for line in text.splitlines():
        macro_goes_on = macro or line.startswith("#define")
        found.append(macro_goes_on or bool(SKIPPED.match(line)) or "[[buffer(" in line or "[[function_const" in line)
        macro = macro_goes_on and line.endswith("\\")
    return found


def rewrites(text: str) -> Iterator[tuple[str, re.Match[str], str]]:
    for name, (pattern, new) in OPERATORS.items():
        for found in re.finditer(pattern, text):
            yield name, found, new(found) if callable(new) else found.expand(new)
    flags = "|".join(sorted(set(FLAG.findall(text)))) or "(?!)"
    for found in re.finditer(rf"(?<![\w.])!?\b(?:{flags})\b", text):
        yield "flag", found, found.group()[1:] if found.group().startswith("!") else "!" + found.group()
    neighbours = members()
    for found in re.finditer(r"(?<=\bargs\.)(\w+)\b|(?<=\baxis\.)(\w+)\b", text):
        if found.group() in neighbours:
            yield "stride", found, neighbours[found.group()]


def mutants_of(file: str) -> list[Mutant]:
    original = (KERNELS / file).read_text()
    text = without_comments(original)
    skip = dull(text)
    made = []
    for name, found, new in rewrites(text):
        line = text.count("\n", 0, found.start()) + 1
        if skip[line] or text[found.start() : found.end()] == new:
            continue
        begin, end = text.rfind("\n", 0, found.start()) + 1, text.find("\n", found.end())
        after = text[begin : found.start()] + new + text[found.end() : end]
        before = squeezed(text[begin:end])
        made.append(Mutant(file, name, found.start(), found.end(), new, line, before, squeezed(after)))
    return sorted(made, key=lambda m: (m.start, m.operator))


def sample(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """A sample with as many operators and lines as possible; it depends only on the seed."""
    order = random.Random(f"{seed} {mutants[0].file if mutants else ''}")
    shuffled = order.sample(mutants, len(mutants))
    chosen: list[Mutant] = []
    taken: dict[str, int] = {}
    while shuffled and len(chosen) < count:
        lines = {m.line for m in chosen}
        best = min(shuffled, key=lambda m: (taken.get(m.operator, 0) // 2, m.line in lines))
        taken[best.operator] = taken.get(best.operator, 0) + 1
        chosen.append(best)
        shuffled.remove(best)
    return sorted(chosen, key=lambda m: (m.start, m.operator))


def includes(file: str) -> set[str]:
    """The file and everything that it includes."""
    found, text = {file}, (KERNELS / file).read_text()
    for name in re.findall(r'^#include "([^"]+)"', text, re.M):
        found |= includes(name)
    return found


def equivalents() -> dict[tuple[str, str, str], str]:
    """Reasons by file, line before and line after: `file: reason`, then `- before` and `+ after`, and an empty line."""
    found = {}
    text = EQUIVALENT.read_text() if EQUIVALENT.exists() else ""
    for block in text.split("\n\n"):
        lines = [line for line in block.splitlines() if line and not line.startswith("#")]
        if len(lines) == 3:
            file, reason = lines[0].split(": ", 1)
            found[file, lines[1][2:], lines[2][2:]] = reason
    return found


GENERATED = "map"  # the library whose text is generated for each program; it includes map.h


def libraries_with(file: str) -> list[str]:
    libraries = [p.stem for p in sorted(KERNELS.glob("*.metal")) if file in includes(p.name)]
    return libraries + ([GENERATED] if file in includes("map.h") else [])


def definitions(text: str) -> list[tuple[str, int, int]]:
    """The functions and structs of a text: name, start and end."""
    found = list(DEFINITION.finditer(without_comments(text)))
    ends = [m.start() for m in found[1:]] + [len(text)]
    return [(m.group(m.lastindex or 0), m.start(), end) for m, end in zip(found, ends, strict=False)]


def users(file: str, position: int) -> set[str]:
    """The function or struct around a position, and those of any file that come to use it."""
    files = [path for path in KERNELS.iterdir() if file in includes(path.name)]
    texts = [(path.name, without_comments(path.read_text())) for path in files]
    spans = [(name, owner, text[a:b], a, b) for owner, text in texts for name, a, b in definitions(text)]
    reached = {name for name, owner, _, start, end in spans if owner == file and start <= position < end}
    grown = bool(reached)
    while grown:
        called = re.compile(r"\b(?:" + "|".join(reached) + r")\b")
        more = {name for name, _, body, _, _ in spans if name not in reached and called.search(body)}
        reached |= more
        grown = bool(more)
    return reached


def libraries_of(mutant: Mutant) -> list[str]:
    """The libraries that use the changed code, those that compile fast first."""
    reached, fitting = users(mutant.file, mutant.start), []
    for library in libraries_with(mutant.file):
        text = "" if library == GENERATED else (KERNELS / f"{library}.metal").read_text()
        if library == GENERATED or not reached or any(name in reached for name, _, _ in definitions(text)):
            fitting.append((library == GENERATED, len(text), library))
    return [library for _, _, library in sorted(fitting)]


KEPT = r"float|long|uint"
OTHER_TYPES = r"half|bfloat|char|short|int|uchar|ushort|ulong|bool"
INSTANCE = re.compile(rf"(?<!define )\bNPU_(?!WORDS|FOURS|RESULT)[A-Z_]+\([^()]*\b(?:{OTHER_TYPES})\b[^()]*\)")


def thinned(text: str) -> str:
    """The text without the instances for most types, which take most of the compile time."""
    return INSTANCE.sub("", text)


def write_folder(folder: Path, mutant: Mutant | None, thin: bool) -> Path:
    """A copy of metal/ with one change, or none."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for path in KERNELS.iterdir():
        text = path.read_text()
        if mutant and path.name == mutant.file:
            text = mutant.apply(text)
        (folder / path.name).write_text(thinned(text) if thin else text)
    return folder

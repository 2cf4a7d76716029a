"""Assigns nodes to module calls, and module calls to the boxes of a folded picture."""

from __future__ import annotations

import difflib
import fnmatch
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from npu_base.errors import InvalidValueError
from npu_base.module_paths import levels, split_call

if TYPE_CHECKING:
    from torch_ir.ir import IR


def _list_of(module: str) -> str | None:
    head, _, last = module.rpartition(".")
    return head if last.isdigit() else None


class ModuleTree:
    """Calls of modules, from the paths that nodes carry.

    A path has only the number of the innermost module's call: in the second call of ``cell``, its ``linear`` is
    ``cell.linear@1``. The numbers of the calls around it are computed from how often each is called.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._chains: dict[str, tuple[str, ...]] = {}
        own: dict[str, int] = {}
        for path in paths:
            module, call = split_call(path)
            own[module] = max(own.get(module, 0), call + 1)
        self.modules = self._known(own)
        self._calls = self._count(own)

    @staticmethod
    def _known(own: Iterable[str]) -> list[str]:
        seen: dict[str, None] = {}
        for module in own:
            seen.update(dict.fromkeys(levels(module)))
        return list(seen)

    def _count(self, own: dict[str, int]) -> dict[str, int]:
        counts = dict(own)
        children: dict[str, list[str]] = {}
        for module in self.modules:
            above = levels(module)[:-1]
            if above:
                children.setdefault(above[-1], []).append(module)
        for module in sorted(self.modules, key=lambda m: -len(levels(m))):
            if module not in counts:
                # A module without its own operators: the largest number that divides the calls of all its children.
                counts[module] = math.gcd(*(counts[c] for c in children[module]))
        return counts

    def chain(self, path: str) -> tuple[str, ...]:
        """The calls around a node, outermost first, each with ``@n`` unless it is the first."""
        known = self._chains.get(path)
        if known is not None:
            return known
        module, call = split_call(path)
        keys: list[str] = []
        below = 0
        for level in reversed(levels(module)):
            count = self._calls[level]
            if keys and count <= below:
                call = call * count // below
            below = count
            keys.append(f"{level}@{call}" if call else level)
        self._chains[path] = tuple(reversed(keys))
        return self._chains[path]


@dataclass
class Unit:
    """A box of a folded picture: a module call, a run of a module's own operators, or one operator."""

    kind: Literal["box", "run", "op"]
    key: str
    frame: tuple[str, ...]
    nodes: list[int] = field(default_factory=list)
    members: list[str] = field(default_factory=list)
    """Keys of the identical module calls in this box."""


class Folding:
    """The units of a graph, in its order."""

    def __init__(self, ir: IR, tree: ModuleTree, depth: int, expand: Sequence[str]) -> None:
        self.ir, self.tree, self.depth = ir, tree, depth
        self.expanded = self._matching(expand)
        self.around = {above for m in self.expanded for above in levels(m)[:-1]}
        self.parents = {above for m in tree.modules for above in levels(m)[:-1]}

    def _matching(self, expand: Sequence[str]) -> set[str]:
        matching: set[str] = set()
        for pattern in expand:
            matches = [m for m in self.tree.modules if m == pattern or fnmatch.fnmatchcase(m, pattern)]
            # A list of modules, which is not called itself, includes all its modules.
            matches = matches or [m for m in self.tree.modules if _list_of(m) == pattern]
            if not matches:
                raise InvalidValueError(self._unknown(pattern))
            matching.update(matches)
        return matching

    def _unknown(self, pattern: str) -> str:
        close = difflib.get_close_matches(pattern, self.tree.modules, 3, 0.5) or self.tree.modules[:3]
        return f"no module '{pattern}' has operators in this graph; did you mean {', '.join(map(repr, close))}?"

    def units(self) -> list[Unit]:
        units: list[Unit] = []
        boxes: dict[str, Unit] = {}
        for i, node in enumerate(self.ir.nodes):
            unit = self._unit_of(self.tree.chain(node.module_path or ""))
            last = units[-1] if units else None
            if unit.kind == "box" and unit.key in boxes:
                unit = boxes[unit.key]
            elif unit.kind == "run" and last and (last.kind, last.key, last.frame) == ("run", unit.key, unit.frame):
                unit = last
            else:
                units.append(unit)
                if unit.kind == "box":
                    boxes[unit.key] = unit
                    unit.members = [unit.key]
            unit.nodes.append(i)
        for unit in units:
            if unit.kind == "run" and len(unit.nodes) == 1:
                unit.kind = "op"
        return units

    def _unit_of(self, chain: tuple[str, ...]) -> Unit:
        frame: list[str] = []
        for level, key in enumerate(chain, start=1):
            module = split_call(key)[0]
            if module in self.expanded or (module in self.around and level >= self.depth):
                frame.append(key)
            elif module not in self.around and (level >= self.depth or module not in self.parents):
                return Unit("box", key, tuple(frame))
        # The operator belongs to an unfolded module itself.
        innermost = chain[-1] if chain else ""
        single = split_call(innermost)[0] in self.expanded
        return Unit("op" if single else "run", innermost, tuple(frame))

"""Decides where each node runs, and in which order, so that as little as possible crosses."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any

from .errors import IRError
from .lowering import GETITEM
from .partition_costs import crossing_seconds, part_seconds
from .support import node_reads

__all__ = ["CHEAPER", "Arrangement"]

CHEAPER = "it is cheaper on the host: moving its tensors to the device and back costs more than it saves"

_SWEEPS = 4
_ONE_BY_ONE = 64  # with more candidates, all move at once, because each try costs a pass over the graph
_RANDOM = ("rand", "bernoulli", "multinomial", "normal", "dropout", "exponential", "poisson", "uniform", "rrelu")

Groups = list[tuple[str, list[int]]]


class Arrangement:
    """Nodes are given by index. ``targets`` and ``groups`` are the result; ``moved`` nodes are cheaper on the host."""

    def __init__(self, nodes: Sequence[dict[str, Any]], targets: Sequence[str]) -> None:
        self.nodes, self.targets = nodes, list(targets)
        self.moved: set[int] = set()
        self._home = {out["name"]: i for i, node in enumerate(nodes) for out in node["outputs"]}
        self._metas = {out["name"]: out for node in nodes for out in node["outputs"]}
        self._reads = [sorted({t["name"] for t in node_reads(node)} & set(self._home)) for node in nodes]
        self._before = self._dependencies()
        self._after: list[list[int]] = [[] for _ in nodes]
        for i, before in enumerate(self._before):
            for j in before:
                self._after[j].append(i)
        self._keep_results_together()
        self.groups = self._schedule(self.targets)
        self._seconds = self._cost(self.targets, self.groups)

    def improve(self) -> None:
        """Moves cheap nodes that lie between host nodes to the host, as long as the total cost falls."""
        for _ in range(_SWEEPS):
            cheap = [chosen for chosen in self._candidates() if self._may_pay(chosen)]
            if len(cheap) > _ONE_BY_ONE and self._try([i for chosen in cheap for i in chosen]):
                continue
            better = [self._try(chosen) for chosen in cheap]
            if not any(better):
                return

    def _dependencies(self) -> list[set[int]]:
        before = [{self._home[name] for name in reads} - {i} for i, reads in enumerate(self._reads)]
        last = None
        for i, node in enumerate(self.nodes):
            if _keeps_its_turn(node):
                if last is not None:
                    before[i].add(last)
                last = i
        return before

    def _keep_results_together(self) -> None:
        """Selecting one of several results is free, and happens where they are."""
        for i, node in enumerate(self.nodes):
            if node["op_type"] == GETITEM and self._reads[i] and self.targets[i] == "npu":
                self.targets[i] = self.targets[self._home[self._reads[i][0]]]

    def _schedule(self, targets: Sequence[str]) -> Groups:
        """Alternates between all nodes that are ready on one side and all that are ready on the other. With the better
        of the two starting sides, no order has fewer borders."""
        schedules = [groups for first in ("npu", "cpu") if (groups := self._from(first, targets)) is not None]
        best = min(schedules, key=len) if schedules else []
        if sum(len(group) for _, group in best) != len(self.nodes):
            raise IRError("[compiler] malformed IR: nodes depend on each other's results; expected no cycle")
        return best

    def _from(self, first: str, targets: Sequence[str]) -> Groups | None:
        waits = [len(before) for before in self._before]
        ready: dict[str, list[int]] = {"npu": [], "cpu": []}
        for i, count in enumerate(waits):
            if count == 0:
                heapq.heappush(ready[targets[i]], i)
        if not ready[first]:
            return None
        groups: Groups = []
        side = first
        while ready["npu"] or ready["cpu"]:
            if not ready[side]:
                side = "cpu" if side == "npu" else "npu"
            group: list[int] = []
            while ready[side]:
                i = heapq.heappop(ready[side])
                group.append(i)
                for j in self._after[i]:
                    waits[j] -= 1
                    if waits[j] == 0:
                        heapq.heappush(ready[targets[j]], j)
            groups.append((side, group))
        return groups

    def _cost(self, targets: Sequence[str], groups: Groups) -> float:
        seconds, there = 0.0, set()
        for target, group in groups:
            reads = {name for i in group for name in self._reads[i]}
            crossing = sorted(n for n in reads if targets[self._home[n]] != target and (n, target) not in there)
            there |= {(name, target) for name in crossing}
            seconds += part_seconds(target, (self.nodes[i] for i in group))
            seconds += crossing_seconds([self._metas[name] for name in crossing])
        return seconds

    def _candidates(self) -> list[list[int]]:
        """For each device part, the nodes that lie between host nodes."""
        below, above = self._touching(self._before), self._touching(self._after, backwards=True)
        parts = [[i for i in group if below[i] and above[i]] for target, group in self.groups if target == "npu"]
        return [chosen for chosen in parts if chosen]

    def _may_pay(self, chosen: Sequence[int]) -> bool:
        """Whether moving these nodes to the host could save more, in borders and crossing tensors, than it costs."""
        nodes = [self.nodes[i] for i in chosen]
        names = {name for i in chosen for name in self._reads[i]} | {t["name"] for n in nodes for t in n["outputs"]}
        border = part_seconds("npu", []) + part_seconds("cpu", []) + crossing_seconds([])
        saved = border + sum(crossing_seconds([self._metas[name]]) for name in names)
        return part_seconds("cpu", nodes) - part_seconds("npu", nodes) < saved

    def _touching(self, edges: Sequence[Any], backwards: bool = False) -> list[bool]:
        """For each node, whether it depends on a host node, or a host node on it."""
        order = [i for _, group in self.groups for i in group]
        touching = [False] * len(self.nodes)
        for i in reversed(order) if backwards else order:
            touching[i] = any(self.targets[j] == "cpu" or touching[j] for j in edges[i])
        return touching

    def _try(self, chosen: list[int]) -> bool:
        if all(self.targets[i] == "cpu" for i in chosen):
            return False
        targets = list(self.targets)
        for i in chosen:
            targets[i] = "cpu"
        groups = self._schedule(targets)
        seconds = self._cost(targets, groups)
        if seconds >= self._seconds:
            return False
        self.moved |= {i for i in chosen if self.targets[i] == "npu"}
        self.targets, self.groups, self._seconds = targets, groups, seconds
        return True


def _keeps_its_turn(node: Mapping[str, Any]) -> bool:
    """Random numbers depend on the order of what draws them. What computes nothing is there for its effect."""
    return not node["outputs"] or any(word in node["op_type"] for word in _RANDOM)

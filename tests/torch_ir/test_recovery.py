"""Buffers of models on meta, computed anew: right, or asked for, never wrong."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import pytest
import torch
from torch import nn
from torch_ir.recovery import recover_buffers


def recovered(build) -> dict[str, torch.Tensor]:
    """What is known of the model's buffers; whatever that is must be what the real model holds."""
    with torch.device("meta"):
        model = build()
    names = [n for n, _ in model.named_buffers() if n not in model.state_dict()]
    found = recover_buffers(model, names)
    real = dict(build().named_buffers())
    for name, value in found.items():
        assert torch.equal(value, real[name]), name
        assert value.dtype == real[name].dtype
    return found


class Table(nn.Module):
    """``n`` is kept; ``step`` is not, and the table follows from it."""

    def __init__(self, n: int, step: float = 1.0) -> None:
        super().__init__()
        self.n = n
        self.register_buffer("table", torch.arange(n) * step, persistent=False)


class Holder(nn.Module):
    """Keeps nothing of how it was made."""

    def __init__(self, *children: nn.Module) -> None:
        super().__init__()
        self.inner = nn.ModuleList(children)


@dataclass
class Config:
    size: int = 4
    base: float = 10.0


class TestStored:
    def test_under_another_name(self):
        class Renamed(nn.Module):
            def __init__(self, dim: int, base: float) -> None:
                super().__init__()
                self.width, self.theta = dim, base
                self.register_buffer("table", base ** torch.arange(dim), persistent=False)

        assert "inner.0.table" in recovered(lambda: Holder(Renamed(5, 3.0)))

    def test_a_config_under_another_name(self):
        class Configured(nn.Module):
            def __init__(self, settings: Config) -> None:
                super().__init__()
                self.cfg = settings
                self.register_buffer("table", settings.base ** torch.arange(settings.size), persistent=False)

        assert "inner.0.table" in recovered(lambda: Holder(Configured(Config(6, 2.0))))

    def test_by_the_base_class(self):
        class Base(nn.Module):
            def __init__(self, n: int, scale: float) -> None:
                super().__init__()
                self.n, self.factor = n, scale

        class Derived(Base):
            def __init__(self, count: int, scale: float) -> None:
                super().__init__(count, scale=scale)
                self.register_buffer("table", torch.arange(count) * scale, persistent=False)

        assert "inner.0.table" in recovered(lambda: Holder(Derived(4, 2.5)))

    def test_changed_after_the_base_class_stored_it(self):
        class Base(nn.Module):
            def __init__(self, n: int) -> None:
                super().__init__()
                self.n = n

        class Derived(Base):
            def __init__(self, n: int) -> None:
                super().__init__(n)
                self.register_buffer("table", torch.arange(4) * n, persistent=False)
                self.n = max(n, 9)

        assert recovered(lambda: Holder(Derived(3))) == {}

    def test_a_parent_that_is_not_known_replaces_it(self):
        class Replaces(nn.Module):
            def __init__(self, by: float) -> None:
                super().__init__()
                self.child = Table(4)
                self.child.table = self.child.table + by

        class Registers(nn.Module):
            def __init__(self, by: float) -> None:
                super().__init__()
                self.child = Table(4)
                self.child.register_buffer("table", self.child.table + by, persistent=False)

        class Sets(nn.Module):
            def __init__(self, by: float) -> None:
                super().__init__()
                self.child = Table(4)
                setattr(self.child, "table", self.child.table + by)  # noqa: B010

        for parent in (Replaces, Registers, Sets):
            assert recovered(functools.partial(parent, 2.0)) == {}

    def test_a_parent_that_is_not_known_has_it_changed(self):
        class Rescales(Table):
            def __init__(self, n: int) -> None:
                super().__init__(n)
                self.n = n

            def rescale(self, by: float) -> None:
                self._multiply(by)

            def _multiply(self, by: float) -> None:
                self.table = self.table * by

        class Parent(nn.Module):
            def __init__(self, by: float) -> None:
                super().__init__()
                self.child = Rescales(4)
                self._finish(by)

            def _finish(self, by: float) -> None:
                self.child.rescale(by)

        class Harmless(nn.Module):
            def __init__(self, by: float) -> None:
                super().__init__()
                self.child = Rescales(4)

            def later(self) -> None:
                self.child.rescale(3.0)

        class Derived(Parent):
            def __init__(self, by: float) -> None:
                super().__init__(by)

        assert recovered_names(lambda: Parent(2.0)) == []
        assert recovered_names(lambda: Derived(2.0)) == []
        assert recovered_names(lambda: Harmless(2.0)) == ["child.table"]


class TestReset:
    class Initialised(nn.Module):
        def __init__(self, size, scale: float = 2.0) -> None:
            super().__init__()
            self.size = (size, size) if isinstance(size, int) else size
            self.factor = float(scale)
            self.weight = nn.Parameter(torch.empty(3))
            self.register_buffer("index", torch.empty(self.size, dtype=torch.int64), persistent=False)
            self.register_buffer("mask", None, persistent=False)
            self.register_buffer("unset", torch.empty(3), persistent=False)
            self.reset_parameters()

        def reset_parameters(self) -> None:
            nn.init.normal_(self.weight)
            self.index.copy_(torch.arange(self.index.numel()).view(self.size))
            self.mask = torch.ones(2, device=self.weight.device) * self.factor

    def test_buffers_are_what_it_makes_of_them(self):
        assert set(recovered_names(lambda: Holder(self.Initialised(3, 5.0)))) == {"inner.0.index", "inner.0.mask"}

    def test_uninitialised_memory_is_never_taken_for_a_value(self):
        assert "inner.0.unset" not in recovered_names(lambda: Holder(self.Initialised(3, 5.0)))

    def test_random_values_are_not_known(self):
        class Random(self.Initialised):
            def reset_parameters(self) -> None:
                super().reset_parameters()
                self.index.random_(0, 100)

        assert "inner.0.index" not in recovered_names(lambda: Holder(Random(8)))

    def test_another_last_word_of_the_constructor(self):
        class Never(nn.Module):
            def __init__(self, start: float) -> None:
                super().__init__()
                self.register_buffer("calls", torch.full((2,), start), persistent=False)

            def reset_parameters(self) -> None:
                self.calls = torch.zeros(2)

        assert recovered(lambda: Holder(Never(3.0))) == {}

    def test_what_it_follows_from_is_changed_by_the_parent(self):
        outer = self.Initialised

        class Parent(nn.Module):
            def __init__(self, factor: float) -> None:
                super().__init__()
                self.child = outer(3, factor * 2)
                self.child.factor = 7.0

        assert recovered_names(lambda: Parent(2.0)) == []

    def test_written_later(self):
        def build():
            model = Holder(self.Initialised(3))
            model.inner[0].index.add_(1)
            return model

        assert "inner.0.index" not in recovered_names(build)

    def test_after_a_cast_writes_cannot_be_counted(self):
        class Cast(nn.Module):
            def __init__(self, n: int) -> None:
                super().__init__()
                self.count = n * 1
                self.register_buffer("scale", torch.empty(n), persistent=False)
                self.reset_parameters()

            def reset_parameters(self) -> None:
                self.scale.copy_(torch.arange(self.count))

        def build():
            model = Holder(Cast(7)).to(torch.bfloat16)
            model.inner[0].scale.mul_(2)
            return model

        assert recovered_names(build) == []
        assert recovered_names(lambda: Holder(Cast(7))) == ["inner.0.scale"]


def recovered_names(build) -> list[str]:
    return sorted(recovered(build))


class Fixed(nn.Module):
    """Makes its children by calls that stand in its source, and keeps none of its own arguments."""

    def __init__(self, unknown: int) -> None:
        super().__init__()
        width = 3
        self.literal = Table(4, 0.5)
        self.local = Table(width + 1, step=width / 2)
        self.default = Table(4)
        options = {"n": 4, "step": 2.0}
        self.spread = Table(**options)
        self.list = nn.ModuleList([Table(4, step=float(i)) for i in range(unknown)])
        self.given = Table(4, unknown * 1.5)


Quarter = functools.partial(Table, step=0.25)


class TestCallSites:
    def test_arguments_that_the_code_around_gives(self):
        names = recovered_names(lambda: Fixed(2))
        assert names == ["default.table", "literal.table", "local.table", "spread.table"]

    def test_through_a_partial(self):
        class Parent(nn.Module):
            def __init__(self, unknown: int) -> None:
                super().__init__()
                self.child = Quarter(4)
                self.also = functools.partial(Table, 4)(step=0.75)

        assert recovered_names(lambda: Parent(1)) == ["also.table", "child.table"]

    def test_of_a_known_argument_and_of_self(self):
        class Parent(nn.Module):
            def __init__(self, config: Config, scale: float, unknown: int) -> None:
                super().__init__()
                self.config, self.scale = config, scale
                self.steps = (scale, scale * 2)
                self.child = Table(config.size, self.steps[1])

        assert recovered_names(lambda: Parent(Config(5), 3.0, 1)) == ["child.table"]

    def test_an_argument_that_has_another_value_by_then(self):
        class Parent(nn.Module):
            def __init__(self, scale: float, unknown: int) -> None:
                super().__init__()
                self.scale = scale
                for _ in range(unknown):
                    scale = scale + 1
                self.child = Table(4, scale)

        assert recovered(lambda: Parent(3.0, 2)) == {}

    def test_calls_that_differ(self):
        class Parent(nn.Module):
            def __init__(self, unknown: bool) -> None:
                super().__init__()
                if unknown:
                    self.child = Table(4, 2.0)
                else:
                    self.child = Table(4, 3.0)

        assert recovered(lambda: Parent(True)) == {}


class TestGuesses:
    def test_a_default_that_shows_in_the_module(self):
        class Shown(nn.Module):
            def __init__(self, n: int, groups: int = 2) -> None:
                super().__init__()
                self.n, self.per_group = n, n // groups
                self.register_buffer("table", torch.arange(n) % (n // groups), persistent=False)

        assert "inner.0.table" in recovered(lambda: Holder(Shown(240)))
        assert recovered(lambda: Holder(Shown(240, 3))) == {}  # the default gives another module

    def test_a_default_that_does_not_matter(self):
        class Unused(nn.Module):
            def __init__(self, n: int, dropout: float = 0.1, kind: str = "a", extra: int | None = None) -> None:
                super().__init__()
                self.n = n
                self.register_buffer("table", torch.arange(n), persistent=False)

        assert "inner.0.table" in recovered(lambda: Holder(Unused(6, 0.7, "b", 3)))

    @pytest.mark.parametrize("step", [1.0, 4.0])
    def test_a_default_that_matters_and_does_not_show(self, step):
        assert recovered(lambda: Holder(Table(4, step))) == {}

    def test_an_option_by_name(self):
        class Named(nn.Module):
            def __init__(self, n: int, kind: str = "linear") -> None:
                super().__init__()
                self.n = n
                x = torch.arange(n)
                self.register_buffer("table", x * x if kind == "square" else x, persistent=False)

        for kind in ("linear", "square"):
            assert recovered(functools.partial(lambda kind: Holder(Named(4, kind)), kind)) == {}

    def test_none_in_the_place_of_a_number(self):
        class Optional(nn.Module):
            def __init__(self, n: int, scale: float | None = None) -> None:
                super().__init__()
                self.n = n
                self.register_buffer("table", torch.arange(n) * (scale or 1.0), persistent=False)

        for scale in (None, 3.0):
            assert recovered(functools.partial(lambda scale: Holder(Optional(4, scale)), scale)) == {}

    def test_an_attribute_of_the_same_name(self):
        class Pair(nn.Module):
            def __init__(self, window) -> None:
                super().__init__()
                self.window = (window, window) if isinstance(window, int) else window
                self.register_buffer("table", torch.arange(self.window[0] * self.window[1]), persistent=False)

        assert "inner.0.table" in recovered(lambda: Holder(Pair(3)))

    def test_an_attribute_that_was_clamped(self):
        class Clamped(nn.Module):
            def __init__(self, n: int) -> None:
                super().__init__()
                self.n = min(n, 4)
                self.register_buffer("table", torch.arange(4) * n, persistent=False)

        assert recovered(lambda: Holder(Clamped(7))) == {}
        assert recovered(lambda: Holder(Clamped(4))) == {}

    def test_two_arguments_of_which_only_the_sum_shows(self):
        class Sum(nn.Module):
            def __init__(self, a: int = 1, b: int = 1) -> None:
                super().__init__()
                self.total = a + b
                self.register_buffer("table", torch.arange(4) * (a - b), persistent=False)

        assert recovered(lambda: Holder(Sum(2, 0))) == {}
        assert recovered(lambda: Holder(Sum())) == {}

    def test_a_function_cannot_be_compared(self):
        def cube(x):
            return x * x * x

        class Applied(nn.Module):
            def __init__(self, n: int, make=torch.square) -> None:
                super().__init__()
                self.n = n
                self.register_buffer("table", make(torch.arange(n)), persistent=False)

        assert recovered(lambda: Holder(Applied(4))) == {}
        assert recovered(lambda: Holder(Applied(4, cube))) == {}

    def test_a_whole_block_around_the_buffer(self):
        class Block(nn.Module):
            def __init__(self, n: int, power: int, dropout: float = 0.0, other: int = 1) -> None:
                super().__init__()
                self.n, self.power = n, power
                step = float(power)
                for _ in range(power):
                    step = step * 2
                self.table = Table(n, step)
                self.dropout1 = nn.Dropout(dropout)
                self.first = other

        class Unhelpful(nn.Module):
            def __init__(self, sizes) -> None:
                super().__init__()
                for i, size in enumerate(sizes):
                    self.add_module(f"block{i}", Block(size, 2, 0.1 * i))

        assert recovered_names(lambda: Unhelpful([3, 4])) == ["block0.table.table", "block1.table.table"]

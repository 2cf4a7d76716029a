"""What the IR records of writes: into inputs and views, into buffers, and buffers that are given another tensor."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import nn
from torch_ir import ConversionError, ExportError, IRExecutor, extract_ir
from torch_ir.errors import StateWarning

from tests.torch_ir.proof import Fn, prove


class Counter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(3))

    def forward(self, x):
        self.count.add_(1)
        before = self.count * 1
        self.count.mul_(2)
        return x + before, self.count - 1


class Cache(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(1, 8, 4))

    def forward(self, x, position):
        self.keys.index_copy_(1, position, x)
        return self.keys.sum(1)


def _views(x):
    y = x * 1
    y[:, 0] = 5.0
    z = y.view(-1)
    z.mul_(2)
    a, b = y.chunk(2, dim=1)
    a.add_(b)
    return y, z, a


def _chain(x):
    y = (x * 2).reshape(2, 2, 3).contiguous().flatten(1)
    y += 1
    y.relu_().clamp_(max=2.0)
    return torch.dropout(y, 0.5, False).sub_(1)


def _masked(x):
    y = x.clone()
    y.masked_fill_(y > 0, -1.0)
    y[y < -1] = 0.0
    y.index_put_((torch.tensor([0, 1]),), torch.tensor(3.0), accumulate=True)
    return y.unsqueeze_(0)


class TestMutation:
    @pytest.mark.parametrize("fn", [_views, _chain, _masked])
    def test_in_place_ops_become_functional(self, fn):
        ir = prove(lambda: Fn(fn), torch.randn(2, 6))
        for node in ir.nodes:
            name = node.op_type.removeprefix("aten.").split(".")[0]
            assert not (name.endswith("_") and not name.endswith("__")), node.op_type
        assert ir.mutations == []

    def test_write_through_a_dropout_that_returns_its_input_is_refused(self):
        def fn(x):
            torch.dropout(x, 0.5, False).add_(1)
            return x * 2

        with pytest.raises(ConversionError, match=r"writes memory in place that .* shares through 'dropout'"):
            extract_ir(Fn(fn).eval(), torch.randn(3))

    def test_write_into_the_result_of_such_a_dropout_is_fine(self):
        def fn(x):
            y = torch.dropout(x * 2, 0.5, False)
            y += 1
            return y

        prove(lambda: Fn(fn), torch.randn(3), ops={"aten.mul.Tensor", "aten.dropout.default", "aten.add.Tensor"})

    def test_plain_in_place_keeps_the_traced_graph(self):
        ir = prove(
            lambda: nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True)),
            torch.randn(1, 3, 8, 8),
        )
        assert [n.op_type for n in ir.nodes] == [
            "aten.conv2d.default",
            "aten.batch_norm.default",
            "aten.relu.default",
        ]

    def test_buffers_are_recorded_and_kept_between_runs(self):
        ir = prove(Counter, torch.randn(3))
        assert [(m.target, m.kind) for m in ir.mutations] == [("count", "buffer")]
        real = Counter().eval()
        given = torch.zeros(3)
        executor = IRExecutor(ir, {"count": given})
        for _ in range(3):
            x = torch.randn(3)
            for a, b in zip(executor(x), real(x), strict=True):
                assert torch.equal(a, b)
        assert torch.equal(executor.state["count"], real.count)
        assert torch.equal(given, torch.zeros(3))
        executor.reset_state()
        assert torch.equal(executor(torch.zeros(3))[0], torch.ones(3))

    def test_cache_update_stays_an_index_copy(self):
        ir = prove(Cache, torch.randn(1, 2, 4), torch.tensor([3, 4]))
        assert "aten.index_copy.default" in {n.op_type for n in ir.nodes}
        assert ir.mutations[0].target == "keys"

    def test_inputs_of_the_caller_are_not_written(self):
        ir = prove(lambda: Fn(lambda x: x.add_(1) * 2), torch.randn(3))
        assert [(m.target, m.kind) for m in ir.mutations] == [("x", "input")] or ir.mutations[0].kind == "input"
        x = torch.randn(3)
        kept = x.clone()
        executor = IRExecutor(ir, {})
        (out,) = executor(x)
        assert torch.equal(x, kept)
        assert torch.equal(out, (kept + 1) * 2)
        assert torch.equal(next(iter(executor.mutations.values())), kept + 1)

    def test_view_of_an_input_written(self):
        ir = prove(lambda: Fn(lambda x: x.view(-1).mul_(3).sum()), torch.randn(2, 3))
        assert ir.mutations[0].kind == "input"

    def test_promotion_in_place_keeps_the_dtype(self):
        ir = prove(lambda: Fn(lambda x, y: (x * 1).add_(y)), torch.randn(3).half(), torch.randn(3))
        assert ir.graph_outputs[0].dtype == "float16"


class Rebinds(nn.Module):
    """Gives a buffer another tensor, and returns what it held."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("last", torch.arange(3.0))

    def forward(self, x):
        old = self.last
        self.last = x * 2
        return old, old.view(-1) + 1


class SharesState(nn.Module):
    """The buffer must not become the caller's own tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(2, 3))

    def forward(self, x):
        flat = self.state.view(-1)
        self.state.copy_(x)
        return flat + 1, self.state


class BroadcastsIntoBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("state", torch.zeros(2, 3))

    def forward(self, x):
        flat = self.state.view(-1)
        self.state.copy_(x.mean())
        return flat.sum()


class TestBuffersGivenAnotherTensor:
    def test_reads_of_the_old_one(self):
        ir = prove(Rebinds, torch.randn(3))
        real = Rebinds().eval()
        executor = IRExecutor(ir, {"last": torch.arange(3.0)})
        for _ in range(3):
            x = torch.randn(3)
            for a, b in zip(executor(x), real(x), strict=True):
                assert torch.equal(a, b)

    def test_state_is_not_the_caller_s_tensor(self):
        executor = IRExecutor(prove(SharesState, torch.randn(2, 3)), {"state": torch.zeros(2, 3)})
        x = torch.ones(2, 3)
        outputs = executor(x)
        x.fill_(9)
        assert torch.equal(executor.state["state"], torch.ones(2, 3))
        assert torch.equal(outputs[1], torch.ones(2, 3))

    def test_broadcast_into_a_buffer(self):
        prove(BroadcastsIntoBuffer, torch.randn(3), exact=False)

    def test_einsum_may_be_a_view(self):
        def fn(x):
            h = x + 0
            z = torch.einsum("ij->ji", h)
            z += 1
            return h, z

        with pytest.raises(ConversionError, match="shares through 'einsum'"):
            extract_ir(Fn(fn).eval(), torch.randn(2, 3))

    def test_an_attribute_that_is_no_buffer(self):
        class Late(Rebinds):
            def __init__(self) -> None:
                super().__init__()
                self.register_buffer("late", None)

            def forward(self, x):
                self.late = x * 2
                return x + 1

        with pytest.raises(ConversionError, match="neither a buffer nor a parameter"):
            extract_ir(Late().eval(), torch.randn(3))

    def test_data_of_a_parameter(self):
        class Behind(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.w = nn.Parameter(torch.ones(3))

            def forward(self, x):
                self.w.data.add_(1)
                return x * self.w

        for device in ("meta", "cpu"):
            with torch.device(device):
                model, x = Behind().eval(), torch.empty(3)
            assert [(m.target, m.kind) for m in extract_ir(model, x).mutations] == [("w", "parameter")]
        prove(Behind, torch.randn(3))

    def test_metadata_of_a_buffer(self):
        class Turns(Rebinds):
            def forward(self, x):
                self.last.unsqueeze_(0)
                return x + self.last

        with pytest.raises((ConversionError, ExportError)):
            extract_ir(Turns().eval(), torch.randn(3))


class Overlapping(nn.Module):
    def __init__(self, forward) -> None:
        super().__init__()
        self.register_buffer("whole", torch.zeros(4))
        self.register_buffer("part", self.whole[:2])
        self.register_buffer("rest", self.whole[2:])
        self.run = forward

    def forward(self, x):
        return self.run(self, x)


class TestBuffersThatShareMemory:
    @pytest.mark.parametrize(
        "forward",
        [
            lambda m, x: (m.part.add_(1), x + m.whole)[1],
            lambda m, x: (m.whole.add_(1), x + m.part.sum())[1],
            lambda m, x: (m.part[:1].add_(1), x + m.whole)[1],
            lambda m, x: (m.part.copy_(m.whole[2:] + 1), x + m.whole)[1],
        ],
        ids=["view", "whole", "view of the view", "copy"],
    )
    def test_a_write_that_the_other_shows_is_refused(self, forward):
        with pytest.raises(ConversionError, match=r"writes '(part|whole)', which shares memory with '(whole|part)'"):
            extract_ir(Overlapping(forward), torch.ones(4))

    def test_what_does_not_overlap_or_is_only_read_is_kept(self):
        ir = extract_ir(Overlapping(lambda m, x: (m.part.add_(1), x + m.rest.sum() + m.part)[1]), torch.ones(2))
        assert [m.target for m in ir.mutations] == ["part"]
        prove(lambda: Overlapping(lambda m, x: x + m.whole + m.part.sum()), torch.ones(4))

    def test_what_pytorch_cannot_make_functional_is_named(self):
        def write_one(m, x):
            m.part[0] = 1
            return x + m.part.sum()

        with pytest.raises(ConversionError, match="'part' shares memory with 'whole'; register one of them"):
            extract_ir(Overlapping(write_one), torch.ones(4))


class Changing(nn.Module):
    """Changes more of itself than buffers."""

    def __init__(self, forward):
        super().__init__()
        self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)
        self.calls, self.scale, self.mode, self.odd = 0, 1.5, "up", float("nan")
        self.register_buffer("count", torch.zeros(3))
        self.change = forward

    def forward(self, x):
        return self.change(self, x)


def swap_weights(m, x):
    m.first.weight, m.second.weight = m.second.weight, m.first.weight
    return m.first(x)


def swap_modules(m, x):
    m.first, m.second = m.second, m.first
    return m.first(x)


def new_weight(m, x):
    m.first.weight = nn.Parameter(m.first.weight * 2)
    return m.first(x)


def new_weight_for_once(m, x):
    old = m.first.weight
    m.first.weight = nn.Parameter(old * 2)
    result = m.first(x)
    m.first.weight = old
    return result


def tie(m, x):
    m.first.weight = m.second.weight
    return m.first(x)


def set_data(m, x):
    y = x * 1
    y.data = x * 3
    return m.first(y)


def set_data_of_a_buffer(m, x):
    m.count.data = x[0]
    return m.count * 1


def count_in_numbers(m, x):
    m.calls += 1
    m.mode = "down"
    m.odd = float("nan")
    m.first.calls = 3  # new ones are no changes
    return x * m.calls


def count_past_the_attribute(m, x):
    m._buffers["count"] = m.count + 1
    return x + m.count


def read_data(m, x):
    h = m.first(x)
    h.data.mul_(3)
    h.requires_grad_(False)
    return h.data * 2 + m.second.weight.data[0] + m.count.data + x.data


def set_to_the_input(m, x):
    m.count = x
    return x + 1


def set_to_none(m, x):
    m.count = None
    return x + 1


class TestWhatIsNoState:
    @pytest.mark.parametrize(
        ("forward", "words"),
        [
            (new_weight, r"replaces 'first\.weight', a parameter or module"),
            (swap_weights, r"replaces 'first\.weight', a parameter or module"),
            (swap_modules, "replaces 'first', a parameter or module"),
            (set_to_the_input, r"sets a buffer to a tensor that there is already.*self\.NAME = x\.clone\(\)"),
            (set_to_none, "sets a buffer to None"),
            (set_data, r"assigns to the \.data of a tensor.*test_mutations\.py.*, y\.data = x \* 3"),
            (set_data_of_a_buffer, r"assigns to the \.data of a tensor.*, m\.count\.data = x\[0\]"),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_what_a_graph_cannot_do_is_refused(self, forward, words):
        with pytest.raises(ExportError, match=words):
            extract_ir(Changing(forward).eval(), torch.ones(2, 3))

    @pytest.mark.parametrize("forward", [new_weight_for_once, tie, read_data], ids=lambda f: f.__name__)
    def test_what_is_the_same_in_every_call_is_kept(self, forward):
        model, x = Changing(forward).eval(), torch.randn(2, 3)
        ir = extract_ir(model, x)
        (result,) = IRExecutor(ir, model.state_dict()).execute(x)
        with torch.no_grad():
            assert torch.equal(result, model(x)) and torch.equal(result, model(x))

    @pytest.mark.parametrize(
        ("forward", "words"),
        [
            (count_in_numbers, "changes 'calls' from 0 to 1, 'mode' from 'up' to 'down'; what"),
            (count_past_the_attribute, r"changes the buffer 'count' without assigning it as self\.NAME; what"),
        ],
        ids=lambda value: getattr(value, "__name__", ""),
    )
    def test_what_may_be_computed_with_is_named_once(self, forward, words):
        model = Changing(forward).eval()
        for shapes in (None, {"x": {0: torch.export.Dim("b", min=1)}}):
            with pytest.warns(StateWarning, match=words) as caught:
                extract_ir(model, torch.ones(2, 3), dynamic_shapes=shapes)
            (warning,) = [one for one in caught if one.category is StateWarning]
            assert warning.filename == __file__
        assert (model.calls, model.mode) == (0, "up")

    def test_a_write_through_data_is_a_write(self):
        def count(m, x):
            m.count.data.add_(1)
            return x + m.count

        def write_weight(m, x):
            m.first.weight.data.mul_(2)
            return m.first(x)

        targets = [extract_ir(Changing(f).eval(), torch.ones(2, 3)).mutations for f in (count, write_weight)]
        assert [[(m.target, m.kind) for m in one] for one in targets] == [
            [("count", "buffer")],
            [("first.weight", "parameter")],
        ]

    def test_assigned_buffers_are_state(self, recwarn):
        def forward(m, x):
            m.count = m.count + x.sum(0)
            m.register_buffer("count", m.count * 2)
            return x + m.count

        ir = extract_ir(Changing(forward).eval(), torch.ones(2, 3))
        assert [m.target for m in ir.mutations] == ["count"] and not recwarn.list


@pytest.mark.parametrize("operand", [2, torch.tensor([[1, 2, 3]])], ids=["number", "tensor"])
@pytest.mark.parametrize("name", "ior iand ixor ilshift irshift ipow ifloordiv imod iadd".split())
def test_operators_of_python_in_place(name, operand):
    class Updating(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("n", torch.full((2, 3), 5))

        def forward(self, x):
            self.n = getattr(operator, name)(self.n, operand if isinstance(operand, int) else x)
            return self.n

    ir = prove(Updating, torch.tensor([[1, 2, 3]]))
    assert [m.target for m in ir.mutations] == ["n"]

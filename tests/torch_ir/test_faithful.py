"""What the IR records: absent arguments, ties, inlined regions, control flow, constants."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch_ir import ConversionError, IRExecutor, extract_ir

from tests.torch_ir.proof import Fn, prove


class TestAbsentTensors:
    def test_layer_norm_without_weight(self):
        ir = prove(lambda: Fn(lambda x, b: F.layer_norm(x, (4,), None, b)), torch.randn(2, 4), torch.randn(4))
        assert ir.nodes[0].absent_inputs == ["weight"]

    def test_clamp_by_maximum_only(self):
        ir = prove(lambda: Fn(lambda x, m: torch.clamp(x, max=m)), torch.randn(9), torch.zeros(9))
        assert ir.nodes[0].absent_inputs == ["min"]

    def test_batch_norm_without_affine(self):
        ir = prove(lambda: nn.BatchNorm2d(3, affine=False), torch.randn(2, 3, 4, 4))
        assert ir.nodes[0].absent_inputs == ["weight", "bias"]

    def test_batch_norm_without_statistics(self):
        prove(lambda: nn.BatchNorm2d(3, affine=False, track_running_stats=False), torch.randn(2, 3, 4, 4))

    def test_conv_without_bias(self):
        ir = prove(lambda: nn.Conv2d(3, 4, 3, padding=1, bias=False), torch.randn(1, 3, 5, 5))
        assert ir.nodes[0].absent_inputs == ["bias"]
        assert ir.nodes[0].attrs == {"stride": [1, 1], "padding": [1, 1]}

    def test_attention_with_and_without_mask(self):
        q = torch.randn(1, 2, 4, 8)
        ir = prove(lambda: Fn(lambda q: F.scaled_dot_product_attention(q, q, q, is_causal=True)), q)
        assert ir.nodes[0].absent_inputs == ["attn_mask"]
        prove(lambda: Fn(lambda q, m: F.scaled_dot_product_attention(q, q, q, m)), q, torch.randn(4, 4))

    def test_keyword_only_tensor(self):
        def fn(x, s):
            order = torch.argsort(s)
            return torch.searchsorted(s, x, sorter=order), torch.searchsorted(s, x)

        prove(lambda: Fn(fn), torch.randn(4), torch.randn(6))

    def test_index_with_gaps(self):
        ir = prove(lambda: Fn(lambda x, i: x[:, i, :, i]), torch.randn(2, 5, 3, 5), torch.tensor([0, 4]))
        masks = [n.attrs["_tensor_list_none_masks"] for n in ir.nodes if n.op_type == "aten.index.Tensor"]
        assert masks == [[[True, False, True, False]]]


class TestArguments:
    def test_scalar_in_a_tensor_slot(self):
        ir = prove(lambda: Fn(lambda x: x / 4.0), torch.randn(3))
        assert ir.nodes[0].attrs == {"other": 4.0} and len(ir.nodes[0].inputs) == 1

    def test_alpha(self):
        ir = prove(lambda: Fn(lambda x, y: torch.add(x, y, alpha=2)), torch.randn(3), torch.randn(3))
        assert ir.nodes[0].attrs == {"alpha": 2}

    def test_types_that_json_lacks(self):
        def fn(x):
            a = x.to(torch.bfloat16).to(torch.float32, copy=True)
            b = torch.full((2, 3), float("-inf"), dtype=torch.float64, device=x.device)
            c = torch.zeros(2, 3, layout=torch.strided).contiguous(memory_format=torch.contiguous_format)
            d = torch.full((2,), 1 + 2j, dtype=torch.complex64)
            return a, b, c, d, torch.nan_to_num(x, nan=0.5)

        prove(lambda: Fn(fn), torch.randn(2, 3))

    def test_lists_of_tensors(self):
        def fn(x, y):
            parts = torch.split(torch.cat([x, y, x]), [1, 3, 2])
            return torch.stack([parts[0].sum(), parts[1].max(), parts[2].min()]), parts[1]

        ir = prove(lambda: Fn(fn), torch.randn(2, 3), torch.randn(2, 3))
        assert ir.nodes[0].attrs["_tensor_list_sizes"] == [3]

    @pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
    def test_recurrent(self, kind):
        prove(lambda: kind(4, 5, num_layers=2, bidirectional=True, batch_first=True), torch.randn(2, 3, 4))

    def test_getitem_lists_every_output_of_its_producer(self):
        ir = prove(lambda: Fn(lambda x: torch.topk(x, 2)[0]), torch.randn(3, 4))
        getitem = next(n for n in ir.nodes if "getitem" in n.op_type)
        assert [t.name for t in getitem.inputs] == ["topk_0", "topk_1"]
        assert getitem.attrs == {"index": 0}


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.emb = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.emb.weight

    def forward(self, x):
        return self.head(self.emb(x))


class TestTies:
    def test_recorded(self):
        ir = prove(Tied, torch.tensor([[1, 2, 3]]))
        assert [w.name for w in ir.weights] == ["emb.weight"]
        assert ir.ties == {"head.weight": "emb.weight"}

    @pytest.mark.parametrize("name", ["emb.weight", "head.weight", "model.emb.weight"])
    def test_either_name_serves(self, name):
        ir = prove(Tied, torch.tensor([[1, 2, 3]]))
        real = Tied().eval()
        x = torch.tensor([[4, 5]])
        (out,) = IRExecutor(extract_ir(real, x), {name: real.emb.weight})(x)
        assert torch.equal(out, real(x))
        assert ir.ties

    def test_different_values_are_an_error(self):
        ir = prove(Tied, torch.tensor([[1, 2, 3]]))
        with pytest.raises(Exception, match="one tensor in the model, but differ"):
            IRExecutor(ir, {"emb.weight": torch.zeros(10, 4), "head.weight": torch.ones(10, 4)})

    def test_shared_module(self):
        class Shared(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.a = nn.Linear(4, 4)
                self.b = self.a

            def forward(self, x):
                return self.b(self.a(x))

        ir = prove(Shared, torch.randn(2, 4))
        assert len(ir.weights) == 2 and len(ir.ties) == 2


class TestRegions:
    def test_no_grad_is_inlined(self):
        def fn(x):
            with torch.no_grad():
                y = x * 2
                z = torch.topk(y, 2)
            return y + 1, z.values

        ir = prove(lambda: Fn(fn), torch.randn(2, 4))
        assert not any("wrap" in n.op_type for n in ir.nodes)

    @pytest.mark.parametrize("enabled", [True, False])
    def test_autocast(self, enabled):
        class Cast(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.fc = nn.Linear(8, 8)

            def forward(self, x):
                with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
                    return self.fc(x)

        ir = prove(Cast, torch.randn(2, 8))
        assert ir.graph_outputs[0].dtype == ("bfloat16" if enabled else "float32")
        assert not any("wrap" in n.op_type for n in ir.nodes)

    def test_nested_regions_keep_unique_names(self):
        def fn(x):
            for _ in range(3):
                with torch.no_grad():
                    x = x * 2 + 1
                    with torch.enable_grad():
                        x = x * 3
            return x

        ir = prove(lambda: Fn(fn), torch.randn(2))
        names = [n.name for n in ir.nodes]
        assert len(set(names)) == len(names) == 9


class Branch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(4, 4)

    def forward(self, x):
        return torch.cond(x.sum() > 0, lambda x: self.fc(x), lambda x: x * 2, (x,))  # noqa: PLW0108 (a module is no branch)

    def test_dropout_in_place_outside_of_training(self):
        model = lambda: nn.Sequential(nn.Linear(4, 4), nn.Dropout(0.5, inplace=True), nn.ReLU(inplace=True))  # noqa: E731
        prove(model, torch.randn(2, 4), ops={"aten.linear.default", "aten.dropout.default", "aten.relu.default"})


class TestControlFlow:
    @pytest.mark.parametrize("sign", [1.0, -1.0])
    def test_cond_runs_either_branch(self, sign):
        ir = prove(Branch, torch.ones(2, 4) * sign)
        node = next(n for n in ir.nodes if n.op_type == "cond")
        assert set(ir.subgraphs) == {node.attrs["true_graph"], node.attrs["false_graph"]}

    def test_branches_inside_of_branches(self):
        def fn(x):
            def inner(x):
                return torch.cond(x.mean() > 1, lambda x: x + 1, lambda x: x - 1, (x,))

            return torch.cond(
                x.sum() > 0, inner, lambda x: torch.cond(x.min() < -2, inner, lambda x: x * 3, (x,)), (x,)
            )

        for value in (3.0, 0.5, -1.0, -5.0):
            prove(lambda: Fn(fn), torch.full((2, 2), value))

    def test_while_loop(self):
        from torch._higher_order_ops.while_loop import while_loop

        def fn(x):
            return while_loop(lambda i, x: i < 3, lambda i, x: (i + 1, x * 2), (torch.tensor(0), x))[1]

        prove(lambda: Fn(fn), torch.randn(2))

    def test_other_control_flow_is_refused_by_name(self):
        from torch._higher_order_ops.scan import scan

        class Scan(nn.Module):
            def forward(self, x):
                return scan(lambda c, v: (c + v, c * v), torch.zeros(2), x)[1]

        with pytest.raises(ConversionError, match="higher-order op 'scan'"):
            extract_ir(Scan().eval(), torch.randn(3, 2))


class Rope(nn.Module):
    def __init__(self, dim: int, base: float = 10000.0) -> None:
        super().__init__()
        self.dim, self.base = dim, base
        self.register_buffer("inv_freq", base ** (-torch.arange(0, dim, 2).float() / dim), persistent=False)


class UsesRope(nn.Module):
    def __init__(self, base: float = 500.0) -> None:
        super().__init__()
        self.rope = Rope(8, base)

    def forward(self, x):
        return x * self.rope.inv_freq


class Forgets(nn.Module):
    """Its buffer depends on an argument that it does not keep."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.register_buffer("scale", torch.full((4,), scale), persistent=False)

    def forward(self, x):
        return x * self.scale


class RandomBuffer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("noise", torch.randn(4), persistent=False)

    def forward(self, x):
        return x + self.noise


class TestConstants:
    @pytest.mark.parametrize(
        "dtype",
        [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.uint8, torch.int16,
         torch.int32, torch.int64, torch.bool, torch.complex64, torch.complex128],
    )  # fmt: skip
    def test_lifted_constant_of_every_dtype(self, dtype):
        def fn(x):
            return x, torch.tensor([[1, 0, 3]], dtype=dtype), torch.zeros(0, 3, dtype=dtype)

        prove(lambda: Fn(fn), torch.zeros(1))

    def test_constant_on_the_device_of_the_input_keeps_its_value(self):
        ir = prove(lambda: Fn(lambda x: x * torch.tensor([1.0, 2.0, 3.0], device=x.device)), torch.randn(3))
        assert [v.tolist() for v in ir.constants.values()] == [[1.0, 2.0, 3.0]]

    def test_non_persistent_buffer_is_rebuilt(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            ir = prove(UsesRope, torch.randn(2, 4))
        assert torch.equal(ir.constants["rope.inv_freq"], UsesRope().rope.inv_freq)

    def test_rebuilt_in_the_dtype_of_the_model(self):
        with torch.device("meta"):
            model = UsesRope().eval().to(torch.bfloat16)
        ir = extract_ir(model, torch.randn(2, 4, device="meta", dtype=torch.bfloat16))
        assert torch.equal(ir.constants["rope.inv_freq"], UsesRope().to(torch.bfloat16).rope.inv_freq)

    def test_a_buffer_is_rebuilt_with_the_module_around_it(self):
        """Its own constructor's argument is not known, but that of the module that calls it is."""

        class Around(nn.Module):
            def __init__(self, power: int = 3) -> None:
                super().__init__()
                self.power = power
                self.inner = Forgets(2.0**power)

            def forward(self, x):
                return self.inner(x)

        ir = prove(lambda: Around(4), torch.randn(4))
        assert ir.constants["inner.scale"].tolist() == [16.0] * 4

    @pytest.mark.parametrize(
        "how", ["scaled by its parent", "replaced by its parent", "clamped", "reassigned", "later"]
    )
    def test_a_buffer_that_is_not_what_its_constructor_made(self, how):
        """It must be right or asked for, never wrong."""

        class Clamped(nn.Module):
            def __init__(self, n: int = 4) -> None:
                super().__init__()
                self.n = min(n, 4)
                self.register_buffer("table", torch.arange(4.0) * n, persistent=False)

        class Reassigned(nn.Module):
            def __init__(self, n: int = 4) -> None:
                super().__init__()
                n = n * 2
                self.n = n
                self.register_buffer("table", torch.arange(4.0) * n, persistent=False)

        class Plain(nn.Module):
            def __init__(self, n: int = 4) -> None:
                super().__init__()
                self.n = n
                self.register_buffer("table", torch.arange(4.0) * n, persistent=False)

        class Parent(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                kind = {"clamped": Clamped, "reassigned": Reassigned}.get(how, Plain)
                self.child = kind(7)
                if how == "scaled by parent":
                    self.child.table.mul_(3)
                if how == "replaced by parent":
                    self.child.table = self.child.table + 5

            def forward(self, x):
                return x + self.child.table

        def build():
            model = Parent().eval()
            if how == "later":
                model.child.table.add_(1)
            return model

        with torch.device("meta"):
            model = build()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ir = extract_ir(model, torch.empty(4))
        if ir.constants:
            assert torch.equal(ir.constants["child.table"], build().child.table)
        else:
            assert how == "later"

    @pytest.mark.parametrize("factory", [lambda: Forgets(3.0), RandomBuffer])
    def test_a_buffer_that_cannot_be_known_is_a_required_weight(self, factory):
        with torch.device("meta"):
            model = factory().eval()
        with pytest.warns(UserWarning, match=r"Skipping 1 meta-device constant\(s\)"):
            ir = extract_ir(model, torch.randn(4, device="meta"))
        assert ir.constants == {}
        name = ir.weights[0].name
        x = torch.randn(4)
        with pytest.raises(Exception, match=f"'{name}' not found in registry.*constants="):
            IRExecutor(ir, {})(x)
        real = factory().eval()
        (out,) = IRExecutor(ir, {}, constants={name: getattr(real, name)})(x)
        assert torch.equal(out, real(x))

    def test_constants_are_copies(self):
        model = UsesRope().eval()
        ir = extract_ir(model, torch.randn(4))
        kept = ir.constants["rope.inv_freq"].clone()
        model.rope.inv_freq.zero_()
        assert torch.equal(ir.constants["rope.inv_freq"], kept)

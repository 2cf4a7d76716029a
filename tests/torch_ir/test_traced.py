"""FX graphs of ATen calls that were not made by ``torch.export``."""

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch_ir import ConversionError, IRExecutor
from torch_ir.traced import convert_traced


def traced(function, *args):
    graph = make_fx(function, tracing_mode="fake")(*args)
    returned = next(iter(graph.graph.find_nodes(op="output"))).args[0]
    next(iter(graph.graph.find_nodes(op="output"))).args = (returned if isinstance(returned, tuple) else (returned,),)
    return graph


def test_placeholders_become_weights_and_inputs():
    linear, x = nn.Linear(4, 3), torch.randn(2, 4)
    graph = traced(lambda x, w, b: torch.addmm(b, x, w.t()).relu(), x, linear.weight.detach(), linear.bias.detach())
    ir = convert_traced(graph, {"w_1": "weight", "b_1": "bias"}, "Linear")
    assert [t.name for t in ir.graph_inputs] == ["x_1"]
    assert [w.name for w in ir.weights] == ["weight", "bias"]
    (got,) = IRExecutor(ir, weights=dict(linear.state_dict())).execute((x,))
    torch.testing.assert_close(got, linear(x).relu())


def test_tensor_attributes_become_constants():
    x = torch.randn(3)
    graph = make_fx(lambda x: x * torch.tensor([1.0, 2.0, 3.0]))(x)
    (output,) = graph.graph.find_nodes(op="output")
    output.args = ((output.args[0],),)
    for node in graph.graph.nodes:
        node.meta.setdefault("val", torch.empty(3, device="meta"))
    ir = convert_traced(graph, {})
    assert [t.tolist() for t in ir.constants.values()] == [[1, 2, 3]]
    (got,) = IRExecutor(ir, weights={}).execute((x,))
    assert torch.equal(got, x * torch.tensor([1.0, 2.0, 3.0]))


def test_outputs_must_be_tensors():
    graph = traced(lambda x: x + 1, torch.ones(2))
    (output,) = graph.graph.find_nodes(op="output")
    output.args = ((*output.args[0], 3),)
    with pytest.raises(ConversionError, match=r"returns 3; expected only tensors"):
        convert_traced(graph, {})

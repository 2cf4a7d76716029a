"""Mermaid text: to the byte where it is fixed, and readable for any graph."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
import torch
from npu_base.module_paths import levels
from torch import nn
from torch_ir import IR, OpNode, TensorMeta, extract_ir, generate_op_distribution_pie, ir_to_mermaid
from torch_ir.visualize import _format_shape, _get_short_op_name, _sanitize_label, modules_to_mermaid
from torch_ir.visualize.modules import ModuleTree

from tests.models import get_model

GOLDEN = Path(__file__).parent / "golden"


def chain(count: int, *, names: list[str] | None = None, op: str = "aten.relu.default") -> IR:
    """``count`` nodes in a row, after one input."""
    names = names or [f"relu_{i}" for i in range(count)]
    source, nodes = "x", []
    for name in names:
        nodes.append(
            OpNode(name, op, [TensorMeta(source, (2, 3), "float32", source)], [TensorMeta(name, (2, 3), "float32")])
        )
        source = name
    return IR(nodes, [TensorMeta("x", (2, 3), "float32")], [TensorMeta(source, (2, 3), "float32", source)], [])


def extracted(model: nn.Module, *inputs: torch.Tensor) -> IR:
    return extract_ir(model.eval(), inputs)


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(4, 8)
        self.down = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.down(torch.relu(self.up(x)))


class Stack(nn.Module):
    def __init__(self, depth: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(4, 4)
        self.layers = nn.ModuleList(Layer() for _ in range(depth))
        self.norm = nn.LayerNorm(4)
        self.head = nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        for layer in self.layers:
            x = layer(x)
        return self.head(self.norm(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.cell = Layer()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(3):
            x = self.cell(x)
        return x


# -- every node ------------------------------------------------------------------------------------------------


def test_golden_transformer_block() -> None:
    spec = get_model("TransformerBlock")
    ir = extract_ir(spec.build(), spec.inputs(), model_name="TransformerBlock")
    assert ir_to_mermaid(ir) + "\n" == (GOLDEN / "transformer_block.mmd").read_text()


def test_without_weights_no_weight_is_drawn() -> None:
    spec = get_model("TransformerBlock")
    text = ir_to_mermaid(extract_ir(spec.build(), spec.inputs()), include_weights=False)
    assert not re.search(r"\bw_", text)
    assert "-.->" not in text
    assert 'op_add -->|"1x16x64"| op_layer_norm' in text


def test_limit_note_is_last_and_hidden_outputs_hang_from_it() -> None:
    lines = ir_to_mermaid(chain(10), max_nodes=3).split("\n")
    assert lines[-1] == '    note["... 7 more nodes ..."]'
    assert "    note --> output_0" in lines
    assert sum(line.startswith("    op_") and "[" in line for line in lines) == 3


def test_limit_zero_draws_all() -> None:
    text = ir_to_mermaid(chain(100), max_nodes=0)
    assert text.count('["relu<br/>') == 100
    assert "note" not in text


def test_negative_limit_is_refused() -> None:
    with pytest.raises(ValueError, match=r"max_nodes must be 0 .* got -1"):
        ir_to_mermaid(chain(1), max_nodes=-1)
    with pytest.raises(ValueError, match=r"max_nodes must be 0 .* got '3'"):
        ir_to_mermaid(chain(1), max_nodes="3")


def test_no_nodes() -> None:
    x = TensorMeta("x", (2,), "float32")
    ir = IR([], [x], [TensorMeta("x", (2,), "float32", "x")], [])
    assert ir_to_mermaid(ir) == (
        'flowchart TD\n    input_x[/"Input: x<br/>2"/]\n    output_0[\\"Output<br/>2"/]\n    input_x --> output_0'
    )
    assert modules_to_mermaid(ir) == ir_to_mermaid(ir)


def test_scalars_have_no_shape_and_no_empty_edge_label() -> None:
    scalar = TensorMeta("s", (), "float32", "s")
    ir = IR(
        [OpNode("neg", "aten.neg.default", [scalar], [TensorMeta("neg", (), "float32")])],
        [TensorMeta("s", (), "float32")],
        [TensorMeta("neg", (), "float32", "neg")],
        [],
    )
    text = ir_to_mermaid(ir)
    assert 'op_neg["neg<br/>"]' in text
    assert "    input_s --> op_neg" in text.split("\n")
    assert '|""|' not in text


def test_weights_are_known_by_placeholder_and_by_state_name() -> None:
    def node(name: str, weight: str) -> OpNode:
        return OpNode(
            name, "aten.neg.default", [TensorMeta(weight, (3,), "float32")], [TensorMeta(name, (3,), "float32")]
        )

    ir = IR(
        [node("a", "p_w"), node("b", "w")], [], [TensorMeta("b", (3,), "float32", "b")],
        [TensorMeta("w", (3,), "float32")], {"p_w": "w"},
    )  # fmt: skip
    text = ir_to_mermaid(ir)
    assert 'w_p_w[/"p_w<br/>3"/]' in text
    assert 'w_w -.->|"3"| op_b' in text


ODD = ["a.b", 'a"b', "a[b]", "a(b)", "a b", "a_b", "end", "<b>", "a#35;", "größe", "`code`", "x|y", "a\\nb", "50%"]


def test_odd_names_get_safe_and_distinct_ids() -> None:
    text = ir_to_mermaid(chain(0, names=ODD))
    ids = re.findall(r"^    (op_\S+?)\[\"relu", text, re.MULTILINE)
    assert len(set(ids)) == len(ODD)
    assert all(re.fullmatch(r"[A-Za-z0-9_]+", i) for i in ids)
    assert "op_a_b" in ids


def test_labels_hold_nothing_that_mermaid_reads_as_markup() -> None:
    assert _sanitize_label('say "hi"') == "say 'hi'"
    assert _sanitize_label("<built-in function getitem>") == "#lt;built-in function getitem#gt;"
    assert _sanitize_label("#1\n`x`") == "#35;1 #96;x#96;"
    assert _sanitize_label("plain_name.weight[0]") == "plain_name.weight[0]"


def test_helpers() -> None:
    assert _format_shape((1, 3, 32)) == "1x3x32"
    assert _format_shape(()) == ""
    assert _get_short_op_name("aten.conv2d.default") == "conv2d"
    assert _get_short_op_name("aten.add.Tensor") == "add.Tensor"
    assert _get_short_op_name("mylib.op.default") == "mylib.op"


def test_time_is_linear_in_nodes() -> None:
    def seconds(count: int) -> float:
        ir = chain(count)
        start = time.perf_counter()
        ir_to_mermaid(ir, max_nodes=0)
        return time.perf_counter() - start

    seconds(100)
    assert seconds(40_000) < 40 * max(seconds(4_000), 0.005)


def test_pie() -> None:
    ir = chain(3)
    ir.nodes += chain(2, op="aten.add.Tensor", names=["a", "b"]).nodes
    ir.nodes += chain(1, op="aten.mul.Tensor", names=["m"]).nodes
    head = 'pie showData\n    title "Operator Distribution"\n    "relu" : 3\n'
    assert generate_op_distribution_pie(ir) == head + '    "add.Tensor" : 2\n    "mul.Tensor" : 1'
    assert generate_op_distribution_pie(ir, top_n=1) == head + '    "Others" : 3'


# -- folded ----------------------------------------------------------------------------------------------------


def test_levels_do_not_count_lists() -> None:
    assert levels("model.layers.0.mlp") == ["model", "model.layers.0", "model.layers.0.mlp"]
    assert levels("") == []
    assert levels("0.1") == ["0", "0.1"]


def test_calls_of_outer_modules_follow_from_the_inner_ones() -> None:
    tree = ModuleTree(["cell.up", "cell", "cell.up@1", "cell@1", "cell.up@2", "cell@2"])
    assert tree.chain("cell.up@2") == ("cell@2", "cell.up@2")
    twice = ModuleTree(["block.act", "block.act@1", "block"])
    assert twice.chain("block.act@1") == ("block", "block.act@1")


def test_identical_layers_become_one_box() -> None:
    text = modules_to_mermaid(extracted(Stack(), torch.randn(2, 4)))
    assert (
        "layers.0 … layers.3<br/>4 identical<br/>4 ops: linear 2, relu 1, add.Tensor 1 each<br/>2x4<br/>76 params each"
        in text
    )
    assert 'mod_embed -->|"2x4"| mod_layers_0' in text
    assert 'mod_layers_0 -->|"2x4"| mod_norm' in text
    assert "mod_layers_1" not in text


def test_layers_that_differ_stay_apart() -> None:
    model = Stack()
    model.layers[2].up = nn.Linear(4, 16)
    model.layers[2].down = nn.Linear(16, 4)
    text = modules_to_mermaid(extracted(model, torch.randn(2, 4)))
    assert "layers.0 … layers.1<br/>2 identical" in text
    assert 'mod_layers_2[["layers.2<br/>4 ops' in text
    assert 'mod_layers_3[["layers.3<br/>4 ops' in text


def test_collapse_can_be_switched_off() -> None:
    text = modules_to_mermaid(extracted(Stack(), torch.randn(2, 4)), collapse=False)
    assert [f"mod_layers_{i}[[" in text for i in range(4)] == [True] * 4


def test_expanded_module_is_a_subgraph_down_to_its_operators() -> None:
    lines = modules_to_mermaid(extracted(Stack(), torch.randn(2, 4)), expand=["layers.1"]).split("\n")
    start = next(i for i, line in enumerate(lines) if '["layers.1"]' in line)
    inner = lines[start + 1 : lines.index("    end")]
    assert lines[start].startswith("    subgraph ")
    assert [line.split("[")[0].strip() for line in inner] == [
        "mod_layers_1_up", "op_relu_1", "mod_layers_1_down", "op_add_1",
    ]  # fmt: skip
    assert any("layers.2 … layers.3<br/>2 identical" in line for line in lines)


def test_expanding_inside_opens_what_is_around() -> None:
    text = modules_to_mermaid(extracted(Stack(), torch.randn(2, 4)), expand=["layers.0.up"])
    assert text.index('["layers.0"]') < text.index('["layers.0.up"]') < text.index('op_linear_1["linear')


def test_expand_takes_patterns_and_lists() -> None:
    ir = extracted(Stack(), torch.randn(2, 4))
    assert modules_to_mermaid(ir, expand=["layers.*"]).count("subgraph") > 4
    assert modules_to_mermaid(ir, expand=["layers"]).count("subgraph") == 4


def test_unknown_module_names_those_that_are_close() -> None:
    with pytest.raises(ValueError, match=r"no module 'layer\.1' .* did you mean 'layers\.1'"):
        modules_to_mermaid(extracted(Stack(), torch.randn(2, 4)), expand=["layer.1"])


def test_repeated_calls_are_boxes_of_their_own() -> None:
    ir = extracted(Recurrent(), torch.randn(2, 4))
    text = modules_to_mermaid(ir, depth=1, collapse=False)
    assert re.findall(r'\[\["(cell[^<]*)<br/>', text) == ["cell", "cell@1", "cell@2"]
    assert "cell, calls 1 to 3<br/>3 identical" in modules_to_mermaid(ir, depth=1)


def test_a_graph_without_module_paths_cannot_be_folded() -> None:
    with pytest.raises(ValueError, match="does not say which module"):
        modules_to_mermaid(chain(3))


def test_thousands_of_nodes_fold_quickly() -> None:
    ir = chain(20_000)
    for i, node in enumerate(ir.nodes):
        node.module_path = f"layers.{i // 100}.part{i % 100 // 10}"
    start = time.perf_counter()
    text = modules_to_mermaid(ir, depth=1)
    assert time.perf_counter() - start < 10
    assert "layers.0 … layers.199<br/>200 identical<br/>100 ops: relu 100 each" in text


def test_folded_limit() -> None:
    ir = extracted(Stack(), torch.randn(2, 4))
    lines = modules_to_mermaid(ir, max_boxes=2).split("\n")
    assert lines[-1] == '    note["... 2 more boxes ..."]'
    assert "    note --> output_0" in lines


@pytest.mark.parametrize(("depth", "boxes"), [(0, 0), (None, -1)])
def test_bad_folding_arguments(depth: int | None, boxes: int) -> None:
    with pytest.raises(ValueError, match="must be"):
        modules_to_mermaid(chain(1), depth=depth, max_boxes=boxes)

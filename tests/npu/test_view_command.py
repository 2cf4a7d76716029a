"""``npu view``: the graph and the node data that it writes are what Model Explorer opens."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import npu
import pytest
import torch
from npu.cli import main
from npu.commands.inputs import parse_inputs
from npu.pictures.graph import graph_json, namespace_of, node_data
from npu.pictures.measured import HOST, measure
from torch import nn

from tests.support.commands import Run, npu_in

MODELS = """
import torch
from torch import nn

class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return self.linear(x).relu()

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.layers, self.head = Cell(), nn.ModuleList([Cell(), Cell()]), nn.Linear(8, 4)

    def forward(self, ids):
        x = self.cell(self.cell(ids))
        for layer in self.layers:
            x = layer(x)
        first, second = self.head(x).split(2, 1)
        return {"first": first, "second": second * 2}

class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(8, 8)

    def forward(self, x):
        return torch.special.digamma(self.linear(x).exp()) * 2
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("view")
    (folder / "viewed_models.py").write_text(MODELS)
    return folder


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    return npu_in(folder, monkeypatch, capsys)


def graph_of(text: str) -> dict[str, Any]:
    """The one graph of a file, which is as Model Explorer's documentation describes it."""
    collection = json.loads(text)
    assert set(collection) == {"label", "graphs"}
    (graph,) = collection["graphs"]
    nodes = {node["id"]: node for node in graph["nodes"]}
    assert len(nodes) == len(graph["nodes"]), "ids are unique"
    for node in graph["nodes"]:
        assert set(node) == {"id", "label", "namespace", "attrs", "incomingEdges", "outputsMetadata"}
        for pair in (*node["attrs"], *(p for output in node["outputsMetadata"] for p in output["attrs"])):
            assert set(pair) == {"key", "value"} and isinstance(pair["value"], str)
        for edge in node["incomingEdges"]:
            outputs = {output["id"] for output in nodes[edge["sourceNodeId"]]["outputsMetadata"]}
            assert edge["sourceNodeOutputId"] in outputs
    return {**graph, "nodes": nodes}


def attrs_of(node: dict[str, Any]) -> dict[str, str]:
    return {pair["key"]: pair["value"] for pair in node["attrs"]}


def test_the_graph_is_that_of_the_model(run: Run) -> None:
    text = run("view", "viewed_models:Net", "--input", "3,8", "-o", "net.json", "--with", "pytorch", "--device", "cpu")
    files = ",".join(f"net_{what}.json" for what in ("device", "time", "bytes", "error"))
    assert text.splitlines()[1] == f"To open it: model-explorer net.json --node_data_paths={files}"
    graph = graph_of(Path("net.json").read_text())
    spaces = {node["namespace"] for node in graph["nodes"].values()}
    assert {
        "Inputs",
        "Outputs",
        "cell",
        "cell/linear",
        "cell/linear@1",
        "layers.0",
        "layers.1/linear",
        "head",
    } <= spaces
    split = next(node for node in graph["nodes"].values() if node["label"].startswith("split"))
    assert [attrs["id"] for attrs in split["outputsMetadata"]] == ["0", "1"]
    second = graph["nodes"]["output 1"]
    while second["incomingEdges"] and second is not split:
        edge = second["incomingEdges"][0]
        second = graph["nodes"][edge["sourceNodeId"]]
    assert second is split and edge["sourceNodeOutputId"] in ("0", "1")
    linear = graph["nodes"]["linear"]
    assert attrs_of(linear)["weight 1"] == "cell.linear.weight float32[8, 8]"
    assert attrs_of(linear)["time"] == "that of relu" and "us" in attrs_of(graph["nodes"]["relu"])["time"]
    assert graph["groupNodeAttributes"][""]["runs"] == "10" and "time" in graph["groupNodeAttributes"]["layers.0"]
    for what in ("device", "time", "bytes", "error"):
        (data,) = json.loads(Path(f"net_{what}.json").read_text()).values()
        assert data["results"] and set(data["results"]) <= set(graph["nodes"])


def test_node_data_is_what_was_measured() -> None:
    module, x = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Softmax(-1)).eval(), torch.randn(3, 8)
    measured = measure(npu.compile(module, x, device="cpu"), [x], 3)
    data = {what: json.loads(text)["Sequential"]["results"] for what, text in node_data(measured).items()}
    assert set(data) == {"device", "time", "bytes"}
    assert {name: entry["value"] for name, entry in data["device"].items()} == dict.fromkeys(
        ("linear", "relu", "softmax"), "cpu"
    )
    steps = [step for step in measured.steps if step.nodes]
    assert {step.nodes[-1] for step in steps} == set(data["time"]) == set(data["bytes"])
    for step in steps:
        assert data["time"][step.nodes[-1]]["value"] == pytest.approx(step.time, rel=1e-3)
        assert data["bytes"][step.nodes[-1]]["value"] == pytest.approx(step.bytes, rel=1e-3)
    matmul = 4 * (2 * 3 * 8 + 8 * 8 + 8)
    assert steps[0].bytes >= matmul and measured.least_bytes <= measured.bytes
    graph_of(graph_json(measured))


def test_what_runs_on_the_host_is_shown_with_the_reason(run: Run) -> None:
    run("view", "viewed_models:Partly", "--input", "3,8", "-o", "partly.json", "--device", "cpu")
    graph = graph_of(Path("partly.json").read_text())
    node = next(node for node in graph["nodes"].values() if node["label"] == "special_digamma")
    attrs = attrs_of(node)
    assert attrs["device"] == HOST and attrs["why on the host"] == "no lowering for this operator"
    (data,) = json.loads(Path("partly_device.json").read_text()).values()
    values = {name: entry["value"] for name, entry in data["results"].items()}
    assert values[node["id"]] == HOST and values["linear"] == "cpu"
    (time,) = json.loads(Path("partly_time.json").read_text()).values()
    assert time["results"][node["id"]]["value"] > 0


def test_saved_files_and_irs(run: Run) -> None:
    run("compile", "viewed_models:Net", "--input", "n,8", "-o", "saved.npu")
    run("compile", "viewed_models:Net", "--input", "3,8", "-o", "ir.json")
    for source in (["saved.npu", "--input", "5,8"], ["ir.json", "--runs", "1"]):
        run("view", *source, "-o", "viewed.json")
        graph = graph_of(Path("viewed.json").read_text())
        assert "layers.1/linear" in {node["namespace"] for node in graph["nodes"].values()}
    assert parse_inputs(["5,8"])[0].shape == (5, 8)


@pytest.mark.parametrize(
    ("path", "namespace"),
    [
        ("", ""),
        ("head", "head"),
        ("layers.0.attention.query", "layers.0/attention/query"),
        ("cell.linear@2", "cell/linear@2"),
        ("0.1", "0/1"),
    ],
)
def test_namespaces(path: str, namespace: str) -> None:
    assert namespace_of(path) == namespace


MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no output": (["viewed_models:Net", "--input", "3,8"], 2, "the following arguments are required: -o"),
    "another format": (["viewed_models:Net", "-o", "x.dot"], 2, r"a graph is a JSON file; got --output x.dot"),
    "its source": (["ir.json", "-o", "ir.json"], 2, "the graph would overwrite its source"),
    "node data over its source": (["net_time.json", "-o", "net.json"], 2, "the graph would overwrite its source"),
    "nowhere": (["viewed_models:Net", "--input", "3,8", "-o", "no/x.json"], 1, "there is no folder 'no'"),
    "a program": (["x.npubin", "-o", "x.json"], 1, "`npu view` does not take a program"),
    "another device": (["viewed_models:Net", "--input", "3,8", "-o", "x.json", "--with", "tpu"], 1, "tpu"),
    "no runs": (["viewed_models:Net", "-o", "x.json", "--runs", "0"], 2, "0 is not between 1"),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes(case: str, run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, code, words = MISTAKES[case]
    for name in ("ir.json", "net_time.json"):
        Path(name).write_text("{}")
    try:
        status = main(["view", *arguments])
    except SystemExit as error:
        status = int(str(error.code))
    text = capsys.readouterr().err
    assert status == code and re.search(words, text), text
    assert not Path("x.json").exists()


def test_model_explorer_reads_it(run: Run) -> None:
    """With its own classes, where the package is installed."""
    builder = pytest.importorskip("model_explorer.graph_builder")
    dacite = pytest.importorskip("dacite")
    run("view", "viewed_models:Net", "--input", "3,8", "-o", "read.json")
    data = json.loads(Path("read.json").read_text())
    collection = dacite.from_dict(builder.GraphCollection, data, config=dacite.Config(strict=True))
    assert len(collection.graphs[0].nodes) == len(data["graphs"][0]["nodes"])

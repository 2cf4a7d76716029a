"""What a notebook shows of a compiled model."""

import pickle
import warnings
from html.parser import HTMLParser

import npu
import torch
from torch import nn


class Cells(HTMLParser):
    def __init__(self, html):
        super().__init__()
        self.text, self.open = [], []
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        if tag != "br":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


class Named(nn.Module):
    def __init__(self, host=False):
        super().__init__()
        self.linear, self.host = nn.Linear(64, 64), host

    def forward(self, x):
        y = self.linear(x)
        return {"<b>bold</b>": torch.linalg.pinv(y) if self.host else y, "rest": [y + i for i in range(15)]}


def shown(compiled):
    return Cells(compiled._repr_html_()).text


def test_whole_and_loaded():
    compiled = npu.compile(Named(), torch.ones(2, 64), device="cpu")
    assert "<b>" not in compiled._repr_html_()
    for module in (compiled, pickle.loads(pickle.dumps(compiled))):
        cells = shown(module)
        assert cells[0] == "CompiledModule Named"
        for text in ("x float32[2, 64]", "<b>bold</b> float32[2, 64]", "rest.9 float32[2, 64]", "and 4 more"):
            assert text in cells
        facts = dict(zip(cells[-8::2], cells[-7::2], strict=True))
        assert facts["Device"].startswith("cpu (") and facts["Steps"].endswith("kernels")
        assert facts["Weights"] == "16.2 KiB" and facts["On the host"] == "nothing"


def test_partly_on_the_host():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = npu.compile(Named(host=True), torch.ones(2, 64), device="cpu")
    cells = shown(compiled)
    assert "nodes of the model run on the host: linalg_pinv" in cells[-1] and "16.2 KiB" in cells
    assert any(cell.endswith("parts on cpu, 1 on the host") for cell in cells)


def test_a_model_without_inputs_or_weights():
    class Constant(nn.Module):
        def forward(self):
            return torch.arange(3) * 2

    cells = shown(npu.compile(Constant(), (), device="cpu"))
    assert cells[1:3] == ["Inputs", "none"] and "0 bytes" in cells

"""Pictures, drawn without a network."""

from __future__ import annotations

import socket
import struct
import sys
from pathlib import Path
from typing import NoReturn

import pytest
from torch_ir import extract_ir, ir_to_mermaid
from torch_ir.visualize import RenderingError, RenderingUnavailableError, modules_to_mermaid, render_image

from tests.models import get_model
from tests.torch_ir.test_visualize import ODD, Stack, chain, extracted

needs_renderer = pytest.mark.skipif(
    not __import__("importlib.util").util.find_spec("mermaidx"), reason="the extra `rendering` is not installed"
)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:
        raise OSError("a picture must not need the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def png_size(data: bytes) -> tuple[int, int]:
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", data[16:24])
    return width, height


@needs_renderer
def test_png_of_the_transformer_block() -> None:
    spec = get_model("TransformerBlock")
    data = render_image(ir_to_mermaid(extract_ir(spec.build(), spec.inputs())), ".png")
    width, height = png_size(data)
    assert 1_000 < width < 6_000
    assert 2_000 < height < 8_000


@needs_renderer
def test_svg_holds_every_label() -> None:
    import torch

    svg = render_image(modules_to_mermaid(extracted(Stack(), torch.randn(2, 4))), ".svg").decode()
    assert svg.lstrip().startswith("<svg")
    for label in ("embed", "layers.0 … layers.3", "4 identical", "76 params each", "Output"):
        assert label in svg


@needs_renderer
def test_odd_names_are_drawn_as_they_are() -> None:
    ir = chain(3)
    for node, op in zip(ir.nodes, ("<built-in function getitem>", "x`y`#1;", 'a"b[c]{d}|e&f;'), strict=True):
        node.op_type = op
    svg = render_image(ir_to_mermaid(ir), ".svg").decode()
    assert "&lt;built-in function getitem&gt;" in svg
    assert "x`y`#1;" in svg
    assert "a'b[c]{d}|e&amp;f;" in svg
    render_image(ir_to_mermaid(chain(0, names=ODD)), ".svg")


@needs_renderer
def test_expanded_modules_and_scalars_are_drawn() -> None:
    import torch

    assert render_image(modules_to_mermaid(extracted(Stack(2), torch.randn(4)), expand=["layers.0"]), ".svg")


@needs_renderer
def test_too_many_arrows_is_an_error_not_an_empty_picture() -> None:
    with pytest.raises(RenderingError, match=r"500 arrows, more than an image can have \(400\)"):
        render_image(ir_to_mermaid(chain(499), max_nodes=0), ".png")


@needs_renderer
def test_text_that_is_not_mermaid_is_an_error() -> None:
    with pytest.raises(RenderingError, match="the renderer failed"):
        render_image("flowchart TD\n  a -->|", ".svg")


def test_other_formats_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\.png, \.svg"):
        render_image("flowchart TD", ".gif")


def test_missing_renderer(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from torch_ir.cli import main

    monkeypatch.setitem(sys.modules, "mermaidx", None)
    with pytest.raises(RenderingUnavailableError):
        render_image("flowchart TD", ".png")
    chain(1).save(tmp_path / "ir.json")
    assert main(["visualize", str(tmp_path / "ir.json"), "-o", str(tmp_path / "x.png")]) == 1
    err = capsys.readouterr().err
    assert err.startswith("Error: image rendering requires the 'mmdc' package.\n")
    assert 'pip install "npu-simulation[rendering]"' in err
    assert not (tmp_path / "x.png").exists()

"""``npu profile``: its table, its trace, and the page that holds all of it."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.commands import Run, npu_in

pytest.importorskip("bokeh", reason="the pages of profiles need it")

MODELS = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

    def forward(self, image):
        return self.linear(self.conv(image).relu().mean((2, 3)))

class Partly(nn.Module):
    def __init__(self):
        super().__init__()
        setattr(self, "<b>&", nn.Linear(8, 8))

    def forward(self, x):
        return torch.special.digamma(getattr(self, "<b>&")(x).exp()) * 2
"""


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "profiled_models.py").write_text(MODELS)
    return npu_in(tmp_path, monkeypatch, capsys)


def without_scripts(page: str) -> str:
    return re.sub(r"(<script[^>]*>).*?(</script>)", r"\1\2", page, flags=re.DOTALL)


def tables_of(page: str) -> list[dict[str, list[Any]]]:
    """The columns of figures and tables in a page."""
    match = re.search(r'<script type="application/json"[^>]*>\s*(.*?)\s*</script>', page, re.DOTALL)
    assert match is not None
    sources = []

    def walk(value: Any) -> None:
        if isinstance(value, dict):
            if value.get("name") == "ColumnDataSource":
                entries = value["attributes"]["data"]["entries"]
                sources.append(dict(entries))
            for inner in value.values():
                walk(inner)
        elif isinstance(value, list):
            for inner in value:
                walk(inner)

    walk(json.loads(match[1]))
    return sources


def test_a_page_has_everything_in_it(run: Run) -> None:
    text = run(
        "profile", "profiled_models:Net", "--input", "2,3,9,9", "--device", "cpu", "--runs", 3, "--html", "net.html",
        "--trace", "net.trace",
    )  # fmt: skip
    assert "conv2d (conv[" in text and re.search(r"^net.html: \d\.\d MB$", text, re.MULTILINE)
    assert json.loads(Path("net.trace").read_text())["traceEvents"]
    page = Path("net.html").read_text()
    assert not re.search(r"<(script|link|img)[^>]*(src|href)=", without_scripts(page)), "it loads nothing"
    assert page.count("<title>Profile of Net</title>") == 1 and "Timeline of the last run" in page
    tables = tables_of(page)
    timeline = next(t for t in tables if "left" in t)
    steps = next(t for t in tables if "nodes" in t and "rate" in t and "left" not in t)
    assert timeline["step"] == steps["step"] and {"conv2d", "linear"} <= set(steps["step"])
    assert steps["nodes"][steps["step"].index("conv2d")] == "conv2d, relu"
    modules = next(t for t in tables if "module" in t and "share" in t)
    kernels = next(t for t in tables if "kernel" in t and "share" in t)
    for table in (modules, kernels):
        assert sum(table["share"]) == pytest.approx(1) and sum(table["time"]) == pytest.approx(sum(steps["time"]))
        assert sum(table["bytes"]) == pytest.approx(sum(steps["bytes"]))
        assert all(least <= moved for least, moved in zip(table["least"], table["bytes"], strict=True))
    assert {"conv", "linear"} <= set(modules["module"])


def test_the_host_and_why(run: Run) -> None:
    run("profile", "profiled_models:Partly", "--input", "3,8", "--device", "cpu", "--runs", 1, "--html", "partly.html")
    page = Path("partly.html").read_text()
    tables = tables_of(page)
    (host,) = [t for t in tables if "reason" in t]
    assert "no lowering for this operator" in host["reason"] and "special_digamma.default" in host["operator"]
    assert "host" in next(t for t in tables if "left" in t)["row"]
    assert (
        "<b>&"
        not in re.sub(r'<script type="application/json".*?</script>', "", page, flags=re.DOTALL).split("<body>")[1]
    )


@pytest.mark.slow
def test_a_browser_shows_the_page(run: Run, tmp_path: Path) -> None:
    """Without a network: everything is in the page."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no chromium")
    image = pytest.importorskip("PIL.Image")
    run("profile", "profiled_models:Partly", "--input", "3,8", "--runs", 1, "--html", "shown.html")
    for width in (1200, 500):
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
        options += [f"--window-size={width},1600", "--virtual-time-budget=8000", "--enable-logging=stderr"]
        picture = tmp_path / f"{width}.png"
        done = subprocess.run(
            [browser, *options, f"--screenshot={picture}", f"file://{tmp_path}/shown.html"],
            capture_output=True, text=True, timeout=120,
        )  # fmt: skip
        assert "Uncaught" not in done.stderr and "ERR_" not in done.stderr, done.stderr
        with image.open(picture) as shown:
            colors = {color for _, color in shown.convert("RGB").getcolors(1 << 24)}
        assert {(76, 120, 168), (209, 73, 91)} <= colors, "bars of the device and of the host"


def test_tables_without_a_page(run: Run) -> None:
    run("compile", "profiled_models:Net", "--input", "2,3,9,9", "-o", "net.npu")
    text = run("profile", "net.npu", "--by", "kernel", "--runs", 2, "--device", "cpu")
    assert "conv[" in text and "conv2d (" not in text and "html" not in text


def test_mistakes(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    net = ["profile", "profiled_models:Net", "--input", "2,3,9,9"]
    assert "there is no folder 'no'" in run(*net, "--html", "no/net.html", code=1)
    assert "`npu profile` does not take a program" in run("profile", "x.npubin", code=1)
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "bokeh" else find_spec(name))
    error = run(*net, "--html", "net.html", code=1)
    assert "a page needs Bokeh, which is not installed" in error and "pip install bokeh" in error
    assert not Path("net.html").exists()

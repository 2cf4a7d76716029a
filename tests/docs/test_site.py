"""The site: every page is in it, it builds without a network, and a link that leads nowhere fails it."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import build_docs
import pytest

ROOT = Path(__file__).resolve().parents[2]
NAV = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
needs_packages = pytest.mark.skipif(
    not all(importlib.util.find_spec(name) for name in build_docs.PACKAGES), reason="docs/requirements.txt"
)


def test_every_page_is_in_the_menu() -> None:
    listed = re.findall(r"- (?:[^:\n]+: )?(\S+\.md)$", NAV, re.MULTILINE)
    assert sorted(listed) == sorted(str(page.relative_to(ROOT)) for page in build_docs.pages())


def test_what_pages_link_to_comes_along(tmp_path: Path) -> None:
    build_docs.lay_out(tmp_path / "pages")
    assert (tmp_path / "pages" / "examples" / "resnet.py").exists()
    text = (tmp_path / "pages" / "docs" / "architecture.md").read_text()
    assert "```mermaid" not in text and re.search(r"!\[diagram\]\((architecture-\d+\.svg)\)", text)
    assert "<!--" not in re.sub(r"```.*?```", "", text, flags=re.DOTALL)


@pytest.fixture(scope="module")
def site() -> Path:
    build_docs.lay_out(build_docs.OUT / "pages")
    done = build_docs.build()
    assert done.returncode == 0, done.stdout
    return build_docs.OUT / "site"


@pytest.mark.slow
@needs_packages
class TestSite:
    def test_nothing_comes_from_elsewhere(self, site: Path) -> None:
        for page in site.rglob("*.html"):
            loads = r"<(?:script|link|img|iframe)[^>]* (?:src|href)=\"?(https?:[^\" >]+)"
            sources = re.findall(loads, page.read_text())
            assert not sources, f"{page.name} loads {sources}"

    def test_the_reference_has_every_function(self, site: Path) -> None:
        text = (site / "docs" / "api" / "npu.html").read_text()
        for name in ("compile", "load", "compare", "Generator.from_pretrained", "Predictor"):
            assert re.search(rf"id=\"?npu[\w.]*\.{re.escape(name)}\"?", text), name
        assert "Raises" in text and "CompileError" in text

    def test_the_reference_has_what_the_extension_says_nothing_of(self, site: Path) -> None:
        text = (site / "docs" / "api" / "npu_runtime.html").read_text()
        for name in ("Executor.__init__", "Session.run", "Weights.load", "NPUBuffer.shape"):
            assert re.search(rf"id=\"?npu_runtime\.{re.escape(name)}\"?", text), name

    def test_a_link_that_leads_nowhere_fails(self, site: Path) -> None:
        page = build_docs.OUT / "pages" / "docs" / "cuda.md"
        for wrong in ("[there](metall.md)", "[there](cli.md#docter)"):
            before = page.read_text()
            page.write_text(f"{before}\n{wrong}\n")
            assert build_docs.build().returncode != 0
            page.write_text(before)

    def test_a_browser_shows_it(self, site: Path, tmp_path: Path) -> None:
        """Wide and narrow, without a network."""
        browser = shutil.which("chromium") or shutil.which("google-chrome")
        if browser is None:
            pytest.skip("no chromium")
        image = pytest.importorskip("PIL.Image")
        for width in (1280, 400):
            picture = tmp_path / f"{width}.png"
            options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND"]
            command = [browser, *options, f"--window-size={width},1200", f"--screenshot={picture}"]
            subprocess.run([*command, f"file://{site}/index.html"], check=True, capture_output=True, timeout=120)
            with image.open(picture) as shown:
                colors = shown.convert("RGB").getcolors(1 << 24)
            assert len(colors) > 100, "text and a picture"

"""The test system itself: registry, command line, pytest options, figures, reports, golden texts."""

from __future__ import annotations

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn
from torch_ir import IR, extract_ir, ir_to_mermaid
from torch_ir.cli import main as torch_ir_main

from tests import models
from tests.__main__ import main
from tests.models import MODEL_REGISTRY, get_model, list_categories, list_models, register_model
from tests.testing import IRStatistics, ReportGenerator, TestResult, TestRunner
from tests.testing import mermaid as mermaid_names
from tests.testing.files import file_name, write_atomic

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[2]

USER_MODEL = """
    import torch
    from torch import nn
    from tests.models.base import register_model


    @register_model(
        name="{name}",
        input_shapes=[(3, 32, 32)],
        categories=["{category}"],
        description="My custom test model"
    )
    class {name}(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 64, 3)

        def forward(self, x):
            return self.conv(x)
"""


@pytest.fixture
def registry() -> Iterator[dict[str, models.TestModelSpec]]:
    """What a test registers is gone after it."""
    before = dict(MODEL_REGISTRY)
    yield MODEL_REGISTRY
    MODEL_REGISTRY.clear()
    MODEL_REGISTRY.update(before)


def user_file(folder: Path, name: str, category: str = "custom") -> Path:
    path = folder / f"{name.lower()}_models.py"
    path.write_text(textwrap.dedent(USER_MODEL.format(name=name, category=category)))
    return path


def meta_ir(name: str) -> IR:
    spec = get_model(name)
    with torch.device("meta"):
        model = spec.build()
    return extract_ir(model, tuple(x.to("meta") for x in spec.inputs()), model_name=name)


# --- golden texts


def test_transformer_block_has_the_known_graph() -> None:
    text = ir_to_mermaid(meta_ir("TransformerBlock"), max_nodes=100)
    assert text.rstrip("\n") == (GOLDEN / "transformer_block.mmd").read_text().rstrip("\n")


def test_deep_resnet_has_the_known_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta_ir("DeepResNet").save(tmp_path / "model.json")
    assert torch_ir_main(["info", str(tmp_path / "model.json")]) == 0
    assert capsys.readouterr().out.rstrip("\n") == (GOLDEN / "deep_resnet.txt").read_text().rstrip("\n")


# --- registry


def test_registering_twice_under_one_name_is_an_error(registry: dict[str, models.TestModelSpec]) -> None:
    with pytest.raises(ValueError, match="Two models are registered as 'DeepResNet'"):
        register_model("DeepResNet", [(3,)], ["x"])(nn.Linear)
    with pytest.raises(ValueError, match="at least one category"):
        register_model("Nameless", [(3,)], [])
    with pytest.raises(ValueError, match="must be a list"):
        register_model("Nameless", [(3,)], "attention")


def test_lookups() -> None:
    assert {s.name for s in list_models("multi_io")} >= {"CrossAttention", "SiameseEncoder", "MultiTaskHead"}
    assert list_categories() == sorted(list_categories())
    assert get_model("DeepResNet").description == "Multiple residual blocks"
    with pytest.raises(KeyError, match="Available models: SelfAttention"):
        get_model("nope")


def test_inputs_follow_shapes_and_seed() -> None:
    spec = get_model("CrossAttention")
    first, again, other = spec.inputs(3), spec.inputs(3), spec.inputs(4)
    assert [tuple(x.shape) for x in first] == [(1, 16, 64), (1, 32, 64)]
    assert torch.equal(first[0], again[0])
    assert not torch.equal(first[0], other[0])


def test_a_user_file_is_imported_once(tmp_path: Path, registry: dict[str, models.TestModelSpec]) -> None:
    path = user_file(tmp_path, "FromAFile")
    assert models.load_models(str(path)) == ["FromAFile"]
    assert models.load_models(str(path)) == ["FromAFile"]
    assert TestRunner(tmp_path).run_single_test("FromAFile").passed


def test_what_cannot_be_imported_says_why(tmp_path: Path) -> None:
    empty = tmp_path / "empty.py"
    empty.write_text("x = 1\n")
    broken = tmp_path / "broken.py"
    broken.write_text("import not_a_module_at_all\n")
    for where, message in (
        (str(tmp_path / "missing.py"), "No such file"),
        (str(empty), "registers no model"),
        (str(broken), "not_a_module_at_all"),
        ("not_a_module_at_all", "Cannot import models from"),
    ):
        with pytest.raises(models.ModelImportError, match=message):
            models.load_models(where)


# --- figures


def test_edges_count_no_weights() -> None:
    stats = IRStatistics.from_ir(meta_ir("RecurrentUnroll"))
    # A chain of ten nodes: one edge into each.
    assert (stats.num_nodes, stats.num_edges, stats.num_weights) == (10, 10, 2)
    assert stats.op_distribution == {"aten.linear.default": 5, "aten.tanh.default": 5}
    assert stats.weight_metadata[0] == {
        "name": "cell.weight",
        "shape": [32, 32],
        "dtype": "float32",
        "num_params": 1024,
    }
    assert stats.node_shapes[0]["output_shapes"] == [[1, 32]]
    assert stats.to_dict()["total_weight_params"] == 1056


def test_edges_of_old_files_that_gave_weights_a_producer() -> None:
    ir = meta_ir("RecurrentUnroll")
    for node in ir.nodes:
        for tensor in node.inputs:
            tensor.producer_node = tensor.producer_node or tensor.name
    assert IRStatistics.from_ir(ir).num_edges == 10


def test_constants_count_as_weights() -> None:
    stats = IRStatistics.from_ir(meta_ir("DeepResNet"))
    assert sum(w["num_params"] for w in stats.weight_metadata if "num_batches" in w["name"]) == 7


def test_mermaid_names_are_where_they_used_to_be() -> None:
    assert mermaid_names.ir_to_mermaid is ir_to_mermaid
    assert mermaid_names._format_shape((1, 2, 3)) == "1x2x3"
    assert mermaid_names._get_short_op_name("aten.linear.default") == "linear"


# --- runner and reports


class Broken(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("broken on purpose")


class Constant(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


def test_a_failing_model_is_a_result_not_a_crash(tmp_path: Path, registry: dict[str, models.TestModelSpec]) -> None:
    register_model("Broken", [(3,)], ["failing"])(Broken)
    register_model("Constant", [(30,)], ["failing"])(Constant)
    results, summary = TestRunner(tmp_path).run_and_report("failing")
    assert [r.passed for r in results] == [False, False]
    assert "broken on purpose" in (results[0].error_message or "")
    assert "proves nothing" in (results[1].error_message or "")
    text = summary.read_text()
    assert "| Pass Rate | 0.0% |" in text
    assert "## Failed Tests" in text
    assert "| failing | 0 | 2 | 2 |" in text
    assert "## Error" in (tmp_path / "Broken.md").read_text()


def test_model_report(tmp_path: Path) -> None:
    result = TestRunner(tmp_path).run_single_test("DeepResNet")
    text = ReportGenerator(tmp_path).save_report(result).read_text()
    sections = re.findall(r"^## (.*)$", text, re.M)
    assert sections == [
        "Summary",
        "Numerical Verification",
        "DAG Visualization",
        "Operator Distribution",
        "Node Details",
        "Weight Metadata",
    ]
    assert text.startswith("# DeepResNet\n\n**Status:** ✅ PASSED\n\n**Generated:** ")
    assert re.search(r"^\*\*Duration:\*\* \d+\.\d{3}s$", text, re.M)
    for row in (
        "| Nodes | 27 |",
        "| Edges | 30 |",
        "| Total Params | 57,617 |",
        "| Max Difference | 0.00e+00 |",
        "| Outputs Compared | 1 |",
        "| `conv.weight` | 32x3x3x3 | float32 | 864 |",
    ):
        assert row in text
    assert "```mermaid\nflowchart TD\n" in text
    assert "```mermaid\npie showData\n" in text
    assert "<summary>Click to expand</summary>" in text


def test_summary_report_of_nothing_divides_nothing() -> None:
    assert "| Pass Rate | n/a |" in ReportGenerator("unused").generate_summary_report([])


def test_summary_links_to_the_reports(tmp_path: Path) -> None:
    good = TestResult("SelfAttention", True, duration_seconds=0.5)
    bad = TestResult("a/b|c", False, error_message="no")
    text = ReportGenerator(tmp_path).save_summary([good, bad]).read_text()
    assert "| [SelfAttention](./SelfAttention.md) | ✅ PASS | - | - | - | 0.500s |" in text
    assert "[a/b\\|c](./a_b_c.md)" in text
    assert "| Pass Rate | 50.0% |" in text


def test_a_failed_write_keeps_the_old_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.md"
    write_atomic(path, "old")

    def full_disk(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.md"]
    assert file_name("../x") == "_x"


# --- command line


def test_command_line_runs_one_category(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "reports"
    assert main(["--category", "shared_weights", "--output", str(output)]) == 0
    text = capsys.readouterr().out
    assert re.search(r"^  \[✓\] RecurrentUnroll: PASS \(\d+\.\d{3}s\)$", text, re.M)
    assert "Total: 3 | Passed: 3 | Failed: 0\nPass rate: 100.0%\n" in text
    assert text.endswith(f"Reports saved to: {output}/\nSummary: {output}/SUMMARY.md\n")
    assert {p.stem for p in output.iterdir()} == {"SUMMARY", "SiameseEncoder", "RecurrentUnroll", "WeightTying"}


def test_command_line_lists(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list-models", "--category", "attention"]) == 0
    text = capsys.readouterr().out
    assert "CrossAttention [attention, multi_io] Cross-attention\n" in text
    assert "DeepResNet" not in text
    assert main(["--list-categories"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == list_categories()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "nope"], "Error: Unknown model 'nope'\nAvailable models: SelfAttention, "),
        (["--category", "nope"], "Error: Unknown category 'nope'\nAvailable categories: attention, "),
        (["--list-models", "--category", "nope"], "Error: Unknown category 'nope'\n"),
        (["--model", "DeepResNet", "--category", "attention"], "is not in category 'attention'"),
        (["--import", "missing.py"], "Error: No such file: missing.py"),
    ],
)
def test_command_line_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    captured = capsys.readouterr()
    assert message in captured.out + captured.err


def test_command_line_runs_a_users_model(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], registry: dict[str, models.TestModelSpec]
) -> None:
    path = user_file(tmp_path, "MyCustomModel")
    arguments = ["--import", str(path), "--category", "custom", "--output", str(tmp_path / "r"), "-v"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "[✓] MyCustomModel: PASS" in text
    assert "Verification PASSED" in text
    assert "Total: 1 | Passed: 1" in text


# --- pytest options


def run_pytest(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "tests/test_comprehensive.py", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_pytest_filters_reports_and_imports(tmp_path: Path) -> None:
    path = user_file(tmp_path, "PytestUser", "shared_weights")
    done = run_pytest(
        "-k", "test_model", "--category", "shared_weights", "--import", str(path),
        "--generate-reports", "--output", str(tmp_path / "reports"),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout
    assert f"Summary: {tmp_path}/reports/SUMMARY.md" in done.stdout
    names = {p.stem for p in (tmp_path / "reports").iterdir()}
    assert names == {"SUMMARY", "SiameseEncoder", "RecurrentUnroll", "WeightTying", "PytestUser"}


def test_pytest_keyword_finds_a_category() -> None:
    done = run_pytest("--collect-only", "-q", "-k", "test_model and attention")
    assert "test_model[TransformerBlock]" in done.stdout
    assert "test_model[DeepResNet]" not in done.stdout


def test_pytest_refuses_an_unknown_category() -> None:
    done = run_pytest("--category", "nope")
    assert done.returncode == 4
    assert "Unknown category 'nope'. Available categories: attention" in done.stderr
    assert "Traceback" not in done.stderr

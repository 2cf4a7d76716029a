"""Options and fixtures that any test may use.

``--category C`` keeps, of the tests that run once per registered model, those of models in category C.
``--import FILE_OR_MODULE`` (repeatable) adds models of your own, see ``tests.models``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tests.models.zoo  # noqa: F401 - before any test imports torchvision, or transformers, which imports it

# pytest records all that is logged, and PyTorch's structured trace is costly to make.
logging.getLogger("torch.__trace").setLevel(logging.CRITICAL)

_COLLECTED: pytest.StashKey[dict[str, Any]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("torch_ir", "registered models")
    group.addoption("--output", default="reports", metavar="DIR", help="folder for reports (default: reports)")
    group.addoption("--generate-reports", action="store_true", help="write a report per model and a summary")
    group.addoption("--category", default=None, metavar="C", help="only registered models of this category")
    group.addoption(
        "--import",
        dest="model_imports",
        action="append",
        default=[],
        metavar="FILE_OR_MODULE",
        help="import registered models of your own; may be repeated",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_COLLECTED] = {}
    imports, category = config.getoption("model_imports"), config.getoption("--category")
    if not imports and category is None:
        return
    from tests import models

    try:
        for where in imports:
            models.load_models(where)
    except models.ModelImportError as e:
        raise pytest.UsageError(str(e)) from e
    if category is not None and category not in models.list_categories():
        known = ", ".join(models.list_categories())
        raise pytest.UsageError(f"Unknown category '{category}'. Available categories: {known}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes ``model_spec`` runs once per registered model."""
    if "model_spec" in metafunc.fixturenames:
        from tests.models import list_models

        specs = list_models(metafunc.config.getoption("--category"))
        metafunc.parametrize("model_spec", specs, ids=[s.name for s in specs])


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let ``-k attention`` find every model of that category, not only those named so."""
    for item in items:
        spec = getattr(item, "callspec", None) and item.callspec.params.get("model_spec")  # type: ignore[attr-defined]
        if spec is not None:
            item.extra_keyword_matches.update(spec.categories)


@pytest.fixture(scope="session")
def output_dir(pytestconfig: pytest.Config) -> Path:
    return Path(pytestconfig.getoption("--output"))


@pytest.fixture(scope="session")
def category_filter(pytestconfig: pytest.Config) -> str | None:
    category: str | None = pytestconfig.getoption("--category")
    return category


@pytest.fixture(scope="session")
def generate_reports(pytestconfig: pytest.Config) -> bool:
    return bool(pytestconfig.getoption("--generate-reports"))


@pytest.fixture(scope="session")
def rtol() -> float:
    return 1e-4


@pytest.fixture(scope="session")
def atol() -> float:
    return 1e-4


@pytest.fixture(scope="session")
def report_collector(pytestconfig: pytest.Config) -> Callable[[Any], None]:
    """Takes a ``TestResult`` for the reports; of several for one model, the last."""
    collected = pytestconfig.stash[_COLLECTED]

    def collect(result: Any) -> None:
        collected[result.model_name] = result

    return collect


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    results = list(config.stash[_COLLECTED].values())
    if not results or not config.getoption("--generate-reports"):
        return
    from tests.testing import ReportGenerator

    reports = ReportGenerator(config.getoption("--output"))
    for result in results:
        reports.save_report(result)
    summary = reports.save_summary(results)
    terminalreporter.write_line(f"Reports saved to: {reports.output_dir}/")
    terminalreporter.write_line(f"Summary: {summary}")

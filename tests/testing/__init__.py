"""The test system: runs registered models, collects figures, writes reports."""

from .report import ReportGenerator
from .runner import TestResult, TestRunner
from .statistics import IRStatistics

__all__ = ["IRStatistics", "ReportGenerator", "TestResult", "TestRunner"]

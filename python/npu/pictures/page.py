"""The profile of a model as one HTML page that needs nothing else: Bokeh and the figures are in it."""

from __future__ import annotations

import html
import importlib.util
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from npu_compiler.partition_report import short_name
from npu_runtime.errors import UnavailableError, format_error

from npu.pictures.graph import namespace_of
from npu.pictures.measured import HOST, Measured, Step

__all__ = ["check_bokeh", "page_of"]

_WIDTH = 1100
_MOST_BARS = 30
_DEVICE_COLOR, _COPY_COLOR, _HOST_COLOR = "#4c78a8", "#f2a541", "#d1495b"


def check_bokeh() -> None:
    if importlib.util.find_spec("bokeh") is None:
        what = "a page needs Bokeh, which is not installed"
        raise UnavailableError(format_error("npu", what, action="pip install bokeh"))


def page_of(measured: Measured) -> str:
    check_bokeh()
    from bokeh.embed import file_html
    from bokeh.layouts import column
    from bokeh.resources import INLINE

    by_kernel = _groups(measured, lambda step: step.kernel)
    by_module = _groups(measured, lambda step: namespace_of(measured.module(step)) or "(outside of modules)")
    parts = [
        _text(f"<h1>{_safe(measured.model)}</h1>{_facts(measured)}"),
        _text("<h2>Timeline of the last run</h2>"),
        _timeline(measured),
        _text("<h2>Modules</h2>"),
        _table("module", by_module),
        _text("<h2>Kernels</h2>"),
        _table("kernel", by_kernel),
        _text("<h2>Bytes, and the least possible</h2>" + _ABOUT_BYTES),
        _bytes(by_kernel),
        _text("<h2>On the host</h2>"),
        _on_host(measured),
        _text("<h2>Steps</h2>"),
        _steps(measured),
    ]
    page: str = file_html(
        column(*parts, sizing_mode="stretch_width", max_width=_WIDTH), INLINE, title=f"Profile of {measured.model}"
    )
    return page


_ABOUT_BYTES = (
    "<p>The least is what the operators move if each reads its operands and writes its results once. What is beyond it "
    "are copies to another layout.</p>"
)


def _safe(text: object) -> str:
    return html.escape(str(text))


def _text(markup: str) -> Any:
    from bokeh.models.widgets import Div

    return Div(text=markup, sizing_mode="stretch_width")


def _facts(measured: Measured) -> str:
    on_device = sum(step.time for step in measured.steps if step.device != HOST)
    on_host = sum(step.time for step in measured.steps if step.device == HOST)
    facts = {
        "Device": measured.device,
        "Runs": measured.runs,
        "Time of a run": f"{measured.wall_ms:.4g} ms",
        "In kernels": f"{on_device / 1e3:.4g} ms",
        "On the host": f"{on_host / 1e3:.4g} ms",
        "Steps": len(measured.steps),
        "Bytes": f"{measured.bytes:,.0f}, at least {measured.least_bytes:,.0f}",
    }
    rows = "".join(f"<tr><td><b>{key}</b></td><td>{_safe(value)}</td></tr>" for key, value in facts.items())
    return f"<table>{rows}</table>"


def _color(step: Step) -> str:
    return _HOST_COLOR if step.device == HOST else _DEVICE_COLOR if step.nodes else _COPY_COLOR


def _timeline(measured: Measured) -> Any:
    from bokeh.models import ColumnDataSource, FactorRange, HoverTool
    from bokeh.plotting import figure

    rows = list(dict.fromkeys(step.device for step in measured.steps)) or ["none"]
    source = ColumnDataSource({
        "left": [step.start for step in measured.steps],
        "right": [step.start + step.last for step in measured.steps],
        "row": [step.device for step in measured.steps],
        "color": [_color(step) for step in measured.steps],
        **_columns(measured),
    })  # fmt: skip
    plot = figure(
        y_range=FactorRange(factors=rows[::-1]), sizing_mode="stretch_width", height=120 + 50 * len(rows),
        x_axis_label="microseconds",
        tools="xpan,xwheel_zoom,box_zoom,reset,save", active_scroll="xwheel_zoom",
    )  # fmt: skip
    plot.hbar(y="row", left="left", right="right", height=0.7, color="color", line_color="white", source=source)
    fields = [("step", "@step"), ("kernel", "@kernel"), ("module", "@module"), ("mean", "@time{0.00} us")]
    plot.add_tools(HoverTool(tooltips=[*fields, ("bytes", "@bytes{0,0}")]))
    return plot


def _columns(measured: Measured) -> dict[str, list[Any]]:
    steps = measured.steps
    return {
        "step": [step.name for step in steps],
        "kernel": [step.kernel for step in steps],
        "module": [namespace_of(measured.module(step)) for step in steps],
        "device": [step.device for step in steps],
        "nodes": [", ".join(step.nodes) for step in steps],
        "time": [step.time for step in steps],
        "bytes": [step.bytes for step in steps],
        "rate": [step.bytes / step.time / 1e3 if step.time else 0.0 for step in steps],
    }


def _groups(measured: Measured, key: Callable[[Step], str]) -> dict[str, list[float]]:
    """By name: steps, time, bytes and the least bytes; the longest first."""
    groups: dict[str, list[float]] = defaultdict(lambda: [0, 0.0, 0.0, 0.0])
    for step in measured.steps:
        row = groups[key(step)]
        for i, value in enumerate((1, step.time, step.bytes, step.least_bytes)):
            row[i] += value
    return dict(sorted(groups.items(), key=lambda item: -item[1][1]))


def _data_table(columns: Mapping[str, Sequence[Any]], titles: Mapping[str, str]) -> Any:
    from bokeh.models import ColumnDataSource
    from bokeh.models.widgets import DataTable, NumberFormatter, StringFormatter, TableColumn

    formats = {"time": "0,0.00", "share": "0.0%", "rate": "0.0"}
    shown = []
    for name, title in titles.items():
        values = columns[name]
        is_number = bool(values) and not isinstance(values[0], str)
        number = NumberFormatter(format=formats.get(name, "0,0"), text_align="right")
        width, formatter = (90, number) if is_number else (260, StringFormatter())
        shown.append(TableColumn(field=name, title=title, formatter=formatter, width=width))
    count = len(next(iter(columns.values())))
    height = min(60 + 25 * count, 500)
    source = ColumnDataSource({name: list(columns[name]) for name in titles})
    return DataTable(source=source, columns=shown, sizing_mode="stretch_width", height=height, index_position=None)


def _table(what: str, groups: Mapping[str, Sequence[float]]) -> Any:
    whole = sum(row[1] for row in groups.values()) or 1.0
    counts, times, moved, least = ([row[i] for row in groups.values()] for i in range(4))
    columns: dict[str, list[Any]] = {
        what: list(groups), "steps": counts, "time": times, "share": [time / whole for time in times],
        "bytes": moved, "least": least,
        "rate": [b / t / 1e3 if t else 0.0 for b, t in zip(moved, times, strict=True)],
    }  # fmt: skip
    titles = {"steps": "Steps", "time": "Time (us)", "share": "Share", "bytes": "Bytes", "least": "Least bytes"}
    return _data_table(columns, {what: what.capitalize(), **titles, "rate": "GB/s"})


def _bytes(groups: Mapping[str, Sequence[float]]) -> Any:
    from bokeh.models import ColumnDataSource, FactorRange, NumeralTickFormatter
    from bokeh.plotting import figure

    most = sorted(groups.items(), key=lambda item: -item[1][2])[:_MOST_BARS]
    most = [(name, row) for name, row in most if row[2] > 0] or [("none", [0, 0, 0, 0])]
    names = [name for name, _ in most]
    least = [row[3] for _, row in most]
    source = ColumnDataSource({"name": names, "least": least, "beyond": [row[2] - row[3] for _, row in most]})
    plot = figure(
        y_range=FactorRange(factors=names[::-1]), sizing_mode="stretch_width", height=130 + 22 * len(names),
        x_axis_label="bytes of a run", tools="hover",
        tooltips=[("kernel", "@name"), ("least", "@least{0,0}"), ("beyond it", "@beyond{0,0}")],
    )  # fmt: skip
    plot.hbar_stack(
        ["least", "beyond"], y="name", height=0.7, color=[_DEVICE_COLOR, _COPY_COLOR], source=source,
        legend_label=["the least", "copies to another layout"],
    )  # fmt: skip
    plot.add_layout(plot.legend[0], "above")
    plot.xaxis.formatter = NumeralTickFormatter(format="0,0")
    return plot


def _on_host(measured: Measured) -> Any:
    step_of = {name: step for step in measured.steps if step.device == HOST for name in step.nodes}
    nodes = [node for node in measured.ir["nodes"] if node["name"] in step_of]
    if not nodes:
        return _text("<p>Nothing: the device runs all of the model.</p>")
    columns = {
        "node": [node["name"] for node in nodes],
        "operator": [short_name(node["op_type"]) for node in nodes],
        "module": [namespace_of(node.get("module_path") or "") for node in nodes],
        "reason": [measured.reasons.get(node["name"], "beside such a node: to stay saves transfers") for node in nodes],
        "time": [step_of[node["name"]].time for node in nodes],
    }
    titles = {"node": "Node", "operator": "Operator", "module": "Module", "reason": "Why"}
    return _data_table(columns, {**titles, "time": "Time of its part (us)"})


def _steps(measured: Measured) -> Any:
    titles = {
        "step": "Step", "kernel": "Kernel", "module": "Module", "device": "Device", "nodes": "Nodes",
        "time": "Time (us)", "bytes": "Bytes", "rate": "GB/s",
    }  # fmt: skip
    return _data_table(_columns(measured), titles)

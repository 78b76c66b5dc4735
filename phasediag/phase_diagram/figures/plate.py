"""One plane, six measures: what else changes at the critical lines."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...display.figures import DOUBLE_COLUMN, STYLE, new_figure
from .. import info
from ..fitting import fit, measured_rows, usable_runs
from ..info import split_points
from ..measures import MEASURES, NETWORK, Measure
from .maps import draw_measured, draw_rule, paint_slopes, paint_values
from .plane import GAMMA, GAMMA_PRIME

_PANELS = (
    (("relative_change", "first"),),
    (("relative_change_spectral", "first"), ("relative_change", "last")),
    (("kernel_change", ""),),
    (("linear_gap_test", ""), ("linear_gap", "")),
    (("effective_rank", "first"), ("orientations", "first")),
    (("test_error", ""), ("time_half", "")),
)
"""Measures, and of which layer. The first of each that has a value is shown."""
_ONLY_BETWEEN = ("relative_change_spectral", "effective_rank")
"""Measures that say more than others only of matrices between hidden layers: other layers have few inputs, or one output."""
_ACROSS = 3


class Panel(NamedTuple):
    """A map of the plate: which measure, and the rows of one layer that it is read from."""

    measure: Measure
    rows: pd.DataFrame


def panels_of(runs: pd.DataFrame, layers: Sequence[str]) -> list[Panel]:
    """The maps of the plate of a study; none where the rows have no more measures than files of earlier versions, or a single gamma_prime.

    Args:
        runs: rows of ``runs/``.
        layers: their names, from the input to the output. Measures of layers are those of the first one between two hidden layers, if any.
    """
    first, *between, last = layers if len(layers) > 1 else (*layers, "")
    shown = {"first": next(iter(between), first), "last": last, "": ""}
    found = []
    for options in _PANELS:
        panels = (
            Panel(MEASURES[name], _rows_of(runs, MEASURES[name], shown[layer]))
            for name, layer in options
            if name in runs and (between or name not in _ONLY_BETWEEN)
        )
        found += [panel for panel in panels if usable_runs(panel.rows, panel.measure).any()][:1]
    is_new = any(not panel.measure.of_layers for panel in found)
    return found if is_new and runs["gamma_prime"].nunique() > 1 else []


def _rows_of(runs: pd.DataFrame, measure: Measure, layer: str) -> pd.DataFrame:
    rows = measured_rows(runs, measure)
    return rows.loc[rows["layer"] == layer] if measure.of_layers else rows


@rc_context(STYLE)
def plate(panels: list[Panel]) -> Figure:
    """Up to six maps side by side, of slopes at infinite width or of values at the largest one, with all critical lines in both norms."""
    down = -(-len(panels) // _ACROSS)
    figure = new_figure(DOUBLE_COLUMN, 2.55 * down + 0.3)
    axes = figure.subplots(down, _ACROSS, sharex=True, sharey=True, squeeze=False)
    handles: dict[str, Any] = {}
    for ax, panel in zip(axes.flat, panels, strict=False):
        handles |= {handle.get_label(): handle for handle in _draw(ax, panel)}
    for ax in list(axes.flat)[len(panels) :]:
        ax.set_axis_off()
    for ax in axes[:, 0]:
        ax.set_ylabel(GAMMA_PRIME)
    for ax in list(axes.flat)[max(len(panels) - _ACROSS, 0) : len(panels)]:
        ax.set_xlabel(GAMMA)
        ax.tick_params(labelbottom=True)
    figure.legend(handles=list(handles.values()), loc="outside lower center", ncols=len(handles))
    return figure


def _draw(ax: Axes, panel: Panel) -> Iterator[Any]:
    """Draw a map; yield the legend handles of what is in it."""
    measure, rows = panel
    lines, missing = [], []
    if measure.is_power:
        table = fit(rows, measure.name)
        column, plane = info.deciding_slope(table), split_points(table)
        missing = paint_slopes(ax, plane, measure, column, "top")
        lines = draw_measured(ax, plane, table, column) if measure.has_regimes else []
    else:
        table = info.values(rows, measure.name)
        missing = paint_values(ax, split_points(table), measure, "top")
    yield from lines
    yield from draw_rule(ax, info.rule_lines(table.assign(layer=NETWORK)))
    for handle in missing:
        handle.set_label("no value")
        yield handle

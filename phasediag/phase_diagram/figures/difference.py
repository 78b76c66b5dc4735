"""The figure of a comparison: where the slopes of two phase diagrams differ, and by how much their critical lines do."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ...display.figures import DOUBLE_COLUMN, SINGLE_COLUMN, STYLE, new_figure, plain_text
from ..comparison import DIFFERENCES, Differences, deciding_slope, differs
from ..fitting import POINT, points_of, predicted_line, select_layer
from ..info import Plane, split_points
from .labels import layer_symbol
from .maps import draw_predicted, finish_map, map_size, symmetric_norm
from .plane import GAMMA_PRIME, paint

Names = tuple[str, str]
_LINES: dict[str, dict[str, Any]] = {
    "a": {"color": "black", "zorder": 4.0},
    "b": {"color": "#f08c00", "zorder": 4.1, "linestyle": (0, (1.6, 1.1))},
}
_DASHES = {"a": (3.2, 1.8), "b": (1.2, 1.2)}
_LEAST_LIMIT = 0.01
"""Colours go at least so far: what is smaller is error of training."""


def draw_differences(found: Differences, names: Names) -> dict[str, Figure]:
    """The figure of every layer that has more than one point: file name without ending -> figure."""
    layers = [str(layer) for layer, table in found.slopes.groupby("layer") if len(points_of(table)) > 1]
    figures = {f"difference_{layer}": difference_map(found, layer, names) for layer in layers}
    for key, figure in figures.items():
        figure.set_label(f"{names[1]} - {names[0]}: {key}")
    return figures


@rc_context(STYLE)
def difference_map(found: Differences, layer: str, names: Names) -> Figure:
    """Map of S_B - S_A of a layer, with both critical lines, beside the distance gamma_B - gamma_A of these.

    The slopes are those of infinite width where these are known. Dots mark the points at which the 95 % interval of the difference excludes
    0. The second panel is left out where no row of the map has a crossing in both studies.
    """
    slopes = select_layer(found.slopes, layer)
    slope = deciding_slope(slopes)
    lines = found.lines.loc[(found.lines["layer"] == layer) & (found.lines["slope"] == slope)]
    apart = lines["difference"].notna().any()
    figure = new_figure(DOUBLE_COLUMN if apart else 1.2 * SINGLE_COLUMN, map_size(slopes)[1] + 0.3)
    panels = figure.subplots(1, 2, width_ratios=(1.75, 1.0)) if apart else [figure.subplots()]
    handles, plane = _draw_map(panels[0], slopes, lines, slope, names)
    if apart:
        handles += _draw_distance(panels[1], _by_row(lines, "difference", plane), slope)
        panels[1].set_ylim(panels[0].get_ylim())
    columns = 3 if apart else 1
    figure.legend(handles=handles, loc="outside upper center", ncols=columns)
    return figure


def _draw_map(
    ax: Axes, slopes: pd.DataFrame, lines: pd.DataFrame, slope: str, names: Names
) -> tuple[list[Any], Plane]:
    column, symbol = DIFFERENCES[slope], layer_symbol(str(slopes["layer"].iloc[0]))
    plane, colours = split_points(slopes), matplotlib.colormaps["RdBu_r"]
    norm, extend = symmetric_norm(np.append(slopes[column].to_numpy(float), _LEAST_LIMIT))
    missing = paint(ax, plane, column, norm, colours, "no slope")
    handles: list[Any] = []
    for side, name in zip(_LINES, names, strict=True):
        label = f"${_symbol(slope)} = 0$, {side.upper()}: {plain_text(name)}"
        handles += _draw_line(ax, _by_row(lines, f"gamma_{side}", plane), label, _LINES[side])
    handles += _draw_predicted_lines(ax, slopes) + _mark(ax, slopes.loc[differs(slopes, column)])
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, extend=extend, aspect=24, pad=0.03)
    bar.set_label(rf"$S_B - S_A$ of ${symbol}${_limit(slope)}")
    finish_map(ax, [], 1, float(slopes["gamma_1"].iloc[0]))
    return handles + missing, plane


def _symbol(slope: str) -> str:
    return r"S_\infty" if slope == "slope_infinite" else "S"


def _limit(slope: str) -> str:
    return r"  ($m \to \infty$)" if slope == "slope_infinite" else ""


def _by_row(lines: pd.DataFrame, column: str, plane: Plane) -> pd.DataFrame:
    """The lines by gamma_prime, with a column as "x", which is NaN in rows of the grid without a crossing."""
    there = lines.loc[lines[column].notna()].set_index("gamma_prime")
    return there.reindex(plane.rows_with(there.index)).rename(columns={column: "x"})


def _draw_line(ax: Axes, rows: pd.DataFrame, label: str, style: dict[str, Any]) -> list[Line2D]:
    """Draw a measured critical line; return its legend handle if there is one. A crossing alone in its map is a tick."""
    crossings = rows["x"].notna().sum()
    if crossings == 1:
        style = {**style, "marker": "|", "markersize": 14, "markeredgewidth": 1.8}
    return ax.plot(rows["x"], rows.index, linewidth=1.8, label=label, **style) if crossings else []


def _draw_predicted_lines(ax: Axes, slopes: pd.DataFrame) -> list[Line2D]:
    """Draw the predicted line, or, of networks of different depth, both."""
    same = (slopes["depth_a"] == slopes["depth_b"]).all()
    lines = {side: predicted_line(slopes.assign(depth=slopes[f"depth_{side}"])) for side in _LINES}
    return [
        draw_predicted(ax, line, "predicted" if same else f"predicted, {side.upper()}", _DASHES[side])
        for side, line in lines.items()
        if line is not None and (side == "a" or not same)
    ]


def _mark(ax: Axes, points: pd.DataFrame) -> list[Line2D]:
    """Draw a dot at every point; return its legend handle if there is one."""
    if points.empty:
        return []
    style: dict[str, Any] = {"linestyle": "none", "marker": "o", "markersize": 3.2, "markeredgewidth": 0.6}
    x, y = (points[key] for key in POINT)
    label = "95 % interval excludes 0"
    return ax.plot(x, y, color="black", markeredgecolor="white", zorder=3.5, label=label, **style)


def _draw_distance(ax: Axes, rows: pd.DataFrame, slope: str) -> list[Any]:
    """Draw gamma_B - gamma_A against gamma', with its band; return the legend handle of that."""
    low, high = (rows[f"difference_{end}"].to_numpy(float) for end in ("low", "high"))
    y, band = rows.index.to_numpy(float), np.isfinite(low) & np.isfinite(high)
    ax.axvline(0.0, color="#7a7a7a", linewidth=0.8, zorder=1)
    ax.fill_betweenx(y, low, high, where=list(band), color="black", alpha=0.12, linewidth=0, zorder=2)
    for end in (low, high):
        ax.plot(end, y, color="black", linewidth=0.5, zorder=2)
    ax.plot(rows["x"], y, ".-", color="black", markersize=5.0, zorder=4)
    ax.set(xlabel=rf"$\gamma_B - \gamma_A$ at ${_symbol(slope)} = 0$", ylabel=GAMMA_PRIME)
    edge: dict[str, Any] = {"facecolor": "#dedede", "edgecolor": "black", "linewidth": 0.5}
    return [Patch(**edge, label=r"95 % band of $\gamma_B - \gamma_A$")] if band.sum() > 1 else []

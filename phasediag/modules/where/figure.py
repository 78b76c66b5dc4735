"""The figure of a measurement: relative changes against the width, and the slopes of all layers beside each other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from ...display.figures import DOUBLE_COLUMN, STYLE, new_figure, plain_text
from ...phase_diagram.extrapolation import LEAST_WIDTHS
from ...phase_diagram.figures.maps import REGIME_COLOURS
from ...phase_diagram.fitting import usable_runs
from .words import VERBS

_COLOURS = ("#1b6ca8", "#c0392b", "#2a9d5c", "#8e44ad", "#d98c10", "#16a0a0", "#7f5539", "#d6569c")
_MARKERS = "osD^vP<>"
_BARS = {"undetermined": "#8c8c8c"}
"""Colours of intervals that would not be seen on the grey of critical slopes."""
_LEGEND_INSIDE, _LEGEND_COLUMNS, _LONGEST_NAME = 3, 3, 28
"""More layers than these have their legend below both panels, in columns."""
MOST_LABELS = 16
"""Layers whose names are shown; of more, every second or third one."""


@rc_context(STYLE)
def scaling(runs: pd.DataFrame, layers: pd.DataFrame, how: str) -> Figure:
    """Left: the relative change of every layer against the width, filled where a run is in the fit, with the line of the plain fit. Right:
    the slope of every layer with its 95 % interval, in the colour of its regime; crosses are predictions of the rule.

    Args:
        runs: one row per layer, width and seed.
        layers: one row per layer, as in `phasediag.modules.where.verdict.Measurement.layers`.
        how: how the networks were trained, for the title.
    """
    names = list(layers["layer"])
    below = _LEGEND_INSIDE < len(names) <= len(_COLOURS)
    rows = -(-len(names) // _LEGEND_COLUMNS) if below else 0
    figure = new_figure(DOUBLE_COLUMN, 2.9 + 0.16 * rows + 0.09 * max(len(names) - 8, 0))
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1.0])
    shown = [_ending(name) for name in names]
    for number, layer in enumerate(names):
        _draw_runs(left, runs.loc[runs["layer"] == layer], number, shown[number])
    left.set(xscale="log", yscale="log", xlabel="width $m$", ylabel="relative change of the layer")
    widths = sorted(set(runs["width"]))
    left.set_xticks(widths, [str(width) for width in widths], rotation=45 if len(widths) > 6 else 0)
    left.xaxis.set_minor_locator(NullLocator())
    left.set_title(f"trained {how.partition(',')[0]}")
    if below:
        figure.legend(*left.get_legend_handles_labels(), loc="outside lower center", ncols=_LEGEND_COLUMNS)
    elif len(names) <= _LEGEND_INSIDE:
        left.legend(loc="best")
    _draw_slopes(right, layers, shown, len(widths) >= LEAST_WIDTHS)
    return figure


def _ending(name: str) -> str:
    """The name of a layer, or the end of a long one: layers of one block begin alike."""
    cut = len(name) - _LONGEST_NAME
    return plain_text(name if cut <= 0 else f"…{name[cut + 1 :]}")


def _draw_runs(ax: Axes, runs: pd.DataFrame, number: int, name: str) -> None:
    colour, marker = _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
    usable = usable_runs(runs).to_numpy()
    style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 3.2, "linestyle": "none"}
    used, others = runs.loc[usable], runs.loc[~usable & (runs["relative_change"] > 0)]
    ax.plot(others["width"], others["relative_change"], fillstyle="none", **style)
    ax.plot(
        used["width"], used["relative_change"], **style, label=name if used["width"].nunique() < 2 else None
    )
    if used["width"].nunique() > 1:
        x, y = np.log(used["width"].to_numpy(float)), np.log(used["relative_change"].to_numpy(float))
        slope, offset = np.polyfit(x, y, 1)
        ends = np.array([x.min(), x.max()])
        label = f"{name}: $m^{{{slope:.2f}}}$"
        ax.plot(np.exp(ends), np.exp(offset + slope * ends), color=colour, linewidth=1.0)
        ax.plot([], [], color=colour, marker=marker, markersize=3.2, linewidth=1.0, label=label)


def _draw_slopes(ax: Axes, frame: pd.DataFrame, names: list[str], infinite: bool) -> None:
    places = np.arange(len(frame))[::-1]
    ax.axvspan(-0.05, 0.05, color="#e6e6e6", linewidth=0, zorder=0)
    ax.axvline(0.0, color="black", linewidth=0.7, zorder=1)
    seen = set()
    for place, (_, row) in zip(places, frame.iterrows(), strict=True):
        slope, low, high = float(row["slope"]), float(row["low"]), float(row["high"])
        if not math.isfinite(slope):
            continue
        bars = None if not math.isfinite(low) else [[slope - low], [high - slope]]
        regime = str(row["regime"])
        label = VERBS[regime].removeprefix("is ") if regime not in seen else None
        seen.add(regime)
        style: dict[str, Any] = {
            "color": REGIME_COLOURS[regime],
            "markeredgecolor": "black",
            "markeredgewidth": 0.4,
        }
        ax.errorbar(
            slope,
            place,
            xerr=bars,
            marker="o",
            markersize=4.5,
            elinewidth=1.3,
            ecolor=_BARS.get(regime, REGIME_COLOURS[regime]),
            linestyle="none",
            label=label,
            **style,
        )
    predicted = frame["predicted_slope"].to_numpy(float)
    known = np.isfinite(predicted)
    if known.any():
        ax.plot(
            predicted[known],
            places[known],
            marker="x",
            markersize=5,
            color="black",
            linestyle="none",
            label=r"rule, $m \to \infty$",
        )
    step = -(-len(names) // MOST_LABELS)
    ax.set_yticks(places[::step], names[::step])
    ax.set_ylim(-0.6, len(names) - 0.4)
    ax.set_xlabel(r"slope $S_\infty$ at infinite width" if infinite else "slope $S$")
    handles, _ = ax.get_legend_handles_labels()
    if handles:
        ax.legend(
            loc="lower center",
            bbox_to_anchor=(0.5, 1.0),
            ncols=len(handles),
            borderaxespad=0.3,
            handletextpad=0.3,
        )

"""The figure of a refinement: the points that each round placed, and the critical lines that they narrowed."""

from __future__ import annotations

from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import BoundaryNorm, ListedColormap
from matplotlib.figure import Figure

from ...display.figures import SINGLE_COLUMN, STYLE, new_figure
from ..fitting import points_of, select_layer
from ..info import split_points
from ..refinement import Placement
from .maps import COMBINED_LINES, draw_lines_of_layers, finish_map, map_size

_GRID: dict[str, Any] = {
    "marker": "s",
    "s": 26,
    "facecolor": "white",
    "edgecolor": "#5a5a5a",
    "linewidth": 0.8,
}


@rc_context(STYLE)
def refinement_map(slopes: pd.DataFrame, placement: Placement) -> Figure:
    """The points of a refined map, coloured by the round that placed them, with the critical lines of the layers of input weights, or
    of the first two layers of a torch module.

    Args:
        slopes: rows as returned by `phasediag.fit`.
        placement: what refinement has placed.
    """
    figure = new_figure(1.1 * SINGLE_COLUMN, map_size(slopes)[1] + 0.2)
    draw_refinement(figure.subplots(), slopes, placement)
    return figure


def draw_refinement(ax: Axes, slopes: pd.DataFrame, placement: Placement) -> None:
    """Draws the points of a refined map into given axes, as `refinement_map` does, with a colour bar beside them."""
    there = list(slopes["layer"].unique())
    layers = [layer for layer in COMBINED_LINES if layer in there] or there[: len(COMBINED_LINES)]
    first = select_layer(slopes, layers[0])
    plane = split_points(first)
    ax.set(xlim=plane.limits[0], ylim=plane.limits[1])
    rounds = placement.round_of_points()
    placed = pd.DataFrame(
        [(*point, number) for point, number in rounds.items()], columns=["gamma", "gamma_prime", "round"]
    )
    grid = points_of(first).merge(placed, how="left").loc[lambda points: points["round"].isna()]
    handles: list[Any] = [ax.scatter(grid["gamma"], grid["gamma_prime"], label="grid", zorder=2, **_GRID)]
    last = int(placed["round"].max()) if len(placed) else 1
    norm = BoundaryNorm(np.arange(0.5, last + 1), last)
    colours = ListedColormap(matplotlib.colormaps["viridis_r"](np.linspace(0.08, 1.0, last)))
    style: dict[str, Any] = {"s": 20, "edgecolor": "black", "linewidth": 0.4, "zorder": 5}
    ax.scatter(placed["gamma"], placed["gamma_prime"], c=placed["round"], norm=norm, cmap=colours, **style)
    handles += draw_lines_of_layers(ax, plane, {layer: select_layer(slopes, layer) for layer in layers})[0]
    bar = ax.figure.colorbar(ScalarMappable(norm, colours), ax=ax, aspect=24, pad=0.03)
    bar.set_ticks(list(range(1, last + 1)))
    bar.ax.tick_params(length=0)
    bar.set_label("round that placed a point")
    finish_map(ax, handles, 2, float(first["gamma_1"].iloc[0]))

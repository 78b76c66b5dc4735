"""Measured slopes beside the predicted ones, for all layers of a study."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ...display.figures import DOUBLE_COLUMN, STYLE, new_figure
from .. import info, theory
from .labels import layer_symbol, slope_symbol

_COLOURS = ("#0b559f", "#c1571a", "#3d8f3d", "#7a4fa3", "#a33c5c", "#5c5c5c", "#8a7a00", "#000000")
_LEAST = 0.05
"""Differences as large as this are always within the frame."""


@rc_context(STYLE)
def agreement(slopes: pd.DataFrame) -> Figure:
    """The slopes of all layers against those that the rule predicts, and by how much they differ at which distance from the layer's own
    critical line, with 95 % intervals. Differences beyond the frame are triangles at its edge.

    Returns:
        The figure, without a point where nothing is predicted.
    """
    column = info.deciding_slope(slopes)
    symbol = slope_symbol(column)
    depth, gamma_1 = int(slopes["depth"].iloc[0]), float(slopes["gamma_1"].iloc[0])
    known = slopes.loc[np.isfinite(slopes[column]) & np.isfinite(slopes["predicted_slope"])]
    difference = (known[column] - known["predicted_slope"]).abs()
    reach = max(_LEAST, float(difference.quantile(0.98))) if len(known) else _LEAST
    figure = new_figure(DOUBLE_COLUMN, 3.0)
    both, apart = figure.subplots(1, 2)
    for layer, colour in zip(theory.LAYERS[depth], _COLOURS, strict=False):
        of_layer = known.loc[known["layer"] == layer]
        values = (
            of_layer[key].to_numpy(float) for key in ("predicted_slope", column, "gamma", "gamma_prime")
        )
        predicted, measured, gamma, gamma_prime = values
        beyond = gamma - theory.critical_gamma(layer, depth, gamma_prime, gamma_1)
        off, error = measured - predicted, info.error_bars(of_layer, column)
        style: dict[str, Any] = {"color": colour, "linestyle": "none", "marker": "o", "markersize": 2.2}
        style |= {"markeredgewidth": 0, "alpha": 0.6}
        both.plot(predicted, measured, label=f"${layer_symbol(layer)}$", **style)
        inside = np.abs(off) <= reach
        apart.errorbar(beyond[inside], off[inside], error[:, inside], elinewidth=0.4, capsize=0, **style)
        edge = np.clip(off, -reach, reach)
        for out, marker in ((off > reach, "^"), (off < -reach, "v")):
            apart.plot(beyond[out], edge[out], **(style | {"marker": marker, "markersize": 3.5}))
    ends = np.array([known["predicted_slope"].min(), known["predicted_slope"].max()])
    both.plot(ends, ends, color="black", linewidth=0.7, zorder=1)
    apart.axhline(0.0, color="black", linewidth=0.7, zorder=1)
    apart.set_ylim(-1.08 * reach, 1.08 * reach)
    both.set(xlabel="slope predicted by the rule", ylabel=f"measured slope ${symbol}$")
    apart.set(
        xlabel=r"$\gamma$ beyond the layer's critical line", ylabel=f"${symbol}$, measured less predicted"
    )
    both.legend(loc="upper left", markerscale=2.5, handletextpad=0.3)
    bar = apart.errorbar(
        [], [], [], color="#5c5c5c", linestyle="none", marker="o", markersize=3, elinewidth=0.8
    )
    bar.set_label("95 % interval")
    beyond_frame = Line2D(
        [], [], color="#5c5c5c", linestyle="none", marker="^", markersize=4, label="beyond the frame"
    )
    handles = [bar, *([beyond_frame] if bool((difference > reach).any()) else [])]
    apart.legend(handles=handles, loc="lower right", handletextpad=0.3, frameon=True, edgecolor="none")
    return figure

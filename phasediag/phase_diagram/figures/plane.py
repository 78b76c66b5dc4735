"""How the points of a map are drawn: points of a product grid as cells, all others as markers."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle

from ..fitting import POINT
from ..info import Plane

GAMMA, GAMMA_PRIME = r"$\gamma$", r"$\gamma'$"
_HATCHED: Any = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0.0}
_CROSS: Any = {"marker": "x", "markersize": 4.5, "linestyle": "none", "color": "#6f6f6f"}


def paint(ax: Axes, plane: Plane, column: str, norm: Normalize, colours: Any, missing: str = "") -> list[Any]:
    """Draw the cells and the scattered points of a column.

    Returns the legend handles, labelled ``missing``, of what has no value: a hatched patch, else a cross, else none.
    """
    ax.set(xlim=plane.limits[0], ylim=plane.limits[1])
    hatched = len(plane.gammas) > 0 and _paint_cells(ax, plane, column, norm, colours)
    crossed = _paint_scattered(ax, plane, column, norm, colours)
    if hatched:
        return [Patch(**_HATCHED, label=missing)]
    return [Line2D([], [], **_CROSS, label=missing)] if crossed else []


def _paint_scattered(ax: Axes, plane: Plane, column: str, norm: Normalize, colours: Any) -> bool:
    """Draw the points off the grid; tell whether any of them has no value."""
    values = plane.scattered[column].to_numpy(float)
    known = np.isfinite(values)
    x, y = (plane.scattered[key].to_numpy(float) for key in POINT)
    if known.any():
        style: dict[str, Any] = {"s": 26, "edgecolor": "black", "linewidth": 0.5, "zorder": 3}
        ax.scatter(x[known], y[known], c=values[known], norm=norm, cmap=colours, **style)
    ax.plot(x[~known], y[~known], **_CROSS, zorder=3)
    return not known.all()


def _paint_cells(ax: Axes, plane: Plane, column: str, norm: Normalize, colours: Any) -> bool:
    """Draw the cells of the grid; tell whether any of them has no value."""
    table = plane.table.pivot(index="gamma_prime", columns="gamma", values=column)
    values = np.ma.masked_invalid(
        table.reindex(index=plane.gamma_primes, columns=plane.gammas).to_numpy(float)
    )
    x, y = plane.edges
    ax.pcolormesh(x, y, values, norm=norm, cmap=colours, zorder=1)
    rows, columns = np.nonzero(np.ma.getmaskarray(values))
    boxes = [
        Rectangle((x[j], y[i]), x[j + 1] - x[j], y[i + 1] - y[i]) for i, j in zip(rows, columns, strict=True)
    ]
    if boxes:
        ax.add_collection(PatchCollection(boxes, zorder=1.5, **_HATCHED), autolim=False)
    return bool(boxes)

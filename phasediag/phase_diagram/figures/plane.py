"""The points of a map: those of a product grid painted as cells, the others as markers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import Normalize
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from ...display.figures import Array
from ..fitting import POINT

GAMMA, GAMMA_PRIME = r"$\gamma$", r"$\gamma'$"
_HATCHED: Any = {"facecolor": "#ececec", "edgecolor": "#9a9a9a", "hatch": "////", "linewidth": 0.0}
_CROSS: Any = {"marker": "x", "markersize": 4.5, "linestyle": "none", "color": "#6f6f6f"}


@dataclass(frozen=True)
class Plane:
    """The points of a map, split into a product grid (drawn as cells) and the rest (drawn as markers)."""

    table: pd.DataFrame
    gammas: Array
    gamma_primes: Array
    scattered: pd.DataFrame

    @property
    def edges(self) -> tuple[Array, Array]:
        return _edges(self.gammas), _edges(self.gamma_primes)

    @property
    def limits(self) -> tuple[tuple[float, float], tuple[float, float]]:
        gamma, gamma_prime = (
            _axis_limits(edges, self.scattered[key].to_numpy(float))
            for edges, key in zip(self.edges, POINT, strict=True)
        )
        return gamma, gamma_prime


def split_points(table: pd.DataFrame) -> Plane:
    """Split the points of ``table``: the grid keeps the rows and columns of the plane that are more than half full."""
    table = table.drop_duplicates(POINT)
    gammas, columns = np.unique(table["gamma"].to_numpy(float), return_inverse=True)
    primes, rows = np.unique(table["gamma_prime"].to_numpy(float), return_inverse=True)
    filled = np.zeros((len(primes), len(gammas)), bool)
    filled[rows, columns] = True
    keep_row, keep_column = _dense_part(filled)
    on_grid = keep_row[rows] & keep_column[columns]
    return Plane(table, gammas[keep_column], primes[keep_row], table.loc[~on_grid])


def _dense_part(filled: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Rows and columns left after dropping the emptiest one until all are more than half full.

    Nothing is left of a set of points that form no grid.
    """
    rows, columns = (np.ones(size, bool) for size in filled.shape)
    while rows.any():
        fill_rows = np.where(rows, filled[:, columns].mean(axis=1), np.inf)
        fill_columns = np.where(columns, filled[rows].mean(axis=0), np.inf)
        if min(fill_rows.min(), fill_columns.min()) > 0.5:
            break
        if fill_rows.min() <= fill_columns.min():
            rows[fill_rows.argmin()] = False
        else:
            columns[fill_columns.argmin()] = False
    if rows.sum() * columns.sum() <= 1:
        rows[:], columns[:] = False, False
    return rows, columns


def _edges(values: Array) -> Array:
    """Edges of cells around sorted values of any spacing, halfway between them; a single value gets a width of 0.1."""
    if len(values) < 2:
        return np.concatenate([values - 0.05, values + 0.05])
    middle = (values[1:] + values[:-1]) / 2
    return np.concatenate([[2 * values[0] - middle[0]], middle, [2 * values[-1] - middle[-1]]])


def _axis_limits(edges: Array, scattered: Array) -> tuple[float, float]:
    """Limits that hold the cells exactly and the scattered points with a margin; never narrower than 0.3."""
    low, high = (float(f(np.concatenate([edges, scattered]))) for f in (np.min, np.max))
    margin = 0.06 * (high - low)
    low, high = (
        min([low, *(scattered - margin)]),
        max([high, *(scattered + margin)]),
    )
    missing = max(0.3 - (high - low), 0.0) / 2
    return low - missing, high + missing


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

"""A map as small as a stamp: its colours alone."""

from __future__ import annotations

import pandas as pd

from ...display.figures import pixels
from ..fitting import POINT
from ..info import deciding_slope, slope_limit, split_points


def thumbnail(slopes: pd.DataFrame) -> bytes:
    """The slopes of the first layer on the grid of a map, a pixel for a cell, as PNG; empty where there is no grid.

    Args:
        slopes: rows as in ``slopes.parquet``.
    """
    first = "W1" if (slopes["layer"] == "W1").any() else next(iter(slopes["layer"]), "")
    of_layer = slopes.loc[slopes["layer"] == first]
    plane = split_points(of_layer)
    if not len(plane.gammas):
        return b""
    by_place = of_layer.set_index(POINT)[deciding_slope(of_layer)].unstack("gamma")
    values = by_place.reindex(index=plane.gamma_primes, columns=plane.gammas).to_numpy(float)
    limit = slope_limit(values)
    return pixels(values, "RdBu_r", (-limit, limit))

"""A map as small as a stamp: its colours alone."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.image import imsave

from ..fitting import POINT
from ..info import deciding_slope, slope_limit, split_points

_MISSING = "#b8bec5"


def thumbnail(slopes: pd.DataFrame) -> bytes:
    """The slopes of W1 on the grid of a map, a pixel for a cell, as PNG; empty where there is no grid.

    Args:
        slopes: rows as in ``slopes.parquet``.
    """
    of_layer = slopes.loc[slopes["layer"] == "W1"]
    plane = split_points(of_layer)
    if not len(plane.gammas):
        return b""
    column = deciding_slope(of_layer)
    by_place = of_layer.set_index(POINT)[column].unstack("gamma")
    values = by_place.reindex(index=plane.gamma_primes, columns=plane.gammas).to_numpy(float)
    limit, picture = slope_limit(values), io.BytesIO()
    colours = colormaps["RdBu_r"].with_extremes(bad=_MISSING)
    imsave(picture, np.flipud(values), vmin=-limit, vmax=limit, cmap=colours, format="png")
    return picture.getvalue()

"""A condensation study as small as a stamp: how many seeds have how many lines, snapshot by snapshot."""

from __future__ import annotations

import pandas as pd

from ..display.figures import pixels
from .counts import LAYER_KEYS

_MOST = 8


def thumbnail(counts: pd.DataFrame) -> bytes:
    """The share of the seeds with one line (lowest row of pixels) to eight, at every snapshot (columns), as PNG; empty without counts.

    Args:
        counts: rows as in ``counts.parquet``; the first layer of the first network is shown.
    """
    if counts.empty:
        return b""
    of_layer = counts.groupby(LAYER_KEYS, sort=False).get_group(tuple(counts.iloc[0][LAYER_KEYS]))
    by_place = of_layer.pivot_table("count", "lines", "epoch", "sum", fill_value=0)
    shares = by_place / by_place.sum()
    return pixels(shares.reindex(range(1, _MOST + 1), fill_value=0.0).to_numpy(float), "Blues", (0.0, 1.0))

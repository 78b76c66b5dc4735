"""The networks that a study keeps whole, as its page shows them."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from ...display.page.numbers import curve, rounded, spread
from ...display.page.report import Content
from ...storage.files import Mark
from ...storage.store import Store
from .. import info
from ..fitting import POINT

Place: TypeAlias = tuple[float, float]
"""A point of the plane: gamma, gamma_prime."""
Network: TypeAlias = tuple[Place, Content]
"""A kept network, and its point."""
NEURONS_SHOWN = 40_000
"""Most neurons of all kept networks together; of wider networks, neurons at even distances in their order, which is random."""


class Kept:
    """The kept networks of a folder, read again only where files have changed."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._mark: Mark = ()
        self._networks: list[Network] = []

    def networks(self) -> list[Network]:
        """The networks, the widest first: f before and after, the course of the training, neurons and their directions by layer.

        Raises:
            InputError: a file of ``samples/`` is damaged.
        """
        mark = self._store.files.mark("samples")
        if mark != self._mark:
            self._networks, self._mark = _networks(self._store.samples()), mark
        return self._networks


def _networks(samples: pd.DataFrame) -> list[Network]:
    neurons = max(NEURONS_SHOWN // max(len(samples), 1), 50)
    ordered = samples.sort_values(["width", "seed"], ascending=[False, True], kind="stable")
    return [_network(rows, neurons) for _, rows in ordered.groupby("job_id", sort=False)]


def _network(rows: pd.DataFrame, neurons: int) -> Network:
    first = rows.iloc[0]
    return (float(first[POINT[0]]), float(first[POINT[1]])), {
        "id": str(first["job_id"]),
        "width": int(first["width"]),
        "seed": int(first["seed"]),
        "status": str(first["status"]),
        "x": curve(first["x"]),
        "f_initial": curve(first["f_initial"]),
        "f_final": curve(first["f_final"]),
        "evaluations": curve(first["evaluations"]),
        "loss": curve(first["loss"]),
        "onset": rounded([first["onset"]])[0],
        "layers": {str(row["layer"]): _neurons(row, neurons) for _, row in rows.iterrows()},
    }


def _neurons(row: pd.Series[Any], most: int) -> Content:
    """Where the neurons of a layer are in the figure of features, before and after; and the change of the layer along the training."""
    planar, horizontals, amplitudes = info.neurons_of(row)
    shown = spread(len(amplitudes[1]), most)
    return {
        "planar": planar,
        "neurons": len(amplitudes[1]),
        "horizontal": [rounded(values[shown], 4) for values in horizontals],
        "amplitude": [rounded(values[shown], 4) for values in amplitudes],
        "change": curve(row["relative_change"]),
        "directions": _directions(row),
    }


def _directions(row: pd.Series[Any]) -> Content | None:
    """How many directions the neurons of a layer have along the training; None of a network that has no film."""
    if np.size(row["moments"]) < 2:
        return None
    return {name: curve(row[name]) for name in ("moments", "orientations", "clusters")}

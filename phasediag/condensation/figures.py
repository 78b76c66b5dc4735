"""Figures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray


def draw_all(
    runs: pd.DataFrame, samples: pd.DataFrame, data: Mapping[str, NDArray[Any]] | None, name: str
) -> dict[str, Figure]:
    return {}

"""What all figures have in common: sizes, fonts, colours and names of symbols."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .errors import InputError

Array = NDArray[np.float64]
Data = tuple[Array, Array]
"""Training data: x (n, d) and y (n,)."""

SINGLE_COLUMN, DOUBLE_COLUMN = 3.4, 7.0
"""Widths of a figure in inches: one and two columns of a journal page."""

STYLE: Any = {
    "font.size": 8.0,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.linewidth": 0.6,
    "legend.fontsize": 7.5,
    "legend.frameon": False,
    "legend.handlelength": 1.8,
    "legend.columnspacing": 1.4,
    "xtick.labelsize": 7.5,
    "ytick.labelsize": 7.5,
    "lines.linewidth": 1.3,
    "hatch.linewidth": 0.5,
    "svg.hashsalt": "phasediag",
    "svg.fonttype": "path",
    "savefig.dpi": 200,
}

GAMMA, GAMMA_PRIME = r"$\gamma$", r"$\gamma'$"
POINT = ["gamma", "gamma_prime"]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches, not known to pyplot."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def layer_symbol(layer: str) -> str:
    """Mathtext of a layer's name: W1 -> W_1."""
    return f"{layer[0]}_{layer[1:]}" if len(layer) > 1 else layer


def plain_text(text: str, longest: int = 40) -> str:
    """Text of users as a label: nothing in it is mathtext, and it is not too long."""
    text = " ".join(text.split())
    return (text if len(text) <= longest else f"{text[: longest - 1]}…").replace("$", r"\$")


def select_layer(table: pd.DataFrame, layer: str) -> pd.DataFrame:
    """The rows of a layer.

    Raises:
        InputError: there are none.
    """
    of_layer = table.loc[table["layer"] == layer]
    if of_layer.empty:
        raise InputError(f"layer: {layer!r} is not there; allowed: {', '.join(sorted(set(table['layer'])))}")
    return of_layer


def points_of(table: pd.DataFrame) -> pd.DataFrame:
    """The distinct points of the plane."""
    return table[POINT].drop_duplicates()

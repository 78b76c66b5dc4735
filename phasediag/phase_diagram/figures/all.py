"""Every figure of a sweep: which of them the data allow, and their files.

Nothing is fitted here or read from disk: DataFrames in, matplotlib figures out.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from ...display.figures import Array
from .. import info, theory
from ..fitting import points_of, usable_runs
from . import examples, maps
from .rule import agreement


def draw_all(
    runs: pd.DataFrame,
    slopes: pd.DataFrame,
    samples: pd.DataFrame | None,
    data_xy: tuple[Array, Array] | None,
    depth: int,
    name: str,
    operator: pd.DataFrame | None = None,
) -> dict[str, Figure]:
    """Every figure that the data allow.

    Args:
        runs: rows of ``runs/``.
        slopes: rows of ``slopes.parquet``.
        samples: rows of ``samples/``, or None.
        data_xy: the training data, x (n, d) and y (n,), or None.
        depth: number of layers.
        name: name of the study, for the files' metadata.
        operator: rows as ``slopes``, of the relative change in the operator norm, of layers in which it tells more.

    Returns:
        file name without ending -> figure. Maps need two points; the figures of kept networks need samples.
    """
    figures: dict[str, Figure] = {}
    for layer in [layer for layer in theory.LAYERS[depth] if (slopes["layer"] == layer).any()]:
        figures |= _layer_figures(runs, slopes, layer)
    if operator is not None and len(points_of(operator)) > 1:
        column = info.deciding_slope(operator)
        for layer in sorted(set(operator["layer"])):
            figures[f"operator_map_{layer}"] = maps.slope_map(operator, layer, column, operator_norm=True)
    several = len(points_of(runs)) > 1
    if several and {"W1", "W2"} <= set(slopes["layer"]):
        figures["regime_map"] = maps.combined_regime_map(slopes)
    if several and np.isfinite(slopes["slope"] + slopes["predicted_slope"]).any():
        figures["agreement"] = agreement(slopes)
    if several:
        figures["diagnosis"] = maps.diagnosis(runs)
    if samples is not None and len(samples):
        figures |= _sample_figures(samples, data_xy)
    for key, figure in figures.items():
        figure.set_label(f"{name}: {key}")
    return figures


def _layer_figures(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str) -> dict[str, Figure]:
    figures: dict[str, Figure] = {}
    of_layer, runs_of = slopes.loc[slopes["layer"] == layer], runs.loc[runs["layer"] == layer]
    if len(points_of(of_layer)) > 1:
        figures[f"slope_map_{layer}"] = maps.slope_map(slopes, layer)
        figures[f"regime_map_{layer}"] = maps.regime_map(slopes, layer)
        if np.isfinite(runs_of["orientations"]).any():
            figures[f"orientation_map_{layer}"] = maps.orientation_map(runs, slopes, layer)
    if np.isfinite(of_layer["slope_infinite"]).sum() > 1:
        figures[f"slope_infinite_map_{layer}"] = maps.slope_map(slopes, layer, "slope_infinite")
    if usable_runs(runs_of).any() and examples.examples_of(slopes, layer):
        figures[f"scaling_{layer}"] = examples.scaling(runs, slopes, layer)
    return figures


def _sample_figures(samples: pd.DataFrame, data_xy: tuple[Array, Array] | None) -> dict[str, Figure]:
    figures = {
        f"features_{layer}": examples.features(samples, layer) for layer in sorted(set(samples["layer"]))
    }
    figures["training"] = examples.training(samples)
    if all(len(x) for x in samples["x"]):
        figures["functions"] = examples.functions(samples, data_xy)
    return figures

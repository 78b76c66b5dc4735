"""All figures of a sweep: which figures the data allow, and which function draws each of them.

Nothing is read from disk: DataFrames in, drawings of matplotlib figures out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...display.figures import Drawing
from .. import info
from ..fitting import fit, measured_rows, points_of, usable_runs
from ..measures import Measure
from . import examples, film, maps
from .plate import panels_of, plate
from .rule import agreement


def drawings(
    runs: pd.DataFrame,
    slopes: pd.DataFrame,
    samples: pd.DataFrame,
    data: Mapping[str, NDArray[Any]],
    layers: Sequence[str],
) -> dict[str, Drawing]:
    """What draws every figure that the data allow.

    Args:
        runs: rows of ``runs/``.
        slopes: rows of ``slopes.parquet``.
        samples: rows of ``samples/``, or none.
        data: the training data, x (n, d) and y (n,), or nothing.
        layers: their names, from the input to the output.

    Returns:
        file name without ending -> drawing. Maps need two points; the figures of kept networks need samples.
    """
    found: dict[str, Drawing] = {}
    for layer in [layer for layer in layers if (slopes["layer"] == layer).any()]:
        found |= _of_layer(runs, slopes, layer)
    several = len(points_of(runs)) > 1
    # The change of W2 has low rank: what it does to its inputs is in the operator norm.
    second = runs.loc[runs["layer"] == "W2"]
    if len(points_of(second)) > 1:
        found["operator_map_W2"] = partial(_operator_map, second)
    if several and {"W1", "W2"} <= set(slopes["layer"]):
        found["regime_map"] = partial(maps.combined_regime_map, slopes)
    if several and np.isfinite(slopes["slope"] + slopes["predicted_slope"]).any():
        found["agreement"] = partial(agreement, slopes)
    if panels := panels_of(runs, layers):
        found["measures"] = partial(plate, panels)
    if several:
        found["diagnosis"] = partial(maps.diagnosis, runs)
    if len(samples):
        found |= _of_samples(samples, data, slopes)
    return found


def scalings(
    runs: pd.DataFrame, slopes: pd.DataFrame, layers: Sequence[str], points: Sequence[str]
) -> dict[str, Drawing]:
    """What draws the scaling figure of every layer at chosen points ("0.5,0"): file name without ending -> drawing.

    Raises:
        InputError: a point cannot be read, or is not in the study.
    """
    at = [examples.read_point(text, slopes) for text in points]
    layers = [layer for layer in layers if (slopes["layer"] == layer).any()]
    for layer in layers:
        examples.chosen(slopes, layer, at)
    return {f"scaling_{layer}_points": partial(examples.scaling, runs, slopes, layer, at) for layer in layers}


def of_measure(runs: pd.DataFrame, measure: Measure) -> dict[str, Drawing]:
    """What draws the maps of one measure, by file name without ending; none of a layer of which it has no value, or of a single point."""
    rows = measured_rows(runs, measure)
    found: dict[str, Drawing] = {}
    for layer in dict.fromkeys(rows["layer"]):
        of_layer = rows.loc[rows["layer"] == layer]
        name = f"{measure.name}_map_{layer}" if measure.of_layers else f"{measure.name}_map"
        if usable_runs(of_layer, measure).any() and len(points_of(of_layer)) > 1:
            found[name] = partial(_measure_map, of_layer, measure)
    return found


def _measure_map(of_layer: pd.DataFrame, measure: Measure) -> Figure:
    """The map of a measure of a layer, or of the whole network, by rows of one layer."""
    if not measure.is_power:
        values = info.values(of_layer, measure.name)
        return maps.value_map(values, str(values["layer"].iloc[0]), measure)
    slopes = fit(of_layer, measure.name)
    return maps.slope_map(slopes, str(slopes["layer"].iloc[0]), info.deciding_slope(slopes))


def _of_layer(runs: pd.DataFrame, slopes: pd.DataFrame, layer: str) -> dict[str, Drawing]:
    found: dict[str, Drawing] = {}
    of_layer, runs_of = slopes.loc[slopes["layer"] == layer], runs.loc[runs["layer"] == layer]
    if len(points_of(of_layer)) > 1:
        found[f"slope_map_{layer}"] = partial(maps.slope_map, of_layer, layer)
        found[f"regime_map_{layer}"] = partial(maps.regime_map, of_layer, layer)
        if np.isfinite(runs_of["orientations"]).any():
            found[f"orientation_map_{layer}"] = partial(maps.orientation_map, runs_of, of_layer, layer)
    if np.isfinite(of_layer["slope_infinite"]).sum() > 1:
        found[f"slope_infinite_map_{layer}"] = partial(maps.slope_map, of_layer, layer, "slope_infinite")
    if usable_runs(runs_of).any() and examples.examples_of(of_layer, layer):
        found[f"scaling_{layer}"] = partial(examples.scaling, runs_of, of_layer, layer)
    return found


def _operator_map(runs: pd.DataFrame) -> Figure:
    """The slope map of W2 in the operator norm."""
    slopes = fit(runs, "relative_change_spectral")
    return maps.slope_map(slopes, "W2", info.deciding_slope(slopes))


def _of_samples(
    samples: pd.DataFrame, data: Mapping[str, NDArray[Any]], slopes: pd.DataFrame
) -> dict[str, Drawing]:
    found: dict[str, Drawing] = {
        f"features_{layer}": partial(examples.features, samples, layer, slopes)
        for layer in sorted(set(samples["layer"]))
    }
    if film.has_film(samples):
        found |= {
            f"film_{layer}": partial(film.film, samples, layer, slopes)
            for layer in sorted(set(samples["layer"]))
        }
    found["training"] = partial(examples.training, samples, slopes)
    if all(len(x) for x in samples["x"]):
        found["functions"] = partial(examples.functions, samples, data, slopes)
    return found

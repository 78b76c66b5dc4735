"""What a page shows of measures other than the relative change: slopes at infinite width or values at the largest one, and their lines."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd

from ...display.page.numbers import CURVE_POINTS, rounded
from ...display.page.report import Content
from .. import info, theory
from ..figures.maps import RULE_STYLES
from ..fitting import POINT, regime_counts
from ..info import Plane
from ..measures import MEASURES, NETWORK, Measure
from .measured import Measured


def measures(measured: Measured, points: pd.DataFrame, plane: Plane) -> Content:
    """The measures that have values, each with its layers, and the lines of the rule, which they have in common."""
    found = []
    for measure in MEASURES.values():
        layers = dict(_layers(measured, measure, points, plane))
        if layers:
            found.append({"name": measure.name, "words": measure.words, "layers": layers})
    lines = info.rule_lines(measured.slopes.assign(layer=NETWORK)) if found else []
    return {"measures": found, "rule": [_rule(line, plane) for line in lines]}


def line_of(of_layer: pd.DataFrame, plane: Plane, column: str, side: str = "linear") -> Content:
    """The measured critical line of slopes, with its band."""
    line = info.measured_line(of_layer, plane, column, side).reset_index()
    return {key: rounded(line[key]) for key in ("gamma_prime", "gamma", "gamma_low", "gamma_high")}


def _layers(
    measured: Measured, measure: Measure, points: pd.DataFrame, plane: Plane
) -> Iterator[tuple[str, Content]]:
    """The maps of a measure, by layer."""
    for layer, of_layer in measured.fits.get(measure.name, pd.DataFrame({"layer": []})).groupby("layer"):
        if of_layer["slope"].notna().any():
            yield str(layer), _slopes(of_layer, measure, points, plane)
    for (name, layer), table in measured.values.items():
        if name == measure.name:
            yield layer, _values(table, measure, points)


def _slopes(of_layer: pd.DataFrame, measure: Measure, points: pd.DataFrame, plane: Plane) -> Content:
    column = info.deciding_slope(of_layer)
    at_points = points.merge(of_layer, how="left", on=POINT)
    low, middle, high = (rounded(at_points[f"{column}{end}"], 4) for end in ("_low", "", "_high"))
    [(layer, distances)] = info.rule_distances(of_layer).items()
    return {
        "column": column,
        "values": middle,
        "low": low,
        "high": high,
        "limit": info.slope_limit(of_layer[column].to_numpy(float), measure),
        "lines": [line_of(of_layer, plane, column, side) for side in info.sides(measure)]
        if measure.has_regimes
        else [],
        "regimes": regime_counts(of_layer)[layer] if measure.has_regimes else None,
        "distances": {
            name: {key: rounded([number])[0] for key, number in by_column[column].items()}
            for name, by_column in distances.items()
        }
        if measure.has_regimes
        else {},
    }


def _values(table: pd.DataFrame, measure: Measure, points: pd.DataFrame) -> Content:
    width = max(table.columns)
    numbers = table[width].reindex(pd.MultiIndex.from_frame(points))
    return {
        "width": int(width),
        "values": rounded(numbers, 4),
        "range": rounded(info.value_range(numbers.to_numpy(float), measure)),
        "is_logarithmic": measure.is_logarithmic,
    }


def _rule(line: theory.CriticalLine, plane: Plane) -> Content:
    colour, dashes = RULE_STYLES[line.kind]
    gamma_prime = np.linspace(*plane.limits[1], CURVE_POINTS)
    return {
        "name": line.name,
        "layers": list(line.layers),
        "colour": colour,
        "dash": ",".join(f"{2.5 * dash:g}px" for dash in dashes),
        "gamma_prime": rounded(gamma_prime),
        "gamma": rounded(line.gamma(gamma_prime)),
    }

"""The content of a phase diagram's page: from the tables of a folder to plain lists and numbers, as JSON can hold them.

The page carries all of its numbers, so they are rounded to a useful precision; exponents are exact.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ...display.page.numbers import CURVE_POINTS, codes, curve, rounded, shades, spread
from ...display.terminal import json_ready
from ...kinds import Progress
from ...storage.store import Store
from ...sweep.load import Results
from ...sweep.report import Content, frame, job_columns, jobs_of, missing
from .. import info
from ..figures.maps import COMBINED_COLOURS, PREDICTED_COLOUR, REGIME_COLOURS
from ..fitting import LINE_SLOPES, POINT, REGIMES, line_distances, regime_counts, usable_runs
from ..folder import depth_and_name
from ..info import Plane
from ..refinement import Placement, refined
from ..theory import LAYERS

SLOPES = [f"{column}{end}" for column in LINE_SLOPES for end in ("", "_low", "_high")]
NEURONS_SHOWN = 40_000
"""Most neurons of all kept networks together; of wider networks, neurons at even distances in their order, which is random."""


def gather(store: Store, status: Progress | None) -> Content:
    """Everything that the page of a folder shows.

    Slopes that are out of date are fitted here, and not written.

    Args:
        store: the folder.
        status: how far its sweep is; None where that is not known.

    Raises:
        InputError: the folder holds no study, or a file of it is damaged.
    """
    depth, _ = depth_and_name(store)
    results = Results(store)
    runs, slopes, samples, data = results.runs, results.fitted, results.samples, store.read_data()
    return {
        **frame(store, runs, status),
        "depth": depth,
        "notes": notes(runs, slopes, samples, data is not None, status),
        **tables(runs, slopes, samples, depth),
        **_refinement(refined(store.read_document(), runs), _points(runs, samples)),
        "data": _points_of_data(data),
    }


def tables(runs: pd.DataFrame, slopes: pd.DataFrame, samples: pd.DataFrame, depth: int) -> Content:
    """The maps, the runs and the networks, all of which name points of the plane by their number in ``points``."""
    points = _points(runs, samples)
    plane = info.split_points(points)
    jobs = jobs_of(runs)
    widths = sorted({int(width) for width in jobs["width"]})
    layers = [layer for layer in LAYERS[depth] if (runs["layer"] == layer).any()]
    gamma_1 = float(runs["gamma_1"].iloc[0]) if len(runs) else 0.0
    share = info.reliability(runs).set_index(POINT)["not_converged"]
    return {
        "points": {key: points[key].tolist() for key in POINT},
        "plane": _plane(plane, points, gamma_1),
        "colours": _colours(),
        "regimes": list(REGIMES),
        "widths": widths,
        "layers": [_layer(runs, slopes, layer, points, plane, widths) for layer in layers],
        "combined": _combined(slopes, points) if {"W1", "W2"} <= set(layers) else None,
        "evaluations": _by_width(info.evaluations_by_width(runs, points, widths)),
        "not_converged": rounded(share.reindex(pd.MultiIndex.from_frame(points))),
        "regime_counts": regime_counts(slopes),
        "line_distances": _line_distances(slopes),
        "named": _named(depth, gamma_1, plane) if len(points) else [],
        "jobs": _jobs(runs, jobs, layers, points, widths),
        "networks": _networks(samples, points),
    }


def notes(
    runs: pd.DataFrame, slopes: pd.DataFrame, samples: pd.DataFrame, has_data: bool, status: Progress | None
) -> list[str]:
    """What a page lacks and why, a sentence each."""
    found = missing(runs, has_data, status)
    if len(runs) and not slopes["slope"].notna().any():
        found.append("No slope is fitted: it needs converged runs of two widths at a point.")
    elif len(runs) and not slopes["slope_infinite"].notna().any():
        found.append("No slope at infinite width is fitted: it needs four widths.")
    if samples.empty:
        found.append("No network is kept whole (samples of the spec): functions and features are not shown.")
    return found


def _refinement(placement: Placement | None, points: pd.DataFrame) -> Content:
    """How well the lines of a refined map are known, and the round that placed each point, 0 for points of the grid; None of any other."""
    if placement is None:
        return {"refinement": None, "rounds": None}
    rounds = placement.round_of_points()
    at = [rounds.get(point, 0) for point in points[POINT].itertuples(index=False, name=None)]
    return {"refinement": json_ready(placement.summary()), "rounds": at}


# The plane and its maps.


def _points(runs: pd.DataFrame, samples: pd.DataFrame) -> pd.DataFrame:
    """The points of runs and of kept networks: gamma, gamma_prime, sorted."""
    both = pd.concat([runs[POINT], samples[POINT]]) if len(samples) else runs[POINT]
    return both.drop_duplicates().sort_values(POINT, ignore_index=True)


def _numbers_of(table: pd.DataFrame, points: pd.DataFrame) -> list[int]:
    """The number of the point of every row."""
    number = {point: index for index, point in enumerate(points.itertuples(index=False, name=None))}
    return [number[point] for point in table[POINT].itertuples(index=False, name=None)]


def _plane(plane: Plane, points: pd.DataFrame, gamma_1: float) -> Content:
    """Edges of the cells, the number of the point in each (None where there is none), the points off the grid, the limits."""
    number = {point: index for index, point in enumerate(points.itertuples(index=False, name=None))}
    limits = plane.limits if len(points) else ((0.0, 1.0), (0.0, 1.0))
    return {
        "gamma_1": gamma_1,
        "edges": [edges.tolist() if len(edges) > 1 else [] for edges in plane.edges],
        "cells": [[number.get((g, p)) for g in plane.gammas] for p in plane.gamma_primes],
        "scattered": _numbers_of(plane.scattered, points),
        "limits": [list(map(float, ends)) for ends in limits],
    }


def _layer(
    runs: pd.DataFrame,
    slopes: pd.DataFrame,
    layer: str,
    points: pd.DataFrame,
    plane: Plane,
    widths: list[int],
) -> Content:
    """The maps of a layer: by column a value per point, by width where it depends on that."""
    of_layer = slopes.loc[slopes["layer"] == layer]
    at_points = points.merge(of_layer, how="left", on=POINT)
    orientations = info.orientations_by_width(runs, layer, points, widths)
    return {
        "name": layer,
        "slopes": {column: rounded(at_points[column]) for column in SLOPES},
        "limits": {column: info.slope_limit(of_layer[column].to_numpy(float)) for column in LINE_SLOPES},
        **{key: codes(at_points[key], REGIMES) for key in ("regime", "predicted_regime")},
        **{key: _counts(at_points[key]) for key in ("widths", "runs", "left_out")},
        "change": _by_width(info.changes_by_width(runs, layer, points, widths)),
        "orientations": _by_width(orientations) if orientations.notna().any(axis=None) else None,
        "deciding": info.deciding_slope(of_layer),
        "measured": {column: _measured(of_layer, plane, column) for column in LINE_SLOPES},
        "predicted": _predicted(of_layer, plane),
    }


def _by_width(table: pd.DataFrame) -> Content:
    """The values of a table with a row per point and a column per width, [width][point], and the ends of their logarithmic scale."""
    return {
        "values": [rounded(table[width]) for width in table],
        "range": rounded(info.log_range(table.to_numpy(float), least=4.0)),
    }


def _combined(slopes: pd.DataFrame, points: pd.DataFrame) -> Content:
    """The regimes of both layers of input weights together, by point, with the colours of their names."""
    found = points.merge(info.combined_regimes(slopes), how="left", on=POINT)
    colours = {
        name.replace("$W_1$", "W₁").replace("$W_2$", "W₂"): colour
        for name, colour in COMBINED_COLOURS.items()
    }
    return {"colours": colours, "regime": codes(found["regime"], COMBINED_COLOURS)}


def _measured(of_layer: pd.DataFrame, plane: Plane, column: str) -> Content:
    line = info.measured_line(of_layer, plane, column).reset_index()
    return {key: rounded(line[key]) for key in ("gamma_prime", "gamma", "gamma_low", "gamma_high")}


def _predicted(of_layer: pd.DataFrame, plane: Plane) -> Content | None:
    line = info.predicted_line(of_layer)
    if line is None:
        return None
    gamma_prime = np.linspace(*plane.limits[1], CURVE_POINTS)
    return {"gamma_prime": rounded(gamma_prime), "gamma": rounded(line(gamma_prime))}


def _named(depth: int, gamma_1: float, plane: Plane) -> list[Content]:
    """The named initialisations on the plane, those at one point together."""
    by_point = info.named_initialisations(depth, gamma_1, plane.limits)
    return [{"names": ", ".join(names), "at": list(point)} for point, names in by_point.items()]


def _line_distances(slopes: pd.DataFrame) -> Content:
    found = line_distances(slopes)
    return {
        layer: {
            column: {key: rounded([number])[0] for key, number in distance.items()}
            for column, distance in columns.items()
        }
        for layer, columns in found.items()
    }


def _colours() -> Content:
    """The colours of the figures: of regimes by name, and two scales from the lowest value to the highest."""
    return {
        "regimes": REGIME_COLOURS,
        "predicted": PREDICTED_COLOUR,
        "diverging": shades("RdBu_r"),
        "sequential": shades("viridis"),
    }


# Runs.


def _jobs(
    runs: pd.DataFrame, jobs: pd.DataFrame, layers: list[str], points: pd.DataFrame, widths: list[int]
) -> Content:
    """Every run, column by column; what depends on the layer by layer. ``width`` counts in its list."""
    by_layer = {layer: runs.loc[runs["layer"] == layer].set_index("job_id") for layer in layers}
    ids = jobs["job_id"].tolist()
    return {
        **job_columns(jobs),
        "point": _numbers_of(jobs, points),
        "width": [widths.index(width) for width in jobs["width"]],
        "loss_initial": rounded(jobs["loss_initial"], 4),
        "loss_final": rounded(jobs["loss_final"], 4),
        "change": {layer: rounded(of["relative_change"].reindex(ids)) for layer, of in by_layer.items()},
        "orientations": {layer: rounded(of["orientations"].reindex(ids)) for layer, of in by_layer.items()},
        "usable": {layer: _usable(of).reindex(ids).tolist() for layer, of in by_layer.items()},
    }


def _usable(of_layer: pd.DataFrame) -> pd.Series[Any]:
    return usable_runs(of_layer).astype("int64")


# Networks kept whole.


def _networks(samples: pd.DataFrame, points: pd.DataFrame) -> list[Content]:
    """The kept networks, the widest of a point first: f before and after, the course of the training, neurons by layer."""
    neurons = max(NEURONS_SHOWN // max(len(samples), 1), 50)
    ordered = samples.sort_values(["width", "seed"], ascending=[False, True], kind="stable")
    return [
        _network(rows, _numbers_of(rows, points)[0], neurons)
        for _, rows in ordered.groupby("job_id", sort=False)
    ]


def _network(rows: pd.DataFrame, point: int, neurons: int) -> Content:
    first = rows.iloc[0]
    return {
        "id": str(first["job_id"]),
        "point": point,
        "width": int(first["width"]),
        "seed": int(first["seed"]),
        "status": str(first["status"]),
        "x": curve(first["x"]),
        "f_initial": curve(first["f_initial"]),
        "f_final": curve(first["f_final"]),
        "evaluations": curve(first["evaluations"]),
        "loss": curve(first["loss"]),
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
    }


def _points_of_data(data: Mapping[str, Any] | None) -> Content | None:
    """The training data where they can be drawn: of one input."""
    if data is None or data["x"].ndim != 2 or data["x"].shape[1] != 1:
        return None
    return {"x": curve(data["x"][:, 0]), "y": curve(data["y"])}


def _counts(values: pd.Series[Any]) -> list[int]:
    return [int(value) for value in values.fillna(0)]

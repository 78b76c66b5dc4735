"""The content of a phase diagram's page: from the tables of a folder to plain lists and numbers, as JSON can hold them.

The page carries all of its numbers, so they are rounded to a useful precision; exponents are exact.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from ...display.page.numbers import CURVE_POINTS, codes, curve, rounded, shades
from ...display.page.report import Content, Progress, Report
from ...display.terminal import json_ready
from ...storage.store import Store
from ...sweep.report import frame, job_columns, jobs_of, listed_failures, missing
from .. import info
from ..figures.maps import COMBINED_COLOURS, PREDICTED_COLOUR, REGIME_COLOURS
from ..fitting import LINE_SLOPES, POINT, REGIMES, line_distances, predicted_line, regime_counts, usable_runs
from ..folder import Networks, networks_in
from ..info import Plane
from ..jobs import grid_points
from ..refinement import Placement, refined
from .kept import Kept, Network, Place
from .measured import Measured
from .measures import line_of, measures

SLOPES = [f"{column}{end}" for column in LINE_SLOPES for end in ("", "_low", "_high")]


class MapReport(Report):
    """The page of a phase diagram."""

    package, scripts = __package__, ("map.js", "measures.js", "legend.js", "cell.js", "summary.js", "page.js")

    def __init__(self, store: Store) -> None:
        self._store = store
        self._measured = Measured(store)
        self._kept = Kept(store)

    def content(self, progress: Progress | None) -> Content:
        store, measured = self._store, self._measured
        networks_here = networks_in(store)
        measured.look()
        document, data, networks = store.read_document() or {}, store.read_data(), self._kept.networks()
        planned = planned_runs(document)
        points = _points(planned, measured.ended, networks)
        jobs = measured.jobs
        placement = refined(document, store.runs()) if "refine" in document else None
        found = {
            **frame(store, jobs, progress),
            "depth": networks_here.depth,
            "notes": notes(jobs.runs, measured.slopes, bool(networks), data is not None, progress),
            **maps(measured, points, networks_here),
            **_refinement(placement, points),
            "planned": [len(planned.get(point, ())) for point in _tuples(points)],
            "networks": [{**network, "point": number} for network, number in _placed(networks, points)],
            "data": _points_of_data(data),
        }
        listed, numbers = found["failures"]["listed"], listed_failures(jobs)
        listed["point"] = _numbers_of(numbers, points)
        listed["width"] = codes(numbers["width"], found["widths"])
        self._layers, self._widths = [layer["name"] for layer in found["layers"]], found["widths"]
        self._statuses = found["statuses"]
        self._at = dict(zip(found["cells"], _tuples(points), strict=True))
        return found

    @property
    def fitted(self) -> pd.DataFrame:
        return self._measured.slopes

    def runs(self, cell: str) -> Content:
        gamma, gamma_prime = self._at.get(cell, (np.nan, np.nan))
        rows = self._measured.at(np.array([gamma + 1j * gamma_prime]))
        return _runs(rows, self._layers, self._widths, self._statuses)


def notes(
    runs: int, slopes: pd.DataFrame, has_networks: bool, has_data: bool, progress: Progress | None
) -> list[str]:
    """What a page lacks and why, a sentence each."""
    found = missing(runs, has_data, progress)
    if runs and not slopes["slope"].notna().any():
        found.append("No slope is fitted: it needs converged runs of two widths at a point.")
    elif runs and not slopes["slope_infinite"].notna().any():
        found.append("No slope at infinite width is fitted: it needs four widths.")
    if not has_networks and (slopes["depth"] > 0).all():  # of a reader's modules none is kept
        yet = " yet" if progress is not None and progress.missing else ""
        found.append(
            f"No network is kept whole{yet} (samples of the spec): functions and features are not shown."
        )
    return found


def maps(measured: Measured, points: pd.DataFrame, networks: Networks) -> Content:
    """The maps, which name points of the plane by their number in ``points``."""
    plane, slopes = info.split_points(points), measured.slopes
    layers = [layer for layer in networks.layers if layer in measured.layers]
    widths, statuses = measured.widths, measured.jobs.statuses
    gamma_1 = float(slopes["gamma_1"].iloc[0]) if len(slopes) else 0.0
    at = pd.MultiIndex.from_frame(points)
    ended = measured.ended.reindex(index=at, columns=statuses).fillna(0)
    with np.errstate(invalid="ignore"):
        share = 1 - ended["converged"].to_numpy() / ended.sum(axis=1).to_numpy()
    return {
        "points": {key: points[key].tolist() for key in POINT},
        "cells": [f"{gamma!r},{gamma_prime!r}" for gamma, gamma_prime in _tuples(points)],
        "plane": _plane(plane, points, gamma_1),
        "colours": _colours(),
        "regimes": list(REGIMES),
        "widths": widths,
        "layers": [_layer(measured, layer, points, plane, widths) for layer in layers],
        "combined": _combined(slopes, points) if {"W1", "W2"} <= set(layers) else None,
        "evaluations": _by_width(measured.evaluations.reindex(index=at, columns=widths)),
        "ended": [_counts(ended[status]) for status in statuses],
        "not_converged": rounded(share),
        "regime_counts": regime_counts(slopes),
        "line_distances": _line_distances(slopes),
        **measures(measured, points, plane),
        "named": _named(networks.depth, gamma_1, plane) if len(points) else [],
    }


def _refinement(placement: Placement | None, points: pd.DataFrame) -> Content:
    """How well the lines of a refined map are known, and the round that placed each point, 0 for points of the grid; None of any other."""
    if placement is None:
        return {"refinement": None, "rounds": None}
    rounds = placement.round_of_points()
    at = [rounds.get(point, 0) for point in _tuples(points)]
    return {"refinement": json_ready(placement.summary()), "rounds": at}


# The plane and its maps.


def planned_runs(document: Mapping[str, Any]) -> dict[Place, frozenset[tuple[int, int]]]:
    """The runs of a study by point, each (width, seed); without points that refinement adds."""
    found: dict[Place, frozenset[tuple[int, int]]] = {}
    for grid in [document.get("grid"), *document.get("more_grids", ())]:
        if grid is None:
            continue
        runs = frozenset(product(grid["width"], grid["seeds"]))
        for point in grid_points(grid):
            found[point] = found.get(point, runs) | runs
    return found


def _points(planned: Iterable[Place], ended: pd.DataFrame, networks: Iterable[Network]) -> pd.DataFrame:
    """The points of the plan, of runs and of kept networks: gamma, gamma_prime, sorted."""
    places = {*planned, *ended.index, *(place for place, _ in networks)}
    return pd.DataFrame(sorted(places), columns=POINT, dtype=float)


def _tuples(points: pd.DataFrame) -> list[Place]:
    return list(zip(*(points[key].tolist() for key in POINT), strict=True))


def _numbers_of(table: pd.DataFrame, points: pd.DataFrame) -> list[int]:
    """The number of the point of every row."""
    return codes(_tuples(table), _tuples(points))


def _placed(networks: Iterable[Network], points: pd.DataFrame) -> Iterator[tuple[Content, int]]:
    """The kept networks, with the numbers of their points."""
    number = {point: index for index, point in enumerate(_tuples(points))}
    for place, network in networks:
        yield network, number[place]


def _plane(plane: Plane, points: pd.DataFrame, gamma_1: float) -> Content:
    """Edges of the cells, the number of the point in each (None where there is none), the points off the grid, the limits."""
    number = {point: index for index, point in enumerate(_tuples(points))}
    limits = plane.limits if len(points) else ((0.0, 1.0), (0.0, 1.0))
    return {
        "gamma_1": gamma_1,
        "edges": [edges.tolist() if len(edges) > 1 else [] for edges in plane.edges],
        "cells": [[number.get((g, p)) for g in plane.gammas] for p in plane.gamma_primes],
        "scattered": _numbers_of(plane.scattered, points),
        "limits": [list(map(float, ends)) for ends in limits],
    }


def _layer(measured: Measured, layer: str, points: pd.DataFrame, plane: Plane, widths: list[int]) -> Content:
    """The maps of a layer: by column a value per point, by width where it depends on that."""
    of_layer = measured.slopes.loc[measured.slopes["layer"] == layer]
    at_points = points.merge(of_layer, how="left", on=POINT)
    index = pd.MultiIndex.from_frame(points)
    change, orientations = (
        table[layer].reindex(index=index, columns=widths)
        for table in (measured.changes, measured.orientations)
    )
    return {
        "name": layer,
        "slopes": {column: rounded(at_points[column]) for column in SLOPES},
        "limits": {column: info.slope_limit(of_layer[column].to_numpy(float)) for column in LINE_SLOPES},
        **{key: codes(at_points[key], REGIMES) for key in ("regime", "predicted_regime")},
        **{key: _counts(at_points[key]) for key in ("widths", "runs", "left_out")},
        "change": _by_width(change),
        "orientations": _by_width(orientations) if orientations.notna().any(axis=None) else None,
        "deciding": info.deciding_slope(of_layer),
        "measured": {column: line_of(of_layer, plane, column) for column in LINE_SLOPES},
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


def _predicted(of_layer: pd.DataFrame, plane: Plane) -> Content | None:
    line = predicted_line(of_layer)
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


def _runs(runs: pd.DataFrame, layers: list[str], widths: list[int], statuses: list[str]) -> Content:
    """Runs of a cell, column by column; what depends on the layer by layer. ``width`` counts in its list."""
    by_layer = {layer: runs.loc[runs["layer"] == layer].set_index("job_id") for layer in layers}
    jobs = jobs_of(runs)
    ids = jobs["job_id"].tolist()
    return {
        **job_columns(jobs, statuses),
        "width": codes(jobs["width"], widths),
        "loss_initial": rounded(jobs["loss_initial"], 4),
        "loss_final": rounded(jobs["loss_final"], 4),
        "change": {layer: rounded(of["relative_change"].reindex(ids)) for layer, of in by_layer.items()},
        "orientations": {layer: rounded(of["orientations"].reindex(ids)) for layer, of in by_layer.items()},
        "usable": {layer: _usable(of).reindex(ids).tolist() for layer, of in by_layer.items()},
    }


def _usable(of_layer: pd.DataFrame) -> pd.Series[Any]:
    return usable_runs(of_layer).astype("int64")


def _points_of_data(data: Mapping[str, Any] | None) -> Content | None:
    """The training data where they can be drawn: of one input."""
    if data is None or data["x"].ndim != 2 or data["x"].shape[1] != 1:
        return None
    return {"x": curve(data["x"][:, 0]), "y": curve(data["y"])}


def _counts(values: pd.Series[Any]) -> list[int]:
    return values.fillna(0).astype(int).tolist()

"""The content of a condensation study's page: from the tables of a folder to plain lists and numbers, as JSON can hold them."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ...display.page.numbers import codes, curve, rounded, shades, spread
from ...display.page.report import Content, Progress, Report
from ...storage.store import Store
from ...sweep.load import Results
from ...sweep.report import Jobs, frame, job_columns, jobs_of, listed_failures, missing
from ..clusters import Directions
from ..counts import CONDENSED, LAYER_KEYS, SUMMARY_COLUMNS, condensed_share, summarise
from ..figures import SHARES, matrix, panels_of, training_data

Network: TypeAlias = tuple[Any, ...]
"""The values of the columns `NETWORK`."""
NETWORK = ["activations", "dimension", "std"]
"""The columns that identify a network of a study, whatever the seed."""
COSINES_SHOWN = 1_800_000
"""Most inner products of all kept networks together; of larger layers, neurons at even distances in their order."""
_MEASURES = ("lines", "aligned_fraction", "active_neurons")
_SUMMARY = [name for name in SUMMARY_COLUMNS if name not in LAYER_KEYS]
_NAMES = {"x_tanh": "x tanh x", "x2_tanh": "x² tanh x", "relu": "ReLU"}


class CondensationReport(Report):
    """The page of a condensation study. Counts that are out of date are made here, and not written."""

    package, scripts = __package__, ("lines.js", "network.js", "page.js")

    def __init__(self, store: Store) -> None:
        self._store = store

    def content(self, progress: Progress | None) -> Content:
        self._results = results = Results(self._store)
        runs, samples, data = results.runs, results.samples, self._store.read_data()
        jobs, epochs = Jobs.of(jobs_of(runs)), sorted({int(epoch) for epoch in runs["epoch"]})
        networks = _networks(runs)
        found = {
            **frame(self._store, jobs, progress),
            "notes": notes(runs, samples, data is not None, progress),
            "cells": [",".join(map(str, network)) for network in networks],
            **tables(runs, results.fitted, samples, data or {}, networks, epochs),
        }
        found["failures"]["listed"]["network"] = _codes_of(listed_failures(jobs), networks)
        self._epochs, self._statuses = epochs, found["statuses"]
        self._at = dict(zip(found["cells"], networks, strict=True))
        return found

    @property
    def fitted(self) -> pd.DataFrame:
        return self._results.fitted

    def runs(self, cell: str) -> Content:
        rows = self._results.runs
        wanted = rows[NETWORK] == list(self._at.get(cell, (None,) * len(NETWORK)))
        return _runs(rows.loc[wanted.all(axis=1)], self._epochs, self._statuses)


def notes(runs: pd.DataFrame, samples: pd.DataFrame, has_data: bool, progress: Progress | None) -> list[str]:
    """What a page lacks and why, a sentence each."""
    found = missing(runs["job_id"].nunique(), has_data, progress)
    left_out = int(runs["lines"].isna().sum())
    if left_out:
        found.append(f"{left_out} of {len(runs)} rows have no count: their runs failed or ended earlier.")
    if samples.empty:
        yet = " yet" if progress is not None and progress.missing else ""
        found.append(
            f"No network is kept whole{yet} (samples of the spec): inner products, functions and losses are not shown."
        )
    return found


def tables(
    runs: pd.DataFrame,
    counts: pd.DataFrame,
    samples: pd.DataFrame,
    data: Mapping[str, NDArray[Any]],
    networks: list[Network],
    epochs: list[int],
) -> Content:
    """Layers and kept networks, which name networks by their number in ``networks`` and snapshots by their number in ``epochs``."""
    jobs = jobs_of(runs)
    return {
        "epochs": epochs,
        "seeds": jobs["seed"].nunique(),
        "methods": sorted(set(runs["method"])),
        "condensed": CONDENSED,
        "diverging": shades("RdBu_r"),
        "shares": {column: text for column, (_, _, text) in SHARES.items()},
        "networks": [
            {"activations": name, "title": _title(name), "dimension": int(dimension), "std": float(std)}
            for name, dimension, std in networks
        ],
        "layers": _layers(runs, counts, networks, epochs),
        "kept": _kept(samples.loc[samples["job_id"].isin(jobs["job_id"])], jobs, networks, epochs, data),
    }


def _networks(runs: pd.DataFrame) -> list[Network]:
    """The networks of a study in the order of the figures."""
    ordered = pd.concat([panel.rows for panel in panels_of(runs)]) if len(runs) else runs
    return list(ordered[NETWORK].drop_duplicates().itertuples(index=False, name=None))


def _codes_of(rows: pd.DataFrame, networks: list[Network]) -> list[int]:
    """The number of the network of every row."""
    return codes(rows[NETWORK].itertuples(index=False, name=None), networks)


def _title(activations: str) -> str:
    return " / ".join(_NAMES.get(name, name) for name in activations.split("/"))


# Layers.


def _layers(
    runs: pd.DataFrame, counts: pd.DataFrame, networks: list[Network], epochs: list[int]
) -> list[Content]:
    """Every layer of every network, in the order of the figures."""
    counted = dict(iter(counts.groupby(LAYER_KEYS)))
    found = []
    for key, rows in runs.groupby(LAYER_KEYS):
        first = rows.iloc[0]
        [network] = codes([tuple(first[NETWORK])], networks)
        layer = _layer(rows, counted.get(key), epochs)
        found.append({"network": network, "name": str(first["layer"]), **layer})
    return sorted(found, key=lambda layer: (layer["network"], len(layer["name"]), layer["name"]))


def _layer(rows: pd.DataFrame, counts: pd.DataFrame | None, epochs: list[int]) -> Content:
    """A layer: its summary, the seeds by number of lines, and what neurons do, over the snapshots."""
    summary = summarise(rows).iloc[0]
    first = rows.iloc[0]
    counts = rows.iloc[:0].assign(count=0) if counts is None else counts
    by_epoch = rows.groupby("epoch")
    quartiles = {
        column: [rounded(by_epoch[column].quantile(q).reindex(epochs), 4) for q in (0.25, 0.5, 0.75)]
        for column in SHARES
        if rows[column].notna().any()
    }
    return {
        "activation": _title(str(first["activation"])),
        "multiplicity": int(first["multiplicity"]),
        "hidden": int(first["hidden"]),
        "summary": dict(zip(_SUMMARY, rounded([summary[name] for name in _SUMMARY]), strict=True)),
        "counts": {
            "epoch": codes(counts["epoch"], epochs),
            "lines": [int(lines) for lines in counts["lines"]],
            "count": [int(count) for count in counts["count"]],
        },
        "condensed": rounded(condensed_share(rows).reindex(epochs), 4),
        "shares": quartiles,
    }


# Runs.


def _runs(runs: pd.DataFrame, epochs: list[int], statuses: list[str]) -> Content:
    """Runs of a network, column by column; by layer what depends on it, [run][snapshot]."""
    jobs = jobs_of(runs)
    ids = jobs["job_id"].tolist()
    layers = {
        str(layer): {column: _by_epoch(rows, column, ids, epochs) for column in _MEASURES}
        for layer, rows in runs.groupby("layer")
    }
    return {
        **job_columns(jobs, statuses),
        "loss": _by_epoch(runs.drop_duplicates(["job_id", "epoch"]), "loss", ids, epochs),
        "layers": layers,
    }


def _by_epoch(rows: pd.DataFrame, column: str, ids: list[str], epochs: list[int]) -> list[list[float | None]]:
    table = rows.pivot(index="job_id", columns="epoch", values=column).reindex(index=ids, columns=epochs)
    return [rounded(values, 4) for values in table.to_numpy(float)]


# Networks kept whole.


def _kept(
    samples: pd.DataFrame,
    jobs: pd.DataFrame,
    networks: list[Network],
    epochs: list[int],
    data: Mapping[str, NDArray[Any]],
) -> list[Content]:
    """The kept networks of the runs, at the snapshots that each has reached."""
    ended = dict(zip(jobs["job_id"], jobs["status"], strict=True))
    most = math.isqrt(2 * COSINES_SHOWN // max(len(samples), 1))
    found = []
    for job_id, rows in samples.groupby("job_id", sort=False):
        first, layers = rows.iloc[0], rows.groupby("layer")
        [network] = codes([tuple(first[NETWORK])], networks)
        found.append(
            {
                "id": str(job_id),
                "seed": int(first["seed"]),
                "status": ended[job_id],
                "network": network,
                "layers": {
                    str(name): {
                        "snapshots": codes(of_layer["epoch"], epochs),
                        "products": [_products(matrix(weights), most) for weights in of_layer["input"]],
                    }
                    for name, of_layer in layers
                },
                **_course(rows),
                **_functions(rows.drop_duplicates("epoch"), epochs, data),
            }
        )
    return found


def _products(weights: NDArray[np.float64], most: int) -> Content:
    """Inner products of the active neurons, ordered by line: those above the diagonal, row by row, in steps of 1/127, as base64."""
    found = Directions.of(weights)
    order, groups = found.in_order(), found.groups()
    shown = spread(len(order), most)
    products = found.cosines[np.ix_(order[shown], order[shown])][np.triu_indices(len(shown), 1)]
    return {
        "neurons": len(shown),
        "active": len(order),
        "edges": np.searchsorted(shown, np.cumsum([len(group) for group in groups])).tolist(),
        "aligned": rounded([found.aligned_fraction()])[0],
        "cosines": base64.b64encode(np.rint(127 * products).astype(np.int8).tobytes()).decode(),
    }


def _course(rows: pd.DataFrame) -> Content:
    """The loss along the training, which one of the rows holds."""
    longest = rows.iloc[int(rows["losses"].map(len).to_numpy().argmax())]
    return {"epochs": curve(longest["epochs"]), "losses": curve(longest["losses"])}


def _functions(rows: pd.DataFrame, epochs: list[int], data: Mapping[str, NDArray[Any]]) -> Content:
    """The function at every snapshot with the coefficients of its best polynomial of degree p, and the data: of one input."""
    first = rows.iloc[0]
    points, degree = training_data(data, first), int(first["multiplicity"])
    if not len(first["x"]):
        return {"x": [], "functions": [], "polynomials": [], "data": None}
    return {
        "x": curve(first["x"]),
        "functions": [curve(f) for f in rows["f"]],
        "polynomials": [
            rounded(np.polynomial.Polynomial.fit(x, f, degree).convert().coef, 8) if degree else None
            for x, f in zip(rows["x"], rows["f"], strict=True)
        ],
        "data": None if points is None else {"x": curve(points[0][:, 0]), "y": curve(points[1])},
    }

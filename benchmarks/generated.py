"""Folders of studies whose rows are drawn, not trained: as many jobs as one asks for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

import phasediag
from phasediag.phase_diagram.columns import MEASURES, TABLES
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.phase_diagram.theory import LAYERS, predicted_slope
from phasediag.storage.schema import VERSION
from phasediag.storage.store import Store

from .common import LOSS, MAPS, X, Y

DEPTH = 3
JOBS_PER_FILE = 100
WIDTHS = np.round(np.geomspace(100, 1e5, 10)).astype(int)


def make_study(points: int, seeds: int) -> PhaseDiagramStudy:
    """A study of three layers on a grid of points x points, at ten widths."""
    (left, low), (right, high) = MAPS[DEPTH]
    gamma, prime = np.linspace(left, right, points), np.linspace(low, high, points)
    return phasediag.study(
        X, Y, width=WIDTHS, gamma=gamma, gamma_prime=prime, seeds=seeds, depth=DEPTH, name="generated"
    )


def write_study(study: PhaseDiagramStudy, out: Path) -> Store:
    """The folder of the study, without rows."""
    store = Store(out, TABLES)
    store.write_data(study.data.arrays())
    store.write_study(study.to_toml())
    return store


def batches(study: PhaseDiagramStudy) -> Iterator[Sequence[Job]]:
    """The jobs as a sweep would have them, a batch of one width at a time."""
    jobs = sorted(study.jobs(), key=lambda job: (job.width, job.gamma, job.gamma_prime, job.seed))
    for first in range(0, len(jobs), JOBS_PER_FILE):
        yield jobs[first : first + JOBS_PER_FILE]


def rows(jobs: Sequence[Job], rng: np.random.Generator) -> pa.Table:
    """Rows of jobs: relative changes follow the predicted slopes, with scatter; one job in a hundred does not converge."""
    layers = LAYERS[DEPTH]
    frame = (
        pd.DataFrame([asdict(job) for job in jobs])
        .loc[lambda table: table.index.repeat(len(layers))]
        .reset_index(drop=True)
    )
    layer = np.tile(np.array(layers, dtype=object), len(jobs))
    slopes = [
        predicted_slope(name, DEPTH, gamma, prime)
        for name, gamma, prime in zip(layer, frame["gamma"], frame["gamma_prime"], strict=True)
    ]
    change = frame["width"].to_numpy(float) ** slopes * np.exp(0.1 * rng.standard_normal(len(frame)))
    ends = np.where(rng.random(len(jobs)) < 0.01, "stalled", "converged").astype(object)
    status = np.repeat(ends, len(layers))
    weights = layer == "a"
    drawn = {
        "layer": layer,
        "relative_change": change,
        "relative_change_spectral": np.where(weights, np.nan, change),
        "norm_initial": np.sqrt(frame["width"].to_numpy(float)),
        "norm_final": np.sqrt(frame["width"].to_numpy(float)) * (1 + change),
        "orientations": np.where(weights, np.nan, rng.uniform(1, 512, len(frame))),
        **{name: rng.uniform(0, 1, len(frame)) for name in MEASURES.names},
        "loss_initial": np.repeat(rng.uniform(0.05, 0.5, len(jobs)), len(layers)),
        "loss_final": np.repeat(rng.uniform(0.5, 1.0, len(jobs)) * LOSS, len(layers)),
        "evaluations": np.repeat(rng.integers(50, 500, len(jobs)), len(layers)),
        "status": status,
        "error": "",
        "wall_seconds": 0.01,
        "device": "cpu",
        "version": VERSION,
    }
    schema = TABLES.runs.schema
    return pa.Table.from_pandas(frame.assign(**drawn)[schema.names], schema, preserve_index=False)


def write_rows(store: Store, jobs: Sequence[Job], seed: int) -> None:
    """Publishes drawn rows of a batch as a sweep does."""
    store.publish_runs(rows(jobs, np.random.default_rng(seed)))

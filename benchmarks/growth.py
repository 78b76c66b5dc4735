"""How the engine's cost grows: with the width, the jobs of a batch, the points, and the threads."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.training import train_batch

from .common import X, Y, jobs_at, map_sample, table, timed
from .plain import Array

POINTS = [(0.5, 0.0), (1.0, 0.0), (1.5, 0.0), (1.5, 0.5)]
WIDTHS = {2: (100, 1000, 10_000, 100_000, 1_000_000), 3: (100, 300, 1000, 3000, 10_000)}
BATCHES = (1, 4, 16, 64, 256)
DATA_POINTS, DATA_INPUTS, DATA_EVALUATIONS = (4, 10, 30, 100, 300, 1000), 16, 100
COLUMNS = ["", "seconds", "evaluations", "ns per unit"]


def random_data(points: int, inputs: int) -> tuple[Array, Array]:
    """Gaussian inputs and targets."""
    generator = np.random.default_rng([points, inputs])
    return generator.standard_normal((points, inputs)), generator.standard_normal(points)


class Cost(NamedTuple):
    """Of all jobs together: wall time, the part of it that is training and not measures of the result, evaluations."""

    seconds: float
    training: float
    evaluations: int


def cost(
    jobs: Sequence[Job], x: Array, y: Array, settings: TrainSpec | None = None, threads: int = 1
) -> Cost:
    """After a warm-up."""
    settings = settings or TrainSpec()
    train_batch(jobs[:1], x, y, settings.model_copy(update={"max_evaluations": 3}))
    rows, seconds = timed(lambda: train_batch(jobs, x, y, settings, threads=threads))
    per_job = {row["job_id"]: row for row in rows}.values()
    return Cost(
        seconds, sum(row["wall_seconds"] for row in per_job), sum(row["evaluations"] for row in per_job)
    )


def row(name: str, cost: Cost, units: float) -> list[str]:
    """``units``: what an evaluation works through (neurons times points, or weights)."""
    per_unit = 1e9 * cost.seconds / cost.evaluations / units
    return [name, f"{cost.seconds:.3f}", f"{cost.evaluations}", f"{per_unit:.2f}"]


def by_width(depth: int, widths: Sequence[int]) -> None:
    rows = []
    for width in widths:
        units = width * len(X) if depth == 2 else width * (width + 1)
        rows.append(row(f"m = {width}", cost(jobs_at(POINTS, width, depth), X, Y), units))
    unit = "neuron and point" if depth == 2 else "weight of W2"
    table(f"{depth} layers: width; {len(POINTS)} jobs, four points; unit: {unit}", COLUMNS, rows)


def by_batch(counts: Sequence[int], width: int) -> None:
    rows = [row(f"{n} jobs", cost(jobs_at(map_sample(2, n), width), X, Y), width * len(X)) for n in counts]
    table(f"2 layers: jobs in a batch; width {width}, four points; unit: neuron and point", COLUMNS, rows)


def by_points(counts: Sequence[int], width: int) -> None:
    jobs = jobs_at(POINTS, width)
    settings = TrainSpec(max_evaluations=DATA_EVALUATIONS)
    rows = [row(f"n = {n}", cost(jobs, *random_data(n, DATA_INPUTS), settings), width * n) for n in counts]
    title = f"2 layers: points in {DATA_INPUTS} dimensions; {len(jobs)} jobs, width {width}"
    table(f"{title}, about {DATA_EVALUATIONS} evaluations at most; unit: neuron and point", COLUMNS, rows)


def by_threads(count: int, width: int) -> None:
    jobs = jobs_at(map_sample(2, count), width)
    measured = {threads: cost(jobs, X, Y, threads=threads) for threads in (1, 2)}
    rows = [
        [*row(f"threads = {threads}", one, width * len(X)), f"{measured[1].seconds / one.seconds:.2f}"]
        for threads, one in measured.items()
    ]
    title = f"2 layers: threads; {count} jobs, width {width}, four points; unit: neuron and point"
    table(title, [*COLUMNS, "times faster"], rows)


def main(quick: bool = False) -> None:
    by_width(2, WIDTHS[2][: 2 if quick else None])
    by_width(3, WIDTHS[3][: 2 if quick else None])
    by_batch(BATCHES[: 2 if quick else None], 100 if quick else 1000)
    by_points(DATA_POINTS[: 2 if quick else None], 100 if quick else 1000)
    by_threads(8 if quick else 64, 100 if quick else 3000)

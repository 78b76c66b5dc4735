"""How accurate the engine is, all over the maps and on many kinds of data: python -m benchmarks.accuracy [--accuracy A] [--depth D]

The jobs are a seeded Latin hypercube over exponents, width, number of points and dimension, each with data of its own; the engine's
relative changes are compared with those of small steps in float64 (tests/reference.py). These take half an hour, so they are kept in
references.parquet; ``--references`` computes those that are missing or whose job has changed, and may be interrupted.
"""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
import time
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import qmc

from phasediag.engine.networks import initial_weights
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.theory import LAYERS
from phasediag.phase_diagram.training import train_batch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from reference import Reference, small_step_flow, small_step_flow_deep

Array = NDArray[np.float64]

FILE = Path(__file__).parent / "references.parquet"


class Family(NamedTuple):
    """Jobs of one depth: of networks that are whole, or of some whose neurons each stand for many; or those of CONDENSED."""

    depth: int
    represented: bool = False
    condensed: bool = False

    def __str__(self) -> str:
        kind = ", condensed in the limit" if self.condensed else ", represented" if self.represented else ""
        return f"{self.depth} layers{kind}"


JOBS = {
    Family(2): 72,
    Family(3): 42,
    Family(4): 16,
    Family(5): 10,
    Family(2, True): 16,
    Family(3, True): 16,
    Family(4, True): 10,
    Family(3, True, True): 35,
}
CONDENSED = {
    10**10: (
        (2.2, -0.5, 0),
        (2.3, 0.0, 0),
        (2.4, 0.0, 1),
        (2.5, 0.0, 2),
        (2.6, 0.1, 0),
        (2.7, 0.1, 1),
        (2.8, 0.1, 2),
        (2.9, -0.1, 2),
        (2.9, 0.6, 2),
        (3.0, 0.0, 0),
        (3.1, -0.5, 2),
        (3.1, 0.2, 2),
        (3.2, -0.2, 1),
        (3.2, 0.5, 1),
        (3.3, -0.2, 2),
        (3.3, 0.5, 2),
        (3.4, -0.1, 0),
        (3.4, 0.6, 0),
    ),
    10**14: (
        (1.7, -0.5, 2),
        (2.2, -0.5, 0),
        (2.3, -0.3, 2),
        (2.4, -0.2, 0),
        (2.5, 0.0, 2),
        (2.6, 0.1, 0),
        (2.7, 0.1, 1),
        (2.8, 0.1, 2),
        (2.9, -0.1, 2),
        (3.0, -0.5, 1),
        (3.0, 0.4, 2),
        (3.1, 0.0, 1),
        (3.2, -0.4, 0),
        (3.2, 0.5, 1),
        (3.3, 0.1, 0),
        (3.4, -0.4, 2),
        (3.4, 0.6, 0),
    ),
}
"""Exponents gamma, gamma_prime, and seeds of networks of `sweeps/three_layer_asymptotic.toml` that took most evaluations, by width."""
CONDENSED_NEURONS, CONDENSED_STEPS, CONDENSED_MAX = 200, (0.1, 0.05), 80_000
LINE = np.array([[-1.0], [-0.35], [0.3], [1.0]]), np.array([0.6, -0.4, 0.5, -0.2])
LOW = {2: (0.5, -1.0, 2.0), 3: (0.8, -0.5, 2.0), 4: (1.3, -0.5, 1.7), 5: (1.8, -0.5, 1.5)}
HIGH = {2: (2.0, 1.0, 4.0), 3: (3.3, 1.0, np.log10(400)), 4: (3.5, 1.0, 2.0), 5: (3.8, 1.0, 1.8)}
"""Ranges of gamma, gamma_prime and log10(width) by depth."""
REPRESENTED = (3.0, 8.0)
"""Range of log10(width) of represented networks."""
NEURONS = {2: 200, 3: 80, 4: 60}
"""How many represent them."""
POINTS = (4, 200)
ONE_DIMENSIONAL = 0.45
"""Share of jobs with one-dimensional data."""

STEPS = (0.02, 0.01, 0.005, 0.0025)
"""Of the references; the last two only where those before disagree."""
REACH = 2500.0
MAX_STEPS = 32_000
"""A reference that takes more is given up, one that takes more than half of them is not repeated with smaller steps."""
FURTHER = (0.84, 0.71, 0.59, 0.5)
"""Losses, in units of the tolerance, at which the references look again where the tolerance is loose: the engine stops below it, and
the weights have moved on by then."""
AGREEMENT = 0.003
"""Largest difference between two step sizes, in any layer, of a reference that can be relied on."""
GOAL, SHARE, WORST = 0.01, 0.95, 0.03
"""Target: this share of the jobs within GOAL in every layer, none beyond WORST."""


@dataclass(frozen=True)
class Case:
    """A job, its data x (n, d), y (n,), and the loss to which it is trained, relative to that of f = 0; and the steps of its reference."""

    job: Job
    x: Array
    y: Array
    loss_tolerance: float
    steps: tuple[float, ...] = STEPS
    reach: float = REACH
    max_steps: int = MAX_STEPS

    @property
    def digest(self) -> str:
        """Identifies what the reference depends on, its own settings apart. Rounded: the last digits of a sine depend on the machine."""
        rounded = [(np.round(part, 9) + 0.0).tolist() for part in (self.x, self.y)]
        # whole networks are what they were before others could be represented
        job = repr(self.job) if self.job.mass > 1 else re.sub(r" neurons=\d+,", "", repr(self.job))
        content = f"({job}, {self.loss_tolerance!r}, {rounded!r})"
        return hashlib.sha256(content.encode()).hexdigest()[:20]


def cases(family: Family) -> list[Case]:
    """The jobs of a family, the same on every machine."""
    depth = family.depth
    if family.condensed:
        of_map = [(width, *job) for width, jobs in CONDENSED.items() for job in jobs]
        jobs = [
            Job(f"condensed{depth}-{index:03d}", depth, width, CONDENSED_NEURONS, gamma, prime, 0.0, seed)
            for index, (width, gamma, prime, seed) in enumerate(of_map)
        ]
        return [Case(job, *LINE, 1e-6, CONDENSED_STEPS, 1.0, CONDENSED_MAX) for job in jobs]
    low, high = (*LOW[depth], 0.0, 0.0), (*HIGH[depth], 1.0, 1.0)
    if family.represented:
        low, high = (*low[:2], REPRESENTED[0], *low[3:]), (*high[:2], REPRESENTED[1], *high[3:])
    cube = qmc.scale(qmc.LatinHypercube(5, seed=depth).random(JOBS[family]), low, high)
    return [_case(family, index, *point) for index, point in enumerate(cube.tolist())]


def _case(
    family: Family, index: int, gamma: float, prime: float, log_width: float, many: float, flat: float
) -> Case:
    depth, represented, _ = family
    dimension = 1 if flat < ONE_DIMENSIONAL else 64
    least, most = POINTS
    points = min(most, round(least * (1.6 * most / least) ** many))  # about one job in ten has the most
    if represented:
        points = min(points, NEURONS[depth] // 5)
    width = (
        round(10**log_width) if represented else min(round(10**log_width), _widest(depth, points, dimension))
    )
    neurons = NEURONS[depth] if represented else width
    name = f"{'represented' if represented else 'depth'}{depth}-{index:03d}"
    job = Job(name, depth, width, neurons, round(gamma, 3), round(prime, 3), 0.0, index)
    x, y = _data(points, dimension, np.random.default_rng([depth, index]), index % 2 == 0)
    return Case(job, x, y, _tolerance(points, dimension))


def _widest(depth: int, points: int, dimension: int) -> int:
    """What bounds the cost of a reference, by the size of the data alone."""
    if depth > 2:
        return int(np.sqrt(8e6 / (depth - 2) / points))
    return int((1.5e5 if dimension == 1 else 6e5) / points)


def _tolerance(points: int, dimension: int) -> float:
    """By the size of the data alone. Random points in 64 dimensions are far apart: all modes of their kernel are fast. The slow ones
    of many points on a line are beyond explicit steps."""
    if dimension > 1 or points <= 5:
        return 1e-6
    return 1e-3 if points <= 12 else 1e-2


def _data(points: int, dimension: int, generator: np.random.Generator, signs: bool) -> tuple[Array, Array]:
    """One dimension: jittered even points on [-1, 1], and three random waves. More: Gaussian points, random labels or signs."""
    if dimension > 1:
        x = generator.standard_normal((points, dimension)) / np.sqrt(dimension)
        y = generator.uniform(-1, 1, points)
        return x, np.sign(y) if signs else y
    line = np.linspace(-1, 1, points) + generator.uniform(-0.6, 0.6, points) / (points - 1)
    waves = np.arange(1, 4)
    heights, phases = generator.standard_normal(3) / waves, generator.uniform(0, 2 * np.pi, 3)
    y = np.sin(np.outer(line, waves * np.pi / 2) + phases) @ heights
    return line[:, None], y / np.abs(y).max()


# References.


def compute_references() -> None:
    """Computes what is missing in the file, and saves after every job."""
    known = pd.read_parquet(FILE) if FILE.exists() else pd.DataFrame({"digest": []})
    # all families from the start: what there is after an interruption is of use for each
    wanted = [case for row in zip_longest(*map(cases, JOBS)) for case in row if case is not None]
    known = known[known["digest"].isin([case.digest for case in wanted])]
    for case in wanted:
        if case.digest in set(known["digest"]):
            continue
        rows = pd.DataFrame(_reference_rows(case))
        known = pd.concat([known, rows], ignore_index=True) if len(known) else rows
        known.to_parquet(FILE, index=False)
        job, last = case.job, rows.iloc[-1]
        print(
            f"{job.job_id}: ({job.gamma}, {job.gamma_prime}), width {job.width}, {len(case.y)} points in "
            f"{case.x.shape[1]}: {'' if _reliable(rows) else 'UNRELIABLE, '}"
            f"steps {last['steps']}, {rows.groupby('step')['seconds'].first().sum():.0f} s",
            flush=True,
        )


def _reference_rows(case: Case) -> list[dict[str, object]]:
    """Rows of the reference: one per step size, loss and layer."""
    rows: list[dict[str, object]] = []
    for step in case.steps:
        started = time.perf_counter()
        found = _reference(case, step)
        rows += _rows(case, step, found, time.perf_counter() - started)
        unfinished = found.loss > 1.01 * case.loss_tolerance
        if unfinished or found.steps > case.max_steps / 2 or _reliable(pd.DataFrame(rows)):
            break
    return rows


def _reference(case: Case, step: float) -> Reference:
    job = case.job
    weights: Any = initial_weights(job.depth, job.neurons, case.x.shape[1], job.seed)
    settings: dict[str, Any] = {
        "step": step,
        "loss_tolerance": case.loss_tolerance,
        "max_steps": case.max_steps,
        "reach": case.reach,
        "further": FURTHER if case.loss_tolerance > 1e-6 else (),
    }
    if job.depth == 2 and job.mass == 1:
        return small_step_flow(case.x, case.y, job.gamma, job.gamma_prime, *weights, **settings)
    exponents = job.gamma, job.gamma_prime, job.gamma_1
    return small_step_flow_deep(case.x, case.y, *exponents, weights, job.width, **settings)


def _rows(case: Case, step: float, found: Reference, seconds: float) -> list[dict[str, object]]:
    """One row per loss and layer. ``loss_part``: loss in units of the tolerance; ``loss``: where it was 1, over that of f = 0."""
    job = case.job
    return [
        {
            "digest": case.digest,
            "job": job.job_id,
            "depth": job.depth,
            "gamma": job.gamma,
            "gamma_prime": job.gamma_prime,
            "width": job.width,
            "points": len(case.y),
            "dimension": case.x.shape[1],
            "loss_tolerance": case.loss_tolerance,
            "step": step,
            "loss_part": part,
            "layer": layer,
            "relative_change": change,
            "loss": found.loss,
            "steps": found.steps,
            "evaluations": found.evaluations,
            "seconds": round(seconds, 2),
        }
        for part, changes in zip((1.0, *FURTHER), (found.changes, *found.further), strict=False)
        for layer, change in zip(LAYERS[job.depth], changes, strict=True)
    ]


def _reliable(rows: pd.DataFrame) -> bool:
    """Whether the two smallest steps of a job reached the loss and agree there."""
    steps = sorted(rows["step"].unique())[:2]
    if len(steps) < 2 or (rows["loss"] > 1.01 * rows["loss_tolerance"]).any():
        return False
    fine, coarse = (_at(rows, step)[1.0] for step in steps)
    return bool((np.abs(coarse / fine - 1) <= AGREEMENT).all())


def _at(rows: pd.DataFrame, step: float) -> pd.DataFrame:
    """Relative change of a job with one step size: layers in rows, parts of the loss tolerance in columns."""
    of_step = rows[rows["step"] == step]
    return of_step.pivot(index="layer", columns="loss_part", values="relative_change")


def _extrapolated(rows: pd.DataFrame, loss_part: float) -> pd.Series:
    """Relative change of every layer at a loss in units of the tolerance, extrapolated to step zero (the error is of first order)."""
    fine, coarse = (_at(rows, step) for step in sorted(rows["step"].unique())[:2])
    limit = (2 * fine - coarse).dropna(axis=1)
    parts = np.log(
        limit.columns.to_numpy(dtype=float)
    )  # ascending; interpolation is constant beyond the ends
    return limit.apply(lambda changes: np.interp(np.log(loss_part), parts, changes), axis=1)


# Comparison.


def compare(family: Family, accuracy: float) -> pd.DataFrame:
    """The engine beside the reliable references of a family: one row per job and layer.

    ``error`` is that of the relative change as it is reported, ``error_there`` that with respect to the reference at the loss at which
    the engine stopped, which is below the one asked for.
    """
    stored = dict(list(pd.read_parquet(FILE).groupby("digest")))
    compared = []
    for case in cases(family):
        if case.digest not in stored or not _reliable(stored[case.digest]):
            continue
        spec = TrainSpec(loss_tolerance=case.loss_tolerance, accuracy=accuracy)
        rows = pd.DataFrame(train_batch([case.job], case.x, case.y, spec))
        part = rows["loss_final"][0] / (case.loss_tolerance * np.mean(case.y**2) / 2)
        for column, where in (("error", 1.0), ("error_there", part)):
            expected = rows["layer"].map(_extrapolated(stored[case.digest], where))
            rows[column] = rows["relative_change"] / expected - 1
        rows["points"], rows["dimension"] = case.x.shape
        rows["loss_tolerance"], rows["loss_part"] = case.loss_tolerance, part
        compared.append(rows)
    return pd.concat(compared, ignore_index=True) if compared else pd.DataFrame()


def report(family: Family, accuracy: float) -> None:
    """Prints how a family compares, and the jobs beyond GOAL."""
    print(f"\n{family}, accuracy = {accuracy:g}")
    stored = pd.read_parquet(FILE)
    all_jobs = [stored[stored["digest"] == case.digest] for case in cases(family)]
    done = [rows for rows in all_jobs if len(rows)]
    kept = sum(map(_reliable, done))
    print(
        f"  {len(all_jobs)} jobs, {len(all_jobs) - len(done)} without reference; left out {len(done) - kept}: "
        f"step sizes apart by more than {AGREEMENT:.1%}, or loss out of reach"
    )
    rows = compare(family, accuracy)
    if rows.empty:
        return
    _summary(rows, "error", "at the loss asked for")
    _summary(rows, "error_there", "at the loss where the engine stopped")
    once = rows.drop_duplicates("job_id")
    print(f"  evaluations: median {once['evaluations'].median():.0f}, worst {once['evaluations'].max()}")
    print(f"  statuses: {', '.join(f'{k} {v}' for k, v in once['status'].value_counts().items())}")
    _beyond(rows)


def _summary(rows: pd.DataFrame, column: str, what: str) -> None:
    error = rows[column].abs().fillna(np.inf)
    per_job = error.groupby(rows["job_id"]).max()
    share, worst = float((per_job <= GOAL).mean()), float(per_job.max())
    layers = error.groupby(rows["layer"]).max()
    met = share >= SHARE and worst <= WORST
    print(
        f"  {what}: {len(per_job)} jobs, {share:.1%} within {GOAL:.0%}, median {per_job.median():.2%}; worst "
        + ", ".join(f"{layer} {value:.2%}" for layer, value in layers.items())
        + f"; target ({SHARE:.0%} within {GOAL:.0%}, none above {WORST:.0%}): {'met' if met else 'NOT met'}"
    )


def _beyond(rows: pd.DataFrame) -> None:
    """The jobs beyond GOAL by either measure, worst first."""
    larger = rows[["error", "error_there"]].abs().fillna(np.inf).max(axis=1)
    worst = larger.groupby(rows["job_id"]).max().sort_values(ascending=False)
    names = worst[worst > GOAL].index
    print(f"  jobs beyond {GOAL:.0%} ({len(names)}), error of each layer, in brackets at the engine's loss:")
    for name in names:
        job = rows[rows["job_id"] == name]
        one = job.iloc[0]
        errors = ", ".join(
            f"{row.layer} {row.error:+.2%} ({row.error_there:+.2%})" for row in job.itertuples()
        )
        print(
            f"    {name}: ({one['gamma']:g}, {one['gamma_prime']:g}), width {one['width']}, {one['points']} points "
            f"in {one['dimension']}, loss to {one['loss_tolerance']:g}: {errors}; {one['evaluations']} evaluations, "
            f"{one['status']} at {one['loss_part']:.2f} of it"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", action="store_true", help="compute the missing references")
    parser.add_argument("--accuracy", type=float, default=0.01)
    depths = sorted({family.depth for family in JOBS})
    parser.add_argument("--depth", type=int, choices=depths, help="all unless given")
    options = parser.parse_args()
    if options.references:
        compute_references()
        return
    for family in JOBS:
        if options.depth in (None, family.depth):
            report(family, options.accuracy)


if __name__ == "__main__":
    main()

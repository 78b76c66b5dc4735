"""Networks in which some neurons stand for all, beside whole ones: are their changes unbiased, and how do they scatter with the number?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.theory import LAYERS
from phasediag.phase_diagram.training import train_batch

from .common import MAPS, X, Y, table

NEURONS = (100, 200, 400, 800)


class Plan(NamedTuple):
    """Networks of one depth and width, at ``side`` by ``side`` points of the map; ``seeds`` of them whole, and ``draws`` represented by
    every number of neurons."""

    depth: int
    width: int
    side: int
    seeds: int
    draws: int


PLANS = (Plan(2, 800, 6, 32, 32), Plan(2, 3000, 6, 32, 32), Plan(3, 800, 4, 16, 16), Plan(3, 3000, 4, 4, 16))
QUICK = (Plan(2, 100, 2, 2, 2),)


def points(plan: Plan) -> Iterator[tuple[float, float]]:
    low, high = MAPS[plan.depth]
    gamma, gamma_prime = np.linspace(low, high, plan.side).T.tolist()
    return product(gamma, gamma_prime)


def logs(plan: Plan, neurons: int, seeds: int) -> NDArray[np.float64]:
    """log RD of all points, seeds and layers (P, S, L); NaN where a network has not converged."""
    settings, found = TrainSpec(accuracy=0.01, max_evaluations=3000), []
    for gamma, prime in points(plan):
        jobs = [
            Job(str(seed), plan.depth, plan.width, neurons, gamma, prime, 0.0, seed) for seed in range(seeds)
        ]
        rows = train_batch(jobs, X, Y, settings)
        found += [row["relative_change"] if row["status"] == "converged" else np.nan for row in rows]
    result: NDArray[np.float64] = np.log(np.array(found).reshape(plan.side**2, seeds, -1))
    return result


def bias(represented: NDArray[np.float64], whole: NDArray[np.float64]) -> tuple[float, float]:
    """Mean over points and seeds (P, S) of the difference, and its standard error. Seeds are the same at all points."""
    means = [np.nanmean(logs, axis=0) for logs in (represented, whole)]
    error = np.sqrt(sum(mean.var(ddof=1) / len(mean) for mean in means))
    return float(means[0].mean() - means[1].mean()), float(error)


def scatter(logs: NDArray[np.float64]) -> float:
    """Standard deviation between seeds, the root of the mean square over points."""
    return float(np.sqrt(np.nanvar(logs, axis=1, ddof=1).mean()))


def report(plan: Plan, numbers: Sequence[int]) -> None:
    whole, rows = logs(plan, plan.width, plan.seeds), []
    layers = LAYERS[plan.depth]
    for neurons in (*(number for number in numbers if number < plan.width), plan.width):
        found = whole if neurons == plan.width else logs(plan, neurons, plan.draws)
        cells = [f"N = {neurons}" if neurons < plan.width else "whole"]
        for layer in range(len(layers)):
            ours, theirs = found[..., layer], whole[..., layer]
            mean, error = bias(ours, theirs)
            cells.append("" if neurons == plan.width else f"{100 * mean:+.2f} ± {100 * error:.2f}")
            cells.append(f"{100 * scatter(ours):.1f}")
            cells.append(f"{100 * scatter(ours) * np.sqrt(neurons / numbers[0]):.1f}")
        rows.append([*cells, f"{np.isnan(found[..., 0]).sum()} of {found[..., 0].size}"])
    columns = [f"{layer} {name}" for layer in layers for name in ("bias", "scatter", f"√(N/{numbers[0]})")]
    title = f"{plan.depth} layers, m = {plan.width}, four points, {plan.side**2} points of the map, {plan.seeds} whole networks at each"
    table(
        title,
        ["", *columns, "not converged"],
        rows,
        "in percent of RD. bias: mean over the points of log RD, represented less whole, and its standard error. scatter: standard\n"
        f"  deviation between seeds, root mean square over points; then times √(N/{numbers[0]}): constant where errors fall as 1/√N.",
    )


def main(quick: bool = False) -> None:
    for plan in QUICK if quick else PLANS:
        report(plan, (10, 20) if quick else NEURONS)

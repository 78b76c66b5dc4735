"""Accuracy and cost of the engine beside a small-step integration of the same jobs: python -m benchmarks.engine [--jobs N]

Jobs are a seeded Latin hypercube over the two-layer map. The reference is explicit Euler in float64, with a twentieth of the largest
stable step; what it takes is what "the same, with small fixed steps" costs. Absolute times depend on the machine: compare the ratios.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from scipy.stats import qmc

from phasediag.networks import initial_weights
from phasediag.spec import TrainSpec
from phasediag.study import Job
from phasediag.training import train_batch

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from reference import small_step_flow

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
WIDTH = 500
LOW, HIGH = (0.5, -0.5), (2.0, 1.0)


def jobs(count: int) -> list[Job]:
    points = qmc.scale(qmc.LatinHypercube(2, seed=0).random(count), LOW, HIGH).round(3).tolist()
    return [Job(f"{i}", 2, WIDTH, gamma, prime, 0.0, i) for i, (gamma, prime) in enumerate(points)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=30)
    batch = jobs(parser.parse_args().jobs)
    started = time.perf_counter()
    references = [
        small_step_flow(X, Y, job.gamma, job.gamma_prime, *initial_weights(2, WIDTH, 1, job.seed))
        for job in batch
    ]
    seconds = time.perf_counter() - started
    steps = np.array([one.steps for one in references])
    print(f"{len(batch)} two-layer jobs, width {WIDTH}, four points, loss to 1e-6, one thread\n")
    print(f"{'':24}{'evaluations':>24}{'error of RD':>26}{'seconds':>10}{'ratio':>8}")
    print(f"{'':24}{'median':>12}{'worst':>12}{'median':>13}{'worst':>13}{'per job':>10}")
    row = "{:24}{:12.0f}{:12.0f}{:>13}{:>13}{:10.4f}{:8.0f}"
    print(row.format("small steps", np.median(steps), steps.max(), "-", "-", seconds / len(batch), 1))
    expected = np.array([[one.w, one.a] for one in references])
    for accuracy in (0.1, 0.01, 0.001):
        settings = TrainSpec(accuracy=accuracy)
        train_batch(batch[:2], X, Y, settings)  # imports and allocations are not the engine's
        started = time.perf_counter()
        rows = train_batch(batch, X, Y, settings)
        ours = time.perf_counter() - started
        changes = np.array([one["relative_change"] for one in rows]).reshape(-1, 2)
        errors = np.abs(changes / expected - 1)
        evaluations = [one["evaluations"] for one in rows[::2]]
        print(
            row.format(
                f"accuracy = {accuracy:g}",
                np.median(evaluations),
                max(evaluations),
                f"{100 * np.median(errors):.2f} %",
                f"{100 * errors.max():.2f} %",
                ours / len(batch),
                seconds / ours,
            )
        )


if __name__ == "__main__":
    main()

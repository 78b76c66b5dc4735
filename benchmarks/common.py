"""What the benchmarks share: the machine, jobs, references, errors and tables of text."""

from __future__ import annotations

import argparse
import platform
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from scipy.stats import qmc

from phasediag.engine.networks import initial_weights
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.training import train_batch

from .plain import GradientDescent, Networks, Outcomes
from .tables import table as table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from reference import Reference, small_step_flow

Result = TypeVar("Result")

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
LOSS = 1e-6
MAPS = {2: ((0.5, -0.5), (2.0, 1.0)), 3: ((1.0, -0.5), (3.0, 1.0))}
"""Lowest and highest (gamma, gamma') of the maps, by depth."""


def machine() -> str:
    """The processor, the software and the threads."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    cpu = next((line.partition(": ")[2] for line in lines if line.startswith("model name")), "")
    versions = f"torch {torch.__version__}, numpy {np.__version__}"
    return f"{cpu or platform.processor() or platform.machine()}; {versions}; {torch.get_num_threads()} thread of torch"


def chosen_parts(description: str, parts: Sequence[str]) -> tuple[Sequence[str], bool]:
    """What the command line asks for: parts of a benchmark, all without any, and whether a few small jobs will do."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("parts", nargs="*", metavar="part", help=f"any of {', '.join(parts)}; all without")
    parser.add_argument("--quick", action="store_true", help="a few small jobs: does it run?")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(parts):
        parser.error(f"no such part: {', '.join(sorted(unknown))}; allowed: {', '.join(parts)}")
    return arguments.parts or parts, arguments.quick


def percent(value: float) -> str:
    return f"{100 * value:.2f} %" if np.isfinite(value) else "-"


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    started = time.perf_counter()
    return work(), time.perf_counter() - started


def jobs_at(
    points: Iterable[Sequence[float]], width: int, depth: int = 2, neurons: int | None = None
) -> list[Job]:
    """One job at each (gamma, gamma'), with seeds 0, 1, ...; whole unless ``neurons`` are simulated."""
    return [
        Job(f"{width}-{i}", depth, width, neurons or width, float(gamma), float(prime), 0.0, i)
        for i, (gamma, prime) in enumerate(points)
    ]


def map_sample(depth: int, count: int) -> list[list[float]]:
    """A seeded Latin hypercube of (gamma, gamma') over the map."""
    points = qmc.scale(qmc.LatinHypercube(2, seed=0).random(count), *MAPS[depth])
    rounded: list[list[float]] = points.round(3).tolist()
    return rounded


def compile_seconds() -> float:
    """What the first training of every kind of networks in a process takes longer than the next: compilation, if not done before."""

    def train() -> None:
        for depth, x in ((2, X), (2, np.hstack([X, X])), (3, X)):
            train_batch(jobs_at([(1.0, 0.0)], 100, depth), x, Y, TrainSpec(max_evaluations=20))

    first, next_ = timed(train)[1], timed(train)[1]
    return first - next_


def engine(jobs: Sequence[Job], accuracy: float = 0.01) -> Outcomes:
    """Ours: one batch, one thread, as a sweep does it."""
    settings = TrainSpec(accuracy=accuracy, loss_tolerance=LOSS)
    rows, seconds = timed(lambda: train_batch(jobs, X, Y, settings))
    layers = len(rows) // len(jobs)
    changes = [row["relative_change"] if row["status"] == "converged" else np.nan for row in rows]
    evaluations = np.array([row["evaluations"] for row in rows[::layers]], float)
    return Outcomes(np.array(changes).reshape(-1, layers), evaluations, seconds)


def references(jobs: Sequence[Job], step: float = 0.05) -> Outcomes:
    """Float64 explicit Euler, ``step`` in units of 1 / (largest eigenvalue of the kernel)."""
    if jobs[0].depth == 3:  # the same method, plain batched code in place of the tests' two-layer one
        return GradientDescent(step, motion=step / 10, every=4, cap=1_000_000).run(Networks(jobs, X, Y), LOSS)

    def follow(job: Job) -> Reference:
        w, a = initial_weights(2, job.width, 1, job.seed)
        return small_step_flow(X, Y, job.gamma, job.gamma_prime, w, a, step, LOSS)

    ends, seconds = timed(lambda: [follow(job) for job in jobs])
    changes, steps = np.array([[end.w, end.a] for end in ends]), np.array([end.steps for end in ends], float)
    return Outcomes(changes, steps, seconds)

"""Same jobs, same accuracy, one thread: the engine beside what one would write or pick instead.

Every alternative runs at the settings that reach an error of about one percent at the least cost (found by hand on another sample).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import numpy as np
import torch
from torch import Tensor
from torchdiffeq import odeint

from phasediag.phase_diagram.jobs import Job

from .common import LOSS, X, Y, engine, jobs_at, map_sample, percent, references, table
from .plain import Array, GradientDescent, Networks, Outcomes, loss

WIDTHS = {2: (100, 1000, 10_000), 3: (100, 200, 400)}
MAP_WIDTHS, JOBS_PER_WIDTH = (100, 300, 1000, 3000, 10_000), 768
"""The two-layer map that seconds are extrapolated to."""
REFERENCE_STEP = 0.1
DESCENT = {2: GradientDescent(1.5, motion=0.03, every=10), 3: GradientDescent(1.5, motion=0.02, every=10)}
DOPRI5 = {2: (1e-3, 1e-5), 3: (1e-3, 1e-4)}
"""rtol, atol."""
MAX_CALLS, MAX_SECONDS = 20_000, 120.0
"""Where dopri5 gives up on what is left of a batch."""


def per_job_loop(jobs: Sequence[Job]) -> Outcomes:
    """One network after the other: autograd, torch.optim.SGD with a learning rate per layer."""
    started = time.perf_counter()
    ends = [_train_one(Networks([job], X, Y), DESCENT[job.depth]) for job in jobs]
    changes, counts = zip(*ends, strict=True)
    return Outcomes(np.array(changes), np.array(counts, float), time.perf_counter() - started)


def _train_one(network: Networks, descent: GradientDescent) -> tuple[list[float], int]:
    parts = [layer[0].clone().requires_grad_() for layer in network.start]
    optimiser = torch.optim.SGD([{"params": [part], "lr": 1.0} for part in parts])
    kappa, goal = network.kappa.item(), LOSS * network.y.square().mean().item() / 2
    for count in range(1, descent.cap + 1):
        h = network.x
        for layer, part in enumerate(parts):
            h = h if layer in (0, len(parts) - 1) else torch.nn.functional.pad(h, (0, 1), value=1.0)
            h = h @ part if layer == len(parts) - 1 else torch.relu(h @ part)
        value = ((kappa * h[:, 0] - network.y) ** 2).mean() / 2
        if value.item() <= goal:
            return network.changes([part.detach()[None] for part in parts])[0].tolist(), count
        if count % descent.every == 1:
            _tune(network, descent, parts, optimiser)
        optimiser.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return [np.nan] * len(parts), descent.cap


@torch.no_grad()
def _tune(
    network: Networks, descent: GradientDescent, parts: Sequence[Tensor], optimiser: torch.optim.SGD
) -> None:
    weights = [part[None] for part in parts]
    step = descent.step(network, weights, network.evaluate(weights))
    for group, rate in zip(optimiser.param_groups, network.rates[:, 0], strict=True):
        group["lr"] = (step[0] * rate).item()


@torch.no_grad()
def batched_descent(jobs: Sequence[Job]) -> Outcomes:
    """All jobs of a width at once, gradients by hand."""
    return DESCENT[jobs[0].depth].run(Networks(jobs, X, Y), LOSS)


@torch.no_grad()
def runge_kutta(jobs: Sequence[Job], rtol: float, atol: float) -> Outcomes:
    """torchdiffeq's dopri5 on all jobs of a width at once, in chunks of time until every loss is reached.

    The jobs share their steps, so each one's time runs in units of its own fastest rate: the norm of its kernel, or the largest
    relative speed of a layer.
    """
    started, calls = time.perf_counter(), 0
    networks = Networks(jobs, X, Y)
    changes = torch.full((len(jobs), len(networks.start)), torch.nan, dtype=torch.float64)
    evaluations = torch.full((len(jobs),), torch.nan, dtype=torch.float64)
    weights, index, clock = tuple(networks.start), torch.arange(len(jobs)), 0.0

    def flow(_: Tensor, state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        nonlocal calls
        calls += 1
        if calls > MAX_CALLS or time.perf_counter() - started > MAX_SECONDS:
            raise TimeoutError
        at = networks.evaluate(state)
        kernels = networks.kernels(at)
        relative = networks.speeds(at, kernels) / networks.norms(state)
        fastest = torch.maximum(torch.linalg.matrix_norm(kernels.sum(dim=0)), relative.amax(dim=0))
        return tuple(networks.velocity(at, 1 / fastest))

    with suppress(TimeoutError):
        while len(index):
            span = max(10.0, clock / 10)
            times = torch.tensor([0.0, span], dtype=torch.float64)
            ends = odeint(flow, weights, times, method="dopri5", rtol=rtol, atol=atol)
            weights, clock = tuple(end[-1] for end in ends), clock + span
            done = loss(networks.evaluate(weights), networks) <= LOSS
            changes[index[done]] = networks.select(done).changes([layer[done] for layer in weights])
            evaluations[index[done]] = calls
            weights, index = tuple(layer[~done] for layer in weights), index[~done]
            networks = networks.select(~done)
    return Outcomes(
        changes.numpy(), evaluations.nan_to_num(min(calls, MAX_CALLS)).numpy(), time.perf_counter() - started
    )


METHODS: dict[str, Callable[[Sequence[Job]], Outcomes]] = {
    "phasediag, accuracy 0.01": engine,
    "phasediag, accuracy 0.03": lambda jobs: engine(jobs, 0.03),
    "phasediag, accuracy 0.1": lambda jobs: engine(jobs, 0.1),
    "batched gradient descent": batched_descent,
    "autograd, job by job": per_job_loop,
    "torchdiffeq dopri5, batched": lambda jobs: runge_kutta(jobs, *DOPRI5[jobs[0].depth]),
}


def report(depth: int, count: int, widths: Sequence[int]) -> None:
    """Prints the table of one depth: ``count`` jobs of each width."""
    points = map_sample(depth, count)
    batches = [jobs_at(points, width, depth) for width in widths]
    expected = [references(batch, REFERENCE_STEP).changes for batch in batches]
    rows, own = [], 0.0
    for name, method in METHODS.items():
        method(batches[0][:1])  # imports and first allocations
        outcomes = [method(batch) for batch in batches]
        seconds = np.array([one.seconds / count for one in outcomes])
        evaluations = np.concatenate([one.evaluations for one in outcomes])
        errors = np.concatenate([one.errors(end) for one, end in zip(outcomes, expected, strict=True)])
        whole = extrapolated(widths, seconds) if depth == 2 else count * seconds.sum()
        own = own or whole
        rows.append(
            [
                name,
                *(f"{value:.4f}" for value in seconds),
                f"{whole:.0f}" if whole >= 10 else f"{whole:.2f}",
                f"{whole / own:.1f}",
                f"{np.median(evaluations):.0f}",
                f"{evaluations.max():.0f}",
                percent(float(np.nanmedian(errors))),
                percent(float(np.nanmax(errors))),
                f"{np.isnan(errors).sum()}",
            ]
        )
    whole_column = "s per map" if depth == 2 else "s in all"
    columns = ["", *(f"s/job m={width}" for width in widths), whole_column, "ratio"]
    columns += ["evaluations", "worst", "error of RD", "worst", "unfinished"]
    title = f"{depth} layers, {count} jobs of each of {len(widths)} widths, four points, loss to {LOSS:g}"
    table(title, columns, rows, note(depth))


def extrapolated(widths: Sequence[int], seconds: Array) -> float:
    """Seconds of the whole map, from those per job of the sample: a power of the width in between."""
    per_job = np.exp(np.interp(np.log(MAP_WIDTHS), np.log(widths), np.log(seconds)))
    return float(JOBS_PER_WIDTH * per_job.sum())


def note(depth: int) -> str:
    descent, (rtol, atol) = DESCENT[depth], DOPRI5[depth]
    lines = [
        f"evaluations, errors: median and worst of all jobs. Error: the larger one of the layers, beside explicit Euler in "
        f"float64 with steps of {REFERENCE_STEP:g} / (largest eigenvalue of the kernel).",
        f"descent: float64, steps of {descent.fraction:g} / (largest eigenvalue), no layer moving by more than "
        f"{descent.motion:g} of its norm, re-tuned every {descent.every} steps, at most {descent.cap} steps.",
        f"dopri5: float64, rtol {rtol:g}, atol {atol:g}, at most {MAX_CALLS} calls and {MAX_SECONDS:g} s per batch; "
        "unfinished jobs count with what they took until then.",
    ]
    if depth == 2:
        lines.append(
            f"s per map: from the sample to {len(MAP_WIDTHS)} widths, 100 to 10,000, of {JOBS_PER_WIDTH} jobs each."
        )
    return "\n  ".join(lines)


def main(quick: bool = False) -> None:
    """Two layers, and three where the engine has them."""
    report(2, 4 if quick else 16, WIDTHS[2][: 2 if quick else 3])
    report(3, 2 if quick else 5, WIDTHS[3][: 2 if quick else 3])

"""Cost of the networks of condensation studies: python -m benchmarks.condensation [--quick]

Beside what one would write instead. Absolute times depend on the machine: compare the numbers of one run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from phasediag.condensation.activations import activation
from phasediag.condensation.descent import Schedule, Snapshot, descend
from phasediag.condensation.flow import integrate
from phasediag.condensation.networks import Networks, initial_weights

from .common import machine, percent, table, timed

Array = NDArray[np.float64]

NAMES = ("tanh", "sigmoid", "softplus", "x_tanh", "x2_tanh", "relu")
POINTS, INPUTS, NEURONS, STD, RATE = 80, 5, 50, 0.005, 1e-3
FLOW_TIME = 3.0
"""Later than tanh condenses, and about when x tanh does."""


def data(seed: int) -> tuple[Array, Array]:
    x = np.random.default_rng(seed).uniform(-4, 2, (POINTS, INPUTS))
    return x, np.sum(3.5 * np.sin(5 * x + 1), axis=1)


def drawn(names: Sequence[str], seeds: int, dtype: torch.dtype = torch.float64) -> Networks:
    """Networks of every activation and seed."""
    jobs = [(name, seed) for name in sorted(names) for seed in range(seeds)]
    return Networks.drawn(
        [data(seed) for _, seed in jobs],
        (NEURONS,),
        [(name,) for name, _ in jobs],
        False,
        [STD] * len(jobs),
        [seed for _, seed in jobs],
        dtype,
        "cpu",
    )


def loss_of(name: str, x: Tensor, y: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """R of one network of input weights (m, d+1) and output weights (m,), from the definition."""

    def loss(w: Tensor, a: Tensor) -> Tensor:
        return ((activation(name)(x @ w[:, :-1].T + w[:, -1]) @ a - y) ** 2).mean()

    return loss


def leaves(seed: int) -> list[Tensor]:
    w, a = initial_weights(INPUTS, (NEURONS,), seed)
    return [(STD * torch.from_numpy(part)).requires_grad_() for part in (w, a)]


def one_by_one(names: Sequence[str], seeds: int, epochs: int) -> None:
    """Every network by itself: autograd and torch.optim.Adam."""
    for name in names:
        for seed in range(seeds):
            x, y = (torch.from_numpy(part) for part in data(seed))
            weights, loss = leaves(seed), loss_of(name, x, y)
            optimiser = torch.optim.Adam(weights, lr=RATE)
            for _ in range(epochs):
                optimiser.zero_grad()
                loss(*weights).backward()  # type: ignore[no-untyped-call]
                optimiser.step()


def vectorised(names: Sequence[str], seeds: int, epochs: int) -> None:
    """All seeds of an activation at once: torch.func.vmap of the gradient, Adam on the stacked weights."""
    for name in names:
        x, y = (torch.from_numpy(np.stack(part)) for part in zip(*map(data, range(seeds)), strict=True))
        weights = [
            torch.stack(part).detach() for part in zip(*(leaves(seed) for seed in range(seeds)), strict=True)
        ]

        def loss(w: Tensor, a: Tensor, x: Tensor, y: Tensor, name: str = name) -> Tensor:
            return loss_of(name, x, y)(w, a)

        gradient: Any = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)))
        optimiser = torch.optim.Adam(weights, lr=RATE)
        for _ in range(epochs):
            for part, slope in zip(weights, gradient(*weights, x, y), strict=True):
                part.grad = slope
            optimiser.step()


def ours(names: Sequence[str], seeds: int, epochs: int, dtype: torch.dtype = torch.float64) -> None:
    """As in a sweep: chunks of jobs that fit into the cache."""
    networks = drawn(names, seeds, dtype)
    size = 2**17 // (POINTS * NEURONS)
    with torch.no_grad():
        for start in range(0, len(networks), size):
            jobs = list(range(start, min(start + size, len(networks))))
            descend(
                networks.select(jobs),
                "adam",
                Schedule(epochs, (epochs,), [RATE] * len(jobs)),
                lambda _: None,
            )


def training(seeds: int, epochs: int) -> None:
    ways: dict[str, Callable[[], None]] = {
        "phasediag, float64": lambda: ours(NAMES, seeds, epochs),
        "phasediag, float32": lambda: ours(NAMES, seeds, epochs, torch.float32),
        "vmap of grad, float64": lambda: vectorised(NAMES, seeds, epochs),
        "autograd, one by one, float64": lambda: one_by_one(NAMES, seeds, epochs),
    }
    seconds = {}
    for name, work in ways.items():
        work()  # whatever is set up once
        seconds[name] = timed(work)[1]
    unit = len(NAMES) * seeds * epochs * POINTS * NEURONS
    first = next(iter(seconds.values()))
    table(
        f"Adam: {len(NAMES) * seeds} networks of {NEURONS} neurons on {POINTS} points, {epochs} epochs",
        ["", "seconds", "ns per epoch, point and neuron", "ratio"],
        [[name, f"{s:.2f}", f"{s / unit * 1e9:.1f}", f"{s / first:.1f}"] for name, s in seconds.items()],
    )


def ends_of(name: str, seeds: int, accuracy: float) -> tuple[list[Array], list[int]]:
    """Input weights at the end of the flow, and evaluations, of every seed."""
    ends: dict[int, Array] = {}

    def observe(snapshot: Snapshot) -> None:
        for job, there in snapshot.jobs if snapshot.epoch else ():
            ends[job] = snapshot.networks.weights(snapshot.parameters, there)[0]

    networks = drawn([name], seeds)
    with torch.no_grad():
        evaluations = integrate(networks, Schedule(1, (0, 1), [FLOW_TIME] * seeds), accuracy, 10**6, observe)
    return [ends[job] for job in range(seeds)], evaluations


def descent_ends(name: str, seeds: int, steps: int) -> list[Array]:
    """The same by gradient descent in so many steps."""
    ends: list[Array] = []

    def observe(snapshot: Snapshot) -> None:
        if snapshot.epoch == steps:
            ends.extend(
                snapshot.networks.weights(snapshot.parameters, there)[0] for _, there in snapshot.jobs
            )

    with torch.no_grad():
        schedule = Schedule(steps, (0, steps), [FLOW_TIME / steps] * seeds)
        descend(drawn([name], seeds), "gd", schedule, observe)
    return ends


def scipy_ends(name: str, seeds: int, tolerance: float) -> tuple[list[Array], list[int]]:
    """The same by scipy's Runge-Kutta, network by network."""
    ends, evaluations = [], []
    for seed in range(seeds):
        x, y = (torch.from_numpy(part) for part in data(seed))
        loss, start = loss_of(name, x, y), leaves(seed)
        shape, split = start[0].shape, start[0].numel()

        def slope(
            _: float,
            theta: Array,
            loss: Callable[[Tensor, Tensor], Tensor] = loss,
            split: int = split,
            shape: torch.Size = shape,
        ) -> Array:
            parts = (
                torch.from_numpy(theta[:split].copy()).reshape(shape),
                torch.from_numpy(theta[split:].copy()),
            )
            gradient = torch.autograd.grad(loss(*(part.requires_grad_() for part in parts)), parts)
            return -np.concatenate([part.numpy().ravel() for part in gradient])

        theta = np.concatenate([part.detach().numpy().ravel() for part in start])
        found = solve_ivp(
            slope, (0, FLOW_TIME), theta, "RK45", rtol=tolerance, atol=tolerance * STD, t_eval=[FLOW_TIME]
        )
        ends.append(found.y[:split, -1].reshape(shape))
        evaluations.append(found.nfev)
    return ends, evaluations


def flow(seeds: int, steps_of_descent: Sequence[int]) -> None:
    rows = []
    for name in ("tanh", "x_tanh", "relu"):
        # On the kinks of ReLU the flow slides, and no tolerance is met for long: small steps get there.
        smooth = name != "relu"
        exact = (
            ends_of(name, seeds, 1e-8)[0] if smooth else descent_ends(name, seeds, 8 * steps_of_descent[-1])
        )

        def error(ends: Sequence[Array], exact: Sequence[Array] = exact) -> str:
            apart = [np.linalg.norm(e - x) / np.linalg.norm(x) for e, x in zip(ends, exact, strict=True)]
            return percent(float(np.median(apart)))

        for accuracy in (1e-3, 1e-4):
            (ends, evaluations), seconds = timed(lambda n=name, a=accuracy: ends_of(n, seeds, a))  # type: ignore[misc]
            rows.append(
                [
                    name,
                    f"phasediag, accuracy {accuracy:g}",
                    _count(evaluations),
                    error(ends),
                    f"{seconds:.2f}",
                ]
            )
        (ends, evaluations), seconds = timed(lambda n=name: scipy_ends(n, seeds, 1e-4))  # type: ignore[misc]
        rows.append([name, "scipy RK45, rtol 1e-4", _count(evaluations), error(ends), f"{seconds:.2f}"])
        for steps in steps_of_descent:
            ends, seconds = timed(lambda n=name, k=steps: descent_ends(n, seeds, k))  # type: ignore[misc]
            rows.append([name, f"gradient descent, {steps} steps", str(steps), error(ends), f"{seconds:.2f}"])
    table(
        f"Gradient flow to time {FLOW_TIME:g}: {seeds} networks of {NEURONS} neurons on {POINTS} points, std {STD}",
        ["activation", "method", "evaluations", "error of input weights", "seconds"],
        rows,
        "evaluations and error: medians over the seeds; the error is that against accuracy 1e-8, or for relu against "
        f"{8 * steps_of_descent[-1]} steps of descent",
    )


def _count(evaluations: Sequence[int]) -> str:
    return f"{np.median(evaluations):.0f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="a few small jobs: does it run?")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    print(machine())
    training(seeds=3 if quick else 20, epochs=10 if quick else 100)
    flow(seeds=2 if quick else 10, steps_of_descent=(50, 100) if quick else (500, 4000))


if __name__ == "__main__":
    main()

"""Looks at networks within their steps."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from phasediag.engine.descent import Networks, descend
from phasediag.engine.descent import Settings as OfDescent
from phasediag.engine.flow import Settings, integrate
from phasediag.engine.networks import Changes, Initialisation, Outcome
from phasediag.engine.relu_cpu import ReluNetworkCPU
from phasediag.engine.relu_gpu import ReluNetworkGPU
from phasediag.engine.visits import Visits

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
CASES = [
    (2, 60, 1.5, False),
    (2, 10**9, 1.75, False),
    (3, 60, 2.2, False),
    (4, 10**9, 2.4, False),
    (2, 10**9, 1.75, True),
    (3, 60, 2.2, True),
]
"""Depth, width, gamma, and whether it is the code of a GPU that moves the networks."""


def followed(depth: int, width: int, gamma: float, visits: Visits[Any] | None, gpu: bool = False) -> Outcome:
    start = [Initialisation(width, gamma, 0.1, 0.0, 0)]
    network = (
        ReluNetworkGPU.initialised(X, Y, depth, 60, start, "float64", "cpu")
        if gpu
        else ReluNetworkCPU.initialised(X, Y, depth, 60, start, "float64")
    )
    return integrate(
        network,
        Settings(loss_tolerance=1e-3, max_evaluations=12 if gpu else 20_000),
        trace=True,
        visitor=visits,
    )


def norms(_: float, __: float, change: Changes) -> dict[str, float]:
    return {layer: float(np.linalg.norm(np.asarray(moved))) for layer, moved in change.items()}


@pytest.mark.parametrize(("depth", "width", "gamma", "gpu"), CASES)
def test_a_training_that_is_looked_at_stays_the_same(depth: int, width: int, gamma: float, gpu: bool) -> None:
    alone = followed(depth, width, gamma, None, gpu)
    times = np.array([moment.time for moment in alone.trace[0]])
    visits = Visits(list(np.sort(np.append(times[1:], (times[1:] + 2 * times[:-1]) / 3))), norms)
    visited = followed(depth, width, gamma, visits, gpu)
    assert len(visits.seen) == 2 * len(times) - 2
    assert visited.trace == alone.trace
    for layer, change in alone.changes[0].items():
        np.testing.assert_array_equal(np.asarray(visited.changes[0][layer]), np.asarray(change))


@pytest.mark.parametrize(("depth", "width", "gamma", "gpu"), CASES)
def test_at_the_end_of_a_step_the_network_is_where_the_step_ends(
    depth: int, width: int, gamma: float, gpu: bool
) -> None:
    alone = followed(depth, width, gamma, None, gpu)
    trace = alone.trace[0]
    visits = Visits([moment.time for moment in trace[1:]], norms)
    followed(depth, width, gamma, visits, gpu)
    for seen, moment in zip(visits.seen, trace[1:], strict=True):
        for layer in ("W1", "a"):
            expected = moment.moved[layer] / np.sqrt(width / 60)
            assert seen[layer] == pytest.approx(expected, rel=1e-4)
    for layer, change in alone.changes[0].items():
        assert visits.seen[-1][layer] == pytest.approx(np.linalg.norm(np.asarray(change)), rel=1e-4)


def test_within_a_step_it_is_where_small_steps_of_gradient_descent_are() -> None:
    """Whose own visits are at the same times. Each neuron is compared: a third of the steps of the flow turn it by a radian."""
    step, width = 20.0, 60
    times = list(step * np.unique(np.geomspace(20, 6000, 30).round()))

    def weights(_: float, __: float, change: Changes) -> np.ndarray:
        return np.asarray(change["W1"]).astype(float)

    by_flow = Visits(times, weights)
    followed(2, width, 1.5, by_flow)
    small = Visits(times, weights)
    networks = Networks.from_exponents(2, width, X, Y, [(1.5, 0.1, 0.0, 0)], torch.float64, "cpu")
    rate = float(networks.rates["a"][0])
    descend(networks, OfDescent("gd", step / rate, 1e-3, 10_000), visits=small)
    together = min(len(by_flow.seen), len(small.seen))
    assert together > 25
    for one, other in zip(by_flow.seen[:together], small.seen, strict=False):
        assert np.linalg.norm(one - other) < 0.03 * np.linalg.norm(other)


def test_visits_begin_again_with_the_training() -> None:
    visits = Visits([1.0, 2.0, 2.5], lambda time, *_: time)
    for _ in range(2):
        visits.begin()
        for time in (0.5, 2.0, 2.2):
            visits.at(time, 0.0, dict)
        assert visits.seen == [1.0, 2.0]

"""Fully connected networks and their training, against the definitions, torch's own optimisers and scipy's integrators."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.integrate import solve_ivp
from torch import Tensor

from phasediag.condensation.activations import activation
from phasediag.condensation.descent import Losses, Schedule, Snapshot, descend, normalised
from phasediag.condensation.flow import integrate
from phasediag.condensation.networks import Networks, initial_weights

pytestmark = pytest.mark.usefixtures("one_thread")

Array = NDArray[np.float64]
NAMES = ["tanh", "x_tanh", "x2_tanh", "sigmoid", "softplus", "relu"]
SMOOTH = NAMES[:-1]


def data(points: int, inputs: int, seed: int) -> tuple[Array, Array]:
    generator = np.random.default_rng(seed)
    x = generator.uniform(-2, 2, (points, inputs))
    return x, np.sin(3 * x).sum(axis=1)


def networks(
    jobs: int,
    points: int = 12,
    inputs: int = 2,
    hidden: tuple[int, ...] = (7,),
    residual: bool = False,
    std: float = 0.4,
    dtype: torch.dtype = torch.float64,
    names: Sequence[str] = NAMES,
) -> Networks:
    activations = sorted((names[job % len(names)],) * len(hidden) for job in range(jobs))
    pairs = [data(points, inputs, job) for job in range(jobs)]
    return Networks.drawn(pairs, hidden, activations, residual, [std] * jobs, list(range(jobs)), dtype, "cpu")


def residual_of(nets: Networks, job: int, weights: list[Tensor]) -> Tensor:
    """e (n,) of one job from the definition, with W_l (m, k), the bias last, and a (m,)."""
    x, y = data(nets.y.shape[1], nets.inputs, job)
    h = torch.from_numpy(x)
    for layer, w in enumerate(weights[:-1]):
        activated = activation(nets.activations[job][layer])(h @ w[:, :-1].T + w[:, -1])
        h = activated + h if nets.residual and layer else activated
    return h @ weights[-1] - torch.from_numpy(y)


def start_of(nets: Networks, job: int, std: float = 0.4) -> list[Tensor]:
    return [std * torch.from_numpy(part) for part in initial_weights(nets.inputs, nets.hidden, job)]


ARCHITECTURES = [((7,), False), ((5, 3), False), ((4, 4, 4), True), ((16,), False)]


@pytest.mark.parametrize(("hidden", "skips"), ARCHITECTURES)
def test_residual_and_gradient_are_those_of_the_definition(hidden: tuple[int, ...], skips: bool) -> None:
    nets = networks(6, hidden=hidden, residual=skips)
    residual, gradient = nets.gradient(nets.start)
    for job in range(6):
        leaves = [part.requires_grad_() for part in start_of(nets, job)]
        e = residual_of(nets, job, leaves)
        torch.testing.assert_close(residual[job], e.detach(), rtol=1e-12, atol=1e-13)
        (e.square().mean()).backward()  # type: ignore[no-untyped-call]
        for ours, leaf in zip(nets.weights(gradient, job), leaves, strict=True):
            assert leaf.grad is not None
            np.testing.assert_allclose(ours, leaf.grad.numpy(), rtol=1e-9, atol=1e-13)


def test_the_gradient_of_padding_is_zero() -> None:
    nets = networks(6, hidden=(5, 3))
    _, gradient = nets.gradient(nets.start)
    counted = sum(float(np.square(part).sum()) for job in range(6) for part in nets.weights(gradient, job))
    assert sum(float(part.square().sum()) for part in gradient) == pytest.approx(counted)


def test_initial_weights_are_the_same_for_every_scale_activation_and_data() -> None:
    nets = Networks.drawn(
        [data(12, 2, 0), data(12, 2, 1)],
        (7,),
        [("tanh",), ("relu",)],
        False,
        [1.0, 0.01],
        [3, 3],
        torch.float64,
        "cpu",
    )
    for first, second in zip(nets.weights(nets.start, 0), nets.weights(nets.start, 1), strict=True):
        np.testing.assert_array_equal(0.01 * first, second)


def test_initial_weights_are_standard_normal_and_change_with_everything_else() -> None:
    first, second = initial_weights(4, [300, 200], 0)[:2]
    assert first.shape == (300, 5) and second.shape == (200, 301)
    for part in (first, second):
        assert abs(part.mean()) < 5 / math.sqrt(part.size)
        assert abs(part.std() - 1) < 5 / math.sqrt(2 * part.size)
    assert not np.array_equal(initial_weights(4, [300, 200], 1)[0], first)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("points", "inputs", "hidden"),
    [(80, 5, (50,)), (40, 1, (100,)), (33, 2, (7,)), (7, 3, (18, 18, 18)), (64, 50, (30,)), (1, 1, (3,))],
)
def test_a_job_does_not_depend_on_its_batch_to_the_last_bit(
    points: int, inputs: int, hidden: tuple[int, ...], dtype: torch.dtype
) -> None:
    nets = networks(13, points, inputs, hidden, residual=len(hidden) > 1, std=0.1, dtype=dtype)
    residual, gradient = nets.gradient(nets.start)
    for jobs in ([0, 1], [5, 9], [3, 12, 12], [0, 4, 8, 11, 12, 2], list(range(12, -1, -1))):
        some = nets.select(jobs)
        e, g = some.gradient(some.start)
        for place, job in enumerate(jobs):
            assert torch.equal(e[place], residual[job])
            assert all(torch.equal(p[place], q[job]) for p, q in zip(g, gradient, strict=True))


# Fixed steps.


def train(nets: Networks, method: str, epochs: int, rates: list[float], *snapshots: int) -> list[Snapshot]:
    """Copies of all snapshots."""
    seen: list[Snapshot] = []

    def observe(snapshot: Snapshot) -> None:
        seen.append(snapshot._replace(parameters=[part.clone() for part in snapshot.parameters]))

    descend(nets, method, Schedule(epochs, sorted({0, *snapshots, epochs}), rates), observe)
    return seen


@pytest.mark.parametrize(
    ("method", "optimiser"),
    [("adam", torch.optim.Adam), ("gd", torch.optim.SGD)],
)
@pytest.mark.parametrize(("hidden", "skips"), [((7,), False), ((4, 4, 4), True)])
def test_steps_are_those_of_torch(
    method: str, optimiser: Callable[..., torch.optim.Optimizer], hidden: tuple[int, ...], skips: bool
) -> None:
    rates = [1e-2, 3e-3, 1e-2, 5e-3, 1e-2, 2e-2]
    nets = networks(6, hidden=hidden, residual=skips)
    *_, last = train(nets, method, 20, rates)
    for job in range(6):
        leaves = [part.requires_grad_() for part in start_of(nets, job)]
        steps = optimiser(leaves, lr=rates[job])
        for _ in range(20):
            steps.zero_grad()
            residual_of(nets, job, leaves).square().mean().backward()  # type: ignore[no-untyped-call]
            steps.step()
        for ours, leaf in zip(nets.weights(last.parameters, job), leaves, strict=True):
            np.testing.assert_allclose(ours, leaf.detach().numpy(), rtol=1e-8, atol=1e-11)


def test_one_step_of_gradient_descent_by_hand() -> None:
    """One point, one neuron: f = a tanh(w x + b), R = (f - y)^2."""
    x, y, rate = 0.5, 2.0, 0.1
    pair = np.array([[x]]), np.array([y])
    nets = Networks.drawn([pair, pair], (1,), [("tanh",)] * 2, False, [0.3] * 2, [0, 0], torch.float64, "cpu")
    [[w, b]], [a] = (0.3 * part for part in initial_weights(1, (1,), 0))
    f = a * math.tanh(w * x + b)
    slope = 2 * (f - y) * a * (1 - math.tanh(w * x + b) ** 2)
    *_, last = train(nets, "gd", 1, [rate] * 2)
    layer, output = nets.weights(last.parameters, 0)
    np.testing.assert_allclose(layer, [[w - rate * slope * x, b - rate * slope]], rtol=1e-12)
    np.testing.assert_allclose(output, [a - rate * 2 * (f - y) * math.tanh(w * x + b)], rtol=1e-12)


@pytest.mark.parametrize("hidden", [(7,), (5, 3)])
def test_normalised_steps_have_one_length_and_the_direction_of_the_gradient(hidden: tuple[int, ...]) -> None:
    nets = networks(6, hidden=hidden)
    _, gradient = nets.gradient(nets.start)
    units = normalised(gradient)
    for job in range(6):
        *layers, output = nets.weights(units, job)
        of_gradient = nets.weights(gradient, job)
        neurons = [*layers[:-1], np.column_stack([layers[-1], output])]
        theirs = [*of_gradient[:-2], np.column_stack([of_gradient[-2], of_gradient[-1]])]
        for unit, whole in zip(neurons, theirs, strict=True):
            moving = np.linalg.norm(whole, axis=1) > 0
            np.testing.assert_allclose(np.linalg.norm(unit[moving], axis=1), 1.0, rtol=1e-12)
            assert not unit[~moving].any()
            cosine = np.sum(unit * whole, axis=1)[moving] / np.linalg.norm(whole[moving], axis=1)
            np.testing.assert_allclose(cosine, 1.0, rtol=1e-12)


def test_normalised_steps_of_tiny_and_of_zero_gradients() -> None:
    tiny = [torch.full((2, 16, 32), 1e-160, dtype=torch.float64), torch.zeros(2, 32, 1, dtype=torch.float64)]
    layer, output = normalised(tiny)
    torch.testing.assert_close(layer, torch.full_like(layer, 0.25))
    assert not output.any()
    assert not normalised([torch.zeros(2, 16, 32), torch.zeros(2, 32, 1)])[0].any()


def test_snapshots_are_where_they_were_asked_for() -> None:
    seen = train(networks(3), "adam", 10, [1e-3] * 3, 2, 7)
    assert [snapshot.epoch for snapshot in seen] == [0, 2, 7, 10]
    assert all(snapshot.jobs == [(0, 0), (1, 1), (2, 2)] for snapshot in seen)


def test_a_job_that_diverges_leaves_the_others_alone() -> None:
    nets = networks(6)
    alone = train(nets, "gd", 30, [1e-2] * 6)[-1]
    beside = train(nets, "gd", 30, [1e-2, 1e9, 1e-2, 1e-2, 1e-2, 1e-2])[-1]
    assert not torch.isfinite(beside.residual[1]).all()
    for job in (0, 2, 3, 4, 5):
        assert all(
            torch.equal(p[job], q[job]) for p, q in zip(alone.parameters, beside.parameters, strict=True)
        )


# The flow.


def flow(
    nets: Networks,
    schedule: Schedule,
    accuracy: float = 1e-5,
    limit: int = 10**6,
    losses: Losses | None = None,
) -> tuple[dict[tuple[int, int], list[NDArray[np.float64]]], list[int]]:
    """The weights by (job, epoch), and the evaluations."""
    seen = {}

    def observe(snapshot: Snapshot) -> None:
        for job, there in snapshot.jobs:
            seen[job, snapshot.epoch] = snapshot.networks.weights(snapshot.parameters, there)

    return seen, integrate(nets, schedule, accuracy, limit, observe, losses)


def reference(nets: Networks, job: int, times: list[float], std: float) -> list[Array]:
    """All weights of a job, one after the other, at some times: scipy's integrator on the definition."""
    start = start_of(nets, job, std)

    def split(theta: Array) -> list[Tensor]:
        parts = np.split(theta, np.cumsum([part.numel() for part in start])[:-1])
        return [
            torch.from_numpy(part.copy()).reshape(whole.shape)
            for part, whole in zip(parts, start, strict=True)
        ]

    def slope(_: float, theta: Array) -> Array:
        leaves = [part.requires_grad_() for part in split(theta)]
        residual_of(nets, job, leaves).square().mean().backward()  # type: ignore[no-untyped-call]
        return -np.concatenate([np.asarray(leaf.grad).ravel() for leaf in leaves])

    theta = np.concatenate([part.numpy().ravel() for part in start])
    found = solve_ivp(slope, (0, times[-1]), theta, "DOP853", times, rtol=1e-9, atol=1e-12)
    return list(found.y.T)


@pytest.mark.parametrize(
    ("hidden", "skips", "std"), [((7,), False, 0.01), ((4, 4), True, 0.05), ((5, 3), False, 0.3)]
)
def test_the_flow_is_that_of_an_independent_integrator(
    hidden: tuple[int, ...], skips: bool, std: float
) -> None:
    nets = networks(5, hidden=hidden, residual=skips, std=std, names=SMOOTH)
    epochs, rate = [0, 10, 100, 400], 0.01
    seen, _ = flow(nets, Schedule(400, epochs, [rate] * 5))
    for job in range(5):
        expected = reference(nets, job, [rate * epoch for epoch in epochs], std)
        for epoch, theta in zip(epochs, expected, strict=True):
            ours = np.concatenate([part.ravel() for part in seen[job, epoch]])
            assert np.linalg.norm(ours - theta) < 1e-3 * np.linalg.norm(theta)


def test_the_flow_of_relu_is_that_of_many_small_steps() -> None:
    nets = networks(3, std=0.1, names=["relu"])
    seen, _ = flow(nets, Schedule(400, [0, 400], [0.01] * 3), 1e-4)
    *_, last = train(nets, "gd", 8000, [0.0005] * 3)
    for job in range(3):
        for ours, theirs in zip(seen[job, 400], nets.weights(last.parameters, job), strict=True):
            assert np.linalg.norm(ours - theirs) < 0.005 * np.linalg.norm(theirs)


def test_the_error_of_the_flow_follows_its_accuracy() -> None:
    nets = networks(5, std=0.4, names=SMOOTH)
    schedule = Schedule(300, [0, 300], [0.01] * 5)
    exact, _ = flow(nets, schedule, 1e-9)
    accuracies, errors, counts = [1e-2, 1e-3, 1e-4, 1e-5, 1e-6], [], []
    for accuracy in accuracies:
        seen, evaluations = flow(nets, schedule, accuracy)
        errors.append([np.abs(seen[job, 300][0] - exact[job, 300][0]).max() for job in range(5)])
        counts.append(evaluations)
    orders = np.polyfit(np.log(accuracies), np.log(errors), 1)[0]
    assert np.all((orders > 0.8) & (orders < 1.4))
    # Of order five: a tenth of the error for at most 1.6 times the evaluations, fewer where stability limits steps.
    growth = np.polyfit(np.log10(accuracies), np.log10(counts), 1)[0]
    assert np.all((growth < -0.05) & (growth > -0.22))


def test_gradient_descent_with_small_steps_is_the_flow() -> None:
    nets = networks(5, std=0.1, names=SMOOTH)
    seen, _ = flow(nets, Schedule(50, [0, 50], [0.01] * 5), 1e-7)
    apart = []
    for finer in (4, 8):
        *_, last = train(nets, "gd", 50 * finer, [0.01 / finer] * 5)
        apart.append(np.abs(nets.weights(last.parameters, 3)[0] - seen[3, 50][0]).max())
    assert apart[0] / apart[1] == pytest.approx(2.0, abs=0.15)  # Euler is of first order


def test_jobs_of_a_flow_do_not_depend_on_their_batch() -> None:
    nets = networks(6, std=0.1)
    schedule = Schedule(100, [0, 30, 100], [0.01, 0.02, 0.05, 0.01, 0.1, 0.01])
    together, evaluations = flow(nets, schedule, 1e-3)
    for job in range(6):
        other = (job + 1) % 6
        rates = [schedule.rates[job], schedule.rates[other]]
        alone, count = flow(nets.select([job, other]), Schedule(100, [0, 30, 100], rates), 1e-3)
        assert count[0] == evaluations[job]
        for epoch in (0, 30, 100):
            assert all(
                np.array_equal(p, q) for p, q in zip(alone[0, epoch], together[job, epoch], strict=True)
            )


def test_a_flow_ends_at_its_limit_with_the_snapshots_it_reached() -> None:
    nets = networks(6, std=0.1)
    seen, evaluations = flow(nets, Schedule(10**7, [0, 1, 10**7], [0.01] * 6), 1e-3, limit=300)
    assert all((job, 1) in seen and (job, 10**7) not in seen for job in range(6))
    assert all(300 <= count < 300 + 6 for count in evaluations)


def test_the_loss_along_a_flow_never_grows() -> None:
    nets = networks(6, std=0.1)
    losses: Losses = [([], []) for _ in range(6)]
    flow(nets, Schedule(300, [0, 300], [0.01] * 6), 1e-4, losses=losses)
    for epochs, values in losses:
        assert epochs[0] == 0 and epochs[-1] == pytest.approx(300)
        assert np.all(np.diff(epochs) > 0)
        assert np.all(np.diff(values) <= 1e-6 * values[0])

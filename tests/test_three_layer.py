"""Three-layer networks: against their definition, the independent reference, theory, and where there is nothing good to find."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from reference import Reference, small_step_flow_deep
from tensor_networks.three_layer import ThreeLayer

from phasediag.engine import relu_cpu
from phasediag.engine.flow import Network, Settings, integrate
from phasediag.engine.measures import frobenius
from phasediag.engine.networks import Initialisation, Outcome, initial_weights
from phasediag.engine.relu_cpu import ReluNetworkCPU

pytestmark = pytest.mark.usefixtures("one_thread")

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
JOBS = [(1.0, 0.2, 0.0, 3), (1.6, -0.3, 0.1, 3), (2.2, 0.0, 0.0, 4)]
WIDTH = 40
LAYERS = ("W1", "W2", "a")


@pytest.fixture
def network() -> ThreeLayer:
    return ThreeLayer.from_exponents(X, Y, WIDTH, JOBS, torch.float64, "cpu")


Job = tuple[float, float, float, int]


def compiled(x: np.ndarray, y: np.ndarray, width: int, jobs: list[Job], dtype: str) -> ReluNetworkCPU:
    return ReluNetworkCPU.initialised(x, y, 3, width, [Initialisation(width, *job) for job in jobs], dtype)


Kind = Callable[[np.ndarray, np.ndarray, int, list[Job], str], Network]
KINDS: dict[str, Kind] = {"cpu": compiled}


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """The networks of both engines in turn: whatever asks for them holds for each."""
    return KINDS[request.param]


def outcome(
    kind: Kind,
    points: list[tuple[float, float]],
    x: np.ndarray = X,
    y: np.ndarray = Y,
    width: int = 100,
    **settings: float,
) -> Outcome:
    jobs = [(*point, 0.0, 0) for point in points]
    return integrate(kind(x, y, width, jobs, "float32"), Settings(**settings))  # type: ignore[arg-type]


def relative_changes(result: Outcome, width: int, inputs: int = 1) -> np.ndarray:
    """(jobs, 3), by layer."""
    start = dict(zip(LAYERS, initial_weights(3, width, inputs, 0), strict=True))
    return np.array(
        [
            [frobenius(np.asarray(change[layer])) / frobenius(start[layer]) for layer in LAYERS]
            for change in result.changes
        ]
    )


def gradients(gamma: float, weights: tuple[np.ndarray, ...]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """f (n,) and, by layer, the derivatives of f (n, ...) from automatic differentiation of the definition."""
    w1, w2, a = (torch.from_numpy(part).requires_grad_() for part in weights)
    one = torch.ones(len(X), 1, dtype=torch.float64)
    h1 = torch.relu(torch.cat([torch.from_numpy(X), one], dim=1) @ w1.T)
    f = WIDTH**-gamma * torch.relu(torch.cat([h1, one], dim=1) @ w2.T) @ a
    rows = [torch.autograd.grad(value, (w1, w2, a), retain_graph=True) for value in f]
    by_layer = {layer: np.stack([row[k].numpy() for row in rows]) for k, layer in enumerate(LAYERS)}
    return f.detach().numpy(), by_layer


def rates(gamma_prime: float, gamma_1: float) -> dict[str, float]:
    return {"W1": WIDTH ** (-2 * gamma_prime), "W2": WIDTH ** (-2 * gamma_1), "a": 1.0}


def test_residual_and_kernels_are_those_of_the_definition(network: ThreeLayer) -> None:
    residual, kernels = network.evaluate(network.start())
    for job, (gamma, gamma_prime, gamma_1, seed) in enumerate(JOBS):
        f, derivative = gradients(gamma, initial_weights(3, WIDTH, 1, seed))
        np.testing.assert_allclose(residual[job], f - Y, rtol=1e-12, atol=1e-13)
        for layer, rate in rates(gamma_prime, gamma_1).items():
            flat = derivative[layer].reshape(len(X), -1)
            kernel = rate * flat @ flat.T / len(X)
            # Points that share no neuron have the kernel 0, up to rounding.
            np.testing.assert_allclose(kernels[layer][job], kernel, rtol=1e-10, atol=1e-14 * kernel.max())


def test_a_small_move_is_one_step_of_gradient_descent(network: ThreeLayer) -> None:
    impulse = 1e-7 * torch.tensor([[0.3, -0.2, 0.5, -0.7]], dtype=torch.float64).expand(3, 4)
    start, steady = network.start(), torch.zeros(3, 4, dtype=torch.float64)
    move = network.move(start, network.path(start, steady[:, 0]), impulse, steady)
    weights = network.commit(torch.ones(3, dtype=torch.bool), move.weights, start)
    for job, (gamma, gamma_prime, gamma_1, seed) in enumerate(JOBS):
        _, derivative = gradients(gamma, initial_weights(3, WIDTH, 1, seed))
        changes = network.changes(weights, job)
        for layer, rate in rates(gamma_prime, gamma_1).items():
            step = -rate / len(X) * np.tensordot(impulse[job].numpy(), derivative[layer], axes=1)
            np.testing.assert_allclose(changes[layer], step, rtol=1e-4, atol=1e-6 * np.abs(step).max())


@cache
def small_steps(point: tuple[float, float], tolerance: float) -> Reference:
    """The reference at width 80: integrated once, for both engines."""
    weights = initial_weights(3, 80, 1, 0)
    return small_step_flow_deep(X, Y, *point, 0.0, weights, step=0.05, loss_tolerance=tolerance, reach=100.0)


@pytest.mark.parametrize(
    ("point", "tolerance"), [((0.9, 0.4), 1e-6), ((1.5, 0.2), 1e-4), ((2.0, 0.25), 1e-4), ((2.5, 0.6), 1e-4)]
)
def test_relative_changes_agree_with_the_small_step_reference(
    kind: Kind, point: tuple[float, float], tolerance: float
) -> None:
    result = outcome(kind, [point], width=80, loss_tolerance=tolerance)
    expected = small_steps(point, tolerance)
    assert result.status == ["converged"]
    np.testing.assert_allclose(relative_changes(result, 80)[0], expected.changes, rtol=0.015)


POINTS = [(0.9, 0.3), (1.5, 0.25), (2.0, 0.5), (2.5, 0.8)]


def test_the_result_does_not_depend_on_the_other_jobs(kind: Kind) -> None:
    together = outcome(kind, POINTS, loss_tolerance=1e-4)
    for index, point in enumerate(POINTS):
        alone = outcome(kind, [point], loss_tolerance=1e-4)
        assert alone.evaluations == [together.evaluations[index]]
        torch.testing.assert_close(alone.changes[0], together.changes[index], rtol=1e-6, atol=1e-7)


def test_factors_are_folded_without_a_trace(kind: Kind, monkeypatch: pytest.MonkeyPatch) -> None:
    late = relative_changes(outcome(kind, POINTS[:2], loss_tolerance=1e-3, accuracy=0.003), 100)
    monkeypatch.setattr(relu_cpu, "MAX_FACTORS", 4)
    np.testing.assert_allclose(
        relative_changes(outcome(kind, POINTS[:2], loss_tolerance=1e-3, accuracy=0.003), 100), late, rtol=2e-3
    )


def test_slopes_have_the_predicted_signs(kind: Kind) -> None:
    """Both layers at (1, 0.3) linear; at (2.5, 0.1) the first one condensed."""
    small, large = (
        relative_changes(
            outcome(kind, [(1.0, 0.3), (2.5, 0.1)], width=width, loss_tolerance=1e-3, accuracy=0.05), width
        )
        for width in (64, 256)
    )
    slopes = np.log(large / small) / np.log(4)
    assert (slopes[0, :2] < -0.3).all()
    assert slopes[1, 0] > 0.1


def test_degenerate_data_end_honestly(kind: Kind) -> None:
    assert outcome(kind, [(1.0, 0.3)], X[:1], Y[:1], width=50).status == ["converged"]
    twice = outcome(kind, [(1.0, 0.3)], X[[0, 0, 2]], Y[[0, 0, 2]], width=50)
    assert twice.status == ["converged"]
    torn = outcome(kind, [(1.0, 0.3)], X[[0, 0, 2]], np.array([0.3, 0.5, -0.2]), width=50)
    assert torn.status == ["stalled"]
    np.testing.assert_allclose(torn.loss_final, 2 * 0.1**2 / 6, rtol=1e-3)


def test_non_finite_initial_weights_diverge_alone(kind: Kind) -> None:
    network = kind(X, Y, 50, [(1.0, 0.3, 0.0, 0), (1.0, 0.3, 0.0, 1)], "float32")
    assert isinstance(network, ReluNetworkCPU)
    network._state.matrices[0][0, 0, 0] = np.nan
    result = integrate(network, Settings(loss_tolerance=1e-3))
    assert result.status == ["diverged", "converged"]

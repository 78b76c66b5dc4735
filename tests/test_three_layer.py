"""Three-layer networks: against their definition, the independent reference, theory, and where there is nothing good to find."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from reference import Reference, small_step_flow_three_layer

from phasediag.engine import three_layer, three_layer_cpu
from phasediag.engine.flow import Settings, integrate
from phasediag.engine.measures import frobenius
from phasediag.engine.networks import MAX_ROTATION, Network, Outcome, Trial, initial_weights
from phasediag.engine.three_layer import ThreeLayer
from phasediag.engine.three_layer_cpu import ThreeLayerCPU

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


def tensors(x: np.ndarray, y: np.ndarray, width: int, jobs: list[Job], dtype: str) -> ThreeLayer:
    return ThreeLayer.from_exponents(x, y, width, jobs, getattr(torch, dtype), "cpu")


Kind = Callable[[np.ndarray, np.ndarray, int, list[Job], str], Network]
KINDS: dict[str, Kind] = {"tensors": tensors, "cpu": ThreeLayerCPU.from_exponents}


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
            [frobenius(change[layer]) / frobenius(start[layer]) for layer in LAYERS]
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
    return small_step_flow_three_layer(
        X, Y, *point, 0.0, *weights, step=0.05, loss_tolerance=tolerance, reach=100.0
    )


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
    late = relative_changes(outcome(kind, POINTS[:2], loss_tolerance=1e-3), 100)
    monkeypatch.setattr(three_layer, "MAX_FACTORS", 4)
    monkeypatch.setattr(three_layer_cpu, "MAX_FACTORS", 4)
    np.testing.assert_allclose(
        relative_changes(outcome(kind, POINTS[:2], loss_tolerance=1e-3), 100), late, rtol=2e-3
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
    assert isinstance(network, ThreeLayer | ThreeLayerCPU)
    weights = network.w2 if isinstance(network, ThreeLayer) else network._state.w2_start
    weights[0, 0, 0] = np.nan
    result = integrate(network, Settings(loss_tolerance=1e-3))
    assert result.status == ["diverged", "converged"]


@pytest.fixture
def compiled() -> ThreeLayerCPU:
    return ThreeLayerCPU.from_exponents(X, Y, WIDTH, JOBS, "float64")


def step(network: ThreeLayerCPU, impulse: np.ndarray, tolerance: float = 1e-3) -> Trial:
    """A steady step of all networks under ``impulse`` (n,) or (B, n)."""
    pieces = np.broadcast_to(impulse, (len(JOBS), len(X)))[:, None] / network.pieces
    pieces = np.repeat(pieces, network.pieces, axis=1)
    first, ahead = np.zeros(len(JOBS), dtype=np.int64), np.ones(len(JOBS))
    return network.trial(first, ahead, pieces, np.zeros_like(pieces), tolerance)


def test_the_compiled_pass_starts_and_moves_like_the_tensors(
    compiled: ThreeLayerCPU, network: ThreeLayer
) -> None:
    """A move without kinks, to the last digits; that of W1 but for what the next step pays."""
    start, expected = compiled.begin(), network.begin()
    np.testing.assert_allclose(start.residual, expected.residual, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(start.kernels, expected.kernels, rtol=1e-9, atol=1e-15)
    impulse = 1e-3 * np.array([0.3, -0.2, 0.5, -0.7])
    trial = step(compiled, impulse)
    still = np.zeros((len(JOBS), 1, len(X)))
    steady = np.zeros(len(JOBS), dtype=np.int64), np.zeros(len(JOBS)), still + impulse, still
    moved = network.trial(*steady, 1e-3)
    np.testing.assert_allclose(trial.residual, moved.residual, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(trial.travelled, moved.travelled, rtol=1e-9)
    for one in (compiled, network):
        one.accept(np.ones(len(JOBS), dtype=bool))
    for job in range(len(JOBS)):
        for layer, tolerance in (("W1", 1e-4), ("W2", 1e-9), ("a", 1e-9)):
            change, expected_change = compiled.change(job)[layer], network.change(job)[layer]
            assert frobenius(change - expected_change) < tolerance * frobenius(expected_change)


@pytest.mark.parametrize(
    ("impulse", "compared"),
    [
        ((3.0, -2.0, 5.0, -7.0), {"W1": [2], "W2": [1, 2], "a": [0, 1, 2]}),
        ((1.0, -0.7, 1.6, -2.3), {"W1": [1, 2], "W2": [1, 2], "a": [0, 1, 2]}),
    ],
)
def test_the_compiled_evaluation_is_that_of_the_definition(
    compiled: ThreeLayerCPU, impulse: tuple[float, ...], compared: dict[str, list[int]]
) -> None:
    """Residual and kernels after steps that crossed kinks; those of W1 and W2 where no neuron is held on one, in the jobs ``compared``."""
    compiled.begin()
    state, seen = compiled._state, dict[str, list[int]]({layer: [] for layer in LAYERS})
    before = [(state.gate1[place, job], state.gate2[place, job]) for job, place in enumerate(state.current)]
    before = [tuple(gate.copy() for gate in gates) for gates in before]
    for _ in range(2):
        trial = step(compiled, np.array(impulse), tolerance=1e-4)
        compiled.accept(np.ones(len(JOBS), dtype=bool))
    for job, (gamma, gamma_prime, gamma_1, _) in enumerate(JOBS):
        place = state.current[job]
        initial, change = compiled.initial(job), compiled.change(job)
        weights = tuple(initial[layer] + change[layer] for layer in LAYERS)
        f, derivative = gradients(gamma, weights)
        np.testing.assert_allclose(trial.residual[job], f - Y, rtol=1e-9, atol=1e-9)
        after = state.gate1[place, job], state.gate2[place, job]
        crossed = [bool((abs(now - then) == 1).any()) for now, then in zip(after, before[job], strict=True)]
        assert crossed == [job < 2] * 2  # the last one hardly moves
        for index, (layer, rate) in enumerate(rates(gamma_prime, gamma_1).items()):
            # the signal of W1 goes through the gates of the second layer too
            held = {"W1": np.concatenate(after), "W2": after[1], "a": np.zeros(0)}[layer]
            if not ((held > 0) & (held < 1)).any():
                flat = derivative[layer].reshape(len(X), -1)
                expected = rate * flat @ flat.T / len(X)
                np.testing.assert_allclose(trial.kernels[job, index], expected, rtol=1e-7, atol=1e-12)
                seen[layer].append(job)
    assert seen == compared


def test_compiled_steps_that_are_not_accepted_leave_no_trace(compiled: ThreeLayerCPU) -> None:
    compiled.begin()
    impulse = np.array([3.0, -2.0, 5.0, -7.0])
    first = step(compiled, impulse)
    step(compiled, -5 * impulse)
    for one, other in zip(first, step(compiled, impulse), strict=True):
        np.testing.assert_array_equal(one, other)


def test_selected_compiled_networks_go_on_where_they_are(compiled: ThreeLayerCPU) -> None:
    compiled.begin()
    impulse = np.array([3.0, -2.0, 5.0, -7.0])
    step(compiled, impulse)
    compiled.accept(np.array([True, False, True]))
    everyone, some = step(compiled, impulse), compiled.select(np.array([2, 0]))
    for key, change in compiled.change(2).items():
        np.testing.assert_array_equal(some.change(0)[key], change)
    pieces = np.repeat(impulse[None, None] / 16, 16, axis=1).repeat(2, axis=0)
    again = some.trial(np.zeros(2, dtype=np.int64), np.ones(2), pieces, np.zeros_like(pieces), 1e-3)
    for one, other in zip(again, everyone, strict=True):
        np.testing.assert_array_equal(one, other[[2, 0]])


# one or two neurons reach no small loss, and with few seeds any at all
@pytest.mark.parametrize(
    ("width", "loss", "seed"), [(1, 0.85, 1), (2, 0.85, 0), (31, 0.3, 0), (32, 0.3, 0), (33, 0.3, 0)]
)
def test_padding_of_compiled_networks_does_nothing(width: int, loss: float, seed: int) -> None:
    jobs = [(1.0, 0.3, 0.0, seed)]
    settings = Settings(accuracy=0.002, loss_tolerance=loss, max_evaluations=500)
    one = integrate(ThreeLayerCPU.from_exponents(X, Y, width, jobs, "float64"), settings)
    other = integrate(ThreeLayer.from_exponents(X, Y, width, jobs, torch.float64, "cpu"), settings)
    assert one.status == other.status == ["converged"]
    for layer in LAYERS:
        expected = frobenius(other.changes[0][layer])
        assert frobenius(one.changes[0][layer]) == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("points", "tolerance"), [(1, 1e-9), (4, 1e-9), (4, 1e-3)])
def test_the_change_is_that_of_the_network_whose_loss_is_told(points: int, tolerance: float) -> None:
    """Whatever the last step still owes to the first layer."""
    jobs = [(gamma, gamma_prime, 0.0, 0) for gamma in (0.9, 1.5, 2.2) for gamma_prime in (0.0, 0.4)]
    x, y = X[:points], Y[:points]
    network = ThreeLayerCPU.from_exponents(x, y, 100, jobs, "float64")
    result = integrate(network, Settings(loss_tolerance=tolerance))
    w1, w2, a = initial_weights(3, 100, 1, 0)
    one = np.ones((points, 1))
    for job, (gamma, *_) in enumerate(jobs):
        change = result.changes[job]
        h1 = np.maximum(np.hstack([x, one]) @ (w1 + change["W1"]).T, 0)
        h2 = np.maximum(np.hstack([h1, one]) @ (w2 + change["W2"]).T, 0)
        f = 100.0**-gamma * h2 @ (a + change["a"])
        assert np.mean((f - y) ** 2) / 2 == pytest.approx(result.loss_final[job], rel=1e-6)


def test_a_compiled_network_that_overflows_does_so_alone() -> None:
    jobs = [(0.5, 0.0, 0.0, 0), (0.5, 0.0, 0.0, 1)]
    network = ThreeLayerCPU.from_exponents(X, Y, 60, jobs, "float32")
    network.begin()
    impulses, first = np.full((2, network.pieces, 4), 1e-3), np.zeros(2, dtype=np.int64)

    def trial() -> Trial:
        return network.trial(first, np.ones(2), impulses, np.zeros_like(impulses), 1e-3)

    trial()
    network.accept(np.ones(2, dtype=bool))
    expected = trial()
    impulses[0] = 1e38
    broken = trial()
    assert not (np.isfinite(broken.residual[0]).all() and broken.rotation[0] < MAX_ROTATION)
    impulses[0] = 1e-3
    for one, other in zip(trial(), expected, strict=True):
        np.testing.assert_array_equal(one, other)

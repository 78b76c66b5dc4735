"""Gradient descent and Adam: one step by hand, against PyTorch's optimisers, against the gradient flow, and every way to end."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from phasediag.engine import descent
from phasediag.engine.descent import Networks, Settings, descend
from phasediag.engine.networks import Layers, Outcome, initial_weights
from phasediag.phase_diagram import training
from phasediag.phase_diagram.columns import TABLES
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.storage.schema import runs_table

pytestmark = pytest.mark.usefixtures("one_thread")

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
Cell = tuple[float, float, float, int]
CELLS: list[Cell] = [(0.5, 0.0, 0.0, 0), (1.0, -0.2, 0.1, 1), (1.5, 0.3, -0.1, 0), (1.2, 0.0, 0.0, 2)]
METHODS = {"gd": 0.05, "adam": 0.01}
DEPTHS = pytest.mark.parametrize("depth", [2, 3, 4])
BOTH = pytest.mark.parametrize("method", ["gd", "adam"])


def outcome(
    depth: int,
    settings: Settings,
    cells: list[Cell],
    width: int = 33,
    dtype: torch.dtype = torch.float64,
    x: np.ndarray = X,
    y: np.ndarray = Y,
    trace: bool = False,
) -> Outcome:
    return descend(Networks.from_exponents(depth, width, x, y, cells, dtype, "cpu"), settings, trace)


def one_step(
    monkeypatch: pytest.MonkeyPatch, x: float, y: float, cell: Cell, settings: Settings, *weights: list[float]
) -> Outcome:
    """Of a network with two neurons per layer, given weights and one training point."""
    arrays = tuple(np.array(weight) for weight in weights)
    monkeypatch.setattr(descent, "initial_weights", lambda *_: arrays)
    return outcome(len(weights), settings, [cell], 2, x=np.array([[x]]), y=np.array([y]))


def check(change: Layers, **expected: object) -> None:
    assert list(change) == list(expected)
    for layer, values in expected.items():
        np.testing.assert_allclose(change[layer], values, rtol=1e-7, atol=1e-15)


def test_one_step_of_two_layers_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """kappa = kappa' = 1/2, x = 2: z = (1, -1), f = 1, e = 2, dR/da = (1, 0), dR/dW1 = ((4, 2), (0, 0)); c_a = 2, c_w = 1/2."""
    network = [[1.0, -1.0], [-1.0, 1.0]], [2.0, 3.0]
    cell = (1.0, 1.0, 0.0, 0)
    gd = one_step(monkeypatch, 2.0, -1.0, cell, Settings("gd", 0.1, 1e-6, 2), *network)
    check(gd.changes[0], W1=[[-0.2, -0.1], [0, 0]], a=[-0.2, 0])
    assert (gd.status, gd.evaluations, gd.loss_initial) == (["evaluation_limit"], [2], [2.0])
    assert gd.loss_final == [pytest.approx(1.45**2 / 2)]  # f = 1/2 * 1.8 * (0.8 * 2 - 1.1) = 0.45
    adam = one_step(monkeypatch, 2.0, -1.0, cell, Settings("adam", 0.01, 1e-6, 2), *network)
    check(adam.changes[0], W1=[[-0.01, -0.01], [0, 0]], a=[-0.01, 0])


def test_one_step_of_three_layers_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """kappa = kappa_2 = 1/2, kappa_1 = 2, x = 1: h1 = (2, 0), h2 = (1, 0), f = 1, e = 2; c_a, c_2, c_1 = 1, 4, 1/4.

    dR/da = (1, 0), dR/dW2 = ((4, 0, 2), (0, 0, 0)), dR/dW1 = ((2, 2), (0, 0)).
    """
    network = [[1.0, 1.0], [-1.0, 0.0]], [[1.0, 5.0, -1.0], [1.0, 1.0, -3.0]], [2.0, 7.0]
    cell = (1.0, 1.0, -1.0, 0)
    gd = one_step(monkeypatch, 1.0, -1.0, cell, Settings("gd", 0.1, 1e-6, 2), *network)
    check(gd.changes[0], W1=[[-0.05, -0.05], [0, 0]], W2=[[-1.6, 0, -0.8], [0, 0, 0]], a=[-0.1, 0])
    adam = one_step(monkeypatch, 1.0, -1.0, cell, Settings("adam", 0.01, 1e-6, 2), *network)
    check(adam.changes[0], W1=[[-0.01, -0.01], [0, 0]], W2=[[-0.01, 0, -0.01], [0, 0, 0]], a=[-0.01, 0])


def torch_loop(
    weights: list[Tensor],
    output: Callable[[Tensor, list[Tensor]], Tensor],
    optimiser: Callable[[list[Tensor]], torch.optim.Optimizer],
    steps: int,
) -> list[Tensor]:
    """The change of the weights by the loop that users write by hand."""
    parameters = [weight.clone().requires_grad_() for weight in weights]
    steps_of = optimiser(parameters)
    x = torch.cat([torch.from_numpy(X), torch.ones(len(X), 1, dtype=torch.float64)], dim=1)
    for _ in range(steps):
        steps_of.zero_grad()
        loss = ((output(x, parameters) - torch.from_numpy(Y)) ** 2).mean() / 2
        loss.backward()
        steps_of.step()
    return [parameter.detach() - weight for parameter, weight in zip(parameters, weights, strict=True)]


def network(alpha: float, constants: list[float]) -> Callable[[Tensor, list[Tensor]], Tensor]:
    """f of weights W1 (m, d+1), perhaps W2, ... (m, m+1), and a (m,); ``constants`` feed the biases of layers 2, ..."""

    def output(x: Tensor, weights: list[Tensor]) -> Tensor:
        hidden = torch.relu(x @ weights[0].T)
        for w, constant in zip(weights[1:-1], constants, strict=False):
            hidden = torch.relu(torch.cat([hidden, torch.full_like(x[:, :1], constant)], dim=1) @ w.T)
        return hidden @ weights[-1] / alpha

    return output


@DEPTHS
@pytest.mark.parametrize("cell", CELLS)
def test_gd_is_sgd_on_the_networks_of_the_papers(depth: int, cell: Cell) -> None:
    """Weights with standard deviations beta, one plain step for all, 50 steps."""
    cell = (max(cell[0], (depth - 2) / 2), *cell[1:])  # none whose output explodes with the width
    m, (gamma, prime, gamma_1, seed), beta_1, rate = 33, cell, 0.7, METHODS["gd"]
    kappa, kappa_prime, kappa_1 = m**-gamma, m**-prime, m**-gamma_1
    betas = [beta_1 / kappa_prime, *[beta_1 / kappa_1] * (depth - 2), beta_1]
    start = [
        beta * torch.from_numpy(w) for beta, w in zip(betas, initial_weights(depth, m, 1, seed), strict=True)
    ]
    step = rate * beta_1 * (beta_1 if depth > 2 else betas[0])
    output = network(float(np.prod(betas)) / kappa, np.cumprod(betas).tolist())
    expected = torch_loop(start, output, lambda weights: torch.optim.SGD(weights, lr=step), 50)
    [change] = outcome(depth, Settings("gd", rate, 1e-12, 51), [cell]).changes
    for beta, mine, theirs in zip(betas, change.values(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs / beta, rtol=1e-10, atol=1e-10 * np.abs(mine).max())


@DEPTHS
@pytest.mark.parametrize("cell", CELLS)
def test_adam_is_adam_on_the_normalised_networks(depth: int, cell: Cell) -> None:
    m, rate = 33, METHODS["adam"]
    start = [torch.from_numpy(w) for w in initial_weights(depth, m, 1, cell[-1])]
    expected = torch_loop(
        start, network(m ** cell[0], [1.0] * depth), lambda weights: torch.optim.Adam(weights, lr=rate), 50
    )
    [change] = outcome(depth, Settings("adam", rate, 1e-12, 51), [cell]).changes
    for mine, theirs in zip(change.values(), expected, strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-10, atol=1e-10 * np.abs(mine).max())


@pytest.mark.parametrize(
    ("gamma", "prime", "step"), [(0.5, 0.0, 0.05), (1.0, 0.0, 0.5), (1.0, 0.2, 0.5), (1.3, 0.1, 1.0)]
)
def test_small_steps_of_gd_follow_the_gradient_flow(gamma: float, prime: float, step: float) -> None:
    """Down to the same loss, for the flow ends somewhat below its tolerance."""
    job, x, y = Job("one", 2, 64, 64, gamma, prime, 0.0, 0), X[[0, 3]], Y[[0, 3]]
    flow = training.train_batch([job], x, y, TrainSpec(accuracy=1e-3, loss_tolerance=1e-3, dtype="float64"))
    tolerance = flow[0]["loss_final"] / (np.mean(y**2) / 2) * (1 + 1e-9)
    steps = TrainSpec(method="gd", learning_rate=step, loss_tolerance=tolerance, dtype="float64")
    gd = training.train_batch([job], x, y, steps)
    for one, other in zip(gd, flow, strict=True):
        assert one["status"] == other["status"] == "converged"
        assert one["relative_change"] == pytest.approx(other["relative_change"], rel=0.01)


def result_of(result: Outcome, job: int) -> tuple[object, ...]:
    weights = tuple(change.tobytes() for change in result.changes[job].values())
    numbers = result.loss_initial[job], result.loss_final[job]
    return result.status[job], result.evaluations[job], *map(repr, numbers), *weights, repr(result.trace[job])


# Networks that converge early, late and not at all, and that diverge.
MIXED: list[Cell] = [*CELLS, (-1.0, 0.0, 0.0, 0), (0.7, 0.2, 0.0, 3), (0.5, 0.0, 0.0, 1)]


@DEPTHS
@BOTH
def test_no_job_depends_on_the_others_to_the_last_bit(depth: int, method: str) -> None:
    settings = Settings(method, METHODS[method], 1e-2, 150)  # type: ignore[arg-type]
    together = outcome(depth, settings, MIXED, 70, torch.float32, trace=True)
    for index, cell in enumerate(MIXED):
        alone = outcome(depth, settings, [cell], 70, torch.float32, trace=True)
        assert result_of(together, index) == result_of(alone, 0)
    assert len(set(together.status)) > 1


@DEPTHS
@BOTH
@pytest.mark.parametrize("every", [1, 7])
def test_no_job_depends_on_when_the_batch_is_looked_at(
    depth: int, method: str, every: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = Settings(method, METHODS[method], 1e-2, 150)  # type: ignore[arg-type]
    before = outcome(depth, settings, MIXED, 70, torch.float32, trace=True)
    monkeypatch.setattr(descent, "CHECK_EVERY", every)
    after = outcome(depth, settings, MIXED, 70, torch.float32, trace=True)
    for index in range(len(MIXED)):
        assert result_of(before, index) == result_of(after, index)


@DEPTHS
@BOTH
def test_convergence_is_judged_by_the_loss_of_zero(depth: int, method: str) -> None:
    def train(max_evaluations: int) -> Outcome:
        settings = Settings(method, METHODS[method], 1e-3, max_evaluations)  # type: ignore[arg-type]
        return outcome(depth, settings, [((depth - 1) / 2, 0.0, 0.0, 0)], x=x, y=y)

    x, y = X[[0, 3]], Y[[0, 3]]
    result = train(5000)
    assert result.status == ["converged"]
    assert 0 < result.loss_final[0] <= 1e-3 * np.mean(y**2) / 2
    fewer = train(result.evaluations[0] - 1)
    assert (fewer.status, fewer.evaluations) == (["evaluation_limit"], [result.evaluations[0] - 1])
    assert fewer.loss_final[0] > 1e-3 * np.mean(y**2) / 2


@DEPTHS
def test_a_huge_step_diverges(depth: int) -> None:
    result = outcome(depth, Settings("gd", 1e6, 1e-6, 200), [(0.5, 0.0, 0.0, 0)] * 2, dtype=torch.float32)
    assert result.status == ["diverged"] * 2
    assert result.evaluations[0] == result.evaluations[1] < 200
    assert not np.isfinite(result.loss_final).any()


@DEPTHS
@BOTH
def test_a_dead_network_stalls_where_it_is(depth: int, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Biases far below zero: no neuron of the last hidden layer sees any point."""

    def dead(*shape: int) -> tuple[np.ndarray, ...]:
        *hidden, a = initial_weights(*shape)
        hidden[-1][:, -1] = -1e3
        return (*hidden, a)

    monkeypatch.setattr(descent, "initial_weights", dead)
    result = outcome(depth, Settings(method, METHODS[method]), CELLS[:1], trace=True)  # type: ignore[arg-type]
    assert (result.status, result.evaluations) == (["stalled"], [1])
    assert all(not change.any() for change in result.changes[0].values())
    assert result.loss_final == [pytest.approx(np.mean(Y**2) / 2)]
    assert [entry[0] for entry in result.trace[0]] == [1]


def test_contradictory_labels_stall_when_nothing_moves_any_more() -> None:
    x, y = np.array([[0.5], [0.5]]), np.array([1.0, 0.0])
    result = outcome(2, Settings("gd", 0.5), [(0.5, 0.0, 0.0, 0)], x=x, y=y, dtype=torch.float32)
    assert result.status == ["stalled"]
    assert result.loss_final == [pytest.approx(1 / 8, rel=1e-3)]


@DEPTHS
def test_a_trace_leads_from_the_start_to_the_end(depth: int) -> None:
    result = outcome(depth, Settings("gd", 0.05, 1e-6, 500), CELLS, trace=True)
    for job, trace in enumerate(result.trace):
        evaluations, times, losses, moved = zip(*trace, strict=True)
        rate = 1.0 if depth > 2 else 33.0 ** CELLS[job][1]
        np.testing.assert_allclose(times, 0.05 * rate * (np.array(evaluations) - 1))
        assert list(evaluations) == sorted(set(evaluations))
        assert len(trace) < 60
        assert (evaluations[0], losses[0]) == (1, result.loss_initial[job])
        assert (evaluations[-1], losses[-1]) == (result.evaluations[job], result.loss_final[job])
        assert set(moved[0].values()) == {0.0}
        for layer, change in result.changes[job].items():
            assert moved[-1][layer] == pytest.approx(np.linalg.norm(change))


def test_tiny_changes_keep_their_digits() -> None:
    """float32, changes of 1e-9 of weights of order one: adding them to the weights at every step would lose them."""
    settings = Settings("gd", 1e-9, 1e-6, 11)
    [single] = outcome(2, settings, CELLS[:1], dtype=torch.float32).changes
    [double] = outcome(2, settings, CELLS[:1]).changes
    assert 0 < np.abs(double["a"]).max() < 1e-6
    np.testing.assert_allclose(single["a"], double["a"], rtol=1e-3, atol=1e-13)


@BOTH
def test_rows_of_a_fixed_step(method: str) -> None:
    """Through the interface of the gradient flow: the schema, and rows that do not depend on chunks."""
    jobs = [
        Job(f"{gamma}/{seed}", 2, 50, 50, gamma, 0.0, 0.0, seed) for gamma in (0.4, 0.5) for seed in (0, 1)
    ]
    settings = TrainSpec(
        method=method, learning_rate=METHODS[method], loss_tolerance=1e-2, max_evaluations=3000
    )
    x, y = X[[0, 3]], Y[[0, 3]]
    rows = training.train_batch(jobs, x, y, settings)
    assert runs_table(rows, TABLES.runs).num_rows == 2 * len(jobs)
    assert {row["status"] for row in rows} == {"converged"}
    assert all(0 < row["relative_change"] < 10 and row["evaluations"] > 1 for row in rows)
    alone = training.train_batch(jobs[-1:], x, y, settings)
    for one, other in zip(rows[-2:], alone, strict=True):
        assert {**one, "wall_seconds": 0} == pytest.approx({**other, "wall_seconds": 0}, nan_ok=True)


def test_a_sample_of_a_fixed_step() -> None:
    settings = TrainSpec(method="adam", learning_rate=0.01, loss_tolerance=1e-2)
    [row] = training.train_sample(Job("one", 2, 50, 50, 0.5, 0.0, 0.0, 0), X, Y, settings)
    assert row["evaluations"][0] == 1
    assert row["loss"][-1] <= 1e-2 * np.mean(Y**2) / 2
    assert row["relative_change"][0] == 0.0 < row["relative_change"][-1]

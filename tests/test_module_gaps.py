"""The gap between a trained module and its linearisation, against explicit steps of the linearised network."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from test_where import jacobian
from torch import nn

from phasediag.modules.data import Points
from phasediag.modules.descent.course import Settings
from phasediag.modules.descent.train import train
from phasediag.modules.linearised import MOST_OUTPUTS
from phasediag.modules.measures import spread
from phasediag.modules.training import look

N, TESTS = 6, 4


def pairs(count: int, seed: int, outputs: int = 1) -> Points:
    draw = torch.Generator().manual_seed(seed)
    y = torch.randn(count, outputs, generator=draw)
    return Points(torch.randn(count, 3, generator=draw), y[:, 0] if outputs == 1 else y)


def net(width: int = 20, outputs: int = 1, *more: nn.Module) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), *more, nn.Linear(width, outputs))


def from_zero(more: nn.Module) -> nn.Module:
    """A network whose function vanishes at the start, whatever stands before the readout."""
    made = net(20, 1, more)
    for part in made[-1].parameters():  # type: ignore[index]
        part.data.zero_()
    return made


def how(rate: float | None, epochs: int, method: str = "gd") -> Settings:
    return Settings(
        method=method,  # type: ignore[arg-type]
        learning_rate=rate,
        epochs=epochs,
        batch_size=3,
        loss="mse",
        target=1e-6,
    )


def found(made: nn.Module, settings: Settings, tests: Points, outputs: int = 1) -> dict[str, float]:
    data = pairs(N, 0, outputs)
    trained = train([made], [0], data, settings)
    row = look(made, trained, 0, data, tests, "mse", 0)["0.weight"]
    return {name: float(str(row[name])) for name in ("linear_gap", "linear_gap_test")}


def by_hand(made: nn.Module, steps: Sequence[float], points: Points, outputs: int) -> dict[str, float]:
    """Steps of the weights of f(0) + J (w - w(0)), beside the same steps of the network."""
    data, size = pairs(N, 0, outputs), sum(part.numel() for part in made.parameters())
    rows, rows_test = (jacobian(made, p.x).reshape(-1, size).numpy() for p in (data, points))
    start, start_test = (made(p.x).detach().double().reshape(-1).numpy() for p in (data, points))
    y, moved = data.y.double().reshape(-1).numpy(), np.zeros(size)
    for step in steps:
        moved -= step * rows.T @ (start + rows @ moved - y) / N
        made.zero_grad()
        ((made(data.x).reshape(data.y.shape) - data.y).square().sum() / (2 * N)).backward()
        for part in made.parameters():
            part.data -= step * part.grad
    end, end_test = (made(p.x).detach().double().reshape(-1).numpy() for p in (data, points))
    return {
        name: float(np.linalg.norm(f0 + j @ moved - f) / np.linalg.norm(f - f0))
        for name, f0, f, j in (
            ("linear_gap", start, end, rows),
            ("linear_gap_test", start_test, end_test, rows_test),
        )
    }


@pytest.mark.parametrize("outputs", [1, 2])
def test_steps_of_gradient_descent_are_those_of_the_linearised_network(outputs: int) -> None:
    tests = pairs(TESTS, 1, outputs)
    gaps = found(net(outputs=outputs), how(0.2, 40), tests, outputs)
    expected = by_hand(net(outputs=outputs), [0.2] * 40, tests, outputs)
    assert 0.01 < expected["linear_gap"] < 1
    assert gaps == pytest.approx(expected, rel=1e-3)


def test_chosen_steps_are_those_of_the_linearised_network() -> None:
    tests, made, settings = pairs(TESTS, 1), net(), how(None, 60)
    steps = train([made], [0], pairs(N, 0), settings).steps[0]
    assert len(set(steps)) > 10
    assert found(made, settings, tests) == pytest.approx(by_hand(net(), steps, tests, 1), rel=1e-3)


@pytest.mark.parametrize("rate", [None, 0.1])
def test_a_network_that_is_linear_has_no_gap(rate: float | None) -> None:
    made = net(64)
    for part in made[0].parameters():  # type: ignore[index]
        part.requires_grad_(False)
    data, tests = pairs(N, 0), pairs(TESTS, 1)
    row = look(made, train([made], [0], data, how(rate, 200)), 0, data, tests, "mse", 0)["2.weight"]
    assert row["linear_gap"] == row["linear_gap_test"] == 0.0


def test_wide_networks_are_closer_to_their_linearisation() -> None:
    """By the root of the width or more, in the scaling of the tangent kernel."""

    class Scaled(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.inner, self.outer = nn.Parameter(torch.randn(width, 3)), nn.Parameter(torch.randn(width))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tanh(x @ self.inner.T) @ self.outer / len(self.outer) ** 0.5

    data, tests, settings = pairs(N, 0), pairs(TESTS, 1), how(None, 300)
    gaps = []
    for width in (256, 4096):
        made = Scaled(width)
        row = look(made, train([made], [0], data, settings), 0, data, tests, "mse", 0)["inner"]
        gaps.append([float(str(row[name])) for name in ("linear_gap", "linear_gap_test")])
    assert (np.log(np.divide(*gaps)) / np.log(16) > 0.4).all()


def test_more_numbers_than_a_kernel_is_decomposed_of_have_no_gap() -> None:
    outputs = MOST_OUTPUTS // N
    few, many = (
        found(net(4, count), how(0.1, 3), pairs(0, 1, count), count) for count in (outputs, outputs + 1)
    )
    assert few["linear_gap"] > 0 and math.isnan(many["linear_gap"])


def test_it_is_known_where_there_are_no_test_points_and_of_as_many_as_have_room() -> None:
    none = found(net(), how(0.2, 20), Points(torch.zeros(0, 3), torch.zeros(0)))
    assert none["linear_gap"] > 0 and math.isnan(none["linear_gap_test"])
    tests = pairs(2000, 1)
    some = spread(2000, MOST_OUTPUTS - N)
    many = found(net(), how(0.2, 20), tests)
    expected = by_hand(net(), [0.2] * 20, Points(tests.x[some], tests.y[some]), 1)
    assert len(some) == 506 and many == pytest.approx(expected, rel=1e-3)
    assert many["linear_gap"] == none["linear_gap"]


def test_batches_of_points_are_not_mixed_with_test_points() -> None:
    """Where the statistics of the batch are those of the network also as it is used."""
    gaps = [
        found(net(20, 1, nn.BatchNorm1d(20, track_running_stats=False)), how(0.2, 20), tests)["linear_gap"]
        for tests in (pairs(TESTS, 1), Points(torch.zeros(0, 3), torch.zeros(0)))
    ]
    assert gaps[0] == gaps[1] > 0


@pytest.mark.parametrize(
    ("made", "settings"),
    [
        (from_zero(nn.BatchNorm1d(20)), how(0.1, 5)),
        (from_zero(nn.Dropout(0.5)), how(0.1, 5)),
        (net(20, 1, nn.BatchNorm1d(20)), how(0.1, 5)),
        (net(20, 1, nn.Dropout(0.5)), how(0.1, 5)),
        (net(), how(0.1, 5, "sgd")),
        (net(), how(0.01, 5, "adam")),
    ],
)
def test_what_has_no_linearised_network_has_no_gap(made: nn.Module, settings: Settings) -> None:
    assert all(math.isnan(gap) for gap in found(made, settings, pairs(TESTS, 1)).values())

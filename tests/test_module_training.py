"""Training of torch modules: steps against torch.optim and plain loops, how it ends, and rows that depend on nothing but their network."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from phasediag.devices import DeviceLost, side_by_side
from phasediag.errors import InputError
from phasediag.modules.alike import groups
from phasediag.modules.data import Points, loss_of
from phasediag.modules.descent.course import Settings, Trained
from phasediag.modules.descent.train import train
from phasediag.modules.examples.mlp import make as two_layers

pytestmark = pytest.mark.usefixtures("one_thread")

N, D, WIDTH = 8, 3, 6


def drawn(seed: int, make: Callable[[], nn.Module]) -> nn.Module:
    torch.manual_seed(seed)
    return make().train()


def points(outputs: int = 0, classes: int = 0) -> Points:
    draw = torch.Generator().manual_seed(9)
    x = torch.randn(N, D, generator=draw)
    if classes:
        return Points(x, torch.randint(classes, (N,), generator=draw))
    return Points(x, torch.randn(N, *[outputs] * bool(outputs), generator=draw))


def mlp(activation: type[nn.Module] = nn.Tanh, outputs: int = 1, width: int = WIDTH) -> nn.Module:
    return nn.Sequential(
        nn.Linear(D, width), activation(), nn.Linear(width, outputs), *[nn.Flatten(0)] * (outputs == 1)
    )


def normed() -> nn.Module:
    return nn.Sequential(
        nn.Linear(D, WIDTH), nn.BatchNorm1d(WIDTH), nn.Tanh(), nn.Linear(WIDTH, 1), nn.Flatten(0)
    )


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(D, WIDTH), nn.Tanh(), nn.Dropout(0.3), nn.Linear(WIDTH, 1), nn.Flatten(0))


def convolved() -> nn.Module:
    layers = (
        nn.Unflatten(1, (1, D)),
        nn.Conv1d(1, WIDTH, 2),
        nn.ReLU(),
        nn.Conv1d(WIDTH, WIDTH, 2),
        nn.Flatten(),
    )
    return nn.Sequential(*layers, nn.Linear(WIDTH, 1), nn.Flatten(0))


class Recurrent(nn.Module):
    """What torch.func can neither batch nor differentiate forward."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.readout = nn.GRU(1, 4, batch_first=True), nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.readout(self.inside(x[:, :, None])[0][:, -1]).squeeze(1)


class Branching(nn.Module):
    """A module that looks at its numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.inside = mlp()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.inside(x)
        return 2 * found if found.sum().item() > 0 else found


class Gained(nn.Module):
    """A module with a parameter of no dimension."""

    def __init__(self) -> None:
        super().__init__()
        self.inside, self.scale = mlp(), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.inside(x)


MODULES = {
    "relu": functools.partial(mlp, nn.ReLU),
    "tanh": mlp,
    "odd": functools.partial(mlp, nn.Tanh, width=7),
    "conv": convolved,
    "norm": normed,
    "dropout": dropping,
    "gru": Recurrent,
    "branch": Branching,
    "gained": Gained,
}


def how(
    method: str, rate: float | None, epochs: int = 6, size: int = 3, loss: str = "mse", target: float = 1e-9
) -> Settings:
    return Settings(
        method=method, learning_rate=rate, epochs=epochs, batch_size=size, loss=loss, target=target
    )  # type: ignore[arg-type]


def trained(make: Callable[[], nn.Module], settings: Settings, data: Points, seeds: list[int]) -> Trained:
    return train([drawn(seed, make) for seed in seeds], seeds, data, settings)


def by_torch(network: nn.Module, seed: int, data: Points, settings: Settings) -> nn.Module:
    """The same steps by an optimiser of torch's."""
    kind = torch.optim.Adam if settings.method == "adam" else torch.optim.SGD
    stepper, draw = kind(network.parameters(), lr=settings.learning_rate), torch.Generator().manual_seed(seed)
    for _ in range(settings.epochs):
        order = (
            torch.randperm(len(data), generator=draw)
            if settings.batch_size < len(data)
            else torch.arange(len(data))
        )
        for part in [order] if settings.method == "gd" else torch.split(order, settings.batch_size):
            stepper.zero_grad()
            loss_of(network(data.x[part]), data.y[part], settings.loss).backward()
            stepper.step()
    return network


def agree(found: Trained, index: int, network: nn.Module, tolerance: float = 2e-5) -> None:
    for name, part in network.named_parameters():
        if name == "0.bias" and isinstance(network[1], nn.BatchNorm1d):  # type: ignore[index]
            continue  # it has no gradient, and Adam makes steps of rounding errors
        torch.testing.assert_close(found.weights[name][index], part, rtol=tolerance, atol=tolerance)


# Steps.


@pytest.mark.parametrize("name", ["relu", "tanh", "conv", "gru", "branch", "norm"])
@pytest.mark.parametrize(("method", "rate"), [("gd", 0.1), ("sgd", 0.05), ("adam", 0.01)])
def test_every_method_takes_the_steps_of_torch(name: str, method: str, rate: float) -> None:
    data, settings = points(), how(method, rate)
    found = trained(MODULES[name], settings, data, [0, 3])
    assert name == "norm" or found.together == (name not in ("gru", "branch"))
    for index, seed in enumerate((0, 3)):
        network = by_torch(drawn(seed, MODULES[name]), seed, data, settings)
        agree(found, index, network)
        assert found.courses[index].epochs == settings.epochs
        course = found.courses[index]
        assert course.status == "evaluation_limit"
        assert course.loss_final == pytest.approx(loss_of(network(data.x), data.y, "mse").item(), rel=1e-4)


@pytest.mark.parametrize("size", [N, 100])
def test_a_minibatch_of_all_points_is_gradient_descent(size: int) -> None:
    plain, batches = (trained(mlp, how(method, 0.1, size=size), points(), [1]) for method in ("gd", "sgd"))
    for name, part in plain.weights.items():
        torch.testing.assert_close(part, batches.weights[name], rtol=1e-6, atol=1e-7)
    assert plain.courses[0].time == pytest.approx(0.6) == batches.courses[0].time


def test_classes_train_by_cross_entropy() -> None:
    data, settings = points(classes=4), how("adam", 0.02, loss="cross-entropy")
    found = trained(functools.partial(mlp, outputs=4), settings, data, [5])
    agree(found, 0, by_torch(drawn(5, functools.partial(mlp, outputs=4)), 5, data, settings))


@pytest.mark.parametrize("outputs", [0, 2])
def test_the_mean_square_is_a_sum_over_outputs_and_half_a_mean_over_points(outputs: int) -> None:
    data = points(outputs)
    found = trained(functools.partial(mlp, outputs=max(outputs, 1)), how("gd", 0.1, epochs=1), data, [0])
    f = drawn(0, functools.partial(mlp, outputs=max(outputs, 1)))(data.x).detach()
    assert found.courses[0].loss_initial == pytest.approx(
        float(((f - data.y) ** 2).sum() / (2 * N)), rel=1e-5
    )


def test_parameters_that_are_frozen_do_not_move_and_tied_ones_move_as_one() -> None:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.inside, self.last = nn.Linear(D, 4), nn.Linear(4, 4), nn.Linear(4, 4)
            self.last.weight = self.inside.weight
            self.first.weight.requires_grad_(False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.inside(torch.tanh(self.first(x))))).sum(dim=1)

    data, settings = points(), how("sgd", 0.1)
    found = trained(Tied, settings, data, [0, 1])
    assert found.together and "last.weight" not in found.weights
    for index in range(2):
        agree(found, index, by_torch(drawn(index, Tied), index, data, settings))
        assert torch.equal(
            found.weights["first.weight"][index], drawn(index, Tied).get_parameter("first.weight")
        )


def test_running_means_are_those_of_a_plain_loop() -> None:
    """Each minibatch counts once, and the looks at the whole loss between epochs do not."""
    data, settings = points(), how("sgd", 0.05)
    found, network = trained(normed, settings, data, [2]), by_torch(drawn(2, normed), 2, data, settings)
    for name, part in network.named_buffers():
        torch.testing.assert_close(found.buffers[name][0], part, rtol=1e-5, atol=1e-6)


# Steps that are chosen.


def largest_curvature(network: nn.Module, data: Points) -> float:
    """The largest eigenvalue of the tangent kernel over the number of points, from a Jacobian by rows."""
    rows = []
    for output in network(data.x).flatten():
        parts = torch.autograd.grad(output, list(network.parameters()), retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]).double())
    return float(torch.linalg.eigvalsh(torch.stack(rows) @ torch.stack(rows).T)[-1]) / len(data)


@pytest.mark.parametrize("name", ["tanh", "relu", "conv", "gru", "branch"])
def test_chosen_steps_are_stable_and_the_loss_falls_with_each(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("phasediag.modules.descent.train._MOST_MOVED", math.inf)
    data, network = points(), drawn(4, MODULES[name])
    losses, times = [math.inf], [0.0]
    for epochs in range(1, 13):
        found = trained(MODULES[name], how("gd", None, epochs), data, [4])
        losses.append(found.courses[0].loss_final)
        times.append(found.courses[0].time)
        share = (times[-1] - times[-2]) * largest_curvature(network, data)
        assert 0.3 < share < 1.0, "half of 1 over the curvature, where 2 would be the limit"
        network.load_state_dict({key: part[0] for key, part in found.weights.items()})
    assert all(after < before for before, after in itertools.pairwise(losses))


def test_chosen_steps_of_classes_are_twice_as_long_for_half_the_curvature(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("phasediag.modules.descent.train._MOST_MOVED", math.inf)
    data = points(classes=3)
    make = functools.partial(mlp, outputs=3)
    found = trained(make, how("gd", None, 1, loss="cross-entropy"), data, [4])
    share = found.courses[0].time * largest_curvature(drawn(4, make), data)
    assert 0.9 < share < 1.1
    assert found.courses[0].loss_final < found.courses[0].loss_initial


def condensed() -> nn.Module:
    return two_layers(64, 2.0, 0.0, inputs=D)


def test_chosen_steps_move_no_layer_by_more_than_a_tenth_of_itself() -> None:
    """Out of small weights, a step of half the inverse curvature would be a leap: here it would move a layer by many times itself."""
    data, network = points(), drawn(4, condensed)
    before = {name: part.detach() for name, part in network.named_parameters()}
    for epochs in range(1, 13):
        after = {
            name: part[0]
            for name, part in trained(condensed, how("gd", None, epochs), data, [4]).weights.items()
        }
        moved = max(float((after[name] - before[name]).norm() / before[name].norm()) for name in before)
        assert moved < 0.101
        before = after


def test_chosen_steps_follow_the_flow_of_a_condensed_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same loss, on the way out of small weights, with steps that are a fifth as long: the same relative changes."""
    data = points()
    target = 0.8 * trained(condensed, how("gd", None, 1), data, [4]).courses[0].loss_initial
    changes = []
    for most in (0.1, 0.02):
        monkeypatch.setattr("phasediag.modules.descent.train._MOST_MOVED", most)
        found = trained(condensed, how("gd", None, 4000, target=target), data, [4])
        assert found.courses[0].status == "converged"
        start = dict(drawn(4, condensed).named_parameters())
        changes.append(
            {name: float((found.weights[name][0] - start[name].detach()).norm()) for name in start}
        )
    for name, change in changes[0].items():
        assert change == pytest.approx(changes[1][name], rel=0.15)


def test_time_is_that_of_the_gradient_flow() -> None:
    """Of networks that follow it closely: halved losses and ends against steps a quarter as long."""
    data, seeds = points(), [0, 1, 2, 3]
    target = 0.45 * min(
        course.loss_initial for course in trained(mlp, how("gd", 0.02, 1), data, seeds).courses
    )
    coarse, fine = (trained(mlp, how("gd", rate, 1000, target=target), data, seeds) for rate in (0.04, 0.01))
    for long, short in zip(coarse.courses, fine.courses, strict=True):
        assert long.status == short.status == "converged"
        assert long.time_half == pytest.approx(short.time_half, rel=0.04)
        assert long.time == pytest.approx(short.time, rel=0.04)
        assert 0 < long.time_half < long.time
    assert trained(mlp, how("gd", None, 9), data, seeds).courses[0].time_half == pytest.approx(
        fine.courses[0].time_half, rel=0.3
    )


def test_adam_has_no_time() -> None:
    [course] = trained(mlp, how("adam", 0.01), points(), [0]).courses
    assert math.isnan(course.time) and math.isnan(course.time_half)


# Ends.


@pytest.mark.parametrize(("method", "rate"), [("gd", None), ("gd", 0.2), ("sgd", 0.05), ("adam", 0.02)])
def test_training_ends_where_the_loss_is_small_enough(method: str, rate: float | None) -> None:
    [course] = trained(mlp, how(method, rate, 2000, target=0.3), points(), [0]).courses
    assert course.status == "converged" and course.loss_final <= 0.3 and 0 < course.epochs < 2000
    [less] = trained(mlp, how(method, rate, course.epochs - 1, target=0.3), points(), [0]).courses
    assert less.status == "evaluation_limit" and less.loss_final > 0.3


def test_what_has_converged_before_it_starts_is_not_trained() -> None:
    found = trained(mlp, how("gd", None, target=1e6), points(), [0])
    assert found.courses[0].status == "converged" and found.courses[0].epochs == 0
    agree(found, 0, drawn(0, mlp), 0.0)


@pytest.mark.parametrize(("method", "rate"), [("gd", 1e6), ("sgd", 1e6), ("adam", 1e30)])
def test_a_huge_rate_diverges(method: str, rate: float) -> None:
    found = trained(functools.partial(mlp, nn.ReLU), how(method, rate, 60), points(), [0])
    assert found.courses[0].status == "diverged" and not math.isfinite(found.courses[0].loss_final)


@pytest.mark.parametrize("method", ["gd", "sgd"])
def test_companions_of_a_network_that_diverges_go_on(method: str) -> None:
    """Bit by bit as without it."""
    large = drawn(1, functools.partial(mlp, nn.ReLU))
    for part in large.parameters():
        part.data *= 1e3
    networks = [drawn(0, functools.partial(mlp, nn.ReLU)), large, drawn(2, functools.partial(mlp, nn.ReLU))]
    found = train(networks, [0, 1, 2], points(), how(method, 0.1, 40))
    assert [course.status == "diverged" for course in found.courses] == [False, True, False]
    for at in (0, 2):
        alone = train([networks[at]], [at], points(), how(method, 0.1, 40))
        assert alone.courses[0] == found.courses[at]
        assert all(torch.equal(part[0], found.weights[name][at]) for name, part in alone.weights.items())


def test_gradients_that_are_no_numbers_end_a_training() -> None:
    class Rooted(nn.Module):
        """Finite everywhere, with no derivative at the start."""

        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1, D))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x @ self.weight.T).abs().sqrt().squeeze(1)

    for rate in (None, 0.1):
        [course] = trained(Rooted, how("gd", rate), points(), [0]).courses
        assert course.status == "diverged" and course.epochs == 1


def test_a_curvature_that_begins_to_grow_late_is_seen() -> None:
    """Of outputs that share no weights: that of the second one is 0 to the last bit for long, and then by far the largest."""

    class Parted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.rest = nn.Parameter(torch.ones(1, 1)), nn.Parameter(torch.full((4, 1), 0.05))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.stack([self.first[0, 0] * x[:, 0], self.rest.prod() * x[:, 1]], dim=1)

    x = torch.randn(N, 2, generator=torch.Generator().manual_seed(0))
    data = Points(x, torch.stack([3 * x[:, 0], 50 * x[:, 1]], dim=1))
    [course] = trained(Parted, how("gd", None, 400, target=0.03), data, [0]).courses
    assert course.status == "converged"


def test_a_network_that_does_not_feel_the_data_stalls() -> None:
    def dead() -> nn.Module:
        made = mlp(nn.ReLU)
        for part in made.parameters():
            part.data.fill_(-1.0)
        made[2].bias.requires_grad_(False)  # type: ignore[index, union-attr]
        return made

    data = Points(points().x.abs(), points().y)
    for rate in (None, 0.1):
        [course] = trained(dead, how("gd", rate), data, [0]).courses
        assert course.status == "stalled" and course.epochs == 1
        assert course.loss_final == course.loss_initial and math.isnan(course.time_half)


def test_what_a_module_counts_in_python_does_not_reach_other_networks() -> None:
    class Counting(nn.Module):
        """Its output fades from call to call."""

        def __init__(self) -> None:
            super().__init__()
            self.inside, self.calls = mlp(), 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.inside(x) * 0.9**self.calls

    for method, rate in (("gd", None), ("sgd", 0.05)):
        networks = [drawn(seed, Counting) for seed in (0, 1)]
        both = train(networks, [0, 1], points(), how(method, rate))
        assert not both.together and [network.calls for network in networks] == [0, 0]
        [second] = train(networks[1:], [1], points(), how(method, rate)).courses
        assert (second.loss_final, second.time) == (both.courses[1].loss_final, both.courses[1].time)


@pytest.mark.parametrize("more", [[], [nn.Dropout(0.1)]])
def test_buffers_that_a_module_replaces_are_followed(more: list[nn.Module]) -> None:
    """Together and alone, as those that it changes in place."""

    class Following(nn.Module):
        def __init__(self, in_place: bool) -> None:
            super().__init__()
            self.inside = nn.Sequential(*mlp(), *more)
            self.register_buffer("mean", torch.zeros(D))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean = 0.9 * self.mean + 0.1 * x.mean(dim=0)
            if self.in_place:
                self.mean.copy_(mean)
            else:
                self.mean = mean
            return self.inside(x - self.mean)

        in_place = False

    class InPlace(Following):
        in_place = True

    found = [
        trained(functools.partial(kind, False), how("sgd", 0.05, 8), points(), [0, 1])
        for kind in (Following, InPlace)
    ]
    assert found[0].together == found[1].together == (not more)
    assert found[0].buffers["mean"].abs().min() > 0
    torch.testing.assert_close(found[0].buffers["mean"], found[1].buffers["mean"])
    torch.testing.assert_close(found[0].weights, found[1].weights)


def test_steps_of_classes_at_many_positions_are_as_long_as_at_one() -> None:
    """The loss is a mean over all of them."""

    def make(positions: int) -> nn.Module:
        return nn.Sequential(
            nn.Linear(D, WIDTH), nn.Tanh(), nn.Linear(WIDTH, 3), nn.Unflatten(1, (3, 1)), Repeated(positions)
        )

    class Repeated(nn.Module):
        def __init__(self, count: int) -> None:
            super().__init__()
            self.count = count

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.expand(*x.shape[:2], self.count)

    x, y = points(classes=3)
    settings = how("gd", None, 6, loss="cross-entropy")
    losses = [
        trained(
            functools.partial(make, count), settings, Points(x, y[:, None].repeat(1, count)), [0]
        ).courses[0]
        for count in (1, 20)
    ]
    assert losses[1].time == pytest.approx(losses[0].time, rel=1e-3)
    assert losses[1].loss_final == pytest.approx(losses[0].loss_final, rel=1e-4)


def test_a_gpu_that_is_lost_is_no_fault_of_the_network() -> None:
    """The process that has lost it says so, whatever it was computing."""

    class Losing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = mlp()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise RuntimeError("CUDA error: an illegal memory access was encountered")

    with pytest.raises(DeviceLost):
        trained(Losing, how("gd", 0.1), points(), [0])


# Companions.


@pytest.mark.parametrize("name", [*MODULES])
@pytest.mark.parametrize(("method", "rate"), [("gd", None), ("gd", 0.1), ("sgd", 0.05), ("adam", 0.03)])
def test_a_row_does_not_depend_on_what_is_trained_with_it(name: str, method: str, rate: float | None) -> None:
    """Bit by bit, also where companions end long before, and running means with them."""
    data, seeds = points(), [*range(9)]
    losses = sorted(
        course.loss_final for course in trained(MODULES[name], how(method, rate, 12), data, seeds).courses
    )
    settings = how(method, rate, 20, target=losses[5])
    whole = trained(MODULES[name], settings, data, seeds)
    ends = {course.epochs for course in whole.courses}
    assert len(ends) > 3
    for some in ([0], [3, 1], [8, 0, 5], [2, 3, 4, 5, 6, 7]):
        part = trained(MODULES[name], settings, data, some)
        assert part.together == whole.together
        for index, seed in enumerate(some):
            assert repr(part.courses[index]) == repr(whole.courses[seed])
            for kind in ("weights", "buffers"):
                for key, values in getattr(part, kind).items():
                    assert torch.equal(values[index], getattr(whole, kind)[key][seed]), (some, seed, key)


def test_random_numbers_of_a_module_do_not_depend_on_threads() -> None:
    data, seeds = points(), [0, 1, 2, 3, 0]
    networks = [drawn(seed, dropping) for seed in seeds]

    def work(at: int) -> Trained:
        return train([networks[at]], [seeds[at]], data, how("sgd", 0.05, 10))

    alone, beside = (side_by_side(work, range(5), workers, "cpu", with_torch=True) for workers in (1, 3))
    for one, other in zip(alone, beside, strict=True):
        assert all(torch.equal(part, other.weights[name]) for name, part in one.weights.items())
    assert torch.equal(alone[0].weights["0.weight"], alone[4].weights["0.weight"])


def test_training_leaves_networks_and_random_numbers_as_they_were() -> None:
    network, before = drawn(0, dropping), drawn(0, dropping)
    state = torch.get_rng_state()
    train([network], [0], points(), how("sgd", 0.05))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), before.parameters(), strict=True))


def test_a_network_that_does_not_fit_the_data_is_told() -> None:
    with pytest.raises(
        InputError, match=r"the network returns \(8, 2\) for targets \(8,\); allowed: as many numbers"
    ):
        trained(functools.partial(mlp, outputs=2), how("gd", 0.1), points(), [0])
    with pytest.raises(InputError, match=r"cannot be trained on x \(8, 5\), y \(8,\): RuntimeError"):
        trained(mlp, how("gd", 0.1), Points(torch.zeros(N, 5), torch.zeros(N)), [0])
    with pytest.raises(
        InputError, match=r"cannot be trained on x \(1, 3\), y \(1,\): ValueError: Expected more than 1 value"
    ):
        trained(normed, how("sgd", 0.1, size=N - 1), points(), [0])


# Which are trained together.


class Scaled(nn.Module):
    """A network with something beside its weights that its output depends on."""

    def __init__(self, **held: object) -> None:
        super().__init__()
        self.inside = mlp()
        self.times: Callable[[torch.Tensor], torch.Tensor] = lambda z: z
        for name, value in held.items():
            setattr(self, name, value)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = self.times(self.inside(x))
        return found * self.scale if hasattr(self, "scale") else found  # type: ignore[operator]


def defaulted(scale: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def times(z: torch.Tensor, by: float = scale) -> torch.Tensor:
        return z * by

    return times


def named(scale: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def times(z: torch.Tensor, *, by: float = scale) -> torch.Tensor:
        return z * by

    return times


def recursive(scale: float) -> Callable[[torch.Tensor], torch.Tensor]:
    def times(z: torch.Tensor, left: int = 1) -> torch.Tensor:
        return times(z * scale, left - 1) if left else z

    return times


def own_class(scale: float) -> nn.Module:
    class Own(Scaled):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return scale * self.inside(x)

    return Own()


def hooked(scale: float) -> nn.Module:
    made = Scaled()
    made.inside.register_forward_hook(lambda module, x, output: output * scale)
    return made


class Config:
    def __init__(self, scale: float) -> None:
        self.scale = scale

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        return z * self.scale


WAYS: dict[str, Callable[[float], nn.Module]] = {
    "attribute": lambda scale: Scaled(scale=scale),
    "array": lambda scale: Scaled(scale=torch.tensor(scale)),
    "lambda": lambda scale: Scaled(times=lambda z: z * scale),
    "default": lambda scale: Scaled(times=defaulted(scale)),
    "keyword": lambda scale: Scaled(times=named(scale)),
    "recursive": lambda scale: Scaled(times=recursive(scale)),
    "partial": lambda scale: Scaled(times=functools.partial(torch.mul, other=torch.tensor(scale))),
    "object": lambda scale: Scaled(times=Config(scale)),
    "method": lambda scale: Scaled(times=Config(scale).__call__),
    "class": own_class,
    "hook": hooked,
}


@pytest.mark.parametrize("way", [*WAYS])
def test_no_network_is_trained_with_what_another_one_holds(way: str) -> None:
    """Networks that differ by a factor which is no weight have the rows that they have alone."""
    scales, data, settings = (0.5, 1.5, 0.5, 1.5), points(), how("gd", 0.1, 5)
    networks = {job: drawn(0, functools.partial(WAYS[way], scale)) for job, scale in enumerate(scales)}
    found = {}
    for group in groups(networks):
        assert len({scales[job] for job in group}) == 1
        done = train([networks[job] for job in group], [0] * len(group), data, settings)
        found |= {job: done.weights["inside.0.weight"][index] for index, job in enumerate(group)}
    for job, scale in enumerate(scales):
        alone = train([drawn(0, functools.partial(WAYS[way], scale))], [0], data, settings)
        assert torch.equal(found[job], alone.weights["inside.0.weight"][0])
    assert not torch.equal(found[0], found[1])


@pytest.mark.parametrize("way", ["attribute", "array", "lambda", "default", "keyword", "recursive"])
def test_networks_that_hold_the_same_are_trained_together(way: str) -> None:
    networks = {seed: drawn(seed, functools.partial(WAYS[way], 0.5)) for seed in range(3)}
    assert groups(networks) == [[0, 1, 2]]


@pytest.mark.parametrize(
    ("a", "b"),
    [(0.0, -0.0), (1, True), (1, 1.0), ([1], (1,)), ({1: 2}, {"1": 2}), ({1: 0, 2: 0}, {2: 0, 1: 0})],
)
def test_what_is_nearly_the_same_is_not(a: object, b: object) -> None:
    assert len(groups({name: Scaled(held=value) for name, value in (("a", a), ("b", b))})) == 2


def test_what_holds_itself_ends() -> None:
    held: list[object] = [1]
    held.append(held)
    assert len(groups({seed: Scaled(held=held) for seed in range(2)})) == 1


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2), inner, max_size=2)
    ),
    max_leaves=6,
)


@settings(max_examples=40)
@given(VALUES, VALUES)
def test_networks_are_parted_exactly_by_what_they_hold(a: object, b: object) -> None:
    """By its representation, which tells types and signs apart."""
    found = groups({0: nn.Flatten(a), 1: nn.Flatten(b)})  # type: ignore[arg-type]
    assert (len(found) == 1) == (repr(a) == repr(b))

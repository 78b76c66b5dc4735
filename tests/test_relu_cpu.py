"""The compiled networks of any depth, whole and represented, against their definition and against small steps."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from reference import small_step_flow_deep
from scipy.integrate import solve_ivp
from tensor_networks.tensors import TensorNetwork
from tensor_networks.three_layer import ThreeLayer
from tensor_networks.two_layer import TwoLayer
from torch import Tensor

from phasediag.engine import relu_cpu
from phasediag.engine.flow import CLOSER, TRIES, Settings, _follow, integrate
from phasediag.engine.measures import frobenius
from phasediag.engine.networks import MAX_ROTATION, Initialisation, Product, Trial, initial_weights
from phasediag.engine.relu_cpu import RESOLUTION, ReluNetworkCPU, _fewer
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.phase_diagram.training import train_batch

pytestmark = pytest.mark.usefixtures("one_thread")

X = np.array([[-1.0], [-0.35], [0.3], [0.8], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2, 0.1])
NEURONS = {2: 300, 3: 40, 4: 30, 5: 20}  # two layers: more than a block; all no multiple of anything
DEPTHS = tuple(NEURONS)
PUSH = np.array([0.3, -0.2, 0.5, 0.1, -0.7])


def jobs_of(depth: int) -> list[Initialisation]:
    """Three whole networks and two that stand for wider ones, in the linear and in the condensed regime."""
    neurons, ntk, more = NEURONS[depth], depth / 2 - 0.5, 0.1 if depth > 2 else 0.0
    return [
        Initialisation(neurons, ntk, 0.0, 0.0, 0),
        Initialisation(neurons, ntk + 0.5, 0.3, more, 1),
        Initialisation(neurons, ntk + 1.1, -0.2, 0.0, 0),
        Initialisation(10**4, ntk + 0.2, 0.2, -more, 0),
        Initialisation(10**9, ntk + 0.7, 0.0, 0.0, 1),
    ]


@pytest.fixture(params=DEPTHS)
def depth(request: pytest.FixtureRequest) -> int:
    chosen: int = request.param
    return chosen


def made(depth: int, dtype: str = "float64") -> ReluNetworkCPU:
    return ReluNetworkCPU.initialised(X, Y, depth, NEURONS[depth], jobs_of(depth), dtype)


@cache
def units(depth: int) -> np.ndarray:
    """(B, n): impulses along ``PUSH`` under which, if all went straight, one of the layers would move by its own length."""
    found = []
    for job, at in enumerate(jobs_of(depth)):
        _, derivatives, _ = definition(depth, job)
        drawn = initial_weights(depth, NEURONS[depth], 1, at.seed)
        moves = [
            rate / len(X) * frobenius(np.tensordot(PUSH, derivatives[layer], axes=1)) / frobenius(weights)
            for (layer, rate), weights in zip(rates(depth, job).items(), drawn, strict=True)
        ]
        found.append(PUSH / max(moves))
    return np.array(found)


def impulses(depth: int, size: float) -> np.ndarray:
    return size * units(depth)


def step(network: ReluNetworkCPU, impulse: np.ndarray, tolerance: float = 1e-3, repeats: int = 0) -> Trial:
    """A steady step of all networks under ``impulse`` (B, n)."""
    pieces = np.repeat(impulse[:, None] / network.pieces, network.pieces, axis=1)
    times, none = np.full(len(impulse), repeats), np.zeros(len(impulse), dtype=bool)
    return network.trial(times, none, np.ones(len(impulse)), pieces, np.zeros_like(pieces), tolerance)


def accepted(network: ReluNetworkCPU, jobs: int = 5) -> None:
    network.accept(np.ones(jobs, dtype=bool))


def network_of(
    depth: int, job: int, changes: dict[str, np.ndarray] | None
) -> tuple[Tensor, dict[str, Tensor], dict[str, np.ndarray]]:
    """f (n,), by layer the displacements that it is a function of, and what squares of single weights count:

    z_(l+1) = sqrt(M) W(0) h_l + M (W - W(0)) h_l + bias,    f = kappa [ sqrt(M) F(0) + M (F - F(0)) ].
    """
    at, neurons = jobs_of(depth)[job], NEURONS[depth]
    mass, layers = at.width / neurons, [f"W{layer}" for layer in range(1, depth)] + ["a"]
    start = [torch.from_numpy(part) for part in initial_weights(depth, neurons, 1, at.seed)]
    moved = {
        layer: torch.zeros_like(part)
        if changes is None
        else torch.from_numpy(changes[layer].astype(np.float64))
        for layer, part in zip(layers, start, strict=True)
    }
    counts = {}
    for layer, part in moved.items():
        part.requires_grad_()
        counts[layer] = np.full(part.shape, mass)  # neurons that a weight belongs to
        if layer not in ("W1", "a"):
            counts[layer][:, :-1] = mass**2
    inputs = torch.from_numpy(np.hstack([X, np.ones((len(X), 1))]))

    def output(displaced: list[Tensor]) -> Tensor:
        h = torch.relu(inputs @ (start[0] + displaced[0]).T)
        for w, by in zip(start[1:-1], displaced[1:-1], strict=True):
            acting = mass**0.5 * w[:, :-1] + mass * by[:, :-1]
            h = torch.relu(h @ acting.T + w[:, -1] + by[:, -1])
        return h @ (start[-1] + displaced[-1])

    before = output([torch.zeros_like(part) for part in start])
    f = float(at.width) ** -at.gamma * (mass**0.5 * before + mass * (output([*moved.values()]) - before))
    return f, moved, counts


def definition(
    depth: int, job: int, changes: dict[str, np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """f (n,), and by layer its derivatives in single weights (n, ...), by automatic differentiation, and what squares of these count."""
    f, moved, counts = network_of(depth, job, changes)
    rows = [torch.autograd.grad(value, [*moved.values()], retain_graph=True) for value in f]
    derivatives = {
        layer: np.stack([row[k].numpy() for row in rows]) / counts[layer] for k, layer in enumerate(moved)
    }
    return f.detach().numpy(), derivatives, counts


def rates(depth: int, job: int) -> dict[str, float]:
    at = jobs_of(depth)[job]
    width = float(at.width)
    between = {f"W{layer}": width ** (-2 * at.gamma_1) for layer in range(2, depth)}
    return {"W1": width ** (-2 * at.gamma_prime), **between, "a": 1.0}


def test_the_start_is_that_of_the_definition(depth: int) -> None:
    network = made(depth)
    residual, kernels = network.begin()
    for job, at in enumerate(jobs_of(depth)):
        f, derivatives, counts = definition(depth, job)
        np.testing.assert_allclose(residual[job], f - Y, rtol=1e-10, atol=1e-12)
        for index, (layer, rate) in enumerate(rates(depth, job).items()):
            flat = (derivatives[layer] * np.sqrt(counts[layer])).reshape(len(X), -1)
            expected = rate / len(X) * flat @ flat.T
            np.testing.assert_allclose(kernels[job, index], expected, rtol=1e-9, atol=1e-12 * expected.max())
            assert not network.change(job)[layer].any()
        drawn = initial_weights(depth, NEURONS[depth], 1, at.seed)
        for layer, weights in zip(network.layers, drawn, strict=True):
            np.testing.assert_array_equal(network.initial(job)[layer], weights)


def test_a_small_step_is_one_of_gradient_descent(depth: int) -> None:
    network = made(depth)
    network.begin()
    impulse = impulses(depth, 1e-7)
    trial = step(network, impulse)
    accepted(network)
    for job in range(len(jobs_of(depth))):
        _, derivatives, counts = definition(depth, job)
        for index, (layer, rate) in enumerate(rates(depth, job).items()):
            expected = -rate / len(X) * np.tensordot(impulse[job], derivatives[layer], axes=1)
            np.testing.assert_allclose(
                network.change(job)[layer], expected, rtol=2e-4, atol=1e-6 * np.abs(expected).max()
            )
            length = np.sqrt((counts[layer] * expected**2).sum())
            assert trial.travelled[job, index] == pytest.approx(length, rel=1e-4)


def small_steps(depth: int, job: int, impulse: np.ndarray, steps: int) -> dict[str, np.ndarray]:
    """Displacements after explicit small steps under a steady impulse."""
    _, moved, counts = network_of(depth, job, None)
    changes = {layer: part.detach().numpy() for layer, part in moved.items()}
    for _ in range(steps):
        f, moved, _ = network_of(depth, job, changes)
        pulled = torch.autograd.grad(f @ torch.from_numpy(impulse), [*moved.values()])
        changes = {
            layer: changes[layer] - rate / len(X) / steps * pull.numpy() / counts[layer]
            for (layer, rate), pull in zip(rates(depth, job).items(), pulled, strict=True)
        }
    return changes


def test_steps_end_where_small_steps_end(depth: int) -> None:
    """In which neurons pass kinks and others come to rest on them. Of two layers one step goes as far as ten of more layers, whose
    signals jump where gates flip."""
    steps, error = (1, 2e-3) if depth == 2 else (10, 0.05)
    network, size = made(depth), 0.1 if depth == 2 else 0.1 / depth**2
    network.begin()
    impulse = impulses(depth, size / steps)
    for _ in range(steps):
        for repeat in range(network.passes):
            trial = step(network, impulse, repeats=repeat)
        accepted(network)
    for job in range(len(jobs_of(depth))):
        expected, changes = small_steps(depth, job, steps * impulse[job], 250), network.change(job)
        for layer, by in expected.items():
            assert frobenius(changes[layer] - by) < error * frobenius(by), (job, layer)
        f, _, _ = definition(depth, job, changes)
        np.testing.assert_allclose(trial.residual[job], f - Y, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("size", [0.15, 0.6])
def test_what_crowded_points_leave_unsettled_adds_up(size: float) -> None:
    """150 points on a line, whose pulls change sign slowly: a step that says it has settled is no further off than it may be."""
    x, tolerance, job = np.linspace(-1, 1, 150)[:, None], 3.5e-3, Initialisation(300, 1.15, -0.5, 0.0, 0)
    network = ReluNetworkCPU.initialised(x, np.zeros(150), 2, 300, [job], "float64")
    network.begin()
    kappa, rate = 300.0**-job.gamma, 300.0 ** (-2 * job.gamma_prime)
    impulse = size / (kappa * np.sqrt(rate)) * np.cos(3 * x.T + 0.5)
    trial = step(network, impulse, tolerance)
    accepted(network, 1)
    inputs, (w1, a) = np.hstack([x, np.ones((150, 1))]), initial_weights(2, 300, 1, 0)

    def velocity(w: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        force = -kappa / 150 * ((w @ inputs.T > 0) * impulse) @ inputs
        return rate * a[:, None] * force, (force * w).sum(axis=1)

    w, b, steps = w1, a, 1000
    for _ in range(steps):
        first = velocity(w, b)
        middle = velocity(w + first[0] / (2 * steps), b + first[1] / (2 * steps))
        w, b = w + middle[0] / steps, b + middle[1] / steps
    change = network.change(0)
    assert trial.unsettled[0] < tolerance
    assert frobenius(w - w1) > 0.2 * frobenius(w1)
    assert frobenius(change["W1"] - (w - w1)) < tolerance * frobenius(w - w1)
    assert frobenius(change["a"] - (b - a)) < tolerance * frobenius(b - a)


def test_the_evaluation_is_that_of_the_definition_after_steps(depth: int) -> None:
    """Residual, and the kernels of the layers in which no neuron is held on a kink."""
    network, compared = made(depth), 0
    network.begin()
    for _ in range(3):
        trial = step(network, impulses(depth, 0.2 if depth == 2 else 0.03))
        accepted(network)
    for job in range(len(jobs_of(depth))):
        f, derivatives, counts = definition(depth, job, network.change(job))
        np.testing.assert_allclose(trial.residual[job], f - Y, rtol=1e-8, atol=1e-9)
        gates = network._state.gate[:, network._state.current[job], job]
        held = [bool(((gate > 0) & (gate < 1)).any()) for gate in gates] + [False]
        for index, (layer, rate) in enumerate(rates(depth, job).items()):
            if not any(held[index:]):  # a signal goes through the gates of the layers above
                flat = (derivatives[layer] * np.sqrt(counts[layer])).reshape(len(X), -1)
                expected = rate / len(X) * flat @ flat.T
                np.testing.assert_allclose(
                    trial.kernels[job, index], expected, rtol=1e-6, atol=1e-9 * expected.max()
                )
                compared += 1
    assert compared > 5


def test_the_kernel_is_the_jacobian_of_the_residual_in_the_impulse(depth: int) -> None:
    """Also after steps that left neurons on kinks, along which alone they can still move."""
    network = made(depth)
    network.begin()
    for _ in range(3):
        trial = step(network, impulses(depth, 0.2))
        accepted(network)
    gates = network._state.gate
    assert ((gates > 0) & (gates < 1)).any()
    small = impulses(depth, 1e-5)
    step(network, small)
    moved = step(network, small, repeats=1)
    predicted = -np.einsum("bij,bj->bi", trial.kernels.sum(axis=1), small)
    debt = network._state.owed.any() if depth > 2 else False
    for job in range(len(small)):
        scale = np.abs(predicted[job]).max()
        if not debt:
            difference = moved.residual[job] - trial.residual[job]
            np.testing.assert_allclose(difference, predicted[job], rtol=0.03, atol=3e-3 * scale)


@pytest.mark.parametrize(
    ("of_depth", "width", "point"),
    [
        (2, 10**6, (1.2, 0.1)),
        (3, 10**5, (1.6, 0.2)),
        (4, 60, (2.1, 0.3)),
        (4, 10**4, (1.8, 0.2)),
        (5, 10**4, (2.3, 0.2)),
    ],
)
def test_flows_agree_with_the_small_step_reference(
    of_depth: int, width: int, point: tuple[float, float]
) -> None:
    """Whole, and with neurons that stand for others."""
    neurons, tolerance, x, y = min(60, width), 1e-3, X[[0, 1, 2, 4]], np.array([0.6, -0.4, 0.5, -0.2])
    start = initial_weights(of_depth, neurons, 1, 0)
    expected = small_step_flow_deep(
        x, y, *point, 0.0, start, width, step=0.02, loss_tolerance=tolerance, reach=50.0
    )
    job = Job("one", of_depth, width, neurons, *point, 0.0, 0)
    rows = train_batch([job], x, y, TrainSpec(loss_tolerance=tolerance, accuracy=0.002))
    assert [row["status"] for row in rows] == ["converged"] * of_depth
    np.testing.assert_allclose([row["relative_change"] for row in rows], expected.changes, rtol=0.01)


def test_every_step_conserves_the_balance_of_each_neuron_of_two_layers() -> None:
    """The flow conserves kappa' a_k^2 - |w_k|^2 / kappa' for each neuron."""
    network = made(2)
    network.begin()
    step(network, impulses(2, 1.0))
    accepted(network)
    for job, at in enumerate(jobs_of(2)):
        rate = float(at.width) ** -at.gamma_prime
        initial, change = network.initial(job), network.change(job)
        before, after = (
            rate * part["a"] ** 2 - (part["W1"] ** 2).sum(axis=1) / rate
            for part in (initial, {layer: initial[layer] + change[layer] for layer in initial})
        )
        np.testing.assert_allclose(after, before, rtol=1e-9, atol=1e-9)


def test_it_is_compiled_once_for_each_precision() -> None:
    """Whatever the depth, the points and the jobs of a batch: compiling takes half a minute."""
    for dtype in ("float32", "float64"):
        for of_depth in DEPTHS:
            made(of_depth, dtype).begin()
            x, y = np.linspace(-1, 1, 12)[:, None], np.linspace(-0.5, 0.5, 12)
            ReluNetworkCPU.initialised(
                x, y, of_depth, 10, [Initialisation(10, 1.0, 0.0, 0.0, 0)], dtype
            ).begin()
    assert len(relu_cpu._try_steps.signatures) == 2
    assert len(relu_cpu._accept.signatures) <= 2


def test_steps_that_are_not_accepted_leave_no_trace(depth: int) -> None:
    network = made(depth)
    network.begin()
    first = step(network, impulses(depth, 0.3))
    step(network, impulses(depth, -3.0))
    for one, other in zip(first, step(network, impulses(depth, 0.3)), strict=True):
        np.testing.assert_array_equal(one, other)


def test_selected_networks_go_on_where_they_are(depth: int) -> None:
    network, impulse = made(depth), impulses(depth, 0.3)
    network.begin()
    step(network, impulse)
    network.accept(np.array([True, False, True, True, False]))
    everyone, kept = step(network, impulse), np.array([4, 2])
    some = network.select(kept)
    for key, change in network.change(2).items():
        np.testing.assert_array_equal(some.change(1)[key], change)
    for one, other in zip(step(some, impulse[kept]), everyone, strict=True):
        np.testing.assert_array_equal(one, other[kept])


def test_a_network_that_overflows_does_so_alone(depth: int) -> None:
    network, impulse = made(depth, "float32"), impulses(depth, 0.1)
    network.begin()
    step(network, impulse)
    accepted(network)
    expected = step(network, impulse)
    broken = impulse.copy()
    broken[0] *= 1e38
    trial = step(network, broken)
    assert not (np.isfinite(trial.residual[0]).all() and trial.rotation[0] < MAX_ROTATION)
    for one, other in zip(step(network, impulse), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("large", [False, True], ids=["folded", "replaced by fewer"])
def test_factors_end_without_a_trace(depth: int, large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def outcome() -> list[Any]:
        result = integrate(made(depth), Settings(loss_tolerance=1e-2))
        assert all(isinstance(job["W2"], Product) == large for job in result.changes if depth > 2)
        return [{layer: frobenius(np.asarray(part)) for layer, part in job.items()} for job in result.changes]

    monkeypatch.setattr(relu_cpu, "LARGE", 0 if large else 10**6)
    late = outcome()
    monkeypatch.setattr(relu_cpu, "MAX_FACTORS", 5)
    for one, other in zip(outcome(), late, strict=True):
        assert one == pytest.approx(other, rel=2e-3)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_fewer_factors_make_up_the_same_product(dtype: str) -> None:
    generator = np.random.default_rng(0)
    scales = np.array([3.0, 1.0, 1e-3, 1e-20, 0.0])[:, None]
    left, right = scales * generator.standard_normal((5, 40)), generator.standard_normal((5, 41))
    left, right = (np.vstack([part, part, part]).astype(dtype) for part in (left, right))
    product = left.T.astype(float) @ right
    fewer = _fewer(left, right)
    assert [part.shape for part in fewer] == [(3, 40), (3, 41)]
    assert {part.dtype.name for part in fewer} == {dtype}
    np.testing.assert_allclose(
        np.asarray(Product(*fewer), np.float64), product, rtol=0, atol=RESOLUTION * np.linalg.norm(product)
    )
    lengths = np.array([np.linalg.norm(part, axis=1) ** 2 for part in fewer])
    np.testing.assert_allclose(lengths, [np.linalg.svd(product)[1][:3]] * 2, rtol=1e-3)
    broken = left.copy()
    broken[0, 0] = np.nan
    assert _fewer(broken, right)[0] is broken


def test_changes_of_any_rank_have_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of nearly full rank here: nothing is dropped, and the flow is the same."""
    generator = np.random.default_rng(1)
    x, y = generator.standard_normal((30, 3)), generator.uniform(-1, 1, 30)
    jobs = [Initialisation(40, 1.0, 0.0, 0.0, seed) for seed in (0, 1)]
    monkeypatch.setattr(relu_cpu, "RESOLUTION", 1e-12)
    results, rooms = [], []
    for limit in (0, 10**6):
        monkeypatch.setattr(relu_cpu, "LARGE", limit)
        network = ReluNetworkCPU.initialised(x, y, 3, 40, jobs, "float64")
        results.append(integrate(network, Settings(loss_tolerance=0.3)))
        rooms.append(network._state.left.shape[2])
    large, copied = results
    assert rooms[0] > rooms[1] and large.evaluations == copied.evaluations
    for one, other in zip(large.changes, copied.changes, strict=True):
        np.testing.assert_allclose(np.asarray(one["W2"]), other["W2"], rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("width", [1, 2, 31, 32, 63, 257])
@pytest.mark.parametrize("of_depth", [2, 3])
def test_padding_does_nothing(of_depth: int, width: int, dtype: str) -> None:
    """Whatever the width, the flow is that of the tensors, which pad otherwise: one or two neurons reach no small loss."""
    few: dict[tuple[int, int], tuple[int, ...]] = {(2, 1): (1, 5), (2, 2): (0, 6), (3, 1): (1,), (3, 2): (0,)}
    seeds, loss = few.get((of_depth, width), (0,)), 0.85 if width < 3 else 0.3
    settings = Settings(accuracy=0.002, loss_tolerance=loss, max_evaluations=500)
    jobs = [Initialisation(width, 0.5 * of_depth - 0.5, 0.3, 0.0, seed) for seed in seeds]
    x, y = X[[0, 1, 2, 4]], np.array([0.6, -0.4, 0.5, -0.2])
    tensors: TensorNetwork
    if of_depth == 2:
        x, y = X, Y
        cells = [(job.gamma, job.gamma_prime, job.seed) for job in jobs]
        tensors = TwoLayer.from_exponents(x, y, width, cells, getattr(torch, dtype), "cpu")
    else:
        deeper = [(job.gamma, job.gamma_prime, 0.0, job.seed) for job in jobs]
        tensors = ThreeLayer.from_exponents(x, y, width, deeper, getattr(torch, dtype), "cpu")
    expected = integrate(tensors, settings)
    result = integrate(ReluNetworkCPU.initialised(x, y, of_depth, width, jobs, dtype), settings)
    assert result.status == expected.status == ["converged"] * len(jobs)
    for ours, theirs in zip(result.changes, expected.changes, strict=True):
        for layer in theirs:
            assert frobenius(ours[layer]) == pytest.approx(frobenius(theirs[layer]), rel=0.02)


@pytest.mark.parametrize("gamma_prime", [-20.0, 20.0])
def test_exponents_beyond_the_arithmetic_diverge(gamma_prime: float) -> None:
    """300^20 is more than float32 holds: whatever comes out, it is no network that has come to rest."""
    jobs = [Initialisation(300, 1.0, gamma_prime, 0.0, 0)]
    result = integrate(ReluNetworkCPU.initialised(X, Y, 2, 300, jobs, "float32"), Settings())
    assert result.status == ["diverged"]


@pytest.fixture
def no_neuron_sees_the_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """All input weights w have w_1 > 0 and a negative bias."""

    def blind(depth: int, width: int, inputs: int, seed: int) -> tuple[np.ndarray, ...]:
        w1, *rest = initial_weights(depth, width, inputs, seed)
        return np.column_stack([np.abs(w1[:, :1]), w1[:, 1:-1], np.full(width, -0.1)]), *rest

    monkeypatch.setattr(relu_cpu, "initial_weights", blind)


@pytest.mark.usefixtures("no_neuron_sees_the_left")
def test_a_represented_network_whose_neurons_do_not_see_a_point_has_not_converged() -> None:
    """The biases of the second layer fit the point: in a whole network, that is how it is; in the wider one, some neurons would see it."""
    x, y = np.array([[-1.0], [0.3], [1.0]]), np.array([0.3, 0.5, -0.2])
    for width, status in ((20, "converged"), (10**4, "stalled"), (10**6, "stalled")):
        jobs = [Initialisation(width, 1.0, 0.0, 0.0, 0)]
        network = ReluNetworkCPU.initialised(x, y, 3, 20, jobs, "float64")
        result = integrate(network, Settings(loss_tolerance=1e-4))
        assert result.status == [status]
        assert (result.loss_final[0] < 1e-4 * np.mean(y**2) / 2) == (status == "converged")


@pytest.mark.usefixtures("no_neuron_sees_the_left")
@pytest.mark.parametrize(("gamma", "gamma_prime"), [(2.5, 0.0), (3.3, 0.5)])
def test_a_represented_network_ends_when_it_has_fitted_all_points_that_it_sees(
    gamma: float, gamma_prime: float
) -> None:
    """The biases of the second layer would take 10^10 times as long for the first point: its input is orthogonal to the others', so that no
    move of the input weights opens a neuron to it."""
    x, y = np.array([[-1.0, 0.0], [1.0, 0.5], [1.0, -0.5]]), np.array([0.3, 0.5, -0.2])
    jobs = [Initialisation(10**14, gamma, gamma_prime, 0.0, 0)]
    network = ReluNetworkCPU.initialised(x, y, 3, 20, jobs, "float64")
    result = integrate(network, Settings(loss_tolerance=1e-4))
    assert result.status == ["stalled"]
    assert result.loss_final[0] == pytest.approx(0.3**2 / 6, rel=1e-3)
    assert result.evaluations[0] < 2000


@pytest.mark.usefixtures("no_neuron_sees_the_left")
@pytest.mark.parametrize("large", [False, True])
def test_a_represented_network_that_stalls_is_followed_again_more_closely(
    large: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it as if each try were the only one; a whole network that stalls is what it is, and one that converges is done."""
    monkeypatch.setattr(relu_cpu, "LARGE", 0 if large else 10**6)
    x, y = np.array([[-1.0, 0.0], [1.0, 0.5], [1.0, -0.5]]), np.array([0.3, 0.5, -0.2])
    represented, whole = Initialisation(10**14, 2.5, 0.0, 0.0, 0), Initialisation(20, 1.0, 0.0, 0.0, 0)

    def network(*jobs: Initialisation) -> ReluNetworkCPU:
        return ReluNetworkCPU.initialised(x, y, 3, 20, jobs, "float64")

    limits = [Settings(CLOSER**count * 0.03, 1e-4) for count in range(TRIES)]
    tries = [_follow(network(represented), settings, True, True) for settings in limits]
    result = integrate(network(whole, represented), limits[0], trace=True)
    assert result.status == ["converged", "stalled"]
    assert result.evaluations[0] == _follow(network(whole), limits[0], False, True).evaluations[0]
    assert result.evaluations[1] == sum(outcome.evaluations[0] for outcome in tries)
    assert result.loss_final[1] == tries[-1].loss_final[0] != tries[0].loss_final[0]
    np.testing.assert_array_equal(np.asarray(result.changes[1]["W2"]), np.asarray(tries[-1].changes[0]["W2"]))
    trace = [moment.evaluations for moment in result.trace[1]]
    assert len(trace) == len(tries[-1].trace[0])
    assert trace[-1] == result.evaluations[1]


def test_neurons_too_small_to_show_in_the_kernel_grow_out_of_a_saddle() -> None:
    """The condensed network waits there at a loss of 0.0517. Beside Runge-Kutta steps of all weights, in units of time without kappa."""
    x, y = (
        np.append(np.linspace(0.2, 1, 11), -1.0)[:, None],
        np.append(np.sin(np.linspace(0.6, 3, 11)) + 0.3, 0.1),
    )
    inputs, neurons, mass, kappa = np.column_stack([x, np.ones(12)]), 20, 10**7 / 20, (10**7) ** -2.5
    w, a = initial_weights(2, neurons, 1, 0)
    f_start = np.maximum(inputs @ w.T, 0) @ a

    def residual(features: np.ndarray, a: np.ndarray) -> np.ndarray:
        return kappa * (np.sqrt(mass) * f_start + mass * (features @ a - f_start)) - y

    def gradient(_: float, weights: np.ndarray) -> np.ndarray:
        w, a = weights[:-neurons].reshape(neurons, 2), weights[-neurons:]
        z = inputs @ w.T
        e = residual(np.maximum(z, 0), a)
        return -np.append(((e[:, None] * (z > 0) * a).T @ inputs).ravel(), e @ np.maximum(z, 0)) / 12

    times = [200, 400, 500, 600]
    path = solve_ivp(gradient, (0, 600), np.append(w.ravel(), a), t_eval=times, rtol=1e-5, atol=1e-2).y.T
    ends = [(np.maximum(inputs @ one[:-neurons].reshape(neurons, 2).T, 0), one[-neurons:]) for one in path]
    expected = [np.mean(residual(*end) ** 2) / 2 for end in ends]
    network = ReluNetworkCPU.initialised(
        x, y, 2, neurons, [Initialisation(10**7, 2.5, 0.0, 0.0, 0)], "float64"
    )
    (trace,) = integrate(network, Settings(loss_tolerance=1e-4), trace=True).trace
    at, losses = [moment.time * kappa for moment in trace], [moment.loss for moment in trace]
    assert np.exp(np.interp(times, at, np.log(losses))) == pytest.approx(expected, rel=0.1)
    assert expected[0] > 0.05 and expected[-1] < 0.002


@pytest.mark.parametrize("tolerance", [1e-9, 1e-3])
def test_the_change_is_that_of_the_network_whose_loss_is_told(depth: int, tolerance: float) -> None:
    """Whatever the last step still owes."""
    result = integrate(made(depth), Settings(loss_tolerance=tolerance, max_evaluations=300))
    for job, changes in enumerate(result.changes):
        f, _, _ = definition(depth, job, changes)
        assert np.mean((f - Y) ** 2) / 2 == pytest.approx(result.loss_final[job], rel=1e-5)


def test_the_loss_never_rises(depth: int) -> None:
    settings = Settings(accuracy=0.02, loss_tolerance=1e-4)
    result = integrate(made(depth, "float32"), settings, trace=True)
    for trace in result.trace:
        losses = np.array([moment.loss for moment in trace])
        assert len(losses) > 3
        assert (losses[1:] <= (1 + settings.accuracy) * losses[:-1]).all()


@pytest.mark.parametrize(("width", "gamma", "gamma_prime"), [(10**10, 2.5, 0.9), (10**14, 2.6, 0.7)])
def test_a_debt_that_only_raises_the_loss_is_cancelled(width: int, gamma: float, gamma_prime: float) -> None:
    """Otherwise the loss rises with every step, however short, and the next step has the same debt: 20,000 evaluations at one place."""
    x, y = np.array([[-1.0], [-0.35], [0.3], [1.0]]), np.array([0.6, -0.4, 0.5, -0.2])
    job = Job("x", 3, width, 200, gamma, gamma_prime, 0.0, 1)
    rows = train_batch([job], x, y, TrainSpec())
    assert rows[0]["status"] == "converged"
    assert rows[0]["evaluations"] < 4000

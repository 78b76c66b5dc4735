"""The network against its definition: initial weights, residual, kernels, moves, gates on kinks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tensor_networks.tensors import Move, path_gates
from tensor_networks.two_layer import TwoLayer

from phasediag.engine.networks import initial_weights

X = np.array([[-1.0, 0.2], [-0.35, -0.5], [0.3, 0.9], [1.0, -0.1], [0.6, 0.6]])
Y = np.array([0.6, -0.4, 0.5, -0.2, 0.1])
JOBS = [(0.5, 0.0, 0), (1.0, 0.3, 1), (1.6, -0.2, 0)]


@pytest.fixture
def network() -> TwoLayer:
    return TwoLayer.from_exponents(X, Y, 64, JOBS, torch.float64, "cpu")


def by_hand(
    gamma: float, gamma_prime: float, w: np.ndarray, a: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """f (n,), and its gradients in w (n, m, d+1) and a (n, m), neuron by neuron."""
    inputs, kappa = np.hstack([X, np.ones((5, 1))]), 64.0**-gamma
    z = inputs @ w.T
    f = kappa * np.maximum(z, 0) @ a
    return f, kappa * (z > 0)[:, :, None] * a[None, :, None] * inputs[:, None, :], kappa * np.maximum(z, 0)


def settled_move(network: TwoLayer, impulse: torch.Tensor, passes: int = 5) -> Move:
    """A first move of all networks under a steady impulse, repeated until the gates that it meets are those it was given."""
    start, steady = network.start(), torch.zeros_like(impulse)
    path = network.path(start, steady[:, 0])
    for _ in range(passes):
        move = network.move(start, path, impulse, steady)
        path = move.path
    return move


def test_initial_weights_depend_on_shape_and_seed_alone() -> None:
    w, a = initial_weights(2, 200, 3, 7)
    again_w, again_a = initial_weights(2, 200, 3, 7)
    assert np.array_equal(w, again_w)
    assert np.array_equal(a, again_a)
    assert w.shape == (200, 4)
    assert a.shape == (200,)
    for other in [(2, 200, 3, 8), (2, 201, 3, 7), (2, 200, 4, 7)]:
        assert initial_weights(*other)[0][0, 0] != w[0, 0]


def test_initial_weights_are_pinned() -> None:
    w, a = initial_weights(2, 100, 1, 0)
    assert w[0].tolist() == pytest.approx([0.0016569207277106295, -1.3822847359669987], abs=0)
    assert a[0] == 0.5813718910337652


def test_initial_output_has_the_analytic_variance() -> None:
    """Var f(x) = kappa^2 m E[a^2] E[relu(w.x)^2] = kappa^2 m (|x|^2 + 1) / 2."""
    width, seeds = 2000, range(200)
    network = TwoLayer.from_exponents(
        X[:1], Y[:1], width, [(0.5, 0.0, seed) for seed in seeds], torch.float64, "cpu"
    )
    residual, _ = network.evaluate(network.start())
    f = residual.squeeze(1).numpy() + network.y
    expected = (np.sum(X[0] ** 2) + 1) / 2
    spread = expected * np.sqrt(2 / len(f))  # standard error of a variance
    assert abs(np.mean(f**2) - expected) < 4 * spread


def test_residual_and_kernels_are_those_of_the_definition(network: TwoLayer) -> None:
    residual, kernels = network.evaluate(network.start())
    for job, (gamma, gamma_prime, seed) in enumerate(JOBS):
        w, a = initial_weights(2, 64, 2, seed)
        f, dw, da = by_hand(gamma, gamma_prime, w, a)
        kappa_prime = 64.0**-gamma_prime
        np.testing.assert_allclose(residual[job], f - Y, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(
            kernels["W1"][job], kappa_prime / 5 * np.einsum("imd,jmd->ij", dw, dw), rtol=1e-10
        )
        np.testing.assert_allclose(kernels["a"][job], da @ da.T / kappa_prime / 5, rtol=1e-10)


def test_kernels_are_symmetric_and_positive(network: TwoLayer) -> None:
    _, kernels = network.evaluate(network.start())
    for kernel in kernels.values():
        torch.testing.assert_close(kernel, kernel.transpose(1, 2), rtol=1e-12, atol=0)
        assert torch.linalg.eigvalsh(kernel).min() > -1e-12 * kernel.abs().max()


def test_a_small_move_is_one_step_of_gradient_descent(network: TwoLayer) -> None:
    impulse = 1e-7 * torch.tensor([[0.3, -0.2, 0.5, 0.1, -0.7]], dtype=torch.float64).expand(3, 5)
    move = settled_move(network, impulse)
    for job, (gamma, gamma_prime, seed) in enumerate(JOBS):
        _, dw, da = by_hand(gamma, gamma_prime, *initial_weights(2, 64, 2, seed))
        kappa_prime, e = 64.0**-gamma_prime, impulse[job].numpy() / 5
        np.testing.assert_allclose(
            move.weights.dw[job].T, -kappa_prime * np.einsum("i,imd->md", e, dw), rtol=1e-4, atol=1e-13
        )
        np.testing.assert_allclose(
            move.weights.da[job, 0], -np.einsum("i,im->m", e, da) / kappa_prime, rtol=1e-4, atol=1e-13
        )


def test_the_kernel_is_the_jacobian_of_the_residual_in_the_impulse(network: TwoLayer) -> None:
    residual, kernels = network.evaluate(network.start())
    impulse = 1e-6 * torch.tensor([[0.3, -0.2, 0.5, 0.1, -0.7]], dtype=torch.float64).expand(3, 5)
    moved, _ = network.evaluate(settled_move(network, impulse).weights)
    predicted = -((kernels["W1"] + kernels["a"]) @ impulse[:, :, None]).squeeze(2)
    torch.testing.assert_close(moved - residual, predicted, rtol=1e-3, atol=1e-12)


def test_every_move_conserves_the_balance_of_each_neuron(network: TwoLayer) -> None:
    """The flow conserves kappa' a_k^2 - |w_k|^2 / kappa' for each neuron; so does every move, however large."""
    impulse = torch.tensor([[3.0, -2.0, 5.0, 1.0, -7.0]], dtype=torch.float64) * torch.tensor(
        [[1.0], [10.0], [300.0]]
    )
    weights = settled_move(network, impulse).weights
    kappa_prime = 64.0 ** -torch.tensor([prime for _, prime, _ in JOBS], dtype=torch.float64)[:, None]

    def balance(w: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
        return kappa_prime * a.squeeze(1) ** 2 - (w**2).sum(dim=1) / kappa_prime

    before = balance(network.w, network.a)
    after = balance(network.w + weights.dw, network.a + weights.da)
    assert weights.dw.abs().max() > 1
    torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def gates(z: float, on: float, off: float) -> tuple[float, bool]:
    gate, _, sliding = path_gates(torch.tensor(z), torch.tensor(on), torch.tensor(off))
    return float(gate), bool(sliding)


@pytest.mark.parametrize(
    ("z", "on", "off", "gate", "sliding"),
    [
        (1.0, 0.5, 9.0, 1.0, False),  # stays active
        (-1.0, 9.0, 0.5, 0.0, False),  # stays inactive
        (1.0, -4.0, -2.0, 0.25, False),  # passes through after a quarter of the step
        (-1.0, 3.0, 4.0, 0.75, False),  # the same upwards
        (0.0, -1.0, 3.0, 0.75, True),  # held: 0.75 of the push on, 0.25 of the push off cancel
        (1.0, -2.0, 1.0, 2 / 3, True),  # falls onto the kink and is held there: ends at zero
        (0.0, 1.0, -1.0, 0.0, False),  # pushed away on both sides: stays on its own
    ],
)
def test_gates_along_a_step(z: float, on: float, off: float, gate: float, sliding: bool) -> None:
    assert gates(z, on, off) == (pytest.approx(gate), sliding)


@given(*[st.floats(-3, 3, width=32)] * 3)
def test_average_gates_are_gates_and_hold_what_slides(z: float, on: float, off: float) -> None:
    gate, sliding = gates(z, on, off)
    assert 0 <= gate <= 1
    if sliding:
        assert z + gate * on + (1 - gate) * off == pytest.approx(0, abs=1e-5)


@given(st.floats(-0.99, 0.99), st.floats(-3, -0.01), st.floats(0.01, 3))
def test_what_is_pushed_onto_the_kink_from_both_sides_and_reaches_it_is_held(
    share: float, on: float, off: float
) -> None:
    z = share * (-on if share > 0 else off)  # nearer than the push from its side leads
    gate, sliding = gates(z, on, off)
    assert sliding
    assert z + gate * on + (1 - gate) * off == pytest.approx(0, abs=1e-5)


def test_a_held_neuron_slides_along_the_kink_and_its_kernel_knows() -> None:
    """One neuron at the kink of point 0, pushed onto it from both sides: it stays, and moves along it only."""
    x = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    w = torch.tensor([[[1.0], [0.0]]], dtype=torch.float64)  # (B, d+1, m): z = x, so point 0 is on the kink
    a = torch.ones(1, 1, 1, dtype=torch.float64)
    one = torch.ones(1, dtype=torch.float64)
    network = TwoLayer(x, torch.zeros(2, dtype=torch.float64), one, one, w, a)
    impulse = torch.tensor(
        [[0.02, -0.01]], dtype=torch.float64
    )  # point 0 pushes z_0 down when active, point 1 up
    move = settled_move(network, impulse)
    assert bool(move.weights.sliding[0, 0, 0])
    assert float(move.weights.z[0, 0, 0]) == pytest.approx(0, abs=1e-6)
    _, kernels = network.evaluate(move.weights)
    w1 = float(1 + move.weights.da[0, 0, 0])
    assert float(kernels["W1"][0, 0, 0]) == pytest.approx(0, abs=1e-12)
    assert float(kernels["W1"][0, 1, 1]) == pytest.approx(
        w1**2 * 1.0 / 2
    )  # |x_1|^2 = 2 less its length along (0, 1)

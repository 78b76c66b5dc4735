"""Independent references for the gradient flow of networks of any depth, whole or represented: explicit small steps, float64, NumPy.

They share nothing with the engine but the definition of the networks and the initial weights. Networks are the normalised ones,
with all weights N(0, 1) at the start; layer l follows dW_l/dt = -(c_l / n) sum_i e_i df(x_i)/dW_l, e_i = f(x_i) - y_i, with rates c_l:

    two layers     f = kappa a . relu(W1 x)                   c_a = 1/kappa',  c_1 = kappa'
    three layers   f = kappa a . relu(W2 [relu(W1 x); 1])     c_a = 1,  c_2 = kappa_1^2,  c_1 = kappa'^2        and so on

where x ends in 1, and kappa, kappa' and kappa_1 are m^-gamma, m^-gamma' and m^-gamma_1 (Luo et al., JMLR 2021; Zhou et al., NeurIPS
2022).

The scheme is explicit Euler: neurons that cross kinks, or slide along them, leave any method with an error of first order, and Euler's is
the smallest. Where the weights hardly move, steps may be longer than Euler's stability limit, 2 / (largest eigenvalue of the kernel):
with s Chebyshev stages the limit is s^2 times as long (van der Houwen and Sommeijer, Z. angew. Math. Mech. 60, 1980), so that the slow
modes of an ill-conditioned kernel are within reach. One stage is Euler's step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Weights = tuple[Array, ...]

DAMPING = 0.05
MARGIN = 1.3
"""Stages are for a largest eigenvalue this much larger, for it changes between looks at it and within a step."""
LANDING_PASSES = 30


@dataclass(frozen=True)
class Reference:
    """Where a flow ended.

    ``changes`` is the relative change of each layer when the loss, here over that of f = 0, was down to the tolerance; ``further``
    holds the same for the smaller losses that were asked for, as far as twice as many steps reached them. ``steps`` and
    ``evaluations`` (passes over the data) are for all of it.
    """

    changes: tuple[float, ...]
    loss: float
    steps: int
    evaluations: int
    further: tuple[tuple[float, ...], ...] = ()

    @property
    def w(self) -> float:
        """Relative change of W1."""
        return self.changes[0]

    @property
    def a(self) -> float:
        """Relative change of a."""
        return self.changes[-1]


@dataclass(frozen=True)
class Flow:
    """A network on its data, as functions of its weights.

    ``velocity`` of every layer together with the residual e (n,); ``kernel`` (n, n), with de/dt = -kernel e; and ``growth``, the
    largest rate at which a neuron's weights grow at a given residual.
    """

    velocity: Callable[[Weights], tuple[Weights, Array]]
    kernel: Callable[[Weights], Array]
    growth: Callable[[Weights, Array], float]


def small_step_flow(
    x: Array,
    y: Array,
    gamma: float,
    gamma_prime: float,
    w: Array,
    a: Array,
    step: float = 0.05,
    loss_tolerance: float = 1e-6,
    max_steps: int = 1_000_000,
    reach: float = 1.0,
    further: tuple[float, ...] = (),
) -> Reference:
    """Follows W1 = w (m, d+1) and a (m,) on x (n, d), y (n,) until the loss is ``loss_tolerance`` times that of f = 0.

    A step is at most ``step * reach`` over the largest eigenvalue of the kernel, and at most half of ``step`` of the time in which
    a neuron grows by e, or in which a layer moves by its spectral norm. ``further``: smaller losses at which to look again,
    descending, in units of ``loss_tolerance``.
    """
    flow = two_layers(x, y, gamma, gamma_prime, len(a))
    losses = tuple(loss_tolerance * part for part in (1.0, *further))
    return follow(flow, y, (w, a), step, reach, losses, max_steps)


def small_step_flow_deep(
    x: Array,
    y: Array,
    gamma: float,
    gamma_prime: float,
    gamma_1: float,
    weights: Weights,
    width: int | None = None,
    step: float = 0.05,
    loss_tolerance: float = 1e-6,
    max_steps: int = 1_000_000,
    reach: float = 1.0,
    further: tuple[float, ...] = (),
) -> Reference:
    """The same for any depth: w1 (m, d+1), w2 (m, m+1; bias last), ..., a (m,). With ``width``, the m neurons of each hidden layer stand
    for so many."""
    neurons = len(weights[-1])
    mass = 1.0 if width is None else width / neurons
    flow = layers(x, y, gamma, gamma_prime, gamma_1, weights, mass)
    losses = tuple(loss_tolerance * part for part in (1.0, *further))
    found = follow(flow, y, weights, step, reach, losses, max_steps)
    # weights count as often as neurons that they belong to; biases less often
    norms = [float(np.linalg.norm(part)) for part in weights]
    counted = [
        float(np.hypot(np.linalg.norm(part[:, :-1]), np.linalg.norm(part[:, -1]) / np.sqrt(mass)))
        if 0 < layer < len(weights) - 1
        else norm
        for layer, (part, norm) in enumerate(zip(weights, norms, strict=True))
    ]

    def relative(changes: tuple[float, ...]) -> tuple[float, ...]:
        # what is followed of the weights between hidden layers is sqrt(mass) times their displacement
        scales = [
            norm / whole / (np.sqrt(mass) if 0 < layer < len(weights) - 1 else 1.0)
            for layer, (norm, whole) in enumerate(zip(norms, counted, strict=True))
        ]
        return tuple(float(scale * change) for scale, change in zip(scales, changes, strict=True))

    return Reference(
        relative(found.changes),
        found.loss,
        found.steps,
        found.evaluations,
        tuple(map(relative, found.further)),
    )


def two_layers(x: Array, y: Array, gamma: float, gamma_prime: float, width: int) -> Flow:
    """The two-layer network; weights are W1 (m, d+1) and a (m,).

    A neuron depends on the data only through pull_k = (1/n) sum_i e_i gate_ki x_i: since relu(w_k . x_i) = gate_ki w_k . x_i,
    da_k/dt = -(kappa/kappa') w_k . pull_k and dw_k/dt = -kappa kappa' a_k pull_k. So no array (m, n) is needed but the gates.
    """
    inputs = np.hstack([x, np.ones((len(x), 1))])
    n, kappa, kappa_prime = len(x), float(width) ** -gamma, float(width) ** -gamma_prime

    def forward(w: Array, a: Array) -> tuple[Array, Array]:
        gate = (w @ inputs.T > 0).astype(np.float64)
        f = kappa * np.sum(inputs * (gate.T @ (a[:, None] * w)), axis=1)
        return gate, f - y

    def pull(gate: Array, residual: Array) -> Array:
        return gate @ (residual[:, None] * inputs) / n

    def velocity(weights: Weights) -> tuple[Weights, Array]:
        w, a = weights
        gate, residual = forward(w, a)
        force = pull(gate, residual)
        return (
            -kappa * kappa_prime * a[:, None] * force,
            -kappa / kappa_prime * np.sum(w * force, axis=1),
        ), residual

    def kernel(weights: Weights) -> Array:
        w, a = weights
        features = np.maximum(w @ inputs.T, 0.0)
        back = a[:, None] * (features > 0)
        outer: Array = kappa_prime * (back.T @ back) * (inputs @ inputs.T)
        total: Array = kappa**2 / n * (features.T @ features / kappa_prime + outer)
        return total

    def growth(weights: Weights, residual: Array) -> float:
        gate = (weights[0] @ inputs.T > 0).astype(np.float64)
        return float(kappa * np.linalg.norm(pull(gate, residual), axis=1).max())

    return Flow(velocity, kernel, growth)


def layers(
    x: Array,
    y: Array,
    gamma: float,
    gamma_prime: float,
    gamma_1: float,
    start: Weights,
    mass: float = 1.0,
) -> Flow:
    """A network of any depth, of which each neuron stands for ``mass``; weights are W1 (m, d+1), matrices (m, m+1) and a (m,).

    Of the matrices between hidden layers, ``W(0) + sqrt(mass) (W - W(0))`` is followed, biases as they are: it acts on
    sqrt(mass) relu(z).
    """
    inputs = np.hstack([x, np.ones((len(x), 1))]).T
    n, neurons, root = len(x), len(start[-1]), np.sqrt(mass)
    width = mass * neurons
    kappa, between = width**-gamma, width ** (-2 * gamma_1)
    rates = (width ** (-2 * gamma_prime), *[between] * (len(start) - 2))
    one = np.ones((1, n))

    def forward(weights: Weights) -> tuple[list[Array], Array]:
        """What every hidden layer sees (., n), and the features of the last one (m, n)."""
        seen = [inputs]
        for w in weights[:-2]:
            seen.append(np.vstack([root * np.maximum(w @ seen[-1], 0.0), one]))
        return seen, np.maximum(weights[-2] @ seen[-1], 0.0)

    before = start[-1] @ forward(start)[1]

    def backward(weights: Weights, seen: list[Array], last: Array) -> list[Array]:
        """df/dz of every hidden layer (m, n), over the prefactor."""
        signals = [weights[-1][:, None] * (last > 0)]
        for w, below in zip(weights[-2:0:-1], seen[:0:-1], strict=True):
            signals.insert(0, root * (w[:, :-1].T @ signals[0]) * (below[:-1] > 0))
        return signals

    def velocity(weights: Weights) -> tuple[Weights, Array]:
        seen, last = forward(weights)
        residual = kappa * (root * before + mass * (weights[-1] @ last - before)) - y
        signals = backward(weights, seen, last)
        scale = -kappa / n
        moves = [
            scale * rate * ((signal * residual) @ below.T)
            for rate, signal, below in zip(rates, signals, seen, strict=True)
        ]
        return (*moves, scale * (last @ residual)), residual

    def kernel(weights: Weights) -> Array:
        seen, last = forward(weights)
        total: Array = last.T @ last
        for rate, signal, below in zip(rates, backward(weights, seen, last), seen, strict=True):
            total = total + rate * (signal.T @ signal) * (below.T @ below)
        whole: Array = kappa**2 * mass / n * total
        return whole

    def growth(weights: Weights, residual: Array) -> float:
        """Of an output weight together with its input weights, were the layers before to stand still."""
        seen, last = forward(weights)
        pull = ((last > 0) * residual) @ seen[-1].T / n
        return float(kappa * np.sqrt(rates[-1]) * np.linalg.norm(pull, axis=1).max())

    return Flow(velocity, kernel, growth)


def follow(
    flow: Flow,
    y: Array,
    start: Weights,
    step: float,
    reach: float,
    losses: tuple[float, ...],
    max_steps: int,
) -> Reference:
    """Follows the flow to the moments at which the loss is each of ``losses`` (over that of f = 0), or for ``max_steps``."""
    zero_loss = float(np.mean(y**2))
    weights, (velocity, residual) = start, flow.velocity(start)
    evaluations, count, limit = 1, 0, max_steps
    met: list[tuple[float, tuple[float, ...]]] = []
    while True:
        loss = float(np.mean(residual**2)) / zero_loss
        if reached := sum(loss <= aim * 1.0002 for aim in losses[len(met) :]):
            met += [(loss, _changes(weights, start))] * reached
        if len(met) == 1 and limit == max_steps:
            limit = min(max_steps, 2 * count)  # the smaller losses are not worth any cost
        if len(met) == len(losses) or count >= limit:
            break
        if count % 4 == 0:
            largest = float(np.linalg.eigvalsh(flow.kernel(weights))[-1])
            growth = flow.growth(weights, residual)
            sizes = [_spectral_norm(part) for part in weights]
        speed = max(float(np.linalg.norm(v)) / size for v, size in zip(velocity, sizes, strict=True))
        time = step / max(largest / reach, 2 * speed, 2 * growth)
        stages = _stages(MARGIN * largest * time)
        target = losses[len(met)] * zero_loss
        weights, velocity, residual = _landed(flow, weights, velocity, time, stages, target)
        evaluations, count = evaluations + stages, count + 1
    loss, changes = met[0] if met else (loss, _changes(weights, start))
    return Reference(changes, loss, count, evaluations, tuple(there for _, there in met[1:]))


def _landed(
    flow: Flow, weights: Weights, velocity: Weights, time: float, stages: int, target: float
) -> tuple[Weights, Weights, Array]:
    """A step, or that part of it after which the loss is ``target``: weights, velocity and residual there."""
    low, high, part = 0.0, 1.0, 1.0
    for _ in range(LANDING_PASSES):
        moved = _chebyshev_step(flow, weights, velocity, part * time, stages)
        velocity_there, residual = flow.velocity(moved)
        loss = float(np.mean(residual**2))
        if (part == 1.0 and loss > target) or abs(loss / target - 1) < 1e-4:
            break
        low, high = (part, high) if loss > target else (low, part)
        part = (low + high) / 2
    return moved, velocity_there, residual


def _chebyshev_step(flow: Flow, start: Weights, velocity: Weights, time: float, stages: int) -> Weights:
    """One step from ``start``, where the velocity is known, with T_s(w0 + w1 z) / T_s(w0) as stability polynomial.

    T_s of Chebyshev by its recurrence, w0 = 1 + damping / s^2, and w1 such that the step is consistent.
    """
    w0, w1 = _damped(stages)
    t_before, t_now = 1.0, w0
    before, now = start, _sum((1.0, start), (time * w1 / w0, velocity))
    for _ in range(stages - 1):
        t_before, t_now, t_last = t_now, 2 * w0 * t_now - t_before, t_before
        there, _ = flow.velocity(now)
        factors = 2 * w0 * t_before / t_now, -t_last / t_now, 2 * w1 * t_before / t_now * time
        before, now = now, _sum((factors[0], now), (factors[1], before), (factors[2], there))
    return now


@cache
def _damped(stages: int) -> tuple[float, float]:
    """w0 and w1."""
    w0 = 1 + DAMPING / stages**2
    last = np.polynomial.Chebyshev.basis(stages)
    return w0, float(last(w0) / last.deriv()(w0))


def _stages(reach: float) -> int:
    """Stages with which a step of ``reach`` over the largest eigenvalue is stable."""
    return max(1, int(np.ceil(np.sqrt(reach / (2 - 4 / 3 * DAMPING)))))


def _sum(*terms: tuple[float, Weights]) -> Weights:
    """Linear combination, layer by layer."""
    layers = range(len(terms[0][1]))
    parts = ([factor * weights[layer] for factor, weights in terms] for layer in layers)
    return tuple(np.add.reduce(part) for part in parts)


def _spectral_norm(weights: Array) -> float:
    """Of a matrix a lower bound, close after some power iterations; of a vector its length."""
    if weights.ndim == 1:
        return float(np.linalg.norm(weights))
    vector = np.ones(weights.shape[1])
    for _ in range(10):
        vector = weights.T @ (weights @ (vector / np.linalg.norm(vector)))
    return float(np.sqrt(np.linalg.norm(vector)))


def _changes(weights: Weights, start: Weights) -> tuple[float, ...]:
    return tuple(
        float(np.linalg.norm(now - then) / np.linalg.norm(then))
        for now, then in zip(weights, start, strict=True)
    )

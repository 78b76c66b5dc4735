"""A batch of networks as the integrator sees it: initial weights, what a step brings, how it ends.

In normalised weights (N(0, 1) at the start; physics of Luo et al., JMLR 2021, and Zhou et al., NeurIPS 2022) layer l obeys

    dtheta_l/dt = -(kappa c_l / n) sum_i e_i J_l,i ,        e_i = f(x_i) - y_i,    J_l,i = d(f(x_i) / kappa) / d theta_l

with kappa = m^-gamma and one rate c_l per layer. The integrator (:mod:`.flow`) works with the *impulse*
``E_i = integral of e_i dt`` of a step. A :class:`.flow.Network` moves its weights under a given impulse, and tells the residual and the
kernel that it then has: :class:`.relu_cpu.ReluNetworkCPU` on a CPU, :class:`.relu_gpu.ReluNetworkGPU` on a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

from .measures import Measured

MAX_ROTATION = 20.0
"""Largest hyperbolic angle of one step: beyond it cosh and sinh of float32 lose all meaning, and so does the step."""

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]


class Product(NamedTuple):
    """A large matrix ``left^T right`` (m, k) by its factors (r, m) and (r, k): `numpy.asarray` multiplies them."""

    left: NDArray[np.floating]
    right: NDArray[np.floating]

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[np.floating]:
        product: NDArray[np.floating] = self.left.T @ self.right
        return product if dtype is None else product.astype(dtype, copy=False)


Layers = dict[str, NDArray[np.floating]]
"""Weights by layer, neurons first, biases last: W1 (m, d+1), of three layers W2 (m, m+1), a (m,)."""
Changes = Mapping[str, NDArray[np.floating] | Product]
"""Displacements of weights, likewise."""


class Initialisation(NamedTuple):
    """What tells a network from others of its depth and data: its width m, the exponents of its initialisation, and its seed."""

    width: int
    gamma: float
    gamma_prime: float
    gamma_1: float
    seed: int

    def rates(self, depth: int) -> tuple[float, ...]:
        """The logarithms of the rates c_l of all layers of so deep a network, to the base m: only their ratios matter."""
        return (-2 * self.gamma_prime, *[-2 * self.gamma_1] * (depth - 2), 0.0)


def initial_weights(depth: int, width: int, inputs: int, seed: int) -> tuple[np.ndarray, ...]:
    """Normalised initial weights: the same for all exponents at one (depth, width, inputs, seed).

    Returns ``W1`` of shape (width, inputs + 1), the matrices between hidden layers, (width, width + 1) each, biases last, and ``a`` of
    shape (width,); float64, every entry N(0, 1).
    """
    generator = np.random.default_rng([depth, width, inputs, seed])
    shapes = ((width, inputs + 1), *[(width, width + 1)] * (depth - 2), (width,))
    return tuple(generator.standard_normal(shape) for shape in shapes)


class Moment(NamedTuple):
    """Where the training of a job is after so many evaluations. ``time``: of the flow, in units in which the rate of the output weights is
    1; NaN where a method follows none. ``moved``: Frobenius norm of the displacement by layer, at most: between hidden layers, the
    lengths of steps are summed up for some time."""

    evaluations: int
    time: float
    loss: float
    moved: dict[str, float]


class Course(NamedTuple):
    """What is known of the way of a job from its start to its end, beside its weights.

    ``time`` at its end, and ``time_half``, when the loss first was half of what it was at the start, in the unit of `Moment.time`;
    ``kernel_change`` and ``linear_gap``: see :mod:`.linearised`; ``impulse`` (n,): the integral of the residual of the network that was
    linearised at the start, in that time.
    """

    time: float
    time_half: float
    kernel_change: float
    linear_gap: float
    impulse: Array


@dataclass
class Outcome:
    """Where a batch ended, whatever trained it. All lists are per job, in the order given."""

    status: list[str]
    evaluations: list[int]
    loss_initial: list[float]
    loss_final: list[float]
    changes: list[Changes]
    """Displacement of the weights since the start."""
    trace: list[list[Moment]]
    """Along the way, where it was asked for."""
    measured: list[Mapping[str, Measured]]
    """What was measured where the networks are, by layer; nothing where the changes are to be measured."""
    courses: list[Course]
    outputs: list[Array]
    """The sum over the neurons (k,) after training at the points that were asked for (see :mod:`.functions`); empty where that is left to
    who has the changes."""

    @classmethod
    def of(cls, batch: int) -> Outcome:
        """The outcome of so many jobs before their training: everything is empty or zero."""
        return cls(
            [""] * batch,
            [0] * batch,
            [],
            [0.0] * batch,
            [{}] * batch,
            [[] for _ in range(batch)],
            [{}] * batch,
            [],
            [np.empty(0)] * batch,
        )

    def update(self, jobs: Indices, again: Outcome) -> None:
        """The outcome of these jobs becomes that of another try; evaluations add up."""
        for index, job in enumerate(jobs):
            before = self.evaluations[job]
            self.status[job], self.evaluations[job] = again.status[index], before + again.evaluations[index]
            self.loss_final[job], self.changes[job] = again.loss_final[index], again.changes[index]
            self.measured[job], self.outputs[job] = again.measured[index], again.outputs[index]
            self.courses[job] = again.courses[index]
            self.trace[job] = [
                moment._replace(evaluations=before + moment.evaluations) for moment in again.trace[index]
            ]


class Evaluated(NamedTuple):
    """Residual ``e`` (B, n) of a batch, and the kernel of every layer, ``kappa^2 c_l J_l J_l^T / n`` (B, L, n, n); both float64,
    of the kind that the network's arrays are of.

    With frozen features ``de/dt = -sum_l K_l e``.
    """

    residual: Any
    kernels: Any


class Trial(NamedTuple):
    """Where a trial move under an impulse leads to, and what it risked. Float64, jobs first."""

    residual: Any  # (B, n) and kernels (B, L, n, n): see Evaluated
    kernels: Any
    held: Any  # (B, n, n) what neurons that rest on a kink, and so are not free to follow a gradient, take from the sum of the kernels
    rotation: Any  # (B,) largest hyperbolic angle of a neuron
    unsettled: Any  # (B,) what the gates and signals that it met would change, relative to a layer's displacement since the start
    travelled: Any  # (B, L) displacement of every layer since the start, Frobenius norm

    @classmethod
    def empty(cls, jobs: int, layers: int, points: int) -> Trial:
        """Room for a trial; what is not filled in stays NaN."""
        return cls(
            residual=np.full((jobs, points), np.nan),
            kernels=np.full((jobs, layers, points, points), np.nan),
            held=np.full((jobs, points, points), np.nan),
            rotation=np.empty(jobs),
            unsettled=np.empty(jobs),
            travelled=np.full((jobs, layers), np.nan),
        )

"""Batches of two-layer ReLU networks, moved exactly under a given impulse.

With kappa = m^-gamma, kappa_prime = m^-gamma_prime (Luo et al., JMLR 2021, section 2)

    f(x) = kappa sum_k a_k relu(w_k . x),        x = (inputs, 1)
    da_k/dt = -(kappa / kappa_prime / n) sum_i e_i relu(w_k . x_i)
    dw_k/dt = -(kappa * kappa_prime / n) sum_i e_i a_k gate_ki x_i ,        e_i = f(x_i) - y_i,   gate_ki = 1[w_k . x_i > 0] .

Given the impulse ``E_i = integral of e_i dt`` of a step, every neuron moves independently of all others, and, while its gates stay as
they are, exactly: along ``G_k = sum_i E_i gate_ki x_i / n`` it performs a hyperbolic rotation. Gates are averaged along the way, so that
neurons which cross, or come to rest on, the kink of a data point are moved correctly too.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from phasediag.engine.descent import ALIGNMENT, flow_rates, layers_of
from phasediag.engine.networks import Layers, initial_weights

from .tensors import (
    Data,
    Move,
    TensorNetwork,
    choose,
    hyperbolic,
    input_kernel,
    norm,
    path_gates,
    pick,
    relative,
    stack_padded,
    stacked,
    unit_and_size,
)

SUBSTEPS = 64
"""Substeps of a neuron that passes the origin within a step."""


class Weights(NamedTuple):
    """Where each job's weights are: displacements from the start, so that tiny changes keep their digits.

    ``dw`` (B, d+1, m), ``da`` (B, 1, m), preactivations ``z`` (B, n, m), ``gate`` (B, n, m) in [0, 1], and ``sliding`` (B, n, m),
    True where a neuron is held on the kink of a data point.
    """

    dw: Tensor
    da: Tensor
    z: Tensor
    gate: Tensor
    sliding: Tensor


class Path(NamedTuple):
    """Gates along a step, (B, n, m) each: averages, and first moments about its middle."""

    gate: Tensor
    moment: Tensor


class TwoLayer(TensorNetwork):
    """A batch of two-layer networks of one width on one data set.

    Parameters: ``x`` (n, d) and ``y`` (n,) float64; per job the prefactor ``kappa`` and ``kappa_prime`` (B,); the initial weights
    ``w`` (B, d+1, m) and ``a`` (B, 1, m) in the dtype of the computation; ``width``, how many of the m neurons are no padding.
    """

    layers: tuple[str, ...] = ("W1", "a")

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        kappa: Tensor,
        kappa_prime: Tensor,
        w: Tensor,
        a: Tensor,
        width: int | None = None,
    ) -> None:
        self.width = w.shape[2] if width is None else width
        self._hold(Data.of(x, y, len(w), w.dtype), kappa, kappa_prime, w, a)

    def _hold(self, data: Data, kappa: Tensor, kappa_prime: Tensor, w: Tensor, a: Tensor) -> None:
        self._y, self._gram, self._inputs, self._square = data
        self.points = len(self._y)
        self._data, self._kappa, self._kappa_prime = data, kappa, kappa_prime
        self.w, self.a = w, a
        self.rates = stacked(flow_rates(2, kappa_prime, kappa_prime))
        self.y = self._y.cpu().numpy()

    @classmethod
    def from_exponents(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        width: int,
        jobs: Sequence[tuple[float, float, int]],
        dtype: torch.dtype,
        device: str,
    ) -> TwoLayer:
        """The networks of ``jobs`` = (gamma, gamma_prime, seed), at their initial weights."""
        padded = width + -width % ALIGNMENT
        inputs = x.shape[1]
        drawn = {seed: initial_weights(2, width, inputs, seed) for seed in {seed for *_, seed in jobs}}
        exponents = torch.tensor([job[:2] for job in jobs], dtype=torch.float64, device=device)
        return cls(
            torch.from_numpy(x).to(device=device, dtype=torch.float64),
            torch.from_numpy(y).to(device=device, dtype=torch.float64),
            float(width) ** -exponents[:, 0],
            float(width) ** -exponents[:, 1],
            stack_padded([drawn[seed][0].T for *_, seed in jobs], (inputs + 1, padded), dtype, device),
            stack_padded([drawn[seed][1][None] for *_, seed in jobs], (1, padded), dtype, device),
            width,
        )

    def picked(self, jobs: Tensor) -> TwoLayer:
        """The networks with these indices, without their weights."""
        selected = copy(self)
        per_job = pick((self._kappa, self._kappa_prime, self.w, self.a), jobs)
        selected._hold(self._data.for_batch(len(jobs)), *per_job)
        return selected

    def start(self) -> Weights:
        """The initial weights."""
        z = torch.bmm(self._inputs, self.w)
        sliding = torch.zeros_like(z, dtype=torch.bool)
        return Weights(torch.zeros_like(self.w), torch.zeros_like(self.a), z, (z > 0).to(z.dtype), sliding)

    def path(self, weights: Weights, ratio: Tensor) -> Path:
        """The gates as they are at these weights."""
        return Path(weights.gate, torch.zeros_like(weights.gate))

    def commit(self, accepted: Tensor, new: Weights, old: Weights) -> Weights:
        """The new weights of the jobs that accepted their step (B,), the old ones of the others."""
        return choose(accepted, new, old)

    def initial(self, job: int) -> Layers:
        """Initial weights of one job: W1 (width, d+1), a (width,)."""
        return self._layers(self.w[job], self.a[job])

    def changes(self, weights: Weights, job: int) -> Layers:
        """Displacement since the start of one job: W1 (width, d+1), a (width,)."""
        return self._layers(weights.dw[job], weights.da[job])

    def _layers(self, w: Tensor, a: Tensor) -> Layers:
        return layers_of(W1=w[:, : self.width].T, a=a[0, : self.width])

    def evaluate(self, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """Residual ``e`` (B, n) and, per layer, the kernel ``K_l = kappa^2 c_l J_l J_l^T / n`` (B, n, n), all float64.

        With frozen features ``de/dt = -sum_l K_l e``.
        """
        a = self.a + weights.da
        features = weights.z.clamp_min(0).double()
        residual = self._kappa[:, None] * (features * a.double()).sum(dim=2) - self._y
        scale = (self._kappa**2 / self.points)[:, None, None]
        rate = self._kappa_prime[:, None, None]
        return residual, {
            "W1": scale * rate * input_kernel(weights.gate * a, weights.sliding, self._gram),
            "a": scale / rate * (features @ features.transpose(1, 2)),
        }

    def pulled(self, weights: Weights, residual: Tensor) -> Tensor:
        """Largest relative force (B,) of ``residual`` (B, n) on a neuron that is free to follow it."""
        pull = (weights.gate * ~weights.sliding.any(dim=1, keepdim=True)).double() * residual[:, :, None]
        force = torch.bmm(self._inputs.double().transpose(1, 2), pull).square().sum(dim=1).sqrt().amax(dim=1)
        return relative(force, (residual.abs() * self._square.double().sqrt()).sum(dim=1))

    def move(self, weights: Weights, path: Path, impulse: Tensor, lag: Tensor) -> Move:
        """Moves every neuron under ``impulse`` (B, n) float64, whose first moment about the middle of the step is ``lag``, the gates
        along the way being those of ``path``."""
        dtype = weights.dw.dtype
        direction, size = unit_and_size(self._kappa[:, None] * impulse / self.points)
        pull, scale = direction.to(dtype)[:, :, None], size.to(dtype)[:, :, None]
        late = (self._kappa[:, None] * lag / self.points / size).to(dtype)[:, :, None]
        dw, da, rotation = self._rotate(
            weights, path.gate * pull, path.moment * pull + path.gate * late, scale
        )
        z = torch.bmm(self._inputs, self.w + dw)
        # how a neuron's own motion along x_i shifts z_i while its gate is open, in units of `scale`
        rate = self._kappa_prime.to(dtype)[:, None, None]
        mean_a = self.a + (weights.da + da) / 2
        effect = -rate * pull * self._square[:, None] * mean_a
        shift, own = z - weights.z, scale * effect
        gate, moment, sliding = path_gates(weights.z, shift + (1 - path.gate) * own, shift - path.gate * own)
        change = torch.bmm(self._inputs.transpose(1, 2), (gate - path.gate) * pull) * rate * mean_a
        unsettled = (change * change).sum(dim=(1, 2), dtype=torch.float64).sqrt() * size[:, 0]
        settled = torch.where(sliding, path.gate, (z > 0).to(dtype))
        moved = self._unpin(weights, Weights(dw, da, z, settled, sliding), pull * scale)
        travelled = {"W1": norm(moved.dw), "a": norm(moved.da)}
        return Move(moved, Path(gate, moment), rotation, relative(unsettled, travelled["W1"]), travelled)

    def _rotate(
        self, weights: Weights, pull: Tensor, moment: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The move of every neuron under the force ``pull`` on average, with the first moment ``moment``, both (B, n, m) in units of
        ``scale``: new displacements, and the largest angle (B,).

        The neuron obeys a linear equation whose matrix A(s) changes along the step. The exponential of its average is the exact
        rotation; the next term of the Magnus series (Blanes et al., Physics Reports 2009), the commutator of first moment and average,
        turns w in their plane.
        """
        w, ratio = self.w + weights.dw, (1 / self._kappa_prime).to(pull.dtype)[:, None, None]
        g, later = (torch.bmm(self._inputs.transpose(1, 2), part) * scale for part in (pull, moment))
        w_change, a_change, angle = _exact(w, self.a + weights.da, g, ratio)
        middle = w + w_change / 2
        turn = later * (g * middle).sum(dim=1, keepdim=True) - g * (later * middle).sum(dim=1, keepdim=True)
        turn = _of_same_length(w + w_change, turn)
        return weights.dw + w_change + turn, weights.da + a_change, angle.amax(dim=(1, 2)).double()

    def _unpin(self, before: Weights, moved: Weights, push: Tensor) -> Weights:
        """Moves again, in small substeps, the neurons that seem to be held on as many kinks as their weights have components.

        Such a neuron passes close to the origin, where all its gates change at once and holding each of them is a solution too,
        though one that the flow leaves at once. There are few of them, and each is independent of all others.
        """
        pinned = moved.sliding.sum(dim=1) >= self.w.shape[1]
        job, neuron = torch.nonzero(pinned, as_tuple=True)
        if not len(job):
            return moved
        inputs, start = self._inputs[0], self.w[job, :, neuron]
        w, a = start + before.dw[job, :, neuron], self.a[job, 0, neuron] + before.da[job, 0, neuron]
        pull, ratio = push[job, :, 0] / SUBSTEPS, (1 / self._kappa_prime).to(w.dtype)[job]
        for _ in range(SUBSTEPS):
            gate = (w @ inputs.T > 0).to(w.dtype)
            w_change, a_change, _ = _exact(w.T[None], a[None, None], ((gate * pull) @ inputs).T[None], ratio)
            w, a = w + w_change[0].T, a + a_change[0, 0]
        z = w @ inputs.T
        for part, value in zip(moved[:3], (w - start, (a - self.a[job, 0, neuron])[:, None], z), strict=True):
            part[job, :, neuron] = value
        moved.gate[job, :, neuron] = (z > 0).to(w.dtype)
        moved.sliding[job, :, neuron] = False
        return moved


def _of_same_length(w: Tensor, turn: Tensor) -> Tensor:
    """The turn of w (B, d+1, m) to first order, corrected so that it does not change the length of w."""
    square = (w * w).sum(dim=1, keepdim=True).clamp_min(torch.finfo(w.dtype).tiny)
    growth = ((2 * w + turn) * turn).sum(dim=1, keepdim=True) / square
    return turn + torch.expm1(-torch.log1p(growth.clamp_min(-0.99)) / 2) * (w + turn)


def _exact(w: Tensor, a: Tensor, g: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of w (B, d+1, m) and a (B, 1, m) under dw/ds = -a g / ratio, da/ds = -ratio (w . g) for unit time, and the angle |g|."""
    largest = (
        g.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
    )  # squares would underflow
    u = g / largest
    length = (u * u).sum(dim=1, keepdim=True).sqrt().clamp_min(1.0)  # many times faster here than vector_norm
    u, angle = u / length, length * largest
    p_change, a_change = hyperbolic((w * u).sum(dim=1, keepdim=True), a, angle, ratio)
    return p_change * u, a_change, angle

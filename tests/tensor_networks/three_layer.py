"""Batches of three-layer ReLU networks, moved under a given impulse.

With kappa = m^-gamma, kappa_1 = m^-gamma_1, kappa_2 = m^-gamma_prime (Zhou et al., NeurIPS 2022), b_ij = sum_k a_k gate2_ik W2_kj,
h1 = (relu(W1 x), 1) and h2 = relu(W2 h1)

    f(x) = kappa a . h2,        da/dt = -(kappa / n) sum_i e_i h2_i
    dW2_k/dt = -(kappa kappa_1^2 / n) sum_i e_i a_k gate2_ik h1_i
    dW1_j/dt = -(kappa kappa_2^2 / n) sum_i e_i b_ij gate1_ij x_i .

Given the impulse of a step and the hidden features h1, every pair (a_k, W2_k) performs the exact hyperbolic rotation of a two-layer
network whose inputs are h1; and given b, W1 moves along straight lines. Both h1 and b are averaged along the way, by the trapezoidal
rule: the integrator repeats a move with the averages that it brought about until they agree.

A move changes W2 by a matrix of rank n, the product of coefficients (n, m) and features h1 (n, m). These factors are kept beside W2, and
folded into it only now and then: the only work on all of W2 is one product with h1 and one with the backward signal.
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

SWEEPS = 4
"""Times that the gates of a layer are settled within a move: that takes no work on W2."""
MAX_FACTORS = 64
"""Rank of the change of W2 that is kept as factors: small beside the widths that matter, large beside a few points."""


class Weights(NamedTuple):
    """Where each job's weights are: displacements from the start, signals, and the factors of what W2 has still to take in.

    ``dw1`` (B, d+1, m), ``da`` (B, 1, m); of both hidden layers preactivations ``z`` (B, n, m), gates in [0, 1] and ``sliding``,
    True where a neuron is held on the kink of a data point; ``h1`` (B, n, m) with the constant feature; ``b`` (B, n, m) and its
    ``drift``, how it changed in the last step; ``left`` and ``right`` (B, r, m): W2 = base + left^T right; ``travelled`` (B,), at least
    the displacement of W2.
    """

    dw1: Tensor
    da: Tensor
    z1: Tensor
    gate1: Tensor
    sliding1: Tensor
    z2: Tensor
    gate2: Tensor
    sliding2: Tensor
    h1: Tensor
    b: Tensor
    drift: Tensor
    left: Tensor
    right: Tensor
    travelled: Tensor


class Path(NamedTuple):
    """Averages along a step, (B, n, m) each: gates of both layers, and the backward signal b."""

    gate1: Tensor
    gate2: Tensor
    b: Tensor


class Gates(NamedTuple):
    """Gates of a layer in a move, (B, n, m) each: on average, at its end, and whether they then hold a neuron on its kink."""

    mean: Tensor
    settled: Tensor
    sliding: Tensor
    loose: Tensor  # (B,) what another sweep would change, in units of the impulse's size and the rate of the layer


class ThreeLayer(TensorNetwork):
    """A batch of three-layer networks of one width on one data set.

    Parameters: ``x`` (n, d) and ``y`` (n,) float64; per job the prefactors ``kappa``, ``kappa_1`` and ``kappa_2`` (B,); the initial
    weights ``w1`` (B, d+1, p), ``w2`` (B, p, p), rows by neuron, and ``a`` (B, 1, p), where p > width: the constant feature that carries
    the bias of the second layer is neuron ``width`` of the first. ``base`` and ``dw2`` (B, p, p) are W2 and its displacement but for the
    factors that are not folded in yet.
    """

    layers: tuple[str, ...] = ("W1", "W2", "a")

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        kappas: tuple[Tensor, Tensor, Tensor],
        w1: Tensor,
        w2: Tensor,
        a: Tensor,
        width: int,
    ) -> None:
        self.width = width
        self._hold(Data.of(x, y, len(w1), w1.dtype), kappas, (w1, w2, a), (w2, torch.zeros_like(w2)))

    def _hold(
        self,
        data: Data,
        kappas: tuple[Tensor, Tensor, Tensor],
        weights: tuple[Tensor, Tensor, Tensor],
        folded: tuple[Tensor, Tensor],
    ) -> None:
        self._y, self._gram, self._inputs, square = data
        self.points, self._square = len(self._y), square[:, None]
        self._data, self._kappas = data, kappas
        self.w1, self.w2, self.a = weights
        self._base, self._dw2 = folded
        self._capacity = max(MAX_FACTORS, self.points)
        _, kappa_1, kappa_2 = kappas
        self.rates = stacked(flow_rates(3, kappa_2, kappa_1))
        self.y = self._y.cpu().numpy()

    @classmethod
    def from_exponents(
        cls,
        x: np.ndarray,
        y: np.ndarray,
        width: int,
        jobs: Sequence[tuple[float, float, float, int]],
        dtype: torch.dtype,
        device: str,
    ) -> ThreeLayer:
        """The networks of ``jobs`` = (gamma, gamma_prime, gamma_1, seed), at their initial weights."""
        padded = width + 1 + -(width + 1) % ALIGNMENT
        inputs = x.shape[1]
        drawn = {seed: initial_weights(3, width, inputs, seed) for seed in {seed for *_, seed in jobs}}
        gamma, gamma_prime, gamma_1 = torch.tensor(
            [job[:3] for job in jobs], dtype=torch.float64, device=device
        ).unbind(1)
        m = float(width)
        return cls(
            torch.from_numpy(x).to(device=device, dtype=torch.float64),
            torch.from_numpy(y).to(device=device, dtype=torch.float64),
            (m**-gamma, m**-gamma_1, m**-gamma_prime),
            stack_padded([drawn[seed][0].T for *_, seed in jobs], (inputs + 1, padded), dtype, device),
            stack_padded([drawn[seed][1] for *_, seed in jobs], (padded, padded), dtype, device),
            stack_padded([drawn[seed][2][None] for *_, seed in jobs], (1, padded), dtype, device),
            width,
        )

    def picked(self, jobs: Tensor) -> ThreeLayer:
        """The networks with these indices, without their weights."""
        selected = copy(self)
        weights, folded = pick((self.w1, self.w2, self.a), jobs), pick((self._base, self._dw2), jobs)
        selected._hold(self._data.for_batch(len(jobs)), pick(self._kappas, jobs), weights, folded)
        return selected

    def start(self) -> Weights:
        """The initial weights."""
        z1 = torch.bmm(self._inputs, self.w1)
        h1 = self._features(z1)
        z2 = self._forward(h1)
        gate1, gate2 = (z1 > 0).to(z1.dtype), (z2 > 0).to(z1.dtype)
        nothing = torch.zeros_like(z1, dtype=torch.bool)
        no_factors = z1[:, :0]
        return Weights(
            torch.zeros_like(self.w1),
            torch.zeros_like(self.a),
            z1,
            gate1,
            nothing,
            z2,
            gate2,
            nothing,
            h1,
            self._backward(self.a * gate2),
            torch.zeros_like(z1),
            no_factors,
            no_factors,
            torch.zeros_like(self._kappas[0]),
        )

    def path(self, weights: Weights, ratio: Tensor) -> Path:
        """Gates as they are at these weights, and the backward signal as it is half a step ahead if it goes on as in the last one."""
        ahead = (ratio / 2).to(weights.b.dtype)[:, None, None]
        return Path(weights.gate1, weights.gate2, weights.b + ahead * weights.drift)

    def commit(self, accepted: Tensor, new: Weights, old: Weights) -> Weights:
        """The new weights of the jobs that accepted their step (B,), the old ones of the others.

        Factors that many steps have left are folded into W2.
        """
        left = torch.where(accepted[:, None, None], new.left[:, -self.points :], 0.0)
        # the factors of both differ in number, and have just been chosen
        weights = choose(accepted, new._replace(left=left, right=left), old._replace(left=left, right=left))
        left, right = torch.cat([old.left, left], dim=1), new.right
        if left.shape[1] + self.points <= self._capacity:
            return weights._replace(left=left, right=right)
        change = left.transpose(1, 2) @ right
        self._dw2 = self._dw2 + change
        self._base = self.w2 + self._dw2
        nothing = left[:, :0]
        return weights._replace(left=nothing, right=nothing, travelled=norm(self._dw2))

    def initial(self, job: int) -> Layers:
        """Initial weights of one job: W1 (width, d+1), W2 (width, width + 1), a (width,)."""
        return self._layers(self.w1[job], self.w2[job], self.a[job])

    def changes(self, weights: Weights, job: int) -> Layers:
        """Displacement since the start of one job: W1 (width, d+1), W2 (width, width + 1), a (width,)."""
        dw2 = self._dw2[job] + weights.left[job].T @ weights.right[job]
        return self._layers(weights.dw1[job], dw2, weights.da[job])

    def _layers(self, w1: Tensor, w2: Tensor, a: Tensor) -> Layers:
        m = self.width
        return layers_of(W1=w1[:, :m].T, W2=w2[:m, : m + 1], a=a[0, :m])

    def evaluate(self, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """Residual ``e`` (B, n) and, per layer, the kernel ``K_l = kappa^2 c_l J_l J_l^T / n`` (B, n, n), all float64."""
        kappa, kappa_1, kappa_2 = self._kappas
        a = self.a + weights.da
        h1, h2 = weights.h1.double(), weights.z2.clamp_min(0).double()
        residual = kappa[:, None] * (h2 * a.double()).sum(dim=2) - self._y
        scale = (kappa**2 / self.points)[:, None, None]
        second = input_kernel(weights.gate2 * a, weights.sliding2, h1 @ h1.transpose(1, 2))
        first = input_kernel(weights.gate1 * weights.b, weights.sliding1, self._gram)
        return residual, {
            "W1": scale * (kappa_2**2)[:, None, None] * first,
            "W2": scale * (kappa_1**2)[:, None, None] * second,
            "a": scale * (h2 @ h2.transpose(1, 2)),
        }

    def pulled(self, weights: Weights, residual: Tensor) -> Tensor:
        """Largest relative force (B,) of ``residual`` (B, n) on a neuron of the second layer that is free to follow it."""
        pull = (weights.gate2 * ~weights.sliding2.any(dim=1, keepdim=True)).double() * residual[:, :, None]
        gram = weights.h1.double() @ weights.h1.double().transpose(1, 2)
        force = (pull * (gram @ pull)).sum(dim=1).clamp_min(0).sqrt().amax(dim=1)
        return relative(force, (residual.abs() * torch.diagonal(gram, dim1=1, dim2=2).sqrt()).sum(dim=1))

    def move(self, weights: Weights, path: Path, impulse: Tensor, lag: Tensor) -> Move:
        """Moves all weights under ``impulse`` (B, n) float64, given the averages of gates and signals along the way.

        From the input to the output, each layer with what the one before has just become: W1 under the backward signal of ``path``, h1 on
        average, then the pairs (a, W2). What is left to settle is the backward signal that results. ``lag`` is not used: the
        averages are those of an impulse that does not turn within the step.
        """
        _, kappa_1, kappa_2 = self._kappas
        direction, size = unit_and_size(self._kappas[0][:, None] * impulse / self.points)
        pull = direction.to(weights.dw1.dtype)[:, :, None]
        dw1, z1, gates1 = self._move_first(weights, path, pull, size)
        h1 = self._features(z1)
        frozen = self._forward(h1, weights.left, weights.right)  # W2 as at the start of the step
        mean_h1 = (weights.h1 + h1) / 2
        gram, cross = (torch.bmm(features, mean_h1.transpose(1, 2)) for features in (mean_h1, h1))
        left, da, z2, gates2, rotation = self._move_second(
            weights, path.gate2, pull, size, gram, cross, frozen
        )
        moved2 = _norm_of_product(left, gram)
        left, right = torch.cat([weights.left, left], dim=1), torch.cat([weights.right, mean_h1], dim=1)
        b = self._backward((self.a + da) * gates2.settled, left, right)
        met = Path(gates1.mean, gates2.mean, (weights.b + b) / 2)

        travelled = {"W1": norm(dw1), "W2": weights.travelled + moved2, "a": norm(da)}
        missed = pull * gates1.mean * (met.b - path.b) * self._square.sqrt()
        loose1 = gates1.loose + missed.square().sum(dim=(1, 2), dtype=torch.float64).sqrt()
        unsettled = torch.maximum(
            relative(loose1 * size[:, 0] * kappa_2**2, travelled["W1"]),
            relative(gates2.loose * size[:, 0] * kappa_1**2, travelled["W2"]),
        )
        moved = Weights(
            dw1=dw1,
            da=da,
            z1=z1,
            gate1=gates1.settled,
            sliding1=gates1.sliding,
            z2=z2,
            gate2=gates2.settled,
            sliding2=gates2.sliding,
            h1=h1,
            b=b,
            drift=b - weights.b,
            left=left,
            right=right,
            travelled=travelled["W2"],
        )
        return Move(moved, met, rotation, unsettled, travelled)

    def _move_first(
        self, weights: Weights, path: Path, pull: Tensor, size: Tensor
    ) -> tuple[Tensor, Tensor, Gates]:
        """W1 along straight lines under the average backward signal: its displacement, z1, and the gates, settled sweep by sweep."""
        scale = (size * self._kappas[2][:, None] ** 2).to(pull.dtype)[:, :, None]
        force, gate = pull * path.b, path.gate1
        own = -scale * force * self._square
        for sweep in range(SWEEPS):
            dw1 = weights.dw1 - scale * torch.bmm(self._inputs.transpose(1, 2), gate * force)
            z1 = torch.bmm(self._inputs, self.w1 + dw1)
            met, sliding = _met(weights.z1, z1, gate, own)
            if sweep < SWEEPS - 1:
                gate = met
        return dw1, z1, _gates(gate, met, sliding, z1, force * self._square.sqrt())

    def _move_second(
        self,
        weights: Weights,
        gate: Tensor,
        pull: Tensor,
        size: Tensor,
        gram: Tensor,
        cross: Tensor,
        frozen: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor, Gates, Tensor]:
        """The exact move of all pairs (a_k, W2_k), given the average features; gates are settled sweep by sweep.

        ``gram`` and ``cross`` (B, n, n) are the products of the average h1, and of h1 at the end, with the average one; ``frozen`` is
        W2 h1 with h1 at the end and W2 as at the start. Returns the coefficients (B, n, m) of the change of W2 in the average features,
        the displacement of a, z2, the gates, and the largest angle (B,).
        """
        kappa_1 = self._kappas[1][:, None]
        mean_z2 = (weights.z2 + frozen) / 2
        square = torch.diagonal(cross, dim1=1, dim2=2)[:, :, None]
        angles, shifts = (
            (size * kappa_1).to(pull.dtype)[:, :, None],
            (size * kappa_1**2).to(pull.dtype)[:, :, None],
        )
        for sweep in range(SWEEPS):
            left, da, rotation = self._rotate(weights, gate * pull, mean_z2, gram, angles)
            z2 = frozen + torch.bmm(cross, left)
            force = pull * (self.a + (weights.da + da) / 2)
            met, sliding = _met(weights.z2, z2, gate, -shifts * force * square)
            if sweep < SWEEPS - 1:
                gate = met
        return left, da, z2, _gates(gate, met, sliding, z2, force * square.clamp_min(0).sqrt()), rotation

    def _rotate(
        self, weights: Weights, v: Tensor, z2: Tensor, gram: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The exact move of all pairs (a_k, W2_k) for given averages: the coefficients of the change of W2 in the features h1
        (B, n, m), the new displacement of a, and the largest angle (B,).

        Everything happens in the span of the n features: G_k = sum_i v_ik h1_i has the length sqrt(v . H v) with H = h1 h1^T, and
        W2_k . G_k = sum_i v_ik (W2 h1)_ik.
        """
        tiny = torch.finfo(v.dtype).tiny
        length = (v * torch.bmm(gram, v)).sum(dim=1, keepdim=True).clamp_min(0).sqrt().clamp_min(tiny)
        p, a = (v * z2).sum(dim=1, keepdim=True) / length, self.a + weights.da
        angle, ratio = length * scale, (1 / self._kappas[1]).to(v.dtype)[:, None, None]
        p_change, a_change = hyperbolic(p, a, angle, ratio)
        return p_change / length * v, weights.da + a_change, angle.amax(dim=(1, 2)).double()

    def _features(self, z1: Tensor) -> Tensor:
        """h1 with the constant feature (B, n, m)."""
        h1 = z1.clamp_min(0)
        h1[:, :, self.width] = 1.0
        return h1

    def _forward(self, h1: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
        """W2 h1 (B, n, m)."""
        z2 = torch.bmm(h1, self._base.transpose(1, 2))
        if left is None or right is None:
            return z2
        return z2 + torch.bmm(torch.bmm(h1, right.transpose(1, 2)), left)

    def _backward(self, signal: Tensor, left: Tensor | None = None, right: Tensor | None = None) -> Tensor:
        """W2^T signal (B, n, m)."""
        b = torch.bmm(signal, self._base)
        if left is None or right is None:
            return b
        return b + torch.bmm(torch.bmm(signal, left.transpose(1, 2)), right)


def _met(z: Tensor, new_z: Tensor, gate: Tensor, own: Tensor) -> tuple[Tensor, Tensor]:
    """Average gates that a move from z to new_z met, ``own`` being what a neuron's own open gate contributes to the shift."""
    shift = new_z - z
    met, _, sliding = path_gates(z, shift + (1 - gate) * own, shift - gate * own)
    return met, sliding


def _gates(gate: Tensor, met: Tensor, sliding: Tensor, z: Tensor, force: Tensor) -> Gates:
    loose = ((met - gate) * force).square().sum(dim=(1, 2), dtype=torch.float64).sqrt()
    return Gates(gate, torch.where(sliding, gate, (z > 0).to(z.dtype)), sliding, loose)


def _norm_of_product(left: Tensor, gram: Tensor) -> Tensor:
    """Frobenius norm (B,), float64, of ``left^T right`` with ``gram`` that of ``right``."""
    double = left.double()
    return (double @ double.transpose(1, 2) * gram.double()).sum(dim=(1, 2)).clamp_min(0).sqrt()

"""Normalised two-layer ReLU networks, many at a time: initial weights, residual, kernels, exact neuron moves.

The normalised network is ``f(x) = kappa * sum_k a_k relu(w_k . (x, 1))`` with ``kappa = m**-gamma`` and every weight drawn from
N(0, 1). With ``kappa_prime = m**-gamma_prime`` its gradient flow reads (Luo et al., JMLR 2021, eqs. of the normalised model)

    da_k/dt = -(kappa / kappa_prime / n) sum_i e_i relu(w_k . x_i)
    dw_k/dt = -(kappa * kappa_prime / n) sum_i e_i a_k gate_ki x_i ,        e_i = f(x_i) - y_i,   gate_ki = 1[w_k . x_i > 0] .

Given the *impulse* ``E_i = integral of e_i dt`` over a step, every neuron moves independently of all others, and, while its gates
stay as they are, exactly: along ``G_k = sum_i E_i gate_ki x_i / n`` it performs a hyperbolic rotation. :meth:`TwoLayer.move` does
that, with gates averaged along the way so that neurons which cross, or come to rest on, the kink of a data point are moved
correctly too (a neuron held on a kink from both sides slides along it: Filippov's convention for discontinuous flows).

Tensors carry jobs first and neurons last, ``(B, n, m)``: sums over points and inputs then vectorise over neurons, and the result
of a job does not depend on the jobs beside it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

ALIGNMENT = 32
"""Widths are padded to a multiple of this with neurons whose weights are and stay zero. Vector instructions then never straddle
jobs, nor leave a remainder to other code, and a job's arithmetic is the same whichever other jobs are in the batch."""
MAX_GATE_PASSES = 4
SUBSTEPS = 64
"""Substeps of a neuron that passes the origin within a step."""
MAX_ROTATION = 20.0
"""Largest hyperbolic angle of one step: beyond it cosh and sinh of float32 lose all meaning, and so does the step."""


def initial_weights(depth: int, width: int, inputs: int, seed: int) -> tuple[np.ndarray, ...]:
    """Normalised initial weights: the same for all exponents at one (depth, width, inputs, seed).

    Returns ``W1`` of shape (width, inputs + 1), for three layers ``W2`` of shape (width, width + 1), biases last, and ``a`` of
    shape (width,); float64, every entry N(0, 1).
    """
    generator = np.random.default_rng([depth, width, inputs, seed])
    shapes = {2: ((width, inputs + 1), width), 3: ((width, inputs + 1), (width, width + 1), width)}
    return tuple(generator.standard_normal(shape) for shape in shapes[depth])


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

    def where(self, accepted: Tensor, other: Weights) -> Weights:
        """These weights for the accepted jobs (B,), the other ones for the rest."""
        mask = accepted[:, None, None]
        return Weights(*(torch.where(mask, mine, theirs) for mine, theirs in zip(self, other, strict=True)))

    def select(self, jobs: Tensor) -> Weights:
        return Weights(*(part.index_select(0, jobs) for part in self))


class Move(NamedTuple):
    """A trial move: the weights it leads to and what it cost and risked, per job (B,)."""

    weights: Weights
    rotation: Tensor  # largest hyperbolic angle of a neuron
    gate_error: Tensor  # gates' inconsistency left, relative to the displacement since the start
    passes: Tensor  # forward + backward passes


class TwoLayer:
    """A batch of two-layer networks of one width on one data set.

    Parameters: ``x`` (n, d) and ``y`` (n,) float64; per job the prefactor ``kappa`` and ``kappa_prime`` (B,); the initial weights
    ``w`` (B, d+1, m) and ``a`` (B, 1, m) in the dtype of the computation.
    """

    layers = ("W1", "a")

    def __init__(
        self, x: Tensor, y: Tensor, kappa: Tensor, kappa_prime: Tensor, w: Tensor, a: Tensor
    ) -> None:
        self.points = x.shape[0]
        self._x, self.y = x, y
        self._kappa, self._kappa_prime = kappa, kappa_prime
        self.w, self.a = w, a
        extended = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        self._gram = extended @ extended.T
        self._square = torch.diagonal(self._gram).to(w.dtype)
        self._inputs = extended.to(w.dtype).expand(
            len(w), -1, -1
        )  # one matrix per job: no fusing of jobs into one product
        unit = extended / torch.linalg.vector_norm(extended, dim=1, keepdim=True)
        self._cosines = (
            (extended @ unit.T).to(w.dtype).expand(len(w), -1, -1)
        )  # [j, i]: the length of x_j along x_i
        self._countdown = torch.arange(self.points, 0, -1, device=w.device, dtype=w.dtype)[:, None]
        self.rates = {"W1": kappa_prime, "a": 1.0 / kappa_prime}

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
        padding = -width % ALIGNMENT
        drawn = {seed: initial_weights(2, width, x.shape[1], seed) for seed in {seed for *_, seed in jobs}}
        w = np.stack([np.pad(drawn[seed][0].T, ((0, 0), (0, padding))) for *_, seed in jobs])
        a = np.stack([np.pad(drawn[seed][1][None, :], ((0, 0), (0, padding))) for *_, seed in jobs])
        exponents = torch.tensor([job[:2] for job in jobs], dtype=torch.float64, device=device)
        kappa, kappa_prime = float(width) ** -exponents[:, 0], float(width) ** -exponents[:, 1]

        def on_device(array: np.ndarray, kind: torch.dtype) -> Tensor:
            return torch.from_numpy(array).to(device=device, dtype=kind)

        return cls(
            on_device(x, torch.float64),
            on_device(y, torch.float64),
            kappa,
            kappa_prime,
            on_device(w, dtype).contiguous(),
            on_device(a, dtype).contiguous(),
        )

    def select(self, jobs: Tensor) -> TwoLayer:
        """The networks with these indices."""

        def pick(tensor: Tensor) -> Tensor:
            return tensor.index_select(0, jobs)

        return TwoLayer(
            self._x, self.y, pick(self._kappa), pick(self._kappa_prime), pick(self.w), pick(self.a)
        )

    def start(self) -> Weights:
        """The initial weights."""
        z = torch.bmm(self._inputs, self.w)
        return Weights(
            torch.zeros_like(self.w),
            torch.zeros_like(self.a),
            z,
            (z > 0).to(z.dtype),
            torch.zeros_like(z, dtype=torch.bool),
        )

    def displacement(self, weights: Weights) -> dict[str, Tensor]:
        """Frobenius norm (B,), float64, of every layer's change since the start."""
        return {"W1": _norm(weights.dw), "a": _norm(weights.da)}

    def evaluate(self, weights: Weights) -> tuple[Tensor, dict[str, Tensor]]:
        """Residual ``e`` (B, n) and, per layer, the kernel ``K_l = kappa^2 c_l J_l J_l^T / n`` (B, n, n), all float64.

        With frozen features ``de/dt = -sum_l K_l e``. A neuron that slides along the kink of point i cannot move along x_i: its
        part of ``K_W1`` is projected accordingly, otherwise the kernel promises a motion that the kink forbids.
        """
        a = (self.a + weights.da).double()
        features = weights.z.clamp_min(0).double()
        residual = self._kappa[:, None] * (features * a).sum(dim=2) - self.y
        backward = weights.gate.double() * a
        outer = backward @ backward.transpose(1, 2) * self._gram
        if weights.sliding.any():
            along = self._along_kink(weights.sliding).double() * backward
            outer = outer - along @ along.transpose(1, 2)
        scale = self._kappa**2 / self.points
        return residual, {
            "W1": (scale * self._kappa_prime)[:, None, None] * outer,
            "a": (scale / self._kappa_prime)[:, None, None] * (features @ features.transpose(1, 2)),
        }

    def _along_kink(self, sliding: Tensor) -> Tensor:
        """(B, n, m): the length of x_j along the x_i on whose kink the neuron slides (the first one), 0 for free neurons."""
        order = sliding * self._countdown
        first = sliding & (order == order.amax(dim=1, keepdim=True))
        return torch.bmm(self._cosines, first.to(self._cosines.dtype))

    def move(self, weights: Weights, impulse: Tensor, gate_tolerance: float) -> Move:
        """Moves every neuron under ``impulse`` (B, n) float64 = integral of the residual over the step.

        The gates along the way depend on the motion and the motion on the gates: iterated until a further pass would change the
        input weights by no more than about ``gate_tolerance`` of their displacement since the start.
        """
        dtype = weights.dw.dtype
        push = self._kappa[:, None] * impulse / self.points
        size = push.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(torch.float64).tiny)
        direction = (push / size).to(dtype)[:, :, None]
        gate, sliding = weights.gate, weights.sliding
        passes = torch.zeros_like(size[:, 0], dtype=torch.int64)
        open_jobs = torch.ones_like(passes, dtype=torch.bool)
        own = (-self._kappa_prime[:, None] * push).to(dtype)[:, :, None] * self._square[:, None]
        for _ in range(MAX_GATE_PASSES):
            passes += open_jobs
            dw, da, rotation = self._rotate(weights, gate * direction, size)
            z = torch.bmm(self._inputs, self.w + dw)
            effect = own * (self.a + (weights.da + da) / 2)
            shift = z - weights.z
            new_gate, new_sliding = path_gates(weights.z, shift + (1 - gate) * effect, shift - gate * effect)
            change = _norm((new_gate - gate) * effect / self._square.sqrt()[:, None])
            error = change / _norm(dw).clamp_min(torch.finfo(torch.float64).tiny)
            open_jobs = open_jobs & (error > gate_tolerance) & (rotation < MAX_ROTATION)
            sliding = torch.where(open_jobs[:, None, None], sliding, new_sliding)
            if not open_jobs.any():
                break
            gate = torch.where(open_jobs[:, None, None], new_gate, gate)
        settled = torch.where(sliding, gate, (z > 0).to(dtype))
        moved = Weights(dw, da, z, settled, sliding)
        return Move(self._unpin(weights, moved, direction, size), rotation, error, passes)

    def _unpin(self, before: Weights, moved: Weights, direction: Tensor, size: Tensor) -> Weights:
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
        push = (direction[:, :, 0] * size.to(w.dtype))[job] / SUBSTEPS
        ratio = (1 / self._kappa_prime).to(w.dtype)[job]
        for _ in range(SUBSTEPS):
            gate = (w @ inputs.T > 0).to(w.dtype)
            w_change, a_change = _hyperbolic(
                w.T[None], a[None, None], ((gate * push) @ inputs).T[None], ratio
            )[:2]
            w, a = w + w_change[0].T, a + a_change[0, 0]
        z = w @ inputs.T
        for part, value in zip(moved[:3], (w - start, (a - self.a[job, 0, neuron])[:, None], z), strict=True):
            part[job, :, neuron] = value
        moved.gate[job, :, neuron] = (z > 0).to(w.dtype)
        moved.sliding[job, :, neuron] = False
        return moved

    def _rotate(self, weights: Weights, push: Tensor, size: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The exact move of every neuron for given (averaged) gates: new displacements and the largest angle (B,)."""
        w, a = self.w + weights.dw, self.a + weights.da
        g = torch.bmm(self._inputs.transpose(1, 2), push) * size.to(push.dtype)[:, :, None]
        ratio = (1 / self._kappa_prime).to(g.dtype)[:, None, None]
        w_change, a_change, angle = _hyperbolic(w, a, g, ratio)
        return weights.dw + w_change, weights.da + a_change, angle.amax(dim=(1, 2)).double()


def _hyperbolic(w: Tensor, a: Tensor, g: Tensor, ratio: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Changes of w (B, d+1, m) and a (B, 1, m) under dw/ds = -a g / ratio, da/ds = -ratio (w . g) for unit time, and the angle |g|.

    With u = g / |g| and p = w . u:  a -> a cosh|g| - ratio p sinh|g|,  p -> p cosh|g| - a / ratio sinh|g|; the rest of w stays.
    """
    scale = (
        g.abs().amax(dim=1, keepdim=True).clamp_min(torch.finfo(g.dtype).tiny)
    )  # squares of tiny forces would underflow
    u = g / scale
    length = (u * u).sum(dim=1, keepdim=True).sqrt().clamp_min(1.0)  # many times faster here than vector_norm
    u, angle = u / length, length * scale
    p = (w * u).sum(dim=1, keepdim=True)
    bounded = angle.clamp_max(MAX_ROTATION)
    sinh, cosh_less_one = torch.sinh(bounded), 2 * torch.sinh(bounded / 2) ** 2
    return (p * cosh_less_one - a / ratio * sinh) * u, a * cosh_less_one - ratio * p * sinh, angle


def path_gates(z: Tensor, shift_on: Tensor, shift_off: Tensor) -> tuple[Tensor, Tensor]:
    """Gates averaged along a step, and which neurons end it sliding on a kink.

    ``z`` is the preactivation before the step, ``shift_on`` and ``shift_off`` its change over the whole step were the gate 1 or 0
    throughout. A preactivation that reaches zero passes through if it is pushed the same way on the other side; if it is pushed
    back from there too it stays at zero, with the average gate that holds it (Filippov).
    """
    tiny = torch.finfo(z.dtype).tiny
    above = z > 0
    leaves_above = above & (z + shift_on < 0)
    leaves_below = ~above & (z + shift_off > 0)
    held = (shift_off > 0) & (shift_on < 0)
    holding = ((z + shift_off) / (shift_off - shift_on).clamp_min(tiny)).clamp(0, 1)
    spent_above = (z / (-shift_on).clamp_min(tiny)).clamp(0, 1)
    spent_below = (-z / shift_off.clamp_min(tiny)).clamp(0, 1)
    gate = above.to(z.dtype)
    gate = torch.where(leaves_above, torch.where(held, holding, spent_above), gate)
    gate = torch.where(leaves_below, torch.where(held, holding, 1 - spent_below), gate)
    return gate, (leaves_above | leaves_below) & held


def _norm(tensor: Tensor) -> Tensor:
    """Frobenius norm per job, summed in float64.

    Scaled by a power of two first, which changes no digit: the squares of very small or large float32 numbers are beyond float32.
    """
    exponent = torch.frexp(tensor.abs().amax(dim=(1, 2))).exponent.clamp(-100, 100)
    scaled = torch.ldexp(tensor, -exponent[:, None, None])
    return torch.ldexp(torch.sqrt((scaled * scaled).sum(dim=(1, 2), dtype=torch.float64)), exponent)

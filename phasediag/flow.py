"""The gradient flow of a batch of networks, each with its own step, time and end.

Along the flow the residual obeys ``de/dt = -K(t) e``. In terms of the impulse ``E = integral of e dt`` the whole training is an
n-dimensional problem ``dE/dt = e(E)`` whose Jacobian ``-K`` is known exactly, whatever the width. Each step

1. solves it with the kernel frozen, mode by mode (exponential Rosenbrock-Euler; Hochbruck and Ostermann, Acta Numerica 2010):
   no stability limit, so stiff modes cost nothing;
2. moves every neuron under that impulse exactly (:meth:`phasediag.two_layer.TwoLayer.move`), so that the exponential growth out of
   a small initialisation costs nothing either;
3. evaluates the new residual and kernel and compares: the mismatch with the frozen-kernel prediction, and its derivative, give the
   correction that the impulse should have had. Its leading part is not thrown away but carried into the next step (the *debt*),
   and the difference between its third- and fourth-order forms is the error estimate that decides on the step.

Errors are measured in the quantity that users read: the change of each layer's weights relative to its change since the start.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import factorial
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .networks import MAX_ROTATION, Network, Outcome, choose, half_mean_square, pick

IMPULSE_TOLERANCE = 0.3
"""Error of one step's impulse, in units of ``accuracy``, relative to a layer's displacement since the start."""
SETTLE_TOLERANCE = 0.5
"""The same for the gates and signals along the way."""
MAX_PASSES = 4
"""Moves of one step, each with the gates and signals that the one before met: what has not settled by then wants a shorter step."""
STEP_TOLERANCE = 0.3
"""Error of one step's impulse relative to the step itself: beyond it the expansion behind the estimate has no meaning."""
FIRST_STEP = 0.5
"""First step in units of 1 / (largest eigenvalue of the kernel)."""
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
MAX_REJECTED = 60
"""So many rejected steps in a row leave nothing of a step: what moves is beyond the arithmetic."""
_TINY = 1e-300
NULL_MODE = 5e-15
"""Kernel modes below this fraction, times the number of points, of the largest eigenvalue are rounding: they cannot move (duplicated
points, dead networks)."""
AT_REST = 1e-3
"""A network stalls where all that is left to move is this fraction of ``accuracy``."""
NO_FORCE = 1e-6
"""Relative force that is none: the null space of a kernel is known to the root of its own rounding only."""
LANDING = 0.985
"""The last step aims at this fraction of the loss tolerance."""
OVERSHOOT = 0.3
"""What layers may move after the loss has passed the tolerance, in units of ``accuracy``, relative to their displacement: rows tell
where the flow is when it meets the tolerance, not where a long step ends."""
SHORTEST_LANDING = -3.0
"""ln of the most that landing shortens a step: the debt alone may promise to land, and would leave nothing to step."""


@dataclass(frozen=True)
class Settings:
    """How well, and how long.

    ``accuracy``: what the errors of all steps together should stay below, relative to every layer's change. They are controlled
    step by step: in most jobs the result is several times better; where single neurons decide much (few neurons, many points, the
    condensed regime) it can be several times worse. ``loss_tolerance``: converged when the loss is at most this fraction of the
    loss of f = 0. ``max_evaluations``: full-batch forward and backward passes after which no further step is taken.
    """

    accuracy: float = 0.01
    loss_tolerance: float = 1e-6
    max_evaluations: int = 20_000


@dataclass
class _Front:
    """The jobs still in training, between two trials. Small tensors, float64, jobs first."""

    jobs: Tensor  # index into the batch
    weights: Any
    path: Any  # gates and signals that the next move should meet
    travelled: dict[str, Tensor]  # displacement of every layer
    residual: Tensor
    kernels: dict[str, Tensor]
    debt: Tensor  # impulse owed by the last step
    step: Tensor
    impulse: Tensor  # of the move that is being settled
    taken: Tensor  # impulse of the last step
    passes: Tensor  # moves made so far under that impulse; 0 where a new step begins
    evaluations: Tensor
    rejected: Tensor  # trial steps rejected in a row

    @classmethod
    def start(cls, network: Network) -> _Front:
        weights = network.start()
        residual, kernels = network.evaluate(weights)
        zero, batch = torch.zeros_like(residual), torch.arange(len(residual), device=residual.device)
        return cls(
            jobs=batch,
            weights=weights,
            path=network.path(weights, zero[:, 0]),
            travelled=dict.fromkeys(network.layers, zero[:, 0]),
            residual=residual,
            kernels=kernels,
            debt=zero,
            step=torch.full_like(zero[:, 0], torch.nan),
            impulse=zero,
            taken=zero,
            passes=torch.zeros_like(batch),
            evaluations=torch.ones_like(batch),
            rejected=torch.zeros_like(batch),
        )

    def kernel(self) -> Tensor:
        """The whole kernel (B, n, n)."""
        return _total(self.kernels)

    def select(self, keep: Tensor) -> _Front:
        def kept(value: Any) -> Any:
            if isinstance(value, Tensor):
                return value.index_select(0, keep)
            if isinstance(value, dict):
                return {layer: kept(tensor) for layer, tensor in value.items()}
            return pick(value, keep)

        return _Front(**{name: kept(value) for name, value in vars(self).items()})


def integrate(network: Network, settings: Settings, trace: bool = False) -> Outcome:
    """Follows the gradient flow of every job to convergence, or to an honest end.

    Returns a :class:`phasediag.networks.Outcome`; its ``status`` is "converged", "evaluation_limit", "stalled" (stationary above the
    tolerance) or "diverged". ``trace`` keeps (evaluations, loss, displacement per layer) after every accepted step.
    """
    target = settings.loss_tolerance * half_mean_square(network.y[None, :]).item()
    front = _Front.start(network)
    outcome = Outcome.of(len(front.jobs))
    outcome.loss_initial = half_mean_square(front.residual).tolist()
    fresh = torch.ones_like(front.jobs, dtype=torch.bool)
    modes = _Modes.of(front)
    while True:
        ended = _ended(front, modes, network, target, settings)
        if trace:
            _record(outcome, front, fresh)
        if any(ended):
            keep = [index for index, status in enumerate(ended) if not status]
            _finish(outcome, front, network, ended)
            if not keep:
                return outcome
            kept = torch.tensor(keep, device=front.jobs.device)
            front, network, modes = front.select(kept), network.select(kept), modes.select(kept)
        front, fresh = _advance(front, modes, network, target, settings)
        modes = modes.renewed(front, fresh)


def _advance(
    front: _Front, modes: _Modes, network: Network, target: float, settings: Settings
) -> tuple[_Front, Tensor]:
    """One trial move of every job, which costs it an evaluation: the next front, and which jobs (B,) completed a step.

    A step ends accepted or rejected once its move has settled: once the gates and signals that it met are those that it was computed
    with. Until then it is repeated with what it met.
    """
    begins = front.passes == 0
    step = torch.where(front.step.isnan(), FIRST_STEP / modes.largest, front.step)
    step = torch.where(begins, modes.landing(step, LANDING * target), step)
    propagator = _Propagator.of(modes, step)
    impulse = torch.where(begins[:, None], front.debt + propagator.impulse(), front.impulse)
    path = choose(~begins, front.path, network.path(front.weights, _along(impulse, front.taken)))
    move = network.move(front.weights, path, impulse, propagator.lag())
    residual, kernels = network.evaluate(move.weights)

    kernel = front.kernel()
    mismatch = residual - (front.residual - _apply(kernel, impulse))
    slope = -step[:, None] * _apply(_total(kernels) - kernel, residual)
    third, fourth = propagator.corrections(mismatch, slope)
    reach = _Reach.of(network, move.travelled, kernels, impulse)
    excess = reach.excess(fourth - third, settings.accuracy)
    unsettled = move.unsettled / (SETTLE_TOLERANCE * settings.accuracy)

    sane = torch.isfinite(excess) & torch.isfinite(residual).all(dim=1) & (move.rotation < MAX_ROTATION)
    share = _share_before(front.residual, residual, target)
    overshot = (1 - share) * reach.relative() > OVERSHOOT * settings.accuracy
    settling = sane & (unsettled > 1) & (front.passes + 1 < MAX_PASSES)
    accepted = sane & ~settling & (unsettled <= 1) & (excess <= 1) & ~overshot
    rejected = ~settling & ~accepted
    scale = torch.where(sane, _scale(excess, unsettled), _retreat(move.rotation))
    scale = torch.where(sane & overshot, torch.minimum(scale, torch.round(share * 1024) / 1024), scale)

    def update(new: Tensor, old: Tensor) -> Tensor:
        return torch.where(accepted.reshape(-1, *[1] * (new.dim() - 1)), new, old)

    advanced = _Front(
        jobs=front.jobs,
        weights=network.commit(accepted, move.weights, front.weights),
        path=move.path,
        travelled={layer: update(move.travelled[layer], front.travelled[layer]) for layer in network.layers},
        residual=update(residual, front.residual),
        kernels={layer: update(kernels[layer], front.kernels[layer]) for layer in network.layers},
        debt=update(fourth, front.debt),
        step=step * torch.where(settling, 1.0, scale),
        impulse=impulse,
        taken=update(impulse, front.taken),
        passes=torch.where(settling, front.passes + 1, 0),
        evaluations=front.evaluations + 1,
        rejected=torch.where(accepted, 0, front.rejected + rejected),
    )
    return advanced, accepted


def _along(impulse: Tensor, last: Tensor) -> Tensor:
    """How much of the last impulse there is in this one (B,)."""
    square = (last * last).sum(dim=1)
    return ((impulse * last).sum(dim=1) / square.clamp_min(_TINY)).clamp(0, 2)


class _Reach(NamedTuple):
    """How far a step's impulse moves every layer, and how far the layer is from its start by then (B,): both in units of
    ``sqrt(c_l / n)``, in which an impulse E moves layer l by ``sqrt(E^T K_l E)``."""

    kernels: dict[str, Tensor]
    moved: dict[str, Tensor]
    whole: dict[str, Tensor]

    @classmethod
    def of(
        cls, network: Network, travelled: dict[str, Tensor], kernels: dict[str, Tensor], impulse: Tensor
    ) -> _Reach:
        moved = {layer: _energy(impulse, kernel) for layer, kernel in kernels.items()}
        rates = network.rates
        return cls(
            kernels,
            moved,
            {layer: travelled[layer] * torch.sqrt(network.points / rates[layer]) for layer in kernels},
        )

    def excess(self, error: Tensor, accuracy: float) -> Tensor:
        """Error of the impulse in units of what is allowed (B,), in the layer where it is largest: compared with the layer's change since
        the start, and, loosely, with that of the step."""
        excess = torch.zeros_like(error[:, 0])
        for layer, kernel in self.kernels.items():
            wrong = _energy(error, kernel)
            excess = torch.maximum(excess, wrong / (IMPULSE_TOLERANCE * accuracy * self.whole[layer] + _TINY))
            excess = torch.maximum(excess, wrong / (STEP_TOLERANCE * self.moved[layer] + _TINY))
        return excess

    def relative(self) -> Tensor:
        """The step's part of the change since the start (B,), in the layer where it is largest."""
        parts = [self.moved[layer] / (self.whole[layer] + _TINY) for layer in self.kernels]
        return torch.stack(parts).amax(dim=0)


def _share_before(before: Tensor, after: Tensor, target: float) -> Tensor:
    """The share of a step (B,) after which the loss has met the target, taken to fall exponentially from residual to residual."""
    start, end = half_mean_square(before), half_mean_square(after)
    share = torch.log(start / (LANDING * target)) / torch.log(start / end.clamp_min(_TINY)).clamp_min(_TINY)
    return torch.where(end < target, share.clamp(SHRINK, 1.0), 1.0)


def _scale(excess: Tensor, unsettled: Tensor) -> Tensor:
    """Factor for the next step (B,): the impulse's error falls with its third power, that of the gates with its second.

    Powers differ in their last digit with the place in a vector: rounded, they are the same in every batch.
    """
    of_impulse, of_settling = excess.clamp_min(1e-9) ** (-1 / 3), unsettled.clamp_min(1e-9) ** (-1 / 2)
    scale = (SAFETY * torch.minimum(of_impulse, of_settling)).clamp(SHRINK, GROW)
    return (torch.round(scale * 1024) / 1024).nan_to_num(SHRINK)


def _retreat(rotation: Tensor) -> Tensor:
    """Factor after a step that made no sense (B,). Out of a tiny initialisation, steps may be far below the kernel's time scale."""
    return (SHRINK * (MAX_ROTATION / rotation).clamp_max(1.0)).nan_to_num(SHRINK).clamp_min(_TINY)


class _Modes(NamedTuple):
    """Eigenmodes of the frozen kernel, and the residual that the flow starts from (at the debt's end) in them."""

    values: Tensor  # (B, n), ascending, at least 0
    vectors: Tensor  # (B, n, n)
    movable: Tensor  # (B, n) bool: modes that are not in the null space
    start: Tensor  # (B, n) coefficients of residual - K debt

    @classmethod
    def of(cls, front: _Front) -> _Modes:
        kernel = front.kernel()
        sane = torch.isfinite(kernel).all(dim=2).all(dim=1)
        kernel = torch.where(sane[:, None, None], kernel, torch.eye(kernel.shape[1]).to(kernel))
        values, vectors = _eigh(kernel)
        values = values.clamp_min(0)
        movable = values > NULL_MODE * values.shape[1] * values[:, -1:]
        start = front.residual - _apply(kernel, front.debt)
        return cls(values, vectors, movable, _apply(vectors.transpose(1, 2), start))

    def select(self, keep: Tensor) -> _Modes:
        return _Modes(*(part.index_select(0, keep) for part in self))

    def renewed(self, front: _Front, accepted: Tensor) -> _Modes:
        """The modes of the new front; a job whose step was rejected keeps its own, for decompositions are dear."""
        jobs = torch.nonzero(accepted).flatten()
        if len(jobs) == len(accepted):
            return _Modes.of(front)
        if len(jobs) == 0:
            return self
        new = _Modes.of(front.select(jobs))
        return _Modes(*(old.index_copy(0, jobs, part) for old, part in zip(self, new, strict=True)))

    @property
    def largest(self) -> Tensor:
        return self.values[:, -1].clamp_min(_TINY)

    def predicted_loss(self, step: Tensor) -> Tensor:
        decay = torch.where(self.movable, torch.exp(-self.values * step[:, None]), 1.0)
        return half_mean_square(decay * self.start)

    def landing(self, step: Tensor, target: float) -> Tensor:
        """``step``, shortened where the frozen kernel predicts a loss below ``target`` at its end: bisection in log time."""
        if not (self.predicted_loss(step) < target).any():
            return step
        low, high = torch.full_like(step, SHORTEST_LANDING), torch.zeros_like(step)
        for _ in range(20):
            middle = (low + high) / 2
            short = self.predicted_loss(step * torch.exp(middle)) < target
            low, high = torch.where(short, low, middle), torch.where(short, middle, high)
        return torch.where(self.predicted_loss(step) < target, step * torch.exp(high), step)

    def rest(self) -> tuple[Tensor, Tensor]:
        """What an infinite step would leave and do: the residual that remains, in modes, and its impulse, (B, n) each."""
        remaining = torch.where(self.movable, 0.0, self.start)
        coefficients = torch.where(self.movable, self.start / self.values.clamp_min(_TINY), 0.0)
        return remaining, _apply(self.vectors, coefficients)


class _Propagator(NamedTuple):
    """A step with the kernel frozen: integrals of exp(-K s) over it, mode by mode. Nothing acts on modes that cannot move."""

    modes: _Modes
    phis: tuple[Tensor, Tensor, Tensor, Tensor]  # step * phi_1 ... step * phi_4 of -K step, (B, n) each

    @classmethod
    def of(cls, modes: _Modes, step: Tensor) -> _Propagator:
        time = step[:, None] * modes.movable
        one, two, three, four = _phis(modes.values * step[:, None])
        return cls(modes, (time * one, time * two, time * three, time * four))

    def impulse(self) -> Tensor:
        """Integral of the residual (B, n)."""
        return _apply(self.modes.vectors, self.phis[0] * self.modes.start)

    def lag(self) -> Tensor:
        """First moment of that integral about the middle of the step, in units of the step (B, n)."""
        return _apply(self.modes.vectors, (self.phis[0] / 2 - self.phis[1]) * self.modes.start)

    def corrections(self, mismatch: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
        """What the impulse of a step lacked, to third and to fourth order, (B, n) each.

        The residual departs from the frozen-kernel prediction by g(s), 0 <= s <= h, with g(0) = g'(0) = 0, g(h) = ``mismatch`` and
        h g'(h) = ``slope``. To third order g = mismatch (s/h)^2, to fourth order the cubic through all four; the impulse lacks the
        integral of exp(-K (h - s)) g(s), where a power (s/h)^j contributes j! h phi_(j+1)(-K h).
        """
        vectors = self.modes.vectors
        mismatch, slope = (_apply(vectors.transpose(1, 2), part) for part in (mismatch, slope))
        quadratic, cubic = 3 * mismatch - slope, slope - 2 * mismatch
        third = 2 * self.phis[2] * mismatch
        fourth = 2 * self.phis[2] * quadratic + 6 * self.phis[3] * cubic
        return _apply(vectors, third), _apply(vectors, fourth)


def _ended(front: _Front, modes: _Modes, network: Network, target: float, settings: Settings) -> list[str]:
    """Status of every job that is at its end, "" for the others."""
    loss = half_mean_square(front.residual)
    remaining, impulse = modes.rest()
    at_rest = half_mean_square(remaining) > target
    for layer, kernel in front.kernels.items():
        left = _energy(impulse, kernel) * torch.sqrt(network.rates[layer] / network.points)
        at_rest = at_rest & (left <= AT_REST * settings.accuracy * front.travelled[layer])
    if at_rest.any():  # a neuron too small to show in the kernel may still grow, exponentially
        at_rest = at_rest & (network.force(front.weights, _apply(modes.vectors, remaining)) <= NO_FORCE)
    hopeless = front.rejected >= MAX_REJECTED
    status: list[str] = []
    flags = torch.stack(
        [~torch.isfinite(loss), loss <= target, at_rest | (modes.values[:, -1] == 0), hopeless]
    ).T.tolist()
    for (broken, converged, resting, stuck), evaluations in zip(
        flags, front.evaluations.tolist(), strict=True
    ):
        if broken or stuck:
            status.append("diverged")
        elif converged:
            status.append("converged")
        elif resting:
            status.append("stalled")
        else:
            status.append("evaluation_limit" if evaluations >= settings.max_evaluations else "")
    return status


def _finish(outcome: Outcome, front: _Front, network: Network, ended: list[str]) -> None:
    losses = half_mean_square(front.residual).tolist()
    for index, status in enumerate(ended):
        if status:
            job = int(front.jobs[index])
            outcome.status[job] = status
            outcome.evaluations[job] = int(front.evaluations[index])
            outcome.loss_final[job] = losses[index]
            outcome.changes[job] = network.changes(front.weights, index)


def _record(outcome: Outcome, front: _Front, fresh: Tensor) -> None:
    travelled = {layer: norm.tolist() for layer, norm in front.travelled.items()}
    losses = half_mean_square(front.residual).tolist()
    for index in torch.nonzero(fresh).flatten().tolist():
        moved = {layer: norms[index] for layer, norms in travelled.items()}
        outcome.trace[int(front.jobs[index])].append((int(front.evaluations[index]), losses[index], moved))


def _total(kernels: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(kernels.values())).sum(dim=0)


def _apply(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector[:, :, None]).squeeze(2)


def _energy(vector: Tensor, kernel: Tensor) -> Tensor:
    """``sqrt(v^T K v)`` (B,)."""
    return (vector * _apply(kernel, vector)).sum(dim=1).clamp_min(0).sqrt()


def _phis(x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """``phi_1(-x) ... phi_4(-x)`` for x >= 0, from ``phi_0 = exp`` and ``phi_k(z) = 1/k! + z phi_{k+1}(z)``: upwards where x is large;
    where it is small, downwards from a series for the last one."""
    far, near = x.clamp_min(1.0), x.clamp_max(1.0)
    up, down = torch.exp(-far), torch.zeros_like(x)
    for k in range(14, -1, -1):
        down = 1 / factorial(k + 4) - near * down
    upwards, downwards = [], [down]
    for k in range(4):
        up = (1 / factorial(k) - up) / far
        upwards.append(up)
    for k in (3, 2, 1):
        down = 1 / factorial(k) - near * down
        downwards.insert(0, down)
    one, two, three, four = (
        torch.where(x < 1.0, small, large) for small, large in zip(downwards, upwards, strict=True)
    )
    return one, two, three, four


def _eigh(kernel: Tensor) -> tuple[Tensor, Tensor]:
    """Batched symmetric eigendecomposition; where LAPACK gives up on one matrix, that job alone gets a nudged one."""
    try:
        values, vectors = torch.linalg.eigh(kernel)
        return values, vectors
    except RuntimeError:  # of which torch's LinAlgError is one
        parts = [_eigh_one(matrix) for matrix in kernel]
        return torch.stack([values for values, _ in parts]), torch.stack([vectors for _, vectors in parts])


def _eigh_one(matrix: Tensor) -> tuple[Tensor, Tensor]:
    nudge = torch.finfo(matrix.dtype).eps * matrix.abs().max()
    for power in range(6):
        try:
            values, vectors = torch.linalg.eigh(
                matrix + nudge * power * torch.diag(torch.arange(len(matrix)).to(matrix))
            )
            return values, vectors
        except RuntimeError:  # of which torch's LinAlgError is one
            continue
    return torch.full_like(matrix[0], torch.nan), torch.eye(len(matrix)).to(matrix)

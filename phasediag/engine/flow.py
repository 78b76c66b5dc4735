"""The gradient flow of a batch of networks, each with its own step, time and end.

Along the flow the residual obeys ``de/dt = -K(t) e``. In terms of the impulse ``E = integral of e dt`` the whole training is an
n-dimensional problem ``dE/dt = e(E)`` whose Jacobian ``-K`` is known exactly, whatever the width. Each step

1. solves it with the kernel frozen, mode by mode (exponential Rosenbrock-Euler; Hochbruck and Ostermann, Acta Numerica 2010):
   no stability limit, so stiff modes cost nothing;
2. moves every neuron under that impulse exactly (:class:`.networks.Network`), so that the exponential growth out of
   a small initialisation costs nothing either;
3. evaluates the new residual and kernel and compares: the mismatch with the frozen-kernel prediction, and its derivative, give the
   correction that the impulse should have had. Its leading part is not thrown away but carried into the next step (the *debt*),
   and the difference between its third- and fourth-order forms is the error estimate that decides on the step.

Errors are measured in the quantity that users read: the change of each layer's weights relative to its change since the start.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import exp, isfinite, log, sqrt
from typing import Any, NamedTuple

import numpy as np

from .compiled import compiled
from .modes import eigh, jacobi, phis
from .networks import MAX_ROTATION, Array, Evaluated, Indices, Mask, Moment, Network, Outcome, Trial

IMPULSE_TOLERANCE = 0.3
"""Error of one step's impulse, in units of ``accuracy``, relative to a layer's displacement since the start."""
SETTLE_TOLERANCE = 0.35
"""Error of the gates and signals along one step, in units of ``accuracy``, relative to a layer's displacement since the start."""
STEP_TOLERANCE = 3.0
"""Error of one step's impulse relative to the step itself: a bound on what no error estimate means any more. It has to be loose. Where all
that is left to move is below ``accuracy``, as in the last percents of the loss on real data, the path does not matter."""
LEAP = 10.0
"""Most that the displacement of a layer may grow in one step, where signals have to settle: what a longer way meets means nothing."""
NEGLIGIBLE = 1e-3
"""Error of one step's impulse that no step is too short for, in units of ``accuracy``, relative to a layer's displacement since the start:
rounding does not fade with the step."""
FIRST_STEP = 0.5
"""First step in units of 1 / (largest eigenvalue of the kernel)."""
SAFETY, SHRINK, GROW = 0.9, 0.2, 5.0
RISE = 2.0
"""Most that the loss may rise within a step. That of a gradient flow never does; but what a step leaves in stiff modes, the next one takes
away at once, and only then it counts: when the loss is back to what it was, up to ``accuracy``."""
HALVE = 0.5
"""For a step within which the loss would rise by more."""
MAX_REJECTED = 60
"""So many rejected steps in a row leave nothing of a step: what moves next is beyond the arithmetic."""
PATIENCE = 8
"""Steps in a row after which a debt is cancelled: the loss rises with every step, however short, and the debt is what all of them pay."""
_TINY = 1e-300
NULL_MODE = 5e-15
"""Kernel modes below this fraction, times the number of points, of the kernel of the points that they consist of are rounding: they
move no residual (duplicated points, dead networks, neurons too small to show)."""
AT_REST = 1e-3
"""A network stalls where all that is left to move is this fraction of ``accuracy``."""
NO_FORCE = 1e-6
"""Relative force that is none: the null space of a kernel is known to the root of its own rounding only."""
CREDIT = 0.5
"""Most that the debt may change the residual, in units of the residual before the step: what is beyond comes from modes that have turned
away since, and nothing of it is true any more."""
LANDING = 0.995
"""The last step aims at this fraction of the loss tolerance."""
OVERSHOOT = 0.3
"""What layers may move after the loss has passed the tolerance, in units of ``accuracy``, relative to their displacement: rows tell
where the flow is when it meets the tolerance, not where a long step ends."""
SHORTEST_LANDING = -3.0
"""ln of the most that landing shortens a step: the debt alone may promise to land, and would leave nothing to step."""
TRIES, CLOSER = 3, 2 / 3
"""A represented network that stalls is followed again from its start, so many times in all, each with so much of the accuracy of the one
before. Its few neurons wait at saddles where errors far below the accuracy decide which of them go on to see a point. Of the many that they
stand for, some would: nearly all that have stalled converge when they are followed again."""
JACOBI = 8
"""Most points whose kernel is diagonalised here, by rotations: LAPACK takes longer to start."""

_compiled = compiled()


@dataclass(frozen=True)
class Settings:
    """How well, and how long.

    ``accuracy``: what the errors of all steps together should stay below, relative to every layer's change. They are controlled
    step by step: in most jobs the result is several times better; where single neurons decide much (few neurons, many points, the
    condensed regime) it can be several times worse. ``loss_tolerance``: converged when the loss is at most this fraction of the
    loss of f = 0. ``max_evaluations``: full-batch forward and backward passes of one try after which no further step is taken.
    """

    accuracy: float = 0.01
    loss_tolerance: float = 1e-6
    max_evaluations: int = 20_000


class _Front(NamedTuple):
    """Where every job of the batch is between two trials, and the step that it is about to try. Float64; jobs first."""

    residual: Any  # (B, n)
    kernels: Any  # (B, L, n, n)
    travelled: Any  # (B, L) displacement of every layer
    rates: Any  # (B, L)
    debt: Any  # (B, n) impulse that the step has to make up for, and what is left to later ones
    owed: Any
    taken: Any  # (B, n) impulse of the last step
    values: Any  # (B, n) eigenvalues of the whole kernel, ascending, at least 0
    vectors: Any  # (B, n, n) its eigenvectors, in columns
    movable: Any  # (B, n) which of these modes are more than rounding
    start: Any  # (B, n) the residual that the flow starts from, at the debt's end, in these modes
    step: Any  # (B,)
    phis: Any  # (B, 4, n) step * phi_1(-K step) ... step * phi_4(-K step), mode by mode
    impulse: Any  # (B, n) integral of the residual over the step, the kernel frozen, and the debt
    pieces: Any  # (B, P, n) its parts in equal pieces of the step, and their first moments about their middles, in units of a piece
    lags: Any
    ahead: Any  # (B,) how much of the last impulse there is in this one
    passes: Any  # (B,) moves made so far under that impulse; 0 where a new step begins
    evaluations: Any  # (B,)
    time: Any  # (B,)
    rejected: Any  # (B,) trial steps rejected in a row
    lowest: Any  # (B,) loss after the last step that counts
    forgiven: Any  # (B,) whether the step is tried without what the last one left to be done: with it, the loss would rise

    @classmethod
    def of(cls, at: Evaluated, rates: Array, pieces: int) -> _Front:
        jobs, layers, n, _ = at.kernels.shape
        vector, number, count = (jobs, n), (jobs,), np.zeros(jobs, dtype=np.int64)
        return cls(
            residual=at.residual.copy(),
            kernels=at.kernels.copy(),
            travelled=np.zeros((jobs, layers)),
            rates=rates,
            debt=np.zeros(vector),
            owed=np.zeros(vector),
            taken=np.zeros(vector),
            values=np.zeros(vector),
            vectors=np.zeros((jobs, n, n)),
            movable=np.zeros(vector, dtype=np.bool_),
            start=np.zeros(vector),
            step=np.full(number, np.nan),
            phis=np.zeros((jobs, 4, n)),
            impulse=np.zeros(vector),
            pieces=np.zeros((jobs, pieces, n)),
            lags=np.zeros((jobs, pieces, n)),
            ahead=np.zeros(number),
            passes=count,
            evaluations=count + 1,
            time=np.zeros(number),
            rejected=count.copy(),
            lowest=np.array([_loss(residual) for residual in at.residual]),
            forgiven=np.zeros(jobs, dtype=np.bool_),
        )


def integrate(network: Network, settings: Settings, trace: bool = False) -> Outcome:
    """Follows the gradient flow of every job to convergence, or to an honest end.

    Returns a :class:`.networks.Outcome`; its ``status`` is "converged", "evaluation_limit", "stalled" (stationary above the
    tolerance, or not what it stands for: see :meth:`.networks.Network.unseen`; a represented network in all of ``TRIES``) or "diverged".
    ``trace`` keeps a :class:`.networks.Moment` after every step that counts.
    """
    outcome = _follow(network, settings, trace)
    for attempt in range(1, TRIES):
        stalled = np.flatnonzero((np.array(outcome.status) == "stalled") & (network.mass > 1))
        if not len(stalled):
            break
        closer = replace(settings, accuracy=CLOSER**attempt * settings.accuracy)
        outcome.update(stalled, _follow(network.select(stalled), closer, trace))
    return outcome


def _follow(network: Network, settings: Settings, trace: bool) -> Outcome:
    """One try of :func:`integrate`."""
    target = settings.loss_tolerance * float(np.mean(network.y**2)) / 2
    front = _Front.of(network.begin(), network.rates, network.pieces)
    # those still in training: rows of the front, in the order of the network's
    jobs = np.arange(len(front.step))
    outcome = Outcome.of(len(jobs))
    outcome.loss_initial = [_loss(residual) for residual in front.residual]
    counted = np.ones(len(jobs), dtype=np.bool_)
    _decompose(front, jobs)
    while True:
        if trace:
            _record(outcome, front, jobs[counted], network.layers)
        running = _finish(outcome, front, jobs, network, target, settings)
        if not running.all():
            jobs = jobs[running]
            if not len(jobs):
                return outcome
            network = network.select(np.flatnonzero(running))
        _propose(front, jobs, target)
        trial = network.trial(
            front.passes[jobs],
            front.forgiven[jobs],
            front.ahead[jobs],
            front.pieces[jobs],
            front.lags[jobs],
            SETTLE_TOLERANCE * settings.accuracy,
        )
        fresh = np.zeros(len(jobs), dtype=np.bool_)
        _judge(front, jobs, trial, settings.accuracy, target, network.passes, fresh)
        network.accept(fresh)
        _decompose(front, jobs[fresh])
        counted = _count(front, jobs, fresh, settings.accuracy)


@_compiled
def _propose(front: _Front, jobs: Indices, target: float) -> None:
    """The next step of every job, and its impulse; a job that is still settling repeats the one it has.

    Modes in the null space of the kernel have an impulse too. It moves neurons that are too small to show in the kernel: out of a saddle,
    these grow.
    """
    n, pieces = front.residual.shape[1], front.pieces.shape[1]
    whole, part = np.empty(4), np.empty(4)
    for job in jobs:
        if front.passes[job] > 0:
            continue
        values, start, vectors = front.values[job], front.start[job], front.vectors[job]
        if np.isnan(front.step[job]):
            front.step[job] = FIRST_STEP / max(values[n - 1], _TINY)
        step = front.step[job] = _landed(values, front.movable[job], start, front.step[job], LANDING * target)
        length = step / pieces
        for piece in range(pieces):
            for i in range(n):
                front.pieces[job, piece, i], front.lags[job, piece, i] = front.debt[job, i] / pieces, 0.0
        for mode in range(n):
            phis(values[mode] * step, whole)
            phis(values[mode] * length, part)
            for order in range(4):
                front.phis[job, order, mode] = step * whole[order]
            for piece in range(pieces):
                here = length * exp(-values[mode] * piece * length) * start[mode]
                for i in range(n):
                    front.pieces[job, piece, i] += vectors[i, mode] * part[0] * here
                    front.lags[job, piece, i] += vectors[i, mode] * (part[0] / 2 - part[1]) * here
        product = square = 0.0
        for i in range(n):
            impulse = 0.0
            for piece in range(pieces):
                impulse += front.pieces[job, piece, i]
            front.impulse[job, i] = impulse
            product += impulse * front.taken[job, i]
            square += front.taken[job, i] ** 2
        front.ahead[job] = min(max(product / max(square, _TINY), 0.0), 2.0)


@_compiled
def _judge(
    front: _Front,
    jobs: Indices,
    trial: Trial,
    accuracy: float,
    target: float,
    max_passes: int,
    fresh: Mask,
) -> None:
    """What becomes of every trial, which cost its job an evaluation: ``fresh`` (B,) tells which jobs completed their step.

    A step ends accepted or rejected once its move has settled: once the gates and signals that it met are those that it was computed
    with. Until then it is repeated with what it met.
    """
    n = front.residual.shape[1]
    lacked = np.empty(n)
    for index in range(len(jobs)):
        job = jobs[index]
        residual, step = trial.residual[index], front.step[job]
        sane = isfinite(trial.rotation[index]) and trial.rotation[index] < MAX_ROTATION
        for i in range(n):
            sane = sane and isfinite(residual[i])
        excess = relative = 0.0
        if sane:
            excess, relative = _errors(front, job, trial, index, accuracy, max_passes, lacked)
            sane = isfinite(excess)
        unsettled = trial.unsettled[index] / (SETTLE_TOLERANCE * accuracy)
        before = _loss(front.residual[job])
        share = _share_before(before, _loss(residual), target) if sane else 1.0
        overshot = (1 - share) * relative > OVERSHOOT * accuracy
        settling = sane and unsettled > 1 and front.passes[job] + 1 < max_passes
        risen = sane and _loss(residual) > RISE * front.lowest[job]
        accepted = sane and unsettled <= 1 and excess <= 1 and not overshot and not risen
        front.evaluations[job] += 1
        if settling:
            front.passes[job] += 1
            continue
        front.passes[job] = 0
        if not sane:
            # out of a tiny initialisation, steps may have to be far below the kernel's time scale
            rotation = trial.rotation[index]
            scale = max(SHRINK * min(MAX_ROTATION / rotation, 1.0), _TINY) if rotation > 0 else SHRINK
        else:
            scale = _scale(excess, unsettled)
            if overshot:
                scale = min(scale, share)
            if risen:
                scale = min(scale, HALVE)
        front.step[job] = step * scale
        if not accepted and scale < 1:
            # a shorter step bears less of the debt, or there would be none short enough; if none is even so, it is a debt to nobody
            void = risen and front.rejected[job] >= PATIENCE
            for i in range(n):
                front.owed[job, i] += (1 - scale) * front.debt[job, i]
                front.debt[job, i] *= scale
                if void:
                    front.owed[job, i] = front.debt[job, i] = 0.0
            _aim(front, job)
        front.forgiven[job] = not accepted and (risen or front.forgiven[job])
        front.rejected[job] = 0 if accepted else front.rejected[job] + 1
        if accepted:
            fresh[index] = True
            front.time[job] += step
            _arrive(front, job, trial, index, lacked)


@_compiled
def _errors(
    front: _Front, job: int, trial: Trial, index: int, accuracy: float, max_passes: int, lacked: Array
) -> tuple[float, float]:
    """The error of a step over what is allowed, and how far it moves a layer, relative to the displacement since the start: the largest of
    all layers. What its impulse lacked goes to ``lacked`` (n,)."""
    n, layers = front.residual.shape[1], front.kernels.shape[1]
    kernels, impulse, third, wrong = trial.kernels[index], front.impulse[job], np.empty(n), np.empty(n)
    _correct(front, job, trial.residual[index], kernels, third, lacked)
    for i in range(n):
        wrong[i] = lacked[i] - third[i]
    excess = relative = 0.0
    for layer in range(layers):
        # in units of sqrt(c_l / n), in which an impulse E moves layer l by sqrt(E^T K_l E)
        whole = trial.travelled[index, layer] * sqrt(n / front.rates[job, layer]) + _TINY
        moved, error = _energy(impulse, kernels[layer]), _energy(wrong, kernels[layer])
        excess = max(
            excess,
            error / (IMPULSE_TOLERANCE * accuracy * whole),
            error / (STEP_TOLERANCE * moved + NEGLIGIBLE * accuracy * whole),
        )
        relative = max(relative, moved / whole)
        if max_passes > 1 and front.travelled[job, layer] > 0:
            leap = trial.travelled[index, layer] / (LEAP * front.travelled[job, layer])
            excess = max(excess, leap**3)
    return excess, relative


@_compiled
def _arrive(front: _Front, job: int, trial: Trial, index: int, lacked: Array) -> None:
    """A job is where its trial has led to; what the impulse ``lacked`` is left to the next step, as far as that is believed."""
    n, layers = front.residual.shape[1], front.kernels.shape[1]
    before, kernels = _loss(front.residual[job]), trial.kernels[index]
    for i in range(n):
        lacked[i] += front.owed[job, i]
    share = min(CREDIT * sqrt(2 * n * before) / (_change(lacked, kernels) + _TINY), 1.0)
    for i in range(n):
        front.residual[job, i], front.taken[job, i] = trial.residual[index, i], front.impulse[job, i]
        front.debt[job, i], front.owed[job, i] = share * lacked[i], 0.0
    for layer in range(layers):
        front.travelled[job, layer] = trial.travelled[index, layer]
        for i in range(n):
            for j in range(n):
                front.kernels[job, layer, i, j] = kernels[layer, i, j]


@_compiled
def _count(front: _Front, jobs: Indices, fresh: Mask, accuracy: float) -> Mask:
    """Which of the jobs that completed a step (B,) have a loss that has not risen since the last one that counts."""
    counted = fresh.copy()
    for index in range(len(jobs)):
        if fresh[index]:
            loss, lowest = _loss(front.residual[jobs[index]]), front.lowest[jobs[index]]
            counted[index] = loss <= (1 + accuracy) * lowest
            front.lowest[jobs[index]] = loss if counted[index] else lowest
    return counted


@_compiled
def _correct(front: _Front, job: int, residual: Array, kernels: Array, third: Array, fourth: Array) -> None:
    """What the impulse of a step lacked, to third and to fourth order, (n,) each.

    The residual departs from the frozen-kernel prediction by g(s), 0 <= s <= h, with g(0) = g'(0) = 0; its end g(h), the *mismatch*, and
    h g'(h), the *slope*, are known. To third order g = mismatch (s/h)^2, to fourth order it is the cubic through all four; the
    impulse lacks the integral of exp(-K (h - s)) g(s), where a power (s/h)^j contributes j! h phi_(j+1)(-K h).
    """
    n, layers = len(residual), len(kernels)
    vectors, phis, impulse = front.vectors[job], front.phis[job], front.impulse[job]
    mismatch, slope = np.empty(n), np.empty(n)
    for i in range(n):
        mismatch[i], slope[i] = residual[i] - front.residual[job, i], 0.0
        for j in range(n):
            before = after = 0.0
            for layer in range(layers):
                before += front.kernels[job, layer, i, j]
                after += kernels[layer, i, j]
            mismatch[i] += before * impulse[j]
            slope[i] -= front.step[job] * (after - before) * residual[j]
        third[i] = fourth[i] = 0.0
    for mode in range(n):
        end = rise = 0.0
        for i in range(n):
            end += vectors[i, mode] * mismatch[i]
            rise += vectors[i, mode] * slope[i]
        quadratic, cubic = 3 * end - rise, rise - 2 * end
        low = 2 * phis[2, mode] * end
        high = 2 * phis[2, mode] * quadratic + 6 * phis[3, mode] * cubic
        for i in range(n):
            third[i] += vectors[i, mode] * low
            fourth[i] += vectors[i, mode] * high


@_compiled
def _change(impulse: Array, kernels: Array) -> float:
    """The norm of the change of the residual under an impulse."""
    n, total = len(impulse), 0.0
    for i in range(n):
        row = 0.0
        for layer in range(len(kernels)):
            for j in range(n):
                row += kernels[layer, i, j] * impulse[j]
        total += row * row
    return sqrt(total)


@_compiled
def _share_before(start: float, end: float, target: float) -> float:
    """The share of a step after which the loss has met the target, taken to fall exponentially from start to end."""
    if not end < target:
        return 1.0
    return min(max(log(start / (LANDING * target)) / max(log(start / max(end, _TINY)), _TINY), SHRINK), 1.0)


@_compiled
def _scale(excess: float, unsettled: float) -> float:
    """Factor for the next step: the impulse's error falls with its third power, that of the gates with its second."""
    scale: float = SAFETY * min(max(excess, 1e-9) ** (-1 / 3), max(unsettled, 1e-9) ** (-1 / 2))
    return min(max(scale, SHRINK), GROW)


@_compiled
def _landed(values: Array, movable: Mask, start: Array, step: float, target: float) -> float:
    """``step``, shortened where the frozen kernel predicts a loss below ``target`` at its end: bisection in log time."""
    if not _predicted_loss(values, movable, start, step) < target:
        return step
    low, high = SHORTEST_LANDING, 0.0
    for _ in range(20):
        middle = (low + high) / 2
        if _predicted_loss(values, movable, start, step * exp(middle)) < target:
            high = middle
        else:
            low = middle
    return step * exp(high)


@_compiled
def _predicted_loss(values: Array, movable: Mask, start: Array, step: float) -> float:
    n, total = len(values), 0.0
    for mode in range(n):
        left = start[mode] * (exp(-values[mode] * step) if movable[mode] else 1.0)
        total += left * left
    return total / (2 * n)


@_compiled
def _loss(residual: Array) -> float:
    """The loss R = sum_i e_i^2 / 2n of one job."""
    total = 0.0
    for i in range(len(residual)):
        total += residual[i] * residual[i]
    return total / (2 * len(residual))


@_compiled
def _energy(vector: Array, kernel: Array) -> float:
    """``sqrt(v^T K v)``."""
    n, total = len(vector), 0.0
    for i in range(n):
        row = 0.0
        for j in range(n):
            row += kernel[i, j] * vector[j]
        total += vector[i] * row
    return sqrt(max(total, 0.0))


_RUNNING, _CONVERGED, _DIVERGED, _LIMIT, _AT_REST, _STUCK = range(6)
_STATUS = {
    _CONVERGED: "converged",
    _DIVERGED: "diverged",
    _LIMIT: "evaluation_limit",
    _AT_REST: "stalled",
    _STUCK: "stalled",
}


@_compiled
def _ends(
    front: _Front, jobs: Indices, target: float, accuracy: float, max_evaluations: int, remaining: Array
) -> Indices:
    """Which jobs are at their end; ``remaining`` (B, n) is the residual that an infinite step would leave.

    A network that nothing but its null space holds is at rest, unless a neuron that is too small to show in the kernel may still grow.
    """
    n, layers = front.residual.shape[1], front.kernels.shape[1]
    ends = np.zeros(len(jobs), dtype=np.int64)
    rest, impulse = np.empty(n), np.empty(n)
    for index in range(len(jobs)):
        job = jobs[index]
        loss, values, vectors = _loss(front.residual[job]), front.values[job], front.vectors[job]
        if not isfinite(loss):
            ends[index] = _DIVERGED
        elif front.rejected[job] >= MAX_REJECTED:
            # where it has been trained to, it stays; one that cannot even begin has gone astray at once
            ends[index] = _STUCK if front.time[job] > 0 else _DIVERGED
        elif loss <= target:
            ends[index] = _CONVERGED
        elif front.evaluations[job] >= max_evaluations:
            ends[index] = _LIMIT
        if ends[index] == _CONVERGED or ends[index] == _DIVERGED or ends[index] == _STUCK:
            continue
        stuck = 0.0
        for mode in range(n):
            rest[mode] = 0.0 if front.movable[job, mode] else front.start[job, mode]
            stuck += rest[mode] ** 2
        if not stuck / (2 * n) > target and values[n - 1] > 0:
            continue
        for i in range(n):
            remaining[index, i] = impulse[i] = 0.0
            for mode in range(n):
                remaining[index, i] += vectors[i, mode] * rest[mode]
                if front.movable[job, mode]:
                    impulse[i] += vectors[i, mode] * front.start[job, mode] / values[mode]
        at_rest = True
        for layer in range(layers):
            left = _energy(impulse, front.kernels[job, layer]) * sqrt(front.rates[job, layer] / n)
            at_rest = at_rest and left <= AT_REST * accuracy * front.travelled[job, layer]
        if at_rest or values[n - 1] == 0:
            ends[index] = _AT_REST
    return ends


def _finish(
    outcome: Outcome,
    front: _Front,
    jobs: Indices,
    network: Network,
    target: float,
    settings: Settings,
) -> Mask:
    """Notes what became of the jobs that are at their end; which ones (B,) go on."""
    remaining = np.zeros((len(jobs), front.residual.shape[1]))
    ends: Indices = _ends(front, jobs, target, settings.accuracy, settings.max_evaluations, remaining)
    # A point that nothing in a layer sees is left to the biases of the next ones, which grow thousandfold for it. Where all others are
    # fitted, that is not what the wider network does.
    residual = front.residual[jobs]
    fitted = np.abs(residual) <= sqrt(2 * residual.shape[1] * target)
    rest = np.mean(np.where(fitted, residual, 0.0) ** 2, axis=1) / 2
    nearly = np.flatnonzero(fitted.any(axis=1) & (rest <= target))
    if len(nearly):
        unseen = network.unseen(nearly)
        ends[nearly[unseen.any(axis=1) & (fitted[nearly] | unseen).all(axis=1)]] = _STUCK
    running: Mask = ends == _RUNNING
    if running.all():
        return running
    if (ends == _AT_REST).any():
        force = network.force(remaining)
        dead = front.values[jobs, -1] == 0
        moving = (ends == _AT_REST) & (force > NO_FORCE) & ~dead
        spent = front.evaluations[jobs] >= settings.max_evaluations
        ends[moving] = np.where(spent[moving], _LIMIT, _RUNNING)
    running = ends == _RUNNING
    for index in np.flatnonzero(~running):
        job = int(jobs[index])
        outcome.status[job] = _STATUS[int(ends[index])]
        outcome.evaluations[job] = int(front.evaluations[job])
        outcome.loss_final[job] = _loss(front.residual[job])
        outcome.changes[job] = network.change(int(index))
    return running


def _record(outcome: Outcome, front: _Front, jobs: Indices, layers: tuple[str, ...]) -> None:
    for job in jobs:
        moved = dict(zip(layers, front.travelled[job].tolist(), strict=True))
        time = float(front.time[job] * front.rates[job, -1])
        loss = _loss(front.residual[job])
        outcome.trace[job].append(Moment(int(front.evaluations[job]), time, loss, moved))


def _decompose(front: _Front, jobs: Indices) -> None:
    """The modes of the kernels of these jobs, and the residual that their flow starts from in them."""
    if not len(jobs):
        return
    if front.residual.shape[1] > JACOBI:
        kernels = front.kernels[jobs].sum(axis=1)
        kernels[~np.isfinite(kernels).all(axis=(1, 2))] = np.eye(kernels.shape[1])
        front.values[jobs], front.vectors[jobs] = eigh(kernels)
    _into_modes(front, jobs)


@_compiled
def _into_modes(front: _Front, jobs: Indices) -> None:
    n, layers = front.residual.shape[1], front.kernels.shape[1]
    kernel, diagonal = np.empty((n, n)), np.empty(n)
    for job in jobs:
        sane = True
        for i in range(n):
            for j in range(n):
                kernel[i, j] = 0.0
                for layer in range(layers):
                    kernel[i, j] += front.kernels[job, layer, i, j]
                sane = sane and isfinite(kernel[i, j])
        for i in range(n):
            diagonal[i] = kernel[i, i] if sane else 1.0
        if n <= JACOBI:
            if not sane:
                for i in range(n):
                    for j in range(n):
                        kernel[i, j] = 1.0 if i == j else 0.0
            jacobi(kernel, front.values[job], front.vectors[job])
        for mode in range(n):
            front.values[job, mode] = max(front.values[job, mode], 0.0)
        for mode in range(n):
            # rotations keep the digits of small modes of graded kernels, LAPACK does not
            scale = 0.0 if n <= JACOBI else front.values[job, n - 1]
            if n <= JACOBI:
                for i in range(n):
                    scale += front.vectors[job, i, mode] ** 2 * diagonal[i]
            front.movable[job, mode] = front.values[job, mode] > NULL_MODE * n * scale
        _aim(front, job)


@_compiled
def _aim(front: _Front, job: int) -> None:
    """The residual that the flow starts from, at the end of the debt, in modes."""
    n = front.residual.shape[1]
    for mode in range(n):
        residual = debt = 0.0
        for i in range(n):
            residual += front.vectors[job, i, mode] * front.residual[job, i]
            debt += front.vectors[job, i, mode] * front.debt[job, i]
        front.start[job, mode] = residual - front.values[job, mode] * debt

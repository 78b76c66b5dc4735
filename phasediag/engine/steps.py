"""What is decided for one job between two trials: its next step, whether a trial was one, and whether it is at its end.

The functions of one job are run by a team of lanes (:mod:`.teams`); those of many jobs run them one after the other on a CPU, and a
GPU runs a team for each (:mod:`.kernels`). What they compute is explained in :mod:`.flow`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import exp, inf, isfinite, isnan, log, nan, sqrt
from typing import Any, NamedTuple

from .compiled import compiled
from .modes import jacobi, phis
from .networks import MAX_ROTATION, Array, Indices, Mask, Trial
from .teams import first, meet, mine, together

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
JACOBI = 8
"""Most points whose kernel is diagonalised here, by rotations: LAPACK takes longer to start."""

RUNNING, CONVERGED, DIVERGED, LIMIT, RESTING, STUCK = range(6)
"""How a job ends. One that rests has nothing left that moves, unless a neuron that is too small to show in the kernel may still grow."""

_compiled = compiled()


class Front(NamedTuple):
    """Where every job is between two trials, and the step that it is about to try. Float64; jobs first."""

    residual: Any  # (B, n)
    kernels: Any  # (B, L, n, n)
    held: Any  # (B, n, n) see Trial
    loss: Any  # (B,) R = sum_i e_i^2 / 2n
    travelled: Any  # (B, L) displacement of every layer
    rates: Any  # (B, L)
    debt: Any  # (B, n) impulse that the step has to make up for, and what is left to later ones
    owed: Any
    taken: Any  # (B, n) impulse of the last step
    whole: Any  # (B, n, n) the whole kernel, until its modes are known
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
    half: Any  # (B,) half of the loss at the start, and when the loss first was that: NaN before
    halved: Any
    rejected: Any  # (B,) trial steps rejected in a row
    lowest: Any  # (B,) loss after the last step that counts
    forgiven: Any  # (B,) whether the step is tried without what the last one left to be done: with it, the loss would rise
    fresh: Any  # (B,) whether the last trial completed a step, and whether the step counts: whether the loss has not risen since the last
    counted: Any
    fitted: Any  # (B,) whether some points are fitted, and all that is left is the loss of others
    remaining: Any  # (B, n) the residual that an infinite step would leave
    end: Any  # (B,) RUNNING, or how the job ends: nothing happens to it any more
    scratch: Any  # (B, S, n)

    @classmethod
    def of(
        cls, zeros: Callable[[tuple[int, ...], str], Any], jobs: int, layers: int, n: int, pieces: int
    ) -> Front:
        """Jobs before their first step. ``zeros``: makes arrays of a shape and a type."""
        shapes: dict[str, tuple[int, ...]] = {
            **dict.fromkeys(cls._fields, (n,)),
            **dict.fromkeys(_OF_A_JOB, ()),
            **dict.fromkeys(("travelled", "rates"), (layers,)),
            **dict.fromkeys(("held", "whole", "vectors"), (n, n)),
            **dict.fromkeys(("pieces", "lags"), (pieces, n)),
            "kernels": (layers, n, n),
            "phis": (4, n),
            "scratch": (max(6, pieces + 2), n),
        }
        kinds = {**_OF_A_JOB, "movable": "bool"}
        return cls(*(zeros((jobs, *shapes[name]), kinds.get(name, "float64")) for name in cls._fields))


_OF_A_JOB = {
    **dict.fromkeys(("loss", "step", "ahead", "time", "half", "halved", "lowest"), "float64"),
    **dict.fromkeys(("passes", "evaluations", "rejected", "end"), "int64"),
    **dict.fromkeys(("forgiven", "fresh", "counted", "fitted"), "bool"),
}


# For many jobs, on a CPU: what a kernel of the same name is on a GPU.


@_compiled
def begin(front: Front, jobs: Indices, residual: Array, kernels: Array, rates: Array, target: float) -> None:
    """All jobs are where their training starts; ``residual`` (B, n), ``kernels`` (B, L, n, n), ``rates`` (B, L)."""
    for index in range(len(jobs)):
        begin_one(front, jobs[index], residual[index], kernels[index], rates[index], target)


@_compiled
def ends(
    front: Front, jobs: Indices, unseen: Mask, target: float, accuracy: float, max_evaluations: int
) -> None:
    """Which jobs are at their end; ``unseen`` (B, n): see `flow.Network.unseen`."""
    for index in range(len(jobs)):
        ends_one(front, jobs[index], unseen[index], target, accuracy, max_evaluations)


@_compiled
def propose(front: Front, jobs: Indices, force: Array, target: float, max_evaluations: int) -> None:
    """The next step of every job, and its impulse; ``force`` (B,): see `flow.Network.force`."""
    for index in range(len(jobs)):
        propose_one(front, jobs[index], force[index], target, max_evaluations)


@_compiled
def judge(front: Front, jobs: Indices, trial: Trial, accuracy: float, target: float, max_passes: int) -> None:
    """What becomes of every trial."""
    for index in range(len(jobs)):
        judge_one(front, jobs[index], trial, index, accuracy, target, max_passes)


# For one job.


@_compiled
def begin_one(front: Front, job: int, residual: Array, kernels: Array, rates: Array, target: float) -> None:
    """Puts a job where its training starts; its first step is not known yet."""
    _copy(front.rates[job], rates)
    loss = _loss(residual)
    if first():
        front.lowest[job], front.step[job] = loss, nan
        front.half[job], front.halved[job] = loss / 2, nan
        front.evaluations[job], front.fresh[job], front.counted[job] = 1, True, True
    _arrive(front, job, residual, kernels, loss, target)


@_compiled
def propose_one(front: Front, job: int, force: float, target: float, max_evaluations: int) -> None:
    """A job that is still settling repeats the step it has.

    Modes in the null space of the kernel have an impulse too. It moves neurons that are too small to show in the kernel: out of a saddle,
    these grow.
    """
    n, pieces = front.residual.shape[1], front.pieces.shape[1]
    values, start, vectors = front.values[job], front.start[job], front.vectors[job]
    end, step = front.end[job], front.step[job]
    if end == RESTING and force > NO_FORCE and values[n - 1] > 0:
        end = LIMIT if front.evaluations[job] >= max_evaluations else RUNNING
    settling = front.passes[job] > 0
    meet()
    if first():
        front.end[job], front.fresh[job], front.counted[job] = end, False, False
    if end != RUNNING or settling:
        return
    if isnan(step):
        step = FIRST_STEP / max(values[n - 1], _TINY)
    step = _landed(values, front.movable[job], start, step, LANDING * target)
    length, scratch = step / pieces, front.scratch[job]
    for mode in mine(n):
        whole, part = phis(values[mode] * step), phis(values[mode] * length)
        for order in range(4):
            front.phis[job, order, mode] = step * whole[order]
        scratch[pieces, mode], scratch[pieces + 1, mode] = part[0], part[0] / 2 - part[1]
        for piece in range(pieces):
            scratch[piece, mode] = length * exp(-values[mode] * piece * length) * start[mode]
    meet()
    for piece in range(pieces):
        for i in mine(n):
            pull, lag = front.debt[job, i] / pieces, 0.0
            for mode in range(n):
                pull += vectors[i, mode] * scratch[pieces, mode] * scratch[piece, mode]
                lag += vectors[i, mode] * scratch[pieces + 1, mode] * scratch[piece, mode]
            front.pieces[job, piece, i], front.lags[job, piece, i] = pull, lag
    product = square = 0.0
    for i in mine(n):
        impulse = 0.0
        for piece in range(pieces):
            impulse += front.pieces[job, piece, i]
        front.impulse[job, i] = impulse
        product += impulse * front.taken[job, i]
        square += front.taken[job, i] ** 2
    product, square = together(product), together(square)
    if first():
        front.step[job] = step
        front.ahead[job] = min(max(product / max(square, _TINY), 0.0), 2.0)


@_compiled
def judge_one(
    front: Front, job: int, trial: Trial, index: int, accuracy: float, target: float, max_passes: int
) -> None:
    """A trial costs its job an evaluation.

    A step ends accepted or rejected once its move has settled: once the gates and signals that it met are those that it was computed
    with. Until then it is repeated with what it met.
    """
    if front.end[job] != RUNNING:
        return
    n, residual, step, rotation = (
        front.residual.shape[1],
        trial.residual[index],
        front.step[job],
        trial.rotation[index],
    )
    sane = isfinite(rotation) and rotation < MAX_ROTATION and _finite(residual)
    excess = relative = 0.0
    if sane:
        excess, relative = _errors(front, job, trial, index, accuracy, max_passes)
        sane = isfinite(excess)
    unsettled = trial.unsettled[index] / (SETTLE_TOLERANCE * accuracy)
    before, after = front.loss[job], _loss(residual)
    share = _share_before(before, after, target) if sane else 1.0
    overshot = (1 - share) * relative > OVERSHOOT * accuracy
    passes, rejected, lowest = front.passes[job], front.rejected[job], front.lowest[job]
    settling = sane and unsettled > 1 and passes + 1 < max_passes
    risen = sane and after > RISE * lowest
    accepted = sane and unsettled <= 1 and excess <= 1 and not overshot and not risen
    evaluations, time, forgiven = front.evaluations[job], front.time[job], front.forgiven[job]
    meet()
    if first():
        front.evaluations[job] = evaluations + 1
    if settling:
        if first():
            front.passes[job] = passes + 1
        return
    if not sane:
        # out of a tiny initialisation, steps may have to be far below the kernel's time scale
        scale = max(SHRINK * min(MAX_ROTATION / rotation, 1.0), _TINY) if rotation > 0 else SHRINK
    else:
        scale = _scale(excess, unsettled)
        if overshot:
            scale = min(scale, share)
        if risen:
            scale = min(scale, HALVE)
    counted = accepted and after <= (1 + accuracy) * lowest
    halving = accepted and isnan(front.halved[job]) and after <= front.half[job]
    halved = time + _passed(front, job, before, after) if halving else nan
    if first():
        front.passes[job], front.step[job] = 0, step * scale
        front.forgiven[job] = not accepted and (risen or forgiven)
        front.rejected[job] = 0 if accepted else rejected + 1
        front.fresh[job], front.counted[job] = accepted, counted
        if accepted:
            front.time[job] = time + step
        if halving:
            front.halved[job] = halved
        if counted:
            front.lowest[job] = after
    if not accepted and scale < 1:
        # a shorter step bears less of the debt, or there would be none short enough; if none is even so, it is a debt to nobody
        void = risen and rejected >= PATIENCE
        for i in mine(n):
            front.owed[job, i] += (1 - scale) * front.debt[job, i]
            front.debt[job, i] *= scale
            if void:
                front.owed[job, i] = front.debt[job, i] = 0.0
        meet()
        _start(front, job)
    if accepted:
        _carry(front, job, trial.kernels[index], before)
        _copy(front.travelled[job], trial.travelled[index])
        _arrive(front, job, residual, trial.kernels[index], after, target)
        for i in mine(n):
            for j in range(n):
                front.held[job, i, j] = trial.held[index, i, j]


@_compiled
def _errors(
    front: Front, job: int, trial: Trial, index: int, accuracy: float, max_passes: int
) -> tuple[float, float]:
    """The error of a step over what is allowed, and how far it moves a layer, relative to the displacement since the start: the largest of
    all layers. What its impulse lacked is kept (scratch 1)."""
    n, layers = front.residual.shape[1], front.kernels.shape[1]
    kernels, impulse, scratch = trial.kernels[index], front.impulse[job], front.scratch[job]
    _correct(front, job, trial.residual[index], kernels)
    if not _finite(
        scratch[1]
    ):  # a kernel is not; what follows would not see it, for of NaN and a number the larger one is the number
        return inf, inf
    wrong = scratch[0]
    for i in mine(n):
        wrong[i] = scratch[1, i] - wrong[i]
    meet()
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
def _carry(front: Front, job: int, kernels: Array, before: float) -> None:
    """What the impulse of a step lacked is left to the next one, as far as that is believed: ``kernels`` (L, n, n) at its end, and the loss
    before it."""
    n, lacked = front.residual.shape[1], front.scratch[job, 1]
    for i in mine(n):
        lacked[i] += front.owed[job, i]
    meet()
    share = min(CREDIT * sqrt(2 * n * before) / (_change(lacked, kernels) + _TINY), 1.0)
    for i in mine(n):
        front.taken[job, i] = front.impulse[job, i]
        front.debt[job, i], front.owed[job, i] = share * lacked[i], 0.0


@_compiled
def _arrive(front: Front, job: int, residual: Array, kernels: Array, loss: float, target: float) -> None:
    """A job is where its residual (n,), kernels (L, n, n) and loss are these. Finds the modes of the whole kernel, where points are few; a
    kernel that is not finite has those of the identity."""
    n, layers, whole, diagonal = len(residual), len(kernels), front.whole[job], front.scratch[job, 0]
    fitted = left = astray = 0.0
    for i in mine(n):
        front.residual[job, i] = residual[i]
        if _is_fitted(residual, i, target):
            fitted += 1
            left += residual[i] ** 2
        for j in range(n):
            whole[i, j] = 0.0
            for layer in range(layers):
                front.kernels[job, layer, i, j] = kernels[layer, i, j]
                whole[i, j] += kernels[layer, i, j]
            astray += not isfinite(whole[i, j])
    fitted, left, astray = together(fitted), together(left), together(astray)
    if first():
        front.loss[job] = loss
        front.fitted[job] = fitted > 0 and left / n / 2 <= target
    for i in mine(n):
        diagonal[i] = whole[i, i] if astray == 0 else 1.0
        if astray > 0:
            for j in range(n):
                whole[i, j] = 1.0 if i == j else 0.0
    meet()
    if n <= JACOBI and first():
        jacobi(whole, front.values[job], front.vectors[job])


@_compiled
def _correct(front: Front, job: int, residual: Array, kernels: Array) -> None:
    """What the impulse of a step lacked, to third and to fourth order (scratch 0 and 1).

    The residual departs from the frozen-kernel prediction by g(s), 0 <= s <= h, with g(0) = g'(0) = 0; its end g(h), the *mismatch*, and
    h g'(h), the *slope*, are known. To third order g = mismatch (s/h)^2, to fourth order it is the cubic through all four; the
    impulse lacks the integral of exp(-K (h - s)) g(s), where a power (s/h)^j contributes j! h phi_(j+1)(-K h).
    """
    n, layers = len(residual), len(kernels)
    vectors, phis, impulse, scratch = (
        front.vectors[job],
        front.phis[job],
        front.impulse[job],
        front.scratch[job],
    )
    third, fourth, mismatch, slope, low, high = (
        scratch[0],
        scratch[1],
        scratch[2],
        scratch[3],
        scratch[4],
        scratch[5],
    )
    for i in mine(n):
        mismatch[i], slope[i] = residual[i] - front.residual[job, i], 0.0
        for j in range(n):
            before = after = 0.0
            for layer in range(layers):
                before += front.kernels[job, layer, i, j]
                after += kernels[layer, i, j]
            mismatch[i] += before * impulse[j]
            slope[i] -= front.step[job] * (after - before) * residual[j]
    meet()
    for mode in mine(n):
        end = rise = 0.0
        for i in range(n):
            end += vectors[i, mode] * mismatch[i]
            rise += vectors[i, mode] * slope[i]
        quadratic, cubic = 3 * end - rise, rise - 2 * end
        low[mode] = 2 * phis[2, mode] * end
        high[mode] = 2 * phis[2, mode] * quadratic + 6 * phis[3, mode] * cubic
    meet()
    for i in mine(n):
        third[i] = fourth[i] = 0.0
        for mode in range(n):
            third[i] += vectors[i, mode] * low[mode]
            fourth[i] += vectors[i, mode] * high[mode]


@_compiled
def ends_one(
    front: Front, job: int, unseen: Mask, target: float, accuracy: float, max_evaluations: int
) -> None:
    """A network that nothing but its null space holds is at rest. A point that nothing in a layer sees is left to the biases of the next
    ones, which grow thousandfold for it: where all others are fitted, that is not what the wider network does."""
    if front.fresh[job]:
        _aim(front, job)
    if front.end[job] != RUNNING:
        return
    end = _end(front, job, target, accuracy, max_evaluations)
    if front.fitted[job]:
        hidden = open_ = 0.0
        for i in mine(len(unseen)):
            hidden += unseen[i]
            open_ += not (unseen[i] or _is_fitted(front.residual[job], i, target))
        if together(hidden) > 0 and together(open_) == 0:
            end = STUCK
    meet()
    if first():
        front.end[job] = end


@_compiled
def _end(front: Front, job: int, target: float, accuracy: float, max_evaluations: int) -> int:
    n, layers = front.residual.shape[1], front.kernels.shape[1]
    values, vectors, remaining = front.values[job], front.vectors[job], front.remaining[job]
    loss, end = front.loss[job], RUNNING
    if not isfinite(loss):
        return DIVERGED
    if front.rejected[job] >= MAX_REJECTED:
        # where it has been trained to, it stays; one that cannot even begin has gone astray at once
        return STUCK if front.time[job] > 0 else DIVERGED
    if loss <= target:
        return CONVERGED
    if front.evaluations[job] >= max_evaluations:
        end = LIMIT
    rest, impulse, stuck = front.scratch[job, 0], front.scratch[job, 1], 0.0
    for mode in mine(n):
        rest[mode] = 0.0 if front.movable[job, mode] else front.start[job, mode]
        stuck += rest[mode] ** 2
    stuck = together(stuck)
    if not stuck / (2 * n) > target and values[n - 1] > 0:
        return end
    for i in mine(n):
        remaining[i] = impulse[i] = 0.0
        for mode in range(n):
            remaining[i] += vectors[i, mode] * rest[mode]
            if front.movable[job, mode]:
                impulse[i] += vectors[i, mode] * front.start[job, mode] / values[mode]
    meet()
    at_rest = True
    for layer in range(layers):
        left = _energy(impulse, front.kernels[job, layer]) * sqrt(front.rates[job, layer] / n)
        at_rest = at_rest and left <= AT_REST * accuracy * front.travelled[job, layer]
    return RESTING if at_rest or values[n - 1] == 0 else end


@_compiled
def _aim(front: Front, job: int) -> None:
    """What follows from the modes of a new kernel."""
    n, values, diagonal = front.residual.shape[1], front.values[job], front.scratch[job, 0]
    for mode in mine(n):
        values[mode] = max(values[mode], 0.0)
    meet()
    for mode in mine(n):
        # rotations keep the digits of small modes of graded kernels, LAPACK does not
        scale = 0.0 if n <= JACOBI else values[n - 1]
        if n <= JACOBI:
            for i in range(n):
                scale += front.vectors[job, i, mode] ** 2 * diagonal[i]
        front.movable[job, mode] = values[mode] > NULL_MODE * n * scale
    _start(front, job)
    meet()


@_compiled
def _start(front: Front, job: int) -> None:
    """The residual that the flow starts from, at the end of the debt, in modes."""
    n = front.residual.shape[1]
    for mode in mine(n):
        residual = debt = 0.0
        for i in range(n):
            residual += front.vectors[job, i, mode] * front.residual[job, i]
            debt += front.vectors[job, i, mode] * front.debt[job, i]
        front.start[job, mode] = residual - front.values[job, mode] * debt


@_compiled
def _copy(into: Array, vector: Array) -> None:
    for i in mine(len(vector)):
        into[i] = vector[i]


@_compiled
def _finite(vector: Array) -> bool:
    astray = 0.0
    for i in mine(len(vector)):
        astray += not isfinite(vector[i])
    found: bool = together(astray) == 0
    return found


@_compiled
def _is_fitted(residual: Array, i: int, target: float) -> bool:
    """Whether the loss would be at its target with no point worse than this one."""
    found: bool = abs(residual[i]) <= sqrt(2 * len(residual) * target)
    return found


@_compiled
def _change(impulse: Array, kernels: Array) -> float:
    """The norm of the change of the residual under an impulse."""
    n, total = len(impulse), 0.0
    for i in mine(n):
        row = 0.0
        for layer in range(len(kernels)):
            for j in range(n):
                row += kernels[layer, i, j] * impulse[j]
        total += row * row
    return sqrt(together(total))


@_compiled
def _passed(front: Front, job: int, before: float, after: float) -> float:
    """How far into a step, in time, the loss came to half of what it was at the start: where what the frozen kernel predicts, times a
    correction that grows with the square of the time, does. Bisection."""
    values, movable, start, step = front.values[job], front.movable[job], front.start[job], front.step[job]
    first_error = log(before / max(_predicted_loss(values, movable, start, 0.0), _TINY))
    last_error = log(max(after, _TINY) / max(_predicted_loss(values, movable, start, step), _TINY))
    low, high, aim = 0.0, 1.0, log(front.half[job])
    for _ in range(40):
        middle = (low + high) / 2
        error = first_error + (last_error - first_error) * middle**2
        predicted = _predicted_loss(values, movable, start, middle * step)
        if log(max(predicted, _TINY)) + error <= aim:
            high = middle
        else:
            low = middle
    passed: float = high * step
    return passed


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
    for mode in mine(n):
        left = start[mode] * (exp(-values[mode] * step) if movable[mode] else 1.0)
        total += left * left
    return together(total) / (2 * n)


@_compiled
def _loss(residual: Array) -> float:
    """The loss R = sum_i e_i^2 / 2n of one job."""
    total = 0.0
    for i in mine(len(residual)):
        total += residual[i] * residual[i]
    return together(total) / (2 * len(residual))


@_compiled
def _energy(vector: Array, kernel: Array) -> float:
    """``sqrt(v^T K v)``."""
    n, total = len(vector), 0.0
    for i in mine(n):
        row = 0.0
        for j in range(n):
            row += kernel[i, j] * vector[j]
        total += vector[i] * row
    return sqrt(max(together(total), 0.0))

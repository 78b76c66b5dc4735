"""Three-layer ReLU networks on a CPU: moved and evaluated in one compiled pass.

The equations are those of :mod:`.three_layer`. A trial goes from the input to the output and back:

1. the neurons of the first layer go straight, under the mean of the backward signal b over the step: if it goes on as in the last one;
2. the second layer reads the features h1 that result: one product with W2;
3. its neurons turn, pulled by the mean of h1 before and after;
4. the backward signal that results: one product with W2.

By how much that differs from the one expected, the first layer has gone wrong. Where it is little, the step is taken nonetheless, and the
first layer *owed* the difference: the next step pays. Else the trial is repeated with the signal that it brought about.

W2 itself stays as it is: a step adds a matrix of rank n, whose factors are kept beside it, and folded into it when there are many.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .networks import MAX_ROTATION, Array, Evaluated, Indices, Layers, Mask, Trial, initial_weights
from .pieces import PIECES, TREE, resolve
from .products import add_gram, add_sums, dots
from .span import (
    STRAIGHT,
    TURNING,
    add_input_kernel,
    factors,
    fill,
    move_layer,
    room,
    room_to_choose,
    scaled,
    share_out,
    weigh,
)

PADDING = 32
"""Layers are padded to a multiple of this with neurons whose weights are and stay zero: no loop has a remainder."""
MAX_FACTORS = 64
"""Rank of the change of W2 that is kept as factors, at most, where a step does not bring more."""

STRICT = 0.5
"""What a step may leave unsettled, in units of what it may in two layers: errors of one layer are those of the next ones too."""
LOAN = 4.0
"""What a step may leave to be paid to the first layer by the next one, in units of what it may leave unsettled."""
PAYMENT = 4.0
"""A step pays all that the last one owed, or if it is shorter, this many times its length in units of the last one."""

_compiled = compiled()
_part = compiled(inline=True)


class _State(NamedTuple):
    """Where the networks of a batch are. Jobs first, neurons last; the first index of pairs tells the place: two for every job, where it is
    and where it tries to go. The constant feature of the second layer is neuron ``width`` of the first one."""

    width: int
    slot: Any  # (B,) which of the initial weights are a job's own
    z1_start: Any  # (S, n, p) initial preactivations of the first layer,
    w2_start: Any  # (S, m, p) weights of the second, rows by neuron,
    a_start: Any  # (S, p) and output weights
    kappas: Any  # (B, 3) m^-gamma, m^-gamma_1, m^-gamma_prime
    current: Any  # (B,) the place where a job is
    coefficients: Any  # (2, B, n, p) displacement of W1 in the inputs, and what the last step owes it
    owed: Any
    z1: Any  # (2, B, n, p) preactivations and gates of both layers
    gate1: Any
    z2: Any
    gate2: Any
    moved_a: Any  # (2, B, p) displacement of the output weights
    b: Any  # (2, B, n, p) backward signal
    drift: Any  # (B, n, p) its change in the last step
    guess: Any  # (B, n, p) what it is expected to be at the end of this one
    base: Any  # (B, m, p) W2, and its displacement, both without the factors
    change: Any
    left: Any  # (B, R, p) factors of what they lack, left^T right, and how many there are
    right: Any
    count: Any  # (B,)
    far: Any  # (2, B) at least the displacement of W2, before and after the trial: that of `change` and the lengths of all steps since


class ThreeLayerCPU:
    """A batch of three-layer networks of one width on one data set, on a CPU.

    Parameters: ``x`` (n, d), ``y`` (n,); per job the prefactors ``kappas`` (B, 3) = m^-gamma, m^-gamma_1, m^-gamma_prime, and which of the
    initial weights are its own, ``slot`` (B,); those weights: ``w1`` (S, m, d+1), ``w2`` (S, m, m+1), ``a`` (S, m).
    """

    layers: tuple[str, ...] = ("W1", "W2", "a")
    pieces, passes, lends = PIECES, 4, True

    def __init__(
        self,
        x: Array,
        y: Array,
        kappas: Array,
        w1: NDArray[Any],
        w2: NDArray[Any],
        a: NDArray[Any],
        slot: NDArray[np.int64],
    ) -> None:
        dtype, jobs, n, (seeds, m, _) = w1.dtype, len(kappas), len(x), w1.shape
        inputs = np.hstack([x, np.ones((n, 1))])
        padded = m + 1 + -(m + 1) % PADDING
        self.y, self.points, self._inputs, self._w1 = y, n, inputs, w1
        self.rates = np.stack([kappas[:, 2] ** 2, kappas[:, 1] ** 2, np.ones(jobs)], axis=1)
        gram = inputs @ inputs.T
        rank, none = int(np.linalg.matrix_rank(gram)), np.zeros((n, n))
        self._data = (
            gram,
            gram / np.sqrt(np.diagonal(gram)),
            y,
            rank,
            factors(inputs, dtype),
            factors(none, dtype),
        )
        z1_start = np.zeros((seeds, n, padded), dtype)
        w2_start, a_start = np.zeros((seeds, m, padded), dtype), np.zeros((seeds, padded), dtype)
        z1_start[:, :, :m] = np.matmul(inputs, w1.transpose(0, 2, 1).astype(np.float64))
        w2_start[:, :, : m + 1], a_start[:, :m] = w2, a
        kept = max(1, min(MAX_FACTORS, padded // 8) // n) * n + n

        def zeros(*shape: int) -> NDArray[Any]:
            return np.zeros(shape, dtype)

        self._jobs = np.arange(jobs)
        self._state = _State(
            width=m,
            slot=slot,
            z1_start=z1_start,
            w2_start=w2_start,
            a_start=a_start,
            kappas=kappas,
            current=np.zeros(jobs, dtype=np.int64),
            coefficients=zeros(2, jobs, n, padded),
            owed=zeros(2, jobs, n, padded),
            z1=zeros(2, jobs, n, padded),
            gate1=zeros(2, jobs, n, padded),
            z2=zeros(2, jobs, n, padded),
            gate2=zeros(2, jobs, n, padded),
            moved_a=zeros(2, jobs, padded),
            b=zeros(2, jobs, n, padded),
            drift=zeros(jobs, n, padded),
            guess=zeros(jobs, n, padded),
            base=w2_start[slot],
            change=zeros(jobs, m, padded),
            left=zeros(jobs, kept, padded),
            right=zeros(jobs, kept, padded),
            count=np.zeros(jobs, dtype=np.int64),
            far=np.zeros((2, jobs)),
        )
        self._room = _room(n, padded, gram, dtype)

    @classmethod
    def from_exponents(
        cls, x: Array, y: Array, width: int, jobs: Sequence[tuple[float, float, float, int]], dtype: str
    ) -> ThreeLayerCPU:
        """The networks of ``jobs`` = (gamma, gamma_prime, gamma_1, seed), at their initial weights."""
        seeds = sorted({seed for *_, seed in jobs})
        drawn = [initial_weights(3, width, x.shape[1], seed) for seed in seeds]
        w1, w2, a = (np.stack(layer).astype(dtype) for layer in zip(*drawn, strict=True))
        exponents = np.array([(gamma, gamma_1, gamma_prime) for gamma, gamma_prime, gamma_1, _ in jobs])
        slots = np.array([seeds.index(seed) for *_, seed in jobs])
        return cls(x, y, float(width) ** -exponents, w1, w2, a, slots)

    def begin(self) -> Evaluated:
        state, jobs = self._state, self._jobs
        slot = state.slot[jobs]
        state.current[jobs] = state.count[jobs] = 0
        state.far[:, jobs] = 0
        for array in (state.coefficients, state.owed, state.gate1, state.gate2, state.b, state.moved_a):
            array[0, jobs] = 0
        for array in (state.drift, state.change):
            array[jobs] = 0
        state.base[jobs] = state.w2_start[slot]
        state.z1[0, jobs] = state.z1_start[slot]
        h1 = np.maximum(state.z1[0, jobs], 0)
        h1[:, :, state.width] = 1
        state.z2[0, jobs, :, : state.width] = h1 @ state.w2_start[slot].transpose(0, 2, 1)
        still = np.zeros((len(jobs), self.pieces, self.points))
        trial = self.trial(np.zeros(len(jobs), dtype=np.int64), np.zeros(len(jobs)), still, still, 1.0)
        state.current[jobs] = 1
        return Evaluated(trial.residual, trial.kernels)

    def trial(self, repeats: Indices, ahead: Array, impulses: Array, lags: Array, tolerance: float) -> Trial:
        jobs, _, n = impulses.shape
        trial = Trial.empty(jobs, 3, n)
        _try_step(
            self._state,
            self._data,
            self._room,
            self._jobs,
            repeats,
            ahead,
            impulses,
            lags,
            STRICT * tolerance,
            trial,
        )
        return trial

    def accept(self, accepted: Mask) -> None:
        _accept(self._state, self._jobs[accepted])

    def select(self, jobs: Indices) -> ThreeLayerCPU:
        selected = copy(self)
        selected._jobs = self._jobs[jobs]
        return selected

    def force(self, residual: Array) -> Array:
        state, jobs = self._state, self._jobs
        gates = state.gate2[state.current[jobs], jobs].astype(np.float64)
        h1 = np.maximum(state.z1[state.current[jobs], jobs].astype(np.float64), 0.0)
        h1[:, :, state.width] = 1.0
        free = ~((gates > 0) & (gates < 1)).any(axis=1, keepdims=True)
        pull, gram = gates * free * residual[:, :, None], h1 @ h1.transpose(0, 2, 1)
        pulled = np.sqrt(np.maximum((pull * (gram @ pull)).sum(axis=1), 0.0)).max(axis=1)
        whole = (np.abs(residual) * np.sqrt(np.diagonal(gram, axis1=1, axis2=2))).sum(axis=1)
        force: Array = pulled / np.maximum(whole, np.finfo(np.float64).tiny)
        return force

    def initial(self, job: int) -> Layers:
        state, slot = self._state, self._state.slot[self._jobs[job]]
        m = state.width
        return {
            "W1": self._w1[slot].copy(),
            "W2": state.w2_start[slot, :, : m + 1].copy(),
            "a": state.a_start[slot, :m].copy(),
        }

    def change(self, job: int) -> Layers:
        state, at, m = self._state, self._jobs[job], self._state.width
        place, count = state.current[at], state.count[at]
        w1 = state.coefficients[place, at, :, :m].T.astype(np.float64) @ self._inputs
        w2 = state.change[at] + state.left[at, :count, :m].T @ state.right[at, :count]
        return {
            "W1": w1.astype(self._w1.dtype),
            "W2": w2[:, : m + 1].copy(),
            "a": state.moved_a[place, at, :m].copy(),
        }


def _room(n: int, padded: int, gram: Array, dtype: Any) -> Any:
    """Room for one job at a time; the first of the matrices is the Gram matrix of the inputs."""
    rows = tuple(np.zeros((n, padded), dtype) for _ in range(9))
    pushes = (*(np.empty((TREE, n), dtype) for _ in range(6)), np.empty((TREE, 2)))
    grams = (
        gram.astype(dtype),
        *(np.empty((n, n), dtype) for _ in range(3)),
        *(np.empty((n, n)) for _ in "mn"),
    )
    sums = tuple(np.empty((n, n)) for _ in range(3))
    return room(n, dtype), rows, room_to_choose(n, padded, dtype), pushes, grams, sums


@_compiled
def _features(h: Any, z: Any, width: int) -> None:
    """relu(z), and the constant feature."""
    zero = h.dtype.type(0)
    for i in range(len(z)):
        for k in range(z.shape[1]):
            h[i, k] = zero if z[i, k] <= zero else z[i, k]  # NaN stays NaN
        h[i, width] = 1


@_compiled
def _forward(out: Any, h: Any, base: Any, left: Any, right: Any) -> None:
    """W2 h (n, p), W2 being ``base + left^T right``."""
    dots(out, base, h)
    fill(out, 0.0, len(base))
    if len(left):
        along = np.empty((len(h), len(left)), h.dtype)
        dots(along, right, h)
        add_sums(out, 0, left, 0, along, h.shape[1])


@_compiled
def _backwards(out: Any, signal: Any, base: Any, left: Any, right: Any, width: int) -> None:
    """W2^T signal (n, p), for the neurons of the first layer."""
    fill(out, 0.0, 0)
    add_sums(out, 0, base, 0, signal, out.shape[1])
    if len(left):
        along = np.empty((len(signal), len(left)), signal.dtype)
        dots(along, left, signal)
        add_sums(out, 0, right, 0, along, out.shape[1])
    fill(out, 0.0, width)


@_compiled
def _fold(state: _State, job: int) -> None:
    """Takes the factors of a job into its W2."""
    count, m = state.count[job], state.width
    padded = state.base.shape[2]
    factors = state.left[job, :count, :m].T.copy()
    right, start = state.right[job, :count], state.w2_start[state.slot[job]]
    square = 0.0
    for k in range(0, m, 2):
        rows = state.change[job, k : k + 2]
        add_sums(rows, 0, right, 0, factors[k : k + 2], padded)
        for r in range(len(rows)):
            for j in range(padded):
                state.base[job, k + r, j] = start[k + r, j] + rows[r, j]
                square += np.float64(rows[r, j]) * np.float64(rows[r, j])
    state.count[job] = 0
    state.far[0, job] = state.far[1, job] = sqrt(square)


@_compiled
def _accept(state: _State, jobs: Indices) -> None:
    n, padded = state.z1.shape[2:]
    for job in jobs:
        here, there = state.current[job], 1 - state.current[job]
        for i in range(n):
            for k in range(padded):
                state.drift[job, i, k] = state.b[there, job, i, k] - state.b[here, job, i, k]
        state.current[job] = there
        state.far[0, job] = state.far[1, job]
        state.count[job] += n
        if state.count[job] + n > state.left.shape[1]:
            _fold(state, job)


@_compiled
def _owe(state: _State, job: int, pull: Any, gram: Any, scale: float, unpaid: float, weight: float) -> float:
    """What the backward signal that a step brought about would change of the first layer's move: the sum of its squares, over ``scale``."""
    num = state.b.dtype.type
    here, there = state.current[job], 1 - state.current[job]
    total = 0.0
    for i in range(len(pull)):
        part = 0.0
        for k in range(state.width):
            gate = (state.gate1[here, job, i, k] + state.gate1[there, job, i, k]) / num(2)
            apart = weight * gate * (state.b[there, job, i, k] - state.guess[job, i, k])
            left = num(unpaid) * state.owed[here, job, i, k]
            state.owed[there, job, i, k] = left - num(scale) * pull[i] * apart
            part += np.float64(apart) ** 2
        total += part * np.float64(pull[i]) ** 2 * gram[i, i]
    return total


@_part
def _expect(state, job, repeats, going, first, last):
    """The backward signal of a step, ``going`` being its length in units of the last one: what it is expected to be at the end goes to
    ``state.guess``; ``first`` and ``last`` (n, p) are the two ends of a straight line with the same mean. Returns the weight in
    that mean of the curve through three points: before the last step, before and after this one.

    From the second repeat on, what is expected is the mean of what was and what came of it: gates of the second layer that flip one way
    and back would bring about two signals in turn, for ever."""
    here, there = state.current[job], 1 - state.current[job]
    n, padded = first.shape
    six, one, half = first.dtype.type(6), first.dtype.type(1), first.dtype.type(0.5)
    bend = going / (six * (one + going))
    for i in range(n):
        for k in range(padded):
            now = state.b[here, job, i, k]
            later = now + going * state.drift[job, i, k]
            guess = later if repeats == 0 else state.b[there, job, i, k]
            if repeats > 1:
                guess = half * (state.guess[job, i, k] + guess)
            curve = bend * (guess - later)
            state.guess[job, i, k] = guess
            first[i, k], last[i, k] = now - curve, guess - curve
    return bend


@_part
def _look(state, job, before, after, right, grams):
    """The features h1 before and after a step; their mean (n, p) goes to ``right``; products of the mean, and of those before and after
    with the mean, to ``grams``, and of those after with each other, in float64, to the last one."""
    gram, old_cross, new_cross, mean_gram, new_gram = grams
    here, there, two = state.current[job], 1 - state.current[job], before.dtype.type(2)
    n, padded = before.shape
    _features(before, state.z1[here, job], state.width)
    _features(after, state.z1[there, job], state.width)
    for i in range(n):
        for k in range(padded):
            right[i, k] = (before[i, k] + after[i, k]) / two
    fill(mean_gram, 0.0, 0)
    fill(new_gram, 0.0, 0)
    add_gram(mean_gram, right, 0, padded)
    add_gram(new_gram, after, 0, padded)
    dots(new_cross, right, after)
    for i in range(n):
        for j in range(i):
            mean_gram[j, i], new_gram[j, i] = mean_gram[i, j], new_gram[i, j]
    for i in range(n):
        for j in range(n):
            gram[i, j] = mean_gram[i, j]
            old_cross[i, j] = two * gram[i, j] - new_cross[i, j]


@_part
def _evaluate(state, job, room, output, features, scales, data, new_gram, sums, kernels):
    """The kernels of all layers after a step; ``scales``: their prefactors. (The signals are those of the trial.)"""
    gram, cosines = data
    backward, held_back, along = sums
    there, n = 1 - state.current[job], len(gram)
    fill(backward, 0.0, 0)
    fill(held_back, 0.0, 0)
    add_input_kernel(room, state.gate1[there, job], state.b[there, job], cosines, backward, held_back)
    scaled(kernels[0], backward, scales[0], gram, held_back)
    fill(backward, 0.0, 0)
    fill(held_back, 0.0, 0)
    for i in range(n):
        for j in range(n):
            along[i, j] = new_gram[i, j] / max(sqrt(new_gram[j, j]), 1e-300)
    add_input_kernel(room, state.gate2[there, job], output, along, backward, held_back)
    scaled(kernels[1], backward, scales[1], new_gram, held_back)
    fill(backward, 0.0, 0)
    add_gram(backward, features, 0, features.shape[1])
    for i in range(n):
        for j in range(i + 1):
            kernels[2, i, j] = kernels[2, j, i] = scales[2] * backward[i, j]


@_compiled
def _try_step(
    state: _State,
    data: Any,
    all_room: Any,
    jobs: Indices,
    repeats: Indices,
    ahead: Array,
    impulses: Array,
    lags: Array,
    tolerance: float,
    trial: Trial,
) -> None:
    """One step of these jobs, from the place where they are to the other."""
    gram, cosines, y, rank, factored, not_factored = data
    block, rows, chosen, pushes, grams, sums = all_room
    before, after, frozen, nothing, signal, features, owing, first_b, last_b = rows
    pulls, lates, own1, weight1, own2, weight2, shares = pushes
    inputs, gram2, old_cross, new_cross, mean_gram, new_gram = grams
    n, padded = before.shape
    num, m = before.dtype.type, state.width
    output = np.empty((1, padded), before.dtype)
    kinds = np.array([STRAIGHT, TURNING])  # unknown to the compiler, which would make a copy for each
    for index in range(len(jobs)):
        job = jobs[index]
        here, there, slot = state.current[job], 1 - state.current[job], state.slot[job]
        kappa, kappa_1, kappa_2 = state.kappas[job]
        size = resolve(impulses[index], lags[index], kappa / n, pulls, lates)
        share_out(pulls, shares)
        start_a, moved_a, next_a = state.a_start[slot], state.moved_a[here, job], state.moved_a[there, job]
        outputs = start_a, moved_a, next_a

        # 1. the first layer
        bend = _expect(state, job, repeats[index], num(ahead[index]), first_b, last_b)
        paid = num(min(PAYMENT * ahead[index], 1.0))
        for i in range(n):
            for k in range(padded):
                owing[i, k] = state.coefficients[here, job, i, k] + paid * state.owed[here, job, i, k]
        scale = size * kappa_2**2
        weigh(pulls, gram, scale, own1, weight1)
        _, far1, unsettled1 = move_layer(
            block,
            kinds[0],
            (pulls, lates, own1, weight1, shares),
            (inputs, inputs, inputs, factored),
            rank,
            (num(scale), num(1)),
            tolerance,
            0.0,
            outputs,
            (state.z1[here, job], state.z1_start[slot], owing, first_b, last_b, state.gate1[here, job]),
            (state.z1[there, job], state.coefficients[there, job], state.gate1[there, job]),
            chosen,
        )

        # 2. what the second layer sees of it
        count = state.count[job]
        left, right = state.left[job, : count + n], state.right[job, : count + n]
        _look(state, job, before, after, right[count:], (gram2, old_cross, new_cross, mean_gram, new_gram))
        _forward(frozen, after, state.base[job], left[:count], right[:count])

        # 3. the second layer
        weigh(pulls, mean_gram, size * kappa_1**2, own2, weight2)
        rotation, far2, unsettled2 = move_layer(
            block,
            kinds[1],
            (pulls, lates, own2, weight2, shares),
            (gram2, old_cross, new_cross, not_factored),
            n,
            (num(size * kappa_1), num(kappa_1)),
            tolerance,
            state.far[0, job],
            outputs,
            (state.z2[here, job], state.z2[here, job], nothing, frozen, frozen, state.gate2[here, job]),
            (state.z2[there, job], left[count:], state.gate2[there, job]),
            chosen,
        )
        trial.rotation[index], state.far[1, job] = rotation, far2
        if not rotation < MAX_ROTATION:
            continue

        # 4. back to the first layer
        gates, z, square = state.gate2[there, job], state.z2[there, job], 0.0
        for k in range(padded):
            output[0, k] = start_a[k] + next_a[k]
            square += np.float64(next_a[k]) ** 2
        for i in range(n):
            total = 0.0
            for k in range(padded):
                signal[i, k] = gates[i, k] * output[0, k]
                features[i, k] = num(0) if z[i, k] <= 0 else z[i, k]  # NaN stays NaN
                total += np.float64(features[i, k]) * np.float64(output[0, k])
            trial.residual[index, i] = kappa * total - y[i]
        _backwards(state.b[there, job], signal, state.base[job], left, right, m)
        wrong = _owe(state, job, pulls[0], gram, scale, 1 - paid, num(0.5) - bend)
        missed = sqrt(wrong) * scale / max(far1, 1e-300)
        trial.unsettled[index] = max(unsettled1, missed / LOAN, unsettled2) / STRICT
        travelled = trial.travelled[index]
        travelled[0], travelled[1], travelled[2] = far1, far2, sqrt(square)

        prefactor = kappa * kappa / n
        scales = prefactor * kappa_2**2, prefactor * kappa_1**2, prefactor
        _evaluate(
            state, job, block, output, features, scales, (gram, cosines), new_gram, sums, trial.kernels[index]
        )

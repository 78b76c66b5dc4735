"""Two-layer ReLU networks of any number of inputs on a CPU: moved and evaluated in one compiled pass.

The equations are those of :mod:`.two_layer`. Weights are followed in the span of the data, so that the number of inputs costs
nothing; for one input and few points, :class:`.line.LineTwoLayer` is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .networks import (
    MAX_ROTATION,
    Array,
    Evaluated,
    Indices,
    Layers,
    Mask,
    Trial,
    initial_weights,
    largest_force,
)
from .pieces import PIECES, TREE, resolve
from .products import add_gram
from .span import (
    STILL,
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
"""Widths are padded to a multiple of this with neurons whose weights are and stay zero: no loop has a remainder."""

_compiled = compiled()


class _State(NamedTuple):
    """Where the networks of a batch are. Jobs first, neurons last; the first index of pairs tells the place: two for every job, where it is
    and where it tries to go."""

    slot: Any  # (B,) which of the initial weights are a job's own
    z_start: Any  # (S, n, p) initial preactivations,
    a_start: Any  # (S, p) and output weights
    kappas: Any  # (B, 2) m^-gamma, m^-gamma_prime
    current: Any  # (B,) the place where a job is
    coefficients: Any  # (2, B, n, p) displacement of W1 in the inputs
    z: Any  # (2, B, n, p) preactivations and gates
    gate: Any
    moved_a: Any  # (2, B, p) displacement of the output weights


class TwoLayerCPU:
    """A batch of two-layer networks of one width on one data set, on a CPU.

    Parameters: ``x`` (n, d), ``y`` (n,); per job the prefactors ``kappas`` (B, 2) = m^-gamma, m^-gamma_prime, and which of the initial
    weights are its own, ``slot`` (B,); those weights: ``w`` (S, m, d+1) and ``a`` (S, m).
    """

    layers: tuple[str, ...] = ("W1", "a")
    pieces, passes, lends = PIECES, 1, False

    def __init__(
        self,
        x: Array,
        y: Array,
        kappas: Array,
        w: NDArray[Any],
        a: NDArray[Any],
        slot: NDArray[np.int64],
    ) -> None:
        dtype, jobs, n, (seeds, m, _) = w.dtype, len(kappas), len(x), w.shape
        inputs, padded = np.hstack([x, np.ones((n, 1))]), m + -m % PADDING
        self.y, self.points, self._inputs, self._w = y, n, inputs, w
        self.rates = np.stack([kappas[:, 1], 1 / kappas[:, 1]], axis=1)
        gram = inputs @ inputs.T
        rank = int(np.linalg.matrix_rank(gram))
        self._data = gram, gram / np.sqrt(np.diagonal(gram)), y, rank, factors(inputs, dtype)
        z_start, a_start = np.zeros((seeds, n, padded), dtype), np.zeros((seeds, padded), dtype)
        z_start[:, :, :m], a_start[:, :m] = np.matmul(inputs, w.transpose(0, 2, 1).astype(np.float64)), a

        def zeros(*shape: int) -> NDArray[Any]:
            return np.zeros(shape, dtype)

        self._jobs = np.arange(jobs)
        self._state = _State(
            slot=slot,
            z_start=z_start,
            a_start=a_start,
            kappas=kappas,
            current=np.zeros(jobs, dtype=np.int64),
            coefficients=zeros(2, jobs, n, padded),
            z=zeros(2, jobs, n, padded),
            gate=zeros(2, jobs, n, padded),
            moved_a=zeros(2, jobs, padded),
        )
        pushes = (*(zeros(TREE, n) for _ in range(4)), np.empty((TREE, 2)))
        self._room = room(n, dtype), zeros(n, padded), room_to_choose(n, padded, dtype), pushes

    @classmethod
    def from_exponents(
        cls, x: Array, y: Array, width: int, jobs: Sequence[tuple[float, float, int]], dtype: str
    ) -> TwoLayerCPU:
        """The networks of ``jobs`` = (gamma, gamma_prime, seed), at their initial weights."""
        seeds = sorted({seed for *_, seed in jobs})
        drawn = [initial_weights(2, width, x.shape[1], seed) for seed in seeds]
        w, a = (np.stack(layer).astype(dtype) for layer in zip(*drawn, strict=True))
        exponents = np.array([job[:2] for job in jobs], dtype=np.float64)
        slots = np.array([seeds.index(seed) for *_, seed in jobs])
        return cls(x, y, float(width) ** -exponents, w, a, slots)

    def begin(self) -> Evaluated:
        state, jobs = self._state, self._jobs
        state.current[jobs] = 0
        for array in (state.coefficients, state.gate, state.moved_a):
            array[0, jobs] = 0
        state.z[0, jobs] = state.z_start[state.slot[jobs]]
        still = np.zeros((len(jobs), self.pieces, self.points))
        trial = self.trial(np.zeros(len(jobs), dtype=np.int64), np.zeros(len(jobs)), still, still, 1.0)
        state.current[jobs] = 1
        return Evaluated(trial.residual, trial.kernels)

    def trial(self, repeats: Indices, ahead: Array, impulses: Array, lags: Array, tolerance: float) -> Trial:
        jobs, _, n = impulses.shape
        trial = Trial.empty(jobs, 2, n)
        _try_step(self._state, self._data, self._room, self._jobs, impulses, lags, tolerance, trial)
        return trial

    def accept(self, accepted: Mask) -> None:
        taken = self._jobs[accepted]
        self._state.current[taken] = 1 - self._state.current[taken]

    def select(self, jobs: Indices) -> TwoLayerCPU:
        selected = copy(self)
        selected._jobs = self._jobs[jobs]
        return selected

    def force(self, residual: Array) -> Array:
        gates = self._state.gate[self._state.current[self._jobs], self._jobs]
        return largest_force(self._inputs, gates, residual)

    def initial(self, job: int) -> Layers:
        slot = self._state.slot[self._jobs[job]]
        a = self._state.a_start[slot, : self._w.shape[1]]
        return {"W1": self._w[slot].copy(), "a": a.copy()}

    def change(self, job: int) -> Layers:
        state, at, m = self._state, self._jobs[job], self._w.shape[1]
        place = state.current[at]
        w = state.coefficients[place, at, :, :m].T.astype(np.float64) @ self._inputs
        a = state.moved_a[place, at, :m]
        return {"W1": w.astype(self._w.dtype), "a": a.copy()}


@_compiled
def _try_step(
    state: _State,
    data: Any,
    all_room: Any,
    jobs: Indices,
    impulses: Array,
    lags: Array,
    tolerance: float,
    trial: Trial,
) -> None:
    """One step of these jobs, from the place where they are to the other."""
    gram, cosines, y, rank, factored = data
    block, features, chosen, pushes = all_room
    pulls, lates, own, weight, shares = pushes
    n, padded = state.z.shape[2:]
    num = features.dtype.type
    inputs = gram.astype(features.dtype)
    kernel, held_back, output = np.empty((n, n)), np.empty((n, n)), np.empty((1, padded), features.dtype)
    kinds = np.array([STILL])  # unknown to the compiler, which would make another copy for every kind
    for index in range(len(jobs)):
        job = jobs[index]
        here, there, slot = state.current[job], 1 - state.current[job], state.slot[job]
        kappa, rate = state.kappas[job]
        size = resolve(impulses[index], lags[index], kappa / n, pulls, lates)
        share_out(pulls, shares)
        weigh(pulls, gram, size * rate, own, weight)
        a, moved_a, next_a = state.a_start[slot], state.moved_a[here, job], state.moved_a[there, job]
        z, next_z, start = state.z[here, job], state.z[there, job], state.z_start[slot]
        coefficients, gates = state.coefficients[there, job], state.gate[there, job]
        rotation, far, unsettled = move_layer(
            block,
            kinds[0],
            pushes,
            (inputs, inputs, inputs, factored),
            rank,
            (num(size), num(rate)),
            tolerance,
            0.0,
            (a, moved_a, next_a),
            (z, start, state.coefficients[here, job], z, z, state.gate[here, job]),
            (next_z, coefficients, gates),
            chosen,
        )
        trial.rotation[index], trial.unsettled[index] = rotation, unsettled
        if not rotation < MAX_ROTATION:
            continue
        square_a = 0.0
        for k in range(padded):
            output[0, k] = a[k] + next_a[k]
            square_a += np.float64(next_a[k]) ** 2
        for i in range(n):
            total = 0.0
            for k in range(padded):
                features[i, k] = num(0) if next_z[i, k] <= 0 else next_z[i, k]  # NaN stays NaN
                total += np.float64(features[i, k]) * np.float64(output[0, k])
            trial.residual[index, i] = kappa * total - y[i]
        trial.travelled[index, 0], trial.travelled[index, 1] = far, sqrt(square_a)
        prefactor = kappa * kappa / n
        fill(kernel, 0.0, 0)
        fill(held_back, 0.0, 0)
        add_input_kernel(block, gates, output, cosines, kernel, held_back)
        scaled(trial.kernels[index, 0], kernel, prefactor * rate, gram, held_back)
        fill(kernel, 0.0, 0)
        add_gram(kernel, features, 0, padded)
        for i in range(n):
            for j in range(i + 1):
                value = prefactor / rate * kernel[i, j]
                trial.kernels[index, 1, i, j] = trial.kernels[index, 1, j, i] = value

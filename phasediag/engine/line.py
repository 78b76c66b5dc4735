"""Two-layer ReLU networks of one input and few points, on a CPU: moved and evaluated in one compiled pass."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .lanes import PADDING, rows, try_step
from .networks import Array, Evaluated, Indices, Layers, Mask, Trial, initial_weights, largest_force
from .pieces import PIECES


class LineTwoLayer:
    """A batch of two-layer networks of one width on one data set with one input, on a CPU.

    Parameters: ``x`` (n, 1), ``y`` (n,); per job ``kappa`` and ``kappa_prime`` (B,) and which of the initial weights are its own,
    ``slot`` (B,); those weights (S, 3, m): of the input, of the constant and of the output, padded with zeros beyond ``width`` neurons
    to a multiple of PADDING.
    """

    layers: tuple[str, ...] = ("W1", "a")
    pieces, passes, lends = PIECES, 1, False

    def __init__(
        self,
        x: Array,
        y: Array,
        kappa: Array,
        kappa_prime: Array,
        weights: Array,
        slot: NDArray[np.int64],
        width: int,
    ) -> None:
        dtype, jobs, n = weights.dtype, len(kappa), len(x)
        inputs = np.hstack([x, np.ones((n, 1))])
        self.y, self.points, self.width = y, n, width
        self.rates = np.stack([kappa_prime, 1 / kappa_prime], axis=1)
        self._start, self._slot, self._kappas = weights, slot, np.stack([kappa, kappa_prime], axis=1)
        gram = inputs @ inputs.T
        self._data = inputs, gram, gram / np.sqrt(np.diagonal(gram)), y
        self._jobs = np.arange(jobs)
        # two places for every job, where it is and where it tries to go; `current` says which is which
        self._current = np.zeros(jobs, dtype=np.int64)
        self._moved = np.zeros((2, jobs, *weights.shape[1:]), dtype)
        self._gates = np.zeros((2, jobs, n, weights.shape[2]), dtype)
        self._block, self._points = rows(x[:, 0], dtype)

    @classmethod
    def from_exponents(
        cls, x: Array, y: Array, width: int, jobs: Sequence[tuple[float, float, int]], dtype: str
    ) -> LineTwoLayer:
        """The networks of ``jobs`` = (gamma, gamma_prime, seed), at their initial weights."""
        seeds = sorted({seed for *_, seed in jobs})
        weights = np.zeros((len(seeds), 3, width + -width % PADDING), dtype)
        for slot, seed in enumerate(seeds):
            w, a = initial_weights(2, width, 1, seed)
            weights[slot, :-1, :width], weights[slot, -1, :width] = w.T, a
        exponents = np.array([job[:2] for job in jobs], dtype=np.float64)
        kappas = float(width) ** -exponents
        slots = np.array([seeds.index(seed) for *_, seed in jobs])
        return cls(x, y, kappas[:, 0], kappas[:, 1], weights, slots, width)

    def begin(self) -> Evaluated:
        still = np.zeros((len(self._jobs), self.pieces, self.points))
        self._current[:] = 0
        self._moved[0], self._gates[0] = 0, 0
        trial = self._trial(still, still, 1.0)
        self._current[:] = 1
        return Evaluated(trial.residual, trial.kernels)

    def trial(self, repeats: Indices, ahead: Array, impulses: Array, lags: Array, tolerance: float) -> Trial:
        return self._trial(impulses, lags, tolerance)

    def _trial(self, impulses: Array, lags: Array, tolerance: float) -> Trial:
        jobs, _, n = impulses.shape
        trial = Trial.empty(jobs, 2, n)
        weights = self._start, self._slot, self._moved, self._gates, self._current
        try_step(
            self._block,
            self._points,
            self._data,
            self._jobs,
            weights,
            self._kappas,
            impulses,
            lags,
            tolerance,
            trial,
        )
        return trial

    def accept(self, accepted: Mask) -> None:
        taken = self._jobs[accepted]
        self._current[taken] = 1 - self._current[taken]

    def select(self, jobs: Indices) -> LineTwoLayer:
        selected = copy(self)
        selected._jobs = self._jobs[jobs]
        return selected

    def force(self, residual: Array) -> Array:
        gates = self._gates[self._current[self._jobs], self._jobs]
        return largest_force(self._data[0], gates, residual)

    def initial(self, job: int) -> Layers:
        return self._layers(self._start[self._slot[self._jobs[job]]])

    def change(self, job: int) -> Layers:
        at = self._jobs[job]
        return self._layers(self._moved[self._current[at], at])

    def _layers(self, weights: NDArray[Any]) -> Layers:
        kept = weights[:, : self.width].copy()
        return {"W1": kept[:2].T, "a": kept[2]}

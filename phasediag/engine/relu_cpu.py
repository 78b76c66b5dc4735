"""ReLU networks of any depth on a CPU, whole or represented: moved and evaluated in one compiled pass.

A network has H hidden layers of m neurons; N of them are simulated, and each stands for ``M = m / N``: what is random at the start adds
up like sqrt(M), what training has made coherent like M (N = m: the network itself). Numbers stay of order one at any depth and width in
these units: with features ``h_l = relu(z_l) / sqrt(N)`` of the hidden layers, h_0 = x, and weights ``V = W(0) + sqrt(M) (W - W(0))``

    z_(l+1) = V_(l+1) h_l + m^(-l/2) bias_(l+1),        f = kappa m^((H-1)/2) [ sqrt(M) F(0) + M (F - F(0)) ],   F = sum_k a_k relu(z_H,k)

and V, W1 and a follow ``-(c_l kappa m^((H-1)/2) / n) sum_i e_i dF/dV``: the equations of motion of single weights do not know M. The
rates are c_a = 1, c_1 = m^(-2 gamma') and m^(-2 gamma_1) for all between.

A trial step goes from the input to the output and back:

1. layer by layer, the neurons of all hidden layers but the last go straight, under the mean of the backward signal b over the step: if it
   goes on as in the last one. Each layer reads the features that result from the layer before: one product with V;
2. the neurons of the last hidden layer turn, each together with its output weight, pulled by the mean of their inputs over the step;
3. the backward signals that result: one product with V per layer.

By how much these differ from those expected, the layers before the last have gone wrong. Where it is little, the step is taken nonetheless,
and the layers are *owed* the difference: the next step pays. Else the trial is repeated with the signals that it brought about.

Matrices between hidden layers stay as they are: a step adds a matrix of rank n, whose factors are kept beside it. When there are many, they
are folded into a matrix of the job's own; or, where matrices are large, replaced by fewer that make up the same change, and all jobs of
a seed read one W(0).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .measures import Measured
from .networks import (
    MAX_ROTATION,
    Array,
    Changes,
    Evaluated,
    Indices,
    Initialisation,
    Layers,
    Mask,
    Product,
    Trial,
    initial_weights,
)
from .neurons import (
    After,
    Before,
    Inputs,
    Push,
    add_input_kernel,
    factors,
    fill,
    move_layer,
    room,
    scaled,
    weigh,
)
from .pieces import PIECES, TREE, resolve
from .products import FIRST, add_gram, add_sums, dots
from .runners import HostRunner, Runner

PADDING = 32
"""Layers are padded to a multiple of this with neurons whose weights are and stay zero: no loop has a remainder."""
MAX_FACTORS = 64
"""Rank of the change of a matrix that is kept as factors, at most, where a step does not bring more."""
LARGE = 12
"""Matrices of this many times as many rows as factors are not copied for every job: a product with the factors costs little beside one
with the matrix."""
RESOLUTION = 1e-5
"""Singular values of a change that are smaller than this, relative to its Frobenius norm, are dropped when factors are replaced by fewer.
At 1e-7, tens of times as many factors are left, and training ends nowhere else."""

STRICT = 0.5
"""What a step of networks of several hidden layers may leave unsettled, in units of what it may in others: errors of one layer are those
of the next ones too."""
LOAN = 12.0
"""What a step may leave to be paid to a layer by the next one, in units of what it may leave unsettled."""
PAYMENT = 4.0
"""A step pays all that the last one owed, or if it is shorter, this many times its length in units of the last one."""
IDLE = 1e-6
"""A step that moves a layer by less than this fraction of what it then owes has only taken back a payment: nothing is owed any more."""
CREDIT = 0.1
"""Most that paying all debts may change the residual, in units of the residual: the rest is forgiven."""

_compiled = compiled()
_part = compiled(inline=True)


class _State(NamedTuple):
    """Where the networks of a batch are. Hidden layers first, or the matrices between them; then jobs; neurons last. The index of pairs
    before the jobs tells the place: two for every job, where it is and where it tries to go. The constant that biases multiply is neuron
    ``neurons`` of the layer before."""

    neurons: int  # N
    root: float  # 1 / sqrt(N)
    slot: Any  # (B,) which of the initial weights are a job's own
    matrices: Any  # (H-1, S, N, p) initial weights between hidden layers, rows by neuron,
    a_start: Any  # (S, p) and output weights
    mass: Any  # (B,) M, how many neurons one stands for
    kappa: Any  # (B,) kappa m^((H-1)/2)
    rates: Any  # (B, H+1) c_l
    constants: Any  # (B, H) m^(-l/2), the last feature of the layer before
    z_start: Any  # (H, B, n, p) initial preactivations
    f_start: Any  # (B, n) initial output, over the prefactor
    current: Any  # (B,) the place where a job is
    displaced: Any  # (H, 2, B, n, p) displacement of the preactivations, and gates
    gate: Any
    coefficients: Any  # (2, B, n, p) displacement of W1 in the inputs
    moved_a: Any  # (2, B, p) displacement of the output weights
    b: Any  # (H-1, 2, B, n, p) backward signals, and what the last step owes to the coefficients
    owed: Any
    drift: Any  # (H-1, B, n, p) change of b in the last step, and what b is expected to be at the end of this one
    guess: Any
    base: Any  # (H-1, B, N, p) the matrices V without the factors, and their displacement; or `matrices`, and an empty one
    change: Any
    whose: Any  # (B,) the index of a job in `base`
    left: Any  # (H-1, B, R, p) factors of what they lack, left^T right, and how many there are
    right: Any
    count: Any  # (B,)
    far: Any  # (H-1, 2, B) at least the displacement of V, before and after the trial: that of `change` and the lengths of all steps since


class _Data(NamedTuple):
    """The data set: Gram matrix of the inputs (n, n), labels (n,), and for the first hidden layer the Gram matrix in the dtype of the
    computation, its rank, and the inputs as factors of it."""

    gram: Any
    y: Any
    inputs: Any
    rank: int
    factored: Any
    not_factored: Any


class _Room(NamedTuple):
    """Room for one job at a time: for a block of neurons; rows (n, p) for features before and after a step, for the path of
    preactivations, signals, features of the last layer, what coefficients count from, and the two ends of b; for what pushes a layer; for
    products of its inputs; for sums."""

    block: Any
    before: Any
    after: Any
    path: Any
    signal: Any
    features: Any
    owing: Any
    first: Any
    last: Any
    tree: Any
    pulls: Any
    lates: Any
    own: Any
    shares: Any
    gram: Any  # (n, n) of the mean inputs of a layer, and those before and after with the mean
    old_cross: Any
    new_cross: Any
    sums: Any
    grams: Any  # (H, n, n) products of the inputs of every layer after the step; float64
    backward: Any
    held_back: Any
    along: Any
    output: Any  # (1, p)


class ReluNetworkCPU:
    """A batch of networks of one depth and number of simulated neurons N on one data set, on a CPU.

    Parameters: ``x`` (n, d), ``y`` (n,); initial ``weights``: W1 (S, N, d+1), matrices between hidden layers (S, N, N+1), a (S, N); per
    job which of these are its own, ``slot`` (B,), the ``width`` m that it has, ``kappa`` = m^-gamma, and the rates c_l of all layers
    (B, H+1).
    """

    def __init__(
        self,
        x: Array,
        y: Array,
        weights: Sequence[NDArray[Any]],
        slot: NDArray[np.int64],
        width: Array,
        kappa: Array,
        rates: Array,
    ) -> None:
        w1, *between, a = weights
        dtype, jobs, n, (seeds, neurons, _), hidden = w1.dtype, len(slot), len(x), w1.shape, len(weights) - 1
        inputs, padded = np.hstack([x, np.ones((n, 1))]), neurons + 1 + -(neurons + 1) % PADDING
        self.y, self.points, self._inputs, self._w1 = y, n, inputs, w1
        self.runner: Runner = HostRunner()
        self.layers: tuple[str, ...] = (*(f"W{layer}" for layer in range(1, hidden + 1)), "a")
        self.pieces, self.passes, self._strict = (
            PIECES,
            1 if hidden == 1 else 4,
            1.0 if hidden == 1 else STRICT,
        )
        matrices, a_start = (
            np.zeros((hidden - 1, seeds, neurons, padded), dtype),
            np.zeros((seeds, padded), dtype),
        )
        for layer, matrix in enumerate(between):
            matrices[layer, :, :, : neurons + 1] = matrix
        a_start[:, :neurons] = a
        constants = width[:, None] ** (-np.arange(hidden) / 2)
        kept, copied = _factors_of(padded, n), not is_large(neurons, n)

        def zeros(*shape: int) -> NDArray[Any]:
            return np.zeros(shape, dtype)

        self._jobs, self._copied, self._kept = np.arange(jobs), copied, np.full(jobs, kept)
        self._states = [
            _State(
                neurons=neurons,
                root=1 / sqrt(neurons),
                slot=slot,
                matrices=matrices,
                a_start=a_start,
                mass=width / neurons,
                kappa=kappa * width ** ((hidden - 1) / 2),
                rates=rates,
                constants=constants,
                z_start=zeros(hidden, jobs, n, padded),
                f_start=np.zeros((jobs, n)),
                current=np.zeros(jobs, dtype=np.int64),
                displaced=zeros(hidden, 2, jobs, n, padded),
                gate=zeros(hidden, 2, jobs, n, padded),
                coefficients=zeros(2, jobs, n, padded),
                moved_a=zeros(2, jobs, padded),
                b=zeros(hidden - 1, 2, jobs, n, padded),
                owed=zeros(hidden - 1, 2, jobs, n, padded),
                drift=zeros(hidden - 1, jobs, n, padded),
                guess=zeros(hidden - 1, jobs, n, padded),
                base=zeros(hidden - 1, jobs, neurons, padded) if copied else matrices,
                change=zeros(hidden - 1, jobs if copied else 0, neurons, padded),
                whose=self._jobs if copied else slot,
                left=zeros(hidden - 1, jobs, kept, padded),
                right=zeros(hidden - 1, jobs, kept, padded),
                count=np.zeros(jobs, dtype=np.int64),
                far=np.zeros((hidden - 1, 2, jobs)),
            )
        ]
        self._data, self._room = _data(inputs, y, dtype), _room(hidden, n, padded, dtype)
        z = np.matmul(inputs, w1.transpose(0, 2, 1).astype(np.float64))[slot]
        self._start(z)

    @property
    def rates(self) -> Array:
        rates: Array = self._state.rates[self._jobs]
        return rates

    @property
    def mass(self) -> Array:
        mass: Array = self._state.mass[self._jobs]
        return mass

    @property
    def _state(self) -> _State:
        """What all that were selected from one batch have in common."""
        return self._states[0]

    def _start(self, z: Array) -> None:
        """Initial preactivations of all layers, from those of the first (B, n, N), and the initial output."""
        state, neurons = self._state, self._state.neurons
        state.z_start[0, :, :, :neurons] = z
        for layer, z_start in enumerate(state.z_start[1:]):
            for job, slot in enumerate(state.slot):
                matrix = state.matrices[layer, slot, :, : neurons + 1]
                features = np.maximum(state.z_start[layer, job, :, :neurons], 0) * z_start.dtype.type(
                    state.root
                )
                bias = z_start.dtype.type(state.constants[job, layer + 1]) * matrix[:, neurons]
                z_start[job, :, :neurons] = features @ matrix[:, :neurons].T + bias
        a = state.a_start[state.slot].astype(np.float64)
        features = np.maximum(state.z_start[-1], 0).astype(np.float64)
        state.f_start[:] = np.sqrt(state.mass)[:, None] * np.einsum("bnp,bp->bn", features, a)

    @classmethod
    def initialised(
        cls, x: Array, y: Array, depth: int, neurons: int, jobs: Sequence[Initialisation], dtype: str
    ) -> ReluNetworkCPU:
        """The networks of ``jobs``, of so many simulated neurons per hidden layer, at their initial weights."""
        seeds = sorted({job.seed for job in jobs})
        weights: list[NDArray[Any]] = []
        for slot, seed in enumerate(seeds):  # one after the other: large matrices would need much room
            drawn = initial_weights(depth, neurons, x.shape[1], seed)
            weights = weights or [np.empty((len(seeds), *layer.shape), dtype) for layer in drawn]
            for into, layer in zip(weights, drawn, strict=True):
                into[slot] = layer
        width = np.array([float(job.width) for job in jobs])
        exponents = np.array([job.rates(depth) for job in jobs])
        return cls(
            x,
            y,
            weights,
            np.array([seeds.index(job.seed) for job in jobs]),
            width,
            width ** -np.array([job.gamma for job in jobs]),
            width[:, None] ** exponents,
        )

    def begin(self) -> Evaluated:
        state, jobs = self._state, self._jobs
        state.current[jobs] = state.count[jobs] = 0
        state.far[:, :, jobs] = 0
        for array in (state.coefficients, state.moved_a):
            array[0, jobs] = 0
        for array in (state.displaced, state.gate, state.b, state.owed):
            array[:, 0, jobs] = 0
        state.drift[:, jobs] = 0
        self._kept[jobs] = _factors_of(state.left.shape[-1], self.points)
        if self._copied:
            state.change[:, jobs] = 0
            state.base[:, jobs] = state.matrices[:, state.slot[jobs]]
        still, none = np.zeros((len(jobs), self.pieces, self.points)), np.zeros(len(jobs), dtype=np.int64)
        trial = self.trial(none, none > 0, np.zeros(len(jobs)), still, still, 1.0)
        state.current[jobs] = 1
        return Evaluated(trial.residual, trial.kernels)

    def trial(
        self, repeats: Indices, forgiven: Mask, ahead: Array, impulses: Array, lags: Array, tolerance: float
    ) -> Trial:
        jobs, _, n = impulses.shape
        trial = Trial.empty(jobs, len(self.layers), n)
        step = _Step(repeats, forgiven, ahead, impulses, lags)
        _try_steps(self._state, self._data, self._room, self._jobs, step, self._strict * tolerance, trial)
        trial.unsettled[:] /= self._strict
        return trial

    def accept(self, accepted: Mask) -> None:
        jobs = self._jobs[accepted]
        _accept(self._state, jobs)
        if not self._copied:
            for job in jobs:
                if self._state.count[job] + self.points > self._kept[job]:
                    self._recompress(job)

    def _recompress(self, job: int) -> None:
        """Replaces the factors of what the matrices of a job have changed by as few as make up the same; from then on twice as many are
        kept if they are no fewer than half. (Of this job: its row is the same whichever others have room for more.)"""
        state, count = self._state, self._state.count[job]
        found = [
            _fewer(state.left[layer, job, :count], state.right[layer, job, :count])
            for layer in range(len(state.left))
        ]
        count = max(len(left) for left, _ in found)
        if 2 * count > self._kept[job]:
            self._kept[job] *= 2
        if self._kept[job] > state.left.shape[2]:
            wider = [
                np.concatenate([array, np.zeros_like(array)], axis=2) for array in (state.left, state.right)
            ]
            state = self._states[0] = state._replace(left=wider[0], right=wider[1])
        for layer, (left, right) in enumerate(found):
            for array, rows in ((state.left, left), (state.right, right)):
                array[layer, job, : len(rows)], array[layer, job, len(rows) : count] = rows, 0
            # the rows of either are orthogonal, and as long as those of the other
            state.far[layer, :, job] = np.linalg.norm(np.square(left, dtype=np.float64).sum(axis=1))
        state.count[job] = count

    def select(self, jobs: Indices) -> ReluNetworkCPU:
        selected = copy(self)
        selected._jobs = self._jobs[jobs]
        return selected

    def force(self, residual: Array, wanted: Mask) -> Array:
        state, jobs, force = self._state, self._jobs[wanted], np.zeros(len(wanted))
        if not len(jobs):
            return force
        residual = residual[wanted]
        place = state.current[jobs]
        gates = state.gate[-1, place, jobs].astype(np.float64)
        free = ~((gates > 0) & (gates < 1)).any(axis=1, keepdims=True)
        gram = np.broadcast_to(self._data.gram, (len(jobs), self.points, self.points))
        if len(state.b):
            z = (state.z_start[-2, jobs] + state.displaced[-2, place, jobs]).astype(np.float64)
            inputs = np.maximum(z, 0.0) * state.root
            inputs[:, :, state.neurons] = state.constants[jobs, -1][:, None]
            gram = inputs @ inputs.transpose(0, 2, 1)
        pull = gates * free * residual[:, :, None]
        pulled = np.sqrt(np.maximum((pull * (gram @ pull)).sum(axis=1), 0.0)).max(axis=1)
        whole = (np.abs(residual) * np.sqrt(np.diagonal(gram, axis1=1, axis2=2))).sum(axis=1)
        force[wanted] = pulled / np.maximum(whole, np.finfo(np.float64).tiny)
        return force

    def unseen(self, wanted: Mask) -> Mask:
        state = self._state
        unseen = np.zeros((len(wanted), self.points), dtype=np.bool_)
        for index in np.flatnonzero(wanted):
            at = self._jobs[index]
            if state.mass[at] == 1:
                continue
            gates = state.gate[:, state.current[at], at, :, : state.neurons]  # (H, n, N)
            unseen[index] = ~(gates > 0).any(axis=2).all(axis=0)
        return unseen

    def measured(self, jobs: Indices) -> list[Mapping[str, Measured]]:
        return [{} for _ in jobs]

    def outputs(self, jobs: Indices, points: Array) -> list[Array]:
        return [np.empty(0) for _ in jobs]

    def initial(self, job: int) -> Layers:
        state, slot, neurons = self._state, self._state.slot[self._jobs[job]], self._state.neurons
        between = (matrix[slot, :, : neurons + 1] for matrix in state.matrices)
        initial = (self._w1[slot], *between, state.a_start[slot, :neurons])
        return dict(zip(self.layers, initial, strict=True))

    def change(self, job: int) -> Changes:
        state, at, neurons = self._state, self._jobs[job], self._state.neurons
        place, count, dtype = state.current[at], state.count[at], self._w1.dtype
        w1 = state.coefficients[place, at, :, :neurons].T.astype(np.float64) @ self._inputs
        changes: list[NDArray[np.floating] | Product] = [w1.astype(dtype)]
        units = np.ones(neurons + 1, dtype)
        units[:neurons] = state.mass[at] ** -0.5
        for layer in range(len(state.matrices)):
            left = state.left[layer, at, :count, :neurons]
            right = state.right[layer, at, :count, : neurons + 1]
            if self._copied:
                moved = left.T @ right
                moved += state.change[layer, at, :, : neurons + 1]
                moved *= units
                changes.append(moved)
            else:
                changes.append(Product(left.copy(), right * units))
        changes.append(state.moved_a[place, at, :neurons].copy())
        return dict(zip(self.layers, changes, strict=True))


class _Step(NamedTuple):
    """The arguments of :meth:`.flow.Network.trial`."""

    repeats: Any
    forgiven: Any
    ahead: Any
    impulses: Any
    lags: Any


def is_large(neurons: int, points: int) -> bool:
    """Whether matrices between layers of so many neurons are not copied for every job."""
    return neurons >= LARGE * _factors_of(neurons, points)


def _factors_of(neurons: int, points: int) -> int:
    """Rank of the change of a matrix that there is room for at first: what is kept, and the step that is tried."""
    return max(1, min(MAX_FACTORS, neurons // 8) // points) * points + points


def _fewer(left: NDArray[Any], right: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Factors (r, p) of the same product ``left^T right`` as those (R, p), within rounding: as few as there are, each with orthogonal rows
    of the lengths of the other's, the roots of the singular values."""
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return left, right  # a network that diverges
    q_left, r_left = np.linalg.qr(left.T.astype(np.float64))
    q_right, r_right = np.linalg.qr(right.T.astype(np.float64))
    u, values, v = np.linalg.svd(r_left @ r_right.T)
    kept = values > RESOLUTION * np.linalg.norm(values)
    roots = np.sqrt(values[kept])
    fewer_left, fewer_right = (q_left @ u[:, kept]) * roots, (q_right @ v[kept].T) * roots
    return fewer_left.T.astype(left.dtype), fewer_right.T.astype(left.dtype)


def _data(inputs: Array, y: Array, dtype: Any) -> _Data:
    gram = inputs @ inputs.T
    return _Data(
        gram=gram,
        y=y,
        inputs=gram.astype(dtype),
        rank=int(np.linalg.matrix_rank(gram)),
        factored=factors(inputs, dtype),
        not_factored=factors(gram, dtype),
    )


def _room(hidden: int, n: int, padded: int, dtype: Any) -> _Room:
    def rows(columns: int) -> NDArray[Any]:
        return np.zeros((n, columns), dtype)

    def tree() -> NDArray[Any]:
        return np.zeros((TREE, n), dtype)

    return _Room(
        block=room(n, padded, dtype),
        before=rows(padded),
        after=rows(padded),
        path=rows(padded),
        signal=rows(padded),
        features=rows(padded),
        owing=rows(padded),
        first=rows(padded),
        last=rows(padded),
        tree=np.zeros((2, TREE, n)),
        pulls=tree(),
        lates=tree(),
        own=tree(),
        shares=np.zeros((TREE, 2)),
        gram=rows(n),
        old_cross=rows(n),
        new_cross=rows(n),
        sums=np.zeros((n, n)),
        grams=np.zeros((hidden, n, n)),
        backward=np.zeros((n, n)),
        held_back=np.zeros((n, n)),
        along=np.zeros((n, n)),
        output=np.zeros((1, padded), dtype),
    )


@_compiled
def _features(h: Any, z_start: Any, displaced: Any, root: Any, width: int, constant: float) -> None:
    """relu(z) times ``root``, and the constant feature where there is one."""
    zero = h.dtype.type(0)
    for i in range(len(h)):
        for k in range(h.shape[1]):
            z = z_start[i, k] + displaced[i, k]
            h[i, k] = zero if z <= zero else root * z  # NaN stays NaN
        h[i, width] = constant


@_compiled
def _differences(out: Any, z_start: Any, before: Any, after: Any, root: Any) -> None:
    """What features differ after a step from before, without rounding that is relative to the features."""
    zero = out.dtype.type(0)
    for i in range(len(out)):
        for k in range(out.shape[1]):
            old, new = z_start[i, k] + before[i, k], z_start[i, k] + after[i, k]
            opened = (zero if new <= zero else new) - (zero if old <= zero else old)
            out[i, k] = root * (after[i, k] - before[i, k] if (old > zero) & (new > zero) else opened)


@_compiled
def _forward(out: Any, h: Any, base: Any, left: Any, right: Any) -> None:
    """V h (n, p), V being ``base + left^T right``."""
    dots(out, base, h)
    fill(out, 0.0, len(base))
    if len(left):
        along = np.empty((len(h), len(left)), h.dtype)
        dots(along, right, h)
        add_sums(out, FIRST, left, FIRST, along, h.shape[1])


@_compiled
def _backwards(out: Any, signal: Any, base: Any, left: Any, right: Any, root: Any, width: int) -> None:
    """V^T signal (n, p) times ``root``, for the neurons of the layer before."""
    fill(out, 0.0, 0)
    add_sums(out, FIRST, base, FIRST, signal, out.shape[1])
    if len(left):
        along = np.empty((len(signal), len(left)), signal.dtype)
        dots(along, left, signal)
        add_sums(out, FIRST, right, FIRST, along, out.shape[1])
    for i in range(len(out)):
        for k in range(width):
            out[i, k] *= root
    fill(out, 0.0, width)


@_compiled
def _fold(state: _State, layer: int, job: int) -> None:
    """Takes the factors of a job into its matrix."""
    count, neurons, padded = state.count[job], state.neurons, state.base.shape[3]
    factors = state.left[layer, job, :count, :neurons].T.copy()
    right, start = state.right[layer, job, :count], state.matrices[layer, state.slot[job]]
    square = 0.0
    for k in range(0, neurons, 2):
        rows = state.change[layer, job, k : k + 2]
        add_sums(rows, FIRST, right, FIRST, factors[k : k + 2], padded)
        for r in range(len(rows)):
            for j in range(padded):
                state.base[layer, job, k + r, j] = start[k + r, j] + rows[r, j]
                square += np.float64(rows[r, j]) * np.float64(rows[r, j])
    state.far[layer, 0, job] = state.far[layer, 1, job] = sqrt(square)


@_compiled
def _accept(state: _State, jobs: Indices) -> None:
    n, padded = state.z_start.shape[2:]
    for job in jobs:
        here, there = state.current[job], 1 - state.current[job]
        state.current[job] = there
        if not len(state.base):
            continue
        state.count[job] += n
        full = state.change.shape[1] > 0 and state.count[job] + n > state.left.shape[2]
        for layer in range(len(state.base)):
            for i in range(n):
                for k in range(padded):
                    state.drift[layer, job, i, k] = (
                        state.b[layer, there, job, i, k] - state.b[layer, here, job, i, k]
                    )
            state.far[layer, 0, job] = state.far[layer, 1, job]
            if full:
                _fold(state, layer, job)
        if full:
            state.count[job] = 0


@_part
def _expect(state, layer, job, repeats, going, first, last):
    """The backward signal of a step, ``going`` being its length in units of the last one: what it is expected to be at the end goes to
    ``state.guess``; ``first`` and ``last`` (n, p) are the two ends of a straight line with the same mean, in units of the largest number
    of them, which it returns: squares of signals can be beyond float32.

    From the second repeat on, what is expected is the mean of what was and what came of it: gates of the layers above that flip one way
    and back would bring about two signals in turn, for ever."""
    here, there = state.current[job], 1 - state.current[job]
    n, padded = first.shape
    num = first.dtype.type
    half, bend, most = num(0.5), num(_bend(going)), num(0)
    for i in range(n):
        for k in range(padded):
            now = state.b[layer, here, job, i, k]
            later = now + going * state.drift[layer, job, i, k]
            guess = later if repeats == 0 else state.b[layer, there, job, i, k]
            if repeats > 1:
                guess = half * (state.guess[layer, job, i, k] + guess)
            curve = bend * (guess - later)
            state.guess[layer, job, i, k] = guess
            first[i, k], last[i, k] = now - curve, guess - curve
            most = max(most, abs(first[i, k]), abs(last[i, k]))
    if most > num(0):
        for i in range(n):
            for k in range(padded):
                first[i, k] /= most
                last[i, k] /= most
    return np.float64(most)


@_compiled
def _bend(going: float) -> float:
    """The weight, in the mean over a step, of the curve through three points: before the last step, before and after this one."""
    return going / (6 * (1 + going))


@_part
def _start_from(state, layer, job, paid, owing):
    """What the coefficients of a layer count from: since the start in the first layer, the step's own in others; and what they are paid."""
    here = state.current[job]
    n, padded = owing.shape
    straight, zero = layer < len(state.owed), owing.dtype.type(0)
    for i in range(n):
        for k in range(padded):
            count = state.coefficients[here, job, i, k] if layer == 0 else zero
            owing[i, k] = count + paid * state.owed[layer, here, job, i, k] if straight else count


@_part
def _look(state, layer, job, room, right, left, rights):
    """What a layer sees of the one before: the mean of the features over the step goes to ``right`` (n, p), products to ``room``, and what
    the preactivations change with the features to ``room.path``."""
    here, there, num = state.current[job], 1 - state.current[job], right.dtype.type
    n, padded = right.shape
    z_start, root, width = state.z_start[layer - 1, job], num(state.root), state.neurons
    old, new = state.displaced[layer - 1, here, job], state.displaced[layer - 1, there, job]
    _features(room.before, z_start, old, root, width, state.constants[job, layer])
    _features(room.after, z_start, new, root, width, state.constants[job, layer])
    for i in range(n):
        for k in range(padded):
            right[i, k] = (room.before[i, k] + room.after[i, k]) / num(2)
    fill(room.sums, 0.0, 0)
    add_gram(room.sums, right, FIRST, padded)
    dots(room.new_cross, right, room.after)
    for i in range(n):
        for j in range(i + 1):
            room.gram[i, j] = room.gram[j, i] = room.sums[i, j]
    for i in range(n):
        for j in range(n):
            room.old_cross[i, j] = num(2) * room.gram[i, j] - room.new_cross[i, j]
    new_gram = room.grams[layer]
    fill(new_gram, 0.0, 0)
    add_gram(new_gram, room.after, FIRST, padded)
    for i in range(n):
        for j in range(i):
            new_gram[j, i] = new_gram[i, j]
    _differences(room.before, z_start, old, new, root)
    _forward(room.path, room.before, state.base[layer - 1, state.whose[job]], left, rights)


@_compiled
def _output(state: _State, job: int, y: Array, room: _Room, residual: Array) -> float:
    """The residual of a network after a step; the last features go to ``room.features``, the output weights to ``room.output``. Returns the
    displacement of the output weights."""
    there, layer, slot = 1 - state.current[job], len(state.z_start) - 1, state.slot[job]
    z_start, displaced = state.z_start[layer, job], state.displaced[layer, there, job]
    a_start, moved_a = state.a_start[slot], state.moved_a[there, job]
    zero, square = moved_a.dtype.type(0), 0.0
    for k in range(len(moved_a)):
        room.output[0, k] = a_start[k] + moved_a[k]
        square += np.float64(moved_a[k]) ** 2
    for i in range(len(y)):
        total = 0.0
        for k in range(len(moved_a)):
            old, z = z_start[i, k], z_start[i, k] + displaced[i, k]
            h, before = zero if z <= zero else z, zero if old <= zero else old  # NaN stays NaN
            moved = displaced[i, k] if (old > zero) & (z > zero) else h - before
            room.features[i, k] = h
            total += np.float64(moved_a[k]) * np.float64(h) + np.float64(a_start[k]) * np.float64(moved)
        residual[i] = state.kappa[job] * (state.f_start[job, i] + state.mass[job] * total) - y[i]
    return sqrt(square)


@_compiled
def _owe(
    state: _State, layer: int, job: int, room: _Room, gram: Any, scale: float, unpaid: float, weight: float
) -> float:
    """What the backward signal that a step brought about would change of a layer's move: the root of the sum of squares.

    For the point on whose kink a neuron is held it is counted but not owed: there the gate makes up for the signal, and a payment would
    push the neuron off, at times with many others, and forever.
    """
    num = state.b.dtype.type
    here, there, begin = state.current[job], 1 - state.current[job], state.count[job]
    total = moved = due = 0.0
    for i in range(len(gram)):
        part, way, debt, pull = 0.0, 0.0, 0.0, room.pulls[0, i]
        for k in range(state.neurons):
            after = state.gate[layer, there, job, i, k]
            gate = (state.gate[layer, here, job, i, k] + after) / num(2)
            apart = num(weight) * gate * (state.b[layer, there, job, i, k] - state.guess[layer, job, i, k])
            owed = num(unpaid) * state.owed[layer, here, job, i, k]
            if after == num(0) or after == num(1):
                owed -= num(scale) * pull * apart
            if layer == 0:
                change = state.coefficients[there, job, i, k] - state.coefficients[here, job, i, k]
            else:
                change = state.left[layer - 1, job, begin + i, k]
            state.owed[layer, there, job, i, k] = owed
            part += np.float64(apart) ** 2
            way += np.float64(change) ** 2
            debt += np.float64(owed) ** 2
        total += part * np.float64(pull) ** 2 * gram[i, i]
        moved += way * gram[i, i]
        due += debt * gram[i, i]
    if moved < IDLE**2 * due:
        fill(state.owed[layer, there, job], num(0), 0)
    return sqrt(total) * scale


@_compiled
def _forgive(state: _State, job: int, room: _Room, residual: Array) -> None:
    """Shrinks what a step owes to what the next one can pay without more harm to the residual than CREDIT."""
    there, n = 1 - state.current[job], len(residual)
    effect = np.zeros(n)
    for layer in range(len(state.owed)):
        owed, gates, signals = (
            state.owed[layer, there, job],
            state.gate[layer, there, job],
            state.b[layer, there, job],
        )
        along = room.path
        fill(along, 0.0, 0)
        for i in range(n):
            for j in range(n):
                room.gram[i, j] = room.grams[layer, i, j]
        add_sums(along, FIRST, owed, FIRST, room.gram, owed.shape[1])
        for i in range(n):
            total = 0.0
            for k in range(state.neurons):
                total += np.float64(gates[i, k] * signals[i, k]) * np.float64(along[i, k])
            effect[i] += state.kappa[job] * state.mass[job] * total
    change = square = 0.0
    for i in range(n):
        change += effect[i] ** 2
        square += residual[i] ** 2
    if change > CREDIT**2 * square:
        share = state.owed.dtype.type(CREDIT * sqrt(square / change))
        for layer in range(len(state.owed)):
            owed = state.owed[layer, there, job]
            for i in range(n):
                for k in range(owed.shape[1]):
                    owed[i, k] *= share


@_compiled
def _evaluate(state: _State, job: int, data: _Data, room: _Room, kernels: Array, held: Array) -> None:
    """The kernels (L, n, n) of all layers after a step, and what held neurons take from their sum (n, n)."""
    there, n, hidden = 1 - state.current[job], len(data.y), len(state.z_start)
    prefactor = state.kappa[job] * state.kappa[job] * state.mass[job] / n
    fill(held, 0.0, 0)
    for layer in range(hidden):
        gram = room.grams[layer]
        for i in range(n):
            for j in range(n):
                room.along[i, j] = gram[i, j] / max(sqrt(gram[j, j]), 1e-300)
        fill(room.backward, 0.0, 0)
        fill(room.held_back, 0.0, 0)
        signals = state.b[layer, there, job] if layer + 1 < hidden else room.output
        add_input_kernel(
            room.block, state.gate[layer, there, job], signals, room.along, room.backward, room.held_back
        )
        factor = prefactor * state.rates[job, layer]
        scaled(kernels[layer], room.backward, factor, gram, room.held_back)
        for i in range(n):
            for j in range(n):
                held[i, j] += factor * room.held_back[max(i, j), min(i, j)]
    fill(room.backward, 0.0, 0)
    add_gram(room.backward, room.features, FIRST, room.features.shape[1])
    for i in range(n):
        for j in range(i + 1):
            value = prefactor * state.rates[job, hidden] * room.backward[i, j]
            kernels[hidden, i, j] = kernels[hidden, j, i] = value


@_compiled
def _try_steps(
    state: _State, data: _Data, room: _Room, jobs: Indices, step: _Step, tolerance: float, trial: Trial
) -> None:
    """One step of these jobs, from the place where they are to the other."""
    n, hidden, num = len(data.y), len(state.z_start), room.before.dtype.type
    unsettled = np.empty(hidden)
    scales = np.empty(hidden)
    for index in range(len(jobs)):
        job = jobs[index]
        here, there, slot, count = (
            state.current[job],
            1 - state.current[job],
            state.slot[job],
            state.count[job],
        )
        travelled, root_mass = trial.travelled[index], sqrt(state.mass[job])
        pushed = step.impulses[index], step.lags[index], state.kappa[job] / n
        size = resolve(*pushed, room.tree, room.pulls, room.lates, room.shares)
        going = step.ahead[index]
        paid = 0.0 if step.forgiven[index] else min(PAYMENT * going, 1.0)
        unpaid = 0.0 if step.forgiven[index] else 1 - paid
        for i in range(n):
            for j in range(n):
                room.grams[0, i, j] = data.gram[i, j]

        # 1. and 2. from the input to the output
        rotation = 0.0
        for layer in range(hidden):
            turning, moving = layer + 1 == hidden, layer > 0
            _start_from(state, layer, job, num(paid), room.owing)
            unit = 1.0
            if not turning:
                unit = _expect(state, layer, job, step.repeats[index], num(going), room.first, room.last)
            far = 0.0
            if moving:
                left, right = state.left[layer - 1, job], state.right[layer - 1, job]
                coefficients = left[count : count + n]
                _look(state, layer, job, room, right[count : count + n], left[:count], right[:count])
                inputs = Inputs(room.gram, room.old_cross, room.new_cross, data.not_factored, n, True)
                far = state.far[layer - 1, 0, job]
            else:
                coefficients = state.coefficients[there, job]
                inputs = Inputs(data.inputs, data.inputs, data.inputs, data.factored, data.rank, False)
            rate = state.rates[job, layer]
            scales[layer] = size * rate
            reach = weigh(room.pulls, inputs.gram, unit * scales[layer], room.own)
            ratio = sqrt(rate / state.rates[job, hidden]) if turning else 1.0
            scale = size * sqrt(rate * state.rates[job, hidden]) if turning else unit * scales[layer]
            push = Push(num(scale), num(ratio), room.pulls, room.lates, room.own, reach, room.shares)
            before = Before(
                state.z_start[layer, job],
                state.displaced[layer, here, job],
                room.path,
                room.owing,
                room.first,
                room.last,
                state.gate[layer, here, job],
                state.a_start[slot],
                state.moved_a[here, job],
            )
            after = After(
                state.displaced[layer, there, job],
                coefficients,
                state.gate[layer, there, job],
                state.moved_a[there, job],
            )
            turned, far, unsettled[layer] = move_layer(
                room.block, turning, push, inputs, tolerance, far, before, after
            )
            rotation = max(rotation, turned)
            travelled[layer] = far * root_mass
            if moving:
                state.far[layer - 1, 1, job] = far
        trial.rotation[index] = rotation
        if not rotation < MAX_ROTATION:
            continue
        travelled[hidden] = root_mass * _output(state, job, data.y, room, trial.residual[index])

        # 3. back to the input
        most = unsettled[hidden - 1]
        for i in range(n):
            for k in range(room.signal.shape[1]):
                room.signal[i, k] = state.gate[hidden - 1, there, job, i, k] * room.output[0, k]
        for layer in range(hidden - 2, -1, -1):
            left, right = state.left[layer, job, : count + n], state.right[layer, job, : count + n]
            b, base = state.b[layer, there, job], state.base[layer, state.whose[job]]
            _backwards(b, room.signal, base, left, right, num(state.root), state.neurons)
            missed = _owe(
                state, layer, job, room, room.grams[layer], scales[layer], unpaid, 0.5 - _bend(going)
            )
            most = max(most, unsettled[layer], missed * root_mass / LOAN / max(travelled[layer], 1e-300))
            for i in range(n):
                for k in range(room.signal.shape[1]):
                    room.signal[i, k] = state.gate[layer, there, job, i, k] * b[i, k]
        trial.unsettled[index] = most
        if hidden > 1:
            _forgive(state, job, room, trial.residual[index])
        _evaluate(state, job, data, room, trial.kernels[index], trial.held[index])

"""ReLU networks of any depth on a GPU: the scheme, and the functions of single neurons, of :mod:`.relu_cpu`.

What happens to one neuron is :func:`.single.move`, compiled for the GPU: one thread for one neuron. Products of matrices are torch's. A
trial starts work on the card and waits for none of it: what the next one needs to know stays there.

Initial weights are those of a seed, and shared: a job has the change of every matrix between hidden layers, and meets both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, fields
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import card_measures, measures, threads
from .cards import CardRunner
from .functions import outputs
from .measures import Measured
from .networks import (
    MAX_ROTATION,
    Array,
    Changes,
    Evaluated,
    Indices,
    Initialisation,
    Layers,
    Trial,
    initial_weights,
)
from .pieces import PIECES, TREE, resolve_all
from .products import grow
from .relu_cpu import CREDIT, IDLE, LOAN, PAYMENT, STRICT
from .runners import Runner

_TINY = 1e-300
ROW_LANES = 128
"""Threads for a row of a matrix."""
MEASURED = 16
"""So many parts of a batch are measured one after the other: there is no room for what is measured of all together."""


class _Place(NamedTuple):
    """Where the networks of a batch are, or try to go: by hidden layer, displacements of preactivations and gates (B, n, N); displacement
    of W1 in the inputs (B, n, N), and of the output weights (B, N); between hidden layers, backward signals and what is owed (B, n, N)."""

    displaced: list[Tensor]
    gate: list[Tensor]
    coefficients: Tensor
    moved_a: Tensor
    b: list[Tensor]
    owed: list[Tensor]


@dataclass
class _State:
    """What a batch of jobs knows between two trials; by layer where there are several."""

    a_start: Tensor  # (B, N)
    f_start: Tensor  # (B, n)
    z_start: list[Tensor]  # (B, n, N)
    at: _Place
    tried: _Place
    drift: list[
        Tensor
    ]  # (B, n, N) by how much the backward signals have changed in the last step, and what they are expected to become
    guess: list[Tensor]
    change: list[
        Tensor
    ]  # (B, N, N+1) of the matrices between hidden layers, and sums of squares of its rows (B, N), float64
    squares: list[Tensor]
    left: list[Tensor]  # (B, n, N), (B, n, N+1) factors of what the step that was tried adds to it
    right: list[Tensor]

    def those(self, which: Tensor) -> _State:
        """The state of some of the jobs."""
        return _State(
            *(_each(lambda tensor: tensor[which], getattr(self, field.name)) for field in fields(self))
        )


def _each(of: Callable[..., Tensor], *same: Any) -> Any:
    """What ``of`` makes of tensors, or of those of lists and tuples."""
    first = same[0]
    if isinstance(first, Tensor):
        return of(*same)
    parts = (_each(of, *them) for them in zip(*same, strict=True))
    return type(first)(*parts) if hasattr(first, "_fields") else list(parts)


class ReluNetworkGPU:
    """A batch of networks of one depth and number of simulated neurons N on one data set: what `ReluNetworkCPU` is, on another device.

    Parameters as there; ``device``: "cuda", or "cpu", where loops over neurons stand for the threads of a GPU; the ``seeds`` (S,) of
    initial weights, by which neurons are drawn to count orientations.
    """

    pieces = PIECES

    def __init__(
        self,
        x: Array,
        y: Array,
        weights: Sequence[NDArray[Any]],
        slot: NDArray[np.int64],
        width: Array,
        kappa: Array,
        rates: Array,
        device: str,
        seeds: Sequence[int] = (),
    ) -> None:
        w1, n, hidden = weights[0], len(x), len(weights) - 1
        self.y, self.points, self.neurons, self.hidden, self.device = y, n, w1.shape[1], hidden, device
        self._card = CardRunner(device, n)
        self.runner: Runner = self._card
        self.layers: tuple[str, ...] = (*(f"W{layer}" for layer in range(1, hidden + 1)), "a")
        self.passes, self._strict = (1, 1.0) if hidden == 1 else (4, STRICT)
        self._inputs = np.hstack([x, np.ones((n, 1))])
        self._seeds = list(seeds) or list(range(len(w1)))
        self._weights, self._slot, self._root = weights, slot, 1 / sqrt(self.neurons)
        self.rates, self.mass, self._kappa = rates, width / self.neurons, kappa * width ** ((hidden - 1) / 2)
        self._constants = width[:, None] ** (-np.arange(hidden) / 2)
        gram = self._inputs @ self._inputs.T
        self._gram, self._target = self._tensor(gram)[None], self._tensor(y)
        self._mover = threads.Mover(self._inputs, gram, w1.dtype, device)
        self._dtype = self._mover.dtype
        self._start = [self._tensor(layer) for layer in weights]
        self._held: _State | None = None
        self._known: dict[int, Tensor] = {}
        self._into()

    def _into(self) -> None:
        """What jobs have by themselves, as tensors of float64; and the runs of neighbours with the same initial weights."""
        self._mass, self._kappas = self._tensor(self.mass), self._tensor(self._kappa)
        self._rate, self._constant = self._tensor(self.rates), self._tensor(self._constants)
        self._stands = self._tensor(self.mass > 1)
        ends = np.append(np.flatnonzero(np.diff(self._slot)) + 1, len(self._slot))
        begins = np.append(0, ends[:-1])
        self._runs = [(int(self._slot[a]), int(a), int(b)) for a, b in zip(begins, ends, strict=True)]

    @property
    def _state(self) -> _State:
        assert self._held is not None, "begin() comes first"
        return self._held

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return self._card.put(array)

    def _still(self, jobs: int) -> _Place:
        h = self.hidden
        rows = [self._empty(jobs, self.points, self.neurons) for _ in range(4 * h - 1)]
        return _Place(
            displaced=rows[:h],
            gate=rows[h : 2 * h],
            b=rows[2 * h : 3 * h - 1],
            owed=rows[3 * h - 1 : 4 * h - 2],
            coefficients=rows[4 * h - 2],
            moved_a=self._empty(jobs, self.neurons),
        )

    def _empty(self, *shape: int) -> Tensor:
        return torch.zeros(shape, dtype=self._dtype, device=self.device)

    @classmethod
    def initialised(
        cls,
        x: Array,
        y: Array,
        depth: int,
        neurons: int,
        jobs: Sequence[Initialisation],
        dtype: str,
        device: str,
    ) -> ReluNetworkGPU:
        """The networks of ``jobs``, of so many simulated neurons per hidden layer, at their initial weights."""
        seeds = sorted({job.seed for job in jobs})
        drawn = [initial_weights(depth, neurons, x.shape[1], seed) for seed in seeds]
        weights = [np.stack(layers).astype(dtype) for layers in zip(*drawn, strict=True)]
        width = np.array([float(job.width) for job in jobs])
        exponents = np.array([job.rates(depth) for job in jobs])
        slot = np.array([seeds.index(job.seed) for job in jobs])
        kappa = width ** -np.array([job.gamma for job in jobs])
        return cls(x, y, weights, slot, width, kappa, width[:, None] ** exponents, device, seeds)

    # What the integrator asks for.

    def begin(self) -> Evaluated:
        jobs, n, neurons, between = len(self._slot), self.points, self.neurons, self.hidden - 1
        slot = self._tensor(self._slot)
        a_start = self._start[-1][slot]
        first = np.matmul(self._inputs, self._weights[0].transpose(0, 2, 1).astype(np.float64))
        z_start = [self._tensor(first)[slot].to(self._dtype)]
        for layer in range(1, self.hidden):
            features = self._features(layer, z_start[-1])
            z_start.append(self._forth(layer, features, None))
        last = torch.relu(z_start[-1]).double()
        still = self._still(jobs)
        self._held = _State(
            a_start=a_start,
            f_start=self._mass.sqrt()[:, None] * torch.einsum("bnk,bk->bn", last, a_start.double()),
            z_start=z_start,
            at=still,
            tried=still,
            drift=[self._empty(jobs, n, neurons) for _ in range(between)],
            guess=[self._empty(jobs, n, neurons) for _ in range(between)],
            change=[self._empty(jobs, neurons, neurons + 1) for _ in range(between)],
            squares=[self._empty(jobs, neurons).double() for _ in range(between)],
            left=[],
            right=[],
        )
        zeros = self._card.zeros
        never = zeros((jobs,), "int64"), zeros((jobs,), "bool"), zeros((jobs,), "float64")
        none = zeros((jobs, self.pieces, n), "float64")
        trial = self.trial(*never, none, none, 1.0)
        self._held.at = self._held.tried
        return Evaluated(trial.residual, trial.kernels)

    def trial(
        self,
        repeats: Tensor,
        forgiven: Tensor,
        ahead: Tensor,
        impulses: Tensor,
        lags: Tensor,
        tolerance: float,
    ) -> Trial:
        state, jobs, n, hidden = self._state, len(ahead), self.points, self.hidden
        tolerance *= self._strict
        pull, sizes = self._resolved(impulses, lags)
        paid = torch.where(forgiven, 0.0, (PAYMENT * ahead).clamp(max=1.0))
        unpaid = torch.where(forgiven, 0.0, 1.0 - paid)
        bend = ahead / (6 * (1 + ahead))
        at = state.at
        displaced: list[Tensor] = []
        gate: list[Tensor] = []
        lefts: list[Tensor] = []
        rights: list[Tensor] = []
        grams = [self._gram.expand(jobs, n, n)]
        travelled = torch.zeros((jobs, hidden + 1), dtype=torch.float64, device=self.device)
        scales, unsettled, rotation = [], [], torch.zeros_like(ahead)
        coefficients, moved_a = at.coefficients, at.moved_a

        # 1. and 2. from the input to the output
        for layer in range(hidden):
            turning, moving = layer + 1 == hidden, layer > 0
            owing = at.coefficients if layer == 0 else torch.zeros_like(at.coefficients)
            first = last = owing
            unit = torch.ones_like(ahead)
            if not turning:
                owing = owing + _of(paid, owing) * at.owed[layer]
                first, last, unit = self._expect(layer, repeats, ahead, bend)
            inputs = self._mover.still
            path, far = owing, torch.zeros_like(ahead)
            if moving:
                inputs, path, right, gram = self._look(layer, at.displaced[layer - 1], displaced[layer - 1])
                rights.append(right)
                grams.append(gram)
                far = state.squares[layer - 1].sum(dim=1).sqrt()
            rate = self._rate[:, layer]
            scales.append(sizes * rate)
            ratio = (rate / self._rate[:, hidden]).sqrt() if turning else torch.ones_like(rate)
            scale = sizes * (rate * self._rate[:, hidden]).sqrt() if turning else unit * scales[layer]
            before = threads.Before(
                state.z_start[layer],
                at.displaced[layer],
                path,
                owing,
                first,
                last,
                at.gate[layer],
                state.a_start,
                at.moved_a,
            )
            moved = self._mover.move(
                turning, pull, unit * scales[layer], scale, ratio, inputs, tolerance, far, before
            )
            displaced.append(moved.displaced)
            gate.append(moved.gate)
            rotation = torch.maximum(rotation, moved.rotation)
            unsettled.append(moved.unsettled)
            travelled[:, layer] = moved.travelled * self._mass.sqrt()
            if moving:
                lefts.append(moved.coefficients)
            else:
                coefficients = moved.coefficients
            if turning:
                moved_a = moved.moved_a

        # 3. back to the input
        residual, features = self._output(displaced[-1], moved_a)
        travelled[:, hidden] = self._mass.sqrt() * moved_a.double().norm(dim=1)
        a = state.a_start + moved_a
        signal, most = gate[-1] * a[:, None], unsettled[-1]
        b, owed = list(at.b), list(at.owed)
        for layer in range(hidden - 2, -1, -1):
            left, right = lefts[layer], rights[layer]
            back = self._back(layer + 1, signal)
            back += (signal @ left.transpose(1, 2)) @ right[:, :, : self.neurons]
            b[layer] = back = back * self._root
            change = coefficients - at.coefficients if layer == 0 else lefts[layer - 1]
            mean = (at.gate[layer] + gate[layer]) / 2
            apart = _of(0.5 - bend, mean) * mean * (back - state.guess[layer])
            due, missed = self._owe(
                layer, gate[layer], apart, change, pull, grams[layer], scales[layer], unpaid
            )
            owed[layer] = due
            missed = missed * self._mass.sqrt() / LOAN / travelled[:, layer].clamp(min=_TINY)
            most = torch.maximum(torch.maximum(most, unsettled[layer]), missed)
            signal = gate[layer] * back
        owed = self._forgiven(owed, gate, b, grams, residual)
        state.tried = _Place(displaced, gate, coefficients, moved_a, b, owed)
        state.left, state.right = lefts, rights
        kernels, held = self._kernels(gate, b, a, features, grams)
        lost = ~(rotation < MAX_ROTATION)
        for array in (residual, kernels, held, travelled):
            array.masked_fill_(_of(lost, array), torch.nan)
        return Trial(residual, kernels, held, rotation, most / self._strict, travelled)

    def accept(self, accepted: Tensor) -> None:
        state = self._state

        def chosen(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(_of(accepted, new), new, old)

        state.drift = [
            chosen(new - old, drift)
            for new, old, drift in zip(state.tried.b, state.at.b, state.drift, strict=True)
        ]
        state.at = _each(chosen, state.tried, state.at)
        for moved in zip(state.change, state.left, state.right, state.squares, strict=True):
            self._card.start(grow, ROW_LANES, *moved, accepted)

    def select(self, jobs: Indices) -> ReluNetworkGPU:
        """What they have become goes with them: there is no room for it twice, and this batch would have to begin again."""
        selected = copy(self)
        selected._slot, selected.rates, selected.mass = self._slot[jobs], self.rates[jobs], self.mass[jobs]
        selected._kappa, selected._constants = self._kappa[jobs], self._constants[jobs]
        selected._into()
        if self._held is not None:
            selected._held, self._held = self._held.those(self._tensor(jobs)), None
        return selected

    def force(self, residual: Tensor, wanted: Tensor) -> Tensor:
        at, e = self._state.at, residual
        gates = at.gate[-1].double()
        free = ~((gates > 0) & (gates < 1)).any(dim=1, keepdim=True)
        gram = self._gram.expand(len(e), -1, -1)
        if self.hidden > 1:
            inputs = self._features(self.hidden - 1, self._state.z_start[-2] + at.displaced[-2]).double()
            gram = inputs @ inputs.transpose(1, 2)
        pull = gates * free * e[:, :, None]
        pulled = (pull * (gram @ pull)).sum(dim=1).clamp(min=0).sqrt().amax(dim=1)
        whole = (e.abs() * torch.diagonal(gram, dim1=1, dim2=2).sqrt()).sum(dim=1)
        return pulled / whole.clamp(min=np.finfo(np.float64).tiny)

    def unseen(self, wanted: Tensor) -> Tensor:
        if not (self.mass > 1).any():
            return self._card.zeros((len(wanted), self.points), "bool")
        seen = torch.stack([(gate > 0).any(dim=2) for gate in self._state.at.gate]).all(dim=0)
        return ~seen & self._stands[:, None]

    def measured(self, jobs: Indices) -> list[Mapping[str, Measured]]:
        size = max(1, len(self._slot) // MEASURED)
        parts = [self._measured(jobs[at : at + size]) for at in range(0, len(jobs), size)]
        return [job for part in parts for job in part]

    def _measured(self, jobs: Indices) -> list[Mapping[str, Measured]]:
        which, slot = self._tensor(jobs), self._tensor(self._slot[jobs])
        root, seeds = self._mass[which].sqrt(), [self._seeds[at] for at in self._slot[jobs]]
        state, inputs = self._state, self._tensor(self._inputs)
        found: dict[str, list[Measured]] = {}
        for layer, name in enumerate(self.layers):
            start = self._start[layer][slot]
            if layer == 0:
                change = (state.at.coefficients[which].double().mT @ inputs).to(self._dtype)
            elif layer == self.hidden:
                change = state.at.moved_a[which]
            else:
                change = state.change[layer - 1][which]
            # A change that is kept of a matrix between hidden layers is in units in which a coherent one acts as a random one does: those
            # of the initial weights, but for the biases, in the root of the mass.
            scales = torch.ones((len(jobs), start.shape[-1]), dtype=self._dtype, device=self.device)
            scales[:, : self.neurons if 0 < layer < self.hidden else 0] = root.to(self._dtype)[:, None]
            if start.dim() == 3:
                scales = scales[:, None]
            final = start * scales + change
            norms = [(root * card_measures.frobenius(part)).tolist() for part in (change, final)]
            operator = operator_final = many = [math.nan] * len(jobs)
            if start.dim() == 3:
                operator = card_measures.spectral(change).tolist()
                operator_final = card_measures.spectral(start + change, self._stretched(layer)[slot]).tolist()
                many = card_measures.orientations(final / scales, seeds)
            columns = norms[0], operator, norms[1], operator_final, many
            found[name] = [Measured(*of_job) for of_job in zip(*columns, strict=True)]
        return [dict(zip(found, of_job, strict=True)) for of_job in zip(*found.values(), strict=True)]

    def outputs(self, jobs: Indices, points: Array) -> list[Array]:
        state, x, inputs, found = self._state, self._tensor(points), self._tensor(self._inputs), []
        for job in jobs:
            w1 = state.at.coefficients[job].double().T @ inputs
            changes = [w1, *(change[job].double() for change in state.change), state.at.moved_a[job].double()]
            starts = (layer[self._slot[job]].double() for layer in self._start)
            weights = [start + change for start, change in zip(starts, changes, strict=True)]
            found.append(self._card.get(torch.cat(list(outputs(weights, x, sqrt(self.mass[job]))))))
        return found

    def _stretched(self, layer: int) -> Tensor:
        """What the initial weights of a layer stretch most (S, .): see `measures.stretched`."""
        if layer not in self._known:
            found = [measures.stretched(matrix)[1] for matrix in self._weights[layer]]
            self._known[layer] = self._tensor(np.stack(found))
        return self._known[layer]

    def initial(self, job: int) -> Layers:
        return dict(zip(self.layers, (layer[self._slot[job]] for layer in self._weights), strict=True))

    def change(self, job: int) -> Changes:
        w1 = self._state.at.coefficients[job].cpu().numpy().T.astype(np.float64) @ self._inputs
        units = np.ones(self.neurons + 1, self._mover.numpy)
        units[: self.neurons] = self.mass[job] ** -0.5
        between = [change[job].cpu().numpy() * units for change in self._state.change]
        changes = (w1.astype(self._mover.numpy), *between, self._state.at.moved_a[job].cpu().numpy())
        return dict(zip(self.layers, changes, strict=True))

    # Parts of a trial.

    def _resolved(self, impulses: Tensor, lags: Tensor) -> tuple[threads.Pull, Tensor]:
        """What pulls in every piece of the step, in units (B,)."""
        jobs, n, zeros = len(impulses), self.points, self._card.zeros
        pulls, lates = (torch.empty((jobs, TREE, n), dtype=self._dtype, device=self.device) for _ in range(2))
        tree, shares = zeros((jobs, 2, TREE, n), "float64"), zeros((jobs, TREE, 2), "float64")
        sizes = zeros((jobs,), "float64")
        self._card(resolve_all, impulses, lags, self._kappas / n, tree, pulls, lates, shares, sizes)
        return threads.Pull(pulls, lates, shares), sizes

    def _features(self, layer: int, z: Tensor) -> Tensor:
        """What a layer reads of the preactivations of the one before, with the constant (B, n, N+1)."""
        h = self._root * torch.relu(z)
        constant = self._constant[:, layer].to(h.dtype)[:, None, None].expand(*h.shape[:2], 1)
        return torch.cat([h, constant], dim=2)

    def _forth(self, layer: int, rows: Tensor, change: Tensor | None) -> Tensor:
        """Rows (B, n, N or N+1) times the transposed weights that lead to a layer, of so many columns: (B, n, N)."""
        columns = rows.shape[2]
        out = (
            self._empty(*rows.shape[:2], self.neurons) if change is None else rows @ change[:, :, :columns].mT
        )
        for matrix, these, into in self._alike(layer, rows, out):
            into.addmm_(these, matrix[:, :columns].T)
        return out

    def _back(self, layer: int, rows: Tensor) -> Tensor:
        """Rows (B, n, N) times the weights that lead to a layer but for the constant: (B, n, N)."""
        out = rows @ self._state.change[layer - 1][:, :, : self.neurons]
        for matrix, these, into in self._alike(layer, rows, out):
            into.addmm_(these, matrix[:, : self.neurons])
        return out

    def _alike(self, layer: int, rows: Tensor, out: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The initial weights that lead to a layer, and the rows of all jobs that share them, as one matrix."""
        for slot, begin, end in self._runs:
            yield (
                self._start[layer][slot],
                rows[begin:end].flatten(0, 1),
                out[begin:end].view(-1, out.shape[2]),
            )

    def _expect(
        self, layer: int, repeats: Tensor, ahead: Tensor, bend: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``relu_cpu._expect``: both ends of the signal in units of the largest number of them, and that."""
        now, tried, times = self._state.at.b[layer], self._state.tried.b[layer], repeats
        later = now + _of(ahead, now) * self._state.drift[layer]
        again = torch.where(_of(times > 1, now), (self._state.guess[layer] + tried) / 2, tried)
        guess = torch.where(_of(times == 0, now), later, again)
        curve = _of(bend, now) * (guess - later)
        self._state.guess[layer] = guess
        first, last = now - curve, guess - curve
        most = torch.maximum(first.abs().amax(dim=(1, 2)), last.abs().amax(dim=(1, 2)))
        safe = _of(torch.where(most > 0, most, 1.0), now)
        return first / safe, last / safe, most.double()

    def _look(self, layer: int, old: Tensor, new: Tensor) -> tuple[threads.Inputs, Tensor, Tensor, Tensor]:
        """What a layer sees of the one before: products, what its preactivations change with them, the mean features, and the products of
        the features after the step."""
        z_start = self._state.z_start[layer - 1]
        z_old, z_new = z_start + old, z_start + new
        before, after = self._features(layer, z_old), self._features(layer, z_new)
        right = (before + after) / 2
        gram = (right.double() @ right.double().transpose(1, 2)).to(self._dtype)
        new_cross = after @ right.transpose(1, 2)
        differences = torch.where((z_old > 0) & (z_new > 0), new - old, torch.relu(z_new) - torch.relu(z_old))
        path = self._forth(layer, self._root * differences, self._state.change[layer - 1])
        inputs = threads.Inputs(gram, 2 * gram - new_cross, new_cross, self.points, True)
        return inputs, path, right, after.double() @ after.double().transpose(1, 2)

    def _output(self, displaced: Tensor, moved_a: Tensor) -> tuple[Tensor, Tensor]:
        """The residual after a step, and the features of the last layer."""
        old = self._state.z_start[-1]
        z = old + displaced
        h = torch.relu(z)
        moved = torch.where((old > 0) & (z > 0), displaced, h - torch.relu(old)).double()
        total = torch.einsum("bnk,bk->bn", h.double(), moved_a.double())
        total += torch.einsum("bnk,bk->bn", moved, self._state.a_start.double())
        residual = self._kappas[:, None] * (self._state.f_start + self._mass[:, None] * total) - self._target
        return residual, h

    def _owe(
        self,
        layer: int,
        gate: Tensor,
        apart: Tensor,
        change: Tensor,
        pull: threads.Pull,
        gram: Tensor,
        scale: Tensor,
        unpaid: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """See ``relu_cpu._owe``: what a layer is owed, and what its move lacks."""
        whole = pull.pulls[:, 0].double()
        due = (scale[:, None] * whole).to(apart.dtype)[:, :, None] * apart
        owed = _of(unpaid, apart) * self._state.at.owed[layer] - torch.where(
            (gate == 0) | (gate == 1), due, 0.0
        )
        square = torch.diagonal(gram, dim1=1, dim2=2)
        total = (apart.double().square().sum(dim=2) * whole**2 * square).sum(dim=1)
        moved = (change.double().square().sum(dim=2) * square).sum(dim=1)
        debt = (owed.double().square().sum(dim=2) * square).sum(dim=1)
        return torch.where(_of(moved < IDLE**2 * debt, owed), 0.0, owed), total.sqrt() * scale

    def _forgiven(
        self, owed: list[Tensor], gate: list[Tensor], b: list[Tensor], grams: list[Tensor], residual: Tensor
    ) -> list[Tensor]:
        """See ``relu_cpu._forgive``: what is owed, shrunk to what the next step can pay."""
        if not owed:
            return []
        effect = torch.zeros_like(residual)
        for layer, debt in enumerate(owed):
            along = grams[layer].to(debt.dtype) @ debt
            effect += (gate[layer] * b[layer] * along).double().sum(dim=2)
        change = (self._kappas * self._mass) ** 2 * effect.square().sum(dim=1)
        square = residual.square().sum(dim=1)
        share = torch.where(change > CREDIT**2 * square, CREDIT * (square / change).sqrt(), 1.0)
        return [_of(share, debt) * debt for debt in owed]

    def _kernels(
        self, gate: list[Tensor], b: list[Tensor], a: Tensor, features: Tensor, grams: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """The kernels of all layers (B, L, n, n), and what held neurons take from their sum (B, n, n): see ``relu_cpu._evaluate``."""
        factors = ((self._kappas**2 * self._mass / self.points)[:, None] * self._rate)[:, :, None, None]
        kernels, held_back = [], torch.zeros_like(grams[0], memory_format=torch.contiguous_format)
        for layer, (gates, gram) in enumerate(zip(gate, grams, strict=True)):
            back = gates * (b[layer] if layer + 1 < self.hidden else a[:, None])
            held = (gates > 0) & (gates < 1)
            cosines = gram / torch.diagonal(gram, dim1=1, dim2=2).sqrt().clamp(min=_TINY)[:, None]
            point = held.to(torch.uint8).argmax(dim=1, keepdim=True).expand_as(back)
            lost = torch.where(
                held.any(dim=1, keepdim=True), cosines.to(back.dtype).gather(2, point) * back, 0.0
            ).double()
            back = back.double()
            taken = lost @ lost.transpose(1, 2)
            held_back += factors[:, layer] * taken
            kernels.append(gram * (back @ back.transpose(1, 2)) - taken)
        last = features.double()
        kernels.append(last @ last.transpose(1, 2))
        return torch.stack(kernels, dim=1) * factors, held_back


def _of(values: Tensor, like: Tensor) -> Tensor:
    """A value for every job (B,), to be combined with a tensor of jobs."""
    shaped = values.reshape(-1, *(1,) * (like.dim() - 1))
    return shaped if values.dtype == torch.bool else shaped.to(like.dtype)

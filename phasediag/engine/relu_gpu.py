"""ReLU networks of any depth on a GPU: the scheme, and the functions of single neurons, of :mod:`.relu_cpu`.

What happens to one neuron is :func:`.neurons.move_one` and :func:`.neurons.move_again`, compiled for the GPU: one thread for one neuron.
Products of matrices are torch's. Of a matrix between hidden layers, every job has its own change.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import copy
from math import sqrt
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import threads
from .compiled import compiled
from .networks import (
    MAX_ROTATION,
    Array,
    Changes,
    Evaluated,
    Indices,
    Initialisation,
    Layers,
    Mask,
    Trial,
    initial_weights,
)
from .neurons import share_out
from .pieces import PIECES, TREE, resolve
from .relu_cpu import CREDIT, IDLE, LOAN, PAYMENT, STRICT

_TINY = 1e-300


class _Place(NamedTuple):
    """Where the networks of a batch are, or try to go: by hidden layer, displacements of preactivations and gates (B, n, N); displacement
    of W1 in the inputs (B, n, N), and of the output weights (B, N); between hidden layers, backward signals and what is owed (B, n, N)."""

    displaced: list[Tensor]
    gate: list[Tensor]
    coefficients: Tensor
    moved_a: Tensor
    b: list[Tensor]
    owed: list[Tensor]

    def each(self, of: Callable[..., Tensor], *others: _Place) -> _Place:
        """What ``of`` makes of each tensor, and of the same ones of others."""
        parts: list[Any] = [
            [of(*them) for them in zip(*same, strict=True)] if isinstance(same[0], list) else of(*same)
            for same in zip(self, *others, strict=True)
        ]
        return _Place(*parts)


class ReluNetworkGPU:
    """A batch of networks of one depth and number of simulated neurons N on one data set: what `ReluNetworkCPU` is, on another device.

    Parameters as there, and ``device``: "cuda", or "cpu", where loops over neurons stand for the threads of a GPU.
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
    ) -> None:
        w1, jobs, n, hidden = weights[0], len(slot), len(x), len(weights) - 1
        self.y, self.points, self.neurons, self.hidden, self.device = y, n, w1.shape[1], hidden, device
        self.layers: tuple[str, ...] = (*(f"W{layer}" for layer in range(1, hidden + 1)), "a")
        self.passes, self._strict = (1, 1.0) if hidden == 1 else (4, STRICT)
        self._inputs = np.hstack([x, np.ones((n, 1))])
        self._weights, self._slot, self._root = weights, slot, 1 / sqrt(self.neurons)
        self.rates, self.mass, self._kappa = rates, width / self.neurons, kappa * width ** ((hidden - 1) / 2)
        self._constants = width[:, None] ** (-np.arange(hidden) / 2)
        gram = self._inputs @ self._inputs.T
        self._rank = int(np.linalg.matrix_rank(gram))
        self._gram = self._tensor(gram)[None]
        self._mover = threads.Mover(self._inputs, gram, w1.dtype, device)
        self._dtype = self._mover.dtype
        self._start = [self._tensor(layer) for layer in weights]
        self._into()
        index = torch.from_numpy(slot).to(device)
        self._a_start = self._start[-1][index]
        z = self._tensor(np.matmul(self._inputs, w1.transpose(0, 2, 1).astype(np.float64)))[index].to(
            self._dtype
        )
        self._z_start = [z]
        for layer, matrix in enumerate(self._start[1:-1], start=1):
            features = self._features(layer, torch.zeros_like(z))
            self._z_start.append(features @ matrix[index].transpose(1, 2))
        last = torch.relu(self._z_start[-1]).double()
        self._f_start = self._mass.sqrt()[:, None] * torch.einsum("bnk,bk->bn", last, self._a_start.double())
        self._change = [torch.zeros_like(matrix[index]) for matrix in self._start[1:-1]]
        self._base = [matrix[index] for matrix in self._start[1:-1]]
        self._far = torch.zeros((hidden - 1, jobs), dtype=torch.float64, device=device)
        self._at = self._tried = self._still(jobs)
        self._drift = [torch.zeros_like(b) for b in self._at.b]
        self._guess = [torch.zeros_like(b) for b in self._at.b]
        self._left: list[Tensor] = []
        self._right: list[Tensor] = []

    def _into(self) -> None:
        """What jobs have by themselves, as tensors of float64."""
        self._mass, self._kappas = self._tensor(self.mass), self._tensor(self._kappa)
        self._rate, self._constant = self._tensor(self.rates), self._tensor(self._constants)

    def _tensor(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device)

    def _still(self, jobs: int) -> _Place:
        rows = [
            torch.zeros((jobs, self.points, self.neurons), dtype=self._dtype, device=self.device)
            for _ in range(4 * self.hidden)
        ]
        h = self.hidden
        return _Place(
            displaced=rows[:h],
            gate=rows[h : 2 * h],
            coefficients=torch.zeros_like(rows[0]),
            moved_a=torch.zeros_like(self._a_start),
            b=rows[2 * h : 3 * h - 1],
            owed=rows[3 * h : 4 * h - 1],
        )

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
        return cls(x, y, weights, slot, width, kappa, width[:, None] ** exponents, device)

    # What the integrator asks for.

    def begin(self) -> Evaluated:
        jobs = len(self._slot)
        self._at = self._tried = self._still(jobs)
        for tensors in (self._drift, self._guess, self._change):
            for tensor in tensors:
                tensor.zero_()
        self._far.zero_()
        index = torch.from_numpy(self._slot).to(self.device)
        self._base = [matrix[index] for matrix in self._start[1:-1]]
        still, none = np.zeros((jobs, self.pieces, self.points)), np.zeros(jobs, dtype=np.int64)
        trial = self.trial(none, none > 0, np.zeros(jobs), still, still, 1.0)
        self._at = self._tried
        return Evaluated(trial.residual, trial.kernels)

    def trial(
        self, repeats: Indices, forgiven: Mask, ahead: Array, impulses: Array, lags: Array, tolerance: float
    ) -> Trial:
        jobs, n, hidden = len(ahead), self.points, self.hidden
        tolerance *= self._strict
        pulls, lates = (np.empty((jobs, TREE, n), self._mover.numpy) for _ in range(2))
        shares, size = np.empty((jobs, TREE, 2)), np.empty(jobs)
        _resolve(impulses, lags, self._kappa / n, pulls, lates, shares, size)
        pull = threads.Pull(*(self._tensor(array) for array in (pulls, lates, shares)))
        sizes, going = self._tensor(size), self._tensor(ahead)
        paid = torch.where(self._tensor(forgiven), 0.0, (PAYMENT * going).clamp(max=1.0))
        unpaid = torch.where(self._tensor(forgiven), 0.0, 1.0 - paid)
        bend = going / (6 * (1 + going))
        at = self._at
        displaced: list[Tensor] = []
        gate: list[Tensor] = []
        lefts: list[Tensor] = []
        rights: list[Tensor] = []
        grams = [self._gram.expand(jobs, n, n)]
        travelled = torch.zeros((jobs, hidden + 1), dtype=torch.float64, device=self.device)
        scales, unsettled, rotation = [], [], torch.zeros_like(going)
        coefficients, moved_a = at.coefficients, at.moved_a

        # 1. and 2. from the input to the output
        for layer in range(hidden):
            turning, moving = layer + 1 == hidden, layer > 0
            owing = at.coefficients if layer == 0 else torch.zeros_like(at.coefficients)
            first = last = owing
            unit = torch.ones_like(going)
            if not turning:
                owing = owing + _of(paid, owing) * at.owed[layer]
                first, last, unit = self._expect(layer, repeats, going, bend)
            inputs = self._mover.still
            path, far = owing, torch.zeros_like(going)
            if moving:
                inputs, path, right, gram = self._look(layer, at.displaced[layer - 1], displaced[layer - 1])
                rights.append(right)
                grams.append(gram)
                far = self._far[layer - 1]
            rate = self._rate[:, layer]
            scales.append(sizes * rate)
            ratio = (rate / self._rate[:, hidden]).sqrt() if turning else torch.ones_like(rate)
            scale = sizes * (rate * self._rate[:, hidden]).sqrt() if turning else unit * scales[layer]
            before = threads.Before(
                self._z_start[layer],
                at.displaced[layer],
                path,
                owing,
                first,
                last,
                at.gate[layer],
                self._a_start,
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
        a = self._a_start + moved_a
        signal, most = gate[-1] * a[:, None], unsettled[-1]
        b, owed = list(at.b), list(at.owed)
        for layer in range(hidden - 2, -1, -1):
            base, left, right = self._base[layer], lefts[layer], rights[layer]
            back = (
                signal @ base[:, :, : self.neurons]
                + (signal @ left.transpose(1, 2)) @ right[:, :, : self.neurons]
            )
            b[layer] = back = back * self._root
            change = coefficients - at.coefficients if layer == 0 else lefts[layer - 1]
            mean = (at.gate[layer] + gate[layer]) / 2
            apart = _of(0.5 - bend, mean) * mean * (back - self._guess[layer])
            due, missed = self._owe(
                layer, gate[layer], apart, change, pull, grams[layer], scales[layer], unpaid
            )
            owed[layer] = due
            missed = missed * self._mass.sqrt() / LOAN / travelled[:, layer].clamp(min=_TINY)
            most = torch.maximum(torch.maximum(most, unsettled[layer]), missed)
            signal = gate[layer] * back
        self._tried = _Place(
            displaced, gate, coefficients, moved_a, b, self._forgiven(owed, gate, b, grams, residual)
        )
        self._left, self._right = lefts, rights
        kernels = self._kernels(gate, b, a, features, grams)
        lost = ~(rotation < MAX_ROTATION)
        for array in (residual, kernels, travelled):
            array[lost] = torch.nan
        return Trial(
            *(array.cpu().numpy() for array in (residual, kernels, rotation, most / self._strict, travelled))
        )

    def accept(self, accepted: Mask) -> None:
        taken = self._tensor(accepted)

        def chosen(new: Tensor, old: Tensor) -> Tensor:
            return torch.where(_of(taken, new), new, old)

        at, tried = self._at, self._tried
        self._drift = [
            chosen(new - old, drift) for new, old, drift in zip(tried.b, at.b, self._drift, strict=True)
        ]
        self._at = tried.each(chosen, at)
        which = torch.nonzero(taken)[:, 0]
        index = torch.from_numpy(self._slot).to(self.device)[which]
        for layer, (left, right) in enumerate(zip(self._left, self._right, strict=True)):
            change = self._change[layer][which] + left[which].transpose(1, 2) @ right[which]
            self._change[layer][which], self._base[layer][which] = (
                change,
                self._start[layer + 1][index] + change,
            )
            self._far[layer, which] = change.double().flatten(1).norm(dim=1)

    def select(self, jobs: Indices) -> ReluNetworkGPU:
        selected, which = copy(self), torch.from_numpy(jobs).to(self.device)

        def those(tensors: list[Tensor]) -> list[Tensor]:
            return [tensor[which] for tensor in tensors]

        selected._slot, selected.rates, selected.mass = self._slot[jobs], self.rates[jobs], self.mass[jobs]
        selected._kappa, selected._constants = self._kappa[jobs], self._constants[jobs]
        selected._into()
        for name in ("_z_start", "_change", "_base", "_drift", "_guess", "_left", "_right"):
            setattr(selected, name, those(getattr(self, name)))
        for name in ("_a_start", "_f_start"):
            setattr(selected, name, getattr(self, name)[which])
        for name in ("_at", "_tried"):
            setattr(selected, name, getattr(self, name).each(lambda tensor: tensor[which]))
        selected._far = self._far[:, which]
        return selected

    def force(self, residual: Array) -> Array:
        at, e = self._at, self._tensor(residual)
        gates = at.gate[-1].double()
        free = ~((gates > 0) & (gates < 1)).any(dim=1, keepdim=True)
        gram = self._gram.expand(len(e), -1, -1)
        if self.hidden > 1:
            inputs = self._features(self.hidden - 1, at.displaced[-2]).double()
            gram = inputs @ inputs.transpose(1, 2)
        pull = gates * free * e[:, :, None]
        pulled = (pull * (gram @ pull)).sum(dim=1).clamp(min=0).sqrt().amax(dim=1)
        whole = (e.abs() * torch.diagonal(gram, dim1=1, dim2=2).sqrt()).sum(dim=1)
        force: Array = (pulled / whole.clamp(min=np.finfo(np.float64).tiny)).cpu().numpy()
        return force

    def unseen(self, jobs: Indices) -> Mask:
        which = torch.from_numpy(jobs).to(self.device)
        seen = torch.stack([(gate[which] > 0).any(dim=2) for gate in self._at.gate]).all(dim=0)
        unseen: Mask = (~seen).cpu().numpy() & (self.mass[jobs] > 1)[:, None]
        return unseen

    def initial(self, job: int) -> Layers:
        return dict(zip(self.layers, (layer[self._slot[job]] for layer in self._weights), strict=True))

    def change(self, job: int) -> Changes:
        w1 = self._at.coefficients[job].cpu().numpy().T.astype(np.float64) @ self._inputs
        units = np.ones(self.neurons + 1, self._mover.numpy)
        units[: self.neurons] = self.mass[job] ** -0.5
        between = [change[job].cpu().numpy() * units for change in self._change]
        changes = (w1.astype(self._mover.numpy), *between, self._at.moved_a[job].cpu().numpy())
        return dict(zip(self.layers, changes, strict=True))

    # Parts of a trial.

    def _features(self, layer: int, displaced: Tensor) -> Tensor:
        """What a layer reads of the one before, with the constant (B, n, N+1)."""
        h = self._root * torch.relu(self._z_start[layer - 1] + displaced)
        constant = self._constant[:, layer].to(h.dtype)[:, None, None].expand(*h.shape[:2], 1)
        return torch.cat([h, constant], dim=2)

    def _expect(
        self, layer: int, repeats: Indices, going: Tensor, bend: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """See ``relu_cpu._expect``: both ends of the signal in units of the largest number of them, and that."""
        now, tried, times = self._at.b[layer], self._tried.b[layer], self._tensor(repeats)
        later = now + _of(going, now) * self._drift[layer]
        again = torch.where(_of(times > 1, now), (self._guess[layer] + tried) / 2, tried)
        guess = torch.where(_of(times == 0, now), later, again)
        curve = _of(bend, now) * (guess - later)
        self._guess[layer] = guess
        first, last = now - curve, guess - curve
        most = torch.maximum(first.abs().amax(dim=(1, 2)), last.abs().amax(dim=(1, 2)))
        safe = _of(torch.where(most > 0, most, 1.0), now)
        return first / safe, last / safe, most.double()

    def _look(self, layer: int, old: Tensor, new: Tensor) -> tuple[threads.Inputs, Tensor, Tensor, Tensor]:
        """What a layer sees of the one before: products, what its preactivations change with them, the mean features, and the products of
        the features after the step."""
        before, after = self._features(layer, old), self._features(layer, new)
        right = (before + after) / 2
        gram = (right.double() @ right.double().transpose(1, 2)).to(self._dtype)
        new_cross = after @ right.transpose(1, 2)
        z_start = self._z_start[layer - 1]
        z_old, z_new = z_start + old, z_start + new
        differences = torch.where((z_old > 0) & (z_new > 0), new - old, torch.relu(z_new) - torch.relu(z_old))
        path = (self._root * differences) @ self._base[layer - 1][:, :, : self.neurons].transpose(1, 2)
        inputs = threads.Inputs(gram, 2 * gram - new_cross, new_cross, self.points, True)
        return inputs, path, right, after.double() @ after.double().transpose(1, 2)

    def _output(self, displaced: Tensor, moved_a: Tensor) -> tuple[Tensor, Tensor]:
        """The residual after a step, and the features of the last layer."""
        old = self._z_start[-1]
        z = old + displaced
        h = torch.relu(z)
        moved = torch.where((old > 0) & (z > 0), displaced, h - torch.relu(old)).double()
        total = torch.einsum("bnk,bk->bn", h.double(), moved_a.double())
        total += torch.einsum("bnk,bk->bn", moved, self._a_start.double())
        residual = self._kappas[:, None] * (self._f_start + self._mass[:, None] * total) - self._tensor(
            self.y
        )
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
        owed = _of(unpaid, apart) * self._at.owed[layer] - torch.where((gate == 0) | (gate == 1), due, 0.0)
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
    ) -> Tensor:
        """The kernels of all layers (B, L, n, n): see ``relu_cpu._evaluate``."""
        prefactor = self._kappas**2 * self._mass / self.points
        kernels = []
        for layer, (gates, gram) in enumerate(zip(gate, grams, strict=True)):
            back = gates * (b[layer] if layer + 1 < self.hidden else a[:, None])
            held = (gates > 0) & (gates < 1)
            cosines = gram / torch.diagonal(gram, dim1=1, dim2=2).sqrt().clamp(min=_TINY)[:, None]
            point = held.to(torch.uint8).argmax(dim=1, keepdim=True).expand_as(back)
            lost = torch.where(
                held.any(dim=1, keepdim=True), cosines.to(back.dtype).gather(2, point) * back, 0.0
            ).double()
            back = back.double()
            kernels.append(gram * (back @ back.transpose(1, 2)) - lost @ lost.transpose(1, 2))
        last = features.double()
        kernels.append(last @ last.transpose(1, 2))
        return torch.stack(kernels, dim=1) * (prefactor[:, None] * self._rate)[:, :, None, None]


def _of(values: Tensor, like: Tensor) -> Tensor:
    """A value for every job (B,), to be combined with a tensor of jobs."""
    shaped = values.reshape(-1, *(1,) * (like.dim() - 1))
    return shaped if values.dtype == torch.bool else shaped.to(like.dtype)


@compiled()
def _resolve(impulses: Any, lags: Any, factors: Any, pulls: Any, lates: Any, shares: Any, sizes: Any) -> None:
    """What pulls in every piece of the steps of all jobs, in units of ``sizes``: see `pieces.resolve` and `neurons.share_out`."""
    for job in range(len(impulses)):
        sizes[job] = resolve(impulses[job], lags[job], factors[job], pulls[job], lates[job])
        share_out(pulls[job], shares[job])

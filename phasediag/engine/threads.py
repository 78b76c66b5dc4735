"""The neurons of a layer of many networks, each moved by a thread of its own: on a GPU, or, in a loop, on a CPU."""

# Types are numba's business in what is compiled.

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import neurons
from .compiled import compiled
from .neurons import BLOCK, doublings_of, factors, move_again, move_one
from .pieces import SETTLED, TREE

_TINY = 1e-300
GRID = 2048
"""Most blocks of threads at a time: neurons beyond wait for their turn, and need no room of their own."""


class Pull(NamedTuple):
    """What pulls: ``pulls`` and ``lates`` (B, TREE, n), ``shares`` (B, TREE, 2); see `neurons.Push`."""

    pulls: Tensor
    lates: Tensor
    shares: Tensor


class Inputs(NamedTuple):
    """See `neurons.Inputs`, of every job, or (1, n, n) where all have the same."""

    gram: Tensor
    before: Tensor
    after: Tensor
    rank: int
    move: bool


class Before(NamedTuple):
    """See `neurons.Before`: (B, n, N), and (B, N) of output weights."""

    z_start: Tensor
    displaced: Tensor
    path: Tensor
    coefficients: Tensor
    first: Tensor
    last: Tensor
    gate: Tensor
    a_start: Tensor
    moved_a: Tensor


class Moved(NamedTuple):
    """What a step made of a layer, and what it risked (B,)."""

    displaced: Tensor
    coefficients: Tensor
    gate: Tensor
    moved_a: Tensor
    rotation: Tensor
    travelled: Tensor
    unsettled: Tensor


class Mover:
    """Moves layers of N neurons on one device.

    Attributes:
        still: the inputs (n, d+1) of the first hidden layer.
        dtype, numpy: of the computation.
    """

    def __init__(self, inputs: NDArray[Any], gram: NDArray[Any], dtype: Any, width: int, device: str) -> None:
        self.numpy, self._device, self._width, n = np.dtype(dtype), device, width, len(inputs)
        self.dtype = torch.float32 if self.numpy == np.float32 else torch.float64
        same = torch.from_numpy(gram[None].astype(self.numpy)).to(device)
        self.still = Inputs(same, same, same, int(np.linalg.matrix_rank(gram)), False)
        self._factors = [self._to(array) for array in factors(inputs, self.numpy)]
        self._no_factors = [self._to(array) for array in factors(gram, self.numpy)]
        self._room: list[Tensor] = []

    def _to(self, array: NDArray[Any]) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def move(
        self, turning: bool, pull: Pull, own: Tensor, scale: Tensor, ratio: Tensor, inputs: Inputs, tolerance: float, far: Tensor, before: Before
    ) -> Moved:
        """Moves all neurons of a layer: see `neurons.move_layer`. ``own`` (B,): the scale of what a neuron's own gate adds; ``scale``,
        ``ratio`` (B,): see `neurons.Push`; ``far`` (B,): the displacement before the step."""
        jobs, n, width = before.displaced.shape
        square = torch.diagonal(inputs.gram, dim1=1, dim2=2)[:, None]
        owns = -(own[:, None, None] * pull.pulls.double() * square.double()).to(self.dtype)
        reach = (pull.pulls.abs().double() * square.double().sqrt()).sum(dim=2).amax(dim=1)
        doublings = _doublings(reach.cpu().numpy(), scale.cpu().numpy()) if turning else np.zeros(jobs, np.int64)
        push = (scale.to(self.dtype), ratio.to(self.dtype), pull.pulls, pull.lates, owns, pull.shares, self._to(doublings))
        after = [torch.empty_like(before.displaced) for _ in range(3)] + [torch.zeros_like(before.moved_a)]
        loose, kinks, angles = (torch.zeros((jobs, width), dtype=self.dtype, device=self._device) for _ in range(3))
        squares, missing = (torch.zeros((jobs, width), dtype=torch.float64, device=self._device) for _ in range(2))
        seen = (inputs.gram, inputs.before, inputs.after, *(self._no_factors if inputs.move else self._factors)[:2])
        flags = (turning, inputs.move, inputs.rank)
        common = (flags, push, seen, tuple(before), tuple(after))
        self._launch("first", common, (loose, kinks, angles, squares))
        rotation = torch.where(angles.double().sum(dim=1).isfinite(), angles.amax(dim=1).double(), torch.inf)
        before_it = far if inputs.move else torch.zeros_like(far)
        moved = squares.sum(dim=1).clamp(min=0).sqrt() + before_it
        step = push[0].double() * push[1].double()
        settled = SETTLED * tolerance * moved / width**0.5 / step.clamp(min=_TINY)
        settled = torch.where(rotation < neurons.MAX_ROTATION, settled, torch.inf)
        ends = inputs.after[:, None]
        if inputs.move:
            share = pull.shares[:, :, 1, None, None].to(self.dtype)
            ends = inputs.before[:, None] + share * (inputs.after - inputs.before)[:, None]
        self._launch("again", common, (loose, kinks, squares, missing, settled, ends.contiguous()))
        unsettled = missing.square().sum(dim=1).sqrt() * step / moved.clamp(min=_TINY)
        return Moved(*after, rotation, squares.sum(dim=1).clamp(min=0).sqrt() + before_it, unsettled)

    def _launch(self, name: str, common: tuple[Any, ...], own: tuple[Tensor, ...]) -> None:
        flags, *groups = common
        jobs, n, width = groups[2][0].shape
        arrays = [*(tensor for group in groups for tensor in group), *own]
        blocks = min(-(-jobs * width // BLOCK), GRID) if self._device != "cpu" else 1
        room = self._rooms(blocks, n)
        if self._device == "cpu":
            loop = _first_in_turn if name == "first" else _again_in_turn
            loop(*flags, *(tensor.numpy() for tensor in (*room, *arrays)))
        else:
            from . import kernels

            kernels.launch(name, blocks, flags, [*room, *arrays])

    def _rooms(self, blocks: int, n: int) -> list[Tensor]:
        if not self._room or len(self._room[0]) < blocks:
            s, p, *_, slow = neurons.room(n, 1, self.numpy)
            rank = len(self._factors[1])
            shapes = [(blocks, *s.shape), (blocks, *p.shape), (blocks, *slow.shape, BLOCK), (blocks, rank, BLOCK)]
            dtypes = [self.dtype, self.dtype, torch.float64, self.dtype]
            self._room = [torch.zeros(shape, dtype=kind, device=self._device) for shape, kind in zip(shapes, dtypes, strict=True)]
        return self._room


@compiled()
def _doublings(reach: Any, scale: Any) -> Any:
    found = np.zeros(len(reach), np.int64)
    for job in range(len(reach)):
        found[job] = doublings_of(reach[job], scale[job])
    return found


@compiled()
def first(job, k, turning, moving, rank, s, p, slow, between, scale, rate, pulls, lates, own, shares, doublings, gram, old, new, left, right, z_start, displaced, path, coefficients, first_, last, gate, a_start, moved_a, displaced_after, coefficients_after, gate_after, a_after, loose, kinks, angles, squares):
    """Moves neuron k of a job in one piece."""
    at = job if len(gram) > 1 else 0
    push = neurons.Push(scale[job], rate[job], pulls[job], lates[job], own[job], 0.0, shares[job])
    inputs = neurons.Inputs(gram[at], old[at], new[at], (left, right, between), rank, moving)
    before = neurons.Before(z_start[job], displaced[job], path[job], coefficients[job], first_[job], last[job], gate[job], a_start[job], moved_a[job])
    after = neurons.After(displaced_after[job], coefficients_after[job], gate_after[job], a_after[job])
    move_one(s, p, slow, k, turning, push, inputs, doublings[job], before, after, loose[job], kinks[job], angles[job], squares[job])


@compiled()
def again(job, k, turning, moving, rank, s, p, slow, between, scale, rate, pulls, lates, own, shares, doublings, gram, old, new, left, right, z_start, displaced, path, coefficients, first_, last, gate, a_start, moved_a, displaced_after, coefficients_after, gate_after, a_after, loose, kinks, squares, missing, settled, ends):
    """Moves neuron k of a job again, if it wants to be."""
    at = job if len(gram) > 1 else 0
    push = neurons.Push(scale[job], rate[job], pulls[job], lates[job], own[job], 0.0, shares[job])
    inputs = neurons.Inputs(gram[at], old[at], new[at], (left, right, between), rank, moving)
    before = neurons.Before(z_start[job], displaced[job], path[job], coefficients[job], first_[job], last[job], gate[job], a_start[job], moved_a[job])
    after = neurons.After(displaced_after[job], coefficients_after[job], gate_after[job], a_after[job])
    missing[job, k] = move_again(s, p, slow, k, turning, push, inputs, ends[at], doublings[job], before, after, loose[job], kinks[job], squares[job], settled[job])


@compiled()
def _first_in_turn(turning, moving, rank, s, p, slow, between, scale, rate, pulls, lates, own, shares, doublings, gram, old, new, left, right, z_start, displaced, path, coefficients, first_, last, gate, a_start, moved_a, displaced_after, coefficients_after, gate_after, a_after, loose, kinks, angles, squares):
    for job in range(z_start.shape[0]):
        for k in range(z_start.shape[2]):
            first(job, k, turning, moving, rank, s[0], p[0], slow[0, :, :, 0], between[0], scale, rate, pulls, lates, own, shares, doublings, gram, old, new, left, right, z_start, displaced, path, coefficients, first_, last, gate, a_start, moved_a, displaced_after, coefficients_after, gate_after, a_after, loose, kinks, angles, squares)


@compiled()
def _again_in_turn(turning, moving, rank, s, p, slow, between, scale, rate, pulls, lates, own, shares, doublings, gram, old, new, left, right, z_start, displaced, path, coefficients, first_, last, gate, a_start, moved_a, displaced_after, coefficients_after, gate_after, a_after, loose, kinks, squares, missing, settled, ends):
    for job in range(z_start.shape[0]):
        for k in range(z_start.shape[2]):
            again(job, k, turning, moving, rank, s[0], p[0], slow[0, :, :, 0], between[0], scale, rate, pulls, lates, own, shares, doublings, gram, old, new, left, right, z_start, displaced, path, coefficients, first_, last, gate, a_start, moved_a, displaced_after, coefficients_after, gate_after, a_after, loose, kinks, squares, missing, settled, ends)

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
from .pieces import SETTLED

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
        self,
        turning: bool,
        pull: Pull,
        own: Tensor,
        scale: Tensor,
        ratio: Tensor,
        inputs: Inputs,
        tolerance: float,
        far: Tensor,
        before: Before,
    ) -> Moved:
        """Moves all neurons of a layer: see `neurons.move_layer`. ``own`` (B,): the scale of what a neuron's own gate adds; ``scale``,
        ``ratio`` (B,): see `neurons.Push`; ``far`` (B,): the displacement before the step."""
        jobs, n, width = before.displaced.shape
        square = torch.diagonal(inputs.gram, dim1=1, dim2=2)[:, None]
        owns = -(own[:, None, None] * pull.pulls.double() * square.double()).to(self.dtype)
        reach = (pull.pulls.abs().double() * square.double().sqrt()).sum(dim=2).amax(dim=1)
        doublings = (
            _doublings(reach.cpu().numpy(), scale.cpu().numpy()) if turning else np.zeros(jobs, np.int64)
        )
        push = (
            scale.to(self.dtype),
            ratio.to(self.dtype),
            pull.pulls,
            pull.lates,
            owns,
            pull.shares,
            self._to(doublings),
        )
        after = [torch.empty_like(before.displaced) for _ in range(3)] + [torch.zeros_like(before.moved_a)]
        loose, kinks, angles = (
            torch.zeros((jobs, width), dtype=self.dtype, device=self._device) for _ in range(3)
        )
        squares, missing = (
            torch.zeros((jobs, width), dtype=torch.float64, device=self._device) for _ in range(2)
        )
        seen = (
            inputs.gram,
            inputs.before,
            inputs.after,
            *(self._no_factors if inputs.move else self._factors)[:2],
        )
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
        blocks = min(-(-jobs * width // BLOCK), GRID) if self._device != "cpu" else 1
        groups = [self._rooms(blocks, n), *groups, own]
        if self._device == "cpu":
            loop = _first_in_turn if name == "first" else _again_in_turn
            loop(flags, *(tuple(tensor.numpy() for tensor in group) for group in groups))
        else:
            from . import kernels

            kernels.launch(name, blocks, flags, groups)

    def _rooms(self, blocks: int, n: int) -> list[Tensor]:
        if not self._room or len(self._room[0]) < blocks:
            s, p, *_, slow = neurons.room(n, 1, self.numpy)
            rank = len(self._factors[1])
            shapes = [
                (blocks, *s.shape),
                (blocks, *p.shape),
                (blocks, *slow.shape, BLOCK),
                (blocks, rank, BLOCK),
            ]
            dtypes = [self.dtype, self.dtype, torch.float64, self.dtype]
            self._room = [
                torch.zeros(shape, dtype=kind, device=self._device)
                for shape, kind in zip(shapes, dtypes, strict=True)
            ]
        return self._room


@compiled()
def _doublings(reach: Any, scale: Any) -> Any:
    found = np.zeros(len(reach), np.int64)
    for job in range(len(reach)):
        found[job] = doublings_of(reach[job], scale[job])
    return found


# What follows is compiled for both, with its arguments in groups: flags (turning, whether the inputs move, their rank); the room of a thread;
# what pushes every job; its inputs; the layer before and after; and where the rest of a result goes.


@compiled()
def _of_job(job, flags, room, push, seen, before, after):
    """What moves the neurons of a job, the inputs, and the layer before and after: see :mod:`.neurons`."""
    scale, rate, pulls, lates, own, shares, _ = push
    gram, old, new, left, right = seen
    at = job if len(gram) > 1 else 0
    z_start, displaced, path, coefficients, begin, end, gate, a_start, moved_a = before
    return (
        neurons.Push(scale[job], rate[job], pulls[job], lates[job], own[job], 0.0, shares[job]),
        neurons.Inputs(gram[at], old[at], new[at], (left, right, room[3]), flags[2], flags[1]),
        neurons.Before(
            z_start[job],
            displaced[job],
            path[job],
            coefficients[job],
            begin[job],
            end[job],
            gate[job],
            a_start[job],
            moved_a[job],
        ),
        neurons.After(after[0][job], after[1][job], after[2][job], after[3][job]),
    )


@compiled()
def first(job, k, flags, room, push, seen, before, after, own):
    """Moves neuron k of a job in one piece."""
    pushes, inputs, layer, moved = _of_job(job, flags, room, push, seen, before, after)
    s, p, slow, _ = room
    loose, kinks, angles, squares = own
    move_one(
        s,
        p,
        slow,
        k,
        flags[0],
        pushes,
        inputs,
        push[6][job],
        layer,
        moved,
        loose[job],
        kinks[job],
        angles[job],
        squares[job],
    )


@compiled()
def again(job, k, flags, room, push, seen, before, after, own):
    """Moves neuron k of a job again, if it wants to be."""
    pushes, inputs, layer, moved = _of_job(job, flags, room, push, seen, before, after)
    s, p, slow, _ = room
    loose, kinks, squares, missing, settled, ends = own
    across = ends[job if len(ends) > 1 else 0]
    missing[job, k] = move_again(
        s,
        p,
        slow,
        k,
        flags[0],
        pushes,
        inputs,
        across,
        push[6][job],
        layer,
        moved,
        loose[job],
        kinks[job],
        squares[job],
        settled[job],
    )


@compiled()
def _first_in_turn(flags, room, push, seen, before, after, own):
    mine = room[0][0], room[1][0], room[2][0, :, :, 0], room[3][0]
    for job in range(before[0].shape[0]):
        for k in range(before[0].shape[2]):
            first(job, k, flags, mine, push, seen, before, after, own)


@compiled()
def _again_in_turn(flags, room, push, seen, before, after, own):
    mine = room[0][0], room[1][0], room[2][0, :, :, 0], room[3][0]
    for job in range(before[0].shape[0]):
        for k in range(before[0].shape[2]):
            again(job, k, flags, mine, push, seen, before, after, own)

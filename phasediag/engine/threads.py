"""The neurons of a layer of many networks, each moved by a thread of its own: on a GPU, or, in a loop, on a CPU."""

# Types are numba's business in what is compiled.

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from . import neurons
from .cards import launcher
from .networks import MAX_ROTATION
from .neurons import BLOCK, factors
from .pieces import SETTLED

_TINY = 1e-300
ROOM_BYTES = 2**30
"""Most memory of threads that run at a time: neurons beyond wait for their turn."""


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
        launch: how functions of neurons run there.
    """

    def __init__(self, inputs: NDArray[Any], gram: NDArray[Any], dtype: Any, device: str) -> None:
        self.numpy, self._device = np.dtype(dtype), device
        self.dtype = torch.float32 if self.numpy == np.float32 else torch.float64
        same = torch.from_numpy(gram[None].astype(self.numpy)).to(device)
        self.still = Inputs(same, same, same, int(np.linalg.matrix_rank(gram)), False)
        self._factors = [self._to(array) for array in factors(inputs, self.numpy)]
        self._no_factors = [self._to(array) for array in factors(gram, self.numpy)]
        s, p, *_, slow = neurons.room(len(inputs), 1, self.numpy)
        self._shapes = [
            (s.shape, self.dtype),
            (p.shape, self.dtype),
            ((*slow.shape, BLOCK), torch.float64),
            ((len(self._factors[1]), BLOCK), self.dtype),
        ]
        self._room: list[Tensor] = []
        self.launch = launcher(device)

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
        jobs, _, width = before.displaced.shape
        square = torch.diagonal(inputs.gram, dim1=1, dim2=2)[:, None]
        owns = -(own[:, None, None] * pull.pulls.double() * square.double()).to(self.dtype)
        reach = (pull.pulls.abs().double() * square.double().sqrt()).sum(dim=2).amax(dim=1)
        push = (
            scale.to(self.dtype),
            ratio.to(self.dtype),
            pull.pulls,
            pull.lates,
            owns,
            pull.shares,
            reach,
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
        ends = inputs.after[:, None]
        if inputs.move:
            share = pull.shares[:, :, 1, None, None].to(self.dtype)
            ends = inputs.before[:, None] + share * (inputs.after - inputs.before)[:, None]
        settled = torch.zeros_like(far)
        rest = (loose, kinks, angles, squares, missing, settled, ends.contiguous())
        groups = (push, seen, tuple(before), tuple(after), rest)
        self._launch((turning, inputs.move, inputs.rank, False), groups)
        rotation = torch.where(angles.double().sum(dim=1).isfinite(), angles.amax(dim=1).double(), torch.inf)
        before_it = far if inputs.move else torch.zeros_like(far)
        moved = squares.sum(dim=1).clamp(min=0).sqrt() + before_it
        step = push[0].double() * push[1].double()
        loosest = SETTLED * tolerance * moved / width**0.5 / step.clamp(min=_TINY)
        settled.copy_(torch.where(rotation < MAX_ROTATION, loosest, torch.inf))
        self._launch((turning, inputs.move, inputs.rank, True), groups)
        unsettled = missing.square().sum(dim=1).sqrt() * step / moved.clamp(min=_TINY)
        displaced, coefficients, gate, moved_a = after
        return Moved(
            displaced,
            coefficients,
            gate,
            moved_a,
            rotation,
            squares.sum(dim=1).clamp(min=0).sqrt() + before_it,
            unsettled,
        )

    def _launch(self, flags: tuple[Any, ...], groups: tuple[tuple[Tensor, ...], ...]) -> None:
        jobs, _, width = groups[2][0].shape
        of_block = sum(math.prod(shape) * kind.itemsize for shape, kind in self._shapes)
        blocks = max(1, min(-(-jobs * width // BLOCK), self.launch.most_blocks, ROOM_BYTES // of_block))
        if not self._room or len(self._room[0]) < blocks:
            self._room = [
                torch.zeros((blocks, *shape), dtype=kind, device=self._device) for shape, kind in self._shapes
            ]
        self.launch.neurons(blocks, flags, (tuple(self._room), *groups))

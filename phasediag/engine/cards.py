"""Where functions of many jobs run when the networks are tensors of torch: on a GPU, without a wait; on "cpu", loops stand for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .modes import eigh
from .runners import Launcher, each
from .single import in_turn
from .steps import JACOBI, Front


def launcher(device: str) -> Launcher:
    """Kernels for "cuda", which need numba-cuda; loops for "cpu"."""
    if device == "cpu":
        return LOOPS
    from .kernels import KERNELS

    return KERNELS


class CardRunner:
    """Runs functions of :mod:`.steps` on tensors of one device: see :class:`.runners.Runner`. Nothing waits but :meth:`get` and
    :meth:`put`, and :meth:`decompose` where the points are many."""

    every: int = 16

    def __init__(self, device: str, points: int) -> None:
        self._device, self._lanes = device, points
        self.launch = launcher(device)
        self._front: tuple[Front, Any] | None = None

    def __call__(self, function: Callable[..., None], front: Any, jobs: Any, *rest: Any) -> None:
        self.start(function, self._lanes, front, jobs, *rest)

    def start(self, function: Callable[..., None], lanes: int, *arguments: Any) -> None:
        """Runs a function with teams of so many lanes."""
        self.launch.teams(function, lanes, [self._known(argument) for argument in arguments])

    def _known(self, argument: Any) -> Any:
        """A front is the same all along: its many tensors are presented to numba once."""
        if not isinstance(argument, Front):
            return self.launch.present(argument)
        if self._front is None or self._front[0] is not argument:
            self._front = argument, self.launch.present(argument)
        return self._front[1]

    def zeros(self, shape: tuple[int, ...], kind: str) -> Tensor:
        """Zeros on the device."""
        return torch.zeros(shape, dtype=getattr(torch, kind), device=self._device)

    def put(self, array: NDArray[Any]) -> Tensor:
        """An array, on the device."""
        return torch.from_numpy(np.ascontiguousarray(array)).to(self._device)

    def get(self, array: Tensor) -> NDArray[Any]:
        """NumPy's array of a tensor: waits for the device."""
        found: NDArray[Any] = array.cpu().numpy()
        return found

    def decompose(self, front: Front, jobs: Tensor) -> None:
        """By torch, for the jobs that wait for it; which waits itself to see whether it has succeeded."""
        if front.residual.shape[1] <= JACOBI:
            return
        these = jobs[front.fresh[jobs]]
        if not len(these):
            return
        whole = front.whole[these]
        try:
            front.values[these], front.vectors[these] = torch.linalg.eigh(whole)
        except torch.linalg.LinAlgError:  # type: ignore[attr-defined]
            front.values[these], front.vectors[these] = map(self.put, eigh(self.get(whole)))


def _as_arrays(argument: Any) -> Any:
    """NumPy's views of tensors, also within tuples."""
    return each(lambda part: part.numpy() if isinstance(part, Tensor) else part, argument)


LOOPS = Launcher(
    neurons=lambda blocks, flags, groups: in_turn(flags, *map(_as_arrays, groups)),
    teams=lambda function, lanes, arguments: function(*arguments),
    present=_as_arrays,
    most_blocks=1,
)

"""Where the functions of :mod:`.steps` run for many jobs: where the networks are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .modes import eigh
from .steps import JACOBI, Front


def each(of: Callable[[Any], Any], argument: Any) -> Any:
    """What ``of`` makes of an argument; of a tuple, of all its parts."""
    if not isinstance(argument, tuple):
        return of(argument)
    parts = (each(of, part) for part in argument)
    return type(argument)(*parts) if hasattr(argument, "_fields") else tuple(parts)


class Launcher(NamedTuple):
    """How functions run on tensors: as kernels of a GPU, or in loops that stand for it."""

    neurons: Callable[[int, tuple[Any, ...], Sequence[Sequence[Any]]], None]
    """Starts `single.move` for all neurons: so many blocks of threads, with its flags and groups of arguments."""
    teams: Callable[[Callable[..., None], int, Sequence[Any]], None]
    """Starts a function of many jobs or rows, with teams of so many lanes, on arguments as they are presented."""
    present: Callable[[Any], Any]
    """Presents tensors, also within tuples, to the functions."""
    most_blocks: int


class Runner(Protocol):
    """Runs functions of many jobs on arrays of one kind, jobs first."""

    every: int
    """Trials between two looks of the host at what has ended."""

    def __call__(self, function: Callable[..., None], front: Front, jobs: Any, *rest: Any) -> None:
        """Runs a function of :mod:`.steps` for these rows (B,) of the front."""

    def zeros(self, shape: tuple[int, ...], kind: str) -> Any:
        """An array of zeros of a type that NumPy knows by this name."""

    def put(self, array: NDArray[Any]) -> Any:
        """NumPy's array among those of this kind."""

    def get(self, array: Any) -> NDArray[Any]:
        """NumPy's array of one of this kind: waits for all that was started."""

    def decompose(self, front: Front, jobs: Any) -> None:
        """Finds the modes of the kernels that wait for it: of more than `.steps.JACOBI` points."""


class HostRunner:
    """On the CPU, with NumPy's arrays."""

    every = 1

    def __call__(self, function: Callable[..., None], front: Front, jobs: Any, *rest: Any) -> None:
        function(front, jobs, *rest)

    def zeros(self, shape: tuple[int, ...], kind: str) -> NDArray[Any]:
        return np.zeros(shape, kind)

    def put(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def get(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def decompose(self, front: Front, jobs: NDArray[np.int64]) -> None:
        these = jobs[front.fresh[jobs]]
        if front.residual.shape[1] > JACOBI and len(these):
            front.values[these], front.vectors[these] = eigh(front.whole[these])

"""Teams of lanes: what is decided for one job is decided by a team, of one lane on a CPU, of a block of threads on a GPU.

Every lane runs the same function of the job. It takes its share of the points (:func:`mine`); what all have to know is added up
(:func:`together`), where all lanes meet: what was written before is seen by all after it. Numbers that a function reads before it meets,
and writes after, are written by one lane (:func:`first`).

Compiled for a GPU, they are those of :mod:`.kernels`.
"""

from __future__ import annotations

from numba import extending

from .compiled import compiled


def lane() -> int:
    """The number of this lane in its team."""
    return 0


def lanes() -> int:
    """How many lanes the team has."""
    return 1


def together(value: float) -> float:
    """The sum of what all lanes bring, in the order of lanes; all lanes meet here, and all get it."""
    return value


def most(value: float) -> float:
    """The largest of what all lanes bring; all lanes meet here, and all get it."""
    return value


# Numba compares the names and annotations of these with those of what they return.
extending.overload(lane, target="cpu")(lambda: lambda: 0)
extending.overload(lanes, target="cpu")(lambda: lambda: 1)
extending.overload(together, target="cpu")(lambda value: lambda value: value)
extending.overload(most, target="cpu")(lambda value: lambda value: value)


@compiled()
def mine(n: int) -> range:
    """The share of this lane in n points."""
    return range(lane(), n, lanes())


@compiled()
def meet() -> None:
    """Waits for all lanes."""
    together(0.0)


@compiled()
def first() -> bool:
    """Whether this lane writes what the team has decided."""
    return lane() == 0

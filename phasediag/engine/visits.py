"""Looks at a network on its way, at given times: within a step, at what a part of it leads to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Generic, TypeAlias, TypeVar

import numpy as np

from .flow import Network
from .networks import Array, Changes
from .steps import SETTLE_TOLERANCE, Front

Seen = TypeVar("Seen")
See: TypeAlias = Callable[[float, float, Changes], Seen]
_ROUNDING = 1e-9


class Visits(Generic[Seen]):
    """The times at which the only job of a batch is looked at, and what was seen.

    ``times``: ascending, positive, as in `networks.Moment`; ``see``: makes something of a time, the loss, and the displacements of the
    weights since the start; ``seen``: what it made of them, for each of the times that the training has reached.
    """

    def __init__(self, times: Sequence[float], see: See[Seen]) -> None:
        self._times, self._see = list(times), see
        self.begin()

    def begin(self) -> None:
        """The training begins, perhaps again."""
        self.seen: list[Seen] = []
        self._time = 0.0

    def at(self, time: float, loss: float, change: Callable[[], Changes]) -> None:
        """The network has come to this time, and is looked at if it is one of those asked for."""
        while due := self._until(time):
            self.seen.append(self._see(due, loss, change()))

    def within(self, network: Network, front: Front, accuracy: float) -> None:
        """A step was tried. If it will be taken, a copy of the network goes to the times that lie within: the network itself stays as it
        is, and so does what becomes of it."""
        get = network.runner.get
        if not get(front.fresh[:1])[0]:
            return
        before, self._time = self._time, float(get(front.time[:1])[0])
        while due := self._until(self._time):
            share = min((due - before) / (self._time - before), 1.0)
            self.seen.append(self._see(due, *_part_of_step(network, front, share, accuracy)))

    def _until(self, time: float) -> float:
        """The next of the times if it is not after this one; else 0."""
        left = self._times[len(self.seen) :]
        return left[0] if left and left[0] * (1 - _ROUNDING) <= time else 0.0


def _part_of_step(network: Network, front: Front, share: float, accuracy: float) -> tuple[float, Changes]:
    """The loss and the displacements of the weights to which this share of a step leads, which the network has tried and not yet taken."""
    run = network.runner
    copy = deepcopy(network, {id(run): run})
    impulses, lags = (_first_of(run.get(part[:1]), share) for part in (front.pieces, front.lags))
    lags *= share  # in units of a piece, which is shorter
    for repeat in range(network.passes):
        trial = copy.trial(
            run.put(np.array([repeat])),
            front.forgiven[:1],
            front.ahead[:1] * share,
            run.put(impulses),
            run.put(lags),
            SETTLE_TOLERANCE * accuracy,
        )
        if run.get(trial.unsettled)[0] <= SETTLE_TOLERANCE * accuracy:
            break
    copy.accept(run.put(np.array([True])))
    return float(np.mean(run.get(trial.residual) ** 2)) / 2, copy.change(0)


def _first_of(pieces: Array, share: float) -> Array:
    """The pieces (1, P, n) of the first share of a step, whose own pieces are these."""
    whole = np.concatenate([np.zeros_like(pieces[:, :1]), np.cumsum(pieces, axis=1)], axis=1)[0]
    ends = np.arange(len(whole))
    upto = np.stack([np.interp(share * ends, ends, one) for one in whole.T], axis=1)
    return np.diff(upto, axis=0)[None]

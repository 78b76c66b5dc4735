"""The training of a kept network, looked at on its way: in how many directions its neurons point, and a film of them.

Which moments are worth a look is known when the training is over. So the network is trained a second time, in the same steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engine import measures
from . import info
from .columns import FILM

if TYPE_CHECKING:
    from ..engine.networks import Changes, Layers, Moment

Array = NDArray[np.float64]
Sight = tuple[float, "dict[str, Look]"]
"""The loss at a moment, and what is seen of every layer of input weights."""
See = Callable[[float, float, "Changes"], Sight]
Follow = Callable[[Sequence[float], See], list[Sight]]
"""Trains the network again: what is seen at times of the flow, as far as they are reached."""

MOMENTS = 60
"""Moments at which directions are counted, but for those of the frames."""
EARLY = 1 / 30
"""Times below this fraction of the onset, or of the first step where there is none, are all alike."""
FALLEN = (0.5, 0.05)
"""Fractions of the loss of the start at which there is a frame."""
SHOWN, NUMBERS = 2000, 2**21
"""Neurons and weights of a layer in a frame, at most: of others, neurons at even distances, whose order is random."""


class Look(NamedTuple):
    """What is seen of a layer at a moment: how many directions its neurons have (see `measures.orientations`, `measures.clusters`) and,
    in a frame, the weights of those that are shown."""

    orientations: float
    clusters: int
    shown: NDArray[np.float32] | None


@dataclass(frozen=True)
class Film:
    """What is kept of the way of a network.

    Attributes:
        onset: the time at which it is predicted to begin to learn; NaN where none is.
        moments: the times at which it was looked at.
        looks: what was seen, by moment.
    """

    onset: float
    moments: list[float]
    looks: list[Sight]

    @classmethod
    def of(
        cls,
        initial: Layers,
        change: Changes,
        seed: int,
        trace: Sequence[Moment],
        onset: float,
        follow: Follow,
        tick: float = 0.0,
    ) -> Film:
        """The film of a network with these initial weights and this change, whose training had this course. ``tick``: the time between two
        steps, where it is fixed."""
        frames = _rounded(frame_times(trace, onset), tick)
        moments = _rounded([*moment_times(trace, onset), *frames], tick)

        def see(time: float, loss: float, moved: Changes) -> Sight:
            seen = {}
            for layer, start in initial.items():
                if start.ndim == 2:
                    weights = start + np.asarray(moved[layer])
                    shown = weights[_shown(weights)].astype(np.float32) if time in frames else None
                    counts = measures.orientations(weights, seed), measures.clusters(weights, seed)
                    seen[layer] = Look(*counts, shown)
            return loss, seen

        start = see(0.0, trace[0].loss, {layer: np.zeros_like(weights) for layer, weights in initial.items()})
        if len(moments) == 1:
            return cls(onset, moments, [start])
        between = follow(moments[1:-1], see) if len(moments) > 2 else []
        reached = [*moments[: 1 + len(between)], moments[-1]]
        return cls(onset, reached, [start, *between, see(moments[-1], trace[-1].loss, change)])

    def columns(self, layer: str) -> dict[str, Any]:
        """The columns of ``samples`` for a layer of input weights."""
        looks = [look[layer] for _, look in self.looks]
        frames = [(time, look.shown) for time, look in zip(self.moments, looks, strict=True)]
        times, shown = zip(*(frame for frame in frames if frame[1] is not None), strict=True)
        _, horizontals, amplitudes = info.places_of([weights.astype(np.float64) for weights in shown])
        return {
            "onset": self.onset,
            "moments": self.moments,
            "moment_loss": [loss for loss, _ in self.looks],
            "orientations": [look.orientations for look in looks],
            "clusters": [look.clusters for look in looks],
            "film_time": list(times),
            "film_orientation": [places.astype(np.float32) for places in horizontals],
            "film_amplitude": [places.astype(np.float32) for places in amplitudes],
        }


NO_FILM = FILM.blank()
"""The columns of a network that has no film."""


def frame_times(trace: Sequence[Moment], onset: float) -> list[float]:
    """The start, half of the time of the onset, the onset, when the loss has fallen to the fractions of `FALLEN`, and the end."""
    time, loss = (np.array([getattr(moment, name) for moment in trace]) for name in ("time", "loss"))
    fallen = [_when_below(time, loss, share * loss[0]) for share in FALLEN]
    found = [0.0, onset / 2, onset, *fallen, time[-1]]
    return sorted(float(one) for one in found if 0 <= one <= time[-1])


def moment_times(trace: Sequence[Moment], onset: float) -> list[float]:
    """Up to `MOMENTS` times from the start to the end: evenly over the logarithms of time, loss and relative change together."""
    time, loss = (np.array([getattr(moment, name) for moment in trace]) for name in ("time", "loss"))
    if len(time) < 2:
        return [float(time[0])]
    early = min(EARLY * (onset if onset > 0 else time[1]), time[-1])
    grid = np.union1d(time, np.minimum(np.geomspace(early, time[-1], MOMENTS), time[-1]))
    progress = [np.log1p(grid / early), -_logarithm(np.interp(grid, time, np.minimum.accumulate(loss)))]
    for layer in trace[0].moved:
        moved = np.maximum.accumulate([moment.moved[layer] for moment in trace])
        then = np.interp(grid, time, moved)
        first = max(then[np.searchsorted(grid, early)], _LITTLE * then[-1], _TINY)
        progress.append(np.log1p(then / first))
    total = sum((part - part[0]) / max(part[-1] - part[0], _TINY) for part in progress)
    return list(map(float, np.interp(np.linspace(0, total[-1], MOMENTS), total, grid)))


_TINY, _LITTLE = 1e-300, 1e-9


def _logarithm(values: Array) -> Array:
    return np.asarray(np.log(np.maximum(values, _TINY)))


def _when_below(time: Array, loss: Array, value: float) -> float:
    """When the loss first is at most so much, its logarithm taken to fall evenly within a step; NaN if it never is."""
    (below,) = np.nonzero(loss <= value)
    if not len(below) or below[0] == 0:
        return float("nan")
    before, after = (_logarithm(loss[at]) for at in (below[0] - 1, below[0]))
    share = (before - _logarithm(np.array(value))) / (before - after)
    return float(time[below[0] - 1] + share * (time[below[0]] - time[below[0] - 1]))


def _rounded(times: Sequence[float], tick: float) -> list[float]:
    """In ascending order, each once."""
    return sorted({round(time / tick) * tick if tick else time for time in times})


def _shown(weights: NDArray[np.floating]) -> NDArray[np.int64]:
    most = min(len(weights), SHOWN, max(1, NUMBERS // weights.shape[1]))
    return np.unique(np.linspace(0, len(weights) - 1, most).astype(np.int64))

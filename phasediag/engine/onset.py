"""When a network begins to learn: the time at which its loss would have fallen by a tenth, were the residual what it is at the start.

As long as the output has changed little, the residual e is that of the start, and the neurons of two layers know nothing of each other.
Each follows an equation of its own (Maennel et al. 2018, arXiv 1803.08367; here in the units of :mod:`.networks`):

    da/dt = -(kappa c_a / n) sum_i e_i relu(w . x_i),        dw/dt = -(kappa c_1 / n) a sum_i e_i 1[w . x_i > 0] x_i .

It turns to where the force is largest, and grows there like exp(lambda t), with

    lambda = kappa sqrt(c_a c_1) |sum_i e_i 1[w . x_i > 0] x_i| / n .

The output grows like exp(2 lambda t), and ends the time in which all this holds. Nothing is fitted: initial weights and data tell it all.
In more layers one drives the other, and there is no formula; the flow under the residual of the start is followed all the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from .networks import MAX_ROTATION, Array
from .steps import FIRST_STEP, GROW, SAFETY, SETTLE_TOLERANCE, SHRINK

if TYPE_CHECKING:
    from .flow import Network

SHARE = 0.1
"""By how much of the loss of the start it has fallen at the onset."""
RESOLUTION = 0.01
"""Length of the step in which the onset lies, relative to its time; within it, the loss falls evenly."""
MOST = 5000
"""Steps that are tried, at most."""


def onset(network: Network, accuracy: float) -> float:
    """The time, as in `networks.Moment`, at which the loss of the only network of a batch, under the residual of the start, has fallen by
    the share `SHARE`; NaN where it never does, or nothing moves. The network is left where that is."""
    run = network.runner
    begun = network.begin()
    start, largest = (
        run.get(begun.residual),
        float(np.linalg.eigvalsh(run.get(begun.kernels).sum(axis=1))[0, -1]),
    )
    whole = before = _loss(start)
    time, step, last, passes = 0.0, FIRST_STEP / largest if largest > 0 else math.nan, math.inf, 0
    if not math.isfinite(whole * step):
        return math.nan
    pull = np.repeat(start[:, None] / network.pieces, network.pieces, axis=1)
    for _ in range(MOST):
        trial = network.trial(
            run.put(np.array([passes])),
            run.put(np.array([False])),
            run.put(np.array([min(step / last, 2.0)])),
            run.put(step * pull),
            run.put(np.zeros_like(pull)),
            SETTLE_TOLERANCE * accuracy,
        )
        rotation, unsettled = (float(run.get(part)[0]) for part in (trial.rotation, trial.unsettled))
        residual, unsettled = run.get(trial.residual), unsettled / (SETTLE_TOLERANCE * accuracy)
        after = _loss(residual)
        sane = rotation < MAX_ROTATION and math.isfinite(after) and math.isfinite(unsettled)
        passes = passes + 1 if sane and unsettled > 1 and passes + 1 < network.passes else 0
        if passes:
            continue
        if not sane:
            step *= SHRINK
        elif unsettled > 1:
            step *= max(SAFETY * unsettled**-0.5, SHRINK)
        elif after > (1 - SHARE) * whole and _loss(residual - start) < SHARE * whole:
            network.accept(run.put(np.array([True])))
            time, before, last = time + step, after, step
            step *= min(SAFETY * max(unsettled, 1e-9) ** -0.5, GROW)
        elif step > RESOLUTION * time:
            step /= 2
        else:
            fallen = (before - (1 - SHARE) * whole) / (before - after) if after < before else math.nan
            return time + fallen * step
    return math.nan


def _loss(residual: Array) -> float:
    return float(np.mean(residual**2)) / 2

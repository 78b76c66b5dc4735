"""What training a network of a condensation study costs, predicted. Measured on one core; no result depends on it."""

from __future__ import annotations

from collections.abc import Sequence

from ..costs import Cost
from .jobs import Job
from .spec import TrainSpec

# Seconds of an evaluation, forward and backward: per point and neuron; per point and weight; and what a batch shares.
_NEURON, _WEIGHT, _SHARED = 25e-9, 1.2e-9, 300e-6
# Seconds to measure a layer at a snapshot: per pair of neurons, and to climb to where directions are predicted.
_PAIR, _CLIMB = 0.3e-6, 30e-3
# The gradient flow ends by its limit, or after so many evaluations.
_FLOW_EVALUATIONS = 3000
_ARRAYS = 30


def cost_of(job: Job, hidden: Sequence[int], points: int, train: TrainSpec) -> Cost:
    """What a job on so many points takes."""
    evaluations = train.epochs + 1
    if train.method == "gradient-flow":
        evaluations = min(train.max_evaluations, _FLOW_EVALUATIONS)
    below = [job.dimension, *hidden[:-1]]
    neurons, weights = sum(hidden), sum(k * m for k, m in zip(below, hidden, strict=True))
    snapshots = len(train.snapshots or ())
    measuring = snapshots * sum(_PAIR * width**2 + _CLIMB for width in hidden)
    itemsize = 1.0 if train.dtype == "float64" else 0.5
    seconds = evaluations * itemsize * points * (_NEURON * neurons + _WEIGHT * weights) + measuring
    shared = evaluations * _SHARED * len(hidden)
    numbers = _ARRAYS * points * (neurons + job.dimension) + 8 * weights
    return Cost((job.dimension,), seconds, shared, numbers)

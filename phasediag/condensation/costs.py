"""The predicted cost of training a network of a condensation study. Measured on one core; no result depends on it."""

from __future__ import annotations

from collections.abc import Sequence

from ..devices import SPEED
from ..studies import Cost
from .directions import CLIMB_STEPS, climb_starts
from .jobs import Job
from .spec import TrainSpec

# Seconds of an evaluation, forward and backward: per point and neuron; per point and weight; and what a batch shares.
_NEURON, _WEIGHT, _SHARED = 25e-9, 1.2e-9, 300e-6
# Seconds to measure a layer at a snapshot: per pair of neurons; and for predicted directions, per step of a climb, start and point, and per
# coordinate of these.
_PAIR, _CLIMB_POINT, _CLIMB_COORDINATE = 0.3e-6, 3e-9, 0.12e-9
# Where there is nothing to climb. Of any other activation, which may have to, planning assumes the longest climb: it goes without torch.
_NO_CLIMB = ("tanh", "sigmoid", "softplus")
# The gradient flow ends by its limit, or after so many evaluations.
_FLOW_EVALUATIONS = 3000
_ARRAYS = 30


def cost_of(job: Job, hidden: Sequence[int], points: int, train: TrainSpec, device: str = "cpu") -> Cost:
    """What a job on so many points takes on a kind of device."""
    evaluations = train.epochs + 1
    if train.method == "gradient-flow":
        evaluations = min(train.max_evaluations, _FLOW_EVALUATIONS)
    below = [job.dimension, *hidden[:-1]]
    neurons, weights = sum(hidden), sum(k * m for k, m in zip(below, hidden, strict=True))
    snapshots = len(train.snapshots or ())
    climbs = 2 if train.method == "adam" else 1
    measuring = snapshots * sum(
        _PAIR * width**2 + climbs * _climb_seconds(name, points, k + 1)
        for name, k, width in zip(job.activations, below, hidden, strict=True)
    )
    itemsize = 1.0 if train.dtype == "float64" else 0.5
    training = evaluations * itemsize * points * (_NEURON * neurons + _WEIGHT * weights)
    seconds = training / SPEED[device] + measuring
    shared = evaluations * _SHARED * len(hidden)
    numbers = _ARRAYS * points * (neurons + job.dimension) + 8 * weights
    most = train.max_evaluations if train.method == "gradient-flow" else evaluations
    worst = (seconds + shared) * max(most / evaluations, 1.0)
    return Cost((job.dimension,), seconds, shared, numbers, worst)


def _climb_seconds(activation: str, points: int, coordinates: int) -> float:
    """What it takes to find the directions that are predicted for a layer at a snapshot."""
    if activation in _NO_CLIMB:
        return 0.0
    coordinates = min(points, coordinates)
    work = CLIMB_STEPS * climb_starts(points * coordinates) * points
    return work * (_CLIMB_POINT + _CLIMB_COORDINATE * coordinates)


def card_bytes(inputs: int, hidden: Sequence[int], points: int, itemsize: int) -> int:
    """Memory of a GPU that a network in training takes, at most, with numbers of that size: arrays of the size of its neurons for every
    point, and of its weights."""
    weights = sum((k + 1) * m for k, m in zip([inputs, *hidden], hidden, strict=False))
    return itemsize * (10 * points * sum(hidden) + 18 * (weights + hidden[-1]))

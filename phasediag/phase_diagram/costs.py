"""The predicted cost of training a network of a phase diagram.

The model only shapes the batches, orders them and predicts the time of a sweep; no result depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ..devices import SPEED
from ..studies import Cost
from .jobs import Job
from .theory import LAYERS, critical_gamma


@dataclass(frozen=True, slots=True)
class _Engine:
    """What training costs, measured on one core.

    Evaluations (forward and backward passes) of a job on four points are few where the features of the first layer hardly move and grow
    across its critical line (``crossover``: from where to where, in gamma beyond it), and with a power of the number of points. In
    networks of several hidden layers they go on growing beyond the line (per unit of gamma), with the logarithm of the width, with the
    depth, and with a power of the accuracy; those given are at an accuracy of 0.01. An evaluation takes seconds per neuron and point;
    per neuron and pair of points; per neuron, point and input; per weight between hidden layers and point; per cubed number of points
    (the eigendecomposition of the kernel); and some however small the network is. All jobs of a batch share what a pass over the batch
    takes however small it is.
    """

    evaluations_linear: float
    evaluations_condensed: float
    evaluations_power: float
    crossover: tuple[float, float]
    point: float
    evaluations_beyond: float = 0.0
    accuracy_power: float = 0.0
    pair: float = 0.0
    column: float = 0.0
    weight: float = 0.0
    small: float = 0.0
    shared: float = 50e-6
    decomposition: float = 0.25e-9

    def evaluations(self, job: Job, points: int, accuracy: float) -> float:
        start, end = self.crossover
        beyond = job.gamma - critical_gamma(LAYERS[job.depth][0], job.depth, job.gamma_prime, job.gamma_1)
        share = min(max((beyond - start) / (end - start), 0.0), 1.0)
        many = self.evaluations_condensed + self.evaluations_beyond * max(beyond, 0.0) * _wider(job)
        few = self.evaluations_linear + (many - self.evaluations_linear) * share
        few *= (0.01 / accuracy) ** self.accuracy_power * (job.depth - 1) / min(job.depth - 1, 2)
        return float(few * (max(points, 4) / 4) ** self.evaluations_power)

    def seconds(self, job: Job, points: int, inputs: int) -> float:
        """Seconds that one evaluation of a job takes."""
        neuron = points * (self.point + self.pair * points + self.column * inputs)
        weights, hidden = (job.depth - 2) * job.neurons * points * self.weight, job.depth - 1
        passes = job.neurons * (hidden * neuron + weights) * (_DOUBLE if job.mass > 1 else 1.0)
        return passes + self.decomposition * points**3 + self.small


def _wider(job: Job) -> float:
    """How evaluations grow with the width: the logarithm of it is how often an initialisation out of which all grows has to double."""
    return 0.12 + 0.11 * math.log10(job.width)


_DOUBLE = 2.0
"""What neurons that stand for others take, in float64, in units of what they take in float32."""
_TWO_LAYERS = _Engine(10.0, 50.0, 0.35, (-0.6, 0.2), point=15e-9, pair=1.0e-9, small=25e-6)
_DEEPER = _Engine(
    20.0,
    60.0,
    0.1,
    (-0.5, 0.0),
    point=50e-9,
    evaluations_beyond=750.0,
    accuracy_power=0.45,
    pair=1.5e-9,
    weight=0.12e-9,
    small=25e-6,
)
# A fixed step: the evaluations are not known, but for their limit.
_DESCENT = _Engine(
    0.0,
    0.0,
    0.0,
    (0.0, 1.0),
    point=45e-9,
    column=0.07e-9,
    weight=0.1e-9,
    shared=1e-3,
    decomposition=0.0,
)

# A GPU: from data sheets of an H100, and counts of what a trial starts and reads. `python -m benchmarks.gpu` prints beside it what it
# measures. A trial starts some 220 operations for every hidden layer, 6 us each, whatever the batch. It reads and writes some 200 numbers
# for every neuron and point, and every weight three times, at 2 TB/s.
_CARD_LAYER, _CARD_POINT, _CARD_WEIGHT, _CARD_MOVE, _CARD_CUBE = (
    220 * 6e-6,
    200 * 4 / 2e12,
    3 * 4 / 2e12,
    1e-9,
    5e-11,
)

_NEAR = 0.1
"""How far from a critical line, in gamma, refinement places points, about."""

# Arrays of every size that the training keeps at one time.
_ARRAYS_PER_WEIGHT = 4
_ARRAYS_PER_ACTIVATION = 12


def cost_of(
    job: Job,
    points: int,
    inputs: int,
    limit: int,
    max_evaluations: int | None = None,
    device: str = "cpu",
    accuracy: float = 0.01,
) -> Cost:
    """What a job on so many points of so many inputs takes on a kind of device, at most ``limit`` evaluations; the other arguments are
    those of `predicted_seconds`."""
    evaluations = predicted_evaluations(job, points, max_evaluations, accuracy)
    weights = inputs + 2 + (job.depth - 2) * job.neurons
    activations = (job.depth - 1) * points
    numbers = job.neurons * (_ARRAYS_PER_WEIGHT * weights + _ARRAYS_PER_ACTIVATION * activations)
    seconds = predicted_seconds(job, points, inputs, max_evaluations, accuracy)
    shared = evaluations * _engine(job, max_evaluations).shared
    if device == "cuda" and max_evaluations is None:
        seconds, shared = (
            evaluations * _card_seconds(job, points),
            evaluations * _CARD_LAYER * (job.depth - 1),
        )
        numbers = card_bytes(job, points, 4) // 8
    elif device == "cuda":
        seconds /= SPEED["cuda"]
    worst = (seconds + shared) * max(limit / evaluations, 1.0)
    return Cost((job.depth, job.neurons, job.mass > 1), seconds, shared, numbers, worst)


def predicted_evaluations(
    job: Job, points: int, max_evaluations: int | None = None, accuracy: float = 0.01
) -> float:
    """Forward and backward passes of a job on so many points: they grow from the linear to the condensed regime.

    Those of a method with a fixed step depend on the step: what is known of them is their limit, `max_evaluations`.
    """
    if max_evaluations is not None:
        return float(max_evaluations)
    return _engine(job).evaluations(job, points, accuracy)


def predicted_seconds(
    job: Job, points: int, inputs: int, max_evaluations: int | None = None, accuracy: float = 0.01
) -> float:
    """Seconds that a job will take on one core, without the overhead that its batch shares.

    Args:
        job: the job.
        points: number n of training points.
        inputs: number d of inputs.
        max_evaluations: evaluations after which a method with a fixed step ends, None for the gradient flow.
        accuracy: of the gradient flow.
    """
    evaluations = predicted_evaluations(job, points, max_evaluations, accuracy)
    return evaluations * _engine(job, max_evaluations).seconds(job, points, inputs)


def _engine(job: Job, max_evaluations: int | None = None) -> _Engine:
    if max_evaluations is not None:
        return _DESCENT
    return _TWO_LAYERS if job.depth == 2 else _DEEPER


def _card_seconds(job: Job, points: int) -> float:
    """What a trial of a job adds to that of its batch on a GPU."""
    hidden, neurons = job.depth - 1, job.neurons
    rows = hidden * neurons * points * (_CARD_POINT + _CARD_MOVE) * (_DOUBLE if job.mass > 1 else 1.0)
    return rows + (hidden - 1) * neurons**2 * _CARD_WEIGHT + _CARD_CUBE * points**3


CARD_BYTES = 2**30
"""Most memory of a GPU that a batch takes beside its jobs and their initial matrices: the room of the threads that run at a time."""


def card_bytes(job: Job, points: int, itemsize: int) -> int:
    """Memory of a GPU that a job in training takes, on so many points, with numbers of that size: at most, beside what its batch shares.

    Rows of all neurons for every point, the change of every matrix, and the kernels.
    """
    hidden, neurons = job.depth - 1, job.neurons
    rows, matrices = 28 * hidden * neurons * points, (hidden - 1) * neurons * (neurons + 1)
    return itemsize * (rows + matrices) + 8 * (points**2 * 8 * (job.depth + 1) + 200 * points)


def seconds_near_lines(jobs: Sequence[Job], cost: Callable[[Job], Cost]) -> float:
    """Predicted seconds of a job where refinement places them: the mean over these jobs, by their closeness to a predicted line."""
    near = [_closeness(job) for job in jobs]
    return sum(w * cost(job).seconds for w, job in zip(near, jobs, strict=True)) / sum(near)


def _closeness(job: Job) -> float:
    lines = [
        critical_gamma(layer, job.depth, job.gamma_prime, job.gamma_1) for layer in LAYERS[job.depth][:-1]
    ]
    return sum(math.exp(-abs(job.gamma - line) / _NEAR) for line in lines)

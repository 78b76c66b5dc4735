"""The predicted cost of training a torch module.

The model only shapes the batches, orders them and predicts the time of a sweep; no result depends on it.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..studies import Cost
from .jobs import Job
from .spec import TrainSpec

_FLOPS = 5e9
"""Operations per second of one core on matrices this small, measured on the examples."""
_STEP = 3e-4
"""Seconds that a step takes however small the networks are."""
_SHARE = 0.3
"""The share of the epochs that networks take in the mean: many converge before."""
_ARRAYS = 10
"""Arrays of the size of the weights, or of the gradients of all points, that training and measuring keep."""
_KERNEL_POINTS = 32


def cost_of(job: Job, shape: tuple[int, ...], train: TrainSpec, sizes: Mapping[int, int]) -> Cost:
    """What a job takes, on data of this shape (n, d), with so many weights by width."""
    points, inputs = shape
    weights = sizes.get(job.width) or _guess(job.width, inputs, sizes)
    steps = train.epochs * (1 if train.method == "gd" else -(-points // train.batch_size))
    worst = steps * _STEP + train.epochs * 6.0 * weights * points / _FLOPS
    numbers = _ARRAYS * weights + _KERNEL_POINTS * weights + points * inputs
    return Cost((job.width,), _SHARE * worst, _SHARE * steps * _STEP, numbers, worst)


def _guess(width: int, inputs: int, sizes: Mapping[int, int]) -> int:
    """Weights at a width that was not looked at: they grow at most like its square."""
    if not sizes:
        return width * (width + inputs)
    nearest = min(sizes, key=lambda known: abs(known - width))
    return max(1, round(sizes[nearest] * (width / nearest) ** 2))

"""What trained networks are as functions: on a grid, and on test points beside the networks that are linearised at the start."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..engine import functions
from ..engine.measures import ratio
from ..engine.networks import Initialisation
from .theory import LAYERS

if TYPE_CHECKING:
    from ..engine.networks import Changes, Course
    from .jobs import Job

Array = NDArray[np.float64]
Weights = Mapping[str, NDArray[np.floating]]
NOTHING = {"test_loss": math.nan, "test_error": math.nan, "linear_gap_test": math.nan}
"""What is measured where there are no test points."""


class HeldOut(NamedTuple):
    """Test points x (k, d), y (k,)."""

    x: Array
    y: Array


def initialisation(job: Job) -> Initialisation:
    """What tells a network from others of its depth and data."""
    return Initialisation(job.width, job.gamma, job.gamma_prime, job.gamma_1, job.seed)


def acting(weights: NDArray[np.floating], job: Job, layer: str) -> NDArray[np.floating]:
    """A layer, or its change, as it acts on simulated neurons that stand for others, in units of the root of ``mass``: between hidden
    layers, a random matrix acts like that root, a change that training has made coherent like ``mass``."""
    if layer in ("W1", "a") or job.mass == 1:
        return weights
    units = np.full(job.neurons + 1, math.sqrt(job.mass))
    units[-1] = 1.0  # biases
    found: NDArray[np.floating] = weights * units
    return found


def function(job: Job, initial: Weights, change: Changes, x: Array) -> Array:
    """f at points x (k, d) of the network whose weights have changed by so much since the start."""
    layers = LAYERS[job.depth]
    start = [initial[layer].astype(np.float64) for layer in layers]
    before = _outputs(job, start, x)
    return _of_start(job, before, _outputs(job, _changed(job, start, change), x))


def _changed(job: Job, start: Sequence[Array], change: Changes) -> list[Array]:
    """The weights after training, as they act."""
    layers = LAYERS[job.depth]
    return [
        weights + acting(np.asarray(change[layer]), job, layer)
        for layer, weights in zip(layers, start, strict=True)
    ]


def _outputs(job: Job, weights: Sequence[Array], x: Array) -> Array:
    with np.errstate(all="ignore"):  # a network that diverges
        blocks = list(functions.outputs(weights, x, math.sqrt(job.mass)))
    return np.concatenate([np.empty(0), *blocks])


def _of_start(job: Job, before: Array, after: Array) -> Array:
    """f where the sum over the neurons was so much at the start and is so much now: what training has made coherent counts more."""
    f: Array = float(job.width) ** -job.gamma * (before + math.sqrt(job.mass) * (after - before))
    return f


class _Start(NamedTuple):
    """A network at its start, on held-out points: the sum over its neurons (k,), and products (k, n) of gradients with those on data, by
    layer."""

    outputs: Array
    products: list[Array]


class Predictions:
    """Looks at trained networks on held-out points. What many have in common, their start, is computed once.

    Args:
        x: data (n, d).
        points: the held-out points.
        device: where to compute.
    """

    def __init__(self, x: Array, points: HeldOut, device: str) -> None:
        self._x, self._points, self._device = x, points, device
        self._starts: dict[tuple[object, ...], _Start] = {}

    def look(
        self, job: Job, initial: Weights, change: Changes, outputs: Array, course: Course
    ) -> Mapping[str, float]:
        """Loss, error and linear gap of a trained network; ``outputs``: the sums over its neurons, where they are known already."""
        start = self._start(job, initial)
        if not len(outputs):
            layers = [initial[layer].astype(np.float64) for layer in LAYERS[job.depth]]
            outputs = _outputs(job, _changed(job, layers, change), self._points.x)
        with np.errstate(all="ignore"):
            before, f = (_of_start(job, start.outputs, now) for now in (start.outputs, outputs))
            rates = initialisation(job).rates(job.depth)
            scale = float(job.width) ** (-2 * job.gamma) / len(self._x)
            linear = before - scale * sum(
                float(job.width) ** rate * (products @ course.impulse)
                for rate, products in zip(rates, start.products, strict=True)
            )
            square, whole = (float(np.sum(np.square(part))) for part in (f - self._points.y, self._points.y))
            gap = ratio(float(np.linalg.norm(linear - f)), float(np.linalg.norm(f - before)))
        found = square / (2 * len(f)), math.sqrt(ratio(square, whole)), gap
        return dict(
            zip(NOTHING, (value if math.isfinite(value) else math.nan for value in found), strict=True)
        )

    def _start(self, job: Job, initial: Weights) -> _Start:
        drawn = job.depth, job.width, job.neurons, job.seed
        if drawn not in self._starts:
            put, get = _on(self._device)
            weights = [put(initial[layer].astype(np.float64)) for layer in LAYERS[job.depth]]
            blocks = functions.products(weights, put(self._points.x), put(self._x), math.sqrt(job.mass))
            outputs, products = zip(
                *[(get(f), [get(layer) for layer in by]) for f, by in blocks], strict=True
            )
            self._starts[drawn] = _Start(
                np.concatenate(outputs), [np.concatenate(parts) for parts in zip(*products, strict=True)]
            )
        return self._starts[drawn]


def _on(device: str) -> tuple[Callable[[Array], Any], Callable[[Any], Array]]:
    """How arrays come to a device, and from there."""
    if device == "cpu":
        return (lambda array: array), (lambda array: array)
    import torch

    return (lambda array: torch.tensor(array, device=device)), (lambda tensor: tensor.cpu().numpy())

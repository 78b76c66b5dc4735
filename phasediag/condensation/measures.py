"""What is measured on one network at a snapshot, and what leading order predicts for it. Arrays in, numbers out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..engine import measures
from . import activations
from .clusters import NARROW, WIDE, WITHIN, Directions, alignment
from .directions import Leading, flow_directions, sign_directions
from .jobs import Names

Array = NDArray[np.float64]
Curve = tuple[Array, Array]
"""A fine grid over the data of one input, and f on it; empty for more inputs."""

DIVERGED = 1e6
"""A loss that has grown by this factor has diverged."""
_LARGEST = float(np.finfo(np.float32).max)
FIELD_POINTS, FIELD_MARGIN = 21, 1.3
"""Places along an axis at which the direction field is kept, and how far beyond the largest weight."""


@dataclass(frozen=True)
class Seen:
    """A network at a snapshot.

    Attributes:
        activations: one for each hidden layer.
        skips: whether there are skip connections between hidden layers.
        weights: W_1 ... W_L (m, k), the bias last, and a (m,).
        received: what each hidden layer receives, (n, k) with the constant 1 last.
        residual: e (n,).
        curve: f on a fine grid.
    """

    activations: Names
    skips: bool
    weights: Sequence[Array]
    received: Sequence[Array]
    residual: Array
    curve: Curve

    @property
    def loss(self) -> float:
        """1/n sum_i e_i^2; may be infinite, or NaN."""
        with np.errstate(over="ignore", invalid="ignore"):
            return float(np.mean(np.square(self.residual)))

    def has_diverged(self, initial_loss: float) -> bool:
        """Whether the loss is not finite, or a million times as large as at the start, or a weight too large to be stored."""
        largest = max(float(np.abs(part).max()) for part in self.weights)
        sane = self.loss <= DIVERGED * initial_loss and largest <= _LARGEST  # NaN is not
        return not (sane and math.isfinite(self.loss))


@dataclass(frozen=True)
class Predicted:
    """Where leading order sends the neurons of a layer: unit vectors (q, k), none where nothing is predicted.

    Attributes:
        leading: the leading term of the activation.
        flow: for steps along the gradient.
        sign: for steps along the sign of the gradient.
    """

    leading: Leading
    flow: Array
    sign: Array

    def agreement(self, directions: Directions, by_sign: bool = False) -> tuple[float, float]:
        """Mean cosine between an active neuron and the nearest direction, and the share of neurons within 10 degrees of one."""
        there = self.sign if by_sign else self.flow
        return alignment(directions.units, there, lines=self.leading.even_or_odd)

    def lines_near(self, directions: Directions, by_sign: bool = False) -> float:
        """How many of the lines have their centre within 10 degrees of a direction; NaN where nothing is predicted."""
        there = self.sign if by_sign else self.flow
        if not len(there):
            return math.nan
        centres = directions.centres()
        return float(np.any(np.abs(centres @ there.T) >= math.cos(math.radians(WITHIN)), axis=1).sum())


def predict(seen: Seen, layer: int, by_sign: bool) -> Predicted:
    """The directions that leading order predicts for a hidden layer (0, 1, ...), from the residual as it is.

    They need the residual to reach the layer unchanged, up to a factor for each neuron: it does where all later layers are of
    multiplicity 1, and where skip connections pass them by. ``by_sign``: also for steps along the sign of the gradient.
    """
    received, leading = seen.received[layer], leading_term(seen.activations[layer])
    nothing = np.empty((0, received.shape[1]))
    later = {activations.multiplicity(name) for name in seen.activations[layer + 1 :]}
    if leading is None or not (seen.skips or later <= {1}):
        return Predicted(leading or Leading(1), nothing, nothing)
    return Predicted(
        leading,
        flow_directions(received, seen.residual, leading),
        sign_directions(received, seen.residual, leading) if by_sign else nothing,
    )


def leading_term(name: str) -> Leading | None:
    """The leading term of an activation at 0; None for one that is flat there."""
    power = activations.multiplicity(name)
    if power:
        return Leading(power)
    right, left = activations.one_sided_slopes(name)
    return Leading(0, right, left) if abs(right - left) > 1e-6 else None


def measure(seen: Seen, layer: int, predicted: Predicted, initial: Predicted, seed: int) -> dict[str, float]:
    """All measures of a hidden layer, as declared in `MEASURES` of the columns.

    Args:
        seen: the network.
        layer: which of its layers, 0, 1, ...
        predicted: from the residual as it is.
        initial: from that at the start of the training.
        seed: of the job, for what is measured on a random part of the neurons.
    """
    weights = seen.weights[layer]
    directions = Directions.of(weights)
    near, share = predicted.agreement(directions)
    near_initial, share_initial = initial.agreement(directions)
    _, sign_share = predicted.agreement(directions, by_sign=True)
    _, sign_share_initial = initial.agreement(directions, by_sign=True)
    return {
        "loss": seen.loss,
        "active_neurons": float(len(directions.units)),
        "lines": float(directions.count_lines()),
        "orientations": float(directions.count_orientations()),
        "aligned_fraction": directions.aligned_fraction(),
        "lines_narrow": float(directions.count_lines(NARROW)),
        "lines_wide": float(directions.count_lines(WIDE)),
        "effective_orientations": measures.orientations(weights, seed),
        "predicted_alignment": near,
        "predicted_fraction": share,
        "predicted_alignment_initial": near_initial,
        "predicted_fraction_initial": share_initial,
        "predicted_lines": float(len(predicted.flow) or math.nan),
        "lines_near_predicted": predicted.lines_near(directions),
        "sign_lines": float(len(predicted.sign) or math.nan),
        "lines_near_sign": predicted.lines_near(directions, by_sign=True),
        "sign_fraction": sign_share,
        "sign_fraction_initial": sign_share_initial,
        "largest_weight": float(np.linalg.norm(weights, axis=1).max()),
        "polynomial_misfit": polynomial_misfit(seen),
    }


def polynomial_misfit(seen: Seen) -> float:
    """The largest deviation of f from its best polynomial of degree p, relative to the range of f.

    With one hidden layer of small weights, f is a sum of a_k (w_k x + b_k)^p. NaN for more layers or inputs, or without p.
    """
    grid, f = seen.curve
    degree = activations.multiplicity(seen.activations[0])
    spread = float(np.ptp(f)) if len(f) else 0.0
    if len(seen.activations) > 1 or not degree or spread == 0.0:
        return math.nan
    polynomial = np.polynomial.Polynomial.fit(grid, f, degree)
    return float(np.abs(f - polynomial(grid)).max()) / spread


def direction_field(seen: Seen) -> tuple[NDArray[Any], NDArray[Any]]:
    """Places (q, 2) in the plane of a weight and its bias, and -1/n sum_i e_i x_i s'(w . x_i) there (physics.md, "Initial
    condensation"); empty for more inputs, or layers."""
    inputs = seen.received[0]
    if inputs.shape[1] != 2 or len(seen.activations) > 1:
        return np.empty((0, 2)), np.empty((0, 2))
    import torch

    reach = FIELD_MARGIN * float(np.abs(seen.weights[0]).max())
    axis = np.linspace(-reach, reach, FIELD_POINTS)
    places = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    with torch.enable_grad():
        z = torch.from_numpy(places @ inputs.T).requires_grad_()
        [slope] = torch.autograd.grad(activations.activation(seen.activations[0])(z).sum(), z)
    return places, -(slope.numpy() * seen.residual) @ inputs / len(inputs)

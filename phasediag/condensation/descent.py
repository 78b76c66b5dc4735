"""Training with fixed steps, one per epoch: full-batch gradient descent, normalised gradient descent, and Adam.

With the gradient g of R = 1/n sum_i e_i^2 and the learning rate eta,

``gd``             theta <- theta - eta g.
``normalized-gd``  every neuron moves by the length eta along its own part of -g. This part belongs to its input weight, and in the last
                   hidden layer to its output weight as well. Directions agree with gradient descent. Speeds are equal, so that no neuron
                   outgrows the others long before these have turned.
``adam``           Adam (Kingma and Ba, ICLR 2015; 0.9, 0.999, 1e-8).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from ..engine.descent import BETA_1, BETA_2, EPSILON
from .networks import Networks, Parameters


class Snapshot(NamedTuple):
    """Where some jobs of a batch are at an epoch.

    Attributes:
        epoch: the epoch.
        jobs: which jobs of the batch, and which of `networks` these are.
        networks: the networks in training, all or some of them.
        parameters: of all `networks`.
        residual: of all `networks`, (B, n).
    """

    epoch: int
    jobs: Sequence[tuple[int, int]]
    networks: Networks
    parameters: Parameters
    residual: Tensor


Observe = Callable[[Snapshot], None]
"""Called with every snapshot of every job, in the order of epochs."""
Losses = list[tuple[list[float], list[float]]]
"""Epochs and losses of every job along the way, as they are added."""


@dataclass(frozen=True)
class Schedule:
    """How long to train, and when to look.

    Attributes:
        epochs: number of epochs.
        snapshots: epochs to be observed, ascending, from 0 to the last one.
        rates: learning rate of every job.
    """

    epochs: int
    snapshots: Sequence[int]
    rates: Sequence[float]


class _Adam:
    """The state of Adam."""

    def __init__(self, parameters: Parameters) -> None:
        self._first = [torch.zeros_like(part) for part in parameters]
        self._second = [torch.zeros_like(part) for part in parameters]

    def steps(self, gradient: Parameters, count: int) -> Parameters:
        """The ``count``-th step of every parameter, in units of the learning rate."""
        steps = []
        for part, first, second in zip(gradient, self._first, self._second, strict=True):
            first.mul_(BETA_1).add_((1 - BETA_1) * part)
            second.mul_(BETA_2).add_((1 - BETA_2) * (part * part))
            spread = torch.sqrt(second).div_((1 - BETA_2**count) ** 0.5).add_(EPSILON)
            steps.append((first / (1 - BETA_1**count)).div_(spread))
        return steps


def descend(
    networks: Networks, method: str, schedule: Schedule, observe: Observe, losses: Losses | None = None
) -> None:
    """Trains every job for all epochs; nothing stops a job that diverges, which its snapshots show."""
    parameters = [part.clone() for part in networks.start]
    rates = torch.tensor(schedule.rates, dtype=networks.x.dtype, device=networks.x.device)[:, None, None]
    adam = _Adam(parameters) if method == "adam" else None
    watched = set(schedule.snapshots)
    everyone = [(job, job) for job in range(len(networks))]
    for epoch in range(schedule.epochs + 1):
        residual, gradient = networks.gradient(parameters)
        if losses is not None:
            _note(losses, epoch, residual)
        if epoch in watched:
            observe(Snapshot(epoch, everyone, networks, parameters, residual))
        if epoch == schedule.epochs:
            return
        if adam is not None:
            gradient = adam.steps(gradient, epoch + 1)
        elif method == "normalized-gd":
            gradient = normalised(gradient)
        for part, step in zip(parameters, gradient, strict=True):
            part.sub_(rates * step)


def normalised(gradient: Parameters) -> Parameters:
    """The gradient with the part of every neuron at length one, or zero."""
    *below, last, output = gradient
    both = torch.cat([last, output.transpose(1, 2)], dim=1)
    *layers, joint = [_at_length_one(part) for part in [*below, both]]
    return [*layers, joint[:, :-1], joint[:, -1:].transpose(1, 2)]


def losses_of(residual: Tensor) -> list[float]:
    """R = 1/n sum_i e_i^2 of every job, from the residuals (B, n)."""
    values: list[float] = residual.double().square().mean(dim=1).tolist()
    return values


def _at_length_one(part: Tensor) -> Tensor:
    """The columns of (B, k, m) at length one, or zero."""
    largest = part.abs().amax(dim=1, keepdim=True)  # squares of tiny gradients would underflow
    scaled = torch.where(largest > 0, part / largest, 0.0)
    squares = torch.bmm(part.new_ones(len(part), 1, part.shape[1]), scaled.square())
    return torch.where(largest > 0, scaled * squares.rsqrt(), 0.0)


def _note(losses: Losses, epoch: float, residual: Tensor) -> None:
    for (epochs, values), loss in zip(losses, losses_of(residual), strict=True):
        epochs.append(float(epoch))
        values.append(loss)

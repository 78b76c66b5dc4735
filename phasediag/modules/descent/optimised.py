"""Training of one torch module by an optimiser of its owner's, with its parameter groups, schedules excepted."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch

from ...errors import InputError
from ...spec.imported import in_words
from ..data import Points, loss_of
from ..networks import seeded
from .course import Course, Limits, Trained

Optimiser = Callable[[torch.nn.Module], torch.optim.Optimizer]
"""A function that takes a module and returns what takes its steps."""


def train_by(
    optimiser: Optimiser, network: torch.nn.Module, seed: int, data: Points, limits: Limits
) -> Trained:
    """Trains a copy of a network.

    Raises:
        InputError: the optimiser cannot be made, or the network cannot be trained.
    """
    trained = copy.deepcopy(network).train()
    try:
        stepper = optimiser(trained)
        if not isinstance(stepper, torch.optim.Optimizer):
            raise TypeError(f"returns {type(stepper).__name__}")
        moved = {id(part) for group in stepper.param_groups for part in group["params"]}
        if moved.isdisjoint(id(part) for part in trained.parameters()):
            raise ValueError("returns an optimiser that has no parameter of the module")
        with seeded(seed):
            course = _train(stepper, trained, data, limits)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's code raises
        raise InputError(
            f"measure: optimiser: {in_words(error)}; allowed: a function that takes a module and returns a torch.optim.Optimizer for it"
        ) from None
    weights, buffers = (
        {name: part.detach()[None] for name, part in parts}
        for parts in (trained.named_parameters(), trained.named_buffers())
    )
    return Trained([course], weights, buffers, False, [[]])


def _train(stepper: torch.optim.Optimizer, network: torch.nn.Module, data: Points, limits: Limits) -> Course:
    initial = loss = _whole(network, data, limits.loss)
    if loss <= limits.target:
        return Course("converged", 0, initial, loss, math.nan, math.nan)
    for epoch in range(1, limits.epochs + 1):
        order = torch.randperm(len(data)) if limits.batch_size < len(data) else torch.arange(len(data))
        for part in torch.split(order, limits.batch_size):

            def closure(part: torch.Tensor = part) -> torch.Tensor:
                stepper.zero_grad()
                found = loss_of(network(data.x[part]), data.y[part], limits.loss)
                found.backward()  # type: ignore[no-untyped-call]
                return found

            stepper.step(closure)
        loss = _whole(network, data, limits.loss)
        if not math.isfinite(loss):
            return Course("diverged", epoch, initial, loss, math.nan, math.nan)
        if loss <= limits.target:
            return Course("converged", epoch, initial, loss, math.nan, math.nan)
    return Course("evaluation_limit", limits.epochs, initial, loss, math.nan, math.nan)


def _whole(network: torch.nn.Module, data: Points, loss: str) -> float:
    """The loss on all points, of the network as it is trained; running means of its layers do not change."""
    kept = [part.clone() for part in network.buffers()]
    with torch.no_grad():
        found = float(loss_of(network(data.x.clone()), data.y, loss))
        for part, before in zip(network.buffers(), kept, strict=True):
            part.copy_(before)
    return found

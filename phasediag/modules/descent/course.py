"""How networks are trained, and how their training went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

Tensors = dict[str, torch.Tensor]
"""Weights by name, with a first axis of networks."""
Method = Literal["gd", "sgd", "adam"]


@dataclass(frozen=True, kw_only=True)
class Limits:
    """On what networks are trained, and until when.

    Attributes:
        epochs: passes over the data, at most.
        batch_size: points of a minibatch; all of them are one if there are no more.
        loss: "mse" or "cross-entropy".
        target: the loss at which training ends.
    """

    epochs: int
    batch_size: int
    loss: str
    target: float


@dataclass(frozen=True, kw_only=True)
class Settings(Limits):
    """How networks are trained by one of the methods.

    Attributes:
        method: gd takes steps on all points, sgd and adam (Kingma & Ba 2015) on minibatches.
        learning_rate: of one width; None chooses every step of gd.
    """

    method: Method
    learning_rate: float | None


class Course(NamedTuple):
    """How the training of one network went.

    Attributes:
        status: "converged", "evaluation_limit", "stalled" or "diverged".
        epochs: passes over the data.
        loss_initial: on all points, before.
        loss_final: after.
        time: the sum of the steps; NaN of adam, and of an optimiser of the owner's.
        time_half: when the loss had halved; NaN if it never did, and where the time is.
    """

    status: str
    epochs: int
    loss_initial: float
    loss_final: float
    time: float
    time_half: float


class Trained(NamedTuple):
    """Networks after training.

    Attributes:
        courses: of each.
        weights: all parameters after training, by name, with a first axis of networks.
        buffers: the same of buffers.
        together: whether they were trained together.
        steps: of each, those of gradient descent that the network took; none of other methods.
    """

    courses: list[Course]
    weights: Tensors
    buffers: Tensors
    together: bool
    steps: list[list[float]]

"""Networks that are trained at the same time: what is known of each, and which go on."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch

from .course import Tensors


class Lanes:
    """What is known of networks that are trained together, J of them: a lane for each, which is dropped some time after it has ended.

    Attributes:
        numbers: tensors (J,) in float64 on the CPU, by name: losses, times, steps.
        parts: by name, tensors with a first axis of networks: weights, buffers, gradients, means of gradients.
        draws: what draws the minibatches of each.
        status: how each has ended; "" of those that go on.
        epochs: passes over the data of each.
        steps: of gradient descent, those that each has taken.
    """

    def __init__(self, weights: Tensors, buffers: Tensors, seeds: Sequence[int]) -> None:
        self.numbers: Tensors = {}
        self.parts: dict[str, Tensors] = {"weights": weights, "buffers": buffers}
        self.draws = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.status, self.epochs = [""] * len(seeds), [0] * len(seeds)
        self.steps: list[list[float]] = [[] for _ in seeds]

    def going(self) -> torch.Tensor:
        """Which networks (J,) are still trained."""
        return torch.tensor([not status for status in self.status])

    def end(self, which: torch.Tensor, status: str) -> None:
        """Ends those of these networks (J,) that go on."""
        for lane in which.nonzero().flatten().tolist():
            self.status[lane] = self.status[lane] or status

    def only(self, lanes: Sequence[int]) -> Lanes:
        """Some of the networks."""
        index = torch.tensor(lanes, dtype=torch.int64)
        kept = copy.copy(self)
        kept.numbers = {name: part[index] for name, part in self.numbers.items()}
        kept.parts = {
            key: {name: part[index.to(part.device)] for name, part in parts.items()}
            for key, parts in self.parts.items()
        }
        kept.draws = [self.draws[lane] for lane in lanes]
        kept.status = [self.status[lane] for lane in lanes]
        kept.epochs = [self.epochs[lane] for lane in lanes]
        kept.steps = [self.steps[lane] for lane in lanes]
        return kept


def spread(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Values (J,) with as many axes as a tensor (J, ...)."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def chosen(first: torch.Tensor, some: Tensors, others: Tensors) -> Tensors:
    """The weights of some networks where ``first`` (J,) says so, and of the others elsewhere."""
    return {
        name: torch.where(spread(first.to(part.device), part), part, others[name])
        for name, part in some.items()
    }


def lengths(parts: Tensors) -> torch.Tensor:
    """The length (J,) of all weights of each network, in float64."""
    squares = [part.detach().double().reshape(len(part), -1).square().sum(dim=1) for part in parts.values()]
    return torch.stack(squares).sum(dim=0).sqrt()

"""Losses and gradients of many networks of one architecture: by one operation for all, or of a single one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch.func import functional_call, vmap

from ..data import loss_of
from .course import Tensors
from .lanes import lengths, spread

_DIFFERENCE = 1e-3
"""By how much of their length weights are moved to see how outputs follow them."""


class Gradients(ABC):
    """Losses (J,) and gradients of J networks of one architecture, each on points of its own, x (J, b, ...) and y (J, b, ...)."""

    def __init__(self, model: torch.nn.Module, loss: str) -> None:
        self.model, self._loss = model, loss
        self._trainable = {name for name, part in model.named_parameters() if part.requires_grad}

    @abstractmethod
    def each(self, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
        """A function of one network, of each of them: its arguments, tensors or tensors by name, have a first axis of networks, as what it
        returns gets one."""

    @abstractmethod
    def same_draws(self) -> AbstractContextManager[object]:
        """Within, random numbers are drawn that will be drawn again afterwards."""

    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        """The losses, and the gradients of all that trains. Buffers, as running means, change in place."""
        leaves, frozen = self._split(weights)
        losses = self.each(self._value, leaves, frozen, buffers, x, y)
        return losses.detach(), _gradients(losses.sum(), leaves)

    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The losses alone. Buffers change in place."""
        with torch.no_grad():
            return self.each(self._value, *self._split(weights), buffers, x, y)

    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        """Products of the tangent kernels with directions in the space of outputs (J, n, ...); 0 where the gradient is no number above 0.

        By differences: recurrent layers and attention have no forward derivative. Every output is one of the same random numbers.
        """
        leaves, frozen = self._split(weights)

        def outputs(moving: Tensors) -> torch.Tensor:
            trial = {name: part.clone() for name, part in buffers.items()}
            with self.same_draws():
                return self.each(self._output, moving, frozen, trial, x)

        gradients = _gradients((outputs(leaves) * direction).sum(), leaves)
        length, size = (lengths(parts) for parts in (gradients, leaves))
        steps = _DIFFERENCE * torch.where(size > 0, size, 1.0) / length
        with torch.no_grad():
            ahead, behind = (
                outputs({name: part + _times(sign * steps, gradients[name]) for name, part in leaves.items()})
                for sign in (1, -1)
            )
            found = _times(0.5 / steps, ahead - behind)
        return torch.where(spread((length > 0) & length.isfinite(), found), found, 0.0)

    def directions(self, weights: Tensors, buffers: Tensors, x: torch.Tensor) -> torch.Tensor:
        """Directions of length 1 in the space of outputs, (J, n, ...), the same for all networks."""
        first, own = ({name: part[0].clone() for name, part in parts.items()} for parts in (weights, buffers))
        with torch.no_grad():
            output = self._output(first, {}, own, x[0])
        draw = torch.Generator().manual_seed(0)
        some = torch.randn(output.shape, generator=draw).to(output)
        found: torch.Tensor = some / some.norm()
        return found.expand(len(x), *output.shape)

    def _split(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The trainable weights, as leaves, and those that are frozen."""
        frozen = {name: part for name, part in weights.items() if name not in self._trainable}
        leaves = {
            name: part.detach().requires_grad_() for name, part in weights.items() if name not in frozen
        }
        return leaves, frozen

    def _output(self, moving: Tensors, frozen: Tensors, buffers: Tensors, x: torch.Tensor) -> torch.Tensor:
        held = {**moving, **frozen, **buffers}
        # a copy: a module may change its inputs in place
        found: torch.Tensor = functional_call(self.model, held, (x.clone(),))
        for name, part in buffers.items():
            if held[name] is not part:  # the module has put another one in its place
                part.copy_(held[name].detach())
        return found

    def _value(
        self, moving: Tensors, frozen: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        return loss_of(self._output(moving, frozen, buffers, x), y, self._loss)


class Together(Gradients):
    """All networks by one operation."""

    def each(self, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
        found: torch.Tensor = vmap(function, randomness="error")(*arguments)
        return found

    def same_draws(self) -> AbstractContextManager[object]:
        return nullcontext()  # nothing may be drawn


class Alone(Gradients):
    """One network."""

    def each(self, function: Callable[..., torch.Tensor], *arguments: Any) -> torch.Tensor:
        own = (
            {name: part[0] for name, part in argument.items()} if isinstance(argument, dict) else argument[0]
            for argument in arguments
        )
        return function(*own)[None]

    def same_draws(self) -> AbstractContextManager[object]:
        return torch.random.fork_rng()


def _gradients(total: torch.Tensor, leaves: Tensors) -> Tensors:
    found = torch.autograd.grad(total, list(leaves.values()), materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


def _times(factors: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """A tensor (J, ...) times factors (J,)."""
    return spread(factors, part).to(part) * part

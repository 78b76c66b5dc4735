"""Losses and gradients of many networks of one architecture: by one operation for all, or of a single one."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod

import torch
from torch.func import functional_call, grad_and_value, jvp, vjp, vmap

from ..data import loss_of
from .course import Tensors

_DIFFERENCE = 1e-3
"""By how much of their length weights are moved to see how outputs follow them."""


class Gradients(ABC):
    """Losses (J,) and gradients of J networks of one architecture, each on points of its own, x (J, b, ...) and y (J, b, ...)."""

    def __init__(self, model: torch.nn.Module, loss: str) -> None:
        self._model, self._loss = model, loss
        self._trainable = {name for name, part in model.named_parameters() if part.requires_grad}

    def split(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The trainable weights, and those that are frozen."""
        moving = {name: part for name, part in weights.items() if name in self._trainable}
        return moving, {name: part for name, part in weights.items() if name not in moving}

    @abstractmethod
    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        """The losses, and the gradients of all that trains."""

    @abstractmethod
    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """The losses alone."""

    @abstractmethod
    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        """Products of the tangent kernels with directions in the space of outputs (J, n, ...)."""

    def directions(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> Tensors:
        """Directions of length 1 in the space of outputs, (J, n, ...), the same for all networks."""
        trial = {name: part[0].clone() for name, part in buffers.items()}
        with torch.no_grad():
            output = functional_call(
                self._model, ({name: part[0] for name, part in weights.items()}, trial), (x[0],)
            )
        draw = torch.Generator().manual_seed(0)
        some = torch.randn(output.shape, generator=draw).to(output)
        return {"v": (some / some.norm()).expand(len(x), *output.shape)}

    def _value(
        self, moving: Tensors, frozen: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> torch.Tensor:
        output = functional_call(self._model, ({**moving, **frozen}, buffers), (x,))
        return loss_of(output, y, self._loss)


class Together(Gradients):
    """All networks by one operation."""

    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        moving, frozen = self.split(weights)
        of_each = vmap(grad_and_value(self._value), in_dims=(0, 0, 0, 0, 0), randomness="error")
        gradients, losses = of_each(moving, frozen, buffers, x, y)
        return losses, gradients

    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        moving, frozen = self.split(weights)
        trial = {name: part.clone() for name, part in buffers.items()}
        found: torch.Tensor = vmap(self._product, randomness="error")(moving, frozen, trial, x, direction)
        return found

    def _product(
        self,
        moving: Tensors,
        frozen: Tensors,
        buffers: Tensors,
        x: torch.Tensor,
        direction: torch.Tensor,
    ) -> torch.Tensor:
        def outputs(parts: Tensors) -> torch.Tensor:
            own = {
                name: part.clone() for name, part in buffers.items()
            }  # which the module may change in place
            found: torch.Tensor = functional_call(self._model, ({**parts, **frozen}, own), (x,))
            return found

        _, back = vjp(outputs, moving)
        (gradient,) = back(direction)
        product: torch.Tensor = jvp(outputs, (moving,), (gradient,))[1]
        return product

    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        moving, frozen = self.split(weights)
        with torch.no_grad():
            found: torch.Tensor = vmap(self._value)(moving, frozen, buffers, x, y)
        return found


class Alone(Gradients):
    """One network."""

    def of(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor
    ) -> tuple[torch.Tensor, Tensors]:
        leaves, frozen = self._parts(weights)
        loss = self._value(leaves, frozen, first(buffers), x[0], y[0])
        found = torch.autograd.grad(loss, list(leaves.values()), materialize_grads=True)
        return loss.detach()[None], {name: part[None] for name, part in zip(leaves, found, strict=True)}

    def through_kernel(
        self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor, direction: torch.Tensor
    ) -> torch.Tensor:
        """By differences: recurrent layers and attention have no forward derivative. Every output is one of the same random numbers."""
        leaves, frozen = self._parts(weights)

        def outputs(parts: Tensors) -> torch.Tensor:
            own = {
                name: part[0].clone() for name, part in buffers.items()
            }  # which the module may change in place
            with torch.random.fork_rng():
                found: torch.Tensor = functional_call(self._model, ({**parts, **frozen}, own), (x[0],))
            return found

        found = torch.autograd.grad(
            outputs(leaves), list(leaves.values()), direction[0], materialize_grads=True
        )
        gradient = dict(zip(leaves, found, strict=True))
        length, size = (
            math.sqrt(sum(float(part.detach().double().square().sum()) for part in parts.values()))
            for parts in (gradient, leaves)
        )
        if not 0 < length < math.inf:
            return torch.zeros_like(direction)
        step = _DIFFERENCE * (size or 1.0) / length
        with torch.no_grad():
            ahead, behind = (
                outputs({name: part + sign * step * gradient[name] for name, part in leaves.items()})
                for sign in (1, -1)
            )
        return ((ahead - behind) / (2 * step))[None]

    def losses(self, weights: Tensors, buffers: Tensors, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.no_grad():
            return self._value(*self._parts(weights), first(buffers), x[0], y[0])[None]

    def _parts(self, weights: Tensors) -> tuple[Tensors, Tensors]:
        """The trainable weights of the network, as leaves, and those that are frozen."""
        moving, frozen = self.split(weights)
        return {name: part.detach().requires_grad_() for name, part in first(moving).items()}, first(frozen)


def first(parts: Tensors) -> Tensors:
    """The tensors of the first network."""
    return {name: part[0] for name, part in parts.items()}

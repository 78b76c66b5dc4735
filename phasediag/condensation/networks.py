"""Batches of fully connected networks of any depth, with one activation per hidden layer.

    h_1 = s_1(W_1 (x, 1)),    h_l+1 = s_l+1(W_l+1 (h_l, 1)) (+ h_l),    f = a . h_L

with skip connections between hidden layers if the network is residual. The loss is the mean squared error R = 1/n sum_i e_i^2 with
the residual e_i = f(x_i) - y_i, as in Zhou 2022b (1/n, not 1/(2n)). Every weight is N(0, std^2) at the start.

Tensors carry jobs first, then points, then neurons. W_l is (B, k, m): each of m neurons receives k - 1 inputs and, last, the constant 1.
a is (B, m, 1). Inputs that are zero and neurons without effect pad k and m to multiples of ALIGNMENT. The result of a job then does not
depend, to the last bit, on the other jobs of its batch, as long as there is another one (torch multiplies single matrices by other code).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .activations import activation

ALIGNMENT = 16
"""Matrices of a batch then begin at the same alignment, and vector instructions leave no remainder to other code: the last bits of
either would depend on the place of a job in its batch."""

Array = NDArray[np.float64]
Parameters = list[Tensor]
"""W_1, ..., W_L and a."""


@dataclass(frozen=True)
class Networks:
    """Networks of one architecture, each with its own data and activations.

    Attributes:
        x: inputs (B, n, k), the constant 1 after the last of them.
        y: targets (B, n).
        activations: names, one for each hidden layer, of every job.
        residual: whether there are skip connections between hidden layers.
        inputs: number d of inputs.
        hidden: numbers of neurons of the hidden layers.
        start: initial parameters.
    """

    x: Tensor
    y: Tensor
    activations: tuple[tuple[str, ...], ...]
    residual: bool
    inputs: int
    hidden: tuple[int, ...]
    start: Parameters

    @classmethod
    def drawn(
        cls,
        data: Sequence[tuple[Array, Array]],
        hidden: Sequence[int],
        activations: Sequence[tuple[str, ...]],
        residual: bool,
        stds: Sequence[float],
        seeds: Sequence[int],
        dtype: torch.dtype,
        device: str,
    ) -> Networks:
        """Networks at their initial weights; ``data`` holds x (n, d) and y (n,) of every job."""
        points, inputs = data[0][0].shape
        drawn = {seed: _padded(initial_weights(inputs, hidden, seed), points) for seed in set(seeds)}

        def on_device(arrays: Sequence[NDArray[Any]]) -> Tensor:
            return torch.from_numpy(np.stack(arrays)).to(device=device, dtype=dtype)

        start = [
            on_device([std * drawn[seed][layer] for std, seed in zip(stds, seeds, strict=True)])
            for layer in range(len(hidden) + 1)
        ]
        x = on_device([_with_constant(x) for x, _ in data])
        y = on_device([y for _, y in data])
        return cls(x, y, tuple(activations), residual, inputs, tuple(hidden), start)

    def __len__(self) -> int:
        return len(self.x)

    def select(self, jobs: Sequence[int]) -> Networks:
        """The networks with these indices."""
        index = torch.tensor(jobs, device=self.x.device)
        return replace(
            self,
            x=self.x[index],
            y=self.y[index],
            activations=tuple(self.activations[job] for job in jobs),
            start=[part[index] for part in self.start],
        )

    def at(self, x: Array) -> Networks:
        """The networks with other inputs x (q, d), one set for all of them; the targets are zero."""
        inputs = torch.from_numpy(_with_constant(x)).to(self.x).expand(len(self), -1, -1)
        return replace(self, x=inputs, y=torch.zeros_like(inputs[..., 0]))

    def residuals(self, parameters: Parameters) -> Tensor:
        """e (B, n)."""
        return torch.bmm(self.features(parameters)[-1], parameters[-1]).squeeze(2) - self.y

    def gradient(self, parameters: Parameters) -> tuple[Tensor, Parameters]:
        """e (B, n) and the gradient of R of every job."""
        with torch.enable_grad():
            leaves = [part.detach().requires_grad_() for part in parameters]
            residual = self.residuals(leaves)
            loss = residual.square().sum() / residual.shape[1]  # of all jobs: each has its own parameters
            gradient = torch.autograd.grad(loss, leaves)
        return residual.detach(), list(gradient)

    def features(self, parameters: Parameters) -> list[Tensor]:
        """What each hidden layer receives, (B, n, k) with the constant 1 after its inputs, and h_L (B, n, m)."""
        received = [self.x]
        for layer, weights in enumerate(parameters[:-1]):
            # The constant is an input like the others: sums over points are left to matrix products, which add up in one order.
            z = torch.bmm(received[-1], weights)
            h = _activate([names[layer] for names in self.activations], z)
            if self.residual and layer > 0:
                h = h + received[-1]
            received.append(h * self._neurons[layer] + self._constants[layer])
        return received

    def weights(self, parameters: Parameters, job: int) -> list[NDArray[Any]]:
        """The parameters of one job: W_l (m, k), k without the padding and the bias last, and a (m,)."""
        *layers, output = [part[job].cpu().numpy() for part in parameters]
        below = (self.inputs, *self.hidden)
        kept = [part[: k + 1, :m].T for part, k, m in zip(layers, below[:-1], self.hidden, strict=True)]
        return [*kept, output[: self.hidden[-1], 0]]

    @cached_property
    def _neurons(self) -> list[Tensor]:
        """1 for the neurons of a layer, 0 for the padding (m,)."""
        padded = [part.shape[2] for part in self.start[:-1]]
        return [
            (torch.arange(total) < width).to(self.x) for width, total in zip(self.hidden, padded, strict=True)
        ]

    @cached_property
    def _constants(self) -> list[Tensor]:
        """1 in the place after the neurons of a layer, which is that of the constant for the next one (m,); the output has none."""
        padded = [part.shape[2] for part in self.start[:-1]]
        widths = [*self.hidden[:-1], -1]
        return [
            (torch.arange(total) == width).to(self.x) for width, total in zip(widths, padded, strict=True)
        ]


def initial_weights(inputs: int, hidden: Sequence[int], seed: int) -> list[Array]:
    """N(0, 1) weights W_l (m, k), the bias last, and a (m,): the same for all activations, scales and data at one (d, hidden, seed)."""
    generator = np.random.default_rng([inputs, *hidden, seed])
    below = [inputs, *hidden[:-1]]
    layers = [generator.standard_normal((m, k + 1)) for k, m in zip(below, hidden, strict=True)]
    return [*layers, generator.standard_normal(hidden[-1])]


def _padded(weights: Sequence[Array], points: int) -> list[Array]:
    """Weights of `initial_weights` as (k, m) and (m, 1), with inputs and neurons that are zero."""
    *layers, output = weights
    k, padded = _up(layers[0].shape[1], ALIGNMENT), []
    for layer in layers:
        neurons, inputs = layer.shape
        # One more for the constant that the next layer receives. Odd numbers of points need twice the alignment.
        m = _up(neurons + 1, ALIGNMENT * (1 + points % 2))
        padded.append(np.pad(layer.T, ((0, k - inputs), (0, m - neurons))))
        k = m
    return [*padded, np.pad(output[:, None], ((0, k - len(output)), (0, 0)))]


def _with_constant(x: Array) -> Array:
    """x (n, d) with the constant 1 after it, padded with zeros."""
    n, d = x.shape
    return np.hstack([x, np.ones((n, 1)), np.zeros((n, _up(d + 1, ALIGNMENT) - d - 1))])


def _up(number: int, step: int) -> int:
    return -(-number // step) * step


def _activate(names: Sequence[str], z: Tensor) -> Tensor:
    """The activation of every job; neighbours with the same one are evaluated together."""
    runs = [(activation(name), len(list(members))) for name, members in groupby(names)]
    parts = torch.split(z, [length for _, length in runs])
    activated = [function(part) for (function, _), part in zip(runs, parts, strict=True)]
    return activated[0] if len(activated) == 1 else torch.cat(activated)

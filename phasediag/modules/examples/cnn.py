"""A small convolutional network for the digits of 8 x 8 pixels."""

from __future__ import annotations

import math

import torch


class DigitsNet(torch.nn.Module):
    """Two convolutions with ReLU and pooling, and a linear readout whose output is multiplied by ``scale``.

    Attributes:
        first: kernels (m, 1, 3, 3), of variance 2 / 9.
        second: kernels (m, m, 3, 3), of variance 2 / 9 m.
        readout: weights (K, 4 m), N(0, 1).
        scale: m^-gamma; a buffer, so that networks of several exponents are trained together.
    """

    scale: torch.Tensor

    def __init__(self, width: int, gamma: float, classes: int) -> None:
        super().__init__()
        self.first = torch.nn.Parameter(torch.randn(width, 1, 3, 3) * math.sqrt(2 / 9))
        self.second = torch.nn.Parameter(torch.randn(width, width, 3, 3) * math.sqrt(2 / (9 * width)))
        self.readout = torch.nn.Parameter(torch.randn(classes, 4 * width))
        self.register_buffer("scale", torch.tensor(float(width) ** -gamma))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A number (n, K) for every class, of images x (n, 64)."""
        convolved, pooled = torch.nn.functional.conv2d, torch.nn.functional.avg_pool2d
        features = pooled(torch.relu(convolved(x.reshape(-1, 1, 8, 8), self.first, padding=1)), 2)
        features = pooled(torch.relu(convolved(features, self.second, padding=1)), 2)
        return self.scale * features.flatten(1) @ self.readout.T


def make(width: int, gamma: float, classes: int = 10) -> torch.nn.Module:
    """A network with so many channels: its output is a sum over 4 m features, multiplied by m^-gamma."""
    return DigitsNet(width, gamma, classes)

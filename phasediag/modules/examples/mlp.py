"""A fully connected network of two layers with the exponents of Luo et al. 2021 (arXiv 2007.07497) and any activation."""

from __future__ import annotations

import torch

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh, "sigmoid": torch.sigmoid}


class TwoLayers(torch.nn.Module):
    """``f(x) = scale * sum_k a_k activation(w_k . (x, 1))``.

    Attributes:
        hidden: weights w (m, d + 1), N(0, 1), the bias last.
        output: weights a (1, m), N(0, m^(-2 gamma_prime)).
        scale: ``m^(gamma_prime - gamma)``; a buffer, so that networks of several exponents are trained together.
    """

    scale: torch.Tensor

    def __init__(self, width: int, gamma: float, gamma_prime: float, inputs: int, activation: str) -> None:
        super().__init__()
        self.hidden = torch.nn.Parameter(torch.randn(width, inputs + 1))
        self.output = torch.nn.Parameter(torch.randn(1, width) * float(width) ** -gamma_prime)
        self.register_buffer("scale", torch.tensor(float(width) ** (gamma_prime - gamma)))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The outputs (n,) at points x (n, d)."""
        with_one = torch.cat([x, torch.ones_like(x[:, :1])], dim=1)
        return self.scale * (self.activation(with_one @ self.hidden.T) @ self.output.T).squeeze(1)


def make(
    width: int, gamma: float, gamma_prime: float, inputs: int = 1, activation: str = "tanh"
) -> torch.nn.Module:
    """A network of this width and these exponents.

    Args:
        width: neurons of the hidden layer, m.
        gamma: the product of all scales is m^-gamma.
        gamma_prime: the ratio of the scales of output and input weights is m^-gamma_prime.
        inputs: d.
        activation: one of `ACTIVATIONS`.
    """
    return TwoLayers(width, gamma, gamma_prime, inputs, activation)

"""A transformer of one layer, whose weights are N(0, d^(-2 gamma)) as in Zhang et al. 2024 (arXiv 2405.05409)."""

from __future__ import annotations

import math

import torch


class OneLayer(torch.nn.Module):
    """Embeddings, one head of attention and one block of two linear maps, both added to what they read, and a readout of the last token.

    Every matrix has entries N(0, n^(-2 gamma)) with n its number of inputs; embeddings have n = d.

    Attributes:
        tokens: embeddings (vocabulary, d).
        places: embeddings of the places (length, d).
        query, key, value, output: matrices (d, d) of the attention.
        wide: matrix (4 d, d).
        narrow: matrix (d, 4 d).
        readout: matrix (classes, d).
    """

    def __init__(self, width: int, gamma: float, vocabulary: int, length: int, classes: int) -> None:
        super().__init__()

        def matrix(rows: int, columns: int) -> torch.nn.Parameter:
            return torch.nn.Parameter(torch.randn(rows, columns) * float(columns) ** -gamma)

        self.tokens, self.places = matrix(vocabulary, width), matrix(length, width)
        self.query, self.key, self.value, self.output = (matrix(width, width) for _ in range(4))
        self.wide, self.narrow = matrix(4 * width, width), matrix(width, 4 * width)
        self.readout = matrix(classes, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """A number (n, classes) for every class, of sequences x (n, length) of tokens."""
        inside = self.tokens[x.long()] + self.places
        query, key, value = (inside @ weights.T for weights in (self.query, self.key, self.value))
        shares = (query @ key.transpose(1, 2) / math.sqrt(inside.shape[-1])).softmax(dim=-1)
        inside = inside + shares @ value @ self.output.T
        inside = inside + torch.relu(inside @ self.wide.T) @ self.narrow.T
        return inside[:, -1] @ self.readout.T


def make(width: int, gamma: float, vocabulary: int, length: int, classes: int) -> torch.nn.Module:
    """A transformer of this embedding dimension d.

    Args:
        width: d.
        gamma: standard deviations are n^-gamma for n inputs.
        vocabulary: how many tokens there are.
        length: of a sequence.
        classes: how many numbers it returns.
    """
    return OneLayer(width, gamma, vocabulary, length, classes)

"""What is measured on trained networks (:mod:`.measures`), of many jobs at a time, where they are: matrices never leave a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from math import cos

import numpy as np
import torch
from torch import Tensor

from .measures import FEW, SAME_ORIENTATION, SETTLED, drawn_neurons

_CYCLE, _CYCLE_NEAR, _MOST_STEPS = 24, 6, 240
"""Steps of Lanczos' method between two looks, from anywhere and from close by, and at most."""
_SETTLED, _SPENT = 1e-9, 1e-12
"""Relative change of the largest eigenvalue between looks that ends it; what is left of a vector, relative to that, where it has ended."""


def frobenius(matrices: Tensor) -> Tensor:
    """Frobenius norms (B,) of matrices (B, p, k) or vectors (B, p), summed in float64."""
    norms: Tensor = torch.linalg.vector_norm(matrices.flatten(1), dim=1, dtype=torch.float64)
    return norms


def spectral(matrices: Tensor, near: Tensor | None = None) -> Tensor:
    """Operator norms (B,) of matrices (B, p, k); NaN where they are not finite.

    The root of the largest eigenvalue of the smaller Gram matrix, by Lanczos' method with full reorthogonalisation from a fixed start
    (Golub and Van Loan, section 10.1); or from vectors ``near`` (B, min(p, k)) those that the matrices stretched most before training,
    and less accurate, as :func:`.measures.spectral_near`.
    """
    tall = matrices if matrices.shape[1] >= matrices.shape[2] else matrices.mT
    scale = tall.abs().amax(dim=(1, 2))
    finite = scale.isfinite()
    safe = torch.where(finite & (scale > 0), scale, 1.0)[:, None, None]
    scaled = torch.where(
        finite[:, None, None], tall / safe, 0.0
    )  # relative to the largest number: tiny changes would underflow
    norms = scale.double() * _largest_eigenvalue(scaled, near).clamp(min=0).sqrt()
    return torch.where(finite, norms, torch.nan)


def _largest_eigenvalue(tall: Tensor, near: Tensor | None) -> Tensor:
    """The largest eigenvalues (B,) of A^T A, for matrices A (B, p, k)."""
    jobs, _, columns = tall.shape
    cycle, settled = _CYCLE_NEAR, SETTLED
    if near is None or columns <= FEW:
        cycle, settled = _CYCLE, _SETTLED
        near = torch.from_numpy(np.random.default_rng(columns).standard_normal((1, columns))).to(tall.device)
    most = min(columns, _MOST_STEPS)
    basis = torch.empty((jobs, columns, most), dtype=torch.float64, device=tall.device)
    basis[:, :, 0] = near / near.norm(dim=1, keepdim=True)
    diagonal: list[Tensor] = []
    beside: list[Tensor] = []
    largest = highest = torch.zeros(jobs, dtype=torch.float64, device=tall.device)
    for step in range(1, most + 1):
        vector, known = basis[:, :, step - 1], basis[:, :, :step]
        product = (tall.mT @ (tall @ vector.to(tall.dtype)[:, :, None]))[:, :, 0].double()
        diagonal.append((vector * product).sum(dim=1))
        highest = torch.maximum(highest, diagonal[-1])
        for _ in range(2):  # once leaves what rounding has brought back
            product = product - (known @ (known.mT @ product[:, :, None]))[:, :, 0]
        length = product.norm(dim=1)
        spent = length <= _SPENT * highest  # all that the start leads to is known
        length = torch.where(spent, 0.0, length)
        if step % cycle == 0 or step == most:
            before, largest = largest, _ritz(diagonal, beside)
            if step == most or bool(((largest - before).abs() <= settled * largest).all()):
                break
        beside.append(length)
        basis[:, :, step] = torch.where(spent[:, None], 0.0, product / length[:, None])
    return largest


def _ritz(diagonal: list[Tensor], beside: list[Tensor]) -> Tensor:
    """The largest eigenvalues (B,) of the tridiagonal matrices so far."""
    matrix = torch.diag_embed(torch.stack(diagonal, dim=1))
    if beside:
        off = torch.stack(beside, dim=1)
        matrix += torch.diag_embed(off, 1) + torch.diag_embed(off, -1)
    values: Tensor = torch.linalg.eigvalsh(matrix)[:, -1]
    return values


def orientations(weights: Tensor, seeds: Sequence[int]) -> list[float]:
    """Effective numbers of orientations of input weights (B, p, k): see :func:`.measures.orientations`, which draws the same neurons."""
    found = []
    lengths = torch.linalg.vector_norm(weights, dim=2, dtype=torch.float64)
    for job, (length, seed) in enumerate(zip(lengths.cpu().numpy(), seeds, strict=True)):
        drawn = drawn_neurons(length, seed)
        if drawn is None:
            found.append(float("nan"))
            continue
        neurons, share = (torch.from_numpy(array).to(weights.device) for array in drawn)
        directions = weights[job, neurons].double() / lengths[job, neurons, None]
        close = directions @ directions.mT >= cos(SAME_ORIENTATION)
        close.fill_diagonal_(True)  # rounding must not part a neuron from itself
        found.append(float(1 / (share @ close.double() @ share)))
    return found

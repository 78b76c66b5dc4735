"""What is measured on torch modules before and after training: each layer, and the tangent kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
from torch.func import functional_call

from ..engine import measures
from ..engine.measures import frobenius, ratio, spectral, stable_rank
from .networks import layers_of, matrix

KERNEL_POINTS, KERNEL_OUTPUTS = 32, 10
"""The tangent kernel is that of so many points and outputs of a network, at most, at even distances."""
_KERNEL_NUMBERS = 2**26
"""Numbers of the gradients of all points, at most."""

Weights = dict[str, torch.Tensor]


class Layer(NamedTuple):
    """What is measured on a layer (see the columns of ``runs``)."""

    relative_change: float
    relative_change_spectral: float
    norm_initial: float
    norm_final: float
    orientations: float
    effective_rank: float
    effective_rank_change: float


def measured(model: torch.nn.Module, start: Weights, end: Weights, seed: int) -> dict[str, Layer]:
    """The measures of every layer of one network, by name.

    Args:
        model: a network of this architecture.
        start: its parameters before training, by name.
        end: the same after.
        seed: selects the neurons that stand for more than 512.
    """
    return {name: _layer(_rows(start[name]), _rows(end[name]), seed) for name in layers_of(model)}


def _rows(weights: torch.Tensor) -> measures.Array:
    """A layer as a matrix with a row for every output, in float64."""
    return matrix(weights.detach()).double().cpu().numpy()


def _layer(start: measures.Array, end: measures.Array, seed: int) -> Layer:
    with np.errstate(invalid="ignore"):
        change = end - start
    before, after, moved = frobenius(start), frobenius(end), frobenius(change)
    spectral_before, spectral_moved = spectral(start), spectral(change)
    finite = bool(np.isfinite(end).all())
    return Layer(
        ratio(moved, before),
        ratio(spectral_moved, spectral_before),
        before,
        after,
        measures.orientations(end, seed) if finite and len(end) > 1 else float("nan"),
        stable_rank(after, spectral(end)),
        stable_rank(moved, spectral_moved),
    )


def outputs(model: torch.nn.Module, weights: Weights, buffers: Weights, x: torch.Tensor) -> torch.Tensor:
    """The outputs of a network with these weights, as it is used: without dropout, with running means."""
    with torch.no_grad(), _used(model):
        found: torch.Tensor = functional_call(model, {**weights, **_copies(buffers)}, (x.clone(),))
        return found


def kernel(model: torch.nn.Module, weights: Weights, buffers: Weights, x: torch.Tensor) -> torch.Tensor:
    """The tangent kernel (k, k) of a network with these weights, of k of the points x: ``sum_o grad f_o(x) . grad f_o(x')``, in float64.

    The sum is over the outputs o of a point, gradients are by all trainable weights (Jacot et al. 2018, arXiv 1806.07572). Of more than 32
    points or 10 outputs, as many at even distances count; fewer points where there are more than two million weights. NaN where it cannot
    be computed.
    """
    size = sum(part.numel() for part in model.parameters() if part.requires_grad)
    points = x[spread(len(x), min(KERNEL_POINTS, max(_KERNEL_NUMBERS // size, 2)))]
    total = torch.zeros(len(points), len(points), dtype=torch.float64, device=x.device)
    try:
        found, moving = followed(model, weights, buffers, points)
        for number in spread(found.shape[1], KERNEL_OUTPUTS):
            for part in jacobian(found[:, number], moving):
                rows = part.reshape(len(points), -1).double()
                total += rows @ rows.T
        return total
    except RuntimeError:  # of a network without gradients
        return torch.full_like(total, math.nan)


def followed(
    model: torch.nn.Module, weights: Weights, buffers: Weights, x: torch.Tensor
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Outputs (k, outputs of a point) of a network as it is used, and its trainable weights, by which they can be differentiated."""
    trainable = {name for name, part in model.named_parameters() if part.requires_grad}
    moving = {name: part.detach().requires_grad_() for name, part in weights.items() if name in trainable}
    fixed = {name: part.detach() for name, part in weights.items() if name not in trainable}
    with _used(model):
        found = functional_call(model, {**moving, **fixed, **_copies(buffers)}, (x.clone(),))
    return found.reshape(len(x), -1), list(moving.values())


def jacobian(outputs: torch.Tensor, weights: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients (k, ...) of outputs (k,) by all weights that they depend on."""
    found: list[torch.Tensor | None]
    unit = torch.eye(len(outputs), dtype=outputs.dtype, device=outputs.device)
    by = partial(torch.autograd.grad, outputs, weights, retain_graph=True, allow_unused=True)
    try:
        found = list(by(unit, is_grads_batched=True))
    except Exception:  # whatever the module does that has no gradients of many outputs at a time
        rows = [by(row) for row in unit]
        found = [None if parts[0] is None else torch.stack(parts) for parts in zip(*rows, strict=True)]
    return [part for part in found if part is not None]


def _copies(buffers: Weights) -> Weights:
    """Buffers that a module may change in place."""
    return {name: part.clone() for name, part in buffers.items()}


@contextmanager
def _used(model: torch.nn.Module) -> Iterator[None]:
    """The model as it is used: without dropout, with running means."""
    training = model.training
    try:
        model.train(False)
        yield
    finally:
        model.train(training)


def spread(count: int, most: int) -> list[int]:
    """So many of the numbers below ``count``, at most, at even distances."""
    return sorted({int(at) for at in np.linspace(0, count - 1, min(count, most)).round()})


def kernel_change(start: torch.Tensor, end: torch.Tensor) -> float:
    """``|K(end) - K(0)| / |K(0)|`` in the Frobenius norm."""
    return ratio(float((end - start).norm()), float(start.norm()))

"""How far a trained module is from the one that is linearised in its weights at the start, by the same steps of gradient descent."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch.func import functional_call

from ..engine.measures import Array, ratio
from .data import Points
from .measures import Weights, followed, jacobian, outputs, spread
from .networks import seeded

MOST_OUTPUTS = 512
"""Numbers that a network returns for all points, at most: their kernel is decomposed."""
_MOST_NUMBERS = 2**24
"""Numbers of the gradients of all these, at most."""
_ROUNDING = 32
"""Units of the last place up to which outputs differ by rounding."""
NOTHING = {"linear_gap": math.nan, "linear_gap_test": math.nan}


def gaps(
    model: torch.nn.Module,
    start: tuple[Weights, Weights],
    end: tuple[Weights, Weights],
    data: Points,
    tests: Points,
    steps: Sequence[float],
) -> dict[str, float]:
    """``|f_lin - f| / |f - f(0)|`` on the data and on the test points, of a network that gradient descent trained with the mean square.

    ``f_lin`` is linearised at the start, and trained by the same steps: in an eigenvector of ``K / n`` with the eigenvalue v, the residual
    is multiplied by the product of all ``1 - s v``. NaN of a network that is another one in training, by dropout or batch norm; and of one
    that returns more than 512 numbers, or has 2^24 gradients. As many test points count as that leaves room for. 0 below rounding.

    Args:
        model: a network of this architecture.
        start: weights and buffers before training.
        end: the same after.
        data: the n points that it was trained on.
        tests: points that it was not trained on, or none.
        steps: those it took; none of other methods.
    """
    if not steps:
        return NOTHING
    most = min(MOST_OUTPUTS, _MOST_NUMBERS // max(sum(part.numel() for part in start[0].values()), 1))
    first = outputs(model, *start, data.x)
    known = first.numel()
    if known > most:
        return NOTHING
    last = outputs(model, *end, data.x)
    if not (_are_of_training(first, model, *start, data.x) and _are_of_training(last, model, *end, data.x)):
        return NOTHING
    some = spread(len(tests), (most - known) * len(data) // known)
    parts = [
        x for x in (data.x, tests.x[some]) if len(x)
    ]  # one after the other: some modules mix their points
    try:
        rows = np.concatenate([_array(_rows(*followed(model, *start, x))) for x in parts])
    except RuntimeError:  # of a network without gradients
        return NOTHING
    before, after = (
        np.concatenate(
            [_array(f).reshape(-1) for f in (found, *(outputs(model, *network, x) for x in parts[1:]))]
        )
        for found, network in ((first, start), (last, end))
    )
    with np.errstate(all="ignore"):
        products = rows @ rows[:known].T / len(data)
        if not np.isfinite(products).all():
            return NOTHING
        impulse = _impulse(products[:known], before[:known] - _array(data.y).reshape(-1), np.array(steps))
        linear = before - products @ impulse
        rounding = _ROUNDING * float(torch.finfo(first.dtype).eps)
        found = [
            _gap(linear[part], before[part], after[part], rounding)
            for part in (slice(known), slice(known, None))
        ]
    return dict(zip(NOTHING, found, strict=True))


def _impulse(kernel: Array, residual: Array, steps: Array) -> Array:
    """The sum over all steps s of s times the residual, which they shrink under this kernel."""
    values, vectors = np.linalg.eigh(kernel)
    values = values.clip(min=0)
    reach = steps[:, None] * values
    small = -np.expm1(np.log1p(-reach.clip(max=0.5)).sum(axis=0))
    gone = np.where(reach.max(axis=0) < 0.5, small, 1 - np.prod(1 - reach, axis=0))
    found: Array = vectors @ (np.where(values > 0, gone / values, steps.sum()) * (vectors.T @ residual))
    return found


def _gap(linear: Array, before: Array, after: Array, rounding: float) -> float:
    off, moved, size = (float(np.linalg.norm(part)) for part in (linear - after, after - before, after))
    gap = ratio(off, moved)
    if not math.isfinite(gap):
        return math.nan
    return gap if off > rounding * size else 0.0


def _are_of_training(
    found: torch.Tensor, model: torch.nn.Module, weights: Weights, buffers: Weights, x: torch.Tensor
) -> bool:
    """Whether these outputs are also those of the network as it is trained, with dropout and batch norm."""
    trial = {name: part.clone() for name, part in buffers.items()}
    with torch.no_grad(), seeded(0):
        trained = functional_call(model, {**weights, **trial}, (x.clone(),))
    return torch.allclose(trained, found, rtol=1e-4, equal_nan=True)


def _rows(found: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Gradients (N, weights) of all N outputs."""
    parts = jacobian(found.reshape(-1), weights)
    return torch.cat([part.reshape(found.numel(), -1) for part in parts], dim=1)


def _array(tensor: torch.Tensor) -> Array:
    found: Array = tensor.detach().double().cpu().numpy()
    return found

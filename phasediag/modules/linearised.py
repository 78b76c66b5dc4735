"""How far a trained module is from the one that is linearised in its weights at the start: see `phasediag.engine.linearised`."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.func import functional_call

from ..engine.linearised import Ways, courses
from ..engine.measures import Array, ratio
from .data import Points
from .measures import Weights, followed, jacobian, outputs, spread
from .networks import seeded

MOST_OUTPUTS = 512
"""Numbers that a network returns for all points, at most: their kernel is decomposed."""
_MOST_NUMBERS = 2**24
"""Numbers of the gradients of all these, at most."""
NOTHING = {"linear_gap": math.nan, "linear_gap_test": math.nan}


def gaps(
    model: torch.nn.Module,
    start: tuple[Weights, Weights],
    end: tuple[Weights, Weights],
    data: Points,
    tests: Points,
    time: float,
    step: float,
) -> dict[str, float]:
    """``|f_lin - f| / |f - f(0)|`` on the data and on the test points, of a network that gradient descent trained with the mean square.

    ``f_lin`` is linearised at the start, and trained for the same time. NaN of a network that is another one in training, by dropout or
    batch norm; and of one that returns more than 512 numbers, or has 2^24 gradients. As many test points count as that leaves room for.

    Args:
        model: a network of this architecture.
        start: weights and buffers before training.
        end: the same after.
        data: the n points that it was trained on.
        tests: points that it was not trained on, or none.
        time: of the training, the sum of its steps.
        step: of gradient descent; 0 if it follows the flow, NaN of other methods.
    """
    most = min(MOST_OUTPUTS, _MOST_NUMBERS // max(sum(part.numel() for part in start[0].values()), 1))
    known = outputs(model, *start, data.x).numel()
    if math.isnan(step) or known > most:
        return NOTHING
    if not all(_is_itself_in_training(model, network, data.x) for network in (start, end)):
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
        np.concatenate([_array(outputs(model, *network, x)).reshape(-1) for x in parts])
        for network in (start, end)
    )
    with np.errstate(all="ignore"):
        products = rows @ rows[:known].T / len(data)
    if not np.isfinite(products).all():
        return NOTHING
    residual, residual_end = (f[:known] - _array(data.y).reshape(-1) for f in (before, after))
    values, vectors = np.linalg.eigh(products[:known])
    way = (residual, values.clip(min=0), vectors, residual_end, products[:known], time, math.nan, step)
    [course] = courses(Ways(*(np.array(part)[None] for part in way)))
    linear = before - products @ course.impulse
    off, moved = (np.linalg.norm(part[known:]) for part in (linear - after, after - before))
    return {"linear_gap": course.linear_gap, "linear_gap_test": ratio(float(off), float(moved))}


def _is_itself_in_training(model: torch.nn.Module, network: tuple[Weights, Weights], x: torch.Tensor) -> bool:
    weights, buffers = network
    trial = {name: part.clone() for name, part in buffers.items()}
    with torch.no_grad(), seeded(0):
        found = functional_call(model, {**weights, **trial}, (x.clone(),))
    return torch.allclose(found, outputs(model, weights, buffers, x), rtol=1e-4, equal_nan=True)


def _rows(found: torch.Tensor, weights: list[torch.Tensor]) -> torch.Tensor:
    """Gradients (N, weights) of all N outputs."""
    parts = jacobian(found.reshape(-1), weights)
    return torch.cat([part.reshape(found.numel(), -1) for part in parts], dim=1)


def _array(tensor: torch.Tensor) -> Array:
    found: Array = tensor.detach().double().cpu().numpy()
    return found

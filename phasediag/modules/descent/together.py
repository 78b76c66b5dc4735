"""Whether networks of one architecture can be trained by one operation for all, and no row depends on what else is trained with it."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress

import torch

from ..alike import TOGETHER_NUMBERS, signature
from ..data import Points
from ..networks import seeded, told
from .course import Settings, Tensors
from .gradients import Alone, Gradients, Together

LEAST_TOGETHER, _LANES_TRIED = 4, (4, 5, 7, 11)
"""Products of fewer matrices are summed in another order: a row would depend on how many networks are trained with it."""
_BYTES_AT_A_TIME = 128
"""What a processor computes at a time, at most: two vectors of AVX-512."""


def work_together(
    model: torch.nn.Module, weights: Tensors, buffers: Tensors, data: Points, settings: Settings
) -> bool:
    """Whether networks can be trained by one operation for all; raises `InputError` if not even alone.

    They can if each is computed as it would be among any others, to the last bit. Batch norm, say, sums in an order that depends on all.
    That is found out with weights that depend on the architecture alone, lest the same network be trained in both ways. Nor can
    they if the module keeps something in Python that changes as it is called, such as a counter.
    """
    size = sum(part[0].numel() for part in weights.values())
    if LEAST_TOGETHER * size <= TOGETHER_NUMBERS:
        # whatever the module does that cannot be done for many at a time
        with suppress(Exception, SystemExit):
            tried = own(model)
            together = Together(tried, settings.loss)
            require(together, weights, buffers, data, settings)
            if _same_among_others(together, weights, buffers, data, settings):
                return signature(tried) == signature(model)
    require(Alone(own(model), settings.loss), weights, buffers, data, settings)
    return False


def padding(model: torch.nn.Module, data: Points, settings: Settings) -> int:
    """How many lanes of no network stand behind the others: functions such as sigmoid are rounded in another way at the end of an array
    whose size is no multiple of what a processor computes at a time. An array has at least a number for each point of a lane."""
    smallest: int = min(part.element_size() for part in model.parameters() if part.is_floating_point())
    return -(-(_BYTES_AT_A_TIME // smallest - 1) // _counts(len(data), settings)[0])


def own(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of a module, as calls may change what it keeps beside its weights; the module itself where that cannot be copied."""
    try:
        return copy.deepcopy(model)
    except Exception:  # whatever somebody's module holds
        return model


def require(
    gradients: Gradients, weights: Tensors, buffers: Tensors, data: Points, settings: Settings
) -> None:
    """Raises `InputError` if the first network cannot be trained in this way, on all points and on the smallest minibatch."""
    for count in _counts(len(data), settings):
        points = data.x[None, :count], data.y[None, :count]
        shapes = f"x {tuple(points[0].shape[1:])}, y {tuple(points[1].shape[1:])}"
        # how a network is trained does not depend on what is made of warnings
        with told(f"the network cannot be trained on {shapes}"), seeded(0), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            first, first_buffers = (
                {name: part[:1] for name, part in parts.items()} for parts in (weights, buffers)
            )
            _tried(gradients, first, first_buffers, *points, settings)


def _counts(n: int, settings: Settings) -> list[int]:
    """How many points there are in a step, from the fewest, and in all."""
    batches = [] if settings.method == "gd" else [n % settings.batch_size, min(settings.batch_size, n)]
    return sorted({n, *batches} - {0})


def _tried(
    gradients: Gradients,
    weights: Tensors,
    buffers: Tensors,
    x: torch.Tensor,
    y: torch.Tensor,
    settings: Settings,
) -> list[torch.Tensor]:
    """All that training computes of some networks."""
    trial = {name: part.clone() for name, part in buffers.items()}
    found = [
        *gradients.of(weights, trial, x, y)[1].values(),
        gradients.losses(weights, trial, x, y),
        *trial.values(),
    ]
    if settings.method == "gd" and settings.learning_rate is None:
        found.append(gradients.through_kernel(weights, trial, x, gradients.directions(weights, trial, x)))
    return found


def _same_among_others(
    gradients: Together, weights: Tensors, buffers: Tensors, data: Points, settings: Settings
) -> bool:
    """Whether a network is computed in the same way at any place among any number of networks."""
    draw = torch.Generator().manual_seed(0)
    one, own = (
        {name: _any_like(part[0], draw) for name, part in parts.items()} for parts in (weights, buffers)
    )
    more = padding(gradients.model, data, settings)
    for count in _counts(len(data), settings):
        first: list[torch.Tensor] = []
        for lanes in (tried + more for tried in _LANES_TRIED):
            points = [part[:count].expand(lanes, *part[:count].shape) for part in data]
            if count < len(data):
                points = [part.contiguous() for part in points]
            copies, copied = (
                {name: part.expand(lanes, *part.shape).contiguous() for name, part in parts.items()}
                for parts in (one, own)
            )
            found = _tried(gradients, copies, copied, points[0], points[1], settings)
            found = [part[: lanes - more] for part in found]
            first = first or [part[0] for part in found]
            if not all(_equal(part, same.expand_as(part)) for part, same in zip(found, first, strict=True)):
                return False
    return True


def _any_like(part: torch.Tensor, draw: torch.Generator) -> torch.Tensor:
    """Numbers that depend on the shape of a tensor alone: of matrices like random weights, of others between 1/2 and 3/2. Whole numbers
    stay as they are."""
    if not part.is_floating_point():
        return part
    if part.ndim > 1:
        return (torch.randn(part.shape, generator=draw) / math.sqrt(part[0].numel() or 1)).to(part)
    return (0.5 + torch.rand(part.shape, generator=draw)).to(part)


def _equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def stacked(parts: Sequence[Mapping[str, torch.Tensor]]) -> Tensors:
    """Weights of networks by name, with a first axis of networks."""
    return {name: torch.stack([part[name].detach() for part in parts]) for name in parts[0]}

"""Activation functions, and their multiplicity at 0.

A new activation is a line in ``ACTIVATIONS``: a function of a torch tensor that calls only the tensor's methods. Automatic
differentiation derives everything else. Another package can bring activations without any change here, by an entry point in the group
``phasediag.activations``, with the name of the activation:

    [project.entry-points."phasediag.activations"]
    gelu = "my_package:gelu"        # def gelu(z): return 0.5 * z * (1 + (z / 2**0.5).erf())

Such a package has to be installed wherever networks are trained. A name has letters, digits, _ and -, and none of the names here can be
used again. Names identify jobs, so the function of a name must not change.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING

from ..errors import InputError, choices

if TYPE_CHECKING:  # specs are read without torch
    from torch import Tensor

Activation = Callable[["Tensor"], "Tensor"]

GROUP = "phasediag.activations"
ACTIVATIONS: dict[str, Activation] = {
    "relu": lambda z: z.relu(),
    "tanh": lambda z: z.tanh(),
    "sigmoid": lambda z: z.sigmoid(),
    "softplus": lambda z: z.logaddexp(z.new_zeros(())),
    "x_tanh": lambda z: z * z.tanh(),
    "x2_tanh": lambda z: z * z * z.tanh(),
}

RESERVED = "default"
"""A key among activations in tables of learning rates."""
MAX_MULTIPLICITY = 8
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_FAR, _NEAR, _TINY = 1e-3, 1e-5, 1e-9


def known() -> list[str]:
    """The names of all activations."""
    return [*ACTIVATIONS, *sorted({point.name for point in entry_points(group=GROUP)} - set(ACTIVATIONS))]


def activation(name: str) -> Activation:
    """The activation function of this name.

    Raises:
        InputError: there is none, or the package that should bring it cannot be imported.
    """
    if name in ACTIVATIONS:
        return ACTIVATIONS[name]
    for point in entry_points(group=GROUP):
        if point.name == name:
            try:
                return point.load()  # type: ignore[no-any-return]
            except Exception as error:  # whatever the package does when it is imported
                raise InputError(f"activation {name!r}: {point.value} cannot be imported ({error})") from None
    raise InputError(f"activation {name!r} is not known here; {choices(name, known())}")


@cache
def fault_of(name: str) -> str:
    """What is wrong with a known activation that a package brings; "" if nothing is."""
    if name in ACTIVATIONS:
        return ""
    if name == RESERVED or not _NAME.fullmatch(name):
        return f"is no name for an activation; allowed: letters, digits, _ and -, not {RESERVED!r}"
    try:
        function = activation(name)
    except InputError as error:
        return str(error).partition(": ")[2]
    return _fault_of(function, name)


def _fault_of(function: Activation, name: str) -> str:
    import torch

    z = torch.linspace(-1.0, 1.0, 5, dtype=torch.float64)
    expected = (
        "; allowed: a function of a tensor that returns one of the same shape and type, with derivatives"
    )
    try:
        values = function(z)
        if not (isinstance(values, torch.Tensor) and values.shape == z.shape and values.dtype == z.dtype):
            return f"does not map a tensor to one of the same shape and type{expected}"
        if not torch.isfinite(values).all():
            return f"is not finite between -1 and 1{expected}"
        multiplicity(name)
    except Exception as error:  # whatever it raises
        return f"cannot be used ({type(error).__name__}: {' '.join(str(error).split())[:200]}){expected}"
    return ""


@cache
def multiplicity(name: str) -> int:
    """The multiplicity p of an activation (Zhou 2022b, definition 1): the order of its first derivative at 0 that is not 0.

    0 where it has none: all derivatives up to order 8 vanish, or one of them jumps at 0 before another is found that does not.
    """
    function = activation(name)
    for order in range(1, MAX_MULTIPLICITY + 1):
        there, far, near = _derivative(function, order)
        if near > _TINY and near > far / 2:
            return 0
        if abs(there) > _TINY:
            return order
    return 0


@cache
def one_sided_slopes(name: str) -> tuple[float, float]:
    """The slopes of an activation to the right and to the left of 0."""
    right, left = _at(activation(name), 1, [_NEAR, -_NEAR])
    return right, left


def _derivative(function: Activation, order: int) -> tuple[float, float, float]:
    """A derivative at 0, and how much it changes across 0, far apart and near; of a continuous one, the latter is much smaller."""
    there, *around = _at(function, order, [0.0, _FAR, -_FAR, _NEAR, -_NEAR])
    return there, abs(around[0] - around[1]), abs(around[2] - around[3])


def _at(function: Activation, order: int, places: list[float]) -> list[float]:
    """A derivative at these places. (`torch.func.grad` would import the compiler of torch, which takes a second in every process.)"""
    import torch

    with torch.enable_grad():
        z = torch.tensor(places, dtype=torch.float64, requires_grad=True)
        values = function(z)
        for _ in range(order):
            if not values.requires_grad:  # constant
                return [0.0] * len(places)
            (values,) = torch.autograd.grad(values.sum(), z, create_graph=True)
    found: list[float] = values.tolist()
    return found

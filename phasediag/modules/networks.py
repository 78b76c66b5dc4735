"""The networks that a reader's function makes: made with a seed, checked, and their layers."""

from __future__ import annotations

import inspect
import random
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from itertools import pairwise
from threading import RLock

import numpy as np
import torch
from torch.nn.parameter import is_lazy

from ..devices import raise_if_lost
from ..errors import InputError, some_of
from ..spec.imported import in_words

Make = Callable[..., torch.nn.Module]
"""A function that returns a network: of the arguments it is given, it takes those whose names it has, or as many as it has places for."""
_ALLOWED = "allowed: a function that returns a torch.nn.Module"


def network(make: Make, arguments: Mapping[str, float], where: str) -> torch.nn.Module:
    """The network that ``make`` returns, in training mode and on the CPU, with torch, NumPy and Python seeded by ``arguments["seed"]``.

    Args:
        make: the function.
        arguments: width, seed, and exponents if there are any, in the order in which a function without these names takes them.
        where: where the function stands, for messages.

    Raises:
        InputError: the function fails, or returns anything but a module with trainable weights.
    """
    shown = ", ".join(f"{name} = {value:g}" for name, value in arguments.items())
    try:
        with seeded(int(arguments["seed"])), redirect_stdout(sys.stderr):
            made: object = make(*_taken(make, arguments)[0], **_taken(make, arguments)[1])
            made = made.cpu() if isinstance(made, torch.nn.Module) else made
    except (Exception, SystemExit) as error:  # whatever somebody's code raises
        raise InputError(f"{where}: {shown}: {in_words(error)}; {_ALLOWED}") from None
    if not isinstance(made, torch.nn.Module):
        raise InputError(f"{where}: {shown}: is of type {type(made).__name__}; {_ALLOWED}")
    for name, part in (*made.named_parameters(), *made.named_buffers()):
        if is_lazy(part):
            raise InputError(
                f"{where}: {shown}: {name} has no shape before the first input; allowed: layers that are told how many inputs they have, "
                "such as Linear in the place of LazyLinear"
            )
    for name, part in made.named_parameters():
        if part.is_complex():
            raise InputError(
                f"{where}: {shown}: {name} holds complex numbers; allowed: weights of real numbers"
            )
    if shared := _views(made):
        raise InputError(
            f"{where}: {shown}: {shared[0]} and {shared[1]} are views of the same numbers; "
            "allowed: one and the same Parameter in both places, or two that share nothing"
        )
    if not layers_of(made):
        raise InputError(
            f"{where}: {shown}: has no trainable weights of two or more dimensions; allowed: a module with at least one such layer"
        )
    return made.train()


def _views(module: torch.nn.Module) -> list[str]:
    """The names of two parameters that share numbers, or nothing. What moves one would not move the other."""
    spans = []
    for name, part in module.named_parameters():
        if part.numel():
            reach = sum((size - 1) * stride for size, stride in zip(part.shape, part.stride(), strict=True))
            spans.append((part.data_ptr(), part.data_ptr() + (reach + 1) * part.element_size(), name))
    for (_, end, name), (start, _, other) in pairwise(sorted(spans)):
        if start < end:
            return [name, other]
    return []


def _taken(make: Make, arguments: Mapping[str, float]) -> tuple[list[float], dict[str, float]]:
    """The arguments that a function takes, by place and by name."""
    try:
        parameters = inspect.signature(make).parameters.values()
    except (TypeError, ValueError):  # of functions that are not written in Python
        return list(arguments.values())[:1], {}
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters):
        return [], dict(arguments)
    named = {parameter.name for parameter in parameters if parameter.kind is not parameter.POSITIONAL_ONLY}
    if "width" in named:
        return [], {name: value for name, value in arguments.items() if name in named}
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return list(arguments.values()), {}
    places = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return list(arguments.values())[: len(places)], {}


_DRAWING = RLock()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch, NumPy and Python follow from a seed within; afterwards they go on as before.

    They belong to the whole process: one thread at a time has them.
    """
    with _DRAWING, torch.random.fork_rng():
        of_numpy, of_python = np.random.get_state(), random.getstate()  # noqa: NPY002 - what a reader's function may use
        torch.manual_seed(seed)
        np.random.seed(seed % 2**32)  # noqa: NPY002
        random.seed(seed)
        try:
            yield
        finally:
            np.random.set_state(of_numpy)  # noqa: NPY002
            random.setstate(of_python)


@contextmanager
def told(what: str) -> Iterator[None]:
    """Within, whatever somebody's module raises becomes an `InputError` that begins so; a GPU that is lost stays `DeviceLost`."""
    try:
        yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise_if_lost(error)
        raise InputError(f"{what}: {in_words(error)}") from None


@contextmanager
def quietly() -> Iterator[None]:
    """Within, torch does not warn of operations that it computes for one network after the other, as attention and recurrent layers, and
    what modules print goes to standard error."""
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


def layers_of(module: torch.nn.Module) -> dict[str, torch.nn.Parameter]:
    """The layers of a module: its trainable parameters of two and more dimensions, by name."""
    return {
        name: weights
        for name, weights in module.named_parameters()
        if weights.ndim >= 2 and weights.requires_grad and weights.numel()
    }


def matrix(weights: torch.Tensor) -> torch.Tensor:
    """A layer as a matrix (outputs, inputs): a kernel of a convolution has a row for each of its output channels."""
    return weights.reshape(len(weights), -1)


def check_widths(make: Make, widths: Sequence[int], arguments: Mapping[str, float], where: str) -> list[int]:
    """The numbers of trainable weights at these widths, once it is known that the networks are one architecture.

    Args:
        make: the function.
        widths: two or more, ascending.
        arguments: seed, and exponents if there are any.
        where: where the function stands, for messages.

    Raises:
        InputError: the function fails; what it returns is random beyond its seed, has other parameters at another width, or layers of the
            same shapes at two of them.
    """
    first, again = (network(make, {"width": widths[0], **arguments}, where) for _ in range(2))
    for name, held in first.state_dict().items():
        if not _equal(held, again.state_dict().get(name)):
            raise InputError(
                f"{where}: {name} differs between two networks of one seed: it is random beyond its seed; "
                "allowed: random numbers of torch, numpy and random, which are seeded, or of generators seeded with seed"
            )
    sizes, known = [], dict[tuple[torch.Size, ...], int]()
    for width in widths:
        made = first if width == widths[0] else network(make, {"width": width, **arguments}, where)
        here, there = ([name for name, _ in part.named_parameters()] for part in (made, first))
        if here != there:
            changed = sorted({*here} ^ {*there}) or here
            raise InputError(
                f"{where}: its parameters change with the width: {some_of(changed)} differ at {width} and {widths[0]}; "
                "allowed: the same names at every width"
            )
        same = known.setdefault(tuple(weights.shape for weights in layers_of(made).values()), width)
        if same != width:
            raise InputError(
                f"{where}: ignores the width: all layers have the same shapes at {same} and {width}; "
                "allowed: a function whose layers grow with the width"
            )
        sizes.append(sum(weights.numel() for weights in made.parameters() if weights.requires_grad))
    return sizes


def _equal(a: torch.Tensor, b: torch.Tensor | None) -> bool:
    return b is not None and a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))

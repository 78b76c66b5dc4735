"""Where a torch module lies in the phase diagram: its scales at several widths. Nothing is trained."""

from __future__ import annotations

import copy
import operator
import sys
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import InputError
from ...spec.imported import in_words, load_function
from ..theory import MAX_DEPTH, exponents_from_powers
from .formulas import shortened
from .location import Location
from .scales import from_logs, locate_name

if TYPE_CHECKING:
    import torch

Factory = Callable[[int], "torch.nn.Module"]

WIDTHS = (64, 128, 256, 512, 1024, 2048)
"""Widths at which a module is made: 2,048 is what still takes a second at eight layers."""
DRAWS = 4
"""Modules of each width, whose random weights differ."""
_INPUTS = 8
"""Random inputs at which a module is compared with what its weights alone make of them."""
_TOLERANCE = 1e-3
"""By how much, of itself, an output may differ from a multiple of that."""
_SAME_POWER = 0.05
"""Powers of the width that differ by less are the same."""
_ONE_RATE = "the exponents assume one learning rate for all layers; for rates per layer, as muP code has, see --name muP"
_ALLOWED = "allowed: torch.nn.Linear layers with ReLU between them, and constant factors"


class _Scales(NamedTuple):
    """Logarithms of the scales of one module, and the sizes of its hidden layers."""

    alpha: float
    weights: tuple[float, ...]
    hidden: tuple[int, ...]


def locate(
    what: str | Factory, *, depth: int | None = None, widths: Sequence[int] = WIDTHS, draws: int = DRAWS
) -> Location:
    """Locate an initialisation: the exponents of a named one, or of a torch module, and the predicted regime of every layer.

    A module is made ``draws`` times at every width. The standard deviations of its weights, and the constant factor of its output, are
    fitted as powers of the width. Biases are left out: a bias of the first layer counts as one more input, others are not part of
    the theory. Dropout and normalisation are not supported. Nothing is trained, and the random state of torch does not change.

    Args:
        what: a name (NTK, mean-field, LeCun, He, Xavier, maximal-update, PyTorch, Kaiming, Glorot, muP), or a function that takes a width
            and returns a torch module of `torch.nn.Linear` layers with ReLU between them and one input of shape (points, inputs).
        depth: layers of weights of a named initialisation, 2 by default; a module has its own.
        widths: two and more ascending numbers of hidden neurons at which the module is made.
        draws: modules made at each of them.

    Raises:
        InputError: the name is unknown, the function fails, or the module is not such a network.

    Example:
        ``phasediag.locate(lambda width: Sequential(Linear(10, width), ReLU(), Linear(width, 1)))``
    """
    if isinstance(what, str):
        return locate_name(what, 2 if depth is None else depth)
    if not callable(what):
        raise InputError(
            f"locate: what is of type {type(what).__name__}; allowed: a name, or a function that takes a width and returns a torch module"
        )
    if depth is not None:
        raise InputError("locate: depth cannot be given together with a module, which has its own")
    return locate_module(what, widths, draws)


def locate_module(make: Factory, widths: Sequence[int] = WIDTHS, draws: int = DRAWS) -> Location:
    """What `locate` says of a torch module."""
    import torch

    if isinstance(make, torch.nn.Module):
        raise InputError(
            "locate: a network is not supported; allowed: a function that takes a width and returns one"
        )
    widths = _whole(widths)
    if not (isinstance(draws, int) and draws > 0):
        raise InputError(
            f"locate: draws: {shortened(str(draws))} is not supported; allowed: a whole number from 1"
        )
    found: list[_Scales] = []
    with torch.random.fork_rng(), torch.no_grad(), redirect_stdout(sys.stderr):
        for width in widths:
            for draw in range(draws):
                torch.manual_seed(draw)
                found.append(_measured(make, width))
    _check_alike(found, widths, draws)
    logs = np.array([_exponents(scales) for scales in found])
    by_width = logs.reshape(len(widths), draws, -1)
    # a function that seeds itself, or keeps what it has made: no scatter is known
    if (by_width == by_width[:, :1]).all():
        logs, draws = by_width[:, 0], 1
    location = from_logs(widths, logs, draws, len(found[0].weights))
    return replace(location, notes=(*location.notes, _ONE_RATE))


def load_factory(text: str) -> Factory:
    """The function that ``package.module:name`` names; modules of the working directory are found.

    Raises:
        InputError: there is no such module or function, or importing it fails.
    """
    return load_function(text, "locate", "a function that takes a width and returns a torch module")


def _whole(widths: Sequence[int]) -> list[int]:
    """Ascending widths."""
    try:
        found = [operator.index(width) for width in widths]
    except TypeError:
        found = []
    if len(found) < 2 or found != sorted(set(found)) or found[0] < 2:
        raise InputError(
            f"locate: widths: {shortened(str(widths))} is not supported; allowed: two and more ascending whole numbers from 2 "
            "(one width cannot distinguish powers of it from constants)"
        )
    return found


def _measured(make: Factory, width: int) -> _Scales:
    """The scales of a module of this width."""
    where = f"locate: the module of width {width}"
    try:
        return _scales_of(make(width), where)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # whatever somebody's code raises, when it is made or run
        raise InputError(f"{where}: {in_words(error)}") from None


def _scales_of(made: object, where: str) -> _Scales:
    import torch

    if not isinstance(made, torch.nn.Module):
        raise InputError(f"{where}: is of type {type(made).__name__}; allowed: a torch.nn.Module")
    # a copy, since biases are set to 0 and the function may return what it has made before
    module = copy.deepcopy(made).cpu()
    if any(weights.dtype.itemsize < 4 for weights in module.parameters()):
        module = module.float()
    layers = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    own = {id(layer.weight) for layer in layers} | {id(layer.bias) for layer in layers}
    other = [name for name, weights in module.named_parameters() if id(weights) not in own]
    if other:
        raise InputError(f"{where}: {other[0]} belongs to no Linear layer; {_ALLOWED}")
    if not 2 <= len(layers) <= MAX_DEPTH:
        raise InputError(
            f"{where}: has {len(layers)} Linear layers, 2 to {MAX_DEPTH} are supported; {_ALLOWED}"
        )
    if len({id(layer.weight) for layer in layers}) < len(layers):
        raise InputError(f"{where}: layers share their weights; {_ALLOWED}")
    for number, layer in enumerate(layers, 1):
        scale = _scale(layer)
        if not 0 < scale < np.inf or layer.weight.min() == layer.weight.max():
            raise InputError(
                f"{where}: the weights of layer {number} are all equal, or not finite; allowed: random weights"
            )
        if layer.bias is not None:
            layer.bias.zero_()
    order, output, inputs = _run(module, layers)
    if len(order) != len(layers) or len(set(map(id, order))) != len(layers):
        raise InputError(f"{where}: its Linear layers are not used once each; {_ALLOWED}")
    plain = inputs
    for number, layer in enumerate(order):
        if plain.shape[-1] != layer.in_features:
            raise InputError(f"{where}: its Linear layers do not follow each other; {_ALLOWED}")
        plain = (plain if number == 0 else plain.relu()) @ layer.weight.T.to(plain.dtype)
    if not isinstance(output, torch.Tensor) or output.numel() != plain.numel():
        raise InputError(f"{where}: its output differs from the output of its last Linear layer; {_ALLOWED}")
    output = output.to(plain.dtype).reshape(plain.shape)
    factor = float((output * plain).sum() / plain.square().sum())  # of either sign: training is the same
    if not abs(factor) > 0 or float((output - factor * plain).norm()) > _TOLERANCE * float(output.norm()):
        raise InputError(
            f"{where}: its output differs from its weights with ReLU between them{_others(module)}; {_ALLOWED}"
        )
    scales = np.log([_scale(layer) for layer in order])
    hidden = tuple(layer.out_features for layer in order[:-1])
    return _Scales(-float(np.log(abs(factor))), tuple(map(float, scales)), hidden)


def _others(module: torch.nn.Module) -> str:
    """Which layers of a module may be why it is no such network: "; it has Dropout layers, ..."."""
    import torch

    plain = (torch.nn.Linear, torch.nn.ReLU, torch.nn.Identity, torch.nn.Flatten)
    parts = [part for part in module.modules() if not (isinstance(part, plain) or [*part.children()])]
    names = sorted({type(part).__name__ for part in parts})
    if not names:
        return ""
    remedy = " (with p = 0 it does nothing)" if any("Dropout" in name for name in names) else ""
    return f"; it also has {', '.join(names)}{remedy}"


def _scale(layer: torch.nn.Linear) -> float:
    """The standard deviation of its weights, about 0."""
    return float(layer.weight.double().square().mean().sqrt())


def _run(
    module: torch.nn.Module, layers: Sequence[torch.nn.Linear]
) -> tuple[list[torch.nn.Linear], object, torch.Tensor]:
    """The layers in the order in which they are used, the output, and the random inputs.

    As in training, so that dropout and normalisation show. Layers may be declared in any order: the module is run on inputs of
    the size that one of them takes.
    """
    *sizes, last = dict.fromkeys(layer.in_features for layer in layers)
    for size in sizes:
        with suppress(RuntimeError):  # of shapes that do not fit
            return _run_on(module, layers, size)
    return _run_on(module, layers, last)


def _run_on(
    module: torch.nn.Module, layers: Sequence[torch.nn.Linear], size: int
) -> tuple[list[torch.nn.Linear], object, torch.Tensor]:
    """What `_run` returns, of inputs of this size."""
    import torch

    order: list[torch.nn.Linear] = []
    handles = [layer.register_forward_hook(lambda layer, *_: order.append(layer)) for layer in layers]
    inputs = torch.randn(_INPUTS, size, dtype=layers[0].weight.dtype)
    try:
        return order, module.train()(inputs), inputs
    finally:
        for handle in handles:
            handle.remove()


def _check_alike(found: Sequence[_Scales], widths: Sequence[int], draws: int) -> None:
    """Hidden layers grow in proportion to the width, and there are as many of them at every width."""
    first = found[0]
    for index, scales in enumerate(found):
        width = widths[index // draws]
        if len(scales.hidden) != len(first.hidden):
            raise InputError(
                f"locate: {len(first.weights)} layers at width {widths[0]}, {len(scales.weights)} at {width}; allowed: equal numbers"
            )
        for layer, (size, before) in enumerate(zip(scales.hidden, first.hidden, strict=True), 1):
            if abs(size / before - width / widths[0]) > 0.02 * width / widths[0]:
                raise InputError(
                    f"locate: layer {layer} has {before} outputs at width {widths[0]} and {size} at {width}; "
                    "allowed: hidden layers that grow in proportion to the width"
                )

    if len(first.weights) < 4:
        return
    # the scale of a matrix of m x m random weights is known to 1 / (sqrt(2) m) of itself
    between = (
        np.array([scales.weights[1:-1] for scales in found]).reshape(len(widths), draws, -1).mean(axis=1)
    )
    span = np.log(widths[-1] / widths[0])
    powers = (between[-1] - between[0]) / span
    if np.ptp(powers) > _SAME_POWER + 4 / widths[0] / span:
        found_powers = ", ".join(f"m^{power:.2f}" for power in powers)
        raise InputError(
            f"locate: weights between hidden layers scale like {found_powers}; allowed: one power of the width for all of them (gamma_1)"
        )


def _exponents(scales: _Scales) -> tuple[float, float, float]:
    first, *between, output = scales.weights
    middle = [float(np.mean(between))] if between else []
    return exponents_from_powers([scales.alpha, output, *middle, first], len(scales.weights))

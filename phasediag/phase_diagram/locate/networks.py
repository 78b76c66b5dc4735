"""Where a torch module lies in the phase diagram: its scales, measured at several widths. Nothing is trained."""

from __future__ import annotations

import copy
import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ...errors import InputError, one_line
from ..theory import MAX_DEPTH, exponents_from_powers
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
_ALLOWED = "allowed: torch.nn.Linear layers with ReLU between them, and constant factors"


class _Scales(NamedTuple):
    """Logarithms of the scales of one module, and the sizes of its hidden layers."""

    alpha: float
    weights: tuple[float, ...]
    hidden: tuple[int, ...]


def locate(
    what: str | Factory, *, depth: int | None = None, widths: Sequence[int] = WIDTHS, draws: int = DRAWS
) -> Location:
    """In which regime an initialisation trains: the exponents of a named one, or of a torch module, and what is predicted there.

    A module is made ``draws`` times at every width. The standard deviations of its weights, and the factor by which its output differs
    from that of its weights alone, are fitted as powers of the width. Biases are left out: those of the first layer count as one more
    input, others are not part of the theory. Nothing is trained, and the random state of torch stays as it is.

    Args:
        what: a name (NTK, mean-field, LeCun, He, Xavier, maximal-update, PyTorch, Kaiming, Glorot, muP), or a function that takes a width
            and returns a torch module of `torch.nn.Linear` layers with ReLU between them and one input of shape (points, inputs).
        depth: layers of weights of a named initialisation, 2 unless given; a module has its own.
        widths: ascending numbers of hidden neurons at which the module is made.
        draws: modules made at each of them.

    Raises:
        InputError: the name is unknown, the function fails, or the module is not such a network.

    Example:
        ``phasediag.locate(lambda width: Sequential(Linear(10, width), ReLU(), Linear(width, 1)))``
    """
    if isinstance(what, str):
        return locate_name(what, depth or 2)
    if not callable(what):
        raise InputError(
            f"locate: {type(what).__name__} is not supported; allowed: a name, or a function that takes a width and returns a torch module"
        )
    if depth is not None:
        raise InputError("locate: depth cannot be given together with a module, which has its own")
    return locate_module(what, widths, draws)


def locate_module(make: Factory, widths: Sequence[int] = WIDTHS, draws: int = DRAWS) -> Location:
    """What `locate` says of a torch module."""
    if len(widths) == 0 or list(widths) != sorted(set(widths)) or min(widths) < 2 or draws < 1:
        raise InputError("locate: widths: allowed: ascending numbers from 2, and at least one draw of each")
    import torch

    found: list[_Scales] = []
    with torch.random.fork_rng(), torch.no_grad():
        for width in widths:
            for draw in range(draws):
                torch.manual_seed(draw)
                found.append(_measured(make, width))
    _check_alike(found, widths, draws)
    logs = [_exponents(scales) for scales in found]
    return from_logs(widths, np.array(logs), draws, len(found[0].weights))


def load_factory(text: str) -> Factory:
    """The function that ``package.module:name`` names; modules of the working directory are found.

    Raises:
        InputError: there is no such module or function, or importing it fails.
    """
    module, _, name = text.partition(":")
    allowed = "allowed: PACKAGE:FUNCTION, a function that takes a width and returns a torch module"
    if not module or not name:
        raise InputError(f"locate: {text}: is not supported; {allowed}")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        factory: Factory = getattr(importlib.import_module(module), name)
    except Exception as error:  # whatever importing somebody's code raises
        raise InputError(f"locate: {text}: {type(error).__name__}: {one_line(error)}; {allowed}") from None
    finally:
        sys.path.remove(here)
    if not callable(factory):
        raise InputError(f"locate: {text}: is a {type(factory).__name__}; {allowed}")
    return factory


def _measured(make: Factory, width: int) -> _Scales:
    """The scales of a module of this width."""
    import torch

    where = f"locate: the module of width {width}"
    try:
        made = make(width)
    except Exception as error:  # whatever somebody's code raises
        raise InputError(f"{where}: {type(error).__name__}: {one_line(error)}") from None
    if not isinstance(made, torch.nn.Module):
        raise InputError(f"{where}: is a {type(made).__name__}; allowed: a torch.nn.Module")
    # a copy, since biases are set to 0 and the function may return what it has made before
    module = copy.deepcopy(made).to(device="cpu", dtype=torch.float64).eval()
    layers = [part for part in module.modules() if isinstance(part, torch.nn.Linear)]
    own = {id(layer.weight) for layer in layers} | {id(layer.bias) for layer in layers}
    other = [name for name, weights in module.named_parameters() if id(weights) not in own]
    if other or len(layers) < 2 or len(layers) > MAX_DEPTH:
        why = (
            f"{other[0]} belongs to no Linear layer"
            if other
            else f"has {len(layers)} Linear layers, 2 to {MAX_DEPTH} are supported"
        )
        raise InputError(f"{where}: {why}; {_ALLOWED}")
    for number, layer in enumerate(layers, 1):
        if not 0 < _scale(layer) < np.inf:
            raise InputError(
                f"{where}: the weights of layer {number} are all 0, or not finite; allowed: random weights"
            )
    layers, alpha = _run(module, layers, where)
    scales = np.log([_scale(layer) for layer in layers])
    return _Scales(float(np.log(alpha)), tuple(scales), tuple(layer.out_features for layer in layers[:-1]))


def _scale(layer: torch.nn.Linear) -> float:
    """The standard deviation of its weights, about 0."""
    return float(layer.weight.square().mean().sqrt())


def _run(
    module: torch.nn.Module, layers: Sequence[torch.nn.Linear], where: str
) -> tuple[list[torch.nn.Linear], float]:
    """The layers in the order in which they are used, and the alpha of f = (1/alpha) a . relu(W ... relu(W1 x))."""
    import torch

    for layer in layers:
        if layer.bias is not None:
            layer.bias.zero_()
    order: list[torch.nn.Linear] = []
    handles = [layer.register_forward_hook(lambda layer, *_: order.append(layer)) for layer in layers]
    inputs = torch.randn(_INPUTS, layers[0].in_features, dtype=torch.float64)
    try:
        output = module(inputs)
    except Exception as error:  # whatever somebody's code raises
        raise InputError(f"{where}: {type(error).__name__}: {one_line(error)}") from None
    finally:
        for handle in handles:
            handle.remove()
    if len(order) != len(layers) or len(set(map(id, order))) != len(layers):
        raise InputError(f"{where}: its Linear layers are not used once each; {_ALLOWED}")
    plain = inputs
    for index, layer in enumerate(order):
        if plain.shape[-1] != layer.in_features:
            raise InputError(f"{where}: its Linear layers do not follow each other; {_ALLOWED}")
        plain = (plain if index == 0 else plain.relu()) @ layer.weight.T
    if not isinstance(output, torch.Tensor) or output.numel() != plain.numel():
        raise InputError(f"{where}: its output is not that of its last Linear layer; {_ALLOWED}")
    output = output.reshape(plain.shape)
    factor = float((output * plain).sum() / plain.square().sum())
    if not factor > 0 or float((output - factor * plain).norm()) > _TOLERANCE * float(output.norm()):
        raise InputError(
            f"{where}: its output is not what its weights and ReLU make of its input; {_ALLOWED}"
        )
    return order, 1.0 / factor


def _check_alike(found: Sequence[_Scales], widths: Sequence[int], draws: int) -> None:
    """Hidden layers grow in proportion to the width, and there are as many of them at every width."""
    first = found[0]
    for index, scales in enumerate(found):
        width = widths[index // draws]
        if len(scales.hidden) != len(first.hidden):
            raise InputError(
                f"locate: {len(first.weights)} layers at width {widths[0]}, {len(scales.weights)} at {width}; allowed: one number of them"
            )
        for layer, (size, before) in enumerate(zip(scales.hidden, first.hidden, strict=True), 1):
            if abs(size / before - width / widths[0]) > 0.02 * width / widths[0]:
                raise InputError(
                    f"locate: layer {layer} has {before} outputs at width {widths[0]} and {size} at {width}; "
                    "allowed: hidden layers that grow in proportion to the width"
                )

    if len(widths) == 1 or len(first.weights) < 4:
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

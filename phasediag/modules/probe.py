"""A look at the networks of a study before any is trained: they can be made at every width, and trained on the data."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path

import torch

from ..errors import InputError
from ..spec.data import Dataset
from ..spec.imported import in_words, load_function
from ..studies import counted
from . import measures
from .data import Points, loss_of
from .descent.course import Settings
from .descent.train import require_trains
from .factory import WHAT, code_of
from .networks import check_widths, layers_of, network, quietly
from .spec import Spec
from .study import ModuleStudy
from .training import points_of, settings_of


@quietly()
def probed(spec: Spec, data: Dataset, folder: Path, source: str) -> ModuleStudy:
    """The study of a spec whose function was imported and tried: at every width, with the first exponents and the first seed.

    Raises:
        InputError: the function cannot be imported; it fails, or its networks are not of one architecture (see
            `phasediag.modules.networks.check_widths`); or they cannot be evaluated on the data.
    """
    key = f"{source}: network.factory"
    folders = (str(folder.resolve()), str(Path.cwd()))
    function = load_function(spec.network.factory, key, WHAT, folders)
    make = partial(function, **spec.network.arguments)
    where = f"{key}: {spec.network.factory}"
    widths = sorted({width for grid in spec.grids for width in grid.width})
    gamma, gamma_prime = min(spec.grid.exponents())
    arguments = {"gamma": gamma, "gamma_prime": gamma_prime, "seed": spec.grid.seeds[0]}
    sizes = check_widths(make, widths, arguments, where)
    first = network(make, {"width": widths[0], **arguments}, where)
    points, tests = (part.like(first) for part in points_of(data, "cpu"))
    check_evaluates(first, points, spec.train.loss, data.classes, where)
    if len(tests):
        check_evaluates(first, tests, spec.train.loss, data.classes, f"{where}: test points")
    check_trains(first, points, settings_of(spec.train, widths[0], points, data.classes), where)
    layers = tuple(layers_of(first))
    named = spec.network.model_copy(update={"layers": layers, "code": code_of(function)})
    spec = spec.model_copy(update={"network": named})
    return ModuleStudy(spec, data, source, folders=folders, sizes=dict(zip(widths, sizes, strict=True)))


def check_evaluates(made: torch.nn.Module, data: Points, loss: str, classes: int, where: str) -> None:
    """Raises `InputError` if a network cannot be evaluated on the data, or its loss is no number before it is trained."""
    shapes = f"x {tuple(data.x.shape)}, y {tuple(data.y.shape)}"
    try:
        output = measures.outputs(made, dict(made.named_parameters()), dict(made.named_buffers()), data.x)
    except (Exception, SystemExit) as error:  # whatever somebody's module raises
        raise InputError(
            f"{where}: cannot be evaluated on {shapes} ({in_words(error)}); allowed: a module that takes such x"
        ) from None
    if not isinstance(output, torch.Tensor):
        raise InputError(f"{where}: returns {type(output).__name__}; allowed: a module that returns a tensor")
    try:
        found = float(loss_of(output, data.y, loss)) if _has_classes(output, classes) else math.inf
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    if not _has_classes(output, classes):
        raise InputError(
            f"{where}: returns {counted(output.shape[1], 'number')} for {classes} classes; "
            "allowed: one for each class, or targets that are floating numbers"
        )
    if not math.isfinite(found):
        raise InputError(
            f"{where}: the loss is {found} before training, at the smallest width; allowed: finite outputs"
        )


def check_trains(made: torch.nn.Module, data: Points, settings: Settings, where: str) -> None:
    """Raises `InputError` if a network cannot take a step on the data."""
    try:
        require_trains(made, data, settings)
    except InputError as error:
        raise InputError(
            f"{where}: {error}; allowed: a module with gradients on all points and on every minibatch"
        ) from None


def _has_classes(output: torch.Tensor, classes: int) -> bool:
    return not classes or output.ndim < 2 or output.shape[1] >= classes

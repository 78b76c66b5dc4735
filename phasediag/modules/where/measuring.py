"""`phasediag.measure`: trains a reader's module at several widths, and measures how far its layers move."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext
from numbers import Real
from typing import get_args

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike

from ...devices import single_threaded
from ...display.progress import Progress
from ...errors import InputError, choices
from ...phase_diagram.locate.location import Location
from ...phase_diagram.locate.networks import locate_module
from ...spec.imported import in_words
from ..alike import chunks_of
from ..data import CROSS_ENTROPY, LOSSES, MSE, Points, loss_of_nothing, points, same_rows
from ..descent.course import Limits, Method, Settings, Trained
from ..descent.optimised import Optimiser, train_by
from ..descent.train import train
from ..networks import Make, check_widths, layers_of, network, quietly
from ..probe import check_evaluates, check_trains
from ..training import identity, look, of_course
from .verdict import Measurement

WIDTHS = (64, 128, 256, 512, 1024)
"""Widths of networks that are trained, by default: four give the limit of infinite width, five its interval a degree of freedom more."""
SEEDS = 3
DRAWS = 16
"""Networks of each width whose scales are measured; they are not trained."""
EPOCHS = 5000
LOSS_TOLERANCE = 1e-2
METHODS: tuple[Method, ...] = get_args(Method)
Rate = float | Callable[[int], float]
"""A learning rate, or a function of the width that returns one."""
_WHERE = "measure"


@quietly()
def measure(
    make: Make,
    x: ArrayLike | torch.Tensor,
    y: ArrayLike | torch.Tensor,
    *,
    widths: Sequence[int] = WIDTHS,
    seeds: int | Sequence[int] = SEEDS,
    optimiser: str | Optimiser = "gd",
    learning_rate: Rate | None = None,
    epochs: int = EPOCHS,
    batch_size: int = 128,
    loss: str | None = None,
    loss_tolerance: float = LOSS_TOLERANCE,
    x_test: ArrayLike | torch.Tensor | None = None,
    y_test: ArrayLike | torch.Tensor | None = None,
    progress: bool = True,
) -> Measurement:
    """Measure in which regime a torch module trains: how the relative change of each of its layers grows or falls with the width.

    The module is made and trained at every width with every seed. Every trainable parameter of two and more dimensions is a layer. The
    slope ``S = d log RD / d log m`` of its relative change RD, with a 95 % interval, decides: below 0 the layer is lazy, above 0 it
    condenses. With four widths and more, S is the slope at infinite width.

    Args:
        make: a function that takes a width and a seed, or the width alone, and returns a torch.nn.Module. Random numbers of torch, NumPy
            and Python are seeded before each call.
        x: inputs (n, ...), as the module takes them; floating numbers become float32, or what the module's weights are.
        y: targets: floating numbers, with the loss ``sum (f - y)^2 / 2n``; or whole numbers, classes, with the cross-entropy.
        widths: two and more, ascending; four give the limit of infinite width.
        seeds: how many, or which.
        optimiser: "gd" (all points), "sgd" or "adam" (minibatches); or a function that takes a module and returns a torch.optim.Optimizer.
        learning_rate: a number, or a function of the width. Without it, gd takes steps of half the inverse curvature that move no
            layer by more than a tenth of itself; sgd and adam need it.
        epochs: passes over the data, at most.
        batch_size: points of a minibatch of sgd, adam and an optimiser of your own.
        loss: "mse" or "cross-entropy"; by the type of y unless given.
        loss_tolerance: training ends at this fraction of the loss of f = 0 (log K for K classes).
        x_test: inputs of test points (t, ...), for the columns test_loss, test_error and linear_gap_test.
        y_test: their targets.
        progress: whether to show how far it is.

    Returns:
        The measurement. ``print`` shows the verdict of each layer; ``layers`` and ``runs`` are frames, ``plot()`` is a figure.

    Raises:
        InputError: the function fails, returns no module, is random beyond its seed, ignores the width or has other layers at other widths;
            the data are not numbers or do not fit the module; or an argument is not allowed.

    Example:
        ``print(phasediag.measure(lambda width: Sequential(Linear(5, width), ReLU(), Linear(width, 1)), x, y, widths=[64, 256, 1024]))``
    """
    settings = _Checked.of(widths, seeds, optimiser, learning_rate, epochs, batch_size, loss_tolerance)
    data = points(x, y, _WHERE)
    chosen, classes = _loss(loss, data)
    tests = _tests(x_test, y_test, data)
    check_widths(make, settings.widths, {"seed": settings.seeds[0]}, _WHERE)
    first = network(make, {"width": settings.widths[0], "seed": settings.seeds[0]}, _WHERE)
    data, tests = data.like(first), tests.like(first)
    check_evaluates(first, data, chosen, classes, _WHERE)
    if len(tests):
        of_tests = int(tests.y.max()) + 1 if classes else 0
        check_evaluates(first, tests, chosen, of_tests, f"{_WHERE}: test points")
    target = loss_tolerance * loss_of_nothing(data.y, classes, chosen)
    if not target > 0:
        raise InputError(f"{_WHERE}: y: is zero everywhere; allowed: at least one other number")
    if not callable(optimiser):
        check_trains(first, data, settings.of_width(settings.widths[0], chosen, target), _WHERE)
    shown = Progress()
    rows: list[dict[str, object]] = []
    with shown.shown(in_logs=False) if progress else nullcontext(), single_threaded(True):
        shown.phase("training")
        shown.start(len(settings.widths) * len(settings.seeds), 0, 0, 1.0)
        costs = np.array(settings.widths, float) / np.sum(settings.widths) / len(settings.seeds)
        for width, cost in zip(settings.widths, costs, strict=True):
            networks = {
                seed: network(make, {"width": width, "seed": seed}, _WHERE) for seed in settings.seeds
            }
            for seeds_of, trained in _trained(networks, settings, data, chosen, target, width):
                for index, seed in enumerate(seeds_of):
                    looked = look(networks[seed], trained, index, data, tests, chosen, seed)
                    rows += _rows(width, seed, looked, of_course(trained.courses[index]))
                    shown.advance(1, 0, cost)
    runs = pd.DataFrame(rows)
    location = _location(make, settings.widths, layers_of(first), settings)
    return Measurement(runs, list(layers_of(first)), settings.in_words(loss_tolerance), location)


class _Checked:
    """The arguments of a measurement, which are known to be allowed."""

    def __init__(
        self,
        widths: list[int],
        seeds: list[int],
        optimiser: str | Optimiser,
        rate: Rate | None,
        epochs: int,
        size: int,
    ) -> None:
        self.widths, self.seeds, self.optimiser = widths, seeds, optimiser
        self.epochs, self.batch_size = epochs, size
        self._rate = rate

    @classmethod
    def of(
        cls,
        widths: Sequence[int],
        seeds: int | Sequence[int],
        optimiser: str | Optimiser,
        rate: Rate | None,
        epochs: int,
        size: int,
        tolerance: float,
    ) -> _Checked:
        """The arguments, checked. Raises `InputError`."""
        found = _whole(widths)
        if len(found) < 2 or found != sorted(set(found)) or found[0] < 1:
            raise InputError(
                f"{_WHERE}: widths: {widths!s:.80} is not supported; allowed: two and more ascending whole numbers from 1 "
                "(one width gives no slope)"
            )
        numbers = _whole(seeds if isinstance(seeds, Iterable) else range(_index(seeds)))
        if not numbers or len(set(numbers)) < len(numbers) or min(numbers) < 0:
            raise InputError(
                f"{_WHERE}: seeds: {seeds!s:.80} is not supported; allowed: a number of seeds from 1, or distinct whole numbers from 0"
            )
        if not callable(optimiser) and optimiser not in METHODS:
            raise InputError(
                f"{_WHERE}: optimiser: {optimiser!r} is not supported; {choices(optimiser, METHODS)}, "
                "or a function that takes a module and returns a torch.optim.Optimizer"
            )
        if callable(optimiser) and rate is not None:
            raise InputError(
                f"{_WHERE}: learning_rate: is not supported with an optimiser of your own; allowed: none, it has its own"
            )
        if optimiser in ("sgd", "adam") and rate is None:
            raise InputError(
                f"{_WHERE}: learning_rate: required by {optimiser}, but missing; allowed: a number above 0, or a function of the width"
            )
        for name, value in (("epochs", epochs), ("batch_size", size)):
            if _index(value) < 1:
                raise InputError(
                    f"{_WHERE}: {name}: {value!r} is not supported; allowed: a whole number from 1"
                )
        if not isinstance(tolerance, Real) or not 0 < tolerance < 1:
            raise InputError(
                f"{_WHERE}: loss_tolerance: {tolerance!r} is not supported; allowed: a number between 0 and 1"
            )
        checked = cls(found, numbers, optimiser, rate, int(epochs), int(size))
        for width in found:
            checked.rate(width)
        return checked

    def rate(self, width: int) -> float | None:
        """The learning rate at a width. Raises `InputError` if it is no number above 0."""
        if self._rate is None:
            return None
        try:
            rate = self._rate(width) if callable(self._rate) else self._rate
        except Exception as error:  # whatever somebody's function raises
            raise InputError(
                f"{_WHERE}: learning_rate: {in_words(error)}, at width {width}; allowed: a number, or a function of the width"
            ) from None
        if not isinstance(rate, Real) or not 0 < rate < math.inf:
            raise InputError(
                f"{_WHERE}: learning_rate: {rate!r} at width {width}; allowed: a finite number above 0, or a function of the width"
            )
        return float(rate)

    def of_width(self, width: int, loss: str, target: float) -> Settings:
        """How networks of a width are trained, by one of the named optimisers."""
        [method] = (name for name in METHODS if name == self.optimiser)
        return Settings(method=method, learning_rate=self.rate(width), **vars(self.limits(loss, target)))

    def limits(self, loss: str, target: float) -> Limits:
        """On what networks are trained, and until when."""
        return Limits(epochs=self.epochs, batch_size=self.batch_size, loss=loss, target=target)

    @property
    def follows_flow(self) -> bool:
        """Whether training has one learning rate for all weights, as the rule assumes."""
        return self.optimiser in ("gd", "sgd")

    def in_words(self, tolerance: float) -> str:
        """How the networks are trained: "by gd to 1 % of the loss of f = 0"."""
        name = self.optimiser if isinstance(self.optimiser, str) else "your own optimiser"
        return f"by {name} to {100 * tolerance:g} % of the loss of f = 0, {self.epochs} epochs at most"


def _whole(values: Iterable[int]) -> list[int]:
    try:
        return [operator.index(value) for value in values]
    except TypeError:
        return []


def _index(value: object) -> int:
    """A whole number; 0 if it is none."""
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return 0


def _loss(loss: str | None, data: Points) -> tuple[str, int]:
    """The loss, and the number of classes; 0 of numbers."""
    numbers = data.y.is_floating_point()
    chosen = loss or (MSE if numbers else CROSS_ENTROPY)
    if chosen not in LOSSES:
        raise InputError(f"{_WHERE}: loss: {loss!r} is not supported; {choices(loss, LOSSES)}")
    if numbers != (chosen == MSE):
        held = "floating numbers" if numbers else "whole numbers, which are classes"
        allowed = "mse, or whole numbers in y" if numbers else "cross-entropy, or y.float()"
        raise InputError(f"{_WHERE}: loss: {chosen} is not supported with y of {held}; allowed: {allowed}")
    return chosen, 0 if numbers else int(data.y.max()) + 1


def _tests(x: ArrayLike | torch.Tensor | None, y: ArrayLike | torch.Tensor | None, data: Points) -> Points:
    """The test points; none of them unless they are given."""
    if x is None or y is None:
        if x is not y:
            raise InputError(f"{_WHERE}: x_test and y_test belong together; allowed: both, or none")
        return Points(data.x[:0], data.y[:0])
    tests = points(x, y, f"{_WHERE}: test points")
    if tests.x.shape[1:] != data.x.shape[1:] or tests.y.dtype != data.y.dtype:
        raise InputError(
            f"{_WHERE}: test points: x {tuple(tests.x.shape)}, y of {tests.y.dtype} are not like x {tuple(data.x.shape)}, "
            f"y of {data.y.dtype}; allowed: the same shapes and types"
        )
    if twice := same_rows(tests.x, data.x):
        raise InputError(
            f"{_WHERE}: {twice} of {len(tests)} test points are training points; allowed: other points"
        )
    return tests


def _trained(
    networks: dict[int, torch.nn.Module],
    settings: _Checked,
    data: Points,
    loss: str,
    target: float,
    width: int,
) -> list[tuple[list[int], Trained]]:
    """Networks of one width after training, those together that were trained together."""
    optimiser = settings.optimiser
    if callable(optimiser):
        limits = settings.limits(loss, target)
        return [([seed], train_by(optimiser, made, seed, data, limits)) for seed, made in networks.items()]
    how = settings.of_width(width, loss, target)
    return [
        (seeds, train([networks[seed] for seed in seeds], seeds, data, how)) for seeds in chunks_of(networks)
    ]


def _rows(
    width: int, seed: int, looked: dict[str, dict[str, object]], course: dict[str, object]
) -> list[dict[str, object]]:
    """The rows of one network, one for each layer."""
    return [{**identity(layer, width, seed), **of_layer, **course} for layer, of_layer in looked.items()]


def _location(
    make: Make, widths: Sequence[int], layers: dict[str, torch.nn.Parameter], settings: _Checked
) -> Location | None:
    """Where a fully connected ReLU network lies on the map, by its scales at all widths; None of other modules, and with steps that differ
    between the layers."""
    if not settings.follows_flow or widths[0] < 2:
        return None

    def at(width: int) -> torch.nn.Module:
        return network(make, {"width": width, "seed": torch.initial_seed()}, _WHERE)

    try:
        found = locate_module(at, widths, DRAWS)
    except InputError:
        return None
    return found if found.depth == len(layers) else None

"""`phasediag where`: a measurement from the words of a command line."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from ...display.terminal import say
from ...errors import InputError
from ...spec.data import Dataset, load_data
from ...spec.imported import Function, in_words, load_function
from ...spec.tables import DigitsData, FileData
from ..data import Points
from ..networks import network
from .measuring import METHODS, WIDTHS, measure
from .verdict import Measurement

RANDOM_POINTS = 16
_COMMAND = "where"
_DATA = "allowed: a .csv, .parquet or .npz file, digits, or PACKAGE:FUNCTION that returns x and y"


class Data(NamedTuple):
    """What a module is trained on: arrays or tensors, and test points or None."""

    x: object
    y: object
    x_test: object = None
    y_test: object = None


def measured(
    module: str,
    width: Sequence[str] | None,
    seeds: int,
    data: str | None,
    optimiser: str,
    learning_rate: float | None,
    epochs: int,
    batch_size: int,
    loss_tolerance: float,
) -> Measurement:
    """The measurement that a command asks for, which goes like `phasediag.measure`.

    Raises:
        InputError: an option is not allowed; the message names it.
    """
    make = load_function(
        module, _COMMAND, "a function that takes a width and a seed and returns a torch.nn.Module"
    )
    steps: str | Function = optimiser
    if optimiser not in METHODS and ":" in optimiser:
        steps = load_function(
            optimiser,
            f"{_COMMAND}: --optimiser",
            "a function that takes a module and returns a torch optimiser",
        )
    widths = list(WIDTHS) if not width else [_number(part) for text in width for part in text.split(",")]
    first = partial(network, make, {"width": widths[0], "seed": 0}, f"{_COMMAND}: {module}")
    found = _random(first) if data is None else _read(data, first)
    try:
        return measure(
            make,
            found.x,  # type: ignore[arg-type]
            found.y,  # type: ignore[arg-type]
            widths=widths,
            seeds=seeds,
            optimiser=steps,
            learning_rate=learning_rate,
            epochs=epochs,
            batch_size=batch_size,
            loss_tolerance=loss_tolerance,
            x_test=found.x_test,  # type: ignore[arg-type]
            y_test=found.y_test,  # type: ignore[arg-type]
        )
    except InputError as error:
        message = str(error)
        for name in (
            "widths",
            "seeds",
            "optimiser",
            "learning_rate",
            "epochs",
            "batch_size",
            "loss_tolerance",
        ):
            option = f"--{name.replace('_', '-')}".replace("--widths", "--width")
            message = message.replace(f"measure: {name}:", f"{_COMMAND}: {option}:", 1)
        for name in ("x", "y", "test points"):
            message = message.replace(f"measure: {name}: ", f"{_COMMAND}: --data: {name}: ", 1)
        raise InputError(message.replace("measure: ", f"{_COMMAND}: {module}: ", 1)) from None


def _number(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise InputError(f"{_COMMAND}: --width: {text!r} is not supported; allowed: whole numbers from 1")
    return number


def _random(made: Callable[[], torch.nn.Module]) -> Data:
    """Random points: inputs on a sphere, targets of either sign."""
    first = next(weights for weights in made().parameters() if weights.ndim >= 2)  # trainable or not
    if first.ndim != 2:
        raise InputError(
            f"{_COMMAND}: --data: missing, and the inputs of a first layer of shape {tuple(first.shape)} are not known; {_DATA}"
        )
    inputs = first.shape[1]
    draw = np.random.default_rng(0)
    x = draw.standard_normal((RANDOM_POINTS, inputs))
    x *= math.sqrt(inputs) / np.linalg.norm(x, axis=1, keepdims=True)
    say(
        f"note: data: {RANDOM_POINTS} random points of {inputs} inputs, targets N(0, 1); --data names your own",
        error=True,
    )
    return Data(x, draw.standard_normal(RANDOM_POINTS))


def _read(data: str, made: Callable[[], torch.nn.Module]) -> Data:
    """The data that the option names."""
    source = f"{_COMMAND}: --data"
    if data == "digits":
        outputs = _has_classes(made().train(False))
        spec = DigitsData(kind="digits", test_fraction=0.2, targets="class" if outputs else "centred")
        return _of(load_data(spec, Path(), source))
    if ":" in data and not Path(data).exists():
        function = load_function(data, source, "a function that returns x and y")
        try:
            found = tuple(function())
        except Exception as error:  # whatever somebody's code raises
            raise InputError(f"{source}: {data}: {in_words(error)}; {_DATA}") from None
        if len(found) not in (2, 4):
            raise InputError(
                f"{source}: {data}: returns {len(found)} parts; allowed: x and y, or x, y, x_test and y_test"
            )
        return Data(*found)
    path = Path(data).expanduser()
    if not path.exists():
        raise InputError(f"{source}: {data!r} is no file; {_DATA}")
    return _of(
        load_data(
            FileData(kind="file", path=str(path.resolve()), samples=None, standardize=False), Path(), source
        )
    )


def _has_classes(module: torch.nn.Module) -> bool:
    """Whether a network returns several numbers for a point of the digits."""
    try:
        with torch.no_grad():
            return int(module(Points(torch.zeros(1, 64), torch.zeros(1)).like(module).x).numel()) > 1
    except Exception:  # whatever somebody's module does: its training says so
        return True


def _of(data: Dataset) -> Data:
    kind: type[np.generic] = np.int64 if data.classes else np.float64
    tests: tuple[NDArray[np.float64] | None, NDArray[np.generic] | None] = (None, None)
    if len(data.y_test):
        tests = data.x_test, data.y_test.astype(kind)
    return Data(data.x, data.y.astype(kind), *tests)

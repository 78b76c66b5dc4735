"""A study from arrays instead of a file, for notebooks and scripts."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, choices, one_line
from ..spec.data import make_dataset
from ..spec.parse import validate
from .spec import Spec, TrainSpec
from .study import PhaseDiagramStudy

_SOURCE = "study()"
_TABLES = ("network", "grid", "train")
_STORED = {"kind": "file", "path": "data.npz", "standardize": False}
"""Where a folder of results keeps the arrays: its own `study.toml` can be read and run again."""


def study(
    x: ArrayLike,
    y: ArrayLike,
    *,
    width: ArrayLike | None = None,
    gamma: ArrayLike = (),
    gamma_prime: ArrayLike = (),
    points: Sequence[tuple[float, float]] = (),
    seeds: int | Sequence[int] = 3,
    depth: int = 2,
    neurons: int | None = None,
    gamma_1: float | None = None,
    name: str = "study",
    refine: Mapping[str, Any] | None = None,
    samples: Mapping[str, Any] | None = None,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    **train: Any,
) -> PhaseDiagramStudy:
    """A phase diagram on arrays: what `phasediag.read_study` returns for a file of kind "phase-diagram".

    Args:
        x: inputs (n, d), or (n,) for d = 1, used as they are: numbers of order one train best.
        y: targets (n,).
        width: neurons per hidden layer, several of them: slopes need two, their limit of infinite width four.
        gamma: one axis of the grid of exponents.
        gamma_prime: the other axis.
        points: further (gamma, gamma_prime) pairs, or the only ones.
        seeds: how many, or which.
        depth: layers of weights, 2 to 8.
        neurons: how many of each hidden layer are simulated in wider networks; all of them unless given.
        gamma_1: the exponent of hidden-to-hidden matrices (three layers and more); 0 unless given.
        name: of the study.
        refine: the table [refine] of a spec.
        samples: the table [samples] of a spec.
        x_test: inputs (t, d), or (t,) for d = 1, of test points, none of which is a training point.
        y_test: their targets (t,).
        **train: keys of the table [train], such as ``accuracy`` or ``loss_tolerance``.

    Returns:
        The study, for `phasediag.train`. ``study.to_toml()`` is its spec.

    Raises:
        InputError: an array holds anything but finite numbers, shapes do not agree, or a key is not allowed.

    Example:
        ``study = phasediag.study(x, y, width=[100, 400, 1600], gamma=np.linspace(0.5, 2, 7), gamma_prime=[-0.5, 0, 0.5])``
    """
    if unknown := train.keys() - TrainSpec.model_fields.keys():
        allowed = [*[*inspect.signature(study).parameters][2:-1], *TrainSpec.model_fields]
        raise InputError(f"{_SOURCE}: {min(unknown)}: not an argument; {choices(min(unknown), allowed)}")
    if width is None:
        raise InputError(f"{_SOURCE}: width: required, but missing; allowed: several whole numbers")
    if (x_test is None) != (y_test is None):
        missing = "x_test" if x_test is None else "y_test"
        raise InputError(f"{_SOURCE}: {missing}: missing; allowed: both x_test and y_test, or neither")
    inputs, targets = _inputs(x, "x"), _numbers(y, "y", (1,))
    if x_test is None or y_test is None:
        data = make_dataset(inputs, targets, _SOURCE)
    else:
        data = make_dataset(
            inputs, targets, _SOURCE, _inputs(x_test, "x_test"), _numbers(y_test, "y_test", (1,))
        )
    axes = {"width": width, "gamma": gamma, "gamma_prime": gamma_prime}
    document = {
        "name": name,
        "kind": "phase-diagram",
        "network": _given(depth=depth, neurons=neurons),
        "data": {**_STORED, "samples": len(data.y)},
        "grid": _given(
            **{axis: _listed(values) for axis, values in axes.items()},
            points=[_listed(point) for point in points],
            seeds=seeds if isinstance(seeds, int) else _listed(seeds),
            gamma_1=gamma_1,
        ),
        "train": {key: _plain(value) for key, value in train.items()},
        **_given(refine=refine, samples=samples),
    }
    try:
        spec = validate(document, Spec, _SOURCE)
    except InputError as error:
        # arguments are not in tables
        message = str(error)
        for table in _TABLES:
            message = message.replace(f"{_SOURCE}: {table}.", f"{_SOURCE}: ", 1)
        raise InputError(message) from None
    return PhaseDiagramStudy(spec, data, _SOURCE)


def _inputs(values: ArrayLike, name: str) -> NDArray[np.float64]:
    """Finite numbers (n, d); one dimension is n rows of one input."""
    numbers = _numbers(values, name, (1, 2))
    return numbers[:, None] if numbers.ndim == 1 else numbers


def _numbers(values: ArrayLike, name: str, dimensions: tuple[int, ...]) -> NDArray[np.float64]:
    """An array of finite numbers of one of these dimensions."""
    shapes = " or ".join("(n,)" if dimension == 1 else "(n, d)" for dimension in dimensions)
    allowed = f"allowed: finite numbers, {shapes}"
    try:
        array = np.asarray(values)
    except (ValueError, TypeError, RuntimeError) as error:
        # rows of unequal length; tensors of another device
        raise InputError(f"{_SOURCE}: {name}: no array ({one_line(error)}); {allowed}") from None
    if array.dtype.kind not in "iufb" or array.ndim not in dimensions:
        raise InputError(
            f"{_SOURCE}: {name}: {array.dtype} {array.shape}; {allowed}{_remedy(array, name, dimensions)}"
        )
    numbers = array.astype(np.float64)
    bad = np.argwhere(~np.isfinite(numbers))
    if len(bad):
        raise InputError(f"{_SOURCE}: {name}: row {bad[0][0]} holds {numbers[tuple(bad[0])]}; {allowed}")
    return numbers


def _remedy(array: NDArray[Any], name: str, dimensions: tuple[int, ...]) -> str:
    """What makes an array that is allowed of this one, if that is simple: ", as y.ravel() has them"."""
    calls = ""
    if array.dtype.kind not in "iufb":
        try:
            array.astype(object).astype(float)  # dates and complex numbers are none
        except (TypeError, ValueError):
            return ""
        calls = ".astype(float)"
    if array.ndim > max(dimensions):
        if max(dimensions) == 2:
            calls += f".reshape(len({name}), -1)"
        elif array.size == len(array):
            calls += ".ravel()"
    return f", as {name}{calls} has them" if calls else ""


def _given(**values: Any) -> dict[str, Any]:
    """The values that are not None: without them, defaults are filled in."""
    return {key: value for key, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """Numbers and lists of Python's own in the place of numpy's."""
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else value


def _listed(values: Any) -> Any:
    """An axis, or one number, as a list; what is neither stays for the spec to refuse."""
    if isinstance(values, Mapping | str):
        return values
    plain = _plain(values)
    return [_plain(value) for value in plain] if np.iterable(plain) else [plain]

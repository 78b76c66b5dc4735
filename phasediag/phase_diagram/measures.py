"""What is measured of a trained network beside its relative change: each measure declared once, for fits, figures and pages.

A *power* of the width m has the slope ``S = d log q / d log m`` of the measure q, at infinite width. Any other measure is shown as its
*value*, at one width. `docs/measures.md` defines them all, and says which line of the rule each one follows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from ..errors import InputError, choices

NETWORK = "network"
"""What stands for the layer of a measure that belongs to the whole network."""


@dataclass(frozen=True)
class Measure:
    """A measure of a trained network.

    Attributes:
        name: its column of ``runs/``.
        words: what it is, in figures and on pages.
        symbol: mathtext.
        index: subscript of the slope S of this measure, mathtext; empty for the relative change.
        of_layers: whether every layer has its own; else the rows of all layers of a network hold the same number.
        is_power: whether it is fitted by a power of the width.
        has_regimes: whether a slope below 0 means the linear regime, and a slope above 0 the condensed regime.
        levels_off: whether the slope can stay 0 beyond the linear regime; its critical line is then where it reaches 0.
        operator_norm: whether the rule of `phasediag.phase_diagram.theory` predicts the slope, and in which norm; None where nothing does.
        is_logarithmic: whether a scale of its values is.
        most: the value at which a scale of its values ends, at the latest.
        resolution: of a difference of nearly equal numbers, up to which values are rounding errors: fits leave such runs out.
    """

    name: str
    words: str
    symbol: str
    index: str = ""
    of_layers: bool = False
    is_power: bool = True
    has_regimes: bool = False
    levels_off: bool = False
    operator_norm: bool | None = None
    is_logarithmic: bool = True
    most: float = math.inf
    resolution: float = 0.0


RELATIVE_CHANGE = Measure(
    "relative_change",
    "relative change",
    r"\mathrm{RD}",
    of_layers=True,
    has_regimes=True,
    operator_norm=False,
)
_ALL = (
    RELATIVE_CHANGE,
    Measure(
        "relative_change_spectral",
        "relative change in operator norm",
        r"\mathrm{RD}_\mathrm{op}",
        index=r"\mathrm{op}",
        of_layers=True,
        has_regimes=True,
        operator_norm=True,
    ),
    Measure(
        "kernel_change",
        "kernel change",
        r"\Delta K",
        index="K",
        has_regimes=True,
        levels_off=True,
        resolution=1e-12,
    ),
    Measure("linear_gap", "linear gap", "G", index="G", has_regimes=True, levels_off=True, resolution=1e-12),
    Measure(
        "linear_gap_test",
        "linear gap on test points",
        r"G_\mathrm{test}",
        index=r"G,\mathrm{test}",
        has_regimes=True,
        levels_off=True,
        resolution=1e-6,  # f itself is one of the differences where neurons represent many
    ),
    Measure("time_half", "time to half of the loss", "T_{1/2}", index="T_{1/2}"),
    Measure("time", "time to the end", "T", index="T"),
    Measure("orientations", "orientations", "", of_layers=True, is_power=False),
    Measure("effective_rank", "effective rank", "", of_layers=True, is_power=False),
    Measure("effective_rank_change", "effective rank of the change", "", of_layers=True, is_power=False),
    Measure("test_loss", "test loss", "", is_power=False),
    # 1 is the error of f = 0
    Measure("test_error", "test error", "", is_power=False, is_logarithmic=False, most=1.0),
)
MEASURES: dict[str, Measure] = {measure.name: measure for measure in _ALL}
"""All measures, by the names of their columns."""


def power_named(name: str) -> Measure:
    """The measure of a name, which is fitted by a power of the width.

    Raises:
        InputError: there is no such measure, or it is not fitted.
    """
    return _named(name, lambda measure: measure.is_power, "; others are shown as values")


def measure_named(name: str) -> Measure:
    """The measure of a name. Raises `InputError` if there is none."""
    return _named(name, lambda _: True, "")


def _named(name: str, fits: Callable[[Measure], bool], others: str) -> Measure:
    found = MEASURES.get(name)
    if found is None or not fits(found):
        allowed = [measure.name for measure in _ALL if fits(measure)]
        raise InputError(f"measure: {name!r} is not supported; {choices(name, allowed)}{others}")
    return found


def in_order(names: Iterable[str]) -> list[Measure]:
    """The measures among these columns, in the order in which they are shown."""
    there = set(names)
    return [measure for measure in _ALL if measure.name in there]

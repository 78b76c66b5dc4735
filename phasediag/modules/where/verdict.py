"""What a measurement says of each layer: the regime, how sure it is, and what would settle it where nothing does. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from ...display.terminal import json_ready
from ...phase_diagram.extrapolation import LEAST_WIDTHS
from ...phase_diagram.fitting import CONFIDENCE, fit, usable_runs
from ...phase_diagram.locate.location import Location
from ...phase_diagram.theory import LAYERS
from .words import VERBS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]
MOST_MORE = 6
"""Further widths, and factors of the seeds, that a verdict asks for, at most."""
MEANINGS = {
    "linear": "its relative change vanishes as the width grows",
    "condensed": "its relative change grows with the width",
    "critical": "its relative change does not depend on the width",
}

ENDS = {"evaluation_limit": "at the limit of epochs"}


class Slope(NamedTuple):
    """A slope with its 95 % interval, the regime that it tells, and how many runs it is from."""

    slope: float
    low: float
    high: float
    regime: str
    runs: int

    @classmethod
    def of(cls, row: pd.Series[Any]) -> Slope:
        """The slope of a row of `phasediag.fit`: at infinite width where it has an interval there."""
        name = "slope_infinite" if np.isfinite(row["slope_infinite_low"]) else "slope"
        slope, low, high = (float(row[f"{name}{end}"]) for end in ("", "_low", "_high"))
        return cls(slope, low, high, str(row["regime"]), int(row["runs"]))

    @property
    def confidence(self) -> float:
        """The probability that the sign of the slope is right, by Student's distribution and the side of the interval towards 0; NaN
        without an interval. At infinite width it is an estimate: that interval is wider than one of Student's, its tails may be, too."""
        side = self.slope - self.low if self.slope > 0 else self.high - self.slope
        if not math.isfinite(side) or self.slope == 0:
            return math.nan
        if side <= 0:
            return 1.0
        errors = stats.t(max(self.runs - 2, 1))
        return float(errors.cdf(abs(self.slope) / side * errors.ppf((1 + CONFIDENCE) / 2)))

    def __str__(self) -> str:
        if not math.isfinite(self.low):
            return f"S = {self.slope:.2f}, without an interval"
        return f"S = {_signed(self.slope)}, {_signed(self.low)} to {_signed(self.high)}"


@dataclass(frozen=True, repr=False)
class Measurement:
    """In which regime each layer of a module trains.

    Attributes:
        runs: one row per layer, width and seed, with columns as in ``runs/``: relative_change, kernel_change, status, ...
        names: of the layers, from the input to the output.
        how: how the networks were trained, in words.
        location: where the module lies on the map of fully connected ReLU networks; None where it does not.
    """

    runs: pd.DataFrame
    names: list[str]
    how: str
    location: Location | None

    @cached_property
    def layers(self) -> pd.DataFrame:
        """A row for every layer: its slope S with the 95 % interval low to high, at infinite width from four widths on; its regime, linear
        (lazy), critical, condensed or undetermined; the probability that the sign of S is right; the same of the operator norm; and, of
        fully connected ReLU networks trained with one learning rate, what the rule predicts."""
        rows = []
        for number, name in enumerate(self.names):
            plain, spectral = (
                self._slope(name, "relative_change"),
                self._slope(name, "relative_change_spectral"),
            )
            predicted = self._predicted(number)
            rows.append(
                {
                    "layer": name,
                    **_told(plain),
                    "confidence": plain.confidence,
                    **{f"{key}_spectral": value for key, value in _told(spectral).items()},
                    **predicted,
                    **self._counts(name),
                }
            )
        return pd.DataFrame(rows)

    @cached_property
    def kernel(self) -> Slope:
        """The slope of the change of the tangent kernel; below 0 the network approaches its linearisation as the width grows."""
        return self._slope("network", "kernel_change")

    def lines(self) -> Iterator[str]:
        """The verdict, a line for each layer and for the kernel; then what the rule says, and what is missing."""
        yield self._head()
        for number, row in self.layers.iterrows():
            yield self._line(str(row["layer"]), int(str(number)))
        if math.isfinite(self.kernel.slope):
            yield self._line_of_kernel()
        elif (self.runs["kernel_change"] == 0).all():
            yield "tangent kernel: does not change: the network is linear in all weights that train"
        if self.location is not None:
            yield from self._lines_of_map(self.location)
        yield from self._notes()

    def to_dict(self) -> dict[str, Any]:
        """The measurement as JSON can hold it."""
        told: dict[str, Any] = json_ready(
            {
                "trained": self.how,
                "widths": self._widths,
                "layers": self.layers.to_dict("records"),
                "kernel": {**_told(self.kernel), "confidence": self.kernel.confidence},
                "location": None if self.location is None else self.location.to_dict(),
                "verdict": list(self.lines()),
            }
        )
        return told

    def plot(self) -> Figure:
        """The relative change of every layer against the width, with its fitted line and its slope."""
        from .figure import scaling

        return scaling(self.runs, self.layers, self.how)

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return str(self)

    # Numbers.

    @property
    def _widths(self) -> list[int]:
        return sorted(int(width) for width in set(self.runs["width"]))

    @cached_property
    def _fits(self) -> dict[str, pd.DataFrame]:
        found = {}
        for measure in ("relative_change", "relative_change_spectral", "kernel_change"):
            found[measure] = fit(self.runs, measure=measure).set_index("layer")
        return found

    def _slope(self, layer: str, measure: str) -> Slope:
        return Slope.of(self._fits[measure].loc[[layer]].iloc[0])

    def _predicted(self, number: int) -> dict[str, object]:
        if self.location is None:
            return {"on_map": "", "predicted_slope": math.nan, "predicted_regime": ""}
        name = LAYERS[self.location.depth][number]
        return {
            "on_map": name,
            "predicted_slope": self.location.slopes()[name],
            "predicted_regime": self.location.regimes()[name],
        }

    def _counts(self, layer: str) -> dict[str, int]:
        row = self._fits["relative_change"].loc[[layer]].iloc[0]
        return {"runs": int(row["runs"]), "left_out": int(row["left_out"])}

    # Words.

    def _head(self) -> str:
        widths, seeds = self._widths, self.runs["seed"].nunique()
        limit = (
            "at infinite width"
            if len(widths) >= LEAST_WIDTHS
            else f"over these {len(widths)} widths, without their limit"
        )
        return f"widths {widths[0]} to {widths[-1]}, {seeds} seeds, {self.how}; slopes S {limit}, with 95 % intervals"

    def _line(self, layer: str, number: int) -> str:
        slope = self._slope(layer, "relative_change")
        if not math.isfinite(slope.slope):
            here = self.runs.loc[(self.runs["layer"] == layer) & (self.runs["status"] == "converged")]
            lack = (
                "converged runs"
                if here["width"].nunique() < 2
                else "relative changes that are numbers above 0,"
            )
            return f"{layer} is undetermined: no slope, for lack of {lack} at two widths"
        words = f"{layer} {VERBS[slope.regime]}: {slope}"
        if slope.regime in MEANINGS:
            sure = "" if slope.regime == "critical" else f"; {_percent(slope.confidence)} sure"
            words += f" ({MEANINGS[slope.regime]}{sure})"
        elif remedy := settles(self.runs.loc[self.runs["layer"] == layer], slope):
            words += f"; {remedy}"
        spectral = self._slope(layer, "relative_change_spectral")
        told = (
            spectral.regime != "undetermined" or slope.regime == "linear"
        )  # layers that are lazy in one norm only mislead
        if told and spectral.regime != slope.regime and math.isfinite(spectral.slope):
            words += f"; in operator norm it {VERBS[spectral.regime]}: {spectral}"
        return words

    def _line_of_kernel(self) -> str:
        kernel = self.kernel
        told = {
            "linear": "the network approaches its linearisation as the width grows",
            "condensed": "the network is further from its linearisation, the wider it is",
            "critical": "the network stays as far from its linearisation",
        }.get(kernel.regime, "whether the network approaches its linearisation is not settled")
        return f"tangent kernel: {told}: its change has {kernel}"

    def _lines_of_map(self, location: Location) -> Iterator[str]:
        exponents, off = location.exponents, location.uncertainty
        names = ["gamma", "gamma'", "gamma_1"][: 2 if location.depth == 2 else 3]
        values = ", ".join(
            f"{name} = {_signed(value)} ± {math.ceil(100 * error) / 100:.2f}"
            for name, value, error in zip(names, exponents, off, strict=False)
        )
        yield f"on the map of fully connected ReLU networks: {values}, from the scales at {len(self._widths)} widths"
        for _, row in self.layers.iterrows():
            agrees = row["predicted_regime"] == row["regime"]
            measured = "the same" if agrees else row["regime"]
            rule = f"{row['predicted_regime']}, S = {_signed(row['predicted_slope'])} at infinite width"
            yield f"  {row['layer']} is {row['on_map']}: the rule says {rule}; the measured regime is {measured}"

    def _notes(self) -> Iterator[str]:
        jobs = self.runs.drop_duplicates(["width", "seed"])
        others = jobs.loc[jobs["status"] != "converged", "status"].value_counts()
        if len(others):
            told = ", ".join(
                f"{count} {ENDS.get(str(status), str(status))}" for status, count in others.items()
            )
            yield (
                f"left out: {others.sum()} of {len(jobs)} networks, whose training did not end at this loss ({told}); "
                "more epochs, another learning rate or a larger loss_tolerance may let them converge"
            )


def _told(slope: Slope) -> dict[str, object]:
    return {name: getattr(slope, name) for name in ("slope", "low", "high", "regime")}


def settles(runs: pd.DataFrame, slope: Slope) -> str:
    """What would settle the regime of a layer: further widths, each larger by the same factor, or more seeds.

    The runs that it asks for are made up, on a line of this slope with the scatter of those that there are, and fitted.
    """
    used = runs.loc[usable_runs(runs)]
    x, y = np.log(used["width"].to_numpy(float)), np.log(used["relative_change"].to_numpy(float))
    widths = np.unique(x)
    if len(widths) < 2:
        return ""
    line = np.polyfit(x, y, 1)
    scatter = float(np.sqrt(np.mean((y - np.polyval(line, x)) ** 2)))
    seeds, factor = max(1, round(len(x) / len(widths))), float(np.median(np.diff(widths)))

    def settled(further: int, seeds: int) -> bool:
        imagined = np.concatenate([widths, widths[-1] + factor * np.arange(1, further + 1)])
        return _regime_of(runs.iloc[0], imagined, seeds, slope.slope, scatter) != "undetermined"

    for more in range(1, MOST_MORE + 1):
        if settled(more, seeds):
            largest = math.exp(widths[-1] + factor * more)
            return f"about {more} more {'width' if more == 1 else 'widths'}, to {_round(largest)}, would settle it"
    for times in range(2, MOST_MORE + 1):
        if settled(0, times * seeds):
            return f"about {times} times as many seeds would settle it"
    return "far more widths or seeds would be needed to settle it"


def _regime_of(like: pd.Series[Any], widths: Array, seeds: int, slope: float, scatter: float) -> str:
    """The regime of runs on a straight line, at these logarithms of widths, which scatter about it by as much at each."""
    off = np.linspace(-1.0, 1.0, seeds) if seeds > 1 else np.zeros(1)
    off *= scatter / max(float(np.sqrt(np.mean(off**2))), 1e-300)
    x = np.repeat(widths, seeds)
    frame = pd.DataFrame([like] * len(x)).assign(
        width=np.exp(x).round().astype(np.int64),
        neurons=np.exp(x).round().astype(np.int64),
        seed=np.tile(np.arange(seeds), len(widths)),
        relative_change=np.exp(slope * (x - x[0]) + np.tile(off, len(widths))),
        status="converged",
    )
    return Slope.of(fit(frame).iloc[0]).regime


def _signed(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}"


def _percent(probability: float) -> str:
    return "over 99.9 %" if probability > 0.999 else f"{100 * probability:.1f} %"


def _round(number: float) -> str:
    return f"{number:,.0f}" if number < 1e6 else f"{number:.1e}"

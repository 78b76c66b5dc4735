"""A place in the phase diagram: exponents with an uncertainty, and the prediction for them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from ..theory import LAYERS, predicted_regime, predicted_slope, round_exponent


class Exponents(NamedTuple):
    """The exponents of an initialisation, or what each of them is uncertain by."""

    gamma: float
    gamma_prime: float
    gamma_1: float = 0.0


EXACT = Exponents(0.0, 0.0, 0.0)
_NEGLIGIBLE = 5e-6
"""With uncertainties up to this, numbers are shown with six digits."""


@dataclass(frozen=True)
class Location:
    """A place in the phase diagram: the exponents of an initialisation, and the predicted regime and slope of every layer.

    Attributes:
        depth: layers of weights.
        exponents: gamma, gamma_prime and gamma_1.
        uncertainty: the error of each of them, to both sides; 0 where the exponents are exact, as for names and formulas.
        notes: sentences on where the exponents come from.
    """

    depth: int
    exponents: Exponents
    uncertainty: Exponents = EXACT
    notes: tuple[str, ...] = ()

    def regimes(self, operator_norm: bool = False) -> dict[str, str]:
        """The predicted regime of every layer: "critical" where its critical line is within the uncertainty.

        In operator norm, only hidden-to-hidden matrices, the layers whose two norms differ.
        """
        return {layer: self._regime(layer, operator_norm) for layer in self._layers(operator_norm)}

    def slopes(self, operator_norm: bool = False) -> dict[str, float]:
        """The predicted slope of every layer, d log RD / d log m; in operator norm, of hidden-to-hidden matrices."""
        return {layer: self._slope(layer, operator_norm) for layer in self._layers(operator_norm)}

    def near_lines(self, operator_norm: bool = False) -> list[str]:
        """The layers that have more than one regime within the uncertainty; in operator norm, hidden-to-hidden matrices among them."""
        return [layer for layer in self._layers(operator_norm) if self._near_line(layer, operator_norm)]

    def to_dict(self) -> dict[str, Any]:
        """The location as JSON can hold it."""
        told: dict[str, Any] = {
            "depth": self.depth,
            **self.exponents._asdict(),
            "uncertainty": self.uncertainty._asdict(),
            "notes": list(self.notes),
        }
        for operator_norm, norm in ((False, ""), (True, "_operator_norm")):
            if self._layers(operator_norm):
                told |= {
                    f"predicted_regime{norm}": self.regimes(operator_norm),
                    f"predicted_slope{norm}": self.slopes(operator_norm),
                    f"near_critical_line{norm}": self.near_lines(operator_norm),
                }
        return told

    def lines(self) -> Iterator[str]:
        """The location in words."""
        shown = {"gamma": "gamma", "gamma_prime": "gamma'"} | (
            {"gamma_1": "gamma_1"} if self.depth > 2 else {}
        )
        for field, name in shown.items():
            exponent, off = getattr(self.exponents, field), getattr(self.uncertainty, field)
            yield f"{name} = {self._shown(exponent)}" + (
                f" ± {math.ceil(100 * off) / 100:.2f}" if off else ""
            )
        for layer in LAYERS[self.depth]:
            also = f"; in operator norm {self._told(layer, True)}" if layer in self._layers(True) else ""
            yield f"{layer}: {self._told(layer, False)}{also}"
        yield from self.notes

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def _layers(self, operator_norm: bool) -> tuple[str, ...]:
        return LAYERS[self.depth][1:-1] if operator_norm else LAYERS[self.depth]

    def _slope(self, layer: str, operator_norm: bool) -> float:
        return round_exponent(predicted_slope(layer, self.depth, *self.exponents, operator_norm))

    def _regime(self, layer: str, operator_norm: bool) -> str:
        if self._near_line(layer, operator_norm):
            return "critical"
        return predicted_regime(layer, self.depth, *self.exponents, operator_norm)

    def _told(self, layer: str, operator_norm: bool) -> str:
        slope = self._slope(layer, operator_norm)
        within = " within ±" if self._near_line(layer, operator_norm) else ""
        return f"{self._regime(layer, operator_norm)}{within}, slope {self._shown(slope)}"

    def _shown(self, number: float) -> str:
        if max(self.uncertainty) <= _NEGLIGIBLE:
            return f"{number:.6g}"
        return f"{round(number, 2) + 0.0:.2f}"  # no -0.00

    def _near_line(self, layer: str, operator_norm: bool) -> bool:
        """Whether a layer has more than one regime within the uncertainty."""
        ends = [
            (at - off, at + off) if off else (at,)
            for at, off in zip(self.exponents, self.uncertainty, strict=True)
        ]
        regimes = {
            predicted_regime(layer, self.depth, gamma, gamma_prime, gamma_1, operator_norm)
            for gamma, gamma_prime, gamma_1 in product(*ends)
        }
        return len(regimes) > 1

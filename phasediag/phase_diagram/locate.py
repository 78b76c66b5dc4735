"""Where an initialisation lies in the phase diagram, from its name or its scales, and what is predicted there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import InputError
from .theory import LAYERS, NAMED_INITIALISATIONS, exponents_from_scales, predicted_regime

Exponents = tuple[float, float, float]


@dataclass(frozen=True)
class Location:
    """A place in the phase diagram: the exponents of an initialisation, and the predicted regime of every layer."""

    depth: int
    gamma: float
    gamma_prime: float
    gamma_1: float
    regimes: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The location as JSON can hold it."""
        exponents = {"gamma": self.gamma, "gamma_prime": self.gamma_prime, "gamma_1": self.gamma_1}
        return {"depth": self.depth, **exponents, "predicted_regime": dict(self.regimes)}

    def lines(self) -> Iterator[str]:
        """The location in words."""
        yield f"gamma = {self.gamma:.6g}"
        yield f"gamma' = {self.gamma_prime:.6g}"
        if self.depth == 3:
            yield f"gamma_1 = {self.gamma_1:.6g}"
        for layer, regime in self.regimes.items():
            yield f"{layer}: {regime}"


def locate(scales: Mapping[str, float | None], name: str | None = None, depth: int | None = None) -> Location:
    """The location of a network of these scales, or of a named initialisation.

    Args:
        scales: by the option that gives them: --width, --alpha, --beta-1, --beta-2, and of three layers --beta-3.
        name: of an initialisation, in the place of all scales but the width.
        depth: layers of weights; three if --beta-3 is given, else two.

    Raises:
        InputError: something is missing, contradicts the rest, or is not known.
    """
    depth = _depth_of(depth, scales["--beta-3"])
    if depth == 2:
        scales = {option: value for option, value in scales.items() if option != "--beta-3"}
    gamma, gamma_prime, gamma_1 = _exponents(scales) if name is None else _named(name, depth, scales)
    regimes = {layer: predicted_regime(layer, depth, gamma, gamma_prime, gamma_1) for layer in LAYERS[depth]}
    return Location(depth, gamma, gamma_prime, gamma_1, regimes)


def _depth_of(depth: int | None, beta_3: float | None) -> int:
    if depth not in (None, 2, 3):
        raise InputError(f"locate: --depth: {depth} is not supported; allowed: 2, 3")
    if depth == 2 and beta_3 is not None:
        raise InputError("locate: --beta-3 is not supported with --depth 2; it belongs to three layers")
    return depth or (2 if beta_3 is None else 3)


def _exponents(scales: Mapping[str, float | None]) -> Exponents:
    missing = [option for option, value in scales.items() if value is None]
    if missing:
        raise InputError(f"locate: {', '.join(missing)} missing; needed: {', '.join(scales)}, or --name")
    return exponents_from_scales(*(value for value in scales.values() if value is not None))


def _named(name: str, depth: int, scales: Mapping[str, float | None]) -> Exponents:
    given = [option for option, value in scales.items() if value is not None and option != "--width"]
    if given:
        raise InputError(f"locate: {', '.join(given)} cannot be given together with --name")
    known = NAMED_INITIALISATIONS[depth]
    for candidate, exponents in known.items():
        if candidate.lower() == name.lower():
            return *exponents, 0.0
    raise InputError(f"locate: --name: {name!r} is not known; allowed: {', '.join(known)}")

"""Exponents and scales, named initialisations, predicted critical lines, regimes and slopes.

The plane of a phase diagram is spanned by two exponents of the width m. For the two-layer network
``f(x) = (1/alpha) sum_k a_k relu(w_k . (x, 1))`` with ``a_k ~ N(0, beta_1^2)`` and ``w_k ~ N(0, beta_2^2 I)`` they are

    gamma = -log(beta_1 beta_2 / alpha) / log m,        gamma_prime = -log(beta_1 / beta_2) / log m.

The three-layer network ``f(x) = (1/alpha) a . relu(W_2 (relu(W_1 (x, 1)), beta_3))``, with entries ``a ~ N(0, beta_1^2)``,
``W_2 ~ N(0, beta_2^2)``, ``W_1 ~ N(0, beta_3^2)`` and two hidden layers of m neurons, has three:

    gamma = -log(beta_1 beta_2 beta_3 / alpha) / log m,  gamma_prime = -log(beta_1 / beta_3) / log m,
    gamma_1 = -log(beta_1 / beta_2) / log m;

its plane has a constant gamma_1, 0 by default. (Zhou 2022 calls the three gamma_3, gamma_2 and gamma_1.)

One rule gives the limit of infinite m for every layer and any depth. In normalised weights, N(0, 1) at the start,
layer l follows the gradient flow at a rate ``m^(-2 g_l)``, ``g_l = -log(beta_a / beta_l) / log m``: 0 for the output weights a, gamma_prime
for W1, gamma_1 for all matrices between hidden layers. With L hidden layers and ``t = gamma - (L + 1) / 2``,

- the *level* lambda solves ``sum_l max(0, lambda - g_l) = t`` over all layers where t > 0; else it is ``min_l g_l + max(t, -1/2) / 2``;
- the relative change of a layer, in the operator norm, has the slope ``s_l = lambda - g_l`` where that is positive, else twice that;
- in the Frobenius norm the slope is ``S = s`` for W1 and a, and ``S = s - 1/2`` for matrices between hidden layers, as their change
  has low rank and their initial value has not.

For W1 of two layers, the sign of S is a theorem (Luo 2021). All else is a scaling argument of this project: layers that grow share one
level, since the flow conserves the differences of ``|W_l|^2 m^(2 g_l)``, and the product of their growth factors is m^t.
`docs/maps.md` derives the rule and says how well measurements agree.

References:
    Luo 2021: Luo, Xu, Ma, Zhang, "Phase diagram for two-layer ReLU neural networks at infinite-width limit",
    JMLR 22 (2021), arXiv 2007.07497.
    Zhou 2022: Zhou, Zhou, Jin, Luo, Zhang, Xu, "Empirical phase diagram for three-layer neural networks with infinite
    width", NeurIPS 2022, arXiv 2205.12101.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError, choices

Exponents = tuple[float, float]
Array = NDArray[np.float64]
FloatOrArray = TypeVar("FloatOrArray", float, NDArray[np.float64])

MAX_DEPTH = 8
LAYERS: dict[int, tuple[str, ...]] = {
    depth: (*(f"W{layer}" for layer in range(1, depth)), "a") for depth in range(2, MAX_DEPTH + 1)
}
"""Trained layers by depth (layers of weights), from the input to the output."""

REGIMES = ("linear", "critical", "condensed")

_LINE_TOLERANCE = 1e-9
_EXAMPLE_TARGETS: dict[tuple[int, str], dict[str, Exponents]] = {
    (2, "W1"): {"linear": (0.5, 0.0), "critical": (1.0, 0.0), "condensed": (1.75, 0.0)},
    (3, "W2"): {"linear": (2.0, 0.0), "critical": (3.0, 0.0), "condensed": (3.4, 0.3)},
}
# A point this far (in gamma) from the critical line no longer shows critical behaviour at the widths one can train.
_NEARLY_CRITICAL = 0.25


def named_initialisations(depth: int) -> dict[str, Exponents]:
    """(gamma, gamma_prime) of initialisations in common use, all with gamma_1 = 0.

    Two layers: Luo 2021, Table 1. More: from the definitions of the exponents, with weights behind the first of variance 1/m (LeCun,
    Xavier) or 2/m (He) and input weights of variance O(1) (Xavier: O(1/m)); NTK: all weights N(0, 1) and a factor 1/sqrt(m) for every
    hidden layer; maximal-update: all weights N(0, 1), a factor 1/sqrt(m) between hidden layers and 1/m at the readout, one learning rate
    (with one hidden layer that is mean-field); mean-field: a factor 1/m for every hidden layer. None of a depth that theory does not know.
    """
    if depth not in LAYERS:
        return {}
    hidden = depth - 1
    named = {
        "NTK": (hidden / 2, 0.0),
        "LeCun": (hidden / 2, 0.5),
        "He": (hidden / 2, 0.5),
        "Xavier": ((hidden + 1) / 2, 0.0),
        "maximal-update": ((hidden + 1) / 2, 0.0),
        "mean-field": (float(hidden), 0.0),
    }
    if depth == 2:
        del named["maximal-update"]
    return named


def round_exponent(value: float) -> float:
    """An exponent as it is hashed, stored and compared: rounded to 10 decimals, without a negative zero."""
    return round(float(value), 10) + 0.0


def critical_gamma(
    layer: str, depth: int, gamma_prime: FloatOrArray, gamma_1: float = 0.0, operator_norm: bool = False
) -> FloatOrArray:
    """The gamma at which the predicted slope of a layer vanishes, at given gamma_prime: its critical line.

    By the rule of this module it is ``(L + 1) / 2 + sum_k max(0, lambda - g_k)`` at the level ``lambda = g_l`` or, of a matrix between
    hidden layers in the Frobenius norm, ``g_l + 1/2``. Where gamma_1 is 0, these are

    - W1: ``(L + 1) / 2 + L max(gamma_prime, 0)`` (two layers: Luo 2021, the theorems on the linear and the condensed regime);
    - matrices between hidden layers: ``L + 1/2 + max(1/2 - gamma_prime, 0)``; in the operator norm the same as
    - a: ``(L + 1) / 2 + max(-gamma_prime, 0)``.

    Args:
        layer: one of ``LAYERS[depth]``.
        depth: layers of weights, L + 1.
        gamma_prime: a number, or an array of any shape.
        gamma_1: of the plane.
        operator_norm: the line of the relative change in the operator norm.

    Returns:
        gamma, of the type and shape of ``gamma_prime``.

    Raises:
        ValueError: there is no such layer at this depth, or gamma_1 is not 0 and there are only two layers.
    """
    _require_layer(layer, depth, gamma_1)
    rates = _rates(depth, np.asarray(gamma_prime, dtype=np.float64), gamma_1)
    level = rates[layer] + _lost_in_frobenius_norm(layer, operator_norm)
    line: NDArray[np.float64] = depth / 2 + np.sum(
        [np.maximum(level - rate, 0.0) for rate in rates.values()], axis=0
    )
    return line if isinstance(gamma_prime, np.ndarray) else float(line)


class CriticalLine(NamedTuple):
    """One of the critical lines of a network.

    Attributes:
        kind: "first": of W1; "between" and "operator": of the matrices between hidden layers, in the Frobenius and in the operator norm;
            "last": of a, and of these matrices in the operator norm where both are one.
        name: whose it is, in words.
        layers: whose it is.
        gamma: its gamma at given gamma_prime.
    """

    kind: str
    name: str
    layers: tuple[str, ...]
    gamma: Callable[[Array], Array]


def critical_lines(depth: int, gamma_1: float = 0.0) -> list[CriticalLine]:
    """All critical lines of a network in both norms, each once: of W1; of the matrices between hidden layers, in the Frobenius norm and in
    the operator norm; of a, which is that in the operator norm where gamma_1 is 0.

    Raises:
        ValueError: there is no such depth, or gamma_1 is not 0 and there are only two layers.
    """
    _require_layer("W1", depth, gamma_1)
    first, *between, last = LAYERS[depth]
    found = [CriticalLine("first", first, (first,), partial(_line, first, depth, gamma_1, False))]
    output = CriticalLine("last", last, (last,), partial(_line, last, depth, gamma_1, False))
    if not between:
        return [*found, output]
    names, norm = ", ".join(between), f"{', '.join(between)} (operator norm)"
    frobenius, operator = (partial(_line, between[0], depth, gamma_1, norm) for norm in (False, True))
    found.append(CriticalLine("between", names, tuple(between), frobenius))
    if gamma_1 == 0:
        return [*found, CriticalLine("last", f"{norm}, {last}", (*between, last), operator)]
    return [*found, CriticalLine("operator", norm, tuple(between), operator), output]


def _line(layer: str, depth: int, gamma_1: float, operator_norm: bool, gamma_prime: Array) -> Array:
    return critical_gamma(layer, depth, gamma_prime, gamma_1, operator_norm)


def is_known(layer: str, depth: int) -> bool:
    """Whether there is such a layer at this depth, of which something is predicted."""
    return layer in LAYERS.get(depth, ())


def predicted_slope(
    layer: str,
    depth: int,
    gamma: float,
    gamma_prime: float,
    gamma_1: float = 0.0,
    operator_norm: bool = False,
) -> float:
    """The slope ``S = d log RD / d log m`` of the relative change RD of a layer as m goes to infinity, by the rule of this module.

    Args:
        layer: one of ``LAYERS[depth]``.
        depth: layers of weights.
        gamma, gamma_prime, gamma_1: exponents of the initialisation.
        operator_norm: of the relative change in the operator norm.

    Raises:
        ValueError: there is no such layer at this depth, or gamma_1 is not 0 and there are only two layers.
    """
    _require_layer(layer, depth, gamma_1)
    rates = {name: float(rate) for name, rate in _rates(depth, gamma_prime, gamma_1).items()}
    above = _level(list(rates.values()), gamma - depth / 2) - rates[layer]
    slope = above if above >= 0.0 else 2.0 * above
    return slope - _lost_in_frobenius_norm(layer, operator_norm)


def predicted_regime(
    layer: str,
    depth: int,
    gamma: float,
    gamma_prime: float,
    gamma_1: float = 0.0,
    operator_norm: bool = False,
) -> str:
    """Regime of a layer in the infinite-width limit: the sign of its `predicted_slope`, as "linear", "critical" or "condensed".

    "critical" is within 1e-9 in gamma of the line of `critical_gamma`. Raises `ValueError` for a layer that is not there.
    """
    beyond = gamma - critical_gamma(layer, depth, float(gamma_prime), gamma_1, operator_norm)
    if abs(beyond) <= _LINE_TOLERANCE:
        return "critical"
    return "condensed" if beyond > 0.0 else "linear"


def _rates(depth: int, gamma_prime: FloatOrArray, gamma_1: float) -> dict[str, FloatOrArray]:
    """The exponents g_l by layer."""
    first, *between, _ = LAYERS[depth]
    return {first: gamma_prime, **dict.fromkeys(between, gamma_1 + 0.0 * gamma_prime), "a": 0.0 * gamma_prime}


def _lost_in_frobenius_norm(layer: str, operator_norm: bool) -> float:
    """By how much the slope of a layer is smaller in the Frobenius norm than in the operator norm."""
    return 0.0 if operator_norm or layer in ("W1", "a") else 0.5


def _level(rates: list[float], excess: float) -> float:
    """The level lambda for ``excess`` = t."""
    if excess <= 0.0:
        return min(rates) + max(excess, -0.5) / 2
    # The sum of max(0, lambda - g) is the largest of the sums of lambda - g over the k smallest g.
    below = np.cumsum(np.sort(rates))
    return float(np.min((excess + below) / np.arange(1, len(rates) + 1)))


def exponents_from_scales(
    width: float, alpha: float, beta_1: float, beta_2: float, beta_3: float | None = None
) -> tuple[float, float, float]:
    """(gamma, gamma_prime, gamma_1) of a network of this width and these scales (definitions above).

    ``beta_1`` is the standard deviation of the output weights. Two layers: ``beta_2`` for the input weights, and gamma_1
    is 0. Three layers: ``beta_2`` for the weights W2, ``beta_3`` for the input weights W1.

    Raises:
        InputError: the width is not above 1, or a scale is not a positive number.
    """
    scales = {"alpha": alpha, "beta_1": beta_1, "beta_2": beta_2}
    if beta_3 is not None:
        scales["beta_3"] = beta_3
    _require_scales(width, **scales)
    log_width = math.log(width)
    powers = [math.log(scale) / log_width for scale in scales.values()]
    return exponents_from_powers(powers, depth=len(powers) - 1)


def exponents_from_powers(powers: Sequence[float], depth: int) -> tuple[float, float, float]:
    """(gamma, gamma_prime, gamma_1), given the powers of the width in the scales of `exponents_from_scales`, in their order.

    Of more than three layers, ``beta_2`` is the scale of all weights between hidden layers.
    """
    alpha, output, *between, first = powers
    gamma_1 = between[0] - output if between else 0.0
    gamma = alpha - output - first - (depth - 2) * sum(between)
    return round_exponent(gamma), round_exponent(first - output), round_exponent(gamma_1)


def scales_from_exponents(
    width: float, gamma: float, gamma_prime: float, alpha: float = 1.0, depth: int = 2, gamma_1: float = 0.0
) -> tuple[float, ...]:
    """(alpha, beta_1, beta_2), of three layers also beta_3, of a network of this width at these exponents.

    The exponents leave one scale free; it is ``alpha``. With it, two layers have
    ``beta_1 = sqrt(alpha) m^(-(gamma + gamma_prime)/2)`` and ``beta_2 = sqrt(alpha) m^(-(gamma - gamma_prime)/2)``, three
    ``beta_1 = alpha^(1/3) m^(-(gamma + gamma_prime + gamma_1)/3)``, ``beta_2 = beta_1 m^gamma_1`` and ``beta_3 = beta_1 m^gamma_prime``.
    The training dynamics of the normalised network depend on the exponents alone.

    Raises:
        InputError: the width is not above 1, or ``alpha`` is not a positive number.
    """
    _require_scales(width, alpha=alpha)
    ratios = (gamma_prime,) if depth == 2 else (gamma_1, gamma_prime)
    beta_1 = alpha ** (1 / depth) * float(width) ** (-(gamma + sum(ratios)) / depth)
    return alpha, beta_1, *(beta_1 * float(width) ** ratio for ratio in ratios)


def example_points(
    points: Iterable[Exponents], depth: int, layer: str = "W1", gamma_1: float = 0.0
) -> dict[str, Exponents]:
    """One point per regime of a layer, to illustrate it: those nearest to customary example points.

    The targets are (0.5, 0), (1, 0) and (1.75, 0) for W1 of two layers; (2, 0), (3, 0) and (3.4, 0.3) for W2 of three; else the critical
    line at gamma_prime = 0, and 1/2 in gamma to both sides of it. If no point lies on the critical line, the nearest one to it that is
    not taken already stands in, provided its gamma is within 0.25 of the line. A regime without a point is left out.

    Args:
        points: (gamma, gamma_prime) pairs in any order.
        depth: layers of weights.
        layer: one of them.
        gamma_1: of the plane.

    Returns:
        regime -> (gamma, gamma_prime), in the order linear, critical, condensed.
    """
    targets = _example_targets(layer, depth, gamma_1)
    by_regime: dict[str, list[Exponents]] = {regime: [] for regime in REGIMES}
    for gamma, gamma_prime in sorted(set(points)):
        by_regime[predicted_regime(layer, depth, gamma, gamma_prime, gamma_1)].append((gamma, gamma_prime))
    chosen = {regime: _nearest(found, targets[regime]) for regime, found in by_regime.items() if found}
    if "critical" not in chosen:
        free = [p for found in by_regime.values() for p in found if p not in chosen.values()]
        away = {point: _distance_to_line(point, layer, depth, gamma_1) for point in free}
        near = [point for point in free if away[point] <= _NEARLY_CRITICAL]
        if near:
            target = targets["critical"]
            chosen["critical"] = min(near, key=lambda point: (away[point], math.dist(point, target)))
    return {regime: chosen[regime] for regime in REGIMES if regime in chosen}


def _nearest(points: list[Exponents], target: Exponents) -> Exponents:
    return min(points, key=lambda point: math.dist(point, target))


def _example_targets(layer: str, depth: int, gamma_1: float) -> dict[str, Exponents]:
    if gamma_1 == 0.0 and (depth, layer) in _EXAMPLE_TARGETS:
        return _EXAMPLE_TARGETS[depth, layer]
    line = critical_gamma(layer, depth, 0.0, gamma_1)
    return {"linear": (line - 0.5, 0.0), "critical": (line, 0.0), "condensed": (line + 0.5, 0.0)}


def _distance_to_line(point: Exponents, layer: str, depth: int, gamma_1: float) -> float:
    return round_exponent(abs(point[0] - critical_gamma(layer, depth, point[1], gamma_1)))


def _require_layer(layer: str, depth: int, gamma_1: float) -> None:
    if not is_known(layer, depth):
        allowed = choices(layer, LAYERS.get(depth, [f"depths from 2 to {MAX_DEPTH}"]))
        raise ValueError(f"no layer {layer!r} at depth {depth}; {allowed}")
    if depth == 2 and gamma_1 != 0:
        raise ValueError(
            f"gamma_1 = {gamma_1:g}: two layers have no matrix between hidden layers; allowed: 0"
        )


def _require_scales(width: float, **scales: float) -> None:
    if not (math.isfinite(width) and width > 1):
        raise InputError(f"width: {width!r} is not allowed; allowed: a number above 1")
    for name, value in scales.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name}: {value!r} is not allowed; allowed: a positive number")

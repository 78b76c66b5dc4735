"""Exponents and scales, named initialisations, predicted critical lines, regimes and slopes.

The plane of a phase diagram is spanned by two exponents of the width m. For the two-layer network
``f(x) = (1/alpha) sum_k a_k relu(w_k . (x, 1))`` with ``a_k ~ N(0, beta_1^2)`` and ``w_k ~ N(0, beta_2^2 I)`` they are

    gamma = -log(beta_1 beta_2 / alpha) / log m,        gamma_prime = -log(beta_1 / beta_2) / log m.

The three-layer network ``f(x) = (1/alpha) a . relu(W_2 (relu(W_1 (x, 1)), beta_3))``, with entries ``a ~ N(0, beta_1^2)``,
``W_2 ~ N(0, beta_2^2)``, ``W_1 ~ N(0, beta_3^2)`` and two hidden layers of m neurons, has three:

    gamma = -log(beta_1 beta_2 beta_3 / alpha) / log m,  gamma_prime = -log(beta_1 / beta_3) / log m,
    gamma_1 = -log(beta_1 / beta_2) / log m;

its plane is one of constant gamma_1, 0 unless said otherwise. (Zhou 2022 calls them gamma_3, gamma_2 and gamma_1.)

References:
    Luo 2021: Luo, Xu, Ma, Zhang, "Phase diagram for two-layer ReLU neural networks at infinite-width limit",
    JMLR 22 (2021), arXiv 2007.07497.
    Zhou 2022: Zhou, Zhou, Jin, Luo, Zhang, Xu, "Empirical phase diagram for three-layer neural networks with infinite
    width", NeurIPS 2022, arXiv 2205.12101.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from ..errors import InputError

Exponents = tuple[float, float]
FloatOrArray = TypeVar("FloatOrArray", float, NDArray[np.float64])

LAYERS: dict[int, tuple[str, ...]] = {2: ("W1", "a"), 3: ("W1", "W2", "a")}
"""Trained layers by depth, from the input to the output; all but the last, ``a``, have a predicted critical line."""

REGIMES = ("linear", "critical", "condensed")

NAMED_INITIALISATIONS: dict[int, dict[str, Exponents]] = {
    2: {
        "NTK": (0.5, 0.0),
        "mean-field": (1.0, 0.0),
        "LeCun": (0.5, 0.5),
        "He": (0.5, 0.5),
        "Xavier": (1.0, 0.0),
    },
    3: {
        "NTK": (1.0, 0.0),
        "LeCun": (1.0, 0.5),
        "He": (1.0, 0.5),
        "Xavier": (1.5, 0.0),
        "maximal-update": (1.5, 0.0),
        "mean-field": (2.0, 0.0),
    },
}
"""(gamma, gamma_prime) of initialisations in common use, by depth.

Two layers: Luo 2021, Table 1. Three layers, all with gamma_1 = 0: from the definitions of the exponents, with hidden weights of
variance 1/m (LeCun, Xavier) or 2/m (He) and input weights of variance O(1) (Xavier: O(1/m)); NTK: all weights N(0, 1),
``alpha = m``; maximal-update: all weights N(0, 1), a factor 1/sqrt(m) between the hidden layers and 1/m at the readout, one
learning rate (``alpha = m^(3/2)``); mean-field: all weights N(0, 1) and a factor 1/m in each of
two layers, ``alpha = m^2``."""

_CRITICAL_GAMMA: dict[tuple[int, str], Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    (2, "W1"): lambda gamma_prime: 1.0 + np.maximum(gamma_prime, 0.0),
    (3, "W1"): lambda gamma_prime: 1.5 + 2.0 * np.maximum(gamma_prime, 0.0),
    (3, "W2"): lambda gamma_prime: np.maximum(3.0 - gamma_prime, 2.5),
}
_OPERATOR_GAMMA = {
    **_CRITICAL_GAMMA,
    (3, "W2"): lambda gamma_prime: 1.5 + np.maximum(-gamma_prime, 0.0),
}
_LINE_TOLERANCE = 1e-9
_EXAMPLE_TARGETS: dict[tuple[int, str], dict[str, Exponents]] = {
    (2, "W1"): {"linear": (0.5, 0.0), "critical": (1.0, 0.0), "condensed": (1.75, 0.0)},
    (3, "W1"): {"linear": (1.0, 0.0), "critical": (1.5, 0.0), "condensed": (2.0, 0.0)},
    (3, "W2"): {"linear": (2.0, 0.0), "critical": (3.0, 0.0), "condensed": (3.4, 0.3)},
}
# A point this far (in gamma) from the critical line no longer shows critical behaviour at the widths one can train.
_NEARLY_CRITICAL = 0.25


def round_exponent(value: float) -> float:
    """An exponent as it is hashed, stored and compared: rounded to 10 decimals, without a negative zero."""
    return round(float(value), 10) + 0.0


def critical_gamma(
    layer: str, depth: int, gamma_prime: FloatOrArray, operator_norm: bool = False
) -> FloatOrArray:
    """The gamma of the predicted critical line of a layer at given gamma_prime.

    Two layers, W1: ``gamma = 1 + max(gamma_prime, 0)`` (Luo 2021, the theorems on the linear and the condensed
    regime: condensed iff ``gamma > 1`` and ``gamma_prime < gamma - 1``). Three layers, gamma_1 = 0 (a scaling argument of
    this project, confirmed by its measurements; Zhou 2022 find the four regimes empirically), W1:
    ``gamma = 3/2 + 2 max(gamma_prime, 0)``; W2: ``gamma = max(3 - gamma_prime, 5/2)``.

    That is where the relative change in the Frobenius norm is critical. In the operator norm the slope of W2 is larger by 1/2, as its
    change has low rank and its initial value has not, and the line is ``gamma = 3/2 + max(-gamma_prime, 0)``; W1 is the same.

    Args:
        layer: a layer of input weights ("W1", "W2"). The output layer "a" has no predicted line.
        depth: number of layers of the network.
        gamma_prime: a number, or an array of any shape.
        operator_norm: the line of the relative change in the operator norm.

    Returns:
        gamma, of the type and shape of ``gamma_prime``.

    Raises:
        ValueError: no line is predicted for this layer and depth.
    """
    _require_predicted(layer, depth)
    lines = _OPERATOR_GAMMA if operator_norm else _CRITICAL_GAMMA
    line = lines[depth, layer](np.asarray(gamma_prime, dtype=np.float64))
    return line if isinstance(gamma_prime, np.ndarray) else float(line)


def has_critical_line(layer: str, depth: int) -> bool:
    """Whether theory predicts a critical line for this layer."""
    return layer in LAYERS.get(depth, ())[:-1]


def predicted_regime(layer: str, depth: int, gamma: float, gamma_prime: float, gamma_1: float = 0.0) -> str:
    """Regime of a layer in the infinite-width limit: "linear", "critical", "condensed", or "" where none is predicted.

    "critical" is within 1e-9 of the line of `critical_gamma`, which separates the linear side (smaller gamma) from
    the condensed one (Luo 2021). "" is returned for the output layer "a" and for ``gamma_1 != 0``.
    """
    if gamma_1 != 0.0 or not has_critical_line(layer, depth):
        return ""
    beyond = gamma - critical_gamma(layer, depth, float(gamma_prime))
    if abs(beyond) <= _LINE_TOLERANCE:
        return "critical"
    return "condensed" if beyond > 0.0 else "linear"


def leading_order_slope(layer: str, depth: int, gamma: float, gamma_prime: float) -> float:
    """Leading-order slope ``S = d log RD / d log m`` of the relative change RD of a layer as m goes to infinity.

    Two layers, W1 (a scaling argument consistent with the critical line of Luo 2021; good to about 0.05 well inside
    a regime, less near its corners):

    - ``gamma <= 1``: ``max(gamma - 1, -1/2) - 2 max(gamma_prime, 0)``;
    - ``gamma > 1`` and ``gamma_prime > gamma - 1``: ``2 (gamma - 1 - gamma_prime)``;
    - ``gamma > 1`` and ``|gamma_prime| <= gamma - 1``: ``(gamma - 1 - gamma_prime) / 2``.

    Three layers, gamma_1 = 0, with ``t = gamma - 3/2`` (the same kind of argument):

    - ``t <= 0``: W1 ``max(t, -1/2) - 2 max(gamma_prime, 0)``, W2 ``max(gamma - 2, -1) - 2 max(-gamma_prime, 0)``;
    - ``t > 0`` and ``gamma_prime > t/2``: W1 ``t - 2 gamma_prime``, W2 ``(gamma - 5/2) / 2``;
    - ``t > 0`` and ``-t <= gamma_prime <= t/2``: W1 ``(t - 2 gamma_prime) / 3``, W2 ``(gamma + gamma_prime - 3) / 3``.

    Returns NaN where only bounds are known (condensed first layer and gamma_prime further below 0 than that: for two layers the slope
    lies between ``gamma - 1`` and ``(gamma - 1 - gamma_prime) / 2``) and for the output layer.
    """
    if not has_critical_line(layer, depth):
        return math.nan
    return _slope_of_two(gamma, gamma_prime) if depth == 2 else _slope_of_three(layer, gamma, gamma_prime)


def _slope_of_two(gamma: float, gamma_prime: float) -> float:
    excess = gamma - 1.0
    if excess <= _LINE_TOLERANCE:
        return max(excess, -0.5) - 2.0 * max(gamma_prime, 0.0)
    if gamma_prime > excess:
        return 2.0 * (excess - gamma_prime)
    if gamma_prime >= -excess - _LINE_TOLERANCE:
        return (excess - gamma_prime) / 2.0
    return math.nan


def _slope_of_three(layer: str, gamma: float, gamma_prime: float) -> float:
    excess, first = gamma - 1.5, layer == "W1"
    if excess <= _LINE_TOLERANCE:
        if first:
            return max(excess, -0.5) - 2.0 * max(gamma_prime, 0.0)
        return max(gamma - 2.0, -1.0) - 2.0 * max(-gamma_prime, 0.0)
    if gamma_prime > excess / 2.0:
        return excess - 2.0 * gamma_prime if first else (gamma - 2.5) / 2.0
    if gamma_prime >= -excess - _LINE_TOLERANCE:
        return (excess - 2.0 * gamma_prime) / 3.0 if first else (gamma + gamma_prime - 3.0) / 3.0
    return math.nan


def exponents_from_scales(
    width: float, alpha: float, beta_1: float, beta_2: float, beta_3: float | None = None
) -> tuple[float, float, float]:
    """(gamma, gamma_prime, gamma_1) of a network of this width and these scales (definitions above).

    ``beta_1`` is the standard deviation of the output weights. Two layers: ``beta_2`` that of the input weights, and gamma_1
    is 0. Three layers: ``beta_2`` that of the weights W2, ``beta_3`` that of the input weights W1.

    Raises:
        InputError: the width is not above 1, or a scale is not a positive number.
    """
    scales = {"alpha": alpha, "beta_1": beta_1, "beta_2": beta_2}
    if beta_3 is not None:
        scales["beta_3"] = beta_3
    _require_scales(width, **scales)
    log_width = math.log(width)
    _, b_1, b_2, *more = (math.log(scale) / log_width for scale in scales.values())
    gamma = math.log(alpha) / log_width - b_1 - b_2 - sum(more)
    gamma_prime, gamma_1 = (more[0] - b_1, b_2 - b_1) if more else (b_2 - b_1, 0.0)
    return round_exponent(gamma), round_exponent(gamma_prime), round_exponent(gamma_1)


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


def example_points(points: Iterable[Exponents], depth: int, layer: str = "W1") -> dict[str, Exponents]:
    """One point per regime of a layer, to illustrate it: those nearest to customary example points.

    The targets are (0.5, 0), (1, 0) and (1.75, 0) for two layers; (1, 0), (1.5, 0) and (2, 0) for W1 of three; (2, 0), (3, 0) and
    (3.4, 0.3) for W2. If no point lies on the critical line, the nearest one to it that is not taken already stands in,
    provided its gamma is within 0.25 of the line. A regime without a point is left out.

    Args:
        points: (gamma, gamma_prime) pairs in any order.
        depth: number of layers.
        layer: a layer of input weights.

    Returns:
        regime -> (gamma, gamma_prime), in the order linear, critical, condensed.
    """
    targets = _EXAMPLE_TARGETS[depth, layer]
    by_regime: dict[str, list[Exponents]] = {regime: [] for regime in REGIMES}
    for gamma, gamma_prime in sorted(set(points)):
        by_regime[predicted_regime(layer, depth, gamma, gamma_prime)].append((gamma, gamma_prime))
    chosen = {regime: _nearest(found, targets[regime]) for regime, found in by_regime.items() if found}
    if "critical" not in chosen:
        free = [p for found in by_regime.values() for p in found if p not in chosen.values()]
        chosen |= _nearly_critical(free, layer, depth)
    return {regime: chosen[regime] for regime in REGIMES if regime in chosen}


def _nearest(points: list[Exponents], target: Exponents) -> Exponents:
    return min(points, key=lambda point: math.dist(point, target))


def _nearly_critical(points: list[Exponents], layer: str, depth: int) -> dict[str, Exponents]:
    """{"critical": the point nearest to the line}, or {} if none is near; ties go to the example target."""

    def distance(point: Exponents) -> float:
        return round_exponent(abs(point[0] - critical_gamma(layer, depth, point[1])))

    near = [point for point in points if distance(point) <= _NEARLY_CRITICAL]
    if not near:
        return {}
    target = _EXAMPLE_TARGETS[depth, layer]["critical"]
    return {"critical": min(near, key=lambda point: (distance(point), math.dist(point, target)))}


def _require_predicted(layer: str, depth: int) -> None:
    if has_critical_line(layer, depth):
        return
    allowed = [f"{name} (depth {known})" for known, layers in LAYERS.items() for name in layers[:-1]]
    raise ValueError(
        f"no critical line is predicted for layer {layer!r} at depth {depth}; allowed: {', '.join(allowed)}"
    )


def _require_scales(width: float, **scales: float) -> None:
    if not (math.isfinite(width) and width > 1):
        raise InputError(f"width: {width!r} is not allowed; allowed: a number above 1")
    for name, value in scales.items():
        if not (math.isfinite(value) and value > 0):
            raise InputError(f"{name}: {value!r} is not allowed; allowed: a positive number")

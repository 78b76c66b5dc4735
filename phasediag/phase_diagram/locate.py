"""Where an initialisation lies in the phase diagram, from its name or its scales, and what is predicted there."""

from __future__ import annotations

import ast
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..errors import InputError
from .theory import (
    LAYERS,
    MAX_DEPTH,
    exponents_from_powers,
    named_initialisations,
    predicted_regime,
    predicted_slope,
    round_exponent,
)

Exponents = tuple[float, float, float]

ALIASES = {
    "glorot": "Xavier",
    "kaiming": "He",
    "mup": "maximal-update",
    "pytorch": "LeCun",
}
"""Other names of initialisations; PyTorch's layers have LeCun's exponents: a uniform distribution with variance 1/(3 inputs)."""
_LONGEST = 60
"""Characters of a formula that a message repeats."""


@dataclass(frozen=True)
class _Term:
    """The leading term of a formula for wide networks, factor * m^power; `inputs`: it has the number of inputs in it."""

    factor: float
    power: float = 0.0
    inputs: bool = False


@dataclass(frozen=True)
class Location:
    """A place in the phase diagram: the exponents of an initialisation, and the predicted regime and slope of every layer.

    Attributes:
        depth: layers of weights.
        gamma, gamma_prime, gamma_1: the exponents.
        margin: log 2 / log m where the exponents are told from one width, else 0: by how much a factor of two in a scale, which is no
            power of the width, moves them. gamma has a factor for each layer.
    """

    depth: int
    gamma: float
    gamma_prime: float
    gamma_1: float
    margin: float = 0.0

    def regimes(self, operator_norm: bool = False) -> dict[str, str]:
        """The predicted regime of every layer; in operator norm, of those whose two norms differ: hidden-to-hidden matrices."""
        return {
            layer: predicted_regime(layer, self.depth, *self._point, operator_norm)
            for layer in self._layers(operator_norm)
        }

    def slopes(self, operator_norm: bool = False) -> dict[str, float]:
        """The predicted slope of every layer, d log RD / d log m; in operator norm, of hidden-to-hidden matrices."""
        return {
            layer: round_exponent(predicted_slope(layer, self.depth, *self._point, operator_norm))
            for layer in self._layers(operator_norm)
        }

    def near_lines(self, operator_norm: bool = False) -> list[str]:
        """The layers that have more than one regime within the margin; in operator norm, hidden-to-hidden matrices among them."""
        return [layer for layer in self._layers(operator_norm) if self._near_line(layer, operator_norm)]

    def to_dict(self) -> dict[str, Any]:
        """The location as JSON can hold it."""
        exponents = {"gamma": self.gamma, "gamma_prime": self.gamma_prime, "gamma_1": self.gamma_1}
        told: dict[str, Any] = {"depth": self.depth, **exponents, "margin": self.margin}
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
        yield f"gamma = {self._shown(self.gamma, self.depth)}"
        yield f"gamma' = {self._shown(self.gamma_prime)}"
        if self.depth > 2:
            yield f"gamma_1 = {self._shown(self.gamma_1)}"
        for layer in LAYERS[self.depth]:
            operator_norm = layer in self._layers(operator_norm=True)
            also = f"; in operator norm {self._told(layer, True)}" if operator_norm else ""
            yield f"{layer}: {self._told(layer, False)}{also}"
        if self.margin:
            yield "one width does not tell powers of it from constants: ± is a factor of two in a scale, for gamma in every one of them."
            yield "Formulas of m do: --beta-1 'sqrt(2/m)'"

    @property
    def _point(self) -> Exponents:
        return self.gamma, self.gamma_prime, self.gamma_1

    def _layers(self, operator_norm: bool) -> tuple[str, ...]:
        return LAYERS[self.depth][1:-1] if operator_norm else LAYERS[self.depth]

    def _told(self, layer: str, operator_norm: bool) -> str:
        slope = self.slopes(operator_norm)[layer]
        near = ", the critical line within ±" if self._near_line(layer, operator_norm) else ""
        shown = _rounded(slope) if self.margin else f"{slope:.6g}"
        return f"{self.regimes(operator_norm)[layer]}, slope {shown}{near}"

    def _shown(self, exponent: float, times: int = 1) -> str:
        return f"{_rounded(exponent)} ± {times * self.margin:.2f}" if self.margin else f"{exponent:.6g}"

    def _near_line(self, layer: str, operator_norm: bool) -> bool:
        """Whether a layer has more than one regime within the margin."""
        margin_1 = self.margin if self.depth > 2 else 0.0
        around = (
            (
                self.gamma + one * self.depth * self.margin,
                self.gamma_prime + two * self.margin,
                self.gamma_1 + three * margin_1,
            )
            for one, two, three in product((-1, 1), repeat=3)
        )
        return len({predicted_regime(layer, self.depth, *point, operator_norm) for point in around}) > 1


def _rounded(number: float) -> str:
    return f"{round(number, 2) + 0.0:.2f}"  # no -0.00


def locate(
    scales: Mapping[str, str | None],
    width: float | None = None,
    name: str | None = None,
    depth: int | None = None,
) -> Location:
    """The location of a network of these scales, or of a named initialisation.

    Args:
        scales: by the option that gives them, as numbers or as formulas of the width m and the number d of inputs: --alpha, --beta-1 of
            the output weights, --beta-2 of the input weights; of more layers, of hidden-to-hidden weights, with --beta-3 of the input
            weights.
        width: hidden neurons, for scales that are numbers.
        name: of an initialisation, in the place of all else.
        depth: layers of weights; three if --beta-3 is given, else two.

    Raises:
        InputError: something is missing, contradicts the rest, or is not known.
    """
    depth = _depth_of(depth, scales["--beta-3"])
    if name is not None:
        given = [option for option, value in {"--width": width, **scales}.items() if value is not None]
        if given:
            raise InputError(f"locate: {', '.join(given)} cannot be given together with --name")
        return Location(depth, *_named(name, depth))
    needed = {option: text for option, text in scales.items() if depth > 2 or option != "--beta-3"}
    texts = {option: text for option, text in needed.items() if text is not None}
    trees = {option: _parsed(text, option) for option, text in texts.items()}
    formulas = [option for option, tree in trees.items() if "m" in _names(tree)]
    missing = [option for option in needed if option not in texts]
    if not formulas and width is None:
        missing = ["--width", *missing]
    if missing:
        options = ", ".join(["--width", *needed])
        raise InputError(
            f"locate: {', '.join(missing)} missing; needed: {options} (no width with formulas of m), or --name"
        )
    if width is not None:
        _check_width(width)
        for option, tree in trees.items():
            if names := _names(tree) & {"m", "d"}:
                raise InputError(
                    f"locate: {option}: {' and '.join(sorted(names))} is not supported together with --width; allowed: numbers"
                )
    powers = [_power(_leading(tree, option, texts[option]), width, option) for option, tree in trees.items()]
    margin = 0.0 if width is None else math.log(2) / math.log(width)
    return Location(depth, *exponents_from_powers(powers, depth), margin)


def _depth_of(depth: int | None, beta_3: str | None) -> int:
    if depth is not None and not 2 <= depth <= MAX_DEPTH:
        raise InputError(f"locate: --depth: {depth} is not supported; allowed: 2 to {MAX_DEPTH}")
    if depth == 2 and beta_3 is not None:
        raise InputError(
            "locate: --beta-3 is not supported with --depth 2; it belongs to three layers and more"
        )
    return depth or (2 if beta_3 is None else 3)


def _check_width(width: float) -> None:
    if not (math.isfinite(width) and width >= 2):
        raise InputError(f"locate: --width: {width:g} is not supported; allowed: a finite number from 2")


def _named(name: str, depth: int) -> Exponents:
    known = named_initialisations(depth)
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-").replace("μ", "mu")
    wanted = ALIASES.get(wanted, wanted).lower()
    if depth == 2 and wanted == "maximal-update":
        wanted = "mean-field"  # with one hidden layer they are the same
    for candidate, exponents in known.items():
        if candidate.lower() == wanted:
            return *exponents, 0.0
    names = dict.fromkeys([*known, "maximal-update", *ALIASES])
    raise InputError(f"locate: --name: {_short(name)} is not known; allowed: {', '.join(names)}")


def _power(term: _Term, width: float | None, option: str) -> float:
    """log scale / log m at one width; without one, the power of m in a formula."""
    if not 0 < term.factor < math.inf:
        raise InputError(
            f"locate: {option}: {term.factor:g} is not supported; allowed: a finite number above 0"
        )
    return term.power if width is None else math.log(term.factor) / math.log(width)


# Formulas.


def _short(text: str) -> str:
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _refused(option: str, text: str, why: str = "") -> InputError:
    return InputError(
        f"locate: {option}: {_short(text)} is not supported{why}; allowed: a number above 0, or a formula of the width m and the number d "
        "of inputs with + - * / ** and sqrt()"
    )


def _parsed(text: str, option: str) -> ast.expr:
    try:
        return ast.parse(text.strip(), mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _refused(option, text) from None


def _names(tree: ast.expr) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def _leading(tree: ast.expr, option: str, text: str) -> _Term:
    """The leading term of a formula as m grows, d being some constant."""
    try:
        return _term(tree)
    except _Unknown as unknown:
        raise _refused(option, text, f" ({unknown})" if str(unknown) else "") from None
    except (OverflowError, ZeroDivisionError, RecursionError):
        raise _refused(option, text, " (beyond numbers)") from None


class _Unknown(Exception):
    """What a formula does has no leading term that is known."""


def _term(node: ast.AST) -> _Term:
    match node:
        case ast.Constant(int() | float() as number) if not isinstance(number, bool):
            return _Term(float(number))
        case ast.Name("m"):
            return _Term(1.0, 1.0)
        case ast.Name("d"):
            return _Term(math.pi, 0.0, True)  # no number that a formula would cancel by chance
        case ast.UnaryOp(ast.USub(), operand):
            return _times(_term(operand), _Term(-1.0))
        case ast.Call(ast.Name("sqrt"), [operand], []):
            return _to_the(_term(operand), _Term(0.5))
        case ast.BinOp(left, ast.Add(), right):
            return _plus(_term(left), _term(right))
        case ast.BinOp(left, ast.Sub(), right):
            return _plus(_term(left), _times(_term(right), _Term(-1.0)))
        case ast.BinOp(left, ast.Mult(), right):
            return _times(_term(left), _term(right))
        case ast.BinOp(left, ast.Div(), right):
            return _times(_term(left), _to_the(_term(right), _Term(-1.0)))
        case ast.BinOp(left, ast.Pow(), right):
            return _to_the(_term(left), _term(right))
    raise _Unknown


def _times(one: _Term, other: _Term) -> _Term:
    return _Term(one.factor * other.factor, one.power + other.power, one.inputs or other.inputs)


def _plus(one: _Term, other: _Term) -> _Term:
    small, large = sorted((one, other), key=lambda term: term.power)
    if small.power < large.power:
        return large
    factor = one.factor + other.factor
    if abs(factor) <= 1e-12 * abs(one.factor):
        raise _Unknown("its leading terms cancel")
    return _Term(factor, one.power, one.inputs or other.inputs)


def _to_the(base: _Term, exponent: _Term) -> _Term:
    if exponent.power or exponent.inputs:
        raise _Unknown("exponents are numbers")
    if base.factor < 0:
        raise _Unknown("a power of something negative")
    return _Term(base.factor**exponent.factor, base.power * exponent.factor, base.inputs)

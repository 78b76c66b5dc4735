"""Where an initialisation lies in the phase diagram, from its name or its scales, and what is predicted there."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from ..errors import InputError
from .theory import LAYERS, MAX_DEPTH, named_initialisations, predicted_regime, round_exponent

Exponents = tuple[float, float, float]
Scale = Callable[[float], float]
"""A scale as a function of the width."""

ALIASES = {
    "glorot": "Xavier",
    "kaiming": "He",
    "mup": "maximal-update",
    "pytorch": "LeCun",
}
"""Other names of initialisations; PyTorch's layers have LeCun's exponents: a uniform distribution with variance 1/(3 inputs)."""
# Between these widths, a formula shows its power of m alone.
_WIDE, _WIDER = 1e40, 1e80
_INPUTS = 10.0
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
    ast.USub: operator.neg,
}


@dataclass(frozen=True)
class Location:
    """A place in the phase diagram: the exponents of an initialisation, and the predicted regime of every layer.

    Attributes:
        depth: layers of weights.
        gamma, gamma_prime, gamma_1: the exponents.
        margin: by how much a factor of two in the scales, which is no power of the width, would move them: log 2 / log m where they
            are told from one width, else 0.
    """

    depth: int
    gamma: float
    gamma_prime: float
    gamma_1: float
    margin: float = 0.0

    def regimes(self, operator_norm: bool = False) -> dict[str, str]:
        """The predicted regime of every layer; in operator norm, of those whose two norms differ: hidden-to-hidden matrices."""
        layers = LAYERS[self.depth][1:-1] if operator_norm else LAYERS[self.depth]
        place = self.gamma, self.gamma_prime, self.gamma_1
        return {layer: predicted_regime(layer, self.depth, *place, operator_norm) for layer in layers}

    def to_dict(self) -> dict[str, Any]:
        """The location as JSON can hold it."""
        exponents = {"gamma": self.gamma, "gamma_prime": self.gamma_prime, "gamma_1": self.gamma_1}
        operator_norm = self.regimes(operator_norm=True)
        return {
            "depth": self.depth,
            **exponents,
            "margin": self.margin,
            "predicted_regime": self.regimes(),
            **({"predicted_regime_operator_norm": operator_norm} if operator_norm else {}),
        }

    def lines(self) -> Iterator[str]:
        """The location in words."""
        yield f"gamma = {self._shown(self.gamma)}"
        yield f"gamma' = {self._shown(self.gamma_prime)}"
        if self.depth > 2:
            yield f"gamma_1 = {self._shown(self.gamma_1)}"
        operator_norm = self.regimes(operator_norm=True)
        for layer, regime in self.regimes().items():
            also = f"; in operator norm {operator_norm[layer]}" if layer in operator_norm else ""
            near = "; the critical line is within ±" if self._near_line(layer) else ""
            yield f"{layer}: {regime}{also}{near}"
        if self.margin:
            yield "one width does not tell powers of it from constants: ± is a factor of two. Formulas of m do: --beta-1 'sqrt(2/m)'"

    def _shown(self, exponent: float) -> str:
        return f"{exponent:.2f} ± {self.margin:.2f}" if self.margin else f"{exponent:.6g}"

    def _near_line(self, layer: str) -> bool:
        """Whether a layer has more than one regime within the margin."""
        ends = product((-self.margin, self.margin), repeat=2)
        points = ((self.gamma + one, self.gamma_prime + other) for one, other in ends)
        return len({predicted_regime(layer, self.depth, *point, self.gamma_1) for point in points}) > 1


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
        return Location(depth, *_named(name, depth), 0.0)
    needed = {option: text for option, text in scales.items() if depth > 2 or option != "--beta-3"}
    texts = {option: text for option, text in needed.items() if text is not None}
    functions = {option: _scale(text, option) for option, text in texts.items()}
    formulas = [option for option, function in functions.items() if function(_WIDE) != function(_WIDER)]
    missing = [option for option in needed if option not in texts]
    if not formulas and width is None:
        missing = ["--width", *missing]
    if missing:
        options = ", ".join(["--width", *needed])
        raise InputError(
            f"locate: {', '.join(missing)} missing; needed: {options} (no width with formulas of m), or --name"
        )
    if formulas and width is not None:
        raise InputError(
            f"locate: --width is not supported with a formula of m ({formulas[0]}); allowed: one of the two"
        )
    if width is not None and not (math.isfinite(width) and width > 1):
        raise InputError(f"locate: --width: {width:g} is not supported; allowed: a finite number above 1")
    powers = [_power(function, width, option) for option, function in functions.items()]
    margin = 0.0 if width is None else math.log(2) / math.log(width)
    return Location(depth, *_exponents(powers, depth), margin)


def _depth_of(depth: int | None, beta_3: str | None) -> int:
    if depth is not None and not 2 <= depth <= MAX_DEPTH:
        raise InputError(f"locate: --depth: {depth} is not supported; allowed: 2 to {MAX_DEPTH}")
    if depth == 2 and beta_3 is not None:
        raise InputError(
            "locate: --beta-3 is not supported with --depth 2; it belongs to three layers and more"
        )
    return depth or (2 if beta_3 is None else 3)


def _exponents(powers: list[float], depth: int) -> Exponents:
    """The exponents, given the powers of m of alpha, beta_1, beta_2 and, of more than two layers, beta_3 (docs/maps.md)."""
    alpha, output, *between, first = powers
    gamma_1 = between[0] - output if between else 0.0
    gamma = alpha - output - first - (depth - 2) * sum(between)
    return round_exponent(gamma), round_exponent(first - output), round_exponent(gamma_1)


def _named(name: str, depth: int) -> Exponents:
    known = named_initialisations(depth)
    wanted = ALIASES.get(name.lower(), name).lower()
    if depth == 2 and wanted == "maximal-update":
        wanted = "mean-field"  # with one hidden layer they are the same
    for candidate, exponents in known.items():
        if candidate.lower() == wanted:
            return *exponents, 0.0
    raise InputError(
        f"locate: --name: {name!r} is not known; allowed: {', '.join([*known, *ALIASES])}",
    )


def _power(scale: Scale, width: float | None, option: str) -> float:
    """log scale / log m at one width; without one, the power of m in a formula."""
    low, high = (1.0, scale(width)) if width is not None else (scale(_WIDE), scale(_WIDER))
    if not (0 < low < math.inf and 0 < high < math.inf):
        raise InputError(f"locate: {option}: {high:g} is not supported; allowed: a finite number above 0")
    return math.log(high / low) / math.log(width if width is not None else _WIDER / _WIDE)


def _scale(text: str, option: str) -> Scale:
    """A scale as a function of the width m: a number, or a formula of m and d."""

    def refused() -> InputError:
        return InputError(
            f"locate: {option}: {text!r} is not supported; allowed: a number above 0, or a formula of the width m and the number d of "
            "inputs with + - * / ** and sqrt()"
        )

    def value(node: ast.AST, m: float) -> float:
        match node:
            case ast.Expression(body):
                return value(body, m)
            case ast.Constant(int() | float() as number) if not isinstance(number, bool):
                return float(number)
            case ast.Name("m"):
                return m
            case ast.Name("d"):
                return _INPUTS
            case ast.BinOp(left, kind, right) if type(kind) in _OPERATORS:
                return _OPERATORS[type(kind)](value(left, m), value(right, m))
            case ast.UnaryOp(ast.USub(), operand):
                return -value(operand, m)
            case ast.Call(ast.Name("sqrt"), [operand], []):
                return math.sqrt(value(operand, m))
        raise refused()

    def scale(m: float) -> float:
        try:
            result = value(tree, m)
        except (ValueError, ZeroDivisionError, OverflowError):
            raise refused() from None
        if not isinstance(result, float):  # a root of a negative number
            raise refused()
        return result

    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise refused() from None
    return scale

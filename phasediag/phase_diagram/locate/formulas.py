"""Scales as formulas of the width m: their leading term as m grows. Formulas have numbers, m, d, + - * / ** and sqrt, and nothing else."""

from __future__ import annotations

import ast
import math
from dataclasses import dataclass

from ...errors import InputError

_LONGEST = 60
"""Characters of a text that a message repeats."""

_LARGEST_POWER = 20
"""The largest power of the width in a scale: exponents of a study go to 20 as well."""


@dataclass(frozen=True)
class Term:
    """The leading term of a formula for wide networks, factor * m^power; `inputs`: it has the number of inputs in it."""

    factor: float
    power: float = 0.0
    inputs: bool = False


@dataclass(frozen=True)
class Formula:
    """A scale as somebody wrote it.

    Attributes:
        names: the names in it, m and d among them.
        leading: its leading term as m grows, d being some constant.
    """

    names: frozenset[str]
    leading: Term

    @classmethod
    def parse(cls, option: str, text: str) -> Formula:
        """The formula in a text that was given as this option.

        Raises:
            InputError: it holds anything but numbers, m, d, + - * / ** and sqrt(), or has no leading term above 0.
        """
        if "^" in text:
            raise _refused(option, text, f" (write {shortened(text.replace('^', '**'))})")
        try:
            tree = ast.parse(text.strip(), mode="eval").body
            leading = _term(tree)
        except _Unknown as unknown:
            raise _refused(option, text, f" ({unknown})" if str(unknown) else "") from None
        except (OverflowError, ZeroDivisionError):
            raise _refused(option, text, " (beyond numbers)") from None
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise _refused(option, text) from None
        if not abs(leading.power) <= _LARGEST_POWER:
            raise _refused(option, text, f" (beyond m**{_LARGEST_POWER})")
        if not 0 < leading.factor < math.inf:
            raise InputError(
                f"locate: {option}: {leading.factor:g} is not supported; allowed: a finite number above 0"
            )
        names = frozenset(node.id for node in ast.walk(tree) if isinstance(node, ast.Name)) - {"sqrt"}
        return cls(names, leading)


def shortened(text: str) -> str:
    """A text in quotes, cut where it is too long for a message."""
    return repr(text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…")


def _refused(option: str, text: str, why: str = "") -> InputError:
    return InputError(
        f"locate: {option}: {shortened(text)} is not supported{why}; allowed: a number above 0, or a formula of the width m and the number "
        "d of inputs with + - * / ** and sqrt()"
    )


class _Unknown(Exception):
    """What a formula does has no leading term that is known."""


def _term(node: ast.AST) -> Term:
    match node:
        case ast.Constant(int() | float() as number) if not isinstance(number, bool):
            return Term(float(number))
        case ast.Name("m"):
            return Term(1.0, 1.0)
        case ast.Name("d"):
            return Term(math.pi, 0.0, True)  # no number that a formula would cancel by chance
        case ast.UnaryOp(ast.USub(), operand):
            return _times(_term(operand), Term(-1.0))
        case ast.Call(ast.Name("sqrt"), [operand], []):
            return _to_the(_term(operand), Term(0.5))
        case ast.BinOp(left, ast.Add(), right):
            return _plus(_term(left), _term(right))
        case ast.BinOp(left, ast.Sub(), right):
            return _plus(_term(left), _times(_term(right), Term(-1.0)))
        case ast.BinOp(left, ast.Mult(), right):
            return _times(_term(left), _term(right))
        case ast.BinOp(left, ast.Div(), right):
            return _times(_term(left), _to_the(_term(right), Term(-1.0)))
        case ast.BinOp(left, ast.Pow(), right):
            return _to_the(_term(left), _term(right))
    raise _Unknown


def _times(one: Term, other: Term) -> Term:
    return Term(one.factor * other.factor, one.power + other.power, one.inputs or other.inputs)


def _plus(one: Term, other: Term) -> Term:
    small, large = sorted((one, other), key=lambda term: term.power)
    if small.power < large.power:
        return large
    factor = one.factor + other.factor
    if abs(factor) <= 1e-12 * abs(one.factor):
        raise _Unknown("its leading terms cancel")
    return Term(factor, one.power, one.inputs or other.inputs)


def _to_the(base: Term, exponent: Term) -> Term:
    if exponent.power or exponent.inputs:
        raise _Unknown("exponents are numbers")
    if base.factor < 0:
        raise _Unknown("a power of something negative")
    return Term(base.factor**exponent.factor, base.power * exponent.factor, base.inputs)

"""Where an initialisation lies in the phase diagram: by its name, by formulas of its scales, or by their numbers at one or more widths."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from ...errors import InputError, choices
from ..extrapolation import LEAST_WIDTHS, infinite_width_slopes
from ..theory import LAYERS, MAX_DEPTH, exponents_from_powers, named_initialisations, round_exponent
from .formulas import Formula, shortened
from .location import Exponents, Location

ALIASES = {
    "glorot": "Xavier",
    "kaiming": "He",
    "mup": "maximal-update",
    "pytorch": "LeCun",
}
"""Other names of initialisations; PyTorch's layers have LeCun's exponents: a uniform distribution with variance 1/(3 inputs)."""
CONFIDENCE = 0.95
_UNKNOWN_FACTOR = 2.0
"""At one width, a scale may have a constant factor: exponents are uncertain by as much."""
_UNKNOWN_SCATTER = 1.1
"""Two widths leave nothing to tell their scatter by: each scale may be a tenth off."""


def locate_scales(
    scales: Mapping[str, str | None],
    width: str | None = None,
    name: str | None = None,
    depth: int | None = None,
) -> Location:
    """The location of a network of these scales, or of a named initialisation.

    Args:
        scales: by the option that gives them: --alpha, --beta-1 of the output weights, --beta-2 of the input weights; of more layers, of
            hidden-to-hidden weights, with --beta-3 of the input weights. Formulas of the width m and the number d of inputs; or with
            ``width`` numbers, one for each width, or one for all of them.
        width: hidden neurons, one number or more, with commas between them.
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
        return locate_name(name, depth)
    needed = [option for option in scales if depth > 2 or option != "--beta-3"]
    parts = {option: text.split(",") for option in needed if (text := scales[option]) is not None}
    formulas = {option: [Formula.parse(option, text) for text in texts] for option, texts in parts.items()}
    of_width = {
        option for option, found in formulas.items() if any("m" in formula.names for formula in found)
    }
    missing = [] if of_width or width is not None else ["--width"]
    missing += [option for option in needed if option not in formulas]
    if missing:
        options = ", ".join(["--width", *needed])
        raise InputError(
            f"locate: {', '.join(missing)} missing; needed: {options} (no width with formulas of m), or --name, or PACKAGE:FUNCTION"
        )
    if width is None:
        for option, found in formulas.items():
            if len(found) > 1:
                raise InputError(
                    f"locate: {option}: {len(found)} values; needed: --width with as many, or a formula of m"
                )
        powers = [found[0].leading.power for found in formulas.values()]
        return Location(depth, Exponents(*exponents_from_powers(powers, depth)))
    widths = read_widths(width)
    logs = np.log([_numbers(option, found, len(widths)) for option, found in formulas.items()])
    exponents = [exponents_from_powers(list(column), depth) for column in logs.T]
    return from_logs(widths, np.array(exponents), 1, depth)


def locate_name(name: str, depth: int = 2) -> Location:
    """The location of a named initialisation: NTK, mean-field, LeCun, He, Xavier, maximal-update, PyTorch, Kaiming, Glorot or muP.

    Raises:
        InputError: the name or the depth is not known.
    """
    _require_depth(depth)
    known = named_initialisations(depth)
    wanted = name.strip().lower().replace("_", "-").replace(" ", "-").replace("μ", "mu")
    wanted = ALIASES.get(wanted, wanted).lower()
    if depth == 2 and wanted == "maximal-update":
        wanted = "mean-field"  # with one hidden layer they are the same
    for candidate, exponents in known.items():
        if candidate.lower() == wanted:
            return Location(depth, Exponents(*exponents))
    raise InputError(f"locate: --name: {shortened(name)} is not known; {choices(name, initialisations())}")


def initialisations() -> list[str]:
    """The names of initialisations, the usual ones first."""
    return [*dict.fromkeys([*named_initialisations(2), "maximal-update", *ALIASES])]


def from_logs(widths: Sequence[float], logs: NDArray[np.float64], draws: int, depth: int) -> Location:
    """The location of networks whose prefactors and ratios of scales were measured.

    One width cannot tell a constant from an exponent: its uncertainty is a factor of two in every scale. Of two, it is a tenth in every
    scale. Three are fitted by a straight line (95 %, Student's t), four and more like the slopes of a map, with corrections to scaling.

    Args:
        widths: (k,) ascending.
        logs: (k draws, 3) the logarithms of m^gamma, m^gamma_prime and m^gamma_1 as they were measured, width by width: each is its
            exponent times log m, and a constant.
        draws: networks of each width.
        depth: layers of weights.
    """
    count, along = len(widths), np.log(widths)
    each = logs.reshape(count, draws, 3)[..., : 2 if depth == 2 else 3]  # two layers have no gamma_1
    means = each.mean(axis=1)
    scales = np.array([depth, 1.0, 1.0])[: each.shape[-1]]  # in gamma there are all of them
    off: NDArray[np.float64]
    if count == 1:
        found, off = means[0] / along[0], scales * math.log(_UNKNOWN_FACTOR) / along[0]
        notes = [
            "one width cannot distinguish powers of it from constants, such as 1/sqrt(d) of d inputs: ± is a factor of two in a scale, "
            "for gamma in every one of them; two widths and more do, and formulas of m: --beta-1 'sqrt(2/m)'"
        ]
    elif count == 2:
        apart = along[1] - along[0]
        found, off = (means[1] - means[0]) / apart, scales * math.log(_UNKNOWN_SCATTER) / apart
        notes = ["two widths: ± is a tenth in a scale, for gamma in every one of them"]
    elif count < LEAST_WIDTHS:
        lines = [stats.linregress(along, column) for column in means.T]
        found = np.array([line.slope for line in lines])
        scatter = np.nan_to_num([line.stderr for line in lines])  # NaN where all values are equal
        off = stats.t.ppf((1.0 + CONFIDENCE) / 2.0, count - 2) * scatter
        notes = [f"{count} widths: ± is the 95 % interval of a straight line"]
    else:
        squares = ((each - means[:, None]) ** 2).sum(axis=1)
        runs = np.full((1, count), float(draws))
        found, low, high = infinite_width_slopes(
            np.asarray(widths, float), runs, means.T[:, None], squares.T, CONFIDENCE
        )
        off = np.maximum(high - found, found - low)
        notes = [f"{count} widths, {widths[0]:g} to {widths[-1]:g}: ± is the 95 % interval at infinite width"]
    return Location(
        depth,
        Exponents(*map(round_exponent, found)),
        Exponents(*map(float, off)),
        tuple(notes),
    )


def _require_depth(depth: int) -> None:
    if depth not in LAYERS:
        raise InputError(f"locate: --depth: {depth} is not supported; allowed: 2 to {MAX_DEPTH}")


def _depth_of(depth: int | None, beta_3: str | None) -> int:
    if depth is not None:
        _require_depth(depth)
    if depth == 2 and beta_3 is not None:
        raise InputError(
            "locate: --beta-3 is not supported with --depth 2; it belongs to three layers and more"
        )
    return depth or (2 if beta_3 is None else 3)


def read_widths(text: str) -> list[float]:
    """The numbers of hidden neurons in a text such as "100,1000".

    Raises:
        InputError: they are not ascending finite numbers from 2.
    """
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        numbers = [math.nan]
    if not all(2 <= number < math.inf for number in numbers) or sorted(set(numbers)) != numbers:
        raise InputError(
            f"locate: --width: {shortened(text)} is not supported; allowed: ascending finite numbers from 2, with commas between them"
        )
    return [int(number) if number.is_integer() else number for number in numbers]


def _numbers(option: str, formulas: Sequence[Formula], widths: int) -> list[float]:
    """The scales at so many widths."""
    for formula in formulas:
        if names := formula.names & {"m", "d"}:
            raise InputError(
                f"locate: {option}: {' and '.join(sorted(names))} is not supported together with --width; allowed: numbers"
            )
    if len(formulas) not in (1, widths):
        raise InputError(
            f"locate: {option}: {len(formulas)} values; allowed: 1, or as many as widths ({widths})"
        )
    numbers = [formula.leading.factor for formula in formulas]
    return numbers * widths if len(numbers) == 1 else numbers

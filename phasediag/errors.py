"""Exceptions of the package, and the wording of their messages. Numerical failure is no exception: it is a status in the row of a run."""

import difflib
from collections.abc import Iterable, Sequence

_NAMES_SHOWN = 12


class PhasediagError(Exception):
    """Base of every exception that this package raises on purpose."""


class InputError(PhasediagError):
    """Bad usage or bad input. The message names the file and the key where there is one, and what is allowed."""


def some_of(names: Sequence[str]) -> str:
    """Names in a message, which does not go on for pages: the first twelve, and how many more there are."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def choices(given: object, names: Iterable[str]) -> str:
    """What a message says of a name that is not among these: "did you mean 'b'? allowed: a, b"; without the question if none is close."""
    names = list(names)
    return f"{hint(given, names)}allowed: {', '.join(names)}"


def hint(given: object, names: Iterable[str]) -> str:
    """The question "did you mean 'b'? ", in a message on a name that is not among these; "" if none is close."""
    if not isinstance(given, str):
        return ""
    known, word = {name.lower(): name for name in names}, given.lower()
    close = difflib.get_close_matches(word, known, 1, 0.7) or [name for name in known if _is_slip(word, name)]
    return f"did you mean '{known[close[0]]}'? " if close else ""


def _is_slip(word: str, name: str) -> bool:
    """Whether words of three letters differ in one, or in their order: to difflib they have as little in common as "jpg" and "png"."""
    others = sum(one != other for one, other in zip(word, name, strict=False))
    return len(word) == len(name) == 3 and (others == 1 or sorted(word) == sorted(name))


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())

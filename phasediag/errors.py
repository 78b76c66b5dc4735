"""Exceptions of the package, and their words. Numerical failure is never one of them: it is a status in the row of its run."""

from collections.abc import Sequence

_NAMES_SHOWN = 12


class PhasediagError(Exception):
    """Base of every exception that this package raises on purpose."""


class InputError(PhasediagError):
    """Bad usage or bad input. The message names the file and the key where there is one, and what is allowed."""


def some_of(names: Sequence[str]) -> str:
    """Names in a message, which does not go on for pages: the first twelve, and how many more there are."""
    more = f" and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return ", ".join(names[:_NAMES_SHOWN]) + more


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())

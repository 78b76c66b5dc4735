"""Paths as people write them: "~" is the home folder, also where no shell has expanded it."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError


def at_home(path: str | Path, what: str) -> Path:
    """The path with "~" and "~name" at its beginning replaced by a home directory.

    Raises:
        InputError: nobody knows that home. The message begins with `what`.
    """
    text = str(path)
    if not text.startswith("~"):
        return Path(text)
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(
            f"{what}: {text}: there is no such home directory; allowed: a path without ~, or ./{text} for a file of that name"
        ) from None

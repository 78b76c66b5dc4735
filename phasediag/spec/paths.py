"""Paths as people write them: "~" is the home folder, also where no shell has expanded it."""

from __future__ import annotations

from pathlib import Path

from ..errors import InputError, hint


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


def hint_beside(path: str | Path, folders: bool = False) -> str:
    """The question "did you mean 'b'? " on a path that does not exist, if a file, or a folder, with a name like it is beside it."""
    path = Path(path)
    try:
        beside = [other.name for other in path.parent.iterdir() if other.is_dir() == folders]
    except OSError:  # a URI, say
        return ""
    return "" if path.exists() else hint(path.name, beside)

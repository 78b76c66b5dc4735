"""Where compiled code is kept, and whether it is there; nothing here needs numba.

The folder is ``numba-<digest>`` in ``phasediag`` in the user's cache, ``$XDG_CACHE_HOME`` or ``~/.cache``; or in ``$NUMBA_CACHE_DIR``,
where that is set.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import suppress
from functools import cache
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path

FOLDERS = 5
"""Folders of compiled code that are kept, this version's and those of others that were used last: each is some 10 MB."""
COMPILING_SECONDS = 30.0
"""What compiling the engine for one precision takes, about."""


@cache
def digest() -> str:
    """A hash of what compiled code depends on: numba, Python, and the content of all modules beside this one (of none in an archive)."""
    content = sha256(f"numba {version('numba')} {sys.implementation.cache_tag}\n".encode())
    for module in sorted(Path(__file__).parent.glob("*.py")):
        content.update(f"{module.name} {module.stat().st_size}\n".encode())
        content.update(module.read_bytes())
    return content.hexdigest()[:16]


@cache
def folder() -> Path | None:
    """The folder of this version, made and seen to take files; nothing where there can be none."""
    try:
        mine = _mine()
        if mine is None:
            return None
        new = not mine.exists()
        mine.mkdir(parents=True, exist_ok=True)
        # a file that shows, for it also makes the folder the one that was used last
        tempfile.NamedTemporaryFile(dir=mine).close()
        if new:
            _remove_old(mine.parent)
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where the user's home is
        return None
    return mine


def _mine() -> Path | None:
    base = _base()
    return None if base is None else base / f"numba-{digest()}"


def _base() -> Path | None:
    """Never the current folder, and no home is made where there is none."""
    if os.environ.get("NUMBA_CACHE_DIR"):
        return Path(os.environ["NUMBA_CACHE_DIR"]) / "phasediag"
    user = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not user.is_absolute():
        home = Path.home()
        if not (home.is_absolute() and home.is_dir()):
            return None
        user = home / ".cache"
    return user / "phasediag"


def _remove_old(base: Path) -> None:
    """Whoever still uses one of them compiles again."""
    folders = sorted(base.glob("numba-*"), key=lambda folder: folder.stat().st_mtime, reverse=True)
    for old in folders[FOLDERS:]:
        shutil.rmtree(old, ignore_errors=True)


def is_compiled(precision: str) -> bool:
    """Whether the engine was compiled on this machine for "float32" or "float64", as far as `note_compiled` was told."""
    with suppress(OSError, RuntimeError):
        mine = _mine()
        return mine is not None and (mine / f"compiled-{precision}").exists()
    return False


@cache
def note_compiled(precision: str) -> None:
    """Tells that the engine is compiled for a precision, and kept where there is a place for it."""
    there = folder()
    if there is not None:
        with suppress(OSError):
            (there / f"compiled-{precision}").touch()

"""Numba, as this package uses it: compiled once, kept on disk where there is a place for it, and without the interpreter's lock.

Numba's own cache asks whether the file of a function has changed, not whether those have that its callees and constants come from. Here,
compiled code is kept in a folder named by the content of all modules beside this one: after any change it is compiled again. The folder is
``numba-<digest>`` in ``phasediag`` in the user's cache, ``$XDG_CACHE_HOME`` or ``~/.cache``; or in ``$NUMBA_CACHE_DIR``, where that is set.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from numba import core

from .callees import Function

# what numba makes of these for type checkers changes with its version
caching: Any = core.caching
config: Any = core.config

FOLDERS = 5
"""Folders of compiled code that are kept, this version's and those of others that were used last: each is some 10 MB."""


def compiled(*fastmath: str, inline: bool = False) -> Callable[[Any], Any]:
    """A decorator; ``fastmath`` names the liberties that the compiler may take with floating-point numbers (LLVM's fast-math flags).

    ``inline``: part of its only caller, before types are known.
    """

    def decorate(function: Any) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
        if inline:
            options["inline"] = "always"
        dispatcher: Any = Function(function, options)
        with suppress(RuntimeError):  # no place to keep it in, as on a read-only disk
            # what njit(cache=True) does, with another cache
            dispatcher._cache = _Cache(function)
        return dispatcher

    return decorate


@cache
def _digest() -> str:
    """A hash of the content of all modules beside this one, of nothing where there are none to read, as in an archive."""
    content = sha256()
    for module in sorted(Path(__file__).parent.glob("*.py")):
        content.update(f"{module.name} {module.stat().st_size}\n".encode())
        content.update(module.read_bytes())
    return content.hexdigest()[:16]


@cache
def _folder() -> Path | None:
    """The folder of this version, made and seen to take files; nothing where there can be none."""
    try:
        base = _base()
        if base is None:
            return None
        folder = base / f"numba-{_digest()}"
        new = not folder.exists()
        folder.mkdir(parents=True, exist_ok=True)
        # a file that shows, for it also makes the folder the one that was used last
        tempfile.NamedTemporaryFile(dir=folder).close()
        if new:
            _remove_old(base)
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where the user's home is
        return None
    return folder


def _base() -> Path | None:
    """Never the current folder, and no home is made where there is none."""
    if config.CACHE_DIR:
        return Path(config.CACHE_DIR) / "phasediag"
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


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Tells numba where to keep the code of a function, and when it is out of date."""

    def __init__(self, function: Any, file: str, folder: Path) -> None:
        self._line, self._py_file, self._folder = function.__code__.co_firstlineno, file, folder

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator | None:
        folder = _folder()
        return None if folder is None else cls(py_func, py_file, folder)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return _digest()

    def get_disambiguator(self) -> str:
        return str(self._line)


class _Index(caching.IndexDataCacheFile):  # type: ignore[misc]
    """Numba numbers the files of a function. Two processes that save at once would take the same number, and one would later find the
    other's code under its own signature."""

    def _data_name(self, number: int) -> str:
        name: str = super()._data_name(number)
        return f"{name.removesuffix('.nbc')}.{uuid.uuid4().hex}.nbc"


class _Implementation(caching.CompileResultCacheImpl):  # type: ignore[misc]
    _locator_classes = (_Locator,)


class _Cache(caching.FunctionCache):  # type: ignore[misc]
    """Numba's cache of one function, in our folder. A disk that is full, or that goes away, is no reason to fail: what is not found is
    compiled, and what cannot be kept is compiled again."""

    _impl_class = _Implementation

    def __init__(self, function: Any) -> None:
        super().__init__(function)
        self._cache_file = _Index(self._cache_path, self._impl.filename_base, _digest())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)

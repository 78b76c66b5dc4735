"""Numba, as this package uses it: compiled once, kept on disk where there is a place for it, and without the interpreter's lock.

Numba's own cache asks whether the file of a function has changed, not whether those have that its callees and constants come from. Here,
compiled code is kept in a folder named by the content of all modules beside this one (`kept`): after any change it is compiled again.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from numba import core

from . import kept
from .callees import Function

# what numba makes of these for type checkers changes with its version
caching: Any = core.caching


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


class _Locator(caching._CacheLocator):  # type: ignore[misc]
    """Tells numba where to keep the code of a function, and when it is out of date."""

    def __init__(self, function: Any, file: str, folder: Path) -> None:
        self._line, self._py_file, self._folder = function.__code__.co_firstlineno, file, folder

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> _Locator | None:
        folder = kept.folder()
        return None if folder is None else cls(py_func, py_file, folder)

    def get_cache_path(self) -> str:
        return str(self._folder)

    def get_source_stamp(self) -> str:
        return kept.digest()

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
        self._cache_file = _Index(self._cache_path, self._impl.filename_base, kept.digest())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        with suppress(OSError):
            return super().load_overload(sig, target_context)
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        with suppress(OSError):
            super().save_overload(sig, data)

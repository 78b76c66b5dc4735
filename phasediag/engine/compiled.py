"""Numba, as this package uses it: compiled once, kept on disk where there is a place for it, and without the interpreter's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numba import njit


def compiled(*fastmath: str, inline: bool = False) -> Callable[[Any], Any]:
    """A decorator; ``fastmath`` names the liberties that the compiler may take with floating-point numbers (LLVM's fast-math flags).

    ``inline``: part of its only caller. Otherwise a function is optimised on its own, and again within every caller, and so on.
    """

    def decorate(function: Any) -> Any:
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": set(fastmath)}
        if inline:
            options["inline"] = "always"
        try:
            return njit(cache=True, **options)(function)
        except RuntimeError:  # no directory to keep it in, as on a read-only disk
            return njit(**options)(function)

    return decorate

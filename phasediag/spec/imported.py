"""Functions that a file, or a command, names as PACKAGE:FUNCTION."""

from __future__ import annotations

import importlib
import importlib.machinery
import pkgutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import Any

from ..errors import InputError, hint, one_line

Function = Callable[..., Any]
"""A function of somebody's package."""


def load_function(text: str, where: str, allowed: str, folders: Sequence[str] = ()) -> Function:
    """The function that ``package.module:name`` names; modules in these folders and in the working directory are found.

    Args:
        text: the name.
        where: where it stands, for messages: a file and a key, or a command.
        allowed: what is expected, after "allowed: PACKAGE:FUNCTION, ".
        folders: where modules are looked for first.

    Raises:
        InputError: there is no such module or function, or importing it fails.
    """
    module, _, name = text.partition(":")
    expected = f"allowed: PACKAGE:FUNCTION, {allowed}"
    if not all(part.isidentifier() for part in [*module.split("."), name]):
        raise InputError(f"{where}: {text}: is not supported; {_without_ending(module, name)}{expected}")
    places = [*folders, str(Path.cwd())]
    with _found_in(places):
        _forget_another(module.partition(".")[0])
        try:
            with redirect_stdout(sys.stderr):
                function: Function = getattr(importlib.import_module(module), name)
        except (Exception, SystemExit) as error:  # whatever importing somebody's code raises
            raise InputError(
                f"{where}: {text}: {in_words(error)}; {_meant(error, module, name, places)}{expected}"
            ) from None
    if not callable(function):
        raise InputError(f"{where}: {text}: is of type {type(function).__name__}; {expected}")
    return function


def _forget_another(package: str) -> None:
    """Lets a package be imported again where one of the same name was imported from another folder than the one in which it is found."""
    loaded, found = sys.modules.get(package), importlib.machinery.PathFinder.find_spec(package)
    before = getattr(loaded, "__spec__", None)
    if (
        before is None
        or found is None
        or None in (before.origin, found.origin)
        or before.origin == found.origin
    ):
        return
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]


def in_words(error: BaseException) -> str:
    """The type of an error and its message, on one line."""
    return f"{type(error).__name__}: {one_line(error)}".removesuffix(": ")


@contextmanager
def _found_in(folders: Sequence[str]) -> Iterator[None]:
    """Modules in these folders are found within."""
    before = list(sys.path)
    sys.path[:0] = folders
    importlib.invalidate_caches()  # of a folder that was read within the same second
    try:
        yield
    finally:
        sys.path[:] = before


def _meant(error: BaseException, module: str, name: str, places: Sequence[str]) -> str:
    """A hint for the name of a module, or of what it should hold, that is not there."""
    if isinstance(error, AttributeError) and module in sys.modules:
        return hint(name, dir(sys.modules[module]))
    if asked := _without_ending(module, name):
        return asked
    if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
        package, _, missing = str(error.name).rpartition(".")
        path = getattr(sys.modules[package], "__path__", []) if package else places
        close = hint(missing, [found.name for found in pkgutil.iter_modules(path)])
        looked = "" if package else f"it was looked for in {' and '.join(dict.fromkeys(places))}; "
        return close or looked
    return ""


def _without_ending(module: str, name: str) -> str:
    """A hint for the path of a file in the place of a module's name."""
    if not module.endswith(".py"):
        return ""
    return f"did you mean '{module.removesuffix('.py').removeprefix('./').replace('/', '.')}:{name}'? "

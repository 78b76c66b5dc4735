"""The function of a study, by its name and by its code: every process that trains imports it, and checks that it is the same."""

from __future__ import annotations

import ast
import hashlib
import inspect
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial

from ..errors import InputError
from ..spec.imported import Function, load_function

WHAT = "a function make(width, gamma, gamma_prime, seed) that returns a torch.nn.Module"


@dataclass(frozen=True)
class Factory:
    """A function that makes networks.

    Attributes:
        name: "package.module:function".
        folders: where its module is looked for, before the working directory and installed packages.
        code: `code_of` the function, as it was when the study was read; "" where it is not known.
        arguments: further arguments, by name.
    """

    name: str
    folders: tuple[str, ...]
    code: str = ""
    arguments: Mapping[str, object] = field(default_factory=dict)

    def function(self) -> Function:
        """The function, in a process that trains.

        Raises:
            InputError: this machine has no such function, or another one.
        """
        where = f"network.factory on {socket.gethostname()}"
        function, found = _loaded(self.name, where, self.folders)
        if self.code and found != self.code:
            raise InputError(
                f"{where}: {self.name}: its code differs from the code that the sweep was started with; "
                "allowed: the same file on every node"
            )
        return partial(function, **self.arguments)


@lru_cache(maxsize=8)
def _loaded(name: str, where: str, folders: tuple[str, ...]) -> tuple[Function, str]:
    """A function and its code, which is read while its module is the one of its name."""
    function = load_function(name, where, WHAT, folders)
    return function, code_of(function)


def code_of(function: Function) -> str:
    """A hash of the code of a function's module, without comments and layout: 20 hexadecimal digits; "" where there is no code to read.

    Networks of one name but another code are other networks: their rows must not stand in one folder.
    """
    function = inspect.unwrap(function)
    while isinstance(function, partial):
        function = function.func
    module = sys.modules.get(getattr(function, "__module__", ""))
    try:
        tree = ast.unparse(
            ast.parse(inspect.getsource(module or function))
        )  # dumps differ between versions of Python
    except (OSError, TypeError, SyntaxError):
        return ""
    return hashlib.sha256(f"{getattr(function, '__qualname__', '')}\n{tree}".encode()).hexdigest()[:20]

"""The sweeps that come with the package: specs to start from."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from pathlib import Path

from ..errors import InputError, hint

_PACKAGE = Path(__file__).parents[1]


@dataclass(frozen=True)
class Sweep:
    """A spec that comes with the package.

    Attributes:
        name: the name of its file, without the ending.
        text: the content of its file.
    """

    name: str
    text: str

    @property
    def title(self) -> str:
        """The first line of its comment."""
        return self.text.partition("\n")[0].lstrip("# ")

    @property
    def data(self) -> str:
        """The path of data that do not come with it, relative to the spec; "" if it needs none."""
        return str(tomllib.loads(self.text)["data"].get("path", ""))


def sweeps() -> dict[str, Sweep]:
    """Every sweep by its name, in alphabetical order."""
    inside = _PACKAGE / "sweeps"  # of a wheel; a checkout has them at its top
    files = (inside if inside.is_dir() else _PACKAGE.parent / "sweeps").rglob("*.toml")
    return {file.stem: _read(file) for file in sorted(files, key=lambda file: file.stem)}


def sweep_named(name: str, where: str) -> Sweep:
    """The sweep of this name, which was given at `where`, an option.

    Raises:
        InputError: there is no such sweep.
    """
    known = sweeps()
    if name not in known:
        raise InputError(
            f"{where}: {name!r} is not known; {hint(name, known)}allowed: the names that 'phasediag init --list' prints"
        )
    return known[name]


def _read(file: Path) -> Sweep:
    """A sweep, with the names of other sweeps in its comment as `init` writes them, in one folder."""
    text = file.read_text("utf-8").replace("sweeps/papers/", "").replace("sweeps/", "")
    return Sweep(file.stem, text)

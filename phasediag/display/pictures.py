"""One figure to a file that the user names."""

from __future__ import annotations

from pathlib import Path

from matplotlib.figure import Figure

from ..errors import InputError
from ..storage.files import check_outside_studies, write_file
from .figures import FORMATS, render


def check_picture(file: Path) -> None:
    """Raises `InputError` if the ending of a file is no format of figures, or the file lies in the folder of a study."""
    if _format_of(file) not in FORMATS:
        allowed = ", ".join(f".{name}" for name in FORMATS)
        raise InputError(f"{file}: is not supported; allowed: a name that ends in one of {allowed}")
    check_outside_studies(file)


def write_picture(figure: Figure, file: Path) -> None:
    """Writes the figure to a file, by its ending. Raises `InputError` if it cannot be written there."""
    check_picture(file)
    kind = _format_of(file)
    write_file(file, render(figure, [kind])[kind])


def _format_of(file: Path) -> str:
    return file.suffix.lower().removeprefix(".")

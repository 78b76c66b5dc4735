"""What the shell offers for the arguments of a command when its user presses the tab key.

Each function takes the typed part of a word. If it returns nothing, the shell offers files and folders as usual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path


def spec_files(typed: str) -> list[str]:
    """TOML files, and folders on the way to others."""
    return _paths(typed, lambda path: path.suffix == ".toml")


def study_folders(typed: str) -> list[str]:
    """Folders that hold a study, not a spec alone, and folders on the way to others."""
    return _paths(typed, _is_study)


def figure_names(out: str) -> list[str]:
    """The figures that were drawn of the study in a folder."""
    return sorted({file.stem for file in Path(out, "figures").glob("[!.]*.*")})


def _is_study(path: Path) -> bool:
    return (path / "study.toml").is_file() and any((path / part).exists() for part in ("data.npz", "runs"))


def _paths(typed: str, wanted: Callable[[Path], bool]) -> list[str]:
    """What is wanted of a folder, followed by its other folders; nothing if there are only those, of which the shell knows more."""
    above, slash, stub = typed.rpartition("/")
    entries = [path for path in _entries(above + slash) if path.name.startswith(stub)]
    if not stub.startswith("."):
        entries = [path for path in entries if not path.name.startswith(".")]
    found = [path for path in entries if wanted(path)]
    others = [path for path in entries if path.is_dir() and path not in found]
    names = [*(path.name for path in found), *(f"{path.name}/" for path in others)]
    return [above + slash + name for name in names] if found else []


def _entries(folder: str) -> Iterator[Path]:
    with suppress(OSError, RuntimeError):  # RuntimeError: ~ of somebody unknown
        yield from sorted(Path(folder or ".").expanduser().iterdir())

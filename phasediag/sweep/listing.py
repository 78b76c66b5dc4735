"""The studies below one folder or bucket, a line each, read from their folders alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

from ..errors import InputError, one_line
from ..kinds import kind_in, open_store, stored_study
from ..storage.files import READERS, Files
from ..studies import Outline
from .status import Status, read_status

LEVELS = 4
"""How many levels below the root a study's folder may be."""
DAMAGED = "damaged"
"""The state of a folder whose study cannot be read."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A study in a list.

    Attributes:
        folder: where it is, from the root on.
        kind: kind of the study.
        outline: its networks, data and grid, a few words each; None where the study cannot be read.
        status: how far its sweep is; None where the study cannot be read.
        changed: seconds since the epoch when its rows, or its driver's sign of life, were last written; None if there are none.
        finding: the main result in a few words, once the sweep is complete and fitted; else empty.
        error: why the study cannot be read; else empty.
    """

    folder: str
    kind: str
    outline: Outline | None
    status: Status | None
    changed: float | None
    finding: str
    error: str

    @property
    def state(self) -> str:
        """complete, running, stopped, or `DAMAGED`."""
        return self.status.state if self.status else DAMAGED

    def to_dict(self) -> dict[str, Any]:
        """The study as JSON can hold it."""
        outline = self.outline._asdict() if self.outline else None
        return {**asdict(self), "outline": outline, "state": self.state}


def list_studies(root: str) -> list[Listed]:
    """The studies below a folder or bucket, itself included, by the names of their folders.

    Raises:
        InputError: there is no such folder, it cannot be reached, or no study is in it.
    """
    files = Files(root)
    if not files.is_folder():
        raise InputError(f"{root}: is not there; allowed: a folder, or a URI such as s3://bucket/prefix")
    with ThreadPoolExecutor(READERS) as pool:
        listed = list(pool.map(lambda folder: _look(files.name(folder), folder), _folders(files)))
    if not listed:
        raise InputError(
            f"{root}: no study.toml in it, nor {LEVELS} levels down; allowed: a folder below which 'phasediag run' has written"
        )
    return listed


def _folders(files: Files, path: str = "", levels: int = LEVELS) -> Iterator[str]:
    """The folders that hold a study; below a study there is none."""
    if files.is_file(f"{path}/study.toml".lstrip("/")):
        yield path
    elif levels:
        for name in files.folders(path):
            yield from _folders(files, f"{path}/{name}".lstrip("/"), levels - 1)


def _look(out: str, folder: str) -> Listed:
    try:
        store = open_store(out)
        kind, outline, status = kind_in(store), stored_study(store).outline(), read_status(store)
        finding = kind.finding(store.fitted()) if status.state == "complete" else ""
        return Listed(folder or ".", kind.name, outline, status, store.changed(), finding, "")
    except InputError as error:
        return Listed(folder or ".", "", None, None, None, "", one_line(error))

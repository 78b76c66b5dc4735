"""The studies below one folder or bucket, a line each, read from their folders alone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from ..errors import InputError, one_line
from ..kinds import named, open_store, stored_study
from ..storage.files import READERS, Files, Forbidden
from ..storage.store import Store
from ..studies import AnyStudy, Outline
from .status import Status, status_of

if TYPE_CHECKING:
    import pandas as pd

LEVELS = 4
"""How many levels below the root a study's folder may be."""
DAMAGED = "damaged"
"""The state of a folder whose study cannot be read."""


@dataclass(frozen=True, slots=True)
class Listed:
    """A study in a list.

    Attributes:
        folder: where it is, from the root on.
        name: name of the study.
        kind: kind of the study.
        outline: its networks, data and grid, a few words each; None where the study cannot be read.
        status: how far its sweep is; None where the study cannot be read.
        changed: seconds since the epoch when its rows were last written; None if there are none.
        finding: the main result in a few words, once the sweep is complete and fitted; else empty.
        error: why the study cannot be read; else empty.
    """

    folder: str
    name: str = ""
    kind: str = ""
    outline: Outline | None = None
    status: Status | None = None
    changed: float | None = None
    finding: str = ""
    error: str = ""

    @property
    def state(self) -> str:
        """complete, running, stopped, or `DAMAGED`."""
        return self.status.state if self.status else DAMAGED

    def to_dict(self) -> dict[str, Any]:
        """The study as JSON can hold it, without the events of its sweep, which `status` tells."""
        outline = self.outline._asdict() if self.outline else None
        content = {**asdict(self), "outline": outline, "state": self.state}
        (content["status"] or {}).pop("events", None)
        return content


def list_studies(root: str) -> list[Listed]:
    """The studies below a folder or bucket, itself included, by the names of their folders.

    Raises:
        InputError: there is no such folder, it cannot be reached, or no study is in it.
    """
    files = Files(root)

    def listed(folder: str) -> Listed:
        try:
            store = open_store(files.name(folder))
            study = stored_study(store)
            return describe(folder, study, store, status_of(study, store), store.fitted())
        except InputError as error:
            return Listed(folder, error=one_line(error))

    with ThreadPoolExecutor(readers(files)) as pool:
        return list(pool.map(listed, require(files)))


def readers(files: Files) -> int:
    """How many studies to look at at a time: of a bucket several, for each waits for it; on a disk, threads only wait for each other."""
    return 1 if files.local else READERS


def require(files: Files) -> list[str]:
    """The folders below a root that hold a study.

    Raises:
        InputError: there is no such folder, it cannot be reached, or no study is in it.
    """
    if not files.is_folder():
        raise InputError(f"{files.out}: is not there; allowed: a folder, or a URI such as s3://bucket/prefix")
    if found := list(folders(files)):
        return found
    raise InputError(
        f"{files.out}: no study.toml in it, nor {LEVELS} levels down; allowed: a folder below which 'phasediag run' has written"
    )


def folders(files: Files, path: str = "", levels: int = LEVELS) -> Iterator[str]:
    """The folders below a root that hold a study; "" is the root itself. Below a study there is none. Leaves out what is forbidden."""
    try:
        study = files.is_file(f"{path}/study.toml".lstrip("/"))
        below = [] if study or not levels else files.folders(path)
    except Forbidden:
        if not path:
            raise
        return
    if study:
        yield path
    for name in below:
        yield from folders(files, f"{path}/{name}".lstrip("/"), levels - 1)


def describe(folder: str, study: AnyStudy, store: Store, status: Status, fitted: pd.DataFrame) -> Listed:
    """The line of a study, whose folder is `folder` from the root on."""
    kind = named(study.kind)
    finding = kind.finding(fitted) if status.state == "complete" else ""
    return Listed(folder, study.spec.name, kind.name, study.outline(), status, store.changed(), finding)

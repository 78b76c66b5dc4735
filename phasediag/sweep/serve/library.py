"""The studies below a root, looked at again whenever somebody asks: what has not changed is not read again.

Nothing here writes. Only folders that were found by walking the root are ever read, and none that a link leads out of it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

from ...display.figures import render
from ...display.page.render import to_json
from ...display.page.report import Report
from ...errors import InputError, one_line
from ...kinds import Compared, kind_in, named, open_store
from ...storage.files import Files, Mark
from ...storage.store import Store
from ...studies import AnyStudy
from ..listing import Listed, describe, folders, readers, require
from ..status import Status, Watch
from .beside import compared, spec_differences

FRESH_SECONDS = 1.0
"""Whoever asks within this time of a look gets what it found."""
SHARE = 0.02
"""Looking at one running sweep, and showing it, each take at most this fraction of the time of a core."""
BESIDE_KEPT = 4
"""Groups of studies side by side whose differences are in memory."""
REPORTS_KEPT = 8
"""Studies whose rows and content are in memory."""
_FOLDERS = "", "runs", "samples"
"""What is read of a study: the files in these folders."""
_READ = {"study.toml", "data.npz", "driver.json", "runs", "samples"}
"""What is read in the study's own folder, beside Parquet files."""
_NOT_SHOWN = {"driver.json", "report.html"}
"""Files of a study that its page does not show."""
_T = TypeVar("_T")


@dataclass(frozen=True)
class Shown:
    """What the page of a study shows, as JSON, and the tag that tells it from other states."""

    content: bytes
    tag: str


@dataclass
class _Pace:
    """When something that was done a moment ago may be done again: when it has taken `SHARE` of the time since it began.

    The first time reads all that there is, and says nothing of the next one, which is due at once.
    """

    due: float = 0.0
    first: bool = True

    def is_due(self) -> bool:
        return time.monotonic() >= self.due

    def time(self, work: Callable[[], _T]) -> _T:
        started = time.monotonic()
        found = work()
        if not self.first:
            self.due = started + (time.monotonic() - started) / SHARE
        self.first = False
        return found


@dataclass
class _Shelf:
    """What is known of one folder."""

    root: Files
    files: Files
    lock: threading.Lock = field(default_factory=threading.Lock)
    watch: Watch | None = None
    mark: tuple[Mark, ...] = ()
    barred: str = ""  # why it may not be read
    listed: Listed | None = None
    picture: bytes = b""  # what stands for the study in a list, a PNG
    report: Report | None = None
    shown: Shown | None = None
    looking: _Pace = field(default_factory=_Pace)
    showing: _Pace = field(default_factory=_Pace)

    @property
    def runs(self) -> bool:
        """Whether its sweep was running when it was last looked at."""
        return self.listed is not None and self.listed.state == "running"

    @property
    def is_unfitted(self) -> bool:
        """Whether what stands for it is made of its rows: its sweep runs, or has stopped before the end."""
        return self.runs or (self.listed is not None and self.listed.state == "stopped" and not self.picture)

    def look(self, folder: str) -> Listed:
        """The study as it is now, or, while it runs, a moment ago."""
        if self.listed is not None and self.runs and not self.looking.is_due():
            return self.listed
        try:
            mark = tuple(self.files.mark(part) for part in _FOLDERS)
            self.barred = self._link_out(folder)
            if self.barred:
                raise InputError(self.barred)
        except InputError as error:
            self.listed, self.mark = Listed(folder, error=one_line(error)), ()
            return self.listed
        if self.listed is None or self.mark != mark or self.runs:
            self.listed, self.mark = self.looking.time(lambda: self._described(folder)), mark
        return self.listed

    def _link_out(self, folder: str) -> str:
        """Why it may not be read, if a link in it leads out of the root; else empty."""
        paths = [
            f"{part}/{name}".lstrip("/")
            for part in _FOLDERS
            for name in self.root.links_out(f"{folder}/{part}".strip("/"))
        ]
        out = [path for path in paths if path in _READ or path.endswith(".parquet")]
        return (
            f"{self.files.name(out[0])}: is a link out of {self.root.out}; allowed: links to what is in it"
            if out
            else ""
        )

    def _described(self, folder: str) -> Listed:
        try:
            store = open_store(self.files.out)
            (study, status), fitted = self._watched(store), store.fitted()
            self.picture = named(study.kind).thumbnail(fitted)
            return describe(folder, study, store, status, fitted)
        except InputError as error:
            return Listed(folder, error=one_line(error))

    def _watched(self, store: Store) -> tuple[AnyStudy, Status]:
        self.watch = self.watch or Watch(store)
        status = self.watch.look()
        if status is None or self.watch.study is None:
            raise InputError(f"{store.out}: holds no study any more")
        return self.watch.study, status

    def live_picture(self) -> bytes:
        """What stands for the study in a list, of its rows as they are."""
        self.show()
        found = kind_in(open_store(self.files.out)).thumbnail(self.its_report().fitted)
        if not self.runs:
            self.picture = found  # until it changes
        return found

    def tag(self) -> str:
        """What tells the state that is shown, or would be, from others."""
        status = self.listed.status if self.listed else None
        if self.shown is not None and self.runs and not self.showing.is_due():
            return self.shown.tag
        files = [one for folder in self.mark for one in folder if one[0] not in _NOT_SHOWN]
        state = files, status and (status.state, status.end, status.events)
        return hashlib.sha256(repr(state).encode()).hexdigest()[:20]

    def show(self) -> Shown:
        """What its page shows: of the present state, or, while it runs, of one a moment ago."""
        tag = self.tag()
        if self.shown is None or self.shown.tag != tag:
            content = self.showing.time(self._content)
            self.shown = Shown(content, tag)
        return self.shown

    def _content(self) -> bytes:
        status = self.listed.status if self.listed else None
        return to_json(self.its_report().content(status)).encode()

    def check_allowed(self) -> None:
        """Raises `InputError` if it may not be read."""
        if self.barred:
            raise InputError(self.barred)

    def its_report(self) -> Report:
        """What makes its page. Raises `InputError` if its kind has none, or it is damaged, or may not be read."""
        self.check_allowed()
        if self.report is None:
            store = open_store(self.files.out)
            self.report = kind_in(store).report(store)
        return self.report


@dataclass
class Beside:
    """Studies side by side.

    Attributes:
        specs: the keys of their specs that differ, with the values of each study (`spec_differences`).
        measured: what differs in what two studies measured, or why that is not known.
        tags: the states of the studies.
        pace: when it may be made again.
    """

    specs: list[list[str]]
    measured: Compared | str
    tags: tuple[str, ...]
    pace: _Pace

    @classmethod
    def of(cls, stores: Sequence[Store], tags: tuple[str, ...], pace: _Pace) -> Beside:
        """What differs between these studies, in these states."""
        specs = spec_differences([store.read_document() or {} for store in stores])
        return cls(specs, compared(*stores) if len(stores) == 2 else "", tags, pace)

    @cached_property
    def figures(self) -> dict[str, bytes]:
        """The figures of the difference, as PNG, by name."""
        if isinstance(self.measured, str):
            return {}
        return {name: render(figure, ["png"])["png"] for name, figure in self.measured.figures().items()}


class Library:
    """The studies below a folder or bucket.

    Args:
        root: the folder, or a URI.

    Raises:
        InputError: there is no such folder, it cannot be reached, or no study is in it.
    """

    def __init__(self, root: str) -> None:
        self.name, self._files = root, Files(root)
        require(self._files)
        self._shelves: dict[str, _Shelf] = {}
        self._open: list[_Shelf] = []
        self._lock, self._comparing = threading.Lock(), threading.Lock()
        self._beside: dict[tuple[str, ...], Beside] = {}
        self._looked = 0.0
        self._listed: list[Listed] = []

    def studies(self) -> list[Listed]:
        """All studies, as they are now. A root that has vanished holds none."""
        with self._lock:
            if time.monotonic() - self._looked > FRESH_SECONDS:
                self._listed, self._looked = self._look(), time.monotonic()
            return self._listed

    def study(self, folder: str) -> Listed | None:
        """The study in a folder, from the root on; None if there is none."""
        shelf = self._present(folder)
        return shelf.listed if shelf else None

    def tag(self, folder: str) -> str:
        """What tells the state that the page of a study shows, or would show, from others; empty if there is no such study."""
        shelf = self._present(folder)
        return shelf.tag() if shelf else ""

    def report(self, folder: str) -> Report | None:
        """What makes the page of a study; None if there is no such study, or it has no page."""
        shelf = self._present(folder)
        try:
            return shelf.its_report() if shelf else None
        except InputError:
            return None

    def shown(self, folder: str) -> Shown | None:
        """What the page of a study shows, of its present state or a moment older; None if there is no such study.

        Raises:
            InputError: the study cannot be read, or its kind has no page.
        """
        shelf = self._opened(folder)
        if shelf is None:
            return None
        with shelf.lock:
            return shelf.show()

    def runs(self, folder: str, cell: str) -> dict[str, object] | None:
        """The runs of a cell of what is shown; None if there is no such study.

        Raises:
            InputError: the study cannot be read, or its kind has no page.
        """
        shelf = self._opened(folder)
        if shelf is None:
            return None
        with shelf.lock:
            shelf.show()
            return shelf.its_report().runs(cell)

    def beside(self, folders: Sequence[str]) -> Beside | None:
        """What differs between studies; None if one of them is not there. Between two, also what differs in what they measured.

        Raises:
            InputError: a study cannot be read.
        """
        shelves = [self._present(folder) for folder in folders]
        there = [shelf for shelf in shelves if shelf is not None]
        if len(there) < len(folders):
            return None
        for shelf in there:
            shelf.check_allowed()
        tags = tuple(shelf.tag() for shelf in there)
        key = tuple(folders)
        with self._comparing:
            kept = self._beside.get(key)
            if kept is None or (kept.tags != tags and kept.pace.is_due()):
                pace = kept.pace if kept else _Pace()
                kept = pace.time(
                    lambda: Beside.of([open_store(shelf.files.out) for shelf in there], tags, pace)
                )
                self._beside = dict([*self._beside.items(), (key, kept)][-BESIDE_KEPT:])
            return kept

    def picture(self, folder: str) -> bytes:
        """What stands for a study in a list, a PNG; empty if there is nothing, or no such study.

        Raises:
            InputError: the study cannot be read.
        """
        shelf = self._present(folder)
        if shelf is None or not shelf.is_unfitted:
            return shelf.picture if shelf else b""
        self._opened(folder)
        with shelf.lock:
            return shelf.live_picture()

    def picture_tag(self, folder: str) -> str:
        """What tells the picture of a study from others, as far as the last look knows; empty if there is none."""
        shelf = self._shelves.get(folder)
        return shelf.tag() if shelf and (shelf.picture or shelf.is_unfitted) else ""

    def _present(self, folder: str) -> _Shelf | None:
        """What is known of a folder now; None if it holds no study."""
        self.studies()
        return self._shelves.get(folder)

    def _opened(self, folder: str) -> _Shelf | None:
        """What is known of a folder, whose rows may be in memory from now on."""
        shelf = self._present(folder)
        if shelf is None:
            return None
        with self._lock:
            opened = [shelf, *(other for other in self._open if other is not shelf)]
            self._open = opened[:REPORTS_KEPT]
        for other in opened[REPORTS_KEPT:]:
            with other.lock:
                other.report = other.shown = None
        return shelf

    def _look(self) -> list[Listed]:
        try:
            found = [folder for folder in folders(self._files) if self._files.is_within(folder)]
            self._shelves = {
                folder: self._shelves.get(folder) or _Shelf(self._files, Files(self._files.name(folder)))
                for folder in found
            }
        except InputError:
            found = []
            self._shelves = {}
        with ThreadPoolExecutor(readers(self._files)) as pool:
            return list(pool.map(lambda folder: self._shelves[folder].look(folder), found))

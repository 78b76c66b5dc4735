"""The studies below a root, looked at again whenever somebody asks: what has not changed is not read again.

Nothing here writes. Only folders that were found by walking the root are ever read, and none that a link leads out of it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from ...errors import InputError, one_line
from ...kinds import kind_in, open_store
from ...storage.files import READERS, Files, Mark
from ...storage.store import Store
from ..listing import Listed, describe, folders, require
from ..status import Status, Watch

FRESH_SECONDS = 1.0
"""Whoever asks within this time of a look gets what it found."""
PAGE_SHARE = 0.2
"""Pages of running sweeps take at most this fraction of the time to make."""
PAGES_KEPT = 8
"""Pages in memory, each of a few megabytes."""
_NOT_SHOWN = {"driver.json", "report.html"}
"""Files of a study that its page does not show."""


@dataclass
class _Shelf:
    """What is known of one folder."""

    files: Files
    lock: threading.Lock = field(default_factory=threading.Lock)
    watch: Watch | None = None
    mark: tuple[Mark, ...] = ()
    listed: Listed | None = None
    portrait: str | None = None  # the file of figures/ that stands for the study

    def look(self, folder: str) -> Listed:
        """The study as it is now."""
        try:
            beside = self.files.mark()
            mark = beside, self.files.mark("runs"), self.files.mark("samples")
        except InputError as error:
            self.listed, self.mark = Listed(folder, error=one_line(error)), ()
            return self.listed
        if self.listed is None or self.mark != mark or self.listed.state == "running":
            self.listed, self.mark = describe(self.files.out, folder, self._status), mark
            self.portrait = self._portrait()
        return self.listed

    def _status(self, store: Store) -> Status:
        self.watch = self.watch or Watch(store)
        status = self.watch.look()
        if status is None:
            raise InputError(f"{store.out}: holds no study any more")
        return status

    def _portrait(self) -> str | None:
        try:
            drawn = {name for name, _, _ in self.files.mark("figures")}
            return next(
                (name for name in kind_in(open_store(self.files.out)).portraits if name in drawn), None
            )
        except InputError:
            return None

    def tag(self) -> str:
        """What tells the present state from others, as far as a page shows it."""
        status = self.listed.status if self.listed else None
        files = [one for folder in self.mark for one in folder if one[0] not in _NOT_SHOWN]
        shown = files, status and (status.state, status.end)
        return hashlib.sha256(repr(shown).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Page:
    """The page of a study: HTML, the tag that tells it from other states, when it was made and how long that took."""

    content: bytes
    tag: str
    made: float
    seconds: float


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
        self._pages: dict[str, Page] = {}
        self._lock = threading.Lock()
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

    def _present(self, folder: str) -> _Shelf | None:
        """What is known of a folder now; None if it holds no study."""
        self.studies()
        return self._shelves.get(folder)

    def page(self, folder: str) -> Page | None:
        """The page of a study, of its present state or a moment older; None if there is no such study.

        Raises:
            InputError: the study cannot be read, or its kind has no page.
        """
        shelf = self._present(folder)
        if shelf is None or shelf.listed is None:
            return None
        with shelf.lock:
            tag = self._current(folder, shelf)
            page = self._pages.get(folder)
            if page is None or page.tag != tag:
                started = time.monotonic()
                store = open_store(shelf.files.out)
                content = kind_in(store).report(store, shelf.listed.status)
                page = Page(content, tag, time.monotonic(), time.monotonic() - started)
                self._keep(folder, page)
            return page

    def tag(self, folder: str) -> str:
        """What tells the state that the page of a study shows, or would show, from others; empty if there is no such study."""
        shelf = self._present(folder)
        return self._current(folder, shelf) if shelf else ""

    def _current(self, folder: str, shelf: _Shelf) -> str:
        """The tag of the present state, or of a state before for which a page has just been made."""
        page = self._pages.get(folder)
        new = page is not None and time.monotonic() - page.made < page.seconds / PAGE_SHARE
        return page.tag if page is not None and new else shelf.tag()

    def _keep(self, folder: str, page: Page) -> None:
        with self._lock:
            self._pages.pop(folder, None)
            while len(self._pages) >= PAGES_KEPT:
                del self._pages[next(iter(self._pages))]
            self._pages[folder] = page

    def portrait(self, folder: str) -> bytes | None:
        """The figure that stands for a study, a PNG; None if it is not drawn."""
        shelf = self._present(folder)
        if shelf is None or shelf.portrait is None:
            return None
        figure = f"figures/{shelf.portrait}"
        return shelf.files.read(figure) if self._is_within(f"{folder}/{figure}") else None

    def has_portrait(self, folder: str) -> bool:
        """Whether there is a figure that stands for a study, as far as the last look knows."""
        shelf = self._shelves.get(folder)
        return shelf is not None and shelf.portrait is not None

    def _look(self) -> list[Listed]:
        try:
            found = [folder for folder in folders(self._files) if self._is_within(folder)]
        except InputError:
            found = []
        self._shelves = {
            folder: self._shelves.get(folder) or _Shelf(Files(self._files.name(folder))) for folder in found
        }
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(lambda folder: self._shelves[folder].look(folder), found))

    def _is_within(self, path: str) -> bool:
        """Whether a path below the root is still below it when all links are followed."""
        if not self._files.local:
            return True
        root = Path(self._files.root).resolve()
        return Path(root, path).resolve().is_relative_to(root)

"""The rows of a folder that is looked at again and again, while a sweep adds to it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import pyarrow as pa

from .files import READERS, Stamp
from .store import Store

FILES_AT_ONCE, MOST_CHUNKS = 1000, 1000
"""Files that are read before their rows are put together, and the most parts that all rows may be in: many small ones take twice the
memory of few large ones."""


class _Held(NamedTuple):
    """The rows of a file, or of several: `length` of them, from `start` on in a table."""

    table: pa.Table
    start: int
    length: int

    @property
    def rows(self) -> pa.Table:
        return self.table.slice(self.start, self.length)


class Rows:
    """Columns of ``runs/``, as of the last look. A look reads the files that are new or have changed, and no others.

    Args:
        store: the folder.
        columns: which.
    """

    def __init__(self, store: Store, columns: Sequence[str]) -> None:
        self._store, self._columns = store, list(columns)
        self._nothing = store.tables.runs.only(columns).schema.empty_table()
        self._stamps: dict[str, Stamp] = {}
        self._held: dict[str, _Held] = {}
        self.table = self._nothing

    def look(self) -> pa.Table:
        """The rows that have come or gone since the last look; without rows if none have.

        Raises:
            InputError: a file is damaged, or the folder cannot be read; the next look tries again.
        """
        present = self._store.run_files()
        read = self._read([path for path, stamp in present.items() if self._stamps.get(path) != stamp])
        gone = [held for path, held in self._held.items() if path in read or path not in present]
        if read or gone:
            held = self._held | read
            self._keep({path: held[path] for path in present})
            self._stamps = present
        return self._joined([*gone, *read.values()])

    def _read(self, paths: Sequence[str]) -> dict[str, _Held]:
        found: dict[str, _Held] = {}
        with ThreadPoolExecutor(READERS) as pool:
            for first in range(0, len(paths), FILES_AT_ONCE):
                some = paths[first : first + FILES_AT_ONCE]
                tables = list(pool.map(lambda path: self._store.run_file(path, self._columns), some))
                whole, lengths = (
                    pa.concat_tables(tables).combine_chunks(),
                    [table.num_rows for table in tables],
                )
                found |= zip(some, _one_after_the_other(whole, lengths), strict=True)
        return found

    def _keep(self, files: Mapping[str, _Held]) -> None:
        table = self._joined(files.values())
        self.table = table.combine_chunks() if table.column(0).num_chunks > MOST_CHUNKS else table
        parts = _one_after_the_other(self.table, [held.length for held in files.values()])
        self._held = dict(zip(files, parts, strict=True))

    def _joined(self, files: Iterable[_Held]) -> pa.Table:
        """The rows of files in one table. Those that are next to each other already stay in one part."""
        parts: list[_Held] = []
        for held in files:
            last = parts[-1] if parts else None
            if last is not None and last.table is held.table and last.start + last.length == held.start:
                parts[-1] = last._replace(length=last.length + held.length)
            else:
                parts.append(held)
        return pa.concat_tables([part.rows for part in parts]) if parts else self._nothing


def _one_after_the_other(table: pa.Table, lengths: Iterable[int]) -> Iterator[_Held]:
    """The files that a table consists of, which have so many rows each."""
    start = 0
    for length in lengths:
        yield _Held(table, start, length)
        start += length

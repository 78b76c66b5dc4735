"""The rows of a folder that is looked at again and again, while a sweep adds to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import pyarrow as pa

from .files import READERS, Stamp
from .store import Store


class Rows:
    """Columns of ``runs/``, as of the last look. A look reads the files that are new or have changed, and no others.

    Args:
        store: the folder.
        columns: which.
    """

    def __init__(self, store: Store, columns: Sequence[str]) -> None:
        self._store, self._columns = store, list(columns)
        self._files: dict[str, tuple[Stamp, pa.Table]] = {}
        self.table = self._joined(())

    def look(self) -> pa.Table:
        """The rows that have come or gone since the last look; without rows if none have.

        Raises:
            InputError: a file is damaged, or the folder cannot be read; the next look tries again.
        """
        present = self._store.run_files()
        new = [path for path, stamp in present.items() if self._stamp(path) != stamp]
        with ThreadPoolExecutor(READERS) as pool:
            read = list(pool.map(lambda path: self._store.run_file(path, self._columns), new))
        gone = [path for path in self._files if self._stamp(path) != present.get(path)]
        changed = [self._files.pop(path)[1] for path in gone] + read
        self._files |= {path: (present[path], table) for path, table in zip(new, read, strict=True)}
        if changed:
            self.table = self._joined(self._files[path][1] for path in sorted(self._files))
        return self._joined(changed)

    def _stamp(self, path: str) -> Stamp | None:
        return self._files[path][0] if path in self._files else None

    def _joined(self, tables: Iterable[pa.Table]) -> pa.Table:
        return pa.concat_tables([self._store.tables.runs.only(self._columns).schema.empty_table(), *tables])

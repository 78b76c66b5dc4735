"""The folder of a study.

    study.toml, data.npz      the networks to train, and their data
    runs/*.parquet            one row per job and layer (and snapshot); finished files only, at every instant
    samples/JOB_ID.parquet    networks kept whole
    slopes.parquet, figures/  the fits and the figures (counts.parquet of a condensation study)
    report.html               the results as an interactive page
    driver.json               sign of life of the process that runs the sweep
    damaged/                  files of runs/ and samples/ that could not be read, set aside

The columns of the tables depend on the kind of the study (`phasediag.storage.schema.Tables`). Every page of a Parquet file has a checksum,
which every read verifies.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tomllib
import zipfile
from base64 import b64decode
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from ..errors import InputError, one_line
from .files import Files, Stamp, write_file
from .schema import (
    FAILED,
    METADATA,
    ROWS_KEY,
    SOURCE_KEY,
    STR,
    VERSION_KEY,
    Columns,
    Tables,
    check_schema,
    digest,
    runs_table,
)

_STALE_SECONDS = 3600.0
_ARROW_KEY = b"ARROW:schema"
_DRAWN = "figures/.drawn"
_DRIVERS_NUMBERS = ("started", "heartbeat", "total", "done_at_start", "seconds_left")


class DamagedFile(InputError):
    """A file of the package's own that cannot be read, or whose content is not what was written."""


@dataclass(frozen=True)
class _Held:
    """The jobs of a file of ``runs/`` that finished, or that failed: their status by id."""

    path: str
    statuses: dict[str, str]
    failed: bool


class Store:
    """The folder of one study.

    Opening it creates nothing. Reading raises `InputError` for files that are damaged or not the package's own;
    writing, once `check_writable` has passed, raises `OSError` as the file system does.

    Args:
        out: a local folder, or any URI that `pyarrow.fs` resolves (``s3://bucket/prefix``).
        tables: what its tables hold, by the kind of its study (`phasediag.kinds.open_store` finds out).
        filesystem: in place of the one that `out` implies; `out` is then a path on it.

    Raises:
        InputError: the URI is not understood, or its file system cannot be set up.
    """

    def __init__(self, out: str | Path, tables: Tables, filesystem: fs.FileSystem | None = None) -> None:
        self.files = Files(out, filesystem)
        self.out = self.files.out
        self.tables = tables

    def __repr__(self) -> str:
        return f"Store({self.out!r})"

    def with_tables(self, tables: Tables) -> Store:
        """This folder for a study with other tables."""
        store = copy(self)
        store.tables = tables
        return store

    def name(self, path: str) -> str:
        """How a file of the folder is called in messages."""
        return self.files.name(path)

    # What is there.

    def exists(self) -> bool:
        """Whether the folder holds a study."""
        return self.files.is_file("study.toml")

    def check_writable(self, part: str = "runs") -> None:
        """Raises `InputError` if a part of the folder ("" is the folder itself) cannot be written to. Leaves nothing behind."""
        self.files.check_writable(part)

    # The study.

    def read_study(self) -> str | None:
        """The text of `study.toml`, or None."""
        content = self.files.read("study.toml")
        try:
            return None if content is None else content.decode()
        except UnicodeDecodeError:
            raise InputError(f"{self.name('study.toml')}: not UTF-8 text") from None

    def read_document(self) -> dict[str, Any] | None:
        """The content of `study.toml` without the checks of a spec, which it passed before it was stored; or None."""
        text = self.read_study()
        try:
            return None if text is None else tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise InputError(f"{self.name('study.toml')}: not a study ({one_line(error)})") from None

    def write_study(self, text: str) -> None:
        """Writes `study.toml`."""
        self.files.publish("study.toml", text.encode())

    def read_data(self) -> dict[str, NDArray[Any]] | None:
        """The arrays of `data.npz`, x and y among them, or None."""
        content = self.files.read("data.npz")
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            x, y = arrays["x"], arrays["y"]
        except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile):
            raise InputError(
                f"{self.name('data.npz')}: does not hold arrays x and y; allowed: the file as 'phasediag run' wrote it"
            ) from None
        numbers = all(np.can_cast(array.dtype, np.float64, "same_kind") for array in arrays.values())
        sets = [arrays[name].shape for name in ("dimension", "seed") if name in arrays]
        if (
            not numbers
            or x.ndim != y.ndim + 1
            or x.shape[:-1] != y.shape
            or any(s != y.shape[:1] for s in sets)
        ):
            found = ", ".join(f"{name} {array.shape} of {array.dtype}" for name, array in arrays.items())
            raise InputError(f"{self.name('data.npz')}: holds arrays that do not belong together ({found})")
        arrays |= {"x": x.astype(np.float64), "y": y.astype(np.float64)}
        return arrays

    def write_data(self, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        """Writes arrays, x and y among them, to `data.npz`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        self.files.publish("data.npz", buffer.getvalue())

    # Runs.

    def publish_runs(self, runs: pa.Table | Sequence[Mapping[str, object]]) -> str:
        """Publishes the rows of a batch of jobs as one file, and returns its name.

        The name is a hash of the ids of the jobs: a batch that is run twice replaces itself. Failed jobs have files of their own, of
        other names, so that they never replace a finished one, and `drop_failed` has nothing to rewrite under the eyes of a reader that
        opens a file more than once.
        """
        table = runs if isinstance(runs, pa.Table) else runs_table(runs, self.tables.runs)
        if table.num_rows == 0:
            raise ValueError("there is nothing to publish")
        content = _to_parquet(table, self.tables.runs)
        statuses = set(table.column("status").to_pylist())
        if FAILED in statuses and len(statuses) > 1:
            raise ValueError("failed and finished jobs belong in different files")
        name = _runs_name(table.column("job_id").to_pylist(), failed=FAILED in statuses)
        self.files.publish(f"runs/{name}", content)
        return name

    def has_runs(self, job_ids: Iterable[str]) -> bool:
        """Whether these jobs finished and were published together. Looks for their file alone, however many there are."""
        return self.files.is_file(f"runs/{_runs_name(job_ids, failed=False)}")

    def has_sample(self, job_id: str) -> bool:
        """Whether the network of this job is kept."""
        return self.files.is_file(f"samples/{job_id}.parquet")

    def statuses(self) -> dict[str, str]:
        """The status of every job that has rows."""
        found: dict[str, str] = {}
        for table in self._read_folder("runs", self.tables.runs, ["job_id", "status"]):
            for job_id, status in zip(*(column.to_pylist() for column in table.columns), strict=True):
                if status != FAILED or job_id not in found:
                    found[job_id] = status
        return found

    def errors(self) -> dict[str, str]:
        """Why jobs failed, by id."""
        tables = self._read_folder("runs", self.tables.runs, ["job_id", "status", "error"])
        rows = (row for table in tables for row in zip(*(c.to_pylist() for c in table.columns), strict=True))
        return {job_id: error for job_id, status, error in rows if status == FAILED}

    def drop_failed(self) -> int:
        """Removes the rows of failed jobs, so that these are missing again; returns the number of jobs.

        Files of failed jobs are deleted; one with other rows too, which only other programs write, is replaced.
        """
        return len(set().union(*self.files.for_each("runs", self._drop_failed_from)))

    def settle(self) -> dict[str, str]:
        """Removes rows of jobs that other files hold too, and returns the status of every job.

        Rows repeat where folders were merged, or two drivers ran at a time for want of a lock. A finished row stays rather than a
        failed one, then that of the file that is first by its name: an order that nothing changes, so that two drivers that do this at
        the same time do not remove both.
        """
        held = [rows for file in self.files.for_each("runs", self._held) for rows in file]
        found: dict[str, str] = {}
        for rows in sorted(held, key=lambda rows: (rows.failed, rows.path)):
            if twice := rows.statuses.keys() & found.keys():
                self._rewrite_without(rows.path, partial(_of_jobs, ids=twice, failed=rows.failed))
            for job_id, status in rows.statuses.items():
                found.setdefault(job_id, status)
        self._rename_failed(held)
        return found

    def _rename_failed(self, held: Sequence[_Held]) -> None:
        """Gives files of failed jobs alone, which an earlier version named as if these had finished, the names they have now."""
        for rows in held:
            if rows.failed and rows.path.endswith(f"/{_runs_name(rows.statuses, failed=False)}"):
                table = self._read_parquet(rows.path, self.tables.runs)
                if table is not None and set(table.column("status").to_pylist()) == {FAILED}:
                    self.publish_runs(table)
                    self.files.delete(self.files.within(rows.path))

    def runs(self) -> pd.DataFrame:
        """All runs in the order of their content, whichever files they are in; without rows if there are none.

        A job that has rows twice (two drivers ran it) appears once, rather finished than failed.
        """
        return self.in_order(_concatenated(self._read_folder("runs", self.tables.runs), self.tables.runs))

    def in_order(self, rows: pa.Table) -> pd.DataFrame:
        """Rows of ``runs/``, all or some, in the order of their content; of those that repeat one, rather a finished than a failed one."""
        runs = _frame(rows)
        runs = runs.iloc[np.argsort(runs["status"].to_numpy() == FAILED, kind="stable")]
        return self._sorted(runs.drop_duplicates(list(self.tables.run_key)))

    def run_files(self) -> dict[str, Stamp]:
        """The files of ``runs/``, by their paths on the file system."""
        return self.files.parquet("runs")

    def run_file(self, path: str, columns: Sequence[str]) -> pa.Table:
        """Columns of a file of ``runs/``; without rows if it is not there any more."""
        table = self._read_parquet(path, self.tables.runs, columns)
        return self.tables.runs.only(columns).schema.empty_table() if table is None else table

    def export_runs(self, file: Path) -> int:
        """Writes all runs, in the order of their content, to one file outside the folder, and returns the number of rows.

        The file is what any file of ``runs/`` is, and can stand in the place of all of them. One that is there is replaced.

        Raises:
            InputError: there are no runs, or the file cannot be written there.
        """
        if file.suffix != ".parquet":
            raise InputError(f"{file}: is not supported; allowed: a name that ends in .parquet")
        self.files.check_outside(file)
        runs, declared = self.runs(), self.tables.runs
        if runs.empty:
            raise InputError(
                f"{self.name('runs')}: holds no rows; allowed: a folder that 'phasediag run' has written"
            )
        table = pa.Table.from_pandas(runs, declared.schema, preserve_index=False)
        write_file(file, _to_parquet(table, declared))
        return len(runs)

    # Files that are damaged.

    def damaged(self) -> list[str]:
        """The files of ``runs/`` and ``samples/`` that are damaged, as paths within the folder. Reads every file from end to end.

        Raises:
            InputError: a file is not the package's own.
        """
        found = []
        for folder, declared in (("runs", self.tables.runs), ("samples", self.tables.samples)):
            look = partial(self._is_damaged, declared=declared)
            found += [path for path in self.files.for_each(folder, look) if path]
        return found

    def set_aside(self, path: str) -> str:
        """Moves a damaged file to ``damaged/``, so that its jobs are missing; returns what is wrong with it, in words."""
        declared = self.tables.runs if path.startswith("runs/") else self.tables.samples
        try:
            self._read_parquet(f"{self.files.root}/{path}", declared)
            return ""
        except DamagedFile as error:
            content = self.files.read(path)
            self.files.publish(f"damaged/{PurePosixPath(path).name}", content or b"")
            self.files.delete(path)
            return f"{str(error).partition(';')[0]}; moved to damaged/, its jobs are trained again"

    def _is_damaged(self, path: str, declared: Columns) -> str:
        """The path within the folder if the file is damaged, else nothing."""
        try:
            self._read_parquet(path, declared)
        except DamagedFile:
            return self.files.within(path)
        return ""

    # Networks kept whole, and what is derived.

    def publish_sample(self, sample: pa.Table | Sequence[Mapping[str, object]]) -> str:
        """Publishes the rows of one kept network, and returns the name of the file."""
        declared = self.tables.samples
        table = sample if isinstance(sample, pa.Table) else declared.table(sample)
        ids = set(table.column("job_id").to_pylist())
        if len(ids) != 1:
            raise ValueError(f"rows of {len(ids)} jobs; allowed: of one")
        name = f"{ids.pop()}.parquet"
        self.files.publish(f"samples/{name}", _to_parquet(table, declared))
        return name

    def samples(self) -> pd.DataFrame:
        """All kept networks; without rows if there are none."""
        declared = self.tables.samples
        return self._sorted(_frame(_concatenated(self._read_folder("samples", declared), declared)))

    def sample_ids(self) -> set[str]:
        """The ids of the jobs whose networks are kept already."""
        return {PurePosixPath(path).stem for path in self.files.parquet("samples")}

    def digest(self) -> dict[str, str]:
        """A hash of the content of each file that figures show, beside those of `runs/`: the study, its data and the kept networks."""
        samples = [f"samples/{job_id}.parquet" for job_id in sorted(self.sample_ids())]
        return self.files.digests(["study.toml", "data.npz", *samples])

    @property
    def fitted_name(self) -> str:
        """The file of what is fitted: `slopes.parquet`, `counts.parquet`."""
        return f"{self.tables.fitted_name}.parquet"

    def fitted(self) -> pd.DataFrame:
        """The slopes, or counts; without rows if nothing was fitted."""
        declared = self.tables.fitted
        if not self.files.is_file(self.fitted_name):  # a pipe among others, which would be read for ever
            return declared.empty_frame()
        table = self._read_parquet(f"{self.files.root}/{self.fitted_name}", declared)
        return declared.empty_frame() if table is None else _frame(table)

    def fitted_to(self, runs: pd.DataFrame) -> pd.DataFrame | None:
        """What was fitted to exactly these runs, all of the folder's; None if something else was, or nothing can be read."""
        try:
            table = self._read_parquet(f"{self.files.root}/{self.fitted_name}", self.tables.fitted)
        except InputError:
            return None
        source = None if table is None else (table.schema.metadata or {}).get(SOURCE_KEY)
        if table is None or source is None or source.decode(errors="replace") != self._digest(runs):
            return None
        return _frame(table)

    def write_fitted(self, fitted: pd.DataFrame, runs: pd.DataFrame) -> None:
        """Writes the slopes, or counts, and to which runs they were fitted; the columns must be those declared."""
        source = {SOURCE_KEY: self._digest(runs).encode()}
        self.write_table(self.fitted_name, fitted, self.tables.fitted, source)

    def _digest(self, runs: pd.DataFrame) -> str:
        """A hash of runs. That of files of an earlier version is what it was: newer columns count where they have content."""
        newer = [column.name for column in self.tables.runs if column.newer and column.name in runs.columns]
        return digest(runs.drop(columns=[name for name in newer if runs[name].isna().all()]))

    def write_table(
        self, name: str, frame: pd.DataFrame, declared: Columns, more: Mapping[bytes, bytes] | None = None
    ) -> None:
        """Writes a Parquet file, with `more` in its metadata; the columns must be those declared."""
        if list(frame.columns) != declared.names:
            raise ValueError(f"columns {list(frame.columns)}; allowed: {declared.names}")
        table = pa.Table.from_pandas(frame, schema=declared.schema, preserve_index=False)
        self.files.publish(name, _to_parquet(table, declared, more))

    def write_figure(self, name: str, content: bytes, folder: str = "figures/") -> None:
        """Writes a file such as `map_W1.png` to `figures/`, or to another part of the folder ("" is the folder itself)."""
        self.files.publish(f"{folder}{name}", content)

    def write_drawn(self, source: str, names: Sequence[str]) -> None:
        """Writes that `figures/` is complete with these files as they are now, and a hash of what they were drawn from."""
        files = self.files.digests([f"figures/{name}" for name in sorted(names)])
        self.files.publish(_DRAWN, json.dumps({"source": source, "files": files}).encode())

    def forget_drawn(self) -> None:
        """From here on, until `write_drawn`, `figures/` does not count as complete."""
        if self.files.is_file(_DRAWN):
            self.files.delete(_DRAWN)

    def drawn_from(self) -> str | None:
        """The hash of what `figures/` was drawn from; None if a file of it is missing, or is not what was drawn."""
        match self._read_json(_DRAWN):
            case {"source": str(source), "files": dict(files)} if self.files.digests(files) == files:
                return source
        return None

    def write_report(self, content: bytes) -> None:
        """Writes `report.html`."""
        self.files.publish("report.html", content)

    # The driver.

    def changed(self) -> float | None:
        """When its rows were last written, in seconds since the epoch; None if there are none."""
        return max((time / 1e9 for _, (_, time) in self.files.mark("runs")), default=None)

    def write_driver(self, state: Mapping[str, object]) -> None:
        """Writes the sign of life of the running driver, anything that JSON can hold."""
        self.files.publish("driver.json", json.dumps(state).encode())

    def read_driver(self) -> dict[str, Any] | None:
        """What the last driver wrote; None if there is nothing, or something that no driver writes."""
        record = self._read_json("driver.json")
        return record if record is not None and _is_drivers(record) else None

    def _read_json(self, path: str) -> dict[str, Any] | None:
        """What a file says of a driver or of figures; None if there is none, or it is damaged: nothing is lost with it."""
        content = self.files.read(path)
        try:
            state = None if content is None else json.loads(content)
        except (ValueError, RecursionError):
            return None
        return state if isinstance(state, dict) else None

    def clean_staging(self, older_than: float = _STALE_SECONDS) -> int:
        """Removes files that processes left half-written when they were killed, and returns how many.

        Younger files than `older_than` seconds stay: another driver may be writing them.
        """
        return self.files.clean_staging(older_than)

    # Tables.

    def _sorted(self, frame: pd.DataFrame) -> pd.DataFrame:
        order = [column for column in self.tables.order if column in frame.columns]
        return frame.sort_values(order, kind="stable", ignore_index=True)

    def _read_folder(
        self, folder: str, declared: Columns, columns: Sequence[str] | None = None
    ) -> list[pa.Table]:
        tables = self.files.for_each(folder, lambda path: self._read_parquet(path, declared, columns))
        return [table for table in tables if table is not None]

    def _read_parquet(
        self, path: str, declared: Columns, columns: Sequence[str] | None = None
    ) -> pa.Table | None:
        """The declared columns of a file, or some of them; None if the file is not there (any more)."""
        name, wanted = self.name(self.files.within(path)), list(columns or declared.names)
        try:
            with (
                self.files.filesystem.open_input_file(path) as file,
                pq.ParquetFile(file, page_checksum_verification=True) as parquet,
            ):
                try:
                    check_schema(parquet.schema_arrow, declared, name)
                except InputError as error:
                    if not _contradicts_itself(parquet):
                        raise  # another program, or another version, has written it
                    raise DamagedFile(f"{error}, in one of two places; {self._repair(name)}") from None
                try:
                    table = declared.read(parquet, wanted)
                    _check_rows(table)
                    return table
                except (pa.ArrowException, OSError):
                    held = set(parquet.schema_arrow.names)
                    for column in filter(held.__contains__, wanted):  # which one it is
                        self._read_column(parquet, column, name)
                    raise
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            raise DamagedFile(
                f"{name}: not a complete Parquet file ({one_line(error)}); {self._repair(name)}"
            ) from None

    def _read_column(self, parquet: pq.ParquetFile, column: str, name: str) -> None:
        """Raises `DamagedFile` if this is the column that cannot be read."""
        try:
            read = parquet.read(columns=[column], use_threads=False)
            reason = "" if read.num_rows == parquet.metadata.num_rows else f"{read.num_rows} values"
        except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
            reason = one_line(error)
        if reason:
            raise DamagedFile(f"{name}: column {column} is damaged ({reason}); {self._repair(name)}")

    def _repair(self, name: str) -> str:
        """How to get back what a damaged file held."""
        if name == self.name(self.fitted_name):
            return f"'phasediag fit {self.out}' writes it again"
        return "'phasediag run', as before, sets it aside and trains its jobs again"

    def _held(self, path: str) -> list[_Held]:
        """Which jobs a file holds, the finished and the failed ones apart."""
        table = self._read_parquet(path, self.tables.runs, ["job_id", "status"])
        held = [_Held(path, {}, failed=False), _Held(path, {}, failed=True)]
        if table is not None:
            for job_id, status in zip(*(column.to_pylist() for column in table.columns), strict=True):
                of_status = held[1] if status == FAILED else held[0]
                of_status.statuses[job_id] = status
        return held

    def _drop_failed_from(self, path: str) -> set[str]:
        """Removes the failed rows of one file and returns the ids of their jobs."""
        return self._rewrite_without(path, lambda rows: pc.equal(rows.column("status"), FAILED))

    def _rewrite_without(self, path: str, unwanted: Callable[[pa.Table], pa.ChunkedArray]) -> set[str]:
        """Removes rows of one file, the file too if no other is left, and returns the ids of their jobs."""
        declared = self.tables.runs
        table = self._read_parquet(path, declared)
        if table is None:
            return set()
        gone = unwanted(table)
        kept = table.filter(pc.invert(gone))
        if kept.num_rows == 0:
            self.files.delete(self.files.within(path))
        elif kept.num_rows < table.num_rows:
            self.files.publish(self.files.within(path), _to_parquet(kept, declared))
        return set(table.filter(gone).column("job_id").to_pylist())


def _contradicts_itself(parquet: pq.ParquetFile) -> bool:
    """Whether a file of the package's own tells two things of its columns, since a bit has flipped: it holds their names and types, and its
    metadata, twice, and no checksum covers them (that of Parquet is one of pages)."""
    found, texts = parquet.schema_arrow, parquet.metadata.metadata or {}
    for key, text in texts.items():
        try:
            told = pa.ipc.read_schema(pa.py_buffer(b64decode(text)))
        except (pa.ArrowException, OSError, ValueError):
            if key == _ARROW_KEY:
                return True
            continue
        own = any(VERSION_KEY in (keys or {}) for keys in (texts, told.metadata, found.metadata))
        return own and not (key == _ARROW_KEY and told.equals(found, check_metadata=True))
    return False


def _is_drivers(record: Mapping[str, Any]) -> bool:
    """Whether texts and numbers of a `driver.json` are such, as far as they are there."""
    numbers = [value for name in _DRIVERS_NUMBERS if (value := record.get(name)) is not None]
    return all(isinstance(record.get(name, ""), str) for name in ("token", "state")) and all(
        isinstance(value, int | float) and abs(value) < sys.float_info.max for value in numbers
    )


def _runs_name(job_ids: Iterable[str], failed: bool) -> str:
    """The file of a batch of jobs, which has finished or failed."""
    content = "\n".join([*sorted(set(job_ids)), *(["failed"] if failed else [])])
    return f"{hashlib.sha256(content.encode()).hexdigest()[:20]}.parquet"


def _of_jobs(table: pa.Table, ids: Iterable[str], failed: bool) -> pa.ChunkedArray:
    """Which rows of a table belong to these jobs and have failed, or have not."""
    match = pc.equal(table.column("status"), FAILED)
    return pc.and_(
        pc.is_in(table.column("job_id"), pa.array(sorted(ids), STR)), match if failed else pc.invert(match)
    )


def _to_parquet(table: pa.Table, declared: Columns, more: Mapping[bytes, bytes] | None = None) -> bytes:
    if not table.schema.equals(declared.schema):
        raise ValueError(f"columns {table.schema.names} or their types differ from {declared.names}")
    buffer = io.BytesIO()
    rows = {ROWS_KEY: str(table.num_rows).encode()}
    stamped = table.replace_schema_metadata({**METADATA, **rows, **(more or {})})
    pq.write_table(stamped, buffer, compression="zstd", write_page_checksum=True)
    return buffer.getvalue()


def _check_rows(table: pa.Table) -> None:
    """Raises `OSError` unless there are as many rows as were written. The number in the footer of a file has no checksum."""
    written = (table.schema.metadata or {}).get(ROWS_KEY)
    if written is not None and written != str(table.num_rows).encode():
        raise OSError(f"{table.num_rows} rows where {written.decode(errors='replace')} were written")


def _concatenated(tables: Sequence[pa.Table], declared: Columns) -> pa.Table:
    return pa.concat_tables([declared.schema.empty_table(), *tables])


def _frame(table: pa.Table) -> pd.DataFrame:
    frame: pd.DataFrame = table.to_pandas()
    return frame

"""The folder of a study: paths, publication of finished files, reading.

    study.toml, data.npz      what is trained, on which data
    runs/*.parquet            one row per job and layer (and snapshot); finished files only, at every instant
    samples/JOB_ID.parquet    networks kept whole
    slopes.parquet, figures/  what was fitted and drawn (counts.parquet of a condensation study)
    report.html               the same as an interactive page
    driver.json               sign of life of the process that runs the sweep

What the tables hold depends on the kind of the study (`phasediag.schemas`).

A file is written aside, in `.staging`, and moved into place when it is complete; on an object store, which shows objects when they are
complete, it is written in one go under its final name.
"""

from __future__ import annotations

import hashlib
import io
import json
import numbers
import os
import tempfile
import time
import tomllib
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pyarrow import fs

from .errors import InputError
from .schemas import FAILED, FLOAT, INT, METADATA, SCHEMA_VERSION, STATUSES, STR, TABLES, VERSION_KEY, Tables

_READERS = 8
# Object stores have no folders to create: a marker object in their place would only be in the way.
_OBJECT_STORES = ("s3", "gcs", "abfs")
# In the options of a URI, words that credentials go by, and the sign that sets them off in a nested one.
_SECRETS = ("access_key", "account_key", "secret", "password", "token", "credential", "sas", "@", "%40")
_T = TypeVar("_T")


def runs_table(rows: Sequence[Mapping[str, object]], schema: pa.Schema) -> pa.Table:
    """The rows as a table of the schema of ``runs/``.

    Raises:
        ValueError: a row lacks a column or has an unknown one, or a status is unknown.
        TypeError: a value is missing or of the wrong type (a float or a bool where an integer belongs, say).
    """
    names = set(schema.names)
    for row in rows:
        if set(row) != names:
            raise ValueError(f"a row has wrong columns: {sorted(set(row) ^ names)} are missing or unknown")
    columns = [_column(field, [row[field.name] for row in rows]) for field in schema]
    table = pa.Table.from_arrays(columns, schema=schema)
    unknown = set(table.column("status").to_pylist()) - set(STATUSES)
    if unknown:
        raise ValueError(f"unknown status: {sorted(unknown)}; allowed: {', '.join(STATUSES)}")
    return table


def _column(field: pa.Field, values: list[object]) -> pa.Array:
    expected = {STR: str, INT: numbers.Integral, FLOAT: numbers.Real}[field.type]
    for value in values:
        if not isinstance(value, expected) or isinstance(value, bool | np.bool_):
            raise TypeError(f"{field.name}: {value!r} is not of type {field.type}")
    return pa.array(values, type=field.type)


def patiently(work: Callable[[], _T], patience: Sequence[float]) -> _T:
    """Does something with a storage that may not answer now and do so in a moment; raises what the last attempt raises.

    Args:
        work: what to do.
        patience: seconds to wait after each attempt but the last.
    """
    for seconds in patience:
        try:
            return work()
        except (OSError, InputError):
            time.sleep(seconds)
    return work()


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
        filesystem: in place of the one that `out` implies; `out` is then a path on it.
        kind: kind of the study, for a folder that is new; otherwise that of the study that is stored in it.

    Raises:
        InputError: the URI is not understood, or its file system cannot be set up.
    """

    def __init__(
        self, out: str | Path, filesystem: fs.FileSystem | None = None, kind: str | None = None
    ) -> None:
        self.out = str(out)
        if not self.out.strip():
            raise InputError("OUT: is empty; allowed: a folder, or a URI such as s3://bucket/prefix")
        self._fs, root = (filesystem, self.out) if filesystem else _resolve(self.out)
        self._local = isinstance(self._fs, fs.LocalFileSystem)
        self._root = str(Path(root).absolute()) if self._local else root.rstrip("/")
        self._kind = kind

    def __repr__(self) -> str:
        return f"Store({self.out!r})"

    def of_kind(self, kind: str) -> Store:
        """The same folder, for a study of this kind."""
        store = copy(self)
        store._kind = kind
        return store

    @property
    def kind(self) -> str:
        """The kind of the study; "phase-diagram" where there is none yet.

        Raises:
            InputError: `study.toml` is no study of any kind.
        """
        if self._kind is None:
            document = self.read_document()
            if document is None:
                return "phase-diagram"
            kind = document.get("kind")
            if kind not in TABLES:
                raise InputError(f"{self.name('study.toml')}: kind: {kind!r}; allowed: {', '.join(TABLES)}")
            self._kind = str(kind)
        return self._kind

    @property
    def tables(self) -> Tables:
        """What the tables of the study hold."""
        return TABLES[self.kind]

    # What is there.

    def exists(self) -> bool:
        """Whether the folder holds a study."""
        return self._is_file("study.toml")

    def check_folder(self) -> None:
        """Raises `InputError` if there is a file in the place of the folder."""
        if self._info("").type == fs.FileType.File:
            raise InputError(f"{self.out}: is a file; allowed: a folder")

    def check_writable(self, part: str = "runs") -> None:
        """Raises `InputError` if a part of the folder ("" is the folder itself) cannot be written to. Leaves nothing behind."""
        self.check_folder()
        if self._local:
            _check_writable_folder(Path(self._root, part), self.out)

    def check_outside(self, file: Path) -> None:
        """Raises `InputError` if a file lies within the folder, which holds its own files alone."""
        if self._local and Path(self._root).resolve() in file.resolve().parents:
            raise InputError(f"{file}: lies within {self.out}; allowed: a file outside of it")

    # The study.

    def read_study(self) -> str | None:
        """The text of `study.toml`, or None."""
        content = self._read("study.toml")
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
            raise InputError(f"{self.name('study.toml')}: not a study ({_one_line(error)})") from None

    def write_study(self, text: str) -> None:
        """Writes `study.toml`."""
        self._publish("study.toml", text.encode())

    def read_data(self) -> dict[str, NDArray[Any]] | None:
        """The arrays of `data.npz`, x and y among them, or None."""
        content = self._read("data.npz")
        if content is None:
            return None
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
            x, y = arrays["x"], arrays["y"]
        except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile) as error:
            raise InputError(f"{self.name('data.npz')}: does not hold arrays x and y ({error})") from None
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

    def write_data(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Writes arrays, x and y among them, to `data.npz`."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        self._publish("data.npz", buffer.getvalue())

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
        self._publish(f"runs/{name}", content)
        return name

    def has_runs(self, job_ids: Iterable[str]) -> bool:
        """Whether these jobs finished and were published together. Looks for their file alone, however many there are."""
        return self._is_file(f"runs/{_runs_name(job_ids, failed=False)}")

    def has_sample(self, job_id: str) -> bool:
        """Whether the network of this job is kept."""
        return self._is_file(f"samples/{job_id}.parquet")

    def statuses(self) -> dict[str, str]:
        """The status of every job that has rows."""
        tables = self._read_folder("runs", self.tables.runs, ["job_id", "status"])
        found: dict[str, str] = {}
        for table in tables:
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
        return len(set().union(*self._for_each_file("runs", self._drop_failed_from)))

    def settle(self) -> dict[str, str]:
        """Removes rows of jobs that other files hold too, and returns the status of every job.

        Rows repeat where folders were merged, or two drivers ran at a time for want of a lock. A finished row stays rather than a
        failed one, then that of the file that is first by its name: an order that nothing changes, so that two drivers that do this at
        the same time do not remove both.
        """
        held = [rows for file in self._for_each_file("runs", self._held) for rows in file]
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
                    self._fs.delete_file(rows.path)

    def runs(self) -> pd.DataFrame:
        """All runs in the order of their content, whichever files they are in; without rows if there are none.

        A job that has rows twice (two drivers ran it) appears once, rather finished than failed.
        """
        runs = _to_frame(self._read_folder("runs", self.tables.runs), self.tables.runs)
        runs = runs.iloc[np.argsort(runs["status"].to_numpy() == FAILED, kind="stable")]
        return self._sorted(runs.drop_duplicates(list(self.tables.run_key)))

    def export_runs(self, file: Path) -> int:
        """Writes all runs, in the order of their content, to one file outside the folder, and returns the number of rows.

        The file is what any file of ``runs/`` is, and can stand in the place of all of them. One that is there is replaced.

        Raises:
            InputError: there are no runs, or the file cannot be written there.
        """
        if file.suffix != ".parquet":
            raise InputError(f"{file}: is not supported; allowed: a name that ends in .parquet")
        self.check_outside(file)
        runs, schema = self.runs(), self.tables.runs
        if runs.empty:
            raise InputError(
                f"{self.name('runs')}: holds no rows; allowed: a folder that 'phasediag run' has written"
            )
        write_file(file, _to_parquet(pa.Table.from_pandas(runs, schema, preserve_index=False), schema))
        return len(runs)

    # Networks kept whole, and what is derived.

    def publish_sample(self, sample: pa.Table | Sequence[Mapping[str, object]]) -> str:
        """Publishes the rows of one kept network, and returns the name of the file."""
        schema = self.tables.samples
        table = sample if isinstance(sample, pa.Table) else pa.Table.from_pylist(list(sample), schema=schema)
        ids = set(table.column("job_id").to_pylist())
        if len(ids) != 1:
            raise ValueError(f"rows of {len(ids)} jobs; allowed: of one")
        name = f"{ids.pop()}.parquet"
        self._publish(f"samples/{name}", _to_parquet(table, schema))
        return name

    def samples(self) -> pd.DataFrame:
        """All kept networks; without rows if there are none."""
        schema = self.tables.samples
        return self._sorted(_to_frame(self._read_folder("samples", schema), schema))

    def sample_ids(self) -> set[str]:
        """The ids of the jobs whose networks are kept already."""
        return {PurePosixPath(path).stem for path in self._files("samples")}

    @property
    def fitted_name(self) -> str:
        """The file of what is fitted: `slopes.parquet`, `counts.parquet`."""
        return f"{self.tables.fitted_name}.parquet"

    def fitted(self) -> pd.DataFrame:
        """The slopes, or counts; without rows if nothing was fitted."""
        schema = self.tables.fitted
        table = self._read_parquet(f"{self._root}/{self.fitted_name}", schema)
        return _to_frame([] if table is None else [table], schema)

    def write_fitted(self, fitted: pd.DataFrame) -> None:
        """Writes the slopes, or counts; the columns must be those of their schema."""
        self.write_table(self.fitted_name, fitted, self.tables.fitted)

    def write_table(self, name: str, frame: pd.DataFrame, schema: pa.Schema) -> None:
        """Writes a Parquet file; the columns must be those of its schema."""
        if list(frame.columns) != schema.names:
            raise ValueError(f"columns {list(frame.columns)}; allowed: {schema.names}")
        table = pa.Table.from_pandas(frame, schema=schema, preserve_index=False)
        self._publish(name, _to_parquet(table, schema))

    def write_figure(self, name: str, content: bytes, folder: str = "figures/") -> None:
        """Writes a file such as `map_W1.png` to `figures/`, or to another part of the folder ("" is the folder itself)."""
        self._publish(f"{folder}{name}", content)

    def write_report(self, content: bytes) -> None:
        """Writes `report.html`."""
        self._publish("report.html", content)

    # The driver.

    def write_driver(self, state: Mapping[str, object]) -> None:
        """Writes the sign of life of the running driver, anything that JSON can hold."""
        self._publish("driver.json", json.dumps(state).encode())

    def read_driver(self) -> dict[str, Any] | None:
        """What the last driver wrote, or None."""
        content = self._read("driver.json")
        try:
            state = None if content is None else json.loads(content)
        except ValueError:  # a sign of life only: nothing is lost with it
            return None
        return state if isinstance(state, dict) else None

    def clean_staging(self, older_than: float = 3600.0) -> int:
        """Removes files that processes left half-written when they were killed, and returns how many.

        Younger files than `older_than` seconds stay: another driver may be writing them.
        """
        staging = Path(self._root, ".staging")
        if not (self._local and staging.is_dir()):
            return 0
        limit = time.time() - older_than
        stale = [path for path in staging.iterdir() if _modified(path) < limit]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    # Files.

    def _sorted(self, frame: pd.DataFrame) -> pd.DataFrame:
        order = [column for column in self.tables.order if column in frame.columns]
        return frame.sort_values(order, kind="stable", ignore_index=True)

    def name(self, path: str) -> str:
        """How a file of the folder is called in messages."""
        return f"{self.out.rstrip('/')}/{path}"

    def _is_file(self, path: str) -> bool:
        return bool(self._info(path).type == fs.FileType.File)

    def _path(self, path: str) -> str:
        return f"{self._root}/{path}" if path else self._root

    def _info(self, path: str) -> fs.FileInfo:
        try:
            return self._fs.get_file_info(self._path(path))
        except OSError as error:
            raise InputError(f"{self.out}: cannot be reached ({_one_line(error)})") from None

    def _read(self, path: str) -> bytes | None:
        if not self._is_file(path):
            return None
        try:
            with self._fs.open_input_stream(self._path(path)) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise InputError(f"{self.name(path)}: cannot be read ({_one_line(error)})") from None

    def _files(self, folder: str) -> list[str]:
        """Paths of the Parquet files in a folder. Like all readers of Parquet, ignores names with `_` or `.` first."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        try:
            infos = self._fs.get_file_info(selector)
        except OSError as error:
            raise InputError(f"{self.name(folder)}: cannot be listed ({_one_line(error)})") from None
        visible = [info for info in infos if not info.base_name.startswith(("_", "."))]
        for info in visible:
            if info.type != fs.FileType.File or info.extension != "parquet":
                stray = self.name(f"{folder}/{info.base_name}")
                raise InputError(f"{stray}: does not belong there; allowed: Parquet files")
        return sorted(info.path for info in visible)

    def _for_each_file(self, folder: str, work: Callable[[str], _T]) -> list[_T]:
        with ThreadPoolExecutor(_READERS) as pool:
            return list(pool.map(work, self._files(folder)))

    def _read_folder(
        self, folder: str, schema: pa.Schema, columns: Sequence[str] | None = None
    ) -> list[pa.Table]:
        tables = self._for_each_file(folder, lambda path: self._read_parquet(path, schema, columns))
        return [table for table in tables if table is not None]

    def _read_parquet(
        self, path: str, schema: pa.Schema, columns: Sequence[str] | None = None
    ) -> pa.Table | None:
        """A table of the schema, or of some of its columns; None if the file is not there (any more)."""
        name = self.name(path.removeprefix(f"{self._root}/"))
        try:
            with self._fs.open_input_file(path) as file, pq.ParquetFile(file) as parquet:
                _check_schema(parquet.schema_arrow, schema, name)
                return parquet.read(columns=columns, use_threads=False)
        except FileNotFoundError:
            return None
        except (pa.ArrowException, OSError) as error:
            raise InputError(
                f"{name}: not a complete Parquet file ({_one_line(error)}); "
                "delete it: what it held is made again"
            ) from None

    def _held(self, path: str) -> list[_Held]:
        """Which jobs a file holds, the finished and the failed ones apart."""
        table = self._read_parquet(path, self.tables.runs, ["job_id", "status"])
        held = [_Held(path, {}, failed=False), _Held(path, {}, failed=True)]
        if table is not None:
            for job_id, status in zip(*(column.to_pylist() for column in table.columns), strict=True):
                held[status == FAILED].statuses[job_id] = status
        return held

    def _drop_failed_from(self, path: str) -> set[str]:
        """Removes the failed rows of one file and returns the ids of their jobs."""
        return self._rewrite_without(path, lambda rows: pc.equal(rows.column("status"), FAILED))

    def _rewrite_without(self, path: str, unwanted: Callable[[pa.Table], pa.ChunkedArray]) -> set[str]:
        """Removes rows of one file, the file too if no other is left, and returns the ids of their jobs."""
        schema = self.tables.runs
        table = self._read_parquet(path, schema)
        if table is None:
            return set()
        gone = unwanted(table)
        kept = table.filter(pc.invert(gone))
        if kept.num_rows == 0:
            self._fs.delete_file(path)
        elif kept.num_rows < table.num_rows:
            self._publish(path.removeprefix(f"{self._root}/"), _to_parquet(kept, schema))
        return set(table.filter(gone).column("job_id").to_pylist())

    def _publish(self, path: str, content: bytes) -> None:
        """Makes `content` appear under `path`, complete or not at all."""
        if self._local:
            _replace(Path(self._root, path), content, Path(self._root, ".staging"))
            return
        target = self._path(path)
        if self._fs.type_name in _OBJECT_STORES:
            self._write(target, content)
            return
        aside = self._path(f".staging/{PurePosixPath(path).name}.{uuid.uuid4().hex}")
        for file in (aside, target):
            self._fs.create_dir(str(PurePosixPath(file).parent), recursive=True)
        self._write(aside, content)
        self._fs.move(aside, target)

    def _write(self, path: str, content: bytes) -> None:
        with self._fs.open_output_stream(path) as stream:
            stream.write(content)


def _resolve(out: str) -> tuple[fs.FileSystem, str]:
    if "://" not in out:
        return fs.LocalFileSystem(), out
    parts = urlsplit(out)
    if parts.password or any(word in parts.query.lower() for word in _SECRETS):
        where = f"{parts.scheme}://...{parts.path}"  # what it holds must not get into a log
        raise InputError(f"{where}: holds credentials; allowed: none in the URI, but in the environment")
    try:
        filesystem, root = fs.FileSystem.from_uri(_with_single_put(out))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{out}: {_one_line(error)}; allowed: a folder, or a URI such as s3://bucket/prefix"
        ) from None
    if not root:
        raise InputError(f"{out}: names no bucket; allowed: a folder, or a URI such as s3://bucket/prefix")
    return filesystem, root


def _with_single_put(uri: str) -> str:
    """On S3, small files in a single request: a multipart upload that breaks off publishes a part (arrow#40502)."""
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def _check_writable_folder(folder: Path, out: str) -> None:
    """Tries to write where the folder is, or where it would be created."""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        if not existing.is_dir():
            raise InputError(f"{out}: {existing} is a file; allowed: a folder")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); allowed: a writable folder") from None


def _replace(target: Path, content: bytes, staging: Path) -> None:
    """Writes aside, in `staging`, then moves into place; durable when it returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    temporary = staging / f"{target.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def write_file(file: Path, content: bytes) -> None:
    """Writes a file outside of any study's folder, complete or not at all; one that is there is replaced.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        _replace(file, content, file.parent)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); allowed: a writable folder"
        ) from None


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # its writer has just moved it into place
        return time.time()


def _runs_name(job_ids: Iterable[str], failed: bool) -> str:
    """The file of a batch of jobs, which has finished or failed."""
    content = [*sorted(set(job_ids)), *(["failed"] if failed else [])]
    return f"{hashlib.sha256(chr(10).join(content).encode()).hexdigest()[:20]}.parquet"


def _of_jobs(table: pa.Table, ids: Iterable[str], failed: bool) -> pa.ChunkedArray:
    """Which rows of a table are those of these jobs and have failed, or have not."""
    match = pc.equal(table.column("status"), FAILED)
    return pc.and_(
        pc.is_in(table.column("job_id"), pa.array(sorted(ids), STR)), match if failed else pc.invert(match)
    )


def _to_parquet(table: pa.Table, schema: pa.Schema) -> bytes:
    if not table.schema.equals(schema):
        raise ValueError(f"columns {table.schema.names} or their types differ from {schema.names}")
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata(METADATA), buffer, compression="zstd")
    return buffer.getvalue()


def _check_schema(found: pa.Schema, expected: pa.Schema, name: str) -> None:
    version = (found.metadata or {}).get(VERSION_KEY)
    if version is None:
        raise InputError(f"{name}: not written by phasediag; allowed: its own Parquet files")
    if version.decode(errors="replace") != SCHEMA_VERSION:
        shown = version.decode(errors="replace")
        raise InputError(
            f"{name}: has schema version {shown}; allowed: {SCHEMA_VERSION} (newer program needed?)"
        )
    for field in expected:
        if field.name not in found.names:
            raise InputError(f"{name}: has no column {field.name}")
        if found.field(field.name).type != field.type:
            raise InputError(f"{name}: column {field.name} is not of type {field.type}")


def _to_frame(tables: Sequence[pa.Table], schema: pa.Schema) -> pd.DataFrame:
    frame: pd.DataFrame = pa.concat_tables([schema.empty_table(), *tables]).to_pandas()
    return frame


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())

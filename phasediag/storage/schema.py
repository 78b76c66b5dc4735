"""The columns of a study's Parquet files: each declared once, with its type, its unit and its meaning.

From the declarations follow Arrow schemas, the rows of failed jobs, the checks of a row, and the reference of the documentation.
"""

from __future__ import annotations

import hashlib
import math
import numbers
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError, hint

try:
    VERSION = version("phasediag")
    """The version of the installed package, as it is written into every row and file."""
except PackageNotFoundError:
    VERSION = "0+unknown"

SCHEMA_VERSION, READABLE = "2", ("1", "2")
"""The version of the files that are written, and those of files that can be read."""
VERSION_KEY = b"phasediag_schema"
SOURCE_KEY = b"phasediag_fitted_runs"
"""The key, in the metadata of a fitted table, of the digest of the rows that it was fitted to."""
ROWS_KEY = b"phasediag_rows"
"""In the metadata of every file: how many rows were written."""
METADATA = {VERSION_KEY: SCHEMA_VERSION.encode()}

FAILED = "failed"
STATUSES = ("converged", "evaluation_limit", "stalled", "diverged", FAILED)
"""Outcomes of a run. All but the last are finished and never run again."""

STR, INT, FLOAT, BOOL = pa.string(), pa.int64(), pa.float64(), pa.bool_()
MATRIX, VECTOR = pa.list_(pa.list_(pa.float32())), pa.list_(pa.float32())
CURVE, COUNTS = pa.list_(FLOAT), pa.list_(INT)
_PYTHON_TYPES = {STR: str, INT: numbers.Integral, FLOAT: numbers.Real}
_BLANKS: dict[pa.DataType, object] = {STR: "", INT: 0, FLOAT: math.nan}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        type: its Arrow type.
        meaning: what it holds, in Markdown.
        unit: of its numbers; empty where these are counts, exponents or ratios.
        otherwise: the column that it is equal to in files of an earlier version that lack it.
        newer: whether it has no content in such files: lists are empty, numbers NaN.
    """

    name: str
    type: pa.DataType
    meaning: str
    unit: str = ""
    otherwise: str = ""
    newer: bool = False


@dataclass(frozen=True)
class Columns:
    """The columns of a table, in their order."""

    columns: tuple[Column, ...]

    def __iter__(self) -> Iterator[Column]:
        return iter(self.columns)

    def only(self, names: Sequence[str]) -> Columns:
        """Some of the columns, in the order of these names."""
        by_name = {column.name: column for column in self.columns}
        return Columns(tuple(by_name[name] for name in names))

    @cached_property
    def names(self) -> list[str]:
        """The names of the columns."""
        return [column.name for column in self.columns]

    @cached_property
    def schema(self) -> pa.Schema:
        """The Arrow schema of a file, with its version in the metadata."""
        return pa.schema([(column.name, column.type) for column in self.columns], metadata=METADATA)

    def read(self, file: pq.ParquetFile, wanted: Sequence[str]) -> pa.Table:
        """Columns of a file; columns newer than the file come from others, or have no content (see `Column`)."""
        chosen, held = self.only(wanted), file.schema_arrow.names
        sources = [column.name if column.name in held else column.otherwise for column in chosen]
        table = file.read(columns=sorted(filter(None, set(sources))), use_threads=False)
        lost = sorted(set(filter(None, sources)) - set(table.column_names))
        if lost:
            raise OSError(f"column {lost[0]} is in the metadata, but missing")
        arrays = [
            table.column(source)
            if source
            else pa.array([_BLANKS.get(column.type, [])] * table.num_rows, column.type)
            for source, column in zip(sources, chosen, strict=True)
        ]
        return pa.Table.from_arrays(arrays, schema=chosen.schema.with_metadata(table.schema.metadata))

    def blank(self) -> dict[str, object]:
        """A row without content: empty text, 0, NaN, empty lists. The measures of a job that failed."""
        return {column.name: _BLANKS.get(column.type, []) for column in self.columns}

    def empty_frame(self) -> pd.DataFrame:
        """A frame without rows, of the types of the columns."""
        frame: pd.DataFrame = self.schema.empty_table().to_pandas()
        return frame

    def table(self, rows: Sequence[Mapping[str, object]]) -> pa.Table:
        """Rows as an Arrow table.

        Raises:
            ValueError: a row lacks a column or has an unknown one.
            TypeError: a value is missing or of the wrong type (a float or a bool where an integer belongs, say).
        """
        names = set(self.names)
        for row in rows:
            if set(row) != names:
                raise ValueError(
                    f"a row has wrong columns: {sorted(set(row) ^ names)} are missing or unknown"
                )
        arrays = [_array(column, [row[column.name] for row in rows]) for column in self.columns]
        return pa.Table.from_arrays(arrays, schema=self.schema)


def columns(*parts: Column | Columns) -> Columns:
    """Columns one after the other, including the columns of other declarations."""
    return Columns(
        tuple(column for part in parts for column in ([part] if isinstance(part, Column) else part))
    )


JOB_ID = Column("job_id", STR, "hash of the job's content: the same network has the same id in every study")
VERSION_COLUMN = Column("version", STR, "the version of phasediag that trained the job")
ORIGIN = columns(
    Column("error", STR, "why a failed job could not be run; empty otherwise"),
    Column("wall_seconds", FLOAT, "the job's share of the time that its batch took", "s"),
    Column("device", STR, "`cpu`, or `cuda:` and the name of the GPU"),
    VERSION_COLUMN,
)
"""The last columns of ``runs/``, whatever the kind of the study."""


def _array(column: Column, values: list[object]) -> pa.Array:
    expected = _PYTHON_TYPES.get(column.type)
    for value in values:
        if expected and (not isinstance(value, expected) or isinstance(value, bool | np.bool_)):
            raise TypeError(f"{column.name}: {value!r} is not of type {column.type}")
    return pa.array(values, type=column.type)


def runs_table(rows: Sequence[Mapping[str, object]], declared: Columns) -> pa.Table:
    """The rows of ``runs/`` as a table.

    Raises:
        ValueError: a row lacks a column or has an unknown one, or a status is unknown.
        TypeError: a value is missing or of the wrong type.
    """
    table = declared.table(rows)
    unknown = set(table.column("status").to_pylist()) - set(STATUSES)
    if unknown:
        raise ValueError(f"unknown status: {sorted(unknown)}; allowed: {', '.join(STATUSES)}")
    return table


@dataclass(frozen=True)
class Tables:
    """The tables of one kind of study.

    Attributes:
        runs: ``runs/``: what the jobs were, how they ended, what was measured. The columns job_id, status, error and evaluations are
            the same for every kind.
        samples: ``samples/``: networks kept whole.
        fitted: what is derived from the runs.
        fitted_name: its file, without the ending.
        run_key: columns that identify a row of ``runs/``.
        order: columns by which rows of ``runs/`` and of ``samples/`` are sorted, as far as they have them.
        others: tables that commands write elsewhere, by name.
    """

    runs: Columns
    samples: Columns
    fitted: Columns
    fitted_name: str
    run_key: tuple[str, ...]
    order: tuple[str, ...]
    others: Mapping[str, Columns] = field(default_factory=dict)

    def by_name(self) -> dict[str, Columns]:
        """Every table by the name of its file or folder."""
        return {"runs": self.runs, "samples": self.samples, self.fitted_name: self.fitted, **self.others}


def check_schema(found: pa.Schema, expected: Columns, name: str) -> None:
    """Raises `InputError` if a file, called `name` in messages, does not hold these columns in a version that can be read."""
    stamp = (found.metadata or {}).get(VERSION_KEY)
    if stamp is None:
        raise InputError(f"{name}: not written by phasediag; allowed: its own Parquet files")
    if (shown := stamp.decode(errors="replace")) not in READABLE:
        raise InputError(
            f"{name}: has schema version {shown}; allowed: {', '.join(READABLE)} (newer program needed?)"
        )
    older = shown != SCHEMA_VERSION
    for column in expected:
        if column.name not in found.names:
            if older and (column.newer or column.otherwise in found.names):
                continue
            raise InputError(f"{name}: has no column {column.name}")
        if found.field(column.name).type != column.type:
            raise InputError(f"{name}: column {column.name} is not of type {column.type}")


def require_columns(
    frame: pd.DataFrame, needed: Sequence[str], name: str = "runs", why: Mapping[str, str] | None = None
) -> None:
    """Raises `InputError` if what is called `name` is no table, or lacks columns: it names all of them, and `why` some are needed."""
    if not isinstance(frame, pd.DataFrame):
        raise InputError(f"{name}: a {type(frame).__name__} is not supported; allowed: a pandas.DataFrame")
    missing = [column for column in needed if column not in frame.columns]
    if missing:
        others = [column for column in frame.columns if column not in needed]
        close = "".join(f"{other!r}: {asked}" for other in others if (asked := hint(other, missing)))
        reasons = "".join(f"{reason}; " for column, reason in (why or {}).items() if column in missing)
        raise InputError(
            f"{name}: missing columns {', '.join(missing)}; {reasons}{close}needed: {', '.join(needed)}"
        )


def digest(frame: pd.DataFrame) -> str:
    """A hash of the content of a frame of numbers and text, row by row in its order."""
    total = hashlib.sha256(repr(frame.columns.tolist()).encode())
    for name in frame.columns:
        column = frame[name]
        numeric = pd.api.types.is_numeric_dtype(column.dtype)
        content = column.to_numpy().tobytes() if numeric else "\0".join(map(str, column)).encode()
        total.update(f"{name} {len(content)}\n".encode() + content)
    return total.hexdigest()

"""Training data: from the `[data]` table of a spec to two arrays.

Points are used unchanged. All other data are a subset of `samples` rows, drawn with `seed`: of the digits, an equal number of each class if
there are enough; of a file, any rows, with its `y` unchanged.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError, some_of
from .paths import at_home, hint_beside
from .tables import DataSpec, DigitsData, FileData, PointsData, SubsetData

Array = NDArray[np.float64]
Read = tuple[dict[str, Array], list[str]]
"""What is used of a file, by its names, and the names of all that it holds."""

_CLASSES = 10
_FILE_DEFAULT_SAMPLES = 200
_COLUMN = r"x|x(?:0|[1-9]\d*)|y"
# What may be meant as one of them: x_1, X1, "x[1]", x01, Y.
_NEARLY = r"[^a-z\d]*(?:x[^a-z\d]*\d*|y)[^a-z\d]*"
_IMAGE_MAGIC, _LABEL_MAGIC = 0x803, 0x801


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training data: `x` (n, d) and `y` (n,), float64. Equal when all numbers are.

    `unused` names the columns of the file that are neither.
    """

    x: Array
    y: Array
    unused: tuple[str, ...] = ()

    def notes(self) -> Iterator[str]:
        """What may be unexpected of it."""
        if self.unused:
            yield f"data: not used: {some_columns(self.unused)}"

    def contradictions(self) -> tuple[int, float]:
        """How many rows have the x of another row and a different y, and the least loss that any function leaves, relative to f = 0."""
        _, group = np.unique(self.x, axis=0, return_inverse=True)
        group = group.ravel()  # some versions of NumPy give it a second axis
        some = np.zeros(len(self.y))
        some[group] = self.y  # the y of one row of each group
        differ = np.isin(group, group[self.y != some[group]])
        mean = np.bincount(group, self.y) / np.bincount(group)
        off = np.where(differ, self.y - mean[group], 0.0)
        return int(differ.sum()), float((off @ off) / (self.y @ self.y))

    @cached_property
    def digest(self) -> str:
        """sha256, in hexadecimal, over the shapes and the little-endian float64 bytes of x and y."""
        digest = hashlib.sha256()
        for array in (self.x, self.y):
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def arrays(self) -> dict[str, Array]:
        """What `data.npz` holds of it."""
        return {"x": self.x, "y": self.y}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def make_dataset(x: ArrayLike, y: ArrayLike, source: str) -> Dataset:
    """A valid `Dataset` of x (n, d) and y (n,); -0.0 becomes 0.0.

    Raises:
        InputError: x is empty, the shapes do not agree, a number is not finite or too large to be squared, all rows of x are the
            same, or y is zero (the loss is measured relative to the loss of f = 0). The message begins with `source`.
    """
    x, y = np.asarray(x, dtype=np.float64) + 0.0, np.asarray(y, dtype=np.float64) + 0.0
    if x.size == 0:
        raise InputError(f"{source}: x {x.shape} is empty; allowed: (n, d), at least two distinct rows")
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise InputError(f"{source}: x {x.shape} and y {y.shape} do not agree; allowed: (n, d) and (n,)")
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        sum_x, sum_y = np.sum(x * x), np.sum(y * y)
    if not (np.isfinite(sum_x) and np.isfinite(sum_y)):
        raise InputError(f"{source}: some numbers are not finite or too large; allowed: finite numbers")
    if np.all(x == x[0]):
        raise InputError(f"{source}: x has a single distinct row; allowed: at least two distinct ones")
    if sum_y == 0.0:
        raise InputError(f"{source}: y is zero everywhere; allowed: at least one other value")
    return Dataset(x, y)


def load_data(data: DataSpec, folder: Path, source: str) -> Dataset:
    """The training data that `[data]` describes.

    Args:
        data: the table, validated.
        folder: what a relative `path` in it is relative to (the folder of the spec).
        source: the name of the spec file, for error messages.

    Raises:
        InputError: a file is missing, damaged or holds something else; there are fewer rows than `samples`; the rows
            cannot be trained on (see `make_dataset`).
    """
    if isinstance(data, PointsData):
        return make_dataset(np.array(data.x), np.array(data.y), f"{source}: data")
    if isinstance(data, FileData):
        return _load_file(data, folder / at_home(data.path, f"{source}: data.path"), source)
    if isinstance(data, DigitsData):
        x, labels = _load_digits()
    else:
        x, labels = _load_mnist(folder / at_home(data.path, f"{source}: data.path"), source)
    keep = _draw(labels, data.samples, data.seed, f"{source}: data.samples")
    y = labels[keep].astype(np.float64)
    if data.targets == "centred":
        y = 2.0 * y / (_CLASSES - 1) - 1.0
    return _finish(x[keep], y, data, f"{source}: data")


def require_points(data: object, stored: Dataset | None, source: str) -> None:
    """Raises `InputError` if the table `[data]` of the spec `source` holds points that differ from the stored ones."""
    if isinstance(data, PointsData) and stored != load_data(data, Path(), source):
        raise InputError(f"{source}: data: the points differ from the arrays stored beside it")


def standardised(x: Array) -> Array:
    """x (n, d) with each feature at zero mean and unit variance, constant features at 0, divided by sqrt(d)."""
    varies = x.max(axis=0) > x.min(axis=0)
    scale = np.where(varies, x.std(axis=0), 1.0)
    centred: Array = np.where(varies, x - x.mean(axis=0), 0.0)
    centred /= scale * np.sqrt(x.shape[1])
    return centred


def _finish(x: Array, y: Array, data: SubsetData, source: str) -> Dataset:
    dataset = make_dataset(x, y, source)
    x = standardised(dataset.x) if data.standardize else dataset.x
    return make_dataset(x / data.divide_by, dataset.y, source)


def _draw(labels: NDArray[np.int64], samples: int, seed: int, source: str) -> NDArray[np.int64]:
    """Indices, ascending, of a random subset with as nearly equal numbers of each label as there are."""
    if samples > len(labels):
        raise InputError(
            f"{source}: {samples} rows requested, {len(labels)} found; allowed: up to {len(labels)}"
        )
    shuffled = np.argsort(np.random.default_rng(seed).random(len(labels)), kind="stable")
    rank_in_class = np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        rank_in_class[members] = np.arange(len(members))
    chosen = shuffled[np.argsort(rank_in_class[shuffled], kind="stable")[:samples]]
    return np.sort(chosen)


# Digits.


def _load_digits() -> tuple[Array, NDArray[np.int64]]:
    from sklearn.datasets import (
        load_digits,  # scikit-learn takes a second to import and only this kind needs it
    )

    digits = load_digits()
    return digits.data, digits.target.astype(np.int64)


def _load_mnist(path: Path, source: str) -> tuple[Array, NDArray[np.int64]]:
    """Images (n, rows * columns) and labels (n,) of the training pair, from a folder of IDX files or from Keras' archive."""
    if path.is_file() and path.suffix == ".npz":
        images, labels = _read_keras(path)
        labels_path = path
    elif path.is_dir():
        labels_path = _idx_path(path, "train-labels", "idx1-ubyte", source)
        images = _read_idx(_idx_path(path, "train-images", "idx3-ubyte", source), _IMAGE_MAGIC)
        labels = _read_idx(labels_path, _LABEL_MAGIC)
    else:
        raise InputError(
            f"{source}: data.path: {path} is not a folder; {hint_beside(path, folders=True)}"
            "allowed: one with the MNIST files, or Keras' mnist.npz"
        )
    if len(images) != len(labels):
        raise InputError(
            f"{labels_path}: {len(labels)} labels for {len(images)} images; allowed: equal numbers"
        )
    if labels.max(initial=0) >= _CLASSES:
        raise InputError(f"{labels_path}: holds the label {labels.max()}; allowed: 0 to {_CLASSES - 1}")
    return images.reshape(len(images), -1).astype(np.float64), labels.astype(np.int64)


def _idx_path(folder: Path, part: str, format: str, source: str) -> Path:
    """The file as its authors name it, also unpacked into a folder of its own name, or with a point as some mirrors write it."""
    names = [f"{part}{sign}{format}{packed}" for packed in ("", ".gz") for sign in "-."]
    for path in [folder / name for name in names] + [
        folder / around / name for around in names for name in names
    ]:
        if path.is_file():
            return path
    found = some_of(sorted(path.name for path in folder.iterdir())) or "nothing"
    raise InputError(
        f"{source}: data.path: {folder} has no {names[0]} (found: {found}); allowed: that file, or {names[0]}.gz"
    )


def _read_keras(path: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pair = ("x_train", "y_train")
    arrays, names = _load_npz(
        path, "Keras' mnist.npz", lambda names: [name for name in pair if name in names]
    )
    for name, dimensions in zip(pair, (3, 1), strict=True):
        if name not in arrays:
            raise InputError(f"{path}: has no array {name} ({_found(names)}); allowed: x_train and y_train")
        array = arrays[name]
        if array.dtype != np.uint8 or array.ndim != dimensions or not array.size:
            raise InputError(
                f"{path}: array {name} is {array.dtype} {array.shape}; allowed: uint8 in {dimensions} dimensions"
            )
    return arrays["x_train"], arrays["y_train"]


def _read_idx(path: Path, magic: int) -> NDArray[np.uint8]:
    """The array in an IDX file: big-endian magic number and sizes, then unsigned bytes."""
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed: a complete IDX file") from None
    sizes_end = 4 + 4 * (magic & 0xFF)
    if len(content) < sizes_end or int.from_bytes(content[:4], "big") != magic:
        raise InputError(
            f"{path}: does not begin as its name says; allowed: an IDX file with magic number {magic}"
        )
    shape = tuple(int(size) for size in np.frombuffer(content[4:sizes_end], dtype=">u4"))
    expected = sizes_end + int(np.prod(shape, dtype=object))
    if expected == sizes_end:
        raise InputError(f"{path}: is empty (its header announces {shape}); allowed: at least one image")
    if len(content) != expected:
        raise InputError(f"{path}: has {len(content)} bytes where its header announces {expected}")
    return np.frombuffer(content, dtype=np.uint8, offset=sizes_end).reshape(shape)


# Files.


def _load_file(data: FileData, path: Path, source: str) -> Dataset:
    read = _READERS.get(path.suffix.lower())
    if read is None:
        raise InputError(f"{source}: data.path: {path.name} is not supported; allowed: .csv, .parquet, .npz")
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise InputError(
            f"{source}: data.path: {path} {what}; {hint_beside(path)}allowed: a .csv, .parquet or .npz file"
        )
    columns, names = read(path)
    x, y = _design(columns, names, path)
    samples = min(_FILE_DEFAULT_SAMPLES, len(y)) if data.samples is None else data.samples
    keep = _draw(np.zeros(len(y), dtype=np.int64), samples, data.seed, f"{source}: data.samples")
    unused = tuple(name for name in names if name not in columns)
    return replace(_finish(x[keep], y[keep], data, str(path)), unused=unused)


def _design(columns: Mapping[str, Array], names: Sequence[str], path: Path) -> tuple[Array, Array]:
    """x (n, d) and y (n,) from the columns x, or x1, ..., xd, or x0, ..., xd, and y; `names` of all columns."""
    numbered = len(columns.keys() - {"x", "y"})
    if "x" in columns and numbered:
        raise InputError(f"{path}: has a column x beside numbered ones; allowed: x or x1, x2, ..., and y")
    first = 0 if "x0" in columns else 1
    wanted = ["x"] if "x" in columns else [f"x{k}" for k in range(first, first + max(numbered, 1))]
    if missing := [name for name in [*wanted, "y"] if name not in columns]:
        raise InputError(
            f"{path}: has no {'column' if len(missing) == 1 else 'columns'} {some_of(missing)} ({_found(names)}); "
            "allowed: x, or x1, x2, ... or x0, x1, ... without gaps, and y: rename the columns"
        )
    rows = {len(columns[name]) for name in [*wanted, "y"]}
    if len(rows) > 1 or rows == {0}:
        raise InputError(f"{path}: the columns are empty or differ in length; allowed: equal lengths")
    x = np.column_stack([_finite(columns[name], name, path) for name in wanted])
    return x, _finite(columns["y"], "y", path)


def _found(names: Iterable[str]) -> str:
    """What there is in place of what is missing."""
    return f"found: {some_columns(names) or 'none'}"


def some_columns(names: Iterable[str]) -> str:
    """The names of columns in a message, within bounds."""
    return some_of([name[:80] or "a column without a name" for name in names])


def _finite(column: Array, name: str, path: Path) -> Array:
    bad = np.flatnonzero(~np.isfinite(column).reshape(len(column), -1).all(axis=1))
    if len(bad):
        raise _bad_cell(path, name, int(bad[0]), "missing or not finite")
    return column


def _bad_cell(path: Path, column: str, row: int, what: str) -> InputError:
    return InputError(f"{path}: column {column}, row {row + 1}: {what}; allowed: finite numbers")


def _read_csv(path: Path) -> Read:
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            header = file.readline()
        # Tables of languages with decimal commas, and those of laboratories.
        separator = next((sign for sign in ";\t" if sign in header and "," not in header), ",")
        cells = pd.read_csv(
            path,
            header=None,
            dtype=str,
            keep_default_na=False,
            skipinitialspace=True,
            sep=separator,
            encoding="utf-8-sig",
        )
    except (ValueError, OSError) as error:  # pandas' own errors and a wrong encoding are ValueErrors
        raise InputError(f"{path}: {_csv_fault(error)}; allowed: a CSV file with a header") from None
    names = [str(name).strip() for name in cells.iloc[0]]
    names[0] = names[0].removeprefix("#").lstrip()  # as numpy.savetxt writes a header
    wanted = {
        name: [str(cell) for cell in cells.iloc[1:, index].fillna("")]
        for name, index in _wanted(names, path).items()
    }
    if separator != ",":
        _check_decimal_marks(wanted, path)
    return {name: _numbers(texts, name, path, separator) for name, texts in wanted.items()}, names


def _csv_fault(error: Exception) -> str:
    """What is wrong with a CSV file, in words of files and not of pandas."""
    text = " ".join(str(error).split())
    if ragged := re.search(r"Expected (\d+) fields in line (\d+), saw (\d+)", text):
        return f"line {ragged[2]} has {ragged[3]} columns, the lines before it have {ragged[1]}"
    if isinstance(error, UnicodeDecodeError):
        return "is not text in UTF-8"
    if "No columns to parse" in text:
        return "is empty"
    if "EOF inside string" in text:
        return "a quotation mark is opened and never closed"
    return f"cannot be read ({text})"


def _check_decimal_marks(columns: Mapping[str, Sequence[str]], path: Path) -> None:
    """Raises `InputError` if some numbers have commas and others points: 1.000 may then be a thousand."""
    if any("," in cell for cells in columns.values() for cell in cells):
        for name, cells in columns.items():
            for row, cell in enumerate(cells):
                if "." in cell:
                    raise _bad_cell(
                        path, name, row, f"{cell[:40]!r} has a point, other numbers of the file have commas"
                    )


def _wanted(names: Sequence[str], path: Path) -> dict[str, int]:
    """Positions of the columns of x and y among all. Others are not looked at, unless they seem to be meant as one of these."""
    wanted: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in wanted:
            raise InputError(f"{path}: two columns are named {name}; allowed: distinct names")
        if re.fullmatch(_COLUMN, name):
            wanted[name] = index
        elif re.fullmatch(_NEARLY, name.casefold()):
            meant = re.sub(r"[^xy\d]", "", name.casefold())
            asked = f"did you mean '{meant}'? " if re.fullmatch(_COLUMN, meant) and meant not in names else ""
            raise InputError(
                f"{path}: the column {name!r} looks like {'the target' if meant == 'y' else 'an input'}, but is not used; "
                f"{asked}allowed: x, or x1, x2, ... or x0, x1, ..., and y"
            )
    return wanted


def _numbers(cells: list[str], name: str, path: Path, separator: str) -> Array:
    column = np.empty(len(cells))
    for row, cell in enumerate(cells):
        if separator != "," and "." not in cell:
            cell = cell.replace(",", ".", 1)
        try:
            if "_" in cell:  # Python's own spelling of large numbers
                raise ValueError
            column[row] = float(cell)
        except ValueError:
            what = f"{cell[:40]!r} is not a number" if cell.strip() else "missing"
            raise _bad_cell(path, name, row, what) from None
    return column


def _read_parquet(path: Path) -> Read:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = list(_wanted(names, path))
            table = file.read(columns=wanted)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); allowed: a Parquet file"
        ) from None
    return {name: _arrow_numbers(table.column(name), name, path) for name in wanted}, names


def _arrow_numbers(column: Any, name: str, path: Path) -> Array:
    import pyarrow as pa

    if pa.types.is_decimal(column.type):
        column = column.cast(pa.float64())
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise _bad_cell(path, name, 0, f"of type {column.type}")
    missing = np.flatnonzero(column.is_null().to_numpy())
    if len(missing):
        raise _bad_cell(path, name, int(missing[0]), "missing")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _read_npz(path: Path) -> Read:
    arrays, names = _load_npz(
        path, "a .npz file of plain arrays x and y", lambda names: list(_wanted(names, path))
    )
    return {name: _plain_numbers(array, name, path) for name, array in arrays.items()}, names


def _load_npz(
    path: Path, allowed: str, choose: Callable[[Sequence[str]], Sequence[str]]
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """The arrays of an archive that are chosen from the names of all, and these names."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("not an archive of arrays, as numpy.savez writes it")
            file.seek(0)
            archive = np.load(file, allow_pickle=False)
            with archive:
                return {name: archive[name] for name in choose(archive.files)}, archive.files
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); allowed: {allowed}") from None


def _plain_numbers(array: NDArray[np.generic], name: str, path: Path) -> Array:
    if array.dtype.kind not in "iuf" or array.ndim not in ((1, 2) if name == "x" else (1,)):
        shape = "(n,) or (n, d)" if name == "x" else "(n,)"
        raise InputError(f"{path}: array {name} is {array.dtype} {array.shape}; allowed: numbers {shape}")
    return array.astype(np.float64)


_READERS: dict[str, Callable[[Path], Read]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
}

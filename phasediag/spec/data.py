"""Training data: from the `[data]` table of a spec to two arrays.

Points are used as they are. Everything else is a subset of `samples` rows drawn with `seed`: of the digits an equal
number of each class, as far as there are enough; of a file, whose `y` is used as it is, any rows.
"""

from __future__ import annotations

import gzip
import hashlib
import re
import zipfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..errors import InputError
from .tables import DataSpec, DigitsData, FileData, PointsData, SubsetData

Array = NDArray[np.float64]

_CLASSES = 10
_FILE_DEFAULT_SAMPLES = 200
_COLUMN = r"x|x[1-9]\d*|y"
_IMAGE_MAGIC, _LABEL_MAGIC = 0x803, 0x801


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training data: `x` (n, d) and `y` (n,), float64. Equal when all numbers are."""

    x: Array
    y: Array

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
        InputError: the shapes do not agree, a number is not finite or too large to be squared, all rows of x are the
            same, or y is zero (the loss is measured relative to that of f = 0). The message begins with `source`.
    """
    x, y = np.asarray(x, dtype=np.float64) + 0.0, np.asarray(y, dtype=np.float64) + 0.0
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y) or x.size == 0:
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
        return _load_file(data, folder / data.path, source)
    x, labels = _load_digits() if isinstance(data, DigitsData) else _load_mnist(folder / data.path, source)
    keep = _draw(labels, data.samples, data.seed, f"{source}: data.samples")
    y = labels[keep].astype(np.float64)
    if data.targets == "centred":
        y = 2.0 * y / (_CLASSES - 1) - 1.0
    return _finish(x[keep], y, data, f"{source}: data")


def require_points(data: object, stored: Dataset | None, source: str) -> None:
    """Raises `InputError` if the table `[data]` of the spec `source` holds points, and other ones than those that are stored."""
    if isinstance(data, PointsData) and stored != load_data(data, Path(), source):
        raise InputError(f"{source}: data: the points are not those stored as arrays beside it")


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
            f"{source}: {samples} rows asked for, {len(labels)} found; allowed: up to {len(labels)}"
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


def _load_mnist(folder: Path, source: str) -> tuple[Array, NDArray[np.int64]]:
    """Images (n, rows * columns) and labels (n,) of the training pair."""
    if not folder.is_dir():
        raise InputError(f"{source}: data.path: {folder} is not a folder; allowed: one with the MNIST files")
    images_path = _idx_path(folder, "train-images-idx3-ubyte", source)
    labels_path = _idx_path(folder, "train-labels-idx1-ubyte", source)
    images, labels = _read_idx(images_path, _IMAGE_MAGIC), _read_idx(labels_path, _LABEL_MAGIC)
    if len(images) != len(labels):
        raise InputError(
            f"{labels_path}: {len(labels)} labels for {len(images)} images; allowed: equal numbers"
        )
    if labels.max(initial=0) >= _CLASSES:
        raise InputError(f"{labels_path}: holds the label {labels.max()}; allowed: 0 to {_CLASSES - 1}")
    return images.reshape(len(images), -1).astype(np.float64), labels.astype(np.int64)


def _idx_path(folder: Path, name: str, source: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if path.is_file():
            return path
    raise InputError(f"{source}: data.path: {folder} has no {name}; allowed: that file, or {name}.gz")


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
        raise InputError(f"{source}: data.path: {path} {what}; allowed: a .csv, .parquet or .npz file")
    x, y = _design(read(path), path)
    samples = min(_FILE_DEFAULT_SAMPLES, len(y)) if data.samples is None else data.samples
    keep = _draw(np.zeros(len(y), dtype=np.int64), samples, data.seed, f"{source}: data.samples")
    return _finish(x[keep], y[keep], data, str(path))


def _design(columns: Mapping[str, Array], path: Path) -> tuple[Array, Array]:
    """x (n, d) and y (n,) from the columns x or x1, ..., xd, and y."""
    numbered = len(columns.keys() - {"x", "y"})
    if "x" in columns and numbered:
        raise InputError(f"{path}: has a column x beside numbered ones; allowed: x or x1, x2, ..., and y")
    names = ["x"] if "x" in columns else [f"x{k + 1}" for k in range(max(numbered, 1))]
    for name in [*names, "y"]:
        if name not in columns:
            found = ", ".join(columns) or "none of them"
            raise InputError(
                f"{path}: has no column {name} (found: {found}); allowed: x or x1, x2, ... without gaps, and y"
            )
    rows = {len(columns[name]) for name in [*names, "y"]}
    if len(rows) > 1 or rows == {0}:
        raise InputError(f"{path}: the columns are empty or differ in length; allowed: equal lengths")
    x = np.column_stack([_finite(columns[name], name, path) for name in names])
    return x, _finite(columns["y"], "y", path)


def _finite(column: Array, name: str, path: Path) -> Array:
    bad = np.flatnonzero(~np.isfinite(column).reshape(len(column), -1).all(axis=1))
    if len(bad):
        raise _bad_cell(path, name, int(bad[0]), "missing or not finite")
    return column


def _bad_cell(path: Path, column: str, row: int, what: str) -> InputError:
    return InputError(f"{path}: column {column}, row {row + 1}: {what}; allowed: finite numbers")


def _read_csv(path: Path) -> dict[str, Array]:
    import pandas as pd

    try:
        cells = pd.read_csv(path, header=None, dtype=str, keep_default_na=False, skipinitialspace=True)
    except (ValueError, OSError) as error:  # pandas' own errors and a wrong encoding are ValueErrors
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); allowed: a CSV file with a header"
        ) from None
    names = [str(name).strip() for name in cells.iloc[0]]
    return {
        name: _numbers([str(cell) for cell in cells.iloc[1:, index].fillna("")], name, path)
        for name, index in _wanted(names, path).items()
    }


def _wanted(names: list[str], path: Path) -> dict[str, int]:
    """Positions of the columns of x and y among all; other columns are not looked at."""
    wanted: dict[str, int] = {}
    for index, name in enumerate(names):
        if name in wanted:
            raise InputError(f"{path}: two columns are named {name}; allowed: distinct names")
        if re.fullmatch(_COLUMN, name):
            wanted[name] = index
    return wanted


def _numbers(cells: list[str], name: str, path: Path) -> Array:
    column = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            if "_" in cell:  # Python's own spelling of large numbers
                raise ValueError
            column[row] = float(cell)
        except ValueError:
            what = f"{cell[:40]!r} is not a number" if cell.strip() else "missing"
            raise _bad_cell(path, name, row, what) from None
    return column


def _read_parquet(path: Path) -> dict[str, Array]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = list(_wanted(file.schema_arrow.names, path))
            table = file.read(columns=names)
    except (pa.ArrowException, OSError) as error:
        raise InputError(
            f"{path}: cannot be read ({' '.join(str(error).split())}); allowed: a Parquet file"
        ) from None
    return {name: _arrow_numbers(table.column(name), name, path) for name in names}


def _arrow_numbers(column: object, name: str, path: Path) -> Array:
    import pyarrow as pa

    assert isinstance(column, pa.ChunkedArray)
    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        raise _bad_cell(path, name, 0, f"of type {column.type}")
    missing = np.flatnonzero(column.is_null().to_numpy())
    if len(missing):
        raise _bad_cell(path, name, int(missing[0]), "missing")
    return np.asarray(column.to_numpy(), dtype=np.float64)


def _read_npz(path: Path) -> dict[str, Array]:
    try:
        with path.open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("a single array, not an archive")
            with archive:
                arrays = {name: archive[name] for name in archive.files if re.fullmatch(_COLUMN, name)}
    except (ValueError, OSError, EOFError, KeyError, AttributeError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(
            f"{path}: cannot be read ({error}); allowed: a .npz file of plain arrays x and y"
        ) from None
    return {name: _plain_numbers(array, name, path) for name, array in arrays.items()}


def _plain_numbers(array: NDArray[np.generic], name: str, path: Path) -> Array:
    if array.dtype.kind not in "iuf" or array.ndim not in ((1, 2) if name == "x" else (1,)):
        shape = "(n,) or (n, d)" if name == "x" else "(n,)"
        raise InputError(f"{path}: array {name} is {array.dtype} {array.shape}; allowed: numbers {shape}")
    return array.astype(np.float64)


_READERS: dict[str, Callable[[Path], dict[str, Array]]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
}

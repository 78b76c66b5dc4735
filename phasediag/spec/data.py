"""Data: from the `[data]` table of a spec to arrays of training and of test points.

Points are used unchanged. All other data are a subset of `samples` rows, drawn with `seed`: of classes, an equal number of each if there
are enough; of a file of numbers, any rows, with its `y` unchanged. Test points are a share of this subset (`test_fraction`), or come
from a test set of their own (`test_samples`, arrays of an .npz file). They are scaled as the training points are, and none is one.
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
from .tables import (
    DataSpec,
    DigitsData,
    FileData,
    ImagesData,
    LabelledData,
    MnistData,
    PointsData,
    SplitData,
    SubsetData,
)

Array = NDArray[np.float64]
Read = tuple[dict[str, Array], list[str]]
"""What is used of a file, by its names, and the names of all that it holds."""

_Rows = tuple[NDArray[Any], NDArray[Any]]
"""x (n, d) and y (n,) as they were read."""

_CLASSES = 10
_FILE_DEFAULT_SAMPLES = 200
_TEST_ARRAYS = ("x_test", "y_test")
_COLUMN = r"x|x(?:0|[1-9]\d*)|y"
# What may be meant as one of them: x_1, X1, "x[1]", x01, Y.
_NEARLY = r"[^a-z\d]*(?:x[^a-z\d]*\d*|y)[^a-z\d]*"
_IMAGE_MAGIC, _LABEL_MAGIC = 0x803, 0x801
_CIFAR_FOLDER, _CIFAR_RECORD = "cifar-10-batches-bin", 1 + 3 * 32 * 32


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training points `x` (n, d) and `y` (n,), and test points `x_test` (t, d) and `y_test` (t,), float64. Equal when all numbers are.

    Attributes:
        classes: the number K of classes, of which `y` and `y_test` hold the labels 0 to K - 1; 0 where these are numbers.
        unused: the names of columns of the file that are neither.
        left_out: how many test points were left out, because they are training points.
    """

    x: Array
    y: Array
    x_test: Array
    y_test: Array
    classes: int = 0
    unused: tuple[str, ...] = ()
    left_out: int = 0

    def notes(self) -> Iterator[str]:
        """What may be unexpected of it."""
        if self.unused:
            yield f"data: not used: {some_columns(self.unused)}"
        if self.left_out:
            drawn = self.left_out + len(self.y_test)
            yield f"data: {self.left_out} of {drawn} test points left out: their x is that of training points"

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
        """sha256, in hexadecimal, over the shapes and the little-endian float64 bytes of x and y.

        So it is over x_test and y_test where there are any, and over the number of classes where there are.
        """
        digest = hashlib.sha256()
        for array in self.arrays().values():
            digest.update(repr(array.shape).encode())
            digest.update(np.ascontiguousarray(array, dtype="<f8").tobytes())
        return digest.hexdigest()

    def arrays(self) -> dict[str, Array]:
        """What `data.npz` holds of it: x and y; x_test and y_test where there are test points; classes () where there are."""
        arrays = {"x": self.x, "y": self.y}
        if len(self.y_test):
            arrays |= {"x_test": self.x_test, "y_test": self.y_test}
        if self.classes:
            arrays["classes"] = np.array(float(self.classes))
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]], source: str) -> Dataset:
        """The inverse of `arrays`.

        Raises:
            InputError: the arrays do not belong together (see `make_dataset`).
        """
        numbers = {name: np.asarray(array, dtype=np.float64) for name, array in arrays.items()}
        x_test, y_test = numbers.get("x_test"), numbers.get("y_test")
        return make_dataset(
            numbers["x"], numbers["y"], source, x_test, y_test, int(numbers.get("classes", 0))
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dataset) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def make_dataset(
    x: ArrayLike,
    y: ArrayLike,
    source: str,
    x_test: ArrayLike | None = None,
    y_test: ArrayLike | None = None,
    classes: int = 0,
) -> Dataset:
    """A valid `Dataset` of x (n, d) and y (n,), and of test points x_test (t, d) and y_test (t,), if any; -0.0 becomes 0.0.

    Raises:
        InputError: x is empty, the shapes do not agree, a number is not finite or too large to be squared, all rows of x are the
            same, or y is zero (the loss is measured relative to the loss of f = 0). Of `classes`: a label is none, or all are the
            same. A test point is a training point. The message begins with `source`.
    """
    x, y = np.asarray(x, dtype=np.float64) + 0.0, np.asarray(y, dtype=np.float64) + 0.0
    if x.size == 0:
        raise InputError(f"{source}: x {x.shape} is empty; allowed: (n, d), at least two distinct rows")
    _check_pair(x, y, source, "")
    if np.all(x == x[0]):
        raise InputError(f"{source}: x has a single distinct row; allowed: at least two distinct ones")
    if classes:
        _check_labels(y, classes, source, "y")
        if np.all(y == y[0]):
            raise InputError(f"{source}: y holds a single class, {y[0]:g}; allowed: at least two")
    elif np.sum(y * y) == 0.0:
        raise InputError(f"{source}: y is zero everywhere; allowed: at least one other value")
    test_x = np.empty((0, x.shape[1])) if x_test is None else np.asarray(x_test, dtype=np.float64) + 0.0
    test_y = np.empty(0) if y_test is None else np.asarray(y_test, dtype=np.float64) + 0.0
    _check_pair(test_x, test_y, source, "_test")
    if test_x.shape[1] != x.shape[1]:
        raise InputError(
            f"{source}: x_test {test_x.shape} has not the inputs of x {x.shape}; allowed: (t, {x.shape[1]})"
        )
    if classes:
        _check_labels(test_y, classes, source, "y_test")
    twice = np.flatnonzero(_among(test_x, x))
    if len(twice):
        raise InputError(
            f"{source}: {len(twice)} of {len(test_x)} test points are training points, the first in row {twice[0] + 1} of x_test; "
            "allowed: other points"
        )
    return Dataset(x, y, test_x, test_y, classes)


def _check_pair(x: Array, y: Array, source: str, end: str) -> None:
    """Raises `InputError` if x (n, d) and y (n,), whose names end like this, do not belong together or cannot be squared."""
    if x.ndim != 2 or y.ndim != 1 or len(x) != len(y):
        raise InputError(
            f"{source}: x{end} {x.shape} and y{end} {y.shape} do not agree; allowed: (n, d) and (n,)"
        )
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        squared = np.sum(x * x), np.sum(y * y)
    if not np.isfinite(squared).all():
        raise InputError(f"{source}: some numbers are not finite or too large; allowed: finite numbers")


def _check_labels(y: Array, classes: int, source: str, name: str) -> None:
    none = y[(y != np.floor(y)) | (y < 0) | (y >= classes)]
    if len(none):
        raise InputError(f"{source}: {name} holds {none[0]:g}; allowed: labels 0 to {classes - 1}")


def _among(x: Array, others: Array) -> NDArray[np.bool_]:
    """Which rows of x (t, d) are rows of `others` (n, d)."""

    def hashed(row: Array) -> bytes:
        return hashlib.sha256(row.tobytes()).digest()

    known = {hashed(row) for row in others} if len(x) else set()
    return np.array([hashed(row) in known for row in x], dtype=np.bool_)


def load_data(data: DataSpec, folder: Path, source: str) -> Dataset:
    """The data that `[data]` describes.

    Args:
        data: the table, validated.
        folder: what a relative `path` in it is relative to (the folder of the spec).
        source: the name of the spec file, for error messages.

    Raises:
        InputError: a file is missing, damaged or holds something else; there are fewer rows than `samples`; the rows
            cannot be trained on (see `make_dataset`).
    """
    if isinstance(data, PointsData):
        classes, of = 0, "data.y and data.y_test" if data.y_test else "data.y"
        if data.targets == "class":
            classes = _number_of_classes((*data.y, *data.y_test), f"{source}: {of}")
        x_test = data.x_test or None
        return make_dataset(data.x, data.y, f"{source}: data", x_test, data.y_test or None, classes)
    if isinstance(data, FileData):
        return _load_file(data, folder / at_home(data.path, f"{source}: data.path"), source)
    if isinstance(data, DigitsData):
        x, labels = _load_digits()
        train, test = _split((x, labels), labels, data.samples, data, source)
    else:
        train, test = _load_images(data, folder / at_home(data.path, f"{source}: data.path"), source)
    return _finish(_targets(train, data), _targets(test, data), data, f"{source}: data", _classes_of(data))


def require_numbers(data: object, kind: str, source: str) -> None:
    """Raises `InputError` if the table `[data]` of the spec `source` asks for classes, which networks of this kind cannot be trained on."""
    if getattr(data, "targets", "") == "class":
        allowed = "centred, label" if isinstance(data, LabelledData) else "number"
        raise InputError(
            f"{source}: data.targets: 'class' needs an output for every class, and networks of kind {kind!r} have one; allowed: {allowed}"
        )


def require_points(data: object, stored: Dataset | None, source: str) -> None:
    """Raises `InputError` if the table `[data]` of the spec `source` holds points that differ from the stored ones."""
    if isinstance(data, PointsData) and stored != load_data(data, Path(), source):
        raise InputError(f"{source}: data: the points differ from the arrays stored beside it")


def standardised(x: Array, by: Array | None = None) -> Array:
    """x (n, d) with each feature at zero mean and unit variance, constant features at 0, divided by sqrt(d).

    Mean and variance are those of the rows `by`, of x itself by default.
    """
    by = x if by is None else by
    varies = by.max(axis=0) > by.min(axis=0)
    scale = np.where(varies, by.std(axis=0), 1.0)
    centred: Array = np.where(varies, x - by.mean(axis=0), 0.0)
    centred /= scale * np.sqrt(x.shape[1])
    return centred


def _finish(
    train: _Rows, test: _Rows, data: SubsetData, source: str, classes: int, named: bool = False
) -> Dataset:
    """The data set of these rows, scaled; test points that are training points are left out, or refused if they were `named`."""
    raw = make_dataset(*train, source, classes=classes)
    x, x_test = raw.x, np.asarray(test[0], dtype=np.float64) + 0.0
    if data.standardize:
        x, x_test = standardised(x), standardised(x_test, raw.x)
    x, x_test = x / data.divide_by + 0.0, x_test / data.divide_by + 0.0
    new = ~_among(x_test, x) | named
    if len(new) and not new.any():
        raise InputError(f"{source}: every test point is a training point; allowed: rows of distinct x")
    dataset = make_dataset(x, raw.y, source, x_test[new], test[1][new], classes)
    return replace(dataset, left_out=int((~new).sum()))


def _classes_of(data: LabelledData) -> int:
    return _CLASSES if data.targets == "class" else 0


def _targets(rows: _Rows, data: LabelledData) -> _Rows:
    """The rows with targets in the place of labels."""
    x, y = rows[0], rows[1].astype(np.float64)
    return x, 2.0 * y / (_CLASSES - 1) - 1.0 if data.targets == "centred" else y


def _number_of_classes(y: ArrayLike, source: str) -> int:
    """K of labels 0 to K - 1; raises `InputError` unless every one of these is there."""
    labels = np.unique(np.asarray(y, dtype=np.float64))
    off = np.flatnonzero(labels != np.arange(len(labels)))
    if len(off):
        what = f"no {off[0]}, but {labels[off[0]]:g}"
        raise InputError(
            f'{source}: holds {what}; allowed for targets = "class": whole numbers 0 to K - 1, each at least once'
        )
    return len(labels)


def _split(
    rows: _Rows, labels: NDArray[Any], samples: int, data: SplitData, source: str
) -> tuple[_Rows, _Rows]:
    """Training rows and test rows (see `SplitData`), drawn in as nearly equal numbers of each label as there are."""
    x, y = rows
    keep = _draw(labels, samples, data.seed, f"{source}: data.samples")
    tests = round(data.test_fraction * samples)
    if data.test_fraction and not 0 < tests < samples:
        raise InputError(
            f"{source}: data.test_fraction: {data.test_fraction:g} makes {tests} of {samples} rows test points; "
            "allowed: 0, or test points and training points"
        )
    held = np.zeros(samples, dtype=np.bool_)
    if tests:
        held[_draw(labels[keep], tests, data.seed, f"{source}: data.test_fraction")] = True
    train, test = keep[~held], keep[held]
    return (x[train], y[train]), (x[test], y[test])


def _draw(labels: NDArray[Any], samples: int, seed: int, source: str) -> NDArray[np.int64]:
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


# Images.


def _load_digits() -> _Rows:
    from sklearn.datasets import (
        load_digits,  # scikit-learn takes a second to import and only this kind needs it
    )

    digits = load_digits()
    return digits.data, digits.target


def _load_images(data: ImagesData, path: Path, source: str) -> tuple[_Rows, _Rows]:
    """The rows drawn from the training set, and those drawn from the test set."""
    read = _load_mnist if isinstance(data, MnistData) else _load_cifar10
    x, labels = read(path, False, source)
    keep = _draw(labels, data.samples, data.seed, f"{source}: data.samples")
    train = x[keep], labels[keep]
    if not data.test_samples:
        return train, (x[:0], labels[:0])
    x, labels = read(path, True, source)
    keep = _draw(labels, data.test_samples, data.seed, f"{source}: data.test_samples")
    return train, (x[keep], labels[keep])


def _load_mnist(path: Path, test: bool, source: str) -> _Rows:
    """Images (n, rows * columns) and labels (n,) of the training or the test pair, from a folder of IDX files or from Keras' archive."""
    if path.is_file() and path.suffix == ".npz":
        images, labels = _read_keras(path, "test" if test else "train")
        labels_path = path
    elif path.is_dir():
        part = "t10k" if test else "train"
        labels_path = _idx_path(path, f"{part}-labels", "idx1-ubyte", source)
        images = _read_idx(_idx_path(path, f"{part}-images", "idx3-ubyte", source), _IMAGE_MAGIC)
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
    _check_classes(labels, labels_path)
    return images.reshape(len(images), -1), labels


def _check_classes(labels: NDArray[np.uint8], path: Path) -> None:
    if labels.max(initial=0) >= _CLASSES:
        raise InputError(f"{path}: holds the label {labels.max()}; allowed: 0 to {_CLASSES - 1}")


def _load_cifar10(path: Path, test: bool, source: str) -> _Rows:
    """Images (n, 3072) and labels (n,) of the five training files or of the test file, in the binary version."""
    if not path.is_dir():
        raise InputError(
            f"{source}: data.path: {path} is not a folder; {hint_beside(path, folders=True)}"
            "allowed: one with the binary version of CIFAR-10"
        )
    folder = path / _CIFAR_FOLDER if (path / _CIFAR_FOLDER).is_dir() else path
    names = ["test_batch"] if test else [f"data_batch_{number}" for number in range(1, 6)]
    parts = [_read_cifar10(_cifar10_path(folder, name, source)) for name in names]
    return np.concatenate([part[:, 1:] for part in parts]), np.concatenate([part[:, 0] for part in parts])


def _cifar10_path(folder: Path, name: str, source: str) -> Path:
    path = folder / f"{name}.bin"
    if path.is_file():
        return path
    if (folder / name).is_file() or (folder / "cifar-10-batches-py").is_dir():
        what = "holds the Python version of CIFAR-10, which is pickled: unpickling can run any code, and is not done"
    else:
        found = some_of(sorted(path.name for path in folder.iterdir())) or "nothing"
        what = f"has no {path.name} (found: {found})"
    raise InputError(
        f"{source}: data.path: {folder} {what}; allowed: the binary version, data_batch_1.bin to data_batch_5.bin and test_batch.bin"
    )


def _read_cifar10(path: Path) -> NDArray[np.uint8]:
    """Records (n, 3073) of a file: a label, then the red, green and blue planes of an image."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); allowed: a file of CIFAR-10") from None
    if not content or len(content) % _CIFAR_RECORD:
        raise InputError(
            f"{path}: has {len(content)} bytes; allowed: a multiple of {_CIFAR_RECORD}, a label and 3 x 32 x 32 pixels each"
        )
    records = np.frombuffer(content, dtype=np.uint8).reshape(-1, _CIFAR_RECORD)
    _check_classes(records[:, 0], path)
    return records


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


def _read_keras(path: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    pair = (f"x_{part}", f"y_{part}")
    arrays, names = _load_npz(
        path, "Keras' mnist.npz", lambda names: [name for name in pair if name in names]
    )
    for name, dimensions in zip(pair, (3, 1), strict=True):
        if name not in arrays:
            raise InputError(f"{path}: has no array {name} ({_found(names)}); allowed: {' and '.join(pair)}")
        array = arrays[name]
        if array.dtype != np.uint8 or array.ndim != dimensions or not array.size:
            raise InputError(
                f"{path}: array {name} is {array.dtype} {array.shape}; allowed: uint8 in {dimensions} dimensions"
            )
    return arrays[pair[0]], arrays[pair[1]]


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
    unused = tuple(name for name in names if name not in columns)
    own_test = _test_arrays(columns, path)
    x, y = _design(columns, names, path)
    classes, labels = 0, np.zeros(len(y))  # any rows, as if of one class
    if data.targets == "class":
        classes, labels = _number_of_classes(y, f"{path}: y"), y
    samples = min(_FILE_DEFAULT_SAMPLES, len(y)) if data.samples is None else data.samples
    train, test = _split((x, y), labels, samples, data, source)
    if own_test is not None:
        test = own_test
        if data.test_fraction:
            raise InputError(
                f"{source}: data.test_fraction: {path.name} has test points of its own, x_test and y_test; allowed: 0"
            )
        if test[0].shape[1] != x.shape[1]:
            raise InputError(
                f"{path}: x_test {test[0].shape} has not the {x.shape[1]} inputs of x; allowed: (t, {x.shape[1]})"
            )
    dataset = _finish(train, test, data, str(path), classes, named=own_test is not None)
    return replace(dataset, unused=unused)


def _test_arrays(columns: dict[str, Array], path: Path) -> _Rows | None:
    """x (t, d) and y (t,) of the arrays x_test and y_test, which are taken out of the columns; None where there are none."""
    found = [name for name in _TEST_ARRAYS if name in columns]
    if not found:
        return None
    if len(found) == 1:
        raise InputError(f"{path}: has {found[0]} alone; allowed: both x_test and y_test, or neither")
    x, y = (_finite(columns.pop(name), name, path) for name in found)
    if len(x) != len(y):
        raise InputError(f"{path}: x_test has {len(x)} rows, y_test {len(y)} numbers; allowed: equal lengths")
    return np.column_stack([x]), y


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
        path,
        "a .npz file of plain arrays x and y",
        lambda names: [*_wanted(names, path), *(name for name in _TEST_ARRAYS if name in names)],
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
    inputs = name in ("x", "x_test")
    if array.dtype.kind not in "iuf" or array.ndim not in ((1, 2) if inputs else (1,)):
        shape = "(n,) or (n, d)" if inputs else "(n,)"
        raise InputError(f"{path}: array {name} is {array.dtype} {array.shape}; allowed: numbers {shape}")
    return array.astype(np.float64)


_READERS: dict[str, Callable[[Path], Read]] = {
    ".csv": _read_csv,
    ".parquet": _read_parquet,
    ".npz": _read_npz,
}

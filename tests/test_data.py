"""Training data: kinds, subsets, standardisation, and files that cannot be used."""

import gzip
import hashlib
import re
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from cifar10_files import write_cifar10

from phasediag.errors import InputError
from phasediag.spec.data import Dataset, load_data, make_dataset, standardised
from phasediag.spec.tables import Cifar10Data, DigitsData, FileData, MnistData, PointsData

MNIST = Path(__file__).parent / "data" / "mnist"
X = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 0.0]])
Y = np.array([1.0, 2.5, -3.0])
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def refusal(data, folder=Path()) -> str:
    with pytest.raises(InputError) as caught:
        load_data(data, folder, "x.toml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_points_are_used_as_they_are():
    data = load_data(PointsData(kind="points", x=((-1.0,), (0.5,)), y=(0.5, -0.0)), Path(), "x.toml")
    np.testing.assert_array_equal(data.x, [[-1.0], [0.5]])
    np.testing.assert_array_equal(np.signbit(data.y), [False, False])
    assert data.x.dtype == data.y.dtype == np.float64


def test_the_digest_depends_on_numbers_and_shapes():
    numbers = np.arange(1.0, 7.0)
    tall = make_dataset(numbers[:3, None], numbers[3:], "x.toml")
    wide = make_dataset(numbers[:4].reshape(2, 2), numbers[4:], "x.toml")
    assert tall.digest != wide.digest
    assert tall == make_dataset(numbers[:3, None].copy(), numbers[3:], "x.toml")
    assert tall != make_dataset(numbers[:3, None], numbers[3:] + 1.0, "x.toml")


def test_the_digest_of_numbers_without_test_points_is_over_x_and_y_alone():
    """Job ids hold it: it stays what it was before there were test points and classes."""
    content = b"".join(repr(array.shape).encode() + array.astype("<f8").tobytes() for array in (X, Y))
    plain = make_dataset(X, Y, "x.toml")
    assert plain.digest == hashlib.sha256(content).hexdigest()
    assert list(plain.arrays()) == ["x", "y"]
    assert plain.x_test.shape == (0, 2) and plain.y_test.shape == (0,)


def test_the_digest_covers_test_points_and_classes():
    labels = np.array([0.0, 1.0, 2.0])
    others = [
        make_dataset(X, labels, "x.toml"),
        make_dataset(X, labels, "x.toml", classes=3),
        make_dataset(X, labels, "x.toml", classes=4),
        make_dataset(X, labels, "x.toml", X + 1.0, labels),
        make_dataset(X, labels, "x.toml", X + 7.0, labels),
        make_dataset(X, labels, "x.toml", X + 1.0, labels, classes=3),
    ]
    assert len({data.digest for data in others}) == len(others)
    for data in others:
        again = Dataset.from_arrays(data.arrays(), "x.toml")
        assert again == data and again.classes == data.classes
        np.testing.assert_array_equal(again.x_test, data.x_test)


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (((1.0,), (1.0,)), (1.0, 2.0), "single distinct"),
        (((1.0,),), (1.0,), "single distinct"),
        (((1.0,), (2.0,)), (0.0, -0.0), "zero everywhere"),
        (((1.0,), (2.0,)), (1e-200, 0.0), "zero everywhere"),
        (((1e200,), (2.0,)), (1.0, 0.0), "too large"),
    ],
)
def test_points_without_a_scale_are_refused(x, y, words):
    assert words in refusal(PointsData(kind="points", x=x, y=y))


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.ones(3), np.ones(3), "do not agree"),
        (np.ones((3, 1)), np.ones(2), "do not agree"),
        (np.ones((3, 0)), [], r"x \(3, 0\) is empty"),
    ],
)
def test_shapes_must_agree(x, y, said):
    with pytest.raises(InputError, match=said):
        make_dataset(x, y, "x.toml")


def test_standardised_features_have_unit_variance_over_d():
    x = np.random.default_rng(0).normal(3.0, 5.0, (50, 4))
    x[:, 2] = 0.1
    z = standardised(x)
    np.testing.assert_allclose(z.mean(axis=0), 0.0, atol=1e-15)
    np.testing.assert_allclose(z.var(axis=0), [0.25, 0.25, 0.0, 0.25])
    np.testing.assert_array_equal(z[:, 2], 0.0)


def test_digits_are_balanced_and_scaled():
    data = load_data(DigitsData(kind="digits"), Path(), "x.toml")
    assert data.x.shape == (200, 64)
    labels, counts = np.unique(data.y, return_counts=True)
    np.testing.assert_allclose(labels, np.linspace(-1.0, 1.0, 10))
    np.testing.assert_array_equal(counts, 20)
    variances = data.x.var(axis=0)
    np.testing.assert_allclose(variances[variances > 0], 1 / 64)


def test_digits_raw_all_and_by_seed():
    everything = load_data(DigitsData(kind="digits", samples=1797, standardize=False), Path(), "x.toml")
    assert everything.x.shape == (1797, 64)
    assert everything.x.max() == 16.0
    drawn = [
        load_data(DigitsData(kind="digits", samples=15, seed=seed), Path(), "x.toml") for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] != drawn[2]
    assert np.unique(drawn[0].y, return_counts=True)[1].tolist().count(1) == 5
    assert "data.samples: 1798 rows requested, 1797 found" in refusal(DigitsData(kind="digits", samples=1798))


def test_mnist_excerpt():
    data = load_data(
        MnistData(kind="mnist", path="mnist", samples=20, standardize=False), MNIST.parent, "x.toml"
    )
    assert data.x.shape == (20, 784)
    assert (data.x.min(), data.x.max()) == (0.0, 255.0)
    np.testing.assert_array_equal(np.unique(np.rint((data.y + 1) * 4.5), return_counts=True)[1], 2)


def test_mnist_without_compression(tmp_path):
    for name in (IMAGES, LABELS):
        (tmp_path / name).write_bytes(gzip.decompress((MNIST / f"{name}.gz").read_bytes()))
    plain = MnistData(kind="mnist", path=str(tmp_path), samples=30)
    packed = MnistData(kind="mnist", path=str(MNIST), samples=30)
    assert load_data(plain, Path(), "x.toml") == load_data(packed, Path(), "x.toml")


def cut_gzip(folder):
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(path.read_bytes()[:3000])


def cut_content(folder):
    path = folder / f"{IMAGES}.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-1]))


def swap_files(folder):
    (folder / f"{IMAGES}.gz").rename(folder / "tmp")
    (folder / f"{LABELS}.gz").rename(folder / f"{IMAGES}.gz")
    (folder / "tmp").rename(folder / f"{LABELS}.gz")


def drop_label(folder):
    labels = gzip.decompress((folder / f"{LABELS}.gz").read_bytes())
    shorter = labels[:4] + (59).to_bytes(4, "big") + labels[8:-1]
    (folder / f"{LABELS}.gz").write_bytes(gzip.compress(shorter))


def label_of_eleven(folder):
    labels = gzip.decompress((folder / f"{LABELS}.gz").read_bytes())
    (folder / f"{LABELS}.gz").write_bytes(gzip.compress(labels[:-1] + b"\x0b"))


def not_gzip(folder):
    (folder / f"{LABELS}.gz").write_bytes(b"plainly not")


def no_labels(folder):
    (folder / f"{LABELS}.gz").unlink()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_gzip, [IMAGES, "cannot be read"]),
        (cut_content, [IMAGES, "header announces"]),
        (swap_files, [IMAGES, "does not begin as its name says"]),
        (drop_label, [LABELS, "59 labels for 60 images"]),
        (label_of_eleven, [LABELS, "label 11", "0 to 9"]),
        (not_gzip, [LABELS, "cannot be read"]),
        (no_labels, ["data.path", LABELS]),
    ],
)
def test_damaged_mnist_is_refused(tmp_path, damage, words):
    folder = tmp_path / "mnist"
    shutil.copytree(MNIST, folder)
    damage(folder)
    message = refusal(MnistData(kind="mnist", path="mnist", samples=10), tmp_path)
    assert all(word in message for word in words)


def test_missing_mnist_folder():
    assert "data.path" in refusal(MnistData(kind="mnist", path="nowhere"))


def write_csv(path):
    rows = ["id,x1, x2 ,y", "a,1,-2,1", "b,0.5,4,2.5", "c,3,0,-3"]
    path.write_text("\n".join(rows) + "\n")


def write_parquet(path):
    pq.write_table(pa.table({"id": ["a", "b", "c"], "x2": [-2, 4, 0], "x1": X[:, 0], "y": Y}), path)


def write_npz(path):
    np.savez(path, x=X, y=Y, other=np.zeros(5))


def write_npz_columns(path):
    np.savez(path, x1=X[:, 0], x2=X[:, 1].astype(np.float32), y=Y)


@pytest.mark.parametrize(
    ("name", "write"),
    [("d.csv", write_csv), ("d.parquet", write_parquet), ("d.npz", write_npz), ("e.npz", write_npz_columns)],
)
def test_files_of_every_format(tmp_path, name, write):
    write(tmp_path / name)
    data = load_data(FileData(kind="file", path=name, standardize=False), tmp_path, "x.toml")
    assert data == make_dataset(X, Y, "x.toml")
    scaled = load_data(FileData(kind="file", path=name), tmp_path, "x.toml")
    np.testing.assert_allclose(scaled.x, standardised(X))
    assert len(load_data(FileData(kind="file", path=name, samples=2), tmp_path, "x.toml").y) == 2
    assert "4 rows requested, 3 found" in refusal(FileData(kind="file", path=name, samples=4), tmp_path)


def test_a_long_file_is_cut_to_the_default(tmp_path):
    np.savez(tmp_path / "d.npz", x=np.arange(500.0), y=np.arange(500.0))
    data = load_data(FileData(kind="file", path="d.npz", standardize=False), tmp_path, "x.toml")
    assert data.x.shape == (200, 1)
    np.testing.assert_array_equal(data.x[:, 0], data.y)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y\n1,2\nthree,4\n", "column x, row 2: 'three' is not a number"),
        ("x,y\n1,2\n3,\n", "column y, row 2: missing"),
        ("x,y\n1,2\n3\n", "column y, row 2: missing"),
        ("x,y\n1,2\nnan,4\n", "column x, row 2: missing or not finite"),
        ("x,y\n1,2\n3,inf\n", "column y, row 2: missing or not finite"),
        ("x,y\n1,2\n3,4,5\n", "line 3 has 3 columns, the lines before it have 2; allowed: a CSV file"),
        ('x,y\n"1,2\n3,4\n', "a quotation mark is opened and never closed"),
        ("x,ü,y\n1,2,3\n", "is not text in UTF-8"),
        ("x,y\n", "columns are empty"),
        ("", "is empty; allowed: a CSV file"),
        ("x1,x3,y\n1,2,3\n", "no column x2"),
        ("a,b\n1,2\n", "no columns x1, y (found: a, b); allowed: "),
        ("x1,x5,z\n1,2,3\n", "no columns x2, y (found: x1, x5, z); allowed: "),
        ("x,z\n1,2\n", "no column y"),
        ("x,x1,y\n1,2,3\n", "column x beside numbered ones"),
        ("x,x,y\n1,2,3\n", "two columns are named x"),
    ],
)
def test_bad_csv_names_file_column_and_row(tmp_path, text, words):
    (tmp_path / "d.csv").write_text(text, encoding="latin-1")
    message = refusal(FileData(kind="file", path="d.csv"), tmp_path)
    assert str(tmp_path / "d.csv") in message
    assert words in message


def test_bad_parquet_names_column_and_row(tmp_path):
    file = FileData(kind="file", path="d.parquet")
    pq.write_table(pa.table({"x": [1.0, None], "y": [1.0, 2.0]}), tmp_path / "d.parquet")
    assert "column x, row 2: missing" in refusal(file, tmp_path)
    pq.write_table(pa.table({"x": [1.0, 2.0], "y": ["1", "2"]}), tmp_path / "d.parquet")
    assert "column y, row 1: of type string" in refusal(file, tmp_path)
    (tmp_path / "d.parquet").write_bytes(b"PAR1 not really")
    assert "allowed: a Parquet file" in refusal(file, tmp_path)


def test_bad_npz(tmp_path):
    file = FileData(kind="file", path="d.npz")
    np.save(tmp_path / "d.npy", np.arange(4.0))
    (tmp_path / "d.npy").rename(tmp_path / "d.npz")
    assert "cannot be read (not an archive of arrays, as numpy.savez writes it)" in refusal(file, tmp_path)
    (tmp_path / "d.npz").write_text("x1,y\n1,2\n3,4\n")
    assert "cannot be read (not an archive of arrays, as numpy.savez writes it)" in refusal(file, tmp_path)
    np.savez(tmp_path / "d.npz", x=np.array([1, "a", None], dtype=object), y=Y)
    assert "allowed: a .npz file of plain arrays" in refusal(file, tmp_path)
    np.savez(tmp_path / "d.npz", x=np.array(["1", "2", "3"]), y=Y)
    assert "array x is" in refusal(file, tmp_path)
    np.savez(tmp_path / "d.npz", x=X, y=Y[:2])
    assert "differ in length" in refusal(file, tmp_path)
    np.savez(tmp_path / "d.npz", x=np.full((3, 2), np.nan), y=Y)
    assert "column x, row 1" in refusal(file, tmp_path)
    (tmp_path / "d.npz").write_bytes(b"PK\x03\x04 broken")
    assert "allowed: a .npz" in refusal(file, tmp_path)


def test_unknown_format_and_missing_file(tmp_path):
    assert "allowed: .csv, .parquet, .npz" in refusal(FileData(kind="file", path="d.xlsx"), tmp_path)
    assert "does not exist" in refusal(FileData(kind="file", path="d.csv"), tmp_path)


@pytest.mark.parametrize(
    ("header", "first"),
    [
        ("x0,x1,y", 0),
        ("x1,x0,y", 0),
        ("x1,x2,y", 1),
        ("id,x0,x1,y", 0),
        ("# x1,x2,y", 1),
        ("\ufeffx0,x1,y", 0),
    ],
)
def test_all_numbered_columns_are_used_from_zero_or_one_on(tmp_path, header, first):
    names = header.lstrip("# \ufeff").split(",")
    values = {f"x{first}": X[:, 0], f"x{first + 1}": X[:, 1], "y": Y, "id": np.arange(3.0)}
    rows = [",".join(str(values[name][row]) for name in names) for row in range(3)]
    (tmp_path / "d.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    data = load_data(FileData(kind="file", path="d.csv", standardize=False), tmp_path, "x.toml")
    assert data == make_dataset(X, Y, "x.toml")
    assert data.unused == tuple(name for name in names if name == "id")


@pytest.mark.parametrize(
    ("separator", "point"), [(";", ","), (";", "."), ("\t", ","), ("\t", "."), (", ", ".")]
)
def test_tables_of_other_countries_and_laboratories_are_read(tmp_path, separator, point):
    lines = [["x1", "x2", "y"], *([str(number) for number in (*row, y)] for row, y in zip(X, Y, strict=True))]
    text = "\n".join(separator.join(line).replace(".", point) for line in lines)
    (tmp_path / "d.csv").write_text(text + "\n")
    data = load_data(FileData(kind="file", path="d.csv", standardize=False), tmp_path, "x.toml")
    assert data == make_dataset(X, Y, "x.toml")


@pytest.mark.parametrize("name", ["X1", "x_2", "x[3]", "x 2", "x01", "x-1", "Y", "(y)", "x.1", "'x2'", "_y"])
def test_a_column_that_may_be_meant_is_not_left_out_in_silence(tmp_path, name):
    (tmp_path / "d.csv").write_text(f"x1,{name},y\n1,2,3\n4,5,6\n")
    pq.write_table(pa.table({"x1": [1.0, 2.0], name: [1.0, 2.0], "y": [1.0, 2.0]}), tmp_path / "d.parquet")
    np.savez(tmp_path / "d.npz", **{"x1": X[:, 0], name: X[:, 1], "y": Y})
    for file in ("d.csv", "d.parquet", "d.npz"):
        message = refusal(FileData(kind="file", path=file), tmp_path)
        assert file in message and repr(name) in message
        assert f"looks like {'the target' if 'y' in name.lower() else 'an input'}, but is not used" in message


@pytest.mark.parametrize(
    ("header", "meant"),
    [("x1,Y", "y"), ("X,y", "x"), ("x_1,y", "x1"), ("x01,y", None), ("x1,Y,y", None), ("x1,x_1,y", None)],
)
def test_the_name_that_is_nearly_written_is_asked_for(tmp_path, header, meant):
    (tmp_path / "d.csv").write_text(f"{header}\n{','.join('1' * len(header.split(',')))}\n")
    message = refusal(FileData(kind="file", path="d.csv"), tmp_path)
    assert (f"did you mean '{meant}'? allowed: " in message) if meant else ("did you mean" not in message)


@pytest.mark.parametrize(
    ("header", "shown"),
    [
        ("label,pixel0,pixel1", "found: label, pixel0, pixel1)"),
        ("x1 x2 y", "found: x1 x2 y)"),
        ("# x1 x2 y", "found: x1 x2 y)"),
        ("x1|x2|y", "found: x1|x2|y)"),
        (",".join(f"pixel{k}" for k in range(784)), "pixel11 and 772 more)"),
        (",a", "found: a column without a name, a)"),
        ("feature_0,feature_1,target", "found: feature_0, feature_1, target)"),
    ],
)
def test_a_refusal_shows_what_is_there(tmp_path, header, shown):
    (tmp_path / "d.csv").write_text(f"{header}\n{','.join('1' for _ in header.split(','))}\n")
    assert shown in refusal(FileData(kind="file", path="d.csv"), tmp_path)


def test_other_columns_are_told(tmp_path):
    pq.write_table(
        pa.table({"name": ["a", "b"], "x": [1.0, 2.0], "y": [1.0, 2.0], "w": [0, 0]}), tmp_path / "d.parquet"
    )
    assert load_data(FileData(kind="file", path="d.parquet"), tmp_path, "x.toml").unused == ("name", "w")
    np.savez(tmp_path / "d.npz", x=X, y=Y, x_valid=X, meta=np.array([None], dtype=object))
    assert load_data(FileData(kind="file", path="d.npz"), tmp_path, "x.toml").unused == ("x_valid", "meta")


def test_points_and_commas_in_one_table_are_refused(tmp_path):
    """In a table with decimal commas, 1.000 may be a thousand."""
    (tmp_path / "d.csv").write_text("x;y\n1.000;2,5\n2.500;3,5\n")
    message = refusal(FileData(kind="file", path="d.csv"), tmp_path)
    assert "column x, row 1: '1.000' has a point, other numbers of the file have commas" in message


def test_decimals_are_numbers(tmp_path):
    exact = pa.array([Decimal("0.5"), Decimal("1.25"), Decimal("3")])
    pq.write_table(pa.table({"x0": exact, "y": exact}), tmp_path / "d.parquet")
    data = load_data(FileData(kind="file", path="d.parquet", standardize=False), tmp_path, "x.toml")
    expected = np.array([0.5, 1.25, 3.0])
    assert data == make_dataset(expected[:, None], expected, "x.toml")


def in_folders(folder, file):
    (folder / file.name.removesuffix(".gz")).mkdir()
    file.rename(folder / file.name.removesuffix(".gz") / file.name)


def unpacked_in_folders(folder, file):
    name = file.name.removesuffix(".gz")
    content = gzip.decompress(file.read_bytes())
    file.unlink()
    (folder / name).mkdir()
    (folder / name / name).write_bytes(content)


def with_a_point(folder, file):
    file.rename(folder / file.name.replace("-idx", ".idx"))


@pytest.mark.parametrize("packed", [in_folders, unpacked_in_folders, with_a_point])
def test_mnist_as_mirrors_pack_it(tmp_path, packed):
    shutil.copytree(MNIST, tmp_path / "mnist")
    for name in (IMAGES, LABELS):
        packed(tmp_path / "mnist", tmp_path / "mnist" / f"{name}.gz")
    usual = MnistData(kind="mnist", path=str(MNIST), samples=30)
    assert load_data(MnistData(kind="mnist", path="mnist", samples=30), tmp_path, "x.toml") == load_data(
        usual, Path(), "x.toml"
    )


def test_mnist_as_keras_has_it(tmp_path):
    images, labels = (
        np.frombuffer(gzip.decompress((MNIST / f"{name}.gz").read_bytes()), dtype=np.uint8, offset=offset)
        for name, offset in ((IMAGES, 16), (LABELS, 8))
    )
    np.savez(
        tmp_path / "mnist.npz",
        x_train=images.reshape(-1, 28, 28),
        y_train=labels,
        x_test=images,
        y_test=labels,
    )
    keras = MnistData(kind="mnist", path="mnist.npz", samples=30)
    usual = MnistData(kind="mnist", path=str(MNIST), samples=30)
    assert load_data(keras, tmp_path, "x.toml") == load_data(usual, Path(), "x.toml")
    np.savez(tmp_path / "mnist.npz", x_train=images.reshape(-1, 28, 28) / 255.0, y_train=labels)
    assert "x_train is float64" in refusal(keras, tmp_path)
    np.savez(tmp_path / "mnist.npz", images=images)
    assert "no array x_train (found: images)" in refusal(keras, tmp_path)


def test_the_home_directory_has_a_short_name(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_csv(tmp_path / "d.csv")
    shutil.copytree(MNIST, tmp_path / "mnist")
    data = load_data(FileData(kind="file", path="~/d.csv", standardize=False), Path(), "x.toml")
    assert data == make_dataset(X, Y, "x.toml")
    assert len(load_data(MnistData(kind="mnist", path="~/mnist", samples=30), Path(), "x.toml").y) == 30
    message = refusal(FileData(kind="file", path="~nobody-of-this-name/d.csv"))
    assert "x.toml: data.path: ~nobody-of-this-name/d.csv: there is no such home" in message


# Test points.


def test_points_with_test_points():
    data = load_data(
        PointsData(kind="points", x=((-1.0,), (0.5,)), y=(0.5, 2.0), x_test=((0.0,),), y_test=(3.0,)),
        Path(),
        "x.toml",
    )
    np.testing.assert_array_equal(data.x_test, [[0.0]])
    np.testing.assert_array_equal(data.y_test, [3.0])
    assert set(data.arrays()) == {"x", "y", "x_test", "y_test"}
    twice = PointsData(
        kind="points", x=((-1.0,), (0.0,)), y=(0.5, 2.0), x_test=((3.0,), (-0.0,)), y_test=(3.0, 4.0)
    )
    message = refusal(twice)
    assert "x.toml: data: 1 of 2 test points are training points, the first in row 2 of x_test" in message


@pytest.mark.parametrize(
    ("x_test", "y_test", "said"),
    [
        (np.ones((2, 1)), np.ones(2), r"x_test \(2, 1\) has not the inputs of x \(3, 2\)"),
        (np.ones((2, 2)), np.ones(3), r"x_test \(2, 2\) and y_test \(3,\) do not agree"),
        (np.full((1, 2), np.inf), np.ones(1), "not finite"),
        (X[1:2], Y[:1], "1 of 1 test points are training points"),
        (X + 1.0, None, "do not agree"),
    ],
)
def test_test_points_are_checked_like_training_points(x_test, y_test, said):
    with pytest.raises(InputError, match=said):
        make_dataset(X, Y, "x.toml", x_test, y_test)


def test_a_share_of_the_drawn_digits_are_test_points():
    everything = load_data(DigitsData(kind="digits", samples=100, standardize=False), Path(), "x.toml")
    data = load_data(
        DigitsData(kind="digits", samples=100, standardize=False, test_fraction=0.2), Path(), "x.toml"
    )
    assert (data.x.shape, data.x_test.shape) == ((80, 64), (20, 64))
    np.testing.assert_array_equal(np.unique(data.y, return_counts=True)[1], 8)
    np.testing.assert_array_equal(np.unique(data.y_test, return_counts=True)[1], 2)
    drawn = {(*x, y) for x, y in zip(everything.x, everything.y, strict=True)}
    parts = [
        {(*x, y) for x, y in zip(rows, targets, strict=True)}
        for rows, targets in ((data.x, data.y), (data.x_test, data.y_test))
    ]
    assert parts[0] | parts[1] == drawn and not parts[0] & parts[1]
    other = load_data(
        DigitsData(kind="digits", samples=100, standardize=False, test_fraction=0.2, seed=1), Path(), "x.toml"
    )
    assert other != data


def test_test_points_are_scaled_as_the_training_points_are(tmp_path):
    x = np.random.default_rng(0).normal(3.0, 5.0, (50, 3))
    x[:, 2] = 0.1
    np.savez(tmp_path / "d.npz", x=x, y=x[:, 0])
    split = {"kind": "file", "path": "d.npz", "test_fraction": 0.3}
    raw = load_data(FileData(standardize=False, **split), tmp_path, "x.toml")
    scaled = load_data(FileData(divide_by=2.0, **split), tmp_path, "x.toml")
    assert len(raw.y_test) == 15
    mean, std = raw.x.mean(axis=0), raw.x.std(axis=0)
    np.testing.assert_allclose(scaled.x_test[:, :2], ((raw.x_test - mean) / std / np.sqrt(3) / 2)[:, :2])
    np.testing.assert_array_equal(scaled.x_test[:, 2], 0.0)
    np.testing.assert_array_equal(scaled.y_test, raw.y_test)


@pytest.mark.parametrize(("rows", "fraction", "tests"), [(4, 0.1, 0), (3, 0.9, 3)])
def test_a_split_without_points_on_one_side_is_refused(tmp_path, rows, fraction, tests):
    np.savez(tmp_path / "d.npz", x=np.arange(float(rows)), y=np.ones(rows))
    message = refusal(FileData(kind="file", path="d.npz", test_fraction=fraction), tmp_path)
    assert f"data.test_fraction: {fraction} makes {tests} of {rows} rows test points" in message


def test_a_test_point_of_a_file_that_is_a_training_point_is_left_out_and_told(tmp_path):
    x = np.repeat(np.arange(10.0), 2)  # every x twice
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(20.0))
    data = load_data(FileData(kind="file", path="d.npz", test_fraction=0.5), tmp_path, "x.toml")
    assert len(data.y) == 10 and data.left_out == 10 - len(data.y_test) > 0
    assert not set(data.x[:, 0]) & set(data.x_test[:, 0])
    [note] = data.notes()
    assert note == f"data: {data.left_out} of 10 test points left out: their x is that of training points"
    np.savez(tmp_path / "d.npz", x=np.repeat([0.0, 1.0], 20), y=np.arange(40.0))
    file = FileData(kind="file", path="d.npz", test_fraction=0.1)
    assert "every test point is a training point" in refusal(file, tmp_path)


@pytest.mark.parametrize("names", [("x",), ("x1", "x2")])
def test_test_points_of_a_file_of_arrays(tmp_path, names):
    columns = {"x": X} if names == ("x",) else {"x1": X[:, 0], "x2": X[:, 1]}
    file = FileData(kind="file", path="d.npz", standardize=False)
    np.savez(tmp_path / "d.npz", **columns, y=Y, x_test=X + 1.0, y_test=Y)
    assert load_data(file, tmp_path, "x.toml") == make_dataset(X, Y, "x.toml", X + 1.0, Y)
    split = FileData(kind="file", path="d.npz", test_fraction=0.5)
    assert "data.test_fraction: d.npz has test points of its own" in refusal(split, tmp_path)
    for arrays, said in (
        ({"x_test": X + 1.0}, "x_test alone; allowed: both"),
        ({"y_test": Y}, "y_test alone; allowed: both"),
        ({"x_test": X[:, :1], "y_test": Y}, "x_test (3, 1) has not the 2 inputs of x"),
        ({"x_test": X + 1.0, "y_test": Y[:2]}, "x_test has 3 rows, y_test 2 numbers"),
        ({"x_test": X, "y_test": Y}, "3 of 3 test points are training points"),
        ({"x_test": X * np.nan, "y_test": Y}, "column x_test, row 1: missing or not finite"),
        ({"x_test": X + 1.0, "y_test": X}, "array y_test is float64 (3, 2)"),
    ):
        np.savez(tmp_path / "d.npz", **columns, y=Y, **arrays)
        assert said in refusal(file, tmp_path)


def write_test_pair(folder):
    """The excerpt of the training pair again, its images inverted, as a test pair."""
    for part, new in ((IMAGES, IMAGES.replace("train", "t10k")), (LABELS, LABELS.replace("train", "t10k"))):
        content = bytearray(gzip.decompress((MNIST / f"{part}.gz").read_bytes()))
        if part == IMAGES:
            content[16:] = bytes(255 - pixel for pixel in content[16:])
        (folder / new).write_bytes(bytes(content))


def test_the_test_pair_of_mnist(tmp_path):
    shutil.copytree(MNIST, tmp_path / "mnist")
    mnist = MnistData(kind="mnist", path="mnist", samples=30, test_samples=20, standardize=False)
    assert "has no t10k-labels-idx1-ubyte" in refusal(mnist, tmp_path)
    write_test_pair(tmp_path / "mnist")
    data = load_data(mnist, tmp_path, "x.toml")
    without = load_data(mnist.model_copy(update={"test_samples": 0}), tmp_path, "x.toml")
    np.testing.assert_array_equal(data.x, without.x)
    assert data.x_test.shape == (20, 784) and not without.y_test.size
    np.testing.assert_array_equal(np.unique(data.y_test, return_counts=True)[1], 2)
    everything = load_data(mnist.model_copy(update={"samples": 60}), tmp_path, "x.toml")
    known = {tuple(255.0 - row): y for row, y in zip(everything.x, everything.y, strict=True)}
    assert [known[tuple(row)] for row in data.x_test] == data.y_test.tolist()
    many = mnist.model_copy(update={"test_samples": 61})
    assert "data.test_samples: 61 rows requested, 60 found" in refusal(many, tmp_path)
    for part in (IMAGES, LABELS):
        (tmp_path / "mnist" / part.replace("train", "t10k")).write_bytes(
            gzip.decompress((MNIST / f"{part}.gz").read_bytes())
        )
    same = mnist.model_copy(update={"samples": 60})
    assert "every test point is a training point" in refusal(same, tmp_path)


def test_the_test_pair_of_keras(tmp_path):
    images = np.arange(12 * 784, dtype=np.int64).reshape(12, 28, 28) * 7 % 251
    arrays = {"x_train": images[:6], "x_test": images[6:], "y_train": np.arange(6), "y_test": np.arange(6)}
    arrays = {name: array.astype(np.uint8) for name, array in arrays.items()}
    keras = MnistData(kind="mnist", path="mnist.npz", samples=6, test_samples=6, standardize=False)
    np.savez(tmp_path / "mnist.npz", **arrays)
    data = load_data(keras, tmp_path, "x.toml")
    np.testing.assert_array_equal(data.x_test, images[6:].reshape(6, -1))
    del arrays["y_test"]
    np.savez(tmp_path / "mnist.npz", **arrays)
    assert "has no array y_test" in refusal(keras, tmp_path)


# Classes.


def test_classes_keep_their_labels():
    data = load_data(DigitsData(kind="digits", samples=50, targets="class"), Path(), "x.toml")
    assert data.classes == 10
    np.testing.assert_array_equal(np.unique(data.y, return_counts=True), [np.arange(10.0), [5] * 10])
    label = load_data(DigitsData(kind="digits", samples=50, targets="label"), Path(), "x.toml")
    np.testing.assert_array_equal(label.y, data.y)
    assert label.classes == 0 and label != data


def test_classes_of_a_file_are_counted_and_drawn_evenly(tmp_path):
    labels = np.repeat([0, 1, 2], [40, 10, 10])
    np.savez(tmp_path / "d.npz", x=np.arange(60.0), y=labels)
    file = FileData(kind="file", path="d.npz", targets="class", samples=15, test_fraction=0.2)
    data = load_data(file, tmp_path, "x.toml")
    assert data.classes == 3
    np.testing.assert_array_equal(np.unique(data.y, return_counts=True)[1], 4)
    np.testing.assert_array_equal(np.unique(data.y_test, return_counts=True)[1], 1)
    points = PointsData(kind="points", x=((0.0,), (1.0,)), y=(1, 0), targets="class")
    assert load_data(points, Path(), "x.toml").classes == 2


@pytest.mark.parametrize(
    ("y", "said"),
    [
        ([1.0, 2.0, 3.0], "y: holds no 0, but 1"),
        ([0.0, 0.5, 1.0], "y: holds no 1, but 0.5"),
        ([0.0, 2.0, 2.0], "y: holds no 1, but 2"),
        ([-1.0, 0.0, 1.0], "y: holds no 0, but -1"),
        ([0.0, 0.0, 0.0], "y holds a single class, 0"),
    ],
)
def test_what_is_no_label_is_refused(tmp_path, y, said):
    np.savez(tmp_path / "d.npz", x=X, y=y)
    assert said in refusal(FileData(kind="file", path="d.npz", targets="class"), tmp_path)
    points = PointsData(kind="points", x=X.tolist(), y=y, targets="class")
    assert re.sub("y: ", "data.y: ", said) in refusal(points)


@pytest.mark.parametrize("labels", [[0.0, 1.0, 3.0], [0.0, -1.0, 1.0], [0.0, 1.0, 0.5]])
def test_labels_are_those_of_the_classes(labels):
    with pytest.raises(InputError, match="allowed: labels 0 to 2"):
        make_dataset(X, labels, "x.toml", classes=3)
    with pytest.raises(InputError, match=r"y_test holds .*; allowed: labels 0 to 2"):
        make_dataset(X, [0.0, 1.0, 2.0], "x.toml", X + 1.0, labels, classes=3)


# CIFAR-10.


def cifar10(**keys):
    return Cifar10Data(kind="cifar10", path="cifar", standardize=False, **keys)


@pytest.mark.parametrize("inner", ["cifar", "cifar/cifar-10-batches-bin"])
def test_cifar10_is_read_from_its_binary_files(tmp_path, inner):
    write_cifar10(tmp_path / inner)
    data = load_data(cifar10(samples=60, test_samples=12, targets="class"), tmp_path, "x.toml")
    assert data.x.shape == (60, 3072) and data.classes == 10
    records = [(tmp_path / inner / f"data_batch_{number}.bin").read_bytes() for number in range(1, 6)]
    rows = [content[start : start + 3073] for content in records for start in range(0, len(content), 3073)]
    np.testing.assert_array_equal(data.y, [row[0] for row in rows])
    np.testing.assert_array_equal(data.x, [list(row[1:]) for row in rows])
    test = np.frombuffer((tmp_path / inner / "test_batch.bin").read_bytes(), np.uint8).reshape(-1, 3073)
    np.testing.assert_array_equal(np.column_stack([data.y_test, data.x_test]), test)
    ten = load_data(cifar10(samples=10), tmp_path, "x.toml")
    np.testing.assert_allclose(np.sort(ten.y), np.linspace(-1.0, 1.0, 10))


def cut_record(folder):
    path = folder / "data_batch_3.bin"
    path.write_bytes(path.read_bytes()[:-1])


def empty_file(folder):
    (folder / "data_batch_3.bin").write_bytes(b"")


def label_of_ten(folder):
    content = bytearray((folder / "data_batch_3.bin").read_bytes())
    content[3073] = 10
    (folder / "data_batch_3.bin").write_bytes(bytes(content))


def no_third_file(folder):
    (folder / "data_batch_3.bin").unlink()


def no_test_file(folder):
    (folder / "test_batch.bin").unlink()


def python_version(folder):
    for path in folder.iterdir():
        path.rename(path.with_suffix(""))


def python_folder(folder):
    for path in folder.iterdir():
        path.unlink()
    (folder / "cifar-10-batches-py").mkdir()


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut_record, ["data_batch_3.bin: has 36875 bytes", "multiple of 3073"]),
        (empty_file, ["data_batch_3.bin: has 0 bytes", "multiple of 3073"]),
        (label_of_ten, ["data_batch_3.bin: holds the label 10", "0 to 9"]),
        (no_third_file, ["data.path: ", "has no data_batch_3.bin (found: data_batch_1.bin, "]),
        (no_test_file, ["data.path: ", "has no test_batch.bin"]),
        (python_version, ["data.path: ", "pickled", "allowed: the binary version"]),
        (python_folder, ["data.path: ", "pickled", "allowed: the binary version"]),
    ],
)
def test_damaged_cifar10_is_refused(tmp_path, damage, words):
    write_cifar10(tmp_path / "cifar")
    damage(tmp_path / "cifar")
    message = refusal(cifar10(samples=10, test_samples=5), tmp_path)
    assert all(word in message for word in words)


def test_missing_cifar10_folder(tmp_path):
    assert "cifar is not a folder; allowed: one with the binary version" in refusal(cifar10(), tmp_path)

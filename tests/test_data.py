"""Training data: kinds, subsets, standardisation, and files that cannot be used."""

import gzip
import shutil
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from phasediag.errors import InputError
from phasediag.spec.data import Dataset, load_data, make_dataset, standardised
from phasediag.spec.tables import DigitsData, FileData, MnistData, PointsData

MNIST = Path(__file__).parent / "data" / "mnist"
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
    x = np.arange(6.0)
    tall, wide = Dataset(x.reshape(6, 1), x), Dataset(x.reshape(3, 2), x)
    assert tall.digest != wide.digest
    assert tall == Dataset(x.reshape(6, 1).copy(), x)
    assert tall != Dataset(x.reshape(6, 1), x + 1.0)


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


X = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 0.0]])
Y = np.array([1.0, 2.5, -3.0])


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
    assert data == Dataset(X, Y)
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
    assert data == Dataset(X, Y)
    assert data.unused == tuple(name for name in names if name == "id")


@pytest.mark.parametrize(
    ("separator", "point"), [(";", ","), (";", "."), ("\t", ","), ("\t", "."), (", ", ".")]
)
def test_tables_of_other_countries_and_laboratories_are_read(tmp_path, separator, point):
    lines = [["x1", "x2", "y"], *([str(number) for number in (*row, y)] for row, y in zip(X, Y, strict=True))]
    text = "\n".join(separator.join(line).replace(".", point) for line in lines)
    (tmp_path / "d.csv").write_text(text + "\n")
    data = load_data(FileData(kind="file", path="d.csv", standardize=False), tmp_path, "x.toml")
    assert data == Dataset(X, Y)


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
    np.savez(tmp_path / "d.npz", x=X, y=Y, x_test=X, meta=np.array([None], dtype=object))
    assert load_data(FileData(kind="file", path="d.npz"), tmp_path, "x.toml").unused == ("x_test", "meta")


def test_points_and_commas_in_one_table_are_refused(tmp_path):
    """In a table with decimal commas, 1.000 may be a thousand."""
    (tmp_path / "d.csv").write_text("x;y\n1.000;2,5\n2.500;3,5\n")
    message = refusal(FileData(kind="file", path="d.csv"), tmp_path)
    assert "column x, row 1: '1.000' has a point, other numbers of the file have commas" in message


def test_decimals_are_numbers(tmp_path):
    exact = pa.array([Decimal("0.5"), Decimal("1.25"), Decimal("3")])
    pq.write_table(pa.table({"x0": exact, "y": exact}), tmp_path / "d.parquet")
    data = load_data(FileData(kind="file", path="d.parquet", standardize=False), tmp_path, "x.toml")
    assert data == Dataset(np.array([[0.5], [1.25], [3.0]]), np.array([0.5, 1.25, 3.0]))


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
    assert load_data(FileData(kind="file", path="~/d.csv", standardize=False), Path(), "x.toml") == Dataset(
        X, Y
    )
    assert len(load_data(MnistData(kind="mnist", path="~/mnist", samples=30), Path(), "x.toml").y) == 30
    message = refusal(FileData(kind="file", path="~nobody-of-this-name/d.csv"))
    assert "x.toml: data.path: ~nobody-of-this-name/d.csv: there is no such home" in message

"""The example examples/cifar10: what it initialises, how its first layer condenses, and all of it on generated images."""

import importlib.util
import os
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from cifar10_files import write_cifar10
from matplotlib.image import imread

from phasediag.kinds import read_study
from phasediag.spec.data import load_data
from phasediag.spec.tables import FileData

SCRIPT = Path(__file__).parent.parent / "examples/cifar10/cifar10.py"
COMMON, CONDENSED = {"He", "LeCun", "Glorot"}, {"m^-1", "m^-1.25", "m^-1.5"}
needs_torchvision = pytest.mark.skipif(find_spec("torchvision") is None, reason="needs torchvision")


@pytest.fixture(scope="module")
def example():
    spec = importlib.util.spec_from_file_location("cifar10", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["cifar10"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["cifar10"]


def test_weights_are_of_the_scale_that_their_name_says(example):
    expected = {
        "He": [(2 / 512) ** 0.5, (2 / 400) ** 0.5, (2 / 400) ** 0.5],
        "LeCun": [512**-0.5, 400**-0.5, 400**-0.5],
        "Glorot": [(2 / 912) ** 0.5, (2 / 800) ** 0.5, (2 / 410) ** 0.5],
        "$m^{-1}$": [400**-1.0] * 3,
        "$m^{-1.25}$": [400**-1.25] * 3,
        "$m^{-1.5}$": [400**-1.5] * 3,
    }
    assert example.INITIALISATIONS.keys() == expected.keys()
    torch.manual_seed(0)
    for name, stds in expected.items():
        layers = example.fully_connected(400, "relu", example.INITIALISATIONS[name])[::2]
        assert [tuple(layer.weight.shape) for layer in layers] == [(400, 512), (400, 400), (10, 400)]
        np.testing.assert_allclose([layer.weight.std().item() for layer in layers], stds, rtol=0.05)
        assert not any(layer.bias.any() for layer in layers)
    made = example.make(400, 1.25, "x_tanh")
    np.testing.assert_allclose(
        [layer.weight.std().item() for layer in made[::2]], [400**-1.25] * 3, rtol=0.05
    )
    z = torch.linspace(-2.0, 2.0, 9)
    torch.testing.assert_close(made[1](z), z * z.tanh())


def test_small_weights_condense_and_common_ones_do_not(example):
    generator = torch.Generator().manual_seed(0)
    y, y_test = torch.arange(200) % 10, torch.arange(50) % 10
    centres = torch.randn(10, 512, generator=generator)
    x, x_test = (
        centres[some] + 0.5 * torch.randn(len(some), 512, generator=generator) for some in (y, y_test)
    )
    points = example.Points(x, y, x_test, y_test)
    found = {}
    for name in ("Glorot", "$m^{-1.5}$"):
        torch.manual_seed(0)
        layers = example.fully_connected(128, "x_tanh", example.INITIALISATIONS[name])
        found[name] = example.result(layers, layers[0], points, 40, 1e-3, 0)
    random = (2 / (np.pi * 513)) ** 0.5  # the mean of |D| of random directions
    for one in found.values():
        assert one.start.step == 0 and one.start.alignment == pytest.approx(random, rel=0.1)
    assert found["Glorot"].strongest.alignment < 2 * random
    assert found["Glorot"].accuracy[0] == 1.0
    assert found["$m^{-1.5}$"].strongest.alignment > 8 * random


def run(*arguments: object) -> pd.DataFrame:
    """Runs the example as a user does; returns the table that it prints."""
    environment = {**os.environ, "PYTHONPATH": str(SCRIPT.parents[2]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, SCRIPT, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert not done.returncode, done.stderr
    header, *rows = (line.split() for line in done.stdout.splitlines())
    return pd.DataFrame(rows, columns=header)


@needs_torchvision
def test_the_example_on_generated_images(tmp_path):
    write_cifar10(tmp_path / "cifar", 20)
    sizes = ("--samples", 64, "--test-samples", 20, "--width", 64, "--epochs", 40)
    shown = run(tmp_path / "cifar", tmp_path / "out", *sizes)
    table = pd.read_csv(tmp_path / "out/accuracies.csv")
    assert list(shown.columns) == list(table.columns)
    assert set(table["initialisation"]) == COMMON | CONDENSED and len(table) == 12
    assert table["test_accuracy"].between(0, 1).all()
    assert (table.loc[table["initialisation"].isin(COMMON), "train_accuracy"] == 1.0).all()
    strongest = table.groupby("initialisation")["alignment"].min()
    assert strongest[list(CONDENSED)].min() > 2 * strongest[list(COMMON)].max()
    picture = imread(tmp_path / "out/heatmap.png")
    assert picture.shape[1] == 1400

    data = load_data(
        FileData(kind="file", path="features.npz", samples=64, standardize=False, targets="class"),
        tmp_path / "out",
        "x.toml",
    )
    assert data.classes == 10 and data.x.shape == (64, 512) and data.x_test.shape == (20, 512)
    np.testing.assert_allclose(data.x.mean(axis=0), 0.0, atol=1e-5)
    varies = data.x.std(axis=0, ddof=1)
    np.testing.assert_allclose(varies[varies > 0], 1.0, rtol=1e-4)
    again = run(tmp_path / "cifar", tmp_path / "again", *sizes)
    pd.testing.assert_frame_equal(again, shown)


@needs_torchvision
def test_the_convolutions_may_be_trained_too(tmp_path):
    write_cifar10(tmp_path / "cifar", 8)
    shown = run(
        tmp_path / "cifar",
        tmp_path / "out",
        "--train-convolutions",
        "--samples",
        40,
        "--test-samples",
        8,
        "--width",
        16,
        "--epochs",
        2,
    )
    assert len(shown) == 12
    assert not (tmp_path / "out/features.npz").exists()


@needs_torchvision
def test_mistakes_are_one_line(tmp_path):
    (tmp_path / "cifar").mkdir()
    done = subprocess.run(
        [sys.executable, SCRIPT, tmp_path / "cifar", tmp_path / "out"], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: cifar10.py: data.path: ")
    assert not (tmp_path / "out").exists()


def test_the_sweeps_are_those_of_their_factories(example, tmp_path):
    """Their networks are made, and evaluated on the data, when a spec is read."""
    generator = np.random.default_rng(0)
    labels = np.arange(600) % 10
    x = generator.normal(size=(10, 512))[labels] + generator.normal(size=(600, 512))
    (tmp_path / "cifar10").mkdir()
    np.savez(
        tmp_path / "cifar10/features.npz", x=x[:500], y=labels[:500], x_test=x[500:], y_test=labels[500:]
    )
    shutil.copytree(SCRIPT.parent, tmp_path / "examples/cifar10")
    study = read_study(tmp_path / "examples/cifar10/frozen.toml")
    assert study.data.classes == 10 and study.data.x_test.shape == (100, 512)
    assert study.spec.train.loss == "cross-entropy"
    assert study.spec.network.layers == ("0.weight", "2.weight", "4.weight")
    assert len(study.jobs()) == 48


@needs_torchvision
def test_the_sweep_of_whole_networks_is_read(tmp_path):
    write_cifar10(tmp_path / "cifar", 20)
    shutil.copytree(SCRIPT.parent, tmp_path / "examples/cifar10")
    file = tmp_path / "examples/cifar10/whole.toml"
    file.write_text(file.read_text().replace("= 10000", "= 100").replace("= 1000", "= 20"))
    study = read_study(file)
    assert study.data.x.shape == (100, 3072) and study.data.x_test.shape == (20, 3072)
    assert study.spec.network.layers[-3:] == ("1.0.weight", "1.2.weight", "1.4.weight")

"""CIFAR-10 through ResNet18 into fully connected layers: test accuracy and condensation from common and from condensed initialisations.

The networks of the first figure of Zhou et al. 2022 (arXiv 2105.11686): the convolutions of ResNet18, then fully connected layers
1024-1024-10 with ReLU or x tanh x; cross-entropy, Adam, batches of 128. Here the convolutions are frozen, unless `--train-convolutions` is
given: then what they make of every image is computed once, and training takes seconds where it would take hours.

To run it, with torchvision, on the binary version of CIFAR-10 in the folder CIFAR:

    python examples/cifar10/cifar10.py CIFAR OUT

`make` and `make_whole` are the same networks for studies of kind "module": see frozen.toml and whole.toml beside this file.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import pandas as pd
import torch
import typer
from matplotlib import rc_context
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import leaves_list
from torch import Tensor, nn

from phasediag import InputError
from phasediag.condensation.activations import activation
from phasediag.condensation.clusters import Directions
from phasediag.condensation.figures import title_of
from phasediag.display.figures import DOUBLE_COLUMN, STYLE, new_figure
from phasediag.spec.data import Dataset, load_data
from phasediag.spec.tables import Cifar10Data

CLASSES, FEATURES, BATCH = 10, 512, 128
ACTIVATIONS = ("relu", "x_tanh")
Std = Callable[[int, int, int], float]
"""The standard deviation of a layer's weights, from its inputs, its outputs and the width m."""
INITIALISATIONS: dict[str, Std] = {
    "He": lambda inputs, outputs, width: math.sqrt(2 / inputs),
    "LeCun": lambda inputs, outputs, width: math.sqrt(1 / inputs),
    "Glorot": lambda inputs, outputs, width: math.sqrt(2 / (inputs + outputs)),
    "$m^{-1}$": lambda inputs, outputs, width: width**-1.0,
    "$m^{-1.25}$": lambda inputs, outputs, width: width**-1.25,
    "$m^{-1.5}$": lambda inputs, outputs, width: width**-1.5,
}
"""Three common ones, then three condensed ones."""


# Networks.


class Activation(nn.Module):
    """An activation of phasediag, by its name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = activation(name)

    def forward(self, z: Tensor) -> Tensor:
        """The activation of every number."""
        return self.function(z)


class Images(nn.Module):
    """Pixels (n, 3072) between 0 and 1 as images (n, 3, 32, 32) between -1 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """The images."""
        return 2.0 * x.reshape(-1, 3, 32, 32) - 1.0


def fully_connected(width: int, name: str, std: Std) -> nn.Sequential:
    """Fully connected layers m-m-10 on features (n, 512): weights N(0, std^2), no biases at the start."""
    layers = nn.Sequential(
        nn.Linear(FEATURES, width),
        Activation(name),
        nn.Linear(width, width),
        Activation(name),
        nn.Linear(width, CLASSES),
    )
    for layer in layers:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std(layer.in_features, layer.out_features, width))
            nn.init.zeros_(layer.bias)
    return layers


def convolutions(weights: Path | None = None) -> nn.Sequential:
    """The convolutions of ResNet18, from pixels (n, 3072) to features (n, 512), with these weights, or random ones (Glorot normal)."""
    from torchvision.models import resnet18

    network = resnet18()
    if weights is None:
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                nn.init.xavier_normal_(part.weight)
    else:
        network.load_state_dict(torch.load(weights, weights_only=True))
    network.fc = nn.Identity()
    return nn.Sequential(Images(), network)


def make(width: int, gamma: float, activation: str = "relu") -> nn.Module:
    """The fully connected layers for kind "module", on features (n, 512): all weights N(0, m^-2 gamma)."""
    return fully_connected(width, activation, lambda inputs, outputs, width: float(width) ** -gamma)


def make_whole(width: int, gamma: float, activation: str = "relu") -> nn.Module:
    """The whole network for kind "module", on pixels (n, 3072) between 0 and 1."""
    return nn.Sequential(convolutions(), make(width, gamma, activation))


# Training.


@torch.no_grad()
def features(network: nn.Module, train: Tensor, test: Tensor) -> tuple[Tensor, Tensor]:
    """Features of training and of test images, at zero mean and unit variance over the training images.

    The statistics of batch normalisation become those of the training images first, if the network has never seen any.
    """
    normalisations = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    if not any(part.num_batches_tracked for part in normalisations):
        for part in normalisations:
            part.momentum = None  # the mean over all batches
        for batch in train.split(BATCH):
            network.train()(batch)
    train, test = (torch.cat([network.eval()(batch) for batch in x.split(BATCH)]) for x in (train, test))
    scale = torch.where(train.std(dim=0) > 0, train.std(dim=0), 1.0)
    return (train - train.mean(dim=0)) / scale, (test - train.mean(dim=0)) / scale


def train(network: nn.Module, x: Tensor, y: Tensor, epochs: int, rate: float, seed: int) -> Iterator[int]:
    """Trains a network; yields 0, and the number of steps after each."""
    # With the usual eps of 1e-8, the gradients of small weights, often smaller, would move nothing.
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, eps=1e-20)
    draw, step = torch.Generator().manual_seed(seed), 0
    yield step
    for _ in range(epochs):
        network.train()
        for rows in torch.randperm(len(x), generator=draw).split(BATCH):
            loss = nn.functional.cross_entropy(network(x[rows]), y[rows])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            step += 1
            yield step


@torch.no_grad()
def accuracy(network: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of right classes."""
    network.eval()
    right = [
        network(some).argmax(dim=1) == labels
        for some, labels in zip(x.split(BATCH), y.split(BATCH), strict=True)
    ]
    return float(torch.cat(right).double().mean())


class Seen(NamedTuple):
    """The first fully connected layer at a step.

    Attributes:
        step: the number of steps before.
        directions: of the input weights, biases included.
        alignment: the mean of |D(u, v)| over pairs of active neurons, with D the inner product of normalised input weights.
    """

    step: int
    directions: Directions
    alignment: float

    @classmethod
    def of(cls, step: int, layer: nn.Linear) -> Seen:
        """What is seen of a layer."""
        weights = torch.cat([layer.weight, layer.bias[:, None]], dim=1).detach().cpu()
        directions = Directions.of(weights.numpy())
        active = len(directions.units)
        pairs = max(active * (active - 1), 1)
        return cls(step, directions, float((np.abs(directions.cosines).sum() - active) / pairs))


class Result(NamedTuple):
    """A trained network.

    Attributes:
        accuracy: of training and of test images.
        start: its first fully connected layer before training.
        strongest: the same where it was most condensed, at the steps 1, 2, 4, 8, ... that were looked at.
    """

    accuracy: tuple[float, float]
    start: Seen
    strongest: Seen


def result(network: nn.Module, first: nn.Linear, data: Points, epochs: int, rate: float, seed: int) -> Result:
    """Trains a network, and looks at its layer `first` as it is trained."""
    seen = [
        Seen.of(step, first)
        for step in train(network, data.x, data.y, epochs, rate, seed)
        if step & (step - 1) == 0
    ]
    shares = accuracy(network, data.x, data.y), accuracy(network, data.x_test, data.y_test)
    return Result(shares, seen[0], max(seen, key=lambda one: one.alignment))


class Points(NamedTuple):
    """Inputs (n, d) and labels (n,), of training and of test images."""

    x: Tensor
    y: Tensor
    x_test: Tensor
    y_test: Tensor

    @classmethod
    def of(cls, data: Dataset, device: str) -> Points:
        """The points of a data set on a device."""
        inputs, labels = (
            (torch.from_numpy(x) for x in pair) for pair in ((data.x, data.x_test), (data.y, data.y_test))
        )
        (x, x_test), (y, y_test) = (
            (part.float().to(device) for part in inputs),
            (part.long().to(device) for part in labels),
        )
        return cls(x, y, x_test, y_test)


# What comes out.


def table(results: dict[tuple[str, str], Result]) -> pd.DataFrame:
    """A row for every activation and initialisation."""
    rows = [
        {
            "activation": name,
            "initialisation": initialisation.strip("$").replace("{", "").replace("}", ""),
            "train_accuracy": found.accuracy[0],
            "test_accuracy": found.accuracy[1],
            "alignment_start": found.start.alignment,
            "alignment": found.strongest.alignment,
            "step": found.strongest.step,
        }
        for (name, initialisation), found in results.items()
    ]
    return pd.DataFrame(rows)


@rc_context(STYLE)
def heatmap(results: dict[tuple[str, str], Result]) -> Figure:
    """D(u, v) between the neurons of the first fully connected layer, where it is most condensed: a panel for every network."""
    figure, norm = new_figure(DOUBLE_COLUMN, 3.0), Normalize(-1.0, 1.0)
    axes = figure.subplots(len(ACTIVATIONS), len(INITIALISATIONS))
    for row, name in enumerate(ACTIVATIONS):
        for column, initialisation in enumerate(INITIALISATIONS):
            ax, seen = axes[row, column], results[name, initialisation].strongest
            order = leaves_list(seen.directions.orientation_tree)
            ax.imshow(seen.directions.cosines[np.ix_(order, order)], norm=norm, cmap="RdBu_r")
            ax.set(xticks=[], yticks=[])
            ax.set_xlabel(f"step {seen.step}: {seen.alignment:.2f}", fontsize=7.5, labelpad=2)
            if row == 0:
                ax.set_title(initialisation)
            if column == 0:
                ax.set_ylabel(title_of(name))
    bar = figure.colorbar(ScalarMappable(norm, "RdBu_r"), ax=axes.ravel().tolist(), aspect=30)
    bar.set_label("$D(u, v)$")
    figure.supxlabel(
        "neurons, similar ones side by side; below each: the step where the mean of $|D|$ is largest, and this mean",
        fontsize=8.5,
    )
    return figure


def main(
    cifar: Annotated[Path, typer.Argument(help="A folder with the binary version of CIFAR-10.")],
    out: Annotated[Path, typer.Argument(help="Where to write the table and the figure.")],
    samples: Annotated[int, typer.Option(help="Training images.")] = 50000,
    test_samples: Annotated[int, typer.Option(help="Test images.")] = 10000,
    width: Annotated[int, typer.Option(help="Neurons of a hidden layer, m.")] = 1024,
    epochs: Annotated[int, typer.Option(help="Passes over the training images.")] = 20,
    rate: Annotated[float, typer.Option(help="Learning rate of Adam.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Of images, weights and batches.")] = 0,
    weights: Annotated[
        Path | None,
        typer.Option(help="Weights of torchvision's ResNet18, a state dict; random ones unless given."),
    ] = None,
    train_convolutions: Annotated[
        bool, typer.Option(help="Train the whole network: hours on a CPU.")
    ] = False,
) -> None:
    """Trains 12 networks; writes accuracies.csv, heatmap.png and, of frozen convolutions, features.npz."""
    spec = Cifar10Data(
        kind="cifar10",
        path=str(cifar.absolute()),
        samples=samples,
        test_samples=test_samples,
        seed=seed,
        targets="class",
        standardize=False,
        divide_by=255.0,
    )
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = Points.of(load_data(spec, Path(), "cifar10.py"), device)
    out.mkdir(parents=True, exist_ok=True)
    if not train_convolutions:
        torch.manual_seed(seed)
        x, x_test = features(convolutions(weights).to(device), data.x, data.x_test)
        data = data._replace(x=x, x_test=x_test)
        np.savez(out / "features.npz", **{name: part.cpu().numpy() for name, part in data._asdict().items()})
    results = {}
    for name in ACTIVATIONS:
        for initialisation, std in INITIALISATIONS.items():
            torch.manual_seed(seed)
            layers = fully_connected(width, name, std)
            network = nn.Sequential(convolutions(weights), layers) if train_convolutions else layers
            found = result(network.to(device), layers[0], data, epochs, rate, seed)
            results[name, initialisation] = found
            print(f"{len(results)} of 12 networks trained", end="\r", file=sys.stderr, flush=True)
    rows = table(results)
    rows.to_csv(out / "accuracies.csv", index=False)
    print(rows.to_string(index=False, float_format="{:.3f}".format))
    heatmap(results).savefig(out / "heatmap.png", dpi=200)


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as error:
        raise SystemExit(f"error: {error}") from None

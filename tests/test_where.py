"""In which regime a module trains: verdicts of runs that are made by hand, of modules that are trained, and from the command line."""

from __future__ import annotations

import json
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.figure import Figure
from torch import nn
from typer.testing import CliRunner

from phasediag import InputError, measure
from phasediag.cli import app
from phasediag.modules import measures
from phasediag.modules.where.verdict import MOST_MORE, Measurement, Slope, settles
from phasediag.phase_diagram.fitting import fit

# Runs with exact slopes.

PATTERN = np.array([1.0, -1.0, 0.0])
"""Scatter of three seeds of a width: it cancels, so that a slope stays what it is however many widths there are."""


def runs(
    slopes: dict[str, float], widths: list[int], scatter: float = 0.0, repeat: int = 1, kernel: float = -0.5
) -> pd.DataFrame:
    """Relative changes m^S / 10 of each layer."""
    rows = []
    for layer, slope in slopes.items():
        for width in widths:
            for seed, off in enumerate(np.tile(PATTERN, repeat)):
                change = 0.1 * width**slope * math.exp(scatter * off)
                rows.append(
                    {
                        "layer": layer,
                        "depth": 0,
                        "width": width,
                        "neurons": width,
                        "gamma": 0.0,
                        "gamma_prime": 0.0,
                        "gamma_1": 0.0,
                        "seed": seed,
                        "relative_change": change,
                        "relative_change_spectral": change,
                        "kernel_change": 0.1 * width**kernel,
                        "status": "converged",
                    }
                )
    return pd.DataFrame(rows)


def measured(
    slopes: dict[str, float], widths: list[int], scatter: float = 0.0, repeat: int = 1
) -> Measurement:
    return Measurement(
        runs(slopes, widths, scatter, repeat),
        [*slopes],
        "by gd to 1 % of the loss of f = 0, 9 epochs at most",
        None,
    )


@pytest.mark.parametrize("widths", [[32, 64], [32, 64, 128], [32, 64, 128, 256, 512]])
@pytest.mark.parametrize("scatter", [0.0, 0.01])
def test_exact_powers_have_their_regime_in_words(widths: list[int], scatter: float) -> None:
    found = measured({"A": -0.5, "B": 0.4, "C": 0.0}, widths, scatter)
    lines = found.lines()
    head, lazy, condensed, critical, kernel = lines
    assert head.startswith(f"widths 32 to {widths[-1]}, 3 seeds, by gd to 1 %")
    assert ("at infinite width" in head) == (len(widths) >= 4)
    assert (
        lazy.startswith("A is lazy: S = -0.50, ")
        and "vanishes as the width grows" in lazy
        and lazy.endswith(" sure)")
    )
    assert condensed.startswith("B condenses: S = 0.40, ") and "grows with the width" in condensed
    assert critical.startswith("C is critical: S = 0.00, ") and critical.endswith(
        "(its relative change does not depend on the width)"
    )
    assert kernel.startswith("tangent kernel: the network approaches its linearisation")
    assert str(found) == repr(found) == "\n".join(found.lines())


@pytest.mark.parametrize(
    ("kernel", "words"), [(0.5, "is further from its linearisation, the wider"), (0.0, "stays as far from")]
)
def test_the_kernel_says_how_far_the_network_is_from_its_linearisation(kernel: float, words: str) -> None:
    found = Measurement(runs({"A": 0.0}, [32, 64, 128], kernel=kernel), ["A"], "by gd", None)
    assert words in list(found.lines())[-1]
    assert found.kernel.slope == pytest.approx(kernel, abs=1e-9)


def test_layers_are_a_frame_of_slopes_as_fitted() -> None:
    found = measured({"A": -0.5, "B": 0.1}, [32, 64, 128], 0.1)
    frame, fitted = found.layers.set_index("layer"), fit(found.runs).set_index("layer")
    assert list(frame.index) == ["A", "B"]
    for layer in "AB":
        for ours, theirs in (
            ("slope", "slope"),
            ("low", "slope_low"),
            ("high", "slope_high"),
            ("regime", "regime"),
            ("runs", "runs"),
        ):
            assert frame.loc[layer, ours] == fitted.loc[layer, theirs]
        assert frame.loc[layer, "slope_spectral"] == pytest.approx(frame.loc[layer, "slope"])
    assert frame["predicted_slope"].isna().all() and (frame["predicted_regime"] == "").all()
    assert frame.loc["A", "confidence"] > 0.999 > frame.loc["B", "confidence"] > 0.5


@pytest.mark.parametrize(
    ("slope", "sure"),
    [
        (Slope(1.0, 0.0, 2.0, "", 10**6), 0.975),
        (Slope(-1.0, -9.0, 0.0, "", 10**6), 0.975),
        (Slope(1.0, 0.0, 1.1, "", 3), 0.975),
        (Slope(2.0, 2.0, 2.0, "", 9), 1.0),
    ],
)
def test_an_interval_that_ends_at_zero_is_sure_to_975_in_1000(slope: Slope, sure: float) -> None:
    """Whatever the number of runs, and however long the other side is."""
    assert slope.confidence == pytest.approx(sure, abs=1e-6)


def test_confidence_is_the_share_of_right_signs() -> None:
    """Of slopes that are measured on random runs, against how often the sign is right when it claims nine in ten or so."""
    draw = np.random.default_rng(0)
    claimed, right = [], []
    x = np.repeat(np.log([32.0, 64.0, 128.0]), 2)
    from scipy import stats

    for _ in range(4000):
        true = draw.normal(0.0, 0.3)
        line = stats.linregress(x, true * x + 0.3 * draw.standard_normal(len(x)))
        half = stats.t.ppf(0.975, 4) * line.stderr
        confidence = Slope(line.slope, line.slope - half, line.slope + half, "", len(x)).confidence
        if 0.85 < confidence < 0.95:
            claimed.append(confidence)
            right.append(line.slope * true > 0)
    assert len(right) > 200 and np.mean(right) == pytest.approx(np.mean(claimed), abs=0.06)


@pytest.mark.parametrize(
    ("slope", "scatter"),
    [(0.1, 0.1), *[(slope, scatter) for slope in (0.1, -0.15, 0.25) for scatter in (0.2, 0.35, 0.6)]],
)
def test_as_many_widths_as_a_verdict_asks_for_settle_it(slope: float, scatter: float) -> None:
    """Not one less: the runs that it asks for are added, with the same scatter, and fitted."""
    widths = [32, 64, 128]
    before = measured({"A": slope}, widths, scatter)
    assert before.layers["regime"].iloc[0] == "undetermined"
    told = list(before.lines())[1]
    assert told.startswith("A is undetermined: S = ")

    def settled(more: int) -> bool:
        further = widths + [128 * 2**step for step in range(1, more + 1)]
        return bool(measured({"A": slope}, further, scatter).layers["regime"].iloc[0] != "undetermined")

    asked = [more for more in range(1, MOST_MORE + 1) if f"about {more} more width" in told]
    if asked:
        assert f"to {128 * 2 ** asked[0]:,}, would settle it" in told
        assert settled(asked[0]) and not settled(asked[0] - 1)
    else:
        assert not settled(MOST_MORE) and (
            "times as many seeds" in told or "far more widths or seeds" in told
        )


def test_what_would_take_too_many_widths_takes_seeds() -> None:
    found = measured({"A": 0.1}, [32, 64], 0.1)
    slope = Slope.of(fit(found.runs).iloc[0])
    told = settles(found.runs, slope)
    assert "would settle it" in told
    assert settles(found.runs.iloc[:3], slope) == ""


def test_runs_that_did_not_converge_are_told_and_left_out() -> None:
    frame = runs({"A": -0.5}, [32, 64, 128], 0.01)
    frame.loc[frame["seed"] == 2, "status"] = "evaluation_limit"
    found = Measurement(frame, ["A"], "by gd", None)
    assert found.layers["left_out"].tolist() == [3] and found.layers["runs"].tolist() == [6]
    assert list(found.lines())[-1].startswith(
        "left out: 3 of 9 networks, whose training did not end at this loss (3 at the limit of epochs)"
    )
    frame["status"] = "diverged"
    nothing = Measurement(frame, ["A"], "by gd", None)
    assert "A is undetermined: no slope, for lack of converged runs" in str(nothing)
    json.dumps(nothing.to_dict(), allow_nan=False)


def test_a_measurement_is_json_without_what_json_has_not() -> None:
    told = json.loads(
        json.dumps(measured({"A": -0.5, "B": 0.0}, [32, 64, 128], 0.1).to_dict(), allow_nan=False)
    )
    assert told["widths"] == [32, 64, 128] and told["location"] is None
    assert [row["layer"] for row in told["layers"]] == ["A", "B"] and told["layers"][0][
        "predicted_slope"
    ] is None
    assert set(told["kernel"]) == {"slope", "low", "high", "regime", "confidence"}
    assert told["verdict"][1].startswith("A is lazy")


@pytest.mark.parametrize("layers", [1, 3, 20])
def test_the_figure_shows_runs_lines_and_slopes(layers: int) -> None:
    slopes = {f"layers.{number}.weight": 0.1 * (number - 1) for number in range(layers)}
    found = measured(slopes, [32, 64, 128], 0.05)
    frame = found.runs
    frame.loc[(frame["width"] == 128) & (frame["seed"] == 0), "status"] = "evaluation_limit"
    figure = Measurement(frame, found.names, found.how, None).plot()
    assert isinstance(figure, Figure)
    left, right = figure.axes
    filled = [
        line for line in left.lines if line.get_fillstyle() == "full" and line.get_linestyle() == "None"
    ]
    hollow = [line for line in left.lines if line.get_fillstyle() == "none"]
    assert sum(len(line.get_xdata()) for line in filled) == 8 * layers
    assert sum(len(line.get_xdata()) for line in hollow) == layers
    assert left.get_xscale() == left.get_yscale() == "log" and (left.get_legend() is not None) == (
        layers <= 8
    )
    centres = sorted(float(bar.lines[0].get_xdata()[0]) for bar in right.containers)
    assert centres == pytest.approx(sorted(Measurement(frame, found.names, found.how, None).layers["slope"]))
    assert len(right.get_yticklabels()) <= 16


# Trained modules.

DRAW = np.random.default_rng(1)
X, Y = DRAW.standard_normal((6, 3)).astype(np.float32), DRAW.standard_normal(6)
QUICK: dict[str, Any] = {
    "widths": [8, 16, 32],
    "seeds": 2,
    "epochs": 60,
    "loss_tolerance": 0.3,
    "progress": False,
}


def mlp(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1))


def tanh(width: int) -> nn.Module:
    return nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 1))


def test_a_fully_connected_relu_network_is_on_the_map_and_others_are_not() -> None:
    found = measure(mlp, X, Y, **QUICK)
    assert found.names == ["0.weight", "2.weight"] and len(found.runs) == 3 * 2 * 2
    assert found.location is not None and found.location.depth == 2
    assert found.location.exponents.gamma == pytest.approx(0.5, abs=0.15)
    assert list(found.layers["on_map"]) == ["W1", "a"] and found.layers["predicted_slope"].notna().all()
    assert "0.weight is W1: the rule says linear" in str(found)
    assert measure(tanh, X, Y, **QUICK).location is None
    assert measure(mlp, X, Y, optimiser="adam", learning_rate=0.02, **QUICK).location is None


def test_an_optimiser_of_your_own_does_what_the_named_one_does() -> None:
    options = {**QUICK, "batch_size": 4, "epochs": 15}
    for name, kind in (("sgd", torch.optim.SGD), ("adam", torch.optim.Adam)):
        named = measure(tanh, X, Y, optimiser=name, learning_rate=0.03, **options)
        own = measure(
            tanh, X, Y, optimiser=lambda module, kind=kind: kind(module.parameters(), lr=0.03), **options
        )
        for column in ("relative_change", "loss_final", "kernel_change"):
            np.testing.assert_allclose(named.runs[column], own.runs[column], rtol=2e-4)
        assert (named.runs["evaluations"] == own.runs["evaluations"]).all()
        assert "by your own optimiser" in str(own)
    still = measure(
        tanh, X, Y, optimiser=lambda module: torch.optim.SGD(module.parameters(), lr=1e-9), **options
    )
    assert set(still.runs["status"]) == {"evaluation_limit"} and set(still.runs["evaluations"]) == {15}


class Strict(nn.Module):
    """Something that raises at numbers that are not finite."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not torch.isfinite(x).all():
            raise ValueError("numbers that are not finite")
        return x


def test_a_module_that_fails_in_training_is_one_message() -> None:
    options: dict[str, Any] = {**QUICK, "optimiser": "gd", "learning_rate": 1e30}
    with pytest.raises(InputError, match="the network cannot be trained: ValueError: numbers that are not"):
        measure(lambda width: nn.Sequential(*mlp(width), Strict()), X, Y, **options)


def test_networks_that_overflow_at_a_larger_width_are_told() -> None:
    def make(width: int) -> nn.Module:
        made = mlp(width)
        made[2].weight.data *= float(width) ** 22
        return made

    found = measure(make, X, Y, **{**QUICK, "widths": [4, 64]})
    assert set(found.runs.query("width == 64")["status"]) == {"diverged"}


def test_modules_that_change_their_input_leave_the_data() -> None:
    """Where an operation in place is not to be done for many at a time, and where it is."""
    for make in (
        lambda width: nn.Sequential(nn.ReLU(inplace=True), *tanh(width)),
        lambda width: nn.Sequential(nn.ReLU(inplace=True), nn.Dropout(0.1), *tanh(width)),
    ):
        x = torch.tensor(X)
        measure(make, x, Y, **QUICK)
        assert torch.equal(x, torch.tensor(X))


def test_complex_weights_and_views_are_refused() -> None:
    class Complex(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.inner = nn.Parameter(torch.randn(width, 3, dtype=torch.complex64))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return (x.to(torch.complex64) @ self.inner.T).abs().sum(dim=1)

    def tied(width: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(3, width), nn.Tanh(), nn.Linear(width, 3), nn.Linear(3, 1))
        made[2].weight = nn.Parameter(made[0].weight.detach().T)
        return made

    def parted(width: int) -> nn.Module:
        made, numbers = tanh(width), torch.randn(4 * width)
        made[0].weight = nn.Parameter(numbers[width:].reshape(width, 3))
        made[2].weight = nn.Parameter(numbers[:width].reshape(1, width))
        return made

    with pytest.raises(InputError, match="inner holds complex numbers; allowed: weights of real numbers"):
        measure(Complex, X, Y, **QUICK)
    with pytest.raises(InputError, match=r"0.weight and 2.weight are views of the same numbers; allowed"):
        measure(tied, X, Y, **QUICK)
    assert measure(parted, X, Y, **QUICK).names == ["0.weight", "2.weight"]


def test_learning_rates_may_be_a_function_of_the_width() -> None:
    asked: list[int] = []

    def rate(width: int) -> float:
        asked.append(width)
        return 0.4 / width

    found = measure(tanh, X, Y, optimiser="gd", learning_rate=rate, **{**QUICK, "epochs": 3})
    assert set(asked) == {8, 16, 32}
    times = found.runs.groupby("width")["time"].first()
    assert times.to_dict() == pytest.approx({width: 3 * 0.4 / width for width in (8, 16, 32)})


def test_tokens_and_classes_are_whole_numbers() -> None:
    def make(width: int, seed: int) -> nn.Module:
        return nn.Sequential(nn.Embedding(5, width), nn.Flatten(), nn.Linear(2 * width, 3))

    tokens = [[0, 1], [1, 2], [2, 3], [3, 4]]
    found = measure(make, tokens, [0, 1, 2, 1], x_test=[[4, 4]], y_test=[0], **QUICK)
    assert found.names == ["0.weight", "2.weight"] and found.runs["loss_initial"].between(0.5, 3).all()
    assert set(found.runs["test_error"]) <= {0.0, 1.0} and found.runs["test_loss"].gt(0).all()


def test_networks_of_double_precision_get_such_data() -> None:
    single = measure(lambda width: tanh(width), X, Y, **QUICK)
    double = measure(lambda width: tanh(width).double(), X, Y, **QUICK)
    for column in ("loss_final", "relative_change", "kernel_change"):
        np.testing.assert_allclose(single.runs[column], double.runs[column], rtol=1e-2)


def test_recurrent_layers_are_trained_without_warnings_of_torch() -> None:
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        measure(lambda width: Recurrent(width, 1), X, Y, **QUICK)
    assert not seen


def test_a_layer_that_is_lazy_in_one_norm_only_says_so() -> None:
    frame = runs({"hidden": -0.5, "out": -0.5}, [32, 64, 128])
    hidden = frame["layer"] == "hidden"
    frame.loc[hidden, "relative_change_spectral"] = 0.1
    lines = str(Measurement(frame, ["hidden", "out"], "by gd", None)).splitlines()
    assert "hidden is lazy" in lines[1] and "; in operator norm it is critical: S = 0.00" in lines[1]
    assert "out is lazy" in lines[2] and "operator" not in lines[2]
    frame.loc[hidden, "relative_change_spectral"] *= 1 + 0.5 * (-1.0) ** frame.loc[hidden, "seed"]
    assert "; in operator norm it is undetermined" in str(Measurement(frame, ["hidden"], "by gd", None))


def test_numbers_of_numpy_and_a_function_of_width_and_seed_are_taken() -> None:
    seen: set[tuple[int, int]] = set()

    def make(width: int, seed: int) -> nn.Module:
        seen.add((width, seed))
        return tanh(width)

    options = {
        **QUICK,
        "widths": np.array([8, 16]),
        "seeds": np.int64(2),
        "epochs": np.int64(3),
        "loss_tolerance": np.float32(0.3),
    }
    found = measure(
        make,
        torch.from_numpy(X),
        torch.from_numpy(Y),
        optimiser="sgd",
        learning_rate=np.float32(0.1),
        batch_size=np.int32(2),
        **options,
    )
    assert {(8, 0), (8, 1), (16, 0), (16, 1)} <= seen and len(found.runs) == 8
    assert set(measure(tanh, X, Y, **{**QUICK, "seeds": [3, 7]}).runs["seed"]) == {3, 7}


@pytest.mark.parametrize(
    ("change", "parts"),
    [
        ({"widths": [8]}, ["widths: [8] is not supported", "one width gives no slope"]),
        ({"widths": [16, 8]}, ["widths", "ascending"]),
        ({"widths": 8}, ["widths: 8 is not supported"]),
        ({"widths": [8, 16.5]}, ["widths"]),
        ({"seeds": 0}, ["seeds: 0 is not supported", "a number of seeds from 1"]),
        ({"seeds": [1, 1]}, ["seeds: [1, 1]"]),
        ({"seeds": 1.5}, ["seeds: 1.5"]),
        ({"seeds": [-1]}, ["seeds: [-1]"]),
        (
            {"optimiser": "sdg"},
            ["optimiser: 'sdg' is not supported; did you mean 'sgd'?", "or a function that takes a module"],
        ),
        ({"optimiser": "adam"}, ["learning_rate: required by adam, but missing"]),
        (
            {"optimiser": lambda module: 3},
            ["optimiser: TypeError: returns int", "returns a torch.optim.Optimizer"],
        ),
        ({"optimiser": lambda module: 1 / 0}, ["measure: optimiser: ZeroDivisionError"]),
        (
            {"optimiser": lambda module: torch.optim.SGD(mlp(4).parameters(), lr=0.1)},
            ["measure: optimiser: ValueError: returns an optimiser that has no parameter of the module"],
        ),
        (
            {"optimiser": lambda module: 3, "learning_rate": 0.1},
            ["learning_rate: is not supported with an optimiser of your own"],
        ),
        ({"learning_rate": 0}, ["learning_rate: 0 at width 8"]),
        ({"learning_rate": lambda width: -width}, ["learning_rate: -8 at width 8"]),
        (
            {"learning_rate": lambda width: 1 / 0},
            ["learning_rate: ZeroDivisionError: division by zero, at width 8"],
        ),
        ({"learning_rate": "fast"}, ["learning_rate: 'fast' at width 8"]),
        ({"epochs": 0}, ["epochs: 0 is not supported"]),
        ({"epochs": 2.5}, ["epochs: 2.5"]),
        ({"batch_size": -1}, ["batch_size: -1"]),
        ({"loss_tolerance": 1.0}, ["loss_tolerance: 1.0"]),
        ({"loss_tolerance": "small"}, ["loss_tolerance: 'small'"]),
        ({"loss": "hinge"}, ["loss: 'hinge' is not supported", "mse, cross-entropy"]),
        ({"loss": "cross-entropy"}, ["loss: cross-entropy is not supported with y of floating numbers"]),
        (
            {"y": [0, 1, 0, 1, 0, 1], "loss": "mse"},
            ["loss: mse is not supported with y of whole numbers, which are classes"],
        ),
        ({"y": [0, 1, 2, 0, 1, 2]}, ["returns 1 number for 3 classes"]),
        ({"y": [0.0] * 6}, ["y: is zero everywhere"]),
        ({"y": [0, -1, 0, 0, 0, 0]}, ["y: holds the class -1"]),
        ({"y": [1.0] * 5}, ["x (6, 3) and y (5,) do not agree"]),
        ({"y": ["a"] * 6}, ["y: is <U1; allowed: numbers"]),
        ({"y": [math.nan] * 6}, ["y: some numbers are not finite"]),
        ({"x": np.zeros((6, 4))}, ["cannot be evaluated on x (6, 4)"]),
        ({"x": np.zeros((6, 3), complex)}, ["x: is complex128"]),
        ({"x_test": X[:2]}, ["x_test and y_test belong together"]),
        ({"x_test": X[:2], "y_test": Y[:2]}, ["2 of 2 test points are training points"]),
        ({"x_test": [[1.0]], "y_test": [1.0]}, ["are not like x (6, 3)"]),
        ({"x_test": X[:2] + 1, "y_test": [1, 0]}, ["y of torch.int64", "are not like"]),
        ({"make": lambda width: 3}, ["width = 8, seed = 0: is of type int"]),
        ({"make": lambda width: nn.Linear(3, 1)}, ["ignores the width"]),
        (
            {"make": lambda width: nn.Sequential(nn.LazyLinear(width), nn.Linear(width, 1))},
            [
                "width = 8, seed = 0: 0.weight has no shape before the first input",
                "Linear in the place of LazyLinear",
            ],
        ),
        ({"make": lambda width: tanh(width).to("meta")}, ["width = 8, seed = 0: NotImplementedError"]),
        ({"make": mlp(4)}, ["allowed: a function that returns a torch.nn.Module"]),
    ],
)
def test_every_mistake_has_its_message(change: dict[str, Any], parts: list[str]) -> None:
    arguments = {"make": tanh, "x": X, "y": Y, **QUICK, **change}
    with pytest.raises(InputError) as caught:
        measure(arguments.pop("make"), arguments.pop("x"), arguments.pop("y"), **arguments)
    message = str(caught.value)
    assert "\n" not in message and "allowed: " in message and all(part in message for part in parts), message


# What is measured.


def jacobian(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """Gradients (n, outputs, weights), an output of a point at a time."""
    rows = []
    for point in x:
        for output in module(point[None]).flatten():
            parts = torch.autograd.grad(
                output, list(module.parameters()), retain_graph=True, allow_unused=True
            )
            found = [
                torch.zeros_like(w) if g is None else g
                for g, w in zip(parts, module.parameters(), strict=True)
            ]
            rows.append(torch.cat([part.flatten() for part in found]).double())
    return torch.stack(rows).reshape(len(x), -1, sum(part.numel() for part in module.parameters()))


class Recurrent(nn.Module):
    def __init__(self, width: int = 3, outputs: int = 2) -> None:
        super().__init__()
        self.inside, self.readout = nn.GRU(1, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.readout(self.inside(x[:, :, None])[0][:, -1])
        return found


class Gain(nn.Module):
    """A layer with a parameter of no dimension, and one that nothing depends on."""

    def __init__(self) -> None:
        super().__init__()
        self.gain, self.idle = nn.Parameter(torch.tensor(1.5)), nn.Parameter(torch.ones(2, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.gain * x


@pytest.mark.parametrize(
    ("module", "n"),
    [
        (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 1), nn.Flatten(0)), 4),
        (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2), Gain()), 4),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 4)), 6),
        (nn.Sequential(nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)), 50),
        (nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 14)), 5),
        (
            nn.Sequential(
                nn.Unflatten(1, (1, 3)), nn.Conv1d(1, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)
            ),
            5,
        ),
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1)), 5),
        (Recurrent(), 4),
    ],
)
def test_the_kernel_is_that_of_jacobians_by_hand(module: nn.Module, n: int) -> None:
    """Of at most 32 points and 10 outputs, at even distances, in evaluation mode."""
    torch.manual_seed(0)
    x = torch.randn(n, 3)
    some = np.unique(np.linspace(0, n - 1, min(n, 32)).round().astype(int))
    rows = jacobian(module.eval(), x[some])
    outputs = np.unique(np.linspace(0, rows.shape[1] - 1, min(rows.shape[1], 10)).round().astype(int))
    expected = sum(rows[:, o] @ rows[:, o].T for o in outputs)
    found = measures.kernel(module.train(), dict(module.named_parameters()), dict(module.named_buffers()), x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert module.training, "as it was before"
    assert measures.kernel_change(found, 3 * found) == pytest.approx(2.0)


def test_layers_are_measured_as_matrices() -> None:
    module = nn.Sequential(nn.Conv2d(2, 6, 3), nn.Flatten(), nn.Linear(6, 1, bias=False))
    start = {name: part.detach() for name, part in module.named_parameters()}
    torch.manual_seed(1)
    end = {name: part + 0.1 * torch.randn(part.shape) for name, part in start.items()}
    found = measures.measured(module, start, end, 0)
    assert list(found) == ["0.weight", "2.weight"], "biases are no layers"
    for name, layer in found.items():
        a, b = (part[name].reshape(len(part[name]), -1).double().numpy() for part in (start, end))
        values = [np.linalg.svd(one, compute_uv=False) for one in (a, b, b - a)]
        assert layer.relative_change == pytest.approx(np.linalg.norm(b - a) / np.linalg.norm(a))
        assert layer.relative_change_spectral == pytest.approx(values[2][0] / values[0][0])
        assert layer.effective_rank == pytest.approx((values[1] ** 2).sum() / values[1][0] ** 2)
        assert layer.effective_rank_change == pytest.approx((values[2] ** 2).sum() / values[2][0] ** 2)
        assert (layer.norm_initial, layer.norm_final) == pytest.approx((np.linalg.norm(a), np.linalg.norm(b)))
    assert 1 <= found["0.weight"].orientations <= 6 and math.isnan(found["2.weight"].orientations)
    same = measures.measured(module, start, start, 0)["0.weight"]
    assert same.relative_change == 0.0 and math.isnan(same.effective_rank_change)


def test_errors_are_shares_of_wrong_classes_and_relative_lengths() -> None:
    from phasediag.modules.data import error_of

    scores = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 2.0], [1.0, 0.0, 0.0]])
    assert error_of(scores, torch.tensor([0, 2, 0, 1]), "cross-entropy") == 0.5
    assert error_of(torch.tensor([[3.0], [0.0]]), torch.tensor([3.0, 4.0]), "mse") == pytest.approx(0.8)
    assert math.isnan(error_of(torch.ones(2), torch.zeros(2), "mse"))


# The command.

MODELS = """
import numpy as np
import torch
from torch import nn

def make(width):
    return nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 1))

def tokens(width, seed):
    return nn.Sequential(nn.Embedding(5, width), nn.Flatten(), nn.Linear(2 * width, 3))

def images(width):
    return nn.Sequential(nn.Linear(64, width), nn.ReLU(), nn.Linear(width, 10))

def pixels(width):
    return nn.Sequential(nn.Unflatten(1, (1, 8, 8)), nn.Conv2d(1, width, 3, stride=3), nn.Flatten(), nn.Linear(4 * width, 1))

def data():
    return [[0, 1], [1, 2], [2, 3]], [0, 1, 2], [[4, 4]], [1]

def three():
    return 1, 2, 3

def broken():
    raise ValueError("no data")

def optimiser(module):
    return torch.optim.SGD(module.parameters(), lr=0.05)
"""
FEW = ("--width", "4,8", "--width", "16", "--seeds", "2", "--epochs", "30", "--loss-tolerance", "0.5")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "where_models.py").write_text(MODELS)
    monkeypatch.chdir(tmp_path)
    table = pd.DataFrame(X, columns=["x1", "x2", "x3"]).assign(y=Y)
    table.to_csv("points.csv", index=False)
    table.to_parquet("points.parquet")
    np.savez("points.npz", x=X, y=Y)
    return tmp_path


def where(*arguments: str) -> Any:
    return CliRunner().invoke(app, ["where", *arguments])


@pytest.mark.parametrize(
    ("model", "more", "layers"),
    [
        ("make", [], ["0.weight", "2.weight"]),
        ("make", ["--data", "points.csv"], ["0.weight", "2.weight"]),
        (
            "make",
            ["--data", "points.parquet", "--optimiser", "adam", "--learning-rate", "0.05"],
            ["0.weight", "2.weight"],
        ),
        ("make", ["--data", "points.npz", "--optimiser", "where_models:optimiser"], ["0.weight", "2.weight"]),
        ("tokens", ["--data", "where_models:data"], ["0.weight", "2.weight"]),
    ],
)
def test_the_command_says_what_the_function_says(
    folder: Path, model: str, more: list[str], layers: list[str]
) -> None:
    answer = where(f"where_models:{model}", *FEW, *more, "--json", "--figure", "where.png")
    assert answer.exit_code == 0, answer.output
    told = json.loads(answer.stdout)
    assert told["widths"] == [4, 8, 16] and [row["layer"] for row in told["layers"]] == layers
    assert (folder / "where.png").read_bytes().startswith(b"\x89PNG")
    assert ("16 random points of 3 inputs" in answer.stderr) == (not more)


def test_the_command_prints_the_verdict(folder: Path) -> None:
    answer = where("where_models:make", *FEW, "--data", "points.csv")
    assert answer.exit_code == 0 and answer.stdout.startswith(
        "widths 4 to 16, 2 seeds, by gd to 50 % of the loss of f = 0"
    )
    assert "on the map of fully connected ReLU networks: gamma = " in answer.stdout


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (
            ["where_model:make"],
            ["where: where_model:make: ModuleNotFoundError", "did you mean 'where_models'?"],
        ),
        (["where_models:mak"], ["did you mean 'make'?"]),
        (
            ["where_models:make", "--width", "4"],
            ["where: --width: [4] is not supported", "one width gives no slope"],
        ),
        (["where_models:make", "--width", "4,x"], ["where: --width: 'x' is not supported"]),
        (["where_models:make", "--seeds", "0"], ["where: --seeds: 0"]),
        (["where_models:make", "--optimiser", "adam"], ["where: --learning-rate: required by adam"]),
        (
            ["where_models:make", "--optimiser", "no:such"],
            ["where: --optimiser: no:such: ModuleNotFoundError"],
        ),
        (["where_models:make", "--learning-rate", "-1"], ["where: --learning-rate: -1.0 at width 64"]),
        (["where_models:make", "--epochs", "0"], ["where: --epochs: 0"]),
        (["where_models:make", "--batch-size", "0"], ["where: --batch-size: 0"]),
        (["where_models:make", "--loss-tolerance", "2"], ["where: --loss-tolerance: 2.0"]),
        (
            ["where_models:make", "--data", "no.csv"],
            ["where: --data: 'no.csv' is no file", "allowed: a .csv, .parquet or .npz file, digits"],
        ),
        (
            ["where_models:make", "--data", "where_models:broken"],
            ["--data: where_models:broken: ValueError: no data"],
        ),
        (
            ["where_models:make", "--data", "where_models:three"],
            ["--data: where_models:three: returns 3 parts"],
        ),
        (
            ["where_models:make", "--data", "where_models:data"],
            ["where: where_models:make: cannot be evaluated on x (3, 2)"],
        ),
        (
            ["where_models:pixels"],
            ["where: --data: missing, and the inputs of a first layer of shape (64, 1, 3, 3) are not known"],
        ),
        (
            ["where_models:make", "--figure", "x.txt"],
            ["x.txt: is not supported; allowed: a name that ends in one of .png"],
        ),
    ],
)
def test_mistakes_of_the_command_end_with_2_and_one_line(
    folder: Path, arguments: list[str], parts: list[str]
) -> None:
    before = sorted(folder.iterdir())
    answer = where(*arguments)
    assert answer.exit_code == 2 and answer.stdout == ""
    message = answer.stderr or str(answer.exception)
    assert all(part in message for part in parts), message
    assert sorted(path for path in folder.iterdir() if path.name != "__pycache__") == before


# What modules do beside returning numbers.


class Saying(nn.Module):
    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        print(self.said)
        return x


def test_what_a_module_prints_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    measure(lambda width: nn.Sequential(*mlp(width), Saying("here")), X, Y, **{**QUICK, "epochs": 2})
    printed = capsys.readouterr()
    assert "here" in printed.err and printed.out == ""


def test_a_module_that_exits_is_one_message() -> None:
    class Leaving(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.inside, self.width = mlp(width), width

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if self.width == 32:
                raise SystemExit(0)
            return self.inside(x)

    with pytest.raises(InputError, match="SystemExit"):
        measure(Leaving, X, Y, **QUICK)


def test_test_points_are_tried_before_training() -> None:
    def make(width: int) -> nn.Module:
        made = nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 3))
        made.register_forward_hook(lambda *_: called.append(width))
        return made

    called: list[int] = []
    with pytest.raises(InputError, match="measure: test points: returns 3 numbers for 6 classes; allowed"):
        measure(make, X, [0, 1, 2, 0, 1, 2], x_test=X + 1, y_test=[0, 1, 2, 5, 1, 0], **QUICK)
    with pytest.raises(InputError, match=r"measure: test points: the network returns .* for targets"):
        measure(mlp, X, Y, x_test=X + 1, y_test=np.ones((6, 2)), **QUICK)
    assert len(called) < 5


def test_rows_of_different_lengths_and_sparse_inputs() -> None:
    with pytest.raises(InputError, match="measure: x: has rows of different lengths; allowed: an array"):
        measure(mlp, [[1.0, 2.0], [3.0]], [1.0, 2.0], **QUICK)
    dense, sparse = (measure(mlp, x, Y, **QUICK) for x in (torch.tensor(X), torch.tensor(X).to_sparse()))
    assert str(dense) == str(sparse)


def test_a_kernel_that_does_not_change_is_told() -> None:
    def make(width: int) -> nn.Module:
        made = tanh(width)
        made[0].requires_grad_(False)
        return made

    found = measure(make, X, Y, **QUICK)
    assert "tangent kernel: does not change: the network is linear in all weights that train" in str(found)
    assert (found.runs["linear_gap"] == 0).all()


def test_a_layer_that_never_moves_is_not_said_to_lack_converged_runs() -> None:
    frame = runs({"A": 0.5}, [32, 64, 128])
    frame["relative_change"] = 0.0
    [line] = [line for line in Measurement(frame, ["A"], "by gd", None).lines() if line.startswith("A is")]
    assert "for lack of relative changes that are numbers above 0, at two widths" in line
    frame["status"] = "stalled"
    [line] = [line for line in Measurement(frame, ["A"], "by gd", None).lines() if line.startswith("A is")]
    assert "for lack of converged runs at two widths" in line

"""The public functions that draw frames: what they draw is what the frames hold, and what they lack is named."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.collections import QuadMesh
from matplotlib.figure import Figure
from test_figures import DATA, GRID, legend_labels, make_deeper_runs, make_runs, make_samples

import phasediag
from phasediag.errors import InputError
from phasediag.phase_diagram import fitting
from phasediag.phase_diagram.figures import examples, maps


@pytest.fixture(scope="module")
def runs():
    return make_runs(GRID)


@pytest.fixture(scope="module")
def slopes(runs):
    return phasediag.fit(runs)


@pytest.fixture
def ax():
    return Figure(layout="constrained").subplots()


def cells(ax):
    """The numbers of the cells of a map, a row for each gamma'."""
    (mesh,) = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    return np.asarray(mesh.get_array(), float)


def table(slopes, column, layer="W1"):
    of_layer = slopes.loc[slopes["layer"] == layer]
    return of_layer.pivot(index="gamma_prime", columns="gamma", values=column).to_numpy(float)


@pytest.mark.parametrize("column", ["slope", "predicted_slope", "left_out", "slope_high", "mine", "flag"])
def test_any_column_of_numbers_makes_a_map(slopes, ax, column):
    slopes = slopes.assign(mine=slopes["gamma"] - 3 * slopes["gamma_prime"], flag=slopes["gamma"] > 1)
    assert phasediag.plot_map(slopes, ax=ax, column=column, layer="a") is ax
    np.testing.assert_array_equal(cells(ax), table(slopes, column, "a"))
    [bar] = [one for one in ax.figure.axes if one is not ax]
    assert column == "slope" or bar.get_ylabel().replace("$", "") == f"{column} of a"
    assert "predicted" in legend_labels(ax)
    ax.figure.draw_without_rendering()


def test_colours_of_slopes_are_centred_on_zero_and_those_of_others_span_their_numbers(slopes):
    for column, ends in (("predicted_slope", None), ("gamma", (0.5, 2.0))):
        ax = Figure().subplots()
        phasediag.plot_map(slopes, ax=ax, column=column)
        low, high = next(one for one in ax.collections if isinstance(one, QuadMesh)).get_clim()
        assert (low, high) == ends if ends else low == -high


def test_what_has_no_number_is_hatched(slopes, ax):
    phasediag.plot_map(slopes.assign(mine=slopes["gamma"].where(slopes["gamma"] > 0.5)), ax=ax, column="mine")
    assert "no number" in legend_labels(ax)


def test_regimes_are_those_of_the_frame(slopes, ax):
    assert phasediag.plot_regimes(slopes, "a", ax) is ax
    codes = slopes.assign(code=slopes["regime"].map(fitting.REGIMES.index))
    np.testing.assert_array_equal(cells(ax), table(codes, "code", "a"))


def test_regimes_of_two_layers_are_in_one_map(ax):
    slopes = phasediag.fit(make_deeper_runs())
    phasediag.plot_regimes(slopes, None, ax)
    first, second = (
        table(slopes.assign(yes=slopes["regime"] == "condensed"), "yes", one) for one in ("W1", "W2")
    )
    both = list(maps.COMBINED_COLOURS).index("both condensed")
    np.testing.assert_array_equal(cells(ax) == both, (first * second) > 0)


def test_scaling_at_chosen_points_shows_their_runs_and_slopes(runs, slopes, ax):
    points = [(1.5, 0.5), (0.75, 0), (0.5, -0.5)]
    assert phasediag.plot_scaling(runs, points, ax=ax) is ax
    labels = legend_labels(ax)
    assert [label.split(": $")[1].split("$")[0] for label in labels] == [
        rf"\gamma={gamma:g},\ \gamma'={gamma_prime:g}" for gamma, gamma_prime in points
    ]
    for number, point in enumerate(points):
        here = f"layer == 'W1' and gamma == {point[0]} and gamma_prime == {point[1]}"
        there = runs.query(here)
        _, used, line = ax.lines[3 * number : 3 * number + 3]
        np.testing.assert_array_equal(used.get_xydata(), there[["width", "relative_change"]])
        [slope] = slopes.query(here)["slope"]
        x, y = np.log(line.get_data())
        assert np.diff(y) / np.diff(x) == pytest.approx([slope])
    looks = {
        (ax.lines[3 * number + 1].get_color(), ax.lines[3 * number + 1].get_marker()) for number in range(3)
    }
    assert len(looks) == 3, "two linear points look different"


def test_scaling_without_points_is_the_figure_of_the_folder(runs, slopes, ax):
    phasediag.plot_scaling(runs, layer="a", ax=ax, slopes=slopes)
    [drawn] = examples.scaling(runs, slopes, "a").axes
    assert legend_labels(ax) == legend_labels(drawn)
    for one, other in zip(ax.lines, drawn.lines, strict=True):
        np.testing.assert_array_equal(one.get_xydata(), other.get_xydata())


def test_scaling_needs_the_columns_of_a_fit_and_no_more(runs, ax):
    own = runs[["depth", "layer", "gamma", "gamma_prime", "gamma_1", "width", "relative_change", "status"]]
    phasediag.plot_scaling(own, [(1.5, 0.5)], ax=ax)
    assert len(ax.lines[1].get_xdata()) == 6


def test_functions_are_those_of_the_kept_networks_at_these_points():
    samples, axes = make_samples(), Figure().subplots(1, 2)
    drawn = phasediag.plot_functions(samples, DATA, [(1.75, 0.0), (0.5, 0.0)], axes)
    assert drawn == list(axes)
    before, after, data = axes[0].lines
    np.testing.assert_array_equal(before.get_ydata(), samples.loc[2, "f_initial"])
    np.testing.assert_array_equal(after.get_xydata().T, samples.loc[2, ["x", "f_final"]].tolist())
    np.testing.assert_array_equal(data.get_xydata(), np.column_stack([DATA["x"], DATA["y"]]))
    assert [ax.get_title().split(":")[0] for ax in axes] == [
        f"$W_1$ {regime} (predicted)" for regime in ("condensed", "linear")
    ]
    assert legend_labels(axes[0]) == ["before", "after training", "data"]
    [one] = phasediag.plot_functions(samples, points=[(1.0, 0.0)], axes=[Figure().subplots()])
    assert len(one.lines) == 2, "no data, no dots"


def test_features_are_those_of_the_kept_networks_at_these_points():
    samples, ax = make_samples(), Figure().subplots()
    assert phasediag.plot_features(samples, points=[(1.75, 0.0)], axes=[ax]) == [ax]
    weights = np.stack(samples.loc[2, "input_final"])
    orientation = np.where(weights[:, 1] < 0, -1, 1) * np.arccos(
        weights[:, 0] / np.linalg.norm(weights, axis=1)
    )
    _, after = ax.collections
    drawn = np.column_stack([orientation, np.linalg.norm(weights, axis=1)])
    np.testing.assert_allclose(after.get_offsets(), drawn, rtol=1e-4)


def test_without_axes_there_is_a_figure_of_pyplot_with_the_look_of_the_folder(runs, slopes):
    before = dict(matplotlib.rcParams)
    samples = make_samples()
    calls = (
        lambda: phasediag.plot_regimes(slopes),
        lambda: phasediag.plot_scaling(runs, slopes=slopes),
        lambda: phasediag.plot_functions(samples, DATA)[0],
        lambda: phasediag.plot_features(samples)[0],
    )
    for call, figure in zip(
        calls,
        (
            maps.regime_map(slopes, "W1"),
            examples.scaling(runs, slopes, "W1"),
            examples.functions(samples, DATA),
            examples.features(samples, "W1"),
        ),
        strict=True,
    ):
        drawn = call().figure
        assert drawn.number in pyplot.get_fignums()
        assert tuple(drawn.get_size_inches()) == tuple(figure.get_size_inches())
        assert len(drawn.axes) == len(figure.axes)
        pyplot.close(drawn)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda f: phasediag.plot_regimes(f.drop(columns="regime")),
            "slopes: missing columns regime; needed: depth, .*regime",
        ),
        (
            lambda f: phasediag.plot_map(f, column="nothing"),
            "column: 'nothing' is not in slopes; allowed: slope, slope_low, ",
        ),
        (
            lambda f: phasediag.plot_map(f, column="slop"),
            "column: 'slop' is not in slopes; did you mean 'slope'[?] allowed: slope, ",
        ),
        (
            lambda f: phasediag.critical_line(f, "W1", "slop"),
            "column: 'slop' is not supported; did you mean 'slope'[?] allowed: slope, slope_infinite",
        ),
        (
            lambda f: phasediag.critical_line(f.drop(columns="slope_low"), "W1"),
            "slopes: missing columns slope_low; ",
        ),
        (lambda f: phasediag.plot_map({}), "slopes: a dict is not supported; allowed: a pandas.DataFrame"),
        (lambda f: phasediag.plot_scaling(f), "runs: missing columns width, relative_change; .*needed"),
        (
            lambda f: phasediag.plot_scaling(make_runs(GRID), slopes=f[["depth"]]),
            "slopes: missing columns layer, gamma, ",
        ),
        (
            lambda f: phasediag.plot_functions(f),
            "samples: missing columns width, seed, x, f_initial, f_final; .*needed",
        ),
        (
            lambda f: phasediag.plot_features(f),
            "samples: missing columns width, seed, input_initial, input_final; .*needed",
        ),
        (
            lambda f: phasediag.plot_functions(make_samples(d=2)),
            "samples: x is empty.*allowed: networks of one input",
        ),
        (lambda f: phasediag.plot_features(make_samples().iloc[:0]), "samples: holds no network"),
        (lambda f: phasediag.plot_features(make_samples(), "W7"), "layer: 'W7' has no rows; allowed: W1"),
        (
            lambda f: phasediag.plot_features(make_samples(), axes=Figure().subplots(1, 2)),
            "axes: 2 for 3 points",
        ),
        (
            lambda f: phasediag.plot_scaling(make_runs(GRID), [(1.5, 0.6)]),
            "points: 1.5,0.6 is not in the study; allowed: its points, the nearest 1.5,0.5",
        ),
        (
            lambda f: phasediag.plot_scaling(make_runs(GRID), []),
            "points: 0 are not supported; allowed: 1 to 7",
        ),
        (
            lambda f: phasediag.plot_scaling(make_runs(GRID), GRID[:8]),
            "points: 8 are not supported; allowed: 1 to 7",
        ),
        (
            lambda f: phasediag.plot_scaling(make_runs(GRID), [1.5, 0]),
            r"points: 1.5 is not supported; allowed: two numbers",
        ),
        (
            lambda f: phasediag.plot_scaling(make_runs(GRID), [(1.5, np.nan)]),
            r"points: \(1.5, nan\) is not supported",
        ),
    ],
)
def test_what_is_missing_is_named(slopes, call, said):
    before = pyplot.get_fignums()  # what other tests have left open
    with pytest.raises(InputError, match=said):
        call(slopes)
    assert pyplot.get_fignums() == before, "nothing was opened"


def test_rows_of_several_planes_are_refused(slopes):
    several = pd.concat([slopes, slopes.assign(gamma_1=0.5)])
    for call in (phasediag.plot_map, phasediag.plot_regimes):
        with pytest.raises(InputError, match="rows of 2 planes"):
            call(several)


def test_seven_points_of_one_regime_can_be_told_apart(runs, ax):
    linear = [point for point in GRID if point[0] == 0.5]
    phasediag.plot_scaling(runs, linear, ax=ax)
    used = ax.lines[1::3]
    assert len({(line.get_color(), line.get_marker()) for line in used}) == len(linear) == 7

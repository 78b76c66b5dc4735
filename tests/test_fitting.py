"""Slopes, their intervals, regimes and the critical line, on runs whose true slopes are known."""

from __future__ import annotations

import math
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from waiting import PATIENCE

from phasediag.errors import InputError
from phasediag.phase_diagram import fitting
from phasediag.phase_diagram.columns import SLOPES
from phasediag.phase_diagram.figures import maps

WIDTHS = (100, 300, 1000, 3000, 10000)


def make_runs(slopes, widths=WIDTHS, seeds=3, noise=0.0, layer="W1", generator=None):
    """Runs with RD = 2 m^S exp(noise * normal) at the points of ``slopes``, a dict (gamma, gamma') -> S."""
    generator = generator or np.random.default_rng(1)
    runs = pd.DataFrame(
        [
            (layer, gamma, gamma_prime, width, seed, slope)
            for (gamma, gamma_prime), slope in slopes.items()
            for width in widths
            for seed in range(seeds)
        ],
        columns=["layer", "gamma", "gamma_prime", "width", "seed", "true"],
    )
    change = 2.0 * runs["width"] ** runs.pop("true") * np.exp(noise * generator.normal(size=len(runs)))
    return runs.assign(depth=2, gamma_1=0.0, relative_change=change, status="converged")


def interval_row(low, high, infinite=(np.nan, np.nan)):
    return {
        "slope_low": low,
        "slope_high": high,
        "slope_infinite_low": infinite[0],
        "slope_infinite_high": infinite[1],
    }


def test_recovers_exact_slopes():
    true = {(0.5, 0.0): -0.5, (1.0, 0.0): 0.0, (1.5, -0.3): 0.4}
    slopes = fitting.fit(make_runs(true))
    assert list(slopes.columns) == SLOPES.names
    assert slopes["slope"].to_numpy() == pytest.approx(list(true.values()), abs=1e-12)
    assert list(slopes["regime"]) == ["linear", "critical", "condensed"]
    assert list(slopes["predicted_regime"]) == ["linear", "critical", "condensed"]
    assert slopes[["widths", "runs", "left_out"]].to_numpy().tolist() == [[5, 15, 0]] * 3
    assert slopes["slope_infinite"].to_numpy() == pytest.approx(list(true.values()), abs=1e-3)


def test_agrees_with_an_independent_fit():
    from scipy.stats import linregress, t

    runs = make_runs({(1.2, 0.1): 0.05}, noise=0.3)
    row = fitting.fit(runs).iloc[0]
    line = linregress(np.log(runs["width"]), np.log(runs["relative_change"]))
    half_width = t.ppf(0.975, len(runs) - 2) * line.stderr
    expected = [line.slope, line.slope - half_width, line.slope + half_width]
    assert row[["slope", "slope_low", "slope_high"]].tolist() == pytest.approx(expected, rel=1e-10)


def test_interval_covers_the_true_slope_at_its_level():
    points = {(float(i), 0.0): 0.3 for i in range(4000)}
    slopes = fitting.fit(make_runs(points, widths=(100, 1000, 10000), seeds=2, noise=0.2))
    covered = ((slopes["slope_low"] <= 0.3) & (slopes["slope_high"] >= 0.3)).mean()
    assert covered == pytest.approx(0.95, abs=0.014)  # four standard errors


def test_the_operator_norm_is_fitted_and_predicted():
    """W2 of three layers on gamma' = 0: critical at 3 in the Frobenius norm, at 3/2 in the operator norm."""
    runs = make_runs({(g, 0.0): g - 1.5 for g in (1.0, 2.0)}, layer="W2").assign(depth=3)
    runs = runs.rename(columns={"relative_change": "relative_change_spectral"}).assign(relative_change=1.0)
    slopes = fitting.fit(runs, measure="relative_change_spectral")
    assert slopes["slope"].tolist() == pytest.approx([-0.5, 0.5])
    assert slopes["predicted_slope"].tolist() == pytest.approx([-0.5, 1 / 6])
    assert slopes["predicted_regime"].tolist() == ["linear", "condensed"]
    line = fitting.critical_line(slopes, "W2")
    assert line[["gamma", "predicted", "distance"]].to_numpy().tolist() == [pytest.approx([1.5, 1.5, 0.0])]


def measured_runs(slopes, measure, layers=("W1", "a"), **options):
    """Runs of which a measure of the whole network has these slopes, the same number in the rows of all layers."""
    runs = make_runs(slopes, **options).rename(columns={"relative_change": measure})
    return pd.concat([runs.assign(layer=layer, relative_change=1.0) for layer in layers], ignore_index=True)


def test_a_measure_of_the_network_is_fitted_once_for_all_layers():
    true = {(0.5, 0.0): -0.5, (1.0, 0.0): 0.0, (1.5, -0.3): 0.4}
    runs = measured_runs(true, "kernel_change", noise=0.01)
    slopes = fitting.fit(runs, measure="kernel_change")
    assert slopes.columns.tolist() == ["measure", *SLOPES.names]
    assert slopes["measure"].tolist() == ["kernel_change"] * 3
    assert slopes["layer"].tolist() == ["network"] * 3
    assert slopes["runs"].tolist() == [15] * 3
    assert slopes["slope"].to_numpy() == pytest.approx(list(true.values()), abs=0.01)
    assert slopes["regime"].tolist() == ["linear", "critical", "condensed"]
    assert slopes["predicted_slope"].isna().all()
    assert slopes["predicted_regime"].tolist() == [""] * 3
    only = fitting.fit(runs.query("layer == 'a'"), measure="kernel_change")
    pd.testing.assert_frame_equal(only, slopes)
    own = runs.loc[runs["layer"] == "W1"].assign(relative_change=lambda rows: rows["kernel_change"])
    numbers = ["slope", "slope_low", "slope_infinite", "slope_infinite_high", "widths", "left_out"]
    pd.testing.assert_frame_equal(slopes[numbers], fitting.fit(own)[numbers])


def test_the_slope_of_a_time_means_no_regime():
    slopes = fitting.fit(measured_runs({(1.0, 0.0): 0.7}, "time_half"), measure="time_half")
    assert slopes["slope"].tolist() == pytest.approx([0.7])
    assert slopes["regime"].tolist() == [""]
    with pytest.raises(
        InputError, match="slopes: those of time_half mean no regime; allowed: slopes of relative_change, "
    ):
        maps.plot_regimes(slopes, "network")


def test_measures_that_cannot_be_fitted_are_named():
    runs = make_runs({(1.0, 0.0): 0.0})
    said = (
        "measure: 'kernel_chang' is not supported; did you mean 'kernel_change'[?] allowed: relative_change, "
    )
    with pytest.raises(InputError, match=said):
        fitting.fit(runs, measure="kernel_chang")
    with pytest.raises(
        InputError, match=r"'effective_rank' is not supported; allowed: .*; others are shown as values$"
    ):
        fitting.fit(runs, measure="effective_rank")
    with pytest.raises(InputError, match=r"^runs: missing columns kernel_change; needed: "):
        fitting.fit(runs, measure="kernel_change")
    negative = measured_runs({(1.0, 0.0): 0.0}, "time").assign(time=-1.0)
    with pytest.raises(
        InputError, match=r"^runs: time: -1.0 is not supported, in 30 of 30 rows; allowed: numbers from 0"
    ):
        fitting.fit(negative, measure="time")


def test_slopes_of_two_measures_have_no_line():
    runs = make_runs({(g, 0.0): g - 1.5 for g in (1.0, 2.0)})
    runs["relative_change_spectral"] = runs["relative_change"]
    both = pd.concat([fitting.fit(runs, one) for one in ("relative_change_spectral", "relative_change")])
    with pytest.raises(
        InputError,
        match=r"^slopes: rows of 2 measures \(relative_change_spectral, relative_change\); allowed: of one",
    ):
        fitting.critical_line(both, "W1")
    assert fitting.fit(runs, "relative_change_spectral")["slope"].equals(fitting.fit(runs)["slope"])


def test_runs_that_did_not_converge_are_left_out_and_counted():
    runs = make_runs({(0.5, 0.0): -0.5, (2.0, 0.0): 0.5})
    runs["error"] = ""
    bad = runs.index[runs["gamma"] == 0.5][:5]
    statuses = ["evaluation_limit", "stalled", "diverged", "failed", "converged"]
    runs.loc[bad, "status"] = statuses
    runs.loc[bad, "relative_change"] = [1e9, 1e9, np.inf, np.nan, 0.0]
    runs.loc[runs["gamma"] == 2.0, "status"] = "diverged"
    slopes = fitting.fit(runs)
    assert slopes["slope"].iloc[0] == pytest.approx(-0.5)
    assert slopes[["widths", "runs", "left_out"]].to_numpy().tolist() == [[4, 10, 5], [0, 0, 15]]
    assert np.isnan(slopes["slope"].iloc[1])
    assert slopes["regime"].iloc[1] == "undetermined"


@pytest.mark.parametrize(
    ("widths", "seeds", "has_slope", "has_interval"),
    [((100,), 5, False, False), ((100, 1000), 1, True, False), ((100, 1000), 2, True, True)],
)
def test_too_few_runs(widths, seeds, has_slope, has_interval):
    row = fitting.fit(make_runs({(0.5, 0.0): -0.5}, widths, seeds, noise=0.01)).iloc[0]
    assert np.isfinite(row["slope"]) == has_slope
    assert np.isfinite([row["slope_low"], row["slope_high"]]).all() == has_interval
    assert row["regime"] == ("linear" if has_interval else "undetermined")


def test_no_runs_give_no_slopes():
    slopes = fitting.fit(make_runs({(0.5, 0.0): -0.5}).iloc[:0])
    assert len(slopes) == 0
    assert list(slopes.columns) == SLOPES.names


def test_represented_networks_want_their_seeds():
    runs = make_runs({(1.0, 0.0): 0.1}).assign(neurons=10).drop(columns="seed", errors="ignore")
    with pytest.raises(InputError, match="runs: missing columns seed; needed: "):
        fitting.fit(runs)


def test_a_run_that_is_there_twice_is_refused():
    """It would narrow intervals as if it were another one."""
    runs = make_runs({(1.0, 0.0): 0.1}).assign(seed=0)
    again = runs.iloc[[1]]
    with pytest.raises(
        InputError,
        match=r"runs: duplicate rows: 1, the first depth 2, .*width \d+, seed 0; allowed: one per",
    ):
        fitting.fit(pd.concat([runs.drop_duplicates("width"), again]).reset_index(drop=True))
    assert len(fitting.fit(pd.concat([runs.drop_duplicates("width"), again.assign(seed=1)]))) == 1


def test_a_status_that_no_run_has_is_refused():
    """Otherwise all of a reader's own runs would be left out in silence."""
    with pytest.raises(
        InputError,
        match=r"runs: status: 'Converged' is not supported, in 15 of 15 rows; did you mean 'converged'\? allowed: converged, ",
    ):
        fitting.fit(make_runs({(1.0, 0.0): 0.1}).assign(status="Converged"))


def test_what_is_no_table_is_refused():
    with pytest.raises(InputError, match=r"runs: a list is not supported; allowed: a pandas\.DataFrame"):
        fitting.fit([1])


def test_missing_column_is_named():
    with pytest.raises(
        InputError, match="missing columns layer, width; needed: layer, gamma, gamma_prime, width, "
    ):
        fitting.fit(make_runs({(0.5, 0.0): -0.5}).drop(columns=["layer", "width"]))


def test_five_columns_are_enough():
    runs = make_runs({(0.5, 0.0): -0.5, (1.5, 0.0): 0.4}, noise=0.01)
    few = runs[["layer", "gamma", "gamma_prime", "width", "relative_change"]]
    pd.testing.assert_frame_equal(fitting.fit(few), fitting.fit(runs))


def test_a_layer_of_deeper_networks_needs_the_depth():
    """Predictions for the depth 2 would be wrong for it."""
    few = make_runs({(0.5, 0.0): -0.5}, layer="W2").drop(columns=["depth", "gamma_1", "status"])
    with pytest.raises(
        InputError,
        match="runs: missing columns depth; layers other than W1 and a need depth; needed: depth, layer, ",
    ):
        fitting.fit(few)
    assert fitting.fit(few.assign(depth=3))["predicted_regime"].tolist() == ["linear"]


def test_a_missing_column_with_a_name_like_it_is_asked_for():
    runs = make_runs({(0.5, 0.0): -0.5}).rename(columns={"gamma_prime": "gamma_prim", "width": "Width"})
    said = "missing columns gamma_prime, width; 'gamma_prim': did you mean 'gamma_prime'[?] 'Width': did you mean 'width'[?] needed"
    with pytest.raises(InputError, match=said):
        fitting.fit(runs)


@pytest.mark.parametrize(
    ("column", "name"),
    [("status", "Status"), ("gamma_1", "gamma1"), ("seed", "seeds"), ("neurons", "neuron")],
)
def test_an_optional_column_with_a_name_like_it_is_asked_for(column, name):
    """Without its column, a run that did not converge would be fitted in silence."""
    runs = (
        make_runs({(0.5, 0.0): -0.5})
        .drop_duplicates("width")
        .assign(seed=0, loss=0.0)
        .drop(columns=column, errors="ignore")
    )
    with pytest.warns(
        UserWarning, match=f"runs: column '{name}' is ignored; did you mean '{column}'[?]$"
    ) as told:
        fitting.fit(runs.assign(**{name: 0}))
    assert [warning.filename for warning in told] == [__file__]


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        ("gamma", "half", "runs: gamma: 'half' is not supported, in 1 of 15 rows; allowed: numbers"),
        (
            "relative_change",
            "0.5",
            "runs: relative_change: '0.5' is not supported, in 1 of 15 rows; allowed: numbers",
        ),
        ("width", None, "runs: width: nan is not supported, in 1 of 15 rows; allowed: finite numbers"),
        (
            "gamma_prime",
            np.nan,
            "runs: gamma_prime: nan is not supported, in 1 of 15 rows; allowed: finite numbers",
        ),
        ("gamma", np.inf, "runs: gamma: inf is not supported, in 1 of 15 rows; allowed: finite numbers"),
        (
            "relative_change",
            -0.2,
            "runs: relative_change: -0.2 is not supported, in 1 of 15 rows; allowed: numbers from 0, and NaN where there is none",
        ),
        ("width", 0, "runs: width: 0 is not supported, in 1 of 15 rows; allowed: numbers above 0"),
        (
            "depth",
            1,
            "runs: depth: 1 is not supported, in 1 of 15 rows; allowed: whole numbers from 2, and 0 of modules",
        ),
        (
            "depth",
            2.5,
            "runs: depth: 2.5 is not supported, in 1 of 15 rows; allowed: whole numbers from 2, and 0 of modules",
        ),
        (
            "layer",
            np.nan,
            "runs: layer: nan is not supported, in 1 of 15 rows; allowed: names, such as W1, W2, a",
        ),
        ("layer", 1, "runs: layer: 1 is not supported, in 1 of 15 rows; allowed: names, such as W1, W2, a"),
    ],
)
def test_values_that_are_not_allowed_are_refused(column, value, said):
    runs = make_runs({(0.5, 0.0): -0.5}).astype({column: object})
    runs.loc[3, column] = value
    with pytest.raises(InputError) as error:
        fitting.fit(runs.infer_objects())
    assert str(error.value) == said


def test_no_neurons_are_refused():
    runs = make_runs({(0.5, 0.0): -0.5}).drop_duplicates("width").assign(seed=0, neurons=0)
    with pytest.raises(InputError, match="runs: neurons: 0 is not supported, in 5 of 5 rows"):
        fitting.fit(runs)


def test_numbers_in_a_column_of_objects_are_numbers():
    runs = make_runs({(0.5, 0.0): -0.5})
    objects = runs.astype({"relative_change": object, "width": "category", "depth": object})
    pd.testing.assert_frame_equal(fitting.fit(objects), fitting.fit(runs))


@pytest.mark.parametrize(
    ("row", "regime"),
    [
        (interval_row(-0.5, -0.4), "linear"),
        (interval_row(0.1, 0.4), "condensed"),
        (interval_row(-0.05, 0.05), "critical"),
        (interval_row(0.0, 0.0), "critical"),
        (interval_row(-0.051, 0.02), "undetermined"),
        (interval_row(-0.1, 0.1), "undetermined"),
        # The sign is settled, however small the slope: the order of the contract's list decides.
        (interval_row(0.01, 0.04), "condensed"),
        (interval_row(-0.04, -0.01), "linear"),
        (interval_row(0.0, 0.04), "critical"),
        # The infinite-width interval decides where it is finite.
        (interval_row(0.1, 0.2, (-0.03, 0.02)), "critical"),
        (interval_row(0.1, 0.2, (np.nan, 0.02)), "condensed"),
        (interval_row(np.nan, np.nan), "undetermined"),
    ],
)
def test_regime_rule(row, regime):
    assert fitting.regimes(pd.DataFrame([row])).tolist() == [regime]


def test_regime_counts_by_layer():
    slopes = fitting.fit(
        pd.concat([make_runs({(0.5, 0.0): -0.5, (1.5, 0.0): 0.3}), make_runs({(0.5, 0.0): -1.0}, layer="a")])
    )
    assert fitting.regime_counts(slopes) == {
        "W1": {"linear": 1, "critical": 0, "condensed": 1, "undetermined": 0},
        "a": {"linear": 1, "critical": 0, "condensed": 0, "undetermined": 0},
    }


def test_crossing_is_exact_for_linear_slopes():
    """S = gamma - 1.13 - max(gamma', 0) crosses 0 at a known gamma, whatever the spacing of the grid."""
    gammas, primes = [0.5, 0.7, 1.0, 1.4, 2.0], [-0.5, 0.0, 0.3]
    slopes = fitting.fit(make_runs({(g, p): g - 1.13 - max(p, 0) for g in gammas for p in primes}))
    slopes = slopes.assign(slope_low=slopes["slope"] - 0.05, slope_high=slopes["slope"] + 0.05)
    line = fitting.critical_line(slopes, "W1")
    assert list(line.columns) == fitting.LINE_COLUMNS
    assert line["gamma"].to_numpy() == pytest.approx([1.13, 1.13, 1.43])
    assert line["gamma_low"].to_numpy() == pytest.approx([1.08, 1.08, 1.38])
    assert line["gamma_high"].to_numpy() == pytest.approx([1.18, 1.18, 1.48])
    assert line["predicted"].to_numpy() == pytest.approx([1.0, 1.0, 1.3])
    assert fitting.line_distance(line) == (pytest.approx(0.13), pytest.approx(0.13), 3)


def crossing(gammas, values):
    slopes = fitting.fit(make_runs({(gamma, 0.0): 0.0 for gamma in gammas})).assign(slope=values)
    return fitting.critical_line(slopes, "W1")


@pytest.mark.parametrize("kink", [1.0, 1.04, 1.3, 1.55, 1.59])
@pytest.mark.parametrize("height", [-0.05, 0.0, 0.08])
def test_crossing_is_exact_for_slopes_with_a_kink(kink, height):
    """Slopes of the limit rise twice as fast in the linear regime as beyond; wherever the kink is, on the line or beside it."""
    gammas = np.round(np.arange(0.4, 2.3, 0.2), 10)
    values = height + np.where(gammas < kink, 2.0 * (gammas - kink), 0.7 * (gammas - kink))
    expected = kink - height / (2.0 if height > 0 else 0.7)
    assert crossing(gammas, values)["gamma"].tolist() == pytest.approx([expected])


def test_the_band_reaches_to_where_one_straight_line_would_cross():
    gammas = np.array([0.8, 1.0, 1.2, 1.4])
    values = np.where(gammas < 1.1, 2.0 * (gammas - 1.1), 0.5 * (gammas - 1.1))
    slopes = fitting.fit(make_runs({(gamma, 0.0): 0.0 for gamma in gammas}))
    slopes = slopes.assign(slope=values, slope_low=values - 0.01, slope_high=values + 0.01)
    [line] = fitting.critical_line(slopes, "W1").to_dict("records")
    assert line["gamma"] == pytest.approx(1.1)
    assert line["gamma_low"] == pytest.approx(1.095)
    assert line["gamma_high"] == pytest.approx(1.16)  # by the straight line


def test_no_kink_is_seen_in_a_smooth_or_noisy_row():
    """The crossing stays between the points on both sides."""
    generator = np.random.default_rng(0)
    for _ in range(60):
        gammas = np.sort(generator.uniform(0, 1, 6))
        values = np.sort(generator.normal(size=6)) if generator.random() < 0.5 else generator.normal(size=6)
        for gamma in crossing(gammas, values)["gamma"]:
            right = int(np.searchsorted(gammas, gamma))
            assert values[right - 1] <= 0 < values[min(right, 5)] or values[right] == 0


@pytest.mark.parametrize("other", [{"depth": 3}, {"gamma_1": 0.4}])
def test_several_planes_have_no_line_and_no_map(other):
    slopes = fitting.fit(make_runs({(g, 0.0): g - 1.5 for g in (1.0, 2.0)}))
    slopes = pd.concat([slopes, slopes.assign(**other)])
    said = r"slopes: rows of 2 planes \(depth = 2, gamma_1 = 0; .*allowed: rows of one depth and one gamma_1"
    for use in (fitting.critical_line, maps.plot_map):
        with pytest.raises(InputError, match=said):
            use(slopes, "W1")


def test_two_layers_have_no_gamma_1():
    with pytest.raises(InputError, match=r"^runs: gamma_1 of networks of two layers is not 0; allowed: 0"):
        fitting.fit(make_runs({(1.0, 0.0): 0.0}).assign(gamma_1=0.4))


def test_middle_one_of_several_crossings():
    line = crossing([1, 2, 3, 4, 5, 6], [-1.0, 1.0, -1.0, 1.0, -1.0, 1.0])
    assert line["gamma"].tolist() == [3.5]


def test_crossing_at_a_grid_point_and_beside_a_gap():
    assert crossing([1, 2, 3], [-1.0, 0.0, 1.0])["gamma"].tolist() == [2.0]
    assert crossing([1, 2, 3], [-1.0, np.nan, 3.0])["gamma"].tolist() == [1.5]


@pytest.mark.parametrize("values", [[1.0, 0.5, -1.0], [-1.0, -0.5, -0.1], [np.nan] * 3])
def test_rows_without_an_upward_crossing_are_left_out(values):
    line = crossing([1, 2, 3], values)
    assert list(line.columns) == fitting.LINE_COLUMNS
    mean, largest, rows = fitting.line_distance(line)
    assert np.isnan(mean) and np.isnan(largest) and rows == 0


def test_rows_whose_predicted_line_is_outside_the_map_do_not_count():
    slopes = {(g, p): g - 1.6 for g in (1.2, 1.5, 1.8) for p in (-0.5, 0.5)}
    line = fitting.critical_line(fitting.fit(make_runs(slopes)), "W1")
    assert line["distance"].isna().tolist() == [True, False]
    assert fitting.line_distance(line) == (pytest.approx(0.1), pytest.approx(0.1), 1)
    assert fitting.count_predicted_rows(fitting.fit(make_runs(slopes)), "W1") == 1


def test_a_layer_of_another_name_has_a_measured_but_no_predicted_line():
    runs = make_runs({(g, 0.0): g - 1.5 for g in (1.0, 2.0)}, layer="V")
    slopes = fitting.fit(runs)
    line = fitting.critical_line(slopes, "V")
    assert line["gamma"].tolist() == pytest.approx([1.5])
    assert line[["predicted", "distance"]].isna().all(axis=None)
    assert slopes["predicted_slope"].isna().all() and set(slopes["predicted_regime"]) == {""}
    assert fitting.line_distances(slopes) == {}


def test_the_output_layer_has_a_predicted_line():
    slopes = fitting.fit(make_runs({(g, 0.0): g - 1.5 for g in (1.0, 2.0)}, layer="a"))
    line = fitting.critical_line(slopes, "a")
    assert line["gamma"].tolist() == pytest.approx([1.5])
    assert line[["predicted", "distance"]].to_numpy().tolist() == [pytest.approx([1.0, 0.5])]
    assert slopes["predicted_slope"].tolist() == pytest.approx([0.0, 0.5])


def test_the_time_of_a_fit_grows_with_the_number_of_points():
    """Of this thread, at its best: others of the machine can only slow it down, now and then one size more than the other."""

    def seconds(runs):
        start = time.thread_time()
        fitting.fit(runs)
        return time.thread_time() - start

    few, many = (
        make_runs({(i / 100, j / 100): 0.1 for i in range(side) for j in range(side)}, noise=0.1)
        for side in (12, 36)  # 2,160 and 19,440 rows
    )
    best = [math.inf, math.inf]
    for _ in range(20):
        best = [min(known, seconds(runs)) for known, runs in zip(best, (few, many), strict=True)]
        if best[1] < 9 * 2 * best[0]:
            return
    raise AssertionError(best)


def test_fitting_and_plotting_import_nothing_heavy():
    code = (
        "import sys, phasediag.phase_diagram.theory, phasediag.phase_diagram.fitting, phasediag.phase_diagram.figures.all;"
        "heavy = {'torch', 'ray', 'pydantic', 'typer', 'rich', 'sklearn'} & set(sys.modules);"
        "pyplot = {'matplotlib.pyplot'} & set(sys.modules);"
        "sys.exit(' '.join(heavy | pyplot) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr


def test_runs_of_another_kind_lack_columns_that_are_named():
    with pytest.raises(InputError, match=r"missing columns depth, gamma, .*; needed: depth, layer, "):
        fitting.fit(pd.DataFrame({"layer": ["H1"], "lines": [1.0], "status": ["converged"]}))

"""The numbers of figures and page: by hand, and the same in both."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from test_figures import GRID, make_deeper_runs, make_runs, make_samples

from phasediag.errors import InputError
from phasediag.phase_diagram import info, theory
from phasediag.phase_diagram.columns import TABLES
from phasediag.phase_diagram.figures import maps
from phasediag.phase_diagram.fitting import POINT, fit, predicted_line
from phasediag.phase_diagram.folder import Networks
from phasediag.phase_diagram.measures import MEASURES, RELATIVE_CHANGE
from phasediag.phase_diagram.report.content import maps as maps_of
from phasediag.phase_diagram.report.measured import Measured
from phasediag.phase_diagram.theory import LAYERS
from phasediag.storage.store import Store

ORIENTATIONS = MEASURES["orientations"]


def page_of(runs, depth, out):
    """The maps of a page, of runs in a folder."""
    store, blank = Store(out, TABLES), TABLES.runs.blank()
    filled = runs.assign(**{name: value for name, value in blank.items() if name not in runs})
    for _, part in filled.groupby(filled["status"] == "failed"):
        store.publish_runs(
            pa.Table.from_pandas(part[TABLES.runs.names], TABLES.runs.schema, preserve_index=False)
        )
    measured = Measured(store)
    measured.look()
    return maps_of(measured, measured.ended.index.to_frame(index=False), Networks(depth, LAYERS[depth]))


def disturbed_runs(points=((0.5, 0.0), (1.5, 0.0))):
    """Five runs of one width at every point; at the first one, one failed and one diverged."""
    runs = make_runs(points, widths=(100,), seeds=5)
    first = (runs["gamma"] == 0.5) & (runs["layer"] == "W1")
    runs["evaluations"] = 10 * (1 + runs["seed"])
    runs.loc[first, "relative_change"] = [1.0, 4.0, 16.0, 1e9, np.nan]
    runs.loc[first, "orientations"] = [3.0, 9.0, 5.0, 500.0, np.nan]
    of_first = runs["gamma"] == 0.5
    runs.loc[of_first & (runs["seed"] == 3), ["status", "loss_final", "evaluations"]] = [
        "diverged",
        np.inf,
        900,
    ]
    failed = ["failed", np.nan, np.nan, 0]
    runs.loc[of_first & (runs["seed"] == 4), ["status", "loss_initial", "loss_final", "evaluations"]] = failed
    runs.loc[of_first & (runs["seed"] == 0), "loss_final"] = 0.02
    return runs


def test_means_and_medians_by_hand():
    runs = disturbed_runs()
    points = runs[POINT].drop_duplicates()
    change = info.by_width(runs, RELATIVE_CHANGE, "W1", points, [100, 200])
    assert change.loc[(0.5, 0.0), 100] == pytest.approx(4.0)  # neither the diverged one nor the failed one
    assert info.by_width(runs, ORIENTATIONS, "W1", points, [100]).loc[(0.5, 0.0), 100] == 5.0
    # The diverged one took its evaluations; the failed one has none.
    evaluations = info.evaluations_by_width(runs, points, [100])
    assert evaluations[100].tolist() == [25.0, 30.0]
    assert change[200].isna().all()
    row = info.reliability(runs).iloc[0]
    assert row["evaluations"] == 25.0
    assert row["loss_fraction"] == pytest.approx(0.2)
    assert row["not_converged"] == pytest.approx(0.4)


def test_values_at_a_width_by_hand():
    runs = disturbed_runs()
    values = info.values(runs, "orientations")
    names = ["depth", "layer", "gamma", "gamma_prime", "gamma_1", "width", "orientations", "runs"]
    assert values.columns.tolist() == names
    first, other, *output = values.to_dict("records")
    assert (first["layer"], first["width"], first["orientations"], first["runs"]) == ("W1", 100, 5.0, 3)
    assert other["runs"] == 5
    assert [(row["layer"], row["runs"]) for row in output] == [("a", 0), ("a", 0)]
    assert np.isnan([row["orientations"] for row in output]).all()
    assert info.values(runs, "relative_change")["relative_change"].iloc[0] == pytest.approx(4.0)
    error = info.values(runs.assign(test_error=np.where(runs["seed"] > 0, 0.0, 0.5)), "test_error")
    assert error[["layer", "test_error"]].to_numpy().tolist() == [["network", 0.0], ["network", 0.0]]
    with pytest.raises(InputError, match=r"^width: no run has 99; allowed: 100$"):
        info.values(runs, "orientations", width=99)
    assert info.values(runs.iloc[:0], "orientations").empty


def test_distances_from_every_line_of_the_rule():
    """A measure of the network whose slope vanishes 0.1 to the right of the line of W2 in the operator norm."""
    points = [(round(1.0 + 0.25 * i, 10), prime) for i in range(10) for prime in (-0.5, 0.0, 0.5)]
    runs = make_deeper_runs(points)
    line = theory.critical_gamma("a", 3, runs["gamma_prime"].to_numpy()) + 0.1
    slopes = fit(runs.assign(kernel_change=runs["width"] ** (runs["gamma"] - line)), "kernel_change")
    [(layer, by_line)] = info.rule_distances(slopes).items()
    assert layer == "network"
    assert list(by_line) == ["W1", "W2", "W2 (operator norm), a"]
    near = by_line["W2 (operator norm), a"]["slope"]
    assert near == pytest.approx({"mean": 0.1, "max": 0.1, "rows": 3, "crossed": 3})
    away = by_line["W1"]["slope_infinite"]  # at 1.5, 1.5 and 2.5
    assert away == pytest.approx(
        {"mean": (0.6 + 0.1 + 0.9) / 3, "max": 0.9, "rows": 3, "crossed": 3}, abs=0.01
    )
    assert by_line["W2"]["slope"]["crossed"] == 2  # at 3.5, 3 and 2.5; the map ends at 3.25
    of_layer = info.rule_distances(fit(runs))["W2"]
    assert list(of_layer) == ["W2", "W2 (operator norm), a"]
    assert info.rule_distances(fit(runs.query("layer == 'W1'").assign(layer="0.weight"))) == {"0.weight": {}}


def test_rows_are_those_of_the_points_whatever_their_order():
    runs = make_runs(GRID)
    points = runs[POINT].drop_duplicates()
    table = info.evaluations_by_width(runs, points, [100])
    backwards = info.evaluations_by_width(runs, points[::-1], [100])
    np.testing.assert_array_equal(backwards.to_numpy()[::-1], table.to_numpy())


def test_an_interval_of_the_line_that_is_open_goes_to_the_edge_of_the_map():
    slopes = fit(make_runs(GRID, seeds=3)).query("layer == 'W1'").reset_index(drop=True)
    plane = info.split_points(slopes)
    closed = info.measured_line(slopes, plane, "slope")
    first = slopes["gamma_prime"] == closed.index[0]
    for end, at, edge in (("low", "gamma_high", 1), ("high", "gamma_low", 0)):
        uncertain = slopes.copy()
        uncertain.loc[first, f"slope_{end}"] = 9.0 if end == "high" else -9.0  # no sign there is certain
        line = info.measured_line(uncertain, plane, "slope")
        assert line[at].iloc[0] == plane.limits[0][edge]
        line[at] = closed[at]
        assert line.equals(closed)
        uncertain.loc[first, ["slope_low", "slope_high"]] = -9.0, 9.0
        assert info.measured_line(uncertain, plane, "slope")[["gamma_low", "gamma_high"]].iloc[0].isna().all()


def test_a_layer_without_slopes_or_runs_has_no_numbers():
    runs = make_runs(GRID)
    slopes = fit(runs)
    nothing = slopes.loc[slopes["layer"] == "W2"]
    points = runs[POINT].drop_duplicates()
    for measure in (RELATIVE_CHANGE, ORIENTATIONS):
        table = info.by_width(runs, measure, "W2", points, [100, 1000])
        assert table.shape == (len(points), 2)
        assert table.isna().all(axis=None)
    assert info.measured_line(nothing, info.split_points(slopes), "slope").empty
    assert predicted_line(nothing) is None
    assert info.deciding_slope(nothing) == "slope"
    assert info.slope_limit(nothing["slope"].to_numpy(float)) == info.SLOPE_LIMIT


def test_no_runs_have_no_numbers():
    runs = make_runs(GRID).iloc[:0]
    assert info.reliability(runs).empty
    assert info.evaluations_by_width(runs, runs[POINT], []).empty


def cells_of(ax, points):
    """Drawn values of the cells, in the order of the points: gamma, then gamma_prime."""
    values = np.ma.filled(ax.collections[0].get_array().astype(float), np.nan)
    return values.T.ravel()[: len(points["gamma"])]


def test_page_and_figures_show_the_same_numbers(tmp_path):
    runs = make_runs(GRID, seeds=3).assign(error="")
    runs["orientations"] += runs["seed"] ** 2 + 0.01 * np.arange(len(runs)) % 7
    some = runs["job_id"].isin(runs["job_id"].unique()[::5])
    runs.loc[some, "status"] = "stalled"
    runs.loc[runs["job_id"].isin(runs["job_id"].unique()[::11]), ["status", "relative_change"]] = [
        "failed",
        np.nan,
    ]
    slopes = fit(runs)
    page = page_of(runs, 2, tmp_path)
    layer, points = page["layers"][0], page["points"]
    turned = maps.orientation_map(runs, slopes, "W1").axes[1]
    np.testing.assert_allclose(
        cells_of(turned, points), np.array(layer["orientations"]["values"][-1], float), rtol=1e-4
    )
    *_, share = maps.diagnosis(runs).axes[:3]
    np.testing.assert_allclose(cells_of(share, points), page["not_converged"], rtol=1e-4)
    slope_map = maps.slope_map(slopes, "W1").axes[0]
    lines = {line.get_label(): line.get_xydata() for line in slope_map.lines}
    measured = np.array([layer["measured"]["slope"][key] for key in POINT], float).T
    np.testing.assert_allclose(lines["measured $S = 0$"], measured, rtol=1e-4)
    assert slope_map.collections[0].get_clim()[1] == layer["limits"]["slope"]
    written = {text.get_text().replace("\n", " ") for text in slope_map.texts}
    assert {named["names"] for named in page["named"]} <= written


def test_page_and_figures_name_the_same_regimes_of_both_layers(tmp_path):
    runs = make_deeper_runs().assign(error="")
    slopes = fit(runs)
    page = page_of(runs, 3, tmp_path)
    codes = cells_of(maps.combined_regime_map(slopes).axes[0], page["points"])
    assert codes.tolist() == page["combined"]["regime"]


def test_regimes_of_both_layers_by_point():
    table = info.combined_regimes(fit(make_deeper_runs())).set_index(POINT)["regime"]
    assert table[1.0, 0.0] == "both linear"
    assert table[2.4, 0.0] == "$W_1$ condensed"
    assert table[2.8, 1.0] == "$W_2$ condensed"
    assert table[3.2, 0.2] == "both condensed"
    assert table[1.4, 0.0] == "both linear"


@pytest.mark.parametrize(
    ("pair", "name"),
    [
        (("linear", "undetermined"), "undetermined"),
        (("critical", "condensed"), "critical"),
        (("critical", "undetermined"), "undetermined"),
        (("linear", "condensed"), "$W_2$ condensed"),
    ],
)
def test_a_layer_that_is_not_settled_settles_the_point(pair, name):
    assert info._combined_name(*pair) == name


def test_named_initialisations_at_one_point_stand_together_and_inside_the_map():
    everywhere = ((0.0, 3.0), (-1.0, 1.0))
    assert info.named_initialisations(2, 0.0, everywhere)[0.5, 0.5] == ["LeCun", "He"]
    assert set(info.named_initialisations(2, 0.0, ((0.9, 3.0), (-1.0, 1.0)))) == {(1.0, 0.0)}
    assert info.named_initialisations(2, 0.25, everywhere) == {}  # theirs is 0


def test_neurons_of_two_inputs_have_angles_and_others_cosines():
    planar, _, amplitudes = info.neurons_of(make_samples().iloc[0])
    assert planar
    np.testing.assert_allclose(amplitudes[1], 3 * amplitudes[0], rtol=1e-6)
    planar, (before, after), _ = info.neurons_of(make_samples(d=4).iloc[0])
    assert not planar
    np.testing.assert_allclose(before, after, rtol=1e-5)  # training made them longer, and did not turn them


def test_orientation_is_the_angle_of_weight_and_bias():
    angles = np.linspace(-3.1, 3.1, 63)
    weights = 2.5 * np.column_stack([np.cos(angles), np.sin(angles)])
    np.testing.assert_allclose(info.orientation(weights), angles, atol=1e-12)
    w, b = weights.T
    formula = np.sign(b) * np.arccos(w / np.hypot(w, b))
    np.testing.assert_allclose(info.orientation(weights), formula, atol=1e-7)


def test_the_principal_direction_of_many_inputs_is_the_first_of_all_singular_vectors():
    weights = np.random.default_rng(0).standard_normal((400, 300)) + 0.3
    expected = np.linalg.svd(weights)[2][0]
    found = info.principal_direction(weights)
    assert abs(found @ expected) == pytest.approx(1.0, abs=1e-9) and (weights @ found).sum() > 0


def test_principal_direction_is_that_of_condensed_weights():
    direction = np.array([0.6, 0.0, 0.8])
    weights = np.random.default_rng(0).uniform(1, 5, size=(50, 1)) * direction
    np.testing.assert_allclose(info.principal_direction(weights), direction, atol=1e-12)

"""Figures contain what they promise, and survive degenerate maps."""

from __future__ import annotations

import io
import logging
import os
import re
import subprocess
import sys
from functools import partial

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import PatchCollection, PathCollection, QuadMesh
from matplotlib.figure import Figure
from PIL import Image
from studies import draw_each

from phasediag.display import figures as style
from phasediag.display.drawing import render_all
from phasediag.errors import InputError
from phasediag.phase_diagram import fitting, theory
from phasediag.phase_diagram.figures import examples, maps, rule
from phasediag.phase_diagram.figures.all import drawings
from phasediag.phase_diagram.fitting import fit

GRID = [(round(0.5 + 0.25 * i, 10), round(-0.5 + 0.25 * j, 10)) for i in range(7) for j in range(7)]
SCATTERED = [(0.55, -0.31), (1.21, 0.07), (1.93, 0.61), (1.04, -0.12), (0.81, 0.93)]
SHAPES = {
    "grid": GRID,
    "two by two": [(0.5, 0.0), (0.5, 0.5), (1.5, 0.0), (1.5, 0.5)],
    "row": [(g, 0.0) for g in (0.5, 0.9, 1.0, 2.0)],
    "column": [(1.2, p) for p in (-0.5, 0.0, 0.7)],
    "scattered": SCATTERED,
    "mixed": GRID + SCATTERED,
}


def slope_at(gamma, gamma_prime):
    return theory.predicted_slope("W1", 2, gamma, gamma_prime)


def make_runs(points, widths=(100, 1000, 10000), seeds=2, status="converged"):
    generator = np.random.default_rng(0)
    keys = [(g, p, m, s) for g, p in points for m in widths for s in range(seeds)]
    runs = pd.DataFrame(keys, columns=["gamma", "gamma_prime", "width", "seed"])
    slopes = [slope_at(g, p) for g, p, _, _ in keys]
    runs = runs.assign(
        job_id=[f"{key}" for key in keys],
        depth=2,
        neurons=runs["width"],
        gamma_1=0.0,
        relative_change=2.0 * runs["width"] ** slopes * np.exp(0.02 * generator.normal(size=len(keys))),
        loss_initial=0.1,
        loss_final=1e-7,
        evaluations=(100 * np.exp(slopes)).astype("int64"),
        orientations=20.0 * np.exp(-np.array(slopes)),
        status=status,
    )
    output = runs.assign(layer="a", orientations=np.nan)
    return pd.concat([runs.assign(layer="W1"), output], ignore_index=True)


PLANE = [(round(0.8 + 0.2 * i, 10), round(-0.4 + 0.2 * j, 10)) for i in range(13) for j in range(8)]


def make_deeper_runs(points=PLANE, widths=(100, 300, 1000, 3000), gamma_1=0.0):
    """Runs of three layers whose slopes are the predicted ones."""
    runs = make_runs(points, widths)
    runs = runs.loc[runs["layer"] == "W1"].assign(depth=3, gamma_1=gamma_1)
    layers = []
    for layer in theory.LAYERS[3]:
        slope = np.array(
            [
                theory.predicted_slope(layer, 3, g, p, gamma_1)
                for g, p in zip(runs["gamma"], runs["gamma_prime"], strict=True)
            ]
        )
        noise = np.exp(0.01 * np.random.default_rng(1).normal(size=len(runs)))
        layers.append(runs.assign(layer=layer, relative_change=runs["width"] ** slope * noise))
    layers[-1]["orientations"] = np.nan
    deeper = pd.concat(layers, ignore_index=True)
    return deeper.assign(relative_change_spectral=deeper["relative_change"] * np.sqrt(deeper["width"]))


def make_deeper_samples(gamma_1=0.0):
    samples = make_samples([(1.0, 0.0), (1.5, 0.0), (2.0, 0.0)]).assign(depth=3, gamma_1=gamma_1)
    second = make_samples([(1.0, 0.0), (1.5, 0.0), (2.0, 0.0)], d=60).assign(
        depth=3, layer="W2", gamma_1=gamma_1
    )
    return pd.concat([samples, second.assign(x=samples["x"])], ignore_index=True)


def make_samples(points=((0.5, 0.0), (1.0, 0.0), (1.75, 0.0)), d=1, width=60):
    generator = np.random.default_rng(0)
    x = np.linspace(-1, 1, 21) if d == 1 else np.zeros(0)
    before = generator.normal(size=(width, d + 1)).astype("float32")
    return pd.DataFrame(
        {
            "job_id": f"{gamma}, {gamma_prime}",
            "depth": 2,
            "layer": "W1",
            "width": width,
            "gamma": gamma,
            "gamma_prime": gamma_prime,
            "gamma_1": 0.0,
            "seed": 0,
            "status": "converged",
            # As Parquet gives nested lists back: an object array of arrays.
            "input_initial": list(before),
            "input_final": list(before * np.float32(3)),
            "x": x,
            "f_initial": np.sin(x),
            "f_final": np.cos(x),
            "evaluations": np.array([0, 10, 100]),
            "loss": np.array([0.1, 1e-3, 1e-7]),
            "relative_change": np.array([0.0, 0.4, 0.5]),
        }
        for gamma, gamma_prime in points
    )


DATA = {"x": np.array([[-1.0], [0.3]]), "y": np.array([0.6, 0.5])}


def draw_all(runs, slopes, samples=None, data=None, depth=2):
    """Every figure by name."""
    kept = make_samples().iloc[:0] if samples is None else samples
    return draw_each(drawings(runs, slopes, kept, data or {}, theory.LAYERS[depth]))


def legend_labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def open_png(figure):
    file = io.BytesIO()
    figure.savefig(file, dpi=style.DPI)
    return Image.open(file)


def test_slope_map_shows_cells_lines_names_and_regimes():
    figure = maps.slope_map(fit(make_runs(GRID)), "W1")
    ax = figure.axes[0]
    (mesh,) = [artist for artist in ax.collections if isinstance(artist, QuadMesh)]
    assert mesh.get_array().shape == (7, 7)
    assert mesh.norm.vmin == -mesh.norm.vmax
    assert legend_labels(ax) == ["measured $S = 0$", "95 % band", "predicted"]
    texts = [text.get_text() for text in ax.texts]
    assert {"NTK", "LeCun, He", "Xavier, mean-field", "linear", "condensed"} == {
        text.replace("\n", " ") for text in texts
    }
    assert r"\log\,\mathrm{RD}(W_1)" in figure.axes[1].get_ylabel()
    assert (ax.get_xlabel(), ax.get_ylabel()) == (r"$\gamma$", r"$\gamma'$")


def test_cells_hold_the_slope_of_their_point():
    """A tall and a wide value must not be transposed: gamma runs across, gamma' up."""
    slopes = fit(make_runs([(g, p) for g in (0.5, 1.0, 2.0) for p in (0.0, 1.0)]))
    mesh = maps.slope_map(slopes, "W1").axes[0].collections[0]
    of_layer = slopes[slopes["layer"] == "W1"].sort_values(["gamma_prime", "gamma"])
    np.testing.assert_allclose(mesh.get_array().ravel(), of_layer["slope"])
    corners = mesh.get_coordinates()
    np.testing.assert_allclose(corners[0, :, 0], [0.25, 0.75, 1.5, 2.5])
    np.testing.assert_allclose(corners[:, 0, 1], [-0.5, 0.5, 1.5])


def test_measured_line_lies_on_the_predicted_one():
    lines = {line.get_label(): line for line in maps.slope_map(fit(make_runs(GRID)), "W1").axes[0].lines}
    gamma, gamma_prime = (np.asarray(values, float) for values in lines["measured $S = 0$"].get_data())
    np.testing.assert_allclose(gamma, 1 + np.maximum(gamma_prime, 0), atol=0.06)
    gamma, gamma_prime = lines["predicted"].get_data()
    np.testing.assert_allclose(gamma, 1 + np.maximum(gamma_prime, 0))
    assert lines["predicted"].is_dashed() and not lines["measured $S = 0$"].is_dashed()


def test_points_off_the_grid_are_markers_and_cells_without_slope_are_hatched():
    runs = make_runs(GRID + SCATTERED)
    runs.loc[(runs["gamma"] == 2.0) & (runs["gamma_prime"] == -0.5), "status"] = "stalled"
    runs.loc[runs["gamma"] == 0.81, "status"] = "diverged"
    ax = maps.slope_map(fit(runs), "W1").axes[0]
    (markers,) = [artist for artist in ax.collections if isinstance(artist, PathCollection)]
    assert len(markers.get_offsets()) == len(SCATTERED) - 1
    (hatched,) = [artist for artist in ax.collections if isinstance(artist, PatchCollection)]
    assert len(hatched.get_paths()) == 1 and hatched.get_hatch()
    crosses = [line for line in ax.lines if line.get_marker() == "x"]
    np.testing.assert_array_equal(crosses[0].get_xydata(), [[0.81, 0.93]])
    assert "no slope" in legend_labels(ax)


def test_the_output_layer_has_a_predicted_line_of_its_own():
    ax = maps.slope_map(fit(make_runs(GRID)), "a").axes[0]
    assert "predicted" in legend_labels(ax)
    (line,) = (one for one in ax.lines if one.get_linestyle() == "--")
    gamma, gamma_prime = line.get_xdata(), line.get_ydata()
    np.testing.assert_allclose(gamma, 1 + np.maximum(-gamma_prime, 0))


def test_regime_map_names_the_regimes_present():
    slopes = fit(make_runs(GRID))
    ax = maps.regime_map(slopes, "W1").axes[0]
    present = [regime for regime in fitting.REGIMES if (slopes["regime"] == regime).any()]
    assert legend_labels(ax)[: len(present)] == present
    codes = slopes.loc[slopes["layer"] == "W1"].pivot(index="gamma_prime", columns="gamma", values="regime")
    drawn = np.asarray(ax.collections[0].get_array(), int)
    assert [fitting.REGIMES[code] for code in drawn.ravel()] == codes.to_numpy().ravel().tolist()


@pytest.mark.parametrize("status", ["converged", "stalled"])
@pytest.mark.parametrize("shape", SHAPES)
def test_degenerate_maps(shape, status):
    runs = make_runs(SHAPES[shape], status=status)
    slopes = fit(runs)
    drawn = {
        "slopes": maps.slope_map(slopes, "W1"),
        "regimes": maps.regime_map(slopes, "W1"),
        "diagnosis": maps.diagnosis(runs),
    }
    for name, figure in drawn.items():
        image = open_png(figure)
        width = style.DOUBLE_COLUMN if name == "diagnosis" else style.SINGLE_COLUMN
        assert image.size[0] == pytest.approx(200 * width, abs=1)


@pytest.mark.parametrize("shape", SHAPES)
def test_nothing_is_cut_off_or_overlaps(shape):
    figure = maps.slope_map(fit(make_runs(SHAPES[shape])), "W1")
    figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in figure.axes[0].texts]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])
    artists = [
        *figure.axes[0].texts,
        figure.axes[0].get_legend(),
        figure.axes[0].xaxis,
        figure.axes[-1].yaxis,
    ]
    for artist in artists:
        box = artist.get_window_extent() if artist in figure.axes[0].texts else artist.get_tightbbox()
        assert box.x0 >= 0 and box.y0 >= 0
        assert box.x1 <= figure.bbox.x1 + 1 and box.y1 <= figure.bbox.y1 + 1


def test_scaling_shows_every_run_and_the_fitted_slope():
    runs = make_runs(GRID, seeds=3)
    runs.loc[(runs["gamma"] == 0.5) & (runs["width"] == 100) & (runs["seed"] == 0), "status"] = "stalled"
    slopes = fit(runs)
    ax = examples.scaling(runs, slopes, "W1").axes[0]
    assert ax.get_xscale() == ax.get_yscale() == "log"
    labels = legend_labels(ax)
    assert [label.split(":")[0] for label in labels[:3]] == [f"$W_1$ {regime}" for regime in theory.REGIMES]
    assert labels[3:] == ["not converged: not in the fit"]
    row = slopes.query("layer == 'W1' and gamma == 0.5 and gamma_prime == 0").iloc[0]
    half_width = (row["slope_high"] - row["slope_low"]) / 2
    assert f"$S$ = −{-row['slope']:.2f} ± {half_width:.2f}" in labels[0]
    left_out, used, line = ax.lines[:3]
    assert (len(left_out.get_xdata()), len(used.get_xdata())) == (1, 8)
    x, y = line.get_data()
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx([row["slope"]])


def test_functions_show_before_after_and_data():
    figure = examples.functions(make_samples(), DATA)
    assert len(figure.axes) == 3
    for ax, regime in zip(figure.axes, theory.REGIMES, strict=True):
        assert ax.get_title().startswith(f"$W_1$ {regime}")
        assert [line.get_label() for line in ax.lines] == ["before", "after training", "data"]


def test_titles_and_legends_name_the_measured_regime():
    """The grey points of a map are not called critical."""
    runs, samples = make_runs(GRID), make_samples()
    slopes = fit(runs)
    slopes.loc[slopes["predicted_regime"] == "critical", "regime"] = "undetermined"
    named = ["$W_1$ linear", "$W_1$ undetermined", "$W_1$ condensed"]
    drawn = draw_all(runs, slopes, samples, DATA)
    above = [text.get_text() for text in drawn["training"].legends[0].get_texts()]
    labels = above, legend_labels(drawn["scaling_W1"].axes[0])
    titles = [[ax.get_title() for ax in drawn[name].axes] for name in ("features_W1", "functions")]
    for found in (*labels, *titles):
        assert [re.split(r"[:\n]", words)[0] for words in found] == named


def test_features_in_one_and_more_dimensions():
    plane = examples.features(make_samples(), "W1").axes
    assert plane[0].get_xlabel() == r"orientation $\theta$"
    before, after = (artist.get_offsets() for artist in plane[0].collections)
    np.testing.assert_allclose(after[:, 1], 3 * before[:, 1], rtol=1e-6)
    np.testing.assert_allclose(after[:, 0], before[:, 0], rtol=1e-5)
    more = examples.features(make_samples(d=4), "W1").axes
    assert "principal direction" in more[0].get_xlabel()
    assert np.abs(more[0].collections[0].get_offsets()[:, 0]).max() <= 1 + 1e-9


def test_training_leaves_out_what_a_logarithm_cannot_show():
    loss, change = examples.training(make_samples()).axes
    assert len(loss.lines) == len(change.lines) == 3
    assert change.lines[0].get_xdata().tolist() == [10, 100]


def test_draw_all_gives_what_the_data_allow():
    runs = make_runs(GRID)
    everything = draw_all(runs, fit(runs), make_samples(), DATA)
    of_layers = {
        f"{kind}_{layer}" for kind in ("slope_map", "regime_map", "scaling") for layer in ("W1", "a")
    }
    others = {"agreement", "diagnosis", "functions", "features_W1", "training", "orientation_map_W1"}
    assert set(everything) == of_layers | others
    assert all(isinstance(figure, Figure) for figure in everything.values())

    single = make_runs([(0.5, 0.0)])
    assert set(draw_all(single, fit(single))) == {"scaling_W1", "scaling_a"}

    deeper = draw_all(runs, fit(runs), make_samples(d=4))
    assert "functions" not in deeper and "features_W1" in deeper

    nothing = make_runs(GRID).iloc[:0]
    assert draw_all(nothing, fit(nothing), make_samples().iloc[:0]) == {}


def test_infinite_width_map_appears_with_its_slopes():
    runs = make_runs(GRID)
    slopes = fit(runs)
    infinite = slopes.assign(
        slope_infinite=slopes["slope"],
        slope_infinite_low=slopes["slope_low"],
        slope_infinite_high=slopes["slope_high"],
    )
    drawn = draw_all(runs, infinite)
    assert r"m \to \infty" in drawn["slope_infinite_map_W1"].axes[1].get_ylabel()


def test_rendering_is_deterministic():
    runs = make_runs(SHAPES["mixed"])
    runs.loc[runs["gamma"] == 2.0, "status"] = "stalled"
    first, second = (style.render(maps.slope_map(fit(runs), "W1")) for _ in range(2))
    assert first == second
    assert first["png"].startswith(b"\x89PNG")
    assert b"<svg" in first["svg"] and b"<dc:date>" not in first["svg"]


def test_a_pdf_is_written_without_warnings_on_its_font(caplog):
    head = logging.getLogger("fontTools.ttLib.tables._h_e_a_d")
    assert style.render(maps.slope_map(fit(make_runs(SHAPES["mixed"])), "W1"), ["pdf"])["pdf"].startswith(
        b"%PDF"
    )
    assert not caplog.records
    head.warning("'%s' timestamp seems very low", "created")
    assert len(caplog.records) == 1  # to others, it is still told


def test_files_carry_the_name_of_the_study():
    runs = make_runs(SHAPES["row"])
    [(_, files)] = render_all(
        {"slope_map_W1": partial(maps.slope_map, fit(runs), "W1")}, "my-study", ["png", "svg"], 1
    )
    assert b"my-study: slope_map_W1" in files["svg"]
    assert Image.open(io.BytesIO(files["png"])).text["Title"] == "my-study: slope_map_W1"


def test_plot_map_draws_into_given_axes_and_leaves_settings_alone():
    before = dict(matplotlib.rcParams)
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert maps.plot_map(fit(make_runs(GRID)), layer="W1", ax=ax) is ax
    assert any(isinstance(artist, QuadMesh) for artist in ax.collections)
    assert dict(matplotlib.rcParams) == before


def test_plot_map_makes_a_pyplot_figure(monkeypatch):
    from matplotlib import pyplot as plt

    monkeypatch.setattr(plt, "switch_backend", plt.switch_backend)
    plt.switch_backend("agg")
    ax = maps.plot_map(fit(make_runs(GRID)))
    assert ax.figure.number in plt.get_fignums()
    plt.close(ax.figure)


def test_a_notebook_stays_interactive(monkeypatch):
    """Its first figure makes it so: if that ended with the figure's style, no further figure would be shown."""
    from matplotlib import pyplot as plt

    figure = plt.figure

    def first_figure(**options):
        matplotlib.interactive(True)
        return figure(**options)

    monkeypatch.setattr(plt, "figure", first_figure)
    assert not matplotlib.is_interactive()
    try:
        plt.close(maps.plot_map(fit(make_runs(GRID))).figure)
        assert matplotlib.is_interactive()
    finally:
        matplotlib.interactive(False)


def test_plot_map_shows_the_limit_where_it_is_asked_for():
    slopes = fit(make_deeper_runs())
    figure = Figure()
    maps.plot_map(slopes, ax=figure.subplots(), column="slope_infinite")
    assert r"m \to \infty" in figure.axes[1].get_ylabel()
    few = fit(make_runs(GRID))  # three widths
    for frame, column, said in (
        (
            slopes,
            "regime",
            "column: 'regime' holds no numbers; allowed: slope, .*, predicted_slope, widths, runs, left_out",
        ),
        (few, "slope_infinite", "column: slope_infinite has no value at any point; allowed: .*four widths"),
        (make_runs(GRID), "slope", "slopes: missing columns slope, slope_low, slope_high; needed: depth"),
    ):
        with pytest.raises(InputError, match=said):
            maps.plot_map(frame, ax=figure.subplots(), column=column)


def test_plot_map_names_the_layers_there_are():
    with pytest.raises(InputError, match="'W2' has no rows; allowed: W1, a"):
        maps.plot_map(fit(make_runs(SHAPES["row"])), layer="W2")


def test_training_goes_along_the_time_of_the_flow_where_there_is_one():
    time = np.array([0.0, 3.0, 50.0])
    samples = make_samples().assign(time=[time] * 3)
    loss, change = examples.training(samples).axes
    assert change.lines[0].get_xdata().tolist() == [3.0, 50.0]
    assert loss.get_xscale() == "log" and "time" in loss.get_xlabel()
    for unknown in (None, np.full(3, np.nan), np.empty(0)):
        loss, _ = examples.training(samples.assign(time=[time, time, unknown])).axes
        assert loss.get_xlabel() == "evaluations"


def test_a_row_of_points_is_a_curve_with_intervals_and_the_rule():
    slopes = fit(make_runs(SHAPES["row"]))
    [ax] = maps.slope_map(slopes, "W1").axes
    rule = {line.get_label(): line for line in ax.lines}["predicted"]
    at = np.searchsorted(rule.get_xdata(), 0.9)
    assert rule.get_ydata()[at] == pytest.approx(slope_at(rule.get_xdata()[at], 0.0))
    of = slopes.assign(measure="relative_change_spectral")
    [ax_of] = maps.slope_map(of, "W1", "slope_infinite").axes
    assert ax_of.get_ylabel() == r"$S_{\infty, \mathrm{op}}(W_1)$"
    [ax_of] = maps.slope_map(slopes.assign(measure="kernel_change"), "W1").axes
    assert ax_of.get_ylabel() == "$S_{K}$"
    assert "predicted" not in {line.get_label() for line in ax_of.lines}
    dots = next(line for line in ax.lines if line.get_marker() == "o")
    np.testing.assert_array_equal(dots.get_ydata(), slopes.query("layer == 'W1'")["slope"])
    assert r"\gamma' = 0" in ax.get_xlabel()


def test_a_small_study_has_all_of_its_points_in_scaling():
    points = [(0.5, 0.0), (0.6, 0.0), (0.7, 0.0)]  # all linear
    runs = make_runs(points)
    labels = legend_labels(examples.scaling(runs, fit(runs), "W1").axes[0])
    assert [label.split(":")[0] for label in labels] == ["$W_1$ linear"] * 3
    assert len(legend_labels(examples.scaling(make_runs(GRID), fit(make_runs(GRID)), "W1").axes[0])) == 3


def test_scaling_tells_where_represented_networks_begin():
    runs = make_runs(GRID, widths=(100, 1000, 10**6))
    whole = examples.scaling(runs, fit(runs), "W1").axes[0]
    assert not whole.texts
    runs["neurons"] = np.minimum(runs["width"], 1000)
    [text] = examples.scaling(runs, fit(runs), "W1").axes[0].texts
    assert "N = 1000" in text.get_text() and text.get_position()[0] == 1000


def test_a_point_beside_the_line_is_not_called_critical():
    slopes = fit(make_runs([(0.5, 0.0), (0.9, 0.0), (1.75, 0.0)]))
    words = {example.point: example.words for example in examples.examples_of(slopes, "W1")}
    assert words[0.9, 0.0] == "$W_1$ nearly critical"


def test_runs_that_all_converged_need_no_map_of_those_that_did_not():
    runs = make_runs(GRID)
    figure = maps.diagnosis(runs)
    assert (figure.get_suptitle(), len(figure.axes)) == ("all runs converged", 4)  # maps and colour bars
    runs.loc[0, "status"] = "stalled"
    figure = maps.diagnosis(runs)
    assert (figure.get_suptitle(), len(figure.axes)) == ("", 6)


def test_agreement_shows_every_slope_and_its_difference_from_the_rule():
    slopes = fit(make_deeper_runs())
    far = slopes.index[(slopes["layer"] == "W2")][3]
    slopes.loc[far, ["slope_infinite", "slope_infinite_high"]] += 2.0
    both, apart = rule.agreement(slopes).axes
    for layer, line in zip(theory.LAYERS[3], both.lines, strict=False):
        of_layer = slopes.loc[slopes["layer"] == layer]
        np.testing.assert_array_equal(line.get_xdata(), of_layer["predicted_slope"])
        np.testing.assert_array_equal(line.get_ydata(), of_layer["slope_infinite"])
    assert [text.get_text() for text in both.get_legend().get_texts()] == ["$W_1$", "$W_2$", "$a$"]
    assert [text.get_text() for text in apart.get_legend().get_texts()] == [
        "95 % interval",
        "beyond the frame",
    ]
    outside = [line for line in apart.lines if line.get_marker() == "^" and len(line.get_xdata())]
    assert sum(len(line.get_xdata()) for line in outside) >= 1
    low, high = apart.get_ylim()
    assert -low == high < 1.0 and all((line.get_ydata() < high).all() for line in outside)


def test_deeper_networks_have_initialisations_of_their_own():
    """NTK of four layers is at gamma = 3/2, where three layers have Xavier."""
    slopes = fit(make_deeper_runs()).assign(depth=4)
    ax = maps.combined_regime_map(slopes).axes[0]
    texts = " ".join(text.get_text() for text in ax.texts)
    assert "NTK" in texts and "condensed" in texts
    marks = {tuple(np.ravel(line.get_xydata())) for line in ax.lines if line.get_marker() == "D"}
    inside = [point for point in theory.named_initialisations(4).values() if point[0] <= ax.get_xlim()[1]]
    assert marks == set(inside) and (1.5, 0.0) in marks


def test_three_layers_have_every_figure():
    runs = make_deeper_runs()
    drawn = draw_all(runs, fit(runs), make_deeper_samples(), DATA, 3)
    kinds = ("slope_map", "slope_infinite_map", "regime_map", "scaling")
    expected = {f"{kind}_{layer}" for kind in kinds for layer in ("W1", "W2", "a")}
    expected |= {f"{kind}_{layer}" for kind in ("orientation_map", "features") for layer in ("W1", "W2")}
    assert set(drawn) == expected | {
        "agreement",
        "regime_map",
        "diagnosis",
        "functions",
        "training",
        "operator_map_W2",
    }
    titles = [ax.get_title() for ax in drawn["features_W2"].axes]
    # no run is at the second point, (1.5, 0)
    words = ["linear", "critical (predicted)", "condensed"]
    assert [title.split(":")[0] for title in titles] == [f"$W_1$ {regime}" for regime in words]
    scaling_of_second = legend_labels(drawn["scaling_W2"].axes[0])
    assert r"$W_2$ critical: $\gamma=3" in scaling_of_second[1]
    assert len(drawn["training"].axes[1].get_legend().get_texts()) == 2


def test_combined_map_names_where_each_layer_condenses():
    slopes = fit(make_deeper_runs())
    ax = maps.combined_regime_map(slopes).axes[0]
    labels = legend_labels(ax)
    assert labels[:4] == list(maps.COMBINED_COLOURS)[:4]
    measured = [r"measured $S_\infty(W_1) = 0$", r"measured $S_\infty(W_2) = 0$"]
    assert labels[-4:] == [*measured, "95 % band", "predicted"]


def test_another_plane_has_lines_of_its_own_but_no_named_initialisations():
    runs = make_deeper_runs(gamma_1=0.25)
    drawn = draw_all(runs, fit(runs), make_deeper_samples(0.25), DATA, 3)
    assert "predicted" in legend_labels(drawn["slope_map_W1"].axes[0])
    assert not [text for text in drawn["slope_map_W1"].axes[0].texts if "NTK" in text.get_text()]
    assert r"\gamma_1 = 0.25" in drawn["slope_map_W1"].axes[0].get_xlabel()
    assert "predicted" in legend_labels(drawn["regime_map"].axes[0])
    assert drawn["features_W1"].axes[0].get_title() == r"$W_1$ linear: $\gamma=1,\ \gamma'=0$"
    assert len(legend_labels(drawn["scaling_W1"].axes[0])) == 3


def test_orientations_are_those_of_the_largest_width():
    runs = make_runs(GRID)
    runs.loc[runs["width"] < 10000, "orientations"] = 400.0
    figure = maps.orientation_map(runs, fit(runs), "W1")
    cells = figure.axes[1].collections[0].get_array()
    assert float(cells.max()) < 400.0
    assert any("$m = 10^{4}$" in ax.get_ylabel() for ax in figure.axes)


def test_labels_of_initialisations_do_not_cover_each_other():
    """Drawn, not estimated: the boxes of the texts that name initialisations."""
    figure = maps.slope_map(fit(make_deeper_runs()), "W1")
    figure.draw_without_rendering()
    names = {"NTK", "LeCun, He", "Xavier, maximal-update", "mean-field"}
    texts = {text.get_text().replace("\n", " "): text.get_window_extent() for text in figure.axes[0].texts}
    assert names <= set(texts)
    boxes = [texts[name] for name in names]
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[i + 1 :])


def test_the_fan_beyond_the_widths_has_the_slope_at_infinite_width():
    runs = make_deeper_runs()
    slopes = fit(runs)
    ax = examples.scaling(runs, slopes, "W1").axes[0]
    row = slopes.query("layer == 'W1' and gamma == 2.0 and gamma_prime == 0").iloc[0]
    x, y = ax.lines[-2].get_data()
    assert x[0] == 3000
    assert np.diff(np.log(y)) / np.diff(np.log(x)) == pytest.approx([row["slope_infinite"]])
    assert rf"$S_\infty$ = {row['slope_infinite']:.2f} (" in legend_labels(ax)[2]


def test_operator_norm_has_a_map_and_a_line_of_its_own():
    runs = make_deeper_runs()
    drawn = draw_all(runs, fit(runs), depth=3)
    ax, bar = drawn["operator_map_W2"].axes
    assert r"\mathrm{RD}_\mathrm{op}(W_2)" in bar.get_ylabel()
    [predicted] = [line for line in ax.lines if line.get_label() == "predicted"]
    assert predicted.get_xdata().min() == 1.5
    [measured] = [line for line in ax.lines if str(line.get_label()).startswith("measured")]
    at_zero = np.flatnonzero(np.abs(measured.get_ydata()) < 1e-9)
    assert measured.get_xdata()[at_zero] == pytest.approx([1.5], abs=0.1)


def test_a_kept_network_whose_second_layer_condenses_is_shown_beside_the_others():
    samples = make_deeper_samples()
    further = samples.loc[samples["gamma"] == 2.0].assign(gamma=3.4, gamma_prime=0.3)
    samples = pd.concat([samples, further], ignore_index=True)
    titles = [ax.get_title() for ax in examples.features(samples, "W2").axes]
    assert len(titles) == 4
    assert titles[3].startswith("$W_2$ condensed (predicted)\n")
    assert len(examples.training(samples).axes[0].lines) == 4


HABITS = """text.usetex: True
font.size: 22
font.family: monospace
lines.linewidth: 5
axes.grid: True
figure.facecolor: black
savefig.bbox: tight
savefig.pad_inches: 1
savefig.dpi: 33
figure.dpi: 55
axes.formatter.use_locale: True
svg.fonttype: none
path.sketch: 2, 10, 2
axes.prop_cycle: cycler('color', ['r'])
image.cmap: jet
"""
"""For TeX, slides, papers and the web."""


def draw():
    """The files of figures of every shape."""
    runs = make_runs([(0.5, 0.0), (0.5, 0.5), (1.5, 0.0), (1.5, 0.5)])
    slopes = fit(runs)
    drawn = draw_all(runs, slopes, make_samples(), DATA)
    names = ("slope_map_W1", "scaling_W1", "functions", "features_W1", "training", "diagnosis")
    return {name: style.render(drawn[name]) for name in names}


def test_figures_are_the_same_whatever_the_user_has_set_for_others(tmp_path):
    usual, file = draw(), tmp_path / "matplotlibrc"
    file.write_text(HABITS, encoding="utf-8")
    with matplotlib.rc_context(fname=file):
        changed = {
            key for key, value in matplotlib.rcParams.items() if value != matplotlib.rcParamsDefault[key]
        }
        assert {line.split(":")[0] for line in HABITS.splitlines()} <= changed
        assert draw() == usual


def test_a_backend_that_is_not_there_is_no_matter():
    """Of a notebook, whose environment a command inherits."""
    script = (
        "import sys; from phasediag.cli import main; sys.argv = ['phasediag', 'locate', '--name', 'He']\n"
        "try: main()\nexcept SystemExit: import matplotlib; print(matplotlib.get_backend())"
    )
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "MPLBACKEND": "nonsense"},
        capture_output=True,
        text=True,
    )
    assert (result.returncode, result.stdout.splitlines()[-1]) == (0, "agg"), result.stderr

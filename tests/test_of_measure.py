"""Measures of a folder: their fits and maps by the command line, the plate, the page, and what cannot be had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from browsers import chromium, needs_chromium, new_tab
from matplotlib.figure import Figure
from test_figures import make_deeper_runs
from test_report import invoke, make_folder, rows_of

from phasediag.display.page.render import standalone
from phasediag.errors import InputError
from phasediag.phase_diagram import info
from phasediag.phase_diagram.columns import MEASURE_SLOPES
from phasediag.phase_diagram.figures.maps import plot_map
from phasediag.phase_diagram.figures.plate import panels_of, plate
from phasediag.phase_diagram.fitting import critical_line, fit
from phasediag.phase_diagram.report.content import MapReport


def in_operator_norm(study):
    """Rows whose change in the operator norm has a slope 0.3 larger than in the Frobenius norm; none of a."""
    rows = rows_of(study)
    there = np.where(rows["layer"] == "a", np.nan, 1.0)
    return rows.assign(relative_change_spectral=there * rows["relative_change"] * rows["width"] ** 0.3)


@pytest.fixture
def store(tmp_path):
    return make_folder(tmp_path / "out", rows=in_operator_norm)


def test_the_fit_of_a_measure_is_written_and_printed(store):
    found = invoke("fit", store.out, "--measure", "relative_change_spectral", "--json")
    assert found.exit_code == 0, found.output
    summary = json.loads(found.stdout)
    assert summary["measure"] == "relative_change_spectral"
    assert list(summary["regimes"]) == ["W1"]  # a has no value
    assert sum(summary["regimes"]["W1"].values()) == 15
    distance = summary["rule_distance"]["linear"]["W1"]["W1"]["slope"]
    assert distance["rows"] == distance["crossed"] == 3
    assert 0.2 < distance["mean"] < 0.6
    written = pd.read_parquet(f"{store.out}/slopes_relative_change_spectral.parquet")
    assert written.columns.tolist() == MEASURE_SLOPES.names
    expected = fit(store.runs().query("layer == 'W1'"), measure="relative_change_spectral")
    pd.testing.assert_frame_equal(written, expected)
    told = invoke("fit", store.out, "--measure", "relative_change_spectral").output
    assert "relative change in operator norm: points" in told and "end of the linear regime" in told


def test_the_maps_of_a_measure_are_drawn_and_no_others(store):
    done = invoke("plot", store.out, "--measure", "relative_change_spectral", "--format", "png")
    assert done.exit_code == 0, done.output
    done = invoke("plot", store.out, "--measure", "orientations", "--format", "png")
    assert done.exit_code == 0, done.output
    drawn = {path.name for path in Path(store.out, "figures").iterdir()}
    assert drawn == {"relative_change_spectral_map_W1.png", "orientations_map_W1.png"}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("fit", "--measure", "speed"), "measure: 'speed' is not supported; allowed: relative_change, "),
        (
            ("fit", "--measure", "orientations"),
            "measure: 'orientations' is not supported; allowed: .*values",
        ),
        (
            ("fit", "--measure", "time"),
            "runs: time has no value in any row; allowed: relative_change, relative_change_spectral\n",
        ),
        (
            ("plot", "--measure", "time", "--points", "0.5,0"),
            "plot: --points cannot be given together with --measure",
        ),
    ],
)
def test_measures_that_cannot_be_had_are_refused(store, arguments, said):
    command, *options = arguments
    done = invoke(command, store.out, *options)
    assert done.exit_code == 2
    assert re.search(said, done.output)


def with_measures(study):
    """Rows of which the kernel does not change for gamma <= 1.25, then as the width to the power gamma - 1.25; and other measures."""
    rows = rows_of(study)
    excess = rows["gamma"] - 1.0
    power = np.where(excess < 0, excess, np.maximum(excess - 0.25, 0.0))
    layers = np.where(rows["layer"] == "a", np.nan, 1.0)
    return rows.assign(
        kernel_change=rows["width"] ** power,
        linear_gap=rows["width"] ** np.minimum(excess, 0.0),
        time_half=rows["width"] ** (2.0 * excess),
        effective_rank=layers * np.where(excess > 0, 1.5, 40.0),
        test_error=np.where(rows["gamma_prime"] > 0, 0.25, 0.5),
    )


@pytest.fixture
def whole(tmp_path):
    return make_folder(tmp_path / "out", rows=with_measures)


def test_a_slope_that_stays_at_0_has_two_lines(whole):
    slopes = fit(whole.runs(), measure="kernel_change")
    for side, expected in (("linear", 1.0), ("condensed", 1.25)):
        for column in ("slope", "slope_infinite"):
            line = critical_line(slopes, "network", column, side)
            assert line["gamma"].to_numpy() == pytest.approx([expected] * 3, abs=0.03)
    gap = fit(whole.runs(), measure="linear_gap")
    assert critical_line(gap, "network")["gamma"].to_numpy() == pytest.approx([1.0] * 3)
    assert critical_line(gap, "network", side="condensed").empty
    change = fit(whole.runs()).query("layer == 'W1'")
    pd.testing.assert_frame_equal(critical_line(change, "W1"), critical_line(change, "W1", side="condensed"))
    with pytest.raises(
        InputError, match=r"side: 'linar' is not supported; did you mean 'linear'[?] allowed: linear, "
    ):
        critical_line(change, "W1", side="linar")


def test_values_that_are_rounding_errors_are_left_out_of_fits(whole):
    runs = whole.runs()
    rounding = runs.assign(kernel_change=runs["kernel_change"].where(runs["width"] < 3000, 3e-15))
    few = fit(rounding, measure="kernel_change")
    assert set(few["widths"]) == {3} and set(few["left_out"]) == {2}
    three = fit(runs.query("width < 3000"), measure="kernel_change")
    assert few["slope"].to_numpy() == pytest.approx(three["slope"].to_numpy(), abs=1e-12)
    assert (info.values(rounding, "kernel_change")["runs"] == 0).all()


def test_the_plate_shows_what_there_is(whole):
    drawn = panels_of(whole.runs(), ("W1", "a"))
    assert [panel.measure.name for panel in drawn] == [
        "relative_change",
        "relative_change",
        "kernel_change",
        "linear_gap",
        "orientations",
        "test_error",
    ]
    figure = plate(drawn)
    maps = [ax for ax in figure.axes if ax.get_xlabel() == r"$\gamma$" or ax.get_ylabel() == r"$\gamma'$"]
    labels = {text.get_text() for text in figure.legends[0].get_texts()}
    assert {"measured $S_\\infty = 0$", "rule: $W_1$", "rule: $a$"} <= labels
    assert len(maps) == 4  # in the first column or the last row
    assert len(figure.axes) == 12  # and a colour bar of each
    deeper = make_deeper_runs()
    assert panels_of(deeper, ("W1", "W2", "a")) == []  # files of earlier versions have no more
    deeper = deeper.assign(kernel_change=deeper["relative_change"], effective_rank=3.0)
    names = [panel.measure.name for panel in panels_of(deeper, ("W1", "W2", "a"))]
    assert names == ["relative_change", "relative_change_spectral", "kernel_change", "effective_rank"]
    assert {*panels_of(deeper, ("W1", "W2", "a"))[1].rows["layer"]} == {"W2"}
    plate(panels_of(deeper, ("W1", "W2", "a"))).draw_without_rendering()
    assert panels_of(deeper.query("gamma_prime == 0"), ("W1", "W2", "a")) == []  # no plane


def test_values_of_one_row_are_drawn_against_gamma():
    runs = make_deeper_runs().query("gamma_prime == 0").assign(effective_rank=3.0)
    values = info.values(runs, "effective_rank")
    ax = Figure().subplots()
    assert plot_map(values, "W2", ax=ax, column="effective_rank") is ax
    np.testing.assert_array_equal(ax.lines[0].get_xdata(), np.sort(runs["gamma"].unique()))
    assert ax.get_ylabel() == "effective rank of $W_2$ at $m = 3000$" and ax.get_yscale() == "log"


def test_the_page_has_every_measure_that_has_values(whole):
    content = MapReport(whole).content(None)
    names = [measure["name"] for measure in content["measures"]]
    assert names == ["kernel_change", "linear_gap", "time_half", "effective_rank", "test_error"]
    assert [line["name"] for line in content["rule"]] == ["W1", "a"]
    [points, found] = (
        content["points"],
        {measure["name"]: measure["layers"] for measure in content["measures"]},
    )
    slopes = fit(whole.runs(), measure="kernel_change").set_index(["gamma", "gamma_prime"])
    kernel = found["kernel_change"]["network"]
    at = list(zip(points["gamma"], points["gamma_prime"], strict=True))
    np.testing.assert_allclose(kernel["values"], slopes.loc[at, "slope_infinite"], atol=1e-4)
    assert len(kernel["lines"]) == 2 and sum(kernel["regimes"].values()) == 15
    assert kernel["distances"]["W1"]["rows"] == 3
    assert found["time_half"]["network"]["lines"] == [] and found["time_half"]["network"]["limit"] > 1
    assert list(found["effective_rank"]) == ["W1"]
    assert found["effective_rank"]["W1"]["width"] == 3000
    assert found["test_error"]["network"]["range"] == [0.25, 0.5]


def test_the_page_of_a_folder_of_an_earlier_version_has_none(tmp_path):
    content = MapReport(make_folder(tmp_path / "out", rows=in_operator_norm)).content(None)
    assert content["measures"] == content["rule"] == []  # both norms of W1 have one line


@needs_chromium
def test_the_page_shows_the_measure_that_is_chosen(whole):
    whole.write_report(standalone(MapReport(whole), None))
    with chromium() as browser:
        page, faults = new_tab(browser)
        page.goto(Path(whole.out, "report.html").as_uri())
        assert page.locator("#layer-label").is_visible() and page.locator("#quantity-label").is_visible()
        page.select_option("#measure", "kernel_change")
        assert page.locator("#layer-label").is_hidden() and page.locator("#quantity-label").is_hidden()
        assert "kernel change: S at m → ∞ = " in page.locator("#selected").text_content()
        assert "By kernel change, of 15 points" in page.locator("#summary-text").text_content()
        assert "rule: W₁" in page.locator("#legend").text_content()
        page.select_option("#measure", "effective_rank")
        assert page.locator("#layer").evaluate(
            "select => [...select.options].map(option => option.text)"
        ) == ["W₁"]
        assert "measure=effective_rank" in page.evaluate("location.hash")
        page.reload()
        assert "effective rank of W₁ at m = 3000: " in page.locator("#selected").text_content()
        assert "test error" in page.locator("#cell-measures").text_content()
        page.select_option("#measure", "")
        assert "S = " in page.locator("#selected").text_content()
        assert page.locator("#quantity-label").is_visible()
        assert faults == []

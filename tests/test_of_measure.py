"""One measure of a folder by the command line: its fit, its maps, and what cannot be had."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from test_report import invoke, make_folder, rows_of

from phasediag.phase_diagram.columns import MEASURE_SLOPES
from phasediag.phase_diagram.fitting import fit


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
    distance = summary["rule_distance"]["W1"]["W1"]["slope"]
    assert distance["rows"] == distance["crossed"] == 3
    assert 0.2 < distance["mean"] < 0.6
    written = pd.read_parquet(f"{store.out}/slopes_relative_change_spectral.parquet")
    assert written.columns.tolist() == MEASURE_SLOPES.names
    expected = fit(store.runs().query("layer == 'W1'"), measure="relative_change_spectral")
    pd.testing.assert_frame_equal(written, expected)
    told = invoke("fit", store.out, "--measure", "relative_change_spectral").output
    assert "relative change in operator norm: points" in told and "off the line of" in told


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

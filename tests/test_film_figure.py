"""The figure of how kept networks condense, from samples as a folder gives them back."""

from __future__ import annotations

import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from matplotlib.figure import Figure
from studies import store_of
from test_figures import GRID, make_runs, make_samples

import phasediag
from phasediag.errors import InputError
from phasediag.phase_diagram import theory, training
from phasediag.phase_diagram.columns import FILM, TABLES
from phasediag.phase_diagram.figures.all import drawings
from phasediag.phase_diagram.figures.film import film
from phasediag.phase_diagram.fitting import fit
from phasediag.phase_diagram.jobs import Job
from phasediag.phase_diagram.report.kept import Kept
from phasediag.phase_diagram.spec import TrainSpec
from phasediag.storage.schema import VERSION_KEY

X = np.array([[-1.0], [-0.35], [0.3], [1.0]])
Y = np.array([0.6, -0.4, 0.5, -0.2])
POINTS = [(0.5, 0.0), (1.75, 0.0)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With kept networks of two widths."""
    folder = tmp_path_factory.mktemp("film") / "kept"
    store = store_of("phase-diagram", folder)
    store.check_writable()
    rows = [
        training.train_sample(Job(f"{point}{width}", 2, width, width, *point, 0.0, 0), X, Y, TrainSpec())
        for width in (40, 50)
        for point in POINTS
    ]
    for each in rows:
        store.publish_sample(TABLES.samples.table(each))
    return folder


@pytest.fixture(scope="module")
def samples(folder: Path) -> pd.DataFrame:
    return store_of("phase-diagram", folder).samples()


def test_every_network_has_its_film_and_its_course(samples: pd.DataFrame) -> None:
    axes = phasediag.plot_film(samples)
    kept = samples.loc[samples["width"] == 50].sort_values("gamma")
    assert len(axes) == 2 * 8
    for at, (_, row) in enumerate(kept.iterrows()):
        course, loss, *frames = axes[8 * at : 8 * (at + 1)]
        lines = {line.get_label(): line for line in course.lines}
        for label, column in (("directions", "orientations"), ("clusters", "clusters")):
            np.testing.assert_array_equal(lines[label].get_xdata(), row["moments"])
            np.testing.assert_array_equal(lines[label].get_ydata(), row[column])
        assert any(list(line.get_xdata()) == [row["onset"]] * 2 for line in course.lines)
        [share] = loss.lines
        np.testing.assert_allclose(share.get_ydata() * row["loss"][0], row["moment_loss"])
        assert len(frames) == 6
        for number, ax in enumerate(frames):
            before, now = (artist.get_offsets() for artist in ax.collections)
            start, expected = (
                np.column_stack([row["film_orientation"][of], row["film_amplitude"][of]])
                for of in (0, number)
            )
            np.testing.assert_array_equal(before, start)
            np.testing.assert_array_equal(now, expected)
        assert frames[0].get_title() == "$t$ = 0"
    legend = axes[0].get_figure(root=True).legends[0]
    names = ["directions", "clusters", "loss", "predicted onset", "times of the film"]
    assert [text.get_text() for text in legend.get_texts()] == names


def test_a_folder_draws_it_with_the_measured_regimes(samples: pd.DataFrame) -> None:
    runs = make_runs(GRID)
    slopes = fit(runs)
    slopes.loc[slopes["gamma"] == 0.5, "regime"] = "undetermined"
    drawn = drawings(runs, slopes, samples, {}, theory.LAYERS[2])
    titles = [part.get_suptitle() for part in drawn["film_W1"]().subfigs]
    assert [title.split(":")[0] for title in titles] == ["$W_1$ undetermined", "$W_1$ condensed"]
    assert titles[0].endswith("$m$ = 50")


def test_samples_of_an_early_version_are_read_and_have_no_film(
    folder: Path, samples: pd.DataFrame, tmp_path: Path
) -> None:
    early, mixed = tmp_path / "early", tmp_path / "mixed"
    for place in (early, mixed):
        shutil.copytree(folder, place)
    wide = set(samples.loc[samples["width"] == 50, "job_id"])
    for place, chosen in ((early, set(samples["job_id"])), (mixed, set(sorted(wide)[:1]))):
        for job in chosen:
            file = place / "samples" / f"{job}.parquet"
            table = pq.read_table(file).drop(FILM.names)
            pq.write_table(table.replace_schema_metadata({**table.schema.metadata, VERSION_KEY: b"1"}), file)
    found = store_of("phase-diagram", early).samples()
    assert found["onset"].isna().all()
    assert all(len(values) == 0 for name in FILM.names[1:] for values in found[name])
    runs = make_runs(GRID)
    drawn = drawings(runs, fit(runs), found, {}, theory.LAYERS[2])
    assert "features_W1" in drawn and not any(name.startswith("film") for name in drawn)
    assert Kept(store_of("phase-diagram", early)).networks()
    with pytest.raises(
        InputError, match=r"samples: hold no film; allowed: networks of version 0\.2 or later"
    ):
        phasediag.plot_film(found)
    assert len(film(store_of("phase-diagram", mixed).samples(), "W1").subfigs) == 1
    wide_ones = samples.query("width == 50")
    as_pandas_reads = wide_ones.assign(film_time=[None, *wide_ones["film_time"][1:]])
    assert len(film(as_pandas_reads, "W1").subfigs) == 1
    with pytest.raises(InputError, match=r"samples: missing columns onset, moments, moment_loss, .*needed"):
        phasediag.plot_film(make_samples())


def changed(samples: pd.DataFrame, **values: object) -> pd.DataFrame:
    """One of the networks, with other values."""
    return samples.iloc[:1].assign(**{name: [value] for name, value in values.items()})


def test_what_cannot_be_predicted_has_no_line(samples: pd.DataFrame) -> None:
    course = film(changed(samples, onset=np.nan), "W1").axes[0]
    assert [
        line for line in course.lines if len(set(line.get_xdata())) == 1 and len(line.get_xdata()) == 2
    ] == []


def test_where_all_happens_at_the_end_the_axis_is_linear(samples: pd.DataFrame) -> None:
    logarithmic = film(samples.iloc[:1], "W1").axes[0]
    assert logarithmic.get_xscale() == "log"
    end = float(samples.iloc[0]["moments"][-1])
    linear = film(changed(samples, onset=0.9 * end), "W1").axes[0]
    assert linear.get_xscale() == "linear"
    assert linear.get_xlim() == pytest.approx((0.5 * end, end))


def test_a_training_that_ends_before_the_onset_is_shown_as_far_as_it_goes(samples: pd.DataFrame) -> None:
    end = float(samples.iloc[0]["moments"][-1])
    course = film(changed(samples, onset=1.5 * end), "W1").axes[0]
    assert course.get_xscale() == "log" and course.get_xlim()[0] < course.get_xlim()[1] == end


def test_of_more_inputs_it_shows_cosines_and_spread_out_directions() -> None:
    x = np.random.default_rng(0).standard_normal((4, 30))
    [row] = training.train_sample(Job("wide", 2, 200, 200, 0.6, 0.0, 0.0, 0), x, Y, TrainSpec())
    course, _, *frames = film(pd.DataFrame([row]), "W1").axes
    assert {ax.get_xlabel() for ax in frames} == {"cosine"} and frames[0].get_xlim() == (-1.05, 1.05)
    assert course.get_ylim()[1] > max(row["clusters"]) > 100


def test_nothing_is_cut_off(samples: pd.DataFrame) -> None:
    figure: Figure = film(samples, "W1")
    figure.draw_without_rendering()
    width, height = figure.bbox.size
    for ax in figure.axes:
        box = ax.get_tightbbox()
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1
    frames = [ax.get_tightbbox() for ax in figure.axes[2:8]]
    assert all(left.x1 <= right.x0 for left, right in pairwise(frames))

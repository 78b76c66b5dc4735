"""What is fitted and drawn of a folder: it counts as current by the content of the rows, not by their number."""

from __future__ import annotations

import math
import os
from functools import partial
from multiprocessing import parent_process
from pathlib import Path

import pandas as pd
import pytest
from matplotlib.figure import Figure
from studies import store_of
from test_sweep import study, succeed

import phasediag
from phasediag.display.drawing import render_all
from phasediag.display.figures import new_figure
from phasediag.errors import InputError
from phasediag.phase_diagram.figures import examples
from phasediag.phase_diagram.training import failed_rows
from phasediag.storage.store import Store
from phasediag.sweep.drawing import is_drawn, plot_folder
from phasediag.sweep.load import Results
from phasediag.sweep.results import fit_folder

WIDTHS = (10, 100, 1000)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Rows of three widths at one point, RD = 1 everywhere; the job of the largest width has failed."""
    found = store_of("phase-diagram", tmp_path / "out")
    found.write_study(study(1).to_toml())
    for width in WIDTHS:
        job = study(1).job(width, 0.5, 0.0, 0)
        rows = failed_rows(job, "out of memory") if width == WIDTHS[-1] else succeed([job], "cpu", 1)
        found.publish_runs(rows)
    return found


def change_of_largest(store: Store, change: float) -> None:
    """What a sweep does that tries the failed job again."""
    store.drop_failed()
    job = study(1).job(WIDTHS[-1], 0.5, 0.0, 0)
    store.publish_runs([row | {"relative_change": change} for row in succeed([job], "cpu", 1)])


def test_slopes_are_out_of_date_once_a_failed_job_was_tried_again(store: Store) -> None:
    """Its rows replace the failed ones one for one: counting them would tell nothing."""
    assert not Results(store).is_fitted
    before = fit_folder(store)
    assert Results(store).is_fitted
    assert before["slope"].tolist() == [0.0, 0.0]
    number = len(store.runs())
    change_of_largest(store, math.sqrt(10.0))
    assert len(store.runs()) == number
    assert not Results(store).is_fitted
    assert Results(store).fitted["slope"].to_numpy() == pytest.approx(0.25)
    assert store.fitted()["slope"].tolist() == [0.0, 0.0], "asking writes nothing"
    fit_folder(store)
    assert Results(store).is_fitted


def test_slopes_are_out_of_date_once_a_row_has_another_value(store: Store) -> None:
    """As when a job was trained again by another version: the ids and their number are the same."""
    change_of_largest(store, 1.0)
    fit_folder(store)
    change_of_largest(store, 1.5)
    assert not Results(store).is_fitted


def test_the_order_of_batches_and_files_does_not_matter(store: Store, tmp_path: Path) -> None:
    fit_folder(store)
    other = store_of("phase-diagram", tmp_path / "other")
    rows = store.runs()
    for _, part in rows.groupby(rows["status"] == "failed"):
        other.publish_runs(part.iloc[::-1].to_dict("records"))
    other.write_fitted(store.fitted(), store.runs())
    assert Results(other).is_fitted


def test_what_says_not_to_which_rows_it_was_fitted_or_is_damaged_is_fitted_again(store: Store) -> None:
    fitted = fit_folder(store)
    file = Path(store.out, "slopes.parquet")
    store.write_table("slopes.parquet", fitted, store.tables.fitted)  # as earlier versions wrote it
    assert not Results(store).is_fitted
    pd.testing.assert_frame_equal(Results(store).fitted, fitted)
    file.write_bytes(file.read_bytes()[:100])
    assert not Results(store).is_fitted
    pd.testing.assert_frame_equal(fit_folder(store), fitted)
    assert Results(store).is_fitted


def test_figures_are_out_of_date_once_what_they_show_changes_or_they_are_not_what_was_drawn(
    store: Store,
) -> None:
    def draw() -> list[str]:
        fit_folder(store)
        names = list(plot_folder(Results(store)))
        assert is_drawn(Results(store))
        return names

    assert not is_drawn(Results(store))
    names = draw()
    change_of_largest(store, 1.5)
    assert not is_drawn(Results(store))
    draw()
    store.write_study(study(1).to_toml().replace('name = "', 'name = "another-'))
    assert not is_drawn(Results(store))
    draw()
    figure = Path(store.out, names[-1])
    content = figure.read_bytes()
    figure.unlink()
    assert not is_drawn(Results(store))
    figure.write_bytes(content[:-1] + b" ")
    assert not is_drawn(Results(store)), "somebody has edited it"
    draw()
    assert figure.read_bytes() == content
    kept = Path(store.out, "samples/0123456789abcdef0123.parquet")
    kept.parent.mkdir()
    store.write_table(f"samples/{kept.name}", store.samples(), store.tables.samples)
    assert not is_drawn(Results(store))
    draw()
    kept.write_bytes(kept.read_bytes() + b" ")
    assert not is_drawn(Results(store)), "it is another network under the same name"
    kept.unlink()
    draw()
    store.write_data(study(1).data.arrays())
    assert not is_drawn(Results(store))
    draw()
    store.write_table("slopes.parquet", store.fitted(), store.tables.fitted)
    assert not is_drawn(Results(store)), "the slopes say no longer of which rows they are"


def test_results_are_loaded_part_by_part(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is fitted is that of the rows, whether or not the folder's is; nothing is written."""
    before = {path: path.read_bytes() for path in Path(store.out).rglob("*") if path.is_file()}
    results = phasediag.load(store.out)
    pd.testing.assert_frame_equal(results.runs, store.runs())
    pd.testing.assert_frame_equal(results.slopes, phasediag.fit(store.runs()))
    assert results.samples.empty
    assert {path: path.read_bytes() for path in Path(store.out).rglob("*") if path.is_file()} == before
    fit_folder(store)
    pd.testing.assert_frame_equal(phasediag.load(store.out).slopes, store.fitted())
    networks = results.runs["job_id"].nunique()
    for text in (repr(results), results._repr_html_()):
        assert f"{len(results.runs):,} rows of {networks:,} networks" in text
        assert "slopes" in text
    assert "slopes" in dir(results)
    with pytest.raises(AttributeError, match="no 'counts'; allowed: runs, slopes, samples, data"):
        _ = results.counts


def test_a_folder_without_a_study_is_not_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study"):
        phasediag.load(tmp_path)


def test_some_figures_in_some_formats_leave_the_others_as_they_are(store: Store) -> None:
    fit_folder(store)
    every = set(plot_folder(Results(store)))
    folder = Path(store.out, "figures")
    before = {path.name: path.read_bytes() for path in folder.glob("*.*g")}
    some = list(plot_folder(Results(store), ["scaling_W1"], ["pdf", "svg"]))
    assert some == ["figures/scaling_W1.pdf", "figures/scaling_W1.svg"]
    assert {path.name: path.read_bytes() for path in folder.glob("*.*g")} == before
    assert (folder / "scaling_W1.pdf").read_bytes().startswith(b"%PDF")
    assert set(plot_folder(Results(store), ["scaling"], ["png"])) == {
        "figures/scaling_W1.png",
        "figures/scaling_a.png",
    }
    assert is_drawn(Results(store))
    assert set(plot_folder(Results(store))) == every
    with pytest.raises(
        InputError,
        match=r"--only: 'scalin' is no figure of .*; did you mean 'scaling'\? allowed: scaling_W1, scaling_a",
    ):
        list(plot_folder(Results(store), ["scalin"]))
    with pytest.raises(InputError, match=r"--format: 'jpg' is not supported; allowed: png, svg, pdf"):
        list(plot_folder(Results(store), formats=["jpg"]))


def test_figures_that_were_half_drawn_are_out_of_date(store: Store) -> None:
    fit_folder(store)
    list(plot_folder(Results(store)))
    drawing = plot_folder(Results(store))
    next(drawing)
    drawing.close()  # as when the process dies there
    assert not is_drawn(Results(store))


def test_a_damaged_word_on_figures_means_that_they_are_drawn_again(store: Store) -> None:
    fit_folder(store)
    list(plot_folder(Results(store)))
    for damaged in (b"{", b"[]", b'{"source": 1}', b""):
        Path(store.out, "figures/.drawn").write_bytes(damaged)
        assert not is_drawn(Results(store))


def test_rows_are_read_once_and_only_what_is_asked_for_is_drawn(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, drawn = [], []
    monkeypatch.setattr(Store, "runs", lambda self, of=Store.runs: read.append(self) or of(self))
    monkeypatch.setattr(
        examples, "scaling", lambda *given, of=examples.scaling: drawn.append(given[2]) or of(*given)
    )
    results = Results(store)
    assert (
        results.keep_fit() and results.is_fitted and not results.keep_fit() and not Results(store).keep_fit()
    )
    read.clear()
    assert list(plot_folder(results, ["scaling_a"], ["png"])) == ["figures/scaling_a.png"]
    assert (len(read), drawn) == (0, ["a"])


def test_chosen_points_have_files_of_their_own(store: Store) -> None:
    assert next(iter(plot_folder(Results(store)))) == "slopes.parquet"
    list(plot_folder(Results(store)))
    folder = Path(store.out, "figures")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    point = ["0.5,0"]
    some = list(plot_folder(Results(store), ["scaling_W1"], ["svg"], point))
    assert some == ["figures/scaling_W1_points.svg"]
    assert set(plot_folder(Results(store), points=point)) == {
        f"figures/scaling_{layer}_points.{ending}" for layer in ("W1", "a") for ending in ("png", "svg")
    }
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name: after[name] for name in before} == before
    assert is_drawn(Results(store)), "they say nothing of the others"
    with pytest.raises(
        InputError, match=r"points: 0.6,0 is not in the study; allowed: its points, the nearest 0.5,0"
    ):
        list(plot_folder(Results(store), points=["0.6,0"]))
    with pytest.raises(
        InputError,
        match=r"--only: 'functions' is no figure of .*; allowed: scaling_W1_points, scaling_a_points",
    ):
        list(plot_folder(Results(store), ["functions"], points=point))


def figure_of(number: int) -> Figure:
    """A figure that differs from others."""
    if number == 3 and parent_process() is not None:
        os._exit(9)  # as when memory has run out
    figure = new_figure(1.0, 1.0)
    figure.subplots().plot([0, number])
    return figure


def test_processes_draw_what_one_draws_even_if_one_dies() -> None:
    drawings = {f"f{number}": partial(figure_of, number) for number in range(8)}
    one, two = (list(render_all(drawings, "study", ["svg", "png"], processes)) for processes in (1, 2))
    assert one == two and [name for name, _ in one] == list(drawings)
    assert len({files["svg"] for _, files in one}) == 8
    assert b"study: f7" in one[7][1]["svg"]

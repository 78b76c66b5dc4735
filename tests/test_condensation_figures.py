"""Figures of condensation studies: what they contain, and what they survive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tomli_w
from matplotlib.figure import Figure
from studies import draw_each, trainer_of

import phasediag
from phasediag.condensation import figures
from phasediag.condensation.columns import TABLES
from phasediag.condensation.counts import summarise
from phasediag.display.figures import render
from phasediag.kinds import read_study

DATA = {"kind": "function", "target": "sum_sin", "low": -2.0, "high": 2.0, "samples": 20}
TRAIN = {"method": "adam", "epochs": 30, "learning_rate": 2e-3, "snapshots": [10]}

Drawn = tuple[pd.DataFrame, pd.DataFrame, Mapping[str, Any]]


def drawn_from(folder: Path, **tables: dict[str, Any]) -> Drawn:
    """Runs, samples and data of a small study."""
    spec: dict[str, Any] = {
        "name": "drawn",
        "kind": "condensation",
        "network": {"hidden": [12]},
        "data": DATA,
        "grid": {"activation": ["tanh", "x_tanh", "relu"], "std": [0.01], "seeds": 3},
        "train": TRAIN,
    }
    for table, changes in tables.items():
        spec[table] = {**spec[table], **changes}
    path = folder / "spec.toml"
    path.write_text(tomli_w.dumps(spec))
    study = read_study(path)
    runs = phasediag.train(study)
    trainer = trainer_of(study)
    rows = [row for job in study.sample_jobs() for row in trainer.sample(job, "cpu", 1)]
    samples = pa.Table.from_pylist(rows, schema=TABLES.samples.schema).to_pandas()
    return runs, samples, study.data.arrays()


@pytest.fixture(scope="module")
def one_input(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return drawn_from(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="module")
def layers(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return drawn_from(
        tmp_path_factory.mktemp("layers"),
        network={"hidden": [6, 6], "residual": True},
        data={"dimension": 2},
        grid={"activation": [["x_tanh", "tanh"]]},
    )


@pytest.fixture(scope="module")
def planes(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    return drawn_from(
        tmp_path_factory.mktemp("planes"),
        data={"dimension": [1, 2, 3]},
        grid={"std": [0.1, 0.001], "activation": ["tanh", "x_tanh"]},
    )


def titles(figure: Figure) -> list[str]:
    return [ax.get_title() for ax in figure.axes if ax.get_title()]


def test_one_input_has_every_figure(one_input: Drawn) -> None:
    drawn = draw_each(figures.drawings(*one_input))
    names = ["counts", "directions", "evolution", "heatmap", "outputs", "thresholds", "training"]
    assert sorted(drawn) == names
    for figure in drawn.values():
        assert figure.get_size_inches()[0] <= 7.01
        files = render(figure)
        assert files["png"][:4] == b"\x89PNG" and files["svg"].startswith(b"<?xml")


def test_figures_are_the_same_every_time(one_input: Drawn) -> None:
    first, second = (render(draw_each(figures.drawings(*one_input))["heatmap"]) for _ in range(2))
    assert first == second


def test_more_inputs_have_no_curves_and_layers_have_panels(layers: Drawn) -> None:
    drawn = draw_each(figures.drawings(*layers))
    assert sorted(drawn) == ["counts", "evolution", "heatmap", "thresholds", "training"]
    assert any(title.startswith(r"H1: $x\,\tanh x$, $p=2$") for title in titles(drawn["heatmap"]))
    assert any(title.startswith("H2: tanh, $p=1$") for title in titles(drawn["heatmap"]))


def test_few_planes_have_figures_of_their_own_and_an_overview(planes: Drawn) -> None:
    runs, samples, data = planes
    drawn = draw_each(figures.drawings(runs, samples, data))
    assert sorted(drawn) == ["overview"]
    two = runs.loc[(runs["dimension"] == 2)]
    few = draw_each(figures.drawings(two, samples, data))
    assert {"overview", "heatmap_d2_std0.1", "heatmap_d2_std0.001", "counts_d2_std0.1"} <= set(few)
    assert "outputs_d2_std0.1" not in few


def test_heatmaps_show_inner_products_between_minus_one_and_one(one_input: Drawn) -> None:
    runs, samples, _ = one_input
    figure = figures.heatmap(samples, runs)
    images = [image for ax in figure.axes for image in ax.get_images()]
    assert len(images) == 6
    for image in images:
        values = np.asarray(image.get_array())
        assert values.shape[0] == values.shape[1] <= 12
        np.testing.assert_allclose(values, values.T)
        np.testing.assert_allclose(np.diagonal(values), 1.0)
        assert (image.norm.vmin, image.norm.vmax) == (-1.0, 1.0)


def test_heatmaps_count_lines_only_of_networks_that_have_condensed(one_input: Drawn) -> None:
    runs, samples, _ = one_input
    parallel, scattered = np.array([[1.0, 0.0]] * 12), np.random.default_rng(0).standard_normal((12, 2))
    two = np.where(np.arange(12)[:, None] < 6, [1.0, 0.0], [0.0, 1.0])
    for weights, caption in (
        (parallel, "100% on 1 line"),
        (two, "100% on 2 lines"),
        (scattered, "% on a line"),
    ):
        figure = figures.heatmap(samples.assign(input=[list(weights)] * len(samples)), runs)
        assert all(ax.get_xlabel().endswith(caption) for ax in figure.axes if ax.get_images())


def test_counts_show_every_seed_and_the_bound(one_input: Drawn) -> None:
    runs, _, _ = one_input
    [ax] = figures.counts(runs).axes
    found = summarise(runs).set_index("activation")
    labels = [label.get_text() for label in ax.get_xticklabels()]
    assert [label.split("\n")[1] for label in labels] == ["$p=1$", "$p=2$", "no $p$"]
    bounds = [line.get_ydata()[0] for line in ax.lines]  # type: ignore[index]
    assert bounds == [1, 2]
    for place, activation in enumerate(("tanh", "x_tanh", "relu")):
        dots = np.asarray(ax.collections[place].get_offsets())
        there = runs.loc[
            (runs["activation"] == activation) & (runs["epoch"] == found.loc[activation, "epoch"])
        ]
        assert sorted(dots[:, 1]) == sorted(set(there["lines"]))


def test_evolution_shades_where_half_of_the_seeds_have_condensed(one_input: Drawn) -> None:
    runs, _, _ = one_input
    runs = runs.assign(aligned_fraction=np.where(runs["epoch"] == 10, 0.95, 0.1), lines=1.0)
    figure = figures.evolution(runs)
    assert len(figure.axes) == 6
    assert all(len(ax.patches) == 1 for ax in figure.axes[:3])
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert legend[:3] == ["half of the seeds condensed", "all seeds (area: share)", "bound: $p$ lines"]
    assert len(legend) == 6


def test_the_bound_is_within_the_panel_of_fewer_lines(one_input: Drawn) -> None:
    runs, _, _ = one_input
    figure = figures.evolution(runs.assign(lines=1.0, multiplicity=7))
    assert all(ax.get_ylim()[1] > 7 for ax in figure.axes[:3])


@pytest.mark.parametrize(
    "epochs", [[0, 0], [0, 1], [0, 20, 40], [0, 3], [0, 7, 1_000_000], [0, 1, 10, 100, 1000, 10**5]]
)
def test_epoch_axes_have_two_to_six_names_whatever_the_snapshots(one_input: Drawn, epochs: list[int]) -> None:
    runs, _, _ = one_input
    found = runs.groupby(["activation", "seed"]).cumcount()
    runs = runs.assign(epoch=[epochs[k % len(epochs)] for k in found]).drop_duplicates(
        ["activation", "seed", "epoch"]
    )
    figure = figures.evolution(runs)
    figure.canvas.draw()
    names = [label.get_text() for label in figure.axes[-1].get_xticklabels()]
    assert 2 <= len(names) <= 6 and len(set(names)) == len(names)


def test_thresholds_show_the_curve_and_the_means(one_input: Drawn) -> None:
    runs, samples, _ = one_input
    figure = figures.thresholds(samples, runs)
    assert len(figure.axes) == 3
    for ax in figure.axes:
        assert ax.get_ylim()[0] == 0 and len(ax.containers) == 3


def test_direction_fields_show_every_neuron(one_input: Drawn) -> None:
    runs, samples, _ = one_input
    figure = figures.directions(samples, runs)
    assert figure.axes
    for ax in figure.axes:
        dots = [line for line in ax.lines if line.get_marker() == "o"]
        assert sum(len(np.asarray(line.get_xdata())) for line in dots) == 12


def test_overview_has_a_cell_for_every_dimension_and_scale(planes: Drawn) -> None:
    figure = figures.overview(planes[0])
    panels = [ax for ax in figure.axes if ax.get_title()]
    assert len(panels) == 2
    for ax in panels:
        assert [label.get_text() for label in ax.get_xticklabels()] == ["1", "2", "3"]
        assert len(ax.texts) == 6
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["0.001", "0.1"]


def test_runs_that_all_diverged_have_nothing_to_draw(one_input: Drawn) -> None:
    runs, samples, data = one_input
    gone = runs.assign(lines=np.nan, aligned_fraction=np.nan, status="diverged")
    assert draw_each(figures.drawings(gone, samples, data)) == {}


def test_snapshots_that_were_not_reached_are_said_to_be_missing(one_input: Drawn) -> None:
    runs, samples, _ = one_input
    figure = figures.heatmap(samples.loc[samples["epoch"] < 10], runs)
    assert any(text.get_text() == "not reached" for ax in figure.axes for text in ax.texts)


def test_networks_without_active_neurons_are_drawn(one_input: Drawn) -> None:
    runs, samples, data = one_input
    dead = samples.assign(input=[[np.zeros(2, np.float32)] * 12 for _ in range(len(samples))])
    none = runs.assign(lines=0.0, aligned_fraction=np.nan, active_neurons=0.0)
    for figure in draw_each(figures.drawings(none, dead, data)).values():
        figure.canvas.draw()


def test_networks_that_mix_activations_are_told_apart(tmp_path: Path) -> None:
    runs, samples, data = drawn_from(
        tmp_path,
        network={"hidden": [6, 6]},
        grid={"activation": [["tanh", "relu"], ["tanh", "sigmoid"], "tanh"]},
    )
    drawn = draw_each(figures.drawings(runs, samples, data))
    found = titles(drawn["evolution"])
    assert len(set(found)) == 6
    assert "tanh/ReLU\nH1: tanh, $p=1$" in found and "H1: tanh, $p=1$" in found


def test_without_samples_or_data_the_rest_is_drawn(one_input: Drawn) -> None:
    runs, samples, _ = one_input
    assert sorted(draw_each(figures.drawings(runs, samples.iloc[:0], {}))) == ["counts", "evolution"]
    assert "outputs" in draw_each(figures.drawings(runs, samples, {}))

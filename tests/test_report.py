"""The page of a phase diagram: what it holds, without a browser."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from test_figures import make_samples, slope_at
from typer.testing import CliRunner

from phasediag.cli import app
from phasediag.display.page import render
from phasediag.display.page.render import standalone, to_json
from phasediag.kinds import open_store, read_study
from phasediag.phase_diagram import theory
from phasediag.phase_diagram.columns import TABLES
from phasediag.phase_diagram.fitting import fit
from phasediag.phase_diagram.report.content import MapReport
from phasediag.phase_diagram.report.kept import NEURONS_SHOWN
from phasediag.phase_diagram.training import failed_rows
from phasediag.sweep.report import FAILURES_LISTED
from phasediag.sweep.status import read_status

EVIL = "<img src=x onerror=\"document.title='run'\"></script><b>bold</b>\u2028&amp;"
SPEC = """
name = "small"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [100, 300, 1000, 3000], gamma = [0.5, 0.75, 1.0, 1.25, 1.7], gamma_prime = [-0.25, 0.0, 0.3], seeds = 2 }
samples = { points = [[0.5, 0.0], [1.7, 0.0]], width = 100 }
"""
GRID = re.search("grid = .*", SPEC).group()


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def scatter(job_id, count):
    """Random numbers that are a job's own, whichever others there are."""
    return np.random.default_rng(int(job_id, 16)).normal(size=count)


def rows_of(study, layers=("W1", "a"), gamma_1=0.0):
    """Rows as `runs/` holds them, of all jobs of a study, with slopes near those of leading order."""
    rows = [
        {
            **row,
            "gamma_1": gamma_1,
            "relative_change": 2.0 * job.width ** slope_at(job.gamma, job.gamma_prime) * noise,
            "relative_change_spectral": 1.0,
            "norm_initial": 10.0,
            "norm_final": 20.0,
            "orientations": np.nan if row["layer"] == "a" else 5.0 + 10 * noise,
            "loss_initial": 0.1 * noise,
            "loss_final": 1e-7 * noise,
            "evaluations": 40 + i % 7,
            "status": "converged",
            "error": "",
            "wall_seconds": 0.5,
            "device": "cpu",
            "version": "0.2.0",
        }
        for i, job in enumerate(study.jobs())
        for row, noise in zip(
            [row for row in failed_rows(job, "") if row["layer"] in layers],
            np.exp(0.02 * scatter(job.job_id, len(layers))),
            strict=True,
        )
    ]
    return pd.DataFrame(rows)


def with_status(rows, jobs, status, error=""):
    """The rows with these of the jobs (numbers) having ended so."""
    chosen = rows["job_id"].isin(rows["job_id"].drop_duplicates().iloc[list(jobs)])
    rows.loc[chosen, ["status", "error"]] = [status, error]
    if status == "failed":
        rows.loc[chosen, ["relative_change", "orientations", "loss_initial", "loss_final"]] = np.nan
    return rows


def make_folder(out, spec=SPEC, rows=rows_of, samples=None, text=None):
    """A folder as `run` leaves it; ``text`` stands in the place of the spec, whatever it says."""
    (out.parent / "spec.toml").write_text(spec)
    study, store = read_study(out.parent / "spec.toml"), open_store(out)
    store.write_study(text or study.to_toml())
    store.write_data({"x": study.data.x, "y": study.data.y})
    for _, part in rows(study).groupby("status") if rows else []:
        store.publish_runs(table_of(part, TABLES.runs))
    for _, part in samples.groupby("job_id") if samples is not None else []:
        store.publish_sample(table_of(part, TABLES.samples))
    return store


CURVES = ("x", "f_initial", "f_final", "evaluations", "loss", "relative_change")


def table_of(frame, schema):
    filled = frame.assign(**{name: None for name in schema.names if name not in frame.columns})
    lists = {
        name: [np.asarray(value).tolist() for value in filled[name]]
        for name in (*CURVES, "moments", "orientations", "clusters")
        if name in filled and filled[name].dtype == object
    }
    return pa.Table.from_pandas(filled.assign(**lists)[schema.names], schema.schema, preserve_index=False)


def gather(store, progress):
    """What the page shows, its runs among them: of each, and of its point."""
    report = MapReport(store)
    content = report.content(progress)
    return {**content, "runs_of": {cell: report.runs(cell) for cell in content["cells"]}}


def page(store, progress):
    return standalone(MapReport(store), progress)


def two_networks():
    """A network of 60 neurons at each of two points, the second one with a film."""
    return make_samples([(0.5, 0.0), (1.7, 0.0)]).assign(
        onset=[np.nan, 20.0],
        moments=[[], [0.0, 10.0, 30.0, 100.0]],
        orientations=[[], [17.0, 8.0, 2.0, 3.0]],
        clusters=[[], [15, 9, 2, 3]],
    )


def status_of(store):
    return read_status(store)


@pytest.fixture
def small(tmp_path):
    return make_folder(tmp_path / "out", samples=two_networks())


class Page(HTMLParser):
    """Elements of a page by name, with the text of scripts; and the content that it holds."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.scripts, self._in = [], [], None
        self.feed(html)
        self.content = json.loads(self.scripts[0])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._in = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag):
        self._in = None

    def handle_data(self, data):
        if self._in == "script":
            self.scripts[-1] += data


# Numbers.


def test_every_number_of_a_run_is_that_of_its_row(small):
    content, runs = gather(small, status_of(small)), small.runs()
    assert content["runs"] == sum(len(of["id"]) for of in content["runs_of"].values()) == 120
    for point, cell in enumerate(content["cells"]):
        jobs, gamma = content["runs_of"][cell], content["points"]["gamma"][point]
        at = runs.loc[
            (runs["gamma"] == gamma) & (runs["gamma_prime"] == content["points"]["gamma_prime"][point])
        ]
        assert sorted(jobs["id"]) == sorted(at["job_id"].unique())
        for layer in ("W1", "a"):
            rows = at.loc[at["layer"] == layer].set_index("job_id").loc[jobs["id"]]
            np.testing.assert_allclose(jobs["change"][layer], rows["relative_change"], rtol=1e-4)
        rows = at.loc[at["layer"] == "W1"].set_index("job_id").loc[jobs["id"]]
        for column in ("loss_initial", "loss_final"):
            np.testing.assert_allclose(jobs[column], rows[column], rtol=1e-3)
        assert jobs["seed"] == rows["seed"].tolist()
        assert jobs["evaluations"] == rows["evaluations"].tolist()
        assert [content["widths"][i] for i in jobs["width"]] == rows["width"].tolist()
        assert {content["statuses"][i] for i in jobs["status"]} == {"converged"}
        np.testing.assert_allclose(jobs["orientations"]["W1"], rows["orientations"], rtol=1e-4)
        assert set(jobs["orientations"]["a"]) == {None}


def test_slopes_lines_and_counts_are_those_of_the_fit(small):
    content, slopes = gather(small, status_of(small)), fit(small.runs())
    points = list(zip(content["points"]["gamma"], content["points"]["gamma_prime"], strict=True))
    for layer in content["layers"]:
        rows = slopes.loc[slopes["layer"] == layer["name"]].set_index(["gamma", "gamma_prime"]).loc[points]
        for column, values in layer["slopes"].items():
            np.testing.assert_allclose(values, rows[column], rtol=1e-4)
        assert [content["regimes"][i] for i in layer["regime"]] == rows["regime"].tolist()
        assert layer["runs"] == rows["runs"].tolist() and set(layer["left_out"]) == {0}
    first, last = content["layers"]
    for layer in (first, last):
        predicted = [content["regimes"][i] for i in layer["predicted_regime"]]
        assert predicted == [theory.predicted_regime(layer["name"], 2, *point) for point in points]
    np.testing.assert_allclose(
        first["predicted"]["gamma"],
        1.0 + np.maximum(np.array(first["predicted"]["gamma_prime"]), 0.0),
        rtol=1e-4,
    )
    line = first["measured"]["slope_infinite"]
    assert line["gamma_prime"] == [-0.25, 0.0, 0.3]
    assert all(
        low <= at <= high
        for at, low, high in zip(line["gamma"], line["gamma_low"], line["gamma_high"], strict=True)
    )
    assert sum(content["regime_counts"]["W1"].values()) == 15
    assert content["line_distances"]["W1"]["slope_infinite"]["rows"] == 3
    assert {named["names"] for named in content["named"]} == {"NTK", "Xavier, mean-field"}


def test_maps_at_a_width_are_means_of_the_converged_runs_alone(tmp_path):
    store = make_folder(
        tmp_path / "out", rows=lambda study: with_status(rows_of(study), [0, 1, 7], "diverged")
    )
    content, runs = gather(store, None), store.runs()
    used = runs.loc[(runs["layer"] == "W1") & (runs["status"] == "converged")]
    layer = content["layers"][0]
    for i, width in enumerate(content["widths"]):
        for point in range(15):
            at = used.loc[
                (used["width"] == width)
                & (used["gamma"] == content["points"]["gamma"][point])
                & (used["gamma_prime"] == content["points"]["gamma_prime"][point])
            ]
            expected = np.exp(np.log(at["relative_change"]).mean()) if len(at) else None
            found = layer["change"]["values"][i][point]
            assert found == (None if expected is None else pytest.approx(expected, rel=1e-4))
            median = pytest.approx(at["orientations"].median(), rel=1e-4) if len(at) else None
            assert layer["orientations"]["values"][i][point] == median
    assert sum(layer["left_out"]) == 3
    assert [share for share in content["not_converged"] if share] == [0.25, 0.125]
    assert content["layers"][1]["orientations"] is None


def test_cells_of_the_grid_name_their_points_and_scattered_ones_are_apart(tmp_path):
    grid = GRID.replace("seeds", "points = [[1.1, 0.05], [1.33, 0.21]], seeds")
    content = gather(make_folder(tmp_path / "out", SPEC.replace(GRID, grid)), None)
    plane, points = content["plane"], content["points"]
    gammas = [[points["gamma"][point] for point in row] for row in plane["cells"]]
    assert gammas == [[0.5, 0.75, 1.0, 1.25, 1.7]] * 3
    assert [points["gamma_prime"][row[0]] for row in plane["cells"]] == [-0.25, 0.0, 0.3]
    assert [len(edges) for edges in plane["edges"]] == [6, 4]
    assert [points["gamma"][point] for point in plane["scattered"]] == [1.1, 1.33]


def test_a_map_may_be_of_scattered_points_alone(tmp_path):
    points = "[[0.55, -0.31], [1.21, 0.07], [1.93, 0.61], [1.04, -0.12], [0.81, 0.93]]"
    grid = f"grid = {{ width = [100, 300], gamma = [], gamma_prime = [], points = {points}, seeds = 2 }}"
    content = gather(make_folder(tmp_path / "out", SPEC.replace(GRID, grid)), None)
    assert content["plane"]["cells"] == [] and content["plane"]["edges"] == [[], []]
    assert sorted(content["plane"]["scattered"]) == [0, 1, 2, 3, 4]
    (low, high), _ = content["plane"]["limits"]
    assert low < 0.55 and high > 1.93


@pytest.mark.parametrize(
    ("gamma_1", "named"), [(0.0, True), (0.5, False)], ids=["on the plane", "off the plane"]
)
def test_three_layers_have_w2_and_named_initialisations_where_gamma_1_is_0(tmp_path, gamma_1, named):
    spec = SPEC.replace("depth = 2", "depth = 3").replace("seeds", f"gamma_1 = {gamma_1}, seeds")
    store = make_folder(tmp_path / "out", spec, rows=lambda study: rows_of(study, ("W1", "W2", "a"), gamma_1))
    content = gather(store, None)
    assert [layer["name"] for layer in content["layers"]] == ["W1", "W2", "a"]
    for layer in content["layers"]:
        line = theory.critical_gamma(layer["name"], 3, np.array(layer["predicted"]["gamma_prime"]), gamma_1)
        np.testing.assert_allclose(layer["predicted"]["gamma"], line, rtol=1e-3)
    assert content["plane"]["gamma_1"] == gamma_1
    names = list(content["combined"]["colours"])
    first, second = ([content["regimes"][i] for i in layer["regime"]] for layer in content["layers"][:2])
    both = zip([names[i] for i in content["combined"]["regime"]], first, second, strict=True)
    found = {(one, two): name for name, one, two in both}
    assert found["linear", "linear"] == "both linear"
    assert all(name == "undetermined" for pair, name in found.items() if "undetermined" in pair)
    assert bool(content["named"]) is named and set(content["line_distances"]) == {"W1", "W2", "a"}


def test_one_layer_alone_is_shown(tmp_path):
    content = gather(make_folder(tmp_path / "out", rows=lambda study: rows_of(study, ("W1",))), None)
    assert [layer["name"] for layer in content["layers"]] == ["W1"]


def test_kept_networks_stand_at_their_points_with_all_that_is_drawn(small):
    content, sample = gather(small, None), small.samples().iloc[0]
    networks = content["networks"]
    assert [content["points"]["gamma"][network["point"]] for network in networks] == [0.5, 1.7]
    network, weights = networks[0], np.stack(sample["input_final"])
    neurons = network["layers"]["W1"]
    np.testing.assert_allclose(neurons["amplitude"][1], np.linalg.norm(weights, axis=1), rtol=1e-3)
    assert neurons["planar"] and neurons["neurons"] == 60
    np.testing.assert_allclose(network["f_final"], sample["f_final"], rtol=1e-4)
    assert network["loss"] == sample["loss"].tolist() and network["evaluations"] == [0, 10, 100]
    assert network["onset"] is None and neurons["directions"] is None
    assert networks[1]["onset"] == 20
    assert networks[1]["layers"]["W1"]["directions"] == {
        "moments": [0, 10, 30, 100],
        "orientations": [17, 8, 2, 3],
        "clusters": [15, 9, 2, 3],
    }
    assert content["data"] == {"x": [-1.0, -0.35, 0.3, 1.0], "y": [0.6, -0.4, 0.5, -0.2]}


def test_of_very_wide_networks_a_part_of_the_neurons_is_shown(tmp_path):
    store = make_folder(tmp_path / "out", samples=make_samples([(0.5, 0.0)], width=NEURONS_SHOWN + 999))
    neurons = gather(store, None)["networks"][0]["layers"]["W1"]
    assert len(neurons["amplitude"][0]) == NEURONS_SHOWN
    assert neurons["neurons"] == NEURONS_SHOWN + 999


def test_of_many_inputs_there_is_no_function_but_features(tmp_path):
    store = make_folder(tmp_path / "out", samples=make_samples([(0.5, 0.0)], d=7))
    network = gather(store, None)["networks"][0]
    assert network["x"] == [] and not network["layers"]["W1"]["planar"]
    assert np.abs(network["layers"]["W1"]["horizontal"]).max() <= 1.0


def test_failures_are_counted_and_listed_up_to_a_bound(tmp_path):
    def rows(study):
        found = with_status(rows_of(study), range(20), "failed", "MemoryError: no\nroom")
        return with_status(found, range(20, 118), "stalled")

    content = gather(make_folder(tmp_path / "out", rows=rows), None)
    failures = content["failures"]
    assert failures["total"] == 118 and failures["counts"] == {"stalled": 98, "failed": 20}
    assert failures["reasons"] == [[20, "MemoryError: no room"]]
    listed = failures["listed"]
    assert {len(listed[key]) for key in ("id", "point", "width", "seed")} == {FAILURES_LISTED}
    statuses = [content["statuses"][status] for status in listed["status"]]
    assert statuses[:20] == ["failed"] * 20 and set(statuses[20:]) == {"stalled"}
    assert len(listed["error"]) == 20
    runs = content["runs_of"].values()
    assert sum(len(of["error"]) for of in runs) == sum(of["change"]["W1"].count(None) for of in runs) == 20
    assert listed["id"][0] in content["runs_of"][content["cells"][listed["point"][0]]]["id"]


# What is missing.


def test_a_whole_folder_has_no_notes(small):
    assert gather(small, status_of(small))["notes"] == []


def test_a_study_without_rows_has_a_page_that_says_so(tmp_path):
    store = make_folder(tmp_path / "out", rows=None)
    assert invoke("report", store.out).exit_code == 0
    content = Page((tmp_path / "out" / "report.html").read_text()).content
    assert content["layers"] == [] and len(content["points"]["gamma"]) == 15 and content["runs"] == 0
    notes = " ".join(content["notes"])
    assert content["progress"]["missing"] == 120 and "No job has rows yet" in notes
    assert "No network is kept whole" in notes
    assert not (tmp_path / "out" / "slopes.parquet").exists()


def test_an_unfinished_folder_says_what_is_missing(tmp_path):
    store = make_folder(tmp_path / "out", rows=lambda study: rows_of(study).iloc[:60])
    (tmp_path / "out" / "data.npz").unlink()
    notes = " ".join(gather(store, None)["notes"])
    assert "no data.npz" in notes and "not known whether jobs are missing" in notes


def test_a_refined_map_tells_the_round_of_every_point_and_how_well_lines_are_known(tmp_path):
    def rows(study):
        while True:
            rows = rows_of(study)
            study, before = study.refined(lambda runs=rows: runs), study.placed
            if study.placed == before:
                return rows

    spec = SPEC + "refine = { target = 0.03, max_jobs = 100, rounds = 2 }\n"
    store = make_folder(tmp_path / "out", spec, rows)
    content = gather(store, read_status(store))
    placement = read_study(tmp_path / "spec.toml").refinement.advance(store.runs())
    assert placement.rounds and placement.ended
    rounds = dict(zip(zip(*content["points"].values(), strict=True), content["rounds"], strict=True))
    assert {point: number for point, number in rounds.items() if number} == placement.round_of_points()
    assert content["refinement"]["jobs"] == len(placement.rounds)
    assert content["progress"]["missing"] == 0
    assert json.loads(to_json(content))["refinement"]["lines"]["W1"]["rows"]


def test_one_width_and_three_have_notes_on_their_slopes(tmp_path):
    for widths, words in (("[100]", "No slope is fitted"), ("[100, 200, 300]", "No slope at infinite width")):
        out = tmp_path / words.replace(" ", "-") / "out"
        out.parent.mkdir()
        store = make_folder(out, SPEC.replace("[100, 300, 1000, 3000]", widths))
        assert words in " ".join(gather(store, None)["notes"])


# The file.


def test_the_page_is_one_file_that_allows_its_own_scripts_alone(small):
    held = Page(page(small, None).decode())
    assert [at for tag, at in held.tags if tag == "link"] == [{"rel": "icon", "href": "data:,"}]
    assert not {tag for tag, _ in held.tags} & {"img", "iframe", "object", "embed", "base"}
    others = [at for tag, at in held.tags if tag != "link"]
    assert not [at for at in others if {"src", "href"} & set(at) or any(k.startswith("on") for k in at)]
    [policy] = [at["content"] for tag, at in held.tags if at.get("http-equiv") == "Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-inline'; img-src" in policy and "http" not in policy and "unsafe-eval" not in policy
    assert len(held.scripts) == 4


def test_a_page_of_many_runs_shows_means_and_counts_alone(small, monkeypatch):
    whole = Page(page(small, None).decode()).content
    monkeypatch.setattr(render, "RUNS_HELD", 119)
    held = Page(page(small, None).decode()).content
    assert held.pop("runs_of") == {} and len(whole.pop("runs_of")) == 15
    held["origin"].pop("report_date"), whole["origin"].pop("report_date")
    assert held == whole
    assert [sum(ended) for ended in zip(*held["ended"], strict=True)] == [8] * 15


def test_a_folder_that_grows_is_shown_as_one_that_is_read_at_once(tmp_path):
    """Points are computed anew when their rows change: new ones, repeated ones, those of another status, those that go."""
    whole = make_folder(tmp_path / "whole", rows=lambda study: with_status(rows_of(study), [3], "stalled"))
    (tmp_path / "grows").mkdir()
    grows = make_folder(tmp_path / "grows" / "out", rows=None)
    report, runs = MapReport(grows), whole.runs()
    parts = [part for _, part in runs.groupby("width")] + [runs.loc[runs["gamma"] == 1.0]]
    for part in [with_status(runs.loc[runs["seed"] == 1].copy(), range(40), "failed", "gone"), *parts]:
        for _, rows in part.groupby("status"):
            grows.publish_runs(table_of(rows, TABLES.runs))
        shown = report.content(None)
        assert shown["planned"] == [8] * 15 and sum(map(sum, shown["ended"])) == shown["runs"] > 0
    for path in grows.run_files():
        grows.files.delete(grows.files.within(path))
    gone = report.content(None)
    assert (gone["runs"], gone["layers"], gone["widths"], sum(map(sum, gone["ended"]))) == (0, [], [], 0)
    for _, rows in runs.groupby("status"):
        grows.publish_runs(table_of(rows, TABLES.runs))
    expected, found = gather(whole, None), report.content(None)
    assert [report.runs(cell) for cell in found["cells"]] == list(expected.pop("runs_of").values())
    for content in (expected, found):
        del content["study"], content["code"], content["origin"]
    assert found == expected


def test_a_report_of_the_largest_published_map_is_below_8_megabytes(tmp_path):
    published = Path(__file__).parent.parent / "results" / "three_layer_synthetic"
    file = tmp_path / "report.html"
    assert invoke("report", published, "-o", file).exit_code == 0
    assert 4e6 < file.stat().st_size < 8e6


def test_text_of_the_study_cannot_leave_its_element(tmp_path):
    evil = EVIL.replace("'", "").replace('"', "")
    out = tmp_path / "<b>&out"
    store = make_folder(
        out,
        rows=lambda study: with_status(rows_of(study), [0], "failed", EVIL),
        text=f"name = '{evil}'\nkind = \"phase-diagram\"\n[network]\ndepth = 2\n# {evil}\n",
    )
    held = Page(page(store, None).decode())
    assert "img" not in {tag for tag, _ in held.tags} and len(held.scripts) == 4
    assert held.content["study"]["name"] == evil and held.content["study"]["folder"] == str(out)
    assert held.content["failures"]["reasons"][0][1] == " ".join(EVIL.split())
    assert evil in held.content["study"]["text"]


def test_json_in_a_page_has_no_markup_and_no_line_ends_of_javascript():
    text = to_json({"a": "</script><!-- & \u2028\u2029 é"})
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == {"a": "</script><!-- & \u2028\u2029 é"}
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))


# The command.


def test_report_fits_what_is_not_fitted_and_writes_into_the_folder(small, tmp_path):
    result = invoke("report", small.out)
    assert result.exit_code == 0 and "report.html" in result.stdout
    assert len(small.fitted()) == 30
    files = {path.name for path in (tmp_path / "out").iterdir()} - {".staging"}
    assert files == {"study.toml", "data.npz", "runs", "samples", "slopes.parquet", "report.html"}


def test_with_a_file_of_its_own_it_leaves_the_folder_alone(small, tmp_path):
    before = sorted(path for path in (tmp_path / "out").rglob("*"))
    file = tmp_path / "page.html"
    result = invoke("report", small.out, "-o", file)
    assert result.exit_code == 0 and f"wrote {file}" in result.stdout
    assert sorted(path for path in (tmp_path / "out").rglob("*")) == before
    assert Page(file.read_text()).content["layers"][0]["runs"] == [8] * 15


def test_the_name_of_the_file_in_the_folder_may_be_given(small, tmp_path):
    assert invoke("report", small.out, "-o", tmp_path / "out" / "report.html").exit_code == 0


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("page.txt", "allowed: a name that ends in .html"),
        ("out/runs/page.html", "lies within"),
        ("out/study.toml", "allowed: a name that ends in .html"),
        ("folder.html", "cannot be written"),
        ("spec.toml/page.html", "cannot be written"),
    ],
)
def test_a_file_that_must_not_be_written_is_refused(small, tmp_path, file, words):
    (tmp_path / "folder.html").mkdir()
    before = sorted(tmp_path.rglob("*"))
    result = invoke("report", small.out, "-o", tmp_path / file)
    assert result.exit_code == 2 and words in result.stderr and result.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_folders_without_a_study_are_refused(tmp_path):
    result = invoke("report", tmp_path / "nowhere")
    assert result.exit_code == 2 and "holds no study" in result.stderr


def heavy_imports_of_page(out):
    """What of all that is slow to import a process has imported that has made the page of a folder."""
    script = (
        "import sys\n"
        "from phasediag.display.page.render import standalone\n"
        "from phasediag.kinds import kind_in, open_store\n"
        f"store = open_store({out!r})\n"
        "standalone(kind_in(store).report(store), None)\n"
        "print(*{'torch', 'ray', 'pydantic', 'typer', 'rich', 'sklearn', 'plotly.graph_objects'} & set(sys.modules))"
    )
    output = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return output.stdout.strip()


def test_the_page_needs_neither_torch_nor_ray(small, tmp_path):
    assert heavy_imports_of_page(small.out) == ""

"""Two phase diagrams compared: known differences are found, their intervals cover them, and what cannot be compared is refused."""

from __future__ import annotations

import errno
import json
import os
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import QuadMesh
from studies import starter
from typer.testing import CliRunner

import phasediag
from phasediag.cli import app
from phasediag.display.figures import render
from phasediag.errors import InputError
from phasediag.kinds import open_store, read_study
from phasediag.phase_diagram.columns import DIFFERENCES, LINES, MEASURES
from phasediag.phase_diagram.comparison import compare, differs, summarise
from phasediag.phase_diagram.figures.difference import difference_map, draw_differences

WIDTHS = (100, 300, 1000, 3000)
PLANE = [(g / 4, p / 4) for g in range(2, 9) for p in range(-2, 5, 2)]
NAMES = ("first", "second")


def make_runs(
    points=PLANE, critical=1.0, widths=WIDTHS, seeds=3, noise=0.0, depth=2, layers=("W1", "a"), gamma_1=0.0
):
    """Power laws of slope gamma - critical, in the order of points, widths and seeds, times exp(noise)."""
    cells = [(g, p, m, s) for g, p in points for m in widths for s in range(seeds)]
    runs = pd.DataFrame(cells, columns=["gamma", "gamma_prime", "width", "seed"])
    change = 2.0 * runs["width"] ** (runs["gamma"] - critical) * np.exp(noise)
    runs = runs.assign(depth=depth, gamma_1=gamma_1, status="converged", relative_change=change)
    return pd.concat([runs.assign(layer=layer) for layer in layers], ignore_index=True)


def test_known_differences_of_slopes_and_lines_are_found():
    found = phasediag.compare(make_runs(critical=1.1), make_runs(critical=1.3))
    for column in ("difference", "difference_infinite"):
        assert found.slopes[column].to_numpy() == pytest.approx(-0.2, abs=1e-6)
        assert differs(found.slopes, column).all()
    assert (found.slopes["slope_b"] - found.slopes["slope_a"]).to_numpy() == pytest.approx(-0.2)
    assert (found.slopes[["widths", "runs", "left_out"]] == [4, 12, 0]).all(axis=None)
    assert len(found.lines) == 2 * 2 * 4
    assert found.lines["gamma_a"].to_numpy() == pytest.approx(1.1, abs=1e-6)
    assert found.lines["difference"].to_numpy() == pytest.approx(0.2, abs=1e-6)
    assert list(found.slopes) == DIFFERENCES.names
    assert list(found.lines) == LINES.names


def noises(generator, points, seeds, shared, own, training, decay):
    """log RD of A and B off a power law: scatter that both share, scatter of their own, and errors of training that seeds share."""
    shape, ratio = (points, len(WIDTHS), seeds), np.array(WIDTHS)[:, None] / WIDTHS[0]
    scatter = shared * generator.normal(size=shape)
    for _ in range(2):
        errors = training * generator.normal(size=(*shape[:2], 1))
        yield ((scatter + own * generator.normal(size=shape)) * ratio**-decay + errors).ravel()


@pytest.mark.parametrize(
    ("shared", "own", "training", "decay"),
    [
        (0.08, 0.0, 0.003, 0.5),
        (0.08, 0.003, 0.003, 0.5),
        (0.0, 0.08, 0.003, 0.0),
        (0.05, 0.05, 0.0, 0.5),
    ],
    ids=["same weights", "nearly", "other weights", "half and half"],
)
def test_intervals_cover_the_difference(shared, own, training, decay):
    number = 250
    points = [(g / 1000, 0.0) for g in range(number)]
    off_a, off_b = noises(np.random.default_rng(3), number, 3, shared, own, training, decay)
    a, b = (
        make_runs(points, critical, noise=off, layers=["W1"])
        for critical, off in ((1.0, off_a), (1.1, off_b))
    )
    slopes = compare(a, b).slopes
    # The plain interval takes scatter for equal at all widths: it is a little short where it falls with the width.
    for column, least in (
        ("difference", 0.87 if own > 0.01 and decay else 0.93),
        ("difference_infinite", 0.93),
    ):
        low, high = slopes[f"{column}_low"], slopes[f"{column}_high"]
        assert ((low <= -0.1) & (high >= -0.1)).mean() >= least
        assert (high - low).median() < (0.04 if own < 0.01 else 0.25)


def test_the_limit_is_covered_where_both_studies_have_corrections_of_their_own():
    number, generator = 250, np.random.default_rng(4)
    points, ratio = [(g / 1000, 0.0) for g in range(number)], np.array(WIDTHS) / WIDTHS[0]
    runs = []
    for off in noises(generator, number, 3, 0.08, 0.02, 0.003, 0.5):
        corrections = sum(
            generator.normal(0.0, 0.2, (number, 1)) * ratio ** -generator.uniform(*omega, (number, 1))
            for omega in ((0.3, 1.0), (0.5, 1.5))
        )
        runs.append(make_runs(points, noise=off + np.repeat(corrections.ravel(), 3), layers=["W1"]))
    slopes = compare(*runs).slopes
    low, high = slopes["difference_infinite_low"], slopes["difference_infinite_high"]
    assert ((low <= 0.0) & (high >= 0.0)).mean() >= 0.92
    assert (high - low).median() < 0.25


def test_scatter_that_both_share_cancels():
    off, other = (np.random.default_rng(seed).normal(0.0, 0.1, len(PLANE) * 12) for seed in (1, 2))
    lengths = []
    for noise in (off, other):
        slopes = compare(make_runs(noise=off), make_runs(noise=noise)).slopes
        lengths.append((slopes["difference_high"] - slopes["difference_low"]).median())
    assert lengths[0] < lengths[1] / 10


def test_a_study_differs_nowhere_from_itself():
    runs = make_runs(noise=np.random.default_rng(0).normal(0.0, 0.1, len(PLANE) * 12))
    found = compare(runs, runs.sample(frac=1.0, random_state=0))
    assert (found.slopes["difference"] == 0.0).all()
    assert found.slopes["difference_infinite"].abs().max() < 1e-6
    assert (found.lines["difference"].dropna() == 0.0).all() and found.lines["difference"].notna().any()
    numbers = summarise(found)
    counts = [n["differ"] for part in numbers.values() for slopes in part.values() for n in slopes.values()]
    assert counts and not any(counts)


def test_the_band_of_a_distance_has_both_half_widths_in_quadrature():
    noise = np.random.default_rng(5).normal(0.0, 0.03, (2, len(PLANE) * 12))
    line = compare(make_runs(noise=noise[0]), make_runs(critical=1.2, noise=noise[1])).lines.iloc[3]
    up, down = line["gamma_high_b"] - line["gamma_b"], line["gamma_a"] - line["gamma_low_a"]
    assert up > 0 and down > 0
    assert line["difference_high"] - line["difference"] == pytest.approx(np.hypot(up, down))


def test_pairs_with_a_run_that_did_not_converge_are_left_out_of_both_slopes():
    a, b = make_runs(), make_runs(critical=1.2)
    stalled = (b["width"] == 100) & (b["seed"] == 0) & (b["gamma"] == 1.0)
    b.loc[stalled, ["status", "relative_change"]] = ["stalled", 1e6]
    a.loc[a["gamma"] == 2.0, "status"] = "failed"
    slopes = compare(a, b).slopes.set_index("gamma")
    assert (slopes.loc[1.0, ["runs", "left_out"]] == [11, 1]).all(axis=None)
    assert slopes.loc[1.0, "difference"].to_numpy() == pytest.approx(-0.2)
    assert (slopes.loc[2.0, ["runs", "left_out"]] == [0, 12]).all(axis=None)
    assert slopes.loc[2.0, ["slope_a", "slope_b", "difference", "difference_low"]].isna().all(axis=None)


def test_single_widths_have_no_difference_of_slopes():
    found = compare(make_runs(widths=[100]), make_runs(widths=[100]))
    assert found.slopes["difference"].isna().all() and found.lines.empty
    assert summarise(found)["slopes"]["W1"]["slope"]["number"] == 0
    assert draw_differences(found, NAMES)


OTHERS = {
    "points": (
        {"points": PLANE[3:]},
        "3 of 28 points of A are not in B, e.g. (0.5, -0.5); allowed: the same grid, or --common",
    ),
    "widths": (
        {"widths": (100, 300, 1000, 2000)},
        "1 of 4 widths of A are not in B, e.g. 3000; 1 of 4 widths of B are not in A, e.g. 2000",
    ),
    "seeds": ({"seeds": 5}, "2 of 5 seeds of B are not in A, e.g. 3"),
}


@pytest.mark.parametrize(("other", "message"), OTHERS.values(), ids=OTHERS)
def test_other_grids_are_refused_unless_what_both_have_is_asked_for(other, message):
    a, b = make_runs(), make_runs(critical=1.2, **other)
    with pytest.raises(InputError) as error:
        compare(a, b)
    assert message in str(error.value)
    slopes = compare(a, b, common=True).slopes
    assert len(slopes) == 2 * len(other.get("points", PLANE))
    assert slopes["difference"].to_numpy() == pytest.approx(-0.2)
    assert set(slopes["runs"]) == {9 if "widths" in other else 12}


def test_jobs_missing_from_one_grid_are_told():
    a = make_runs()
    with pytest.raises(InputError, match=r"2 of 336 jobs of A are not in B, e\.g\. \(100, 0\.5, -0\.5, 1\)"):
        compare(
            a, a.drop(a.index[(a["seed"] == 1) & (a["gamma"] == 0.5) & (a["width"] == 100)][[0, 1, 4, 5]])
        )


def test_what_has_nothing_in_common_is_refused():
    a = make_runs()
    for other, words in (
        ({"widths": (10, 20)}, "no widths in common (e.g. 100 and 10)"),
        ({"points": [(9.0, 9.0)]}, "no points in common (e.g. (0.5, -0.5) and (9, 9))"),
        ({"layers": ["W2"]}, "no layers in common"),
    ):
        with pytest.raises(InputError) as error:
            compare(a, make_runs(**other), common=True)
        assert words in str(error.value)
    with pytest.raises(InputError, match="no points in common"):
        compare(a, a.iloc[:0])


def test_rows_that_are_not_one_phase_diagram_are_refused():
    a = make_runs()
    for other, words in (
        (make_runs(gamma_1=0.5), "A and B: gamma_1: 0, 0.5; allowed: one plane"),
        (pd.concat([a, a]), "B: rows of several studies"),
        (a.assign(depth=np.where(a["gamma"] > 1, 2, 3)), "B: rows of several studies"),
        (a.drop(columns="seed"), "B: missing columns seed"),
    ):
        with pytest.raises(InputError) as error:
            compare(a, other)
        assert words in str(error.value)


# Figures.


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def test_a_figure_per_layer_marks_where_the_interval_excludes_zero():
    shift = np.where(make_runs(layers=["W1"])["gamma"] > 1.5, 1.3, 1.0)
    found = compare(make_runs(critical=1.0), make_runs(critical=shift))
    figures = draw_differences(found, NAMES)
    assert list(figures) == ["difference_W1", "difference_a"]
    figure = figures["difference_W1"]
    ax, distance, bar = figure.axes
    (mesh,) = (one for one in ax.collections if isinstance(one, QuadMesh))
    assert mesh.norm.vmin == -mesh.norm.vmax == pytest.approx(-0.3, abs=1e-3)
    dots = next(line for line in ax.lines if line.get_label() == "95 % interval excludes 0")
    assert set(dots.get_xdata()) == {1.75, 2.0} and len(dots.get_xdata()) == 8
    assert labels(figure)[:3] == [r"$S_\infty = 0$, A: first", r"$S_\infty = 0$, B: second", "predicted"]
    assert "S_B - S_A" in bar.get_ylabel() and "gamma_B - " in distance.get_xlabel()
    assert set(render(figure)) == {"png", "svg"}


def test_networks_of_different_depth_have_a_predicted_line_each():
    found = compare(make_runs(), make_runs(critical=1.4, depth=3, layers=("W1", "W2", "a")))
    assert set(found.slopes["layer"]) == {"W1", "a"}
    lines = found.lines.groupby("layer")["predicted_b"].agg(set)
    assert lines.to_dict() == {"W1": {1.5, 2.5, 3.5}, "a": {1.5, 2.0}}
    figure = difference_map(found, "W1", NAMES)
    assert {"predicted, A", "predicted, B"} <= set(labels(figure))
    assert {"predicted, A", "predicted, B"} <= set(labels(difference_map(found, "a", NAMES)))


def test_small_differences_are_pale_and_names_are_no_mathtext():
    found = compare(make_runs(), make_runs())
    figure = difference_map(found, "W1", ("a$b$_c^2", "n" * 100))
    (mesh,) = (one for one in figure.axes[0].collections if isinstance(one, QuadMesh))
    assert mesh.norm.vmax == 0.01
    assert r"A: a\$b\$_c^2" in labels(figure)[0] and len(labels(figure)[1]) < 70
    render(figure)


@pytest.mark.parametrize(
    "points",
    [
        [(g, 0.0) for g in (0.5, 0.9, 1.2, 2.0)],
        [(1.2, p) for p in (-0.5, 0.0)],
        [(0.55, -0.3), (1.2, 0.1), (1.9, 0.6)],
    ],
    ids=["row", "column", "scattered"],
)
def test_degenerate_maps_are_drawn(points):
    found = compare(make_runs(points), make_runs(points, critical=1.1))
    drawn = draw_differences(found, NAMES)
    assert drawn
    for figure in drawn.values():
        assert len(render(figure)["png"]) > 1000
    assert not draw_differences(compare(make_runs(points[:1]), make_runs(points[:1])), NAMES)


# The command.

SPEC = """
name = "{name}"
kind = "phase-diagram"
network = {{ depth = {depth} }}
data = {{ kind = "points", x = [[-1.0], [0.5]], y = [{y}, -0.5] }}
grid = {{ width = {widths}, gamma = [0.5, 1.0, 1.5, 2.0], gamma_prime = {primes}, seeds = 2 }}
"""


def write_study(folder, name, y=0.5, depth=2, critical=1.0, primes=(0.0, 0.5), missing=0, widths=WIDTHS):
    """A folder as a sweep leaves it, with relative changes of known slope; the last jobs may be missing."""
    spec = folder / f"{name}.toml"
    spec.write_text(SPEC.format(name=name, y=y, depth=depth, primes=list(primes), widths=list(widths)))
    study, store = read_study(spec), open_store(folder / name)
    store.write_study(study.to_toml())
    store.write_data({"x": study.data.x, "y": study.data.y})
    jobs = study.jobs()[: len(study.jobs()) - missing]
    store.publish_runs(
        [_row(job, layer, critical) for job in jobs for layer in ("W1", "W2", "a")[:: 4 - depth]]
    )
    return folder / name


def _row(job, layer, critical):
    floats = (
        "norm_initial",
        "norm_final",
        "orientations",
        "loss_initial",
        "loss_final",
        "relative_change_spectral",
        *MEASURES.names,
    )
    cell = {
        name: getattr(job, name)
        for name in ("job_id", "depth", "width", "neurons", "gamma", "gamma_prime", "gamma_1", "seed")
    }
    text = {"status": "converged", "error": "", "device": "cpu", "version": "0"}
    change = float(job.width) ** (job.gamma - critical)
    return {
        **cell,
        "layer": layer,
        "relative_change": change,
        **dict.fromkeys(floats, 1.0),
        "evaluations": 1,
        "wall_seconds": 1.0,
        **text,
    }


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    root = tmp_path_factory.mktemp("studies")
    (root / "condensation").mkdir()
    (root / "condensation" / "study.toml").write_text(starter("condensation"))
    return SimpleNamespace(
        a=write_study(root, "a"),
        b=write_study(root, "b", y=0.7, critical=1.2),
        deeper=write_study(root, "deeper", depth=3, critical=1.4),
        other=write_study(root, "other", y=0.7, primes=(0.0, 0.5, 1.0)),
        unfinished=write_study(root, "unfinished", y=0.9, critical=1.2, missing=3),
        condensation=root / "condensation",
    )


def invoke(*arguments):
    return CliRunner().invoke(app, ["compare", *map(str, arguments)])


def test_the_command_prints_and_writes(folders, tmp_path):
    result = invoke(folders.a, folders.b, "-o", tmp_path / "out")
    assert result.exit_code == 0 and result.stderr == ""
    assert (
        f"B: b ({folders.b})" in result.stdout and "8 (100%)" in result.stdout and "0.2000" in result.stdout
    )
    files = {path.name for path in (tmp_path / "out").iterdir() if path.is_file()}
    figures = {f"difference_{layer}.{ending}" for layer in ("W1", "a") for ending in ("png", "svg")}
    assert files == {"differences.parquet", "lines.parquet", *figures}
    table = pd.read_parquet(tmp_path / "out" / "differences.parquet")
    assert table["difference"].to_numpy() == pytest.approx(-0.2)
    assert pd.read_parquet(tmp_path / "out" / "lines.parquet")["difference"].to_numpy() == pytest.approx(
        0.2, abs=1e-6
    )


def test_json_holds_the_same_numbers_and_a_uri_is_a_folder(folders):
    result = invoke(f"file://{folders.a}", folders.a, "--json")
    content = json.loads(result.stdout)
    assert content["a"] == {"name": "a", "out": f"file://{folders.a}"}
    assert content["slopes"]["W1"]["slope"] == {
        "number": 8,
        "of": 8,
        "mean": 0.0,
        "mean_size": 0.0,
        "max_size": 0.0,
        "differ": 0,
    }
    assert content["critical_lines"]["a"]["slope_infinite"]["differ"] == 0
    assert (content["runs"], content["left_out"]) == (2 * 64, 0)


def test_unfinished_studies_and_layers_of_one_are_told(folders):
    result = invoke(folders.unfinished, folders.deeper)
    assert result.exit_code == 0
    assert f"{folders.unfinished}: 3 of 64 jobs have no rows yet" in result.stderr
    assert f"left out: W2, only in {folders.deeper}" in result.stderr
    assert "W1, slope at infinite width" in result.stdout and "W2" not in result.stdout


def test_other_grids_need_to_be_allowed(folders):
    result = invoke(folders.a, folders.other)
    assert (result.exit_code, result.stdout) == (2, "")
    assert (
        f"4 of 12 points of {folders.other} are not in {folders.a}, e.g. (0.5, 1); allowed:" in result.stderr
    )
    assert "8 of 8" in invoke(folders.a, folders.other, "--common").stdout


def test_one_common_width_is_told_to_give_no_slope(folders, tmp_path):
    narrow, wide = (
        write_study(tmp_path, name, widths=widths)
        for name, widths in (("narrow", [50, 100]), ("wide", [100]))
    )
    for first, second in ((folders.a, narrow), (folders.a, wide)):
        result = invoke(first, second, "--common")
        told = f"no slopes: {first} and {second} have one width in common (100), and a slope needs two\n"
        assert result.exit_code == 0 and result.stderr == told and "0 of 8" in result.stdout
    assert invoke(narrow, write_study(tmp_path, "same", widths=[50, 100])).stderr == ""


@pytest.mark.parametrize(
    ("second", "into", "words"),
    [
        ("condensation", "out", "study.toml: kind: 'condensation'; allowed: 'phase-diagram'"),
        ("b", "file/out", "is a file; allowed: a folder"),
        ("b", "study", "holds a study; allowed: another folder"),
    ],
    ids=["condensation", "below a file", "into a study"],
)
def test_what_cannot_be_done_writes_nothing(folders, tmp_path, second, into, words):
    (tmp_path / "file").write_text("")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "study.toml").write_text("")
    before = sorted(tmp_path.rglob("*"))
    result = invoke(folders.a, getattr(folders, second), "-o", tmp_path / into)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr and result.stderr.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_to_is_refused_before_anything_is_printed(
    folders, tmp_path, monkeypatch
):
    def refuse(**arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("phasediag.storage.files.tempfile.TemporaryFile", refuse)
    result = invoke(folders.a, folders.b, "-o", tmp_path / "out")
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be written (Read-only file system)" in result.stderr
    assert not (tmp_path / "out").exists()

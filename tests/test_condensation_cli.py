"""A condensation study through the whole path: the program, its folder, and every command on it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from studies import starter, store_of
from test_cli import invoke

from phasediag.condensation.columns import TABLES
from phasediag.kinds import open_store

SPEC = """
name = "small"
kind = "condensation"
network = { hidden = [12] }
data = { kind = "function", target = "sin_mix", low = -1.0, high = 1.5, samples = 20, spacing = "even" }
grid = { activation = ["tanh", "x_tanh"], std = [0.005], seeds = 3 }
train = { method = "adam", epochs = 60, learning_rate = 1e-3, snapshots = [20] }
"""


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a study, which then grew by a seed and an activation, and what the program printed."""
    folder = tmp_path_factory.mktemp("condensation")
    spec, out = folder / "spec.toml", folder / "out"
    spec.write_text(SPEC)
    first = invoke("run", spec, "--out", out, "--local")
    assert first.exit_code == 0, first.stderr
    files = {path.name: path.stat().st_mtime_ns for path in (out / "runs").iterdir()}
    spec.write_text(SPEC.replace("seeds = 3", "seeds = 4").replace('["tanh"', '["relu", "tanh"'))
    second = invoke("run", spec, "--out", out, "--local")
    assert second.exit_code == 0, second.stderr
    assert "12 of 12 jobs finished, 0 failed; 6 run now" in second.stdout
    assert all((out / "runs" / name).stat().st_mtime_ns == time for name, time in files.items())
    return out, first.stdout


def test_the_folder_holds_what_the_documentation_says(sweep: tuple[Path, str]) -> None:
    out, printed = sweep
    assert "6 of 6 jobs finished, 0 failed; 6 run now" in printed
    assert {path.name for path in out.iterdir()} >= {
        "study.toml",
        "data.npz",
        "runs",
        "samples",
        "counts.parquet",
        "figures",
    }
    runs = pd.read_parquet(out / "runs")
    assert list(runs.columns) == TABLES.runs.names
    assert len(runs) == 12 * 3 and not runs.duplicated(["job_id", "epoch", "layer"]).any()
    assert set(runs["status"]) == {"converged"}
    counts = pd.read_parquet(out / "counts.parquet")
    assert list(counts.columns) == TABLES.fitted.names
    assert (counts.groupby(["activations", "epoch"])["count"].sum() == 4).all()
    names = {"counts", "directions", "evolution", "heatmap", "outputs", "thresholds", "training"}
    assert {path.name for path in (out / "figures").glob("[!.]*")} == {
        f"{name}.{ending}" for name in names for ending in ("png", "svg")
    }
    assert len(open_store(out).sample_ids()) == 3


def test_fit_prints_lines_beside_the_bound(sweep: tuple[Path, str]) -> None:
    out, _ = sweep
    result = invoke("fit", out)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0].split() == [
        "activation",
        "p",
        "condensed",
        "at",
        "lines",
        "<=",
        "p",
        "aligned",
        "flow",
        "sign",
    ]
    assert {line.split()[0] for line in lines[2:5]} == {"relu", "tanh", "x_tanh"}
    summary = json.loads(invoke("fit", out, "--json").stdout)
    assert {row["activation"]: row["multiplicity"] for row in summary["layers"]} == {
        "relu": 0,
        "tanh": 1,
        "x_tanh": 2,
    }
    assert summary["left_out"] == 0 and summary["rows"] == 36


def test_plot_fits_again_when_there_are_more_runs(sweep: tuple[Path, str]) -> None:
    out, _ = sweep
    store = open_store(out)
    whole = store.fitted()
    store.write_fitted(whole.iloc[:2], store.runs().iloc[:2])
    result = invoke("plot", out)
    assert result.exit_code == 0 and "wrote" in result.stdout and "counts.parquet" in result.stdout
    pd.testing.assert_frame_equal(store.fitted(), whole)


def test_there_are_no_points_of_a_plane(sweep: tuple[Path, str]) -> None:
    result = invoke("plot", sweep[0], "--points", "1,0")
    assert (
        result.exit_code == 2 and "'condensation' has no 'scaling'; allowed: phase-diagram" in result.stderr
    )


def test_fit_and_plot_say_that_a_folder_is_a_part(sweep: tuple[Path, str], tmp_path: Path) -> None:
    whole, _ = sweep
    out = tmp_path / "part"
    shutil.copytree(whole, out)
    text = (out / "study.toml").read_text()
    store = open_store(out)
    first, *others = sorted((out / "runs").glob("*.parquet"))
    for path in others:
        path.unlink()
    there = store.runs()["job_id"].nunique()
    for command in ("fit", "plot"):
        result = invoke(command, out)
        assert result.exit_code == 0 and f"{12 - there} of 12 jobs have no rows yet" in result.stderr
    assert (out / "study.toml").read_text() == text and first.exists()


def test_export_writes_one_file(sweep: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = sweep
    file = tmp_path / "all.parquet"
    result = invoke("export", out, file)
    assert result.exit_code == 0 and result.stdout == f"wrote {file}: 36 rows\n" and result.stderr == ""
    pd.testing.assert_frame_equal(pd.read_parquet(file), open_store(out).runs())


def test_status_and_plan_know_the_study(sweep: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = sweep
    status = json.loads(invoke("status", out, "--json").stdout)
    assert (status["state"], status["total"], status["finished"]) == ("complete", 12, 12)
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC.replace("seeds = 3", "seeds = 5"))
    planned = json.loads(invoke("plan", spec, "--out", out, "--json").stdout)
    assert (planned["finished"], planned["missing"]) == (12, 2)
    assert [row["activation"] for row in planned["activations"]] == ["relu", "tanh", "x_tanh"]
    assert "activation" in invoke("plan", spec).stdout


def test_a_job_is_reproduced_with_its_weights(sweep: tuple[Path, str], tmp_path: Path) -> None:
    out, _ = sweep
    runs = pd.read_parquet(out / "runs")
    row = runs.loc[(runs["activation"] == "x_tanh") & (runs["seed"] == 3)].iloc[0]
    file = tmp_path / "weights.npz"
    result = invoke("reproduce", out, row["job_id"][:9], "--weights", file)
    assert result.exit_code == 0, result.stdout
    assert "x_tanh, dimension 1, std 0.005, seed 3, adam" in result.stdout
    assert "loss at epoch 20" in result.stdout and "lines of H1 at epoch 60" in result.stdout
    with np.load(file) as weights:
        assert set(weights) == {"x", "y", "W1_initial", "W1_final", "a_initial", "a_final"}
        assert weights["W1_final"].shape == (12, 2) and weights["x"].shape == (20, 1)


def test_a_job_with_another_result_does_not_agree(sweep: tuple[Path, str], tmp_path: Path) -> None:
    runs = pd.read_parquet(sweep[0] / "runs")
    store = store_of("condensation", tmp_path)
    document = open_store(sweep[0]).read_study()
    data = open_store(sweep[0]).read_data()
    assert document is not None and data is not None
    store.write_study(document)
    store.write_data(data)
    changed = runs.loc[runs["job_id"] == runs["job_id"].iloc[0]].assign(loss=lambda rows: rows["loss"] * 1.01)
    store.publish_runs(changed.to_dict("records"))
    result = invoke("reproduce", tmp_path, changed["job_id"].iloc[0])
    assert result.exit_code == 1 and "they do not agree" in result.stdout


def test_light_commands_import_neither_torch_nor_ray(sweep: tuple[Path, str]) -> None:
    script = (
        "import sys, typer\n"
        "from phasediag.cli import app\n"
        "for command in ('fit', 'plot'):\n"
        "    app([command, sys.argv[1]], standalone_mode=False)\n"
        "print(sorted({'torch', 'ray', 'sklearn', 'numba'} & set(sys.modules)))"
    )
    output = subprocess.run(
        [sys.executable, "-c", script, str(sweep[0])], check=True, capture_output=True, text=True
    )
    assert output.stdout.splitlines()[-1] == "[]"


def test_init_writes_a_starter_of_either_kind(tmp_path: Path) -> None:
    file = tmp_path / "study.toml"
    assert invoke("init", file, "--kind", "condensation").exit_code == 0
    assert file.read_text() == starter("condensation")
    result = invoke("init", tmp_path / "other.toml", "--kind", "evaporation")
    assert result.exit_code == 2
    assert "--kind: 'evaporation' is not supported; allowed: phase-diagram, condensation" in result.stderr
    assert not (tmp_path / "other.toml").exists()


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ('"tanh"', '"tahn"', ["spec.toml", "grid.activation", "'tahn'", "allowed: relu, tanh"]),
        ("[20]", "[2000]", ["spec.toml", "train.snapshots: 2000", "from 0 to 60"]),
        ("[12]", "[12, 3], residual = true", ["spec.toml", "unequal width"]),
        ('["tanh", "x_tanh"]', '[["tanh", "tanh"]]', ["spec.toml", "2 activations for 1 hidden layers"]),
        ("-1.0", "2.0", ["spec.toml", "data: low"]),
        (
            'kind = "function", target = "sin_mix", low = -1.0, high = 1.5, samples = 20, spacing = "even"',
            'kind = "mnist", path = "nowhere"',
            ["spec.toml", "data.path", "is not a folder"],
        ),
        ('"small"', '"other"', ["spec.toml", "name", "allowed: 'small'"]),
    ],
)
def test_bad_input_is_one_clear_line_and_writes_nothing(
    sweep: tuple[Path, str], tmp_path: Path, old: str, new: str, parts: list[str]
) -> None:
    assert old in SPEC
    spec, out = tmp_path / "spec.toml", sweep[0]
    spec.write_text(SPEC.replace(old, new))
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    result = invoke("run", spec, "--out", out)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_phase_diagram_does_not_run_into_the_folder_of_a_condensation_study(
    sweep: tuple[Path, str], tmp_path: Path
) -> None:
    spec = tmp_path / "spec.toml"
    spec.write_text(starter("phase-diagram").replace('"starter"', '"small"'))
    result = invoke("run", spec, "--out", sweep[0])
    assert result.exit_code == 2 and "kind: 'phase-diagram' differs" in result.stderr


def test_files_of_the_other_kind_are_told(sweep: tuple[Path, str], tmp_path: Path) -> None:
    store = store_of("phase-diagram", tmp_path)
    (tmp_path / "runs").mkdir()
    file = next((sweep[0] / "runs").iterdir())
    (tmp_path / "runs" / "foreign.parquet").write_bytes(file.read_bytes())
    with pytest.raises(Exception, match=r"foreign\.parquet: has no column depth"):
        store.runs()

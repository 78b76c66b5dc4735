"""Torch modules of a reader's own through every command: a spec, and beside it the file of its function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import chdir
from pathlib import Path

import pandas as pd
import pytest
from heads import ONE_WORKER
from test_report import Page, invoke

NETS = '''
"""Networks of two layers."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width, gamma, outputs):
        super().__init__()
        self.inner, self.outer = nn.Parameter(torch.randn(width, 2)), nn.Parameter(torch.randn(outputs, width))
        self.register_buffer("scale", torch.tensor(float(width) ** -gamma))

    def forward(self, x):
        return self.scale * (torch.relu(x @ self.inner.T) @ self.outer.T).squeeze(1)


def make(width, gamma, seed, outputs=1):
    return Net(width, gamma, outputs)
'''
SPEC = """
name = "tiny"
kind = "module"

[network]
factory = "tiny_nets:make"

[data]
kind = "points"
x = [[0.0, 1.0], [1.0, 0.0], [0.7, 0.7], [-1.0, 0.5]]
y = [0.5, -0.5, 0.2, 0.1]
x_test = [[0.5, 0.5]]
y_test = [0.1]

[grid]
width = [8, 16, 32]
gamma = [0.5, 1.5]
gamma_prime = [0.0]
seeds = 2

[train]
loss_tolerance = 0.2
epochs = 300
"""


def phasediag(folder: Path, *arguments: str, program: str = "phasediag") -> subprocess.CompletedProcess[str]:
    """A command in a folder, without a cluster around it, in a process of its own: the functions of some folders have the same name."""
    environment = {**os.environ, **ONE_WORKER}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", program, *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


def read(folder: Path, *arguments: str) -> str:
    """What a command prints that imports no function."""
    with chdir(folder):
        done = invoke(*arguments)
    assert done.exit_code == 0, done.output
    return done.stdout


def told(folder: Path, *arguments: str, program: str = "phasediag") -> str:
    """What a command prints that succeeds."""
    done = phasediag(folder, *arguments, program=program)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refused(folder: Path, *arguments: str) -> str:
    """The one line that a command answers bad input with."""
    done = phasediag(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    return done.stderr


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a spec in `study`, run from elsewhere: on Ray into `out`, in one process into `local`."""
    found = tmp_path_factory.mktemp("module")
    (found / "study").mkdir()
    (found / "study" / "tiny_nets.py").write_text(NETS)
    (found / "study" / "tiny.toml").write_text(SPEC)
    # in this process without figures
    for out, program in (("out", "phasediag"), ("local", "stand_in_phasediag")):
        printed = told(found, "run", "study/tiny.toml", "--out", out, program=program)
        assert "12 of 12 jobs finished, 0 failed; 12 run now" in printed
        assert "inner" in printed and "outer" in printed
    return found


def runs_in(out: Path) -> pd.DataFrame:
    return pd.read_parquet(out / "runs").sort_values(["job_id", "layer"]).reset_index(drop=True)


def test_its_rows_are_the_same_on_ray_and_in_one_process(folder: Path) -> None:
    here, there = runs_in(folder / "local"), runs_in(folder / "out")
    pd.testing.assert_frame_equal(here.drop(columns="wall_seconds"), there.drop(columns="wall_seconds"))
    assert set(here["layer"]) == {"inner", "outer"} and set(here["batching"]) == {"together"}
    assert set(here["status"]) <= {"converged", "evaluation_limit"} and (here["relative_change"] > 0).all()
    for column in ("kernel_change", "effective_rank", "time", "time_half", "test_loss", "test_error"):
        assert here[column].gt(0).any(), column


def test_it_is_planned_and_has_a_state(folder: Path) -> None:
    plan = json.loads(told(folder, "plan", "study/tiny.toml", "--json"))
    assert (plan["total"], plan["missing"], [row["width"] for row in plan["widths"]]) == (12, 12, [8, 16, 32])
    assert json.loads(read(folder, "status", "out", "--json"))["finished"] == 12
    assert "2 layers, width to 32" in read(folder, "list", ".")


def test_it_is_fitted_drawn_and_shown(folder: Path) -> None:
    fit = json.loads(read(folder, "fit", "out", "--json"))
    assert set(fit["regimes"]) == {"inner", "outer"} and fit["runs"] + fit["left_out"] == 24
    slopes = pd.read_parquet(folder / "out" / "slopes.parquet")
    assert len(slopes) == 4 and slopes["predicted_slope"].isna().all()
    steep = slopes.set_index(["layer", "gamma"])["slope"]
    assert steep["inner", 0.5] < steep["inner", 1.5], "smaller weights move farther"
    kernel = json.loads(read(folder, "fit", "out", "--measure", "kernel_change", "--json"))
    assert kernel["measure"] == "kernel_change"
    drawn = read(folder, "plot", "out")
    assert "slope_map_inner.png" in drawn or "scaling_inner.png" in drawn
    read(folder, "report", "out")
    page = Page((folder / "out" / "report.html").read_text()).content
    assert "inner" in json.dumps(page)


def test_its_jobs_are_reproduced_where_its_function_is_found(folder: Path) -> None:
    job = runs_in(folder / "out")["job_id"].iloc[0]
    again = told(folder / "study", "reproduce", "../out", job, "--weights", "w.npz")
    assert "they agree" in again
    assert "network.factory on " in refused(folder, "reproduce", "out", job)
    read(folder, "export", "out", "all.parquet")
    assert len(pd.read_parquet(folder / "all.parquet")) == 24


def test_networks_that_cannot_be_made_fail_alone(folder: Path) -> None:
    late = folder / "late"
    late.mkdir()
    code = NETS.replace(
        "    return Net(", "    if gamma > 1:\n        raise ValueError('too large')\n    return Net("
    )
    (late / "tiny_nets.py").write_text(code)
    (late / "late.toml").write_text(SPEC)
    done = phasediag(late, "run", "late.toml", "--out", "out", program="stand_in_phasediag")
    assert done.returncode == 1 and "6 of 12 jobs finished, 6 failed" in done.stdout, done.stderr
    rows = runs_in(late / "out")
    failed = rows["status"] == "failed"
    assert (failed == (rows["gamma"] > 1)).all() and rows.loc[failed, "error"].str.contains("too large").all()
    job = rows["job_id"][~failed].iloc[0]
    assert "they agree" in told(folder, "reproduce", "late/out", job), "its function is beside the folder"


def test_two_of_them_are_compared(folder: Path) -> None:
    read(folder, "compare", "out", "local", "-o", "differences")
    found = pd.read_parquet(folder / "differences" / "differences.parquet")
    assert (found["difference"].dropna() == 0).all() and len(found) == 4


def test_it_grows_and_refuses_other_code(folder: Path) -> None:
    more = folder / "more"
    more.mkdir()
    (more / "tiny_nets.py").write_text(NETS + "\n\n# another comment\n")
    (more / "more.toml").write_text(SPEC.replace("[0.5, 1.5]", "[0.5, 1.5, 1.0]"))
    plan = json.loads(told(more, "plan", "more.toml", "--out", "../local", "--json"))
    assert (plan["total"], plan["finished"], plan["missing"]) == (18, 12, 6)
    (more / "tiny_nets.py").write_text(NETS.replace("torch.relu", "torch.tanh"))
    answer = refused(more, "run", "more.toml", "--out", "../local", "--local")
    assert "more.toml: network.factory: the code of tiny_nets:make differs from the code" in answer
    assert "another output folder" in answer
    (more / "tiny_nets.py").unlink()
    answer = refused(more, "run", "more.toml", "--out", "new")
    assert (
        "more.toml: network.factory: tiny_nets:make: ModuleNotFoundError" in answer
        and not (more / "new").exists()
    )


def test_refinement_places_networks_of_its_own(folder: Path) -> None:
    refined = folder / "study" / "refined.toml"
    refined.write_text(
        SPEC.replace('"tiny"', '"refined"') + "\n[refine]\ntarget = 0.3\nmax_jobs = 12\nrounds = 1\n"
    )
    printed = told(folder, "run", "study/refined.toml", "--out", "refined", "--local")
    runs = runs_in(folder / "refined")
    assert (
        12 < runs["job_id"].nunique() <= 24 and (folder / "refined" / "figures" / "refinement.png").exists()
    )
    assert "0 failed" in printed


def test_the_starter_is_a_study_that_is_planned(tmp_path: Path) -> None:
    read(tmp_path, "init", "start.toml", "--kind", "module")
    assert json.loads(told(tmp_path, "plan", "start.toml", "--json"))["missing"] == 30

"""Kinds of study plug in: a toy kind, one folder and one registration, goes through every command without a change elsewhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from heads import ONE_WORKER
from test_report import Page

from phasediag import kinds
from phasediag.errors import InputError

TOY = Path(__file__).parent / "toy"


def phasediag(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command with the package of the toy kind installed, in a folder."""
    path = os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, **ONE_WORKER}
    environment.pop("RAY_ADDRESS", None)
    command = [sys.executable, "-m", "phasediag", *arguments]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the starter of the toy kind, run on Ray into `out` and in one process into `local`."""
    found = tmp_path_factory.mktemp("toy")
    init = phasediag(found, "init", "toy.toml", "--kind", "decay")
    assert init.returncode == 0, init.stderr
    for out, more in (("out", ()), ("local", ("--local",))):
        ran = phasediag(found, "run", "toy.toml", "--out", out, *more)
        assert ran.returncode == 0, ran.stderr
        assert "3 of 3 jobs finished, 0 failed; 3 run now" in ran.stdout
        assert "speed" in ran.stdout, "what the kind has fitted is printed"
    return found


def test_it_is_planned(folder: Path) -> None:
    plan = json.loads(phasediag(folder, "plan", "toy.toml", "--json").stdout)
    assert (plan["total"], plan["missing"]) == (3, 3)
    assert [row["rate"] for row in plan["rates"]] == [0.1, 0.2, 0.5]
    done = json.loads(phasediag(folder, "plan", "toy.toml", "--out", "out", "--json").stdout)
    assert (done["finished"], done["missing"]) == (3, 0)


def test_its_rows_are_those_of_its_trainer_wherever_it_ran(folder: Path) -> None:
    for out in ("out", "local"):
        runs = pd.read_parquet(folder / out / "runs").sort_values("rate")
        assert runs["left"].tolist() == pytest.approx([0.9**10, 0.8**10, 0.5**10])


def test_it_has_a_state_a_fit_figures_and_a_page(folder: Path) -> None:
    assert "complete, 3 done" in phasediag(folder, "status", "out").stdout
    fit = json.loads(phasediag(folder, "fit", "out", "--json").stdout)
    assert fit["speeds"]["0.5"] == pytest.approx(0.6931, abs=1e-4)
    assert "figures/speeds.png" in phasediag(folder, "plot", "out").stdout
    assert (folder / "out" / "figures" / "speeds.svg").exists()
    assert phasediag(folder, "report", "out").returncode == 0
    held = Page((folder / "out" / "report.html").read_text()).content
    assert held["runs_of"]["all"]["rate"] == [0.1, 0.2, 0.5] and held["progress"]["finished"] == 3


def test_its_jobs_are_reproduced_and_exported(folder: Path) -> None:
    job = pd.read_parquet(folder / "out" / "runs")["job_id"].iloc[0]
    again = phasediag(folder, "reproduce", "out", job, "--weights", "w.npz")
    assert again.returncode == 0 and "they agree" in again.stdout
    assert phasediag(folder, "export", "out", "all.parquet").returncode == 0
    assert len(pd.read_parquet(folder / "all.parquet")) == 3


def test_it_grows(folder: Path) -> None:
    text = (folder / "toy.toml").read_text()
    (folder / "more.toml").write_text(text.replace("0.5]", "0.5, 0.9]"))
    ran = phasediag(folder, "run", "more.toml", "--out", "local", "--local")
    assert "4 of 4 jobs finished, 0 failed; 1 run now" in ran.stdout
    (folder / "other.toml").write_text(text.replace("steps = 10", "steps = 11"))
    refused = phasediag(folder, "run", "other.toml", "--out", "local", "--local")
    assert refused.returncode == 2 and "other.toml: steps: 11 differs" in refused.stderr


def test_what_it_cannot_do_says_so_in_one_message(folder: Path) -> None:
    refused = phasediag(folder, "compare", "out", "local")
    assert refused.returncode == 2
    assert (
        refused.stderr
        == "error: out/study.toml: kind: 'decay' has no 'compare'; allowed: phase-diagram, module\n"
    )


def test_its_mistakes_are_told_like_those_of_every_kind(folder: Path) -> None:
    (folder / "typo.toml").write_text('name = "x"\nkind = "decay"\nrate = [0.1]\n')
    refused = phasediag(folder, "plan", "typo.toml")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "typo.toml: rate: unknown key; did you mean 'rates'?" in refused.stderr


def test_an_unknown_kind_is_answered_with_those_there_are(folder: Path) -> None:
    for arguments in (("init", "x.toml", "--kind", "growth"), ("plan", "growth.toml")):
        (folder / "growth.toml").write_text('name = "x"\nkind = "growth"\n')
        refused = phasediag(folder, *arguments)
        assert refused.returncode == 2
        assert "kind" in refused.stderr and refused.stderr.endswith(
            "'growth' is not supported; allowed: phase-diagram, condensation, module, decay\n"
        )
        assert not (folder / "x.toml").exists()


def test_a_package_that_is_broken_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "broken-1.0.dist-info").mkdir()
    (tmp_path / "broken-1.0.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n"
    )
    (tmp_path / "broken-1.0.dist-info" / "entry_points.txt").write_text(
        "[phasediag.kinds]\nbroken = no.such:KIND\n"
    )
    script = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from phasediag import kinds; kinds.named('broken', 'x.toml: kind')"
    failed = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    [line] = [one for one in failed.stderr.splitlines() if one.startswith("phasediag.errors.InputError")]
    assert "x.toml: kind: 'broken' cannot be loaded from no.such:KIND (ModuleNotFoundError" in line


@pytest.mark.parametrize("name", [None, 3, "", "Phase-Diagram", ["condensation"]])
def test_what_is_no_name_of_a_kind_is_refused(name: object) -> None:
    with pytest.raises(
        InputError,
        match=r"x: kind: .* is not supported; (did you mean .*)?allowed: phase-diagram, condensation",
    ):
        kinds.named(name, "x: kind")


@pytest.mark.parametrize("name", ["phase-diagram", "condensation", "module"])
def test_every_kind_of_the_package_has_a_starter_that_is_valid(name: str) -> None:
    kind = kinds.named(name)
    assert kind.name == name
    assert isinstance(kinds.parse_spec(kind.starter(), "starter.toml"), kind.spec())

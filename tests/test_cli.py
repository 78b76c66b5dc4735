"""The command line as users meet it: exit codes, messages, files."""

import errno
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from unittest.mock import ANY
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
from heads import ONE_WORKER
from studies import starter
from typer.testing import CliRunner
from waiting import PATIENCE, no_longer, wait_for

from phasediag.cli import app
from phasediag.kinds import open_store, parse_spec
from phasediag.phase_diagram.kind import PhaseDiagram
from phasediag.spec.sweeps import sweeps
from phasediag.sweep import lifeline
from phasediag.sweep.lifeline import Lifeline

COMMANDS = (
    "init",
    "plan",
    "run",
    "status",
    "list",
    "serve",
    "fit",
    "plot",
    "compare",
    "report",
    "export",
    "reproduce",
    "locate",
)

SPEC = """
name = "cli"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [20, 80], gamma = [0.5, 1.75], gamma_prime = [0.0], seeds = 2 }
"""


def invoke(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def start(*arguments, program=("-m", "phasediag")):
    """The program in a process of its own, without a cluster; a Ray that it starts has one worker."""
    others = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.Popen(
        [sys.executable, *program, *map(str, arguments)],
        env={**others, **ONE_WORKER},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """(exit code, standard output, standard error)."""
    output, errors = process.communicate(timeout=PATIENCE)
    return process.returncode, output, errors


@pytest.fixture
def undrawn(monkeypatch):
    """No figures, where they are not what a test is about: they take longer than all the rest."""
    monkeypatch.setattr(PhaseDiagram, "figures", lambda kind, store: {})


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """A small sweep, run by the program while `status --wait` watches: its folder and what both printed.

    The program runs once the watcher has said that there is nothing yet; on a busy machine it might be done before.
    """
    folder = tmp_path_factory.mktemp("sweep")
    (folder / "spec.toml").write_text(SPEC)
    with no_longer(start("status", folder / "out", "--wait")) as watching:
        assert watching.stderr
        nothing_yet = watching.stderr.readline()
        with no_longer(start("run", folder / "spec.toml", "--out", folder / "out", "--local")) as running:
            ran = finish(running)
        code, output, errors = finish(watching)
    return folder / "out", ran, (code, output, nothing_yet + errors)


SMALL = """
name = "small"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }
grid = { width = [10, 40], gamma = [0.5], gamma_prime = [0.0], seeds = 4 }
samples = { points = [] }
"""


@pytest.mark.usefixtures("undrawn")
def test_run_exits_1_if_jobs_failed_names_them_and_tries_them_again(tmp_path, monkeypatch):
    from faults import sweeps, test_jobs

    def run(*more):
        return invoke("run", tmp_path / "spec.toml", "--out", tmp_path / "out", "--local", *more)

    (tmp_path / "spec.toml").write_text(SMALL)
    with monkeypatch.context() as patch:
        train = PhaseDiagram.trainer
        patch.setattr(PhaseDiagram, "trainer", lambda *them: sweeps.Disturbed(train(*them), test_jobs.raises))
        result = run()
    assert result.exit_code == 1
    [failed] = [job for job, status in open_store(tmp_path / "out").statuses().items() if status == "failed"]
    assert f"1 job failed: {failed}\n  1 of them: ArithmeticError: no such luck" in result.stderr
    assert "--retry-failed" in result.stderr
    assert "1 failed: column 'error' of runs/ says why" in invoke("status", tmp_path / "out").stdout
    assert "7 of 8 jobs finished, 1 failed" in result.output
    assert run().exit_code == 1
    again = run("--retry-failed")
    assert again.exit_code == 0 and "8 of 8 jobs finished, 0 failed; 1 run now" in again.output


def test_a_finished_study_is_run_again_without_ray_and_torch_and_makes_nothing_again(tmp_path):
    (tmp_path / "spec.toml").write_text(SMALL)
    arguments = ["run", str(tmp_path / "spec.toml"), "--out", str(tmp_path / "out")]
    assert invoke(*arguments, "--local").exit_code == 0
    made = ("slopes.parquet", "figures/scaling_W1.png", "figures/scaling_W1.svg")
    before = {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in made}
    script = (
        "import sys\nfrom phasediag.cli import app\n"
        f"app({arguments!r}, standalone_mode=False)\n"
        "print(*{'ray', 'torch', 'numba', 'matplotlib'} & set(sys.modules))"
    )
    again = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert "8 of 8 jobs finished, 0 failed; 0 run now" in again
    assert again.splitlines()[-1] == ""
    assert {name: (tmp_path / "out" / name).stat().st_mtime_ns for name in made} == before
    (tmp_path / "out" / made[1]).unlink()
    assert invoke(*arguments).exit_code == 0
    assert (tmp_path / "out" / made[1]).is_file()


@pytest.mark.usefixtures("undrawn")
def test_plan_and_run_tell_once_that_one_width_has_no_slope(tmp_path):
    spec, told = tmp_path / "spec.toml", "grid.width: one width gives no slope"
    spec.write_text(SMALL.replace("[10, 40]", "[10]"))
    planned = invoke("plan", spec)
    ran = invoke("run", spec, "--out", tmp_path / "out", "--local")
    again = invoke("run", spec, "--out", tmp_path / "out")
    for result in (planned, ran, again):
        assert result.exit_code == 0 and result.stderr.count(f"{spec}: {told}") == 1
    spec.write_text(SMALL.replace("[10, 40]", "[20]"))  # with what is there, two widths
    assert told not in invoke("plan", spec, "--out", tmp_path / "out").stderr
    assert " s for fits and figures" in planned.stdout and " s to start and stop Ray" in planned.stdout
    assert "; in all about " in planned.stdout


@pytest.mark.parametrize(
    ("log", "words"),
    [("out/log", "lies within"), ("nowhere/log", "cannot be written"), (".", "cannot be written")],
)
def test_a_log_that_cannot_be_written_is_refused_and_nothing_is_written(tmp_path, monkeypatch, log, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spec.toml").write_text(SPEC)
    result = invoke("run", "spec.toml", "--out", "out", "--log", log)
    assert result.exit_code == 2 and words in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


@pytest.mark.parametrize("command", COMMANDS)
def test_help_describes_the_command_and_shows_an_example(command):
    result = invoke(command, "--help")
    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"  phasediag {command} " in result.output
    assert max(map(len, result.output.splitlines())) <= 80


def test_help_and_version():
    assert invoke("--version").output.startswith("phasediag ")
    output = invoke("--help").output
    assert all(f"  {command} " in output for command in COMMANDS)
    assert output.count("...") == 1  # that of "[ARGS]...": no summary is cut short


@pytest.mark.parametrize("command", [["--help"], ["plot", "OUT"], ["compare", "OUT", "OUT"]])
def test_light_commands_import_neither_torch_nor_ray(command, sweep):
    arguments = [str(sweep[0]) if part == "OUT" else part for part in command]
    code = (
        "import sys; from phasediag.cli import app; app(sys.argv[1:], standalone_mode=False); "
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, capture_output=True)


# What users get wrong.

BAD_INPUT = {
    "plan in a file": (["plan", "spec.toml", "--out", "spec.toml"], ["spec.toml: is a file", "a folder"]),
    "no such spec": (["plan", "missing.toml"], ["missing.toml"]),
    "not TOML": (["run", "broken.toml", "--out", "out"], ["broken.toml", "line 1"]),
    "unknown key": (["run", "typo.toml", "--out", "out"], ["typo.toml", "grid.gama", "gamma"]),
    "out is a file": (["run", "spec.toml", "--out", "spec.toml"], ["spec.toml", "folder"]),
    "out below a file": (["run", "spec.toml", "--out", "spec.toml/out"], ["spec.toml", "folder"]),
    "unknown scheme": (["run", "spec.toml", "--out", "what://out"], ["what://out"]),
    "more CPUs than there are": (["run", "greedy.toml", "--out", "out"], ["cpus_per_task", "100000"]),
    "more GPUs than there are": (["run", "gpus.toml", "--out", "out"], ["gpus_per_task", "up to"]),
    "GPU without a GPU": (
        ["run", "gpu.toml", "--out", "out"],
        [
            "gpu.toml: resources.device: 'cuda', but there is no driver of GPUs on this machine; allowed: auto, cpu"
        ],
    ),
    "GPU without a GPU, in this process": (
        ["run", "gpu.toml", "--out", "out", "--local"],
        [
            "gpu.toml: resources.device: 'cuda', but there is no driver of GPUs on this machine; allowed: auto, cpu"
        ],
    ),
    "status of nothing": (["status", "out"], ["out", "no study"]),
    "fit of nothing": (["fit", "out"], ["out", "no study"]),
    "plot of nothing": (["plot", "out"], ["out", "no study"]),
    "compare of nothing": (["compare", "out", "other"], ["out", "no study"]),
    "export of nothing": (["export", "out", "x.parquet"], ["out", "no study"]),
    "reproduce of nothing": (["reproduce", "out", "abc"], ["out", "no study"]),
    "init of no sweep": (
        ["init", "--from", "quickstrat"],
        ["'quickstrat'", "did you mean 'quickstart'?", "phasediag init --list"],
    ),
    "init of a sweep over a file": (["init", "spec.toml", "--from", "quickstart"], ["spec.toml", "exists"]),
    "init of a sweep and a kind": (["init", "--from", "quickstart", "--kind", "condensation"], ["--kind"]),
    "init over a file": (["init", "spec.toml"], ["spec.toml", "exists"]),
    "init in no folder": (["init", "missing/spec.toml"], ["missing/spec.toml"]),
    "locate without a scale": (["locate", "--width", "100"], ["--alpha", "--name"]),
    "locate a negative scale": (
        ["locate", "--width", "9", "--alpha", "-1", "--beta-1", "1", "--beta-2", "1"],
        ["alpha"],
    ),
    "locate an unknown name": (["locate", "--name", "Kaimin"], ["Kaimin", "NTK", "Xavier", "kaiming"]),
    "locate nine layers": (["locate", "--name", "NTK", "--depth", "9"], ["--depth: 9", "2 to 8"]),
    "locate a name and a width": (["locate", "--name", "NTK", "--width", "9"], ["--width", "--name"]),
    "locate a formula and a width": (
        ["locate", "--width", "9", "--alpha", "1", "--beta-1", "1/m", "--beta-2", "1"],
        ["--beta-1: m is not supported together with --width", "numbers"],
    ),
    "locate what is no formula": (
        ["locate", "--alpha", "1", "--beta-1", "1/n", "--beta-2", "m"],
        ["--beta-1: '1/n'", "a formula of the width m", "sqrt()"],
    ),
    "locate what is code": (
        ["locate", "--alpha", "m", "--beta-1", "__import__('os')", "--beta-2", "m"],
        ["--beta-1", "a formula of the width m"],
    ),
    "locate two layers with three scales": (
        ["locate", "--depth", "2", "--beta-3", "1"],
        ["--beta-3", "three layers"],
    ),
    "locate three layers without a scale": (
        ["locate", "--beta-3", "1", "--width", "9"],
        ["--alpha", "--beta-1"],
    ),
    "locate a name and a scale": (["locate", "--name", "NTK", "--alpha", "1"], ["--alpha", "--name"]),
}


@pytest.mark.parametrize(("arguments", "parts"), BAD_INPUT.values(), ids=BAD_INPUT)
def test_bad_input_is_one_clear_line_and_writes_nothing(arguments, parts, tmp_path, monkeypatch):
    monkeypatch.setattr("phasediag.devices._driver", lambda: False)
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    Path("typo.toml").write_text(SPEC.replace("gamma =", "gama ="))
    Path("broken.toml").write_text("name = \n")
    Path("greedy.toml").write_text(SPEC + "resources = { cpus_per_task = 100000 }")
    Path("gpu.toml").write_text(SPEC + 'resources = { device = "cuda" }')
    Path("gpus.toml").write_text(SPEC + "resources = { gpus_per_task = 1000 }")
    before = sorted(tmp_path.rglob("*"))
    result = invoke(*arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert result.stderr.count("\n") == 1
    assert all(part in result.stderr for part in parts)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "error: Missing argument 'SPEC.toml'; see 'phasediag run --help'"),
        (["run", "spec.toml"], "error: Missing option '--out'; see 'phasediag run --help'"),
        (["statu"], "error: No such command 'statu'; did you mean 'status'? allowed: init, plan, "),
        (["--bogus"], "error: No such option: --bogus; see 'phasediag --help'"),
        (["--versio"], "error: No such option: --versio; did you mean '--version'? see 'phasediag --help'"),
        (["locate", "--depth", "x"], "error: Invalid value for '--depth': "),
        (["locate", "--nam", "He"], "error: No such option: --nam; did you mean '--name'? see"),
        (
            ["locate", "--name", "Xaver"],
            "error: locate: --name: 'Xaver' is not known; did you mean 'Xavier'? allowed: ",
        ),
        (["plan", "one", "two"], "error: Got unexpected extra argument"),
    ],
)
def test_bad_usage_is_one_line_and_exits_with_2(arguments, message):
    result = invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("address", "hint"),
    [
        ("127.0.0.1:1", "nothing answers"),
        ("http://127.0.0.1:8265", "for 'ray job submit'; allowed .*HOST:PORT"),
        ("nonsense", "nonsense cannot be joined: .*; allowed: HOST:PORT"),
    ],
)
def test_a_cluster_that_cannot_be_joined_is_bad_input(tmp_path, monkeypatch, address, hint):
    monkeypatch.setenv("RAY_ADDRESS", address)
    (tmp_path / "spec.toml").write_text(SPEC)
    result = invoke("run", tmp_path / "spec.toml", "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert re.search(f"error: RAY_ADDRESS: .*{hint}", result.stderr)
    assert not (tmp_path / "out").exists()


# A sweep and what follows from it.


@pytest.mark.parametrize(
    "name", ["mystudy", "my study.toml", "study.toml", "it's.toml", "-study.toml", "$HOME.toml"]
)
def test_the_command_that_init_prints_can_be_pasted(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    printed = invoke("init", "--", name).stdout
    _, _, command = printed.rstrip("\n").partition("; next: ")
    program, verb, *arguments = shlex.split(command)
    assert (program, verb) == ("phasediag", "run")
    assert invoke("plan", *arguments).exit_code == 0
    shell = subprocess.run(
        ["sh", "-c", command.replace("phasediag", "printf '%s\\n'", 1)], capture_output=True, text=True
    )
    assert shell.stdout.splitlines() == [verb, *arguments]


def test_the_home_directory_has_a_short_name_everywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert invoke("init", "~/study.toml").exit_code == 0
    assert invoke("plan", "~/study.toml", "--out=~/results").exit_code == 0
    assert (tmp_path / "study.toml").exists()
    refused = invoke("plan", "~nobody-of-this-name/study.toml")
    assert refused.exit_code == 2 and "there is no such home directory" in refused.stderr


def test_columns_that_are_not_used_are_told(tmp_path):
    (tmp_path / "d.csv").write_text("x0,x1,y,weight,fold\n1,2,3,4,5\n2,3,4,5,6\n")
    spec = tmp_path / "spec.toml"
    text = re.sub("data = .*", 'data = { kind = "file", path = "d.csv" }', SPEC)
    spec.write_text(text.replace("[20, 80]", "[20, 40, 80]"))
    result = invoke("plan", spec)
    assert (result.exit_code, result.stderr) == (0, f"{spec}: data: not used: weight, fold\n")


@pytest.mark.parametrize("out", ["s3:/bucket/study", "file:/tmp/elsewhere"])
def test_what_is_nearly_a_uri_is_refused_and_nothing_is_written(tmp_path, monkeypatch, out):
    monkeypatch.chdir(tmp_path)
    Path("spec.toml").write_text(SPEC)
    result = invoke("run", "spec.toml", "--out", out, "--local")
    assert result.exit_code == 2 and "a URI with ://" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


@pytest.mark.parametrize(
    "arguments",
    [
        *(["--out", out] for out in ("relative", "./a/b", "{here}/absolute", "file://{here}/uri")),
        ["--out", "{here}/../../../out", "--log", "log.jsonl"],
    ],
)
def test_a_folder_or_log_that_ray_deletes_after_the_job_is_refused(tmp_path, monkeypatch, arguments):
    here = tmp_path / "session_1/runtime_resources/working_dir_files/_ray_pkg_0123456789abcdef"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    Path("spec.toml").write_text(SPEC)
    result = invoke("run", "spec.toml", *(argument.format(here=here) for argument in arguments))
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (2, "", 1)
    assert "which Ray deletes after the job; allowed: an absolute path" in result.stderr
    assert [path.name for path in here.iterdir()] == ["spec.toml"]


def test_init_lists_the_sweeps_that_it_writes(tmp_path, monkeypatch):
    """Every one has a line of its own in the list, a title, and a text that is the one of its file but for its paths."""
    monkeypatch.chdir(tmp_path)
    listed = invoke("init", "--list").stdout
    for name, sweep in sweeps().items():
        line = next(line for line in listed.splitlines() if line.startswith(f"{name} "))
        assert sweep.title.split()[0] in line and sweep.title.endswith((".", "?")) and len(sweep.title) < 120
        assert invoke("init", "--from", name).exit_code == 0
        written = Path(f"{name}.toml").read_text()
        assert f"phasediag run {name}.toml" in written or "phasediag run" not in written
        parse_spec(written, f"{name}.toml")
    assert len(sweeps()) > 30


def test_init_says_which_data_to_bring(tmp_path):
    file = tmp_path / "mine.toml"
    said = invoke("init", file, "--from", "two_layer_mnist").stdout
    assert f"put its data at {tmp_path / 'mnist'}" in said
    assert "needs mnist beside the spec, which does not come with it: condensation_mnist, " in (
        invoke("init", "--list").stdout
    )


def test_init_writes_a_valid_spec_once(tmp_path):
    file = tmp_path / "study.toml"
    assert invoke("init", file).exit_code == 0
    assert file.read_text() == starter("phase-diagram")
    assert len(parse_spec(starter("phase-diagram"), "starter").samples.points) == 3
    uncommented = "\n".join(
        line.removeprefix("# ") if line.startswith(("# [", "# ")) and ("=" in line or "# [" in line) else line
        for line in starter("phase-diagram").splitlines()
    )
    assert (
        parse_spec(uncommented, "uncommented").train == parse_spec(starter("phase-diagram"), "starter").train
    )


def test_run_trains_fits_plots_and_sums_up(sweep):
    out, (code, output, errors), _ = sweep
    assert (code, "error" in errors) == (0, False)
    assert "8 of 8 jobs finished, 0 failed" in output
    assert "W1" in output
    store = open_store(out)
    assert set(store.statuses().values()) <= {"converged", "stalled", "evaluation_limit"}
    assert store.read_driver()["state"] == "finished"
    assert len(store.fitted()) == 4
    assert {"regime_map_W1.png", "functions.svg"} <= {path.name for path in (out / "figures").iterdir()}


def test_status_waits_for_a_folder_that_does_not_exist_yet(sweep):
    _, _, (code, output, errors) = sweep
    assert code == 0
    assert errors.count("holds no study yet") == 1
    assert output.splitlines()[-1].startswith("cli: complete, 8 done, 0 failed, 0 missing")


def test_status_and_plan_count_the_same(sweep):
    out = sweep[0]
    status = json.loads(invoke("status", out, "--json").stdout)
    assert (status["state"], status["total"], status["missing"]) == ("complete", 8, 0)
    planned = json.loads(invoke("plan", out.parent / "spec.toml", "--out", out, "--json").stdout)
    assert (planned["total"], planned["finished"], planned["missing"], planned["batches"]) == (8, 8, 0, 0)
    fresh = json.loads(invoke("plan", out.parent / "spec.toml", "--json").stdout)
    assert (fresh["finished"], fresh["missing"], fresh["samples"]) == (0, 8, 2)
    assert "8 jobs: 8 finished" in invoke("plan", out.parent / "spec.toml", "--out", out).stdout


def test_fit_prints_regimes_and_json_without_nan(sweep):
    out = sweep[0]
    summary = json.loads(invoke("fit", out, "--json").stdout)
    assert sum(summary["regimes"]["W1"].values()) == 2
    assert set(summary["critical_line_distance"]) == {"W1", "a"}
    assert "condensed" in invoke("fit", out).stdout


def test_plot_fits_first_where_needed_and_says_what_it_wrote(sweep):
    out = sweep[0]
    (out / "slopes.parquet").unlink()
    (out / "figures" / "regime_map_W1.png").unlink()
    output = invoke("plot", out).stdout
    assert f"wrote {out}/slopes.parquet" in output
    assert f"wrote {out}/figures/regime_map_W1.png" in output
    assert (out / "figures" / "regime_map_W1.png").stat().st_size > 1000


def test_points_of_the_scaling_figure_are_chosen(sweep):
    out = sweep[0]
    before = sorted(out.rglob("*"))
    for points, said in (
        (["0.5"], "--points: '0.5' is not supported; allowed: GAMMA,GAMMA_PRIME, two numbers, as in 0.5,0"),
        (["0.5,zero"], "--points: '0.5,zero' is not supported"),
        (["0.5,0", "1.7,0"], "points: 1.7,0 is not in the study; allowed: its points, the nearest 1.75,0"),
    ):
        result = invoke("plot", out, *(text for point in points for text in ("--points", point)))
        assert result.exit_code == 2 and said in result.stderr and result.stderr.count("\n") == 1
    assert sorted(out.rglob("*")) == before
    output = invoke("plot", out, "--points", "1.75,0", "--format", "png").stdout
    names = [f"scaling_{layer}_points.png" for layer in ("W1", "a")]
    assert output.splitlines() == [f"wrote {out}/figures/{name}" for name in names]
    for name in names:
        (out / "figures" / name).unlink()


def test_a_job_is_reproduced_by_the_beginning_of_its_id(sweep, tmp_path):
    out, file = sweep[0], tmp_path / "weights.npz"
    row = open_store(out).runs().query("layer == 'W1'").iloc[0]
    result = invoke("reproduce", out, row["job_id"][:8], "--weights", file)
    assert result.exit_code == 0
    assert "they agree" in result.stdout
    with np.load(file) as arrays:
        change = np.linalg.norm(arrays["W1_final"] - arrays["W1_initial"])
        assert change / np.linalg.norm(arrays["W1_initial"]) == pytest.approx(
            row["relative_change"], rel=1e-3
        )
        assert arrays["W1_final"].shape == (row["width"], 2)
        assert arrays["a_final"].shape == (row["width"],)
        assert (arrays["x"].shape, arrays["y"].shape) == ((4, 1), (4,))


@pytest.mark.parametrize(("prefix", "part"), [("zzz", "no job"), ("", "8 jobs")])
def test_an_id_that_fits_no_job_or_several_is_refused(sweep, prefix, part):
    result = invoke("reproduce", sweep[0], prefix)
    assert result.exit_code == 2
    assert part in result.stderr


def test_a_changed_study_is_refused_and_leaves_the_folder_as_it_is(sweep, tmp_path):
    out, spec = sweep[0], tmp_path / "spec.toml"
    spec.write_text(SPEC + "train = { accuracy = 0.02 }")
    before = (out / "study.toml").read_text()
    for command in ("run", "plan"):
        result = invoke(command, spec, "--out", out)
        assert result.exit_code == 2
        assert "train.accuracy" in result.stderr
    assert (out / "study.toml").read_text() == before


@pytest.mark.parametrize(
    ("record", "state", "code"),
    [
        (None, "stopped", 1),
        ({"state": "interrupted"}, "stopped", 1),
        ({"state": "running", "lifeline": "of one that was killed"}, "stopped", 1),
    ],
)
def test_waiting_ends_when_the_driver_is_gone_with_jobs_missing(sweep, tmp_path, record, state, code):
    store, text = open_store(tmp_path), open_store(sweep[0]).read_study()
    store.write_data(open_store(sweep[0]).read_data())
    store.write_study(text)
    if record is not None:
        now = time.time()
        token = uuid4().hex
        if "lifeline" in record:
            ended = Lifeline(token)
            ended._file.close()
            record = {**record, "lifeline": ended.record}
        store.write_driver({"token": token, "pid": 0, "host": "", "started": now, "heartbeat": now, **record})
    result = invoke("status", tmp_path, "--wait", "--json")
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (code, state)
    assert ("goes on from here" in invoke("status", tmp_path).stdout) == (state == "stopped")
    if record is not None:
        lifeline.remove(token)


def test_the_time_left_is_what_the_driver_predicts(sweep, tmp_path):
    store = open_store(tmp_path)
    store.write_data(open_store(sweep[0]).read_data())
    store.write_study(open_store(sweep[0]).read_study())
    now = time.time()
    record = {
        "token": "t",
        "state": "running",
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "started": now - 9,
    }
    store.write_driver({**record, "heartbeat": now, "done_at_start": 0, "seconds_left": 75.2})
    shown = invoke("status", tmp_path).stdout
    assert shown == "cli: running, 0 done, 0 failed, 8 missing, 1 min 15 s left\n"


EXECUTORS = pytest.mark.parametrize("options", [[], ["--local"]], ids=["ray", "local"])
HELD = ("-m", "faults.held")
"""The program, which trains one batch and then rests until a file is there: never, in these tests."""
STUCK = """
import sys, time
from pathlib import Path
from faults import held
from phasediag.sweep import local, ray_cluster

folder = Path(sys.argv[1]).parent

def stop(executor):
    (folder / "stopping").touch()
    time.sleep(3600.0)

local.LocalExecutor.stop = ray_cluster.RayCluster.stop = stop
held.main()
"""


def trains(process, out):
    """Whether the sweep of a process has begun to train."""
    record = open_store(out).read_driver()
    return record is not None and record["pid"] == process.pid and record["total"] is not None


def test_every_command_ends_at_sigterm_in_good_order(tmp_path):
    """Also as the first process of a container, which SIGTERM ends only if the process has said so."""
    with no_longer(start("status", tmp_path / "out", "--wait")) as waiting:
        assert "waiting for 'phasediag run' to begin" in waiting.stderr.readline()
        waiting.send_signal(signal.SIGTERM)
        code, output, errors = finish(waiting)
        assert (code, output, errors.splitlines()[-1]) == (130, "", "interrupted")


@pytest.mark.usefixtures("undrawn")
@EXECUTORS
def test_interrupted_runs_keep_what_is_finished_and_can_be_resumed(tmp_path, options):
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    spec.write_text(SPEC.replace("seeds = 2", "seeds = 4"))
    done = set()
    for number in (signal.SIGINT, signal.SIGTERM):
        with no_longer(
            start(tmp_path / "never", "run", spec, "--out", out, *options, program=HELD)
        ) as running:
            wait_for(
                lambda running=running: (
                    running.poll() is not None or (trains(running, out) and open_store(out).statuses())
                )
            )
            running.send_signal(number)
            code, _, errors = finish(running)
        assert code == 130, errors
        resume = " ".join(["phasediag run", str(spec), "--out", str(out), *options])
        assert errors.splitlines()[-1] == f"interrupted; finished rows are kept, resume with: {resume}"
        assert "Traceback" not in errors
        assert open_store(out).read_driver()["state"] == "interrupted"
        assert done <= (done := set(open_store(out).statuses()))
    assert 0 < len(done) < 16
    result = invoke("run", spec, "--out", out, "--local")
    assert (
        result.exit_code,
        f"16 of 16 jobs finished, 0 failed; {16 - len(done)} run now" in result.stdout,
    ) == (0, True)
    assert len(open_store(out).runs()) == 32


@pytest.mark.usefixtures("undrawn")
@EXECUTORS
def test_a_second_interruption_ends_a_run_at_once(tmp_path, options):
    """One that is stuck as it stops, say. What is finished is kept."""
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    spec.write_text(SPEC)
    arguments = [tmp_path / "never", "run", spec, "--out", out, *options]
    with no_longer(start(*arguments, program=("-c", STUCK))) as running:
        wait_for(lambda: running.poll() is not None or (trains(running, out) and open_store(out).statuses()))
        running.send_signal(signal.SIGINT)
        wait_for(lambda: running.poll() is not None or (tmp_path / "stopping").exists())
        assert running.poll() is None
        running.send_signal(signal.SIGINT)
        code, _, errors = finish(running)
    assert (code, "Traceback" in errors) == (130, False)
    assert 0 < len(open_store(out).statuses()) < 8
    assert invoke("run", spec, "--out", out, "--local").exit_code == 0


def test_a_run_goes_on_from_ray_to_this_process_and_back(tmp_path):
    """Ray is where a run trains unless it is told otherwise: in processes of its own."""
    spec, out = tmp_path / "spec.toml", tmp_path / "out"
    for seeds, options in ((1, ["--local"]), (2, []), (3, ["--local"])):
        spec.write_text(SMALL.replace("seeds = 4", f"seeds = {seeds}"))
        log = tmp_path / f"log-{seeds}"
        with no_longer(start("run", spec, "--out", out, "--log", log, *options)) as running:
            code, output, errors = finish(running)
        assert code == 0, errors
        assert f"{2 * seeds} of {2 * seeds} jobs finished, 0 failed; 2 run now" in output
        events = [json.loads(line) for line in log.read_text().splitlines()]
        workers = {event["worker"].rpartition(":")[2] for event in events if event["event"] == "batch"}
        assert (workers == {str(running.pid)}) == bool(options)
    assert len(open_store(out).runs()) == 12


@pytest.mark.usefixtures("undrawn")
def test_local_wins_over_the_address_of_a_cluster_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    (tmp_path / "spec.toml").write_text(SPEC)
    result = invoke("run", tmp_path / "spec.toml", "--out", tmp_path / "out", "--local")
    assert result.exit_code == 0
    assert "RAY_ADDRESS is 127.0.0.1:1, but --local wins: this process trains" in result.stderr
    assert "RAY_ADDRESS" not in result.stdout


@EXECUTORS
def test_a_folder_that_another_driver_runs_is_refused(sweep, tmp_path, options):
    (tmp_path / "spec.toml").write_text(SPEC)
    store = open_store(tmp_path / "out")
    token = uuid4().hex
    record = {"token": token, "state": "running", "pid": os.getpid(), "host": socket.gethostname()}
    alive = Lifeline(token)
    store.write_driver({**record, "heartbeat": time.time(), "lifeline": alive.record})
    result = invoke("run", tmp_path / "spec.toml", "--out", store.out, *options)
    alive.cut()
    assert (result.exit_code, result.stdout) == (2, "")
    words = (
        f"error: {store.out}: another driver is running it (process {os.getpid()} on {socket.gethostname()})"
    )
    assert words in result.stderr
    assert store.read_driver()["token"] == token and not store.exists()


@pytest.mark.usefixtures("undrawn")
def test_plot_fits_again_when_there_are_more_runs(sweep, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(sweep[0], out)
    store = open_store(out)
    store.write_fitted(store.fitted().iloc[:1], store.runs().iloc[:2])
    result = invoke("plot", out)
    assert (result.exit_code, "slopes.parquet" in result.stdout) == (0, True)
    assert len(store.fitted()) > 1
    assert "slopes.parquet" not in invoke("plot", out).stdout


@pytest.mark.parametrize("command", ["fit", "plot"])
def test_what_writes_refuses_a_folder_that_cannot_be_written_to(sweep, monkeypatch, command):
    def refuse(**arguments):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("phasediag.storage.files.tempfile.TemporaryFile", refuse)
    result = invoke(command, sweep[0])
    assert (result.exit_code, result.stdout) == (2, "")
    assert "cannot be written (Read-only file system); allowed: a writable folder" in result.stderr


def test_a_finished_study_runs_without_a_cluster(sweep, tmp_path):
    out, spec = tmp_path / "out", tmp_path / "spec.toml"
    shutil.copytree(sweep[0], out)
    spec.write_text(SPEC)
    with no_longer(start("run", spec, "--out", out)) as running:
        code, output, errors = finish(running)
    assert (code, "0 run now" in output) == (0, True)
    assert "Ray" not in errors + output


def test_an_empty_out_is_refused(tmp_path, monkeypatch):
    spec = tmp_path / "spec.toml"
    spec.write_text(SPEC)
    monkeypatch.chdir(tmp_path)
    result = invoke("run", spec, "--out", "")
    assert (result.exit_code, "OUT: is empty" in result.stderr) == (2, True)
    assert [path.name for path in tmp_path.iterdir()] == ["spec.toml"]


@pytest.mark.parametrize(
    ("command", "place"),
    [
        (["reproduce", "OUT", "JOB", "--weights"], "runs/weights.npz"),
        (["reproduce", "OUT", "JOB", "--weights"], "data.npz"),
        (["compare", "OUT", "OUT", "-o"], "runs"),
        (["init"], "runs/another.toml"),
        (["run", "SPEC", "--local", "--out"], "runs/another"),
        (["export", "OUT"], "all.parquet"),
        (["report", "OUT", "-o"], "runs/page.html"),
    ],
    ids=lambda part: part if isinstance(part, str) else part[0],
)
def test_nothing_is_written_among_the_files_of_a_study(sweep, command, place):
    out = sweep[0]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    job = pd.read_parquet(out / "runs")["job_id"].iloc[0]
    names = {"OUT": out, "JOB": job, "SPEC": out / "study.toml"}
    result = invoke(*[names.get(part, part) for part in command], out / place)
    assert result.exit_code == 2 and "lies within" in result.stderr, result.output
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_weights_have_a_file_of_their_kind(sweep, tmp_path):
    result = invoke("reproduce", sweep[0], "0", "--weights", tmp_path / "weights.csv")
    assert result.exit_code == 2 and result.stderr.endswith("allowed: a file whose name ends in .npz\n")


def test_weights_that_cannot_be_written_are_bad_input(sweep):
    job_id = open_store(sweep[0]).runs()["job_id"].iloc[0]
    result = invoke("reproduce", sweep[0], job_id, "--weights", "/proc/weights.npz")
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)


# Locating an initialisation.


def test_locate_takes_scales_or_a_name():
    arguments = ["locate", "--width", 100, "--alpha", 1, "--beta-1", 0.1, "--beta-2", 1]
    found = json.loads(invoke(*arguments, "--json").stdout)
    assert found == {
        "depth": 2,
        "gamma": 0.5,
        "gamma_prime": 0.5,
        "gamma_1": 0.0,
        "uncertainty": {
            "gamma": pytest.approx(0.3010, abs=1e-4),
            "gamma_prime": pytest.approx(0.1505, abs=1e-4),
            "gamma_1": 0.0,
        },
        "predicted_regime": {"W1": "linear", "a": "linear"},
        "predicted_slope": {"W1": -1.5, "a": -0.5},
        "near_critical_line": [],
        "notes": [ANY],
    }
    assert "gamma = 0.50 ± 0.31\ngamma' = 0.50 ± 0.16\nW1: linear, slope -1.50\n" in invoke(*arguments).stdout
    named = json.loads(invoke("locate", "--name", "ntk", "--json").stdout)
    assert (named["gamma"], named["gamma_prime"]) == (0.5, 0.0)


def test_locate_three_layers():
    arguments = ["locate", "--width", 100, "--alpha", 1, "--beta-1", 0.1, "--beta-2", 0.1, "--beta-3", 1]
    found = json.loads(invoke(*arguments, "--json").stdout)
    assert (found["depth"], found["gamma"], found["gamma_prime"], found["gamma_1"]) == (3, 1.0, 0.5, 0.0)
    assert found["predicted_regime"] == {"W1": "linear", "W2": "linear", "a": "linear"}
    off_plane = invoke(*arguments[:-3], 0.2, "--beta-3", 1).stdout
    assert "gamma_1 = 0.15 ± 0.16\nW1: linear, slope -1.50" in off_plane
    named = invoke("locate", "--name", "mean-field", "--depth", 3).stdout
    assert (
        "W1: condensed, slope 0.166667\nW2: linear, slope -0.333333; in operator norm condensed, slope 0.166667\n"
        in named
    )
    numbers = ["--width", 1000, "--alpha", 1, "--beta-1", 0.0447, "--beta-2", 0.0447, "--beta-3", 0.0447]
    near = json.loads(invoke("locate", *numbers, "--json").stdout)
    assert (near["near_critical_line"], near["near_critical_line_operator_norm"]) == (["W1", "a"], ["W2"])
    assert (
        "W2: linear, slope -0.65; in operator norm critical within ±, slope -0.15\n"
        in invoke("locate", *numbers).stdout
    )


@pytest.mark.parametrize(
    ("formula", "power"),
    [
        ("m**4", 4.0),
        ("m * sqrt(m)**6", 4.0),
        ("1/m + 1e-9", 0.0),
        ("m**0", 0.0),
        ("sqrt(2/(m + d**90))", -0.5),
        ("m + 1 - 1/m", 1.0),
        ("-2*-m**-0.25", -0.25),
        ("(3 + m) / (m*m - m)", -1.0),
    ],
)
def test_formulas_have_the_power_of_their_leading_term(formula, power):
    found = invoke("locate", "--alpha", formula, "--beta-1", "m/m", "--beta-2", "d", "--json")
    assert json.loads(found.stdout)["gamma"] == pytest.approx(power)


@pytest.mark.parametrize(
    ("formula", "why"),
    [
        ("m - m", "its leading terms cancel"),
        ("sqrt(m + 1) - sqrt(m)", "its leading terms cancel"),
        ("m**(1/d)", "exponents are numbers"),
        ("m**m", "exponents are numbers"),
        ("sqrt(-m)", "a power of something negative"),
        ("1 - m", "allowed: a finite number above 0"),
        ("m/0", "beyond numbers"),
        ("9**9**9", "beyond numbers"),
        ("m if m else m", "a formula of the width m"),
        ("m" + "+m" * 5000, "…' is not supported"),
        ("True", "a formula of the width m"),
        ("", "'' is not supported"),
    ],
)
def test_formulas_without_a_power_of_the_width_are_one_line(formula, why):
    result = invoke("locate", "--alpha", formula, "--beta-1", "m", "--beta-2", "1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr and len(result.stderr) < 300 and result.stderr.count("\n") == 1


def test_locate_says_the_same_by_name_and_by_scales():
    """At one width, constants move Xavier's exponents off the line, which is within ± then. A formula has none."""
    xavier = ["--alpha", "1", "--beta-1", "sqrt(2/(m+1))", "--beta-2", "sqrt(2/(m+d))"]
    by_name, by_formulas = (
        json.loads(invoke("locate", *arguments, "--json").stdout)
        for arguments in (["--name", "Xavier"], xavier)
    )
    assert by_name == by_formulas
    assert by_name["predicted_regime"]["W1"] == "critical"
    at_one_width = invoke(
        "locate", "--width", 1000, "--alpha", 1, "--beta-1", 0.0447, "--beta-2", 0.0446
    ).stdout
    assert "W1: critical within ±, slope -0.10\n" in at_one_width
    deep = ["--beta-1", 0.0447, "--beta-2", 0.0447, "--beta-3", 0.0447]
    of_eight = invoke("locate", "--width", 1000, "--alpha", 1, *deep, "--depth", 8).stdout
    assert "W1: critical within ±, slope -0.40\n" in of_eight


@pytest.mark.parametrize("depth", range(2, 9))
def test_locate_knows_initialisations_by_the_names_that_people_search(depth):
    def found(name):
        return json.loads(invoke("locate", "--name", name, "--depth", depth, "--json").stdout)

    for alias, name in (("PyTorch", "LeCun"), ("kaiming", "He"), ("glorot", "Xavier")):
        assert found(alias) == found(name)
    assert set(found("muP")["predicted_regime"].values()) == {"critical"} | (
        {"linear"} if depth > 2 else set()
    )
    assert set(found("muP").get("predicted_regime_operator_norm", {}).values()) <= {"critical"}
    layers = ["--beta-3", "sqrt(1/d)"] if depth > 2 else []
    scales = [
        "--alpha",
        "1",
        "--beta-1",
        "m**-0.5",
        "--beta-2",
        "1/sqrt(m)" if depth > 2 else "1/sqrt(d)",
        *layers,
    ]
    by_scales = invoke("locate", *scales, "--depth", depth, "--json").stdout
    assert json.loads(by_scales) == found("LeCun")


THREE_LAYERS = """
name = "deep"
kind = "phase-diagram"
network = { depth = 3 }
data = { kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }
grid = { width = [20, 30, 40, 60], gamma = [0.8, 1.6, 2.4], gamma_prime = [0.0, 0.5], seeds = 1 }
"""


def test_three_layers_from_the_spec_to_the_figures(tmp_path):
    (tmp_path / "spec.toml").write_text(THREE_LAYERS)
    out = tmp_path / "out"
    ran = invoke("run", tmp_path / "spec.toml", "--out", out, "--local")
    assert ran.exit_code == 0
    assert "24 of 24 jobs finished, 0 failed" in ran.stdout
    assert "W2, slope at infinite width" in ran.stdout
    runs = open_store(out).runs()
    assert runs.groupby("job_id")["layer"].agg(list).map(tuple).unique().tolist() == [("W1", "W2", "a")]
    assert np.isfinite(runs.loc[runs["layer"] == "W2", "relative_change_spectral"]).all()
    drawn = {path.name for path in (out / "figures").iterdir()}
    names = (
        "regime_map",
        "slope_infinite_map_W2",
        "orientation_map_W2",
        "features_W2",
        "functions",
        "scaling_W1",
    )
    assert {f"{name}.{kind}" for name in names for kind in ("png", "svg")} <= drawn

    row, file = runs.iloc[0], tmp_path / "weights.npz"
    assert invoke("reproduce", out, row["job_id"], "--weights", file).exit_code == 0
    width = row["width"]
    with np.load(file) as arrays:
        assert arrays["W2_initial"].shape == arrays["W2_final"].shape == (width, width + 1)
        change = np.linalg.norm(arrays["W2_final"] - arrays["W2_initial"]) / np.linalg.norm(
            arrays["W2_initial"]
        )
    stored = runs.query("job_id == @row.job_id and layer == 'W2'")["relative_change"].iloc[0]
    assert change == pytest.approx(stored, rel=1e-4)

    (tmp_path / "spec.toml").write_text(THREE_LAYERS.replace("seeds = 1", "seeds = 1, gamma_1 = 0.25"))
    refused = invoke("run", tmp_path / "spec.toml", "--out", out)
    assert refused.exit_code == 2
    assert "grid.gamma_1: 0.25 differs" in refused.stderr

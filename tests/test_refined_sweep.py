"""Sweeps that refine themselves: interrupted, resumed, with jobs that fail. The training is replaced by a power law."""

import json
import math

import pandas as pd
import pytest
from studies import sweep
from test_refinement import SPEC, scatter, study
from typer.testing import CliRunner

from phasediag.cli import app
from phasediag.display.progress import Progress
from phasediag.kinds import open_store
from phasediag.phase_diagram.fitting import critical_line, fit
from phasediag.phase_diagram.training import failed_rows
from phasediag.storage.schema import FAILED
from phasediag.sweep.local import this_process
from phasediag.sweep.plan import make_plan
from phasediag.sweep.status import read_status


def run(study, store, progress, **options):
    return sweep(study, store, progress, this_process, **options)


class Line:
    """In the place of the training: RD = 2 m^S with a line at gamma = 1 + gamma' / 2."""

    def batch(self, jobs, device, threads):
        return [
            {
                **row,
                "status": "converged",
                "error": "",
                "relative_change": 2.0
                * job.width ** (0.5 * (job.gamma - 1.03 - job.gamma_prime / 2))
                * math.exp(0.02 * scatter((job.width, job.gamma, job.gamma_prime, job.seed))),
            }
            for job in jobs
            for row in failed_rows(job, "", device)
        ]

    def failed(self, job, error):
        return failed_rows(job, error)


class Interrupting(Progress):
    """Interrupts the sweep when so many jobs are done, as Ctrl-C would."""

    def __init__(self, jobs):
        super().__init__()
        self.jobs = jobs

    def advance(self, jobs, failed, cost):
        super().advance(jobs, failed, cost)
        if self.done >= self.jobs:
            raise KeyboardInterrupt


def test_a_sweep_that_is_interrupted_goes_on_to_the_same_points(tmp_path):
    undisturbed, disturbed = open_store(tmp_path / "a"), open_store(tmp_path / "b")
    outcome = run(study(), undisturbed, Progress(), trainer=Line())
    assert outcome.finished == outcome.total > 24
    for jobs in (10, 30, 34):
        with pytest.raises(KeyboardInterrupt):
            run(study(), disturbed, Interrupting(jobs), trainer=Line())
    assert read_status(disturbed).state == "stopped"
    run(study(), disturbed, Progress(), trainer=Line())
    here, there = undisturbed.runs(), disturbed.runs()
    columns = ["job_id", "layer", "relative_change"]
    pd.testing.assert_frame_equal(here[columns], there[columns])
    status = read_status(disturbed)
    assert (status.state, status.total, status.missing) == ("complete", outcome.total, 0)
    again = run(study(), disturbed, Progress(), trainer=Line())
    assert (again.trained, again.total) == (0, outcome.total)

    planned = make_plan(study().refined(disturbed.runs), disturbed.statuses(), [], 2)
    assert (planned.total, planned.missing, planned.more_jobs) == (outcome.total, 0, 0)
    fresh = make_plan(study(), {}, [], 2)
    assert (fresh.total, fresh.more_jobs) == (24, 100)
    assert fresh.more_cpu_seconds > 0.0


def test_represented_widths_are_refined_to_the_line_of_the_limit(tmp_path):
    """Real training to 10^12: placed points close in on gamma = 1 + gamma', the theorem of Luo et al."""
    text = SPEC.replace("{ depth = 2 }", "{ depth = 2, neurons = 100 }").replace(
        "[30, 100, 300]", "[100, 1e4, 1e8, 1e12]"
    )
    store = open_store(tmp_path)
    rules = "target = 0.03, max_jobs = 300, rounds = 8"
    run(study(text.replace("target = 0.1, max_jobs = 100, rounds = 4", rules)), store, Progress())
    runs = store.runs()
    placed = runs.loc[~runs["gamma"].isin([0.5, 2.0])]
    assert set(placed.loc[placed["width"] > 100, "neurons"]) == {100}
    line = critical_line(fit(runs), "W1", "slope_infinite").set_index("gamma_prime")
    assert line.loc[[0.0, 0.5], "gamma"].to_numpy() == pytest.approx([1.0, 1.5], abs=0.03)
    for gamma_prime, of_row in placed.groupby("gamma_prime"):
        assert (of_row["gamma"] - 1.0 - gamma_prime).abs().min() < 0.1


def test_a_failed_job_ends_its_row_and_is_tried_again_when_asked_to(tmp_path):
    class Failing(Line):
        def batch(self, jobs, device, threads):
            if any(job.gamma == 2.0 and job.gamma_prime == 0.5 for job in jobs):
                raise ArithmeticError("no such luck")
            return super().batch(jobs, device, threads)

    store = open_store(tmp_path / "out")
    outcome = run(study(), store, Progress(), trainer=Failing())
    assert outcome.failed == 6
    runs = store.runs()
    assert set(runs.loc[runs["status"] == FAILED, "gamma_prime"]) == {0.5}
    again = run(study(), store, Progress(), trainer=Line(), retry_failed=True)
    assert again.failed == 0
    placement = study().refinement.advance(store.runs())
    assert placement.ended
    assert {one.state for one in placement.lines} == {"reached"}
    undisturbed = open_store(tmp_path / "undisturbed")
    assert run(study(), undisturbed, Progress(), trainer=Line()).total == again.total


def test_commands_tell_of_the_refinement(tmp_path):
    def invoke(*arguments):
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    spec, out = tmp_path / "refined.toml", tmp_path / "out"
    spec.write_text(SPEC)
    assert "refinement may add up to 100 jobs; predicted: up to" in invoke("plan", spec)
    outcome = run(study(), open_store(out), Progress(), trainer=Line())
    placed = outcome.total - 24
    told = json.loads(invoke("fit", out, "--json"))["refinement"]
    assert (told["jobs"], told["ended"], told["short"]) == (placed, True, False)
    assert told["lines"]["W1"]["rows"] == {"reached": 2}
    assert told["lines"]["W1"]["half_width_max"] <= 0.1
    text = " ".join(invoke("fit", out).split())
    assert "critical line's 95 % band" in text and "within target" in text
    assert f"{placed} jobs placed by refinement" in text
    assert "figures/refinement.png" in invoke("plot", out).replace("\n", "")
    planned = json.loads(invoke("plan", spec, "--out", out, "--json"))
    assert (planned["total"], planned["missing"], planned["more_jobs"]) == (outcome.total, 0, 0)
    assert f"complete, {outcome.total} done" in invoke("status", out)

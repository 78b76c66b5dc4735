"""Sweeps that refine themselves, on real, local Ray: interrupted, resumed, with jobs that fail. The training is replaced by a power law."""

import math

import pandas as pd
import pytest
from test_refinement import scatter, study

from phasediag import driver
from phasediag.plan import make_plan
from phasediag.progress import Progress
from phasediag.schemas import FAILED
from phasediag.status import read_status
from phasediag.store import Store
from phasediag.training import failed_rows

pytestmark = pytest.mark.usefixtures("cluster")


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
    undisturbed, disturbed = Store(tmp_path / "a"), Store(tmp_path / "b")
    outcome = driver.run(study(), undisturbed, Progress(), trainer=Line())
    assert outcome.finished == outcome.total > 24
    for jobs in (10, 30, 34):
        with pytest.raises(KeyboardInterrupt):
            driver.run(study(), disturbed, Interrupting(jobs), trainer=Line())
    assert read_status(disturbed).state == "stopped"
    driver.run(study(), disturbed, Progress(), trainer=Line())
    here, there = undisturbed.runs(), disturbed.runs()
    columns = ["job_id", "layer", "relative_change"]
    pd.testing.assert_frame_equal(here[columns], there[columns])
    status = read_status(disturbed)
    assert (status.state, status.total, status.missing) == ("complete", outcome.total, 0)
    again = driver.run(study(), disturbed, Progress(), trainer=Line())
    assert (again.trained, again.total) == (0, outcome.total)

    planned = make_plan(study().refined(disturbed.runs), disturbed.statuses(), [], 2)
    assert (planned.total, planned.missing, planned.more_jobs) == (outcome.total, 0, 0)
    fresh = make_plan(study(), {}, [], 2)
    assert (fresh.total, fresh.more_jobs) == (24, 100)
    assert fresh.more_cpu_seconds > 0.0


def test_a_failed_job_ends_its_row_and_is_tried_again_when_asked_to(tmp_path):
    class Failing(Line):
        def batch(self, jobs, device, threads):
            if any(job.gamma == 2.0 and job.gamma_prime == 0.5 for job in jobs):
                raise ArithmeticError("no such luck")
            return super().batch(jobs, device, threads)

    store = Store(tmp_path / "out")
    outcome = driver.run(study(), store, Progress(), trainer=Failing())
    assert outcome.failed == 6
    runs = store.runs()
    assert set(runs.loc[runs["status"] == FAILED, "gamma_prime"]) == {0.5}
    again = driver.run(study(), store, Progress(), trainer=Line(), retry_failed=True)
    assert again.failed == 0
    placement = study().refinement.advance(store.runs())
    assert placement.ended
    assert {one.state for one in placement.lines} == {"reached"}
    undisturbed = Store(tmp_path / "undisturbed")
    assert driver.run(study(), undisturbed, Progress(), trainer=Line()).total == again.total

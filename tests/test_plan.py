"""Batches: what they hold, and how they bound time and memory."""

import math
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phasediag.devices import BATCH_BYTES
from phasediag.kinds import parse_spec
from phasediag.phase_diagram import costs
from phasediag.phase_diagram.costs import cost_of, predicted_seconds
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.spec.data import make_dataset
from phasediag.studies import Cost
from phasediag.sweep import plan
from phasediag.sweep.plan import Batch, make_batches, make_plan, missing_batches, split
from phasediag.sweep.printing import print_plan

SPEC = """
name = "plan"
kind = "phase-diagram"
network = {{ depth = 2, neurons = {neurons} }}
data = {{ kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }}
grid = {{ width = {width}, gamma = {gamma}, gamma_prime = [0.0], seeds = {seeds} }}
samples = {{ points = {samples} }}
"""


def study(width=(10, 100), gamma=(0.5, 1.0, 1.75), seeds=2, samples=(), neurons=10**6):
    points = [list(p) for p in samples]
    text = SPEC.format(width=list(width), gamma=list(gamma), seeds=seeds, samples=points, neurons=neurons)
    return PhaseDiagramStudy(
        parse_spec(text, "plan.toml"), make_dataset([[-1.0], [0.5]], [0.5, -0.5], "data"), "plan.toml"
    )


def on_four_points(job):
    return cost_of(job, 4, 1, 20_000)


def ids(batches):
    return [job.job_id for batch in batches for job in batch.jobs]


@settings(max_examples=40, deadline=None)
@given(
    widths=st.sets(st.integers(1, 10**6), min_size=1, max_size=4),
    seeds=st.integers(1, 40),
    points=st.integers(1, 300),
    slots=st.integers(1, 40),
    threads=st.integers(1, 8),
)
def test_batches_hold_every_job_once_in_one_shape_and_within_bounds(widths, seeds, points, slots, threads):
    jobs = study(sorted(widths), seeds=seeds).jobs()
    batches = make_batches(jobs, lambda job: cost_of(job, points, 1, 20_000), slots, threads=threads)
    assert sorted(ids(batches)) == sorted(job.job_id for job in jobs)
    assert all(len({job.width for job in batch.jobs}) == 1 for batch in batches)
    assert len(batches) >= min(plan.BATCHES_PER_SLOT * slots, len(jobs) // threads)
    long = [batch for batch in batches if batch.seconds > plan.MAX_BATCH_SECONDS * threads]
    assert all(len(batch.jobs) <= threads for batch in long)
    durations = [batch.seconds for batch in batches]
    assert durations == sorted(durations, reverse=True)


def test_batches_do_not_depend_on_the_order_of_the_jobs():
    jobs = study(seeds=20).jobs()
    assert make_batches(jobs, on_four_points, 3) == make_batches(jobs[::-1], on_four_points, 3)


def test_every_thread_of_a_task_has_a_job_to_train():
    """However long they take: otherwise all but one would wait."""
    here = study(width=[10**6], seeds=4)
    batches = make_batches(here.jobs(), lambda job: Cost((job.width,), 500.0, 0.0, 1000, 500.0), 2, threads=4)
    assert {len(batch.jobs) for batch in batches} == {4}


def test_no_jobs_make_no_batches():
    assert make_batches([], on_four_points, 2) == []


def test_memory_bounds_a_batch_of_wide_networks():
    jobs = study(width=[10**6], seeds=40).jobs()
    largest = max(len(batch.jobs) for batch in make_batches(jobs, on_four_points, 1))
    assert largest * 10**6 * 8 <= BATCH_BYTES["cpu"]


def test_jobs_cost_more_when_wider_deeper_in_the_condensed_regime_and_on_more_points():
    here = study(width=[100, 1000], seeds=1)
    linear, condensed = here.job(100, 0.5, 0.0, 0), here.job(100, 1.75, 0.0, 0)
    assert predicted_seconds(linear, 4, 1) < predicted_seconds(condensed, 4, 1)
    assert predicted_seconds(linear, 4, 1) < predicted_seconds(here.job(1000, 0.5, 0.0, 0), 4, 1)
    assert predicted_seconds(linear, 4, 1) < predicted_seconds(linear, 200, 1)


def test_a_fixed_step_is_counted_with_its_limit():
    flow = study(samples=[(0.5, 0.0)])
    train = flow.spec.train.model_copy(update={"method": "gd", "learning_rate": 0.1, "max_evaluations": 7000})
    gd = PhaseDiagramStudy(flow.spec.model_copy(update={"train": train}), flow.data, flow.source)
    assert costs.predicted_evaluations(gd.jobs()[0], 2, 7000) == 7000
    seconds = [batch.seconds for batch in missing_batches(gd, {}, [], 1)]
    assert min(seconds) > 7000 * costs._DESCENT.shared
    assert max(b.seconds for b in missing_batches(flow, {}, [], 1)) < min(seconds)


def test_a_network_that_is_kept_is_trained_twice_where_its_film_can_be_seen():
    here = study(samples=[(0.5, 0.0)])
    [kept] = [batch for batch in missing_batches(here, {}, [], 1) if batch.sample]
    cost = here.cost(here.sample_jobs()[0])
    assert math.isclose(kept.seconds, 2 * (cost.seconds + cost.shared))
    assert kept.limit >= plan.LIMIT_FACTOR * 2 * cost.worst
    train = here.spec.train.model_copy(
        update={"method": "adam", "learning_rate": 0.1, "max_evaluations": 7000}
    )
    adam = PhaseDiagramStudy(here.spec.model_copy(update={"train": train}), here.data, here.source)
    [kept] = [batch for batch in missing_batches(adam, {}, [], 1) if batch.sample]
    cost = adam.cost(adam.sample_jobs()[0])
    assert math.isclose(kept.seconds, cost.seconds + cost.shared)


def test_halves_of_a_batch_share_its_jobs_and_its_time():
    batch = Batch(tuple(study().jobs()[:5]), 5.0)
    halves = split(batch)
    assert tuple(ids(halves)) == tuple(ids([batch]))
    assert [len(half.jobs) for half in halves] == [2, 3]
    assert math.isclose(sum(half.seconds for half in halves), 5.0)


def test_no_batch_is_stuck_before_its_longest_job_could_have_reached_its_limit():
    here = study(samples=[(0.5, 0.0)])
    batches = missing_batches(here, {}, [], 2)
    assert batches
    for batch in batches:
        worst = max(here.cost(job).worst for job in batch.jobs)
        assert worst >= max(here.cost(job).seconds for job in batch.jobs)
        assert batch.limit >= plan.LIMIT_SECONDS + plan.LIMIT_FACTOR * worst
    train = here.spec.train.model_copy(update={"max_evaluations": 2**31 - 1})
    long = PhaseDiagramStudy(here.spec.model_copy(update={"train": train}), here.data, here.source)
    limits = [batch.limit for batch in missing_batches(long, {}, [], 2)]
    assert limits and max(limits) <= plan.MAX_LIMIT_SECONDS


def test_finished_jobs_and_kept_networks_are_left_out():
    here = study(samples=[(0.5, 0.0), (1.0, 0.0)])
    jobs, samples = here.jobs(), here.sample_jobs()
    statuses = {jobs[0].job_id: "converged", jobs[1].job_id: "failed"}
    batches = missing_batches(here, statuses, [samples[0].job_id], 2)
    assert sorted(ids(b for b in batches if not b.sample)) == sorted(job.job_id for job in jobs[2:])
    assert ids(b for b in batches if b.sample) == [samples[1].job_id]


def test_plan_counts_by_stage_and_width():
    here = study(samples=[(0.5, 0.0)])
    jobs = here.jobs()
    planned = make_plan(here, {jobs[0].job_id: "stalled", jobs[1].job_id: "failed"}, [], 2)
    assert (planned.total, planned.finished, planned.failed, planned.missing) == (12, 1, 1, 10)
    assert planned.samples == 1
    assert [(row.group, row.total, row.missing) for row in planned.groups] == [(10, 6, 4), (100, 6, 6)]
    assert planned.batches == sum(row.batches for row in planned.groups) == 11
    assert planned.cpu_seconds == pytest.approx(sum(row.cpu_seconds for row in planned.groups))
    assert planned.cpu_seconds / 2 <= planned.wall_seconds <= planned.cpu_seconds


def test_a_batch_of_several_widths_is_told_to_count_in_each(capsys):
    """Networks of several widths that as many neurons represent have one shape."""
    for neurons, shared in ((10**6, False), (10, True)):
        here = study(width=(100, 1000), neurons=neurons)
        planned = make_plan(here, {}, [], 1)
        print_plan(planned)
        assert (sum(row.batches for row in planned.groups) > planned.batches) == shared
        told = " (those with jobs of several widths count in each); predicted:"
        assert (f"{planned.batches} batches{told}" in capsys.readouterr().out) == shared


def test_plan_of_a_finished_study_is_empty():
    here = study()
    planned = make_plan(here, dict.fromkeys((job.job_id for job in here.jobs()), "converged"), [], 2)
    assert (planned.missing, planned.batches, planned.cpu_seconds, planned.wall_seconds) == (0, 0, 0, 0)


def test_a_network_costs_what_is_simulated_of_it() -> None:
    """Whatever it stands for."""
    job = replace(study().jobs()[0], depth=3, width=10**12, neurons=200, gamma=2.0)
    whole = replace(job, width=200)
    assert predicted_seconds(job, 4, 1) < 10 * predicted_seconds(whole, 4, 1)


def test_three_layers_cost_as_their_second_matrix() -> None:
    """Time and memory grow with the square of the width."""
    jobs = [replace(study().jobs()[0], depth=3, width=m, neurons=m, gamma=2.0) for m in (1000, 4000)]
    narrow, wide = (predicted_seconds(job, 4, 1) for job in jobs)
    assert 8 < wide / narrow < 16
    many = [replace(jobs[1], job_id=str(seed), seed=seed) for seed in range(40)]
    largest = max(len(batch.jobs) for batch in make_batches(many, on_four_points, 1))
    assert largest * 2 * 4000**2 * 4 <= BATCH_BYTES["cpu"]


@pytest.mark.parametrize("slots", [1, 4, 30])
def test_batches_on_a_gpu_take_more_than_what_their_jobs_share(slots):
    """However many tasks share it: of many small jobs, batches would else be made of nothing but what each of them starts."""
    jobs = study(width=(100, 1000), gamma=tuple(0.5 + 0.02 * k for k in range(60)), seeds=20).jobs()
    costs = {one.job_id: cost_of(one, 4, 1, 20_000, device="cuda") for one in jobs}
    batches = make_batches(jobs, lambda one: costs[one.job_id], slots, "cuda")
    assert sorted(ids(batches)) == sorted(costs)
    shared = [max(costs[one.job_id].shared for one in batch.jobs) for batch in batches]
    assert len(batches) <= 3 or sum(shared) < 0.7 * sum(batch.seconds for batch in batches)

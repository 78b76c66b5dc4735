"""The last events of a sweep: kept in its folder by whichever driver runs it, and told in words."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from faults import sweeps
from typer.testing import CliRunner
from waiting import no_longer, wait_for

from phasediag.cli import app
from phasediag.kinds import open_store
from phasediag.phase_diagram.jobs import Job
from phasediag.storage.store import Store
from phasediag.sweep import lease
from phasediag.sweep.events import BATCHES, KEPT, LENGTH, words
from phasediag.sweep.listing import list_studies
from phasediag.sweep.log import Log
from phasediag.sweep.report import Jobs, frame
from phasediag.sweep.status import read_status


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return open_store(tmp_path / "out")


def poison(jobs: Sequence[Job]) -> None:
    if any(map(sweeps.is_poison, jobs)):
        raise ArithmeticError("no such luck " * 100)


def events(store: Store) -> list[dict[str, Any]]:
    return read_status(store).events


def shown(store: Store) -> list[str]:
    """What a page shows of them."""
    return [text for _, text in frame(store, Jobs.of(store.runs()), None)["events"]]


def test_a_sweep_leaves_its_last_events_in_its_folder_as_the_log_has_them(
    store: Store, tmp_path: Path
) -> None:
    for seeds in (5, 10):
        with closing(Log(tmp_path / "log")) as log:
            sweeps.sweep_here(sweeps.study_of(seeds), store, poison, log=log)
    lines = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    found, batches = events(store), [one for one in lines if one["event"] == "batch"]
    assert len(lines) > KEPT == len(found) and len(batches) > BATCHES
    expected = [one for one in lines if one not in batches[:-BATCHES]][-KEPT:]
    assert [(one["time"], one["event"]) for one in found] == [(one["time"], one["event"]) for one in expected]
    assert found[-1] == lines[-1] and found[-1]["event"] == "end"
    [trouble, *_] = [one for one in found if one["event"] == "trouble"]
    assert len(trouble["error"]) == LENGTH and trouble["error"].endswith("…")
    last = shown(store)[-1]
    assert last.startswith("the sweep ends: 59 finished, 1 failed; 30 trained by this driver in ")
    assert any("no such luck" in text for text in shown(store))


def test_without_a_log_they_are_there_too_and_a_page_has_their_times(store: Store) -> None:
    sweeps.sweep_here(sweeps.study_of(1), store, sweeps.nothing)
    names = [one["event"] for one in events(store)]
    assert (names[0], set(names[1:-1]), names[-1]) == ("start", {"batch"}, "end")
    [(time, first), *_, (_, batch), _] = frame(store, Jobs.of(store.runs()), None)["events"]
    assert len(time) == len("2026-11-29 10:00:05 UTC") and time.endswith(" UTC")
    assert first.startswith("the driver starts with 0 of 6 jobs done; batches to train: ")
    assert re.fullmatch(r"batch of (\d) trained in 0\.\d s \(\1 converged\); 6 of 6 jobs done", batch)


def test_a_driver_goes_on_with_the_events_of_one_that_was_killed(store: Store, tmp_path: Path) -> None:
    driver = sweeps.start_driver(
        store.out,
        sweeps.Rest(str(tmp_path / "never")),
        before="from phasediag.sweep import lease; lease.HEARTBEAT_SECONDS = 0.05",
        executor="local",
    )

    def has_trained() -> bool:
        assert driver.poll() is None
        return any(one["event"] == "batch" for one in (store.read_driver() or {}).get("events", []))

    with no_longer(driver):
        wait_for(has_trained)
        before = events(store)
        driver.kill()
        driver.wait()
    sweeps.sweep_here(sweeps.study_of(), store, sweeps.nothing)
    found = events(store)
    names = [one["event"] for one in found]
    assert names[:4] == ["start", "batch", "takeover", "start"] and names[-1] == "end"
    assert found[:2] == before and found[2]["pid"] == driver.pid
    assert f"the driver before (process {driver.pid} on " in shown(store)[2]


def test_an_interrupted_driver_says_so_at_its_release(store: Store) -> None:
    def interrupt(jobs: Sequence[Job]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweeps.sweep_here(sweeps.study_of(1), store, interrupt)
    assert shown(store)[-1] == "the driver is interrupted with 0 jobs done"


@pytest.mark.parametrize(
    "content",
    [
        {"events": "no list"},
        {"events": {"time": 1.0, "event": "end"}},
        {"events": [None, 7, [], {}, {"event": "end"}, {"time": "now", "event": "end"}, {"time": 1e300, "event": "end"}]},
        {"events": [{"time": 1.0, "event": []}, {"time": float("nan"), "event": "end"}, {"time": -1, "event": "end"}]},
        {"state": ["running"], "events": []},
        {"state": "running", "heartbeat": "yesterday"},
        {"state": "finished", "done_at_start": 3},
        {"state": "finished", "done_at_start": 3, "started": {}, "heartbeat": 10**400},
        {"token": "a\0b", "state": "running", "heartbeat": 0, "lifeline": {"boot": 1, "file": "\0"}},
        "[" * 100_000,
    ],
)  # fmt: skip
def test_what_no_driver_has_written_disturbs_nobody(
    store: Store, content: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LOOK_SECONDS", 0.0)
    sweeps.sweep_here(sweeps.study_of(1), store, sweeps.nothing)
    text = content if isinstance(content, str) else json.dumps(content)
    Path(store.out, "driver.json").write_text(text)
    status = read_status(store)
    assert (status.state, status.events, shown(store)) == ("complete", [], [])
    assert list_studies(store.out)[0].error == ""
    assert CliRunner().invoke(app, ["status", store.out, "--json"]).exit_code == 0
    with lease.hold(store):
        assert store.read_driver()["events"] == []  # type: ignore[index]


def test_odd_ones_among_them_are_cut_and_of_unknown_ones_everything_is_told(store: Store) -> None:
    sweeps.sweep_here(sweeps.study_of(1), store, sweeps.nothing)
    odd = [
        {"time": 1.0, "event": "end"},
        {"time": 2, "event": "batch", "jobs": [], "seconds": "x", "statuses": {}, "done": None, "total": 1},
        {"time": 3.0, "event": "moved", "where": {"to": "moon"}, "what": "x" * 1000},
        {"time": 4.0, "event": "deep", "what": list(range(1000))},
    ]
    store.write_driver({"token": "t", "state": "finished", "events": odd * 20})
    found = events(store)
    assert len(found) == KEPT and found[-4] == odd[0]
    assert all(len(json.dumps(one)) < 3 * LENGTH for one in found)
    end, batch, moved, deep = map(words, found[-4:])
    assert (end, batch) == ("end:", "batch: jobs [], seconds x, statuses {}, done None, total 1")
    assert moved.startswith("moved: where {'to': 'moon'}, what xxx") and len(moved) == LENGTH
    assert deep.startswith("deep: what [0, 1, 2")


def test_they_are_in_the_status_of_a_study_and_not_in_a_list(store: Store) -> None:
    sweeps.sweep_here(sweeps.study_of(1), store, sweeps.nothing)
    status = json.loads(CliRunner().invoke(app, ["status", store.out, "--json"]).stdout)
    assert status["events"][-1]["event"] == "end" and "events" not in status["driver"]
    [listed] = json.loads(CliRunner().invoke(app, ["list", store.out, "--json"]).stdout)
    assert "events" not in listed["status"] and "events" not in listed["status"]["driver"]

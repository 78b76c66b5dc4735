"""The line that tells how far a sweep is."""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace

import pytest

import phasediag
from phasediag.display.progress import Progress


def test_the_line_says_only_what_is_known() -> None:
    progress = Progress()
    progress.phase("training")
    assert progress.line() == "training"
    progress.start(total=10, done=2, failed=1, cost=8.0)
    assert progress.line() == "training: 2/10 jobs, first batch under way, 1 failed"
    progress.advance(jobs=4, failed=1, cost=4.0)
    assert progress.line().startswith("training: 6/10 jobs, ")
    assert "jobs/s" in progress.line() and "left" in progress.line()
    progress.advance(jobs=4, failed=0, cost=4.0)
    assert progress.line() == "training: 10/10 jobs, 2 failed"


def test_what_compiles_first_is_told_and_is_no_time_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    progress = Progress()
    progress.phase("training")
    progress.start(total=10, done=0, failed=0, cost=10.0)
    progress.compiling({"float64"}, 30.0)
    first = "training: 0/10 jobs, compiling the float64 engine (once on this machine, about 30 s), 0 failed"
    assert progress.line() == first
    now = 132.0
    progress.advance(jobs=1, failed=0, cost=1.0)
    progress.compiling(set(), 30.0)
    assert progress.seconds_left() == pytest.approx(3.2 * 9.0), (
        "a tenth of the time at least was for training"
    )
    now = 182.0
    progress.advance(jobs=4, failed=0, cost=4.0)
    assert progress.seconds_left() == 50.0
    assert progress.rate() == 0.1
    progress.compiling({"float64", "float32"}, 30.0)
    now = 200.0
    assert progress.line() == first.replace("0/10", "5/10").replace("float64", "float32 and float64")
    assert progress.rate() == 0.1


def test_a_notebook_shows_one_line_that_changes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now, lines = 100.0, []
    monkeypatch.setattr("time.monotonic", lambda: now)

    def display(data: dict[str, str], raw: bool, display_id: bool) -> SimpleNamespace:
        lines.append(data)
        return SimpleNamespace(update=lambda data, raw: lines.append(data))

    ipython = SimpleNamespace(
        get_ipython=lambda: SimpleNamespace(kernel=None), display=SimpleNamespace(display=display)
    )
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    with Progress().shown(in_logs=False) as progress:
        progress.phase("training")
        progress.start(total=2, done=0, failed=0, cost=1.0)  # too soon after the line before
        now += 1
        progress.advance(jobs=1, failed=0, cost=0.5)
        progress.advance(jobs=1, failed=0, cost=0.5)
    assert [line["text/plain"] for line in lines] == [
        "",
        "training",
        "training: 1/2 jobs, 1.0 jobs/s, 1.0 s left, 0 failed",
        "training: 2/2 jobs, 0 failed",
    ]
    assert capsys.readouterr() == ("", "")


def test_nothing_is_shown_where_no_one_looks(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress().shown(in_logs=False) as progress:
        progress.phase("training")
        progress._next_line = 0.0
    assert capsys.readouterr() == ("", "")


def test_a_log_shows_a_line_again_only_while_jobs_are_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("phasediag.display.progress.LINE_SECONDS", 0.0)
    progress = Progress()
    with progress.shown():
        progress.start(total=1, done=0, failed=0, cost=1.0)
        progress.phase("training")
        progress.compiling({"float64"}, 30.0)
        progress._next_line = 0.0
        time.sleep(1.0)
        progress.compiling(set(), 30.0)
        progress.advance(jobs=1, failed=0, cost=1.0)
        progress.phase("drawing")
        time.sleep(1.0)
    lines = capsys.readouterr().err.splitlines()
    assert (
        lines.count(
            "training: 0/1 jobs, compiling the float64 engine (once on this machine, about 30 s), 0 failed"
        )
        > 1
    )
    assert lines.count("drawing: 1/1 jobs, 0 failed") == 1


@pytest.mark.parametrize(("progress", "shown"), [(True, 1), (False, 0)])
def test_training_shows_how_far_it_is_unless_told_not_to(
    progress: bool, shown: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[bool] = []
    plain = Progress.shown
    monkeypatch.setattr(
        Progress, "shown", lambda self, in_logs=True: begun.append(in_logs) or plain(self, in_logs)
    )
    x, y = [-1.0, 1.0], [0.5, -0.5]
    study = phasediag.study(x, y, width=[20, 40, 80], points=[(0.5, 0.0)], seeds=1)
    runs = phasediag.train(study, progress=progress)
    assert (len(begun), len(runs)) == (shown, 6)

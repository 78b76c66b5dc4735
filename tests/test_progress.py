"""The line that tells how far a sweep is."""

from __future__ import annotations

import pytest

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
    progress.compiling(30.0)
    first = "training: 0/10 jobs, compiling (once on this machine, about 30 s), 0 failed"
    assert progress.line() == first
    now = 132.0
    progress.advance(jobs=1, failed=0, cost=1.0)
    progress.compiling(0.0)
    assert progress.seconds_left() == pytest.approx(3.2 * 9.0), (
        "a tenth of the time at least was for training"
    )
    now = 182.0
    progress.advance(jobs=4, failed=0, cost=4.0)
    assert progress.seconds_left() == 50.0
    assert progress.rate() == 0.1
    progress.compiling(30.0)  # for the other precision
    now = 200.0
    assert progress.line() == first.replace("0/10", "5/10")
    assert progress.rate() == 0.1

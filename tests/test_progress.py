"""The line that tells how far a sweep is."""

from __future__ import annotations

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

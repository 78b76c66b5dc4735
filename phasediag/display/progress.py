"""Showing how far a sweep is: a live line on a terminal, a plain line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from rich.progress import BarColumn, ProgressColumn, SpinnerColumn, Task
from rich.progress import Progress as RichProgress
from rich.text import Text

from .terminal import console, format_duration

FIRST_LINE_SECONDS = 3.0
LINE_SECONDS = 15.0
CELL_SECONDS = 0.3
MAX_NOTES = 20
_NOTE_LENGTH = 300
# What a long line takes on a terminal, with the spinner; the bar gets the rest.
_LINE_LENGTH = 72


class Progress:
    """The progress of one sweep. Without `start`, nothing is shown.

    What is shown: the phase, jobs done, jobs per second, time left and failures. The time left follows the
    predicted cost of what is left rather than the number of jobs, since long jobs come first.
    """

    def __init__(self) -> None:
        self._console = console(error=True)
        self.done = self.total = self.failed = 0
        self._phase = ""
        self._cost_done = self._cost_total = 0.0
        self._done_at_start = 0
        self._engines: tuple[str, ...] = ()
        # Seconds that are predicted for what is being compiled now, since when, and what was spent on that before.
        self._compiling = self._compiling_since = self._compiled = 0.0
        self._started: float | None = None
        self._next_line = time.monotonic() + FIRST_LINE_SECONDS
        self._notes = 0
        self._live: RichProgress | None = None
        self._cell: _Cell | None = None

    @contextmanager
    def shown(self, in_logs: bool = True) -> Iterator[Progress]:
        """Shows the progress for the duration of a `with` block: a line that changes on a terminal and in a notebook.

        Args:
            in_logs: whether to print a line now and then elsewhere.
        """
        if in_notebook():
            self._cell = _Cell()
            try:
                yield self
            finally:
                self._cell.show(self.line())
                self._cell = None
            return
        if self._console.is_terminal and not self._console.is_dumb_terminal:
            with self._live_line() as self._live:
                self._live.add_task("", total=None)
                yield self
            self._live = None
            return
        if not in_logs:
            yield self
            return
        stop = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(stop,), name="progress", daemon=True)
        ticker.start()
        try:
            yield self
        finally:
            stop.set()
            ticker.join()

    def phase(self, phase: str) -> None:
        """Names what is going on now."""
        self._phase = phase
        self._refresh()

    def start(self, total: int, done: int, failed: int, cost: float) -> None:
        """Begins to count.

        Args:
            total: jobs of the sweep.
            done: jobs that have rows already, failed ones included.
            failed: jobs that have failed.
            cost: predicted seconds of work that are left.
        """
        self.total, self.done, self.failed = total, done, failed
        self._done_at_start, self._cost_total = done, cost
        self._started = time.monotonic()
        self._refresh()

    def compiling(self, engines: Iterable[str], seconds: float) -> None:
        """Tells that these parts of the engine ("float32") are compiled from here on, in so many seconds, about; none: that it is over."""
        now = time.monotonic()
        if self._compiling:
            self._compiled += now - self._compiling_since
        self._engines = tuple(sorted(engines))
        self._compiling, self._compiling_since = seconds if self._engines else 0.0, now
        self._refresh()

    def grow(self, jobs: int, cost: float) -> None:
        """Adds jobs, of so many predicted seconds of work, that have come up on the way."""
        self.total += jobs
        self._cost_total += cost
        self._refresh()

    def advance(self, jobs: int, failed: int, cost: float) -> None:
        """Counts jobs that ended, how many of them failed, and the predicted seconds of work they made up."""
        self.done += jobs
        self.failed += failed
        self._cost_done += cost
        self._refresh()

    def note(self, text: str) -> None:
        """Prints a line beside the progress, shortened; after twenty of them nothing more."""
        self._notes += 1
        if self._notes > MAX_NOTES + 1:
            return
        line = " ".join(text.split())
        line = line if len(line) <= _NOTE_LENGTH else f"{line[: _NOTE_LENGTH - 3]}..."
        self._print(line if self._notes <= MAX_NOTES else "further messages of this kind are not shown")

    def rate(self) -> float:
        """Jobs per second since training began."""
        training = self._training()
        return (self.done - self._done_at_start) / training if training > 0 else 0.0

    def seconds_left(self) -> float | None:
        """Predicted seconds until all is done; None before anything has ended."""
        if self._cost_done <= 0:
            return None
        left = max(self._cost_total - self._cost_done, 0.0)
        return self._training() * left / self._cost_done

    def line(self) -> str:
        """The state in one line."""
        if self._started is None:
            return self._phase
        if self.done == self.total:
            return f"{self._phase}: {self.done}/{self.total} jobs, {self.failed} failed"
        left = self.seconds_left()
        if self._compiling:
            engines = " and ".join(self._engines)
            duration = format_duration(self._compiling)
            pace = [f"compiling the {engines} engine (once on this machine, about {duration})"]
        elif left is None:
            pace = ["first batch under way"]
        else:
            pace = [f"{self.rate():.1f} jobs/s", f"{format_duration(left)} left"]
        return ", ".join([f"{self._phase}: {self.done}/{self.total} jobs", *pace, f"{self.failed} failed"])

    def _elapsed(self) -> float:
        return time.monotonic() - self._started if self._started is not None else 0.0

    def _training(self) -> float:
        """Seconds without the compilation: at least a tenth of all, because other jobs may have trained meanwhile."""
        now = time.monotonic()
        compiling = self._compiled + (now - self._compiling_since if self._compiling else 0.0)
        return max(self._elapsed() - compiling, self._elapsed() / 10)

    def _refresh(self) -> None:
        if self._cell is not None:
            self._cell.show(self.line(), CELL_SECONDS)
        if self._live is not None:
            self._live.update(self._live.task_ids[0], completed=self.done, total=self.total or None)

    def _live_line(self) -> RichProgress:
        return RichProgress(
            SpinnerColumn("dots" if self._console.encoding.startswith("utf") else "line"),
            BarColumn(bar_width=max(8, min(40, self._console.width - _LINE_LENGTH))),
            _Line(self),
            console=self._console,
            transient=True,
            refresh_per_second=4,
        )

    def _tick(self, stop: threading.Event) -> None:
        shown = ""
        while not stop.wait(0.2):
            if time.monotonic() >= self._next_line:
                self._next_line = time.monotonic() + LINE_SECONDS
                # the same line again shows that jobs are still waited for
                if (line := self.line()) != shown or self.done < self.total:
                    self._print(line)
                shown = line

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False)


def in_notebook() -> bool:
    """Whether this process shows what it displays in a notebook."""
    ipython = sys.modules.get("IPython")  # a notebook has imported it
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


class _Cell:
    """A line of text below the cell of a notebook that is running. The same place shows every new one."""

    def __init__(self) -> None:
        self._handle = sys.modules["IPython"].display.display({"text/plain": ""}, raw=True, display_id=True)
        self._shown = 0.0

    def show(self, line: str, seconds: float = 0.0) -> None:
        """Shows a line, unless the last one is younger than so many seconds."""
        if time.monotonic() >= self._shown + seconds:
            self._shown = time.monotonic()
            self._handle.update({"text/plain": line}, raw=True)


class _Line(ProgressColumn):
    """The line of a `Progress`, up to date at every refresh of the screen."""

    max_refresh = 0.5

    def __init__(self, progress: Progress) -> None:
        super().__init__()
        self._progress = progress

    def render(self, task: Task) -> Text:
        return Text(self._progress.line(), no_wrap=True, overflow="ellipsis")

"""Many figures to files, on all cores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, parent_process
from threading import Thread

from .figures import Drawing, render

Files = dict[str, bytes]
"""A figure by format."""
_WORTH = 4
"""Figures for which it is worth to start a process: that takes as long as to draw three."""


def render_all(
    drawings: Mapping[str, Drawing], study: str, formats: Sequence[str], processes: int
) -> Iterator[tuple[str, Files]]:
    """Draws figures in this process and in others, and yields the name and the files of each, in their order.

    Processes are started afresh, not forked: threads of Ray may be running in this one.

    Args:
        drawings: by name.
        study: its name, for the title in the files.
        formats: those of `render`.
        processes: how many draw at once, this one among them.
    """
    tasks = {
        name: partial(_files, drawing, f"{study}: {name}", formats) for name, drawing in drawings.items()
    }
    helpers = min(processes, len(tasks) // _WORTH) - 1
    if helpers < 1:
        yield from ((name, task()) for name, task in tasks.items())
        return
    pool = ProcessPoolExecutor(helpers, get_context("spawn"), _be_a_helper)
    try:
        futures = {name: pool.submit(task) for name, task in tasks.items()}
        # those that nobody has begun with
        here = {name: tasks[name]() for name in reversed(futures) if futures[name].cancel()}
        for name, future in futures.items():
            yield name, here[name] if name in here else _result(future, tasks[name])
    finally:
        pool.shutdown(cancel_futures=True)


def _files(drawing: Drawing, title: str, formats: Sequence[str]) -> Files:
    figure = drawing()
    figure.set_label(title)
    return render(figure, formats)


def _result(future: Future[Files], task: Callable[[], Files]) -> Files:
    """What a helper has drawn; drawn here if it died, as for want of memory."""
    try:
        return future.result()
    except BrokenExecutor:
        return task()


def _be_a_helper() -> None:
    """Leave interrupts to the process that is helped, and end with it, however it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    if (parent := parent_process()) is not None:
        parent.join()
        os._exit(1)

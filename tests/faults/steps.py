"""Killing a process in the middle of a commit: before any line of the code that writes to a local folder."""

from __future__ import annotations

import ast
import os
import signal
import sys
import threading
from collections.abc import Callable
from functools import cache
from itertools import count
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from phasediag.storage import files, store

MODULES = {files.__file__, store.__file__}
"""Whatever is written to the folder of a study is written by these."""
EFFECTS = (
    ".mkdir(",
    ".open(",
    ".write(",
    "fsync(",
    ".replace(",
    "unlink(",
    "delete_file(",
)
"""What the lines that change something on disk hold: before each of them, what is there is something else."""
ELSEWHERE = {"_write"}
"""Functions that write to buckets alone."""

Line = tuple[str, str]
"""The function and the text of a line."""

reached: set[Line] = set()
"""Lines that were steps."""
doors: set[str] = set()
"""Methods of the store on whose behalf they were."""


@cache
def lines() -> dict[tuple[str, int], Line]:
    """All lines that change something on disk, by file and number."""
    found = {}
    for file in MODULES:
        text = Path(file).read_text()
        for function in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)):
            if function.name in ELSEWHERE:
                continue
            for number in range(function.lineno, (function.end_lineno or 0) + 1):
                line = text.splitlines()[number - 1].strip()
                if any(effect in line for effect in EFFECTS):
                    found[file, number] = (function.name, line)
    return found


@cache
def all_doors() -> set[str]:
    """The methods of the store that change anything, by its source."""
    methods = (
        node
        for node in ast.walk(ast.parse(Path(store.__file__).read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    changes = tuple(f"self.files.{change}(" for change in ("publish", "delete", "clean_staging"))
    return {method.name for method in methods if any(change in ast.unparse(method) for change in changes)}


def watch(step: Callable[[int], None]) -> Callable[[], int]:
    """From now on, in this thread and those to come, calls `step` with its number before each line that changes something on disk.

    Returns what tells how many there were so far.
    """
    numbers, last = count(1), 0
    effects = lines()
    names = {(file, name) for (file, _), (name, _) in effects.items()}
    known: dict[int, tuple[CodeType, bool]] = {}  # by identity: all functions of a sweep come by here

    def line(frame: FrameType, event: str, arg: Any) -> Any:
        nonlocal last
        found = effects.get((frame.f_code.co_filename, frame.f_lineno))
        if event == "line" and found:
            reached.add(found)
            doors.add(_door(frame))
            last = next(numbers)  # each number once, also if two threads write
            step(last)
        return line

    def call(frame: FrameType, event: str, arg: Any) -> Any:
        code = frame.f_code
        if id(code) not in known:
            known[id(code)] = code, (code.co_filename, code.co_name) in names
        return line if known[id(code)][1] else None

    threading.settrace(call)
    sys.settrace(call)
    return lambda: last


def _door(frame: FrameType) -> str:
    found: FrameType | None = frame
    while found and found.f_code.co_filename != store.__file__:
        found = found.f_back
    return found.f_code.co_name if found else ""


def kill_at(step: int) -> Callable[[], int]:
    """Kills this process before the step of this number; returns what tells how many there were so far."""

    def kill(number: int) -> None:
        if number == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch(kill)


class Changes:
    """What changes in a folder from step to step: paths, of several at a time only a file and what it was moved to."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._before = self._look()
        self.several: list[set[str]] = []
        self.number = 0

    def look(self, step: int = 0) -> None:
        """Compares with the last time. To be called at every step, and at the end."""
        now = self._look()
        changed = {
            path for path in self._before.keys() | now.keys() if self._before.get(path) != now.get(path)
        }
        moved = {now[path] for path in changed if path in now} & {
            self._before[path] for path in changed if path in self._before
        }
        self.number += bool(changed)
        if len(changed) - len(moved) > 1:
            self.several.append(changed)
        self._before = now

    def _look(self) -> dict[str, tuple[int, ...]]:
        """The files, by what tells one from another and from itself after a change; folders by their being there."""
        found = {}
        for path in self._folder.rglob("*"):
            status = path.stat()
            content = () if path.is_dir() else (status.st_size, status.st_mtime_ns)
            found[str(path)] = (status.st_ino, *content)
        return found


def stop() -> None:
    """Ends it in this thread."""
    sys.settrace(None)

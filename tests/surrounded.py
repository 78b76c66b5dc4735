"""The program in children of one process, each with another terminal around it: python surrounded.py FOLDER

Prints a line of JSON for each: its name and exit code, and what it has printed where that can be read. The study is of the toy kind.
"""

from __future__ import annotations

import fcntl
import json
import os
import pty
import signal
import struct
import sys
import termios
from collections.abc import Callable
from pathlib import Path

from phasediag.cli import app

FULL = "/dev/full"


def full(*descriptors: int) -> None:
    """A disk without room."""
    for descriptor in descriptors:
        os.dup2(os.open(FULL, os.O_WRONLY), descriptor)


def closed(*descriptors: int) -> None:
    """As Python finds them closed when it starts."""
    for descriptor in descriptors:
        os.close(descriptor)
        setattr(sys, ("stdin", "stdout", "stderr")[descriptor], None)


def reader_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    os.dup2(writing, 1)
    os.dup2(writing, 2)


def nobody_reads(blocking: bool) -> None:
    """A pipe that is full, with a reader that never reads."""
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    os.set_blocking(writing, False)
    try:
        while True:
            os.write(writing, b"x" * 512)
    except BlockingIOError:
        os.set_blocking(writing, blocking)
    os.dup2(writing, 1)
    os.dup2(writing, 2)


def encoded(encoding: str) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding=encoding, errors="strict")


def terminal(width: int, gone: bool = False, **environment: str) -> int:
    """A terminal of so many columns; the end of it that shows what is printed."""
    shows, ours = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    os.environ.update(environment)
    for descriptor in (1, 2):
        os.dup2(ours, descriptor)
    if gone:
        os.close(ours)
        os.close(shows)
    return shows


RUN = ["run", "toy.toml", "--local", "--log", "log"]
SURROUNDINGS: dict[str, tuple[Callable[[], object], list[str]]] = {
    "nothing special": (lambda: None, RUN),
    "standard error full": (lambda: full(2), RUN),
    "standard output full": (lambda: full(1), RUN),
    "both full": (lambda: full(1, 2), RUN),
    "standard output closed": (lambda: closed(1), RUN),
    "standard error closed": (lambda: closed(2), RUN),
    "all closed": (lambda: closed(0, 1, 2), RUN),
    "the reader gone": (reader_gone, RUN),
    "nobody reads": (lambda: nobody_reads(True), RUN),
    "nobody reads, and writing does not wait": (lambda: nobody_reads(False), RUN),
    "latin-1": (lambda: encoded("latin-1"), RUN),
    "ascii": (lambda: encoded("ascii"), RUN),
    "a terminal of one column": (lambda: terminal(1, TERM="xterm"), RUN),
    "a dumb terminal": (lambda: terminal(80, TERM="dumb"), RUN),
    "an unknown terminal": (lambda: terminal(80, TERM="no-such-terminal"), RUN),
    "the terminal gone": (lambda: terminal(80, gone=True, TERM="xterm"), RUN),
    "colours forced": (
        lambda: os.environ.update(FORCE_COLOR="1", CLICOLOR_FORCE="1", TTY_COMPATIBLE="1"),
        RUN,
    ),
    "fit into what is full": (lambda: full(1), ["fit"]),
    "status into what is full": (lambda: full(1), ["status"]),
    "status --wait into what is full": (lambda: full(1), ["status", "--wait"]),
    "status in ascii": (lambda: encoded("ascii"), ["status"]),
}


def in_child(arrange: Callable[[], object], arguments: list[str], printed: Path) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    output = os.open(printed, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    code = 70
    try:
        arrange()
        app(arguments)
    except SystemExit as end:
        code = int(end.code or 0)
    except BaseException as error:
        Path(f"{printed}.error").write_text(repr(error))
    os._exit(code)


def main(folder: str) -> None:
    os.chdir(folder)
    app(["init", "toy.toml", "--kind", "decay"], standalone_mode=False)
    app(["run", "toy.toml", "--local", "--out", "γ_first"], standalone_mode=False)  # imports what all need
    for number, (name, (arrange, arguments)) in enumerate(SURROUNDINGS.items()):
        out = f"γ_{number}" if arguments is RUN else "γ_first"
        printed = Path(f"printed_{number}")
        code = in_child(arrange, [*arguments, *(["--out", out] if arguments is RUN else [out])], printed)
        wrong = Path(f"{printed}.error")
        told = {
            "name": name,
            "code": code,
            "out": out,
            "printed": printed.read_text(errors="replace"),
            "error": wrong.read_text() if wrong.exists() else "",
            "log": Path("log").read_text() if Path("log").exists() else "",
        }
        Path("log").unlink(missing_ok=True)
        with Path("told").open("a") as file:
            file.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])

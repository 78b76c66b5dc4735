"""All printing: lines and tables for people, JSON for machines."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # reading, fitting and plotting need no terminal
    from rich.console import Console
    from rich.table import Table

_LOG_WIDTH = 120


def print_json(content: Any) -> None:
    """Prints numbers and text as JSON."""
    say(json.dumps(json_ready(content), indent=2, allow_nan=False))


class TextTable(NamedTuple):
    """A table of text: the names of its columns, the first of which names the rows, and its rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]


def print_table(table: Table | TextTable) -> None:
    """Prints a table as wide as the terminal, or as it needs in a log."""
    if isinstance(table, TextTable):
        filled = new_table(*table.columns)
        for row in table.rows:
            filled.add_row(*row)
        table = filled
    console().print(table)


def new_table(*columns: str) -> Table:
    """An empty table: the first column left-aligned, the others, of numbers, to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="right" if index else "left")
    return table


def format_duration(seconds: float) -> str:
    """A duration as people say it: "4.2 s", "3 min 05 s", "2 h 10 min", "3 d 4 h"."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def say(line: str, error: bool = False) -> None:
    """Prints a line on standard output, or on standard error."""
    print(line, file=sys.stderr if error else sys.stdout, flush=True)


def printable(text: str) -> str:
    """Text without characters that do something to a terminal, such as a line break in a name: written as Python does, \\n."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def console(error: bool = False) -> Console:
    """Standard output, or standard error, for tables and what moves. What is no terminal gets plain text, whatever the environment says."""
    from rich.console import Console

    stream = sys.stderr if error else sys.stdout
    terminal = stream.isatty()
    width = None if terminal else _LOG_WIDTH
    return Console(file=stream, force_terminal=terminal, highlight=False, soft_wrap=True, width=width)


def json_ready(content: Any) -> Any:
    """Content with None in the place of numbers that JSON does not have."""
    if isinstance(content, Mapping):
        return {str(key): json_ready(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [json_ready(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content

"""Tables of text: needs nothing but Python, as some benchmarks have to."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> None:
    """Prints an aligned table: the first column to the left, all others to the right."""
    cells = [list(columns), *(list(row) for row in rows)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    print(f"\n{title}\n")
    for row in cells:
        rest = "".join(f"  {cell:>{width}}" for cell, width in zip(row[1:], widths[1:], strict=True))
        print(f"  {row[0]:<{widths[0]}}{rest}")
    if note:
        print(f"\n  {note}")
    sys.stdout.flush()

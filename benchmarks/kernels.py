"""What the kernels of a GPU take of it, told by the assemblers of three generations of cards: python -m benchmarks.kernels

Needs numba-cuda and no card: registers of a thread, the bytes that it spills, and how many threads a multiprocessor can hold with these.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from numba import types

from phasediag.engine import kernels

from .common import table

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from cards import CARDS, compiled_for, groups, of_teams, resources

REGISTERS = 65536
"""Of a multiprocessor, on all of these cards."""


def main() -> None:
    rows = []
    for real in (types.float32, types.float64):
        kinds = {"move": groups(real)} | (of_teams(real) if real is types.float32 else {})
        for name, arguments in kinds.items():
            kernel = kernels.move if name == "move" else kernels.OF_TEAMS[name]
            for card in CARDS:
                found = resources(card, compiled_for(card, kernel, arguments))
                registers, spilled = (
                    int(re.findall(rf"(\d+) {what}", found)[0]) for what in ("registers", "stack")
                )
                held = REGISTERS // (8 * -(-registers // 8)) // 32 * 32
                rows.append(
                    (
                        f"{name}, {real}" if name == "move" else name,
                        card,
                        str(registers),
                        str(spilled),
                        str(held),
                    )
                )
    columns = ("kernel", "card", "registers", "stack", "threads")
    note = "stack: bytes of a thread that are spilled or hold arrays; threads: as many as a multiprocessor holds, by their registers"
    table("Kernels", columns, rows, note)


if __name__ == "__main__":
    main()

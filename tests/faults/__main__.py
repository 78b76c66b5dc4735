"""All faults, several times in a row, and a table of what they did to the rows: python tests/faults [--rounds N] [--table FILE]"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

HERE = Path(__file__).parent
COLUMNS = ("fault", "sweeps", "injected", "rows lost", "rows duplicated", "values changed", "stray files")


def run(ledger: Path) -> bool:
    """Runs the suite once; whether it passed."""
    command = [sys.executable, "-m", "pytest", str(HERE), "-m", "slow or not slow"]
    environment = {**os.environ, "PHASEDIAG_FAULTS": str(ledger)}
    return subprocess.run(command, env=environment, check=False).returncode == 0


def table(ledger: Path) -> str:
    """The reports of all sweeps, by fault, as Markdown."""
    totals: dict[str, list[int]] = defaultdict(lambda: [0] * (len(COLUMNS) - 1))
    for line in ledger.read_text().splitlines():
        report = json.loads(line)
        keys = ("injected", "lost", "duplicated", "changed", "stray")
        for position, number in enumerate([1, *(report[key] for key in keys)]):
            totals[report["fault"]][position] += number
    rows: list[Sequence[object]] = [COLUMNS, ["---", *["--:"] * (len(COLUMNS) - 1)]]
    rows += [[fault, *numbers] for fault, numbers in sorted(totals.items())]
    rows.append(["all", *map(sum, zip(*totals.values(), strict=True))])
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


def main() -> int:
    parser = argparse.ArgumentParser(description=str(__doc__))
    parser.add_argument("--rounds", type=int, default=1, help="how often")
    parser.add_argument("--table", type=Path, help="write the table there too")
    arguments = parser.parse_args()
    passed = 0
    with tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder, "ledger")
        for number in range(1, arguments.rounds + 1):
            passed += run(ledger)
            text = f"{table(ledger)}\n\n{passed} of {number} rounds passed.\n"
            print(text, flush=True)
            if arguments.table:
                arguments.table.write_text(text)
    return 0 if passed == arguments.rounds else 1


if __name__ == "__main__":
    sys.exit(main())

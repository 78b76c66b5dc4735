"""What it takes to look at studies: python -m benchmarks.pages [hundred_thousand|million|many|sweep ...] [--quick]

Studies with generated rows in temporary folders, shown by `phasediag serve` in a process of its own, which is asked as a browser asks. How
long the browser then draws is not in it.
"""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from urllib.parse import urlsplit

import numpy as np

from phasediag.phase_diagram.fitting import fit
from phasediag.phase_diagram.study import PhaseDiagramStudy
from phasediag.storage.store import Store
from phasediag.sweep.serve.library import FRESH_SECONDS

from .common import chosen_parts, machine, table, timed
from .generated import JOBS_PER_FILE, batches, make_study, write_rows, write_study

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from servers import serving

ROOT = Path(__file__).parent.parent
SPEC = ROOT / "sweeps" / "two_layer_synthetic.toml"
POLL_SECONDS = 2.0
"""How often an open page asks."""
Row = list[str]


class Browser:
    """A browser without a screen, which keeps what it was given and asks whether it has changed."""

    def __init__(self, address: str) -> None:
        self._host = urlsplit(address).netloc
        self._shown: dict[str, str] = {}

    def get(self, path: str) -> tuple[bytes, str]:
        """What is at a path, and its tag."""
        connection = HTTPConnection(self._host, timeout=600)
        connection.request("GET", path, headers={"accept-encoding": "gzip"})
        answer = connection.getresponse()
        body, tag = answer.read(), answer.headers["etag"]
        connection.close()
        if answer.status != 200:
            raise FileNotFoundError(f"{path}: {answer.status}")
        return gzip.decompress(body) if answer.headers["content-encoding"] == "gzip" else body, tag

    def open(self, study: str) -> bytes:
        """All that the page of a study consists of; returns its content."""
        page, _ = self.get(f"/study/{study}")
        for part in re.findall(r'(?:src|href)="(/[^"]+)"', page.decode()):
            self.get(part)
        return self.look(study) or b""

    def look(self, study: str) -> bytes | None:
        """What an open page does every other second: it asks for the state, and for the content if that is another one."""
        state, _ = self.get(f"/state/{study}")
        if json.loads(state)["tag"] == self._shown.get(study):
            return None
        content, self._shown[study] = self.get(f"/content/{study}")
        return content


# A study of many jobs.


def hundred_thousand(quick: bool) -> list[Row]:
    return large(5 if quick else 45, 5, {"opens": 2.0, "refresh": 1.0, "file": 8.0})


def million(quick: bool) -> list[Row]:
    return large(8 if quick else 100, 10, {"memory": 2000.0})


def large(points: int, seeds: int, most: Mapping[str, float]) -> list[Row]:
    """One study: opened, opened again, refreshed, a cell of it, the memory that takes; and its file, where that has a target.

    Args:
        points: along each axis.
        seeds: of each width at each point.
        most: targets in seconds and MB.
    """
    study, come_later = make_study(points, seeds), 5
    with TemporaryDirectory() as root:
        store = write_study(study, Path(root, "study"))
        parts = list(enumerate(batches(study)))
        jobs = sum(len(part) for _, part in parts)
        for seed, part in parts[:-come_later]:
            write_rows(store, part, seed)
        started = time.perf_counter()
        with serving(root) as (address, process):
            start = time.perf_counter() - started
            browser = Browser(address)
            content, first = timed(lambda: browser.open("study"))
            _, again = timed(lambda: Browser(address).open("study"))
            refreshes = []
            for seed, part in parts[-come_later:]:
                write_rows(store, part, seed)
                time.sleep(FRESH_SECONDS + 0.1)
                found, seconds = timed(lambda: browser.look("study"))
                assert found is not None
                refreshes.append(seconds)
            cell = json.loads(content)["cells"][0]
            _, one_cell = timed(lambda: browser.get(f"/runs/study?cell={cell}"))
            memory = peak_memory(process)
        file = report(jobs, store, most["file"]) if "file" in most else []
    return [
        [f"{jobs:,} jobs: the server starts and counts them", f"{start:.1f} s", ""],
        [f"{jobs:,} jobs: the page opens for the first time", f"{first:.1f} s", ""],
        [f"{jobs:,} jobs: it opens in another browser", f"{again:.2f} s", target(most.get("opens"), "s")],
        [
            f"{jobs:,} jobs: refresh after {JOBS_PER_FILE} more, the longest of {come_later}",
            f"{max(refreshes):.2f} s",
            target(most.get("refresh"), "s"),
        ],
        [f"{jobs:,} jobs: runs of a point", f"{one_cell:.2f} s", ""],
        [
            f"{jobs:,} jobs: content, and compressed",
            f"{mb(len(content))}, {mb(len(gzip.compress(content, 1)))}",
            "",
        ],
        [f"{jobs:,} jobs: most memory of the server", mb(memory), target(most.get("memory"), "MB")],
        *file,
    ]


def report(jobs: int, store: Store, most: float) -> list[Row]:
    """The study as one file."""
    _, seconds = timed(lambda: phasediag("report", store.out))
    size = Path(store.out, "report.html").stat().st_size
    return [
        [f"{jobs:,} jobs: command report", f"{seconds:.1f} s", ""],
        [f"{jobs:,} jobs: its file", mb(size), target(most, "MB")],
    ]


# Many studies.


def many(quick: bool) -> list[Row]:
    """A root of small studies that are complete and fitted."""
    number, repeats = 10 if quick else 200, 5
    with TemporaryDirectory() as root:
        store = filled(make_study(points=4, seeds=1), Path(root, "0"))
        runs = store.runs()
        store.write_fitted(fit(runs), runs)
        for index in range(1, number):
            shutil.copytree(store.out, Path(root, str(index)))
        _, command = timed(lambda: phasediag("list", root))
        started = time.perf_counter()
        with serving(root) as (address, _):
            browser = Browser(address)
            browser.get("/studies.json")
            first = time.perf_counter() - started
            again = []
            for _ in range(repeats):
                time.sleep(FRESH_SECONDS + 0.1)
                again.append(timed(lambda: browser.get("/studies.json"))[1])
    return [
        [f"{number} studies: command list", f"{command:.1f} s", target(2.0, "s")],
        [f"{number} studies: server starts and sends the first list", f"{first:.1f} s", ""],
        [
            f"{number} studies: another list, the longest of {repeats}",
            f"{max(again):.2f} s",
            target(2.0, "s"),
        ],
    ]


def filled(study: PhaseDiagramStudy, out: Path) -> Store:
    """The folder of a study with all its rows."""
    store = write_study(study, out)
    for seed, jobs in enumerate(batches(study)):
        write_rows(store, jobs, seed)
    return store


# An open page beside a sweep.


def sweep(quick: bool) -> list[Row]:
    """A sweep of about half a minute on all cores, by turns alone and while a page shows it."""
    pairs = 1 if quick else 8
    with TemporaryDirectory() as folder:
        root, spec = Path(folder, "root"), Path(folder, "spec.toml")
        spec.write_text(SPEC.read_text().replace("num = 16", "num = 4") if quick else SPEC.read_text())
        filled(make_study(points=2, seeds=1), root / "other")

        def run(name: str) -> float:
            out = root / name
            _, seconds = timed(lambda: phasediag("run", str(spec), "--out", str(out), "--local"))
            shutil.rmtree(out)
            return seconds

        run("first")  # the engine may have to be compiled
        alone, watched, taken = [], [], []
        with serving(str(root)) as (address, process):
            Browser(address).open("other")  # what pages are made with is loaded
            for pair in range(pairs):
                for is_watched in (False, True) if pair % 2 else (True, False):
                    if not is_watched:
                        alone.append(run(f"alone-{pair}"))
                        continue
                    before = cpu_seconds(process)
                    with open_page(address, f"watched-{pair}"):
                        watched.append(run(f"watched-{pair}"))
                    taken.append(cpu_seconds(process) - before)
    slower = 100 * (np.array(watched) / np.array(alone) - 1)
    scatter = f" ± {slower.std(ddof=1) / pairs**0.5:.1f}" if pairs > 1 else ""
    share = 100 * np.sum(taken) / np.sum(watched) / (os.cpu_count() or 1)
    return [
        [
            f"Sweep of {np.median(alone):.0f} s: slower beside an open page, mean of {pairs} pairs",
            f"{slower.mean():.1f}{scatter} %",
            target(2.0, "%"),
        ],
        ["Sweep: what the server takes of all cores meanwhile", f"{share:.1f} %", target(2.0, "%")],
    ]


@contextmanager
def open_page(address: str, study: str) -> Iterator[None]:
    """A browser that shows a study, which may not be there yet."""
    closed, browser = Event(), Browser(address)

    def watch() -> None:
        while not closed.wait(POLL_SECONDS):
            try:
                browser.look(study)
            except FileNotFoundError:  # not there yet
                continue

    page = Thread(target=watch)
    page.start()
    try:
        yield
    finally:
        closed.set()
        page.join()


# Processes.


def phasediag(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "phasediag", *arguments], check=True, capture_output=True)


def peak_memory(process: int) -> int:
    """The most bytes that a process has held."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text())
    assert found
    return int(found[1]) * 1024


def cpu_seconds(process: int) -> float:
    """Time that a process has spent on cores."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def mb(size: float) -> str:
    return f"{size / 1e6:.1f} MB"


def target(most: float | None, unit: str) -> str:
    return "" if most is None else f"{most:g} {unit}"


PARTS: dict[str, Callable[[bool], list[Row]]] = {
    "hundred_thousand": hundred_thousand,
    "million": million,
    "many": many,
    "sweep": sweep,
}


def main() -> None:
    parts, quick = chosen_parts(str(__doc__), list(PARTS))
    print(machine())
    rows = [row for part in parts for row in PARTS[part](quick)]
    table("Pages of studies with generated rows, over HTTP", ["", "measured", "at most"], rows)


if __name__ == "__main__":
    main()

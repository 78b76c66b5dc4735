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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread
from urllib.parse import urlsplit

import numpy as np

from phasediag.phase_diagram.fitting import fit
from phasediag.sweep.serve.library import FRESH_SECONDS

from .common import chosen_parts, machine, table, timed
from .generated import batches, make_study, write_rows, write_study

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
    return large(points=5 if quick else 45, seeds=5, most=(2.0, 1.0, 8.0, np.inf))


def million(quick: bool) -> list[Row]:
    return large(points=8 if quick else 100, seeds=10, most=(np.inf, np.inf, np.inf, 2000.0))


def large(points: int, seeds: int, most: tuple[float, float, float, float]) -> list[Row]:
    """One study: opened, opened again, kept up with, a cell of it, its file, and the memory that takes.

    Args:
        points: along each axis.
        seeds: of each width at each point.
        most: targets: seconds to open, seconds to refresh, MB of the file, MB of memory.
    """
    study, come_later = make_study(points, seeds), 5
    with TemporaryDirectory() as root:
        store = write_study(study, Path(root, "study"))
        *at_first, _ = parts = list(batches(study))
        at_first, later = parts[:-come_later], parts[-come_later:]
        for seed, jobs in enumerate(at_first):
            write_rows(store, jobs, seed)
        started = time.perf_counter()
        with serving(root) as (address, process):
            start = time.perf_counter() - started
            browser = Browser(address)
            content, first = timed(lambda: browser.open("study"))
            _, again = timed(lambda: Browser(address).open("study"))
            refreshes = []
            for jobs in later:
                write_rows(store, jobs, len(jobs))
                time.sleep(FRESH_SECONDS + 0.1)
                found, seconds = timed(lambda: browser.look("study"))
                assert found is not None
                refreshes.append(seconds)
            cell = json.loads(content)["cells"][0]
            _, one_cell = timed(lambda: browser.get(f"/runs/study?cell={cell}"))
            memory = peak_memory(process)
        _, report = timed(lambda: phasediag("report", store.out))
        size = Path(store.out, "report.html").stat().st_size
    name = f"{len(study.jobs()):,} jobs"
    return [
        [f"{name}: server starts, with its first look", f"{start:.1f} s", ""],
        [f"{name}: page opens for the first time", f"{first:.1f} s", ""],
        [f"{name}: opens again, in another browser", f"{again:.2f} s", target(most[0], "s")],
        [
            f"{name}: refresh after 100 more jobs, the longest of {come_later}",
            f"{max(refreshes):.2f} s",
            target(most[1], "s"),
        ],
        [f"{name}: runs of a point", f"{one_cell:.2f} s", ""],
        [
            f"{name}: content, as JSON and compressed",
            f"{mb(len(content))}, {mb(len(gzip.compress(content, 5)))}",
            "",
        ],
        [f"{name}: file of report", mb(size), target(most[2], "MB")],
        [f"{name}: time of report", f"{report:.1f} s", ""],
        [f"{name}: most memory of the server", mb(memory), target(most[3], "MB")],
    ]


# Many studies.


def many(quick: bool) -> list[Row]:
    """A root of small studies that are complete and fitted."""
    number = 10 if quick else 200
    study = make_study(points=4, seeds=1)
    with TemporaryDirectory() as root:
        store = write_study(study, Path(root, "0"))
        for seed, jobs in enumerate(batches(study)):
            write_rows(store, jobs, seed)
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
            for _ in range(5):
                time.sleep(FRESH_SECONDS + 0.1)
                again.append(timed(lambda: browser.get("/studies.json"))[1])
    return [
        [f"{number} studies: command list", f"{command:.1f} s", target(2.0, "s")],
        [f"{number} studies: server starts and sends the first list", f"{first:.1f} s", target(2.0, "s")],
        [
            f"{number} studies: another list, the longest of {len(again)}",
            f"{max(again):.2f} s",
            target(2.0, "s"),
        ],
    ]


# An open page beside a sweep.


def sweep(quick: bool) -> list[Row]:
    """A sweep of about half a minute on all cores, by turns alone and while a page shows it."""
    pairs = 1 if quick else 6
    with TemporaryDirectory() as folder:
        root, spec = Path(folder, "root"), Path(folder, "spec.toml")
        spec.write_text(SPEC.read_text().replace("num = 16", "num = 4" if quick else "num = 16"))
        write_study(make_study(points=1, seeds=1), root / "other")  # the server wants one

        def run(name: str) -> float:
            out = root / name
            _, seconds = timed(lambda: phasediag("run", str(spec), "--out", str(out), "--local"))
            shutil.rmtree(out)
            return seconds

        run("first")  # the engine may have to be compiled
        alone, watched, shares = [], [], []
        with serving(str(root)) as (address, process):
            for pair in range(pairs):
                for is_watched in (False, True) if pair % 2 else (True, False):
                    if not is_watched:
                        alone.append(run(f"alone-{pair}"))
                        continue
                    before = cpu_seconds(process)
                    with open_page(address, f"watched-{pair}"):
                        watched.append(run(f"watched-{pair}"))
                    shares.append((cpu_seconds(process) - before) / watched[-1] / (os.cpu_count() or 1))
    slower = 100 * (np.array(watched) / np.array(alone) - 1)
    scatter = slower.std(ddof=1) / pairs**0.5 if pairs > 1 else np.nan
    return [
        [
            f"Sweep of {np.mean(alone):.0f} s, slowed by an open page, {pairs} pairs",
            f"{slower.mean():.1f} ± {scatter:.1f} %",
            target(2.0, "%"),
        ],
        [
            "Sweep: share of the machine's cores that the server takes",
            f"{100 * np.mean(shares):.1f} %",
            target(2.0, "%"),
        ],
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


def target(most: float, unit: str) -> str:
    return f"{most:g} {unit}" if np.isfinite(most) else ""


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

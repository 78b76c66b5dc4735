"""The documentation as users follow it: the blocks of a page run in their order, in a folder that looks like a checkout.

A block with a title is a file that the reader writes. A block of text shows what the block before it prints: each of its lines begins one
of the printed ones, whatever the numbers are. What is not run says why, in a comment before it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, wait
from contextlib import redirect_stdout
from dataclasses import dataclass
from io import StringIO
from multiprocessing import get_context
from pathlib import Path
from typing import Any, get_args

import pytest
import tomli_w
from faults.test_clusters import dashboard as dashboard
from faults.test_clusters import environment
from phasediag.storage.columns import COLUMNS, schema_of
from studies import starter

from phasediag.kinds import KINDS, TABLES, parse_spec
from phasediag.spec.tables import Table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md"))]
LINKING = [*PAGES, ROOT / "CONTRIBUTING.md", *(ROOT / "results").glob("**/*.md"), ROOT / "cluster/README.md"]
LANGUAGES = {"sh", "python", "toml", "text"}
ELSEWHERE = "the README has it"
REASONS = {
    ELSEWHERE,
    "it is the tests themselves",
    "takes minutes",
    "needs a bucket",
    "needs Slurm",
}
"""All there are for not running a block."""

BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*) -->\n)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")
NUMBER = re.compile(r"(?:[\d.]+ (?:s|min|h)\b ?)+|-?[\d.]+(?:e[+-]\d+)?")
PIP = f'pip() {{ "{sys.executable}" -m stand_in_pip "$@"; }}\n'


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, and the line of the page that it begins at."""

    line: int
    language: str
    title: str | None
    reason: str | None
    code: str


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    return [
        Block(
            text.count("\n", 0, found.start("code")) + 1, *found.group("language", "title", "reason", "code")
        )
        for found in BLOCK.finditer(text)
    ]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# Blocks that run.

FOLLOWS = "test_the_blocks_of_a_page_run"
RUNNING = [page for page in PAGES if any(block.reason is None for block in blocks_of(page))]
SWEPT = re.compile("(quickstart|condensation_1d)[/ ]")
"""Folders that the README's blocks make."""


def thinned(text: str) -> str:
    """A spec of the checkout with few seeds, widths and points: what takes minutes there takes seconds here."""
    spec = tomllib.loads(text)
    grid = spec["grid"]
    if "width" in grid:
        grid |= {axis: {**grid[axis], "num": 4} for axis in ("gamma", "gamma_prime") if axis in grid}
        grid["width"] = grid["width"][:4]
    return tomli_w.dumps(spec | {"grid": {**grid, "seeds": 2}})


@pytest.fixture(scope="module")
def followed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, dashboard: str
) -> Iterator[dict[Path, Future[None]]]:
    """The pages that are tested: three at a time are followed, each in a folder and a process of its own.

    Pages that query sweeps of the README begin where that has ended.
    """
    folders = {page: tmp_path_factory.mktemp(page.stem) / "checkout" for page in RUNNING}
    wanted = {
        item.callspec.params["page"]
        for item in request.session.items
        if getattr(item, "originalname", "") == FOLLOWS
    }
    after = {page for page in wanted if any(SWEPT.search(block.code) for block in blocks_of(page))} - {README}
    first = wanted - after | ({README} if after else set())
    # The workers do not inherit what pytest makes of warnings.
    with ProcessPoolExecutor(3, get_context("spawn"), warnings.simplefilter, ("error",)) as pool:
        running = {}
        for page in sorted(
            first, key=lambda page: (page != README, -page.read_text().count("phasediag run"))
        ):
            write_sweeps(folders[page] / "sweeps")
            running[page] = pool.submit(follow, page, folders[page], dashboard)
        for page in after:
            wait([running[README]])
            shutil.copytree(folders[README], folders[page])
            running[page] = pool.submit(follow, page, folders[page], dashboard)
        yield running


@pytest.mark.parametrize("page", RUNNING, ids=name_of)
def test_the_blocks_of_a_page_run(page: Path, followed: dict[Path, Future[None]]) -> None:
    followed[page].result()


def write_sweeps(folder: Path) -> None:
    folder.mkdir(parents=True)
    for spec in (ROOT / "sweeps").glob("*.toml"):
        (folder / spec.name).write_text(thinned(spec.read_text()))


def follow(page: Path, folder: Path, dashboard: str) -> None:
    """Runs the blocks of a page in a folder that has the published sweeps it names, with a cluster of this machine for the one it names."""
    os.chdir(folder)
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for sweep in set(re.findall(r"results/\w+", "".join(block.code for block in blocks_of(page)))):
        if (ROOT / sweep).exists():
            shutil.copytree(ROOT / sweep, sweep, dirs_exist_ok=True)
    for block in blocks_of(page):
        if block.reason:
            continue
        code = block.code.replace("http://HEAD:8265", dashboard).replace(
            "/shared", str(folder.parent / "shared")
        )
        where = f"{name_of(page)}, line {block.line}"
        if block.language == "text":
            check_shown(code, printed, where)
        elif block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(code, encoding="utf-8")
        elif block.language == "toml":
            parse_spec(completed(code), where)
        elif block.language == "python":
            printed = run_python(code, page, block.line, names)
        else:
            printed = run_shell(code, where)


def run_shell(code: str, where: str) -> str:
    """What a block of shell commands prints; all of them have to succeed."""
    site = Path("../site").resolve()
    path = os.pathsep.join([str(site), os.environ["PYTHONPATH"], str(ROOT)])
    command = ["bash", "-euo", "pipefail", "-c", PIP + code]
    end = time.monotonic() + 60
    while True:
        done = subprocess.run(
            command,
            env=environment(PYTHONPATH=path, SITE=str(site)),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=240,
        )
        # The dashboard of a cluster is up a little earlier than what starts jobs.
        if "No available agent" not in done.stdout or time.monotonic() > end:
            break
    assert done.returncode == 0, f"{where}:\n{code}\n{done.stdout}"
    return done.stdout


def run_python(code: str, page: Path, line: int, names: dict[str, Any]) -> str:
    """What a block of Python prints; it has the names of the blocks before it."""
    output = StringIO()
    with redirect_stdout(output):
        exec(compile("\n" * (line - 1) + code, str(page), "exec"), names)
    return output.getvalue()


def completed(code: str) -> str:
    """A spec with the tables of a fragment in the place of the starter's."""
    fragment, spec = tomllib.loads(code), tomllib.loads(starter("phase-diagram"))
    return tomli_w.dumps(spec | fragment)


def check_shown(shown: str, printed: str, where: str) -> None:
    """Numbers and spaces aside, each line that is shown begins one that was printed."""
    lines = [pattern(line) for line in printed.splitlines()]
    for line in shown.splitlines():
        assert any(one.startswith(pattern(line)) for one in lines), f"{where}: {line!r} is not in\n{printed}"


def pattern(line: str) -> str:
    return " ".join(NUMBER.sub(" # ", line).split())


# What holds of all pages.


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_has_a_language(page: Path) -> None:
    blocks = blocks_of(page)
    assert {block.language for block in blocks} <= LANGUAGES
    assert page.read_text().count("```") == 2 * len(blocks)


def test_what_is_not_run_has_one_of_a_few_reasons() -> None:
    not_run = [block for page in PAGES for block in blocks_of(page) if block.reason]
    assert {block.reason for block in not_run} == REASONS
    readme = {block.code for block in blocks_of(README)}
    assert {block.code for block in not_run if block.reason == ELSEWHERE} <= readme


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [link for link in LINK.findall(page.read_text()) if not (page.parent / link).exists()]
    assert missing == []


# What the reference is made from.


@pytest.mark.parametrize(("kind", "table"), [(kind, table) for kind in COLUMNS for table in COLUMNS[kind]])
def test_every_column_is_described(kind: str, table: str) -> None:
    assert sorted(COLUMNS[kind][table]) == sorted(schema_of(kind, table).names)


def test_every_table_of_a_study_has_its_columns() -> None:
    for kind, tables in TABLES.items():
        assert set(COLUMNS[kind]) == {"runs", "samples", tables.fitted_name}


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_of_a_spec_is_explained(kind: str) -> None:
    """By its table, or by the commented spec that the reference shows beside it."""
    tables = tables_within(KINDS[kind])
    told = starter(kind) + "".join(table.__doc__ or "" for table in tables)
    keys = {key for table in tables - {KINDS[kind]} for key in table.model_fields}
    assert {key for key in keys if not re.search(rf"\b{key}\b", told)} == set()


def tables_within(table: type[Table]) -> set[type[Table]]:
    """A table of specs and those it holds."""
    held = {
        option
        for field in table.model_fields.values()
        for option in (field.annotation, *get_args(field.annotation))
        if isinstance(option, type) and issubclass(option, Table)
    }
    return {one for option in held for one in tables_within(option)} | set(table.__mro__[:-2])

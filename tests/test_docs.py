"""The documentation as users follow it: the blocks of a page run in their order, in a folder that looks like a checkout.

A block with a title is a file that the reader writes. A block of text shows what the block before it prints: each of its lines begins one
of the printed ones, whatever the numbers are; after Python, none of the printed ones is left out. What is not run
says why, in a comment before it.

The first block of the README runs exactly as typed. After that, `phasediag run` starts no Ray and draws nothing (`stand_in_phasediag.py`);
what is submitted to a cluster runs there, as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from contextlib import chdir, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, get_args

import pytest
import tomli_w
from heads import environment
from studies import starter
from waiting import PATIENCE

from phasediag import kinds
from phasediag.kinds import parse_spec
from phasediag.spec.tables import Table

ROOT = Path(__file__).parent.parent
README = ROOT / "README.md"
PAGES = [README, *sorted(ROOT.glob("docs/**/*.md"))]
LINKING = [
    *PAGES,
    ROOT / "CHANGELOG.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "results").glob("**/*.md")),
    ROOT / "benchmarks/README.md",
    ROOT / "cluster/README.md",
]
LANGUAGES = {"sh", "python", "toml", "text"}
ELSEWHERE = "the README has it"
REASONS = {
    ELSEWHERE,
    "it is the tests themselves",
    "it runs until it is interrupted",
    "takes minutes",
    "needs a bucket",
    "needs Slurm",
    "needs torchvision",
}
"""All there are for not running a block."""

BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]*) -->\n)?"
    r"^```(?P<language>\w*)(?: title=\"(?P<title>[^\"]*)\")?\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
MODULE = re.compile(r"\bphasediag/[\w/]+\.py\b|\b(?:[\w/]+/)?test_\w+\.py\b")
NAME = re.compile(r"\bphasediag(?:\.\w+)+")
GROUPS = {"phasediag.activations", "phasediag.kinds"}
"""Of entry points; what they are called in `pyproject.toml`."""
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)[^)]*\)")
NUMBER = re.compile(r"(?:[\d.]+ (?:s|min|h)\b ?)+|-?[\d.]+(?:e[+-]\d+)?")
SHELL = f"""
pip() {{ "{sys.executable}" -m stand_in_pip "$@"; }}
python3() {{ command python3 "$@" --without-pip; }}
"""
"""What comes before a block of shell commands: its one use of `python3` makes an environment, where pip is the stand-in."""


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

RUNNING = [page for page in PAGES if any(block.reason is None for block in blocks_of(page))]
HEAD = "http://HEAD:8265"
SWEPT = re.compile("(quickstart|condensation_1d)[/ ]")
"""Folders that the README's blocks make."""
TOGETHER = [page for page in RUNNING if SWEPT.search(page.read_text()) or HEAD in page.read_text()]
"""The README, pages that query its sweeps, and pages that submit to the same cluster."""
PHASEDIAG = f'#!/bin/sh\nexec "{sys.executable}" -m stand_in_phasediag "$@"\n'
"""What `phasediag` is in all blocks but the first of the README."""


def thinned(text: str) -> str:
    """A spec with few seeds, widths, points, rounds and epochs: what takes minutes takes seconds here."""
    spec = tomllib.loads(text)
    grid, seeds = spec["grid"], 1
    if "width" in grid:
        seeds = 2  # for slopes to have intervals
        axes = [axis for axis in ("gamma", "gamma_prime") if isinstance(grid.get(axis), dict)]
        grid |= {axis: {**grid[axis], "num": 4} for axis in axes}
        grid["width"] = grid["width"][:4]
    if "refine" in spec:
        spec["refine"]["rounds"] = 2
    if "epochs" in spec.get("train", {}):
        spec["train"] |= {"epochs": 100, "snapshots": [10, 50]}
    return tomli_w.dumps(spec | {"grid": {**grid, "seeds": seeds}})


@pytest.fixture(scope="session")
def after_readme(tmp_path_factory: pytest.TempPathFactory, dashboard: str, stand_in: Path) -> Path:
    """The folder in which the blocks of the README have run."""
    folder = tmp_path_factory.mktemp("README") / "checkout"
    write_sweeps(folder / "sweeps")
    follow(README, folder, dashboard, stand_in)
    return folder


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for the PATH in which `phasediag` is the stand-in."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "phasediag").write_text(PHASEDIAG)
    (folder / "phasediag").chmod(0o755)
    return folder


@pytest.mark.parametrize("page", TOGETHER, ids=name_of)
def test_the_readme_and_what_builds_on_it(
    page: Path, request: pytest.FixtureRequest, dashboard: str, stand_in: Path, tmp_path: Path
) -> None:
    readme = request.getfixturevalue("after_readme")
    if page != README:
        folder = tmp_path / "checkout"
        shutil.copytree(readme, folder)
        follow(page, folder, dashboard, stand_in)


@pytest.mark.parametrize("page", [page for page in RUNNING if page not in TOGETHER], ids=name_of)
def test_a_page_by_itself(page: Path, stand_in: Path, tmp_path: Path) -> None:
    folder = tmp_path / "checkout"
    write_sweeps(folder / "sweeps")
    follow(page, folder, "", stand_in)


def write_sweeps(folder: Path) -> None:
    folder.mkdir(parents=True)
    for spec in (ROOT / "sweeps").glob("*.toml"):
        (folder / spec.name).write_text(thinned(spec.read_text()))


def follow(page: Path, folder: Path, dashboard: str, stand_in: Path) -> None:
    """Runs the blocks of a page in a folder that has the published sweeps and examples it names, with a cluster of this machine for the one
    it names.

    What is in the folder `stand_in` goes before what is installed, except for the first command that users type.
    """
    programs = None if page == README else stand_in
    names: dict[str, Any] = {"__name__": "__main__"}
    printed, whole = "", False
    with chdir(folder):
        code = "".join(block.code for block in blocks_of(page))
        for sweep in set(re.findall(r"results/\w+", code)):
            if (ROOT / sweep).exists():
                shutil.copytree(ROOT / sweep, sweep, dirs_exist_ok=True)
        for example in set(re.findall(r"examples/\w+\.py", code)):
            Path("examples").mkdir(exist_ok=True)
            shutil.copy(ROOT / example, example)
        for block in blocks_of(page):
            if block.reason:
                continue
            code = block.code.replace(HEAD, dashboard).replace("/shared", str(folder.parent / "shared"))
            where = f"{name_of(page)}, line {block.line}"
            if block.language == "text":
                check_shown(code, printed, where, whole)
            elif block.title:
                Path(block.title).parent.mkdir(parents=True, exist_ok=True)
                # What a page says of a phase diagram is true of the grid that it shows.
                text = thinned(code) if 'kind = "condensation"' in code else code
                Path(block.title).write_text(text, encoding="utf-8")
            elif block.language == "toml":
                parse_spec(completed(code), where)
            elif block.language == "python":
                printed, whole = run_python(code, page, block.line, names), True
            else:
                printed, whole = run_shell(code, where, programs), False
                programs = stand_in


def run_shell(code: str, where: str, programs: Path | None, folder: Path | None = None) -> str:
    """What a block of shell commands prints, in a folder or in this one; all of them have to succeed."""
    site = Path("../site").resolve()
    variables = environment(
        PYTHONPATH=os.pathsep.join([str(site), os.environ["PYTHONPATH"], str(ROOT)]), SITE=str(site)
    )
    if programs:
        variables["PATH"] = f"{programs}{os.pathsep}{variables['PATH']}"
    end = time.monotonic() + 60
    while True:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", SHELL + code],
            env=variables,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
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


def check_shown(shown: str, printed: str, where: str, whole: bool) -> None:
    """Numbers and spaces aside, each line that is shown begins one that was printed; with `whole`, as many are shown as were printed."""
    lines = [pattern(line) for line in printed.splitlines()]
    for line in shown.splitlines():
        assert any(one.startswith(pattern(line)) for one in lines), f"{where}: {line!r} is not in\n{printed}"
    assert not whole or len(shown.splitlines()) == len(lines), f"{where}: a part of\n{printed}"


def pattern(line: str) -> str:
    return " ".join(NUMBER.sub(" # ", line).split())


def test_the_example_draws_a_plate(tmp_path: Path) -> None:
    folders = "results/two_layer_asymptotic results/three_layer_asymptotic"
    plate = tmp_path / "depths.png"
    run_shell(f"python examples/depths.py {plate} {folders}", "examples/depths.py", None, ROOT)
    assert plate.stat().st_size > 50_000


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


@pytest.mark.parametrize("page", LINKING, ids=name_of)
def test_what_a_page_names_of_the_code_exists(page: Path) -> None:
    """Files of the package and of its tests, and names as Python has them."""
    text = page.read_text()
    files = [file for file in MODULE.findall(text) if not is_file(file)]
    names = [name for name in set(NAME.findall(text)) - GROUPS if not resolves(name)]
    assert files + names == []


def is_file(path: str) -> bool:
    """Of the repository, or of its tests."""
    return (ROOT / path).is_file() or (ROOT / "tests" / path).is_file()


def resolves(name: str) -> bool:
    try:
        resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def test_a_name_that_is_not_there_is_seen() -> None:
    assert resolves("phasediag.kinds.Kind") and not resolves("phasediag.kinds.Kinds")
    assert not resolves("phasediag.columns.COLUMNS")
    assert MODULE.findall("`phasediag/columns.py`, `faults/test_gone.py`") == [
        "phasediag/columns.py",
        "faults/test_gone.py",
    ]
    assert not is_file("phasediag/columns.py") and is_file("faults/test_jobs.py")


def test_the_citation_is_of_this_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"\nversion: {project['version']}\n" in (ROOT / "CITATION.cff").read_text()


# What the reference is made from.


@pytest.mark.parametrize("kind", ["phase-diagram", "condensation", "module"])
def test_every_key_of_a_spec_is_explained(kind: str) -> None:
    """By its table, or by the commented spec that the reference shows beside it."""
    spec = kinds.named(kind).spec()
    tables = tables_within(spec)
    told = starter(kind) + "".join(table.__doc__ or "" for table in tables)
    keys = {key for table in tables - set(spec.__mro__) for key in table.model_fields}
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

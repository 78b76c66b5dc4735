"""Where compiled code is kept, and that it is never that of other sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from phasediag import engine
from phasediag.engine import compiled, kept

CALLER = """
import numpy as np
from .compiled import compiled
from .pieces import PIECES, group

@compiled("contract")
def run(levels, chosen):
    return group(levels, chosen, 0, len(chosen), 100) + 1000 * PIECES

print(run(np.zeros(40, np.int8), np.arange(40)))
print(sum(run.stats.cache_hits.values()), "hits,", sum(run.stats.cache_misses.values()), "misses")
"""


def run(place: Path, **environment: str) -> list[str]:
    """What ``CALLER`` prints in a process of its own, in an empty folder."""
    empty = place / "empty"
    empty.mkdir(exist_ok=True)
    inherited = {name: text for name, text in os.environ.items() if not name.startswith(("NUMBA_", "XDG_"))}
    done = subprocess.run(
        [sys.executable, "-c", "import some.caller"],
        env={**inherited, "PYTHONPATH": str(place), "PYTHONDONTWRITEBYTECODE": "1", **environment},
        cwd=empty,
        capture_output=True,
        text=True,
        check=True,
    )
    assert not list(empty.iterdir())
    return done.stdout.splitlines()


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1
    path.write_text(text.replace(old, new))


@pytest.fixture
def some(tmp_path: Path) -> Path:
    """A copy of the engine with a function to run; its callee and a constant come from another module."""
    copy = tmp_path / "some"
    shutil.copytree(Path(engine.__file__).parent, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "caller.py").write_text(CALLER)
    return copy


def test_code_is_compiled_once_and_again_when_another_module_has_changed(some: Path, tmp_path: Path) -> None:
    """What a function takes from other modules is part of its machine code, callees and constants alike."""
    place = {"XDG_CACHE_HOME": str(tmp_path / "cache")}
    assert run(tmp_path, **place) == ["16040", "0 hits, 1 misses"]
    assert run(tmp_path, **place) == ["16040", "1 hits, 0 misses"]
    edit(some / "pieces.py", "    return end\n", "    return end + 1\n")
    assert run(tmp_path, **place) == ["16041", "0 hits, 1 misses"]
    assert run(tmp_path, **place) == ["16041", "1 hits, 0 misses"]
    assert len(list((tmp_path / "cache/phasediag").glob("numba-*"))) == 2


def test_the_users_folder_for_numba_is_respected(some: Path, tmp_path: Path) -> None:
    """And nothing is kept elsewhere, by whatever name."""
    there, home = tmp_path / "there", tmp_path / "home"
    home.mkdir()
    assert run(tmp_path, NUMBA_CACHE_DIR=str(there), HOME=str(home)) == ["16040", "0 hits, 1 misses"]
    assert [path.name.split("-")[0] for path in there.glob("phasediag/numba-*/*.nbi")] == ["caller.run"]
    assert not list(home.iterdir()) and not list(some.rglob("*.nbi"))


def test_a_callee_is_part_of_its_caller_and_can_be_called_by_itself() -> None:
    """Only what Python calls is made into machine code: of the chain, the first."""

    @compiled.compiled()
    def halve(x: float) -> float:
        if x < 0:
            raise ValueError("negative")
        return x / 2

    @compiled.compiled("contract")
    def quarter(x: float) -> float:
        return halve(halve(x))

    @compiled.compiled()
    def both(x: float) -> tuple[float, float]:
        return halve(x), quarter(x)

    assert both(4.0) == (2.0, 1.0)
    assert [len(one.signatures) for one in (halve, quarter, both)] == [0, 0, 1]
    with pytest.raises(ValueError, match="negative"):
        both(-1.0)
    assert halve(4.0) == 2.0 and halve(3) == 1.5
    assert [len(one.signatures) for one in (halve, quarter, both)] == [2, 0, 1]


@pytest.fixture
def asked_again(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Where to keep code is looked up once in a process: not so here."""
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    kept.folder.cache_clear()
    yield
    kept.folder.cache_clear()


@pytest.mark.usefixtures("asked_again")
@pytest.mark.parametrize("home", ["{0}/none", "{0}/file", "relative", "/proc"])
def test_without_a_place_for_the_compiled_code_it_is_compiled_anyway(
    home: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No home, or none that takes files: none is made, and nothing is written to the current folder."""
    (tmp_path / "file").touch()
    (tmp_path / "empty/relative").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("HOME", home.format(tmp_path))

    @compiled.compiled()
    def double(x: int) -> int:
        return 2 * x

    assert double(3) == 6
    assert double.stats.cache_path is None
    assert sorted(tmp_path.rglob("*")) == [tmp_path / name for name in ("empty", "empty/relative", "file")]


@pytest.mark.usefixtures("asked_again")
def test_a_disk_that_takes_no_more_is_no_reason_to_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @compiled.compiled()
    def double(x: int) -> int:
        return 2 * x

    [folder] = (tmp_path / "phasediag").iterdir()
    folder.rmdir()
    folder.touch()
    assert double(3) == 6
    assert double.stats.cache_path == str(folder)


@pytest.mark.usefixtures("asked_again")
def test_the_folders_that_were_used_last_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    base = tmp_path / "phasediag"
    for age in range(7):
        (base / f"numba-{age}").mkdir(parents=True)
        os.utime(base / f"numba-{age}", (0, 1000 - age))
    (base / "something-else").mkdir()
    mine = kept.folder()
    assert mine is not None and mine.parent == base
    last = {f"numba-{age}" for age in range(kept.FOLDERS - 1)}
    assert {folder.name for folder in base.iterdir()} == {mine.name, "something-else", *last}


@pytest.mark.usefixtures("asked_again")
def test_two_processes_that_save_at_once_do_not_share_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numba's numbers are taken from an index that both have read before either has written it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    @compiled.compiled()
    def double(x: float) -> float:
        return 2 * x

    saved = double._cache._cache_file
    assert saved._data_name(1) != saved._data_name(1)
    assert double(3) == 6 and double(1.5) == 3.0
    assert len(list(tmp_path.rglob("*.nbc"))) == 2


@pytest.mark.usefixtures("asked_again")
def test_what_is_compiled_is_known_by_precision_and_by_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert not kept.is_compiled("float32")
    assert not list(tmp_path.iterdir()), "asking leaves nothing behind"
    kept.note_compiled.__wrapped__("float32")
    assert kept.is_compiled("float32") and not kept.is_compiled("float64")
    monkeypatch.setattr(kept, "digest", lambda: "another")
    assert not kept.is_compiled("float32")

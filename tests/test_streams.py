"""The terminal never decides: whatever becomes of what is printed, a sweep ends with all of its rows and the exit code 0."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import surrounded
from heads import ONE_WORKER
from test_kinds import TOY

from phasediag.kinds import open_store

SWEEPS = [name for name, (_, arguments) in surrounded.SURROUNDINGS.items() if arguments is surrounded.RUN]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the program has run in all surroundings."""
    found = tmp_path_factory.mktemp("surroundings")
    path = os.pathsep.join([str(TOY), os.environ.get("PYTHONPATH", "")])
    plain = ("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "TTY_COMPATIBLE", "COLUMNS", "RAY_ADDRESS")
    others = {name: value for name, value in os.environ.items() if name not in plain}
    command = [sys.executable, surrounded.__file__, str(found)]
    result = subprocess.run(
        command,
        env={**others, **ONE_WORKER, "PYTHONPATH": path, "PYTHONUTF8": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return found


@pytest.fixture(scope="module")
def told(folder: Path) -> dict[str, dict[str, Any]]:
    """What the program did, by the name of the surroundings."""
    lines = (folder / "told").read_text().splitlines()
    return {one["name"]: one for one in map(json.loads, lines)}


@pytest.mark.parametrize("name", SWEEPS)
def test_a_sweep_ends_as_it_does_anywhere(
    folder: Path, told: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    found = told[name]
    assert (found["code"], found["error"]) == (0, "")
    rows, usual = (
        sorted(path.name for path in (folder / told[one]["out"] / "runs").iterdir())
        for one in (name, "nothing special")
    )
    assert rows == usual and len(rows) > 0
    assert (folder / found["out"] / "figures" / "speeds.png").stat().st_size > 1000
    assert json.loads((folder / found["out"] / "driver.json").read_text())["state"] == "finished"


@pytest.mark.parametrize(
    "name",
    [
        "standard output full",
        "both full",
        "the reader gone",
        "nobody reads",
        "nobody reads, and writing does not wait",
    ],
)
def test_what_could_not_be_shown_is_in_the_log(told: dict[str, dict[str, Any]], name: str) -> None:
    events = [json.loads(line) for line in told[name]["log"].splitlines()]
    unshown = [event["line"] for event in events if event["event"] == "unshown"]
    assert any("3 of 3 jobs finished, 0 failed" in line for line in unshown)
    assert any(line.startswith("figures: γ_") for line in unshown)


def test_a_log_is_quiet_about_what_was_shown(told: dict[str, dict[str, Any]]) -> None:
    events = [json.loads(line)["event"] for line in told["nothing special"]["log"].splitlines()]
    assert "unshown" not in events and events[-1] == "end"


@pytest.mark.parametrize("encoding", ["latin-1", "ascii"])
def test_letters_that_an_encoding_lacks_are_spelt(told: dict[str, dict[str, Any]], encoding: str) -> None:
    assert (
        f"figures: {told[encoding]['out'].replace('γ', chr(92) + 'u03b3')}/figures"
        in told[encoding]["printed"]
    )
    assert "\\u03b3_first" not in told["status in ascii"]["printed"]
    assert told["status in ascii"]["code"] == 0


def test_what_is_no_terminal_gets_no_control_sequences(told: dict[str, dict[str, Any]]) -> None:
    assert "3 of 3 jobs finished" in told["colours forced"]["printed"]
    assert "\x1b" not in told["colours forced"]["printed"]
    assert told["colours forced"]["printed"].count("\n") < 20


def test_a_command_that_only_prints_fails_if_it_cannot(told: dict[str, dict[str, Any]]) -> None:
    for name in ("fit into what is full", "status into what is full"):
        assert told[name]["code"] == 1
        assert (
            told[name]["printed"] == "error: standard output: cannot be written (No space left on device)\n"
        )


def test_waiting_for_a_sweep_tells_how_the_sweep_ended(told: dict[str, dict[str, Any]]) -> None:
    assert told["status --wait into what is full"]["code"] == 0


def test_rows_are_read_back(
    folder: Path, told: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(TOY))
    for name in ("nothing special", "all closed", "nobody reads"):
        assert len(open_store(folder / told[name]["out"]).statuses()) == 3

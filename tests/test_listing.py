"""The list of the studies below a folder."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from typer.testing import CliRunner

from phasediag.cli import app
from phasediag.errors import InputError
from phasediag.kinds import open_store
from phasediag.storage.files import Files
from phasediag.sweep.lease import hold
from phasediag.sweep.listing import DAMAGED, LEVELS, Listed, folders, list_studies

RESULTS = Path(__file__).parent.parent / "results"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two published studies, at two levels."""
    for name, folder in (("papers/zhou_2022a_scaling", "maps/scaling"), ("condensation_mnist", "early")):
        shutil.copytree(RESULTS / name, tmp_path / folder, ignore=shutil.ignore_patterns("figures"))
    (tmp_path / "notes").mkdir()
    return tmp_path


def listed(root: Path) -> dict[str, Listed]:
    return {study.folder: study for study in list_studies(str(root))}


def test_it_tells_what_studies_are_and_what_they_found(root: Path) -> None:
    studies = listed(root)
    assert list(studies) == ["early", "maps/scaling"]
    early, scaling = studies.values()
    assert (early.kind, scaling.kind) == ("condensation", "phase-diagram")
    assert early.outline == ("x2_tanh, 30 neurons", "n = 1000, d = 784", "1 scale, 50 seeds")
    assert scaling.outline == ("3 layers, m to 10000", "n = 4, d = 1", "3 points, 5 widths, 3 seeds")
    assert scaling.state == early.state == "complete"
    assert scaling.status and (scaling.status.total, scaling.status.missing) == (45, 0)
    files = (root / "maps/scaling/runs").iterdir()
    assert scaling.changed == pytest.approx(max(file.stat().st_mtime for file in files), abs=0.01)
    assert scaling.finding == "W1 off 0.000" and early.finding == ""


def test_a_sweep_under_way_is_running_and_has_found_nothing_yet(root: Path) -> None:
    out = root / "maps/scaling"
    file = next((out / "runs").iterdir())
    file.unlink()
    assert listed(root)["maps/scaling"].state == "stopped"
    with hold(open_store(out)) as lease:
        lease.describe(45, 0)
        study = listed(root)["maps/scaling"]
        assert (study.state, study.finding, study.error) == ("running", "", "")
        shown = CliRunner().invoke(app, ["list", str(root)]).stdout
    assert "0 of 45 running" in shown


def test_the_list_as_json_and_for_people(root: Path) -> None:
    result = CliRunner().invoke(app, ["list", str(root), "--json"])
    early, scaling = json.loads(result.stdout)
    assert scaling["status"]["total"] == 45 and scaling["outline"]["data"] == early["outline"][
        "data"
    ].replace("1000, d = 784", "4, d = 1")
    lines = CliRunner().invoke(app, ["list", str(root)]).stdout.splitlines()
    assert [line.split()[0] for line in lines if "layers" in line or "neurons" in line] == [
        "early",
        "maps/scaling",
    ]


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        ("study.toml", "kind = 'music'", ["maps/scaling/study.toml: kind", "music"]),
        ("study.toml", "\x00", ["maps/scaling/study.toml"]),
        ("data.npz", "no data", ["maps/scaling/data.npz"]),
    ],
)
def test_a_damaged_or_foreign_folder_is_a_line_that_says_so(
    root: Path, file: str, content: str, words: list[str]
) -> None:
    (root / "maps/scaling" / file).write_text(content)
    study = listed(root)["maps/scaling"]
    assert study.state == DAMAGED and study.outline is None
    assert all(word in study.error for word in words)
    result = CliRunner().invoke(app, ["list", str(root)])
    assert result.exit_code == 0 and DAMAGED in result.stdout and study.error in result.stderr


@pytest.mark.parametrize("name", ["[/]", "[bold]x", "line\nbreak", "esc\x1b[31m", "long" * 40])
def test_a_name_is_shown_as_it_stands_and_does_nothing_to_the_terminal(root: Path, name: str) -> None:
    (root / name).parent.mkdir(exist_ok=True)
    (root / "early").rename(root / name)
    Path(root, name, "data.npz").unlink()
    result = CliRunner().invoke(app, ["list", str(root)])
    shown = "".join(line.split()[0] for line in result.stdout.splitlines() if "layers" not in line)
    assert name.encode("unicode_escape").decode() in shown
    assert "W1 off 0.000" in result.stdout and len(result.stderr.splitlines()) == 1


def test_names_that_are_no_text_and_links_in_circles_are_left_out(root: Path) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).mkdir()
    (root / "maps" / "up").symlink_to(root)
    (root / "maps" / "here").symlink_to(".")
    (root / "alias").symlink_to(root / "early")
    assert list(listed(root)) == ["alias", "early", "maps/scaling"]


def test_a_pipe_in_the_place_of_the_fits_is_not_waited_for(root: Path) -> None:
    fits = root / "maps/scaling/slopes.parquet"
    fits.unlink()
    os.mkfifo(fits)
    assert listed(root)["maps/scaling"].state == "complete"


def test_a_root_without_studies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not there"):
        list_studies(str(tmp_path / "nowhere"))
    deep = tmp_path.joinpath(*"a" * (LEVELS + 1))
    deep.mkdir(parents=True)
    (deep / "study.toml").touch()
    with pytest.raises(InputError, match=f"nor {LEVELS} levels down"):
        list_studies(str(tmp_path))


def test_folders_that_may_not_be_read_are_left_out() -> None:
    """Where the folders of many users are side by side. A root that may not be read is refused."""
    with TemporaryDirectory() as root:
        for path in (Path(root), Path(root, "closed"), Path(root, "open")):
            path.mkdir(exist_ok=True)
            path.chmod(0o755)
        for folder in ("closed", "open"):
            Path(root, folder, "study.toml").touch()
        Path(root, "closed").chmod(0)
        with nobody():
            assert list(folders(Files(root))) == ["open"]
            with pytest.raises(InputError, match="allowed: what you, or"):
                list(folders(Files(f"{root}/closed")))
        Path(root, "closed").chmod(0o755)


@contextmanager
def nobody() -> Iterator[None]:
    """Root, who may read everything, is somebody else for the duration of a `with` block."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(user)


def test_commands_on_a_folder_of_studies_point_to_the_list(root: Path) -> None:
    result = CliRunner().invoke(app, ["status", str(root / "maps")])
    assert result.exit_code == 2
    assert f"'phasediag list {root / 'maps'}' shows 1 below it" in result.stderr

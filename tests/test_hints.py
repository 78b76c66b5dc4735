"""What messages ask about a name that is not known."""

import pytest

from phasediag.errors import InputError, hint
from phasediag.kinds import open_store, read_study, require_study
from phasediag.phase_diagram.locate.networks import load_factory
from phasediag.spec.paths import hint_beside

COMMANDS = ["init", "plan", "run", "status", "fit", "plot"]


@pytest.mark.parametrize(
    ("given", "names", "meant"),
    [
        ("rum", COMMANDS, "run"),
        ("rnu", COMMANDS, "run"),
        ("fti", COMMANDS, "fit"),
        ("plto", COMMANDS, "plot"),
        ("Statsu", COMMANDS, "status"),
        ("nkt", ["LeCun", "NTK"], "NTK"),
        ("jpg", ["png", "svg", "pdf"], None),
        ("W3", ["W1", "W2", "a"], None),
        ("train", COMMANDS, None),
        (3, COMMANDS, None),
    ],
)
def test_a_slip_of_the_fingers_is_recognised(given, names, meant):
    assert hint(given, names) == (f"did you mean '{meant}'? " if meant else "")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory with a spec, a folder of results and a package."""
    monkeypatch.chdir(tmp_path)
    for name in ("my-map", "hinted_models"):
        (tmp_path / name).mkdir()
    (tmp_path / "my-map.toml").touch()
    (tmp_path / "hinted_models" / "__init__.py").touch()
    (tmp_path / "hinted_models" / "wide.py").write_text("def make(width): ...")
    return tmp_path


def test_files_and_folders_that_are_not_there_are_looked_for_beside(folder):
    with pytest.raises(InputError, match=r"my-mpa.toml: .*; did you mean 'my-map.toml'\? allowed: a TOML"):
        read_study("my-mpa.toml")
    with pytest.raises(InputError, match=r"my-mpa: holds no study; did you mean 'my-map'\? allowed: a"):
        require_study(open_store("my-mpa"))
    assert hint_beside("my-map", folders=True) == "", "it is there"
    assert hint_beside("nowhere/my-map.toml") == hint_beside("s3://bucket/a") == ""


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("hinted_model.wide:make", "hinted_models"),
        ("hinted_models.wid:make", "wide"),
        ("hinted_models.wide:mak", "make"),
        ("hinted_models.wide.deep:make", None),
        ("hinted_models.wide:other", None),
        ("nofile:make", None),  # not profile, of the standard library
        ("wide.py:make", "wide:make"),
        ("hinted_models/wide.py:make", "hinted_models.wide:make"),
        ("./wide.py:make", "wide:make"),
    ],
)
def test_modules_and_functions_that_are_not_there_are_looked_for(text, meant, folder):
    asked = rf"did you mean '{meant}'\? " if meant else ""
    with pytest.raises(
        InputError,
        match=f"locate: {text}: [^;]*(; '[a-z_.]*' is not a package)?(; it was looked for in [^;]*)?; {asked}allowed: PACK",
    ):
        load_factory(text)

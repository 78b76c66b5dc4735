"""The package as it is installed from a wheel, without a checkout beside it."""

import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, cwd=None):
    """Standard output of a command that knows nothing of the checkout; it has to succeed."""
    done = subprocess.run(
        [*map(str, command)], cwd=cwd, env={"PATH": "/nowhere"}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """A wheel of this checkout, built without a network."""
    folder = tmp_path_factory.mktemp("wheel")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    run(sys.executable, "-c", build, folder, cwd=ROOT)
    (file,) = folder.glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The program of an environment with the wheel and the packages of this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    # behind what the wheel brings
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    return lambda *arguments, cwd: run(python, "-m", "phasediag", *arguments, cwd=cwd)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout of git")
@pytest.mark.parametrize("folder", ["sweeps", "examples"])
def test_a_wheel_holds_every_sweep_and_example(wheel, folder):
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith(f"phasediag/{folder}/")}
    listing = ["ls-files", "--cached", "--others", "--exclude-standard", folder]
    files = run(shutil.which("git"), *listing, cwd=ROOT).splitlines()
    assert files and inside == {f"phasediag/{name}" for name in files}


def test_sweeps_need_no_checkout(installed, tmp_path):
    assert "two_layer_synthetic " in installed("init", "--list", cwd=tmp_path)
    said = installed("init", "--from", "two_layer_synthetic", cwd=tmp_path)
    assert said.startswith("wrote two_layer_synthetic.toml; next: phasediag run two_layer_synthetic.toml ")
    assert "3840 jobs: 0 finished" in installed("plan", "two_layer_synthetic.toml", cwd=tmp_path)

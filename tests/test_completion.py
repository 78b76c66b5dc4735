"""What the shell offers when the tab key is pressed, asked for as the scripts of bash and zsh do."""

import os
import shutil
import subprocess
import sys

import pytest

PROGRAM = [sys.executable, "-m", "phasediag"]


def offered(line, cwd, shell="bash"):
    """What the program prints for a line with the cursor at its end."""
    words = line.split(" ")
    asked = {
        "bash": {"COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
    }[shell]
    environment = os.environ | {"_PHASEDIAG_COMPLETE": f"complete_{shell}"} | asked
    done = subprocess.run(PROGRAM, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    return done.stdout.split("\n")[:-1] if shell == "bash" else done.stdout


@pytest.fixture
def folder(tmp_path):
    """A folder with specs, and a study with a figure among others."""
    for name in (
        "results/one/figures",
        "results/one/runs",
        "results/two",
        "results/spec",
        "results/.staging",
        "sweeps",
    ):
        (tmp_path / name).mkdir(parents=True)
    for name in (
        "study.toml",
        "notes.txt",
        "sweeps/small.toml",
        "results/one/study.toml",
        "results/spec/study.toml",
    ):
        (tmp_path / name).touch()
    (tmp_path / "results" / "one" / "study.toml").write_text('kind = "phase-diagram"', encoding="utf-8")
    for name in ("slope_map_W1.png", "slope_map_W1.svg", "scaling_W1.png", ".drawn"):
        (tmp_path / "results" / "one" / "figures" / name).touch()
    return tmp_path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("phasediag sta", ["status"]),
        ("phasediag run study.toml --retry", ["--retry-failed"]),
        ("phasediag plan s", ["study.toml", "sweeps/"]),
        ("phasediag plan sweeps/", ["sweeps/small.toml"]),
        ("phasediag plan n", [""]),
        ("phasediag run study.toml --out results/", ["results/one", "results/spec/", "results/two/"]),
        ("phasediag fit res", [""]),  # the shell's own completion of folders
        ("phasediag fit missing/", [""]),
        ("phasediag compare results/one results/", ["results/one", "results/spec/", "results/two/"]),
        ("phasediag status results/s", [""]),  # a spec alone
        ("phasediag plot results/one --only ", ["scaling_W1", "slope_map_W1"]),
        ("phasediag plot results/one --only s", ["scaling_W1", "slope_map_W1"]),
        ("phasediag plot missing --only s", [""]),
        ("phasediag fit results/one --measure li", ["linear_gap", "linear_gap_test"]),
        ("phasediag plot results/spec --measure li", [""]),
        ("phasediag plot results/one --format p", ["png", "pdf"]),
        ("phasediag init --from two_layer_mnist", ["two_layer_mnist", "two_layer_mnist_asymptotic"]),
        ("phasediag init --kind c", ["condensation"]),
        ("phasediag locate --name X", ["Xavier"]),
    ],
)
def test_bash_is_offered(line, expected, folder):
    assert offered(line, folder) == expected


def test_zsh_is_offered_names_with_a_line_on_each(folder):
    assert '"two_layer_wide":"The two-layer regime map with widths' in offered(
        "phasediag init --from two_layer_wi", folder, "zsh"
    )
    assert offered("phasediag fit res", folder, "zsh").strip() == "_files"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish", "powershell"])
def test_a_script_is_printed_for_the_shell_that_is_named(shell):
    done = subprocess.run([*PROGRAM, "--show-completion", shell], capture_output=True, text=True)
    assert done.returncode == 0 and f"complete_{shell}" in done.stdout


@pytest.mark.parametrize("option", ["--install-completion", "--show-completion"])
def test_an_unknown_shell_is_refused(option):
    done = subprocess.run([*PROGRAM, option, "zhs"], capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "'zsh'" in done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_the_script_for_bash_completes(folder):
    script = subprocess.run(
        PROGRAM,
        env=os.environ | {"_PHASEDIAG_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    program = folder / "phasediag"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m phasediag "$@"\n')
    program.chmod(0o755)
    ask = 'COMP_WORDS=(phasediag plan sweeps/s); COMP_CWORD=2; _phasediag_completion ./phasediag; echo "${COMPREPLY[@]}"'
    done = subprocess.run(
        ["bash", "--norc", "-c", f"{script}\n{ask}"], cwd=folder, capture_output=True, text=True, check=True
    )
    assert done.stdout == "sweeps/small.toml\n"

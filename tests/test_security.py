"""What a folder from elsewhere, a spec, or a neighbour on the network cannot do."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
from heads import ONE_WORKER
from waiting import PATIENCE, no_longer, wait_for

import phasediag
from phasediag.errors import InputError
from phasediag.kinds import open_store, parse_spec

SPEC = """
name = {name!r}
kind = "phase-diagram"
network = {{ depth = 2 }}
data = {{ kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2] }}
grid = {{ width = [20], gamma = [0.5, 1.0, 1.5], gamma_prime = [0.0, 0.5], seeds = 10 }}
samples = {{ points = [] }}
"""


FORBIDDEN = {"pickle", "cloudpickle", "dill", "shelve", "marshal", "yaml", "joblib"}


def suspicious(source: str) -> list[str]:
    """Imports and calls that could run what they read."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            names = []
        found += [
            name for name in names if name.partition(".")[0] in FORBIDDEN and name != "joblib.cpu_count"
        ]
        if isinstance(node, ast.Call):
            call = ast.unparse(node)
            function = ast.unparse(node.func).rpartition(".")[2]
            loads = function == "load" and call not in (
                "point.load()",
                "brought[name].load()",
            )  # packages that are installed here
            if function in ("eval", "exec", "read_pickle") or (loads and "allow_pickle=False" not in call):
                found.append(call)
    return found


def test_nothing_is_unpickled_or_evaluated() -> None:
    sources = [path.read_text() for path in Path(phasediag.__file__).parent.rglob("*.py")]
    assert [name for source in sources for name in suspicious(source)] == []
    assert any("allow_pickle=False" in source for source in sources)


@pytest.mark.parametrize(
    "source",
    [
        "from pickle import loads",
        "import joblib",
        "np.load(f)",
        "eval(x)",
        "pd.read_pickle(f)",
        "torch.load(f)",
    ],
)
def test_what_could_run_what_it_reads_would_be_noticed(source: str) -> None:
    assert suspicious(source)


class Payload:
    """Leaves a trace if it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self):  # type: ignore[no-untyped-def]
        return os.mkdir, (str(self.trace),)


@pytest.mark.parametrize("name", ["data.npz", "mine.npz"])
def test_arrays_that_hold_code_are_refused_and_not_run(tmp_path: Path, name: str) -> None:
    trace, file = tmp_path / "trace", tmp_path / name
    np.savez(file, x=np.array([[Payload(trace)]], dtype=object), y=np.array([1.0]))
    if name == "data.npz":
        with pytest.raises(InputError, match=r"data\.npz"):
            open_store(tmp_path).read_data()
    else:
        from phasediag.kinds import read_study

        spec = SPEC.format(name="mine").replace(
            'kind = "points", x = [[-1.0], [-0.35], [0.3], [1.0]], y = [0.6, -0.4, 0.5, -0.2]',
            f'kind = "file", path = "{name}"',
        )
        (tmp_path / "spec.toml").write_text(spec)
        with pytest.raises(InputError, match=r"mine\.npz"):
            read_study(tmp_path / "spec.toml")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../elsewhere", "a/b", "/etc/x", "..", "a\\b", "a b", ""])
def test_the_name_of_a_study_is_no_path(name: str) -> None:
    with pytest.raises(InputError, match="name"):
        parse_spec(SPEC.format(name=name), "spec.toml")


def listening(process: psutil.Process) -> set[str]:
    """Addresses at which a process and its descendants accept connections."""
    found = set()
    for one in [process, *process.children(recursive=True)]:
        try:
            found |= {at.laddr.ip for at in one.net_connections("inet") if at.status == psutil.CONN_LISTEN}
        except psutil.Error:
            continue
    return found


def test_a_local_ray_is_not_to_be_reached_from_outside(tmp_path: Path) -> None:
    """And leaves no credential of the environment in what it writes."""
    secret = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY"
    (tmp_path / "spec.toml").write_text(SPEC.format(name="local"))
    out, log = tmp_path / "out", tmp_path / "log"
    arguments = ["run", "spec.toml", "--out", str(out), "--log", str(log)]
    command = [sys.executable, "-m", "faults.held", str(tmp_path / "never"), *arguments]
    hidden = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_MODE")
    environment = {name: value for name, value in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        env={**environment, "AWS_SECRET_ACCESS_KEY": secret, **ONE_WORKER},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    with no_longer(process) as run:
        wait_for(lambda: list(out.glob("runs/*.parquet")) or run.poll() is not None)
        assert run.poll() is None
        assert listening(psutil.Process(run.pid)) <= {"127.0.0.1", "::1", "::ffff:127.0.0.1"}
        assert any("raylet" in child.name() for child in psutil.Process(run.pid).children(recursive=True))
        run.terminate()
        output, _ = run.communicate(timeout=PATIENCE)
    assert run.returncode == 130, output
    written = {path: path.read_bytes() for path in [log, *out.rglob("*")] if path.is_file()}
    assert written.keys() >= {log, *(out / name for name in ("study.toml", "data.npz", "driver.json"))}
    assert any(path.parent.name == "runs" for path in written)
    assert not any(secret.encode() in content for content in [output.encode(), *written.values()])

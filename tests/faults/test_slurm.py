"""`cluster/slurm.sh` under Slurm itself, on two hosts that are namespaces of this machine."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
from studies import trainer_of
from waiting import PATIENCE, no_longer, wait_for

from faults import hosts, sweeps
from faults.hosts import Host
from phasediag.kinds import open_store

pytestmark = pytest.mark.slow

SCRIPT = hosts.ROOT / "cluster" / "slurm.sh"
DAEMONS = ("slurmctld", "slurmd", "sbatch")
CONFIGURATION = """
ClusterName=faults
SlurmctldHost=n1
AuthType=auth/none
CredType=cred/none
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/linear
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/%n.log
NodeName=n1,n2 CPUs=1
SlurmdTimeout=10
PartitionName=all Nodes=ALL Default=YES State=UP
"""
SLOWLY = 'train = { method = "gd", learning_rate = 1e-4, max_evaluations = 8000 }'


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[list[Host]]:
    """Two hosts with Slurm."""
    if not all(map(shutil.which, DAEMONS)) or not hosts.available():
        pytest.skip("needs Slurm (slurmctld, slurmd, slurm-client) and the rights of root")
    (tmp_path / "state").mkdir()
    (tmp_path / "slurm.conf").write_text(CONFIGURATION.format(folder=tmp_path))
    with hosts.running(["n1", "n2"], tmp_path) as found:
        environment = slurm_environment(tmp_path)
        found[0].run("slurmctld", env=environment)
        for host in found:
            host.run("slurmd", "-N", host.name, env=environment)
        wait_for(lambda: re.search(r" 2 +idle", found[0].run("sinfo", env=environment)))
        yield found


def slurm_environment(folder: Path) -> dict[str, str]:
    return hosts.environment(SLURM_CONF=str(folder / "slurm.conf"))


def submit(host: Host, folder: Path) -> AbstractContextManager[subprocess.Popen[str]]:
    """`sbatch --wait`, whose exit code is that of the job; what the job prints goes to the file `output`."""
    options = [f"--chdir={folder}", f"--output={folder}/output", "--nodes=2", "--wait"]
    command = ["sbatch", *options, str(SCRIPT), "spec.toml", f"{folder}/out"]
    return no_longer(host.start(*command, env=slurm_environment(folder)))


def test_a_sweep_that_slurm_ends_in_good_order_goes_on_and_outlives_a_node(
    cluster: list[Host], tmp_path: Path
) -> None:
    study, store = sweeps.study_of(4, SLOWLY), open_store(tmp_path / "out")
    (tmp_path / "spec.toml").write_text(sweeps.SPEC.format(seeds=4) + SLOWLY)
    (first, second), environment = cluster, slurm_environment(tmp_path)
    with submit(first, tmp_path) as job:
        wait_for(lambda: len(store.statuses()) > 0)
        assert all(host.ray_processes() for host in cluster)
        first.run("scancel", "--batch", "--signal=TERM", "1", env=environment)
        assert job.wait(PATIENCE) == 130
    record = store.read_driver()
    assert record is not None and record["state"] == "interrupted"
    before = len(store.statuses())
    assert 0 < before < 24
    wait_for(lambda: not any(host.ray_processes() for host in cluster))
    with submit(first, tmp_path) as job:
        wait_for(lambda: len(store.statuses()) > before)
        second.die()
        assert job.wait(PATIENCE) == 0, (tmp_path / "output").read_text()
    output = (tmp_path / "output").read_text()
    assert ", 2 nodes\n" in output and "the sweep ended with 0" in output.splitlines()[-1]
    wait_for(lambda: not first.ray_processes())
    fault = "Slurm ends the job in good order; submitted again; a node dies"
    sweeps.check(fault, 2, study, store, trainer=trainer_of(study))

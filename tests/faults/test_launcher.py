"""`cluster/on-premises.yaml` by `ray up`, on hosts that are namespaces of this machine and reach each other by ssh."""

from __future__ import annotations

import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from studies import trainer_of
from waiting import wait_for

from faults import hosts, sweeps
from faults.hosts import Host
from phasediag.kinds import open_store

pytestmark = pytest.mark.slow

TOOLS = ("sshd", "ssh", "ssh-keygen", "rsync")
# A home of its own, that starts with what is in that of this machine.
HOME = """
mkdir -p /run/home/upper /run/home/work /run/sshd
mount -t overlay overlay -o lowerdir="$HOME",upperdir=/run/home/upper,workdir=/run/home/work "$HOME"
mkdir -p ~/.ssh ~/.ray && cp '{folder}/key.pub' ~/.ssh/authorized_keys && cp '{folder}/key' ~/.ssh/id_ed25519 && chmod -R go= ~/.ssh
rm -rf ~/phasediag-venv ~/phasediag && ln -s '{venv}' ~/phasediag-venv
$(command -v sshd) -o StrictModes=no -o UsePAM=no -o PermitRootLogin=yes
"""


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[list[Host]]:
    """That of the operator, the head, and a worker; each lets the others in by ssh."""
    if not all(map(shutil.which, TOOLS)) or not hosts.available():
        pytest.skip("needs sshd, ssh, rsync and the rights of root")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    with hosts.running(["operator", "head", "worker"], tmp_path) as found:
        for host in found:
            host.run("sh", "-ec", HOME.format(folder=tmp_path, venv=sys.prefix))
        yield found


def write_configuration(file: Path, head: Host, worker: Host) -> None:
    """What an operator fills in, and no installation: all machines share the one that runs the tests."""
    text = (hosts.ROOT / "cluster" / "on-premises.yaml").read_text()
    content = yaml.safe_load(text)
    content["provider"] |= {"head_ip": head.address, "worker_ips": [worker.address]}
    content["auth"]["ssh_user"] = "root"
    content["max_workers"] = 1
    installs, path = content["setup_commands"][:2], content["setup_commands"][2:]
    assert all("venv" in command for command in installs) and len(path) == 1
    content["setup_commands"] = path
    file.write_text(yaml.safe_dump(content))


def test_machines_with_ssh_become_a_cluster_that_runs_a_sweep_and_is_taken_down(
    machines: list[Host], tmp_path: Path
) -> None:
    operator, head, worker = machines
    study, store, file = sweeps.study_of(2), open_store(tmp_path / "out"), tmp_path / "cluster.yaml"
    write_configuration(file, head, worker)
    (tmp_path / "spec.toml").write_text(sweeps.SPEC.format(seeds=2))

    def do(host: Host, command: str) -> str:
        return host.run("sh", "-ec", f"cd '{hosts.ROOT}'; {command}", env=hosts.environment())

    do(operator, f"printf %s {secrets.token_hex(32)} > ~/.ray/auth_token; ray up -y {file}")
    joined = f"ray exec {file} 'RAY_AUTH_MODE=token RAY_ADDRESS=auto ray status'"
    wait_for(lambda: " 2 local.cluster.node" in do(operator, joined))
    assert head.ray_processes() and worker.ray_processes()
    run = f"RAY_AUTH_MODE=token RAY_ADDRESS=auto ~/phasediag-venv/bin/phasediag run {tmp_path}/spec.toml --out {store.out}"
    assert "12 of 12 jobs finished, 0 failed" in do(operator, f"ray exec {file} '{run}'")
    do(operator, f"ray down -y {file}")
    wait_for(lambda: not head.ray_processes())
    # Ray does not stop the workers: they end when they have missed their head for a minute, but for what reads logs and the like.
    wait_for(lambda: not any("/raylet " in process for process in worker.ray_processes()))
    found = sweeps.report("", 0, study, store, trainer=trainer_of(study))
    assert (found.lost, found.duplicated, found.changed, found.stray) == (0, 0, 0, 0), found

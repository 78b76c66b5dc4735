"""Hosts that are namespaces of this machine: each has processes, a name, a network address, /tmp and /run of its own, and shares the disk.

Needs the rights of root, `unshare`, `nsenter` and `ip`.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from waiting import PATIENCE, no_longer, wait_for

ROOT = Path(__file__).parents[2]

TOOLS = ("unshare", "nsenter", "ip", "mount", "pgrep")
RAY = "raylet|gcs_server|ray::|_private/(monitor|log_monitor)|ray-dashboard"
# Its own /tmp and /run, but for what is shared; a shell as the first process, since it takes in orphans, as `sleep` does not.
_LIVE = """
set -e
hostname "$1"; hosts=$2; shift 2
mount -t tmpfs tmpfs /run
for path; do mkdir -p "/run/shared$path"; mount --bind "$path" "/run/shared$path"; done
mount -t tmpfs tmpfs /tmp
for path; do mkdir -p "$path"; mount --bind "/run/shared$path" "$path"; done
mount --bind "$hosts" /etc/hosts
ip link set lo up
exec bash -c 'while :; do sleep 1; done'
"""


def environment(**more: str) -> dict[str, str]:
    """That of this process without what it knows of Ray, and with its Python in the PATH."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **more}


@dataclass(frozen=True)
class Host:
    """A host, and the id of its first process as this machine sees it."""

    name: str
    address: str
    process: int

    def start(self, *command: str, **options: object) -> subprocess.Popen[str]:
        """Starts a command there; `options` as of `subprocess.Popen`."""
        enter = ["nsenter", "-t", str(self.process), "-m", "-u", "-n", "-p"]
        return subprocess.Popen([*enter, *command], text=True, **options)  # type: ignore[call-overload, no-any-return]

    def run(self, *command: str, **options: object) -> str:
        """Runs a command there and returns what it prints; raises `RuntimeError` if it fails."""
        pipe = subprocess.PIPE
        with no_longer(self.start(*command, stdout=pipe, stderr=subprocess.STDOUT, **options)) as process:
            output, _ = process.communicate(timeout=PATIENCE)
        if process.returncode:
            raise RuntimeError(f"{command} ended with {process.returncode}: {output}")
        return output

    def ray_processes(self) -> list[str]:
        """The command lines of what runs of Ray there."""
        with no_longer(self.start("pgrep", "-af", RAY, stdout=subprocess.PIPE)) as search:
            output, _ = search.communicate(timeout=PATIENCE)
        assert search.returncode in (0, 1), "pgrep failed"
        return output.splitlines()

    def die(self) -> None:
        """Ends all that runs there, at once, as a loss of power does."""
        os.kill(self.process, signal.SIGKILL)


def available() -> bool:
    """Whether this process may make hosts."""
    if os.geteuid() or not all(map(shutil.which, TOOLS)):
        return False
    name = f"pdtry{os.getpid() % 10000}"
    made = subprocess.run(["ip", "link", "add", name, "type", "bridge"], capture_output=True, check=False)
    subprocess.run(["ip", "link", "del", name], capture_output=True, check=False)
    unshared = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "true"]
    return not (made.returncode or subprocess.run(unshared, capture_output=True, check=False).returncode)


@contextmanager
def running(names: Sequence[str], folder: Path) -> Iterator[list[Host]]:
    """Hosts of these names, on a network of their own, for the duration of a `with` block. They share this folder and the code."""
    addresses = {name: f"10.77.0.{number}" for number, name in enumerate(names, start=11)}
    (folder / "hosts").write_text(
        "127.0.0.1 localhost\n" + "".join(f"{addresses[name]} {name}\n" for name in names)
    )
    bridge = f"pd{os.getpid() % 10000}"
    with ExitStack() as stack:
        _ip("link", "add", bridge, "type", "bridge")
        stack.callback(_ip, "link", "del", bridge)
        _ip("link", "set", bridge, "up")
        yield [stack.enter_context(_host(name, addresses[name], bridge, folder)) for name in names]


@contextmanager
def _host(name: str, address: str, bridge: str, folder: Path) -> Iterator[Host]:
    unshare = ["unshare", "--net", "--uts", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc"]
    shared = [str(path) for path in (folder, ROOT, sys.prefix)]
    with subprocess.Popen([*unshare, "sh", "-c", _LIVE, "-", name, str(folder / "hosts"), *shared]) as outer:
        children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
        try:
            wait_for(lambda: children.read_text().strip())
            host = Host(name, address, int(children.read_text()))
            wait_for(lambda: Path(f"/proc/{host.process}/cmdline").read_text().startswith("bash\0"))
            outside = f"{bridge}{name}"[:15]
            _ip("link", "add", outside, "type", "veth", "peer", "name", "eth0", "netns", str(host.process))
            _ip("link", "set", outside, "master", bridge, "up")
            host.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
            host.run("ip", "link", "set", "eth0", "up")
            yield host
        finally:
            outer.kill()  # and with it the first process of the host, and with that all of them


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)

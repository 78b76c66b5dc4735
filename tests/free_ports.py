"""Ports that nothing listens at."""

import atexit
import random
import socket
from contextlib import ExitStack

# Below those that systems give to connections, and Ray to its own servers; above those of Ray's workers.
_PORTS = range(20000, 32766, 2)

_claims = ExitStack()
atexit.register(_claims.close)


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, and that no other process that asks here gets as long as this one lives."""
    for claim in random.SystemRandom().sample(_PORTS, len(_PORTS)):
        with ExitStack() as stack:
            try:
                stack.enter_context(socket.create_server(("127.0.0.1", claim)))
                socket.create_server(("127.0.0.1", claim + 1)).close()
            except OSError:
                continue
            _claims.enter_context(stack.pop_all())  # what is listened at is taken: a sign for other processes
            return claim + 1
    raise OSError("no free port")

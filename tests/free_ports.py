"""Ports that nothing listens at."""

import socket


def free_port() -> int:
    """A port of 127.0.0.1 that is free now, outside the range that Ray gives to its workers (10002 to 19999)."""
    for _ in range(1000):
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port: int = listener.getsockname()[1]
        if not 10002 <= port <= 19999:
            return port
    raise OSError("no free port")

"""From a root, an address and a token to a running server."""

from __future__ import annotations

import socket
from pathlib import Path

import uvicorn

from ...display.terminal import say
from ...errors import InputError
from .app import make_app
from .library import Library
from .limits import HEADER_BYTES
from .loopback import is_loopback

MAX_CONNECTIONS = 512
"""64 browsers open up to six each."""
LEAST_TOKEN = 16
"""Characters of a token, at least."""


def serve(root: str, host: str, port: int, token_file: Path | None) -> None:
    """Serves the studies below a root until it is interrupted.

    Args:
        root: folder or URI.
        host: name or address of the interface to listen on.
        port: of TCP; 0 takes a free one.
        token_file: holds the token that whoever asks needs; may be None on a loopback interface only.

    Raises:
        InputError: there is no study below the root, the port is in use, the host has no such name, or the token is missing or too short.
    """
    token = _token(token_file)
    if token is None and not is_loopback(host):
        raise InputError(
            f"--host: {host} is open to others, who would need a token; allowed: 127.0.0.1, or --token-file with a file that holds one"
        )
    library = Library(root)
    with _listening(host, port) as listener:
        shown = f"[{host}]" if ":" in host else host
        say(
            f"http://{shown}:{listener.getsockname()[1]}/  ({len(library.studies())} studies; Ctrl-C ends it)"
        )
        config = uvicorn.Config(
            make_app(library, token),
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            proxy_headers=False,  # whoever asks could write there what address it has
            limit_concurrency=MAX_CONNECTIONS,
            http="h11",
            ws="none",
            h11_max_incomplete_event_size=HEADER_BYTES,
        )
        try:
            uvicorn.Server(config).run([listener])
        except KeyboardInterrupt:  # how it ends
            return


def _token(file: Path | None) -> str | None:
    if file is None:
        return None
    try:
        token = file.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not ASCII text"
        raise InputError(
            f"--token-file: {file}: cannot be read ({reason}); allowed: a file with a token"
        ) from None
    if len(token) < LEAST_TOKEN or len(token.split()) > 1:
        raise InputError(
            f"--token-file: {file}: holds no token; allowed: one word of at least {LEAST_TOKEN} characters, "
            "such as 'openssl rand -hex 16' prints"
        )
    return token


def _listening(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise InputError(
            f"--host, --port: cannot listen on {host}, port {port} ({error.strerror or error}); "
            "allowed: an address of this machine, and a free port"
        ) from None

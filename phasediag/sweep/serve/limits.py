"""How much a request may bring, and how many of them a client may send."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from ipaddress import ip_address, ip_network

from starlette.datastructures import Headers
from starlette.responses import PlainTextResponse, Response
from starlette.types import Scope

REQUESTS, REQUESTS_PER_SECOND = 2000, 100.0
"""What one client may ask at once, and in the long run. Behind a proxy or a forwarded port there may be 64 browsers, each of which asks
every two seconds; one that opens a list asks for a picture of each study."""
GUESSES, GUESSES_PER_SECOND = 10, 10 / 60
"""Wrong tokens of one client, at once and in the long run."""
CLIENTS = 4096
"""Clients that are remembered."""
ADDRESS_LENGTH, HEADER_BYTES = 2000, 16384


class Rate:
    """A bucket of tokens for each client: full at first, one token less with each count, filled again at a constant rate.

    Args:
        burst: tokens of a full bucket.
        per_second: tokens that are filled in.
        clock: the time in seconds.
    """

    def __init__(self, burst: int, per_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap, self._clock = 1.0 / per_second, clock
        self._most = (burst - 1) * self._gap + 1e-6  # a microsecond for rounding
        self._full: dict[str, float] = {}  # when buckets will be full again; the one counted last is last

    def wait(self, client: str) -> float:
        """Seconds until there is a token; 0 if there is one."""
        return max(self._full.get(client, 0.0) - self._clock() - self._most, 0.0)

    def count(self, client: str) -> None:
        """Takes a token."""
        now = self._clock()
        self._full[client] = max(self._full.pop(client, now), now) + self._gap
        if len(self._full) > CLIENTS:
            del self._full[next(iter(self._full))]


class Limits:
    """What a server refuses for its size, or its number.

    Args:
        clock: the time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._requests = Rate(REQUESTS, REQUESTS_PER_SECOND, clock)
        self._guesses = Rate(GUESSES, GUESSES_PER_SECOND, clock)

    def refusal(self, scope: Scope) -> Response | None:
        """The answer to a request that is too many, too long, or has a body; None to others."""
        client, headers = _client(scope), Headers(scope=scope)
        if seconds := self._requests.wait(client):
            return _too_many("requests", seconds)
        self._requests.count(client)
        if len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"]) > ADDRESS_LENGTH:
            return PlainTextResponse("too long an address", 414)
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return PlainTextResponse("too large headers", 431)
        if "transfer-encoding" in headers or headers.get("content-length", "0") != "0":
            return PlainTextResponse("a request has no body here", 413, {"connection": "close"})
        return None

    def too_many_guesses(self, scope: Scope) -> Response | None:
        """The answer to a token, right or wrong, after too many wrong ones; None before."""
        seconds = self._guesses.wait(_client(scope))
        return _too_many("wrong tokens", seconds) if seconds else None

    def count_guess(self, scope: Scope) -> None:
        """Takes note of a wrong token."""
        self._guesses.count(_client(scope))


def _client(scope: Scope) -> str:
    """The address of a client; of IPv6 the network, in which anybody has as many as there are."""
    host = str((scope.get("client") or ("",))[0]).partition("%")[0]
    try:
        network = ip_network((host, 64 if ip_address(host).version == 6 else 32), strict=False)
    except ValueError:  # no address
        return host
    return str(network)


def _too_many(what: str, seconds: float) -> Response:
    return PlainTextResponse(f"too many {what}", 429, {"retry-after": str(math.ceil(seconds))})

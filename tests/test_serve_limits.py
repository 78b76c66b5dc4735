"""What the server refuses for its number or its size, by a clock that the tests set."""

from __future__ import annotations

import shutil
import socket
from http.client import HTTPConnection
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from servers import served
from starlette.testclient import TestClient

from phasediag.sweep.serve import limits
from phasediag.sweep.serve.app import make_app
from phasediag.sweep.serve.library import Library
from phasediag.sweep.serve.limits import (
    ADDRESS_LENGTH,
    CLIENTS,
    GUESSES,
    GUESSES_PER_SECOND,
    HEADER_BYTES,
    REQUESTS,
    REQUESTS_PER_SECOND,
    Limits,
    Rate,
)

RESULTS = Path(__file__).parent.parent / "results"
TOKEN = "0123456789abcdef"
RIGHT, WRONG = ("anybody", TOKEN), ("anybody", TOKEN[:-1])


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(RESULTS / "condensation_mnist", root / "early")
    return root


def client(root: Path, clock: Clock, token: str | None = None, *addresses: str) -> list[TestClient]:
    """Clients of one application, one for each address."""
    app = make_app(Library(str(root)), token, Limits(clock))
    return [
        TestClient(app, base_url="http://127.0.0.1:8080", client=(address, 50000)) for address in addresses
    ]


def test_64_browsers_behind_one_address_may_open_pages_and_ask_every_two_seconds(clock: Clock) -> None:
    rate = Rate(REQUESTS, REQUESTS_PER_SECOND, clock)
    for second in range(0, 600, 2):
        for _ in range(64 * (30 if second == 0 else 1)):
            assert rate.wait("proxy") == 0.0
            rate.count("proxy")
        clock.now += 2.0


def test_a_flood_is_refused_until_its_time_has_come_and_others_are_not(
    root: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "REQUESTS", 5)
    monkeypatch.setattr(limits, "REQUESTS_PER_SECOND", 0.5)
    flood, other = client(root, clock, None, "192.0.2.1", "192.0.2.2")
    assert [flood.get("/").status_code for _ in range(7)] == [200] * 5 + [429] * 2
    answer = flood.get("/")
    assert answer.headers["retry-after"] == "2"
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert other.get("/").status_code == 200
    clock.now += 1.5
    assert flood.get("/").headers["retry-after"] == "1"
    clock.now += 0.5
    assert [flood.get("/").status_code for _ in range(2)] == [200, 429]
    clock.now += 1000.0
    assert [flood.get("/").status_code for _ in range(6)] == [200] * 5 + [429]


def test_after_ten_wrong_tokens_none_is_looked_at_for_a_while(root: Path, clock: Clock) -> None:
    guesser, other = client(root, clock, TOKEN, "192.0.2.1", "192.0.2.2")
    codes = [guesser.get("/", auth=WRONG).status_code for _ in range(GUESSES + 2)]
    assert codes == [401] * GUESSES + [429] * 2
    refused = guesser.get("/", auth=RIGHT)
    assert (refused.status_code, refused.text) == (429, "too many wrong tokens")
    assert 0 < int(refused.headers["retry-after"]) <= 1 / GUESSES_PER_SECOND
    assert other.get("/", auth=RIGHT).status_code == 200
    clock.now += 1 / GUESSES_PER_SECOND
    assert [guesser.get("/", auth=WRONG).status_code for _ in range(2)] == [401, 429]
    clock.now += 1 / GUESSES_PER_SECOND
    assert [guesser.get("/", auth=RIGHT).status_code for _ in range(3)] == [200] * 3
    guesser.get("/", auth=WRONG)
    looked_at = 0
    for _ in range(60):
        clock.now += 1.0
        looked_at += guesser.get("/", auth=WRONG).status_code == 401
    assert looked_at == 10


def test_who_has_not_been_asked_for_the_token_yet_does_not_guess(root: Path, clock: Clock) -> None:
    [browser] = client(root, clock, TOKEN, "192.0.2.1")
    assert {browser.get("/").status_code for _ in range(3 * GUESSES)} == {401}
    assert browser.get("/", auth=RIGHT).status_code == 200


def test_a_network_of_ipv6_is_one_client(root: Path, clock: Clock) -> None:
    first, second, other = client(root, clock, TOKEN, "2001:db8::1", "2001:db8::2%eth0", "2001:db8:1::1")
    for _ in range(GUESSES):
        assert first.get("/", auth=WRONG).status_code == 401
    assert second.get("/", auth=RIGHT).status_code == 429
    assert other.get("/", auth=RIGHT).status_code == 200


def test_a_bounded_number_of_clients_is_remembered_those_that_were_seen_last(clock: Clock) -> None:
    rate = Rate(1, 1e-3, clock)
    for number in range(CLIENTS + 10):
        rate.count(str(number))
        rate.count("always")
    assert len(rate._full) == CLIENTS
    assert rate.wait("0") == 0.0 < rate.wait(str(CLIENTS)) < rate.wait("always")


@pytest.mark.parametrize(
    ("address", "headers", "content", "status"),
    [
        (f"/content/{'x' * (ADDRESS_LENGTH - 9)}", {}, None, 404),
        (f"/content/{'x' * (ADDRESS_LENGTH - 8)}", {}, None, 414),
        (f"/?{'x' * ADDRESS_LENGTH}", {}, None, 414),
        (f"/content/{'%20' * (ADDRESS_LENGTH // 3)}", {}, None, 414),
        ("/", {"x-more": "x" * (HEADER_BYTES // 2)}, None, 200),
        ("/", {"x-more": "x" * HEADER_BYTES}, None, 431),
        ("/", {f"x-{number}": "x" * 100 for number in range(200)}, None, 431),
        ("/", {}, b"body", 413),
        ("/", {}, iter([b"bo", b"dy"]), 413),
        ("/", {}, b"", 200),
    ],
)
def test_what_is_too_long_or_has_a_body_is_refused(
    root: Path, clock: Clock, address: str, headers: dict[str, str], content: bytes | None, status: int
) -> None:
    [browser] = client(root, clock, None, "192.0.2.1")
    assert browser.request("GET", address, headers=headers, content=content).status_code == status


def test_a_running_server_bounds_what_it_holds_of_a_request_and_64_browsers_live(root: Path) -> None:
    with served(str(root)) as address:
        host, port = str(urlsplit(address).hostname), int(urlsplit(address).port or 0)
        with socket.create_connection((host, port), timeout=60) as half:
            half.sendall(b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"x" * HEADER_BYTES)
            assert half.recv(12) == b"HTTP/1.1 400"
        with socket.create_connection((host, port), timeout=60) as endless:
            endless.sendall(
                b"GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n" + b"x" * 1000
            )
            answer = b""
            while part := endless.recv(4096):  # until the server closes
                answer += part
            assert answer.startswith(b"HTTP/1.1 413")
        browsers = [HTTPConnection(host, port, timeout=60) for _ in range(6 * 64)]
        for browser in browsers:
            browser.request("GET", "/static/serve.css", headers={"x-forwarded-for": "192.0.2.9"})
        answers = [browser.getresponse() for browser in browsers]
        assert {(answer.status, len(answer.read()) > 0) for answer in answers} == {(200, True)}
        for browser in browsers:
            browser.close()

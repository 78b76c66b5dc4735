"""`list` and `serve` over a bucket: moto's server, in this process; its client is the real one."""

from __future__ import annotations

import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faults import buckets
from pyarrow import fs
from servers import served
from starlette.testclient import TestClient
from typer.testing import CliRunner

from phasediag.cli import app
from phasediag.kinds import open_store
from phasediag.sweep.lease import hold
from phasediag.sweep.listing import DAMAGED, list_studies
from phasediag.sweep.serve import library as libraries
from phasediag.sweep.serve.app import make_app
from phasediag.sweep.serve.library import Library

RESULTS = Path(__file__).parent.parent / "results"
EVIL = "<img src=x onerror=alert(1)> γ=1?x#50 %"


@pytest.fixture(scope="module")
def server() -> Iterator[buckets.Server]:
    with buckets.bucket_server() as found:
        yield found


@pytest.fixture
def s3(server: buckets.Server) -> fs.FileSystem:
    return fs.FileSystem.from_uri("s3://bucket")[0]


@pytest.fixture
def root(server: buckets.Server, s3: fs.FileSystem, tmp_path: Path) -> Iterator[str]:
    """Two published studies, one under a hostile name."""
    root = f"bucket/{tmp_path.name}"
    for name, folder in (("papers/zhou_2022a_scaling", f"maps/{EVIL}"), ("condensation_mnist", "early")):
        fs.copy_files(str(RESULTS / name), f"{root}/{folder}", fs.LocalFileSystem(), s3)
    yield f"s3://{root}"
    server.fault, server.part = "", ""


@pytest.fixture
def client(root: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(libraries, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(libraries, "SHARE", float("inf"))
    with TestClient(make_app(Library(root), None), base_url="http://127.0.0.1:8080") as client:
        yield client


def shown(client: TestClient) -> dict[str, Any]:
    return {study["folder"]: study for study in client.get("/studies.json").json()["studies"]}


def files(s3: fs.FileSystem, folder: str) -> list[str]:
    return [info.path for info in s3.get_file_info(fs.FileSelector(folder.removeprefix("s3://")))]


def test_studies_of_a_bucket_are_listed(root: str) -> None:
    lines = CliRunner().invoke(app, ["list", root]).stdout.splitlines()
    assert [line.split()[0] for line in lines if "layers" in line or "neurons" in line] == [
        "early",
        "maps/<img",
    ]


@pytest.mark.parametrize("options", ["", "?region=us-east-1"])
def test_names_that_no_uri_may_hold_and_options_of_a_uri_lead_to_the_studies(root: str, options: str) -> None:
    early, hostile = list_studies(root + options)
    assert (early.folder, early.error, hostile.error) == ("early", "", "")
    assert (hostile.folder, hostile.state, hostile.finding) == (f"maps/{EVIL}", "complete", "W1 off 0.000")


def test_a_page_of_a_bucket_opens_and_follows_its_sweep(
    client: TestClient, root: str, s3: fs.FileSystem
) -> None:
    address, key = f"maps/{EVIL}", f"{root.removeprefix('s3://')}/maps/{EVIL}"
    path = f"/content/{urllib.request.quote(address)}"
    assert list(shown(client)) == ["early", address]
    first = client.get(path)
    assert first.status_code == 200 and b"scaling" in first.content
    assert client.get(path, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    for file in files(s3, f"{key}/runs"):
        s3.delete_file(file)
    second = client.get(path)
    assert second.headers["etag"] != first.headers["etag"] and b"No job has rows yet" in second.content
    assert (shown(client)[address]["state"], shown(client)[address]["status"]["missing"]) == ("stopped", 45)
    with hold(open_store(key, s3)):
        assert shown(client)[address]["state"] == "running"


def test_a_server_in_a_process_of_its_own_reads_a_bucket(root: str) -> None:
    with served(root) as address, urllib.request.urlopen(f"{address}/content/early", timeout=60) as answer:
        assert answer.status == 200 and b"condensation" in answer.read()


def test_a_study_that_vanishes_from_a_bucket_is_gone_from_the_list(
    client: TestClient, root: str, s3: fs.FileSystem
) -> None:
    assert client.get("/content/early").status_code == 200
    s3.delete_dir(f"{root.removeprefix('s3://')}/early")
    assert list(shown(client)) == [f"maps/{EVIL}"]
    assert client.get("/content/early").status_code == client.get("/state/early").status_code == 404
    s3.delete_dir(root.removeprefix("s3://"))
    assert shown(client) == {} and client.get("/").status_code == 200


def test_what_may_not_be_read_any_more_is_a_row_or_gone(
    client: TestClient, server: buckets.Server, root: str
) -> None:
    assert client.get("/content/early").status_code == 200
    server.fault, server.part = "deny", "early/runs"
    assert (shown(client)["early"]["state"], client.get("/content/early").status_code) == (DAMAGED, 409)
    assert "early/runs: cannot be listed" in shown(client)["early"]["error"]
    for part in ("early", ""):
        server.part = part
        assert "early" not in shown(client)
        assert client.get("/content/early").status_code == client.get("/state/early").status_code == 404
    server.fault = ""
    assert (shown(client)["early"]["state"], client.get("/content/early").status_code) == ("complete", 200)


def test_a_folder_that_may_not_be_read_does_not_hide_the_others(server: buckets.Server, root: str) -> None:
    server.fault, server.part = "deny", "early"
    assert [study.folder for study in list_studies(root)] == [f"maps/{EVIL}"]


@pytest.mark.parametrize("command", ["list", "serve"])
@pytest.mark.parametrize(
    ("fault", "place", "words"),
    [
        ("deny", "s3://bucket", "credentials in the environment"),
        ("deny", "s3://bucket/x", "credentials in the environment"),
        ("", "s3://no-such-bucket", "is not there"),
        ("", "s3://no-such-bucket/x", "is not there"),
        ("", "s3://bucket/nowhere", "is not there"),
        ("", "s3://", "names no bucket"),
    ],
)
def test_what_is_no_root_is_one_line(
    server: buckets.Server, root: str, monkeypatch: pytest.MonkeyPatch, command: str, fault: str, place: str, words: str
) -> None:  # fmt: skip
    if fault:
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.delenv(name)
    server.fault = fault
    result = CliRunner().invoke(app, [command, place])
    assert (result.exit_code, result.stdout) == (2, "")
    assert re.fullmatch(rf"error: {place}: .*{words}.*\n", result.stderr) and "; allowed: " in result.stderr

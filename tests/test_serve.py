"""The server over a folder of studies: what it answers, what it refuses, and that it follows a sweep."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pytest
from matplotlib.image import imread
from starlette.testclient import TestClient
from test_report import make_folder, rows_of, table_of

from phasediag.errors import InputError
from phasediag.kinds import open_store, stored_study
from phasediag.phase_diagram.columns import TABLES
from phasediag.sweep.lease import hold
from phasediag.sweep.results import fit_folder
from phasediag.sweep.serve import library as libraries
from phasediag.sweep.serve.app import make_app
from phasediag.sweep.serve.library import Library
from phasediag.sweep.serve.server import serve

RESULTS = Path(__file__).parent.parent / "results"
TOKEN = "0123456789abcdef"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two published studies, one in a folder of folders, whose names are hostile."""
    for name, folder in (("papers/zhou_2022a_scaling", f"maps/{EVIL}"), ("condensation_mnist", "early")):
        shutil.copytree(RESULTS / name, tmp_path / folder)
    return tmp_path


@pytest.fixture
def client(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    monkeypatch.setattr(libraries, "FRESH_SECONDS", 0.0)
    with TestClient(make_app(Library(str(root)), None), base_url="http://127.0.0.1:8080") as client:
        yield client


def test_it_lists_studies_and_shows_each(client: TestClient, root: Path) -> None:
    found = {study["folder"]: study for study in client.get("/studies.json").json()["studies"]}
    assert list(found) == ["early", f"maps/{EVIL}"]
    study = found[f"maps/{EVIL}"]
    assert (study["state"], study["status"]["total"], study["finding"]) == ("complete", 45, "W1 off 0.000")
    shown = client.get(f"/content/maps/{EVIL}")
    assert client.get(f"/state/maps/{EVIL}").json()["tag"] == shown.headers["etag"].strip('"')
    assert shown.json()["runs"] == 45 and "runs_of" not in shown.json()
    runs = [
        client.get(f"/runs/maps/{EVIL}", params={"cell": cell}).json()["id"] for cell in shown.json()["cells"]
    ]
    assert sum(map(len, runs)) == len({one for of in runs for one in of}) == 45
    assert client.get(f"/runs/maps/{EVIL}", params={"cell": "1,2"}).json()["id"] == []
    for page in ("/", f"/study/maps/{quote(EVIL)}", "/study/early"):
        text = client.get(page).text
        assert EVIL not in text
        parts = re.findall('(?:src|href)="(/[^"]+)"', text)
        assert len(parts) > 2 and {client.get(part).status_code for part in parts} == {200}
    assert "drawScaling" in client.get(f"/script/maps/{quote(EVIL)}").text
    assert "drawSnapshot" in client.get("/script/early").text
    for folder, one in found.items():
        picture = client.get(f"/picture/{folder}")
        assert (picture.status_code == 200) == picture.content.startswith(b"\x89PNG") == bool(one["picture"])


def test_what_has_not_changed_is_not_sent_again(client: TestClient, root: Path) -> None:
    for address in (
        "/studies.json",
        "/state/early",
        f"/content/maps/{EVIL}",
        "/",
        "/study/early",
        "/static/plotly.js",
    ):
        first = client.get(address)
        again = client.get(address, headers={"if-none-match": first.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


def test_a_sweep_is_followed_from_its_start_to_its_end(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(libraries, "SHARE", float("inf"))
    out, address = root / "maps" / EVIL, f"maps/{EVIL}"
    files = list((out / "runs").iterdir())
    rows = [file.read_bytes() for file in files]
    for file in files:
        file.unlink()

    def look() -> tuple[str, int, str]:
        state = client.get(f"/state/{address}").json()
        page = client.get(f"/content/{address}")
        assert page.headers["etag"].strip('"') == state["tag"]
        return state["state"], state["status"]["missing"], state["tag"]

    state, missing, stopped = look()
    assert (state, missing) == ("stopped", 45)
    with hold(open_store(out)):
        state, missing, begun = look()
        assert (state, missing) == ("running", 45)
        for file, content in zip(files, rows, strict=True):
            file.write_bytes(content)
        state, missing, filled = look()
        assert (state, missing) == ("running", 0)
    assert look()[:2] == ("complete", 0)
    assert len({stopped, begun, filled, look()[2]}) == 4


def test_a_page_under_way_is_not_made_again_at_once(
    client: TestClient, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tag stays that of the page that is there, or a browser would take an old page for a new one."""
    monkeypatch.setattr(libraries, "SHARE", 1e-9)
    out = f"maps/{EVIL}"
    [file] = (root / out / "runs").iterdir()
    tags = [client.get(f"/content/{out}").headers["etag"]]
    with hold(open_store(root / out)):
        for seconds in (1, 2):
            os.utime(file, (seconds, seconds))
            tags.append(client.get(f"/content/{out}").headers["etag"])
            assert client.get(f"/state/{out}").json()["tag"] == tags[-1].strip('"')
    assert tags[0] != tags[1] == tags[2]


def test_studies_appear_and_vanish_and_damaged_ones_say_so(client: TestClient, root: Path) -> None:
    shutil.copytree(root / "early", root / "new")
    (root / "new" / "data.npz").write_text("no data")
    found = {study["folder"]: study for study in client.get("/studies.json").json()["studies"]}
    assert found["new"]["state"] == "damaged" and "data.npz" in found["new"]["error"]
    assert client.get("/content/new").status_code == 409
    shutil.rmtree(root / "new")
    assert client.get("/state/new").status_code == client.get("/content/new").status_code == 404
    shutil.rmtree(root)
    assert client.get("/studies.json").json()["studies"] == []


def test_it_answers_get_alone_and_writes_nothing(client: TestClient, root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS"):
        assert client.request(method, "/studies.json").status_code == 405
    for address in ("/", "/studies.json", f"/content/maps/{EVIL}", "/picture/early"):
        assert client.get(address).status_code in (200, 204)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_studies_side_by_side_tell_what_differs(client: TestClient, root: Path) -> None:
    study = f"maps/{EVIL}"
    shutil.copytree(root / study, root / "other")
    text = (root / "other" / "study.toml").read_text()
    (root / "other" / "study.toml").write_text(text.replace("zhou-2022a-scaling", "other"))
    runs = open_store(root / "other").runs()
    next((root / "other" / "runs").iterdir()).unlink()
    steeper = runs["relative_change"] * (runs["width"] / runs["width"].min()) ** 0.1
    open_store(root / "other").publish_runs(
        pa.Table.from_pandas(runs.assign(relative_change=steeper), TABLES.runs.schema, preserve_index=False)
    )
    query = {"study": [study, "other"]}
    found = client.get("/beside.json", params=query).json()
    assert found["specs"] == [["name", "zhou-2022a-scaling", "other"]]
    slopes = {row[0]: row for row in found["tables"][0]["rows"]}
    assert slopes["W1, slope over the widths"][2] == "0.1000"
    for name in found["figures"]:
        figure = client.get(f"/difference/{name}", params=query)
        assert figure.content.startswith(b"\x89PNG") and figure.headers["content-type"] == "image/png"
    assert client.get("/difference/none", params=query).status_code == 404
    assert client.get("/beside.json", params={"study": [study, "nowhere"]}).status_code == 404
    apart = client.get("/beside.json", params={"study": [study, "early"]}).json()
    assert apart["reason"] == "They are of different kinds." and apart["tables"] == []
    assert {"kind": ["phase-diagram", "condensation"]}.items() <= {
        row[0]: row[1:] for row in apart["specs"]
    }.items()
    three = client.get("/beside.json", params={"study": [study, "other", "early"]}).json()
    assert {len(row) for row in three["specs"]} == {4} and three["reason"] == ""


@pytest.mark.parametrize("what", ["study", "content", "runs", "state", "script", "style", "static"])
@pytest.mark.parametrize(
    "path", ["../early", "early/../../early", "%2e%2e/early", "/etc", "early/runs", "app.py", ""]
)
def test_no_path_leaves_the_root(client: TestClient, what: str, path: str) -> None:
    assert client.get(f"/{what}/{path}").status_code == 404


def test_the_picture_of_a_map_is_its_colours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a finished map what is in slopes.parquet, of one that is under way, or has stopped, what its rows show so far."""
    monkeypatch.setattr(libraries, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(libraries, "SHARE", float("inf"))
    (tmp_path / "root").mkdir()
    store = make_folder(tmp_path / "root" / "map", rows=lambda study: rows_of(study).query("gamma < 1.7"))
    with TestClient(make_app(Library(str(tmp_path / "root")), None), base_url="http://localhost") as client:
        tag = client.get("/studies.json").json()["studies"][0]["picture"]
        assert imread(io.BytesIO(client.get(f"/picture/map?{tag}").content)).shape == (3, 4, 4)
        with hold(store):
            tag = client.get("/studies.json").json()["studies"][0]["picture"]
            under_way = imread(io.BytesIO(client.get(f"/picture/map?{tag}").content))
            assert under_way.shape == (3, 4, 4)
            for _, rows in rows_of(stored_study(store)).groupby("status"):
                store.publish_runs(table_of(rows, TABLES.runs))
            assert client.get("/studies.json").json()["studies"][0]["picture"] != tag
            whole = imread(io.BytesIO(client.get("/picture/map").content))
            assert whole.shape == (3, 5, 4)
        fit_folder(store)
        assert np.array_equal(imread(io.BytesIO(client.get("/picture/map").content)), whole)
    first, last = whole[0, 0], whole[0, -1]  # the slope is negative on the left, positive on the right
    assert first[2] > first[0] and last[0] > last[2]


def test_links_do_not_leave_the_root(
    client: TestClient, root: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A folder that is a link out of the root is no study of it. A study that has such a link within says so, and nothing of it is read."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    shutil.copytree(root / "early", elsewhere / "secret")
    (root / "link").symlink_to(elsewhere / "secret")
    rows = next((root / "early/runs").iterdir()).name
    parts = ["study.toml", "runs", "counts.parquet", f"runs/{rows}"]
    for i, part in enumerate(parts):
        shutil.copytree(root / "early", root / str(i))
        (root / str(i) / part).rename(elsewhere / str(i))
        (root / str(i) / part).symlink_to(elsewhere / str(i))
    listed = {study["folder"]: study for study in client.get("/studies.json").json()["studies"]}
    assert set(listed) == {"early", f"maps/{EVIL}", "0", "1", "2", "3"}
    for i, part in enumerate(parts):
        assert listed[str(i)]["error"].startswith(f"{root}/{i}/{part}: is a link out of {root}; allowed: ")
        assert client.get(f"/content/{i}").status_code == client.get(f"/runs/{i}").status_code == 409
        assert client.get(f"/beside.json?study=early&study={i}").status_code == 409
    assert client.get("/content/link").status_code == 404
    [alone] = Library(str(root / "3")).studies()
    assert alone.error.startswith(f"{root}/3/runs/{rows}: is a link out of {root}/3; allowed: ")
    (root / "2/counts.parquet").unlink()
    assert client.get("/content/2").status_code == 200


def test_a_folder_may_have_any_name(client: TestClient, root: Path) -> None:
    for name in ("a#b?c=d&e", "line\nbreak", "größe 图", "<b>"):
        shutil.copytree(root / "early", root / name)
        assert client.get(f"/content/{quote(name)}").status_code == 200


def test_every_answer_forbids_what_it_does_not_need(client: TestClient) -> None:
    for address in ("/", "/studies.json", "/nothing", "/state/early", "/study/early"):
        headers = client.get(address).headers
        assert "default-src 'none'; script-src 'self'; " in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 200),
        ("127.0.0.2:1", 200),
        ("LOCALHOST", 200),
        ("[::1]:1", 200),
        ("evil.com", 421),
        ("127.0.0.1.evil.com:80", 421),
        ("localhost:80:evil.com", 421),
        ("10.0.0.1", 421),
        ("", 421),
    ],
)
def test_without_a_token_it_answers_to_names_of_this_machine_alone(
    client: TestClient, host: str, status: int
) -> None:
    assert client.get("/studies.json", headers={"host": host}).status_code == status


def test_with_a_token_it_asks_for_it(root: Path) -> None:
    with TestClient(make_app(Library(str(root)), TOKEN), base_url="http://node:8080") as client:
        assert client.get("/").status_code == 401
        assert client.get("/", headers={"authorization": "Basic !"}).status_code == 401
        assert client.get("/", auth=("anybody", TOKEN[:-1])).status_code == 401
        assert client.get("/", headers={"authorization": f"Bearer {TOKEN}"}).status_code == 401
        assert client.get("/studies.json", auth=("anybody", TOKEN)).status_code == 200


def test_what_cannot_be_served_is_refused(root: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    (folder / "short").write_text("secret")
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(InputError, match="--token-file with a file"):
            serve(str(root), host, 0, None)
    with pytest.raises(InputError, match="at least 16 characters"):
        serve(str(root), "0.0.0.0", 0, folder / "short")
    with pytest.raises(InputError, match="No such file"):
        serve(str(root), "127.0.0.1", 0, folder / "none")
    with pytest.raises(InputError, match="is not there"):
        serve(str(root / "nowhere"), "127.0.0.1", 0, None)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port}"):
            serve(str(root), "127.0.0.1", port, None)

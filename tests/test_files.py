"""Folders and file systems that do less than others: they are worked with, or refused before anything is written."""

from __future__ import annotations

import errno
import os
from contextlib import nullcontext
from pathlib import Path

import pytest
from faults.buckets import Server
from studies import store_of

from phasediag.errors import InputError
from phasediag.storage import files
from phasediag.storage.files import Files, write_file


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP, errno.ENOSYS])
def test_a_file_system_that_cannot_synchronise_is_written_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", refuse)
    Files(tmp_path / "out").publish("a/b", b"content")
    write_file(tmp_path / "c", b"content")
    assert (tmp_path / "out/a/b").read_bytes() == (tmp_path / "c").read_bytes() == b"content"
    assert not list((tmp_path / "out/.staging").iterdir())


def test_a_disk_that_fails_to_synchronise_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output"):
        Files(tmp_path / "out").publish("b", b"content")
    assert not (tmp_path / "out/b").exists()


@pytest.mark.parametrize(
    ("out", "lasts"),
    [
        ("{0}/runtime_resources/working_dir_files/pkg/out", False),
        ("{0}/link", False),
        ("{0}/out", True),
        ("{0}/working_dir_files/out", True),
    ],
)
def test_a_folder_lasts_unless_ray_deletes_what_is_above_it(tmp_path: Path, out: str, lasts: bool) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "runtime_resources/working_dir_files/pkg")
    with nullcontext() if lasts else pytest.raises(InputError, match="Ray deletes after the job; allowed: "):
        Files(out.format(tmp_path)).check_lasting()


@pytest.mark.parametrize("reads", [3, 1000])
def test_a_file_that_somebody_reads_is_replaced_when_they_are_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reads: int
) -> None:
    """On Windows and its shares nobody can replace a file that is open."""
    monkeypatch.setattr(files, "_REPLACE_PATIENCE", (0.0,) * 5)
    replace, tried = Path.replace, []

    def busy(path: Path, target: Path) -> Path:
        tried.append(path)
        if len(tried) <= reads:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", busy)
    (tmp_path / "b").write_bytes(b"before")
    if reads < 5:
        Files(tmp_path).publish("b", b"after")
        assert (tmp_path / "b").read_bytes() == b"after"
    else:
        with pytest.raises(PermissionError):
            Files(tmp_path).publish("b", b"after")
        assert (tmp_path / "b").read_bytes() == b"before" and len(tried) == 6


@pytest.mark.parametrize("where", ["out", "out/study", "circle"])
def test_a_link_that_leads_nowhere_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "cleared" / "results")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(InputError, match=r"is a link to .*, which does not exist; allowed: a folder"):
        Files(tmp_path / where).check_writable("")
    assert sorted(tmp_path.iterdir()) == before


def test_a_link_to_a_folder_is_followed(tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "scratch")
    found = Files(tmp_path / "out")
    found.check_writable("")
    found.publish("runs/a", b"content")
    assert (tmp_path / "scratch/runs/a").read_bytes() == b"content"


@pytest.mark.parametrize(
    "out", ["file:/x/y", "file:x", "s3:bucket/x", "s3:/bucket/x", "S3:bucket", "gs:/bucket", "https:host/x"]
)
def test_what_is_nearly_a_uri_is_no_folder(out: str) -> None:
    with pytest.raises(InputError, match="is neither a URI nor a folder; allowed: a URI with ://") as caught:
        Files(out)
    assert f"./{out} for a folder" in str(caught.value)
    assert Files(f"./{out}").local


@pytest.mark.parametrize("out", ["2026-11-28T10:00", "width:100", "x:/y"])
def test_folders_may_have_colons(out: str) -> None:
    assert Files(out).root == str(Path(out).absolute())


def test_the_home_directory_has_a_short_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert Files("~/results").root == str(tmp_path / "results")
    assert Files("./~/results").root == str(Path("~/results").absolute())
    with pytest.raises(InputError, match="there is no such home directory"):
        Files("~nobody-of-this-name/results")


def test_a_bucket_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server()
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    try:
        store = store_of("phase-diagram", "s3://no-such-bucket/study")
        with pytest.raises(InputError, match="there is no bucket no-such-bucket"):
            store.check_writable()
    finally:
        server.stop()

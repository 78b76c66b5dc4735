"""Files of a local folder or a bucket: reading, listing, and publication of complete files only.

A file is written aside, in `.staging`, and moved into place when it is complete. An object store shows only complete objects, so there a
file is written in one go under its final name.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import TypeVar
from urllib.parse import quote, urlsplit

import pyarrow as pa
from pyarrow import fs

from ..errors import InputError, one_line
from ..spec.paths import at_home

READERS = 8
# Object stores have no folders to create: a marker object in their place would only be in the way.
_OBJECT_STORES = ("s3", "gcs", "abfs")
# In the options of a URI, words that credentials go by, and the sign that sets them off in a nested one.
_SECRETS = ("access_key", "account_key", "secret", "password", "token", "credential", "sas", "@", "%40")
# A URI that lacks a slash, which would be a folder here: s3:bucket/x as rclone takes it, file:/x.
_NEARLY_URI = r"(file|s3|s3a|s3n|gs|gcs|abfss?|az|adl|wasbs?|hdfs|viewfs|https?):(?!//).*"
# The folder of a Ray's session into which it copies the working directories of jobs.
_RAYS_COPY = ("runtime_resources", "working_dir_files")
# What a file system says that cannot make a folder, or a file, durable.
_NOT_SYNCHRONISED = (errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES)
# While somebody reads a file, some systems let nobody replace it: Windows, and shares of it.
_REPLACE_PATIENCE = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_T = TypeVar("_T")


def patiently(
    work: Callable[[], _T],
    patience: Sequence[float],
    passing: tuple[type[Exception], ...] = (OSError, InputError),
) -> _T:
    """Does something with a storage that may not answer now and do so in a moment; raises what the last attempt raises.

    Args:
        work: what to do.
        patience: seconds to wait after each attempt but the last.
        passing: what may be over in a moment.
    """
    for seconds in patience:
        try:
            return work()
        except passing:
            time.sleep(seconds)
    return work()


Stamp = tuple[int, int]
"""Size and time of writing, in nanoseconds since the epoch, of a file: another stamp, another content."""
Mark = tuple[tuple[str, Stamp], ...]
"""The names of files, and their stamps."""


class Forbidden(InputError):
    """A folder that this user, or these credentials, may not look into."""


class Files:
    """The files below one folder. Opening it creates nothing.

    Reading raises `InputError` for what cannot be reached; writing, once `check_writable` has passed, raises `OSError` as the file system
    does.

    Args:
        out: a local folder, or any URI that `pyarrow.fs` resolves (``s3://bucket/prefix``).
        filesystem: in place of the one that `out` implies; `out` is then a path on it.

    Raises:
        InputError: the URI is not understood, or its file system cannot be set up.
    """

    def __init__(self, out: str | Path, filesystem: fs.FileSystem | None = None) -> None:
        self.out = str(out)
        if not self.out.strip():
            raise InputError("OUT: is empty; allowed: a folder, or a URI such as s3://bucket/prefix")
        self.filesystem, root = (filesystem, self.out) if filesystem else _resolve(self.out)
        self.local = isinstance(self.filesystem, fs.LocalFileSystem)
        self.root = str(Path(root).absolute()) if self.local else root.rstrip("/")

    def name(self, path: str) -> str:
        """A file or folder below the folder, as one names it: by a URI, where the folder has one."""
        if "://" not in self.out:
            return f"{self.out.rstrip('/')}/{path}"
        place, mark, options = self.out.partition("?")
        return f"{place.rstrip('/')}/{quote(path)}{mark}{options}"

    def within(self, path: str) -> str:
        """The path of a file within the folder, from its path on the file system."""
        return path.removeprefix(f"{self.root}/")

    # What is there.

    def is_file(self, path: str) -> bool:
        """Whether there is a file of this path."""
        return bool(self._info(path).type == fs.FileType.File)

    def is_within(self, path: str) -> bool:
        """Whether a path is still in the folder when all links are followed."""
        return not self.local or _is_in(Path(self.root, path), Path(os.path.realpath(self.root)))

    def links_out(self, path: str) -> list[str]:
        """The names of the links in a folder that lead out of the folder of these files, sorted."""
        if not self.local:
            return []
        with suppress(NotADirectoryError, FileNotFoundError), os.scandir(Path(self.root, path)) as entries:
            links = sorted(entry.name for entry in entries if entry.is_symlink())
            return [name for name in links if not self.is_within(f"{path}/{name}".lstrip("/"))]
        return []

    def is_folder(self, path: str = "") -> bool:
        """Whether there is a folder of this path."""
        return bool(self._info(path).type == fs.FileType.Directory)

    def read(self, path: str) -> bytes | None:
        """The content of a file; None if there is none."""
        if not self.is_file(path):
            return None
        try:
            with self.filesystem.open_input_stream(self._path(path)) as stream:
                return bytes(stream.read())
        except OSError as error:
            raise InputError(f"{self.name(path)}: cannot be read ({one_line(error)})") from None

    def digests(self, paths: Collection[str]) -> dict[str, str]:
        """A hash of the content of each of these files, read several at a time; "" of one that is not there."""
        with ThreadPoolExecutor(READERS) as pool:
            contents = pool.map(self.read, paths)
            hashes = ("" if content is None else sha256(content).hexdigest() for content in contents)
            return dict(zip(paths, hashes, strict=True))

    def parquet(self, folder: str) -> dict[str, Stamp]:
        """Paths, on the file system, of the Parquet files in a folder, sorted, and the stamp of each. Like all readers of Parquet, ignores
        names with `_` or `.` first."""
        visible = [info for info in self._listed(folder) if not info.base_name.startswith(("_", "."))]
        for info in visible:
            if info.type != fs.FileType.File or info.extension != "parquet":
                stray = self.name(f"{folder}/{info.base_name}")
                raise InputError(f"{stray}: does not belong there; allowed: Parquet files")
        return {info.path: (info.size, info.mtime_ns) for info in sorted(visible, key=lambda info: info.path)}

    def folders(self, path: str = "") -> list[str]:
        """The names of the folders in a folder, sorted, without hidden ones, and without links to a folder that they are in."""
        return sorted(
            info.base_name
            for info in self._listed(path)
            if info.type == fs.FileType.Directory
            and not info.base_name.startswith((".", "_"))
            and not (self.local and _is_circle(Path(info.path)))
        )

    def mark(self, path: str = "") -> Mark:
        """Name and stamp of each file in a folder."""
        files = [info for info in self._listed(path) if info.type == fs.FileType.File]
        return tuple(sorted((info.base_name, (info.size, info.mtime_ns)) for info in files))

    def for_each(self, folder: str, work: Callable[[str], _T]) -> list[_T]:
        """What `work` returns for the path of every Parquet file in a folder, several at a time."""
        with ThreadPoolExecutor(READERS) as pool:
            return list(pool.map(work, self.parquet(folder)))

    # Changes.

    def publish(self, path: str, content: bytes) -> None:
        """Makes `content` appear under `path`, complete or not at all."""
        if self.local:
            _replace(Path(self.root, path), content, Path(self.root, ".staging"))
            return
        target = self._path(path)
        if self.filesystem.type_name in _OBJECT_STORES:
            self._write(target, content)
            return
        aside = self._path(f".staging/{PurePosixPath(path).name}.{uuid.uuid4().hex}")
        for file in (aside, target):
            self.filesystem.create_dir(str(PurePosixPath(file).parent), recursive=True)
        self._write(aside, content)
        self.filesystem.move(aside, target)

    def delete(self, path: str) -> None:
        """Deletes the file at this path."""
        self.filesystem.delete_file(self._path(path))

    def clean_staging(self, older_than: float) -> int:
        """Removes files that processes left half-written when they were killed, and returns how many.

        Younger files than `older_than` seconds stay: another driver may be writing them.
        """
        staging = Path(self.root, ".staging")
        if not (self.local and staging.is_dir()):
            return 0
        limit = time.time() - older_than
        stale = [path for path in staging.iterdir() if _modified(path) < limit]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    # Whether they can be made.

    def check_folder(self) -> None:
        """Raises `InputError` if there is a file in the place of the folder."""
        if self._info("").type == fs.FileType.File:
            raise InputError(f"{self.out}: is a file; allowed: a folder")

    def check_writable(self, part: str) -> None:
        """Raises `InputError` if a part of the folder ("" is the folder itself) cannot be written to. Leaves nothing behind."""
        self.check_folder()
        if self.local:
            check_outside_studies(Path(self.root))
            _check_writable_folder(Path(self.root, part), self.out)
        elif self.filesystem.type_name in _OBJECT_STORES:
            self._check_bucket()

    def check_lasting(self) -> None:
        """Raises `InputError` if the folder lies in Ray's copy of a job's working directory, which Ray deletes after the job."""
        if self.local and _is_rays_copy(Path(self.root)):
            raise InputError(
                f"{self.out}: lies in Ray's copy of --working-dir, which Ray deletes after the job; "
                "allowed: an absolute path outside of it that all nodes see, or a URI such as s3://bucket/prefix"
            )

    def check_outside(self, file: Path) -> None:
        """Raises `InputError` if a file lies within the folder, or within another study's: a study's folder holds its own files only. Or in
        Ray's copy of a job's working directory, which Ray deletes after the job."""
        if _is_rays_copy(file):
            raise InputError(
                f"{file}: lies in Ray's copy of --working-dir, which Ray deletes after the job; allowed: an absolute path outside of it"
            )
        if self.local and Path(self.root).resolve() in file.resolve().parents:
            raise InputError(f"{file}: lies within {self.out}; allowed: a file outside of it")
        check_outside_studies(file)

    def _check_bucket(self) -> None:
        bucket = self.root.partition("/")[0]
        try:
            there = self.filesystem.get_file_info(bucket).type != fs.FileType.NotFound
        except OSError:  # its objects may be written all the same
            return
        if not there:
            raise InputError(f"{self.out}: there is no bucket {bucket}; allowed: an existing bucket")

    def _listed(self, folder: str) -> list[fs.FileInfo]:
        """What is in a folder; nothing in one that is not there. Leaves out names that are not UTF-8, which Arrow cannot open."""
        selector = fs.FileSelector(self._path(folder), allow_not_found=True)
        try:
            return [info for info in self.filesystem.get_file_info(selector) if _is_text(info)]
        except OSError as error:
            raise _unreachable(self.name(folder), "listed", error) from None

    def _path(self, path: str) -> str:
        return f"{self.root}/{path}" if path else self.root

    def _info(self, path: str) -> fs.FileInfo:
        try:
            return self.filesystem.get_file_info(self._path(path))
        except OSError as error:
            raise _unreachable(self.out, "reached", error) from None

    def _write(self, path: str, content: bytes) -> None:
        with self.filesystem.open_output_stream(path) as stream:
            stream.write(content)


def write_file(file: Path, content: bytes) -> None:
    """Writes a file outside of any study's folder, complete or not at all; one that is there is replaced.

    Raises:
        InputError: it cannot be written there.
    """
    try:
        _replace(file, content, file.parent)
    except OSError as error:
        raise InputError(
            f"{file}: cannot be written ({error.strerror}); allowed: a writable folder"
        ) from None


def _is_circle(path: Path) -> bool:
    return path.is_symlink() and _is_in(path.parent, Path(os.path.realpath(path)))


def _is_in(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(root)  # also of links in a circle


def _is_text(info: fs.FileInfo) -> bool:
    try:
        return bool(info.path)
    except UnicodeDecodeError:
        return False


def _unreachable(name: str, done: str, error: OSError) -> InputError:
    text = f"{name}: cannot be {done} ({one_line(error)})"
    if isinstance(error, PermissionError) or "ACCESS_DENIED" in str(error):
        return Forbidden(f"{text}; allowed: what you, or the credentials in the environment, may read")
    return InputError(text)


def _resolve(out: str) -> tuple[fs.FileSystem, str]:
    if "://" not in out:
        if re.fullmatch(_NEARLY_URI, out, re.IGNORECASE):
            raise InputError(
                f"{out}: is neither a URI nor a folder; allowed: a URI with ://, such as s3://bucket/prefix, or ./{out} for a folder"
            )
        return fs.LocalFileSystem(), str(at_home(out, "OUT"))
    parts = urlsplit(out)
    if parts.password or any(word in parts.query.lower() for word in _SECRETS):
        where = f"{parts.scheme}://...{parts.path}"  # what it holds must not get into a log
        raise InputError(f"{where}: holds credentials; allowed: none in the URI, but in the environment")
    try:
        filesystem, root = fs.FileSystem.from_uri(_with_single_put(out))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise InputError(
            f"{out}: {one_line(error)}; allowed: a folder, or a URI such as s3://bucket/prefix"
        ) from None
    if not root:
        raise InputError(f"{out}: names no bucket; allowed: a folder, or a URI such as s3://bucket/prefix")
    return filesystem, root


def _with_single_put(uri: str) -> str:
    """The URI with the option that writes small files to S3 in one request: a multipart upload that breaks off publishes a part
    (arrow#40502)."""
    if not uri.startswith("s3://") or "allow_delayed_open" in uri:
        return uri
    return f"{uri}{'&' if '?' in uri else '?'}allow_delayed_open=true"


def _is_rays_copy(path: Path) -> bool:
    return _RAYS_COPY in pairwise(path.resolve().parts)


def check_outside_studies(path: Path) -> None:
    """Raises `InputError` if a path lies within the folder of a study, which holds its own files alone."""
    for folder in Path(os.path.realpath(path)).parents:  # also of links in a circle
        with suppress(OSError):  # what nobody may look into
            if (folder / "study.toml").is_file() and (folder / "runs").is_dir():
                raise InputError(
                    f"{path}: lies within {folder}, which holds a study; allowed: a place outside of it"
                )


def _check_writable_folder(folder: Path, out: str) -> None:
    """Tries to write where the folder is, or where it would be created."""
    try:
        existing = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
        if not existing.exists():
            raise InputError(
                f"{out}: {existing} is a link to {existing.readlink()}, which does not exist; allowed: a folder"
            )
        if not existing.is_dir():
            raise InputError(f"{out}: {existing} is a file; allowed: a folder")
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); allowed: a writable folder") from None


def _replace(target: Path, content: bytes, staging: Path) -> None:
    """Writes aside, in `staging`, then moves into place; durable when it returns."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staging.mkdir(parents=True, exist_ok=True)
    temporary = staging / f"{target.name}.{uuid.uuid4().hex}"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            _sync(file.fileno())
        patiently(lambda: temporary.replace(target), _REPLACE_PATIENCE, (PermissionError,))
    finally:
        temporary.unlink(missing_ok=True)
    _sync_folder(target.parent)


def _sync(descriptor: int) -> None:
    """Makes a file or a folder durable, on file systems that can."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NOT_SYNCHRONISED:
            raise


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        _sync(descriptor)
    finally:
        os.close(descriptor)


def _modified(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:  # its writer has just moved it into place
        return time.time()

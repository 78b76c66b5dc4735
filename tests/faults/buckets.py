"""An S3 server that fails now and then: moto's, in this process; the client of the sweeps is the real one."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import unquote

import pytest
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from pyarrow import fs
from werkzeug.serving import make_server

logging.getLogger("werkzeug").setLevel(logging.ERROR)

Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


SECRET = "not-to-be-found-anywhere"


class Server:
    """An S3 server that can be stopped and started again with what it holds, and that fails on request.

    Attributes:
        fault: what becomes of requests: nothing, "error" of all (the client hides a few), "drop" of every third, "deny" of those for
            keys with `part` in them.
        faults: how many requests have met it.
    """

    def __init__(self) -> None:
        self.fault, self.part, self.faults, self._requests = "", "", 0, 0
        self._application: Application = DomainDispatcherApplication(create_backend_app)
        self.port = 0
        self.start()

    def __call__(self, environ: dict[str, Any], respond: Callable[..., Any]) -> Iterable[bytes]:
        self._requests += 1
        if self.fault == "deny" and self.part in unquote(environ["PATH_INFO"] + environ["QUERY_STRING"]):
            respond("403 Forbidden", [("Content-Type", "application/xml")])
            return [b"<Error><Code>AccessDenied</Code><Message>no such right</Message></Error>"]
        if self.fault == "error" or (self.fault == "drop" and self._requests % 3 == 0):
            self.faults += 1
            if self.fault == "drop":
                environ["werkzeug.socket"].close()
                return []
            respond("500 Internal Server Error", [("Content-Type", "application/xml")])
            return [b"<Error><Code>InternalError</Code><Message>no such luck</Message></Error>"]
        return self._application(environ, respond)

    def start(self) -> None:
        self._server = make_server("127.0.0.1", self.port, self, threaded=True)
        self.port = self._server.port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def environment(self) -> dict[str, str]:
        """What a process needs to know of it."""
        return {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.port}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def bucket_server() -> Iterator[Server]:
    """A server with the bucket "bucket", which this process and those that it starts know from their environment."""
    server = Server()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in server.environment().items():
            patch.setenv(name, value)
        make_bucket()
        yield server
    server.stop()


def make_bucket() -> None:
    """Makes the bucket "bucket" on the server of the environment."""
    maker, _ = fs.FileSystem.from_uri("s3://bucket?allow_bucket_creation=true")
    maker.create_dir("bucket")

"""The web server over a library of studies. It answers GET and HEAD alone, and no request makes it write."""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Callable
from hashlib import sha256
from importlib.resources import files
from typing import Any
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...display.page.render import page as page_of
from ...display.page.render import plotly, script_of, style_of
from ...display.page.report import Report
from ...display.terminal import json_ready
from ...errors import InputError
from ..listing import Listed
from .library import Library
from .limits import Limits
from .loopback import is_loopback

MOST_BESIDE = 4
"""Studies on one page, at most."""
_JS, _CSS, _HTML = "text/javascript", "text/css", "text/html"
# Plotly writes style elements and attributes, and paints heatmaps as images of its own.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; connect-src 'self'; "
    "frame-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
_HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",
}


class _Folder(PathConvertor):
    """The path of a folder, in which a name may hold a line break."""

    regex = "(?s:.*)"


register_url_convertor("folder", _Folder())


def make_app(library: Library, token: str | None, limits: Limits | None = None) -> Starlette:
    """The application over a library; whoever asks needs the token, if there is one, as the password of HTTP's basic authentication."""

    def studies(request: Request) -> Response:
        found = [
            {**_shown(study), "picture": library.picture_tag(study.folder)} for study in library.studies()
        ]
        return _json(request, {"root": library.name, "studies": found})

    def state(request: Request) -> Response:
        study = library.study(folder := request.path_params["folder"])
        if study is None:
            return _missing()
        return _json(request, {**_shown(study), "tag": library.tag(folder)})

    def page(request: Request) -> Response:
        folder = request.path_params["folder"]
        if library.study(folder) is None:
            return _missing()
        at = quote(folder)
        head = _stylesheets(f"/style/{at}", "/static/serve.css")
        scripts = _scripts("/static/plotly.js", f"/script/{at}", "/static/live.js", "/static/study.js")
        content = page_of(library.report(folder), folder, head, scripts, _own("bar.html"))
        return _tagged(request, content, _hash(content), _HTML)

    def content(request: Request) -> Response:
        try:
            found = library.shown(request.path_params["folder"])
        except InputError as error:
            return PlainTextResponse(str(error), 409)
        return _missing() if found is None else _tagged(request, found.content, found.tag, "application/json")

    def runs(request: Request) -> Response:
        try:
            found = library.runs(request.path_params["folder"], request.query_params.get("cell", ""))
        except InputError as error:
            return PlainTextResponse(str(error), 409)
        return _missing() if found is None else _json(request, found)

    def picture(request: Request) -> Response:
        try:
            found = library.picture(request.path_params["folder"])
        except InputError:
            found = b""
        return _tagged(request, found, _hash(found), "image/png") if found else Response(status_code=204)

    def beside(request: Request) -> Response:
        try:
            found = library.beside(request.query_params.getlist("study")[:MOST_BESIDE])
        except InputError as error:
            return PlainTextResponse(str(error), 409)
        if found is None:
            return _missing()
        measured = found.measured
        known = (
            {} if isinstance(measured, str) else {"notes": [*measured.notes], "remarks": measured.remarks()}
        )
        tables = [] if isinstance(measured, str) else measured.tables()
        return _json(
            request,
            {
                "specs": found.specs,
                "reason": measured if isinstance(measured, str) else "",
                "tables": [table._asdict() for table in tables],
                "figures": [*found.figures],
                **known,
            },
        )

    def difference(request: Request) -> Response:
        found = library.beside(request.query_params.getlist("study")[:MOST_BESIDE])
        figure = found and found.figures.get(request.path_params["name"])
        return _tagged(request, figure, _hash(figure), "image/png") if figure else _missing()

    def part(request: Request, of: Callable[[Report | None], str], kind: str) -> Response:
        folder = request.path_params["folder"]
        return (
            _missing() if library.study(folder) is None else _text(request, of(library.report(folder)), kind)
        )

    def static(request: Request) -> Response:
        name = request.path_params["name"]
        return _text(request, *_STATIC[name]) if name in _STATIC else _missing()

    return Starlette(
        routes=[
            Route("/", lambda request: _text(request, _own("list.html"), _HTML)),
            Route("/static/{name}", static),
            Route("/studies.json", studies),
            Route("/study/{folder:folder}", page),
            Route("/state/{folder:folder}", state),
            Route("/content/{folder:folder}", content),
            Route("/runs/{folder:folder}", runs),
            Route("/beside", lambda request: _text(request, _own("beside.html"), _HTML)),
            Route("/beside.json", beside),
            Route("/difference/{name}", difference),
            Route("/script/{folder:folder}", lambda request: part(request, script_of, _JS)),
            Route("/style/{folder:folder}", lambda request: part(request, style_of, _CSS)),
            Route("/picture/{folder:folder}", picture),
        ],
        middleware=[
            Middleware(_Guard, token=token, limits=limits or Limits()),
            Middleware(GZipMiddleware, compresslevel=1),
        ],
    )


class _Guard:
    """Refuses what is not meant for this server, and adds the headers that every answer has."""

    def __init__(self, app: ASGIApp, token: str | None, limits: Limits) -> None:
        self._app, self._token, self._limits = app, token, limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in {**_HEADERS, "content-security-policy": _POLICY}.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._limits.refusal(scope) or self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return PlainTextResponse("only GET and HEAD", 405, {"allow": "GET, HEAD"})
        if self._token is None:
            # Other names are refused: a page from elsewhere may have made them mean this machine (DNS rebinding).
            name = re.fullmatch(r"\[?(.*?)\]?(?::\d*)?", headers.get("host", ""))
            return (
                None
                if name and is_loopback(name[1])
                else PlainTextResponse("not a name of this machine", 421)
            )
        given = headers.get("authorization")
        if given is not None:
            if refusal := self._limits.too_many_guesses(scope):
                return refusal
            if hmac.compare_digest(_password(given), self._token.encode()):
                return None
            self._limits.count_guess(scope)
        return PlainTextResponse(
            "the token is the password", 401, {"www-authenticate": 'Basic realm="phasediag"'}
        )


def _password(authorization: str) -> bytes:
    """The password of a header of basic authentication; empty if there is none."""
    scheme, _, encoded = authorization.partition(" ")
    if scheme.lower() != "basic":
        return b""
    try:
        return base64.b64decode(encoded, validate=True).partition(b":")[2]
    except ValueError:
        return b""


def _shown(study: Listed) -> dict[str, Any]:
    return {**study.to_dict(), "end": study.status.end if study.status else ""}


def _json(request: Request, content: Any) -> Response:
    body = json.dumps(json_ready(content), allow_nan=False).encode()
    return _tagged(request, body, _hash(body), "application/json")


def _own(name: str) -> str:
    return files(__package__).joinpath("page", name).read_text(encoding="utf-8")


_STATIC = {
    "plotly.js": (plotly(), _JS),
    "list.js": (f"{script_of(None)}{_own('live.js')}{_own('list.js')}", _JS),
    "beside.js": (f"{script_of(None)}{_own('live.js')}{_own('beside.js')}", _JS),
    "live.js": (_own("live.js"), _JS),
    "study.js": (_own("study.js"), _JS),
    "page.css": (style_of(None), _CSS),
    "serve.css": (_own("serve.css"), _CSS),
}


def _stylesheets(*addresses: str) -> str:
    return "\n".join(f'<link rel="stylesheet" href="{address}">' for address in addresses)


def _scripts(*addresses: str) -> str:
    return "\n".join(f'<script src="{address}"></script>' for address in addresses)


def _text(request: Request, content: str, kind: str) -> Response:
    return _tagged(request, content.encode(), _hash(content.encode()), kind)


def _tagged(request: Request, content: bytes, tag: str, kind: str) -> Response:
    """The content, or 304 if whoever asks has it already."""
    headers = {"etag": f'"{tag}"'}
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(status_code=304, headers=headers)
    return Response(content, media_type=kind, headers=headers)


def _hash(content: bytes) -> str:
    return sha256(content).hexdigest()[:20]


def _missing() -> Response:
    return PlainTextResponse("This study is not there (any more).", 404)

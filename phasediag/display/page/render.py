"""From the content of a page to one HTML file that needs nothing else: styles, scripts and numbers are all inside.

A policy in the file allows only the scripts that it was written with, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from string import Template
from typing import Any

_SCRIPTS = ("dom.js", "plots.js", "frame.js")
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}


def render(content: Mapping[str, Any], package: str, scripts: Sequence[str]) -> bytes:
    """The page of a study as one file of HTML in UTF-8.

    Args:
        content: what the scripts show, as JSON can hold it; of every kind, what `phasediag.sweep.report.frame` returns.
        package: the package with the part of the page that is a kind's own: its elements, `body.html`, their style, `body.css`,
            and its scripts.
        scripts: the names of these scripts, in the order in which they run, after those of every page.
    """
    from plotly.offline import get_plotlyjs

    texts = [*(_file(__package__, name) for name in _SCRIPTS), *(_file(package, name) for name in scripts)]
    library, script = (_script_text(text) for text in (get_plotlyjs(), "\n".join(texts)))
    page = Template(_file(__package__, "page.html")).substitute(
        policy=_policy([library, script]),
        title=html.escape(str(content["study"]["name"])),
        style=_file(__package__, "page.css") + _file(package, "body.css"),
        body=_file(package, "body.html"),
        content=to_json(content),
        library=library,
        script=script,
    )
    return page.encode()


def to_json(content: Any) -> str:
    """JSON that may stand within a script element: no text in it can end that element, or begin another."""
    return json.dumps(content, allow_nan=False, ensure_ascii=True, separators=(",", ":")).translate(_ESCAPES)


def _file(package: str, name: str) -> str:
    return files(package).joinpath(name).read_text(encoding="utf-8")


def _script_text(text: str) -> str:
    """A script as a browser hashes it: with the line ends that a parser of HTML leaves."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if "</script" in text.lower():
        raise ValueError("a script that ends its own element")
    return text


def _policy(scripts: list[str]) -> str:
    hashes = (base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts)
    allowed = " ".join(f"'sha256-{one}'" for one in hashes)
    # Plotly writes style elements and attributes, and paints heatmaps as images of its own.
    return (
        f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data: blob:; "
        "base-uri 'none'; form-action 'none'"
    )

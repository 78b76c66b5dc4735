"""From what a page shows to HTML: as one file that needs nothing else, or as parts that a server sends.

A policy in the file allows only the scripts that it was written with, by their hashes.
"""

from __future__ import annotations

import base64
import hashlib
import html
import json
from importlib.resources import files
from string import Template
from typing import Any

from .report import Progress, Report

RUNS_HELD = 15_000
"""Most runs that a file holds one by one; a page of more shows their means and counts alone, and does not grow with them."""
_SCRIPTS = ("dom.js", "plots.js", "frame.js")
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&"}
_ITSELF = "start(JSON.parse(byId('content').textContent));"


def standalone(report: Report, progress: Progress | None) -> bytes:
    """The page of a folder as one file of HTML in UTF-8: styles, scripts and numbers are all inside.

    Args:
        report: what it shows.
        progress: how far its sweep is; None where that is not known.

    Raises:
        InputError: the folder holds no study, or a file of it is damaged.
    """
    content = report.content(progress)
    few = content["runs"] <= RUNS_HELD
    content["runs_of"] = {cell: report.runs(cell) for cell in content["cells"]} if few else {}
    scripts = [plotly(), script_of(report), _ITSELF]
    elements = [f'<script type="application/json" id="content">{to_json(content)}</script>']
    return page(
        report,
        title=str(content["study"]["name"]),
        head=f'<meta http-equiv="Content-Security-Policy" content="{_policy(scripts)}">\n<style>{style_of(report)}</style>',
        scripts="\n".join([*elements, *(f"<script>{_checked(text)}</script>" for text in scripts)]),
    )


def page(report: Report | None, title: str, head: str, scripts: str, bar: str = "") -> bytes:
    """A page of HTML in UTF-8.

    Args:
        report: what it shows; None for what every page has alone.
        title: of the window.
        head: elements of its head, such as styles.
        scripts: elements at its end.
        bar: elements above all others.
    """
    text = Template(_file(__package__, "page.html")).substitute(
        title=html.escape(title),
        head=head,
        bar=bar,
        body=_file(report.package, "body.html") if report else "",
        scripts=scripts,
    )
    return text.encode()


def plotly() -> str:
    """The script of Plotly, as a browser hashes it."""
    from plotly.offline import get_plotlyjs

    return _with_plain_ends(get_plotlyjs())


def script_of(report: Report | None) -> str:
    """The script that draws a page, without its library."""
    own = [_file(report.package, name) for name in report.scripts] if report else []
    return _with_plain_ends("\n".join([*(_file(__package__, name) for name in _SCRIPTS), *own]))


def style_of(report: Report | None) -> str:
    """The style of a page."""
    return _file(__package__, "page.css") + (_file(report.package, "body.css") if report else "")


def to_json(content: Any) -> str:
    """JSON that may stand within a script element: no text in it can end that element, or begin another."""
    return json.dumps(content, allow_nan=False, ensure_ascii=True, separators=(",", ":")).translate(_ESCAPES)


def _file(package: str | None, name: str) -> str:
    return files(package or "").joinpath(name).read_text(encoding="utf-8")


def _with_plain_ends(text: str) -> str:
    """A text with the line ends that a parser of HTML leaves."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _checked(text: str) -> str:
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

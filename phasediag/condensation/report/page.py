"""The interactive page of a condensation study."""

from __future__ import annotations

from ...display.page.render import render
from ...kinds import Progress
from ...storage.store import Store
from .content import gather

_SCRIPTS = ("lines.js", "network.js", "page.js")


def page(store: Store, progress: Progress | None) -> bytes:
    """The page of a folder, as `Kind.report` returns it."""
    return render(gather(store, progress), __package__, _SCRIPTS)

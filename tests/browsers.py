"""A browser that looks at pages, and what they complain about or ask the network for."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from waiting import PATIENCE

sync_api = pytest.importorskip("playwright.sync_api")
sync_api.expect.set_options(timeout=1000 * PATIENCE)

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "google-chrome", "chromium-browser"))), None)
FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run"
MORE_FLAGS = "--disable-background-networking --disable-component-update --disable-sync"
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser."""
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=f"{FLAGS} {MORE_FLAGS}".split())
        yield browser
        browser.close()


def new_tab(browser: Any, own: str = "file:") -> tuple[Any, list[str]]:
    """A page of the browser, and what it complains about or asks for elsewhere than at its own addresses, which grows."""
    page, faults = browser.new_page(), []
    page.set_default_timeout(1000 * PATIENCE)
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    page.on(
        "request",
        lambda request: request.url.startswith((own, "data:", "blob:")) or faults.append(request.url),
    )
    return page, faults


def wait_for(condition: Callable[[], object], page: Any) -> None:
    """Waits while the page goes on: Plotly draws anew when a window has kept its size for a moment."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        page.wait_for_timeout(20)

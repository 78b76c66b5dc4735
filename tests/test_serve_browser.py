"""The served pages in a real browser: they follow a sweep, keep what is looked at, and ask nobody else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsers import chromium, needs_chromium, new_tab, sync_api

from phasediag.kinds import open_store
from phasediag.sweep.lease import hold

pytestmark = needs_chromium
RESULTS = Path(__file__).parent.parent / "results"
EVIL = "<img src=x onerror=document.title='run'>"


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    shutil.copytree(RESULTS / "papers" / "zhou_2022a_scaling", root / EVIL)
    shutil.copytree(RESULTS / "condensation_mnist", root / "early")
    return root


@pytest.fixture(scope="module")
def address(root):
    """That of a server over the root, in a process of its own."""
    command = [sys.executable, "-m", "phasediag", "serve", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield re.match(r"http://\S+:\d+", server.stdout.readline())[0]
        server.terminate()


@pytest.fixture
def page(address):
    """A page of a browser; what it complains about, or asks others for, fails the test."""
    with chromium() as browser:
        page, faults = new_tab(browser, own=address)
        page.set_viewport_size({"width": 1440, "height": 900})
        yield page
    assert not faults


def test_the_list_filters_sorts_and_keeps_it_in_the_address(page, address):
    page.goto(address)
    sync_api.expect(page.locator("#count")).to_have_text("2 studies")
    page.keyboard.press("Tab")
    page.keyboard.type("layers img")
    sync_api.expect(page.locator("#studies h2")).to_have_text([EVIL])
    assert page.url.endswith("#filter=layers+img")
    page.reload()
    sync_api.expect(page.locator("#count")).to_have_text("1 of 2 studies")
    assert page.input_value("#filter") == "layers img"
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert page.title() != "run"


def test_a_study_is_followed_and_keeps_what_is_selected(page, address, root):
    runs = root / EVIL / "runs"
    files = {file: file.read_bytes() for file in runs.iterdir()}
    page.goto(address)
    page.click(f"text={EVIL}")
    page.wait_for_selector("#progress >> text=complete")
    page.locator("#layer").select_option(label="W₂")
    sync_api.expect(page).to_have_url(re.compile("layer=W2"))
    with hold(open_store(root / EVIL)):
        for file in files:
            file.unlink()
        page.wait_for_selector("#progress >> text=0 of 45 jobs")
        page.locator("text=No job has rows yet").wait_for()
        for file, content in files.items():
            file.write_bytes(content)
        page.wait_for_selector("#progress >> text=running")
        page.locator("#map .plotly").first.wait_for()
    page.wait_for_selector("#progress >> text=complete")
    page.locator("#map .plotly").first.wait_for()
    assert page.locator("#layer").evaluate("select => select.selectedOptions[0].text") == "W₂"
    assert re.fullmatch(r"updated \d+ s ago", page.inner_text("#updated"))

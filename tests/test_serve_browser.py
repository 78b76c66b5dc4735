"""The served pages in a real browser: they follow a sweep, keep what is looked at, fit screens, and ask nobody else."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from browsers import chromium, needs_chromium, new_tab, sync_api, wait_for
from heads import ONE_WORKER
from test_report_browser import contrast, place, title
from waiting import no_longer

from phasediag.kinds import open_store

pytestmark = needs_chromium
RESULTS = Path(__file__).parent.parent / "results"
EVIL = "<img src=x onerror=document.title='run'>"
expect = sync_api.expect
RANGES = "['map', 'scaling'].flatMap(id => ['xaxis', 'yaxis'].map(name => byId(id)._fullLayout[name].range))"
HURRY = "const later = setTimeout; window.setTimeout = (act, wait, ...rest) => later(act, wait === 2000 ? 200 : wait, ...rest);"
"""Pages ask ten times as often."""
NO_ANSWER = re.compile("Failed to load resource: ")
"""What the browser itself says of an answer that is an error, or missing."""

SPEC = """
name = "watched"
kind = "phase-diagram"
network = { depth = 2 }
data = { kind = "points", x = [[-1.0], [0.5]], y = [0.5, -0.5] }
grid = { width = [10, 40], gamma = [0.5, 1.0, 1.5, 2.0], gamma_prime = [0.0, 0.5], seeds = 2 }
samples = { points = [] }
"""
DRIVER = """
import sys, time
from itertools import count
from pathlib import Path
from faults import sweeps
from phasediag import cli
from phasediag.phase_diagram.kind import PhaseDiagram
from phasediag.sweep import lease

train, allowed, begun = PhaseDiagram.trainer, Path(sys.argv.pop(1)), count(1)

def wait(jobs):
    number = next(begun)
    while number > int(allowed.read_text() or 0):
        time.sleep(0.05)

PhaseDiagram.trainer = lambda *them: sweeps.Disturbed(train(*them), wait)
PhaseDiagram.figures = lambda kind, store: {}  # which take longer than all the rest
lease.HEARTBEAT_SECONDS = 0.5
cli.main()
"""
"""`phasediag`, in a hurry, which trains as many batches as a file says: python -c DRIVER FILE run SPEC --out OUT"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for name, folder in {
        "papers/zhou_2022a_scaling": EVIL,
        "condensation_mnist": "early",
        "two_layer_synthetic_coarse": "map",
    }.items():
        shutil.copytree(RESULTS / name, root / folder)
    return root


@pytest.fixture(scope="module")
def address(root):
    """That of a server over the root, in a process of its own."""
    command = [sys.executable, "-m", "phasediag", "serve", str(root), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        yield re.match(r"http://\S+:\d+", server.stdout.readline())[0]
        server.terminate()


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture
def open_tab(browser, address):
    """Opens a page of the server. What it complains about, or asks others for, fails the test, unless this takes it out of the list."""
    tabs = []

    def open_one(path="/", **options):
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        context.add_init_script(HURRY)
        page, faults = new_tab(context, own=address)
        tabs.append((page, faults))
        page.goto(f"{address}{path}")
        return page, faults

    yield open_one
    for page, _ in tabs:
        page.context.close()
    assert [fault for _, faults in tabs for fault in faults] == []


def shown(page):
    """How many points of the map have a value, and how many are crosses."""
    count = """() => {
        const traces = document.getElementById("map").data ?? [];
        const cells = traces.find(({ type }) => type === "heatmap")?.z.flat() ?? [];
        const crosses = traces.find(({ name }) => name === "missing")?.x ?? [];
        return [cells.filter(value => value !== null && value !== undefined).length, crosses.length];
    }"""
    return page.evaluate(count)


def select(page, gamma, gamma_prime):
    page.locator("#gamma").select_option(str(gamma))
    page.locator("#gamma-prime").select_option(str(gamma_prime))


def refresh(page, folder):
    """Has the page show a newer content: a file was written again."""
    page.evaluate("window.older = content")
    file = next((folder / "runs").iterdir())
    os.utime(file, (0, file.stat().st_mtime - 1))
    wait_for(lambda: page.evaluate("content !== older"), page)


def drag(page, start, end):
    """Zooms into the rectangle between two places on the screen."""
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def test_a_sweep_is_watched_from_its_start_over_the_death_of_its_driver_to_its_end(open_tab, root, tmp_path):
    allowed, spec, out = tmp_path / "allowed", tmp_path / "spec.toml", root / "watched"
    spec.write_text(SPEC)

    def driver():
        command = [sys.executable, "-c", DRIVER, str(allowed), "run", str(spec), "--out", str(out), "--local"]
        return subprocess.Popen(command, env=os.environ | ONE_WORKER, stderr=subprocess.PIPE, text=True)

    page, _ = open_tab()
    progress, events = page.locator("#progress"), page.locator("#events")
    expect(page.locator("#count")).to_have_text("3 studies")
    allowed.write_text("0")
    with no_longer(driver()) as running:
        page.click("#studies >> text=watched")
        page.locator("text=No job has rows yet").wait_for()
        expect(progress).to_contain_text("running0 of 32 jobs")
        assert page.locator("main").is_hidden()
        allowed.write_text("6")
        wait_for(lambda: len(list(out.glob("runs/*.parquet"))) == 6, page)
        done = len(open_store(out).statuses())
        expect(progress).to_contain_text(f"running{done} of 32 jobs")
        expect(page.locator("#origin")).to_contain_text(f"running: {done} of 32 jobs")
        wait_for(lambda: min(shown(page)) > 0, page)  # the page is told of progress before it has the map
        half = shown(page)
        assert sum(half) == 8 and "no value" in page.inner_text("#legend")
        expect(events).to_contain_text(f"{done} of 32 jobs done")
        [point] = page.evaluate("[content.layers[0].slopes.slope.findLastIndex(known)].map(at)")
        page.locator("#layer").select_option(label="a")
        select(page, *point)
        drag(page, place(page, 0.8, 0.1), place(page, 1.9, 0.6))
        box = page.locator("#scaling").bounding_box()
        drag(
            page, *((box["x"] + box["width"] * part, box["y"] + box["height"] * part) for part in (0.3, 0.7))
        )
        page.locator("#cell-runs button").nth(1).click()
        page.evaluate("byId('cell-runs').scrollIntoView({ behavior: 'instant' })")
        script = f"""[{RANGES}, location.hash, document.activeElement.textContent]"""
        top = "byId('cell-runs').getBoundingClientRect().top"
        before, height = page.evaluate(script), page.evaluate(top)
        assert before[0][0] == pytest.approx([0.8, 1.9], abs=0.02)
        running.kill()
    allowed.write_text("0")
    expect(progress).to_contain_text(f"stopped{done} of 32 jobs, its driver gives no sign of life any more")
    expect(page.locator("#origin")).to_contain_text(f"stopped: {done} of 32 jobs")
    assert (page.evaluate(script), shown(page)) == (before, half)

    with no_longer(driver()) as running:
        expect(progress).to_contain_text(f"running{done} of 32 jobs")
        expect(events).to_contain_text("is gone; another one takes over")
        allowed.write_text("99")
        _, errors = running.communicate()
        assert running.returncode == 0, errors
    expect(progress).to_contain_text("complete32 jobs")
    expect(events).to_contain_text("the sweep ends: 32 finished, 0 failed")
    assert (page.evaluate(script), shown(page)) == (before, [8, 0])
    assert page.evaluate("scrollY") > 100 and page.evaluate(top) == pytest.approx(height, abs=1)
    expect(page.locator("#updated")).to_have_text(re.compile(r"updated \d s ago"))


def test_the_list_filters_sorts_and_keeps_it_in_the_address(open_tab):
    page, _ = open_tab()
    page.locator("#filter").press_sequentially("layers img")
    expect(page.locator("#studies h2")).to_have_text([EVIL])
    assert page.url.endswith("#filter=layers+img")
    page.reload()
    expect(page.locator("#count")).to_contain_text("1 of ")
    assert page.input_value("#filter") == "layers img" and page.title() != "run"
    page.fill("#filter", "phase")
    expect(page.locator("#studies h2").first).to_have_text(EVIL)
    page.locator("#sort").select_option(label="jobs")
    expect(page.locator("#studies h2").first).to_have_text("map")
    assert page.url.endswith("#filter=phase&sort=jobs")


def test_studies_appear_on_the_list_and_one_that_is_deleted_says_so_on_its_page(open_tab, root):
    page, faults = open_tab()
    expect(page.locator("#studies")).to_contain_text("early")
    shutil.copytree(root / "early", root / "late")
    page.click("#studies >> text=late")
    expect(page.locator("#title")).to_have_text("condensation-mnist")
    other, _ = open_tab()
    expect(other.locator("#studies")).to_contain_text("late")
    assert faults == []
    shutil.rmtree(root / "late")
    expect(page.locator("#trouble")).to_have_text("This study is not there (any more).")
    expect(other.locator("#studies")).not_to_contain_text("late")
    assert page.locator("#lines .plotly").is_visible()
    page.goto("about:blank")  # it asks no more
    faults[:] = [fault for fault in faults if not NO_ANSWER.match(fault)]


def test_a_damaged_folder_says_why_and_opens_once_it_is_mended(open_tab, root):
    name = f"{EVIL} damaged"
    shutil.copytree(root / EVIL, root / name)
    data = (root / name / "data.npz").read_bytes()
    (root / name / "data.npz").write_bytes(b"no data")
    page, _ = open_tab("#filter=damaged")
    expect(page.locator("#studies li")).to_contain_text("data.npz: does not hold arrays")
    page.click(f"text={name}")
    expect(page.locator("#trouble")).to_contain_text(f"{name}/data.npz: does not hold arrays")
    assert page.locator("#progress").inner_text() == "damaged"
    assert page.locator("main").is_hidden() and page.locator("header").is_hidden()
    (root / name / "data.npz").write_bytes(data)
    page.locator("#map .plotly").wait_for()
    assert page.locator("#trouble").is_hidden() and page.locator("img, [onerror]").count() == 0
    page.close()  # it would ask for what is removed
    shutil.rmtree(root / name)


def test_a_server_that_does_not_answer_is_told_and_what_was_chosen_meanwhile_comes_later(open_tab):
    page, faults = open_tab("/study/map")
    page.locator("#map .plotly").wait_for()
    page.context.set_offline(True)
    expect(page.locator("#trouble")).to_have_text("The server does not answer.")
    select(page, 1.5, 0.5)
    expect(page.locator("#cell-runs")).to_have_text("…")
    page.context.set_offline(False)
    expect(page.locator("#trouble")).to_be_hidden()
    page.locator("#layer").select_option(label="a")
    expect(page.locator("#cell-runs tbody tr").first).to_be_visible()
    faults[:] = [fault for fault in faults if not NO_ANSWER.match(fault)]


def test_a_condensation_study_keeps_layer_epoch_and_focus_when_it_is_refreshed(open_tab, root):
    page, _ = open_tab("/study/early")
    page.locator("#lines .plotly").wait_for()
    page.locator("#epoch").fill("3")
    page.locator("#cell-runs button").nth(4).click()
    view = "[location.hash, byId('epoch-text').textContent, document.activeElement.textContent, byId('job-code').textContent]"
    before = page.evaluate(view)
    assert before[2] in before[3]
    refresh(page, root / "early")
    assert page.evaluate(view) == before


@pytest.mark.parametrize("path", ["/", f"/study/{EVIL}", "/study/early"], ids=["list", "map", "condensation"])
def test_pages_fit_a_phone_and_a_desktop_in_light_and_dark(open_tab, path):
    page, _ = open_tab(path)
    page.locator(".plotly, #studies li").first.wait_for()
    plots = "[...document.querySelectorAll('.js-plotly-plot')].filter(({ clientWidth }) => clientWidth)"
    cut = f"{plots}.map(plot => plot._fullLayout.width - plot.clientWidth)"
    for width in (360, 1440):
        for scheme, shade in (("light", "rgb(255, 255, 255)"), ("dark", "rgb(13, 17, 23)")):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme)
            wait_for(lambda: not any(page.evaluate(cut)), page)
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            assert page.evaluate("getComputedStyle(document.body).backgroundColor") == shade
            ground, *states = page.evaluate("['page', 'done', 'running', 'failed'].map(colour)")
            assert min(contrast(state, ground) for state in states) >= 4.5


def test_the_keyboard_alone_finds_a_study_walks_on_its_map_and_goes_back(open_tab):
    page, _ = open_tab()
    expect(page.locator("#studies")).to_contain_text("map")

    def tab_to(selector):
        for _ in range(30):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                assert page.evaluate("getComputedStyle(document.activeElement).outlineWidth") == "3px"
                return
        raise AssertionError(f"no way to {selector}")

    tab_to("#filter")
    page.keyboard.type("phase map")
    tab_to("#studies a")
    page.keyboard.press("Enter")
    page.locator("#map .plotly").wait_for()
    tab_to("#map")
    before = title(page)
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowRight")
    after = title(page)
    assert before != after
    expect(page.locator("#cell-runs tbody tr").first).to_be_visible()
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "cell-title"
    page.go_back()
    expect(page.locator("#studies h2")).to_have_text(["map"])
    assert page.url.endswith("#filter=phase+map")


def test_a_tap_selects_the_point_that_is_tapped_also_after_a_refresh(open_tab, root):
    page, _ = open_tab("/study/map", has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page.locator("#map .plotly").wait_for()
    page.locator("#map").scroll_into_view_if_needed()
    before = page.evaluate(RANGES)[:2]

    def tap(point):
        page.touchscreen.tap(*place(page, *point))
        expect(page.locator("#cell-title")).to_have_text("γ = {:g}, γ′ = {:g}".format(*point))
        expect(page.locator("#cell-runs tbody tr").first).to_be_visible()

    tap((1.5, 0.5))
    refresh(page, root / "map")
    tap((0.5, 0.0))
    tap((2.0, 0.5))
    assert page.evaluate(RANGES)[:2] == before

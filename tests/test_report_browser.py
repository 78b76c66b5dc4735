"""The page of a phase diagram in a browser: it loads without a network, and mouse, keyboard and selectors show what the files hold."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from browsers import chromium, needs_chromium, new_tab, wait_for
from test_report import EVIL, GRID, SPEC, make_folder, rows_of, two_networks, with_status
from test_report import page as page_of

from phasediag.phase_diagram.fitting import fit

FOLDER = "<img src=x onerror=document.title='run'>"
EVIL_NAME = EVIL.replace("'", "").replace('"', "")

CHANGE_ADDRESS = """address => new Promise(done => {
    const before = location.hash;
    location.hash = address;
    if (location.hash === before) return done();
    addEventListener("hashchange", () => done(), { once: true });  // after those of the page itself
})"""
pytestmark = needs_chromium


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A study of 15 points, one run of which failed, with hostile names all over."""
    out = tmp_path_factory.mktemp("report") / FOLDER
    points = GRID.replace("seeds", "points = [[1.1, 0.1]], seeds")

    def rows(study):
        return with_status(rows_of(study), [0], "failed", EVIL)

    text = f"name = '{EVIL_NAME}'\nkind = \"phase-diagram\"\n[network]\ndepth = 2\n# {EVIL_NAME}\n"
    store = make_folder(out, SPEC.replace(GRID, points), rows, two_networks(), text)
    events = [{"time": 1e9, "event": "unshown", "line": EVIL}, {"time": 1e9 + 61, "event": EVIL}]
    store.write_driver({"state": "finished", "events": events})
    store.write_report(page_of(store, None))
    return store


@pytest.fixture(scope="module")
def browser():
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def tab(browser):
    return new_tab(browser)


@pytest.fixture
def view(tab, store):
    """Shows a view of the page of a folder; what the page complains about fails the test. Loads it only if it is not there."""
    page, faults = tab

    def show(address="#", width=1440, scheme="light", folder=FOLDER):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme, media="screen")
        file = (Path(store.out).parent / folder / "report.html").as_uri()
        if page.url.partition("#")[0] != file:
            page.goto(file)
        page.evaluate("() => { delete document.documentElement.dataset.theme; }")
        defaults = "" if "quantity" in address else "&quantity=slope"
        page.evaluate(CHANGE_ADDRESS, f"{address}&layer=W1{defaults}")
        return page

    yield show
    assert faults == []


def place(page, gamma, gamma_prime):
    """Where a point of the map is on the screen, once the page has come to rest: what a tap shows moves it."""
    script = """([gamma, prime]) => {
        const map = document.getElementById("map"), {xaxis, yaxis} = map._fullLayout, box = map.getBoundingClientRect();
        return [box.x + xaxis._offset + xaxis.d2p(gamma), box.y + yaxis._offset + yaxis.d2p(prime)];
    }"""
    seen = []

    def rests():
        seen.append(page.evaluate(script, [gamma, gamma_prime]))
        return len(seen) >= 10 and seen[-10:] == seen[-1:] * 10

    wait_for(rests, page)
    return seen[-1]


def hover(page, gamma, gamma_prime):
    """Moves the pointer to a point of the map; returns where this is, and the name of the point."""
    page.locator("#map").scroll_into_view_if_needed()
    name, pointed_at = f"γ = {gamma:g}, γ′ = {gamma_prime:g}".replace("-", "−"), []

    def hovers():
        # The map may still be moving, and Plotly looks for what is under the pointer at intervals.
        pointed_at[:] = place(page, gamma, gamma_prime)
        page.mouse.move(pointed_at[0] - 3, pointed_at[1])
        page.mouse.move(*pointed_at)
        return page.evaluate("document.getElementById('map')._hoverdata?.[0]?.text ?? ''").startswith(name)

    wait_for(hovers, page)
    return pointed_at, name


def click(page, gamma, gamma_prime):
    pointed_at, name = hover(page, gamma, gamma_prime)
    page.mouse.click(*pointed_at)
    wait_for(lambda: page.locator("#cell-title").text_content() == name, page)


def cells(page, selector):
    """The texts of a table, row by row, with the minus sign that Python reads."""
    script = "rows => rows.map(row => [...row.children].map(cell => cell.textContent.replaceAll('−', '-')))"
    return page.locator(f"{selector} tbody tr").evaluate_all(script)


def title(page):
    return page.locator("#cell-title").text_content().replace("−", "-")


def test_a_click_on_a_cell_shows_the_numbers_of_the_files(view, store):
    page = view()
    click(page, 1.25, 0.3)
    assert title(page) == "γ = 1.25, γ′ = 0.3"
    runs = store.runs()
    rows = runs.loc[(runs["gamma"] == 1.25) & (runs["gamma_prime"] == 0.3) & (runs["layer"] == "W1")]
    shown = cells(page, "#cell-runs")
    assert [row[0] for row in shown] == [job_id[:8] for job_id in rows["job_id"]]
    assert [row[1:3] for row in shown] == [
        [str(m), str(s)] for m, s in rows[["width", "seed"]].itertuples(index=False)
    ]
    np.testing.assert_allclose([float(row[3]) for row in shown], rows["relative_change"], rtol=1e-3)
    assert [row[7:] for row in shown] == [[str(e), "converged"] for e in rows["evaluations"]]
    slopes = fit(runs)
    [slope] = slopes.loc[
        (slopes["gamma"] == 1.25) & (slopes["gamma_prime"] == 0.3) & (slopes["layer"] == "W1")
    ].to_dict("records")
    layer, plain, limit, regime, predicted, used = cells(page, "#cell-slopes")[0]
    assert (layer, regime, predicted, used) == ("W₁", slope["regime"], slope["predicted_regime"], "8")
    for column, text in (("slope", plain), ("slope_infinite", limit)):
        expected = "{:.3f} ({:.3f} to {:.3f})".format(
            *(slope[f"{column}{end}"] + 0.0 for end in ("", "_low", "_high"))
        )
        assert text == expected


def test_the_lines_of_pandas_give_the_rows_that_are_shown(view, store):
    page = view()
    click(page, 0.75, -0.25)
    with redirect_stdout(io.StringIO()) as printed:
        exec(page.locator("#rows-code").text_content(), {})
    lines = printed.getvalue().splitlines()
    assert len(lines) == 1 + 8 and len(cells(page, "#cell-runs")) == 8
    page.locator("#cell-runs button").nth(3).click()
    shown = cells(page, "#cell-runs")[3][0]
    page.wait_for_function("id => document.getElementById('job-code').textContent.includes(id)", arg=shown)
    [job_id] = page.locator("#job-code").text_content().split()[-1:]
    runs = store.runs()
    row = runs.loc[runs["job_id"] == job_id].iloc[0]
    assert (row["gamma"], row["gamma_prime"], row["width"]) == (0.75, -0.25, 300)
    page.locator("[data-copy=job-code]").click()
    page.wait_for_selector("#files [role=status]:not(:empty)")


def test_hovering_tells_interval_regime_and_runs(view):
    page = view()
    hover(page, 1.7, 0)
    page.wait_for_selector("#map .hoverlayer .hovertext")
    text = page.locator("#map .hoverlayer .hovertext").text_content()
    assert re.search(
        r"γ = 1.7, γ′ = 0S = .*\(.* to .*\).*condensed, predicted condensed8 runs in the fit, 0 left out",
        text,
    )


def test_points_off_the_grid_can_be_clicked(view):
    page = view()
    click(page, 1.1, 0.1)
    assert title(page) == "γ = 1.1, γ′ = 0.1"


def test_a_tap_selects_the_point_that_is_tapped_and_leaves_the_axes(browser, store):
    """After a tap, a browser makes up a click: only then is a point chosen for good."""
    phone = browser.new_context(has_touch=True, is_mobile=True, viewport={"width": 390, "height": 844})
    page = phone.new_page()
    page.goto((Path(store.out) / "report.html").as_uri())
    made_up = (
        "addEventListener('click', event => { window.clicks = (window.clicks ?? 0) + event.isTrusted; })"
    )
    ranges = "['xaxis', 'yaxis'].map(name => document.getElementById('map')._fullLayout[name].range)"
    page.evaluate(made_up)
    page.locator("#map").scroll_into_view_if_needed()
    before = page.evaluate(ranges)
    for taps, point in enumerate([(1.25, 0.3), (0.75, -0.25), (1.1, 0.1), (1.7, 0.3), (0.5, 0.0)], start=1):
        page.touchscreen.tap(*place(page, *point))
        page.wait_for_function("taps => window.clicks === taps", arg=taps)
        chosen = "γ = {:g}, γ′ = {:g}".format(*point)
        wait_for(lambda chosen=chosen: title(page) == chosen, page)  # the page may answer a little later
    page.wait_for_timeout(500)
    assert title(page) == chosen and page.evaluate(ranges) == before
    phone.close()


def test_selectors_change_the_map_and_the_address_keeps_the_view(view):
    page = view()
    page.locator("#layer").select_option(label="a")
    assert "orientations" not in page.locator("#quantity").text_content()
    page.locator("#layer").select_option(label="W₁")
    for quantity, name in (
        ("slope", "slope S over the widths"),
        ("slope_infinite", "slope at infinite width"),
    ):
        page.locator("#quantity").select_option(quantity)
        assert f"The measured critical line ({name}) is" in page.locator("#summary-text").text_content()
    page.locator("#quantity").select_option("orientations")
    page.locator("#width").select_option(label="300")
    page.locator("#gamma").select_option(label="1.7")
    page.locator("#gamma-prime").select_option(label="0.3")
    bar = "document.querySelector('#map').data[0].colorbar.title.text"
    assert page.evaluate(bar) == "orientations of W₁ at m = 300"
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.evaluate(bar) == "orientations of W₁ at m = 300" and title(page) == "γ = 1.7, γ′ = 0.3"
    assert "orientations=" not in page.url and "quantity=orientations&width=300&gamma=1.7" in page.url


@pytest.mark.parametrize(
    "quantity", ["slope", "slope_infinite", "regime", "change", "orientations", "evaluations", "status"]
)
def test_every_quantity_colours_the_map(view, quantity):
    page = view(f"#quantity={quantity}&gamma=1&gamma_prime=0")
    values = page.evaluate("document.querySelector('#map').data.find(t => t.type === 'heatmap').z.flat()")
    assert len(values) == 15 and None not in values
    assert page.locator("#quantity").input_value() == quantity


def test_arrow_keys_move_the_selected_point_and_enter_goes_to_it(view):
    page = view("#gamma=0.5&gamma_prime=-0.25")
    page.locator("#map").focus()
    seen = []
    for key in ("ArrowRight", "ArrowUp", "ArrowLeft", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
        seen.append(title(page))
    assert seen == [
        f"γ = {gamma}, γ′ = {prime}"
        for gamma, prime in [(0.75, -0.25), (0.75, 0), (0.5, 0), (0.5, -0.25), (0.5, -0.25)]
    ]
    assert page.locator("#selected").text_content().startswith("γ = 0.5, γ′ = −0.25, W₁: S = ")
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "cell-title"


def test_everything_is_reached_by_the_tab_key_with_a_visible_focus(view):
    page = view()
    page.mouse.click(5, 5)
    reached, outlines = [], []
    while "to-cell" not in reached and len(reached) < 20:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        outlines.append(page.evaluate("getComputedStyle(document.activeElement).outlineWidth"))
    own = ["theme", "layer", "quantity", "map", "gamma", "gamma-prime", "to-cell"]
    assert [name for name in reached if name] == own
    assert set(outlines) == {"3px"}


def test_a_network_is_shown_where_it_was_kept_and_named_elsewhere(view):
    page = view("#gamma=1.7&gamma_prime=0")
    drawn = "name => document.getElementById(name).data.map(trace => trace.x.length)"
    assert page.evaluate(drawn, "function") == [21, 21, 4]
    assert page.evaluate(drawn, "features") == [60, 60]
    assert page.evaluate(drawn, "directions") == [4, 4, 2]
    assert page.evaluate("document.getElementById('directions').data[2].x") == [20, 20]
    click(page, 1.25, 0.3)
    assert page.locator("#network").is_hidden()
    page.get_by_role("button", name="γ = 0.5, γ′ = 0").click()
    assert title(page) == "γ = 0.5, γ′ = 0" and page.locator("#features").is_visible()
    assert page.locator("#directions").is_hidden(), "this network has no film"


def test_text_of_the_study_stays_text(view):
    page = view("#gamma=0.5&gamma_prime=-0.25")
    assert page.title() == EVIL_NAME and "\u2028" in EVIL_NAME  # which ends a line in scripts
    assert page.locator("#title").text_content() == EVIL_NAME
    assert FOLDER in page.locator("#subtitle").text_content()
    assert EVIL in page.locator("#cell-runs").text_content()
    assert EVIL_NAME in page.locator("#study").text_content()
    assert page.locator("#failures td").last.text_content() == f"failed: {EVIL}"
    assert EVIL.partition("\u2028")[0] in page.locator("#events").text_content()
    assert page.locator("img, main b, section b, [onerror]").count() == 0
    page.get_by_role("button", name="show run").click()
    assert title(page) == "γ = 0.5, γ′ = -0.25"


def test_the_log_has_the_newest_event_first(view):
    text = EVIL.replace("\u2028", " ")
    assert cells(view(), "#events") == [
        ["2001-09-09 01:47:41 UTC", f"{text}:"],
        ["2001-09-09 01:46:40 UTC", f"not shown on the terminal: {text}"],
    ]


def test_what_is_shown_again_keeps_scroll_focus_and_choice(view):
    page = view("#gamma=1.7&gamma_prime=0")
    script = """() => {
        const button = (_, i) => [make("button", { type: "button" }, `run ${i}`)];
        const list = (count) => make("div", { class: "tall" }, makeTable(["run"], Array.from({ length: count }, button).reverse()));
        show("failures", list(60));
        const box = document.querySelector("#failures > div");
        box.querySelectorAll("button")[10].focus();
        box.scrollTop = 200;
        show("failures", list(61));
        const kept = [box.isConnected, box.scrollTop, box.querySelectorAll("button").length, document.activeElement.textContent];
        update({ network: 1 });
        start(content);
        return [...kept, state.network];
    }"""
    assert page.evaluate(script) == [True, 200, 61, "run 49", 1]


@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_every_screen_in_light_and_dark(view, width, scheme):
    page = view("#gamma=1.7&gamma_prime=0", width, scheme)
    script = """names => names.map(name => document.getElementById(name)).map(plot => plot._fullLayout.width - plot.clientWidth)"""
    wait_for(lambda: page.evaluate(script, ["map", "scaling", "features"]) == [0, 0, 0], page)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shade == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]
    left = page.locator("#map").bounding_box(), page.locator("#cell").bounding_box()
    assert (left[0]["x"] < left[1]["x"]) == (width == 1440)


@pytest.mark.parametrize("width", [1000, 1280, 1400])
def test_no_table_of_a_desktop_is_cut(view, width):
    page = view("#gamma=1.7&gamma_prime=0", width)
    cut = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth).map(one => one.id)"
    assert page.locator("#cell-runs td").count() and page.evaluate(cut) == []


def test_round_widths_are_powers_of_ten_and_times_are_as_people_say_them(view):
    page = view()
    widths = {300: "300", 10000: "10⁴", 3000000: "3·10⁶", 123456: "123456", 10**16: "10¹⁶"}
    assert page.evaluate("widths => widths.map(widthText)", list(widths)) == list(widths.values())
    said = page.locator("#origin dd", has_text="summed over the runs").text_content()
    assert re.fullmatch(
        r"(\d+ h )?\d+ min( \d+ s)?, summed over the runs|[\d.]+ s, summed over the runs", said
    )


def test_the_button_changes_between_light_and_dark(view):
    page = view(scheme="dark")
    ink = (
        "[getComputedStyle(document.body).backgroundColor, document.querySelector('#map').layout.font.color]"
    )
    assert page.evaluate(ink) == ["rgb(13, 17, 23)", "#e6edf3"]
    page.locator("#theme").click()
    assert page.evaluate(ink) == ["rgb(255, 255, 255)", "#1b1f24"]
    assert page.locator("#theme").text_content() == "Dark"


def contrast(one, other):
    """Of two colours #rrggbb, as WCAG 2 defines it."""

    def luminance(colour):
        channels = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    low, high = sorted([luminance(one), luminance(other)])
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_lines_stand_out(view, scheme):
    page = view(scheme=scheme)
    names = ("text", "quiet", "accent", "second", "third", "field", "page", "panel", "note", "note-text")
    script = "names => names.map(name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim())"
    tint = dict(zip(names, page.evaluate(script, list(names)), strict=True))
    for name in ("text", "quiet", "accent"):
        assert min(contrast(tint[name], tint["page"]), contrast(tint[name], tint["panel"])) >= 4.5
    assert contrast(tint["note-text"], tint["note"]) >= 4.5
    assert min(contrast(tint[name], tint["page"]) for name in ("second", "third", "field")) >= 3.0


def test_paper_is_light_whatever_the_screen(view):
    page = view(scheme="dark")
    page.emulate_media(media="print")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert page.locator("#theme").is_hidden()
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate("'theme' in document.documentElement.dataset") is False


SCATTERED = "points = [[0.55, -0.31], [1.21, 0.07], [1.93, 0.61], [1.04, -0.12], [0.81, 0.93]]"


def test_scattered_points_alone_are_markers_to_click_and_to_walk_between(view, store):
    folder = Path(store.out).parent / "scattered"
    grid = f"grid = {{ width = [100, 300], gamma = [], gamma_prime = [], {SCATTERED}, seeds = 2 }}"
    spec = re.sub("samples = .*", "samples = { points = [] }", SPEC.replace(GRID, grid))
    other = make_folder(folder, spec)
    other.write_report(page_of(other, None))
    page = view(folder="scattered")
    click(page, 1.93, 0.61)
    assert title(page) == "γ = 1.93, γ′ = 0.61"
    page.locator("#map").focus()
    page.keyboard.press("ArrowLeft")
    assert title(page) == "γ = 0.81, γ′ = 0.93"
    assert page.locator("#notes li").count() == 3


def test_a_study_without_rows_shows_its_spec_and_what_is_missing(view, store):
    folder = Path(store.out).parent / "empty"
    other = make_folder(folder, rows=None)
    progress = SimpleNamespace(state="stopped", total=120, finished=0, failed=0, missing=120)
    other.write_report(page_of(other, progress))
    page = view(folder="empty")
    notes = page.locator("#notes").text_content()
    assert (
        "120 of 120 jobs have no rows yet; the sweep is stopped." in notes and "No job has rows yet" in notes
    )
    assert all(page.locator(part).is_hidden() for part in ("main", "#failures", "#log"))
    assert "gradient-flow" in page.locator("#study").text_content()


def test_three_layers_have_a_map_of_both_regimes_with_the_lines_of_both(view, store):
    folder = Path(store.out).parent / "three"
    spec = SPEC.replace("depth = 2", "depth = 3")
    other = make_folder(folder, spec, lambda study: rows_of(study, ("W1", "W2", "a")))
    other.write_report(page_of(other, None))
    page = view("#quantity=combined", folder="three")
    assert "both linear" in page.locator("#legend").text_content()
    assert page.locator("#legend").text_content().count("measured") == 2
    hover(page, 1.7, 0)
    page.wait_for_selector("#map .hoverlayer .hovertext")
    assert re.search("W₁: .*W₂: ", page.locator("#map .hoverlayer .hovertext").text_content())
    assert [row[0] for row in cells(page, "#cell-slopes")] == ["W₁", "W₂", "a"]


def test_a_map_that_is_half_done_begins_where_there_are_rows_and_shows_empty_points_too(view, store):
    folder = Path(store.out).parent / "half"
    other = make_folder(folder, rows=lambda study: rows_of(study).query("gamma > 0.6 and width == 100"))
    other.write_report(page_of(other, None))
    page = view(folder="half")
    page.goto("about:blank")
    page.goto((folder / "report.html").as_uri())
    assert title(page) == "γ = 0.75, γ′ = -0.25" and page.locator("#quantity").input_value() == "change"
    assert "no value" in page.locator("#legend").text_content()
    page.goto("about:blank")
    page.goto(f"{(folder / 'report.html').as_uri()}#gamma=0.5&gamma_prime=0")
    assert page.locator("#cell-runs").text_content() == "No run at this point."
    click(page, 1.25, 0.3)
    assert len(cells(page, "#cell-runs")) == 2

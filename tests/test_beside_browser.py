"""Studies side by side in a real browser: one view, one pointer, one scale of colours, and what differs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from browsers import chromium, needs_chromium, new_tab, sync_api, wait_for
from servers import served
from test_report import SPEC, make_folder, rows_of

pytestmark = needs_chromium
RESULTS = Path(__file__).parent.parent / "results"


def changed(study: Any) -> Any:
    rows = rows_of(study)
    return rows.assign(relative_change=rows["relative_change"] * rows["width"] ** 0.25)


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server over two maps of one grid, whose slopes differ by 0.25, and one of two rows of it; and a condensation study."""
    root = tmp_path_factory.mktemp("beside")
    for name, spec, rows in (
        ("first", SPEC, rows_of),
        ("second", SPEC.replace('"small"', '"steeper"'), changed),
        ("third", SPEC.replace("[-0.25, 0.0, 0.3]", "[-0.25, 0.0]"), rows_of),
    ):
        make_folder(root / name, spec, rows)
    (root / "spec.toml").unlink()
    shutil.copytree(RESULTS / "condensation_mnist", root / "condensation")
    with served(str(root)) as address:
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as browser:
        yield browser


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    """A page; what it complains about, or asks others for, fails the test."""
    page, faults = new_tab(browser, own=address)
    page.set_viewport_size({"width": 1440, "height": 900})
    yield page
    page.close()
    assert faults == []


def frames_of(page: Any) -> list[Any]:
    """The frames of the studies, all of them drawn."""
    frames = page.frames[1:]
    for frame in frames:
        frame.locator(".plot .plotly").first.wait_for()
        wait_for(lambda frame=frame: frame.evaluate("linked"), page)
    return frames


def ends_of(frame: Any) -> list[float]:
    ends: list[float] = frame.evaluate(
        "(({zmin, zmax}) => [zmin, zmax])(byId('map').data.find(one => one.type === 'heatmap'))"
    )
    return ends


def test_studies_are_chosen_in_the_list(page: Any, address: str) -> None:
    page.goto(address)
    for name in ("first", "second"):
        page.get_by_role("checkbox", name=f"{name} side by side").check()
    page.get_by_role("link", name="Show 2 side by side").click()
    sync_api.expect(page.locator("#parts h2")).to_have_text(["A: first", "B: second"])
    sync_api.expect(page.locator("#specs td")).to_have_text(["name", "small", "steeper"])
    sync_api.expect(page.locator("#differences td", has_text="0.25").first).to_be_visible()
    shown = (
        "[...document.querySelectorAll('#differences img')].map(one => one.complete && one.naturalWidth > 0)"
    )
    wait_for(lambda: page.evaluate(shown) == [True, True], page)


def test_maps_share_view_pointer_and_colours(page: Any, address: str) -> None:
    page.goto(f"{address}/beside?study=first&study=second&study=third#layer=W1&quantity=slope")
    frames = frames_of(page)
    first, second, third = frames
    first.locator("#gamma-prime").select_option(label="0.3")
    wait_for(lambda: "gamma_prime=0.3" in second.url, page)
    assert "gamma_prime=0.3" not in third.url  # which has no such point
    second.locator("#layer").select_option(label="a")
    wait_for(lambda: all("layer=a" in frame.url for frame in frames), page)
    second.locator("#quantity").select_option("change")
    wait_for(lambda: all("quantity=change" in frame.url for frame in frames), page)
    own = [frame.evaluate("own.range") for frame in frames]
    ends = [min(low for low, _ in own), max(high for _, high in own)]
    wait_for(lambda: [ends_of(frame) for frame in frames] == [ends] * 3, page)
    assert own[0] != own[1] and "layer=a" in page.url
    box = third.locator("#map").bounding_box()
    steps = cycle((0, 3))

    def texts() -> list[list[str]]:
        """A map that is drawn anew forgets the pointer, until it moves again."""
        page.mouse.move(box["x"] + box["width"] / 2 + next(steps), box["y"] + box["height"] / 2)
        return [frame.locator(".hoverlayer .hovertext").all_text_contents() for frame in frames]

    wait_for(
        lambda: all(found := texts()) and len({text[0].partition("S =")[0] for text in found}) == 1, page
    )


def test_studies_of_different_kinds_and_missing_ones_say_so(page: Any, address: str) -> None:
    page.goto(f"{address}/beside?study=first&study=condensation")
    frames_of(page)
    sync_api.expect(page.locator("#differences")).to_have_text("They are of different kinds.")
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        wait_for(lambda width=width: page.evaluate("document.documentElement.scrollWidth") <= width, page)


@pytest.mark.parametrize(
    "studies", [[], ["first"], ["first", "first"], ["first", "second", "third", "a", "b"]]
)
def test_fewer_than_two_and_more_than_four_are_not_shown(page: Any, address: str, studies: list[str]) -> None:
    page.goto(f"{address}/beside?{'&'.join(f'study={name}' for name in studies)}")
    sync_api.expect(page.locator("#trouble")).to_have_text("Choose two to four studies in the list.")
    assert page.locator("iframe").count() == 0

"""The page of a condensation study: what it holds, and in a browser what selectors, slider and clicks show."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import tomli_w
from browsers import chromium, needs_chromium, new_tab, wait_for
from studies import store_of, trainer_of
from test_report import EVIL, Page, heavy_imports_of_page, invoke

import phasediag
from phasediag.condensation.columns import TABLES
from phasediag.condensation.counts import count, summarise
from phasediag.condensation.figures import matrix
from phasediag.condensation.report import content
from phasediag.condensation.report.content import CondensationReport
from phasediag.display.page.render import standalone
from phasediag.display.page.report import Progress
from phasediag.kinds import read_study
from phasediag.storage.store import Store
from phasediag.sweep.status import read_status

SPEC: dict[str, Any] = {
    "name": "small",
    "kind": "condensation",
    "network": {"hidden": [12]},
    "data": {"kind": "function", "target": "sum_sin", "low": -2.0, "high": 2.0, "samples": 20},
    "grid": {"activation": ["tanh", "x2_tanh"], "std": [0.01, 1e-5], "seeds": 3},
    "train": {"method": "adam", "epochs": 30, "learning_rate": 2e-3, "snapshots": [10]},
    "samples": {"seeds": [0, 1]},
}
LAYERS: dict[str, Any] = SPEC | {
    "network": {"hidden": [6, 6], "residual": True},
    "data": SPEC["data"] | {"dimension": 2},
    "grid": {"activation": [["x_tanh", "tanh"]], "std": [0.01], "seeds": 2},
}
FOLDER = "<img src=x onerror=document.title='run'>"
EVIL_NAME = EVIL.replace("'", "").replace('"', "")


def make_folder(out: Path, spec: dict[str, Any], failed: bool = False) -> Store:
    """A folder as `run` leaves it; with `failed`, the first job failed, and names are hostile."""
    (out.parent / "spec.toml").write_text(tomli_w.dumps(spec))
    study, store = read_study(out.parent / "spec.toml"), store_of("condensation", out)
    store.write_study(f"name = '{EVIL_NAME}'\nkind = \"condensation\"\n" if failed else study.to_toml())
    store.write_data(study.data.arrays())
    runs = phasediag.train(study)
    if failed:
        first = runs["job_id"] == runs["job_id"].iloc[0]
        runs.loc[first, ["status", "error"]] = ["failed", EVIL]
        runs.loc[first, ["lines", "aligned_fraction", "active_neurons", "loss"]] = np.nan
    for _, rows in runs[TABLES.runs.names].groupby("status"):
        store.publish_runs(pa.Table.from_pandas(rows, TABLES.runs.schema, preserve_index=False))
    for job in study.sample_jobs():
        rows = trainer_of(study).sample(job, "cpu", 1)
        store.publish_sample(pa.Table.from_pylist(rows, TABLES.samples.schema))
    return store


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Two activations at two scales, of one input."""
    return make_folder(tmp_path_factory.mktemp("small") / "out", SPEC)


def gather(store: Store, progress: Progress | None) -> dict[str, Any]:
    """What the page shows, its runs among them."""
    report = CondensationReport(store)
    shown = report.content(progress)
    return {**shown, "runs_of": {cell: report.runs(cell) for cell in shown["cells"]}}


# What it holds.


def test_numbers_of_layers_and_runs_are_those_of_the_files(small: Store) -> None:
    held, runs = gather(small, read_status(small)), small.runs()
    counts, summaries = count(runs), summarise(runs)
    networks = [(one["activations"], one["dimension"], one["std"]) for one in held["networks"]]
    assert networks == [("tanh", 1, 1e-5), ("tanh", 1, 0.01), ("x2_tanh", 1, 1e-5), ("x2_tanh", 1, 0.01)]
    for layer in held["layers"]:
        name, _, std = networks[layer["network"]]
        there = counts.loc[(counts["activations"] == name) & (counts["std"] == std)]
        assert [held["epochs"][i] for i in layer["counts"]["epoch"]] == there["epoch"].tolist()
        assert layer["counts"]["lines"] == there["lines"].tolist()
        assert layer["counts"]["count"] == there["count"].tolist()
        [summary] = summaries.loc[(summaries["activations"] == name) & (summaries["std"] == std)].to_dict(
            "records"
        )
        for key, value in layer["summary"].items():
            assert value == (None if pd.isna(summary[key]) else pytest.approx(summary[key], rel=1e-4))
    for row in runs.to_dict("records"):
        network = networks.index((row["activations"], row["dimension"], row["std"]))
        jobs = held["runs_of"][held["cells"][network]]
        job, snapshot = jobs["id"].index(row["job_id"]), held["epochs"].index(row["epoch"])
        assert jobs["layers"]["H1"]["lines"][job][snapshot] == row["lines"]
        assert jobs["loss"][job][snapshot] == pytest.approx(row["loss"], rel=1e-3)
    assert held["notes"] == [] and held["failures"]["total"] == 0


def test_kept_networks_have_products_functions_and_losses(small: Store) -> None:
    held, samples = gather(small, None), small.samples()
    assert len(held["kept"]) == 8
    for kept in held["kept"]:
        rows = samples.loc[samples["job_id"] == kept["id"]].reset_index(drop=True)
        for i, products in enumerate(kept["layers"]["H1"]["products"]):
            units = matrix(rows["input"][i])
            units = units / np.linalg.norm(units, axis=1, keepdims=True)
            bytes_ = np.frombuffer(base64.b64decode(products["cosines"]), np.int8) / 127
            assert len(bytes_) == products["neurons"] * (products["neurons"] - 1) // 2
            if products["active"] == 12:  # all of them, in another order
                expected = np.sort((units @ units.T)[np.triu_indices(12, 1)])
                np.testing.assert_allclose(np.sort(bytes_), expected, atol=0.005)
        x, degree = np.array(kept["x"]), int(rows["multiplicity"][0])
        for f, coefficients in zip(kept["functions"], kept["polynomials"], strict=True):
            best = np.polyval(np.polyfit(x, f, degree), x)
            np.testing.assert_allclose(np.polynomial.Polynomial(coefficients)(x), best, atol=1e-3 * np.ptp(f))
        assert len(kept["data"]["x"]) == 20 and len(kept["losses"]) == len(kept["epochs"]) > 2


def test_of_large_layers_a_part_of_the_neurons_is_shown(
    small: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "COSINES_SHOWN", 24 * 18)  # of 24 snapshots: 6 neurons
    products = [one for kept in gather(small, None)["kept"] for one in kept["layers"]["H1"]["products"]]
    assert (
        all(one["neurons"] == min(one["active"], 6) for one in products)
        and max(one["active"] for one in products) > 6
    )
    assert all(one["edges"] == sorted(one["edges"]) and max(one["edges"], default=0) <= 6 for one in products)


def test_layers_and_more_inputs_have_no_function(tmp_path: Path) -> None:
    held = gather(make_folder(tmp_path / "out", LAYERS), None)
    assert [layer["name"] for layer in held["layers"]] == ["H1", "H2"]
    assert [layer["activation"] for layer in held["layers"]] == ["x tanh x", "tanh"]
    assert held["networks"][0]["title"] == "x tanh x / tanh"
    for kept in held["kept"]:
        assert set(kept["layers"]) == {"H1", "H2"} and kept["functions"] == [] == kept["x"]


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    out = tmp_path / "out"
    store = make_folder(out, LAYERS, failed=True)
    for path in ("data.npz", *(f"samples/{job_id}.parquet" for job_id in store.sample_ids())):
        (out / path).unlink()
    held = gather(store, None)
    for words in ("no data.npz", "6 of 12 rows have no count", "No network is kept whole"):
        assert words in " ".join(held["notes"])
    assert held["failures"]["counts"] == {"failed": 1} and held["kept"] == []


def test_a_study_without_rows_has_a_page(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(tomli_w.dumps(SPEC))
    study, store = read_study(tmp_path / "spec.toml"), store_of("condensation", tmp_path / "out")
    store.write_study(study.to_toml())
    store.write_data(study.data.arrays())
    assert invoke("report", store.out).exit_code == 0
    held = Page((tmp_path / "out" / "report.html").read_text()).content
    assert held["layers"] == [] and held["progress"]["missing"] == 12


def test_the_page_of_the_largest_published_study_is_below_8_megabytes(tmp_path: Path) -> None:
    published = Path(__file__).parent.parent / "results" / "condensation_1d"
    file = tmp_path / "report.html"
    assert invoke("report", published, "-o", file).exit_code == 0
    assert 4e6 < file.stat().st_size < 8e6
    assert len(Page(file.read_text()).content["kept"]) == 4


def test_the_page_needs_neither_torch_nor_ray(small: Store) -> None:
    assert heavy_imports_of_page(small.out) == ""


# In a browser.


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, list[str], str]]:
    """A page of the browser, its faults, and the address of a page with hostile names and a run that failed."""
    out = tmp_path_factory.mktemp("browser") / FOLDER
    store = make_folder(out, SPEC, failed=True)
    store.write_report(standalone(CondensationReport(store), None))
    with chromium() as browser:
        yield *new_tab(browser), (out / "report.html").as_uri()


@pytest.fixture
def page(opened: tuple[Any, list[str], str]) -> Iterator[Any]:
    """The page at its start; what it complains about fails the test."""
    page, faults, address = opened
    page.set_viewport_size({"width": 1440, "height": 900})
    page.goto("about:blank")
    page.goto(address)
    yield page
    assert faults == []


def products_of(page: Any) -> list[list[float]]:
    shown: list[list[float]] = page.evaluate("document.getElementById('products').data[0].z")
    return shown


@needs_chromium
def test_selectors_slider_and_clicks_choose_what_is_shown(page: Any) -> None:
    page.locator("#activations").select_option("x2_tanh")
    page.locator("#std").select_option(label="10⁻⁵")
    page.locator("#epoch").fill("2")
    assert page.locator("#cell-title").text_content() == "x² tanh x, std 10⁻⁵, epoch 30"
    last = products_of(page)
    page.locator("#epoch").press("ArrowLeft")
    assert page.locator("#cell-title").text_content().endswith("epoch 10")
    first = products_of(page)
    assert first != last
    assert all(row[i] == 1 for i, row in enumerate(first)) and min(map(min, first)) >= -1
    address = page.url
    page.goto("about:blank")
    page.goto(address)
    assert page.locator("#cell-title").text_content() == "x² tanh x, std 10⁻⁵, epoch 10"
    assert products_of(page) == first
    places = page.evaluate(
        """() => {
            const plot = document.getElementById("lines"), {xaxis, yaxis} = plot._fullLayout, [dots] = plot.data;
            plot.scrollIntoView();
            const box = plot.getBoundingClientRect(), last = dots.customdata.lastIndexOf(2);
            return [box.x + xaxis._offset + xaxis.d2p(dots.x[last]), box.y + yaxis._offset + yaxis.d2p(dots.y[last])];
        }"""
    )
    page.mouse.click(*places)
    wait_for(lambda: page.locator("#cell-title").text_content().endswith("epoch 30"), page)


@needs_chromium
def test_the_summary_and_the_runs_lead_to_each_other(page: Any) -> None:
    page.locator("#summary button").nth(3).click()
    assert page.locator("#cell-title").text_content().startswith("x² tanh x, std 0.01, epoch ")
    page.locator("#cell-runs button").nth(1).click()
    chosen = page.locator("#cell-runs [aria-pressed=true]").get_attribute("aria-label").split()[-1]
    assert page.locator("#job-code").text_content().split()[-1] == chosen
    assert page.locator("#network-choice select").input_value() == page.evaluate("state.job")
    page.get_by_role("button", name="show run").click()
    assert EVIL in page.locator("#cell-runs").text_content()


@needs_chromium
def test_text_of_the_study_stays_text(page: Any) -> None:
    assert page.title() == EVIL_NAME and page.locator("#title").text_content() == EVIL_NAME
    assert FOLDER in page.locator("#subtitle").text_content()
    assert EVIL_NAME in page.locator("#study").text_content()
    assert page.locator("img, main b, section b, [onerror]").count() == 0
    assert json.loads(page.locator("#content").text_content())["failures"]["total"] == 1


@needs_chromium
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_a_desktop(page: Any, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    widths = "names => names.map(name => document.getElementById(name)).map(plot => plot._fullLayout.width - plot.clientWidth)"
    plots = ["lines", "shares", "products", "function", "loss"]
    for width in (360, 1440):
        page.set_viewport_size({"width": width, "height": 900})
        wait_for(lambda: page.evaluate(widths, plots) == [0] * len(plots), page)
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shade == {"light": "rgb(255, 255, 255)", "dark": "rgb(13, 17, 23)"}[scheme]


@needs_chromium
def test_everything_is_reached_by_the_tab_key_with_a_visible_focus(page: Any) -> None:
    page.mouse.click(5, 5)
    reached, outlines = [], set()
    while "epoch" not in reached and len(reached) < 20:
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.id"))
        outlines.add(page.evaluate("getComputedStyle(document.activeElement).outlineWidth"))
    assert [name for name in reached if name] == ["theme", "summary", "activations", "std", "epoch"]
    assert outlines == {"3px"}

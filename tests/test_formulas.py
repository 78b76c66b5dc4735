"""The formulas of the documentation, which the site sets by a KaTeX of its own, and GitHub where pages are read there."""

from __future__ import annotations

import re

import pytest
from test_docs import LINKING, ROOT
from test_report_browser import CHROMIUM, browser  # noqa: F401  a fixture

CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?=\S)(.+?)(?<=\S)\$", re.DOTALL)


def formulas() -> set[str]:
    texts = (CODE.sub("", page.read_text(encoding="utf-8")) for page in LINKING)
    return {"".join(found) for text in texts for found in FORMULA.findall(text)}


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: apt install chromium")
def test_katex_sets_every_formula(browser) -> None:  # noqa: F811
    page = browser.new_page()
    page.add_script_tag(path=ROOT / "docs/vendor/katex/katex.min.js")
    found = formulas()
    assert len(found) > 50
    assert [
        one for one in found if "katex" not in page.evaluate("tex => katex.renderToString(tex)", one)
    ] == []


def test_markdown_leaves_formulas_alone() -> None:
    """A bar would end the cell of a table; a backslash before punctuation is Markdown's, which GitHub takes away."""
    assert {one for one in formulas() if "|" in one or re.search(r"\\[^\w\s]", one)} == set()

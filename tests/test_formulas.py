"""The formulas of the documentation, which the site sets by a KaTeX of its own, and GitHub where pages are read there."""

from __future__ import annotations

import re

from browsers import chromium, needs_chromium
from test_docs import LINKING, ROOT

CODE = re.compile(r"^```.*?^```|`[^`\n]*`", re.MULTILINE | re.DOTALL)
FORMULA = re.compile(r"\$\$(.+?)\$\$|\$(?=\S)(.+?)(?<=\S)\$", re.DOTALL)


def formulas() -> set[str]:
    texts = (CODE.sub("", page.read_text(encoding="utf-8")) for page in LINKING)
    return {"".join(found) for text in texts for found in FORMULA.findall(text)}


@needs_chromium
def test_katex_sets_every_formula() -> None:
    found = formulas()
    assert len(found) > 50
    with chromium() as browser:
        page = browser.new_page()
        page.add_script_tag(path=ROOT / "docs/vendor/katex/katex.min.js")
        set_ = {one: page.evaluate("tex => katex.renderToString(tex)", one) for one in found}
    assert [one for one, html in set_.items() if "katex" not in html] == []


def test_markdown_leaves_formulas_alone() -> None:
    """A bar would end the cell of a table; a backslash before punctuation is Markdown's, which GitHub takes away."""
    assert {one for one in formulas() if "|" in one or re.search(r"\\[^\w\s]", one)} == set()

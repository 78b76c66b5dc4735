"""Lets the pages link to the files of the repository that are not in docs/, in the way that also works where the repository is browsed.

The site has a page for every Markdown file that a page links to, directly or by way of others, a page that shows every text file or
lists a folder, and a copy of every image and notebook. Links are rewritten when a page is built.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
DOCS = "docs/"
LINK = re.compile(r"(?<=\]\()(?P<target>[^)#\s:]+)(?=[)#])")
LANGUAGES = {".py": "python", ".toml": "toml", ".yaml": "yaml", ".sh": "bash", "": "docker"}
COPIED = (".ipynb", ".png", ".svg")
LISTED = "---\nsearch:\n  exclude: true\n---\n"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds what the pages link to, and what that links to."""
    waiting = [DOCS + page.src_uri for page in files.documentation_pages()]
    while waiting:
        source = waiting.pop()
        for target in _links(source):
            uri = _uri(target)
            if files.get_file_from_path(uri) is None:
                files.append(_file(target, uri, config))
                waiting += [target] if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Points links at where the site has what the repository has there."""
    here = page.file.src_uri
    source = here if (ROOT / here).is_file() else DOCS + here

    def rewritten(link: re.Match[str]) -> str:
        target = _resolved(source, link["target"])
        return os.path.relpath(_uri(target), Path(here).parent) if target else link["target"]

    return LINK.sub(rewritten, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Images are fetched when they come into view."""
    return html.replace("<img ", '<img loading="lazy" ')


def _links(source: str) -> list[str]:
    """The files and folders of the repository that a Markdown file of it links to."""
    text = (ROOT / source).read_text(encoding="utf-8")
    targets = (_resolved(source, link["target"]) for link in LINK.finditer(text))
    return [target for target in targets if target]


def _resolved(source: str, target: str) -> str | None:
    """The path in the repository that a link means; None if there is no such thing."""
    path = os.path.normpath(Path(source).parent / target)
    return path if not path.startswith("..") and (ROOT / path).exists() else None


def _uri(path: str) -> str:
    """Where the site has a path of the repository, as the path of its source."""
    if path.startswith(DOCS):
        return path.removeprefix(DOCS)
    if (ROOT / path).is_dir():
        return f"{path}/README.md"
    return path if path.endswith((".md", *COPIED)) else f"{path}.md"


def _file(path: str, uri: str, config: MkDocsConfig) -> File:
    """A page of the site, or a copy."""
    source = ROOT / path
    if source.is_dir() and not (source / "README.md").exists():
        names = sorted(entry.name for entry in source.iterdir() if entry.is_file())
        content = f"{LISTED}# {path}/\n\n" + "".join(f"- `{name}`\n" for name in names)
        return File.generated(config, uri, content=content)
    if source.is_file() and not path.endswith((".md", *COPIED)):
        shown = f"~~~~~~ {LANGUAGES[source.suffix]}\n{source.read_text(encoding='utf-8')}\n~~~~~~\n"
        return File.generated(config, uri, content=f"{LISTED}# {path}\n\n{shown}")
    return File.generated(config, uri, abs_src_path=str(ROOT / uri))

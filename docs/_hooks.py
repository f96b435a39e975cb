"""Hooks of mkdocs: the pages are written for the repository, and the site follows them.

Links are those that work in the repository. Markdown files outside of `docs/` become pages below `project/`;
what is no page is named and not linked. Anchors are GitHub's, so that one spelling works in both places.
"""

import os.path
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parent.parent
DOCS = "docs"
PROJECT = "project"
# folders that hold no pages of this project, or none for readers
LEFT_OUT = {"node_modules", "site", "target", "tests"}

FENCE = re.compile(r"^ *(```|~~~)")
CODE_OR_LINK = re.compile(r"(`+)(?:.*?)\1|(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
NOT_IN_AN_ANCHOR = re.compile(r"[^\w\- ]")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Name anchors as GitHub does."""
    config.mdx_configs["toc"] = {"slugify": github_anchor}
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the repository's other Markdown files as pages."""
    for path in project_pages():
        uri = f"{PROJECT}/{path}"
        files.append(File.generated(config, uri, content=(ROOT / path).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Point the links of a page to where the site has their targets."""
    uri = page.file.src_uri
    project = uri.startswith(f"{PROJECT}/")
    source = uri.removeprefix(f"{PROJECT}/") if project else f"{DOCS}/{uri}"

    def moved(target: str) -> str | None:
        parts = urlsplit(target)
        if parts.scheme or not parts.path:
            return target
        path = os.path.normpath(os.path.join(os.path.dirname(source), unquote(parts.path)))  # noqa: PTH118, PTH120
        there = _in_site(path)
        if there is None:
            return None if (ROOT / path).exists() else target  # mkdocs says what leads nowhere
        return os.path.relpath(there, os.path.dirname(uri)) + (f"#{parts.fragment}" if parts.fragment else "")  # noqa: PTH120

    return with_links(markdown, moved)


def project_pages() -> list[str]:
    """The repository's Markdown files outside of `docs/`, by path."""
    found = [path.name for path in ROOT.glob("*.md")]
    for folder in ("sources", "pipelines"):
        found += [str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("README.md")]
    return sorted(path for path in found if not LEFT_OUT & set(Path(path).parts))


def github_anchor(heading: str, separator: str = "-") -> str:
    """The anchor that GitHub gives to a heading."""
    return NOT_IN_AN_ANCHOR.sub("", heading.strip().lower()).replace(" ", separator)


def with_links(markdown: str, moved: Callable[[str], str | None]) -> str:
    """The text with other targets in its links; a link whose target is None becomes its text.

    Code is left as it is.
    """

    def replaced(found: "re.Match[str]") -> str:
        if found["target"] is None:
            return found[0]
        target = moved(found["target"])
        return found["text"] if target is None else f"{found['image']}[{found['text']}]({target})"

    lines, is_code = [], False
    for line in markdown.split("\n"):
        if FENCE.match(line):
            is_code = not is_code
        lines.append(line if is_code else CODE_OR_LINK.sub(replaced, line))
    return "\n".join(lines)


def _in_site(path: str) -> str | None:
    """Where the site has a file of the repository; None where it has not."""
    if path.startswith(f"{DOCS}/"):
        return path.removeprefix(f"{DOCS}/") if path.endswith((".md", ".png")) else None
    return f"{PROJECT}/{path}" if path in project_pages() else None

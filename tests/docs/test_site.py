"""The documentation as a site: it builds, asks nothing of other hosts, and every link leads somewhere."""

import importlib.util
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from urllib.parse import unquote, urlsplit

import pytest

from tests.docs.questions import DOCS

ROOT = DOCS.parent
# elements that make a browser fetch something
FETCHING = {"script": "src", "link": "href", "img": "src", "source": "src", "iframe": "src", "object": "data"}
# links of <link> that nothing fetches
NOT_FETCHED = {"canonical", "next", "prev", "alternate"}


def load_hooks() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_hooks", DOCS / "_hooks.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


hooks = load_hooks()
PAGES = sorted([*(f"docs/{page.name}" for page in DOCS.glob("*.md")), *hooks.project_pages()])


class References(HTMLParser):
    """What a built page fetches, links to and can be linked at."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.anchors.add(attributes.get("id", ""))
        if tag == "a" and "href" in attributes:
            self.linked.append(attributes["href"])
        elif FETCHING.get(tag) in attributes and attributes.get("rel") not in NOT_FETCHED:
            self.fetched.append(attributes[FETCHING[tag]])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site as `make docs` builds it."""
    place = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(place)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    return place


@pytest.fixture(scope="module")
def built(site: Path) -> dict[Path, References]:
    pages = site.rglob("*.html")
    return {page: References(page.read_text(encoding="utf-8")) for page in pages if page.name != "404.html"}


def links(page: str) -> Iterator[str]:
    found: list[str] = []
    hooks.with_links((ROOT / page).read_text(encoding="utf-8"), found.append)
    yield from found


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    seen: Counter[str] = Counter()
    found = set()
    is_code = False
    for line in page.read_text(encoding="utf-8").splitlines():
        is_code ^= bool(hooks.FENCE.match(line))
        if (heading := re.match(r"#{1,6} (.+)", line)) and not is_code:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1])
            anchor = hooks.github_anchor(text)
            found.add(f"{anchor}-{seen[anchor]}" if seen[anchor] else anchor)
            seen[anchor] += 1
    return found


def test_every_page_is_built(built: dict[Path, References]) -> None:
    assert len(built) == len(PAGES)


@pytest.mark.parametrize("page", [page for page in PAGES if page.startswith("docs/")])
def test_every_page_of_docs_is_in_the_navigation_and_in_the_index(page: str) -> None:
    name = Path(page).name
    assert f": {name}\n" in (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), (
        f"add {name} to nav in mkdocs.yml"
    )
    assert name == "README.md" or name in links("docs/README.md"), f"add {name} to docs/README.md"


def test_no_page_asks_another_host_for_anything(site: Path, built: dict[Path, References]) -> None:
    for page, references in built.items():
        assert references.fetched
        for target in references.fetched:
            parts = urlsplit(target)
            assert not parts.scheme, target
            assert not parts.netloc, target
            assert (page.parent / parts.path).is_file(), target
    for sheet in site.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8")
        assert "@import" not in text
        for target in re.findall(r"url\(['\"]?([^)]*)\)", text):
            assert target.startswith("data:") or not re.match(r"\w+:|//", target), target


def test_every_link_of_the_site_leads_somewhere(built: dict[Path, References]) -> None:
    for page, references in built.items():
        for target in references.linked:
            parts = urlsplit(target)
            if parts.scheme:
                continue
            there = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            assert there in built, f"{page.name}: {target}"
            assert not parts.fragment or parts.fragment in built[there].anchors, f"{page.name}: {target}"


def test_everything_written_is_understood_by_the_site(built: dict[Path, References]) -> None:
    for page in built:
        text = page.read_text(encoding="utf-8")
        assert "```" not in text, f"{page.name}: a block of code that is none; do not indent it"
        misread = re.search(r"<code>(sh|sql|python|toml|text|csv)\n", text) or re.search(
            r"<p>[^<]*\| ---", text
        )
        assert not misread, f"{page.name}: {misread}"


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    for target in links(page):
        parts = urlsplit(target)
        if parts.scheme or parts.netloc:
            assert parts.scheme == "https", target
            assert re.fullmatch(r"[\w-]+(\.[\w-]+)+", parts.netloc), target
            continue
        there = (ROOT / page).parent / unquote(parts.path) if parts.path else ROOT / page
        assert there.exists(), target
        assert not parts.path.startswith("/"), target
        assert there.resolve().is_relative_to(ROOT), target
        assert not parts.fragment or parts.fragment in anchors(there), target


@pytest.mark.parametrize(
    ("heading", "anchor"),
    [
        ("What a sweep costs", "what-a-sweep-costs"),
        ("`polls`, and what is in it", "polls-and-what-is-in-it"),
        ("Down — or unknown?", "down--or-unknown"),
        ("profile_changes", "profile_changes"),
        ("1. What was the uptime?", "1-what-was-the-uptime"),
    ],
)
def test_anchors_are_github_s(heading: str, anchor: str) -> None:
    assert hooks.github_anchor(heading) == anchor


def test_links_in_code_are_code() -> None:
    text = "[a](b) `[c](d)`\n```sql\n[e](f)\n```\n[g](h)"
    assert hooks.with_links(text, str.upper) == "[a](B) `[c](d)`\n```sql\n[e](f)\n```\n[g](H)"
    assert hooks.with_links("[a `b`](c)", lambda _: None) == "a `b`"

"""The README's picture: the top of a report.

.venv/bin/python -m tests.pipelines.report.picture demo/health.html docs/report.png
"""

import sys
from pathlib import Path

from tests.pipelines.report.browser import running_browser

WIDTH, HEIGHT = 1080, 1130


def take_picture(report: Path, picture: Path) -> None:
    """Write what a person sees first as PNG."""
    with running_browser() as browser:
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        page.goto(report.absolute().as_uri())
        page.screenshot(path=picture)


if __name__ == "__main__":
    take_picture(Path(sys.argv[1]), Path(sys.argv[2]))

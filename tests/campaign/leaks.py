"""`python -m tests.campaign.leaks`: look for secrets in everything that loads say, write and leave behind.

Exit status: 0 if none was found, else 1.
"""

import logging
import os
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.postgres import postgres_server

from . import leak_scenes
from .canaries import Search

SHOWN_HITS = 50


def look(directory: Path, console: Console) -> Search:
    """Play all scenes."""
    search = Search()
    leak_scenes.representations(search, directory)
    console.print("representations", markup=False)
    for scene in (leak_scenes.quoting_servers, leak_scenes.hashed, leak_scenes.stages):
        scene(search, directory)
        console.print(scene.__name__, markup=False)
    with postgres_server() as uri:
        leak_scenes.own_table(search, directory, uri)
    console.print("own_table", markup=False)
    for endpoint in ("userinfo", "token", "account"):
        leak_scenes.killed(search, directory, endpoint)
        console.print(f"killed {endpoint}", markup=False)
    failed = leak_scenes.failing(search, directory)
    console.print(f"{len(failed)} tracebacks", markup=False)
    return search


def print_findings(search: Search, console: Console) -> None:
    """The table, every hit, and the last line."""
    table = Table(title="Secrets looked for", title_justify="left")
    for column in ("scene", "in"):
        table.add_column(column)
    for column in ("bytes", "hits"):
        table.add_column(column, justify="right")
    for (scene, kind), size in search.sizes.items():
        table.add_row(scene, kind, f"{size:,}", str(search.hits_in(scene, kind)))
    console.print(table)
    for (scene, kind, name), found in list(search.hits.items())[:SHOWN_HITS]:
        said = ", ".join(f"{secret} ({form})" for secret, form in sorted(found))
        console.print(f"{scene}, {kind}, {name}: {said}", markup=False)
    console.print(search.summary(), markup=False)


def main() -> None:
    """Look, print, and exit."""
    logging.getLogger("dlt_cronofy").setLevel(logging.CRITICAL)
    console = Console(highlight=False, soft_wrap=True)
    with tempfile.TemporaryDirectory(prefix="leaks-") as name:
        directory = Path(name)
        os.environ |= {"DLT_DATA_DIR": str(directory / "dlt"), "RUNTIME__DLTHUB_TELEMETRY": "false"}
        search = look(directory, console)
    print_findings(search, console)
    sys.exit(bool(search.hits))


if __name__ == "__main__":
    main()

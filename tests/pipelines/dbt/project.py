"""A dbt project that uses the package, as somebody's own would, over a DuckDB file with a history."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.pipelines.views.warehouse import DuckDBWarehouse, Row, create_tables, create_views, fill
from tests.pipelines.views.worlds import Poll, World

ROOT = Path(__file__).parents[3]
DBT_PYTHON = ROOT / ".venv-dbt" / "bin" / "python"

# one process for all commands: to start dbt takes about as long as what it does
RUN = """
import shlex, sys
from dbt.cli.main import dbtRunner
for command in sys.argv[1:]:
    # a warning, such as of something deprecated, is an error
    if not dbtRunner().invoke(["--warn-error", "--quiet", *shlex.split(command)]).success:
        sys.exit(f"dbt {command} failed")
"""

# where dbt puts the models; the tables and our own views are in `cronofy`
MODELS = "models"

# its user wants tables, which many tests read faster, and a view of this one
VIEW = "provider_daily"

PROJECT = f"""\
name: calendars
profile: calendars
models:
  cronofy:
    +materialized: table
    {VIEW}:
      +materialized: view
flags:
  send_anonymous_usage_stats: false
"""
PACKAGES = """\
packages:
  - local: ../package
"""
# the session does not think in UTC, and no model may notice
PROFILES = f"""\
calendars:
  target: dev
  outputs:
    dev:
      type: duckdb
      path: "{{{{ env_var('WAREHOUSE') }}}}"
      schema: {MODELS}
      threads: 2
      settings: {{TimeZone: America/St_Johns}}
"""


@dataclass(frozen=True)
class Project:
    """A dbt project in a directory, and the DuckDB file it works on."""

    directory: Path
    warehouse: Path

    def create(self) -> None:
        """Write its files."""
        self.directory.mkdir()
        files = {"dbt_project.yml": PROJECT, "packages.yml": PACKAGES, "profiles.yml": PROFILES}
        for name, text in files.items():
            (self.directory / name).write_text(text)

    def dbt(self, *commands: str) -> "subprocess.CompletedProcess[str]":
        """Run commands of dbt, such as `docs generate`, up to the first that fails."""
        settings = {
            "WAREHOUSE": str(self.warehouse),
            "DBT_PROFILES_DIR": str(self.directory),
            "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
            "DBT_USE_COLORS": "false",
        }
        command = [str(DBT_PYTHON), "-c", RUN, *commands]
        environment = os.environ | settings
        return subprocess.run(
            command, cwd=self.directory, env=environment, capture_output=True, text=True, check=False
        )

    def target(self, name: str) -> Any:
        """One of the JSON files that the last run left."""
        return json.loads((self.directory / "target" / name).read_text())

    def statuses(self) -> dict[str, str]:
        """How each model and test of the last run ended."""
        return {
            result["unique_id"]: result["status"] for result in self.target("run_results.json")["results"]
        }


def create_warehouse(file: Path, world: World) -> None:
    """Raw tables and our own views in a DuckDB file; models see it as a catalog of the file's name."""
    warehouse = DuckDBWarehouse()
    # under a name that is not also the schema's: the load does the same
    warehouse.execute(f"ATTACH '{file}' AS made")
    warehouse.execute("USE made")
    create_tables(warehouse)
    fill(warehouse, tables(world))
    warehouse.execute("USE made.cronofy")
    create_views(warehouse)
    warehouse.close()


def tables(world: World) -> dict[str, list[Row]]:
    """The raw rows of a world, with somebody to ask for most of its accounts."""
    newest = {poll.token_key: poll for poll in world.polls if poll.outcome == "ok"}
    raw = world.tables()
    return raw | {
        # loads merge them by their keys
        "polls": list({row["poll_id"]: row for row in raw["polls"]}.values()),
        "userinfo": [_owner(poll) for poll in newest.values() if not poll.token_key.startswith("tok_0")],
        "account": [_owner(poll) for poll in newest.values() if not poll.token_key.startswith("tok_1")],
    }


def _owner(poll: Poll) -> Row:
    return {
        "token_key": poll.token_key,
        "account_id": poll.account_id,
        "email": f"{poll.account_id}@example.test",
        "name": f"Owner of {poll.account_id}",
        "observed_at": poll.polled_at,
    }

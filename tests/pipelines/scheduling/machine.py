"""A machine that a recipe of `pipelines/scheduling` is installed on, all of it below one folder."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.acceptance.place import query, run

ROOT = Path(__file__).parents[3]
RECIPES = ROOT / "pipelines" / "scheduling"
PAGE = ROOT / "docs" / "scheduling.md"
# the environment these tests run in stands for the one that a recipe installs
VENV = Path(sys.prefix)

# a command that is not on this machine, or must not be run: it writes down how it was called
STUB = """#!/bin/sh
echo "$(basename "$0")" "$@" >> {calls}
{action}
"""


@dataclass(frozen=True)
class Machine:
    """Folders, settings and stand-ins for the programs of a machine."""

    root: Path
    base_url: str
    tokens: Path  # the application's database, with its table of tokens

    @property
    def checkout(self) -> Path:
        """What is `/opt/dlt-cronofy` in the recipes."""
        return self.root / "opt" / "dlt-cronofy"

    @property
    def stubs(self) -> Path:
        """Stands before everything else on the PATH."""
        return self.root / "stubs"

    @property
    def configuration(self) -> str:
        """A `config.toml`: nothing written outside of this folder, and a query, as docs/tokens.md has it."""
        return (
            f'pipelines_dir = "{self.root / "working"}"\n'
            "[runtime]\ndlthub_telemetry = false\n"
            "[sources.cronofy]\n"
            'tokens_query = "SELECT id AS key, token AS access_token FROM cronofy_tokens"\n'
        )

    @property
    def secrets(self) -> str:
        """A `secrets.toml`: the database of that query, and the sandbox in place of Cronofy."""
        return (
            f'[sources.cronofy]\nbase_url = "{self.base_url}"\ntokens_database = "sqlite:///{self.tokens}"\n'
        )

    def install(self) -> None:
        """What people have done before they schedule anything."""
        (self.checkout / ".dlt").mkdir(parents=True)
        (self.checkout / ".dlt" / "config.toml").write_text(self.configuration, encoding="utf-8")
        (self.checkout / ".dlt" / "secrets.toml").write_text(self.secrets, encoding="utf-8")
        (self.checkout / ".venv").symlink_to(VENV)
        (self.checkout / "pipelines").symlink_to(ROOT / "pipelines")
        self.stubs.mkdir()

    def stub(self, name: str, action: str = "exit 0") -> None:
        """Put a stand-in for a program on the PATH."""
        path = self.stubs / name
        path.write_text(
            STUB.format(calls=shlex.quote(str(self.root / "calls")), action=action), encoding="utf-8"
        )
        path.chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """How stand-ins were called."""
        path = self.root / "calls"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    def moved(self, text: str) -> str:
        """A recipe's text with this machine's folders."""
        return text.replace("/opt/dlt-cronofy", str(self.checkout))

    def environment(self, **variables: str) -> dict[str, str]:
        """The least a program gets, with this folder as home."""
        path = os.pathsep.join(map(str, (self.stubs, VENV / "bin", "/usr/bin", "/bin")))
        return {"PATH": path, "HOME": str(self.root), "DLT_DATA_DIR": str(self.root / "data")} | variables

    def shell(self, script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a script in the checkout as GitHub's runners run steps: any failure ends it."""
        command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        return run(command, self.checkout, self.environment(**variables))


def execute(
    command: Sequence[str], directory: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """Run a command to its end, which must be a good one."""
    done = run(command, directory, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def polled_tokens(database: Path) -> int:
    """How many tokens were read successfully, by a DuckDB file."""
    ((count,),) = query(database, "SELECT COUNT(DISTINCT token_key) FROM polls WHERE outcome = 'ok'")
    return int(count)


def blocks(language: str) -> dict[str, str]:
    """The page's blocks in a language, by the comment that stands before each."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(rf"(?:<!-- ([\w ]+) -->\n)?```{language}\n(.*?)```", text, re.DOTALL)
    return {label or block.splitlines()[0]: block for label, block in found}

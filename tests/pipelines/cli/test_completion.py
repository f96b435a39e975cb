"""Shell completion: what `completion` prints makes a real shell complete."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli

COMPLETED = """
source "$1"
COMP_WORDS=(dlt-cronofy {words}) COMP_CWORD={index}
_dlt_cronofy_completion dlt-cronofy
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("words", "index", "expected"),
    [("rep", 1, ["report"]), ("load --max-d", 2, ["--max-duration"]), ("load --order ha", 3, ["hazard"])],
)
def test_bash_completes(words: str, index: int, expected: list[str], tmp_path: Path) -> None:
    script = tmp_path / "completion.bash"
    script.write_text(CliRunner().invoke(cli, ["completion", "bash"]).stdout)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    shown = subprocess.run(
        ["bash", "-c", COMPLETED.format(words=words, index=index), "bash", str(script)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout.split() == expected


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_its_own(shell: str) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_DLT_CRONOFY_COMPLETE={shell}_complete" in printed.stdout

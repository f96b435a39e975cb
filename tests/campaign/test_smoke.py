"""The campaigns in short: three kills, and every write of a checkpoint torn."""

import subprocess
import sys
from pathlib import Path

import pytest

from .plan import Round
from .rounds import Campaign


@pytest.mark.long
def test_three_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    campaign = Campaign("duckdb", seed=4, directory=tmp_path, say=print, accounts=20)
    between = Round(0, ("second content without evidence", "all normalized"), package_polls=10, turns=True)
    findings = campaign.run(kills=1, seconds=300, durations=[1.2], first=[between])
    assert (findings.at_instants, findings.kills) == (2, 1)
    assert (findings.lost, findings.duplicated, findings.wrong) == ([], [], [])
    assert findings.view_checks >= 1


@pytest.mark.long
def test_torn_writes() -> None:
    """Some of a checkpoint, of a load and of `erase`."""
    scenes = ("--scene", "checkpoint=6", "--scene", "load of changes=1", "--scene", "erase over a log=1")
    command = [sys.executable, "-m", "tests.campaign.torn", *scenes]
    played = subprocess.run(command, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count(", 0 not healed") == 3

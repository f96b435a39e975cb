"""The campaign itself, as far as three kills show that it works."""

from pathlib import Path

import pytest

from .plan import Round
from .rounds import Campaign


def test_three_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    campaign = Campaign("duckdb", seed=4, directory=tmp_path, say=print, accounts=20)
    between = Round(0, ("second content without polls", "all normalized"), package_polls=10, turns=True)
    findings = campaign.run(kills=1, seconds=300, durations=[1.2], first=[between])
    assert (findings.at_instants, findings.kills) == (2, 1)
    assert (findings.lost, findings.duplicated, findings.wrong) == ([], [], [])
    assert findings.view_checks >= 1

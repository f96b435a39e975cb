"""The campaign itself, as far as three kills show that it works."""

from pathlib import Path

import pytest

from .rounds import Campaign


def test_three_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DLT_DATA_DIR", str(tmp_path / "data"))
    campaign = Campaign("duckdb", seed=4, directory=tmp_path, say=print, accounts=20)
    findings = campaign.run(kills=3, seconds=60, durations=[1.2])
    assert findings.kills >= 3
    assert (findings.lost, findings.duplicated, findings.wrong) == ([], [], [])
    assert findings.view_checks >= 1

"""`dlt-cronofy report`: the file it writes, what it tells since when, and what it refuses."""

import stat
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner

from dlt_cronofy.cli.main import cli
from dlt_cronofy.report.command import parse_since
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import Place
from tests.pipelines.conftest import Answers


@pytest.fixture
def loaded(place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Place:
    """One of two accounts is down since the first look."""
    answers.by_token = {
        "up": userinfo("acc_up", [profile("pro_1")]),
        "down": userinfo("acc_down", [profile("pro_2", connected=False)]),
    }
    place.write_tokens(["up", "down"])
    place.load(endpoints=("userinfo",), refresh_views=True)
    monkeypatch.chdir(place.directory)
    return place


def test_it_writes_a_file_and_tells_what_changed_since_the_last_one(loaded: Place, answers: Answers) -> None:
    done = loaded.invoke("report")
    assert done.exit_code == 0, done.stderr
    first = "health.html: 1 account needs action (1 connection down); this is the first look"
    assert done.stdout.strip() == first
    file = loaded.directory / "health.html"
    assert "1 account needs action" in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(loaded.directory.glob(".health*"))
    check_that_no_other_file_is_overwritten(loaded)

    file.chmod(0o644)
    answers.by_token["down"] = userinfo("acc_down", [profile("pro_2")])
    answers.by_token["up"] = userinfo("acc_up", [profile("pro_1", connected=False)])
    loaded.load(endpoints=("userinfo",), every=timedelta(0))
    done = loaded.invoke("report", "--csv", "worklist.csv")
    assert done.stdout.startswith("health.html: 1 account needs action (1 connection down)")
    table = (loaded.directory / "worklist.csv").read_text(encoding="utf-8-sig").splitlines()
    assert table[0].startswith("customer,email_domain,name,email,account_id")
    assert [line.split(",")[4] for line in table[1:]] == ["acc_up"]
    # people who were allowed to read the last one may read this one
    assert stat.S_IMODE(file.stat().st_mode) == 0o644
    assert loaded.invoke("report", "--since", "1h").exit_code == 0

    loaded.execute("DROP VIEW token_health CASCADE")
    done = loaded.invoke("report")
    assert done.exit_code == 1
    assert done.stderr.rstrip().endswith("token_health is not there; run dlt-cronofy views")


OTHER_FILES = [
    ("notes.txt", b"my notes", "is not an earlier report; name another file"),
    ("picture.png", b"\x89PNG\xff", "not text"),
    ("nowhere/health.html", None, "No such file or directory"),
]


def check_that_no_other_file_is_overwritten(loaded: Place) -> None:
    for name, content, expected in OTHER_FILES:
        file = loaded.directory / name
        if content is not None:
            file.write_bytes(content)
        done = loaded.invoke("report", "--output", name)
        assert done.exit_code == 2
        assert done.stderr.count("\n") == 1
        assert f"--output {name}: {expected}" in done.stderr
        assert content is None or file.read_bytes() == content
    done = loaded.invoke("report", "--csv", "notes.txt")
    assert done.exit_code == 2
    assert "--csv notes.txt: is not an earlier table; name another file" in done.stderr
    assert (loaded.directory / "notes.txt").read_bytes() == b"my notes"


def test_nothing_loaded_yet_is_one_line_and_2(new_place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(new_place.directory)
    done = new_place.invoke("report")
    assert done.exit_code == 2
    assert "holds no data yet; run" in done.stderr
    assert not (new_place.directory / "health.html").exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7d", timedelta(days=7)),
        ("90m", timedelta(minutes=90)),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC)),
        ("2026-01-31T06:00", datetime(2026, 1, 31, 6, tzinfo=UTC)),
        ("2026-01-31T06:00+02:00", datetime(2026, 1, 31, 4, tzinfo=UTC)),
    ],
)
def test_since_is_an_age_or_a_time(text: str, expected: datetime | timedelta) -> None:
    assert parse_since(text) == expected


def test_since_anything_else_is_a_usage_error() -> None:
    done = CliRunner().invoke(cli, ["report", "--since", "yesterday"])
    assert done.exit_code == 2
    assert "'yesterday' is not a duration like 90s, 30m, 1h or 7d, or a time such as" in done.stderr

"""`dlt-cronofy report`: the file it writes, what it tells since when, and what it refuses."""

import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from click.testing import CliRunner, Result

from dlt_cronofy.cli.main import cli
from dlt_cronofy.report.command import parse_since
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import Place
from tests.pipelines.conftest import Answers

Report = Callable[..., Result]


@pytest.fixture
def report(place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Report:
    """Runs the command where one of two accounts is down since the first look."""
    answers.by_token = {
        "up": userinfo("acc_up", [profile("pro_1")]),
        "down": userinfo("acc_down", [profile("pro_2", connected=False)]),
    }
    place.write_tokens(["up", "down"])
    place.load(endpoints=("userinfo",), refresh_views=True)
    monkeypatch.chdir(place.directory)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(
            cli, ["report", *arguments], env=place.environment(), catch_exceptions=False
        )

    return run


def test_it_writes_a_file_and_says_what_it_comes_to(report: Report, place: Place) -> None:
    done = report()
    assert done.exit_code == 0, done.stderr
    assert done.stdout.startswith("health.html: 1 open outage; 0 broke and 0 relinked since ")
    assert done.stdout.rstrip().endswith("UTC; 1 down when first seen")
    file = place.directory / "health.html"
    assert "1 account must be asked to relink" in file.read_text(encoding="utf-8")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert not list(place.directory.glob(".health*"))


def test_the_next_one_tells_what_changed_since(report: Report, place: Place, answers: Answers) -> None:
    report("-o", "r.html")
    (place.directory / "r.html").chmod(0o644)
    assert "0 broke and 0 relinked since" in report("-o", "r.html").stdout
    answers.by_token["down"] = userinfo("acc_down", [profile("pro_2")])
    place.load(endpoints=("userinfo",), every=timedelta(0))
    done = report("-o", "r.html")
    assert "0 open outages; 0 broke and 1 relinked since" in done.stdout
    assert done.stdout.rstrip().endswith("UTC, the last report")
    assert "What changed since the last report" in (place.directory / "r.html").read_text(encoding="utf-8")
    # whoever was allowed to read the last one may read this one
    assert stat.S_IMODE((place.directory / "r.html").stat().st_mode) == 0o644
    answers.by_token["up"] = userinfo("acc_up", [profile("pro_1", connected=False)])
    place.load(endpoints=("userinfo",), every=timedelta(0))
    assert "1 open outage; 1 broke and 1 relinked" in report("-o", "r.html", "--since", "1h").stdout


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("notes.txt", b"my notes", "is not an earlier report; name another file"),
        ("picture.png", b"\x89PNG\xff", "not text"),
        ("nowhere/health.html", None, "No such file or directory"),
    ],
)
def test_it_overwrites_no_other_file(
    name: str, content: bytes | None, expected: str, report: Report, place: Place
) -> None:
    file = place.directory / name
    if content is not None:
        file.write_bytes(content)
    done = report("--output", name)
    assert done.exit_code == 2
    assert done.stderr.count("\n") == 1
    assert f"--output {name}: {expected}" in done.stderr
    assert content is None or file.read_bytes() == content


def test_nothing_loaded_yet_is_one_line_and_2(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.directory)
    done = CliRunner().invoke(cli, ["report"], env=place.environment(), catch_exceptions=False)
    assert done.exit_code == 2
    assert "holds no data yet; run" in done.stderr
    assert not (place.directory / "health.html").exists()


def test_without_views_it_says_how_to_make_them(
    place: Place, answers: Answers, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers.by_token = {"one": userinfo("acc_1", [profile("pro_1")])}
    place.write_tokens(["one"])
    place.load(endpoints=("userinfo",))
    monkeypatch.chdir(place.directory)
    done = CliRunner().invoke(cli, ["report"], env=place.environment(), catch_exceptions=False)
    assert done.exit_code == 1
    assert done.stderr.rstrip().endswith("token_health is not there; run dlt-cronofy views")


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

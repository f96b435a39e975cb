"""The command line: exit status, one line on stderr for what a person can mend, results on stdout."""

import json
import sys
from collections import Counter
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from dlt_cronofy.cli.main import cli
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import COMMAND, Place, run
from tests.acceptance.server import Reply, ScriptedServer
from tests.pipelines.conftest import Answers

GOOD = '["one"]'


def invoke(place: Place, *arguments: str, **environment: str) -> Result:
    """Run a command in this process, with the place's configuration in the environment."""
    return CliRunner().invoke(cli, arguments, env=place.environment(**environment), catch_exceptions=False)


@pytest.fixture
def tokens(place: Place, answers: Answers) -> list[str]:
    """Four tokens that can be read."""
    keys = ["one", "two", "three", "four"]
    answers.by_token = {key: userinfo(f"acc_{key}", [profile("pro_1")]) for key in keys}
    place.write_tokens(keys)
    return keys


# configuration, and what the one line must say
BAD_CONFIGURATION: dict[str, tuple[dict[str, str], tuple[str, ...]]] = {
    "no tokens": ({}, ("no tokens", "tokens_file", "[sources.cronofy]")),
    "two stores": ({"TOKENS": GOOD, "TOKENS_FILE": "tokens.csv"}, ("two token stores", "tokens_file")),
    "tokens are no list": ({"TOKENS": '{"a": 1}'}, ("tokens", "list")),
    "empty list": ({"TOKENS": "[]"}, ("tokens", "no tokens")),
    "duplicate keys": (
        {"TOKENS": json.dumps([{"key": "a", "access_token": each} for each in "123"])},
        ("tokens, entry 2: its key", "'a'", "entry 1", "2 of 3 rows cannot be used, more than half"),
    ),
    "entries without a token": (
        {"TOKENS": '["", {}]'},
        ("tokens, entry 1", "access_token is missing", "2 of 2"),
    ),
    "nothing to refresh with": (
        {"TOKENS": '[{"key": "a", "refresh_token": "b"}]'},
        ("tokens, entry 1: access_token is missing", "'a'", "client_id and client_secret"),
    ),
    "unknown data center of a token": (
        {"TOKENS": '[{"access_token": "a", "data_center": "fr"}]'},
        ("tokens, entry 1", "data_center", "us, au, ca, de, sg, uk"),
    ),
    "unknown data center": ({"TOKENS": GOOD, "DATA_CENTER": "eu"}, ("data_center", "us, au, ca, de, sg, uk")),
    "base_url without a scheme": ({"TOKENS": GOOD, "BASE_URL": "localhost:80"}, ("base_url", "https://host")),
    "base_url of another scheme": ({"TOKENS": GOOD, "BASE_URL": "ftp://host"}, ("base_url", "https://host")),
    "base_url with a password": ({"TOKENS": GOOD, "BASE_URL": "http://u:p@host"}, ("base_url", "password")),
    "attempts are no number": ({"TOKENS": GOOD, "MAX_ATTEMPTS": "many"}, ("max_attempts",)),
    "no attempts": ({"TOKENS": GOOD, "MAX_ATTEMPTS": "0"}, ("max_attempts", "greater than 0")),
    "no requests": ({"TOKENS": GOOD, "REQUESTS_PER_MINUTE": "0"}, ("requests_per_minute", "greater than 0")),
    "rate is not a number": ({"TOKENS": GOOD, "REQUESTS_PER_SECOND": "nan"}, ("requests_per_second",)),
    "no timeout": ({"TOKENS": GOOD, "TIMEOUT": "-1"}, ("timeout", "greater than 0")),
    "bad hold": ({"TOKENS": GOOD, "HOLD": "a day"}, ("hold", "24h")),
    "file is missing": ({"TOKENS_FILE": "nowhere.csv"}, ("nowhere.csv", "does not exist")),
    "file of another kind": ({"TOKENS_FILE": "tokens.xlsx"}, ("tokens.xlsx", ".csv", ".parquet")),
}


@pytest.mark.parametrize("case", BAD_CONFIGURATION)
def test_bad_configuration_is_one_line_and_2(case: str, new_place: Place, server: ScriptedServer) -> None:
    settings, expected = BAD_CONFIGURATION[case]
    environment: dict[str, str | None] = {"SOURCES__CRONOFY__TOKENS_FILE": None, **new_place.environment()}
    environment["SOURCES__CRONOFY__TOKENS_FILE"] = None
    environment |= {f"SOURCES__CRONOFY__{name}": value for name, value in settings.items()}
    result = CliRunner().invoke(cli, ["load"], env=environment, catch_exceptions=False)
    assert_refused(result, *expected)
    assert server.log == []
    assert not new_place.database.exists()


# file name, content, and what the one line must say
BAD_FILES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "empty": ("tokens.csv", "", ("tokens.csv", "no tokens")),
    "header only": ("tokens.csv", "key,access_token\n", ("tokens.csv", "no tokens")),
    "missing column": ("tokens.csv", "key,token\na,1\n", ("tokens.csv, line 1", "access_token")),
    "most rows": (
        "tokens.csv",
        "access_token,data_center\n1,us\n2,fr\n3,de \n4,xx\n5,yy\n",
        ("tokens.csv, line 3", "data_center", "3 of 5 rows cannot be used, more than half"),
    ),
    "semicolons": ("tokens.csv", "key;access_token\na;1\n", ("tokens.csv, line 1", "semicolons", "commas")),
    "empty JSON Lines": ("tokens.jsonl", "\n", ("tokens.jsonl", "no tokens")),
    "no JSON": ("tokens.jsonl", '{"acc\n', ("tokens.jsonl, line 1", "JSON")),
    "not Parquet": ("tokens.parquet", "PAR?", ("tokens.parquet", "Parquet")),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_bad_token_file_is_one_line_and_2(case: str, place: Place, server: ScriptedServer) -> None:
    name, content, expected = BAD_FILES[case]
    (place.directory / name).write_text(content, encoding="utf-8")
    result = invoke(place, "load", SOURCES__CRONOFY__TOKENS_FILE=name)
    assert_refused(result, *expected)
    assert server.log == []


BAD_ARGUMENTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "unknown endpoint": (("--endpoints", "userinfo,events"), ("events", "userinfo, account, profiles")),
    "no endpoint": (("--endpoints", ""), ("endpoint", "userinfo, account, profiles")),
    "unknown destination": (("--destination", "nonsense"), ("--destination", "nonsense")),
    "bad duration": (("--every", "soon"), ("--every", "'soon'")),
    "negative duration": (("--every", "-1h"), ("--every", "-1h")),
    "bad max-duration": (("--max-duration", "1y"), ("--max-duration", "1y")),
    "no requests": (("--max-requests", "0"), ("--max-requests", "0")),
    "ratio above 1": (("--max-failure-ratio", "1.5"), ("--max-failure-ratio", "1.5")),
    "unknown option": (("--nonsense",), ("--nonsense",)),
}


@pytest.mark.parametrize("case", BAD_ARGUMENTS)
def test_bad_arguments_are_2(case: str, place: Place, tokens: list[str], server: ScriptedServer) -> None:
    arguments, expected = BAD_ARGUMENTS[case]
    result = invoke(place, "load", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    last = result.stderr.strip().splitlines()[-1]
    assert [part for part in expected if part not in last] == []
    assert server.log == []


def assert_refused(result: Result, *expected: str) -> None:
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    (line,) = result.stderr.strip().splitlines()
    assert [part for part in expected if part not in line] == []


BROKEN_TOML: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "value of the wrong type": (
        "config.toml",
        "[sources.cronofy]\nmax_attempts = 'x'\n",
        ("max_attempts", "[sources.cronofy]"),
    ),
    "syntax": ("config.toml", "[runtime]\n\n[sources.cronofy\nmax_attempts = 3\n", ("config.toml", "line 3")),
    "syntax in the secrets": ("secrets.toml", "[sources.cronofy]\ntokens = [\n", ("secrets.toml",)),
    "credentials that are missing": ("config.toml", "destination_type = 'postgres'\n", ("credentials",)),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", BROKEN_TOML)
def test_broken_toml_is_one_line_and_2(case: str, place: Place, tokens: list[str]) -> None:
    name, content, expected = BROKEN_TOML[case]
    settings = place.directory / ".dlt"
    settings.mkdir()
    (settings / name).write_text(content, encoding="utf-8")
    environment = place.environment()
    del environment["SOURCES__CRONOFY__MAX_ATTEMPTS"]
    done = run([str(COMMAND), "load"], place.directory, environment)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    last = done.stderr.strip().splitlines()[-1]
    assert [part for part in expected if part not in last] == []
    assert "Traceback" not in done.stderr


def test_json_is_all_there_is_on_stdout_and_the_default_destination_is_connections_duckdb(
    new_place: Place, tokens: list[str]
) -> None:
    """Without configuration: `connections.duckdb` where the command was run, dataset `cronofy`."""
    environment = new_place.environment()
    del environment["DESTINATION__DUCKDB__CREDENTIALS"]
    done = run([str(COMMAND), "-v", "load", "--json"], new_place.directory, environment)
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert summary["polled_tokens"] == summary["due"] == summary["tokens"] == 4
    assert summary["outcomes"] == {"ok": 8}
    assert summary["changes"] == {"first_seen": 4}
    assert summary["failure_ratio"] == 0
    assert [path.name for path in new_place.directory.glob("*.duckdb")] == ["connections.duckdb"]
    new_place.database_name = "connections.duckdb"
    assert (new_place.directory / summary["destination"]) == new_place.database
    assert new_place.counts()["polls"] == 8


def test_python_m_is_the_command(place: Place) -> None:
    command = [sys.executable, "-m", "dlt_cronofy", "load", "--help"]
    assert "Usage: dlt-cronofy load" in run(command, place.directory, place.environment()).stdout


def test_the_summary_is_for_people_and_logs_go_to_stderr(
    place: Place, tokens: list[str], answers: Answers
) -> None:
    del answers.by_token["one"], answers.by_token["two"], answers.by_token["three"]
    done = invoke(place, "load")
    assert done.exit_code == 1
    assert "Polled 4 of 4 due tokens" in done.stdout
    assert "token_rejected 3" in done.stdout
    assert "ERROR" not in done.stdout
    (line,) = [line for line in done.stderr.splitlines() if "ERROR" in line]
    assert "3 of 4 tokens failed" in line
    assert "--max-failure-ratio" in line


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("ratio", "failing", "status"),  # 3 of 4 are too many: above; 1 allows all: below
    [("0.5", 2, 0), ("0", 1, 1)],
)
def test_max_failure_ratio(
    ratio: str, failing: int, status: int, place: Place, tokens: list[str], answers: Answers
) -> None:
    for key in tokens[:failing]:
        answers.by_token[key] = Reply(403)
    result = invoke(place, "load", "--max-failure-ratio", ratio, "--json")
    assert result.exit_code == status
    assert json.loads(result.stdout)["failed_tokens"] == failing
    assert place.counts()["polls"] == 8


@pytest.mark.long
def test_every_endpoints_and_max_requests(place: Place, tokens: list[str], server: ScriptedServer) -> None:
    def calls(*arguments: str) -> Counter[str]:
        server.log.clear()
        result = invoke(place, "load", *arguments)
        assert result.exit_code == 0, result.stderr
        return server.calls

    assert calls("--max-requests", "3", "--endpoints", "userinfo") == Counter(userinfo=3)
    assert calls("--every", "1h", "--endpoints", " UserInfo , account") == Counter(userinfo=1, account=1)
    assert calls("--every", "0", "--endpoints", "profiles") == Counter(profiles=4)


def test_max_duration_stops_and_says_so(place: Place, tokens: list[str], answers: Answers) -> None:
    answers.by_token = {key: Reply(503, delay=0.3) for key in tokens}
    result = invoke(
        place,
        *("load", "--max-duration", "0.5s", "--json", "--max-failure-ratio", "1"),
        SOURCES__CRONOFY__REQUESTS_PER_SECOND="1",
    )
    assert result.exit_code == 0, result.stderr
    summary = json.loads(result.stdout)
    assert summary["stopped_by"] == "max_duration"
    assert summary["requests"] == summary["polls"] == 1


def test_two_loads_at_once_are_refused(place: Place, tokens: list[str], server: ScriptedServer) -> None:
    import fasteners

    directory = place.data_dir / "pipelines"
    directory.mkdir(parents=True)
    with fasteners.InterProcessLock(directory / ".cronofy.lock"):
        done = place.run("load")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "another load is running" in done.stderr
    assert server.log == []


@pytest.mark.parametrize("command", ["load", "demo", "sandbox", "views", "rebuild"])
def test_every_command_has_help(command: str, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, [command, "--help"])
    assert result.exit_code == 0
    assert f"{command} [OPTIONS]" in result.stdout


def test_what_a_load_made_is_read(new_place: Place, tokens: list[str]) -> None:
    """By `check`, `views` and `query`, also from another working directory."""
    empty = invoke(new_place, "views")
    assert empty.exit_code == 2
    assert "run dlt-cronofy load first" in empty.stderr
    assert invoke(new_place, "load").exit_code == 0
    new_place.forget()

    assert invoke(new_place, "check").stdout.splitlines()[-1].endswith("answers; dataset cronofy exists")
    other = invoke(new_place, "check", "--dataset", "other").stdout.splitlines()[-1]
    assert other.endswith("answers; dataset other does not exist yet, and the first load creates it")

    result = invoke(new_place, "views")
    assert result.exit_code == 0
    assert {"outages", "needs_relink", "account_health"} <= set(result.stdout.split())
    assert new_place.query("SELECT verdict, COUNT(*) FROM account_health GROUP BY verdict") == [
        ("healthy", 4)
    ]

    sql = "SELECT token_key, profiles, message FROM polls WHERE endpoint = 'userinfo' ORDER BY token_key"
    result = invoke(new_place, "query", "--json", sql)
    assert result.exit_code == 0
    assert [json.loads(line) for line in result.stdout.splitlines()] == [
        {"token_key": key, "profiles": 1, "message": None} for key in sorted(tokens)
    ]
    as_csv = invoke(new_place, "query", "--format", "csv", f"{sql} LIMIT 1").stdout
    assert as_csv == "token_key,profiles,message\nfour,1,\n"
    sql = "SELECT token_key, polled_at FROM polls WHERE 1 = 2"
    assert invoke(new_place, "query", "--format", "csv", sql).stdout == "token_key,polled_at\n"
    assert "token_key" in invoke(new_place, "query", "SELECT token_key FROM userinfo").stdout
    wrong = invoke(new_place, "query", "SELECT nothing FROM nowhere")
    assert (wrong.exit_code, wrong.stdout) == (1, "")
    assert "nowhere" in wrong.stderr


ROWS = "key,access_token,data_center\none,one,\nbad,two,mars\nthree,three,us\nlater,,\n,,\n[bold],a b,\n"


@pytest.mark.long
def test_rows_that_cannot_be_used_are_named_and_the_others_polled(
    place: Place, tokens: list[str], server: ScriptedServer
) -> None:
    assert tokens
    place.tokens_file.write_text(ROWS, encoding="utf-8")
    file = place.tokens_file
    reasons = {
        f"{file}, line 3": ("bad", "unknown data_center; use one of us, au, ca, de, sg, uk"),
        f"{file}, line 7": ("[bold]", "access_token holds characters that no token has"),
    }
    lines = [f"    {place}: {reason} (key {key!r})" for place, (key, reason) in reasons.items()]
    expected = [
        "  not connected  1 user without a token",
        "  unusable  2 rows of the token store cannot be used",
        *lines,
    ]
    rows = [{"place": place, "key": key, "reason": reason} for place, (key, reason) in reasons.items()]

    checked = invoke(place, "check")
    assert (checked.exit_code, checked.stderr) == (1, "")
    assert checked.stdout.splitlines()[:5] == ["2 tokens, each with its own key", *expected]
    planned = invoke(place, "plan")
    assert planned.stdout.splitlines()[1:5] == expected
    loaded = invoke(place, "load")
    assert loaded.exit_code == 0, loaded.stderr
    shown = loaded.stdout.splitlines()
    assert shown[shown.index(expected[0]) :][:4] == expected
    [line] = [line for line in loaded.stderr.splitlines() if "WARNING" in line]
    assert f"2 rows of the token store cannot be used: {lines[0].strip()}; {lines[1].strip()}" in line
    assert {request.token for request, _ in server.log} == {"one", "three"}
    for command in ("check", "plan", "load"):
        found = json.loads(invoke(place, command, "--json").stdout)
        assert (found["tokens"], found["not_connected"], found["unusable_rows"]) == (2, 1, 2)
        assert found["unusable"] == rows


def test_a_store_without_any_connected_user_is_fine(place: Place, server: ScriptedServer) -> None:
    place.tokens_file.write_text("key,access_token\none,\ntwo,\n", encoding="utf-8")
    loaded = invoke(place, "load")
    assert (loaded.exit_code, loaded.stderr) == (0, "")
    assert "Nothing is due: the token store holds no token that can be polled" in loaded.stdout
    assert "  not connected  2 users without a token" in loaded.stdout
    checked = invoke(place, "check")
    assert (checked.exit_code, checked.stdout.splitlines()[0]) == (0, "0 tokens, each with its own key")
    assert server.log == []


def test_check_calls_and_loads_nothing(new_place: Place, tokens: list[str], server: ScriptedServer) -> None:
    result = invoke(new_place, "check")
    assert result.exit_code == 0, result.stderr
    assert f"{len(tokens)} tokens" in result.stdout
    assert len(server.log) == 1
    assert not new_place.database.exists()


# the database of DuckDB, and what the one line says of it
NO_DATABASES = {
    "sub/dir/new.duckdb": "there is no folder {}/sub/dir; make it, or name another file",
    "tokens.csv/new.duckdb": "there is no folder {}/tokens.csv; make it, or name another file",
    "data": "{}/data is a folder, not a DuckDB file",
    "tokens.csv": "{}/tokens.csv is not a DuckDB file; name another one",
}


@pytest.mark.parametrize("name", NO_DATABASES)
def test_a_file_that_can_be_no_database_is_one_line_and_2(
    name: str, place: Place, tokens: list[str], server: ScriptedServer
) -> None:
    assert tokens
    place.data_dir.mkdir()
    for command in ("load", "plan", "check", "status", "views"):
        result = invoke(place, command, DESTINATION__DUCKDB__CREDENTIALS=str(place.directory / name))
        assert_refused(result, "destination.duckdb.credentials", NO_DATABASES[name].format(place.directory))
    assert server.log == []


def test_check_says_what_the_first_load_creates(new_place: Place, tokens: list[str]) -> None:
    found = json.loads(invoke(new_place, "check", "--json").stdout)
    assert found["tokens"] == len(tokens)
    assert [center["outcome"] for center in found["data_centers"]] == ["ok"]
    assert found["warehouse"].endswith("does not exist yet; the first load creates it")
    assert not new_place.database.exists()


def test_check_tries_the_handoff_and_leaves_nothing(place: Place, tokens: list[str]) -> None:
    handoff = place.directory / "handoff"
    assert tokens
    found = invoke(place, "check", SOURCES__CRONOFY__HANDOFF=str(handoff))
    assert found.stdout.splitlines()[-2] == f"{handoff} keeps what is written to it"
    assert not list(handoff.iterdir())
    occupied = place.directory / "a file"
    occupied.touch()
    refused = invoke(place, "check", SOURCES__CRONOFY__HANDOFF=str(occupied))
    assert refused.exit_code == 2
    assert f"handoff in [sources.cronofy]: {occupied} cannot be used (" in refused.stderr


def test_check_says_which_credentials_are_missing(place: Place, tokens: list[str]) -> None:
    assert tokens
    result = invoke(place, "check", "--destination", "postgres")
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert (
        "set destination.postgres.credentials in .dlt/secrets.toml,"
        " or DESTINATION__POSTGRES__CREDENTIALS in the environment" in result.stderr
    )
    url = "postgresql://loader:secret@/analytics?host=/run/postgresql"
    result = invoke(place, "check", "--destination", "postgres", DESTINATION__POSTGRES__CREDENTIALS=url)
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1)
    assert "destination.postgres.credentials is set, but host is missing in it; for a socket" in result.stderr
    assert "secret" not in result.stderr

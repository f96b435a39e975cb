"""`plan`: what a load would poll, in what order and how long it takes, without a call and without a trace."""

import json
from datetime import timedelta
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from dlt_cronofy.cli.main import cli
from dlt_cronofy.load.preview import Reach
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.planning.plan import ORDERS
from dlt_cronofy.source.settings import PollingSettings
from tests.acceptance.documents import profile, userinfo
from tests.acceptance.place import Place
from tests.acceptance.server import ScriptedServer
from tests.pipelines.conftest import Answers

TOKENS = ["steady", "lively", "oldest", "new"]


def invoke(place: Place, *arguments: str, **environment: str) -> Result:
    return CliRunner().invoke(
        cli, ["plan", *arguments], env=place.environment(**environment), catch_exceptions=False
    )


def planned(place: Place, *arguments: str) -> dict[str, Any]:
    result = invoke(place, *arguments, "--json")
    assert result.exit_code == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def order(plan: dict[str, Any]) -> list[str]:
    return [each["token_key"] for each in plan["first"]]


# All tokens were polled six days ago, all but one once a day since, and one of them has changed every day.
AGED = """
UPDATE polls SET polled_at = polled_at - INTERVAL 6 DAY;
UPDATE profile_changes SET observed_at = observed_at - INTERVAL 6 DAY;
INSERT INTO polls
    SELECT * EXCLUDE (day) REPLACE (poll_id || day AS poll_id, polled_at + to_days(day) AS polled_at)
    FROM polls CROSS JOIN (SELECT unnest(range(1, 6))::INTEGER AS day) WHERE token_key <> 'oldest';
INSERT INTO profile_changes
    SELECT * EXCLUDE (day) REPLACE (
        change_id || day AS change_id,
        observed_at + to_days(day) AS observed_at,
        CASE day % 2 WHEN 1 THEN 'disconnected' ELSE 'connected' END AS state,
        CASE day % 2 WHEN 1 THEN 'disconnected' ELSE 'connected' END AS kind,
        CASE day % 2 WHEN 1 THEN 'connected' ELSE 'disconnected' END AS previous_state
    )
    FROM profile_changes CROSS JOIN (SELECT unnest(range(1, 6))::INTEGER AS day) WHERE token_key = 'lively';
"""


@pytest.fixture
def history(place: Place, server: ScriptedServer, answers: Answers) -> Place:
    """A warehouse with a past; one token is new, one was polled first and not since."""
    for key in TOKENS:
        answers.by_token[f"at-{key}"] = userinfo(f"acc_{key}", [profile("pro_1")])
    place.write_tokens(TOKENS[:3], {key: f"at-{key}" for key in TOKENS})
    place.load(endpoints=("userinfo",))
    with duckdb.connect(str(place.database)) as connection:
        connection.execute("USE warehouse.cronofy")
        connection.execute(AGED)
    assert CliRunner().invoke(cli, ["rebuild"], env=place.environment()).exit_code == 0
    place.write_tokens(TOKENS, {key: f"at-{key}" for key in TOKENS})
    server.log.clear()
    return place


def test_a_missing_warehouse_knows_no_token_and_stays_missing(
    new_place: Place, server: ScriptedServer
) -> None:
    new_place.write_tokens(["one", "two"])
    for order_name in ("oldest", "hazard"):
        plan = planned(new_place, "--order", order_name)
        assert (plan["tokens"], plan["due"], plan["never_polled"], plan["fresh"]) == (2, 2, 2, 0)
        assert [each["reason"] for each in plan["first"]] == ["never polled"] * 2
        assert (order(plan), plan["calls"]) == (["one", "two"], 4)
    shown = invoke(new_place)
    assert shown.exit_code == 0
    assert "2 tokens in the store: 2 due, 0 fresh" in shown.stdout
    assert not new_place.database.exists()
    assert server.log == []


def test_an_empty_warehouse_is_not_touched(new_place: Place, server: ScriptedServer) -> None:
    new_place.write_tokens(["one"])
    duckdb.connect(str(new_place.database)).close()
    assert planned(new_place, "--order", "hazard")["never_polled"] == 1
    with duckdb.connect(str(new_place.database), read_only=True) as connection:
        assert connection.execute("SELECT count(*) FROM information_schema.tables").fetchall() == [(0,)]


@pytest.mark.long
def test_the_order_by_hazard_and_what_load_makes_of_it(history: Place, server: ScriptedServer) -> None:
    before = [history.query(f"SELECT count(*) FROM {table}") for table in ("polls", "_dlt_loads")]
    chosen = ("--order", "hazard", "--endpoints", "userinfo")
    plan = planned(history, *chosen, "--max-requests", "2")
    assert order(plan) == ["new", "oldest", "lively", "steady"]
    new, oldest, lively, steady = plan["first"]
    assert [each["reason"] for each in plan["first"]] == [
        "never polled",
        "oldest evidence",
        "hazard",
        "hazard",
    ]
    assert lively["changes_per_30_days"] > 2 * steady["changes_per_30_days"] > 0
    assert lively["priority"] > steady["priority"]
    assert (lively["providers"], new["providers"]) == (["gsuite"], [])
    assert [round(each["age_seconds"] / 86_400) for each in (oldest, lively, steady)] == [6, 1, 1]
    assert (new["age_seconds"], new["priority"]) == (None, None)
    figures = ("calls", "max_requests", "reached_tokens", "reached_calls", "runs", "longest_wait_sweeps")
    assert [plan[name] for name in figures] == [4, 2, 2, 2, 6, 3]
    assert [history.query(f"SELECT count(*) FROM {table}") for table in ("polls", "_dlt_loads")] == before
    assert server.log == []

    shown = invoke(history, *chosen)
    assert "4 due, 0 fresh (polled successfully less than 1 h ago)" in shown.stdout
    assert "changes in 30 d" in shown.stdout
    assert "at-" not in shown.stdout + shown.stderr + json.dumps(plan)

    arguments = ["load", *chosen, "--max-requests", "3"]
    loaded = CliRunner().invoke(cli, arguments, env=history.environment(), catch_exceptions=False)
    assert loaded.exit_code == 0, loaded.stderr
    assert sorted(request.token for request, _ in server.log) == ["at-lively", "at-new", "at-oldest"]


def test_fresh_tokens_are_not_due_and_the_limit_cuts_the_table_only(history: Place) -> None:
    plan = planned(history, "--every", "3d", "--limit", "1")
    assert (plan["tokens"], plan["due"], plan["fresh"]) == (4, 2, 2)
    assert (order(plan), plan["order"]) == (["new"], "oldest")
    assert plan["first"][0]["changes_per_30_days"] is None
    shown = invoke(history, "--every", "3d", "--limit", "0", "--max-requests", "1")
    assert "2 due, 2 fresh (polled successfully less than 3 days ago)" in shown.stdout
    assert "of --max-requests" in shown.stdout
    assert "place" not in shown.stdout


def test_bad_usage_and_bad_configuration_are_2(place: Place) -> None:
    assert invoke(place, "--order", "random").exit_code == 2
    assert invoke(place, "--endpoints", "events").exit_code == 2
    missing = invoke(place, SOURCES__CRONOFY__TOKENS_FILE="nowhere.csv")
    assert (missing.exit_code, missing.stdout) == (2, "")
    assert "nowhere.csv" in missing.stderr


def test_load_and_plan_offer_the_same_orders(place: Place) -> None:
    for command in ("load", "plan"):
        result = CliRunner().invoke(cli, [command, "--help"])
        assert f"[{'|'.join(ORDERS)}]" in result.stdout
    place.write_tokens(["one"])
    with pytest.raises(ConfigurationError, match="--order random: choose from oldest, hazard"):
        place.load(order="random")


@pytest.mark.parametrize(
    ("order_name", "max_requests", "reached", "runs", "hours"),
    [
        ("oldest", None, 5, 1, 0),
        ("oldest", 100, 5, 1, 0),
        ("oldest", 3, 1, 4, 9),
        ("hazard", 3, 1, 10, 27),
        ("hazard", 10, 5, 1, 0),
    ],
)
def test_how_far_a_budget_gets(
    order_name: str, max_requests: int | None, reached: int, runs: int, hours: float
) -> None:
    settings = PollingSettings(base_url="http://localhost", requests_per_second=1e6, requests_per_minute=1e6)
    options = LoadOptions(every=timedelta(hours=3), order=order_name, max_requests=max_requests)
    reach = Reach.of([2] * 5, settings, options)
    assert (reach.calls, reach.reached_tokens, reach.runs) == (10, reached, runs)
    assert reach.seconds_to_poll_all == hours * 3600

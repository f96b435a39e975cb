"""What the hazard learns from is the same in DuckDB and PostgreSQL."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import dlt
import pytest

from pipelines.duckdb_destination import catalog_duckdb
from sources.cronofy.hazard import Histories
from sources.cronofy.history.knowledge import WarehouseKnowledge
from tests.cronofy.clocks import START
from tests.views.server import postgres_server

DAY = timedelta(days=1)
LONG_AGO = START - 365 * DAY


@pytest.fixture(params=["duckdb", "postgres"])
def pipeline(request: pytest.FixtureRequest, workdir: Path) -> Iterator[dlt.Pipeline]:
    def into(destination: Any) -> dlt.Pipeline:
        return dlt.pipeline(
            "histories",
            destination=destination,
            dataset_name="cronofy",
            pipelines_dir=str(workdir / "working"),
        )

    if request.param == "duckdb":
        yield into(catalog_duckdb(credentials=str(workdir / "cronofy.duckdb")))
        return
    with postgres_server() as uri:
        (socket_directory,) = parse_qs(urlsplit(uri).query)["host"]
        credentials = f"postgresql://postgres:x@localhost:5432/postgres?host={socket_directory}"
        yield into(dlt.destinations.postgres(credentials))


def poll(day: float, account_id: str | None = "acc_1", **fields: Any) -> dict[str, Any]:
    polled = {"account_id": account_id, "polled_at": START + day * DAY, "outcome": "ok"}
    return polled | {"profiles": 1, "conferencing_profiles": 1} | fields


def change(
    day: float, profile_id: str, kind: str, before: str | None = None, service: str | None = "gsuite"
) -> dict[str, Any]:
    state = {"first_seen": "connected", "reappeared": "connected", "attributes": before}.get(kind, kind)
    return {
        "account_id": "acc_1",
        "profile_id": profile_id,
        "observed_at": START + day * DAY,
        "kind": kind,
        "state": state,
        "previous_state": before,
        "provider_service": service,
        "provider_name": "google" if service else "zoom",
    }


UP, DOWN, REMOVED = "connected", "disconnected", "removed"
# An account polled once a day by two tokens, and one without profiles. Failed polls and polls that carry no
# list of profiles are no samples.
POLLS = [
    *(poll(day + minutes / 1440) for day in range(4) for minutes in (0, 1)),
    poll(0, "ser_1", profiles=None, conferencing_profiles=None),
    poll(9, outcome="server_error", profiles=None, conferencing_profiles=None),
    poll(9, endpoint="account", profiles=None, conferencing_profiles=None),
]
CHANGES = [
    change(0, "pro_1", "first_seen"),
    change(1, "pro_1", DOWN, UP),
    change(2, "pro_1", UP, DOWN),
    change(3, "pro_1", DOWN, UP),
    change(2, "pro_2", "first_seen", service="icloud"),
    change(3, "pro_2", REMOVED, UP, service="icloud"),
    change(0, "pro_z", "first_seen", service=None),
    change(2, "pro_z", "attributes", UP, service=None),
]


def told(histories: Histories, account_id: str) -> dict[str, list[tuple[int, float, int]]]:
    """By provider and state: profiles now, days, changes, rounded."""
    names = list(histories.providers)
    return {
        names[histories.provider[row]]: [
            (round(profiles[row]), round(days[row], 1), round(changes[row]))
            for profiles, days, changes in zip(
                histories.profiles, histories.days, histories.changes, strict=True
            )
        ]
        for row in histories.rows(account_id)
    }


def histories_since(pipeline: dlt.Pipeline, since: datetime) -> Histories:
    return WarehouseKnowledge(pipeline, "cronofy").change_histories(since)


def test_what_each_account_did_is_read_by_provider_and_state(pipeline: dlt.Pipeline) -> None:
    knowledge = WarehouseKnowledge(pipeline, "cronofy")
    with knowledge.connected():  # one connection stands two questions about tables that do not exist
        assert (len(knowledge.change_histories(LONG_AGO)), knowledge.evidence()) == (0, {})
    with pipeline.sql_client() as client:
        assert not client.has_dataset()
    tables = {"polls": POLLS, "profile_changes": CHANGES}
    pipeline.run([dlt.resource(rows, name=name) for name, rows in tables.items()])

    histories = histories_since(pipeline, LONG_AGO)
    assert len(histories) == 1  # no profiles, nothing to learn
    assert told(histories, "acc_1") == {
        "gsuite": [(0, 2.0, 2), (1, 1.0, 1), (0, 0.0, 0)],
        "icloud": [(0, 1.0, 1), (0, 0.0, 0), (1, 0.0, 0)],
        "zoom": [(1, 3.0, 0), (0, 0.0, 0), (0, 0.0, 0)],
    }

    # what was before the first sample of the window counts as the state it left behind, and as nothing else
    assert told(histories_since(pipeline, START + 1.5 * DAY), "acc_1") == {
        "gsuite": [(0, 1.0, 1), (1, 0.0, 0), (0, 0.0, 0)],
        "icloud": [(0, 1.0, 1), (0, 0.0, 0), (1, 0.0, 0)],
        "zoom": [(1, 1.0, 0), (0, 0.0, 0), (0, 0.0, 0)],
    }
    assert len(histories_since(pipeline, START + 50 * DAY)) == 0

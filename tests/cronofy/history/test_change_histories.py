"""What the hazard learns from is the same in DuckDB and PostgreSQL."""

from datetime import datetime, timedelta
from typing import Any

import dlt

from dlt_cronofy.source.history.state import SqlWarehouseState
from dlt_cronofy.source.planning.change_rates import Histories
from tests.cronofy.clocks import START

DAY = timedelta(days=1)
LONG_AGO = START - 365 * DAY


def span(first: float, last: float, samples: int, account_id: str = "acc_1", **fields: Any) -> dict[str, Any]:
    spanned = {"account_id": account_id, "profile_type": "calendar", "samples": samples}
    return spanned | {"first_sample_at": START + first * DAY, "last_sample_at": START + last * DAY} | fields


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
# An account that was sampled twice a day on four days, one whose lists are empty, and one long ago.
SPANS = [
    span(0, 1, 4),
    span(2, 3, 4),
    span(0, 3, 5, profile_type="conferencing"),
    span(0, 3, 4, "acc_2"),
    span(-300, -200, 9, "acc_3"),
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
    return SqlWarehouseState(pipeline, "cronofy").change_histories(since)


def test_what_each_account_did_is_read_by_provider_and_state(pipeline: dlt.Pipeline) -> None:
    state = SqlWarehouseState(pipeline, "cronofy")
    with state.connected():  # one connection stands two questions about tables that do not exist
        assert (len(state.change_histories(LONG_AGO)), state.last_polls()) == (0, {})
    with pipeline.sql_client() as client:
        assert not client.has_dataset()
    tables = {"coverage": SPANS, "profile_changes": CHANGES}
    pipeline.run([dlt.resource(rows, name=name) for name, rows in tables.items()])

    histories = histories_since(pipeline, LONG_AGO)
    assert len(histories) == 1  # no profiles, nothing to learn
    assert told(histories, "acc_1") == {
        "gsuite": [(0, 2.0, 2), (1, 1.0, 1), (0, 0.0, 0)],
        "icloud": [(0, 1.0, 1), (0, 0.0, 0), (1, 0.0, 0)],
        "zoom": [(1, 3.0, 0), (0, 0.0, 0), (0, 0.0, 0)],
    }

    # what was before the window, or its first sample, counts as the state it left behind, and as nothing else
    assert told(histories_since(pipeline, START + 1.5 * DAY), "acc_1") == {
        "gsuite": [(0, 1.0, 1), (1, 0.5, 1), (0, 0.0, 0)],
        "icloud": [(0, 1.0, 1), (0, 0.0, 0), (1, 0.0, 0)],
        "zoom": [(1, 1.5, 0), (0, 0.0, 0), (0, 0.0, 0)],
    }
    assert len(histories_since(pipeline, START + 50 * DAY)) == 0

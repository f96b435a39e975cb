"""Example: load Cronofy connection health into DuckDB.

Set tokens in `.dlt/secrets.toml` or `tokens_file` in `.dlt/config.toml`, section `[sources.cronofy]`, then
run this script on a schedule. Every run reads what is known from the destination and adds what is new.
"""

import re
import sys
from collections import Counter
from pathlib import Path

import dlt

from cronofy import cronofy_source

# named after the folder of this script: two projects on one machine keep their working files apart
FOLDER = re.sub(r"\W", "_", Path(__file__).resolve().parent.name)
PIPELINE_NAME = f"{FOLDER}_cronofy"
LISTED_FAILURES = 20


def load_all() -> None:
    """Poll every token once (userinfo; account at most once a day) and load what changed."""
    run(cronofy_source())


def load_connections_only() -> None:
    """One call a token, no `/v1/account`: the state and history of profiles, and the polls."""
    run(cronofy_source().with_resources("userinfo", "profiles", "profile_changes", "polls"))


def load_from_own_store() -> None:
    """Tokens from code, for example from a secret manager."""
    tokens = [{"key": "user_1", "access_token": dlt.secrets["my_app.user_1_token"], "data_center": "de"}]
    run(cronofy_source(tokens=tokens))


def run(source) -> None:
    """Load, and print what came of the polls; exit status 1 if all failed."""
    pipeline = dlt.pipeline(PIPELINE_NAME, destination="duckdb", dataset_name="cronofy")
    info = pipeline.run(source)
    print(info)
    polls = polls_of(pipeline, info.loads_ids)
    counts = Counter(outcome for _, _, outcome, _ in polls)
    print("polls:", ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common()) or "none")
    failures = [poll for poll in polls if poll[2] != "ok"]
    for token_key, endpoint, outcome, message in failures[:LISTED_FAILURES]:
        print(f"  {token_key} {endpoint}: {outcome} ({message})")
    if len(failures) > LISTED_FAILURES:
        print(f"  and {len(failures) - LISTED_FAILURES} more, in table polls")
    if polls and not counts["ok"]:
        sys.exit("no poll succeeded")


def polls_of(pipeline, load_ids) -> list:
    """Token, endpoint, outcome and message of each poll of these load packages."""
    with pipeline.sql_client() as client:
        table = client.make_qualified_table_name("polls")
        return [
            poll
            for load_id in load_ids
            for poll in client.execute_sql(
                f"SELECT token_key, endpoint, outcome, message FROM {table}"  # noqa: S608 - a name of dlt's
                " WHERE _dlt_load_id = %s ORDER BY token_key, endpoint",
                load_id,
            )
        ]


if __name__ == "__main__":
    load_all()

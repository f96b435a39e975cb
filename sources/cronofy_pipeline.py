"""Example: load Cronofy connection health into DuckDB.

Set tokens in `.dlt/secrets.toml` or `tokens_file` in `.dlt/config.toml`, section `[sources.cronofy]`, then
run this script on a schedule. Every run reads what is known from the destination and adds what is new.
"""

import dlt

from cronofy import cronofy_source


def load_all() -> None:
    """Poll every token once (userinfo; account at most once a day) and load what changed."""
    pipeline = dlt.pipeline("cronofy_pipeline", destination="duckdb", dataset_name="cronofy")
    print(pipeline.run(cronofy_source()))


def load_connections_only() -> None:
    """One call a token, no `/v1/account`: the state and history of profiles, and the polls."""
    pipeline = dlt.pipeline("cronofy_pipeline", destination="duckdb", dataset_name="cronofy")
    source = cronofy_source().with_resources("userinfo", "profiles", "profile_changes", "polls")
    print(pipeline.run(source))


def load_from_own_store() -> None:
    """Tokens from code, for example from a secret manager."""
    tokens = [{"key": "user_1", "access_token": dlt.secrets["my_app.user_1_token"], "data_center": "de"}]
    pipeline = dlt.pipeline("cronofy_pipeline", destination="duckdb", dataset_name="cronofy")
    print(pipeline.run(cronofy_source(tokens=tokens)))


if __name__ == "__main__":
    load_all()

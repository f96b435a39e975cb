"""Peer: dlt's stock `rest_api` source, a resource of tokens and one dependent resource an endpoint.

`python rest_api_pipeline.py URL TOKENS_FILE DUCKDB_FILE [parallelized]`
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import dlt
from dlt.sources.rest_api import rest_api_source
from dlt.sources.rest_api.typing import EndpointResource, RESTAPIConfig


def configuration(url: str, tokens_file: str, *, parallelized: bool) -> RESTAPIConfig:
    """What dlt's documentation says: resolve fields of the parent's items into the child's headers."""

    @dlt.resource(name="tokens", selected=False)
    def tokens() -> Iterator[list[dict[str, str]]]:
        with Path(tokens_file).open(newline="") as file:
            yield list(csv.DictReader(file))

    def resource(name: str, selector: str) -> EndpointResource:
        return {
            "name": name,
            "include_from_parent": ["key"],
            "parallelized": parallelized,
            "endpoint": {
                "path": name,
                "headers": {"Authorization": "Bearer {resources.tokens.access_token}"},
                "data_selector": selector,
            },
        }

    return {
        "client": {"base_url": f"{url}/v1/", "paginator": "single_page"},
        "resource_defaults": {"write_disposition": "replace"},
        "resources": [
            tokens(),
            resource("userinfo", "$"),
            resource("account", "account"),
            resource("profiles", "profiles"),
        ],
    }


def main() -> None:
    """Load into DuckDB."""
    url, tokens_file, database, *variant = sys.argv[1:]
    source = rest_api_source(configuration(url, tokens_file, parallelized=variant == ["parallelized"]))
    pipeline = dlt.pipeline("rest_api_cronofy", destination=dlt.destinations.duckdb(database))
    print(pipeline.run(source))


if __name__ == "__main__":
    main()

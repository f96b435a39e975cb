"""Loads in this process whose settings a test chooses itself."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

from dlt_cronofy.load.run import Load
from dlt_cronofy.load.statistics import LoadResult
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.source.clock import Clock
from dlt_cronofy.source.settings import PollingSettings
from dlt_cronofy.source.tokens.store import open_store
from dlt_cronofy.source.tokens.token import in_data_centers
from dlt_cronofy.warehouse.pipeline import open_pipeline

from .place import Place

# no rate limits, and what does not answer is given up soon
HURRIED = PollingSettings(
    requests_per_second=1e6, requests_per_minute=1e6, max_attempts=3, timeout_seconds=2.0
)


def load(
    place: Place, settings: PollingSettings = HURRIED, clock: Clock | None = None, **options: Any
) -> LoadResult:
    """One load of everything in the place's token store, from the place's server unless that is empty."""
    pipeline = open_pipeline(
        "duckdb", credentials=str(place.database), pipelines_dir=place.data_dir / "pipelines"
    )
    settings = replace(settings, base_url=place.base_url or None)
    tokens = in_data_centers(open_store(tokens_file=str(place.tokens_file)).read(), settings.data_center)
    chosen: dict[str, Any] = {"every": timedelta(0), "refresh_views": False} | options
    return Load(pipeline, settings, tokens, LoadOptions(**chosen), clock or place.clock).run()

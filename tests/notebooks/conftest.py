"""The warehouses of the report's tests."""

from tests.pipelines.report.conftest import demo_pipeline, demo_read, postgres_pipeline, warehouse_with
from tests.pipelines.views.conftest import postgres_uri
from tests.played import demo_file, demo_plan

__all__ = [
    "demo_file",
    "demo_pipeline",
    "demo_plan",
    "demo_read",
    "postgres_pipeline",
    "postgres_uri",
    "warehouse_with",
]

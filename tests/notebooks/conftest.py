"""The warehouses of the report's tests."""

from tests.pipelines.report.conftest import (
    demo_file,
    demo_pipeline,
    demo_plan,
    postgres_pipeline,
    postgres_uri,
    warehouse_with,
)

__all__ = [
    "demo_file",
    "demo_pipeline",
    "demo_plan",
    "postgres_pipeline",
    "postgres_uri",
    "warehouse_with",
]

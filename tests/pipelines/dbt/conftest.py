"""One warehouse and one run of dbt for the tests that look at what it left."""

import shutil
from pathlib import Path

import pytest

from docs.generators.dbt_package import PACKAGE
from tests.pipelines.dbt.project import DBT_PYTHON, ROOT, Project, create_warehouse
from tests.pipelines.views.histories import history
from tests.pipelines.views.worlds import crowd, side_by_side


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the package, over 20 worlds of all kinds, after `dbt deps` and `dbt build`."""
    if not DBT_PYTHON.exists():
        pytest.fail(f"there is no {DBT_PYTHON.relative_to(ROOT)}; `make test` puts it there")
    directory = tmp_path_factory.mktemp("dbt")
    # a copy: dbt links to it, and leaves files where it runs
    shutil.copytree(PACKAGE, directory / "package", ignore=shutil.ignore_patterns("target", "logs"))
    warehouse: Path = directory / "cronofy.duckdb"
    # what is drawn may vary with the modules at hand, and must not lack an account that is down
    create_warehouse(warehouse, side_by_side([crowd(1), history("0 zoe ok a-")]))
    project = Project(directory / "project", warehouse)
    project.create()
    build = project.dbt("deps", "build")
    assert build.returncode == 0, build.stdout + build.stderr
    return project

"""One warehouse and one run of dbt for the tests that look at what it left."""

import shutil
from pathlib import Path

import pytest

from docs.generators.dbt_package import PACKAGE
from tests.pipelines.dbt.project import DBT, Project, create_warehouse
from tests.pipelines.views.worlds import crowds


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with the package installed, over 20 worlds of all kinds."""
    if not DBT.exists():
        pytest.fail(f"there is no dbt in {DBT.parent.parent.name}; `make test` puts it there")
    directory = tmp_path_factory.mktemp("dbt")
    # a copy: dbt links to it, and leaves files where it runs
    shutil.copytree(PACKAGE, directory / "package", ignore=shutil.ignore_patterns("target", "logs"))
    warehouse: Path = directory / "cronofy.duckdb"
    create_warehouse(warehouse, crowds()[1])
    project = Project(directory / "project", warehouse)
    project.create()
    installed = project.dbt("deps")
    assert installed.returncode == 0, installed.stdout + installed.stderr
    return project


@pytest.fixture(scope="module")
def built(project: Project) -> Project:
    """The same after `dbt build`: all models are there, and all data tests have passed."""
    build = project.dbt("build")
    assert build.returncode == 0, build.stdout + build.stderr
    return project

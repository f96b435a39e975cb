"""The wheel: one package at top level, beside whatever a project calls its folders."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOREIGN = "raise ImportError('a folder of the project')\n"
USES = """
import dlt_cronofy.cli.main, dlt_cronofy.load.run, dlt_cronofy.shards.stages
from dlt_cronofy.source import cronofy_source
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of packages with nothing but the wheel."""
    folder, site = tmp_path_factory.mktemp("wheels"), tmp_path_factory.mktemp("site")
    build = ["wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder), str(ROOT)]
    subprocess.run([sys.executable, "-m", "pip", *build], check=True, env={**os.environ, "PIP_NO_INDEX": "1"})
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    return site


def test_it_adds_one_package(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"dlt_cronofy"}
    for name in (
        "views/outages.sql",
        "report/page.html.j2",
        "source/planning/plan.py",
        "dbt/dbt_project.yml",
    ):
        assert (site / "dlt_cronofy" / name).is_file(), name
    assert not [path for path in site.rglob("*") if path.is_symlink() or path.name == "secrets.toml"]


@pytest.mark.parametrize("project_first", [True, False])
def test_folders_of_a_project_do_not_get_in_its_way(site: Path, tmp_path: Path, project_first: bool) -> None:
    for name in ("sources", "pipelines", "tests"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(FOREIGN, encoding="utf-8")
    paths = [str(tmp_path), str(site)] if project_first else [str(site), str(tmp_path)]
    code = f"import sys; sys.path[:0] = {paths}\n{USES}\nprint(dlt_cronofy.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(site / "dlt_cronofy" / "__init__.py")

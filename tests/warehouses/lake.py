"""A DuckLake to run loads in: catalog, data files and everything else in one folder."""

import json
import platform
import sys
import sysconfig
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import duckdb

from tests.acceptance.place import Place

EXTENSIONS = ("ducklake", "sqlite_scanner", "postgres_scanner")


@cache
def extension_directory() -> Path:
    """A folder as DuckDB wants it, with the extensions that came as wheels."""
    folder = Path(sys.prefix) / "duckdb_extensions"
    release = f"v{duckdb.__version__}"
    system = "osx" if sys.platform == "darwin" else "linux"
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "amd64"
    place = folder / release / f"{system}_{machine}"
    place.mkdir(parents=True, exist_ok=True)
    for name in EXTENSIONS:
        wheel = Path(sysconfig.get_path("purelib")) / f"duckdb_extension_{name}" / "extensions" / release
        target = place / f"{name}.duckdb_extension"
        if not target.exists():
            target.symlink_to(wheel / target.name)
    return folder


@dataclass
class Lake(Place):
    """One person's folder whose warehouse is a DuckLake."""

    catalog: str = "sqlite:///lake.sqlite"
    files: Path = Path("files")
    python: str = sys.executable

    def environment(self, **extra: str) -> dict[str, str]:
        return super().environment(**lake_settings(self.catalog, self.files) | extra)


def lake_settings(catalog: str, files: Path) -> dict[str, str]:
    """What people write into .dlt/secrets.toml, as variables."""
    prefix = "DESTINATION__DUCKLAKE__CREDENTIALS"
    return {
        "DESTINATION_TYPE": "ducklake",
        f"{prefix}__CATALOG": catalog,
        f"{prefix}__STORAGE__BUCKET_URL": str(files),
        f"{prefix}__GLOBAL_CONFIG": json.dumps({"extension_directory": str(extension_directory())}),
    }

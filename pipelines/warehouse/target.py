"""The target of a load: which dataset of which warehouse, whatever way the configuration spells it.

Packages that wait to be loaded belong to one target. User, password and options of a connection do not say
where the data is, so they are left out; a path is resolved, and names are compared as the warehouse does.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dlt.common.configuration import inject_section, resolve_configuration
from dlt.common.configuration.exceptions import ConfigurationException
from dlt.common.configuration.specs.config_section_context import ConfigSectionContext
from dlt.common.destination import Destination
from dlt.common.destination.client import DestinationClientDwhConfiguration
from dlt.common.runtime import run_context
from dlt.common.schema import Schema
from dlt.common.storages.configuration import WithLocalFiles
from dlt.pipeline.configuration import PipelineConfiguration

from dlt_cronofy.source import SOURCE_NAME

PIPELINE_NAME = "cronofy"
DEFAULT_HOST = "localhost"


@dataclass(frozen=True)
class Target:
    """A dataset of a warehouse.

    Attributes:
        destination: dlt's type of the destination, like `duckdb`.
        location: where the warehouse is, for people: a file, a host with its database. Never a secret.
        dataset: the schema, as the warehouse names it.
        account: a digest of what distinguishes two accounts of one location.
    """

    destination: str
    location: str
    dataset: str
    account: str = ""

    @property
    def digest(self) -> str:
        """The same for the same target, in 16 hex digits."""
        return digest(self.destination, self.location, self.dataset, self.account)

    @property
    def file(self) -> Path | None:
        """The DuckDB file; None for another warehouse."""
        return Path(self.location) if self.destination == "duckdb" and self.location else None

    def is_gone(self) -> bool:
        """Whether it is a DuckDB file that is not there."""
        return self.file is not None and not self.file.exists()

    def __str__(self) -> str:
        """What a message calls it."""
        return f"{self.location or self.destination}, dataset {self.dataset}"


def target_of(destination: Destination[Any, Any], dataset: str) -> Target:
    """The target that dlt would load into with that destination and dataset; connects to nothing.

    Where the configuration does not say where the warehouse is, and no load can begin, the location is empty.
    """
    spec = destination.spec()
    kind = str(spec.destination_type)
    if isinstance(spec, DestinationClientDwhConfiguration):
        spec.dataset_name = dataset
    with inject_section(ConfigSectionContext(pipeline_name=PIPELINE_NAME, sections=())):
        try:
            config = destination.configuration(spec)
        except ConfigurationException:
            return Target(kind, "", dataset)  # dlt says what is missing, to whom it matters
        except RuntimeError:
            # the DuckDB file is in dlt's own folder, and which one that is depends on where one stands
            return Target(kind, "", dataset, digest(str(Path.cwd())))
        location, account = _location(kind, config)
        return Target(kind, location, _named(dataset, config), account)


def bind_files(destination: Destination[Any, Any]) -> None:
    """Have relative paths begin in the present folder.

    dlt would have them begin where the first run with the same working files stood.
    """
    if issubclass(destination.spec, WithLocalFiles):
        destination.config_params.setdefault(
            "local_dir", str(Path(run_context.active().local_dir).absolute())
        )
        destination.config_params.setdefault("pipeline_name", PIPELINE_NAME)


def digest(*parts: str, size: int = 8) -> str:
    """A name for some texts, of that many bytes in hex digits."""
    joined = "\0".join(parts).encode(errors="surrogateescape")
    return hashlib.blake2b(joined, digest_size=size).hexdigest()


def _named(dataset: str, config: Any) -> str:
    """The dataset's name in the warehouse: dlt fits it to a layout and to the naming convention."""
    layout = resolve_configuration(
        PipelineConfiguration(), sections=("pipelines", PIPELINE_NAME)
    ).dataset_name_layout
    name = layout % dataset if layout else dataset
    if not getattr(config, "enable_dataset_name_normalization", True):
        return name
    return str(Schema(SOURCE_NAME).naming.normalize_table_identifier(name))


def _location(kind: str, config: Any) -> tuple[str, str]:
    """Where one of the supported warehouses is, and a digest of the account where that tells two apart."""
    credentials = config.credentials
    match kind:
        case "duckdb":
            return resolved(str(credentials.database)), ""
        case "motherduck":
            # its name is unique within an account, and the token is all that identifies the account
            return f"md:{credentials.database}".lower(), digest(str(config.fingerprint()))
        case "ducklake":
            scheme, separator, catalog = str(config.data_location()).partition("://")
            is_file = scheme in ("duckdb", "sqlite")
            return f"{scheme}{separator}{resolved(catalog) if is_file else catalog}", ""
        case "postgres" | "redshift":
            return _server(config), ""
        case "snowflake":
            # what is not quoted is one name in any case
            return f"{credentials.host}/{credentials.database}".lower(), ""
        case "bigquery":
            project = config.project_id or getattr(credentials, "project_id", None)
            return f"{project}/{config.location}".lower(), ""
        case _:
            host = str(credentials.server_hostname).removeprefix("https://").rstrip("/")
            return f"{host}/{credentials.catalog}".lower(), ""


def _server(config: Any) -> str:
    """Host, port and database as libpq finds them: options of the URL win over what stands before them."""
    credentials = config.credentials
    query = credentials.query or {}
    hosts = str(query.get("hostaddr") or query.get("host") or credentials.host or DEFAULT_HOST).split(",")
    # a path is the folder of a socket
    host = ",".join(
        resolved(name) if name.startswith("/") else name.strip().lower().rstrip(".") for name in hosts
    )
    port = query.get("port") or credentials.port or config.DEFAULT_PORT
    return f"{host}:{port}/{query.get('dbname') or unquote(str(credentials.database or ''))}"


def resolved(path: str) -> str:
    """A path without links and without `..`; the same where nothing is there yet."""
    try:
        return str(Path(path).resolve())
    except (OSError, RuntimeError):  # a link to itself
        return str(Path(path).absolute())

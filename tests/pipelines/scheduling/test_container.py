"""The Containerfile: what it copies is there and builds a wheel with all files, and its entry point loads."""

import json
import re
import shlex
import shutil
import sys
import zipfile
from fnmatch import fnmatch
from functools import cache
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from pip._internal.commands import create_command

from .machine import RECIPES, ROOT, Machine, execute, polled_tokens

FILE = RECIPES / "Containerfile"
IGNORE = RECIPES / "Containerfile.dockerignore"
LOCK = RECIPES / "requirements.lock"
KNOWN = {"FROM", "ENV", "WORKDIR", "RUN", "COPY", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
SECRET_LOOKING = re.compile(r"secret|token|password|credential|_key\b", re.IGNORECASE)
PINS = re.compile(r"^([\w.-]+)==(\S+)(.*?)(?=^\S|\Z)", re.MULTILINE | re.DOTALL)

Instructions = list[tuple[str, str]]


def stages() -> list[Instructions]:
    """The instructions of each stage, continued lines joined."""
    lines = [line for line in FILE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    found: list[Instructions] = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        if not line.strip():
            continue
        name, _, rest = line.partition(" ")
        if name == "FROM":
            found.append([])
        found[-1].append((name, rest.strip()))
    return found


BUILD, IMAGE = stages()


def of(stage: Instructions, name: str) -> list[str]:
    """What a stage says in instructions of that name."""
    return [rest for each, rest in stage if each == name]


def copied() -> list[str]:
    """What the build takes from this repository."""
    return [source for rest in of(BUILD, "COPY") for source in rest.split()[:-1]]


def is_ignored(path: str) -> bool:
    """Whether the builder never sees that file: the last pattern that fits it or a folder of it decides."""
    ignored = False
    for line in IGNORE.read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").removeprefix("**/")
        parts = Path(path).parts
        prefixes = ["/".join(parts[: count + 1]) for count in range(len(parts))]
        names = list(parts) if line.startswith("**/") else []
        if any(fnmatch(each, pattern) for each in prefixes + names):
            ignored = not line.startswith("!")
    return ignored


def test_instructions_are_known_and_hold_no_secret() -> None:
    assert {name for name, _ in BUILD + IMAGE} <= KNOWN  # no ARG, no ADD
    assert [rest for rest in of(BUILD + IMAGE, "ENV") if SECRET_LOOKING.search(rest)] == []
    assert of(BUILD, "FROM") == ["python:3.12-slim AS build"]
    assert of(IMAGE, "FROM") == ["python:3.12-slim"]


def test_it_does_not_run_as_root() -> None:
    names = [name for name, _ in IMAGE]
    (user,) = of(IMAGE, "USER")
    assert int(user) > 0
    assert f"--uid {user} " in of(IMAGE, "RUN")[0]
    assert names.index("USER") < names.index("ENTRYPOINT")


def test_what_is_copied_is_there_and_reaches_the_builder() -> None:
    assert [path for path in copied() if not (ROOT / path).exists()] == []
    assert [path for path in copied() if is_ignored(path)] == []
    assert not is_ignored("pipelines/views/outages.sql")


@pytest.mark.parametrize(
    "path",
    [".dlt/secrets.toml", "tokens.csv", "connections.duckdb", ".git/config", "sources/.dlt/secrets.toml"],
)
def test_secrets_and_data_never_reach_the_builder(path: str) -> None:
    assert is_ignored(path)


def test_pip_knows_the_options_of_every_installation() -> None:
    commands = [shlex.split(part) for run in of(BUILD, "RUN") for part in run.split("&&")]
    pip = [command[3:] for command in commands if command[1:3] == ["-m", "pip"]]
    assert [command[0] for command in pip] == ["install", "install", "wheel", "install"]
    for name, *arguments in pip:
        options, rest = create_command(name).parse_args(arguments)
        assert options.require_hashes or options.ignore_dependencies
        assert [path for path in options.requirements if not list(ROOT.rglob(path))] == []
        assert bool(options.requirements) != bool(rest)


@cache
def pins(path: Path) -> dict[str, tuple[str, str]]:
    """What a lock file pins: version and hashes by name."""
    found = PINS.findall(path.read_text(encoding="utf-8"))
    return {canonicalize_name(name): (version, rest) for name, version, rest in found}


def needed(name: str, extras: set[str], seen: set[tuple[str, str]]) -> set[str]:
    """A package and all it depends on, by what is installed here of the versions that are locked."""
    normalized, installed = canonicalize_name(name), distribution(name)
    names: set[str] = {normalized}
    locked, _ = pins(ROOT / "requirements.lock").get(normalized, (installed.version, ""))
    # another version may need something else
    for text in (installed.version == locked and installed.requires) or ():
        requirement = Requirement(text)
        if requirement.marker and not any(
            requirement.marker.evaluate({"extra": each}) for each in extras | {""}
        ):
            continue
        key = (canonicalize_name(requirement.name), ",".join(sorted(requirement.extras)))
        if key not in seen:
            seen.add(key)
            names |= needed(requirement.name, set(requirement.extras), seen)
    return names


@pytest.mark.parametrize("charts", [False, True])
def test_the_lock_file_is_what_a_load_needs_of_the_repositorys(charts: bool) -> None:
    """The same versions and hashes, without what only development needs, and charts only where wanted."""
    file = LOCK.with_name("requirements-charts.lock") if charts else LOCK
    ours, all_pins = pins(file), pins(ROOT / "requirements.lock")
    assert {name: pin for name, pin in ours.items() if all_pins.get(name) != pin} == {}
    extras = {"postgres", "sql", "shared", *(["charts"] if charts else [])}
    wanted = needed("dlt-cronofy", extras, set()) - {"dlt-cronofy"}
    assert wanted - ours.keys() == set()
    assert {"pytest", "mypy", "playwright"} & ours.keys() == set()
    assert ({"pandas", "altair", "vl-convert-python"} <= ours.keys()) == charts
    assert charts or not {"pandas", "numpy", "altair"} & ours.keys()


def test_what_is_copied_builds_a_wheel_with_everything(tmp_path: Path) -> None:
    for path in copied():
        target = tmp_path / ("." if path.endswith(".lock") else path)
        if (ROOT / path).is_dir():
            left_out = shutil.ignore_patterns("__pycache__", "target")
            shutil.copytree(ROOT / path, target, symlinks=True, ignore=left_out)
        else:
            shutil.copy(ROOT / path, target)
    command = of(BUILD, "RUN")[-1].split("&&")[0].replace("tools/bin/python", sys.executable)
    execute(shlex.split(command), tmp_path, {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"})
    (wheel,) = (tmp_path / "wheels").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (entry_points,) = [name for name in names if name.endswith("entry_points.txt")]
        assert "dlt-cronofy = dlt_cronofy.cli.main:main" in archive.read(entry_points).decode()
    assert {"dlt_cronofy/source/planning/plan.py", "dlt_cronofy/views/outages.sql"} <= names
    assert not any("secrets.toml" in name for name in names)


@pytest.mark.long
def test_the_entry_point_loads_as_it_is(machine: Machine) -> None:
    """In the image's folder and environment, with settings mounted where they cannot be written."""
    (home,) = of(IMAGE, "WORKDIR")
    inside = machine.root / "image"
    settings = inside / ".dlt"
    settings.mkdir(parents=True)
    # without the test's own place for dlt's working files: the image has one
    lines = machine.configuration.splitlines()
    text = "\n".join(line for line in lines if not line.startswith("pipelines_dir"))
    (settings / "config.toml").write_text(text, encoding="utf-8")
    (settings / "secrets.toml").write_text(machine.secrets, encoding="utf-8")
    variables = dict(part.split("=", 1) for rest in of(IMAGE, "ENV") for part in rest.split())
    environment = {name: value.replace(home, str(inside)) for name, value in variables.items()}
    environment |= {"HOME": str(inside), "PATH": machine.environment()["PATH"]}
    (entry_point,), (command,) = of(IMAGE, "ENTRYPOINT"), of(IMAGE, "CMD")
    done = execute(json.loads(entry_point) + json.loads(command), inside, environment)
    assert "Loaded into connections.duckdb" in done.stdout
    assert polled_tokens(inside / "connections.duckdb") > 0
    assert sorted(path.name for path in settings.iterdir()) == ["config.toml", "secrets.toml"]
    assert (inside / "data" / "pipelines").is_dir()

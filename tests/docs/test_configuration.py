"""docs/configuration.md: it is what settings, commands and outcomes make it (`UPDATE_DOCS=1` writes it)."""

import json
import os
import re
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import click
import pytest
from dlt.common.configuration.container import Container
from dlt.common.configuration.specs.pluggable_run_context import PluggableRunContext

import dlt_cronofy
from dlt_cronofy.cli.main import cli
from dlt_cronofy.configuration import read_settings
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.records import Outcome
from dlt_cronofy.source.settings import CronofyConfiguration
from docs.generators.configuration import (
    CONFIG_FILE,
    SECRETS_FILE,
    SECTION_PARTS,
    commands,
    configuration_reference,
    section_keys,
)
from tests.docs.questions import DOCS

DOCUMENT = DOCS / "configuration.md"
PACKAGE = Path(dlt_cronofy.__file__).parent
# of keys without a default that not every text is good for
VALUES = {"tokens": ["one"], "token_labels": ["one"], "keep_polls": "90d"}
KEYS = {key.name: key for part in SECTION_PARTS for key in section_keys(part)}
TOML = [
    pytest.param(block, id=f"{page.name}:{number}")
    for page in sorted(DOCS.glob("*.md"))
    for number, block in enumerate(
        re.findall(r"```toml\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    )
]


def section(text: str, heading: str) -> str:
    return text.partition(f"## {heading}\n")[2].partition("\n## ")[0]


def test_the_document_is_up_to_date() -> None:
    if os.environ.get("UPDATE_DOCS"):
        DOCUMENT.write_text(configuration_reference(), encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == configuration_reference(), "UPDATE_DOCS=1 writes it anew"


def test_every_key_is_in_it_with_what_sets_it() -> None:
    assert list(KEYS) == [name for part in SECTION_PARTS for name in part.__annotations__]
    rows = section(configuration_reference(), "Section `sources.cronofy`")
    for key in KEYS.values():
        assert f"| `{key.name}` | " in rows
        assert f"| `{key.variable}` |" in rows


def test_every_command_and_option_is_in_it() -> None:
    text = configuration_reference()
    for name, command in commands(cli, "dlt-cronofy"):
        shown = text.partition(f"### {name}\n")[2].partition("\n#")[0]
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert all(f"`{option}`" in shown for option in parameter.opts)


def test_every_outcome_is_in_it() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|", section(configuration_reference(), "Outcomes of polls"), re.MULTILINE
    )
    assert rows == [outcome.value for outcome in Outcome]


def test_only_secrets_are_refused_by_the_file_that_may_not_hold_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".dlt").mkdir()
    file = tmp_path / ".dlt" / CONFIG_FILE
    context = Container()[PluggableRunContext]  # reads the files once
    monkeypatch.setattr(context, "providers", context.providers)
    for key in section_keys():
        value = VALUES.get(key.name) or key.default or "https://example.test"
        file.write_text(f"[sources.cronofy]\n{key.name} = {json.dumps(value)}\n")
        context.reload_providers()
        refusal = "cannot hold secret values" if key.is_secret else "refreshing needs both"
        expected = pytest.raises(ConfigurationError, match=refusal)
        with expected if key.is_secret or key.name == "client_id" else nullcontext():
            read_settings()


def test_the_environment_sets_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEYS["tokens"].variable, json.dumps([{"key": "a", "access_token": "b"}]))
    monkeypatch.setenv(KEYS["requests_shared_in"].variable, "requests.sqlite")
    monkeypatch.setenv(KEYS["token_labels"].variable, json.dumps(["plan", "customer"]))
    configuration, settings = read_settings()
    assert settings.token_labels == ("plan", "customer")
    assert configuration.tokens == [{"key": "a", "access_token": "b"}]
    assert settings.requests_shared_in


@pytest.mark.parametrize("block", TOML)
def test_examples_put_keys_into_the_file_they_belong_to(block: str) -> None:
    file = block.splitlines()[0].removeprefix("# .dlt/")
    assert file in (CONFIG_FILE, SECRETS_FILE), "the first line says which file it is"
    ours: dict[str, Any] = tomllib.loads(block).get("sources", {}).get("cronofy", {})
    for name in ours:
        assert file == SECRETS_FILE or not KEYS[name].is_secret


def test_a_key_without_a_meaning_is_an_error() -> None:
    class Added(CronofyConfiguration):
        novel: str | None = None

    with pytest.raises(ValueError, match=r"Added\.novel has no meaning"):
        section_keys(Added)


def test_an_option_without_help_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    added = click.Command("added", help="Adds.", params=[click.Option(["--more"])])
    monkeypatch.setitem(cli.commands, "added", added)
    with pytest.raises(ValueError, match="dlt-cronofy added --more has no help"):
        configuration_reference()

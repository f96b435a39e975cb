"""docs/scheduling.md: its commands do what it says, its example is what is sent, its links lead somewhere."""

import json
import re
import shlex
import tomllib
from datetime import UTC, datetime
from importlib.metadata import metadata
from pathlib import Path

import pytest
import yaml  # type: ignore[import-untyped]
from click.testing import CliRunner

from dlt_cronofy.alerts.messages import Message, news_message, text_message
from dlt_cronofy.alerts.news import KINDS, OPENED, Item, News
from dlt_cronofy.alerts.sending import TEST, Receiver
from dlt_cronofy.cli.main import cli

from .machine import PAGE, ROOT, Machine, blocks
from .test_container import IMAGE, of
from .test_cron import Crontab

TEXT = PAGE.read_text(encoding="utf-8")
COMMANDS = blocks("sh")


def test_every_block_of_commands_is_run_below() -> None:
    assert list(COMMANDS) == [
        *("pip", "cron", "systemd", "GitHub Actions", "container", "Kubernetes"),
        *("watching", "trying", "looking up"),
    ]


def test_the_crontab_is_added_to_what_is_there(machine: Machine) -> None:
    machine.stub("crontab", f'[ "$1" = -l ] && echo "@daily other" || cat > {machine.root}/installed')
    assert machine.shell(COMMANDS["cron"]).returncode == 0
    first, *rest = (machine.root / "installed").read_text(encoding="utf-8").splitlines()
    assert first == "@daily other"
    assert "dlt-cronofy load" in Crontab.parse("\n".join(rest)).command


def test_the_units_are_installed(machine: Machine) -> None:
    machine.stub("sudo", '[ "$1" = tee ] && cat > /dev/null; exit 0')
    done = machine.shell(COMMANDS["systemd"])
    assert done.returncode == 0, done.stderr
    files = {word for call in machine.calls for word in call.split() if re.search(r"^[.\w].*\.\w+$", word)}
    assert {".dlt/config.toml", ".dlt/secrets.toml"} <= files
    assert [file for file in files - {"dlt-cronofy.timer"} if not (machine.checkout / file).exists()] == []
    (service,) = [file for file in files if file.endswith(".service")]
    unit = (machine.checkout / service).read_text(encoding="utf-8")
    assert "/etc/dlt-cronofy/config.toml" in unit
    assert "/etc/dlt-cronofy/secrets.toml" in unit
    assert any(call.endswith(".dlt/config.toml .dlt/secrets.toml /etc/dlt-cronofy") for call in machine.calls)
    assert "/etc/dlt-cronofy/environment" in unit
    assert any("/etc/dlt-cronofy/environment" in call for call in machine.calls)
    assert machine.calls[-1] == "sudo systemctl enable --now dlt-cronofy.timer"


def test_the_workflow_is_put_in_place(machine: Machine) -> None:
    assert machine.shell(COMMANDS["GitHub Actions"]).returncode == 0
    (workflow,) = (machine.checkout / ".github" / "workflows").iterdir()
    assert yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]


def test_the_image_is_built_and_run(machine: Machine) -> None:
    machine.stub("docker")
    assert machine.shell(COMMANDS["container"]).returncode == 0
    build, load, status = machine.calls
    (containerfile,) = re.findall(r"-f (\S+)", build)
    assert (machine.checkout / containerfile).is_file()
    (home,) = of(IMAGE, "WORKDIR")
    for call in (load, status):
        (source, target) = re.findall(r"-v (\S+?):(\S+?):ro", call)[0]
        assert source == str(machine.checkout / ".dlt")
        assert target == f"{home}/.dlt"
        assert "--hostname dlt-cronofy" in call
    assert load.endswith(" dlt-cronofy")
    assert status.endswith(" dlt-cronofy status")


def test_pip_installs_extras_that_there_are() -> None:
    (extras,) = re.findall(r"\[(.*)\]", COMMANDS["pip"])
    table = TEXT.partition("| extra |")[2].partition("\n\n")[0]
    named = set(extras.split(",")) | set(re.findall(r"`(\w+)`(?=[,` |])", table))
    ours = set(metadata("dlt-cronofy").get_all("Provides-Extra") or ())
    assert {"postgres", "charts", "snowflake"} <= named & ours
    assert ours - named == {"airflow"}


def test_the_secret_of_kubernetes_holds_both_files(machine: Machine) -> None:
    machine.stub("kubectl")
    assert machine.shell(COMMANDS["Kubernetes"]).returncode == 0
    (call,) = machine.calls
    assert set(re.findall(r"--from-file=(\S+)", call)) == {".dlt/config.toml", ".dlt/secrets.toml"}
    assert call.startswith("kubectl create secret generic dlt-cronofy ")
    assert "{secretName: dlt-cronofy," in TEXT


@pytest.mark.long
def test_what_to_watch_and_whom_to_ask(machine: Machine) -> None:
    loaded = machine.shell("dlt-cronofy load")
    assert loaded.returncode == 0, loaded.stderr
    watched = machine.shell(COMMANDS["watching"])
    assert watched.returncode == 0, watched.stderr
    health, _ = json.JSONDecoder().raw_decode(watched.stdout)
    assert health["open_outages"]
    assert "newest_poll" in watched.stdout
    asked = machine.shell(COMMANDS["looking up"])
    assert (asked.returncode, asked.stdout.strip()) == (0, "no rows")


def test_the_example_is_a_message_that_is_sent() -> None:
    """Made again from its own items by what makes messages."""
    shown = json.loads(blocks("json")["message"])
    times = {"outages": "first_seen_at", "needs_action": "since", "ended": "ended_at"}
    items, keys = [], {}
    for name, time in times.items():
        for row in shown[name]:
            facts = {"customer": None} | row
            for field in ("first_seen_at", "started_after"):
                facts[field] = datetime.fromisoformat(row[field]) if row.get(field) else None
            kind = row.get("reason") or row.get("end_reason") or OPENED
            items.append(Item(kind, facts, datetime.fromisoformat(row[time])))
            keys[row["account_id"]] = row["token_keys"]
    items.sort(key=lambda item: KINDS.index(item.kind))
    assert news_message(News(shown["run_id"], items=items, token_keys=keys)) == shown
    assert all(item.at.tzinfo == UTC for item in items)


def test_a_receiver_is_tried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    _, *arguments = shlex.split(COMMANDS["trying"])
    sent: list[Message] = []
    monkeypatch.setattr(Receiver, "deliver", lambda _, body: sent.append(body))
    tried = CliRunner().invoke(
        cli, arguments, env={"SOURCES__CRONOFY__ALERTS_TO": "https://example.com/hook"}
    )
    assert (tried.exit_code, sent) == (0, [text_message("test", TEST)])


def test_the_table_names_each_kind_of_news() -> None:
    rows = re.findall(r"^\| (`.+?) \|", TEXT[TEXT.index("## Alerts") :], re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(rows))) == sorted(KINDS)


def test_settings_and_the_cron_job_can_be_read() -> None:
    settings = tomllib.loads(next(iter(blocks("toml").values())))
    assert list(settings["sources"]["cronofy"]) == ["alerts_to"]
    job = yaml.safe_load(next(iter(blocks("yaml").values())))
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (home,), (user,) = of(IMAGE, "WORKDIR"), of(IMAGE, "USER")
    assert container["volumeMounts"][0]["mountPath"] == f"{home}/.dlt"
    assert pod["securityContext"]["runAsUser"] == int(user)
    assert (job["spec"]["concurrencyPolicy"], pod["volumes"][0]["secret"]["defaultMode"]) == ("Forbid", 0o440)


@pytest.mark.parametrize("path", re.findall(r"\]\((?!http)([^)#]+)", TEXT))
def test_links_lead_somewhere(path: str) -> None:
    assert (PAGE.parent / path).resolve().is_relative_to(ROOT)
    assert (PAGE.parent / path).exists()

"""The systemd units: directives that systemd knows, and a command that loads with just what they give it."""

import configparser
import re
import shlex
import shutil
import subprocess
from datetime import timedelta

import pytest

from tests.acceptance.place import run

from .machine import RECIPES, Machine, execute, polled_tokens

SERVICE, TIMER = "dlt-cronofy.service", "dlt-cronofy.timer"

# from systemd.unit(5), .service(5), .exec(5), .kill(5), .resource-control(5) and .timer(5), version 252
KNOWN = {
    "Unit": """
        After Before BindsTo Conflicts DefaultDependencies Description Documentation JobTimeoutSec
        OnFailure OnSuccess PartOf Requires RequiresMountsFor Requisite StartLimitBurst
        StartLimitIntervalSec Upholds Wants
    """,
    "Service": """
        BindPaths BindReadOnlyPaths CacheDirectory CapabilityBoundingSet CPUQuota DynamicUser
        Environment EnvironmentFile ExecCondition ExecStart ExecStartPost ExecStartPre ExecStop
        ExecStopPost Group IOWeight InaccessiblePaths KillMode KillSignal KeyringMode LimitNOFILE
        LoadCredential LoadCredentialEncrypted LockPersonality LogsDirectory MemoryDenyWriteExecute
        MemoryHigh MemoryMax Nice NoNewPrivileges PassEnvironment PrivateDevices PrivateMounts
        PrivateNetwork PrivateTmp PrivateUsers ProcSubset ProtectClock ProtectControlGroups ProtectHome
        ProtectHostname ProtectKernelLogs ProtectKernelModules ProtectKernelTunables ProtectProc
        ProtectSystem ReadOnlyPaths ReadWritePaths RemainAfterExit RemoveIPC Restart RestartSec
        RestrictAddressFamilies RestrictNamespaces RestrictRealtime RestrictSUIDSGID RuntimeDirectory
        RuntimeMaxSec SetCredential StandardError StandardOutput StateDirectory StateDirectoryMode
        SuccessExitStatus SyslogIdentifier SystemCallArchitectures SystemCallErrorNumber
        SystemCallFilter SystemCallLog TasksMax TimeoutSec TimeoutStartSec TimeoutStopSec Type UMask
        UnsetEnvironment User WorkingDirectory
    """,
    "Timer": """
        AccuracySec FixedRandomDelay OnActiveSec OnBootSec OnCalendar OnClockChange OnStartupSec
        OnTimezoneChange OnUnitActiveSec OnUnitInactiveSec Persistent RandomizedDelaySec
        RemainAfterElapse Unit WakeSystem
    """,
    "Install": "Alias Also DefaultInstance RequiredBy WantedBy",
}


CREDENTIAL = re.compile(r"^LoadCredential=(.*?):(.*)\n", re.MULTILINE)


def unit(name: str) -> configparser.ConfigParser:
    """A unit file; one that gives a directive twice is an error."""
    parser = configparser.ConfigParser(interpolation=None, delimiters=("=",), comment_prefixes=("#", ";"))
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    # a credential has a line of its own
    text = CREDENTIAL.sub("", (RECIPES / name).read_text(encoding="utf-8"))
    parser.read_string(text)
    return parser


@pytest.mark.parametrize("name", [SERVICE, TIMER])
def test_systemd_knows_every_directive(name: str) -> None:
    parsed = unit(name)
    sections = {section: set(parsed[section]) for section in parsed.sections()}
    assert {section: names - set(KNOWN[section].split()) for section, names in sections.items()} == {
        section: set() for section in sections
    }


def test_systemd_itself_finds_nothing_wrong(machine: Machine) -> None:
    """On a machine without systemd, what is above and below has to do."""
    if (analyze := shutil.which("systemd-analyze")) is None:
        return
    copies = [machine.root / name for name in (SERVICE, TIMER)]
    for copy in copies:
        copy.write_text(machine.moved((RECIPES / copy.name).read_text(encoding="utf-8")), encoding="utf-8")
    done = execute([analyze, "verify", *map(str, copies)], machine.root, {"HOME": str(machine.root)})
    assert done.stdout + done.stderr == ""


def test_what_is_promised_of_the_schedule() -> None:
    service, timer = unit(SERVICE)["Service"], unit(TIMER)["Timer"]
    assert (service["Type"], timer["OnCalendar"], timer["Persistent"]) == ("oneshot", "hourly", "yes")
    assert "SuccessExitStatus" not in service  # 1 and 2 are failures
    (minutes,) = re.findall(r"^(\d+)min$", service["TimeoutStartSec"])
    assert timedelta(minutes=int(minutes)) < timedelta(hours=1)


def start(machine: Machine, environment_file: str) -> "subprocess.CompletedProcess[str]":
    """Run ExecStart as the unit says: its folder, its environment, its credentials, and nothing else."""
    service = unit(SERVICE)["Service"]
    credentials, states = machine.root / "credentials", machine.root / "var"
    state = states / service["StateDirectory"]
    for folder in (credentials, state):
        folder.mkdir(parents=True)
    # root alone reads the source; the service gets a copy
    for name, source in CREDENTIAL.findall((RECIPES / SERVICE).read_text(encoding="utf-8")):
        assert source == f"/etc/dlt-cronofy/{name}"
        (credentials / name).write_bytes((machine.checkout / ".dlt" / name).read_bytes())
        (credentials / name).chmod(0o400)

    def specified(text: str) -> str:
        return text.replace("%d", str(credentials)).replace("%S", str(states))

    assignments = shlex.split(specified(service["Environment"])) + environment_file.split()
    environment = dict(assignment.split("=", 1) for assignment in assignments)
    before = sorted(credentials.iterdir())
    done = run(shlex.split(machine.moved(service["ExecStart"])), state, environment)
    assert specified(service["WorkingDirectory"]) == str(state)
    assert sorted(credentials.iterdir()) == before
    return done


@pytest.mark.long
def test_the_service_loads_with_its_credential(machine: Machine) -> None:
    done = start(machine, "DESTINATION_TYPE=duckdb")
    assert done.returncode == 0, done.stderr
    database = machine.root / "var" / "dlt-cronofy" / "connections.duckdb"
    assert polled_tokens(database) > 0
    assert "Loaded into connections.duckdb, dataset cronofy" in done.stdout


def test_the_environment_file_is_read_too(machine: Machine) -> None:
    """A destination that does not exist: bad configuration, which the unit does not call a success."""
    done = start(machine, "DESTINATION_TYPE=nowhere")
    assert done.returncode == 2
    assert "nowhere" in done.stderr

"""One round after the other: kill, load again, and compare everything with what the server answered."""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.acceptance.place import Place, Row
from tests.acceptance.server import ScriptedServer
from tests.acceptance.world import LISTS, World
from tests.views.server import postgres_server

from .expected import SAMPLED_BY, VIEWS, Histories, differences, listings
from .ledger import Ledger
from .plan import Round, draw_round
from .stage import HOLD, Attempt, Reader, Stage

KEYS = {
    "account": "token_key",
    "calendars": "token_key, calendar_id",
    "polls": "poll_id",
    "profile_changes": "change_id",
    "profiles": "token_key, profile_type, profile_id",
    "userinfo": "token_key",
}
ACCOUNTS = 60
# few, because a machine is busy at times
FULL_DURATIONS = 3
REPORT_EVERY = 10
# warehouses with findings; more of them would tell nothing new
MOST_BROKEN = 10

Say = Callable[[str], None]


@dataclass
class Findings:
    """What the rounds so far came to."""

    phases: Counter[str] = field(default_factory=Counter)
    too_late: int = 0
    broken: int = 0
    rounds: int = 0
    view_checks: int = 0
    lost_directories: int = 0
    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)

    @property
    def kills(self) -> int:
        return self.phases.total()

    @property
    def faults(self) -> int:
        return len(self.lost) + len(self.duplicated) + len(self.wrong)

    @property
    def recovery_seconds(self) -> float:
        return median(self.recoveries) if self.recoveries else 0.0


@dataclass
class Chronicle:
    """One stage, what its tables are known to hold, and the checks of a round in it."""

    stage: Stage
    findings: Findings
    ledger: Ledger = field(default_factory=Ledger)
    poll_ids: set[str] = field(default_factory=set)
    run_ids: set[str] = field(default_factory=set)

    def play(self, plan: Round, durations: list[float]) -> None:
        """One round."""
        stage, findings = self.stage, self.findings
        faults_before = findings.faults
        stage.world.turn()
        killed, kept = [], self.poll_ids
        began = _now()
        for share in plan.kills:
            attempt, finished = stage.run_killed(share, median(durations), plan.package_polls)
            killed.append(attempt)
            if attempt.phase is None:
                findings.too_late += 1
                if plan.package_polls is None and finished is not None:
                    _remember(durations, finished)
            else:
                findings.phases[attempt.phase] += 1
            kept = kept | self._loaded_polls(complete=False) | stage.sealed_polls()
        if plan.loses_working_directory:
            findings.lost_directories += 1
            kept = self.poll_ids | self._loaded_polls(complete=True)
            killed[-1].lost_working_directory = True
            stage.place.forget()
        if plan.turns:
            stage.world.turn()
        if plan.by_command:
            recovery, duration = stage.run_command()
            _remember(durations, duration)
        else:
            every = _now() - began if plan.resumes else timedelta(0)
            recovery, duration = stage.run_here(every)
        findings.recoveries.append(duration)
        if left := stage.pending():
            findings.wrong.append(f"packages are pending after a load: {sorted(left)}")
        with stage.read() as reader:
            self._check(plan, kept, killed, recovery, reader)
        if findings.faults > faults_before:
            where = f"round {plan.number} ({plan}; killed in {', '.join(a.phase or '-' for a in killed)}): "
            for lines in (findings.lost, findings.duplicated, findings.wrong):
                lines[:] = [line if line.startswith("round ") else where + line for line in lines]
        findings.rounds += 1

    def check_views(self) -> None:
        """Compare every public view with the oracle."""
        with self.stage.read() as reader:
            tables = {table: reader.rows(table) for table in KEYS}
            found = {name: reader.query(f"SELECT {view.columns} FROM {name}") for name, view in VIEWS.items()}
        histories = Histories(tables, HOLD)
        for name in VIEWS:
            self.findings.wrong += differences(name, found[name], histories)
        self.findings.view_checks += 1

    def _loaded_polls(self, *, complete: bool) -> set[str]:
        if not self.stage.has_polls():
            return set()
        only = " WHERE _dlt_load_id IN (SELECT load_id FROM _dlt_loads WHERE status = 0)" if complete else ""
        with self.stage.read() as reader:
            return {row[0] for row in reader.query(f"SELECT poll_id FROM polls{only}")}

    def _check(
        self, plan: Round, kept: set[str], killed: list[Attempt], recovery: Attempt, reader: Reader
    ) -> None:
        findings = self.findings
        tables = {table: reader.rows(table) for table in KEYS}
        poll_ids = {row["poll_id"] for row in tables["polls"]}
        findings.lost += [f"poll {poll_id}" for poll_id in sorted(kept - poll_ids)]
        findings.duplicated += _duplicates(reader)
        new_polls = [row for row in tables["polls"] if row["poll_id"] not in self.poll_ids]
        findings.wrong += self._check_polls(plan, new_polls, killed, recovery)
        arrived = [_arrived_batches(attempt, new_polls) for attempt in killed]
        findings.wrong += self.ledger.add(list(zip(killed, arrived, strict=True)), recovery, tables)
        complete = {row[0] for row in reader.query("SELECT load_id FROM _dlt_loads WHERE status = 0")}
        findings.wrong += _check_samples(new_polls, [*killed, recovery], tables["profile_changes"])
        new_changes = [row for row in tables["profile_changes"] if row["run_id"] not in self.run_ids]
        findings.wrong += _check_previous_polls(new_changes, tables["polls"], complete)
        self.poll_ids = poll_ids
        self.run_ids = {row["run_id"] for table in tables.values() for row in table}

    def _check_polls(
        self, plan: Round, new_polls: Sequence[Row], killed: Sequence[Attempt], recovery: Attempt
    ) -> list[str]:
        """Every poll is one the server answered; loads leave whole batches, the last one all of them."""
        wrong = []
        for row in new_polls:
            owners = [
                attempt
                for attempt in (*killed, recovery)
                if attempt.started_at <= row["polled_at"] <= attempt.ended_at
            ]
            if len(owners) != 1:
                wrong.append(f"poll {row['poll_id']} of no load: {row['run_id']}, {row['polled_at']}")
                continue
            owners[0].run_ids.add(row["run_id"])
        for attempt in (*killed, recovery):
            attempt.arrived = {
                (row["token_key"], row["endpoint"]) for row in new_polls if row["run_id"] in attempt.run_ids
            }
            written = Counter(
                (row["token_key"], row["endpoint"], row["outcome"], row["attempts"])
                for row in new_polls
                if row["run_id"] in attempt.run_ids
            )
            wholes = [_polls(attempt, count) for count in range(len(attempt.batches()) + 1)]
            if attempt is recovery or attempt.phase is None:
                wholes = wholes[-1:]
            is_whole = written in wholes and (
                attempt.package_polls is None
                or written == wholes[-1]
                or written.total() % attempt.package_polls == 0
            )
            if not is_whole or len(attempt.run_ids) > 1:
                wrong.append(
                    f"polls of {attempt.run_ids or 'a load'}: {written.total()} rows are no whole batches of"
                    f" {wholes[-1].total()}, e.g. {list((wholes[-1] - written) + (written - wholes[-1]))[:2]}"
                )
        if plan.resumes and not plan.by_command and not plan.loses_working_directory:
            read = {
                row["token_key"] for row in new_polls if row["run_id"] not in recovery.run_ids and _is_ok(row)
            }
            repeated = read & {request.token for request, _ in recovery.log}
            if repeated:
                wrong.append(
                    f"{len(repeated)} tokens were read and are asked for again, e.g. {min(repeated)}"
                )
        return wrong


def _is_ok(row: Row) -> bool:
    return bool(row["endpoint"] == "userinfo" and row["outcome"] == "ok")


def _now() -> datetime:
    return datetime.now(UTC)


def _remember(durations: list[float], duration: float) -> None:
    durations.append(duration)
    del durations[:-FULL_DURATIONS]


def _polls(attempt: Attempt, batches: int) -> "Counter[tuple[str, str, str, int]]":
    """The polls of so many batches, as the server saw them."""
    answers = [answer for batch in attempt.batches()[:batches] for answer in batch]
    attempts = Counter((request.token, request.endpoint) for request, _ in answers)
    final = {(request.token, request.endpoint): reply.outcome for request, reply in answers}
    return Counter((*key, outcome, attempts[key]) for key, outcome in final.items())


def _arrived_batches(attempt: Attempt, new_polls: Sequence[Row]) -> int:
    """How many batches of a killed load have their polls in the warehouse."""
    if attempt.phase is None:
        return len(attempt.batches())
    return 1 if attempt.arrived else 0


def _duplicates(reader: Reader) -> list[str]:
    grains = KEYS | {name: view.grain for name, view in VIEWS.items()}
    return [
        f"{name} {row}"
        for name, grain in grains.items()
        for row in reader.query(f"SELECT {grain} FROM {name} GROUP BY {grain} HAVING COUNT(*) > 1")
    ]


def _check_samples(
    new_polls: Sequence[Row], attempts: Sequence[Attempt], changes: Sequence[Row]
) -> list[str]:
    """At every ok poll the change log lists exactly the profiles that the server listed in its answer."""
    answers = {
        (run_id, request.token): reply.says
        for attempt in attempts
        for request, reply in attempt.log
        if request.endpoint == "userinfo"
        for run_id in attempt.run_ids
    }
    logs: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in sorted(changes, key=lambda row: row["observed_at"]):
        logs[row["account_id"], row["profile_type"]].append(row)
    wrong = []
    for row in new_polls:
        document = answers.get((row["run_id"], row["token_key"])) if _is_ok(row) else None
        for profile_type, name in LISTS.items():
            entries = (document or {}).get("cronofy.data", {}).get(name)
            if entries is None:
                continue
            truth = {entry["profile_id"]: entry["profile_connected"] for entry in entries}
            ((_, listed),) = listings(logs[row["account_id"], profile_type], [row["polled_at"]])
            if listed != truth:
                wrong.append(
                    f"{row['account_id']} {profile_type} at {row['polled_at']}: {listed} instead of {truth}"
                )
    return wrong


def _check_previous_polls(new_changes: Sequence[Row], polls: Sequence[Row], complete: set[str]) -> list[str]:
    """`previous_poll_at` is the account's last sample of that type before the change."""
    samples: dict[tuple[str, str], list[Any]] = defaultdict(list)
    polled = {(row["run_id"], row["token_key"]) for row in polls}
    for row in polls:
        for profile_type, column in SAMPLED_BY.items():
            if row["outcome"] == "ok" and row[column] is not None and row["_dlt_load_id"] in complete:
                samples[row["account_id"], profile_type].append(row["polled_at"])
    wrong = []
    for row in new_changes:
        if (row["run_id"], row["token_key"]) not in polled:
            continue  # its own poll did not arrive, so others of that load may be missing as well
        earlier = [at for at in samples[row["account_id"], row["profile_type"]] if at < row["observed_at"]]
        if row["previous_poll_at"] != max(earlier, default=None):
            wrong.append(
                f"change {row['change_id']} of {row['account_id']}: previous_poll_at"
                f" {row['previous_poll_at']} instead of {max(earlier, default=None)}"
            )
    return wrong


@dataclass
class Campaign:
    """Rounds on one destination until enough loads were killed or the time is up."""

    destination: str
    seed: int
    directory: Path
    say: Say
    accounts: int = ACCOUNTS
    check_views_every: int = 10
    findings: Findings = field(default_factory=Findings)
    postgres_uri: str = ""
    _warehouses: int = 0

    def run(self, kills: int, seconds: float, durations: Sequence[float] = ()) -> Findings:
        """Play; `durations` of undisturbed loads are measured unless given."""
        deadline = time.monotonic() + seconds
        known = list(durations) or self._measured()
        numbers = count()
        while (
            self.findings.kills < kills and time.monotonic() < deadline and self.findings.broken < MOST_BROKEN
        ):
            # a warehouse in which something was found would show it again and again
            faults = self.findings.faults
            with self._chronicle() as chronicle:
                while (
                    self.findings.faults == faults
                    and self.findings.kills < kills
                    and time.monotonic() < deadline
                ):
                    plan = draw_round(self.seed, self.destination, next(numbers))
                    self._round(plan, chronicle, known)
                    if (plan.number + 1) % REPORT_EVERY == 0:
                        self._report(known)
                if self.findings.faults == faults:
                    chronicle.check_views()
                else:
                    self.findings.broken += 1
        return self.findings

    def _round(self, plan: Round, chronicle: Chronicle, durations: list[float]) -> None:
        with ExitStack() as stack:
            if plan.first:
                chronicle = stack.enter_context(self._chronicle())
            try:
                chronicle.play(plan, durations)
                if plan.first or (plan.number + 1) % self.check_views_every == 0:
                    chronicle.check_views()
            except Exception as error:  # noqa: BLE001 - a warehouse that cannot be read is a finding
                said = f"{type(error).__name__}: {error}".replace("\n", " ")
                self.findings.wrong.append(
                    f"round {plan.number} ({plan}) in {chronicle.stage.place.directory}: {said[:1000]}"
                )

    def _measured(self) -> list[float]:
        with self._chronicle() as chronicle:
            durations = []
            for _ in range(4):
                chronicle.stage.world.turn()
                durations.append(chronicle.stage.run_command()[1])
        # the first load creates everything
        return durations[1:]

    @contextmanager
    def _chronicle(self) -> Iterator[Chronicle]:
        """A warehouse of its own, with a world that begins anew."""
        self._warehouses += 1
        name = f"warehouse{self._warehouses}"
        directory = self.directory / name
        directory.mkdir(parents=True)
        world = World(seed=self.seed, accounts=self.accounts, shared=False)
        with ScriptedServer(world.answer_steadily) as server:
            place = Place(directory, server.base_url)
            stage = Stage(
                place,
                self.destination,
                f"cronofy_{name}",
                world,
                server,
                self.postgres_uri,
                credentials(self.postgres_uri) if self.postgres_uri else "",
            )
            yield Chronicle(stage, self.findings)

    def _report(self, durations: Sequence[float]) -> None:
        findings = self.findings
        self.say(
            f"{self.destination}: {findings.kills} kills in {findings.rounds} rounds"
            f" ({', '.join(f'{phase} {count}' for phase, count in findings.phases.most_common())});"
            f" lost {len(findings.lost)}, duplicated {len(findings.duplicated)}, wrong {len(findings.wrong)};"
            f" a load takes {median(durations):.2f} s, a recovery {findings.recovery_seconds:.2f} s"
        )


def credentials(uri: str) -> str:
    """The server's URI as dlt asks for it: with a host and a password, which the socket does not need."""
    (socket_directory,) = parse_qs(urlsplit(uri).query)["host"]
    return f"postgresql://postgres:x@localhost:5432/postgres?host={socket_directory}"


@contextmanager
def server_for(destination: str) -> Iterator[str]:
    """The URI of a PostgreSQL server where the destination needs one."""
    with ExitStack() as stack:
        yield stack.enter_context(postgres_server()) if destination == "postgres" else ""

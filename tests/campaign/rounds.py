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

from tests.acceptance.place import Place, Row
from tests.acceptance.server import ScriptedServer
from tests.acceptance.world import LISTS, World
from tests.postgres import credentials, postgres_server

from .expected import SAMPLED_BY, VIEWS, Histories, differences, listings
from .ledger import Ledger
from .plan import Round, draw_round
from .stage import HOLD, Attempt, Log, Reader, Stage

KEYS = {
    "account": "token_key",
    "calendars": "token_key, calendar_id",
    "coverage": "account_id, profile_type, first_sample_at",
    "polls": "poll_id",
    "profile_changes": "change_id",
    "profiles": "token_key, profile_type, profile_id",
    "runs": "run_id",
    "token_status": "token_key",
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
    at_instants: int = 0
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
        """Those at random."""
        return self.phases.total() - self.at_instants

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
    every: timedelta = timedelta(0)  # of the newest recovery

    def play(self, plan: Round, durations: list[float]) -> None:
        """One round."""
        stage, findings = self.stage, self.findings
        faults_before = findings.faults
        stage.world.turn()
        began = _now()
        killed, kept = self._kill(plan, durations)
        if plan.loses_working_directory:
            findings.lost_directories += 1
            kept = self.poll_ids | self._loaded_polls(complete=True)
            stage.lose_working_directory(killed)
        if plan.turns:
            stage.world.turn()
        if plan.by_command:
            recovery, duration = stage.run_command()
            _remember(durations, duration)
        else:
            self.every = _now() - began if plan.resumes else timedelta(0)
            recovery, duration = stage.run_here(self.every)
        findings.recoveries.append(duration)
        if left := stage.pending():
            findings.wrong.append(f"packages are pending after a load: {sorted(left)}")
        with stage.read() as reader:
            self._check(plan, kept, killed, recovery, reader)
        findings.wrong += [f"evidence: {each}" for each in stage.differences()]
        if findings.faults > faults_before:
            where = f"round {plan.number} ({plan}; killed in {', '.join(a.phase or '-' for a in killed)}): "
            for lines in (findings.lost, findings.duplicated, findings.wrong):
                lines[:] = [line if line.startswith("round ") else where + line for line in lines]
        findings.rounds += 1

    def _kill(self, plan: Round, durations: list[float]) -> tuple[list[Attempt], set[str]]:
        """The killed loads of a round, and the polls that were loaded or sealed after any of them."""
        killed, kept = [], self.poll_ids
        for kill in plan.kills:
            attempt, finished = self.stage.run_killed(kill, median(durations), plan.package_polls)
            killed.append(attempt)
            if attempt.phase is not None:
                self.findings.phases[attempt.phase] += 1
                self.findings.at_instants += isinstance(kill, str)
            elif isinstance(kill, str):
                self.findings.wrong.append(f"a load did not come to the instant {kill!r}")
            else:
                self.findings.too_late += 1
                if plan.package_polls is None and finished is not None:
                    _remember(durations, finished)
            kept = kept | self._loaded_polls(complete=False) | self.stage.sealed_polls()
        return killed, kept

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
        findings.wrong += self.ledger.add(killed, recovery, tables)
        findings.wrong += _check_samples(new_polls, [*killed, recovery], tables["profile_changes"])
        findings.wrong += _check_previous_polls(tables["profile_changes"], tables["polls"], self.run_ids)
        findings.wrong += _check_runs(tables["runs"])
        self.poll_ids = poll_ids
        self.run_ids = {row["run_id"] for table in tables.values() for row in table}

    def _check_polls(
        self, plan: Round, new_polls: Sequence[Row], killed: Sequence[Attempt], recovery: Attempt
    ) -> list[str]:
        """Every poll is one the server answered; loads leave whole packages, the last one all of them."""
        wrong = []
        for row in new_polls:
            owners = [
                attempt
                for attempt in (*killed, recovery)
                if attempt.started_at <= row["polled_at"] <= attempt.ended_at
            ]
            if row["is_late"]:
                wrong.append(f"poll {row['poll_id']} is late, and nobody else polls")
            if len(owners) != 1:
                wrong.append(f"poll {row['poll_id']} of no load: {row['run_id']}, {row['polled_at']}")
                continue
            owners[0].run_ids.add(row["run_id"])
        for attempt in (*killed, recovery):
            wrong += _check_packages(attempt, new_polls, finished=attempt.phase is None)
        if plan.resumes and not plan.by_command and not plan.loses_working_directory:
            # by the end of its plan; on a slow machine that is long after its start
            fresh_since = recovery.ended_at - self.every
            read = {
                row["token_key"]
                for row in new_polls
                if row["run_id"] not in recovery.run_ids and _is_ok(row) and row["polled_at"] > fresh_since
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


def _check_packages(attempt: Attempt, new_polls: Sequence[Row], *, finished: bool) -> list[str]:
    """How many packages of a load have their polls in the warehouse, and whether those are whole."""
    written = Counter(
        (row["token_key"], row["endpoint"], row["outcome"], row["attempts"])
        for row in new_polls
        if row["run_id"] in attempt.run_ids
    )
    all_packages = len(attempt.packages)
    wholes = {count: _polls(attempt.answers(count)) for count in range(all_packages + 1)}
    if finished:
        wholes = {all_packages: _polls(attempt.log)}
    found = [count for count, polls in wholes.items() if polls == written]
    if found and len(attempt.run_ids) <= 1:
        attempt.arrived = found[0]
        return []
    asked = _polls(attempt.log)
    example = list((asked - written) + (written - asked))[:2]
    load = attempt.run_ids or "a load"
    return [
        f"polls of {load}: {written.total()} rows are no whole packages of {asked.total()}, e.g. {example}"
    ]


def _polls(log: Log) -> "Counter[tuple[str, str, str, int]]":
    """The polls that got these answers, as the server saw them."""
    attempts = Counter((request.token, request.endpoint) for request, _ in log)
    final = {(request.token, request.endpoint): reply.outcome for request, reply in log}
    return Counter((*key, outcome, attempts[key]) for key, outcome in final.items())


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


def _check_runs(runs: Sequence[Row]) -> list[str]:
    """The last one came to its end, and of every other one it is known whether it did."""
    return [
        f"run {row['run_id']} has no end, and is not known to have been killed"
        for row in runs
        if row["finished_at"] is None and row["stopped_by"] != "killed"
    ]


def _check_previous_polls(changes: Sequence[Row], polls: Sequence[Row], old_runs: set[str]) -> list[str]:
    """`previous_poll_at` is the account's last sample of that type before the change.

    A poll says so, or another change, whose own poll may be missing: a load may be killed between the two.
    """
    samples: dict[tuple[str, str], list[Any]] = defaultdict(list)
    for row in polls:
        for profile_type, column in SAMPLED_BY.items():
            if row["outcome"] == "ok" and row[column] is not None:
                samples[row["account_id"], profile_type].append(row["polled_at"])
    for row in changes:
        samples[row["account_id"], row["profile_type"]].append(row["observed_at"])
    wrong = []
    for row in changes:
        if row["run_id"] in old_runs:
            continue
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

    def run(
        self,
        kills: int,
        seconds: float,
        durations: Sequence[float] = (),
        first: Sequence[Round] = (),
    ) -> Findings:
        """Play rounds that are given, then drawn ones until that many loads were killed in those.

        Args:
            kills: how many at random.
            seconds: no round is begun after so many.
            durations: of undisturbed loads; measured where there are none.
            first: played before those that are drawn, in a warehouse of their own.
        """
        deadline = time.monotonic() + seconds
        known = list(durations) or self._measured()
        self._play_all(iter(first), known, lambda: time.monotonic() < deadline)
        drawn = (draw_round(self.seed, self.destination, number) for number in count())
        self._play_all(drawn, known, lambda: self.findings.kills < kills and time.monotonic() < deadline)
        return self.findings

    def _play_all(self, plans: Iterator[Round], durations: list[float], goes_on: Callable[[], bool]) -> None:
        plan = next(plans, None)
        while plan is not None and goes_on() and self.findings.broken < MOST_BROKEN:
            # a warehouse in which something was found would show it again and again
            faults = self.findings.faults
            with self._chronicle() as chronicle:
                while plan is not None and goes_on() and self.findings.faults == faults:
                    self._round(plan, chronicle, durations)
                    if (plan.number + 1) % REPORT_EVERY == 0:
                        self._report(durations)
                    plan = next(plans, None)
                if self.findings.faults == faults:
                    chronicle.check_views()
                else:
                    self.findings.broken += 1

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
            f"{self.destination}: {findings.phases.total()} kills in {findings.rounds} rounds"
            f" ({', '.join(f'{phase} {count}' for phase, count in findings.phases.most_common())});"
            f" lost {len(findings.lost)}, duplicated {len(findings.duplicated)}, wrong {len(findings.wrong)};"
            f" a load takes {median(durations):.2f} s, a recovery {findings.recovery_seconds:.2f} s"
        )


@contextmanager
def server_for(destination: str) -> Iterator[str]:
    """The URI of a PostgreSQL server where the destination needs one."""
    with ExitStack() as stack:
        yield stack.enter_context(postgres_server()) if destination == "postgres" else ""

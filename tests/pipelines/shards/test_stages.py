"""A load in shards: whatever comes twice, late or not at all, the warehouse is that of one process."""

import random
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from dlt.load.load import Load
from dlt.pipeline.exceptions import PipelineStepFailed
from pyarrow import parquet

from dlt_cronofy.load.pace import enough_per_minute, least_seconds
from dlt_cronofy.load.steps import LoadOptions
from dlt_cronofy.sandbox import Fault
from dlt_cronofy.shards import stages
from dlt_cronofy.shards.loading import GIVEN_UP_AFTER
from dlt_cronofy.shards.saved_plan import read_plan, shard_of
from dlt_cronofy.shards.shard_output import ShardSummary, merged_polls, outputs_of
from dlt_cronofy.source.errors import ConfigurationError, UnreachableError
from dlt_cronofy.source.secret import Secret
from dlt_cronofy.source.settings import USERINFO
from dlt_cronofy.warehouse.dataset import sql_client

from .conftest import ALWAYS, SHARDS, START, World, Yard

# the world changes between the loads; the last gap is longer than a sample is trusted
LOADS_AT = (timedelta(0), timedelta(hours=20), timedelta(days=9))
# what a run's row says that its polls do not
RUN_FACTS = "SELECT tokens, due, stopped_by FROM runs WHERE polled > 0"
# which token reads /v1/account depends on what is known when a run is planned
IDENTITY = LoadOptions(every=timedelta(0), endpoints=(USERINFO,), refresh_views=False)


@pytest.mark.long
def test_the_warehouse_is_that_of_one_process(world: World) -> None:
    single, sharded = world.yard("single"), world.yard("sharded")
    for passed in LOADS_AT:
        world.clock.move_to(START + passed)
        one, other = single.load(), sharded.load_in_shards()
        assert other.rows == one.rows
        assert other.outcomes == one.outcomes
        assert (other.due, other.fallback_tokens, other.fresh) == (one.due, one.fallback_tokens, one.fresh)
        assert other.requests == one.requests
    assert sharded.tables() == single.tables()
    assert sharded.views() == single.views()


def _poll_twice(yard: Yard, run_id: str, shards: list[int]) -> None:
    yard.poll(run_id, *shards)
    yard.poll(run_id, *shards)
    yard.machine().load(run_id)


def _load_twice(yard: Yard, run_id: str, shards: list[int]) -> None:
    yard.poll(run_id, *shards)
    first = yard.machine().load(run_id)
    again = yard.machine().load(run_id)
    assert again.rows == {}
    assert again.outcomes == first.outcomes
    assert again.failure_ratio == first.failure_ratio


def _deliver_again_when_loaded(yard: Yard, run_id: str, shards: list[int]) -> None:
    yard.poll(run_id, *shards)
    yard.machine().load(run_id)
    yard.poll(run_id, *shards)
    yard.machine().load(run_id)


def _deliver_late(yard: Yard, run_id: str, shards: list[int]) -> None:
    yard.poll(run_id, *shards)
    deliver = yard.hold_back(run_id, *shards[1:])
    result = yard.machine().load(run_id)
    assert result.undelivered_shards == shards[1:]
    deliver()
    yard.machine().load(run_id)


def _fail_between_content_and_polls(yard: Yard, run_id: str, shards: list[int]) -> None:
    yard.poll(run_id, *shards)
    with pytest.MonkeyPatch.context() as patched:
        load_package, packages = Load.load_single_package, iter(range(2))

        def load_one(self: Load, *arguments: Any) -> Any:
            return load_package(self, *arguments) if next(packages) == 0 else _fail()

        patched.setattr(Load, "load_single_package", load_one)
        with pytest.raises(PipelineStepFailed, match="the machine went away"):
            yard.machine().load(run_id)
    # another attempt's output turns up, and seems to have been finished before the one that was taken
    yard.poll(run_id, shards[0])
    folder = yard.folder / "handoff" / run_id
    newest = outputs_of(yard.handoff, run_id)[1]
    (folder / newest.name).rename(folder / f"shard-{newest.shard:04}.20200101T000000000000-00000000.parquet")
    yard.machine().load(run_id)


def _fail_before_the_outputs_are_removed(yard: Yard, run_id: str, shards: list[int]) -> None:
    yard.poll(run_id, *shards)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("dlt_cronofy.shards.shard_output.ShardOutput.remove", _fail)
        with pytest.raises(OSError, match="the machine went away"):
            yard.machine().load(run_id)
    yard.machine().load(run_id)


def _fail(*_: object) -> Any:
    raise OSError("the machine went away")


TROUBLES = [
    _poll_twice,
    _deliver_late,
    _load_twice,
    _deliver_again_when_loaded,
    _fail_between_content_and_polls,
    _fail_before_the_outputs_are_removed,
]


@pytest.mark.long
@pytest.mark.parametrize("trouble", TROUBLES, ids=lambda trouble: trouble.__name__.strip("_"))
def test_at_least_once_is_once(world: World, trouble: Callable[[Yard, str, list[int]], None]) -> None:
    single, sharded = world.yard("single"), world.yard("sharded")
    run_id, shards = sharded.plan()
    sharded.poll(run_id, *shards)
    one, other = single.load(), sharded.machine().load(run_id)
    assert other.rows == one.rows
    assert other.outcomes == one.outcomes
    assert (other.due, other.fallback_tokens, other.fresh) == (one.due, one.fallback_tokens, one.fresh)
    assert other.requests == one.requests
    world.clock.move_to(START + timedelta(days=9))
    assert single.load().changes
    trouble(sharded, *sharded.plan())
    assert sharded.tables() == single.tables()


def test_a_shard_that_is_missing_becomes_skipped_polls_and_touches_nothing_else(world: World) -> None:
    yard = world.yard("sharded")
    yard.load()
    before, content = yard.tables(), yard.database.read_bytes()
    world.clock.move_to(START + timedelta(days=2))
    run_id, shards = yard.plan()
    # a plan writes nothing
    assert yard.database.read_bytes() == content
    result = yard.machine().load(run_id)
    assert result.undelivered_shards == shards
    assert set(result.outcomes) == {"skipped"}
    assert result.skipped_tokens == result.due
    assert result.failure_ratio > 0.5
    after = yard.tables()
    assert len(after.pop("polls")) == len(before.pop("polls")) + result.polls
    assert after == before


@pytest.mark.long
@pytest.mark.parametrize("seed", [1, 3])
def test_shards_that_come_after_later_runs_change_nothing(world: World, seed: int) -> None:
    """Four runs; of each but the last some shards come only after some of the later ones were loaded."""
    chance = random.Random(seed)
    # with which run a shard of a run is delivered
    delivered = {
        (number, shard): number if number == 3 or chance.random() < 0.4 else chance.randint(number + 1, 4)
        for number in range(4)
        for shard in range(SHARDS)
    }
    late = {
        (number, shard)
        for (number, shard), at in delivered.items()
        if any(delivered[later, shard] < at for later in range(number + 1, 4))
    }
    assert late
    assert any(number < at and (number, shard) not in late for (number, shard), at in delivered.items())
    single = world.yard("single", one_token_each=True)
    sharded = world.yard("sharded", one_token_each=True)
    held: dict[int, list[Callable[[], None]]] = defaultdict(list)
    runs: list[str] = []
    for number in range(4):
        world.clock.move_to(START + timedelta(hours=31) * number)
        single.load(IDENTITY, without={shard for run, shard in late if run == number})
        run_id, shards = sharded.plan(IDENTITY)
        assert shards == list(range(SHARDS))
        runs.append(run_id)
        sharded.poll(run_id, *shards)
        for shard in shards:
            if delivered[number, shard] > number:
                held[delivered[number, shard]].append(sharded.hold_back(run_id, shard))
        for deliver in held[number]:
            deliver()
        sharded.machine().load(run_id)
    for deliver in held[4]:
        deliver()
    assert sharded.machine().load(runs[-1]).late_runs or not held[4]
    logged = {
        (runs.index(run_id), shard_of(token_key, SHARDS))
        for run_id, token_key in sharded.query("SELECT run_id, token_key FROM polls WHERE is_late")
    }
    assert logged == late
    assert sharded.query("SELECT COUNT(*) FROM polls WHERE outcome = 'skipped'") == [(0,)]
    # whose account a rejected token is for was known to those who had all before
    in_time = [row for row in sharded.rows("polls", "account_id") if "'is_late': None" in row]
    assert in_time == single.rows("polls", "account_id")
    found, expected = sharded.views(), single.views()
    # it shows polls, late ones too
    assert len(found.pop("poll_log")) > len(expected.pop("poll_log"))
    assert found == expected


@pytest.mark.long
def test_what_came_late_is_loaded_by_the_next_run(world: World) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    yard.poll(run_id, *shards)
    deliver = yard.hold_back(run_id, 1)
    yard.machine().load(run_id)
    deliver()
    assert yard.load_in_shards().late_runs == [run_id]
    assert yard.load_in_shards().late_runs == []
    assert not outputs_of(yard.handoff, run_id)


@pytest.mark.long
def test_what_a_late_shard_lost_is_named_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    for shard, lost in zip(shards, (["early"], ["late", "late too"], []), strict=True):
        with monkeypatch.context() as patched:
            patched.setattr(stages, "ShardSummary", lambda *_, lost=lost: ShardSummary(1, None, lost))
            yard.poll(run_id, shard)
    deliver = yard.hold_back(run_id, shards[1])
    assert yard.machine().load(run_id).lost_refresh_tokens == ["early"]
    deliver()
    assert yard.load_in_shards().lost_refresh_tokens == ["late", "late too"]
    assert yard.load_in_shards().lost_refresh_tokens == []


@pytest.mark.long
def test_a_run_that_was_never_loaded_is_logged_as_skipped_before_it_is_given_up(world: World) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    yard.poll(run_id, shards[0])
    world.clock.move_to(START + GIVEN_UP_AFTER + timedelta(hours=1))
    yard.load_in_shards()
    outcomes = Counter(row.partition("'outcome': '")[2].partition("'")[0] for row in yard.rows("polls"))
    assert outcomes["skipped"]
    assert run_id not in yard.handoff.runs()


@pytest.mark.long
def test_a_plan_over_an_earlier_release_knows_what_was_polled(world: World) -> None:
    """It kept polls alone; what a plan reads is made once, and a plan writes nothing else."""
    yard = world.yard("sharded")
    yard.load()
    world.clock.move_to(START + timedelta(minutes=30))
    hourly = LoadOptions(every=timedelta(hours=1), endpoints=(USERINFO,))
    due = yard.machine().plan(hourly, SHARDS).due
    assert 0 < due < len(world.sandbox.tokens)
    status = yard.query("SELECT token_key, last_polled_at, last_outcome FROM token_status ORDER BY ALL")
    yard.execute("DROP TABLE token_status; DROP TABLE coverage; DROP TABLE runs")
    for _ in range(2):
        assert yard.machine().plan(hourly, SHARDS).due == due
        found = yard.query("SELECT token_key, last_polled_at, last_outcome FROM token_status ORDER BY ALL")
        assert found == status
    yard.load_in_shards(hourly)


@pytest.mark.long
def test_a_late_load_that_is_broken_off_is_healed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run had ended before; it has not while more of it is loaded."""
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    yard.poll(run_id, *shards)
    deliver = yard.hold_back(run_id, *shards[1:])
    yard.machine().load(run_id)
    (said,) = yard.query(RUN_FACTS)
    deliver()
    later, _ = yard.plan()
    with monkeypatch.context() as patched:
        patched.setattr("dlt_cronofy.shards.loading.Upkeep.close_run", _fail)
        with pytest.raises(OSError, match="the machine went away"):
            yard.machine().load(later)
    # as if a table had not arrived
    yard.execute("UPDATE coverage SET samples = samples + 1")
    assert yard.query("SELECT finished_at FROM runs WHERE polled > 0") == [(None,)]
    yard.machine().load(later)
    assert yard.query(RUN_FACTS) == [said]


@pytest.mark.parametrize("shared", [None, "requests.sqlite"])
def test_a_load_that_is_spread_takes_that_long_in_shards_too(world: World, shared: str | None) -> None:
    within = timedelta(minutes=5)
    yard = world.yard("spread", requests_shared_in=Secret(shared) if shared else None)
    run_id, shards = yard.plan(replace(ALWAYS, spread=within))
    plan = read_plan(yard.handoff, run_id)
    limits = [yard.machine()._limits(plan, shard)[0] for shard in shards]
    rates = [(each.requests_per_second, each.requests_per_minute) for each in limits]
    enough = enough_per_minute(plan.calls, within)
    if shared:
        assert {rate for _, rate in rates} == {enough}
        return
    assert enough <= sum(rate for _, rate in rates) <= enough + len(shards)
    seconds = [least_seconds(plan.calls_of(shard), *rate) for shard, rate in zip(shards, rates, strict=True)]
    assert within.total_seconds() / 2 < max(seconds) <= within.total_seconds()
    # the configured limits stay the highest
    yard.settings = replace(yard.settings, requests_per_minute=6.0)
    assert yard.machine()._limits(plan, shards[0])[0].requests_per_minute == 2


@pytest.mark.long
def test_who_was_notified_is_due_in_a_shard_and_first_where_calls_are_few(world: World) -> None:
    hourly = LoadOptions(every=timedelta(hours=1), endpoints=(USERINFO,))
    yard = world.yard("notified", one_token_each=True)
    yard.load(hourly)
    world.clock.move_to(START + timedelta(minutes=10))
    ok, late = [key for (key,) in yard.query("SELECT token_key FROM token_status WHERE last_outcome = 'ok'")][
        :2
    ]
    with closing(sqlite3.connect(yard.folder / "app.sqlite")) as application:
        application.execute("CREATE TABLE notices (key, notified_at)")
        times = (START + timedelta(minutes=5), START - timedelta(minutes=5))
        application.executemany(
            "INSERT INTO notices VALUES (?, ?)", zip((ok, late), map(str, times), strict=True)
        )
        application.commit()
    yard.settings = replace(
        yard.settings,
        due_query="SELECT * FROM notices",
        tokens_database=Secret(f"sqlite:///{yard.folder / 'app.sqlite'}"),
    )
    plan = yard.machine().plan(replace(hourly, max_requests=1), SHARDS)
    assert [task[0].token_key for task in plan.tasks[plan.shards[0]]] == [ok]
    due = plan.due
    yard.poll(plan.run_id, *plan.shards)
    assert yard.machine().load(plan.run_id).polled_tokens == 1
    # it has been polled since
    assert yard.machine().plan(hourly, SHARDS).due == due - 1


@pytest.mark.long
def test_only_finished_outputs_are_there_and_they_stay_until_they_are_loaded(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but the exchange directory and the warehouse passes from stage to stage."""
    yard = world.yard("sharded")
    run_id, shards = yard.plan(replace(ALWAYS, max_requests=40))
    folder = yard.folder / "handoff" / run_id
    with monkeypatch.context() as patched:
        patched.setattr(stages, "skipped_poll", _fail)
        patched.setattr(stages, "tasks_with_tokens", lambda *_: ([], [()]))
        with pytest.raises(OSError, match="the machine went away"):
            yard.poll(run_id, shards[0])
    assert [file.name for file in folder.iterdir()] == ["plan.parquet"]

    yard.poll(run_id, *shards)
    _check_that_no_token_is_in(folder, world)

    first, *others = outputs_of(yard.handoff, run_id)
    (folder / first.name).write_bytes(b"PAR1 no PAR1")
    with pytest.raises(ConfigurationError, match=f"{first.name} .* is damaged; remove it"):
        yard.machine().load(run_id)
    first.remove()
    yard.poll(run_id, first.shard)

    with monkeypatch.context() as patched:
        patched.setattr("dlt.load.load.Load.run", _fail)
        with pytest.raises((OSError, PipelineStepFailed)):
            yard.machine().load(run_id)
    assert [each for each in outputs_of(yard.handoff, run_id) if each.shard != first.shard] == others

    result = yard.machine().load(run_id)
    assert result.outcomes["ok"]
    assert result.undelivered_shards == []
    assert result.stopped_by == "max_requests"
    assert not outputs_of(yard.handoff, run_id)
    with sql_client(yard.machine().open_pipeline()) as client:
        schemas = client.execute_sql("SELECT schema_name FROM information_schema.schemata")
    assert not [name for (name,) in schemas or () if "staging" in name]


def _check_that_no_token_is_in(folder: Path, world: World) -> None:
    files = list(folder.iterdir())
    assert len(files) == SHARDS + 1
    for file in files:
        table = parquet.read_table(file)
        text = f"{table.to_pylist()}{table.schema.metadata}{parquet.read_metadata(file).metadata}"
        for token in world.sandbox.tokens:
            assert token.access_token not in text
            assert not token.refresh_token or token.refresh_token not in text


def test_a_token_that_left_the_store_is_skipped(world: World) -> None:
    yard = world.yard("sharded")
    run_id, _ = yard.plan()
    lines = yard.tokens_file.read_text().splitlines(keepends=True)
    gone = lines.pop(1).partition(",")[0]
    yard.tokens_file.write_text("".join(lines))
    yard.poll(run_id, shard_of(gone, SHARDS))
    with merged_polls(outputs_of(yard.handoff, run_id), {}) as polls:
        found = {poll.token_key: poll.response for poll in polls}
    assert (found[gone].outcome, found[gone].message) == ("skipped", stages.GONE)
    assert {response.outcome for response in found.values()} == {"ok", "skipped"}


def test_max_requests_are_spent_on_the_first_of_all_shards(world: World) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan(replace(ALWAYS, max_requests=20, endpoints=(USERINFO,)))
    yard.poll(run_id, *shards)
    with merged_polls(outputs_of(yard.handoff, run_id), {}) as polls:
        polled = sorted(poll.token_key for poll in polls)
    lines = yard.tokens_file.read_text().splitlines()[1:21]
    assert polled == sorted(line.partition(",")[0] for line in lines)


@pytest.mark.long
def test_after_max_duration_nothing_is_sent_and_nothing_is_missing(world: World) -> None:
    yard = world.yard("sharded")
    run_id = _after_max_duration(world, yard)
    sent = world.server.app.traffic.total
    for _ in range(2):
        result = yard.machine().load(run_id)
        assert (result.polls, result.stopped_by, result.undelivered_shards) == (0, "max_duration", [])
    assert world.server.app.traffic.total == sent


@pytest.mark.long
def test_what_max_duration_left_out_is_not_missing_when_its_run_is_given_up(world: World) -> None:
    yard = world.yard("sharded")
    yard.machine().load(_after_max_duration(world, yard))
    world.clock.move_to(START + GIVEN_UP_AFTER + timedelta(hours=1))
    assert set(yard.load_in_shards().outcomes) == {"ok", "token_rejected", "forbidden"}
    assert not [row for row in yard.rows("polls") if "skipped" in row]


def _after_max_duration(world: World, yard: Yard) -> str:
    """A run of which all shards were polled when its time was up."""
    run_id, shards = yard.plan(replace(ALWAYS, max_duration=timedelta(minutes=5)))
    sent = world.server.app.traffic.total
    world.clock.move_to(START + timedelta(minutes=5))
    yard.poll(run_id, *shards)
    assert world.server.app.traffic.total == sent
    return run_id


def test_retries_are_paid_for_by_max_requests(world: World) -> None:
    yard = world.yard("sharded", max_attempts=4)
    world.server.app.faults.add(Fault("status", status=500))
    sent = world.server.app.traffic.total
    run_id, shards = yard.plan(replace(ALWAYS, max_requests=20, endpoints=(USERINFO,)))
    yard.poll(run_id, *shards)
    assert 0 < world.server.app.traffic.total - sent <= 20


def test_a_shard_whose_shared_budget_fails_has_no_output(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    monkeypatch.setattr(
        "dlt_cronofy.source.api.limits.run_quota.RunQuota.exhausted_by", lambda *_: "requests_shared_in"
    )
    with pytest.raises(UnreachableError, match=r"requests_shared_in .* failed while the shard was polled"):
        yard.poll(run_id, shards[0])
    assert not outputs_of(yard.handoff, run_id)


@pytest.mark.long
def test_a_damaged_output_of_an_old_run_holds_up_nothing(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    yard.poll(run_id, *shards)
    first = outputs_of(yard.handoff, run_id)[0]
    (yard.folder / "handoff" / run_id / first.name).write_bytes(b"PAR1 no PAR1")
    assert yard.load_in_shards().late_runs == [run_id]
    assert f"{first.name} of run {run_id}" in caplog.text
    assert outputs_of(yard.handoff, run_id) == [first]


@pytest.mark.long
def test_a_late_first_poll_of_a_second_token_is_logged(world: World) -> None:
    """Of two tokens of one account, one's shard comes after a later poll of the other."""
    tokens = Counter(token.account_id for token in world.sandbox.tokens)
    shared = [token.key for token in world.sandbox.tokens if tokens[token.account_id] > 1]
    yard = world.yard("sharded")
    run_id, shards = yard.plan(IDENTITY)
    yard.poll(run_id, *shards)
    deliver = yard.hold_back(run_id, shard_of(shared[0], SHARDS))
    yard.machine().load(run_id)
    world.clock.move_to(START + timedelta(hours=2))
    stored = yard.tokens_file.read_text()
    lines = stored.splitlines(keepends=True)
    yard.tokens_file.write_text("".join(line for line in lines if not line.startswith(f"{shared[0]},")))
    yard.load_in_shards(IDENTITY)
    deliver()
    yard.load_in_shards(IDENTITY)
    polls = f"SELECT outcome, is_late FROM polls WHERE token_key = '{shared[0]}'"
    assert yard.query(polls) == [("ok", True)]
    for table in ("userinfo", "profiles"):
        assert not any(f"'token_key': '{shared[0]}'" in row for row in yard.rows(table)), table
    # what it says is read when it is polled again
    yard.tokens_file.write_text(stored)
    world.clock.move_to(START + timedelta(hours=4))
    yard.load_in_shards(IDENTITY)
    for table in ("userinfo", "profiles"):
        assert any(f"'token_key': '{shared[0]}'" in row for row in yard.rows(table)), table


def test_without_a_shared_budget_each_shard_keeps_its_part_of_the_limits(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = world.yard("sharded", requests_per_second=40.0, requests_per_minute=400.0)
    run_id, shards = yard.plan()
    limits = []

    def note(self: Any, *_: object) -> Any:
        limits.append((self.settings.requests_per_second, self.settings.requests_per_minute))
        raise OSError("the machine went away")

    monkeypatch.setattr("dlt_cronofy.load.steps.Polling.stream", note)
    for shard in shards:
        with pytest.raises(OSError, match="went away"):
            yard.poll(run_id, shard)
    assert limits == [(40 / SHARDS, 400 / SHARDS)] * SHARDS


def test_a_run_that_nobody_planned_is_named(world: World) -> None:
    yard = world.yard("sharded")
    with pytest.raises(ConfigurationError, match="run 20260101T000000Z-00000000 has no plan"):
        yard.machine().load("20260101T000000Z-00000000")

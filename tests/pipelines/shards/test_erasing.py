"""`erase` reaches what waits in the exchange directory."""

import pytest

from dlt_cronofy.erase.erasure import Erase
from dlt_cronofy.erase.person import Person
from dlt_cronofy.erase.summary import Erased
from dlt_cronofy.erase.working_files import erase_from_exchange
from dlt_cronofy.shards.saved_plan import SavedPlan, read_plan
from dlt_cronofy.shards.shard_output import merged_polls, outputs_of
from dlt_cronofy.source.records import Poll
from dlt_cronofy.warehouse.dataset import query_rows, sql_client

from .conftest import World, Yard


def test_a_person_is_in_no_plan_and_no_output(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = world.yard("sharded")
    run_id, shards = yard.plan()
    yard.poll(run_id, *shards)
    plan, before = read_plan(yard.handoff, run_id), _polls(yard, run_id)
    summaries = {each.name: each.summary() for each in outputs_of(yard.handoff, run_id)}
    token = plan.tasks[shards[0]][0][0].token_key
    folder = yard.folder / "handoff" / run_id
    (folder / "shard-0511.20260105T060000000000-00000000.parquet").write_bytes(b"PAR1 no PAR1")
    (folder / ".unfinished").write_bytes(b"anybody")

    monkeypatch.setenv("SOURCES__CRONOFY__HANDOFF", yard.handoff.root)
    result = Erased(None, token)
    erase_from_exchange(Person(tokens=frozenset([token])), result)
    changed = {name.rpartition("/")[2] for name in result.files_rewritten}
    (output,) = (name for name in summaries if f"-{shards[0]:04}." in name)
    assert changed == {".unfinished", "plan.parquet", output}
    assert ["cannot be read; remove it" in problem for problem in result.problems] == [True]
    next(folder.glob("shard-0511.*")).unlink()
    assert _polls(yard, run_id) == [poll for poll in before if poll.token_key != token]
    assert {each.name: each.summary() for each in outputs_of(yard.handoff, run_id)} == summaries
    rest = read_plan(yard.handoff, run_id)
    assert _keys(rest) == _keys(plan) - {token}
    assert (rest.due, rest.shards, rest.is_cut_short) == (plan.due, plan.shards, False)


def _polls(yard: Yard, run_id: str) -> list[Poll]:
    with merged_polls(outputs_of(yard.handoff, run_id), {}) as polls:
        return list(polls)


def _keys(plan: SavedPlan) -> set[str]:
    return {token.token_key for tasks in plan.tasks.values() for task in tasks for token in task}


@pytest.mark.long
@pytest.mark.parametrize("named_by", ["account", "token"])
def test_a_person_is_not_loaded_again_from_what_waits(
    world: World, named_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard = world.yard("sharded")
    yard.load()
    run_id, shards = yard.plan()
    yard.poll(run_id, *shards)
    summaries = {each.name: each.summary() for each in outputs_of(yard.handoff, run_id)}
    pipeline = yard.machine().open_pipeline()
    with sql_client(pipeline) as client:
        person = query_rows(client, "SELECT account_id AS account, token_key AS token FROM userinfo")[0]
    monkeypatch.setenv("SOURCES__CRONOFY__HANDOFF", yard.handoff.root)
    monkeypatch.setenv("SOURCES__CRONOFY__TOKENS_FILE", str(yard.tokens_file))
    erased = Erase(pipeline, **{named_by: person[named_by]}).run()
    assert erased.is_complete
    assert {name.rpartition("/")[2][:5] for name in erased.files_rewritten} >= {"plan.", "shard"}
    assert {each.name: each.summary() for each in outputs_of(yard.handoff, run_id)} == summaries
    yard.machine().load(run_id)
    for table in ("polls", "userinfo", "profiles"):
        assert not [row for row in yard.rows(table) if f"'{person['token']}'" in row]

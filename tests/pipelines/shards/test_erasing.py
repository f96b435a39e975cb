"""`erase` reaches what waits in the handoff."""

import pytest

from dlt_cronofy.erase.erasure import Erase
from dlt_cronofy.shards.shard_output import outputs_of
from dlt_cronofy.warehouse.dataset import query_rows, sql_client

from .conftest import World


@pytest.mark.sampled(1)
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


def test_a_damaged_set_is_named(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    yard = world.yard("sharded")
    yard.load()
    run_id, shards = yard.plan()
    yard.poll(run_id, shards[0])
    (waiting,) = outputs_of(yard.handoff, run_id)
    (yard.folder / "handoff" / run_id / waiting.name).write_bytes(b"PAR1 no PAR1")
    monkeypatch.setenv("SOURCES__CRONOFY__HANDOFF", yard.handoff.root)
    token = yard.tokens_file.read_text().splitlines()[1].partition(",")[0]
    erased = Erase(yard.machine().open_pipeline(), token=token).run()
    assert not erased.is_complete
    assert any(f"{waiting.name} cannot be read; remove it" in problem for problem in erased.problems)

"""A load in shards: whatever is delivered twice, late or not at all, the warehouse is that of one process."""

from datetime import timedelta

from .conftest import START, World

# the world changes between the loads; the last gap is longer than a sample is trusted
LOADS_AT = (timedelta(0), timedelta(hours=20), timedelta(days=9))


def test_the_warehouse_is_that_of_one_process(world: World) -> None:
    single, sharded = world.yard("single"), world.yard("sharded")
    for passed in LOADS_AT:
        world.clock.move_to(START + passed)
        one, other = single.load(), sharded.load_in_shards()
        assert other.rows == one.rows
        assert other.outcomes == one.outcomes
        assert (other.due, other.stand_ins, other.fresh) == (one.due, one.stand_ins, one.fresh)
        assert other.requests == one.requests
    assert sharded.tables() == single.tables()
    assert sharded.views() == single.views()

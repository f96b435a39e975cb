"""A load in shards: the same steps as `pipelines/load/run.py`, each on whatever machine is free.

plan    asks the warehouse which tokens are due and saves that, shard by shard      `saved_plan.py`
poll    polls the tokens of one shard and writes what they answered into a file      `shard_output.py`
load    reads these files in the order of their polls, captures change, loads        `loading.py`
views   creates the views and sends what is news
                                                                                     `stages.py` has all four
What travels between machines is in the exchange directory, a folder that all of them reach
(`exchange_directory.py`). The warehouse stays the checkpoint: which of a run's polls are loaded is asked of
it, so a file that is delivered twice, late or while the load is repeated adds nothing twice.
"""

# Airflow maps a task over 1,024 values at most, and each shard costs the start of a process
MAX_SHARDS = 512


def check_shards(shards: int) -> None:
    """Refuse a number of shards that cannot be.

    Raises:
        ValueError: none, or too many.
    """
    if not 1 <= shards <= MAX_SHARDS:
        raise ValueError(f"shards must be between 1 and {MAX_SHARDS}, not {shards}")

"""A load in shards: the same steps as `pipelines/load/run.py`, each on whatever machine is free.

plan    asks the warehouse which tokens are due and freezes that, shard by shard    `frozen_plan.py`
poll    polls the tokens of one shard and seals what they said                       `sealed_set.py`
load    reads the outputs in the order of their polls, captures change, loads    `merged.py`
views   creates the views and sends alerts of new outages
                                                                                     `stages.py` has all four
What travels between machines lies in the handoff, a folder that all of them reach (`handoff.py`). The
warehouse stays the checkpoint: which of a run's polls are loaded is asked of it, so a set that is delivered
twice, late or while the load is repeated adds nothing twice.
"""

# Airflow maps a task over 1,024 values at most, and each shard costs the start of a process
MAX_SHARDS = 512

"""The load on Apache Airflow: `dag.py` says what runs after what, `tasks.py` what each task does.

The work itself is that of `pipelines/shards`, which knows nothing of Airflow.
"""

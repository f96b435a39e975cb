"""`python -m pipelines` is `dlt-cronofy`."""

from .cli import main

main()

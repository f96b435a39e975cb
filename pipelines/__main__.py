"""`python -m dlt_cronofy` is `dlt-cronofy`."""

from .cli.main import main

main()

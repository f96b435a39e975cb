"""The scheduled load of Cronofy connection health: plan, poll, load, views, and the commands around it."""

import os

# dlt reads this once, when it is first imported
os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")

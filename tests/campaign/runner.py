"""One destination of the campaign, in a process of its own."""

import logging
import os
import shutil
import tempfile
import traceback
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

from tests.postgres import credentials

from .plan import rounds_at_instants
from .rounds import Campaign, Findings, server_for


def play_destination(destination: str, kills: int, seed: int, minutes: float, channel: "Queue[Any]") -> None:
    """Play and put what was found into the channel; the files stay where something was found."""
    logging.getLogger("dlt_cronofy").setLevel(logging.CRITICAL)
    directory = Path(tempfile.mkdtemp(prefix=f"campaign-{destination}-"))
    found: Findings | str
    try:
        with server_for(destination) as uri:
            os.environ |= {
                "HOME": str(directory),
                "DLT_DATA_DIR": str(directory / "data"),
                "RUNTIME__DLTHUB_TELEMETRY": "false",
                "RUNTIME__LOG_LEVEL": "CRITICAL",
            }
            if uri:
                os.environ["DESTINATION__POSTGRES__CREDENTIALS"] = credentials(uri)
            os.chdir(directory)
            say = lambda line: channel.put((destination, line))  # noqa: E731
            campaign = Campaign(destination, seed, directory, say, postgres_uri=uri)
            found = campaign.run(kills, minutes * 60, first=rounds_at_instants())
    except BaseException:  # noqa: BLE001 - whatever it is, the other destination goes on
        found = f"broke off, files in {directory}\n{traceback.format_exc()}"
    if isinstance(found, Findings) and not found.faults:
        shutil.rmtree(directory, ignore_errors=True)
    elif isinstance(found, Findings):
        channel.put((destination, f"{destination}: files are kept in {directory}"))
    channel.put((destination, (found,)))

"""Pending packages: what an earlier run had polled and not loaded when it ended."""

import logging
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import dlt
from dlt.common.destination.exceptions import DestinationTerminalException
from dlt.load.exceptions import LoadClientJobException, LoadClientJobFailed, LoadClientJobTerminalRetry
from dlt.pipeline.exceptions import PipelineStepFailed

logger = logging.getLogger("dlt_cronofy")

QUARANTINE = "quarantine"


@dataclass
class Settled:
    """What became of the pending packages: finished, or set aside in folders."""

    finished: list[str] = field(default_factory=list)
    quarantined: list[str] = field(default_factory=list)


def settle_pending(pipeline: dlt.Pipeline) -> Settled:
    """Load what an earlier run left behind, so that new polls can be loaded after it.

    dlt loads pending packages before anything else and extracts nothing until they are gone. A package
    that fails for a passing reason stays, and the load fails. One that can never be loaded is copied to
    the folder `quarantine` of the working directory and taken out of the way, loudly.

    Raises:
        PipelineStepFailed: the destination refused or was out of reach; everything is kept.
    """
    settled = Settled()
    if not pipeline.has_pending_data:
        return settled
    packages = [*pipeline.list_normalized_load_packages(), *pipeline.list_extracted_load_packages()]
    logger.warning(
        "finishing %d package(s) an earlier run left behind: %s", len(packages), ", ".join(packages)
    )
    try:
        if pipeline.list_extracted_load_packages():
            pipeline.normalize()
        pipeline.load()
        settled.finished = packages
    except PipelineStepFailed as error:
        if not is_terminal(error):
            raise
        settled.quarantined = [str(path) for path in _quarantine(pipeline)]
        logger.error(
            "a package of an earlier run can never be loaded (%s); its files are kept in %s. "
            "What they say is polled again, the polls themselves are in those files only",
            type(root_cause(error)).__name__,
            ", ".join(settled.quarantined),
        )
    return settled


def _quarantine(pipeline: dlt.Pipeline) -> list[Path]:
    working_dir = Path(pipeline.working_dir)
    copies = []
    for stage in ("load/normalized", "normalize/extracted"):
        for package in sorted((working_dir / stage).glob("*")):
            target = working_dir / QUARANTINE / package.name
            shutil.copytree(package, target, dirs_exist_ok=True)
            copies.append(target)
    pipeline.abort_packages()
    return copies


def is_terminal(error: BaseException) -> bool:
    """Whether trying the same package again must end the same way."""
    chain = list(_causes(error))
    if isinstance(error, PipelineStepFailed) and error.step == "normalize":
        return True
    return any(
        isinstance(cause, (DestinationTerminalException, LoadClientJobFailed, LoadClientJobTerminalRetry))
        for cause in chain
    )


def root_cause(error: BaseException) -> BaseException:
    """The first error of a chain."""
    return list(_causes(error))[-1]


def _causes(error: BaseException) -> "list[BaseException]":
    chain: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and current not in chain:
        chain.append(current)
        if isinstance(current, LoadClientJobException) and current.client_exception is not None:
            current = current.client_exception
        else:
            current = current.__cause__ or current.__context__
    return chain

"""What `report` does around the page: which changes it shows, and the file it writes."""

from datetime import UTC, datetime
from pathlib import Path

import dlt

from dlt_cronofy import formatting as wording
from dlt_cronofy.source.durations import parse_duration
from dlt_cronofy.source.errors import ConfigurationError
from dlt_cronofy.source.files import replace_file

from .contents import Report, Since, read_report
from .page import is_report, last_as_of, render_page


def write_report(pipeline: dlt.Pipeline, output: Path, since: Since | None, *, anonymous: bool) -> Report:
    """Make the report and put it into a file, in place of an earlier one.

    Args:
        pipeline: whose dataset it is about.
        output: the file. If it is an earlier report, the new one shows what changed since that.
        since: tell what changed after that instead.
        anonymous: leave out e-mails, names and relink links.

    Raises:
        ConfigurationError: the file is something else, or cannot be written; or nothing was loaded yet.
    """
    last = _last_report(output)
    report = read_report(pipeline, since, last, anonymous=anonymous)
    page = render_page(report)
    try:
        replace_file(
            output, page.encode()
        )  # people's addresses: for its owner only, unless an earlier one was not
    except OSError as error:
        raise ConfigurationError(f"--output {output}: {error.strerror}") from None
    return report


def parse_since(text: str) -> Since:
    """An age such as 7d, or a UTC time such as 2026-01-31 or 2026-01-31T06:00.

    Raises:
        ValueError: it is neither.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            return parse_duration(text)
        except ValueError as error:
            raise ValueError(f"{error}, or a time such as 2026-01-31T06:00") from None
    return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)


def summary_line(report: Report, output: Path) -> str:
    """What the report comes to, in a line."""
    if report.health.as_of is None:
        return f"{output}: nothing was polled yet"
    since = f"{wording.instant(report.since)} UTC"
    if report.since_last_report:
        since += ", the last report"
    return (
        f"{output}: {wording.count(len(report.health.open_outages), 'open outage')};"
        f" {report.broke} broke and {report.relinked} relinked since {since}"
        + (f"; {report.found_down} down when first seen" if report.found_down else "")
    )


def _last_report(output: Path) -> datetime | None:
    try:
        page = output.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ConfigurationError(f"--output {output}: {reason}") from None
    if page and not is_report(page):
        raise ConfigurationError(f"--output {output}: is not an earlier report; name another file")
    return last_as_of(page)
